"""How good a model is on a dataset: its loss and metrics, of all samples at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..backbones import EncoderDecoder
from ..builders import build_metric
from ..errors import ConfigError, DataError, OptionError
from ..metrics import Metric
from ..metrics.classification import ClassMetric
from ..metrics.sequence_labeling import Seqeval
from ..tasks.scoring import IGNORED
from ..tasks.sequence_labeling_global_pointer import SequenceLabelingGlobalPointer
from .batches import SampledBatch, batches, evaluation_sampler
from .distributed import gather_objects, totals_of_ranks
from .parallel import data_ranks, is_sharded, shard_again
from .step import counted, shifts_labels, taken

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["build_metrics", "check_metrics", "evaluate", "objective", "scores_of"]

OF_TEXTS = ("bleu", "rouge", "wer", "cer")
"""Metrics that compare texts, which the model has to write."""


def build_metrics(given: str | Iterable[Any] | Mapping[str, Any] | None, model: Any) -> list[Metric]:
    """Metrics as users give them; what the model knows, such as the names of labels, is filled in.

    Args:
        given: A name, or names, mappings with `name` and fields of the metric's config, or metrics.
        model: The model that is measured.

    Raises:
        ConfigError, RegistryError: For an unknown metric or field.
    """
    metrics = []
    items: Iterable[Any] = given.values() if isinstance(given, Mapping) else given or ()
    if isinstance(given, str):
        items = [given]
    for item in items:
        if isinstance(item, Metric):
            metrics.append(item)
            continue
        fields: dict[str, Any] = {"name": item} if isinstance(item, str) else dict(item)
        name: Any = fields.pop("name", None)
        if name is None:
            raise ConfigError(f"the metric {dict(item)} has no name. Give name, and fields of its config.")
        metric = build_metric(name, **fields)
        known = {"id2label": model.config.get("id2label"), "shifts_labels": shifts_labels(model)}
        unsaid = {key: value for key, value in known.items() if key in metric.config.fields() and key not in fields}
        metrics.append(build_metric(name, **fields, **{k: v for k, v in unsaid.items() if v is not None}))
    return metrics


def objective(name: str, metrics: Iterable[Metric]) -> str:
    """Whether more of a value is better: "maximize" or "minimize"."""
    name = name.removeprefix("evaluation.")
    if name == "loss":
        return "minimize"
    metrics = list(metrics)
    named = [metric for metric in metrics if metric.config.name == name]
    goals = {metric.config.objective for metric in named or metrics}
    if len(goals) != 1:
        raise ConfigError(
            f"metric_for_best_model is {name!r}, and it is not known whether more is better. Name the metric itself."
        )
    return str(goals.pop())


def evaluate(trainer: Trainer, dataset: Any, name: str = "evaluation") -> dict[str, float]:
    """The loss and the metrics of a dataset; all processes must call it, and get the same values.

    Args:
        trainer: Whose model, metrics and batches.
        dataset: The samples.
        name: What the names of the values begin with.

    Returns:
        `<name>.loss`, and `<name>.<value>` for each value of each metric.
    """
    check_metrics(trainer)
    for metric in trainer.metrics:
        metric.reset()
    total = items = 0.0
    with _evaluating(trainer):
        for batch, own in _all_batches(trainer, dataset, "eval_dataset"):
            with trainer.computing():
                output = trainer.runner_for_evaluation(batch.tensors)
            if not own:
                continue
            count = counted(trainer.model, batch.tensors)
            if count:
                total, items = total + float(output["loss"]) * count, items + count
            _update(trainer, batch, output)
    total, items = totals_of_ranks([total, items], trainer.device)
    if not items:
        raise DataError("no sample of eval_dataset has a label. Check what it was read from.")
    values = {f"{name}.loss": total / items}
    for metric in trainer.metrics:
        parts = gather_objects((metric.predictions, metric.targets))
        metric.predictions = [value for predictions, _ in parts for value in predictions]
        metric.targets = [value for _, targets in parts for value in targets]
        values |= {f"{name}.{key}": value for key, value in metric.compute().items() if f"{name}.{key}" not in values}
        metric.reset()
    return values


def scores_of(trainer: Trainer, dataset: Any) -> list[Tensor]:
    """The scores of each sample, in their order; those of tokens without its padding. All processes get all."""
    found: dict[int, Tensor] = {}
    with _evaluating(trainer):
        for batch, own in _all_batches(trainer, dataset, "dataset"):
            with trainer.computing():
                logits = trainer.runner_for_evaluation(batch.tensors, scores_only=True)["logits"].float().cpu()
            if len(logits) != len(batch.samples):
                raise OptionError(
                    f"there are scores of {len(logits)} things for {len(batch.samples)} samples. Use model.predict."
                )
            if own:
                found |= dict(zip(batch.samples, _without_padding(trainer.model, batch.tensors, logits), strict=True))
    gathered = {index: row for part in gather_objects(found) for index, row in part.items()}
    return [gathered[index] for index in sorted(gathered)]


def _without_padding(model: Any, batch: Mapping[str, Tensor], logits: Tensor) -> Iterable[Tensor]:
    """The scores of each sample; those of tokens without those of its padding, where it is known which that is."""
    if isinstance(getattr(model, "backbone", None), EncoderDecoder):  # scores are of what is written
        labels = batch.get("labels")
        kept = None if labels is None else (labels != IGNORED).flip(1).cumsum(1).flip(1)
    else:
        kept = batch.get("attention_mask")
    if kept is None or len(kept) != len(logits):
        return logits
    rows = list(zip(logits, kept.bool().cpu(), strict=True))
    if isinstance(model, SequenceLabelingGlobalPointer):
        return [row[:, mask][:, :, mask] for row, mask in rows]
    return [row[mask] for row, mask in rows] if logits.ndim > 2 and logits.shape[:2] == kept.shape else logits


def _all_batches(trainer: Trainer, dataset: Any, name: str) -> Iterator[tuple[SampledBatch, bool]]:
    """The batches of this process, as many as of all others, and whether each counts, or only comes again."""
    sampler = evaluation_sampler(dataset, trainer.config, name)
    count = sampler.whole_count
    collator = trainer.collator_for(dataset)
    workers, pin = trainer.config.num_dataloader_workers, trainer.device.type == "cuda"
    number, processes = data_ranks(trainer.config)
    read_by_others = trainer.config.tensor_parallel > 1 and not trainer.is_first
    for index, batch in enumerate(batches(dataset, sampler.sampler, collator, workers=workers, pin=pin)):
        yield batch.to(trainer.device), not read_by_others and number + index * processes < count


@contextlib.contextmanager
def _evaluating(trainer: Trainer) -> Iterator[None]:
    """Without dropout and gradients, and without a trace in the random numbers of training."""
    training = trainer.model.training
    trainer.step.eval()
    try:
        with torch.random.fork_rng(devices=[trainer.device] if trainer.device.type == "cuda" else []), torch.no_grad():
            yield
    finally:
        trainer.step.train(training)
        shard_again(trainer.runner)


def check_metrics(trainer: Trainer) -> None:
    """Raises an OptionError for a metric of texts where none are written, or another one than `spans` of spans."""
    odd = [metric.config.name for metric in trainer.metrics if isinstance(metric, ClassMetric | Seqeval)]
    if isinstance(trainer.model, SequenceLabelingGlobalPointer) and odd:
        raise OptionError(
            f"the metric {odd[0]!r} is of tokens, but {trainer.model.config.name!r} finds spans: use 'spans'."
        )
    name = next((metric.config.name for metric in trainer.metrics if metric.config.name in OF_TEXTS), None)
    if name is None:
        return
    model = trainer.model
    if not trainer.config.evaluate_with_generate:
        raise OptionError(f"the metric {name!r} compares texts. Set evaluate_with_generate=True, or leave it out.")
    if not model.is_generative or not isinstance(model.backbone, EncoderDecoder) or is_sharded(model):
        raise OptionError(
            f"the metric {name!r} compares texts, which here only an encoder with a decoder writes, not sharded. "
            "Leave it out, and measure with model.predict."
        )


def _update(trainer: Trainer, batch: SampledBatch, output: Mapping[str, Any]) -> None:
    labels = output.get("labels", batch.tensors.get("labels"))
    written = None
    for metric in trainer.metrics:
        if metric.config.name in OF_TEXTS:
            written = _written(trainer, batch) if written is None else written
            metric.update(*written)
            continue
        predictions, targets = output["logits"].float().cpu(), None if labels is None else labels.cpu()
        if metric.config.name == "perplexity" and predictions.ndim == 2:
            predictions, targets = predictions[None], targets[None]  # type: ignore[index]
        if predictions.size(-1) == 1 and targets is not None and targets.is_floating_point():
            predictions, targets = predictions.flatten(), targets.flatten()
        metric.update(predictions, targets)


def _written(trainer: Trainer, batch: SampledBatch) -> tuple[list[str], list[str]]:
    """What the model writes for a batch, and what it should."""
    model, tokenizer = trainer.model, trainer.model.preprocessor.tokenizer
    if tokenizer is None:
        raise OptionError("the model has no tokenizer to read what it writes. Set model.preprocessor.")
    others = {name: value for name, value in batch.tensors.items() if name not in ("labels", "decoder_input_ids")}
    tokens = model.generate(**taken(model, others))
    wanted = [[token for token in row if token != IGNORED] for row in batch.tensors["labels"].tolist()]
    return tokenizer.decode(tokens.tolist()), tokenizer.decode(wanted)
