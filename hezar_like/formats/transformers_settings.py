"""Settings in configs of transformers, and so of Hezar, that are no fields of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..family import Family

__all__ = ["irrelevant_settings"]

# Settings of transformers that say nothing about what a model computes, or that another field here says.
IRRELEVANT = frozenset({
    "_commit_hash", "_name_or_path", "architectures", "bad_words_ids", "generation", "max_new_tokens",
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


def irrelevant_settings(values: Mapping[str, Any], family: Family, path: Path) -> frozenset[str]:
    """The settings that need no field: they say nothing about what is computed, or have the only value that exists.

    Args:
        values: All settings of a config file.
        family: The family it is of.
        path: The file, for messages.

    Raises:
        ConfigError: For a setting that asks for what does not exist here.
    """
    for key, value in values.items():
        if value and key in REFUSED:
            raise ConfigError(f"{path}: {key!r} is not supported: it asks for another model or for code of its own.")
    for key, value in family.fixed.items():
        if key in values and values[key] != value:
            raise ConfigError(
                f"{path}: {key} is {values[key]!r:.100}; only {value!r} is supported for {family.name!r}."
            )
    return IRRELEVANT | REFUSED | {*family.irrelevant, *family.fixed}
