"""Rows without padding: several texts in one row, which a number for each text (`span`) tells apart."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError, OptionError, require
from .transforms import IGNORED, Features

__all__ = ["PackCollator", "PackedRows", "pack", "span_mask"]


def pack(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Puts texts into rows: the longest first, each into the fullest row it fits in.

    Args:
        lengths: Of the texts, none above `room`.
        room: The length of a row.

    Returns:
        For each row the indices of its texts, in ascending order; the rows by their first text.
    """
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # room left and row, ascending
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        if length > room:
            raise DataError(f"sample {index} has {length} tokens, but a row has room for {room}. Cut it, or make room.")
        place = bisect_right(free, (length, -1))
        left, row = free.pop(place) if place < len(free) else (room, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
        if left > length:
            entry = (left - length, row)
            free.insert(bisect_right(free, entry), entry)
    return sorted(sorted(row) for row in rows)


def span_mask(span: Tensor) -> Tensor:
    """Who may see whom in packed rows: texts see themselves, padding nothing.

    Args:
        span: Number of each token's text, [rows, length] int64; 0 is padding.

    Returns:
        Bool, [rows, length, length]; True = look. It is an `attention_mask` for any backbone.
    """
    return (span[:, :, None] == span[:, None, :]) & (span > 0)[:, :, None]


class PackedRows:
    """A store as rows of one length: its sequences one after the other, cut where a row is full.

    Nothing is left out but what does not fill the last row. A row is found at once, whatever its number.

    Args:
        store: An `IndexedDataset`.
        length: Tokens of a row.
    """

    def __init__(self, store: Any, length: int) -> None:
        if length < 2:
            raise OptionError(f"length is {length}; a row must have at least 2 tokens.")
        numpy = require("numpy", extra="data")
        self.store, self.length = store, length
        self._ends = numpy.cumsum(numpy.asarray(store.lengths, dtype="i8"))

    def __len__(self) -> int:
        return int(self._ends[-1]) // self.length if len(self._ends) else 0

    def __getitem__(self, index: int) -> Features:
        """Features `token_ids`, `position_ids`, `span` (1, 2, ...) and `labels`.

        Positions begin anew with each text; labels of the first tokens of texts do not count.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        begin = index % len(self) * self.length
        number = int(self._ends.searchsorted(begin, side="right"))
        token_ids: list[int] = []
        position_ids: list[int] = []
        span: list[int] = []
        labels: list[int] = []
        place = begin
        while len(token_ids) < self.length:
            tokens = self.store[number]
            first = place - (int(self._ends[number]) - len(tokens))
            part = tokens[first : first + self.length - len(token_ids)].tolist()
            if part:
                token_ids += part
                position_ids += range(len(part))
                span += [span[-1] + 1 if span else 1] * len(part)
                labels += [IGNORED, *part[1:]]
            place += len(part)
            number += 1
        return {"token_ids": token_ids, "position_ids": position_ids, "span": span, "labels": labels}

    @property
    def lengths(self) -> Sequence[int]:
        """Length of each row, for samplers."""
        return [self.length] * len(self)


class PackCollator:
    """Makes a batch without padding, or with as little as rows of one length leave.

    Args:
        max_length: Length of a row; default: all samples in one row.
        pad_id: The token that fills what is left of a row.
    """

    def __init__(self, max_length: int | None = None, pad_id: int = 0) -> None:
        self.max_length, self.pad_id = max_length, pad_id

    def __call__(self, features: Sequence[Features]) -> dict[str, Tensor]:
        """Packs samples.

        Args:
            features: `token_ids` and other lists, all with one item per token, and single values.

        Returns:
            `token_ids`, `position_ids`, `span` (see `span_mask`) and the other lists, [rows, length]. Where there are
            single values, such as the label of a text, these [samples], and `first_tokens` [samples] int64: where each
            sample begins in the flattened rows.

        Raises:
            DataError: When a sample is too long, or has a list that is not of its length.
        """
        if not features:
            raise DataError("a batch without samples cannot be made. Check the sampler.")
        lengths = [len(sample["token_ids"]) for sample in features]
        room = self.max_length or sum(lengths)
        rows = pack(lengths, room) if self.max_length is not None else [list(range(len(features)))]
        width = max(sum(lengths[i] for i in row) for row in rows)
        aligned = [name for name, value in features[0].items() if isinstance(value, list)]
        for number, sample in enumerate(features):
            odd = next((name for name in aligned if len(sample[name]) != lengths[number]), None)
            if odd is not None:
                raise DataError(
                    f"sample {number} of the batch has {lengths[number]} tokens, but {len(sample[odd])} {odd}, so it "
                    "cannot be packed. Use PadCollator."
                )
        columns: dict[str, list[list[Any]]] = {name: [] for name in ["token_ids", "position_ids", "span", *aligned]}
        first_tokens = [0] * len(features)
        for row, members in enumerate(rows):
            place = row * width
            for index in members:
                first_tokens[index] = place
                place += lengths[index]
            fill = (row + 1) * width - place
            for name in columns:
                values = [
                    value for n, i in enumerate(members, 1) for value in _column(name, features[i], lengths[i], n)
                ]
                columns[name].append(values + [self._filling(name, values)] * fill)
        single = {name: [sample[name] for sample in features] for name in features[0] if name not in aligned}
        if single:
            single["first_tokens"] = first_tokens
        return {name: torch.tensor(values) for name, values in (columns | single).items()}

    def _filling(self, name: str, values: Sequence[Any]) -> Any:
        if name == "token_ids":
            return self.pad_id
        return IGNORED if name == "labels" else type(values[0])(0)


def _column(name: str, sample: Features, length: int, number: int) -> Sequence[Any]:
    if name in sample:
        return sample[name]
    return range(length) if name == "position_ids" else [number] * length
