"""Our own layout, and Hezar's, which differs in the names of the weights.

model_config.yaml  model.safetensors | model.pt  preprocessor/{tokenizer.json, tokenizer_config.yaml, ...}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..configs import ModelConfig
from ..errors import ConfigError, RegistryError
from ..family import Family
from ..generation import generation_field
from ..hub import Source
from ..keymap import KeyMap
from ..preprocessors.preprocessor import read_preprocessors
from ..registry import families_registry, models_registry
from ..text_files import read_yaml
from .format import Checkpoint, Format, Request, register_format
from .generation_settings import from_settings
from .transformers_settings import irrelevant_settings
from .weights import Weights, find_weights

if TYPE_CHECKING:
    from ..preprocessors import PreprocessorsContainer

CONFIG = ModelConfig.default_filename
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model.pt")


@register_format("native", "model_config.yaml + model.safetensors")
class Native(Format):
    """Reads and writes our layout; reads Hezar's."""

    rank = 0

    def tell_tales(self, config_filename: str | None) -> list[str]:
        return [config_filename or CONFIG]

    def detect(self, source: Source, config_filename: str | None) -> bool:
        name = config_filename or CONFIG
        return name.endswith((".yaml", ".yml")) and source.find(name) is not None

    def open(self, source: Source, request: Request) -> Checkpoint:
        path = source.get(request.config_filename or CONFIG)
        values = read_yaml(path)
        name = values.get("name")
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{path}: has no `name` that says which model it is. Add the registry name.")
        if name not in models_registry:
            raise RegistryError(f"{path}: {models_registry.unknown(name)}")
        own = models_registry[name]
        weights = find_weights(
            source.find, [request.model_filename] if request.model_filename else WEIGHTS, str(source)
        )
        family = getattr(own.config_class, "family", "")
        if not family:
            return Checkpoint(own, _fields(values, path), weights)
        own_task = own.module_class.task
        entry = models_registry.compose(family, request.task or own_task)
        task = entry.module_class.task
        record: Family = families_registry[family].module_class
        checkpoint = Checkpoint(entry, {}, weights, own_task=record.same_head(task, own_task))
        hezar = not any(key.startswith(("backbone.", "head.")) for key in weights)
        if hezar:
            generation = _generation(values, own.config_class, path)
            extra = irrelevant_settings(values, record, path) - {*own.config_class.fields(), *own.config_class.aliases}
            values = {key: value for key, value in values.items() if key not in extra} | generation
        fields = _fields(values, path)
        if task != own_task:
            fields = {key: value for key, value in fields.items() if key in record.config_class.fields()}
        if hezar:
            checkpoint.weights = _unwrapped(weights, name, family, record.prefix)
            checkpoint.tables = record.keymap
            fields |= record.heads[task].infer(set(checkpoint.weights), checkpoint.own_task)
        elif not checkpoint.own_task:
            checkpoint.tables = lambda config, other: _between_heads(record, config, own_task, other)
        checkpoint.values = fields
        return checkpoint

    def preprocessors(self, source: Source) -> PreprocessorsContainer:
        return read_preprocessors(source)


def _fields(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """The file's fields under their own names, checked; an error names the file."""
    try:
        config = ModelConfig.from_saved(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return {key: getattr(config, key) for key in config.fields()}


def _generation(values: Mapping[str, Any], config_class: type[ModelConfig], path: Path) -> dict[str, Any]:
    """How Hezar's model writes: what stands in a block of its own, or, for T5, among the model's settings."""
    found = generation_field(config_class)
    if found is None:
        return {}
    name, kind = found
    block = values.get(name)
    known = {*kind.fields()} - {*config_class.fields()}
    settings = {key: values[key] for key in known & values.keys()}
    if isinstance(block, Mapping):
        settings |= block
    return {name: from_settings(kind, settings, str(path)).to_dict()}


def _between_heads(family: Family, config: ModelConfig, own: str, other: str) -> KeyMap:
    """Our names in a model for one task to those for another.

    Two heads may use one name for different layers; by their published names they are told apart, and of heads only
    what is published as part of the backbone is the same for both.
    """
    first, second = (family.shared_head(config, task) for task in (own, other))
    return KeyMap({first[name]: second[name] for name in first.keys() & second.keys()}, prefix="head.")


def _unwrapped(weights: Weights, name: str, family: str, prefix: str) -> Weights:
    """Hezar's names as transformers has them: without the wrapper's attribute, `model.` for the oldest ones."""

    def rename(key: str) -> str:
        for wrapper in {f"{name}.", f"{family}."} - {prefix}:
            key = key.removeprefix(wrapper)
        return prefix + key.removeprefix("model.") if key.startswith("model.") else key

    return weights.renamed(rename)
