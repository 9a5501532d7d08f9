"""Writing token stores."""

from __future__ import annotations

import os
import shutil
from array import array
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..errors import DataError, OptionError, require
from .store_format import DTYPES, index_header, store_paths

if TYPE_CHECKING:
    from .indexed_dataset import IndexedDataset

__all__ = ["CODES", "IndexedDatasetWriter", "smallest_dtype"]

CODES = {name: code for code, name in DTYPES.items()}
"""Codes of types of tokens by their names."""


def smallest_dtype(vocab_size: int) -> str:
    """The type that Megatron takes for a vocabulary: "uint16" where all ids fit, else "int32"."""
    return "uint16" if vocab_size < 65500 else "int32"


class IndexedDatasetWriter:
    """Writes a store; in a `with` block it is there when the block ends well, and not at all when it does not.

    Args:
        prefix: What the names of the `.bin` and the `.idx` begin with; an older store of that name is replaced.
        dtype: The type of the tokens: "uint16", "int32", ...

    Raises:
        OptionError: For an unknown type.
        MissingDependency: Without numpy.
    """

    def __init__(self, prefix: str | os.PathLike[str], dtype: str = "int32") -> None:
        self._numpy = require("numpy", extra="data")
        if dtype not in CODES:
            raise OptionError(f"dtype is {dtype!r}; it must be one of {', '.join(CODES)}.")
        self.bin_path, self.idx_path = store_paths(prefix)
        self.dtype = self._numpy.dtype(dtype).newbyteorder("<")
        self.code = CODES[dtype]
        info = self._numpy.iinfo(self.dtype)
        self._low, self._high = int(info.min), int(info.max)
        self._sizes, self._borders = array("i"), array("q", [0])
        self.bin_path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(_part(self.bin_path), "wb")  # noqa: SIM115  # closed by `finalize` and `abandon`

    def add_item(self, tokens: Any) -> None:
        """Adds a sequence.

        Args:
            tokens: Ids [tokens], in a list, an array, or a tensor.

        Raises:
            DataError: When one of them does not fit the type.
        """
        self.add_items(tokens, [len(tokens)])

    def add_items(self, tokens: Any, sizes: Sequence[int]) -> None:
        """Adds several sequences at once; see `add_item`.

        Args:
            tokens: The ids of all, one after the other.
            sizes: How many each has.
        """
        flat = self._numpy.asarray(tokens if len(tokens) else self._numpy.empty(0, self.dtype))
        if flat.ndim != 1 or flat.dtype.kind not in "iu" or len(flat) != sum(sizes):
            raise DataError(
                f"sequence {len(self)}: tokens must be integers in one dimension, as many as the sizes say."
            )
        if len(flat) and not self._low <= int(flat.min()) <= int(flat.max()) <= self._high:
            raise DataError(
                f"sequence {len(self)}: has the ids {flat.min()} to {flat.max()}, which {self.dtype.name} cannot hold. "
                "Use a larger dtype."
            )
        self._file.write(self._numpy.ascontiguousarray(flat, dtype=self.dtype))
        self._sizes.extend(sizes)

    def end_document(self) -> None:
        """Ends a document: the sequences added since the last one ended."""
        self._borders.append(len(self._sizes))

    def end_documents(self, ends: Sequence[int]) -> None:
        """Ends several documents at once: after so many sequences of the store each."""
        self._borders.extend(ends)

    def append(self, store: IndexedDataset) -> None:
        """Adds all sequences and documents of another store of the same type."""
        if store.dtype != self.dtype:
            raise DataError(f"{store.bin_path}: holds {store.dtype.name}, not {self.dtype.name}. Convert it first.")
        before = len(self._sizes)
        expected = int(store.sizes.sum()) * self.dtype.itemsize
        if store.bin_path.stat().st_size == expected:
            with open(store.bin_path, "rb") as source:
                shutil.copyfileobj(source, self._file, 1 << 24)
            self._sizes.frombytes(self._numpy.asarray(store.sizes, dtype="i4").tobytes())
        else:  # the sequences do not stand one after the other
            for sequence in store:
                self.add_item(sequence)
        borders = self._numpy.asarray(store.borders[1:], dtype="i8") + before
        self._borders.frombytes(borders.tobytes())

    def __len__(self) -> int:
        return len(self._sizes)

    def finalize(self) -> None:
        """Puts both files in place, the index last."""
        numpy = self._numpy
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        sizes = numpy.frombuffer(self._sizes, dtype="i4").astype("<i4")
        pointers = numpy.zeros(len(sizes), dtype="<i8")
        numpy.cumsum(sizes[:-1].astype("i8") * self.dtype.itemsize, out=pointers[1:])
        borders = numpy.frombuffer(self._borders, dtype="i8").astype("<i8")
        with open(_part(self.idx_path), "wb") as file:
            file.write(index_header(self.code, len(sizes), len(borders)))
            for values in (sizes, pointers, borders):
                file.write(values)
            file.flush()
            os.fsync(file.fileno())
        self.idx_path.unlink(missing_ok=True)  # an old index must not stand beside the new tokens
        os.replace(_part(self.bin_path), self.bin_path)
        os.replace(_part(self.idx_path), self.idx_path)

    def abandon(self) -> None:
        """Removes what was written so far."""
        self._file.close()
        for path in (self.bin_path, self.idx_path):
            _part(path).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finalize()
        else:
            self.abandon()


def _part(path: Any) -> Any:
    """Where a file is written before it is put in place."""
    return path.with_name(path.name + ".part")
