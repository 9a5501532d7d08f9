"""transformers' layout: config.json + model.safetensors or pytorch_model.bin + tokenizer files."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import files
from ..errors import ConfigError, OptionError, did_you_mean
from ..family import Family, family_of
from ..hub import Source
from ..preprocessors import PreprocessorsContainer
from ..preprocessors.transformers_tokenizer import Find, tokenizer_from_transformers, transformers_tokenizer_files
from ..registry import Registered, families_registry, models_registry
from ..text_files import read_json
from .format import Checkpoint, Content, Format, Request, register_format
from .weights import find_weights, save_weights, stale_weights

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
)  # fmt: skip
# How class names in `architectures` end; the first of a task is what export writes.
ENDINGS = {
    "ForSequenceClassification": "text_classification",
    "ForTokenClassification": "sequence_labeling",
    "ForMaskedLM": "mask_filling",
    "ForPreTraining": "mask_filling",
    "Model": "backbone",
}
EXPORTED = {task: ending for ending, task in reversed(ENDINGS.items())} | {"text_embedding": "Model"}
# Settings of transformers that say nothing about what a model computes, or that another field here says.
IRRELEVANT = frozenset({
    "_commit_hash", "_name_or_path", "architectures", "bad_words_ids",
    "begin_suppress_tokens", "chunk_size_feed_forward", "cross_attention_hidden_size", "decoder_start_token_id",
    "directionality", "diversity_penalty", "do_sample", "dtype", "early_stopping", "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id",
    "gradient_checkpointing", "is_encoder_decoder", "label2id", "language", "length_penalty", "max_length",
    "min_length", "model_type", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences",
    "output_attentions", "output_hidden_states", "output_past", "output_scores", "pooler_fc_size",
    "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "prefix",
    "problem_type", "pruned_heads", "qa_dropout", "remove_invalid_values", "repetition_penalty", "return_dict",
    "return_dict_in_generate", "sep_token_id", "sinusoidal_pos_embds", "suppress_tokens", "task_specific_params",
    "temperature", "tf_legacy_loss", "tie_encoder_decoder", "tie_weights_", "tokenizer_class", "top_k", "top_p",
    "torch_dtype", "torchscript", "transformers_version", "typical_p", "use_bfloat16", "use_cache", "bos_token_id",
    "eos_token_id", "id2label", "num_labels", "attn_implementation",
})  # fmt: skip
# Settings that would change what is computed, or name code.
REFUSED = frozenset({"_attn_implementation_internal", "_target_", "add_cross_attention", "auto_map", "is_decoder"})


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
        assert path is not None
        values = read_json(path)
        family_entry = _family(values, path)
        family: Family = family_entry.module_class
        known_task = _task(values, family)
        own_task = known_task or "backbone"
        entry = models_registry.compose(family.name, request.task or own_task)
        task = entry.module_class.task
        weights = find_weights(find, [request.model_filename] if request.model_filename else WEIGHTS, where)
        fields = _fields(values, entry, path, with_labels=task == own_task)
        fields |= family.heads[task].infer(set(weights), task == own_task)
        return Checkpoint(
            entry,
            fields | dict(extra or {}),
            weights,
            keymap=family.keymap(task),
            own_task=task == own_task,
            others=[family.keymap(other) for other in family.heads],
            unknown_head=known_task is None,
        )

    def preprocessors(self, source: Source) -> PreprocessorsContainer:
        return self.tokenizer(source.find)

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
        ending = EXPORTED.get(content.task)
        if family is None or ending is None or not family.titles or not family.heads[content.task].published(config):
            raise OptionError(f"transformers has no model for {config.name!r}. Use save() for our own layout.")
        extra = [
            name for name in content.preprocessor if content.preprocessor[name] is not content.preprocessor.tokenizer
        ]
        if extra:
            raise OptionError(
                f"transformers has no place for {', '.join(map(repr, extra))} and would read texts otherwise without. "
                "Set model.preprocessor = model.preprocessor.tokenizer first, and do that step yourself."
            )
        keymap = family.keymap(content.task)
        with files.stage(folder) as staged:
            kept = save_weights(dict(keymap.to_foreign(content.tensors.items(), bare=ending == "Model")), staged)
            for stale in stale_weights(WEIGHTS[0], kept, [entry.name for entry in folder.iterdir()]):
                staged.remove(stale)
            if content.preprocessor.tokenizer is not None:
                for name, data in transformers_tokenizer_files(content.preprocessor.tokenizer).items():
                    staged(name).write_bytes(data)
            for name in TOKENIZER_FILES:
                staged.remove(name)  # of a model that was exported here before; what is written now stays
            for name, settings in self.settings(content, family, family.titles[0] + ending).items():
                staged(name).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return folder

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
        return "backbone"
    named = {f"{title}{ending}": task for title in family.titles for ending, task in ENDINGS.items()}
    for architecture in architectures if isinstance(architectures, list) else ():
        if isinstance(architecture, str) and named.get(architecture) in family.heads:
            return named[architecture]
    return None


def _fields(values: Mapping[str, Any], entry: Registered, path: Path, *, with_labels: bool) -> dict[str, Any]:
    """What of config.json is a field of the model's config; the rest must be known to be irrelevant."""
    config_class = entry.config_class
    known = {*config_class.fields(), *config_class.aliases}
    for key, value in values.items():
        if value and key in REFUSED:
            raise ConfigError(f"{path}: {key!r} is not supported: it asks for another model or for code of its own.")
    labels = {"id2label", "num_labels", "problem_type"}
    # Names with an underscore are transformers' own notes.
    unknown = [key for key in values if key not in known | IRRELEVANT | REFUSED and not key.startswith("_")]
    if unknown:
        logger.warning(f"{path}: these settings are unknown here and have no effect: {', '.join(map(repr, unknown))}")
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
    told = {name for head in family.heads.values() for name in head.infer((), True)}
    result |= {published.get(name, name): config[name] for name in family.config_class.fields() if name not in told}
    if labels := config.get("id2label"):
        result |= {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}
    if config.get("problem_type"):
        result["problem_type"] = config["problem_type"]
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in content.tensors.values()}
    return result | ({"dtype": kinds.pop()} if len(kinds) == 1 else {})
