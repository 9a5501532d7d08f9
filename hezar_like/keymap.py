"""Two-way tables of checkpoint keys.

A table maps foreign names to native ones. A name is a tensor's (`cls.predictions.bias`) or a module's
(`encoder.layer.{}.output.dense`), which then stands for all tensors directly in it. `{}` is a layer's number. A value
of None drops the tensor. The same table read backwards exports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

__all__ = ["KeyMap", "Table"]

Table = Mapping[str, str | None]
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


class KeyMap:
    """A table with its prefix.

    Args:
        table: Foreign name to native name. The first foreign name of a native one is what export writes.
        prefix: What the foreign names of the backbone begin with; files of a bare backbone leave it out.
        spellings: Regular expressions for older spellings inside foreign names, each with today's.
    """

    def __init__(self, table: Table, *, prefix: str = "", spellings: Mapping[str, str] | None = None) -> None:
        self.prefix = prefix
        self._forward = dict(table)
        self._backward: dict[str, str] = {}
        for foreign, native in table.items():
            if native is not None:
                self._backward.setdefault(native, foreign)
        self._spellings = [(re.compile(old), new) for old, new in (spellings or {}).items()]

    def knows(self, key: str) -> bool:
        """Whether the table says anything about a foreign name."""
        return self._lookup(key) is not None

    def native(self, key: str) -> str | None:
        """The native name of a foreign one; None when the table drops it or does not know it."""
        found = self._lookup(key)
        return found[0] if found else None

    def in_backbone(self, key: str) -> bool:
        """Whether a known foreign name is of a part of the backbone, which all tasks share, and not of one's head."""
        return key.startswith(self.prefix) or _look_up(self._forward, self._today(key)) is None

    def foreign(self, key: str, *, bare: bool = False) -> str:
        """The foreign name of a native one, without the prefix if `bare`.

        Raises:
            KeyError: When the table has no entry for it.
        """
        found = _look_up(self._backward, key)
        if found is None or found[0] is None:
            raise KeyError(key)
        return found[0].removeprefix(self.prefix) if bare else found[0]

    def to_foreign(self, weights: Iterable[tuple[str, Tensor]], *, bare: bool = False) -> Iterator[tuple[str, Tensor]]:
        """Renames native tensors for export; see `foreign`.

        A tensor that has a name of its own and is part of a module is written under both names where the rest of the
        module is written: readers take a module's tensors for all there or all elsewhere.
        """
        natives = dict(weights)
        whole = {key.rpartition(".")[0] for key in natives if key not in self._backward}
        for key, tensor in natives.items():
            yield self.foreign(key, bare=bare), tensor
            module, _, leaf = key.rpartition(".")
            if key in self._backward and module in whole and module in self._backward:
                yield f"{self._backward[module]}.{leaf}", tensor

    def _lookup(self, key: str) -> tuple[str | None] | None:
        key = self._today(key)
        return _look_up(self._forward, key) or _look_up(self._forward, self.prefix + key)

    def _today(self, key: str) -> str:
        for old, new in self._spellings:
            key = old.sub(new, key)
        return key


def _look_up(table: Mapping[str, str | None], key: str) -> tuple[str | None] | None:
    """Finds a key as it is, by its template, then its module the same way; the found name comes in a tuple of one."""
    module, _, leaf = key.rpartition(".")
    for name, ending in ((key, ""), (module, f".{leaf}")):
        numbers = _NUMBER.findall(name)
        for candidate in (name, _NUMBER.sub("{}", name)):
            if candidate in table:
                target = table[candidate]
                return (None,) if target is None else (_fill(target, numbers) + ending,)
    return None


def _fill(path: str, numbers: list[str]) -> str:
    return path.format(*numbers) if "{}" in path else path
