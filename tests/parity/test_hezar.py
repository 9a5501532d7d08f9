"""Models written by hezar 1.0.0, replayed: our predictions equal the recorded ones, except where Hezar errs."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import assert_same_config, assert_same_predictions, assert_same_tensors, difference
from safetensors.torch import load_file
from torch import Tensor, nn

from hezar_like import Model, ModelConfig, register_model
from hezar_like.errors import InputError, OptionError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "hezar"
TOLERANCE = 1e-5
# The others are in files of their own.
ELSEWHERE = ("custom", "generation", "gpt2", "speech")
FOLDERS = sorted(
    path.parent.name
    for path in FIXTURES.glob("*/model_config.yaml")
    if not any(word in path.parent.name for word in ELSEWHERE)
)
RANDOM_HEAD = "legacy_backbone_into_classifier"


def recorded(folder: str) -> dict[str, Any]:
    return json.loads((FIXTURES / folder / "expected.json").read_text(encoding="utf-8"))


@cache
def tensors(folder: str) -> dict[str, Tensor]:
    path = FIXTURES / folder / "expected.safetensors"
    return load_file(path) if path.exists() else {}


@cache
def loaded(folder: str) -> Model:
    return Model.load(FIXTURES / folder, device="cpu")


def source_of(folder: str, case: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Where the right answers of a case are."""
    if folder != "legacy_bert_maskfill_position_ids":
        return folder, case
    # Hezar read this file by position and predicted garbage; the same weights without the extra key are recorded too.
    reference = recorded(folder)["reference_fixture"]
    same = [c for c in recorded(reference)["cases"] if c["inputs"] == case["inputs"] and "predict" in c]
    return reference, max(same, key=lambda c: c["predict_kwargs"].get("top_k", 1))


ALL = [(folder, case) for folder in FOLDERS for case in recorded(folder)["cases"]]
SUCCEEDED = [(folder, case) for folder, case in ALL if "predict" in case and folder != RANDOM_HEAD]
FAILED = [(folder, case) for folder, case in ALL if "error" in case]


def names(cases: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [f"{folder}-{case['id']}" for folder, case in cases]


@pytest.mark.parametrize(("folder", "case"), SUCCEEDED, ids=names(SUCCEEDED))
def test_recorded_prediction(folder: str, case: dict[str, Any]) -> None:
    model = loaded(folder)
    options = dict(case["predict_kwargs"])
    if "foo" in options:  # Hezar warned of unknown options and ignored them
        with pytest.raises(OptionError, match="'foo'") as error:
            model.predict(case["inputs"], **options)
        assert isinstance(error.value, TypeError)
        del options["foo"]
    reference, reference_case = source_of(folder, case)
    top_k = options.get("top_k")
    ours, theirs = model.predict(case["inputs"], **options), reference_case["predict"]
    if is_batch_of_tensors(theirs):
        assert_same_records(ours, theirs, reference, reference_case["id"])
    elif model.task == "sequence_labeling":
        assert_same_labels(ours, theirs, with_numbers="return_scores" in options)
    else:
        theirs = [records[:top_k] for records in theirs] if folder != reference else theirs
        assert difference(ours, theirs) <= TOLERANCE


def is_batch_of_tensors(prediction: Any) -> bool:
    """Hezar returned one mapping of tensors for a whole batch: of backbones, and with post_process=False."""
    return isinstance(prediction, dict)


def assert_same_records(ours: list[Any], theirs: dict[str, Any], folder: str, case: str) -> None:
    """We return one record per input; the tensors themselves are compared with the recorded ones, where there are."""
    (name, shape), *others = ((name, value["shape"]) for name, value in theirs.items() if isinstance(value, dict))
    assert not others
    assert [list(record[name].shape) for record in ours] == [shape[1:]] * shape[0]
    for hidden in theirs["hidden_states"] or []:
        assert hidden["shape"] == [1, *ours[0]["hidden_states"][0].shape]
    assert len(ours[0].get("hidden_states") or []) == len(theirs["hidden_states"] or [])
    for key in ("last_hidden_state", "pooler_output", "logits"):
        expected = tensors(folder).get(f"{case}/{key}")
        if expected is not None and key in ours[0]:
            assert difference([record[key] for record in ours], list(expected)) <= TOLERANCE


def assert_same_labels(ours: list[Any], theirs: list[Any], with_numbers: bool) -> None:
    """Hezar also labelled `</s>`, because of a misplaced quote in its defaults, and padding.

    It left out offsets and scores unless they were asked for; ours are always there.
    """
    leaked = ("</s>", "[PAD]", "<pad>")
    expected = [[record for record in records if record["token"] not in leaked] for records in theirs]
    assert all(record["score"] > 0 and record["end"] > record["start"] for records in ours for record in records)
    if not with_numbers:
        empty = {"start": None, "end": None, "score": None}
        ours = [[record | empty for record in records] for records in ours]
    assert difference(ours, expected) <= TOLERANCE


@pytest.mark.parametrize(("folder", "case"), SUCCEEDED, ids=names(SUCCEEDED))
def test_recorded_tensors(folder: str, case: dict[str, Any]) -> None:
    """The same token ids go in, and the same numbers come out."""
    model = loaded(folder)
    reference, reference_case = source_of(folder, case)
    expected = {
        name.removeprefix(f"{reference_case['id']}/"): tensor
        for name, tensor in tensors(reference).items()
        if name.startswith(f"{reference_case['id']}/")
    }
    batch = model.preprocess(case["inputs"])
    for name in ("token_ids", "attention_mask"):
        if name in expected:
            assert torch.equal(batch[name], expected[name])
    with torch.no_grad():
        output = model(**{name: tensor for name, tensor in batch.items() if name != "token_type_ids"})
    compared = {name for name in ("logits", "last_hidden_state", "pooler_output") if name in expected}
    assert compared or not expected
    assert all(difference(output[name], expected[name]) <= TOLERANCE for name in compared)


@pytest.mark.parametrize(("folder", "case"), FAILED, ids=names(FAILED))
def test_where_hezar_failed(folder: str, case: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    model, inputs, options = loaded(folder), case["inputs"], case["predict_kwargs"]
    if case["id"] == "no_mask":
        with pytest.raises(InputError, match=r"item 0 .* has no (\[MASK\]|<mask>)"):
            model.predict(inputs, **options)
        return
    results = model.predict(inputs, **options)
    assert len(results) == len(inputs)
    if case["id"] == "ragged_batch":
        singles = [model.predict([text], **options)[0] for text in inputs]
        assert difference(results, singles) <= TOLERANCE
    elif case["id"] == "too_long":
        assert_whole_text_or_warning(model, inputs[0], results[0], caplog)
    elif case["id"] == "two_masks":
        assert len(results[0]) == 2 and all(len(proposals) == 1 for proposals in results[0])
    elif case["id"] == "single":  # without id2label, Hezar had no names
        assert results[0][0]["label"] in ("LABEL_0", "LABEL_1")
    else:
        assert case["id"] == "empty_list" and results == []


def assert_whole_text_or_warning(model: Model, text: str, result: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """Labels come for the whole of a long text; a classification of its beginning is warned of."""
    if model.task == "sequence_labeling":
        assert "".join(text[r["start"] : r["end"]].strip() for r in result) == text.replace(" ", "")
        return
    model.__dict__.pop("_warned_of_truncation", None)  # each model warns once
    with caplog.at_level(logging.WARNING, "hezar_like"):
        model.predict(text)
    assert "was cut to the" in caplog.text
    encoded = model.preprocessor.tokenizer.encode_texts([text])[0].truncated(model.max_tokens)
    with torch.no_grad():
        logits = model(token_ids=torch.tensor([encoded.ids])).logits
    best = logits.softmax(-1)[0].max().item()
    assert abs(result[0]["score"] - best) <= TOLERANCE


@pytest.mark.parametrize("folder", FOLDERS)
def test_saved_again(folder: str, tmp_path: Path) -> None:
    model = loaded(folder)
    model.save(tmp_path)
    again = Model.load(tmp_path, device="cpu")
    assert_same_config(again.config, model.config)
    assert_same_tensors(again.state_dict(), model.state_dict())
    for case in recorded(folder)["cases"]:
        if case["id"] not in ("no_mask", "unknown_kwarg"):
            inputs, options = case["inputs"], case["predict_kwargs"]
            assert_same_predictions(again.predict(inputs, **options), model.predict(inputs, **options))


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_lost(folder: str) -> None:
    """Every tensor of the file is in the model, but poolers that the task does not use, copies, and position ids."""
    model, state = loaded(folder), torch.load(FIXTURES / folder / "model.pt", weights_only=True)
    ours = {tuple(tensor.flatten().tolist()) for tensor in model.state_dict().values()}
    lost = [name for name, tensor in state.items() if tuple(tensor.flatten().tolist()) not in ours]
    unused = ["pooler.dense.weight", "pooler.dense.bias"] if model.task in ("sequence_labeling", "mask_filling") else []
    assert all(name.endswith((*unused, "position_ids")) for name in lost)


def test_a_head_that_is_not_in_the_file(caplog: pytest.LogCaptureFixture) -> None:
    """The head is random by nature, and said to be; the backbone is that of the model it was cut from."""
    with caplog.at_level(logging.WARNING, "hezar_like"):
        model = Model.load(FIXTURES / RANDOM_HEAD, device="cpu")
    assert "new and random" in caplog.text and "head.out.weight" in caplog.text
    reference = loaded(recorded(RANDOM_HEAD)["reference_fixture"])
    assert_same_tensors(model.backbone.state_dict(), reference.backbone.state_dict())
    assert_same_tensors(model.head.dense.state_dict(), reference.head.dense.state_dict())
    assert model.head.out.weight.std() > 0 and not model.head.out.weight.equal(reference.head.out.weight)


@dataclass
class SampleNetConfig(ModelConfig):
    name = "sample_net"
    num_channels: int = 3
    num_classes: int = 10


@pytest.fixture
def sample_net(own_registrations: None) -> type[Model]:
    """The model of Hezar's guide, as a user registers it."""

    @register_model("sample_net", config_class=SampleNetConfig, description="My simple CNN network")
    class SampleNet(Model):
        def __init__(self, config: SampleNetConfig) -> None:
            super().__init__(config=config)
            self.conv1 = nn.Conv2d(self.config.num_channels, 6, 5)
            self.pool = nn.MaxPool2d(2, 2)
            self.conv2 = nn.Conv2d(6, 16, 5)
            self.fc1 = nn.Linear(16 * 5 * 5, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, self.config.num_classes)

        def forward(self, x: Tensor) -> Tensor:
            x = self.pool(nn.functional.relu(self.conv1(x)))
            x = self.pool(nn.functional.relu(self.conv2(x)))
            x = torch.flatten(x, 1)
            x = nn.functional.relu(self.fc1(x))
            x = nn.functional.relu(self.fc2(x))
            return self.fc3(x)

    return SampleNet


def test_a_users_own_model(sample_net: type[Model], tmp_path: Path) -> None:
    expected = tensors("custom_sample_net")
    model = Model.load(FIXTURES / "custom_sample_net", device="cpu")
    assert type(model) is sample_net and model.config.num_classes == 4
    assert difference(model(expected["x"]), expected["logits"]) <= TOLERANCE
    assert difference(model.predict(expected["x"]), list(expected["logits"])) <= TOLERANCE
    model.save(tmp_path)
    again = Model.load(tmp_path, device="cpu")
    assert_same_config(again.config, model.config)
    assert_same_tensors(again.state_dict(), model.state_dict())
