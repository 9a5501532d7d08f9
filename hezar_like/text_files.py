"""YAML and JSON from strangers, read as plain data.

The YAML reader takes the data subset of YAML 1.2: no tags, no anchors or aliases, no interpolation, no duplicate keys,
one document that is a mapping. `no` is a string, `1e-5` a number, `010` is ten.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError

__all__ = ["dump_yaml", "parse_yaml", "read_bounded", "read_json", "read_yaml"]

MAX_BYTES = 1_000_000
MAX_DEPTH = 64
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS: dict[str, Any] = {"": None, "~": None}
_CONSTANTS |= dict.fromkeys(("null", "Null", "NULL"))
_CONSTANTS |= dict.fromkeys(("true", "True", "TRUE"), True)
_CONSTANTS |= dict.fromkeys(("false", "False", "FALSE"), False)
_CONSTANTS |= {form: float("nan") for form in (".nan", ".NaN", ".NAN")}
_CONSTANTS |= {f"{sign}{form}": float(f"{sign}inf") for sign in ("", "+", "-") for form in (".inf", ".Inf", ".INF")}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a config file.

    Raises:
        ConfigError: With the path and, where there is one, the line.
    """
    return parse_yaml(_read_text(Path(path), MAX_BYTES), str(path))


def parse_yaml(text: str, where: str = "config") -> dict[str, Any]:
    """Reads a config from its text; see `read_yaml`."""
    try:
        result = _build(text, where)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "not readable as YAML"
        raise ConfigError(f"{where}{line}: {str(reason)[:200]}. Check the YAML there.") from None
    if not isinstance(result, dict):
        raise ConfigError(f"{where}: a config must be a mapping of names to values, not {_kind(result)}.")
    return result


def dump_yaml(data: Mapping[str, Any]) -> str:
    """Writes plain data as YAML that `read_yaml` and any YAML 1.1 reader take back unchanged.

    Raises:
        ConfigError: For a text that could not be read back.
    """
    return str(yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


def read_json(path: str | Path, *, max_bytes: int = 20_000_000, infinite: bool = False) -> dict[str, Any]:
    """Reads a JSON object; duplicate keys and NaN are refused, and so is infinity, unless it may be `infinite`.

    Raises:
        ConfigError: With the path and, where there is one, the line.
    """
    path = Path(path)
    text = _read_text(path, max_bytes)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            names = [name for name, _ in pairs]
            raise ConfigError(f"{path}: duplicate key {next(n for n in names if names.count(n) > 1)!r}. Remove one.")
        return result

    def constant_value(constant: str) -> float:
        if infinite and constant != "NaN":
            return float(constant)
        raise ConfigError(f"{path}: {constant} is not JSON. Write a finite number.")

    try:
        result = json.loads(text, object_pairs_hook=unique, parse_constant=constant_value)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: {error.msg}. Check the JSON there.") from None
    except (RecursionError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: nested too deeply, or a number too long, to be a config.") from None
    if not isinstance(result, dict):
        raise ConfigError(f"{path}: must be a JSON object, not {_kind(result)}.")
    try:
        json.dumps(result, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{path}: holds half a character, such as \\ud800 alone. Save the file as UTF-8.") from None
    return result


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Reads a file that may not be larger.

    Raises:
        ValueError: When it is.
    """
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"larger than {max_bytes / 1e6:g} MB")
    return data


def _read_text(path: Path, max_bytes: int) -> str:
    try:
        data = read_bounded(path, max_bytes)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; this is not a config.") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8 text. Save the file as UTF-8.") from None


def _build(text: str, where: str) -> Any:
    """Builds plain data from the parser's events, with a stack of its own instead of recursion."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    stack: list[_Open] = []
    documents: list[Any] = []

    def close(value: Any) -> None:
        if stack:
            stack[-1].add(value)
        else:
            documents.append(value)

    for event in yaml.parse(text, Loader=loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        here = f"{where}, line {line}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigError(f"{here}: anchors and aliases (& and *) are not allowed here. Write the value out.")
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise ConfigError(f"{here}: the tag {tag[:80]!r} is not allowed here. Write plain data.")
        if isinstance(event, yaml.ScalarEvent):
            close(_Scalar(_scalar(event, here), line))
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            stack.append(_Open(isinstance(event, yaml.MappingStartEvent), where, line))
            if len(stack) > MAX_DEPTH:
                raise ConfigError(f"{here}: nested deeper than {MAX_DEPTH} levels; this is not a config.")
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            done = stack.pop()
            close(_Scalar(done.value, done.line))
    if not documents:
        raise ConfigError(f"{where}: is empty; a config is a mapping of names to values.")
    if len(documents) != 1:
        raise ConfigError(f"{where}: holds {len(documents)} YAML documents; a config is exactly one.")
    return documents[0].value


class _Scalar:
    """A finished value and the line it began on."""

    def __init__(self, value: Any, line: int) -> None:
        self.value, self.line = value, line


class _Open:
    """A mapping or list that is still being read."""

    def __init__(self, mapping: bool, where: str, line: int) -> None:
        self.value: Any = {} if mapping else []
        self.where, self.line = where, line
        self.lines: dict[Any, int] = {}
        self.key: _Scalar | None = None

    def add(self, item: _Scalar) -> None:
        if isinstance(self.value, list):
            self.value.append(item.value)
        elif self.key is None:
            if isinstance(item.value, dict | list):
                raise ConfigError(f"{self.where}, line {item.line}: a key must be a plain name or number.")
            if item.value in self.lines:
                raise ConfigError(
                    f"{self.where}: duplicate key {item.value!r} on lines {self.lines[item.value]} and {item.line}. "
                    "Remove one."
                )
            self.key, self.lines[item.value] = item, item.line
        else:
            self.value[self.key.value] = item.value
            self.key = None


def _scalar(event: yaml.ScalarEvent, here: str) -> Any:
    if "${" in event.value:
        raise ConfigError(f"{here}: interpolation is not allowed here. Write the value itself instead of '${{'.")
    return _resolve(event.value, here) if event.implicit[0] else event.value


def _resolve(text: str, here: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    try:
        if _INTEGER.fullmatch(text):
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        return float(text) if _FLOAT.fullmatch(text) else text
    except ValueError:
        raise ConfigError(f"{here}: a number of {len(text)} digits is not a config value.") from None


def _kind(value: Any) -> str:
    return "an empty file" if value is None else f"a {type(value).__name__}"


class _Dumper(yaml.SafeDumper):
    """Quotes every string that would not come back as a string."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_string(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    if "${" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ConfigError(f"the text {value[:80]!r} cannot be saved: it holds '${{' or half a character. Change it.")
    plain = not isinstance(_resolve(value, "value"), str) if len(value) < 1000 else False
    style = "'" if plain else None
    if any(letter in "\r\x85\u2028\u2029" for letter in value):
        style = '"'  # the only style in which every line break comes back as itself
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent_string)
