"""What must be said or refused, and what must not be: cases where a quiet answer would be a wrong one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from comparing import assert_same_predictions
from tiny_models import tiny_model
from torch import nn

from hezar_like import Model, ModelConfig, register_model
from hezar_like.errors import CheckpointError, ConfigError, OptionError
from hezar_like.preprocessors import TextNormalizer, TextNormalizerConfig
from hezar_like.registry import families_registry, models_registry


@pytest.fixture
def classifier() -> Model:
    return tiny_model("bert_text_classification")


def change(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_alias_of_a_task_is_the_task(tmp_path: Path) -> None:
    model = tiny_model("bert_text_embedding", pooling="cls", normalize=True)
    model.export("sentence_transformers", tmp_path)
    again = Model.load(tmp_path, task="embedding")
    assert (again.config.pooling, again.config.normalize) == ("cls", True)


@pytest.mark.parametrize("notes", [{"_num_labels": 5}, {"_attn_implementation_autoset": True}])
def test_notes_of_transformers_are_no_error(classifier: Model, tmp_path: Path, notes: dict[str, object]) -> None:
    classifier.export("transformers", tmp_path)
    change(tmp_path, **notes)
    assert_same_predictions(Model.load(tmp_path).predict("a cat"), classifier.predict("a cat"))


@pytest.mark.parametrize("key", ["auto_map", "is_decoder", "add_cross_attention"])
def test_settings_of_another_architecture_are_an_error(classifier: Model, tmp_path: Path, key: str) -> None:
    classifier.export("transformers", tmp_path)
    change(tmp_path, **{key: True})
    with pytest.raises(ConfigError, match=key):
        Model.load(tmp_path)


def test_a_class_of_transformers_is_known_by_its_whole_name(classifier: Model, tmp_path: Path) -> None:
    classifier.export("transformers", tmp_path)
    change(tmp_path, architectures=["BertLMHeadModel"])
    assert Model.load(tmp_path).task == "backbone"
    change(tmp_path, architectures=["GPT2ForSequenceClassification"])
    assert Model.load(tmp_path).task == "backbone"


def test_export_says_what_it_cannot_hold(classifier: Model, tmp_path: Path) -> None:
    classifier.preprocessor = [classifier.preprocessor.tokenizer, TextNormalizer(TextNormalizerConfig())]
    with pytest.raises(OptionError, match="text_normalizer"):
        classifier.export("transformers", tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_export_without_tokenizer_leaves_none(classifier: Model, tmp_path: Path) -> None:
    classifier.export("transformers", tmp_path)
    classifier.preprocessor = None
    classifier.export("transformers", tmp_path)
    assert Model.load(tmp_path).preprocessor.tokenizer is None


def test_other_filenames_do_not_leave_old_weights_to_load(classifier: Model, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    classifier.save(tmp_path, filename="second.safetensors")
    with pytest.raises(CheckpointError, match="no weights"):
        Model.load(tmp_path)
    assert_same_predictions(
        Model.load(tmp_path, model_filename="second.safetensors").predict("a"), classifier.predict("a")
    )


@pytest.mark.usefixtures("own_registrations")
def test_counts_are_not_cast(tmp_path: Path) -> None:
    @dataclass
    class CountingConfig(ModelConfig):
        name = "counting"

    @register_model("counting", config_class=CountingConfig)
    class Counting(Model):
        def __init__(self, config: CountingConfig) -> None:
            super().__init__(config)
            self.out = nn.Linear(2, 2)
            self.register_buffer("seen", torch.tensor([1, 2]))

    model = Counting(CountingConfig())
    model.save(tmp_path)
    assert Model.load(tmp_path, dtype="float16").seen.tolist() == [1, 2]
    model.seen = torch.tensor([1.7, 2.9])
    model.save(tmp_path)
    with pytest.raises(CheckpointError, match=r"'seen' \(float32\)"):
        Model.load(tmp_path)


def test_prepared_inputs_are_taken_whole(classifier: Model) -> None:
    classifier.eval()
    batch = dict(classifier.preprocess(["a cat", "the dog sat"]))
    expected = classifier.predict(batch, preprocess=False, post_process=False)
    renamed = {"input_ids" if key == "token_ids" else key: value for key, value in batch.items()}
    again = classifier.predict(renamed, preprocess=False, post_process=False)
    assert all(torch.equal(a["logits"], b["logits"]) for a, b in zip(expected, again, strict=True))
    batch["attention_msk"] = batch.pop("attention_mask")
    with pytest.raises(OptionError, match="Did you mean 'attention_mask'"):
        classifier.predict(batch, preprocess=False, post_process=False)


def test_a_family_without_a_head_is_no_member() -> None:
    family = families_registry["bert"].module_class
    all_heads = family.heads
    object.__setattr__(family, "heads", {task: head for task, head in all_heads.items() if task != "mask_filling"})
    try:
        assert "bert_mask_filling" not in models_registry
        with pytest.raises(KeyError, match="has no head for the task 'mask_filling'"):
            models_registry["bert_mask_filling"]
    finally:
        object.__setattr__(family, "heads", all_heads)


def test_cross_attention_in_a_native_config_is_an_error(classifier: Model, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    path = tmp_path / "model_config.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "add_cross_attention: false\n", encoding="utf-8")  # Hezar's files have it so
    assert_same_predictions(Model.load(tmp_path).predict("a cat"), classifier.predict("a cat"))
    path.write_text(text + "add_cross_attention: true\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="add_cross_attention"):
        Model.load(tmp_path)
