"""What fuzzing and the zoo of malicious folders found, each small. All of it was once another error, or none."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_model
from tokenizers import Tokenizer, models

from hezar_like import Model, build_preprocessor
from hezar_like.cli import main
from hezar_like.errors import CheckpointError, ConfigError, HezarLikeError, InputError, TokenizerError
from hezar_like.formats import config_from_json
from hezar_like.formats.weights import find_weights, open_weights
from hezar_like.preprocessors.chat_template import render
from hezar_like.preprocessors.templates import template

Edit = Callable[[str, Callable[[Any], Any]], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_model("bert_text_classification", num_labels=3, num_hidden_layers=0).save(tmp_path / "model")


@pytest.fixture
def theirs(folder: Path, tmp_path: Path) -> Path:
    return Model.load(folder, device="cpu").export("transformers", tmp_path / "theirs")


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(kind: type[HezarLikeError], part: str, action: Callable[[], object]) -> None:
    with pytest.raises(kind) as error:
        action()
    text = str(error.value)
    assert part in text and text.isprintable() and len(text) < 4000, text[:1000]


def test_half_a_character_in_json(theirs: Path) -> None:
    edit(theirs / "tokenizer_config.json", lambda content: content.update(cls_token="\ud800"))
    refused(ConfigError, "half a character", lambda: Model.load(theirs))


def test_half_a_character_in_what_the_command_repeats(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a", "label": "\\ud800"}\n')
    assert main(["predict", str(folder), "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out")]) == 2
    assert "line 1: is not Unicode text" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", ["\0", "\x1b[31m", "\u202e"])
def test_control_characters_in_what_a_library_says(dtype: str, tmp_path: Path) -> None:
    text = json.dumps({"a": {"dtype": dtype, "shape": [1], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    refused(CheckpointError, repr(str(path)), lambda: open_weights([path]))


def test_control_characters_in_a_tokenizers_version(folder: Path) -> None:
    path = folder / "preprocessor" / "tokenizer.json"
    edit(path, lambda content: content.update(version="1.\0\x1b[31m"))
    refused(TokenizerError, str(path), lambda: Model.load(folder))


def test_control_characters_in_what_a_chat_template_says() -> None:
    template = "{{ raise_exception('no \x1b[31m\x00\u202e') }}"
    refused(InputError, r"no \x1b[31m\x00\u202e", lambda: render(template, [{"role": "user", "content": "a"}], variables={}))


@pytest.mark.parametrize("word", ["!!pyth{}", "!{}!x", "%{} 1\n---", "&{} 1"])
def test_words_of_yaml_without_an_end(folder: Path, word: str) -> None:
    (folder / "model_config.yaml").write_text(word.format("a" * 20_000) + " {name: bert}\n")
    refused(ConfigError, "model_config.yaml", lambda: Model.load(folder))


def test_names_without_an_end(folder: Path, theirs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = "a" * 50_000
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {name: "model.safetensors"}}))
    index = folder / "model.safetensors.index.json"
    refused(CheckpointError, str(index), lambda: find_weights(folder.joinpath, [index.name], "it"))
    edit(theirs / "config.json", lambda content: content.update({name: 1}))
    Model.load(theirs, device="cpu")
    assert caplog.records and all(len(record.getMessage()) < 1000 for record in caplog.records)
    (tmp_path / "config.json").write_text(json.dumps({"dim_model": 8, "num_heads": 2, "ffn_activate_fn": name}))
    refused(ConfigError, "config.json", lambda: config_from_json(tmp_path / "config.json", family="bert"))


def test_ids_of_special_tokens_and_types_that_the_model_does_not_have(folder: Path) -> None:
    path = folder / "preprocessor" / "tokenizer.json"
    good = path.read_text()
    edit(path, lambda content: content["post_processor"]["special_tokens"]["[CLS]"].update(ids=[1000]))
    refused(TokenizerError, "1000", lambda: Model.load(folder))
    path.write_text(good)
    edit(path, lambda content: content["post_processor"]["single"][1]["Sequence"].update(type_id=7))
    refused(TokenizerError, "token types up to 7", lambda: Model.load(folder))


@pytest.mark.parametrize(
    "settings",
    [
        {"chunk_length": 16_000}, {"hop_length": 1, "chunk_length": 2000}, {"n_fft": 2**20}, {"feature_size": 2**20},
        {"sampling_rate": 2**20}, {"hop_length": 4, "chunk_length": 160}, {"padding_value": 1e300},
    ],
)  # fmt: skip
def test_windows_of_audio_that_take_all_memory(settings: dict[str, Any]) -> None:
    refused(ConfigError, next(iter(settings)), lambda: build_preprocessor("whisper_feature_extractor", **settings))


def test_a_number_too_long_for_a_float(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"dim_model": 8, "num_heads": 2, "dim_head": 4, "att_mask_value": 10**400}))
    refused(ConfigError, "att_mask_value", lambda: config_from_json(path, family="bert"))


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("config_sentence_transformers.json", {"similarity_fn_name": ["cosine"]}, "similarity_fn_name"),
        ("config_sentence_transformers.json", {"default_prompt_name": "x", "prompts": {}}, "no prompt 'x'"),
        ("config_sentence_transformers.json", {"default_prompt_name": ["x"], "prompts": [1]}, "no prompt"),
        ("modules.json", [{"path": "", "type": "a" * 50_000}], "modules.json"),
        ("modules.json", [{"path": "nowhere", "type": "a.Transformer"}], "config.json"),
    ],
)  # fmt: skip
def test_files_of_sentence_transformers(name: str, content: Any, part: str, tmp_path: Path) -> None:
    model = tiny_model("bert_text_embedding", num_hidden_layers=0, pooling="mean")
    folder = model.export("sentence_transformers", tmp_path / "sentences")
    (folder / name).write_text(json.dumps(content))
    refused(HezarLikeError, part, lambda: Model.load(folder))


@pytest.mark.parametrize(
    "part",
    [
        {"normalizer": {"type": "Prepend", "prepend": "a" * 10_000}},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}] * 9}},
        {"decoder": {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 10_000}},
    ],
)  # fmt: skip
def test_parts_of_a_tokenizer_that_make_texts_without_an_end(part: dict[str, Any], folder: Path) -> None:
    path = folder / "preprocessor" / "tokenizer.json"
    edit(path, lambda content: content.update(part))
    refused(TokenizerError, "times as long", lambda: Model.load(folder))


@pytest.mark.parametrize("token", ["<unk:", "a:1", ":", "$A", "$", "$x", "A:0", "[CLS]"])
def test_special_tokens_that_mean_something_in_a_template(token: str) -> None:
    backend = Tokenizer(models.WordLevel({token: 0, "the": 1, "</s>": 2}, unk_token=token))
    backend.post_processor = template((token, 0), ("</s>", 2), second_type=1)
    found = backend.encode("the"), backend.encode("the", "the")
    assert [encoding.ids for encoding in found] == [[0, 1, 2], [0, 1, 2, 1, 2]]
    assert found[1].type_ids == [0, 0, 0, 1, 1] and found[0].tokens == [token, "the", "</s>"]
    assert Tokenizer.from_str(backend.to_str()).encode("the").ids == [0, 1, 2]
