"""Folders that hold something already, and what a save must not do to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparing import assert_same_predictions
from tiny_models import tiny_model

from hezar_like import Model, Preprocessor, PreprocessorConfig, register_preprocessor
from hezar_like.errors import ConfigError, HubError, PreprocessorError
from hezar_like.registry import preprocessors_registry


@pytest.fixture
def classifier() -> Model:
    return tiny_model("bert_text_classification")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_save_over_a_folder_of_transformers_is_refused(classifier: Model, tmp_path: Path) -> None:
    classifier.export("transformers", tmp_path)
    before = contents(tmp_path)
    with pytest.raises(HubError, match="holds a model in the transformers layout"):
        Model.load(tmp_path).save(tmp_path)
    assert contents(tmp_path) == before


def test_export_over_a_native_folder_is_refused(classifier: Model, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(HubError, match="holds a model in the native layout"):
        classifier.export("transformers", tmp_path)
    assert contents(tmp_path) == before


def test_export_over_an_export_replaces_it(classifier: Model, tmp_path: Path) -> None:
    classifier.export("transformers", tmp_path)
    classifier.config.update(id2label={i: f"new{i}" for i in range(classifier.config.num_labels)})
    classifier.export("transformers", tmp_path)
    assert Model.load(tmp_path).config.id2label[0] == "new0"


def test_fields_that_do_not_fit_each_other_are_not_saved(classifier: Model, tmp_path: Path) -> None:
    classifier.config.num_labels = 77
    with pytest.raises(ConfigError, match="num_labels=77"):
        classifier.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_home_is_home(classifier: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    classifier.save("~/model")
    assert (tmp_path / "model" / "model_config.yaml").exists() and not (tmp_path / "~").exists()
    assert_same_predictions(Model.load("~/model").predict("a cat"), classifier.predict("a cat"))


@pytest.mark.usefixtures("own_registrations")
def test_a_preprocessor_whose_class_is_not_imported_is_an_error(classifier: Model, tmp_path: Path) -> None:
    from dataclasses import dataclass

    @dataclass
    class LowerConfig(PreprocessorConfig):
        name = "lower"

    @register_preprocessor("lower", config_class=LowerConfig, description="lower case")
    class Lower(Preprocessor):
        config_filename = "lower_config.yaml"

        def __call__(self, text: str) -> str:
            return text.lower()

    classifier.preprocessor = [classifier.preprocessor.tokenizer, Lower(LowerConfig())]
    classifier.save(tmp_path)
    assert Model.load(tmp_path).preprocessor["lower"]("A") == "a"
    del preprocessors_registry._entries["lower"]
    with pytest.raises(PreprocessorError, match=r"unknown preprocessor 'lower'.*import the module"):
        Model.load(tmp_path)


def test_a_head_of_an_unknown_task_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import transformers

    config = transformers.BertConfig(
        hidden_size=32, num_attention_heads=2, num_hidden_layers=1, intermediate_size=32, vocab_size=50
    )
    transformers.BertForQuestionAnswering(config).save_pretrained(tmp_path)
    model = Model.load(tmp_path)
    assert model.task == "backbone" and "qa_outputs.weight" in caplog.text


def test_transformers_name_of_the_tokens_is_taken(classifier: Model) -> None:
    batch = dict(classifier.preprocess("a cat"))
    ours = classifier.eval()(**batch).logits
    batch["input_ids"] = batch.pop("token_ids")
    assert classifier(**batch).logits.equal(ours)
    assert repr(classifier(**batch)).startswith("ClassifierOutput(logits=float32[1, ")
