"""transformers' models, there and back: equal outputs, losses, gradients and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import assert_same_tensors, difference
from safetensors.torch import load_file
from tiny_models import tiny_model
from transformers_models import (
    CASES,
    CLASSES,
    FAMILIES,
    MODEL_TYPES,
    assert_same_loss,
    assert_same_outputs,
    class_of,
    config_class,
    example,
    heads_with_two_biases,
    load,
    main_output,
    main_task,
    of_task,
    options,
    original,
    ours,
    published,
    saved,
    serves,
    with_written,
)

from hezar_like import Model
from hezar_like.errors import CheckpointError, OptionError
from hezar_like.registry import tasks_registry

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
each_case = pytest.mark.parametrize(
    ("model_type", "task", "variant"), CASES, ids=["-".join(filter(None, case)) for case in CASES]
)
# Of a file that export writes, what is no setting of a model's class in transformers.
NOTES = {"architectures", "model_type", "dtype", "id2label", "label2id", "problem_type"}
# What earlier versions, or heads, read besides.
READ_ELSEWHERE = {
    "classifier_dropout", "decoder_start_token_id", "position_embedding_type", "rope_local_base_freq", "rope_scaling",
    "rope_theta", "sliding_window_pattern",
}  # fmt: skip


def assert_transformers_opens(folder: Path, model_type: str, task: str, theirs: Any, variant: str) -> None:
    """transformers finds every tensor it wants and no other, knows every setting, and computes what it did before."""
    again, report = class_of(model_type, task).from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager", **options(variant)
    )
    assert not any(report.values()), report
    settings = json.loads((folder / "config.json").read_text())
    assert {*settings} - NOTES - READ_ELSEWHERE <= {*type(again.config)().to_dict()}
    with torch.no_grad():
        batch = with_written(theirs, example(theirs))
        assert difference(main_output(again.eval()(**batch)), main_output(theirs(**batch))) == 0.0


def test_every_exported_task_is_here() -> None:
    exported = {name for name, task in tasks_registry.items() if task.module_class.endings}
    served = {name for name in exported for family in FAMILIES.values() if family.titles and name in family.heads}
    elsewhere = {"multiple_choice"}  # its inputs have a dimension more; see its own tests
    assert served - elsewhere == set(CLASSES)


@each_case
def test_there_and_back(model_type: str, task: str, variant: str, tmp_path: Path) -> None:
    model, theirs = saved(tmp_path / "original", model_type, task, variant)
    assert_same_outputs(model, theirs)

    model.export("transformers", tmp_path / "exported")
    names = [tmp_path / folder / "model.safetensors" for folder in ("exported", "original")]
    assert_same_tensors(*map(load_file, names))
    assert_transformers_opens(tmp_path / "exported", model_type, task, theirs, variant)

    model.save(tmp_path / "native")
    Model.load(tmp_path / "native", device="cpu").export("transformers", tmp_path / "second")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "exported" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@each_case
def test_sharded(model_type: str, task: str, variant: str, tmp_path: Path) -> None:
    theirs = original(model_type, task, variant)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_same_outputs(load(tmp_path, task), theirs)


@each_case
def test_pytorch_model_bin(model_type: str, task: str, variant: str, tmp_path: Path) -> None:
    theirs = original(model_type, task, variant)
    theirs.config.architectures = [type(theirs).__name__]
    theirs.config.save_pretrained(tmp_path)
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")  # tied weights twice, as transformers wrote it
    assert_same_outputs(load(tmp_path, task), theirs)


@pytest.mark.parametrize(
    "model_type", [name for name in of_task("mask_filling") if heads_with_two_biases(original(name, "mask_filling"))]
)
def test_two_biases_of_an_untied_head_are_refused_when_they_differ(model_type: str, tmp_path: Path) -> None:
    """transformers 5 leaves the second one unused, earlier ones could not write such a file: no silent choice."""
    theirs = original(model_type, "mask_filling", "untied")
    (head,) = heads_with_two_biases(theirs)
    head.bias.data.zero_()
    theirs.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"bias' and .*decoder\.bias' should be the same tensor and differ"):
        load(tmp_path, "mask_filling")


ACTIVATION_FIELDS = ("hidden_act", "hidden_activation", "feed_forward_proj")


@pytest.mark.parametrize("activation", ["relu", "gelu_new", "silu", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_activations(model_type: str, activation: str, tmp_path: Path) -> None:
    (field,) = (field for field in ACTIVATION_FIELDS if field in config_class(model_type).fields())
    gated = field == "feed_forward_proj" and activation == "silu"
    setting = published(model_type, {field: f"gated-{activation}" if gated else activation})
    task = "mask_filling" if serves(model_type, "mask_filling") else "text_generation"
    assert_same_outputs(*saved(tmp_path, model_type, task, **setting))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_tensors_of_a_half_stay_halves(model_type: str, tmp_path: Path) -> None:
    task = main_task(model_type)
    theirs = original(model_type, task).to(torch.bfloat16)
    theirs.save_pretrained(tmp_path / "original")
    model = load(tmp_path / "original", task)
    assert model.dtype == torch.bfloat16
    model.export("transformers", tmp_path / "exported")
    names = [tmp_path / folder / "model.safetensors" for folder in ("original", "exported")]
    assert_same_tensors(*map(load_file, names))
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["dtype"] == "bfloat16"


PROBLEMS: dict[str, tuple[dict[str, Any], Any]] = {
    "single": ({}, lambda: torch.tensor([0, 4, 2, 1, 3])),
    "single-named": ({"problem_type": "single_label_classification"}, lambda: torch.tensor([0, 4, 2, 1, 3])),
    "multi": ({"problem_type": "multi_label_classification"}, lambda: (torch.arange(25).view(5, 5) % 3 == 0).float()),
    "regression": ({"num_labels": 1}, lambda: torch.linspace(-1, 2, 5)),
    "regression-two": ({"problem_type": "regression", "num_labels": 2}, lambda: torch.linspace(-1, 2, 10).view(5, 2)),
}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("model_type", of_task("text_classification"))
def test_loss_of_classification(model_type: str, problem: str, tmp_path: Path) -> None:
    fields, labels = PROBLEMS[problem]
    model, theirs = saved(tmp_path, model_type, "text_classification", **fields)
    assert_same_loss(model, theirs, example(theirs), labels())


@pytest.mark.parametrize(
    ("model_type", "task"),
    [(name, task) for task in ("sequence_labeling", "mask_filling", "text_generation") for name in of_task(task)],
)
def test_loss_of_tokens(model_type: str, task: str, tmp_path: Path) -> None:
    """Where an encoder reads first, the labels become the decoder's input."""
    model, theirs = saved(tmp_path, model_type, task)
    batch = example(theirs)
    labels = torch.where(batch["attention_mask"].bool(), batch["input_ids"], -100)
    labels[0, ::2] = -100
    if task == "sequence_labeling":
        labels = torch.where(labels >= 0, labels % 5, labels)
    assert_same_loss(model, theirs, batch, labels)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_gradients(model_type: str, tmp_path: Path) -> None:
    task = main_task(model_type)
    model, theirs = saved(tmp_path, model_type, task)
    batch = example(theirs)
    labels = torch.tensor([0, 4, 2, 1, 3]) if task == "text_classification" else batch["input_ids"]
    theirs(**batch, labels=labels).loss.backward()
    model(**ours(batch), labels=labels).loss.backward()
    keymap = model.family.keymap(model.config, model.task)
    gradients = dict(keymap.to_foreign((name, parameter.grad) for name, parameter in model.named_parameters()))
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert set(gradients) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            gradients[name], gradient, rtol=1e-4, atol=5e-6, msg=lambda text, n=name: f"{n}: {text}"
        )
    assert sum(gradient.abs().max() > 1e-4 for gradient in expected.values()) > len(expected) * 0.9


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("t5_text_generation", {"attention_scale": 0.5}),
        ("t5", {"attention_scale": None}),
        ("t5_text_generation", {"logit_scale": 0.5}),
        ("gptj_text_generation", {"shared_norm": False}),
        ("gpt2_text_generation", {"unused_tokens": 3}),
    ],
)
def test_what_transformers_cannot_compute_is_not_exported(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    ((field, value),) = fields.items()
    with pytest.raises(OptionError, match=f"knows nothing of .*{field}={value!r}.*Use save"):
        tiny_model(name, **fields).export("transformers", tmp_path)
    assert not list(tmp_path.iterdir())
