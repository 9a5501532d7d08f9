"""Settings of Llama, Mistral, Qwen and Gemma: spellings, defaults, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from llama_line_models import (
    DYNAMIC,
    GEMMA,
    LINEAR,
    LLAMA3,
    PLAIN,
    SIZES,
    VARIANTS,
    YARN,
    assert_same_outputs,
    built,
    loaded,
    original,
)

from hezar_like import Model, build_model
from hezar_like.errors import ConfigError
from hezar_like.registry import models_registry

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

# For each a config of version 4, that of version 5, and the fields they both mean.
SPELLINGS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "default": (
        "llama",
        {"rope_theta": 777, "rope_scaling": None},
        {"rope_parameters": {"rope_theta": 777.0, "rope_type": "default"}},
        {"rope_theta": 777.0, "rope_scaling": None},
    ),
    "linear": (
        "llama",
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "linear", "type": "linear", "factor": 2.0}},
        {"rope_theta": 10000.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    ),
    "llama3": (
        "llama",
        {"rope_theta": 500.0, "rope_scaling": {k: v for k, v in LLAMA3.items() if k != "rope_theta"}},
        {"rope_parameters": LLAMA3},
        {"rope_theta": 500.0, "rope_scaling": {k: v for k, v in LLAMA3.items() if k != "rope_theta"}},
    ),
    "yarn": (
        "qwen2",
        {"rope_theta": 500.0, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}},
        {"rope_parameters": YARN},
        {"rope_theta": 500.0, "rope_scaling": {k: v for k, v in YARN.items() if k != "rope_theta"}},
    ),
    "gemma2": (
        "gemma2",
        GEMMA | {"rope_theta": 500.0, "hidden_act": "relu", "cache_implementation": "hybrid"},
        GEMMA | {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}},
        {"rope_theta": 500.0, "rope_scaling": None, "hidden_activation": "gelu_pytorch_tanh"},
    ),
    "gemma3": (
        "gemma3_text",
        GEMMA | {"rope_theta": 5000.0, "rope_local_base_freq": 50.0, "sliding_window_pattern": 2}
        | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        GEMMA
        | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "_sliding_window_pattern": 2}
        | {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            }
        },
        {"rope_theta": 5000.0, "rope_local_base_freq": 50.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    ),
    "gemma3-nothing": (
        "gemma3_text",
        GEMMA,
        GEMMA | {"rope_parameters": {"full_attention": None}},
        {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SPELLINGS)
def test_both_spellings_of_rotary_settings(case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model_type, *spellings, meant = SPELLINGS[case]
    first = {key: value for key, value in spellings[0].items() if key != "cache_implementation"}
    theirs = built(model_type, SIZES | first)
    for version, spelling in enumerate(spellings):
        folder = tmp_path / str(version)
        theirs.save_pretrained(folder)
        values = SIZES | {"model_type": model_type, "architectures": [type(theirs).__name__]} | spelling
        values |= {"tie_word_embeddings": theirs.config.tie_word_embeddings}
        (folder / "config.json").write_text(json.dumps(values))
        model = Model.load(folder, device="cpu")
        assert {name: model.config[name] for name in meant} == meant
        assert_same_outputs(model, theirs)
        model.export("transformers", tmp_path / "exported")
        again = transformers.AutoConfig.from_pretrained(tmp_path / "exported")
        assert again.rope_parameters | {"type": 0} == theirs.config.rope_parameters | {"type": 0}
    assert "unknown here" not in caplog.text


@pytest.mark.parametrize("variant", ["mistral", "gemma3"])
def test_a_load_overrides_settings(variant: str, tmp_path: Path) -> None:
    fields = {"rope_theta": 77.0, "sliding_window": 9}
    model = loaded(original(variant), tmp_path, **fields)
    assert {name: model.config[name] for name in fields} == fields
    assert_same_outputs(model, original(variant, **fields))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "rope_type.*'longrope', which is unknown"),
    ("llama", {"rope_scaling": {"rope_type": "linear"}}, "has no 'factor', which rope_type 'linear' needs"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factr": 2.0}}, "unknown key 'factr'.*factor"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": "2"}}, r"rope_scaling\['factor'\] is '2' \(str\)"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 0.0}}, "factor is 0.0; it must be positive"),
    ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": -1.0}}, "factor is -1.0; it must be positive"),
    ("llama", {"rope_scaling": LLAMA3 | {"high_freq_factor": 1.0}}, "low_freq_factor is 1.0; it must be less than"),
    ("llama", {"rope_scaling": YARN | {"beta_fast": 0.0}}, "beta_fast is 0.0; it must be positive"),
    ("llama", {"rope_scaling": {"rope_type": 3}}, r"\['rope_type'\] is 3"),
    ("llama", {"rope_scaling": {"rope_type": "default", "factor": 2.0}}, "rope_type.*'default', which is unknown"),
    ("llama", {"rope_scaling": {"rope_type": None, "factor": 2.0}}, "rope_type.*'default', which is unknown"),
    ("gemma3", {"rope_scaling": {"sliding_attention": 3}}, r"\['sliding_attention'\] is 3 \(int\)"),
    ("gemma3", {"rope_scaling": {"full_attention": 3}}, r"rope_scaling is 3 \(int\)"),
    ("llama", {"rope_theta": 0.0}, "rope_theta is 0.0; it must be between"),
    ("llama", {"hidden_size": 30}, "hidden_size=30 is not divisible by num_attention_heads=4"),
    ("llama", {"head_dim": 7}, "heads of 7 channels cannot turn in pairs"),
    ("llama", {"num_key_value_heads": 3}, "num_attention_heads=4 is not divisible by num_key_value_heads=3"),
    ("llama", {"pad_token_id": 120}, "pad_token_id is 120, but there are only 120 tokens"),
    ("llama", {"hidden_act": "step"}, "hidden_act is 'step', which is unknown"),
    ("qwen2", {"layer_types": ["full_attention"]}, "layer_types has 1 items, but num_hidden_layers is 3"),
    ("qwen2", {"layer_types": ["sliding_attention"] * 3}, "there is no window. Set sliding_window"),
    ("qwen3", {"layer_types": ["chunked_attention"] * 3}, "must be one of 'full_attention', 'sliding_attention'"),
    ("gemma2", {"sliding_window": None}, "there is no window. Set sliding_window"),
    ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
    ("gemma3", {"attn_logit_softcapping": 50.0}, r"attn_logit_softcapping is 50.0 \(float\); it must be null"),
    (
        "gemma3",
        {"rope_scaling": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
        "stretches the positions of 'sliding_attention', which is not supported",
    ),
]


@pytest.mark.parametrize(("family", "fields", "message"), REFUSED, ids=[f"{r[0]}-{next(iter(r[1]))}" for r in REFUSED])
def test_refused_fields(family: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(family, **SIZES | fields)


@pytest.mark.parametrize(
    ("variant", "settings", "message"),
    [
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; only 1.0 is supported for 'llama'"),
        ("qwen2", {"use_mrope": True}, "use_mrope is True; only False is supported"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ("llama", {"rope_scaling": {"type": "mrope", "mrope_section": [2, 2]}}, "given twice"),
    ],
)
def test_refused_settings(variant: str, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    original(variant).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text()) | settings
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=message):
        Model.load(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("scaling", "longest"),
    [(None, 64), (LINEAR, 192), (DYNAMIC, 64), (LLAMA3, 64), (YARN, 64), (YARN | {"factor": 8.0}, 128)],
)
@torch.no_grad()
def test_the_longest_text(scaling: dict[str, Any] | None, longest: int) -> None:
    model = build_model("llama", **SIZES, rope_scaling=scaling).eval()
    assert model.backbone.max_tokens == longest
    assert model(token_ids=torch.ones(1, longest, dtype=torch.long)).last_hidden_state.isfinite().all()
    with pytest.raises(ValueError, match=f"this model has positions for {longest}"):
        model(token_ids=torch.ones(1, longest + 1, dtype=torch.long))


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        ("llama", 6_738_415_616),  # Llama 7B
        ("mistral", 7_241_732_096),  # Mistral 7B
        ("qwen2", 7_615_616_512),  # Qwen2 7B
        ("qwen3", 8_190_735_360),  # Qwen3 8B
        ("gemma2", 2_614_341_888),  # Gemma 2 2B
        ("gemma3", 999_885_952),  # Gemma 3 1B
    ],
)
def test_defaults_are_a_published_size(family: str, parameters: int) -> None:
    with torch.device("meta"):
        assert build_model(f"{family}_text_generation").num_parameters == parameters


@pytest.mark.parametrize("family", PLAIN)
def test_what_a_file_leaves_out_is_transformers_default(family: str) -> None:
    """Sizes apart, which a file must have for its weights to fit."""
    config = models_registry[family].config_class()
    theirs = transformers.AutoConfig.for_model(VARIANTS[family][0]).to_dict()
    rope = theirs["rope_parameters"]
    theirs["rope_theta"] = rope.get("full_attention", rope)["rope_theta"]
    sizes = {key for key in theirs if key.endswith("_size") or key.startswith("num_")} - {"num_labels"}
    others = {"head_dim", "layer_types", "sliding_window"} if "qwen" in family else {"head_dim", "layer_types"}
    compared = set(config.fields()) & set(theirs) - sizes - others
    assert {"rope_theta", "rms_norm_eps", "tie_word_embeddings", "eos_token_id", "pad_token_id"} <= compared
    assert {name: config[name] for name in compared} == {name: theirs[name] for name in compared}
