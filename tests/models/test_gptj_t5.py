"""What GPT-2's, GPT-J's and T5's configs take and refuse, and how T5 starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_model

from hezar_like import Model, build_model
from hezar_like.errors import ConfigError
from hezar_like.models import GPT2Config, GPTJConfig, T5Config


@pytest.mark.parametrize(
    ("config_class", "fields", "message"),
    [
        (GPTJConfig, {"rotary_dim": 7}, "rotary_dim is 7; it must be even and at most 256"),
        (GPTJConfig, {"rotary_dim": 258}, "rotary_dim is 258; it must be even and at most 256"),
        (GPTJConfig, {"n_head": 3}, "not divisible by num_attention_heads=3"),
        (GPT2Config, {"unused_tokens": 50257}, "unused_tokens is 50257; it must be between 0 and 50256"),
        (GPT2Config, {"eos_token_id": [1, -1]}, "eos_token_id is "),
        (T5Config, {"feed_forward_proj": "gated-gelu_fast"}, "feed_forward_proj is 'gelu_fast', which is unknown"),
        (T5Config, {"feed_forward_proj": "gated"}, "feed_forward_proj is 'gated'"),
        (T5Config, {"relative_attention_max_distance": 16}, "must be more than half of"),
        (T5Config, {"relative_attention_num_buckets": 3}, "relative_attention_num_buckets is 3"),
        (T5Config, {"pad_token_id": 32128}, "pad_token_id is 32128; it must be between 0 and 32127"),
        (T5Config, {"decoder_start_token_id": 32128}, "decoder_start_token_id is 32128"),
        (T5Config, {"logit_scale": "root"}, "logit_scale is 'root'"),
        (T5Config, {"attention_scale": -1.0}, "attention_scale is -1.0"),
        (T5Config, {"d_model": 0}, "hidden_size is 0"),
        (T5Config, {"d_model": 8, "hidden_size": 8}, "'hidden_size' is given twice"),
    ],
)
def test_wrong_values(config_class: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_class(**fields)


def test_names_of_transformers() -> None:
    config = T5Config(d_model=8, d_kv=3, d_ff=5, num_layers=2, num_heads=4, layer_norm_epsilon=1e-3)
    assert (config.hidden_size, config.head_dim, config.intermediate_size) == (8, 3, 5)
    assert (config.num_hidden_layers, config.num_attention_heads, config.layer_norm_eps) == (2, 4, 1e-3)
    config = GPTJConfig(n_embd=8, n_layer=2, n_head=2, n_positions=9, n_inner=5, rotary_dim=4)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (8, 2, 2)
    assert (config.max_position_embeddings, config.intermediate_size) == (9, 5)


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("gpt2_text_generation", "scale_attn_weights", False, "only True is supported for 'gpt2'"),
        ("gpt2_text_generation", "scale_attn_by_inverse_layer_idx", True, "only False is supported for 'gpt2'"),
        ("gptj_text_generation", "rotary", False, "only True is supported for 'gptj'"),
        ("t5_text_generation", "scale_decoder_outputs", "no", "scale_decoder_outputs is 'no'"),
        ("t5_text_generation", "tie_word_embeddings", "no", "tie_word_embeddings is 'no'"),
        ("t5_text_generation", "d_model", "8", "hidden_size is '8'"),
    ],
)
def test_files_that_ask_for_something_else(name: str, key: str, value: Any, message: str, tmp_path: Path) -> None:
    tiny_model(name).export("transformers", tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ConfigError, match=message):
        Model.load(tmp_path)


def test_scale_of_t5s_head() -> None:
    root = 512**-0.5
    for fields, scale in (
        ({}, root), ({"tie_word_embeddings": False}, 1.0), ({"logit_scale": 1.0}, 1.0),
        ({"logit_scale": "inverse_root", "tie_word_embeddings": False}, root), ({"logit_scale": 0.25}, 0.25),
    ):  # fmt: skip
        assert T5Config(**fields).head_scale == scale


@pytest.mark.parametrize("scaled", [False, True])
def test_random_weights_of_t5(scaled: bool) -> None:
    """Scores of attention, and of tokens, are of moderate size from the start."""
    torch.manual_seed(0)
    sizes = {"d_model": 256, "d_kv": 16, "d_ff": 512, "num_heads": 8, "num_layers": 2, "vocab_size": 1000}
    model = build_model("t5_text_generation", **sizes, attention_scale=None if scaled else 1.0).eval()
    block = model.backbone.decoder.blocks[1]
    for attention in (block.attn, block.cross):
        assert attention.q.weight.std().item() == pytest.approx((256 if scaled else 256 * 16) ** -0.5, rel=0.05)
        assert attention.out.weight.std().item() == pytest.approx(128**-0.5, rel=0.05)
        assert attention.k.weight.std().item() == pytest.approx(256**-0.5, rel=0.05)
    assert block.mlp.down.weight.std().item() == pytest.approx(512**-0.5, rel=0.05)
    assert model.backbone.embed.tokens.weight.std().item() == pytest.approx(1.0, rel=0.05)
    with torch.no_grad():
        logits = model(torch.arange(40)[None], decoder_input_ids=torch.arange(40)[None]).logits
    assert 0.2 < logits.std() < 5
    untied = build_model("t5_text_generation", **sizes, tie_word_embeddings=False)
    assert untied.head.out.weight.std().item() == pytest.approx(256**-0.5, rel=0.05)


def test_norms_of_gptj() -> None:
    """One for both layers of a block, or, as in ModelCenter's files, one for each."""
    model, other = (tiny_model("gptj_text_generation", shared_norm=shared) for shared in (True, False))
    assert set(other.state_dict()) - set(model.state_dict()) == {
        f"backbone.stack.blocks.{i}.mlp_norm.{name}" for i in range(2) for name in ("weight", "bias")
    }
    weights = model.state_dict()
    other.load_state_dict({name: weights[name.replace("mlp_norm", "attn_norm")] for name in other.state_dict()})
    tokens = torch.arange(10)[None]
    with torch.no_grad():
        assert torch.allclose(model(tokens).logits, other(tokens).logits, atol=1e-6)
        other.backbone.stack.blocks[0].mlp_norm.bias += 1
        assert not torch.allclose(model(tokens).logits, other(tokens).logits, atol=1e-3)
