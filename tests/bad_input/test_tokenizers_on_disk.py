"""Rows 35 to 40: tokenizers that are broken, hostile, another model's, or missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_model, tiny_tokenizer

from hezar_like import Preprocessor
from hezar_like.errors import CheckpointError, ConfigError, HezarLikeError, PreprocessorError, TokenizerError

FILE = "preprocessor/tokenizer.json"
SETTINGS = "preprocessor/tokenizer_config.yaml"


@pytest.fixture
def change(folder: Path) -> Callable[[Callable[[dict[str, Any]], Any]], None]:
    def edit(function: Callable[[dict[str, Any]], Any]) -> None:
        path = folder / FILE
        content = json.loads(path.read_text())
        function(content)
        path.write_text(json.dumps(content))

    return edit


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "null", "{", "\ufeff{}", '{"version": "1.0"}', "version https://git-lfs.github.com/spec/v1"],
)
def test_row_35_not_a_tokenizer(content: str, refused: Any, folder: Path, load: Any) -> None:
    (folder / FILE).write_text(content)
    with refused(TokenizerError, str(folder / FILE)):
        load()


def test_row_35_not_text(refused: Any, folder: Path, load: Any) -> None:
    (folder / FILE).write_bytes(b"\xff\xfe\x00\xd8")
    with refused(TokenizerError, str(folder / FILE)):
        load()


def bpe(**fields: Any) -> dict[str, Any]:
    return {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []} | fields


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c["model"].update(type="Evil"),
        lambda c: c.update(pre_tokenizer={"type": "Evil"}),
        lambda c: c.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}),
        lambda c: c.update(normalizer={"type": "Replace", "pattern": {"Regex": "[z-a]"}, "content": ""}),
        lambda c: c.update(model=bpe(merges=["a c"])),
        lambda c: c.update(model=bpe(merges=["a b"])),
        lambda c: c.update(model=bpe(merges=[["a"]])),
        lambda c: c["model"]["vocab"].update(the=-1),
        lambda c: c["model"]["vocab"].update(the=1.5),
        lambda c: c["model"]["vocab"].update(the=2**33),
        lambda c: c["model"].update(vocab=[]),
        lambda c: c["added_tokens"].append({"id": -1, "content": "x"}),
    ],
    ids=[
        "model", "pre-tokenizer", "regex", "range", "merge of an unknown token", "merge without a result", "merge of one",
        "negative id", "fraction", "id 2^33", "vocab list", "added token",
    ],
)  # fmt: skip
def test_row_35_parts_that_are_none(edit: Any, refused: Any, folder: Path, load: Any, change: Any) -> None:
    change(edit)
    with refused(TokenizerError, str(folder / FILE)):
        load()


def test_row_36_a_regex_that_never_ends(refused: Any, load: Any, change: Any) -> None:
    catastrophe = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    change(lambda content: content.update(pre_tokenizer=catastrophe))
    model = load()
    with refused(TokenizerError, "tokenizer", seconds=10):
        model.predict("a" * 40 + "!")
    assert len(model.predict("b")) == 1  # the tokenizer still works


def test_row_37_padding_and_truncation_in_the_file_are_off(load: Any, change: Any) -> None:
    padding = {
        "strategy": {"Fixed": 100_000_000}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    truncation = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    change(lambda content: content.update(padding=padding, truncation=truncation))
    model = load()
    assert model.preprocess(["the"])["token_ids"].shape == (1, 3)
    assert len(model.preprocessor.tokenizer("the the the the")["token_ids"]) == 6


@pytest.mark.parametrize(("size", "part"), [(119, "vocab_size=119"), (5000, "another model's")])
def test_rows_38_and_39_a_tokenizer_of_another_model(
    size: int, part: str, refused: Any, folder: Path, load: Any
) -> None:
    model = tiny_model("bert_text_classification", num_labels=3)
    tokenizer = model.preprocessor.tokenizer
    model.preprocessor = None
    other = type(model)(model.config, vocab_size=size)
    with refused(TokenizerError, f"vocab_size={size}", part):
        other.preprocessor = tokenizer
    assert not other.preprocessor  # the old state
    other.save(folder, save_preprocessor=False)
    with refused(TokenizerError, f"vocab_size={size}", part):
        load()
    assert load(load_preprocessor=False).config.vocab_size == size


@pytest.mark.parametrize("token_id", [120, 10**6, 2**31])
def test_row_38_one_id_too_many(token_id: int, refused: Any, load: Any, change: Any) -> None:
    change(lambda content: content["model"]["vocab"].update(zebra=token_id))
    with refused(TokenizerError, str(token_id), "vocab_size=120"):
        load()


def test_row_40_the_tokenizer_file_is_missing(refused: Any, folder: Path, load: Any) -> None:
    (folder / FILE).unlink()
    with refused(HezarLikeError, str(folder), FILE):
        load()
    assert load(load_preprocessor=False).num_parameters


def test_row_40_no_preprocessor(refused: Any, folder: Path, load: Any) -> None:
    (folder / SETTINGS).unlink()
    model = load()
    assert list(model.preprocessor) == [] and model.preprocessor.tokenizer is None
    with refused(PreprocessorError, "'bert_text_classification' has no tokenizer", "model.preprocessor = "):
        model.predict("a")
    with refused(PreprocessorError, "there is no preprocessor 'bpe_tokenizer' here"):
        model.preprocessor["bpe_tokenizer"]
    with refused(PreprocessorError, str(folder), "tokenizer_config.yaml"):
        Preprocessor.load(folder)
    model.preprocessor = tiny_tokenizer()
    assert len(model.predict("a")) == 1


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("name: os.system", "unknown preprocessor 'os.system'"),
        ("name: null", "name"),
        ("paddin_side: left", "'padding_side'"),
        ("padding_side: up", "padding_side is 'up'"),
        ("max_length: 0", "max_length is 0"),
        ("max_length: 512.5", "max_length is 512.5"),
        ("stride: -1", "stride is -1"),
        ("cls_token: ${oc.env:HOME}", "interpolation is not allowed here"),
        ("tokenizer_file: ../../../etc/passwd", "unknown key 'tokenizer_file'"),
    ],
)
def test_settings_of_a_tokenizer(line: str, part: str, refused: Any, folder: Path, load: Any) -> None:
    path = folder / SETTINGS
    key = line.partition(":")[0]
    kept = [old for old in path.read_text().splitlines() if old.partition(":")[0] != key]
    path.write_text("\n".join([*kept, line]))
    with refused((ConfigError, PreprocessorError, CheckpointError), str(path), part):
        load()
