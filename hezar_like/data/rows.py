"""Rows of samples, wherever they are: lists, CSV, TSV, JSON lines, Parquet, CoNLL, folders, Hugging Face datasets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError, did_you_mean, one_line, require
from .row_files import READERS, RowNumbers, Rows, class_names

__all__ = ["Rows", "read_rows"]


def read_rows(
    source: Any,
    split: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    hf_load_kwargs: Mapping[str, Any] | None = None,
) -> Rows:
    """Reads the rows of a source.

    Args:
        source: A list of mappings; a `datasets.Dataset`; a file; a folder with files named after splits; or the id of
            a dataset on the Hub.
        split: Which part of a folder or a dataset on the Hub.
        columns: Names of the columns of CSV and TSV files without a header; those of CoNLL files, of which `tokens`
            and `tags` are read.
        hf_load_kwargs: More arguments of `datasets.load_dataset`.

    Raises:
        DataError: For a file that is missing, empty or broken, with the line; or a split that is not there.
        MissingDependency: For Parquet files and datasets on the Hub, without their packages.
    """
    if hasattr(source, "column_names"):
        return _of_dataset(source)
    if not isinstance(source, str | os.PathLike):
        rows = list(source)
        for index, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise DataError(f"row {index}: is {type(row).__name__}. Give a mapping from columns to values.")
        return _some(Rows(rows), "the list of rows")
    path = Path(source).expanduser()
    if path.is_dir():
        return _join([_of_file(file, columns) for file in _files_of(path, split)], str(path))
    if path.is_file():
        return _of_file(path, columns)
    if path.suffix or path.is_absolute() or os.fspath(source).startswith("."):
        raise DataError(f"{path}: there is no such file or folder. Check the path.")
    return _of_hub(os.fspath(source), split, hf_load_kwargs)


def _of_file(path: Path, columns: Sequence[str] | None) -> Rows:
    kind = path.suffix.lower()
    if kind not in READERS:
        raise DataError(f"{path}: the ending {kind!r} does not tell what it holds. Known: {', '.join(READERS)}.")
    return _some(READERS[kind](path, columns), str(path))


def _some(rows: Rows, name: str) -> Rows:
    if not len(rows):
        raise DataError(f"{name}: has no samples. Give some.")
    return rows


def _files_of(folder: Path, split: str | None) -> list[Path]:
    """The files of a split: those whose names begin with it, in the folder or in `data`."""
    for place in (folder, folder / "data"):
        files = [file for file in sorted(place.glob("*")) if file.suffix.lower() in READERS]
        if split is None and files:
            kinds = sorted({re.split(r"[-_.]", file.name)[0] for file in files})
            if len(kinds) > 1:
                raise DataError(f"{place}: has files of {', '.join(kinds)}. Give a split.")
            return files
        found = [file for file in files if re.split(r"[-_.]", file.name)[0] == split]
        if found:
            return found
        if files:
            known = {re.split(r"[-_.]", file.name)[0] for file in files}
            raise DataError(f"{place}: has no files of the split {split!r}.{did_you_mean(split, known)}")
    raise DataError(f"{folder}: has no files of samples ({', '.join(READERS)}). Check the path.")


def _join(parts: Sequence[Rows], name: str) -> Rows:
    if len(parts) == 1:
        return parts[0]
    rows = [row for part in parts for row in part.rows]
    return Rows(rows, _Joined(parts), {key: value for part in parts for key, value in part.names.items()})


class _Joined:
    """Says where a row of several files is."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        self._parts = [(len(part), part.where) for part in parts]

    def __call__(self, index: int) -> str:
        for size, where in self._parts:
            if index < size:
                return where(index)
            index -= size
        raise IndexError(index)


def _of_hub(name: str, split: str | None, options: Mapping[str, Any] | None) -> Rows:
    datasets = require("datasets", extra="data")
    path, _, subset = name.partition(":")
    try:
        found = datasets.load_dataset(path, *([subset] if subset else []), split=split, **(options or {}))
    except (OSError, ValueError) as error:
        reason = one_line(error)
        raise DataError(f"{name!r}: is no file or folder, and cannot be read from the Hub ({reason}).") from None
    if not hasattr(found, "column_names") or isinstance(found.column_names, dict):
        raise DataError(f"{name!r}: has the splits {', '.join(found)}. Give one.")
    return _of_dataset(found, name)


def _of_dataset(dataset: Any, name: str = "the dataset") -> Rows:
    if isinstance(dataset.column_names, dict):
        raise DataError(f"{name}: has the splits {', '.join(dataset)}. Give one of them.")
    features = getattr(dataset, "features", None) or {}
    for column, feature in features.items():
        if type(feature).__name__ == "Audio":  # it is read when it is asked for, by `read_audio`
            dataset = dataset.cast_column(column, type(feature)(decode=False))
    names = {key: found for key, feature in features.items() if (found := class_names(feature))}
    return _some(Rows(dataset, RowNumbers(name), names), name)
