"""ModelCenter's files, there and back: equal where nothing is scaled, to rounding where something is."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import assert_same_config, assert_same_tensors, difference, perturb
from modelcenter_models import FIXTURES, NAMES, inputs, load
from tiny_models import tiny_fields, tiny_tokenizer
from torch import Tensor

from hezar_like import Model, build_model
from hezar_like.errors import CheckpointError, HubError, OptionError
from hezar_like.formats.modelcenter_layout import IRRELEVANT
from hezar_like.formats.modelcenter_tables import LAYOUTS
from hezar_like.loading import unique_tensors
from hezar_like.registry import models_registry

SCALED = [name for name in NAMES if json.loads((FIXTURES / name / "config.json").read_text())["length_scale"]]
RESCALED = [name for name in NAMES if name.startswith("t5")]


def weights_of(folder: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(folder / "pytorch_model.pt", weights_only=True)
    return weights


def settings_of(folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return settings


def outputs(model: Model, name: str) -> list[Tensor]:
    """Everything a model says to the inputs of its cases."""
    cases = [key for key in ("base", "prefix", "explicit_positions") if inputs(name, key)]
    assert cases
    with torch.no_grad():
        return [model(**inputs(name, case)).logits for case in cases]


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SCALED)))
def test_import_and_export_give_the_same_file(name: str, tmp_path: Path) -> None:
    model = load(name)
    assert model.export("modelcenter", tmp_path) == tmp_path
    given, written = weights_of(FIXTURES / name), weights_of(tmp_path)
    if name == "bert_mc_cls":  # a head for another task, of which loading warns
        given = {key: tensor for key, tensor in given.items() if not key.startswith("lm_head.")}
    if model.config.tie_word_embeddings and "lm_head.decoder.weight" in written:
        # Not used, and random there; here it is the embedding, which is used instead.
        assert torch.equal(written["lm_head.decoder.weight"], written["input_embedding.weight"])
        given["lm_head.decoder.weight"] = written["lm_head.decoder.weight"]
    if name in RESCALED:
        assert {key: tensor.shape for key, tensor in written.items()} == {key: t.shape for key, t in given.items()}
        assert all(torch.allclose(tensor, given[key], rtol=2e-7, atol=0) for key, tensor in written.items())
    else:
        assert_same_tensors(written, given)
    plain = {**LAYOUTS[model.config.family].defaults, **settings_of(FIXTURES / name)}
    settings = settings_of(tmp_path)
    assert set(settings) == set(plain)
    unsaid = {key for key in plain if key in IRRELEVANT or key == "att_mask_value"}
    expected = {key: value for key, value in plain.items() if key not in unsaid}
    if model.config.tie_word_embeddings and model.task != "sequence_labeling" and "lm_head.dense.weight" not in given:
        expected["proj_bias"] = settings["proj_bias"]  # of a head that is not there
    assert {key: settings[key] for key in expected} == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_export_and_import_give_the_same_model(name: str, tmp_path: Path) -> None:
    model = load(name)
    model.export("modelcenter", tmp_path)
    again = Model.load(tmp_path, format_version="head", device="cpu")
    assert again.config.update(layer_norm_eps=model.config.layer_norm_eps) if name in RESCALED else True
    assert_same_config(again.config, model.config)
    if name in RESCALED:
        ours, theirs = unique_tensors(again), unique_tensors(model)
        assert set(ours) == set(theirs)
        assert all(torch.allclose(ours[key], theirs[key], rtol=2e-7, atol=0) for key in ours)
    else:
        assert_same_tensors(again.state_dict(), model.state_dict())
    assert difference(outputs(again, name), outputs(model, name)) <= (1e-4 if name in RESCALED else 0.0)
    again.export("modelcenter", tmp_path)  # over itself
    assert_same_tensors(weights_of(tmp_path), weights_of(model.export("modelcenter", tmp_path / "second")))


PIECES = {"sop_token_id": 100, "eop_token_id": 101, "mask_token_id": 102}
NATIVE: list[tuple[str, dict[str, Any]]] = [
    ("bert_mask_filling", {}),
    ("bert_mask_filling", {"tie_word_embeddings": False, "keep_pooler": True}),
    ("bert_sequence_labeling", {"classifier_bias": False}),
    ("roberta_mask_filling", {"pad_token_id": 1}),
    ("roberta_sequence_labeling", {"hidden_act": "relu"}),
    ("gpt2_text_generation", {}),
    ("gpt2_sequence_labeling", {"hidden_act": "relu"}),
    ("gptj_text_generation", {"rotary_dim": 4}),
    ("gptj_sequence_labeling", {"rotary_dim": 4, "shared_norm": False}),
    ("t5_text_generation", {}),
    ("t5_text_generation", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    ("t5_sequence_labeling", {"attention_scale": None, "num_decoder_layers": 1}),
    ("cpm1_text_generation", {"head_dim": 6, "tie_word_embeddings": False}),
    ("cpm1_sequence_labeling", {"attention_scale": 1.0, "hidden_act": "silu"}),
    ("glm_text_generation", PIECES),
    ("glm_sequence_labeling", PIECES | {"hidden_act": "gelu"}),
    ("cpm2_text_generation", {"num_decoder_layers": 3}),
    ("cpm2_sequence_labeling", {"classifier_bias": False}),
]


def tiny(name: str, **fields: Any) -> Model:
    model = build_model(name, **tiny_fields(models_registry[name].config_class, **fields))
    perturb(model)
    return model.eval()


@pytest.mark.parametrize(("name", "fields"), NATIVE)
@torch.no_grad()
def test_models_made_here(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    model = tiny(name, **fields)
    again = Model.load(model.export("modelcenter", tmp_path), format_version="head", device="cpu")
    assert again.config.name == name
    tokens = torch.tensor([[7, 20, 33, 9], [8, 50, 119, 3]])
    given = {"token_ids": tokens} | (
        {"decoder_input_ids": tokens[:, :3]} if name[:4] in ("t5_t", "t5_s", "cpm2") else {}
    )
    expected = model(**given).logits
    assert difference(again(**given).logits, expected) <= 2e-5 * expected.std().item()


def test_transformers_t5_has_an_epsilon_for_divided_sums(tmp_path: Path) -> None:
    model = tiny("t5_text_generation")
    model.export("modelcenter", tmp_path)
    settings = settings_of(tmp_path)
    assert settings["norm_eps"] == pytest.approx(1e-10) and settings["scale"] is True and settings["tied"] is True
    stored = weights_of(tmp_path)["input_embedding.weight"]
    assert torch.allclose(stored * 100, model.backbone.embed.tokens.weight)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("bert_mask_filling", {"hidden_act": "relu"}, r"ModelCenter has no bert with hidden_act='relu' \(there: 'gelu'\)"),
    ("bert_mask_filling", {"prediction_head_transform": False}, r"no bert with prediction_head_transform=False"),
    ("bert_mask_filling", {"attention_probs_dropout_prob": 0.3}, r"with attention_probs_dropout_prob=0.3"),
    ("bert_text_classification", {}, r"ModelCenter has no model for 'bert_text_classification'"),
    ("bert_backbone", {}, r"ModelCenter has no model for 'bert'"),
    ("distilbert_mask_filling", {}, r"ModelCenter has no model for 'distilbert_mask_filling'"),
    ("roberta_mask_filling", {"hidden_act": "silu"}, r"no hidden_act='silu', only 'relu', 'gelu', 'gelu_new'"),
    ("roberta_sequence_labeling", {"dense_token_head": True}, r"no roberta with dense_token_head=True"),
    ("gpt2_text_generation", {"unused_tokens": 1}, r"no gpt2 with unused_tokens=1 \(there: 0\)"),
    ("gptj_text_generation", {"rotary_dim": 4, "tie_word_embeddings": True}, r"no gptj with tie_word_embeddings=True"),
    ("t5_text_generation", {"logit_scale": 0.5}, r"no logit_scale=0.5 with tie_word_embeddings=True"),
    ("t5_text_generation", {"attention_scale": 0.5}, r"no attention_scale=0.5, only None, 1.0"),
    ("t5_text_generation", {"feed_forward_proj": "gated-tanh"}, r"no feed_forward_proj='gated-tanh'"),
    ("cpm2_text_generation", {"tie_word_embeddings": True}, r"no logit_scale=None with tie_word_embeddings=True"),
    ("cpm1_text_generation", {"hidden_act": "tanh"}, r"no hidden_act='tanh'"),
    ("glm_text_generation", dict.fromkeys(PIECES), r"ModelCenter needs sop_token_id, eop_token_id, mask_token_id; "),
    (
        "glm_text_generation",
        PIECES | {"relative_encoding": True},
        r"ModelCenter has no glm with relative_encoding=True",
    ),
    ("glm_text_generation", PIECES | {"spell_length": 3}, r"ModelCenter has no glm with spell_length=3"),
    (
        "gpt2_text_generation",
        {"pad_token_id": 0, "mask_padding_tokens": True},
        r"no gpt2 with mask_padding_tokens=True",
    ),
]


@pytest.mark.parametrize(("name", "fields", "message"), REFUSED)
def test_what_modelcenter_cannot_hold_is_refused(
    name: str, fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        tiny(name, **fields).export("modelcenter", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_layouts_are_not_mixed(tmp_path: Path) -> None:
    model = load("bert_mc")
    model.save(tmp_path)
    with pytest.raises(HubError, match="holds a model in the native layout"):
        model.export("modelcenter", tmp_path)
    model.export("modelcenter", tmp_path / "there")
    with pytest.raises(HubError, match="holds a model in the modelcenter layout"):
        model.export("transformers", tmp_path / "there")


@pytest.mark.parametrize("name", ["bert_mc", "roberta_mc", "gpt2_mc", "t5_mc_scale", "t5_mc_v1_1"])
@torch.no_grad()
def test_to_transformers(name: str, tmp_path: Path) -> None:
    """What transformers has too goes there, and back: the pooler and all; at padding transformers looks at the text."""
    model = load(name, **({} if name.startswith("gpt2") else {"blind_padding": False}))
    again = Model.load(model.export("transformers", tmp_path), device="cpu")
    given = {key: tensor for key, tensor in inputs(name, "base").items() if not key.endswith("labels")}
    if name == "roberta_mc":
        given["token_type_ids"] = torch.zeros_like(given["input_ids"])
    expected = model(**given).logits
    assert difference(again(**given).logits, expected) <= 2e-5 * expected.std().item()
    if name == "bert_mc":
        pooled = Model.load(tmp_path, task="backbone", device="cpu")(**given).pooler_output
        assert difference(pooled, model(**given).pooler_output) <= 2e-5


def test_labels_that_are_lost_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = {i: f"label {i}" for i in range(4)}
    model = load("bert_mc_cls", id2label=names)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "hezar_like"):
        model.export("modelcenter", tmp_path)
    assert "ModelCenter has no place for id2label" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "hezar_like"):
        load("bert_mc_cls").export("modelcenter", tmp_path / "plain")
    assert "no place" not in caplog.text


@pytest.mark.parametrize(("name", "kind"), [("bert_mc", torch.float16), ("t5_mc", torch.float32)])
@torch.no_grad()
def test_half_precision(name: str, kind: torch.dtype, tmp_path: Path) -> None:
    """Weights keep their type, but for those that are multiplied, which may have been small to fit into it."""
    shutil.copy(FIXTURES / name / "config.json", tmp_path)
    half = {key: tensor.half() for key, tensor in weights_of(FIXTURES / name).items()}
    torch.save(half, tmp_path / "pytorch_model.pt")
    model = Model.load(tmp_path, format_version="head", device="cpu")
    assert model.dtype == kind
    close = difference(outputs(model.float(), name), outputs(load(name), name))
    assert close <= 0.05 * outputs(load(name), name)[0].std().item()
    folder = Model.load(tmp_path, format_version="head", device="cpu").export("modelcenter", tmp_path / "again")
    assert settings_of(folder)["half"] is (kind is torch.float16)


@pytest.mark.parametrize("name", ["cpm1_cls", "cpm2"])
@torch.no_grad()
def test_older_name_of_a_head_for_labels(name: str, tmp_path: Path) -> None:
    """In 2022, CPM-1 and CPM-2 called the head for labels as the one for tokens."""
    settings = settings_of(FIXTURES / name) | {"cls_head": 3}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    weights = weights_of(FIXTURES / name)
    labels = torch.randn(3, 32)
    weights.pop("cls_projection.weight", None)
    torch.save(weights | {"output_projection.weight": labels}, tmp_path / "pytorch_model.pt")
    model = Model.load(tmp_path, format_version="2022", device="cpu")
    assert model.task == "sequence_labeling" and model.head.out.bias is None
    assert torch.allclose(model.head.out.weight, labels / 32**0.5)
    written = weights_of(model.export("modelcenter", tmp_path / "again"))
    assert torch.equal(written["cls_projection.weight"], model.head.out.weight)
    assert "output_projection.weight" not in written


def test_tokenizers_go_along(tmp_path: Path) -> None:
    model = load("bert_mc")
    assert model.preprocessor.tokenizer is None
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(84))]
    shutil.copytree(FIXTURES / "bert_mc", tmp_path / "first")
    (tmp_path / "first" / "vocab.txt").write_text("\n".join(tokens) + "\n")
    first = Model.load(tmp_path / "first", format_version="head", device="cpu")
    assert first.preprocessor.tokenizer is not None
    first.export("modelcenter", tmp_path / "second")
    assert (tmp_path / "second" / "vocab.txt").read_text().split() == tokens
    second = Model.load(tmp_path / "second", format_version="head", device="cpu")
    text = "w3 w20 [MASK] w7"
    assert second.predict(text) == first.predict(text)
    load("bert_mc").export("modelcenter", tmp_path / "second")  # without one: the old one's files go
    assert sorted(path.name for path in (tmp_path / "second").iterdir()) == ["config.json", "pytorch_model.pt"]


def test_other_preprocessors_have_no_place(tmp_path: Path) -> None:
    from hezar_like import build_preprocessor

    model = tiny("bert_mask_filling")
    model.preprocessor = [tiny_tokenizer(), build_preprocessor("text_normalizer")]
    with pytest.raises(OptionError, match="ModelCenter has no place for 'text_normalizer'"):
        model.export("modelcenter", tmp_path)


def test_version_is_an_option_of_this_format_only(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"format_version is 2022; it must be '2022' or 'head'"):
        load("bert_mc", format_version=2022)
    model = load("bert_mc")
    model.save(tmp_path)
    with pytest.raises(Exception, match="load has no parameter 'format_version'"):
        Model.load(tmp_path, format_version="head")


def test_command_line_tells_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    from hezar_like.cli import main

    assert main(["info", str(FIXTURES / "cpm1")]) == 0
    printed = capsys.readouterr().out
    assert "modelcenter" in printed and "cpm1_text_generation" in printed


def test_a_config_of_a_json_that_names_infinity(tmp_path: Path) -> None:
    """ModelCenter itself writes -Infinity, which is no JSON."""
    shutil.copy(FIXTURES / "cpm1" / "pytorch_model.pt", tmp_path)
    text = (FIXTURES / "cpm1" / "config.json").read_text().replace('"-inf"', "-Infinity")
    assert "-Infinity" in text
    (tmp_path / "config.json").write_text(text)
    model = Model.load(tmp_path, format_version="head", device="cpu")
    assert difference(outputs(model, "cpm1"), outputs(load("cpm1"), "cpm1")) == 0.0
    with pytest.raises(CheckpointError):
        Model.load(tmp_path, model_filename="other.pt")
