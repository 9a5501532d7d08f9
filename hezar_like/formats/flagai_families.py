"""BERT, GPT-2 and T5 as FlagAI has them: https://github.com/FlagAI-Open/FlagAI.

FlagAI's files carry transformers' names, and its code computes something of its own in places. What is like it here:

- BERT's inner size is four times its width, whatever `intermediate_size` says; its head has vectors of its own.
- GPT-2's epsilon is 1e-5, whatever `layer_norm_epsilon` says; its head is the embedding, whatever `lm_head` holds.
- T5's head is never the embedding, and nothing is scaled before it.
- BERT and GPT-2 take token 0 for padding where no attention mask is given.

What is not: queries, keys and values are told by their names and not by their order in the file; an attention mask for
GPT-2 hides padding and nothing but padding; token 0 of an English GPT-2, or of CPM-1, is a token like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..family import Family
from ..keymap import KeyMap, Stored, Table
from ..preprocessors.transformers_tokenizer import Find
from .flagai_family import FlagAIFamily, Header
from .settings_map import SettingsMap, number

__all__ = ["BERT", "GPT2", "T5"]

EMBEDDING = "backbone.embed.tokens.weight"
# Of FlagAI's own training, and of configs that transformers wrote.
KNOWN = ("checkpoint_activations", "checkpoint_num_layers", "fp16", "enable_flash_atten", "parallel_output")


# -- BERT -------------------------------------------------------------------------------------------------------------

POOLER: Table = {"bert.pooler.dense": "head.dense"}
LANGUAGE_MODEL: Table = {
    "cls.predictions.transform.dense": "head.dense",
    "cls.predictions.transform.LayerNorm": "head.norm",
    "cls.predictions.decoder": "head.out",
}
BERT_HEADS: dict[str, Table] = {
    "sequence_labeling_crf": {"final_dense": "head.out", "crf_layer.trans": "head.crf.transitions"},
    "sequence_labeling_global_pointer": {"gp.dense": "head.out"},
    "sequence_labeling": {"final_dense": "head.out"},
    "text_classification": {**POOLER, "out_layer": "head.out"},
    "mask_filling": LANGUAGE_MODEL,
    "text_generation": LANGUAGE_MODEL,
    "backbone": POOLER,
    "text_embedding": POOLER,
}
BERT_SPELLINGS = {
    r"^model\.(?=embeddings\.|encoder\.|pooler\.)": "bert.",  # as FlagAI's own training saves it
    r"^cls\.predictions\.bias$": "cls.predictions.decoder.bias",
}


def _bert_keymap(family: Family, config: Any, task: str, header: Header) -> KeyMap:
    block = "backbone.stack.blocks.{}.attn."
    table = {
        **family.backbone_table(config),
        "bert.encoder.layer.{}.attention.self.query_key_value": Stored(block + "q", block + "k", block + "v"),
        "cls.seq_relationship": None,
        **BERT_HEADS.get(task, {}),
    }
    tied = config.tie_word_embeddings and BERT_HEADS.get(task) is LANGUAGE_MODEL
    return KeyMap(
        table,
        prefix=family.prefix,
        spellings={**family.spellings, **BERT_SPELLINGS},
        copies={"cls.predictions.decoder.weight": EMBEDDING} if tied else None,
    )


def _infer_bert(values: Mapping[str, Any], header: Header, find: Find) -> dict[str, Any]:
    given = (values.get("layernorm_epsilon"), values.get("layer_norm_eps"), 1e-6)
    labels, inner = number(values, "class_num"), number(values, "inner_dim")
    rows = {name: info.shape[0] for name, info in header.items() if info.shape}
    if labels is None:
        labels = rows.get("out_layer.weight", rows.get("final_dense.weight"))
    if inner is None and labels and "gp.dense.weight" in rows:
        inner = rows["gp.dense.weight"] // (2 * labels)
    told = {"num_labels": labels, "inner_dim": inner}
    return {
        "layer_norm_eps": next(value for value in given if value is not None),
        "classifier_dropout": 0.0,
        # As transformers writes a head that is the embedding.
        "tie_word_embeddings": "cls.predictions.transform.dense.weight" in header
        and "cls.predictions.decoder.weight" not in header,
        "mask_padding_tokens": True,
        "chain_special_tokens": True,
        **{name: value for name, value in told.items() if value is not None},
    }


def _refuse_bert(config: Any, task: str) -> str | None:
    if task == "backbone" and not config.add_pooling_layer:
        return "its BERT has a pooler, and this model has none"
    if task == "text_embedding" and (config.pooling != "mean" or config.normalize):
        return "its embeddings are means of hidden states"
    if not config.get("classifier_bias", True):
        return "its heads have biases"
    if task == "sequence_labeling_crf" and not config.chain_special_tokens:
        return "its chains of labels begin and end with special tokens; this model was trained with chains of words"
    return None


def _write_bert(config: Any) -> dict[str, Any]:
    own = {"num_labels": "class_num", "inner_dim": "inner_dim"}
    labels = {setting: config[name] for name, setting in own.items() if name in config.fields()}
    return {"intermediate_size": config.intermediate_size, **labels}


BERT = FlagAIFamily(
    "bert",
    tell="num_hidden_layers",
    settings=SettingsMap(
        required={
            name: name
            for name in (
                "hidden_size", "hidden_act", "vocab_size", "initializer_range", "max_position_embeddings",
                "type_vocab_size", "hidden_dropout_prob", "num_hidden_layers", "num_attention_heads",
                "attention_probs_dropout_prob",
            )
        },
        optional={"layer_norm_eps": "layer_norm_eps"},
        constants={
            "intermediate_size": lambda fields: 4 * (number(fields, "hidden_size") or 0),
            "pad_token_id": 0,
            "keep_pooler": False,
            "prediction_head_transform": True,
            "blind_padding": False,
        },
        known=(*KNOWN, "layernorm_epsilon", "intermediate_size", "pad_token_id", "class_num", "inner_dim"),
    ),
    keymap=_bert_keymap,
    heads=BERT_HEADS,
    task="backbone",
    tasks=tuple(BERT_HEADS),
    infer=_infer_bert,
    refuse=_refuse_bert,
    write=_write_bert,
)  # fmt: skip


# -- GPT-2, and CPM-1 as its authors published it ---------------------------------------------------------------------


def _gpt2_keymap(family: Family, config: Any, task: str, header: Header) -> KeyMap:
    table = family.backbone_table(config)
    projection = next((info.shape for key, info in header.items() if key.endswith("attn.c_attn.weight")), (1, 3))
    if len(projection) == 2 and projection[0] > projection[1]:
        # FlagAI's own training saves matrices the other way round than it reads them.
        table = {name: Stored(*held.names) if isinstance(held, Stored) else held for name, held in table.items()}
    return KeyMap({**table, "lm_head": None}, prefix=family.prefix, copies={"lm_head.weight": EMBEDDING})


def _infer_gpt2(values: Mapping[str, Any], header: Header, find: Find) -> dict[str, Any]:
    width, other = values["n_embd"], values.get("hidden_size")
    if other not in (None, width):
        raise ConfigError(f"hidden_size is {other!r} and n_embd {width!r}; they must be equal.")
    # In these vocabularies token 0 is "!" or <unk>.
    padded = find("merges.txt") is None and find("spiece.model") is None
    return {
        "mask_padding_tokens": padded,
        "pad_token_id": 0 if padded else None,
        "bos_token_id": values.get("bos_token_id"),
        "eos_token_id": values.get("eos_token_id"),
    }


GPT2 = FlagAIFamily(
    "gpt2",
    tell="n_embd",
    settings=SettingsMap(
        required={
            "activation_function": "hidden_act",
            "n_head": "num_attention_heads",
            "n_embd": "hidden_size",
            "n_layer": "num_hidden_layers",
            "n_positions": "max_position_embeddings",
            "vocab_size": "vocab_size",
            "n_inner": "intermediate_size",
        },
        optional={
            "initializer_range": "initializer_range",
            "bos_token_id": "bos_token_id",
            "eos_token_id": "eos_token_id",
        },
        constants={"layer_norm_eps": 1e-5, "tie_word_embeddings": True, "unused_tokens": 0},
        fixed={"do_layer_norm_before": True},
        known=(
            *KNOWN, "layer_norm_epsilon", "hidden_size", "pad_token_id", "resid_pdrop", "embd_pdrop", "attn_pdrop",
            "use_scaled_init_for_output_weights",
        ),
    ),
    keymap=_gpt2_keymap,
    heads={"text_generation": {"lm_head": None}},
    task="text_generation",
    tasks=("text_generation", "backbone"),
    infer=_infer_gpt2,
)  # fmt: skip


# -- T5 ---------------------------------------------------------------------------------------------------------------


def _t5_keymap(family: Family, config: Any, task: str, header: Header) -> KeyMap:
    head: Table = {"lm_head": "head.out"} if task == "text_generation" else {}
    copies = {f"{side}.embed_tokens.weight": EMBEDDING for side in ("encoder", "decoder")}
    return KeyMap({**family.backbone_table(config), **head}, copies=copies)


def _refuse_t5(config: Any, task: str) -> str | None:
    if config.head_scale != 1.0:
        return "it scales nothing before the head"
    if config.feed_forward_proj not in ("relu", "gated-gelu"):
        return f"its MLPs are relu or gated-gelu, and not {config.feed_forward_proj}"
    return None


T5 = FlagAIFamily(
    "t5",
    tell="d_kv",
    settings=SettingsMap(
        required={
            "d_model": "hidden_size",
            "d_kv": "head_dim",
            "d_ff": "intermediate_size",
            "num_layers": "num_hidden_layers",
            "num_decoder_layers": "num_decoder_layers",
            "num_heads": "num_attention_heads",
            "vocab_size": "vocab_size",
            "dropout_rate": "dropout_rate",
            "layer_norm_epsilon": "layer_norm_eps",
            "relative_attention_num_buckets": "relative_attention_num_buckets",
            "initializer_factor": "initializer_factor",
            "decoder_start_token_id": "decoder_start_token_id",
            "pad_token_id": "pad_token_id",
            "feed_forward_proj": "feed_forward_proj",
        },
        optional={"eos_token_id": "eos_token_id"},
        constants={
            "relative_attention_max_distance": 128,
            "attention_scale": 1.0,
            "tie_word_embeddings": False,
            "blind_padding": False,
        },
        fixed={"relative_attention_max_distance": 128},
        known=(*KNOWN, "n_positions"),
    ),
    keymap=_t5_keymap,
    heads={"text_generation": {"lm_head": "head.out"}},
    task="text_generation",
    tasks=("text_generation",),
    infer=lambda values, header, find: {"eos_token_id": values.get("eos_token_id")},
    refuse=_refuse_t5,
    write=lambda config: {
        "num_decoder_layers": config.num_hidden_layers
        if config.num_decoder_layers is None
        else config.num_decoder_layers,
        "is_decoder": False,
        "is_encoder_decoder": True,
    },
)
