"""Megatron's layout, as CPM-1, CPM-2 and GLM were published: a file of weights for each rank of tensor parallelism.

mp_rank_00_model_states.pt  mp_rank_01_model_states.pt  ...  latest_checkpointed_iteration.txt  config.json

The files are in the folder itself, or in the one that latest_checkpointed_iteration.txt names. Without config.json the
weights tell all but the number of attention heads: `Model.load(folder, num_attention_heads=32)`.
"""

from __future__ import annotations

import re
from typing import Any

from ..engine.routing import check_positive
from ..errors import CheckpointError, ConfigError, OptionError
from ..family import Family
from ..hub import Source
from ..preprocessors import PreprocessorsContainer
from ..registry import families_registry, models_registry
from ..text_files import read_json
from .format import Checkpoint, Format, Request, register_format
from .megatron_families import FAMILIES, MegatronFamily
from .rank_files import MergedRanks
from .weight_files import WeightFile, open_file
from .weights import Weights

RANK = "mp_rank_{:02d}_model_states.pt"
TRACKERS = ("latest_checkpointed_iteration.txt", "latest")
CONFIG = "config.json"
HEADS = "num_attention_heads"
TASK = "text_generation"


@register_format("megatron", "mp_rank_00_model_states.pt, ..., as CPM-1, CPM-2 and GLM were published")
class Megatron(Format):
    """Reads checkpoints of tensor parallel training, putting their ranks together; they are not written."""

    rank = 6
    options = (HEADS,)

    def tell_tales(self, config_filename: str | None) -> list[str]:
        return [RANK.format(0)]

    def detect(self, source: Source, config_filename: str | None) -> bool:
        return _folder(source) is not None

    def open(self, source: Source, request: Request) -> Checkpoint:
        if request.model_filename is not None:
            raise OptionError(f"{source} has a file of weights for each rank. Leave out model_filename.")
        folder, first = _first(source)
        record = _record(first)
        family: Family = families_registry[record.name].module_class
        fields = _settings(source, folder, request, record, family)
        files = [first, *_others(source, folder, record.ranks(first, fields[HEADS]))]
        weights = Weights([MergedRanks(files, record.splits)], f"{str(first.path)!r} and its other ranks")
        entry = models_registry.compose(record.name, request.task or TASK)
        task = entry.module_class.task
        told = record.infer(weights.header, fields[HEADS])
        return Checkpoint(
            entry,
            {**told, **fields, **family.heads[task].infer(set(weights), task == TASK)},
            weights,
            tables=lambda config, other: record.keymap(family, config, other),
            own_task=task == TASK,
        )

    def preprocessors(self, source: Source) -> PreprocessorsContainer:
        first = _first(source)[1]
        tokenizer = _record(first).tokenizer(source.find, first.header)
        return PreprocessorsContainer({tokenizer.config.name: tokenizer} if tokenizer else {})


def _folder(source: Source) -> str | None:
    """What the files' names begin with: nothing, or the folder of an iteration."""
    if source.find(RANK.format(0)) is not None:
        return ""
    for tracker in TRACKERS:
        path = source.find(tracker)
        iteration = "" if path is None else path.read_bytes()[:100].decode("ascii", "replace").strip()
        if re.fullmatch(r"\w+", iteration) and source.find(f"{iteration}/{RANK.format(0)}") is not None:
            return f"{iteration}/"
    return None


def _first(source: Source) -> tuple[str, WeightFile]:
    """The folder of the ranks, and the first of them."""
    folder = _folder(source)
    assert folder is not None
    return folder, open_file(source.get(folder + RANK.format(0)), training_state=True)


def _record(file: WeightFile) -> MegatronFamily:
    """The family whose weights these are."""
    for record in FAMILIES:
        if record.tell in file.header:
            return record
    told = ", ".join(f"{record.name} has {record.tell!r}" for record in FAMILIES)
    raise CheckpointError(f"{str(file.path)!r} holds no model that is known here: {told}. Convert it first.")


def _settings(source: Source, folder: str, request: Request, record: MegatronFamily, family: Family) -> dict[str, Any]:
    """What config.json and the caller say; the number of heads is always there."""
    name = request.config_filename or CONFIG
    path = source.find(name) or (source.find(folder + name) if folder else None)
    values = {} if path is None else read_json(path)
    fields = record.settings.read(values, family, str(source) if path is None else path) | dict(request.options)
    if HEADS not in fields:
        where = f"{source} has no {name}" if path is None else f"{path} has no {record.heads}"
        raise ConfigError(
            f"{where}, and weights do not tell the number of attention heads. Load it with {HEADS}=...: "
            f"{record.example}."
        )
    check_positive(HEADS, fields[HEADS])
    return fields


def _others(source: Source, folder: str, count: int) -> list[WeightFile]:
    """The files of the other ranks, which must all be there, and no more."""
    paths = {rank: source.find(folder + RANK.format(rank)) for rank in range(1, count + 1)}
    missing = [RANK.format(rank) for rank in range(1, count) if paths[rank] is None]
    if missing:
        raise CheckpointError(
            f"{source}: the weights are split over {count} files, and {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not there. Download all of them."
        )
    if paths[count] is not None:
        raise CheckpointError(
            f"{source}: the weights are split over {count} files, and {RANK.format(count)} is there too. The files are "
            "of different checkpoints; download them again."
        )
    return [open_file(path, training_state=True) for path in list(paths.values())[:-1] if path is not None]
