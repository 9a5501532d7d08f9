"""CPM-1, CPM-2 and GLM as they were published: what their weights are called, and how they are split."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import CheckpointError
from ..family import Family
from ..keymap import KeyMap, Stored, Table
from ..preprocessors.flagai_modelcenter import flagai_tokenizer, modelcenter_tokenizer
from ..preprocessors.tokenizer import Tokenizer
from ..preprocessors.transformers_tokenizer import Find
from . import flagai_glm
from .rank_files import COLUMNS, Split, rows
from .settings_map import SettingsMap
from .weight_files import TensorInfo, WeightFile

__all__ = ["FAMILIES", "MegatronFamily"]

Header = Mapping[str, TensorInfo]


@dataclass(frozen=True)
class MegatronFamily:
    """How the published files hold the models of a family.

    Attributes:
        name: Registry name of the family.
        tell: A tensor that all of them have, and no others.
        heads: What their config.json calls the number of attention heads.
        example: That number for a published model, for messages.
        settings: The table of the settings in config.json.
        keymap: Gives the table of the weights' names, from the family, a config and a task.
        splits: How tensors are split over ranks; see `MergedRanks`.
        ranks: The number of files, as the first one and the number of heads tell.
        infer: Fields told by the weights of all ranks and the number of heads.
        tokenizer: Reads the tokenizer, given what finds files, and what is in the first one of weights.
    """

    name: str
    tell: str
    heads: str
    example: str
    settings: SettingsMap
    keymap: Callable[[Family, Any, str], KeyMap]
    splits: Mapping[str, Split]
    ranks: Callable[[WeightFile, int], int]
    infer: Callable[[Header, int], Mapping[str, Any]]
    tokenizer: Callable[[Find, Header], Tokenizer | None]


def _count(header: Header, pattern: str) -> int:
    """How many layers there are of a kind; `pattern` has a group for the layer's number."""
    found = (re.match(pattern, name) for name in header)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _matrix(file: WeightFile, name: str) -> tuple[int, int]:
    """The shape of a matrix that must be there."""
    info = file.header.get(name)
    if info is None or len(info.shape) != 2:
        raise CheckpointError(f"{str(file.path)!r} has no matrix {name!r}. Download it again.")
    return info.shape[0], info.shape[1]


def _quotient(file: WeightFile, name: str, whole: int, part: int) -> int:
    """Over how many ranks a tensor is split."""
    if not part or whole % part:
        raise CheckpointError(
            f"{str(file.path)!r} holds {part} of {whole} rows or heads in {name!r}, which is no equal part. Check the "
            "file, and the number of attention heads."
        )
    return whole // part


# -- one stack: CPM-1, GLM --------------------------------------------------------------------------------------------

LAYER = "transformer.layers.{}."
PROJECTION = "transformer.layers.0.attention.query_key_value.weight"
STACK_SPLITS = {
    "word_embeddings": rows(),
    LAYER + "attention.query_key_value": rows(3),
    LAYER + "attention.dense": COLUMNS,
    LAYER + "mlp.dense_h_to_4h": rows(),
    LAYER + "mlp.dense_4h_to_h": COLUMNS,
}


def _ranks_of_stack(file: WeightFile, heads: int) -> int:
    height, width = _matrix(file, PROJECTION)
    _matrix(file, "word_embeddings.weight")
    return _quotient(file, PROJECTION, 3 * width, height)


def _infer_stack(header: Header, heads: int) -> dict[str, Any]:
    words = header["word_embeddings.weight"].shape
    return {
        "vocab_size": words[0],
        "hidden_size": words[1],
        "num_hidden_layers": _count(header, r"transformer\.layers\.(\d+)\."),
    }


BLOCK = "backbone.stack.blocks.{}."
CPM1_KEYS: Table = {
    "word_embeddings": "backbone.embed.tokens",
    "position_embeddings": "backbone.embed.positions",
    LAYER + "input_layernorm": BLOCK + "attn_norm",
    LAYER + "attention.query_key_value": Stored(BLOCK + "attn.q", BLOCK + "attn.k", BLOCK + "attn.v"),
    LAYER + "attention.dense": BLOCK + "attn.out",
    LAYER + "post_attention_layernorm": BLOCK + "mlp_norm",
    LAYER + "mlp.dense_h_to_4h": BLOCK + "mlp.up",
    LAYER + "mlp.dense_4h_to_h": BLOCK + "mlp.down",
    "transformer.final_layernorm": "backbone.stack.norm",
}
CPM1 = MegatronFamily(
    "gpt2",
    tell="position_embeddings.weight",
    heads="num_attention_heads",
    example="CPM-1 of 2.6B parameters has 32",
    settings=SettingsMap(
        optional={
            "num_layers": "num_hidden_layers",
            "vocab_size": "vocab_size",
            "hidden_size": "hidden_size",
            "num_attention_heads": "num_attention_heads",
            "max_position_embeddings": "max_position_embeddings",
            "layernorm_epsilon": "layer_norm_eps",
        },
        # The tokens of the published vocabulary: <s>, <eod>, <pad>.
        constants={"hidden_act": "gelu_new", "bos_token_id": 1, "eos_token_id": 7, "pad_token_id": 5},
    ),
    keymap=lambda family, config, task: KeyMap(CPM1_KEYS),
    splits=STACK_SPLITS,
    ranks=_ranks_of_stack,
    infer=lambda header, heads: {
        **_infer_stack(header, heads),
        "max_position_embeddings": header["position_embeddings.weight"].shape[0],
    },
    tokenizer=lambda find, header: flagai_tokenizer(find, "cpm1"),
)


def _infer_glm(header: Header, heads: int) -> dict[str, Any]:
    told = _infer_stack(header, heads)
    return {
        **told,
        "max_position_embeddings": header["transformer.position_embeddings.weight"].shape[0] - 1,
        "block_position_encoding": "transformer.block_position_embeddings.weight" in header,
        **flagai_glm.GLM.infer(told, header, lambda name: None),
    }


GLM = MegatronFamily(
    "glm",
    tell="transformer.position_embeddings.weight",
    heads="num_attention_heads",
    example="GLM-large has 16, GLM-10b 64",
    settings=replace(
        flagai_glm.GLM.settings,
        required={},
        optional={**flagai_glm.GLM.settings.required, **flagai_glm.GLM.settings.optional},
        fixed={"relative_encoding": False},
    ),
    keymap=lambda family, config, task: family.keymap(config, task),
    splits=STACK_SPLITS,
    ranks=_ranks_of_stack,
    infer=_infer_glm,
    tokenizer=lambda find, header: flagai_tokenizer(find, "glm", hidden_size=header["word_embeddings.weight"].shape[1]),
)


# -- encoder and decoder: CPM-2 ---------------------------------------------------------------------------------------

BIAS = "encoder.blocks.0.self_attn.self_attn.relative_attention_bias.weight"
FUSED = "encoder.blocks.0.self_attn.self_attn.project.weight"
WIDE = "encoder.blocks.0.ff.dense_relu_dense.wi_0.weight"


def _cpm2_keys() -> dict[str, str | Stored | None]:
    table: dict[str, str | Stored | None] = {"word_embeds": "backbone.embed.tokens", "lm_head": "head.out"}
    for side in ("encoder", "decoder"):
        layer, block = f"{side}.blocks.{{}}.", f"backbone.{side}.blocks.{{}}."
        table |= {
            f"{side}.word_embeds": "backbone.embed.tokens",
            f"{side}.blocks.0.self_attn.self_attn.relative_attention_bias": f"backbone.{side}.bias.table",
            f"{side}.final_layernorm": f"backbone.{side}.norm",
            f"{layer}self_attn.layer_norm": f"{block}attn_norm",
            f"{layer}self_attn.self_attn.project": Stored(f"{block}attn.q", f"{block}attn.k", f"{block}attn.v"),
            f"{layer}self_attn.self_attn.dense": f"{block}attn.out",
            f"{layer}ff.layer_norm": f"{block}mlp_norm",
            f"{layer}ff.dense_relu_dense.wi_0": f"{block}mlp.gate",
            f"{layer}ff.dense_relu_dense.wi_1": f"{block}mlp.up",
            f"{layer}ff.dense_relu_dense.wo": f"{block}mlp.down",
        }
    layer, block = "decoder.blocks.{}.cross_attn.", "backbone.decoder.blocks.{}."
    return table | {
        f"{layer}layer_norm": f"{block}cross_norm",
        f"{layer}cross_attn.project_q": f"{block}cross.q",
        f"{layer}cross_attn.project_kv": Stored(f"{block}cross.k", f"{block}cross.v"),
        f"{layer}cross_attn.dense": f"{block}cross.out",
    }


CPM2_SPLITS = {
    "word_embeds": rows(),
    "lm_head": rows(),
    "encoder.word_embeds": rows(),
    "decoder.word_embeds": rows(),
    "decoder.blocks.{}.cross_attn.cross_attn.project_q": rows(),
    "decoder.blocks.{}.cross_attn.cross_attn.project_kv": rows(2),
    "decoder.blocks.{}.cross_attn.cross_attn.dense": COLUMNS,
} | {
    f"{side}.blocks.{{}}.{name}": split
    for side in ("encoder", "decoder")
    for name, split in (
        ("self_attn.self_attn.project", rows(3)),
        ("self_attn.self_attn.dense", COLUMNS),
        ("self_attn.self_attn.relative_attention_bias", COLUMNS),
        ("ff.dense_relu_dense.wi_0", rows()),
        ("ff.dense_relu_dense.wi_1", rows()),
        ("ff.dense_relu_dense.wo", COLUMNS),
    )
}


def _infer_cpm2(header: Header, heads: int) -> dict[str, Any]:
    height, width = header[FUSED].shape
    return {
        "vocab_size": header["word_embeds.weight"].shape[0],
        "hidden_size": width,
        "head_dim": height // (3 * heads),
        "intermediate_size": header[WIDE].shape[0],
        "num_hidden_layers": _count(header, r"encoder\.blocks\.(\d+)\."),
        "num_decoder_layers": _count(header, r"decoder\.blocks\.(\d+)\."),
        "relative_attention_num_buckets": header[BIAS].shape[0],
    }


def _ranks_of_cpm2(file: WeightFile, heads: int) -> int:
    _matrix(file, FUSED), _matrix(file, WIDE), _matrix(file, "word_embeds.weight")
    return _quotient(file, BIAS, heads, _matrix(file, BIAS)[1])


CPM2 = MegatronFamily(
    "t5",
    tell=FUSED,
    heads="num_heads",
    example="CPM-2 of 11B parameters has 64",
    settings=SettingsMap(
        optional={
            "d_model": "hidden_size",
            "d_ff": "intermediate_size",
            "d_kv": "head_dim",
            "num_heads": "num_attention_heads",
            "num_layers": "num_hidden_layers",
            "num_decoder_layers": "num_decoder_layers",
            "dropout_rate": "dropout_rate",
            "initializer_factor": "initializer_factor",
            "layer_norm_epsilon": "layer_norm_eps",
            "relative_attention_num_buckets": "relative_attention_num_buckets",
            "vocab_size": "vocab_size",
        },
        # Its code has only this MLP, whatever `feed_forward_proj` says; tokens are those of the published vocabulary:
        # texts are written after <s>, and end with <eod>.
        constants={
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
            "relative_attention_max_distance": 128,
            "pad_token_id": 5,
            "eos_token_id": 7,
            "decoder_start_token_id": 1,
        },
        fixed={"do_dim_trick": False},
        known=(
            "feed_forward_proj", "init_method_std", "max_position_embeddings", "use_cache",
            "use_scaled_init_for_output_weights",
        ),
    ),
    keymap=lambda family, config, task: KeyMap(_cpm2_keys()),
    splits=CPM2_SPLITS,
    ranks=_ranks_of_cpm2,
    infer=_infer_cpm2,
    tokenizer=lambda find, header: modelcenter_tokenizer(find, "cpm2"),
)  # fmt: skip

FAMILIES = (CPM1, GLM, CPM2)
