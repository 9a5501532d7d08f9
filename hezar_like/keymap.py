"""Two-way tables of checkpoint keys.

A table maps foreign names to native ones. A name is a tensor's (`cls.predictions.bias`) or a module's
(`encoder.layer.{}.output.dense`), which then stands for all tensors directly in it. `{}` is a layer's number, and
`{-1}` in a native name the number before it; a number that is written out stands for itself. A value of None drops the
tensor, a `Stored` says how it is stored where it is not as we have it. The same table read backwards exports.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from .errors import CheckpointError

__all__ = ["KeyMap", "Part", "Stored", "Table"]

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
_PLACE = re.compile(r"\{(-?\d*)\}")


@dataclass(frozen=True)
class Stored:
    """How a foreign module holds native ones.

    Attributes:
        names: The native modules; several are stacked along the first dimension, in equal parts.
        transposed: Whether matrices are stored as [inputs, outputs].
        scale: What the stored matrices are multiplied with to get ours; "fan_in" divides them by the root of their
            number of columns. Vectors, such as biases, are not scaled.
    """

    names: tuple[str, ...]
    transposed: bool = False
    scale: float | Literal["fan_in"] = 1.0

    def __init__(self, *names: str, transposed: bool = False, scale: float | Literal["fan_in"] = 1.0) -> None:
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "transposed", transposed)
        object.__setattr__(self, "scale", scale)

    def factor(self, matrix: Tensor) -> float:
        """What a stored tensor is multiplied with, given it or a native part of it as [outputs, inputs]."""
        if matrix.ndim < 2:
            return 1.0
        return 1 / math.sqrt(matrix.shape[1]) if self.scale == "fan_in" else self.scale

    def join(self, parts: list[Tensor]) -> Tensor:
        """Makes the stored tensor of its native parts."""
        factor = self.factor(parts[0])
        if factor != 1.0:
            parts = [(part.float() / factor).to(part.dtype) for part in parts]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        return whole.mT.contiguous() if self.transposed and whole.ndim == 2 else whole


Table = Mapping[str, "str | Stored | None"]


@dataclass(frozen=True)
class Part:
    """One native tensor in a foreign one.

    Attributes:
        name: Its native name.
        stored: How the foreign one holds it.
        index: Which of the stacked parts it is.
    """

    name: str
    stored: Stored
    index: int = 0

    @property
    def scaled(self) -> bool:
        """Whether reading it computes new values."""
        return self.stored.scale != 1.0

    def shape(self, stored: Iterable[int]) -> tuple[int, ...]:
        """The native shape of a stored one; one that cannot be divided stays as it is, and so fits nothing."""
        shape = tuple(stored)
        if self.stored.transposed and len(shape) == 2:
            shape = shape[::-1]
        count = len(self.stored.names)
        return (shape[0] // count, *shape[1:]) if shape and shape[0] % count == 0 else shape

    def read(self, tensor: Tensor) -> Tensor:
        """The native tensor: a view of the stored one wherever nothing is scaled."""
        if self.stored.transposed and tensor.ndim == 2:
            tensor = tensor.mT
        if len(self.stored.names) > 1:
            tensor = tensor.chunk(len(self.stored.names))[self.index]
        factor = self.stored.factor(tensor)
        return tensor if factor == 1.0 else tensor.to(torch.promote_types(tensor.dtype, torch.float32)) * factor


class KeyMap:
    """A table with its prefix.

    Args:
        table: Foreign name to native name. The first foreign name of a native one is what export writes.
        prefix: What the foreign names of the backbone begin with; files of a bare backbone leave it out.
        spellings: Regular expressions for older spellings inside foreign names, each with today's.
        copies: Foreign names that export also writes, each with the native name it is a copy of.

    Raises:
        ValueError: When the two sides of an entry have different numbers of places for layers.
    """

    def __init__(
        self,
        table: Table,
        *,
        prefix: str = "",
        spellings: Mapping[str, str] | None = None,
        copies: Mapping[str, str] | None = None,
    ) -> None:
        self.prefix = prefix
        self._forward: dict[str, Stored | None] = {}
        self._backward: dict[str, tuple[str, int]] = {}  # native template: foreign template, which of its parts
        for foreign, target in table.items():
            stored = Stored(target) if isinstance(target, str) else target
            self._forward[foreign] = stored
            for index, native in enumerate(stored.names if stored else ()):
                offsets = [int(offset or 0) for offset in _PLACE.findall(native)]
                if foreign.count("{}") != len(offsets):
                    raise ValueError(f"{foreign!r} and {native!r} have different numbers of layers.")
                back = iter(offsets)
                source = _PLACE.sub(lambda _: _place(-next(back)), foreign)  # noqa: B023
                self._backward.setdefault(_PLACE.sub("{}", native), (source, index))
        self._spellings = [(re.compile(old), new) for old, new in (spellings or {}).items()]
        self._copies = dict(copies or {})

    def parts(self, key: str) -> list[Part] | None:
        """What a foreign tensor holds: native ones, none if the table drops it; None if the table does not know it."""
        key = self._today(key)
        for name in (key, self.prefix + key):
            for template, numbers, ending in _candidates(name):
                if template in self._forward:
                    stored = self._forward[template]
                    names = stored.names if stored else ()
                    return [Part(_fill(n, numbers) + ending, stored, i) for i, n in enumerate(names) if stored]
        return None

    def knows(self, key: str) -> bool:
        """Whether the table says anything about a foreign name."""
        return self.parts(key) is not None

    def in_backbone(self, key: str) -> bool:
        """Whether a known foreign name is of a part of the backbone, which all tasks share, and not of one's head."""
        key = self._today(key)
        bare = not any(template in self._forward for template, _, _ in _candidates(key))
        return bool(self.prefix) and (bare or key.startswith(self.prefix))

    def foreign(self, key: str, *, bare: bool = False) -> str:
        """The name of the foreign tensor that holds a native one, without the prefix if `bare`.

        Raises:
            KeyError: When the table has no entry for it.
        """
        name, _ = self._source(key)
        return name.removeprefix(self.prefix) if bare else name

    def to_foreign(self, weights: Iterable[tuple[str, Tensor]], *, bare: bool = False) -> Iterator[tuple[str, Tensor]]:
        """Turns native tensors into foreign ones for export; see `foreign`.

        A tensor that has a name of its own and is part of a module is written under both names where the rest of the
        module is written: readers take a module's tensors for all there or all elsewhere.

        Raises:
            KeyError: When the table has no entry for a tensor.
            CheckpointError: When a foreign tensor needs several native ones and not all are there.
        """
        natives = dict(weights)
        whole = {key.rpartition(".")[0] for key in natives if key not in self._backward}
        stacked: dict[str, dict[int, Tensor]] = {}
        for key, tensor in natives.items():
            name, index = self._source(key)
            parts = self._parts_of(name)
            if len(parts) > 1:
                group = stacked.setdefault(name, {})
                group[index] = tensor
                if len(group) < len(parts):
                    continue
                group = stacked.pop(name)
                joined = parts[0].stored.join([group[i] for i in range(len(parts))])
            else:
                joined = parts[0].stored.join([tensor])
            yield name.removeprefix(self.prefix) if bare else name, joined
            module, _, leaf = key.rpartition(".")
            if key in self._backward and module in whole and module in self._backward:
                yield f"{self._backward[module][0]}.{leaf}", tensor
        if stacked:
            names = ", ".join(map(repr, list(stacked)[:20]))
            raise CheckpointError(f"only some of the weights that are stored together in {names} are there.")
        for copy, native in self._copies.items():
            if native in natives:
                yield copy, self._parts_of(self._source(native)[0])[0].stored.join([natives[native]])

    def _source(self, key: str) -> tuple[str, int]:
        for template, numbers, ending in _candidates(key):
            if template in self._backward:
                foreign, index = self._backward[template]
                return _fill(foreign, numbers) + ending, index
        raise KeyError(key)

    def _parts_of(self, foreign: str) -> list[Part]:
        found = self.parts(foreign)
        assert found
        return found

    def _today(self, key: str) -> str:
        for old, new in self._spellings:
            key = old.sub(new, key)
        return key


@cache
def _templates(name: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """A name with none, some and all of its numbers replaced, and the numbers."""
    matches = list(_NUMBER.finditer(name))
    result = []
    for count in range(len(matches) + 1):
        for chosen in combinations(matches, count):
            template, end = "", 0
            for match in chosen:
                template += name[end : match.start()] + "{}"
                end = match.end()
            result.append((template + name[end:], tuple(int(match.group()) for match in chosen)))
    return tuple(result)


def _candidates(key: str) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """What may stand in a table for a key: itself, then its module; the most exact first."""
    module, _, leaf = key.rpartition(".")
    for name, ending in ((key, ""), (module, f".{leaf}")):
        for template, numbers in _templates(name) if name else ():
            yield template, numbers, ending


def _fill(template: str, numbers: tuple[int, ...]) -> str:
    rest = iter(numbers)
    return _PLACE.sub(lambda match: str(next(rest) + int(match.group(1) or 0)), template)


def _place(offset: int) -> str:
    return f"{{{offset}}}" if offset else "{}"
