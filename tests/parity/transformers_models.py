"""Tiny models of transformers with random weights, for every family that is read from there, and inputs for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from comparing import difference, perturb
from tiny_models import tiny_fields
from torch import Tensor, nn

from hezar_like import Model
from hezar_like.backbones import Decoder, EncoderDecoder
from hezar_like.registry import families_registry, models_registry, tasks_registry
from hezar_like.tasks.text import TextTask

TOLERANCE = 2e-5
# For each task that is exported, the class of transformers that opens it.
CLASSES: dict[str, Any] = {
    "backbone": transformers.AutoModel,
    "text_embedding": transformers.AutoModel,
    "text_classification": transformers.AutoModelForSequenceClassification,
    "sequence_labeling": transformers.AutoModelForTokenClassification,
    "mask_filling": transformers.AutoModelForMaskedLM,
    "text_generation": transformers.AutoModelForCausalLM,
}
FAMILIES = {
    name: families_registry[name].module_class
    for name in families_registry
    if any(
        issubclass(tasks_registry[task].module_class, TextTask) for task in families_registry[name].module_class.heads
    )
}
MODEL_TYPES = {model_type: family for family in FAMILIES.values() if family.titles for model_type in family.model_types}
LABELED = ("text_classification", "sequence_labeling")


def reads_first(model_type: str) -> bool:
    """Whether an encoder reads before a decoder writes."""
    return issubclass(MODEL_TYPES[model_type].backbone, EncoderDecoder)


def decodes(model_type: str) -> bool:
    """Whether there is only a decoder."""
    return issubclass(MODEL_TYPES[model_type].backbone, Decoder)


def config_class(model_type: str) -> Any:
    return MODEL_TYPES[model_type].config_class


def serves(model_type: str, task: str) -> bool:
    """Whether transformers has such a model too."""
    heads = MODEL_TYPES[model_type].heads
    if task not in heads or task not in CLASSES or not MODEL_TYPES[model_type].endings(task):
        return False
    entry = models_registry.compose(MODEL_TYPES[model_type].name, task)
    return bool(heads[task].published(entry.config_class(**tiny_fields(entry.config_class))))


def variants(model_type: str, task: str) -> list[str]:
    """What models of a type for a task may have otherwise than by default."""
    fields, result = config_class(model_type).fields(), [""]
    if task in ("mask_filling", "text_generation") and "tie_word_embeddings" in fields:
        result.append("untied")
    if task in ("backbone", "text_embedding") and "add_pooling_layer" in fields:
        result.append("unpooled")
    if task == "text_generation" and "feed_forward_proj" in fields:
        result += ["gated", "gated-untied"]
    return result


CASES = [
    (model_type, task, variant)
    for model_type in MODEL_TYPES
    for task in CLASSES
    if serves(model_type, task)
    for variant in variants(model_type, task)
]


def of_task(task: str) -> list[str]:
    """The types that have a model for a task in transformers too."""
    return [model_type for model_type in MODEL_TYPES if serves(model_type, task)]


def main_task(model_type: str) -> str:
    """A task with a loss."""
    return "text_classification" if serves(model_type, "text_classification") else "text_generation"


def class_of(model_type: str, task: str) -> Any:
    """The class of transformers for a task."""
    if task == "text_generation" and reads_first(model_type):
        return transformers.AutoModelForSeq2SeqLM
    return CLASSES[task]


def published(model_type: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Config fields under the names transformers gives them."""
    names = {field: alias for alias, field in config_class(model_type).aliases.items()}
    return {names.get(field, field): value for field, value in fields.items()}


def options(variant: str) -> dict[str, Any]:
    """The options of transformers' class for a variant."""
    return {"add_pooling_layer": False} if variant == "unpooled" else {}


def original(model_type: str, task: str, variant: str = "", **fields: Any) -> Any:
    """A tiny model of transformers with random weights; fields that are not at their defaults, to see them read."""
    own = config_class(model_type).fields()
    values = tiny_fields(config_class(model_type))
    values |= {key: 1e-4 for key in ("layer_norm_eps", "rms_norm_eps") if key in own}
    values |= {key: value for key, value in (("bos_token_id", 2), ("eos_token_id", 3)) if key in own}
    if model_type != "bert":
        values["pad_token_id"] = 1
    if reads_first(model_type):
        values |= {"decoder_start_token_id": 4}
        values["feed_forward_proj"] = "gated-gelu" if variant.startswith("gated") else "relu"
    labels = {"num_labels": 5} if task in LABELED and "num_labels" not in fields else {}
    untied = variant.endswith("untied")
    settings = published(model_type, values) | labels | {"tie_word_embeddings": not untied} | fields
    config = transformers.AutoConfig.for_model(model_type, **settings)
    model = class_of(model_type, task).from_config(config, attn_implementation="eager", **options(variant))
    if untied and reads_first(model_type):  # transformers ties them whatever the config says, and files untie them
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))
    perturb(model)
    share_bias(model)
    for name, parameter in model.named_parameters():
        if name.endswith(".q.weight"):  # T5's, whose scores are not scaled
            parameter.data *= values["head_dim"] ** -0.5
    return model.eval()


def heads_with_two_biases(model: Any) -> list[Any]:
    """The heads of a masked language model that have a second, unused bias in transformers 5 where they are untied."""
    holders = (getattr(getattr(model, "cls", None), "predictions", None), getattr(model, "lm_head", None))
    return [holder for holder in holders if hasattr(holder, "decoder")]


def share_bias(model: Any) -> None:
    """Makes both biases one, as files of earlier versions hold the same one twice."""
    for holder in heads_with_two_biases(model):
        holder.bias.data.copy_(holder.decoder.bias.data)


def example(model: Any, rows: int = 5, longest: int = 23, seed: int = 1, side: str = "right") -> dict[str, Tensor]:
    """Token rows of unequal lengths with padding, under transformers' names."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([longest, 1, *torch.randint(2, longest, (rows - 2,), generator=random).tolist()])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    mask = mask if side == "right" else mask.flip(1)
    tokens = torch.randint(5, model.config.vocab_size, (rows, longest), generator=random)
    batch = {"input_ids": torch.where(mask.bool(), tokens, model.config.pad_token_id), "attention_mask": mask}
    types = getattr(model.config, "type_vocab_size", 0)
    if types > 1:
        batch["token_type_ids"] = torch.randint(0, types, tokens.shape, generator=random) * mask
    return batch


def with_written(model: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch with the decoder's input, where an encoder reads first."""
    if not model.config.is_encoder_decoder:
        return batch
    mask = batch["attention_mask"][:, :9].flip(0)
    written = torch.where(mask.bool(), batch["input_ids"][:, :9].flip(0), model.config.pad_token_id)
    return batch | {"decoder_input_ids": written, "decoder_attention_mask": mask}


def ours(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch under our names."""
    return {"token_ids" if name == "input_ids" else name: tensor for name, tensor in batch.items()}


def main_output(output: Any) -> Tensor:
    return output["logits"] if "logits" in output else output["last_hidden_state"]


# What transformers calls otherwise where there is an encoder too.
DECODERS = {"hidden_states": "decoder_hidden_states", "attentions": "decoder_attentions"}
TRACES = (
    "hidden_states", "attentions", "encoder_last_hidden_state", "encoder_hidden_states", "encoder_attentions",
    "cross_attentions",
)  # fmt: skip


def distance(result: Any, expected: Any) -> float:
    """The largest difference between two results, measured by how far the expected numbers spread, if that is less."""
    spread = expected.float().std().item() if isinstance(expected, Tensor) and expected.numel() > 1 else 1.0
    return difference(result, expected) / min(1.0, spread or 1.0)


@torch.no_grad()
def assert_same_outputs(model: Model, theirs: Any) -> None:
    batch = example(theirs)
    extra = {"output_hidden_states": True, "output_attentions": True}
    both = theirs.config.is_encoder_decoder
    if model.task == "text_embedding":  # transformers has no such class: its hidden states are compared
        expected, result = theirs(**with_written(theirs, batch), **extra), model(**ours(batch), **extra)
        side = "encoder_" if both else ""
        for name in ("hidden_states", "attentions"):
            assert difference(result[name], expected[side + name]) <= TOLERANCE
        assert difference(result.hidden_states[-1], expected[side + "last_hidden_state"]) <= TOLERANCE
        return
    batch = with_written(theirs, batch)
    expected, result = theirs(**batch, **extra), model(**ours(batch), **extra)
    assert distance(main_output(result), main_output(expected)) <= TOLERANCE
    assert difference(result.get("pooler_output"), expected.get("pooler_output")) <= TOLERANCE
    for name in TRACES:
        trace = expected.get(DECODERS.get(name, name) if both else name)
        assert difference(result.get(name), None if trace == () else trace) <= TOLERANCE, name
    without_trace = model(**ours(batch))
    assert set(without_trace) == set(result) - {*TRACES} | ({"encoder_last_hidden_state"} if both else set())
    assert difference(main_output(without_trace), main_output(expected)) <= TOLERANCE


@torch.no_grad()
def assert_same_loss(model: Model, theirs: Any, batch: dict[str, Tensor], labels: Tensor) -> None:
    expected = theirs(**batch, labels=labels)
    result = model(**ours(batch), labels=labels)
    assert expected.loss > 0.01
    assert difference(result.loss, expected.loss) <= TOLERANCE
    assert distance(result.logits, expected.logits) <= TOLERANCE


def load(folder: Path, task: str) -> Model:
    model = Model.load(folder, device="cpu", task="text_embedding" if task == "text_embedding" else None)
    assert model.task == task
    return model


def saved(folder: Path, model_type: str, task: str, variant: str = "", **fields: Any) -> tuple[Model, Any]:
    """A model read from files of transformers, and theirs."""
    theirs = original(model_type, task, variant, **fields)
    theirs.save_pretrained(folder)
    return load(folder, task), theirs
