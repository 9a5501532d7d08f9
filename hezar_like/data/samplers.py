"""Which samples make a batch, and in which order: by length, by rank, and from where training was cut off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ..errors import ConfigError, OptionError

__all__ = ["BatchSampler"]

WINDOW_BATCHES = 50
"""How many batches are sorted by length together; more would pad less, and mix less."""


class BatchSampler:
    """Batches of indices, for the `batch_sampler` of a `torch.utils.data.DataLoader`.

    The order of an epoch depends on the seed and the epoch alone. Ranks take the batches in turn, and all get as many.

    Args:
        lengths: Length of each sample in tokens; or just how many samples there are, where lengths do not matter.
        batch_size: The most samples of a batch.
        max_tokens: The most tokens of a batch, padding included; a sample that has more is a batch of its own.
        packed: Whether batches have no padding, so that `max_tokens` counts only tokens.
        group_by_length: Whether samples of like length come together; with `shuffle`, within windows.
        shuffle: Whether each epoch has another order.
        seed: Another seed gives other orders.
        rank: The number of this process.
        world_size: How many there are.
        drop_last: Drop what does not fill the last batch, or does not go round the ranks; else the first batches come
            again for the ranks that would get fewer.
        repeat: False lets some ranks have fewer batches, so that every sample comes exactly once, as evaluation needs.

    Raises:
        OptionError: For options that do not go together.
    """

    def __init__(
        self,
        lengths: Sequence[int] | int,
        batch_size: int | None = None,
        *,
        max_tokens: int | None = None,
        packed: bool = False,
        group_by_length: bool = False,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        repeat: bool = True,
    ) -> None:
        if batch_size is None and max_tokens is None:
            raise OptionError("give batch_size, max_tokens, or both.")
        for name, value in (("batch_size", batch_size), ("max_tokens", max_tokens), ("world_size", world_size)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise OptionError(f"{name} is {value!r}; it must be a positive integer.")
        if not 0 <= rank < world_size:
            raise OptionError(f"rank is {rank} and world_size {world_size}; the rank must be 0 or more, and below it.")
        if isinstance(lengths, int) and (group_by_length or max_tokens is not None):
            raise OptionError("group_by_length and max_tokens need the length of each sample, not just how many.")
        self._count = lengths if isinstance(lengths, int) else len(lengths)
        self._lengths = None if isinstance(lengths, int) else torch.tensor(lengths, dtype=torch.int64)
        self._batch_size, self._max_tokens, self._packed = batch_size, max_tokens, packed
        self._grouped, self._shuffled, self.seed = group_by_length, shuffle, seed
        self._rank, self._world_size = rank, world_size
        self._drop_last, self._repeat = drop_last, repeat
        self.epoch, self.start = 0, 0
        self._planned: tuple[int, list[list[int]]] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Begins another epoch; setting the present one again does not lose the position that was loaded."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of this rank that are left of the epoch; the next time all of them."""
        start, self.start = self.start, 0
        return iter(self._own()[start:])

    def __len__(self) -> int:
        """Number of batches of this rank in the present epoch, from its beginning."""
        return len(self._own())

    def state_dict(self, batches_done: int) -> dict[str, Any]:
        """What is needed to go on.

        Args:
            batches_done: How many batches of this epoch each rank has used. A data loader reads ahead, so that only
                whoever trains knows.
        """
        return {"epoch": self.epoch, "batches_done": batches_done, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was called: the next `iter` begins with the first batch that was not used.

        Raises:
            ConfigError: When the batches were made in another way, so that the position means nothing.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise ConfigError(
                    f"the sampler's state was saved with {name}={state.get(name)!r}, and now it is {value!r}. "
                    "Resume with the same data and settings, or begin anew."
                )
        self.epoch, self.start = int(state["epoch"]), int(state["batches_done"])

    def _identity(self) -> dict[str, Any]:
        return {
            "samples": self._count, "batch_size": self._batch_size, "max_tokens": self._max_tokens,
            "packed": self._packed, "group_by_length": self._grouped, "shuffle": self._shuffled, "seed": self.seed,
            "world_size": self._world_size, "drop_last": self._drop_last,
        }  # fmt: skip

    def _own(self) -> list[list[int]]:
        if self._planned is None or self._planned[0] != self.epoch:
            batches, ranks = self._batches(), self._world_size
            extra = len(batches) % ranks
            if extra and self._drop_last:
                del batches[-extra:]
            elif extra and self._repeat:
                whole = batches * -(-ranks // len(batches))
                batches += whole[: ranks - extra]
            self._planned = self.epoch, batches[self._rank :: ranks]
        return self._planned[1]

    def _batches(self) -> list[list[int]]:
        """The batches of all ranks."""
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self._count, generator=random) if self._shuffled else torch.arange(self._count)
        if self._grouped:
            order = self._sorted_by_length(order)
        batches = self._cut(order.tolist())
        if self._grouped and self._shuffled:
            batches = [batches[i] for i in torch.randperm(len(batches), generator=random).tolist()]
        return batches

    def _sorted_by_length(self, order: torch.Tensor) -> torch.Tensor:
        """Longest first; in windows, where the order is random."""
        assert self._lengths is not None
        window = len(order) or 1
        if self._shuffled:
            mean = float(self._lengths.float().mean()) if len(order) else 1.0
            usual = self._batch_size or max(int((self._max_tokens or 1) / max(mean, 1.0)), 1)
            window = usual * self._world_size * WINDOW_BATCHES
        return torch.cat([
            part[self._lengths[part].argsort(descending=True, stable=True)] for part in torch.split(order, window)
        ]) if len(order) else order  # fmt: skip

    def _cut(self, order: list[int]) -> list[list[int]]:
        most = self._batch_size or len(order) or 1
        if self._max_tokens is None:
            batches = [order[i : i + most] for i in range(0, len(order), most)]
        else:
            assert self._lengths is not None
            batches, longest, total = [], 0, 0
            for index, length in zip(order, self._lengths[order].tolist(), strict=True):
                longest, total = max(longest, length), total + length
                size = len(batches[-1]) + 1 if batches else 1
                tokens = total if self._packed else longest * size
                if not batches or size > most or tokens > self._max_tokens:
                    batches.append([])
                    longest = total = length
                batches[-1].append(index)
        if self._drop_last and batches and len(batches[-1]) < most and self._batch_size is not None:
            del batches[-1]
        return batches
