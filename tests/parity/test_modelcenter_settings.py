"""ModelCenter's config files: values they leave out, of two versions; every setting is read or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from modelcenter_models import FIXTURES, NAMES, load

from hezar_like.errors import ConfigError
from hezar_like.formats.modelcenter_layout import IRRELEVANT, Layout
from hezar_like.formats.modelcenter_tables import LAYOUTS
from hezar_like.registry import families_registry

WHERE = "config.json"
GPT2_BASE = {
    "vocab_size": 50258, "dim_model": 768, "num_heads": 12, "dim_head": 64, "dim_ff": 3072, "num_layers": 12,
    "dropout_p": 0.1, "pos_bias_type": "none", "norm_bias": True, "norm_eps": 1e-5, "att_bias": True,
    "att_mask_value": "-1e4", "ffn_bias": True, "ffn_activate_fn": "gelu", "proj_bias": False, "attn_scale": True,
    "half": True, "int8": False, "tied": True,
}  # fmt: skip
CPM1_LARGE = {
    "vocab_size": 30968, "dim_model": 2560, "num_heads": 32, "dim_head": 80, "dim_ff": 6400, "num_layers": 32,
    "position_bias_num_buckets": 64, "position_bias_max_distance": 256, "length_scale": True, "attn_scale": True,
    "tied": True,
}  # fmt: skip
# Of published files, what they say; and what they mean.
PUBLISHED: list[tuple[str, dict[str, Any], str | None, dict[str, Any]]] = [
    ("bert", {"dim_head": 64, "vocab_size": 21128}, None, {"hidden_size": 768, "tie_word_embeddings": False}),
    ("bert", {"dim_head": 64, "vocab_size": 21128}, "head", {"hidden_size": 768, "tie_word_embeddings": True}),
    ("bert", {"dim_head": 64}, "2022", {"vocab_size": 119547, "hidden_dropout_prob": 0.1, "layer_norm_eps": 1e-12}),
    ("gpt2", GPT2_BASE, None, {"hidden_size": 768, "unused_tokens": 1, "hidden_act": "gelu"}),
    ("gpt2", GPT2_BASE, "head", {"hidden_size": 768, "unused_tokens": 0}),
    ("gpt2", GPT2_BASE | {"vocab_size": 50257}, None, {"unused_tokens": 0}),
    ("gpt2", GPT2_BASE | {"vocab_size": 50257}, "2022", {"unused_tokens": 1}),
    ("gpt2", {"dim_head": 64}, None, {"hidden_size": 768, "num_hidden_layers": 12, "embd_pdrop": 0.1}),
    ("gpt2", {"ffn_activate_fn": "gelu_new"}, None, {"hidden_size": 1024, "num_hidden_layers": 24, "embd_pdrop": 0.0}),
    ("gptj", {}, None, {"hidden_size": 4096, "hidden_act": "gelu", "shared_norm": False, "rotary_dim": 64}),
    ("cpm1", CPM1_LARGE, None, {"intermediate_size": 6400, "attention_scale": None, "rms_norm_eps": 1e-6}),
    ("cpm1", {}, None, {"intermediate_size": 256, "attention_scale": 1.0, "tie_word_embeddings": False}),
    ("cpm1", {}, "head", {"intermediate_size": 1920}),
    ("cpm2", {}, None, {"intermediate_size": 256, "num_decoder_layers": 12, "feed_forward_proj": "gated-gelu_python"}),
    ("cpm2", {"tied": False}, None, {"intermediate_size": 1920}),
    ("t5", {}, "2022", {"tie_word_embeddings": False, "logit_scale": 1.0, "layer_norm_eps": 1e-2}),
    ("t5", {"scale": True}, None, {"tie_word_embeddings": True, "logit_scale": "inverse_root"}),
    ("t5", {"ffn_activate_fn": "gated_gelu_new"}, None, {"feed_forward_proj": "gated-gelu", "logit_scale": 0.01}),
    ("roberta", {"pad_token_id": 1}, None, {"hidden_size": 1024, "max_position_embeddings": 514}),
]


def read(name: str, given: dict[str, Any], told: Any = None) -> dict[str, Any]:
    layout = LAYOUTS[name]
    return layout.read_fields(layout.complete(given, told, WHERE), told, WHERE)


@pytest.mark.parametrize(("name", "given", "told", "expected"), PUBLISHED)
def test_what_files_leave_out(name: str, given: dict[str, Any], told: str | None, expected: dict[str, Any]) -> None:
    config = families_registry[name].config_class.from_dict(read(name, given, told))
    assert {key: config[key] for key in expected} == expected


def other_values(name: str, key: str, value: Any) -> list[Any]:
    """Values that a setting could also have."""
    if key == "att_mask_value":
        return ["-1e3"]
    if key == "ffn_activate_fn":
        return [theirs for theirs in ("gelu_new", "gated_relu") if theirs != value]
    if isinstance(value, bool) or value is None:
        return [not value]
    if isinstance(value, str):
        return ["other"]
    return [value * 2 + 2]


OF_WEIGHTS = ("cls_head", "length_scale", "proj_bias")
"""What says how the weights, and of which head, are to be read."""
SETTINGS = [(name, key) for name, layout in LAYOUTS.items() for key in layout.defaults if key not in OF_WEIGHTS]


@pytest.mark.parametrize(("name", "key"), SETTINGS)
def test_every_setting_tells_or_is_refused_or_means_nothing(name: str, key: str) -> None:
    layout: Layout = LAYOUTS[name]
    plain = read(name, {}, "head")
    results = []
    for value in other_values(name, key, layout.defaults[key]):
        try:
            results.append(read(name, {key: value}, "head") != plain)
        except ConfigError as error:
            assert WHERE in str(error)
            results.append(True)
    means_nothing = key in (*layout.irrelevant, *IRRELEVANT) and key not in layout.fixed
    assert results and set(results) == {not means_nothing}


@pytest.mark.parametrize("name", NAMES)
def test_a_complete_file_says_the_same_in_both_versions(name: str) -> None:
    """Whatever the version, where a file says all: but for what no file says."""
    given = json.loads((FIXTURES / name / "config.json").read_text())
    family = load(name).config.family
    older, today = read(family, given, "2022"), read(family, given, "head")
    unsaid = {"unused_tokens", "prediction_head_transform"}
    assert {key for key in today if older[key] != today[key]} <= unsaid


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("bert", {"dim_modell": 4}, r"ModelCenter has no 'dim_modell' for this model.*dim_model"),
    ("bert", {"scale": True}, r"ModelCenter has no 'scale'"),
    ("bert", {"vocab_size": "x"}, r"config.json: vocab_size is 'x' \(str\); it must be an integer"),
    ("bert", {"vocab_size": True}, r"vocab_size is True \(bool\); it must be an integer"),
    ("bert", {"tied": 1}, r"tied is 1 \(int\); it must be true or false"),
    ("bert", {"cls_head": "x"}, r"cls_head is 'x' \(str\)"),
    ("bert", {"post_layer_norm": False}, r"post_layer_norm is False; only True is supported here"),
    ("bert", {"ffn_activate_fn": "relu"}, r"ffn_activate_fn is 'relu'; only 'gelu' is supported here"),
    ("bert", {"dim_head": 63}, r"num_heads \* dim_head is 12 \* 63; here it must be dim_model, which is 768"),
    ("bert", {"num_heads": 0}, r"num_heads \* dim_head is 0 \* 64; here it must be dim_model"),
    ("bert", {"att_mask_value": "x"}, r"att_mask_value is 'x'; only -10000 and less is supported"),
    ("bert", {"att_mask_value": -100.0}, r"att_mask_value is -100.0; only -10000 and less"),
    ("gpt2", {"ffn_activate_fn": "gated_gelu"}, r"ffn_activate_fn is 'gated_gelu', which is not supported.*'gelu_new'"),
    ("gpt2", {"tied": False}, r"proj_bias is True; only False is supported here"),
    ("gpt2", {"length_scale": True}, r"length_scale is True; only False is supported here"),
    ("gptj", {"proj_bias": False}, r"proj_bias is False; only True is supported here"),
    ("gptj", {"tied": True}, r"tied is True; only False is supported here"),
    ("t5", {"length_scale": True}, r"length_scale is True; only False is supported here"),
    ("t5", {"pos_bias_type": "none"}, r"pos_bias_type is 'none'; only 'relative' is supported here"),
    ("cpm1", {"ffn_activate_fn": "gelu"}, r"ffn_activate_fn is 'gelu', which is not supported; it must be one of"),
    ("cpm1", {"attn_scale": "yes"}, r"attn_scale is 'yes' \(str\); it must be true or false"),
]


@pytest.mark.parametrize(("name", "given", "message"), BROKEN)
def test_errors(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(name, given, "head")


@pytest.mark.parametrize("value", ["-inf", "-1e4", "-Infinity", -10000, -65504.0, float("-inf")])
def test_low_mask_values(value: Any) -> None:
    assert read("bert", {"att_mask_value": value}) == read("bert", {})
