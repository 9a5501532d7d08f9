"""The README.md of a model on the Hub: written where there is none, its metadata completed where there is one."""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import ConfigError, OptionError, did_you_mean
from .paths import shortened
from .text_files import dump_yaml, parse_yaml

__all__ = ["CURVES", "CardOptions", "ModelFacts", "update_card"]

logger = logging.getLogger("hezar_like")

LIBRARY = "hezar_like"
FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.S | re.M)
LISTS = ("language", "datasets", "tags")
LARGEST_CARD = 1_000_000
SHOWN_LABELS = 50
CURVES = "loss.svg"
PAGES = ("description", "curves")
WANTED = {
    "description": "a text",
    "curves": "a text",
    "metrics": "finite numbers by name",
    "training": "texts or finite numbers by name",
}
SAMPLES = {"automatic-speech-recognition": '["recording.wav"]'}
"""What the snippet predicts on, by the Hub's name of the task; a text for all others."""


@dataclass(frozen=True)
class CardOptions:
    """What only the user knows of a model.

    Attributes:
        language: The languages it is for, as codes such as "fa".
        license: The Hub's name of its license, such as "apache-2.0".
        base_model: The repository it was made from; default: where the model was loaded from; "" to name none.
        datasets: Names on the Hub of what it was trained on.
        metrics: What was measured, such as {"accuracy": 0.93}; the first of `datasets` is named with it.
        description: Sentences for the top of a new card.
        training: How it was trained, for a new card, such as {"steps": 1000}.
        curves: A picture of how it learned, the text of an SVG file; uploaded as loss.svg, and shown in a new card.
    """

    language: list[str] = field(default_factory=list)
    license: str = ""
    base_model: str | None = None
    datasets: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    description: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    curves: str = ""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any] | None) -> CardOptions:
        """Checks what the user gave.

        Raises:
            OptionError: For an unknown key or a value of the wrong kind.
        """
        if not isinstance(values, Mapping | None):
            raise OptionError(f"card is {shortened(values, 80)}; it must be a mapping, such as {{'license': 'mit'}}.")
        known = [item.name for item in dataclasses.fields(cls)]
        checked: dict[str, Any] = {}
        for key, value in (values or {}).items():
            if key not in known:
                raise OptionError(f"card has no key {key!r}.{did_you_mean(key, known)}")
            if key in LISTS:
                value = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else None
                valid = value is not None and all(
                    isinstance(item, str) and item and item.isprintable() for item in value
                )
            elif key == "metrics":
                valid = isinstance(value, Mapping) and all(
                    isinstance(name, str) and _is_finite(number) for name, number in value.items()
                )
            elif key == "training":
                numbers = isinstance(value, Mapping) and [item for item in value.values() if not isinstance(item, str)]
                valid = isinstance(numbers, list) and all(map(_is_finite, numbers))
            else:
                valid = isinstance(value, str) and (key in PAGES or value.isprintable())
            if not valid:
                wanted = WANTED.get(key, "texts of one line" if key in LISTS else "a text of one line")
                raise OptionError(f"card[{key!r}] must be {wanted}, not {str((values or {})[key])[:80]!r}.")
            checked[key] = value
        return cls(**checked)


@dataclass(frozen=True)
class ModelFacts:
    """What the model itself tells.

    Attributes:
        repo_id: Where it will be.
        name: Its registry name.
        task: Its task; empty when it is a user's own model.
        pipeline_tag: The Hub's name for the task; empty when it has none.
        num_parameters: Its size.
        labels: The names of its labels.
        base_model: The repository it was loaded from, where that is another one.
    """

    repo_id: str
    name: str
    task: str
    pipeline_tag: str
    num_parameters: int
    labels: tuple[str, ...] = ()
    base_model: str = ""


def update_card(existing: str | None, facts: ModelFacts, options: CardOptions) -> str | None:
    """Gives the text of the card.

    Args:
        existing: The card that is there; None for none.
        facts: What the model tells.
        options: What the user tells.

    Returns:
        A whole new card; or the existing one, with what its metadata lacked, every other line as it was; None to leave
        it alone.
    """
    if options.base_model is not None:
        facts = dataclasses.replace(facts, base_model=options.base_model)
    found, told = _metadata(facts), _told(facts, options)
    if existing is None:
        return f"---\n{dump_yaml(_merged({}, found, told))}---\n{_body(facts, options)}"
    if len(existing) > LARGEST_CARD:
        logger.warning("the card of %s stays as it is, because it is larger than 1 MB", facts.repo_id)
        return None
    match = FRONT_MATTER.match(existing)
    try:
        old = parse_yaml(match[1], "README.md") if match is not None and match[1].strip() else {}
    except ConfigError as error:
        logger.warning("the card of %s stays as it is, because its metadata cannot be read: %s", facts.repo_id, error)
        return None
    new = _merged(old, found, told)
    if new == old:
        return None
    front = _edited(match[1] if match is not None else "", old, new)
    return f"---\n{front}---\n{existing[match.end() :] if match is not None else existing}"


def _metadata(facts: ModelFacts) -> dict[str, Any]:
    """What fills gaps only, because a person may have written something better."""
    found: dict[str, Any] = {"library_name": LIBRARY}
    if facts.pipeline_tag:
        found["pipeline_tag"] = facts.pipeline_tag
    if facts.base_model:
        found["base_model"] = facts.base_model
    return found | {"tags": [LIBRARY, *([facts.task] if facts.task else [])]}


def _told(facts: ModelFacts, options: CardOptions) -> dict[str, Any]:
    """What the user says now, which wins."""
    told = {
        "language": options.language,
        "license": options.license,
        "base_model": options.base_model,
        "datasets": options.datasets,
    }
    result: dict[str, Any] = {key: value for key, value in told.items() if value}
    if options.metrics:
        dataset = options.datasets[0] if options.datasets else "unknown"
        measured = {
            "task": {"type": facts.pipeline_tag or facts.task or "other"},
            "dataset": {"name": dataset, "type": dataset},
            "metrics": [{"type": name, "value": float(value)} for name, value in options.metrics.items()],
        }
        result["model-index"] = [{"name": facts.repo_id.rpartition("/")[2], "results": [measured]}]
    return result


def _merged(old: Mapping[str, Any], found: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    new = dict(old)
    for key, value in {**found, **told}.items():
        if key in LISTS:
            there = old.get(key) or []
            there = there if isinstance(there, list) else [there]
            added = [item for item in value if item not in there]
            new[key] = [*there, *added] if added else old[key]
        elif key == "model-index":
            new[key] = _with_results(old.get(key), value)
        elif key in told or not old.get(key):
            new[key] = value
    return new


def _with_results(old: Any, new: list[dict[str, Any]]) -> list[Any]:
    """The numbers of before, without those of the same task and dataset that are measured anew."""
    try:
        first, *others = old
        measured = new[0]["results"][0]
        kept = [result for result in first["results"] if _measures(result) != _measures(measured)]
        return [{**first, "results": [*kept, measured]}, *others]
    except (TypeError, KeyError, ValueError):  # none, or none that the Hub would understand
        return new


def _measures(result: Mapping[str, Any]) -> tuple[Any, Any]:
    """What numbers are of: the task and the dataset."""
    return result["task"]["type"], result["dataset"]["type"]


def _edited(front: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The text of the metadata with the changed keys written anew, every other line as it was."""
    lines = front.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    text = "".join(lines)
    for key, value in new.items():
        if key in old and old[key] == value:
            continue
        block = re.compile(rf"^['\"]?{re.escape(key)}['\"]?[ \t]*:.*\n(?:(?:[ \t-].*)?\n)*", re.M)
        written, place = dump_yaml({key: value}), block.search(text)
        text = text + written if place is None else text[: place.start()] + written + text[place.end() :]
    try:
        if parse_yaml(text, "README.md") == dict(new):
            return text
    except ConfigError:
        pass
    return dump_yaml(new)  # unusual YAML, of which not every line can be kept


def _body(facts: ModelFacts, options: CardOptions) -> str:
    sample = SAMPLES.get(facts.pipeline_tag, '["..."]')
    parts = [
        f"# {facts.repo_id.rpartition('/')[2]}",
        options.description.strip(),
        f"A `{facts.name}` model with {facts.num_parameters:,} parameters.",
        f'```python\nfrom hezar_like import Model\n\nmodel = Model.load("{facts.repo_id}")\n'
        f"print(model.predict({sample}))\n```",
    ]
    if facts.base_model:
        base = _plain(facts.base_model)
        parts.append(f"It was made from [{base}](https://huggingface.co/{base}).")
    if facts.labels:
        more = len(facts.labels) - SHOWN_LABELS
        shown = ", ".join(f"`{_plain(label)}`" for label in facts.labels[:SHOWN_LABELS])
        parts.append(f"## Labels\n\n{shown}" + (f" and {more} more" if more > 0 else ""))
    if options.metrics:
        on = f" on {', '.join(f'`{_plain(name)}`' for name in options.datasets)}" if options.datasets else ""
        rows = [f"| {_plain(name)} | {value:.6g} |" for name, value in options.metrics.items()]
        parts.append("\n".join([f"## Results{on}", "", "| metric | value |", "|---|---|", *rows]))
    if options.training or options.curves:
        rows = [
            f"| {_plain(str(name))} | {_plain(value) if isinstance(value, str) else format(value, ',')} |"
            for name, value in options.training.items()
        ]
        table = "\n".join(["", "| | |", "|---|---|", *rows]) if rows else ""
        parts += [f"## Training\n{table}", f"![how the loss went]({CURVES})" if options.curves else ""]
    return "\n" + "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _plain(text: str) -> str:
    """Text of a stranger, such as a label, that is nothing but text on the page."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text)
    return re.sub(r"[`|<>\[\]]", lambda match: {"<": "‹", ">": "›"}.get(match[0], "'"), kept)[:200]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
