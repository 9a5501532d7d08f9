"""From datasets to the batches of a step, on the device, and back to where training was."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.packing import PackCollator
from ..data.samplers import BatchSampler
from ..errors import DataError, OptionError
from .config import TrainerConfig
from .interruption import SIGNALS
from .parallel import data_ranks

__all__ = ["SampledBatch", "batches", "evaluation_sampler", "training_sampler"]

PACKED_ROW = 64
"""Tokens of a packed row, if no text is longer: rows of more would spend time on scores between texts."""
EVALUATION_BATCH = 16


@dataclass
class SampledBatch:
    """A batch, and the numbers of its samples in the dataset."""

    samples: list[int]
    tensors: dict[str, Tensor]

    def to(self, device: torch.device) -> SampledBatch:
        """The same on a device."""
        moved = {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in self.tensors.items()
        }
        return SampledBatch(self.samples, moved)

    @property
    def tokens(self) -> int:
        """How many tokens it has, padding included where nobody says what that is."""
        known = [self.tensors[name] for name in ("attention_mask", "span") if name in self.tensors]
        if known:
            return int((known[0] != 0).sum())
        return self.tensors["token_ids"].numel() if "token_ids" in self.tensors else 0


class PackedRowsCollator:
    """Packs the samples of a batch into rows of the longest of them, or of `PACKED_ROW`."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, features: Sequence[Any]) -> dict[str, Tensor]:
        longest = max(len(sample["token_ids"]) for sample in features)
        return PackCollator(max(longest, PACKED_ROW), self.pad_id)(features)


class _Numbered(Dataset[tuple[int, Any]]):
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index]


class _Collate:
    """Keeps the numbers of samples beside their batch."""

    def __init__(self, collator: Callable[[Sequence[Any]], dict[str, Tensor]]) -> None:
        self.collator = collator

    def __call__(self, pairs: Sequence[tuple[int, Any]]) -> SampledBatch:
        return SampledBatch([index for index, _ in pairs], dict(self.collator([sample for _, sample in pairs])))


def batches(
    dataset: Any, sampler: BatchSampler, collator: Callable[..., Any], *, workers: int, pin: bool
) -> Iterator[SampledBatch]:
    """The batches that a sampler names, from where it is."""
    loader = DataLoader(
        _Numbered(dataset),
        batch_sampler=sampler,
        collate_fn=_Collate(collator),
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_left_to_the_trainer if workers else None,
        generator=torch.Generator(),  # else the loader would draw from the generator that dropout draws from
    )
    return iter(loader)


def _left_to_the_trainer(worker: int) -> None:
    """Ctrl-C and SIGTERM reach whole groups of processes; those that read are needed until the step is done."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def training_sampler(dataset: Any, config: TrainerConfig) -> BatchSampler:
    """Which samples make a batch in training, for this process.

    Raises:
        DataError: When there are no samples.
        OptionError: When lengths are needed, and the dataset has none.
    """
    own, count = data_ranks(config)
    return BatchSampler(
        _lengths(dataset, config, "train_dataset"),
        config.train_batch_size,
        max_tokens=config.max_tokens,
        packed=config.packed,
        group_by_length=config.group_by_length,
        shuffle=config.dataloader_shuffle,
        seed=config.seed,
        rank=own,
        world_size=count,
    )


@dataclass
class EvaluationSampler:
    """As many batches for each process, as shards need; those that only come again are known by their number."""

    sampler: BatchSampler
    whole_count: int


def evaluation_sampler(dataset: Any, config: TrainerConfig, name: str) -> EvaluationSampler:
    """Every sample once, those of like length together."""
    lengths = _lengths(dataset, None, name)
    grouped = hasattr(dataset, "lengths")
    size = config.eval_batch_size or max(config.train_batch_size or 0, EVALUATION_BATCH)
    own: Sequence[int] | int = dataset.lengths if grouped else lengths
    alone = BatchSampler(own, size, group_by_length=grouped, shuffle=False)
    rank, count = data_ranks(config)
    if count == 1:
        return EvaluationSampler(alone, len(alone))
    shared = BatchSampler(own, size, group_by_length=grouped, shuffle=False, rank=rank, world_size=count)
    return EvaluationSampler(shared, len(alone))


def _lengths(dataset: Any, config: TrainerConfig | None, name: str) -> Sequence[int] | int:
    if not len(dataset):
        raise DataError(f"{name} has no samples. Check where it was read from.")
    if config is None or not (config.group_by_length or config.max_tokens):
        return len(dataset)
    if not hasattr(dataset, "lengths"):
        raise OptionError(f"group_by_length and max_tokens need {name}.lengths, how many tokens each sample has.")
    lengths: Sequence[int] = dataset.lengths
    return lengths
