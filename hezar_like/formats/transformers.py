"""transformers' layout: config.json + model.safetensors or pytorch_model.bin + tokenizer files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..configs import ModelConfig
from ..errors import CheckpointError, ConfigError, OptionError, did_you_mean, listed
from ..family import Family, family_of
from ..hub import Source
from ..preprocessors import PreprocessorsContainer
from ..preprocessors.transformers_extractor import extractor_from_transformers, transformers_extractor_files
from ..preprocessors.transformers_tokenizer import Find, tokenizer_from_transformers, transformers_tokenizer_files
from ..registry import Registered, families_registry, models_registry, tasks_registry
from ..text_files import read_json
from .folders import only_tokenizer, write_folder
from .format import Checkpoint, Content, Format, Request, register_format
from .generation_settings import GENERATION, generation_files, read_generation
from .transformers_settings import irrelevant_settings
from .weights import find_weights

logger = logging.getLogger("hezar_like")

CONFIG = "config.json"
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model",
    "chat_template.jinja",
)  # fmt: skip
OTHER_FILES = ("preprocessor_config.json", "processor_config.json", GENERATION)


@register_format("transformers", "config.json + model.safetensors, as transformers writes it")
class Transformers(Format):
    """Reads and writes what transformers' `save_pretrained` does."""

    rank = 2

    def tell_tales(self, config_filename: str | None) -> list[str]:
        return [f"{config_filename or CONFIG} with a model_type"]

    def detect(self, source: Source, config_filename: str | None) -> bool:
        name = config_filename or CONFIG
        path = source.find(name) if name.endswith(".json") else None
        return path is not None and "model_type" in read_json(path)

    def open(self, source: Source, request: Request) -> Checkpoint:
        return self.open_files(source.find, str(source), request)

    def open_files(
        self, find: Find, where: str, request: Request, extra: Mapping[str, Any] | None = None
    ) -> Checkpoint:
        """Reads config and weights through a function that finds files.

        Args:
            find: Gives a file's path by its name, or None.
            where: The model, for messages.
            request: What the caller wants.
            extra: Values for fields of the task that other files told.
        """
        path = find(request.config_filename or CONFIG)
        if path is None:
            raise CheckpointError(f"{where} has no {request.config_filename or CONFIG!r} there. Save it again.")
        values = read_json(path)
        family_entry = _family(values, path)
        family: Family = family_entry.module_class
        known_task = _task(values, family)
        own_task = known_task or _bare_task(family)
        entry = models_registry.compose(family.name, request.task or own_task)
        task = entry.module_class.task
        weights = find_weights(find, [request.model_filename] if request.model_filename else WEIGHTS, where)
        fields = _fields(values, entry, path, with_labels=task == own_task)
        fields |= family.read_settings(values, set(weights))
        fields |= read_generation(find, values, entry.config_class)
        same_head = family.same_head(task, own_task)
        fields |= family.heads[task].infer(set(weights), same_head)
        return Checkpoint(
            entry,
            fields | dict(extra or {}),
            weights,
            tables=family.keymap,
            own_task=same_head,
            unknown_head=known_task is None,
        )

    def read_config(
        self, values: Mapping[str, Any], path: Path, family: str | None, task: str | None
    ) -> ModelConfig | None:
        if "model_type" not in values:
            return None
        entry = _family(values, path)
        record: Family = entry.module_class
        own = _task(values, record) or _bare_task(record)
        model = models_registry.compose(record.name, task or own)
        fields = _fields(values, model, path, with_labels=model.module_class.task == own)
        return model.config_class.from_dict({**fields, **record.read_settings(values, set())})

    def preprocessors(self, source: Source) -> PreprocessorsContainer:
        found = self.tokenizer(source.find)
        extractor = extractor_from_transformers(source.find)
        return found if extractor is None else PreprocessorsContainer({**found, extractor.config.name: extractor})

    def tokenizer(self, find: Find, max_length: int | None = None) -> PreprocessorsContainer:
        """The tokenizer, alone in a container; empty when there is none."""
        tokenizer = tokenizer_from_transformers(find)
        if tokenizer is None:
            return PreprocessorsContainer()
        if max_length is not None:
            tokenizer.config.update(max_length=max_length)
        return PreprocessorsContainer({tokenizer.config.name: tokenizer})

    def write(self, content: Content, folder: Path) -> Path:
        config = content.config
        family = family_of(config) if config.family else None
        endings = family.endings(content.task) if family is not None else ()
        if family is None or not endings or not family.titles or not family.heads[content.task].published(config):
            raise OptionError(f"transformers has no model for {config.name!r}. Use save() for our own layout.")
        if not family.published(config):
            own = ", ".join(f"{name}={config[name]!r}" for name in family.own)
            raise OptionError(
                f"no model of transformers computes what this {config.name!r} does; it knows nothing of {own}. "
                "Use save() for our own layout."
            )
        extractor = content.preprocessor.audio_feature_extractor
        others = {name: item for name, item in content.preprocessor.items() if item is not extractor}
        tokenizer = only_tokenizer(PreprocessorsContainer(others), "transformers")
        keymap, ending = family.keymap(config, content.task), endings[0]
        bare = "Model" in tasks_registry[content.task].module_class.endings  # of a class that is the backbone alone
        return write_folder(
            folder,
            dict(keymap.to_foreign(content.tensors.items(), bare=bare)),
            WEIGHTS[0],
            {
                **({} if tokenizer is None else transformers_tokenizer_files(tokenizer)),
                **({} if extractor is None else transformers_extractor_files(extractor)),
            },
            (*TOKENIZER_FILES, *OTHER_FILES),
            generation_files(config) | self.settings(content, family, family.titles[0] + ending),
        )

    def settings(self, content: Content, family: Family, architecture: str) -> dict[str, Any]:
        """The JSON files of a model by their names; `architecture` is the class transformers opens it with."""
        return {CONFIG: _settings(content, family, architecture)}


def _family(values: Mapping[str, Any], path: Path) -> Registered:
    model_type = values.get("model_type")
    for name in families_registry:
        if model_type in families_registry[name].module_class.model_types:
            return families_registry[name]
    known = [kind for name in families_registry for kind in families_registry[name].module_class.model_types]
    raise ConfigError(
        f"{path}: model_type {str(model_type)[:100]!r} is not supported yet.{did_you_mean(model_type, known)}"
    )


def _task(values: Mapping[str, Any], family: Family) -> str | None:
    """The task of the class in `architectures`; None for a class without a counterpart here."""
    architectures = values.get("architectures")
    if not architectures:
        return _bare_task(family)
    named = {
        f"{title}{ending}": task
        for title in family.titles
        for task in reversed(list(family.heads))
        for ending in family.endings(task)
    }
    for architecture in architectures if isinstance(architectures, list) else ():
        if isinstance(architecture, str) and architecture in named:
            return named[architecture]
    return None


def _bare_task(family: Family) -> str:
    """The task of files that are of the backbone alone."""
    return "backbone" if "backbone" in family.heads else next(iter(family.heads))


def _fields(values: Mapping[str, Any], entry: Registered, path: Path, *, with_labels: bool) -> dict[str, Any]:
    """What of config.json is a field of the model's config; the rest must be known to be irrelevant."""
    config_class = entry.config_class
    known = {*config_class.fields(), *config_class.aliases}
    labels = {"id2label", "num_labels", "problem_type"}
    # Names with an underscore are transformers' own notes.
    family: Family = families_registry[config_class.family].module_class
    irrelevant = irrelevant_settings(values, family, path)
    unknown = [key for key in values if key not in known | irrelevant and not key.startswith("_")]
    if unknown:
        logger.warning(f"{path}: these settings are unknown here and have no effect: {listed(unknown)}")
    fields = {key: values[key] for key in values if key in known and (with_labels or key not in labels)}
    if with_labels and "id2label" in fields:
        fields.pop("num_labels", None)
    return fields


def _settings(content: Content, family: Family, architecture: str) -> dict[str, Any]:
    """The model's config in transformers' words."""
    config = content.config
    published = {field: alias for alias, field in config.aliases.items()}
    result: dict[str, Any] = {"architectures": [architecture], "model_type": family.model_types[0]}
    # What the names of the weights tell is no setting there; AutoModel would take it for one, and not pass it on.
    told = {name for head in family.heads.values() for name in head.infer((), True)}.union(family.own)
    result |= {published.get(name, name): config[name] for name in family.config_class.fields() if name not in told}
    result |= family.write_settings(config)
    if labels := config.get("id2label"):
        result |= {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}
    if config.get("problem_type"):
        result["problem_type"] = config["problem_type"]
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in content.tensors.values()}
    return result | ({"dtype": kinds.pop()} if len(kinds) == 1 else {})
