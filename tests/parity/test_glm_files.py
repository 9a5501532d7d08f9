"""GLM in FlagAI's files: read, written back, and what its files do not say."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import difference, perturb
from glm_fixtures import COMMANDS, FOLDER, cases, model
from published_vocabularies import unpack
from torch import Tensor

from hezar_like import Model, build_model
from hezar_like.errors import CheckpointError, ConfigError, OptionError
from hezar_like.formats.flagai_glm import GLM
from hezar_like.preprocessors.flagai_modelcenter import flagai_tokenizer

NAMES = [
    "glm", "glm_1d", "glm_relative", "glm_attention_scale", "glm_ptuning_lstm", "glm_ptuning_mlp", "glm_ptuning_none",
]  # fmt: skip
TOKENS = torch.tensor([[102, 5, 6, 103, 7, 100]])
SIZES = {"vocab_size": 120, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def weights(name: str) -> dict[str, Tensor]:
    return torch.load(FOLDER / name / "pytorch_model.bin", weights_only=True)


def settings(name: str) -> dict[str, Any]:
    """Those that are not null, which FlagAI takes for left out."""
    read = json.loads((FOLDER / name / "config.json").read_text())
    return {key: value for key, value in read.items() if value is not None}


def write(folder: Path, config: dict[str, Any], content: Any, filename: str = "pytorch_model.bin") -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(content, folder / filename)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same settings and the same tensors under the same names, but for the one that torch can make anew."""
    with caplog.at_level(logging.WARNING, "hezar_like"):
        glm = model(name)
        glm.export("flagai", tmp_path)
    assert not caplog.records
    assert json.loads((tmp_path / "config.json").read_text()) == settings(name)
    theirs, ours = weights(name), torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    theirs.pop("transformer.position_embeddings.inv_freq", None)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    again = Model.load(tmp_path, device="cpu")
    assert again.config.to_dict() == glm.config.to_dict()
    if cases(name) != ["prompt_pos"]:
        assert difference(again(TOKENS).logits, glm(TOKENS).logits) == 0.0


@pytest.mark.parametrize("name", ["glm", "glm_relative", "glm_ptuning_lstm"])
def test_our_own_files(name: str, tmp_path: Path) -> None:
    """What layers share is there once, and one again after loading."""
    glm = model(name, **COMMANDS)
    glm.save(tmp_path)
    again = Model.load(tmp_path, device="cpu")
    assert again.config.to_dict() == glm.config.to_dict() and again.num_parameters == glm.num_parameters
    assert difference(again(TOKENS).logits, glm(TOKENS).logits) == 0.0
    if name == "glm_relative":
        first, last = (again.backbone.stack.blocks[number].attn for number in (0, -1))
        assert first.content_bias is last.content_bias and first.position_bias is last.position_bias
        fresh = build_model(glm.config.name, glm.config)
        assert fresh.backbone.stack.blocks[1].attn.content_bias is fresh.backbone.stack.blocks[0].attn.content_bias


# -- forms of files -----------------------------------------------------------------------------------------------------


def wrapped(tensors: dict[str, Tensor]) -> Any:
    return {"module": tensors}


def of_a_training_run(tensors: dict[str, Tensor]) -> Any:
    return {"module": tensors, "iteration": 300, "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}}


def of_a_class_with_a_head(tensors: dict[str, Tensor]) -> Any:
    return {f"model.{key}": tensor for key, tensor in tensors.items()}


@pytest.mark.parametrize("form", [wrapped, of_a_training_run, of_a_class_with_a_head])
def test_other_forms_of_the_file(form: Any, tmp_path: Path) -> None:
    folder = write(tmp_path, settings("glm"), form(weights("glm")))
    assert difference(Model.load(folder, device="cpu")(TOKENS).logits, model("glm")(TOKENS).logits) == 0.0


def test_shards_without_an_index(tmp_path: Path) -> None:
    tensors = list(weights("glm").items())
    for number, part in enumerate((tensors[:9], tensors[9:])):
        write(tmp_path, settings("glm"), dict(part), f"pytorch_model-0000{number + 1}-of-00002.bin")
    assert difference(Model.load(tmp_path, device="cpu")(TOKENS).logits, model("glm")(TOKENS).logits) == 0.0


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("told", [True, False])
def test_heads_that_label(labels: int, told: bool, tmp_path: Path) -> None:
    """One label is one for choices; their number is in the settings, or the weights tell it."""
    head = {
        "pool_layer.weight": torch.randn(32, 32), "pool_layer.bias": torch.randn(32),
        "multichoice_head.weight": torch.randn(labels, 32), "multichoice_head.bias": torch.randn(labels),
    }  # fmt: skip
    config = settings("glm") | ({"class_num": labels} if told else {})
    folder = write(tmp_path, config, of_a_class_with_a_head(weights("glm")) | head)
    glm = Model.load(folder, device="cpu")
    assert glm.task == ("multiple_choice" if labels == 1 else "text_classification")
    states = model("glm", task="backbone")(TOKENS).last_hidden_state[:, 0]
    pooled = (states @ head["pool_layer.weight"].T + head["pool_layer.bias"]).tanh()
    by_hand = pooled @ head["multichoice_head.weight"].T + head["multichoice_head.bias"]
    assert difference(glm(TOKENS).logits, by_hand) < 1e-5
    exported = glm.export("flagai", tmp_path / "exported")
    assert json.loads((exported / "config.json").read_text()) == settings("glm") | {"class_num": labels}
    assert Model.load(exported, device="cpu").config.to_dict() == glm.config.to_dict()


# -- what files do not say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vocabulary", "width", "expected"),
    [
        (50048, 1024, {"sop": 50006, "eop": 50007, "gmask": 50009, "mask": 50003, "eos": 50000}),
        (50048, 4096, {"sop": 50006, "eop": 50007, "gmask": 50007, "smask": 50008, "pad": 50000}),
        (30592, 1024, {"sop": 30522, "eop": 30523, "gmask": 30524, "smask": 30525, "mask": 103}),
        (50304, 4096, {"sop": 50257, "eop": 50258, "gmask": 50263, "smask": 50264, "mask": 50260}),
        (50304, 2048, {"sop": 50257, "eop": 50258, "gmask": 50263, "smask": 50264, "mask": 50260}),
        (120, 32, {}),
    ],
)
def test_command_tokens_of_published_models(vocabulary: int, width: int, expected: dict[str, int]) -> None:
    told = GLM.infer({"vocab_size": vocabulary, "hidden_size": width}, {}, lambda name: None)
    assert {role: told[f"{role}_token_id"] for role in expected} == expected
    assert bool(told) == bool(expected)


def test_command_tokens_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    """With a vocabulary beside it, a model writes at once, and comes back with both."""
    (tmp_path / "vocabularies").mkdir()
    unpack(tmp_path / "vocabularies")
    vocabulary = (tmp_path / "vocabularies" / "bert_uncased_vocab.txt").read_bytes()
    sizes = {"vocab_size": 30592, "hidden_size": 16, "num_layers": 1, "num_attention_heads": 2}
    first = build_model("glm_text_generation", **sizes, max_sequence_length=64)
    perturb(first)
    first.export("flagai", tmp_path)
    (tmp_path / "vocab.txt").write_bytes(vocabulary)
    glm = Model.load(tmp_path, device="cpu")
    tokenizer = glm.preprocessor.tokenizer
    for role in ("pad", "eos", "sop", "eop", "mask", "smask", "gmask"):
        assert glm.config[f"{role}_token_id"] == tokenizer.role_id(role), role
    texts = ["the [MASK] sat on [sMASK].", "hello", "a [MASK]"]
    filled = glm.predict(texts, max_new_tokens=3)
    assert [len(record["blanks"]) for record in filled] == [2, 1, 1]
    assert filled[1]["text"].startswith("hello ") and "sat on" in filled[0]["text"]
    assert glm.predict(texts[2], max_new_tokens=3) == filled[2:]
    glm.export("flagai", tmp_path / "again")
    assert (tmp_path / "again" / "vocab.txt").read_bytes() == vocabulary
    assert Model.load(tmp_path / "again", device="cpu").predict(texts, max_new_tokens=3) == filled
    assert (
        flagai_tokenizer(lambda name: tmp_path / name if name == "vocab.txt" else None, "glm").config
        == tokenizer.config
    )


def test_what_is_told_in_calls_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    glm = build_model("glm_text_classification", **SIZES, pool_token="pad")
    with caplog.at_level(logging.WARNING, "hezar_like"):
        glm.export("flagai", tmp_path)
    assert "no pool_token='pad' in files" in caplog.text


# -- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "fields", "message"),
    [
        ("text_generation", {"hidden_act": "gelu"}, "hidden_act='gelu_new'"),
        ("text_generation", {"layer_norm_eps": 1e-6}, "layer_norm_eps=1e-05"),
        ("text_generation", {"intermediate_size": 48}, "four times as wide"),
        ("text_generation", {"tie_word_embeddings": False}, "tie_word_embeddings=True"),
        ("sequence_labeling", {}, "its glm is for"),
    ],
)
def test_models_that_flagai_has_not(task: str, fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    glm = build_model(f"glm_{task}", **SIZES, **fields)
    with pytest.raises(OptionError, match=message):
        glm.export("flagai", tmp_path / "new")
    with pytest.raises(OptionError, match="transformers has no model"):
        glm.export("transformers", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_size_that_is_given_and_right_is_written(tmp_path: Path) -> None:
    glm = build_model("glm_text_generation", **SIZES, intermediate_size=64)
    glm.export("flagai", tmp_path)
    again = Model.load(tmp_path, device="cpu").eval()
    assert difference(again(TOKENS).logits, glm.eval()(TOKENS).logits) == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": None}, "num_hidden_layers"),
        ({"max_memory_length": ...}, "'max_memory_length' are missing"),
        ({"spell_func": "gru"}, "spell_func is 'gru'"),
        ({"attention_scale": 0.0}, "attention_scale"),
        ({"hidden_size": 30}, "not divisible"),
    ],
)
def test_settings_that_are_wrong(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    config = {key: value for key, value in (settings("glm") | changes).items() if value is not ...}
    with pytest.raises(ConfigError, match=message):
        Model.load(write(tmp_path, config, weights("glm")), device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_position_encoding": False}, "transformer.block_position_embeddings"),
        ({"relative_encoding": True}, "missing: .*attn.relative"),
        ({"spell_length": 4}, "missing: .*prompts.tokens"),
        ({"num_layers": 2}, "unexpected: .*transformer.layers.2"),
        ({"max_sequence_length": 32}, r"is \[65, 32\] in the file, \[33, 32\] in the model"),
    ],
)
def test_settings_and_weights_that_do_not_belong_together(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        Model.load(write(tmp_path, settings("glm") | changes, weights("glm")), device="cpu")


def test_files_that_hold_code_are_refused(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return print, ("run",)

    with pytest.raises(CheckpointError, match="only tensors are read"):
        Model.load(write(tmp_path, settings("glm"), {"module": weights("glm"), "extra": Code()}), device="cpu")


def test_a_repository_of_glms_authors(tmp_path: Path) -> None:
    """On the Hub the same files have a model_type, and name code that transformers would run."""
    folder = tmp_path / "glm"
    shutil.copytree(FOLDER / "glm", folder)
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"model_type": "glm", "architectures": ["GLMModel"], "auto_map": {"AutoModel": "modeling_glm.GLMModel"}}
    (folder / "config.json").write_text(json.dumps(settings))
    model, same = Model.load(folder), Model.load(FOLDER / "glm")
    assert model.config == same.config
    for name, tensor in same.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
