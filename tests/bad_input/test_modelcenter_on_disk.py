"""ModelCenter's files that are broken, or another model's: one error that names all that is wrong."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from modelcenter_models import FIXTURES

from hezar_like import Model
from hezar_like.errors import CheckpointError, ConfigError, HezarLikeError, OptionError

Refuse = Callable[..., None]
LAYER = "encoder.layers.1."


@pytest.fixture
def place(tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(FIXTURES / name, tmp_path / name))


def refused(folder: Path, kind: type[HezarLikeError], *parts: str, **options: Any) -> None:
    """Loading raises one clear line, with these parts in it, and changes nothing."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(kind) as caught:
        Model.load(folder, **{"format_version": "head", **options})
    text = str(caught.value)
    for part in parts:
        assert part in text, text
    assert text.isprintable() and len(text) < 4000, text
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def change_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    weights = torch.load(folder / "pytorch_model.pt", weights_only=True)
    change(weights)
    torch.save(weights, folder / "pytorch_model.pt")


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:1000], lambda data: data[:-200]])
def test_cut_weights(damage: Any, place: Any) -> None:
    folder = place("bert_mc")
    path = folder / "pytorch_model.pt"
    path.write_bytes(damage(path.read_bytes()))
    refused(folder, CheckpointError, repr(str(path)))


def test_pickled_code_is_not_run(place: Any, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "run",))

    folder = place("bert_mc")
    (folder / "pytorch_model.pt").write_bytes(pickle.dumps({"input_embedding.weight": Trap()}))
    refused(folder, CheckpointError, "pytorch_model.pt")
    assert not (tmp_path / "run").exists()


MISSING = [
    ("bert_mc", "input_embedding.weight"), ("bert_mc", f"{LAYER}self_att.layernorm_before_attention.bias"),
    ("bert_mc", "encoder.output_layernorm.weight"), ("bert_mc", "token_type_embedding.weight"),
    ("gpt2_mc", "position_embedding.weight"), ("gptj_mc", f"{LAYER}ffn.layernorm_before_ffn.weight"),
    ("cpm1", "position_bias.relative_attention_bias"), ("cpm1", f"{LAYER}ffn.ffn.w_in.w_1.weight"),
    ("cpm2", "position_bias_enc.relative_attention_bias"), ("glm_mc", "block_position_embedding.weight"),
    ("t5_mc", f"decoder.{LAYER[8:]}cross_att.self_attention.project_k.weight"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "key"), MISSING)
def test_missing_weights(name: str, key: str, place: Any) -> None:
    """Also the one by which a family is known: then its settings tell."""
    folder = place(name)
    change_weights(folder, lambda weights: weights.__delitem__(key))
    refused(folder, CheckpointError, "missing: 'backbone.")


@pytest.mark.parametrize("name", ["bert_mc", "gpt2_mc", "gptj_mc", "t5_mc", "cpm1", "cpm2", "glm_mc", "roberta_mc"])
def test_all_faults_at_once(name: str, place: Any) -> None:
    folder = place(name)

    def damage(weights: dict[str, Any]) -> None:
        del weights[f"{LAYER}self_att.self_attention.project_q.weight"]
        weights["encoder.layers.9.ffn.ffn.w_out.weight"] = torch.zeros(2, 2)
        weights["something.else"] = torch.zeros(2)
        weights[f"{LAYER}ffn.ffn.w_out.weight"] = torch.zeros(3, 5)

    change_weights(folder, damage)
    stack = "encoder" if name in ("t5_mc", "cpm2") else "stack"
    refused(
        folder,
        CheckpointError,
        f"missing: 'backbone.{stack}.blocks.1.attn.q.weight'",
        "unexpected: 'encoder.layers.9.ffn.ffn.w_out.weight', 'something.else'",
        f"of another shape: 'backbone.{stack}.blocks.1.mlp.down.weight' is [3, 5] in the file",
    )


def test_weights_of_another_layout(place: Any) -> None:
    folder = place("bert_mc")
    change_config(folder, type_size=2)
    torch.save({"wte.weight": torch.zeros(3, 4)}, folder / "pytorch_model.pt")
    refused(folder, CheckpointError, "missing", "unexpected: 'wte.weight'")
    (folder / "config.json").write_text('{"dim_model": 24}')
    refused(folder, CheckpointError, "is none of ModelCenter's models that are known here: bert, cpm1", "Check that")


def test_settings_that_do_not_fit_the_weights(place: Any) -> None:
    folder = place("bert_mc")
    change_config(folder, dim_ff=48, vocab_size=88)
    refused(folder, CheckpointError, "of another shape", "mlp.up.weight", "backbone.embed.tokens.weight")
    change_config(folder, num_layers=4, dim_ff=40, vocab_size=89)
    refused(folder, CheckpointError, "missing: 'backbone.stack.blocks.2.mlp_norm.weight'", "blocks.3.attn.q.weight")
    change_config(folder, num_layers=2)
    refused(folder, CheckpointError, "unexpected: 'encoder.layers.2.", "'encoder.layers.2.ffn.ffn.w_out.bias'")


SETTINGS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("bert_mc", {"dim_modell": 3}, ("config.json: ModelCenter has no 'dim_modell'", "Did you mean 'dim_model'")),
    ("bert_mc", {"a": 1, "b": 2}, ("ModelCenter has no 'a', 'b' for this model",)),
    ("bert_mc", {"num_heads": -3, "dim_head": -8}, ("num_attention_heads is -3", "between 1 and")),
    ("bert_mc", {"num_layers": 10**9}, ("num_hidden_layers is 1000000000", "between 0 and 1000")),
    ("bert_mc", {"norm_eps": "1e-12"}, ("norm_eps is '1e-12' (str); it must be a number",)),
    ("bert_mc", {"length_scale": True}, ("length_scale is True; only False is supported",)),
    ("t5_mc", {"norm_eps": 1.0}, ("layer_norm_eps is 10000.0; it must be between",)),
    ("t5_mc", {"ffn_activate_fn": "gated_tanh"}, ("ffn_activate_fn is 'gated_tanh', which is not supported",)),
    ("cpm1", {"ffn_activate_fn": ["gated_gelu"]}, ("ffn_activate_fn is ['gated_gelu'] (list); it must be a string",)),
    ("cpm1", {"position_bias_num_buckets": 2}, ("relative_attention_num_buckets is 2; it must be between 4",)),
    ("cpm1", {"position_bias_max_distance": 4}, ("relative_attention_max_distance=4 must be more than a quarter",)),
    ("cpm1", {"dim_head": None}, ("dim_head is None (NoneType); it must be an integer",)),
    ("cpm1", {"cls_head": -1}, ("num_labels is -1; it must be between 1",)),
    ("glm_mc", {"sop_tok_id": 120}, ("sop_token_id is 120, but there are only 120 tokens",)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "parts"), SETTINGS)
def test_wrong_settings(name: str, values: dict[str, Any], parts: tuple[str, ...], place: Any) -> None:
    folder = place(name)
    change_config(folder, **values)
    refused(folder, ConfigError, *parts)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"dim_model": NaN}', '{"dim_model": 1, "dim_model": 2}'])
def test_broken_config(text: str, place: Any) -> None:
    folder = place("bert_mc")
    (folder / "config.json").write_text(text)
    refused(folder, ConfigError, str(folder / "config.json"))


def test_config_that_tells_nothing(place: Any) -> None:
    folder = place("bert_mc")
    (folder / "config.json").write_text('{"vocab_size": 89}')
    refused(folder, CheckpointError, "holds no model that can be read", "config.json with a dim_model")


def test_no_weights(place: Any) -> None:
    folder = place("bert_mc")
    (folder / "pytorch_model.pt").unlink()
    refused(folder, CheckpointError, "has no weights; looked for 'pytorch_model.pt'")


@pytest.mark.parametrize("version", ["2021", "HEAD", 2022, True])
def test_wrong_versions(version: Any) -> None:
    with pytest.raises(OptionError, match=re.escape(f"format_version is {version!r}; it must be '2022' or 'head'.")):
        Model.load(FIXTURES / "bert_mc", format_version=version)
