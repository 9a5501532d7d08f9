"""GLM as FlagAI and its authors (https://github.com/THUDM/GLM) have it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..preprocessors.glm_layouts import LAYOUTS
from ..preprocessors.transformers_tokenizer import Find
from .flagai_family import FlagAIFamily, Header
from .settings_map import SettingsMap, number

__all__ = ["GLM"]

logger = logging.getLogger("hezar_like")

SCORES = "multichoice_head.weight"
# Whose command tokens a model has, by the size of its vocabulary; FlagAI keeps them in the code of its tokenizers.
COMMANDS = {50048: "glm_large_ch", 30592: "glm_large_en", 50304: "glm_10b_en"}
CHINESE_10B = (50048, 4096)
"""Sizes of vocabulary and hidden states of the one whose command tokens differ from others with its vocabulary."""
# What FlagAI's classes take when they are made, and do not find in files.
OF_CALLS = {"pool_token": "pool_token", "choice_length_penalty": "length_penalty", "log_probabilities": "take_softmax"}
ROLES = ("pad", "eos", "sop", "eop", "mask", "smask", "gmask")


@dataclass(frozen=True)
class GLMFamily(FlagAIFamily):
    """Its head for choices is one for labels with a single label."""

    def holds(self, task: str, header: Header, prefix: str) -> bool:
        if task not in self.heads or SCORES not in header:
            return False
        return (header[SCORES].shape[0] == 1) == (task == "multiple_choice")


def _infer(values: Mapping[str, Any], header: Header, find: Find) -> dict[str, Any]:
    sizes = values["vocab_size"], values["hidden_size"]
    layout = "glm_10b_ch" if sizes == CHINESE_10B else COMMANDS.get(sizes[0])
    ids = LAYOUTS[layout].by_role() if layout is not None else {}
    labels = header[SCORES].shape[0] if SCORES in header else number(values, "class_num")
    told = {f"{role}_token_id": ids.get(role) for role in ROLES} | {"num_labels": labels}
    return {name: value for name, value in told.items() if value is not None}


def _refuse(config: Any, task: str) -> str | None:
    if config.intermediate_size not in (None, 4 * config.hidden_size):
        return f"its MLPs are four times as wide as the hidden states, and not {config.intermediate_size}"
    return None


def _write(config: Any) -> dict[str, Any]:
    defaults = type(config)()
    lost = [
        f"{theirs}={config[ours]!r}"
        for ours, theirs in OF_CALLS.items()
        if ours in config.fields() and config[ours] != defaults[ours]
    ]
    if lost:
        logger.warning(f"FlagAI keeps no {' and no '.join(lost)} in files: give them to its from_pretrain.")
    labels = {"class_num": 1} if config.name.endswith("multiple_choice") else {}
    if "num_labels" in config.fields():
        labels = {"class_num": config.num_labels}
    # Its code reads all of these, though they only say how it trains.
    training = {"output_predict": True, "parallel_output": True, "checkpoint_activations": False}
    return {**labels, **training, "checkpoint_num_layers": 1}


GLM = GLMFamily(
    "glm",
    tell="block_position_encoding",
    settings=SettingsMap(
        required={
            "num_layers": "num_hidden_layers",
            "vocab_size": "vocab_size",
            "hidden_size": "hidden_size",
            "num_attention_heads": "num_attention_heads",
            "embedding_dropout_prob": "embedding_dropout_prob",
            "attention_dropout_prob": "attention_probs_dropout_prob",
            "output_dropout_prob": "hidden_dropout_prob",
            "max_sequence_length": "max_position_embeddings",
            "max_memory_length": "max_memory_length",
            "relative_encoding": "relative_encoding",
            "block_position_encoding": "block_position_encoding",
            "spell_func": "spell_func",
            "attention_scale": "attention_scale",
        },
        optional={"spell_length": "spell_length"},
        constants={
            "hidden_act": "gelu_new",
            "layer_norm_eps": 1e-5,
            "tie_word_embeddings": True,
            "mask_padding_tokens": False,
        },
        known=(
            "checkpoint_activations", "checkpoint_num_layers", "parallel_output", "output_predict", "class_num",
            "tune_prefix_layers",
        ),
    ),
    keymap=lambda family, config, task, header: family.keymap(config, task),
    heads={"multiple_choice": {}, "text_classification": {}},
    task="text_generation",
    tasks=("text_generation", "cloze", "text_classification", "multiple_choice", "backbone"),
    infer=_infer,
    refuse=_refuse,
    write=_write,
    zero_is_padding=False,
)  # fmt: skip
