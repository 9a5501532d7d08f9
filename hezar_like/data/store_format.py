"""The files of a token store: `.bin` holds the tokens of all sequences, `.idx` says where each begins.

The format is Megatron's, which ModelCenter reads and writes too. All numbers are little-endian: the magic, the version
(u64, 1), the type of tokens (u8), the number of sequences (u64) and of borders of documents (u64), the length of each
sequence (i32), where it begins in bytes (i64), and the borders: the index of the first sequence of each document, and
after the last one (i64). The older `TNTIDX` files of ModelCenter are only read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, require

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["DTYPES", "StoreIndex", "index_header", "read_index", "store_paths"]

MAGIC, OLD_MAGIC = b"MMIDIDX\x00\x00", b"TNTIDX\x00\x00"
VERSION = 1
SEQUENCES_AT_ONCE = 1_000_000
HEADER = struct.Struct("<9sQBQQ")
OLD_HEADER = struct.Struct("<8s6Q")
DTYPES: Mapping[int, str] = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 8: "uint16"}
"""Types of tokens by their code. 6 and 7 are floats, which tokens are not, and of which systems mean different ones."""


@dataclass(frozen=True)
class StoreIndex:
    """What an index file says.

    Attributes:
        dtype: The type of the tokens.
        sizes: Length of each sequence, [sequences] int32 or int64.
        pointers: Where each begins in the `.bin`, in bytes, [sequences] int64.
        borders: Index of the first sequence of each document, and one past the last, [documents + 1] int64. Just [0]
            where the writer never ended a document.
    """

    dtype: np.dtype[Any]
    sizes: npt.NDArray[Any]
    pointers: npt.NDArray[np.int64]
    borders: npt.NDArray[np.int64]


def store_paths(prefix: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The `.bin` and the `.idx` of a store; either of them, or what both begin with, may be given."""
    name = os.fspath(prefix)
    stem = name[:-4] if name.endswith((".bin", ".idx")) else name
    return Path(f"{stem}.bin"), Path(f"{stem}.idx")


def index_header(code: int, sequences: int, borders: int) -> bytes:
    """What an `.idx` begins with."""
    return HEADER.pack(MAGIC, VERSION, code, sequences, borders)


def read_index(path: Path, bin_bytes: int) -> StoreIndex:
    """Reads and checks an index; its arrays stay in the file until they are used.

    Args:
        path: The `.idx`.
        bin_bytes: How large the `.bin` is.

    Raises:
        DataError: When it is broken, cut off, or does not fit the `.bin`.
    """
    numpy = require("numpy", extra="data")
    total = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(max(HEADER.size, OLD_HEADER.size))
    if start.startswith(MAGIC):
        index = _read(numpy, path, start, total)
    elif start.startswith(OLD_MAGIC):
        index = _read_old(numpy, path, start, total)
    else:
        raise DataError(f"{path}: is no index of a token store; it begins with {start[:9]!r}. Check the path.")
    _check(index, path, bin_bytes)
    return index


def _read(numpy: Any, path: Path, start: bytes, total: int) -> StoreIndex:
    if len(start) < HEADER.size:
        raise _cut_off(path, HEADER.size, total)
    _, version, code, sequences, borders = HEADER.unpack_from(start)
    dtype = _dtype(numpy, path, version, code)
    expected = HEADER.size + 12 * sequences + 8 * borders
    if total != expected:
        raise _cut_off(path, expected, total)
    take = _Reader(numpy, path, HEADER.size)
    return StoreIndex(dtype, take("<i4", sequences), take("<i8", sequences), take("<i8", borders))


def _read_old(numpy: Any, path: Path, start: bytes, total: int) -> StoreIndex:
    if len(start) < OLD_HEADER.size:
        raise _cut_off(path, OLD_HEADER.size, total)
    _, version, code, width, sequences, lengths, borders = OLD_HEADER.unpack_from(start)
    dtype = _dtype(numpy, path, version, code)
    expected = OLD_HEADER.size + 8 * (2 * (sequences + 1) + lengths + borders)
    if total != expected:
        raise _cut_off(path, expected, total)
    if lengths != sequences or width != dtype.itemsize:
        raise DataError(f"{path}: holds items that are no sequences of tokens. Write the store again.")
    take = _Reader(numpy, path, OLD_HEADER.size)
    take("<i8", sequences + 1)  # how many dimensions each item has: one
    pointers = take("<i8", sequences + 1)[:-1] * width
    return StoreIndex(dtype, take("<i8", lengths), pointers, take("<i8", borders))


class _Reader:
    """Maps one array of a file after the other."""

    def __init__(self, numpy: Any, path: Path, offset: int) -> None:
        self._numpy, self._offset = numpy, offset
        self._bytes = numpy.memmap(path, mode="r") if path.stat().st_size else numpy.empty(0, numpy.uint8)

    def __call__(self, dtype: str, count: int) -> Any:
        array = self._numpy.frombuffer(self._bytes, dtype=dtype, count=count, offset=self._offset)
        self._offset += array.nbytes
        return array


def _dtype(numpy: Any, path: Path, version: int, code: int) -> Any:
    if version != VERSION:
        raise DataError(f"{path}: is of version {version}; only version {VERSION} is known.")
    if code not in DTYPES:
        raise DataError(f"{path}: has tokens of the type {code}; known are integers: {', '.join(map(str, DTYPES))}.")
    return numpy.dtype(DTYPES[code]).newbyteorder("<")


def _check(index: StoreIndex, path: Path, bin_bytes: int) -> None:
    borders, width = index.borders, index.dtype.itemsize
    last = 0
    for first in range(0, len(index.sizes), SEQUENCES_AT_ONCE):
        sizes = index.sizes[first : first + SEQUENCES_AT_ONCE]
        pointers = index.pointers[first : first + SEQUENCES_AT_ONCE]
        if int(sizes.min()) < 0 or int(pointers.min()) < 0 or bool((pointers % width).any()):
            raise DataError(f"{path}: has sequences with impossible places or lengths. Write the store again.")
        last = max(last, int((pointers + sizes.astype("i8") * width).max()))
    if last > bin_bytes:
        name = path.with_suffix(".bin").name
        raise DataError(
            f"{path}: needs {last} bytes of {name}, which has {bin_bytes}: it was cut off. Copy or write it again."
        )
    if len(borders) and (
        int(borders[0]) != 0 or bool((borders[1:] < borders[:-1]).any()) or int(borders[-1]) > len(index.sizes)
    ):
        raise DataError(f"{path}: has borders of documents out of order. Write the store again.")


def _cut_off(path: Path, expected: int, total: int) -> DataError:
    return DataError(f"{path}: has {total} bytes, but must have {expected}: it was cut off. Copy or write it again.")
