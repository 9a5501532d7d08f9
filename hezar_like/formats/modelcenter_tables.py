"""ModelCenter's settings for each of its models, and the values that config files leave out.

From https://github.com/OpenBMB/ModelCenter, as of 5 April 2022 and of 27 November 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from ..errors import OptionError
from .modelcenter_layout import Layout, Setting, Version
from .modelcenter_names import (
    BLOCK,
    NORMS,
    SUMS,
    cpm1_keys,
    cpm2_keys,
    encoder_keys,
    glm_keys,
    gpt2_keys,
    gptj_keys,
    mask_filling_keys,
    t5_keys,
)

__all__ = ["LAYOUTS"]


def read_t5(values: Mapping[str, Any], told: Version | None) -> dict[str, Any]:
    # Without `scale`, scores are made with the divided embedding; with it, as in transformers.
    if values["tied"]:
        return {"blind_padding": True, "logit_scale": "inverse_root" if values["scale"] else 1 / SUMS}
    return {"blind_padding": True, "logit_scale": SUMS * values["dim_model"] ** -0.5 if values["scale"] else 1.0}


def write_t5(config: Any) -> dict[str, Any]:
    factor = 1 / SUMS if config.tie_word_embeddings else 1.0
    known = {None: factor, True: factor * SUMS * config.hidden_size**-0.5}
    return {"scale": _logit_scale(config, known), **_decoder_layers(config)}


def write_cpm2(config: Any) -> dict[str, Any]:
    _logit_scale(config, {None: 1.0})
    return _decoder_layers(config)


def _decoder_layers(config: Any) -> dict[str, Any]:
    layers = config.num_decoder_layers
    return {"num_decoder_layers": config.num_hidden_layers if layers is None else layers}


def _logit_scale(config: Any, known: Mapping[Any, float]) -> Any:
    for setting, scale in known.items():
        if abs(config.head_scale - scale) <= 1e-6 * scale:
            return setting
    raise OptionError(
        f"ModelCenter has no logit_scale={config.logit_scale!r} with "
        f"tie_word_embeddings={config.tie_word_embeddings}, only {', '.join(map(repr, known.values()))}."
    )


def read_bert(values: Mapping[str, Any], told: Version | None) -> dict[str, Any]:
    # In 2022 a head that is the embedding left the transform out. No file says so: today's writes the same settings.
    transform = not (told == "2022" and values["tied"])
    return {"blind_padding": True, "pad_token_id": None, "prediction_head_transform": transform}


def read_gpt2(values: Mapping[str, Any], told: Version | None) -> dict[str, Any]:
    # In 2022 the vocabulary was filled up to an even number, which published files show, and the last token banned.
    return {"unused_tokens": int(told == "2022" or (told is None and values["vocab_size"] == 50258))}


def unused_decoder(config: Any) -> dict[str, str]:
    """A head that is the embedding has unused weights of its own there."""
    return {"lm_head.decoder.weight": "backbone.embed.tokens.weight"} if config.tie_word_embeddings else {}


def second_norms(config: Any) -> dict[str, str]:
    """The norm that layers side by side share here is there twice."""
    pairs = product(range(config.num_hidden_layers if config.shared_norm else 0), ("weight", "bias"))
    return {f"{NORMS[1].format(i)}.{end}": f"{BLOCK.format(i)}attn_norm.{end}" for i, end in pairs}


# -- settings -------------------------------------------------------------------------------------------------------

DEFAULTS = {
    "dropout_p": 0.0, "emb_init_mean": 0.0, "emb_init_std": 0.02, "norm_init_var": 1.0, "att_init_mean": 0.0,
    "att_init_std": 0.02, "ffn_init_mean": 0.0, "ffn_init_std": 0.02, "proj_init_mean": 0.0, "proj_init_std": 0.02,
    "length_scale": False, "half": True, "int8": False, "cls_head": None, "post_layer_norm": False,
}  # fmt: skip
WITH_BIASES = DEFAULTS | {
    "pos_bias_type": "none", "norm_bias": True, "norm_eps": 1e-5, "att_bias": True, "att_mask_value": "-1e4",
    "ffn_bias": True, "ffn_activate_fn": "gelu", "proj_bias": True, "attn_scale": True, "tied": True,
}  # fmt: skip
WITHOUT_BIASES = DEFAULTS | {
    "pos_bias_type": "relative", "norm_bias": False, "norm_eps": 1e-6, "att_bias": False, "att_mask_value": "-inf",
    "ffn_bias": False, "ffn_activate_fn": "gated_gelu", "proj_bias": False, "attn_scale": False, "tied": False,
    "position_bias_num_buckets": 32, "position_bias_max_distance": 128, "pos_init_mean": 0.0, "pos_init_std": 1.0,
    "dim_model": 768, "num_heads": 12, "dim_head": 64, "dim_ff": 1920,
}  # fmt: skip
BASE = {"dim_model": 768, "num_heads": 12, "dim_head": 64, "dim_ff": 3072, "num_layers": 12}
LARGE = {"dim_model": 1024, "num_heads": 16, "dim_head": 64, "dim_ff": 4096, "num_layers": 24}
TWO_STACKS = {"num_encoder_layers": 12, "num_decoder_layers": 12}
FIXED = ("norm_bias", "att_bias", "ffn_bias", "pos_bias_type")

SIZES = {
    "vocab_size": Setting("vocab_size"),
    "dim_model": Setting("hidden_size"),
    "num_heads": Setting("num_attention_heads"),
    "dim_ff": Setting("intermediate_size"),
    "num_layers": Setting("num_hidden_layers"),
    "tied": Setting("tie_word_embeddings"),
}
ACTIVATIONS = ("relu", "gelu", "gelu_new")
WITH_POSITIONS = SIZES | {
    "position_size": Setting("max_position_embeddings"),
    "norm_eps": Setting("layer_norm_eps"),
    "dropout_p": Setting("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "ffn_activate_fn": Setting("hidden_act", values={name: name for name in ACTIVATIONS}),
}
GPT = WITH_POSITIONS | {"dropout_p": Setting("hidden_dropout_prob", "attention_probs_dropout_prob", "embd_pdrop")}
RELATIVE = SIZES | {
    "dim_head": Setting("head_dim"),
    "position_bias_num_buckets": Setting("relative_attention_num_buckets"),
    "position_bias_max_distance": Setting("relative_attention_max_distance"),
    "attn_scale": Setting("attention_scale", values={True: None, False: 1.0}),
}
CPM2 = {name: setting for name, setting in RELATIVE.items() if name != "num_layers"} | {
    "num_encoder_layers": Setting("num_hidden_layers"),
    "num_decoder_layers": Setting("num_decoder_layers"),
    "dropout_p": Setting("dropout_rate"),
    "norm_eps": Setting("layer_norm_eps"),
    # ModelCenter's gelu is the exact one, gelu_new the tanh form; in T5's own names it is the other way round.
    "ffn_activate_fn": Setting(
        "feed_forward_proj",
        values={
            "gated_gelu": "gated-gelu_python",
            "gated_gelu_new": "gated-gelu",
            "gated_relu": "gated-relu",
            "gated_silu": "gated-silu",
            **{name: name for name in ACTIVATIONS},
        },
    ),
}

T5 = CPM2 | {"norm_eps": Setting("layer_norm_eps", factor=SUMS**2)}

LAYOUTS: Mapping[str, Layout] = {
    "bert": Layout(
        ("mask_filling", "text_generation"),
        encoder_keys,
        {name: setting for name, setting in WITH_POSITIONS.items() if name != "ffn_activate_fn"}
        | {"type_size": Setting("type_vocab_size")},
        WITH_BIASES
        | BASE
        | {"vocab_size": 119547, "type_size": 2, "position_size": 512, "norm_eps": 1e-12, "post_layer_norm": True},
        mask_filling_keys,
        older={"dropout_p": 0.1, "tied": False},
        # The head's activation is always gelu there, and here the one of all layers.
        fixed=(*FIXED, "attn_scale", "length_scale", "post_layer_norm", "ffn_activate_fn"),
        irrelevant=("position_bias_max_distance",),
        read=read_bert,
        copies=unused_decoder,
        head_bias=None,
    ),
    "roberta": Layout(
        ("mask_filling", "text_generation"),
        encoder_keys,
        WITH_POSITIONS | {"type_size": Setting("type_vocab_size"), "pad_token_id": Setting("pad_token_id")},
        WITH_BIASES
        | LARGE
        | {"vocab_size": 50265, "type_size": 1, "position_size": 514, "post_layer_norm": True, "pad_token_id": 1},
        mask_filling_keys,
        fixed=(*FIXED, "attn_scale", "length_scale", "post_layer_norm"),
        read=lambda values, told: {"blind_padding": True, "count_padding": True},
        copies=unused_decoder,
        head_bias=None,
    ),
    "gpt2": Layout(
        ("text_generation",),
        gpt2_keys,
        GPT,
        WITH_BIASES | LARGE | {"vocab_size": 50258, "position_size": 1024},
        older={**BASE, "dropout_p": 0.1},
        fixed=(*FIXED, "attn_scale", "length_scale"),
        read=read_gpt2,
        write=lambda config: {"dim_ff": config.intermediate_size or 4 * config.hidden_size},
    ),
    "gptj": Layout(
        ("text_generation",),
        gptj_keys,
        {name: setting for name, setting in GPT.items() if name not in ("position_size", "tied")}
        | {"pos_rotary_dim": Setting("rotary_dim")},
        WITH_BIASES
        | {"vocab_size": 50400, "dim_model": 4096, "num_heads": 16, "dim_head": 256, "dim_ff": 16384, "num_layers": 28}
        | {"pos_bias_type": "rotary", "pos_rotary_dim": 64, "att_bias": False, "att_mask_value": "-inf", "tied": False}
        | {"emb_init_std": 1.0, "att_init_std": 0.1, "ffn_init_std": 0.1, "proj_init_std": 1.0},
        fixed=(*FIXED, "attn_scale", "length_scale", "tied"),
        read=lambda values, told: {"shared_norm": False},
        write=lambda config: {"dim_ff": config.intermediate_size or 4 * config.hidden_size},
        copies=second_norms,
        head_bias=True,
        lost=("max_position_embeddings", "shared_norm"),
    ),
    "glm": Layout(
        ("text_generation", "cloze"),
        glm_keys,
        {name: setting for name, setting in WITH_POSITIONS.items() if name not in ("position_size", "tied")}
        | {f"{name}_tok_id": Setting(f"{name}_token_id") for name in ("sop", "eop", "mask")}
        | {"dropout_p": Setting("hidden_dropout_prob", "attention_probs_dropout_prob", "embedding_dropout_prob")},
        WITH_BIASES
        | LARGE
        | {"vocab_size": 50048, "position_size": 1025, "dropout_p": 0.1, "att_mask_value": "-inf", "proj_bias": False}
        | {"sop_tok_id": 50006, "eop_tok_id": 50007, "mask_tok_id": 50008},
        lambda config, scale: {},
        fixed=(*FIXED, "attn_scale", "length_scale"),
        irrelevant=("tied",),  # the head is the embedding, whatever it says
        read=lambda values, told: {"max_position_embeddings": values["position_size"] - 1},
        write=lambda config: {
            "position_size": config.max_position_embeddings + 1,
            "dim_ff": config.intermediate_size or 4 * config.hidden_size,
        },
        head_bias=None,
        label_head="output_projection",
        lost=("attention_scale", "gmask_token_id", "max_memory_length", "pool_token", "smask_token_id", "spell_func"),
    ),
    "t5": Layout(
        ("text_generation",),
        t5_keys,
        T5,
        WITHOUT_BIASES
        | TWO_STACKS
        | {"vocab_size": 32128, "dim_ff": 3072, "ffn_activate_fn": "relu", "tied": True, "scale": None},
        older={"tied": False},
        newer=("scale",),
        fixed=(*FIXED, "length_scale"),
        read=read_t5,
        write=write_t5,
        lost=("logit_scale",),
    ),
    "cpm1": Layout(
        ("text_generation",),
        cpm1_keys,
        RELATIVE
        | {
            "dropout_p": Setting("hidden_dropout_prob", "attention_probs_dropout_prob"),
            "norm_eps": Setting("rms_norm_eps"),
            "ffn_activate_fn": Setting(
                "hidden_act",
                values={f"gated_{name}": name for name in (*ACTIVATIONS, "silu")},
            ),
        },
        WITHOUT_BIASES | {"vocab_size": 30968, "num_layers": 12},
        older={"dim_ff": 256},
        fixed=FIXED,
        write=lambda config: {"dim_head": config.head_dim or config.hidden_size // config.num_attention_heads},
    ),
    "cpm2": Layout(
        ("text_generation",),
        cpm2_keys,
        CPM2,
        WITHOUT_BIASES | TWO_STACKS | {"vocab_size": 26240},
        older={"dim_ff": 256},
        newer=("tied",),
        fixed=FIXED,
        read=lambda values, told: {"blind_padding": True, "logit_scale": 1.0},
        write=write_cpm2,
        lost=("logit_scale",),
    ),
}
