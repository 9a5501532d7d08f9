"""Reading token stores: any sequence at once, as a view of the file, by one process or shared by many."""

from __future__ import annotations

import bisect
import mmap
import os
from collections.abc import Iterator, Sequence
from itertools import accumulate, count
from typing import TYPE_CHECKING, Any, overload

from ..errors import DataError, OptionError, require
from .store_format import read_index, store_paths

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Tokens = npt.NDArray[np.integer[Any]]

__all__ = ["DistributedIndexedDataset", "IndexedDataset"]


class _Sequences:
    """Sequences by number; those of a slice are a list."""

    def __len__(self) -> int:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Tokens: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tokens]: ...
    def __getitem__(self, index: int | slice) -> Tokens | list[Tokens]:
        """The tokens of a sequence, [tokens]; of a slice those of each sequence."""
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(len(self)))]
        return self._at(index)

    def __iter__(self) -> Iterator[Tokens]:
        return map(self._at, range(len(self)))

    def _at(self, index: int) -> Tokens:
        raise NotImplementedError


class IndexedDataset(_Sequences):
    """The sequences of a store. Nothing is read before it is asked for, and nothing is copied.

    It can be pickled, as data loaders do: the files are opened again.

    Args:
        prefix: What the names of the `.bin` and the `.idx` begin with; one of their names is taken too.

    Raises:
        DataError: When a file is missing, broken or cut off.
        MissingDependency: Without numpy.
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        numpy = require("numpy", extra="data")
        self.bin_path, self.idx_path = store_paths(prefix)
        for path in (self.bin_path, self.idx_path):
            if not path.is_file():
                raise DataError(f"{path}: there is no such file. A store has a .bin and an .idx; check the path.")
        size = self.bin_path.stat().st_size
        index = read_index(self.idx_path, size)
        self.dtype, self.sizes, self.borders = index.dtype, index.sizes, index.borders
        self._width = index.dtype.itemsize
        with open(self.bin_path, "rb") as file:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        self.tokens: Tokens = numpy.frombuffer(buffer, dtype=index.dtype, count=size // self._width)
        # Memory views give plain integers, three times faster than arrays give their own kind.
        self._pointers, self._sizes = _numbers(index.pointers), _numbers(index.sizes)

    def __len__(self) -> int:
        return len(self._pointers)

    def _at(self, index: int) -> Tokens:
        start = self._pointers[index] // self._width
        return self.tokens[start : start + self._sizes[index]]

    def get(self, index: int, offset: int = 0, length: int | None = None) -> Tokens:
        """A part of a sequence.

        Args:
            index: Which one.
            offset: Where the part begins, in tokens.
            length: How many tokens; default: to the end.
        """
        sequence: Tokens = self[index]
        return sequence[offset:] if length is None else sequence[offset : offset + length]

    @property
    def lengths(self) -> Sequence[int]:
        """Length of each sequence, for samplers."""
        return self.sizes  # type: ignore[return-value]  # an array is as good as a list here

    @property
    def documents(self) -> int:
        """How many documents there are; 0 where the writer never ended one."""
        return max(len(self.borders) - 1, 0)

    def document(self, index: int) -> list[Tokens]:
        """The sequences of a document."""
        if not -self.documents <= index < self.documents:
            raise IndexError(f"document {index} of {self.documents}")
        index %= self.documents
        return self[int(self.borders[index]) : int(self.borders[index + 1])]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self.bin_path),)

    def __repr__(self) -> str:
        return f"IndexedDataset({str(self.bin_path)[:-4]!r}: {len(self)} sequences of {self.dtype.name})"


def _numbers(array: Any) -> memoryview[int]:
    """An array of integers, wherever it begins in its file, as a view of plain ones."""
    return memoryview(array.view("u1")).cast("q" if array.itemsize == 8 else "i")


class DistributedIndexedDataset(_Sequences):
    """One rank's share of a row of stores `<prefix>_0`, `<prefix>_1`, ..., or of the one store `<prefix>`.

    As in ModelCenter, each store is cut into `world_size` parts of equal length, one after the other, and a rank has
    the part of its number of the first store, then that of the second, and so on. So all ranks have as many sequences.
    What is left over, `left_over` sequences, fewer than `world_size` of each store, no rank has.

    Args:
        path: The folder of the stores.
        prefix: What their names begin with.
        rank: The number of this process.
        world_size: How many there are.

    Raises:
        DataError: When there is no store, or one is broken.
        OptionError: For a rank that is not below `world_size`.
    """

    def __init__(self, path: str | os.PathLike[str], prefix: str, rank: int = 0, world_size: int = 1) -> None:
        if not 0 <= rank < world_size:
            raise OptionError(f"rank is {rank} and world_size {world_size}; the rank must be 0 or more, and below it.")
        stem = os.path.join(path, prefix)
        names = []
        for number in count():
            if not store_paths(f"{stem}_{number}")[1].is_file():
                break
            names.append(f"{stem}_{number}")
        self.stores = [IndexedDataset(name) for name in names or [stem]]
        shares = [len(store) // world_size for store in self.stores]
        self.left_over = sum(len(store) % world_size for store in self.stores)
        self._offsets = [share * rank for share in shares]
        self._ends = list(accumulate(shares))
        self._begins = [end - share for end, share in zip(self._ends, shares, strict=True)]
        self._parameters = (os.fspath(path), prefix, rank, world_size)

    def __len__(self) -> int:
        return self._ends[-1]

    def _at(self, index: int) -> Tokens:
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        number = bisect.bisect_right(self._ends, index)
        return self.stores[number][self._offsets[number] + index - self._begins[number]]

    @property
    def lengths(self) -> Sequence[int]:
        """Length of each sequence of this rank, for samplers."""
        numpy = require("numpy", extra="data")
        parts = zip(self.stores, self._offsets, self._begins, self._ends, strict=True)
        return numpy.concatenate([store.sizes[at : at + end - begin] for store, at, begin, end in parts])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._parameters
