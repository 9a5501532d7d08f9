"""What ModelCenter calls the weights of its models: https://github.com/OpenBMB/ModelCenter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..keymap import Stored, Table

__all__ = [
    "BLOCK",
    "NORMS",
    "SUMS",
    "Scale",
    "cpm1_keys",
    "cpm2_keys",
    "encoder_keys",
    "glm_keys",
    "gpt2_keys",
    "gptj_keys",
    "mask_filling_keys",
    "t5_keys",
]

Scale = float | Literal["fan_in"]
ATTENTION = {"project_q": "q", "project_k": "k", "project_v": "v", "attention_out": "out"}
PLAIN, GATED = {"w": "up"}, {"w_0": "gate", "w_1": "up"}
TOKENS = {"input_embedding": "backbone.embed.tokens"}
POSITIONS = {"position_embedding": "backbone.embed.positions"}
BLOCK = "backbone.stack.blocks.{}."
NORMS = ("encoder.layers.{}.self_att.layernorm_before_attention", "encoder.layers.{}.ffn.layernorm_before_ffn")


def stack(
    side: str, native: str, *, gated: bool = False, cross: bool = False, scale: Mapping[str, float] | Scale = 1.0
) -> Table:
    """The names of a stack's weights.

    Args:
        side: What it is called there.
        native: What it is called here.
        gated: Whether its MLPs have a gate.
        cross: Whether it attends to another's output.
        scale: What matrices are multiplied with when they are read: all, or some, by the end of their names there.
    """
    matrices = {f"self_att.self_attention.{theirs}": f"attn.{ours}" for theirs, ours in ATTENTION.items()}
    if cross:
        matrices |= {f"cross_att.self_attention.{theirs}": f"cross.{ours}" for theirs, ours in ATTENTION.items()}
    matrices |= {f"ffn.ffn.w_in.{end}": f"mlp.{ours}" for end, ours in (GATED if gated else PLAIN).items()}
    matrices |= {"ffn.ffn.w_out": "mlp.down"}
    table: dict[str, str | Stored | None] = {}
    for theirs, ours in matrices.items():
        factor = scale.get(theirs.rpartition(".")[2], 1.0) if isinstance(scale, Mapping) else scale
        table[f"{side}.layers.{{}}.{theirs}"] = Stored(f"{native}.blocks.{{}}.{ours}", scale=factor)
    norms = {"self_att.layernorm_before_attention": "attn_norm", "ffn.layernorm_before_ffn": "mlp_norm"}
    norms |= {"cross_att.layernorm_before_attention": "cross_norm"} if cross else {}
    table |= {f"{side}.layers.{{}}.{theirs}": f"{native}.blocks.{{}}.{ours}" for theirs, ours in norms.items()}
    return table | {f"{side}.output_layernorm": f"{native}.norm"}


def encoder_keys(config: Any, scale: Scale) -> Table:
    """BERT: norms there come before layers, and what goes around a layer is normed too.

    So the first norm of a block is the last one of the block before, and the last of all stands alone.
    """
    last = config.num_hidden_layers - 1
    return {
        **stack("encoder", "backbone.stack"),
        **TOKENS,
        **POSITIONS,
        "token_type_embedding": "backbone.embed.types",
        NORMS[0].format(0): "backbone.embed.norm",
        NORMS[0]: "backbone.stack.blocks.{-1}.mlp_norm",
        NORMS[1]: f"{BLOCK}attn_norm",
        "encoder.output_layernorm": f"backbone.stack.blocks.{last}.mlp_norm" if last >= 0 else "backbone.embed.norm",
    }


def mask_filling_keys(config: Any, scale: Scale) -> Table:
    """BERT's head; its file has the weights of one that is not the embedding even where it is not used."""
    if not config.prediction_head_transform:
        return {f"lm_head.{name}": None for name in ("dense", "layer_norm", "decoder")}
    unused = {"lm_head.decoder.weight": None} if config.tie_word_embeddings else {}
    return {"lm_head.dense": "head.dense", "lm_head.layer_norm": "head.norm", "lm_head.decoder": "head.out", **unused}


def gptj_keys(config: Any, scale: Scale) -> Table:
    """GPT-J, whose positions are rotary."""
    return {**stack("encoder", "backbone.stack"), **TOKENS}


def gpt2_keys(config: Any, scale: Scale) -> Table:
    """GPT-2, whose positions are learned."""
    return {**gptj_keys(config, scale), **POSITIONS}


def glm_keys(config: Any, scale: Scale) -> Table:
    """GLM, which also has learned positions within pieces."""
    return {**gpt2_keys(config, scale), "block_position_embedding": "backbone.embed.types"}


def relative_bias(side: str, native: str) -> Table:
    return {f"position_bias{side}.relative_attention_bias": f"{native}.bias.table.weight"}


def cpm1_keys(config: Any, scale: Scale) -> Table:
    """One stack with relative positions; the embedding is scaled like all others."""
    own = stack("encoder", "backbone.stack", gated=True, scale=scale)
    embedding = {"input_embedding": Stored("backbone.embed.tokens", scale=scale)}
    return {**own, **embedding, **relative_bias("", "backbone.stack")}


def cpm2_keys(config: Any, scale: Mapping[str, float] | Scale) -> Table:
    """Two stacks; the embedding is stored as it is, whatever else is scaled."""
    return {
        **TOKENS,
        **stack("encoder", "backbone.encoder", gated=config.gated, scale=scale),
        **stack("decoder", "backbone.decoder", gated=config.gated, scale=scale, cross=True),
        **relative_bias("_enc", "backbone.encoder"),
        **relative_bias("_dec", "backbone.decoder"),
    }


# ModelCenter holds a T5 with all that is added up divided by 100, so that the sums fit into half precision: the
# embedding, what attention adds, and what MLPs add, of which both factors are divided by 10. Here it is multiplied
# back, as transformers has it. Norms divide the factor out again, but for the epsilon, which is added to a mean square
# that is 100**2 times as large: `norm_eps` becomes 10,000 times as large too, and what is computed stays exactly the
# same. ModelCenter converts without changing the epsilon, so that its T5 differs from transformers' by the share that
# an epsilon of 0.01 has in a mean square of the sums: little where they are large, as in published models, whose sums
# are the reason for the division. A model from transformers is written with an epsilon that makes both equal.
SUMS = 100.0
RESCALED = {"attention_out": SUMS, "w": SUMS**0.5, "w_1": SUMS**0.5, "w_out": SUMS**0.5}


def t5_keys(config: Any, scale: Scale) -> Table:
    """Two stacks, divided as said above."""
    return {**cpm2_keys(config, RESCALED), "input_embedding": Stored("backbone.embed.tokens", scale=SUMS)}
