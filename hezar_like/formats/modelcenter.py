"""ModelCenter's layout: config.json + pytorch_model.pt + the files of a tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch

from ..configs import ModelConfig
from ..errors import CheckpointError, OptionError, did_you_mean
from ..family import Family
from ..hub import Source
from ..keymap import KeyMap
from ..preprocessors import PreprocessorsContainer
from ..preprocessors.flagai_modelcenter import modelcenter_tokenizer, modelcenter_tokenizer_files
from ..registry import families_registry, models_registry, tasks_registry
from ..text_files import read_json
from .folders import only_tokenizer, write_folder
from .format import Checkpoint, Content, Format, Request, register_format
from .modelcenter_layout import Layout, Version
from .modelcenter_names import Scale
from .modelcenter_tables import LAYOUTS
from .weights import Weights, find_weights

logger = logging.getLogger("hezar_like")

CONFIG = "config.json"
WEIGHTS = "pytorch_model.pt"
TELLING = frozenset({"dim_model", "dim_head"})
"""Settings of which every config file has one, and no other system's has any."""
LABELING = "sequence_labeling"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt", "vocab.model", "spiece.model",
)  # fmt: skip


@register_format("modelcenter", "config.json + pytorch_model.pt, as ModelCenter writes them")
class ModelCenter(Format):
    """Reads and writes ModelCenter's models; they all score tokens, or, with a `cls_head`, a label for every token.

    `Model.load` takes `format_version`: "2022" for a model of the version of 5 April 2022, "head" for a later one.
    Default: what the config shows. It may show nothing; then what it leaves out is what it was in 2022.
    """

    rank = 1
    options = ("format_version",)

    def __init__(self) -> None:
        self._family = ""

    def tell_tales(self, config_filename: str | None) -> list[str]:
        return [f"{config_filename or CONFIG} with a dim_model"]

    def detect(self, source: Source, config_filename: str | None) -> bool:
        name = config_filename or CONFIG
        path = source.find(name) if name.endswith(".json") else None
        values = {} if path is None else read_json(path, infinite=True)
        return "model_type" not in values and not TELLING.isdisjoint(values)

    def open(self, source: Source, request: Request) -> Checkpoint:
        told = _told(request.options.get("format_version"))
        path = source.get(request.config_filename or CONFIG)
        given = read_json(path, infinite=True)
        weights = find_weights(source.find, [request.model_filename or WEIGHTS], str(source))
        self._family = name = _family(weights, given)
        layout, family = LAYOUTS[name], families_registry[name].module_class
        values = layout.complete(given, told, str(path))
        scale: Scale = "fan_in" if values["length_scale"] else 1.0
        older_name = values["cls_head"] and "cls_projection.weight" not in weights
        label_head = "output_projection" if older_name else None
        entry = models_registry.compose(name, request.task or (LABELING if values["cls_head"] else layout.tasks[0]))
        task = entry.module_class.task
        fields = _fields(layout, values, task, told, path)
        fields |= _pooler(family, entry.config_class.from_dict(fields), task, weights)

        def tables(config: ModelConfig, other: str) -> KeyMap:
            return layout.keymap(config, other, scale=scale, label_head=label_head)

        # The names of heads are all different, so that a file of several is of each of their tasks.
        return Checkpoint(entry, fields, weights, tables)

    def read_config(
        self, values: Mapping[str, Any], path: Path, family: str | None, task: str | None
    ) -> ModelConfig | None:
        if "model_type" in values or TELLING.isdisjoint(values) or family is None or family not in LAYOUTS:
            return None
        layout = LAYOUTS[family]
        settings = layout.complete(values, None, str(path))
        entry = models_registry.compose(family, LABELING if settings["cls_head"] else task or layout.tasks[0])
        return entry.config_class.from_dict(_fields(layout, settings, entry.module_class.task, None, path))

    def preprocessors(self, source: Source) -> PreprocessorsContainer:
        if not self._family:
            self.open(source, Request())
        tokenizer = modelcenter_tokenizer(source.find, self._family)
        return PreprocessorsContainer({} if tokenizer is None else {tokenizer.config.name: tokenizer})

    def write(self, content: Content, folder: Path) -> Path:
        config = content.config
        layout = LAYOUTS.get(config.family)
        if layout is None or content.task not in (layout.tasks[0], LABELING):
            raise OptionError(f"ModelCenter has no model for {config.name!r}. Use save() for our own layout.")
        tokenizer = only_tokenizer(content.preprocessor, "ModelCenter")
        half = all(tensor.dtype == torch.float16 for tensor in content.tensors.values())
        settings = layout.write_settings(config, half=half)
        _warn_of_labels(config, content.task)
        return write_folder(
            folder,
            dict(layout.keymap(config, content.task).to_foreign(content.tensors.items())),
            WEIGHTS,
            {} if tokenizer is None else modelcenter_tokenizer_files(tokenizer),
            TOKENIZER_FILES,
            {CONFIG: dict(sorted(settings.items()))},
        )


def _told(version: Any) -> Version | None:
    known = get_args(Version)
    if version is not None and version not in known:
        names = " or ".join(map(repr, known))
        raise OptionError(f"format_version is {version!r:.100}; it must be {names}.{did_you_mean(str(version), known)}")
    told: Version | None = version
    return told


def _family(weights: Weights, settings: Mapping[str, Any]) -> str:
    """The family, by what only it has of weights or settings: no file says it.

    Raises:
        CheckpointError: When it is none that is known here.
    """
    said = {*weights, *settings}
    if said & {"position_bias_enc.relative_attention_bias", "num_encoder_layers"}:
        # The same but for defaults; the gate is what published ones differ in.
        gated = "encoder.layers.0.ffn.ffn.w_in.w_0.weight" in said and "scale" not in said
        return "cpm2" if gated and settings.get("ffn_activate_fn", "gated_gelu") == "gated_gelu" else "t5"
    if said & {"position_bias.relative_attention_bias", "position_bias_num_buckets"}:
        return "cpm1"
    if said & {"block_position_embedding.weight", "sop_tok_id"}:
        return "glm"
    if said & {"token_type_embedding.weight", "type_size"}:
        types = weights.header.get("token_type_embedding.weight")
        one = settings.get("type_size") == 1 if types is None else types.shape[:1] == (1,)
        return "roberta" if one or "pad_token_id" in said else "bert"
    if said & {"position_embedding.weight", "position_size"}:
        return "gpt2"
    if said & {"encoder.output_layernorm.weight", "pos_rotary_dim"}:
        return "gptj"
    raise CheckpointError(
        f"{weights.description} is none of ModelCenter's models that are known here: {', '.join(sorted(LAYOUTS))}. "
        "Check that config and weights belong together."
    )


def _fields(layout: Layout, settings: Mapping[str, Any], task: str, told: Version | None, path: Path) -> dict[str, Any]:
    """The fields of a model's config, of all settings."""
    fields = layout.read_fields(settings, told, str(path))
    if task == LABELING and settings["cls_head"]:
        fields |= {"num_labels": settings["cls_head"], "classifier_bias": settings["proj_bias"]}
    return fields


def _pooler(family: Family, config: ModelConfig, task: str, weights: Weights) -> dict[str, Any]:
    """Fields for the pooler of a file that has one: where the task has no use for it, the backbone keeps it."""
    told = dict(family.heads[task].infer(set(weights), True))
    if "keep_pooler" in config and "pooler.dense.weight" in weights and not family.shared_head(config, task):
        told["keep_pooler"] = True
    return told


def _warn_of_labels(config: ModelConfig, task: str) -> None:
    """Says which fields of the task's config are left out."""
    own = tasks_registry[task].config_class
    plain = own.from_dict({name: config[name] for name in ("num_labels",) if name in config})
    lost = [name for name in own.fields() if name != "classifier_bias" and config[name] != plain[name]]
    if lost:
        logger.warning(f"ModelCenter has no place for {', '.join(lost)}; a model that is read back has defaults.")
