"""Weights that are split over the ranks of tensor parallelism (Shoeybi et al., 2019), as if they were whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError
from .weight_files import TensorInfo, WeightFile

__all__ = ["COLUMNS", "MergedRanks", "Split", "rows"]

LISTED = 20


@dataclass(frozen=True)
class Split:
    """How a tensor is split.

    Attributes:
        dim: The dimension of which each rank has a part; tensors without it are the same on all ranks.
        parts: How many tensors are stacked in it, of each of which each rank has a part: 3 for queries, keys, values.
    """

    dim: int
    parts: int = 1

    def merge(self, pieces: Sequence[Tensor]) -> Tensor:
        """The whole tensor."""
        if self.parts == 1:
            return torch.cat(list(pieces), self.dim)
        return torch.cat([part for group in zip(*(p.chunk(self.parts) for p in pieces), strict=True) for part in group])


def rows(parts: int = 1) -> Split:
    """Each rank computes some of the outputs: rows of the matrix, and of the bias."""
    return Split(0, parts)


COLUMNS = Split(1)
"""Each rank computes from some of the inputs: columns of the matrix. The bias is the same on all ranks."""


class MergedRanks:
    """The files of all ranks as one `WeightFile`; tensors are put together when they are read.

    Args:
        files: The opened files, by rank.
        splits: How tensors are split, by a pattern for the names of modules, in which `{}` is a number. All others are
            the same on all ranks, which is checked when they are read.

    Raises:
        CheckpointError: When the files do not belong together; lists what differs.
    """

    def __init__(self, files: Sequence[WeightFile], splits: Mapping[str, Split]) -> None:
        self.path: Path = files[0].path
        self.metadata: dict[str, str] = {}
        self._files = files
        self._last: tuple[str, Tensor] | None = None
        patterns = {re.compile(re.escape(name).replace(r"\{\}", r"\d+")): split for name, split in splits.items()}
        self._splits: dict[str, Split] = {}
        for name, info in files[0].header.items():
            module = name.rpartition(".")[0]
            split = next((split for pattern, split in patterns.items() if pattern.fullmatch(module)), None)
            if split is not None and split.dim < len(info.shape):
                self._splits[name] = split
        self._check()
        self.header = {name: self._whole(name, info) for name, info in files[0].header.items()}

    def read(self, name: str) -> Tensor:
        """Gives one tensor, without a copy where there is one rank; the parts of a stacked one share its memory."""
        if self._last is None or self._last[0] != name:
            self._last = name, self._read(name)
        return self._last[1]

    def _read(self, name: str) -> Tensor:
        pieces = [file.read(name) for file in self._files]
        if len(pieces) == 1:
            return pieces[0]
        split = self._splits.get(name)
        if split is not None:
            return split.merge(pieces)
        for file, piece in zip(self._files[1:], pieces[1:], strict=True):
            if not torch.equal(piece, pieces[0]):
                raise CheckpointError(
                    f"{name!r} should be the same in {str(self.path)!r} and {str(file.path)!r}, and differs. "
                    "The files are of different checkpoints; download them again."
                )
        return pieces[0]

    def _whole(self, name: str, info: TensorInfo) -> TensorInfo:
        split = self._splits.get(name)
        if split is None:
            return info
        shape = list(info.shape)
        shape[split.dim] *= len(self._files)
        return replace(info, shape=tuple(shape))

    def _check(self) -> None:
        """Refuses ranks of which one has other tensors than the first, or tensors of another shape or type."""
        first, problems = self._files[0].header, []
        for file in self._files[1:]:
            missing = sorted(first.keys() - file.header.keys())
            more = sorted(file.header.keys() - first.keys())
            other = [
                f"{name!r} is {_describe(file.header[name])} and not {_describe(info)}"
                for name, info in first.items()
                if name in file.header and _describe(file.header[name]) != _describe(info)
            ]
            for what, names in (("lacks", map(repr, missing)), ("also has", map(repr, more)), ("differs:", other)):
                if listed := list(names):
                    rest = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
                    problems.append(f"{file.path.name!r} {what} {', '.join(listed[:LISTED])}{rest}")
        if problems:
            raise CheckpointError(
                f"the ranks beside {str(self.path)!r} do not belong together; {'; '.join(problems)}. "
                "Download all files of one checkpoint."
            )


def _describe(info: TensorInfo) -> str:
    return f"{list(info.shape)} {str(info.dtype).removeprefix('torch.')}"
