"""Models to the Hub and back, with the real client."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from hezar_like import Model, ModelConfig, build_model, saving
from hezar_like.configs import DatasetConfig
from hezar_like.errors import HubError
from hezar_like.preprocessors import (
    Preprocessor,
    TextNormalizer,
    TextNormalizerConfig,
    WordPieceConfig,
    WordPieceTokenizer,
)

TEXTS = ["a small text", "another one that is longer", "متن فارسی"]


@pytest.fixture
def model(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    tokenizer = WordPieceTokenizer(WordPieceConfig(vocab_size=200))
    tokenizer.train_from_iterator(TEXTS * 5)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    built = build_model("bert_text_classification", vocab_size=len(tokenizer), id2label={0: "no", 1: "yes"}, **small)
    built.preprocessor = tokenizer
    return built



def test_push_and_load_give_the_same_predictions(hub, model):
    address = model.push_to_hub("ann/classifier", token="hf_write", commit_message="First", private=True)
    assert "ann/classifier" in address
    again = Model.load("ann/classifier", token="hf_write")
    assert again.predict(TEXTS) == model.predict(TEXTS)
    assert again.source.commit and again.source.commit[:7] in repr(again)


def test_push_is_one_commit(hub, model):
    model.push_to_hub("ann/classifier", token="hf_write")
    commits = [entry for entry in hub.log if "/commit/" in entry["path"]]
    assert len(commits) == 1
    model.push_to_hub("ann/classifier", token="hf_write")  # nothing has changed
    card = Model.load("ann/classifier", token="hf_write").source.get("README.md").read_text()
    assert "library_name: hezar_like" in card and "text-classification" in card and 'Model.load("ann/classifier")' in card


def test_a_pinned_and_cached_model_needs_no_request(hub, model):
    model.push_to_hub("ann/classifier", token="hf_write")
    commit = Model.load("ann/classifier").source.commit
    hub.log.clear()
    again = Model.load("ann/classifier", revision=commit, local_files_only=True)
    assert again.predict(TEXTS) == model.predict(TEXTS)
    assert hub.log == []


def test_only_the_needed_files_are_asked_for(hub, model):
    model.push_to_hub("ann/classifier", token="hf_write")
    hub.add_file("ann/classifier", "huge/extra.bin", b"x" * 1000)
    hub.log.clear()
    Model.load("ann/classifier")
    assert not [entry for entry in hub.log if "extra.bin" in entry["path"] or "/tree/" in entry["path"]]


def test_without_preprocessors(hub, model):
    model.push_to_hub("ann/classifier", token="hf_write", push_preprocessor=False)
    assert not Model.load("ann/classifier").preprocessor


def test_configs_and_preprocessors_by_themselves(hub, model):
    model.config.push_to_hub("ann/config", token="hf_write")
    assert ModelConfig.load("ann/config").to_dict() == model.config.to_dict()
    model.preprocessor.tokenizer.push_to_hub("ann/tokenizer", token="hf_write")
    assert Preprocessor.load("ann/tokenizer")(TEXTS) == model.preprocessor.tokenizer(TEXTS)
    dataset = DatasetConfig(path="rows.jsonl")
    dataset.push_to_hub("ann/dataset", token="hf_write", revision="dev", private=True)
    assert DatasetConfig.load("ann/dataset", token="hf_read", revision="dev").to_dict() == dataset.to_dict()


def test_weights_of_the_hub_are_the_ones_saved(hub, model, tmp_path: Path):
    model.push_to_hub("ann/classifier", token="hf_write")
    again = Model.load("ann/classifier", save_path=tmp_path / "copy")
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert Model.load(tmp_path / "copy").predict(TEXTS) == model.predict(TEXTS)


def test_a_smaller_model_replaces_the_shards_of_a_larger_one(hub, model, monkeypatch):
    with monkeypatch.context() as small:
        small.setattr(saving, "save_weights", partial(saving.save_weights, max_shard_bytes=20_000))
        model.push_to_hub("ann/classifier", token="hf_write")
    shards = {name for name in hub.files("ann/classifier") if name.endswith((".safetensors", ".index.json"))}
    assert len(shards) > 2
    assert Model.load("ann/classifier").predict(TEXTS) == model.predict(TEXTS)
    hub.clear()
    model.push_to_hub("ann/classifier", token="hf_write")
    assert len(hub.requests("POST", "/commit/")) == 1
    left = {name for name in hub.files("ann/classifier") if name.endswith((".safetensors", ".index.json"))}
    assert left == {"model.safetensors"}
    assert Model.load("ann/classifier").predict(TEXTS) == model.predict(TEXTS)


def test_load_locally_asks_nobody(hub, model):
    hub.log.clear()
    with pytest.raises(HubError, match="there is no folder 'ann/classifier'"):
        Model.load("ann/classifier", load_locally=True)
    assert hub.log == []


def test_pushing_again_leaves_no_preprocessor_of_before(hub, model):
    tokenizer = model.preprocessor.tokenizer
    model.preprocessor = [tokenizer, TextNormalizer(TextNormalizerConfig())]
    model.push_to_hub("ann/classifier", token="hf_write")
    assert list(Model.load("ann/classifier").preprocessor) == ["wordpiece_tokenizer", "text_normalizer"]
    model.preprocessor = tokenizer
    model.push_to_hub("ann/classifier", token="hf_write")
    assert list(Model.load("ann/classifier").preprocessor) == ["wordpiece_tokenizer"]
