"""From a batch to its loss: padded or packed, by the task's own loss or another one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones import Backbone, EncoderDecoder
from ..data.packing import span_mask
from ..engine.packing import reading_only, reading_padding, rows_of_texts
from ..errors import ConfigError, DataError
from ..models.model import Model
from ..outputs import BackboneOutput, ClassifierOutput
from ..tasks.mask_filling import MaskFilling
from ..tasks.scoring import IGNORED, ScoringTask
from ..tasks.sequence_labeling import SequenceLabeling
from ..tasks.sequence_labeling_crf import SequenceLabelingCRF
from ..tasks.sequence_labeling_global_pointer import SequenceLabelingGlobalPointer
from ..tasks.text_classification import TextClassification
from ..tasks.text_generation import TextGeneration
from .losses import softened_loss

__all__ = ["TrainingStep", "counted", "shifts_labels", "taken", "why_not_packed"]

BY_TEXT = (SequenceLabelingCRF, SequenceLabelingGlobalPointer)
"""Tasks whose loss is a mean over texts, although their labels are of tokens."""


class TrainingStep(nn.Module):
    """A model with its loss.

    Args:
        model: The model.
        label_smoothing: See `TrainerConfig`.
        focal_gamma: Likewise.
        fused: See `TrainerConfig.fused_loss`.

    Raises:
        ConfigError: When the model's loss is no cross entropy, and so has neither.
    """

    def __init__(
        self, model: nn.Module, *, label_smoothing: float = 0.0, focal_gamma: float = 0.0, fused: bool = False
    ) -> None:
        super().__init__()
        self.model: Any = model
        self._fused = fused
        if fused and not isinstance(model, TextGeneration):
            raise ConfigError(f"fused_loss is for models that write, which {type(model).__name__} is not.")
        self._soft = {"label_smoothing": label_smoothing, "focal_gamma": focal_gamma}
        if any(self._soft.values()) and not _has_cross_entropy(model):
            name = next(name for name, value in self._soft.items() if value)
            raise ConfigError(f"{name} needs a loss that is a cross entropy, which {type(model).__name__} has not.")

    def forward(self, batch: Mapping[str, Tensor], *, scores_only: bool = False) -> Mapping[str, Any]:
        """Scores and loss.

        Args:
            batch: What a collator made, with `labels`, or what the model's own loss takes.
            scores_only: Whether no loss is needed, but the scores of all tokens.

        Returns:
            With `loss`, the mean over what `counted` counts, or 0 where that is nothing, and `logits`, without a
            gradient; where not all tokens are scored, also `labels`, those of the scores.
        """
        inputs = dict(batch)
        if scores_only and isinstance(self.model, MaskFilling):
            inputs.pop("labels", None)
        labels = inputs.get("labels")
        span = inputs.get("span")
        texts = None if span is None or "span" in self.model.forward_names else span
        reads = reading_only(getattr(self.model, "tokens_read", "all"))
        with reads, rows_of_texts(texts), reading_padding(_has_labels_at_padding(inputs)):
            output = self._padded(inputs) if span is None else self._packed(inputs)
        found: dict[str, Any] = {k: output[k] for k in ("loss", "logits", "labels") if output.get(k) is not None}
        if labels is not None and not counted(self.model, batch):
            found["loss"] = found["logits"].sum() * 0.0  # the mean of nothing is NaN, and so would gradients be
        elif labels is not None and any(self._soft.values()):
            found["loss"] = self._softened(found["logits"], found.get("labels", labels))
        if "logits" in found:
            found["logits"] = found["logits"].detach()
        if "loss" not in found and not scores_only:
            raise DataError(
                "the model returned no loss. Give samples with labels, and return a loss from forward, or define "
                "compute_loss(logits, labels)."
            )
        return found

    def _padded(self, inputs: dict[str, Any]) -> Mapping[str, Any]:
        model, labels = self.model, inputs.get("labels")
        if isinstance(model, MaskFilling) and labels is not None:
            # The vocabulary is by far the widest layer, and most tokens have no label.
            scored = labels != IGNORED
            own = labels[scored]
            output = model(**taken(model, inputs) | {"labels": own, "scored": scored})
            return {"loss": output.loss, "logits": output.logits, "labels": own}
        if self._fused and self.training and counted(model, inputs):
            return {"loss": model.fused_loss(**taken(model, inputs))}
        output = model(**taken(model, inputs))
        if isinstance(output, Tensor):
            output = {"logits": output}
        if output.get("loss") is None and labels is not None and hasattr(model, "compute_loss"):
            output = {"logits": output["logits"], "loss": model.compute_loss(output["logits"], labels)}
        return output

    def _packed(self, inputs: dict[str, Any]) -> Mapping[str, Any]:
        """Several texts in a row; each sees itself only."""
        model, span = self.model, inputs.pop("span")
        positions, first = inputs.pop("position_ids"), inputs.pop("first_tokens", None)
        if "span" in model.forward_names:  # it has no positions of its own then
            inputs["span"] = span
        else:
            inputs["attention_mask"] = span_mask(span)
            inputs["position_ids"] = _own_positions(model.backbone, positions)
        if first is None:
            if shifts_labels(model):  # the first token of a text follows no other
                inputs["labels"] = inputs["labels"].masked_fill(positions == 0, IGNORED)
            return self._padded(inputs)
        labels = inputs.pop("labels")
        states = model.backbone(**taken(model, inputs)).last_hidden_state.flatten(0, 1)
        if model.backbone.summary == "last":
            lengths = torch.stack([(span == number).sum(1) for number in range(1, int(span.max()) + 1)], 1)
            rows, numbers = lengths.nonzero(as_tuple=True)
            # Sizes by place, put into the order of the samples.
            order = first.argsort().argsort()
            first = first + lengths[rows, numbers][order] - 1
        output: ClassifierOutput = model.read_out(BackboneOutput(states[first][:, None]), {}, labels)
        return output

    def _softened(self, logits: Tensor, labels: Tensor) -> Tensor:
        if shifts_labels(self.model):
            logits, labels = logits[:, :-1], labels[:, 1:]
        return softened_loss(logits, labels, **self._soft)


def counted(model: nn.Module, batch: Mapping[str, Tensor]) -> float:
    """What the loss of a batch is the mean of: tokens with a label, or samples; by it batches are weighed.

    A model's own method `loss_count(batch)` says it where it has one.
    """
    own = getattr(model, "loss_count", None)
    if own is not None:
        return float(own(batch))
    labels = batch.get("labels")
    if labels is None:
        return float(len(next(iter(batch.values()))))
    shifted = shifts_labels(model)
    if "loss_mask" in batch:
        mask = batch["loss_mask"]
        return float((mask[:, 1:] if shifted else mask).sum())
    if labels.ndim < 2 or labels.is_floating_point() or isinstance(model, BY_TEXT):
        return float(len(labels))
    if "span" in batch and shifted:
        labels = labels.masked_fill(batch["position_ids"] == 0, IGNORED)
    if shifted and isinstance(getattr(model, "backbone", None), Backbone) and "token_type_ids" in batch:
        labels = labels.masked_fill(batch["token_type_ids"] == 0, IGNORED)
    return float(((labels[:, 1:] if shifted else labels) != IGNORED).sum())


def why_not_packed(model: nn.Module) -> str | None:
    """What keeps a model from reading packed rows; None where nothing does."""
    backbone = getattr(model, "backbone", None)
    if not isinstance(model, TextClassification | SequenceLabeling | MaskFilling | TextGeneration):
        return "its task has no loss over rows of several texts"
    if isinstance(model, BY_TEXT):
        return "its loss is of whole texts"
    if isinstance(backbone, EncoderDecoder):
        return "a decoder that looks at an encoder's output needs a row for each text"
    if isinstance(model, TextGeneration) and isinstance(backbone, Backbone):
        return "an encoder that writes sees what it reads by rules of its own"
    if not {"position_ids", "span"} & model.forward_names or backbone is None or backbone.blanks is not None:
        return "its positions are not those of one row"
    return None


def _has_cross_entropy(model: nn.Module) -> bool:
    if isinstance(model, TextClassification):
        return model.config.problem == "single_label_classification"
    return isinstance(model, ScoringTask) and not isinstance(model, BY_TEXT)


def shifts_labels(model: Any) -> bool:
    """Whether each label is predicted from the tokens before it."""
    return isinstance(model, TextGeneration) and model.backbone.shifts_labels


def taken(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Of a batch what the model takes: a collator may give more, such as token types to a model without."""
    names = model.input_names if isinstance(model, Model) else _parameters(model)
    return {name: value for name, value in inputs.items() if names is None or name in names}


def _parameters(model: nn.Module) -> frozenset[str] | None:
    parameters = inspect.signature(model.forward).parameters.values()
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else frozenset(p.name for p in parameters)


def _has_labels_at_padding(inputs: Mapping[str, Tensor]) -> bool:
    """Whether a collator of one's own gave labels to padding; on a GPU, which leaves none out, nobody waits for it."""
    mask, labels = inputs.get("attention_mask"), inputs.get("labels")
    if mask is None or labels is None or mask.shape != labels.shape or mask.ndim != 2 or not labels.is_cpu:
        return False
    return bool(((labels != IGNORED) & (mask == 0)).any())


def _own_positions(backbone: Any, positions: Tensor) -> Tensor:
    """Indices into what a backbone learned of positions; some of those begin behind the padding token."""
    if not isinstance(backbone, Backbone):
        return positions
    longest = int(positions.max()) + 1
    backbone.check_length(longest)
    return backbone.positions(torch.zeros(1, longest, 1, device=positions.device))[0][positions]
