"""FlagAI's layout: config.json that names no model_type + pytorch_model.bin + vocabulary files."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..configs import ModelConfig
from ..errors import CheckpointError, ConfigError, OptionError
from ..family import Family
from ..hub import Source
from ..preprocessors import PreprocessorsContainer
from ..preprocessors.flagai_modelcenter import flagai_tokenizer, flagai_tokenizer_files
from ..preprocessors.transformers_tokenizer import Find
from ..registry import Registered, families_registry, models_registry, tasks_registry
from ..text_files import read_json
from .flagai_families import BERT, GPT2, T5
from .flagai_family import FlagAIFamily, Header
from .flagai_glm import GLM
from .folders import only_tokenizer, write_folder
from .format import Checkpoint, Content, Format, Request, register_format
from .weights import Weights, find_weights, open_weights

logger = logging.getLogger("hezar_like")

CONFIG = "config.json"
WEIGHTS = "pytorch_model.bin"
SHARDS = "pytorch_model-*.bin"
TOKENIZER_FILES = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "cog-pretrain.model")
HUB_NOTES = ("auto_map", "model_type")
"""What GLM's authors added to their settings for the Hub: code of theirs, which is not needed here."""
FAMILIES = {record.name: record for record in (BERT, GLM, GPT2, T5)}


@register_format("flagai", "config.json without a model_type + pytorch_model.bin, as FlagAI has it")
class FlagAI(Format):
    """Reads and writes what FlagAI's `from_pretrain` reads, and reads what its training saves."""

    rank = 1

    def __init__(self) -> None:
        self._config = CONFIG

    def tell_tales(self, config_filename: str | None) -> list[str]:
        return [f"{config_filename or CONFIG} with {WEIGHTS}"]

    def detect(self, source: Source, config_filename: str | None) -> bool:
        name = config_filename or CONFIG
        path = source.find(name) if name.endswith(".json") else None
        if path is None:
            return False
        return _record(read_json(path, infinite=True)) is not None and _has_weights(source)

    def open(self, source: Source, request: Request) -> Checkpoint:
        self._config = request.config_filename or CONFIG
        path = source.get(self._config)
        values = read_json(path)
        record = _record(values)
        assert record is not None
        values = _without_hub_notes(values)
        family: Family = families_registry[record.name].module_class
        weights = _weights(source, request.model_filename)
        own = next((task for task in record.heads if record.holds(task, weights.header, family.prefix)), record.task)
        entry = models_registry.compose(record.name, request.task or own)
        task = entry.module_class.task
        is_own = task == own or record.holds(task, weights.header, family.prefix)
        fields = _fields(record, entry, values, path, weights.header, source.find)
        return Checkpoint(
            entry,
            {**fields, **family.heads[task].infer(set(weights), is_own)},
            weights,
            tables=lambda config, other: record.keymap(family, config, other, weights.header),
            own_task=is_own,
        )

    def read_config(
        self, values: Mapping[str, Any], path: Path, family: str | None, task: str | None
    ) -> ModelConfig | None:
        record = _record(values)
        if record is None or family not in (None, record.name):
            return None
        values = _without_hub_notes(values)
        entry = models_registry.compose(record.name, task or record.task)
        beside = {file.name: file for file in path.parent.iterdir()}
        return entry.config_class.from_dict(_fields(record, entry, values, path, {}, beside.get))

    def preprocessors(self, source: Source) -> PreprocessorsContainer:
        values = read_json(source.get(self._config))
        record = _record(values)
        tokenizer = record and flagai_tokenizer(source.find, record.name, hidden_size=values.get("hidden_size"))
        return PreprocessorsContainer({tokenizer.config.name: tokenizer} if tokenizer else {})

    def write(self, content: Content, folder: Path) -> Path:
        config, record = content.config, FAMILIES.get(content.config.family)
        reason = "it has no such family" if record is None else record.refuse(config, content.task)
        if record is not None and content.task not in record.tasks:
            reason = f"its {record.name} is for {', '.join(record.tasks)}"
        if record is None or reason is not None:
            raise OptionError(f"FlagAI has no model for {config.name!r}: {reason}. Use save() for our own layout.")
        tokenizer = only_tokenizer(content.preprocessor, "FlagAI")
        settings = {**record.settings.write(config, "FlagAI"), **record.write(config)}
        if record.zero_is_padding and config.get("pad_token_id") != 0:
            logger.warning("FlagAI takes token 0 for padding, which it is not for this model.")
        if any(name != f"LABEL_{label}" for label, name in (config.get("id2label") or {}).items()):
            logger.warning("FlagAI keeps no names of labels: write them down elsewhere.")
        keymap = record.keymap(families_registry[record.name].module_class, config, content.task, {})
        return write_folder(
            folder,
            dict(keymap.to_foreign(content.tensors.items())),
            WEIGHTS,
            {} if tokenizer is None else flagai_tokenizer_files(tokenizer),
            TOKENIZER_FILES,
            {CONFIG: settings},
        )


def _record(values: Mapping[str, Any]) -> FlagAIFamily | None:
    """The family whose settings these are; a model_type is there only where GLM's authors put it on the Hub."""
    if "model_type" in values:
        return GLM if values["model_type"] == GLM.name and GLM.tell in values else None
    return next((record for record in FAMILIES.values() if record.tell in values), None)


def _fields(
    record: FlagAIFamily, entry: Registered, values: Mapping[str, Any], path: Path, header: Header, find: Find
) -> dict[str, Any]:
    """Our fields of a model, as its settings, its weights and the files beside them tell; none of other tasks."""
    family: Family = families_registry[record.name].module_class
    try:
        fields = {**record.settings.read(values, family, path), **record.infer(values, header, find)}
    except ConfigError as error:
        raise error if str(path) in str(error) else ConfigError(f"{path}: {error}") from None
    others = {name for task in family.heads for name in tasks_registry[task].config_class.fields()}
    others -= set(entry.config_class.fields())
    return {name: value for name, value in fields.items() if name not in others}


def _without_hub_notes(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they are outside of the Hub; without a model_type they are, and `auto_map` is refused."""
    return {key: values[key] for key in values if key not in HUB_NOTES or "model_type" not in values}


def _has_weights(source: Source) -> bool:
    names = (WEIGHTS, f"{WEIGHTS}.index.json")
    return any(source.find(name) is not None for name in names) or bool(_shards(source))


def _shards(source: Source) -> list[Path]:
    """Shards without an index, which FlagAI also has; only a folder can be searched for them."""
    return [] if source.folder is None else sorted(source.folder.glob(SHARDS))


def _weights(source: Source, filename: str | None) -> Weights:
    names = [filename] if filename else [WEIGHTS, f"{WEIGHTS}.index.json"]
    shards = _shards(source)
    if filename or not shards or any(source.find(name) is not None for name in names):
        return find_weights(source.find, names, str(source), training_state=True)
    counts = {int(count) for path in shards for count in re.findall(r"-of-(\d+)\.bin$", path.name)[:1]}
    if counts and counts != {len(shards)}:
        raise CheckpointError(
            f"{source} has {len(shards)} of {max(counts)} shards {SHARDS}: "
            f"{', '.join(repr(path.name) for path in shards)}. Download the others."
        )
    return open_weights(shards, training_state=True)
