"""transformers' models, there and back: equal outputs, losses, gradients and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from comparing import assert_same_tensors, difference, perturb
from safetensors.torch import load_file
from tiny_models import tiny_fields
from torch import Tensor

from hezar_like import Model
from hezar_like.errors import CheckpointError
from hezar_like.formats.transformers import EXPORTED
from hezar_like.registry import families_registry, models_registry

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

TOLERANCE = 2e-5
# For each task that is exported, the class of transformers that opens it.
CLASSES: dict[str, Any] = {
    "backbone": transformers.AutoModel,
    "text_embedding": transformers.AutoModel,
    "text_classification": transformers.AutoModelForSequenceClassification,
    "sequence_labeling": transformers.AutoModelForTokenClassification,
    "mask_filling": transformers.AutoModelForMaskedLM,
}
FAMILIES = {name: families_registry[name].module_class for name in families_registry}
MODEL_TYPES = {model_type: family for family in FAMILIES.values() for model_type in family.model_types}


def variants(model_type: str, task: str) -> list[str]:
    """What models of a type for a task may lack."""
    if task == "mask_filling":
        return ["", "untied"]
    pools = "add_pooling_layer" in MODEL_TYPES[model_type].config_class.fields()
    return ["", "unpooled"] if pools and task in ("backbone", "text_embedding") else [""]


CASES = [
    (model_type, task, variant)
    for model_type, family in MODEL_TYPES.items()
    for task in CLASSES
    if task in family.heads
    for variant in variants(model_type, task)
]
each_case = pytest.mark.parametrize(
    ("model_type", "task", "variant"), CASES, ids=["-".join(filter(None, case)) for case in CASES]
)


def published(model_type: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Config fields under the names transformers gives them."""
    names = {field: alias for alias, field in MODEL_TYPES[model_type].config_class.aliases.items()}
    return {names.get(field, field): value for field, value in fields.items()}


def options(variant: str) -> dict[str, Any]:
    """The options of transformers' class for a variant."""
    return {"add_pooling_layer": False} if variant == "unpooled" else {}


def original(model_type: str, task: str, variant: str = "", **fields: Any) -> Any:
    """A tiny model of transformers with random weights; fields that are not at their defaults, to see them read."""
    config_class = models_registry.compose(MODEL_TYPES[model_type].name, "backbone").config_class
    values = tiny_fields(config_class)
    if "layer_norm_eps" in config_class.fields():
        values["layer_norm_eps"] = 1e-4
    if model_type != "bert":
        values["pad_token_id"] = 1
    labels = {"num_labels": 5} if "num_labels" not in fields else {}
    config = transformers.AutoConfig.for_model(
        model_type, **published(model_type, values), **labels, **fields, tie_word_embeddings=variant != "untied"
    )
    model = CLASSES[task].from_config(config, attn_implementation="eager", **options(variant))
    perturb(model)
    share_bias(model)
    return model.eval()


def share_bias(model: Any) -> None:
    """Untied heads of transformers 5 have a second, unused bias; files of earlier ones hold the same one twice."""
    for holder in (getattr(getattr(model, "cls", None), "predictions", None), getattr(model, "lm_head", None)):
        if holder is not None:
            holder.bias.data.copy_(holder.decoder.bias.data)


def example(model: Any, rows: int = 5, longest: int = 23, seed: int = 1) -> dict[str, Tensor]:
    """Token rows of unequal lengths with padding, under transformers' names."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([longest, 1, *torch.randint(2, longest, (rows - 2,), generator=random).tolist()])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    tokens = torch.randint(5, model.config.vocab_size, (rows, longest), generator=random)
    batch = {"input_ids": torch.where(mask.bool(), tokens, model.config.pad_token_id), "attention_mask": mask}
    types = getattr(model.config, "type_vocab_size", 0)
    if types > 1:
        batch["token_type_ids"] = torch.randint(0, types, tokens.shape, generator=random) * mask
    return batch


def ours(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch under our names."""
    return {"token_ids" if name == "input_ids" else name: tensor for name, tensor in batch.items()}


def main_output(output: Any) -> Tensor:
    return output["logits"] if "logits" in output else output["last_hidden_state"]


@torch.no_grad()
def assert_same_outputs(model: Model, theirs: Any) -> None:
    batch = example(theirs)
    extra = {"output_hidden_states": True, "output_attentions": True}
    expected, result = theirs(**batch, **extra), model(**ours(batch), **extra)
    if model.task == "text_embedding":  # transformers has no such class: its hidden states are compared
        assert difference(result.hidden_states[-1], expected.last_hidden_state) <= TOLERANCE
    else:
        assert difference(main_output(result), main_output(expected)) <= TOLERANCE
        assert difference(result.get("pooler_output"), expected.get("pooler_output")) <= TOLERANCE
        without_trace = model(**ours(batch))
        assert set(without_trace) == set(result) - {"hidden_states", "attentions"}
        assert difference(main_output(without_trace), main_output(expected)) <= TOLERANCE
    assert difference(result.hidden_states, expected.hidden_states) <= TOLERANCE
    assert difference(result.attentions, expected.attentions) <= TOLERANCE


def load(folder: Path, task: str) -> Model:
    model = Model.load(folder, device="cpu", task="text_embedding" if task == "text_embedding" else None)
    assert model.task == task
    return model


def assert_transformers_opens(folder: Path, task: str, theirs: Any, variant: str) -> None:
    """transformers finds every tensor it wants and no other, and computes what it did before."""
    again, report = CLASSES[task].from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager", **options(variant)
    )
    assert not any(report.values()), report
    with torch.no_grad():
        batch = example(theirs)
        assert difference(main_output(again.eval()(**batch)), main_output(theirs(**batch))) == 0.0


def test_every_exported_task_is_here() -> None:
    assert set(EXPORTED) == set(CLASSES)
    assert {family.name for family in MODEL_TYPES.values()} == {
        name for name, family in FAMILIES.items() if family.titles
    }


@each_case
def test_there_and_back(model_type: str, task: str, variant: str, tmp_path: Path) -> None:
    theirs = original(model_type, task, variant)
    theirs.save_pretrained(tmp_path / "original")
    weights = load_file(tmp_path / "original" / "model.safetensors")

    model = load(tmp_path / "original", task)
    assert_same_outputs(model, theirs)

    model.export("transformers", tmp_path / "exported")
    assert_same_tensors(load_file(tmp_path / "exported" / "model.safetensors"), weights)
    assert_transformers_opens(tmp_path / "exported", task, theirs, variant)

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


@pytest.mark.parametrize("model_type", [name for name, family in MODEL_TYPES.items() if family.name != "distilbert"])
def test_two_biases_of_an_untied_head_are_refused_when_they_differ(model_type: str, tmp_path: Path) -> None:
    """transformers 5 leaves the second one unused, earlier ones could not write such a file: no silent choice."""
    theirs = original(model_type, "mask_filling", "untied")
    head = theirs.cls.predictions if model_type == "bert" else theirs.lm_head
    head.bias.data.zero_()
    theirs.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"bias' and .*decoder\.bias' should be the same tensor and differ"):
        load(tmp_path, "mask_filling")


@pytest.mark.parametrize("activation", ["relu", "gelu_new", "silu", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_activations(model_type: str, activation: str, tmp_path: Path) -> None:
    theirs = original(model_type, "mask_filling", **published(model_type, {"hidden_act": activation}))
    theirs.save_pretrained(tmp_path)
    assert_same_outputs(load(tmp_path, "mask_filling"), theirs)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_tensors_of_a_half_stay_halves(model_type: str, tmp_path: Path) -> None:
    theirs = original(model_type, "text_classification").to(torch.bfloat16)
    theirs.save_pretrained(tmp_path / "original")
    model = load(tmp_path / "original", "text_classification")
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
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_loss_of_classification(model_type: str, problem: str, tmp_path: Path) -> None:
    fields, labels = PROBLEMS[problem]
    theirs = original(model_type, "text_classification", **fields)
    theirs.save_pretrained(tmp_path)
    assert_same_loss(load(tmp_path, "text_classification"), theirs, labels())


@pytest.mark.parametrize("task", ["sequence_labeling", "mask_filling"])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_loss_of_tokens(model_type: str, task: str, tmp_path: Path) -> None:
    theirs = original(model_type, task)
    theirs.save_pretrained(tmp_path)
    batch = example(theirs)
    labels = torch.where(batch["attention_mask"].bool(), batch["input_ids"], -100)
    labels[0, ::2] = -100
    if task == "sequence_labeling":
        labels = torch.where(labels >= 0, labels % 5, labels)
    assert_same_loss(load(tmp_path, task), theirs, labels)


@torch.no_grad()
def assert_same_loss(model: Model, theirs: Any, labels: Tensor) -> None:
    batch = example(theirs)
    expected = theirs(**batch, labels=labels)
    result = model(**ours(batch), labels=labels)
    assert expected.loss > 0.01
    assert difference(result.loss, expected.loss) <= TOLERANCE
    assert difference(result.logits, expected.logits) <= TOLERANCE


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_gradients(model_type: str, tmp_path: Path) -> None:
    theirs = original(model_type, "text_classification")
    theirs.save_pretrained(tmp_path)
    model = load(tmp_path, "text_classification")
    batch, labels = example(theirs), torch.tensor([0, 4, 2, 1, 3])
    theirs(**batch, labels=labels).loss.backward()
    model(**ours(batch), labels=labels).loss.backward()
    keymap = model.family.keymap(model.task)
    gradients = {keymap.foreign(name): parameter.grad for name, parameter in model.named_parameters()}
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert set(gradients) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
        )
    assert sum(gradient.abs().max() > 1e-4 for gradient in expected.values()) > len(expected) * 0.9
