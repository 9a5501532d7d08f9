"""Files of samples: CSV, TSV, JSON lines, text, Parquet, CoNLL."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError, did_you_mean, require
from .conll import read_conll, read_conllu

__all__ = ["READERS", "RowNumbers", "Rows", "class_names", "read_text"]


class Rows:
    """Rows by number, each a mapping from column to value, and where each stands.

    Args:
        rows: The rows.
        where: Says where a row is, for messages.
        names: Names of classes by column, where the source has them.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        where: Callable[[int], str] = "row {}".format,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.rows, self.where, self.names = rows, where, dict(names or {})

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.rows[index]

    def first(self, count: int) -> Rows:
        """The first rows."""
        rows = self.rows.select(range(count)) if hasattr(self.rows, "select") else self.rows[:count]
        return Rows(rows, self.where, self.names)

    def value(self, index: int, field: str) -> Any:
        """A value that must be there.

        Raises:
            DataError: With the row, when it lacks the column.
        """
        row = self.rows[index]
        if field not in row or row[field] is None:
            raise DataError(f"{self.where(index)}: has no {field!r}.{did_you_mean(field, map(str, row))}")
        return row[field]

    def check_list(self, index: int, field: str, value: Any) -> None:
        """Raises a DataError, with the row, when a value is no list: of a text every letter would be an item."""
        if not isinstance(value, list | tuple):
            raise DataError(f"{self.where(index)}: {field!r} is {type(value).__name__}, but must be a list.")

    def values(self, field: str) -> list[Any]:
        """All values of a column, which must be there in every row; see `value`."""
        whole = hasattr(self.rows, "column_names") and field in self.rows.column_names
        found = list(self.rows[field]) if whole else [row.get(field) for row in self.rows]  # type: ignore[call-overload]
        for index, value in enumerate(found):
            if value is None:
                self.value(index, field)
        return found

    def texts(self, field: str) -> list[str]:
        """All values of a column, which must be texts.

        Raises:
            DataError: With the row, for one that is not.
        """
        found = self.values(field)
        for index, value in enumerate(found):
            if not isinstance(value, str):
                raise DataError(f"{self.where(index)}: {field!r} is {type(value).__name__}, but must be a text.")
        return found

    def numbers(self, field: str) -> list[float]:
        """All values of a column, which must be numbers, or texts of such.

        Raises:
            DataError: With the row, for one that is not.
        """
        found = []
        for index, value in enumerate(self.values(field)):
            try:
                found.append(float(value))
            except (TypeError, ValueError):
                raise DataError(f"{self.where(index)}: {value!r:.80} is no number. Mend the row.") from None
        return found


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        DataError: When it cannot be read, is empty or is not UTF-8, with the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text. Save the file as UTF-8.") from None
    if not text.strip():
        raise DataError(f"{path}: is empty. Give a file with samples.")
    return text


def _delimited(path: Path, columns: Sequence[str] | None, delimiter: str, quoting: int) -> Rows:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
    names = list(columns) if columns is not None else None
    rows, lines = [], []
    try:
        for cells in reader:
            if names is None:
                names = cells
                if len(set(names)) < len(names):
                    raise DataError(f"{path}, line {reader.line_num}: names a column twice. Rename one.")
            elif len(cells) == len(names):
                rows.append(dict(zip(names, cells, strict=True)))
                lines.append(reader.line_num)
            elif cells:
                raise DataError(
                    f"{path}, line {reader.line_num}: has {len(cells)} cells, but there are {len(names)} columns "
                    f"({', '.join(names)[:200]}). Mend the line, or give the columns' names."
                )
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}. Check the quotes there.") from None
    return Rows(rows, _Lines(path, lines))


class _Lines:
    """Says in which line of a file a row is; can be pickled."""

    def __init__(self, path: Path, lines: Sequence[int]) -> None:
        self._path, self._lines = path, lines

    def __call__(self, index: int) -> str:
        return f"{self._path}, line {self._lines[index]}"


class RowNumbers:
    """Says which row of a file or of a joint dataset a row is."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, index: int) -> str:
        return f"{self._name}, row {index}"


def _csv(path: Path, columns: Sequence[str] | None) -> Rows:
    return _delimited(path, columns, ",", csv.QUOTE_MINIMAL)


def _tsv(path: Path, columns: Sequence[str] | None) -> Rows:
    return _delimited(path, columns, "\t", csv.QUOTE_NONE)


def _jsonl(path: Path, columns: Sequence[str] | None) -> Rows:
    rows, lines = [], []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deeply, or a number too long")
            raise DataError(f"{path}, line {number}: not JSON ({reason}). Mend the line.") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: is {type(row).__name__}. Each line must be a JSON object.")
        rows.append(row)
        lines.append(number)
    return Rows(rows, _Lines(path, lines))


def _text(path: Path, columns: Sequence[str] | None) -> Rows:
    """Lines as rows of one column, `text`; empty lines are none."""
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    return Rows([{"text": line.removesuffix("\r")} for _, line in lines], _Lines(path, [number for number, _ in lines]))


def _parquet(path: Path, columns: Sequence[str] | None) -> Rows:
    parquet = require("pyarrow.parquet", extra="data")
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is no Parquet file that can be read ({error}). Download it again.") from None
    metadata = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    names = {name: found for name, feature in features.items() if (found := class_names(feature))}
    return Rows(table.to_pylist(), RowNumbers(str(path)), names)


def _conll(path: Path, columns: Sequence[str] | None) -> Rows:
    rows, lines = read_conll(path, read_text(path), columns or ("tokens", "tags"))
    return Rows(rows, _Lines(path, lines))


def _conllu(path: Path, columns: Sequence[str] | None) -> Rows:
    rows, lines = read_conllu(path, read_text(path))
    return Rows(rows, _Lines(path, lines))


READERS: Mapping[str, Callable[[Path, Sequence[str] | None], Rows]] = {
    ".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".txt": _text, ".parquet": _parquet,
    ".conll": _conll, ".conllu": _conllu,
}  # fmt: skip


def class_names(feature: Any) -> list[str] | None:
    """Names of the classes of a column, also where each value is a list of classes."""

    def get(key: str) -> Any:
        return feature.get(key) if isinstance(feature, Mapping) else getattr(feature, key, None)

    if feature is None or isinstance(feature, str | list):
        return class_names(feature[0]) if isinstance(feature, list) and feature else None
    names = get("names")
    if names:
        return list(names.values()) if isinstance(names, Mapping) else list(names)
    return class_names(get("feature"))
