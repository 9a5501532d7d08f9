"""CTranslate2's model.bin: its header first, then one tensor at a time, with weights in whole numbers made real again.

A version, the model's kind and its revision; then each variable with its name, shape, type and bytes; then second names
of variables. All of it little-endian, names with their length before and a zero after them.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError
from .weight_files import FOREIGN, TensorInfo, describe

__all__ = ["CTranslate2File"]

VERSIONS = range(4, 7)
"""Versions of the layout: earlier ones do not tell the types of variables."""
DTYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
"""The types by their numbers."""
QUANTIZED = (torch.int8, torch.int16)
MAX_DIMENSIONS = 8
MAX_NAME = 1000
SCALE = "_scale"
"""Ends the name of what a variable in whole numbers was multiplied with: for each of its rows, or for all of it."""
POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class _Variable:
    """Where a variable is in the file."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class CTranslate2File:
    """An opened model.bin; a `WeightFile`, memory-mapped.

    Args:
        path: The file.

    Attributes:
        header: Its tensors by name, second names too; those that are stored in whole numbers as what they stand for.
        numbers: Its single numbers by name: settings of the model.
        aliases: Second names, each with the first.
        kind: What it is a model of, such as "WhisperSpec".

    Raises:
        CheckpointError: When it is broken or no such file; nothing is allocated by what it says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, str] = {}
        size = path.stat().st_size
        if not size:
            raise self._error(FOREIGN["empty"])
        with path.open("rb") as file:
            # Private to this process: torch takes memory only if it could be written to.
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if self._bytes[: len(POINTER)] == POINTER:
            raise self._error(FOREIGN["lfs"])
        self._place = 0
        self._variables: dict[str, _Variable] = {}
        self.aliases: dict[str, str] = {}
        self.kind = self._read_header()
        self._scales = {name + SCALE for name, v in self._variables.items() if v.dtype in QUANTIZED and v.shape}
        self.header = dict(self._tensors())
        self.numbers = {
            name: self._raw(name).item()
            for name, v in self._variables.items()
            if not v.shape and name not in self._scales
        }

    def read(self, name: str, part: tuple[int, int] = (0, 1)) -> Tensor:
        """One tensor.

        Args:
            name: Its name.
            part: For tensors stacked along the first dimension, in equal parts: which one of how many.

        Returns:
            It, without a copy wherever the file holds it as it is.
        """
        index, count = part
        name = self.aliases.get(name, name)
        tensor = self._raw(name).chunk(count)[index]
        if tensor.dtype not in QUANTIZED:
            return tensor
        scale = self._raw(name + SCALE).float()
        if scale.ndim:
            scale = scale.chunk(count)[index].view(-1, *[1] * (tensor.ndim - 1))
        return tensor.float().div_(scale)

    # -- the header -------------------------------------------------------------------------------------------------

    def _read_header(self) -> str:
        version = self._number("I")
        if version not in VERSIONS:
            raise self._error(
                f"is no model of CTranslate2, or of a version of it ({version}) that is not supported: "
                f"{VERSIONS[0]} to {VERSIONS[-1]}; download or convert it again"
            )
        kind = self._text()
        self._number("I")  # the revision of the kind
        for _ in range(self._number("I")):
            name = self._text()
            if name in self._variables:
                raise self._error(f"has the variable {name!r:.200} twice; convert the model again")
            self._variables[name] = self._variable(name)
        for _ in range(self._number("I")):
            alias, name = self._text(), self._text()
            if name not in self._variables or alias in self._variables or alias in self.aliases:
                raise self._error(f"calls {name!r:.200} also {alias!r:.200}, which is no new name; convert it again")
            self.aliases[alias] = name
        if self._place != len(self._bytes):
            raise self._error(f"has {len(self._bytes) - self._place} bytes after its end; download it again")
        return kind

    def _variable(self, name: str) -> _Variable:
        dimensions = self._number("B")
        if dimensions > MAX_DIMENSIONS:
            raise self._error(f"has the variable {name!r:.200} with {dimensions} dimensions; convert it again")
        shape = tuple(self._number("I") for _ in range(dimensions))
        kind, length = self._number("B"), self._number("I")
        if kind >= len(DTYPES):
            raise self._error(f"has the variable {name!r:.200} of the unknown type {kind}; convert it again")
        needed = math.prod(shape) * DTYPES[kind].itemsize
        if needed != length or not length:
            raise self._error(
                f"has the variable {name!r:.200} of shape {list(shape)}, {needed} bytes, in {length} bytes; "
                "download it or convert it again"
            )
        return _Variable(self._take(length), shape, DTYPES[kind])

    def _tensors(self) -> Iterator[tuple[str, TensorInfo]]:
        for name in (*self._variables, *self.aliases):
            own = self.aliases.get(name, name)
            variable = self._variables[own]
            if not variable.shape or own in self._scales:
                continue
            dtype = variable.dtype
            if dtype in QUANTIZED:
                scale = self._variables.get(own + SCALE)
                if scale is None or scale.dtype in QUANTIZED or scale.shape not in ((), (1,), variable.shape[:1]):
                    raise self._error(f"has {own!r:.200} in whole numbers without their scale; convert it again")
                dtype = torch.float32
            yield name, TensorInfo(variable.shape, dtype, self.path.name)

    # -- bytes ------------------------------------------------------------------------------------------------------

    def _raw(self, name: str) -> Tensor:
        variable = self._variables[name]
        count = math.prod(variable.shape)
        values = torch.frombuffer(self._bytes, dtype=variable.dtype, count=count, offset=variable.start)
        return values.view(variable.shape)

    def _take(self, length: int) -> int:
        """Goes on by so many bytes, which must be there; where they start."""
        start = self._place
        if length > len(self._bytes) - start:
            raise self._error(f"was cut off: at byte {start} it should go on for {length} bytes; download it again")
        self._place = start + length
        return start

    def _number(self, form: str) -> int:
        return int(struct.unpack_from("<" + form, self._bytes, self._take(struct.calcsize("<" + form)))[0])

    def _text(self) -> str:
        length = self._number("H")
        start = self._take(length)
        try:
            text = self._bytes[start : start + length].decode()
        except UnicodeDecodeError:
            text = ""
        if not text.endswith("\0") or not text[:-1].isprintable() or length > MAX_NAME:
            raise self._error(f"has no name at byte {start}, where one should be; download it or convert it again")
        return text[:-1]

    def _error(self, reason: str) -> CheckpointError:
        return CheckpointError(f"weight file {describe(self.path)} {reason}")
