"""What is wrong with a training: found before it begins where that can be, and told with the sample where not."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from ..blocks import Stack
from ..data.dataset import Dataset
from ..errors import ConfigError, DataError, OptionError
from ..preprocessors import Preprocessor
from .batches import SampledBatch
from .config import TrainerConfig
from .parallel import is_sharded

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = [
    "check_fit",
    "check_lengths",
    "check_measured",
    "give_preprocessor",
    "not_finite",
    "out_of_range",
    "saving_memory",
]

SHOWN = 5


def check_fit(model: Any, config: TrainerConfig, datasets: Iterable[Any]) -> None:
    """Checks that model, config and data are of one task, with the same labels.

    Names of labels that nobody chose, LABEL_0 and so on, become those of the data.

    Raises:
        ConfigError: For another task.
        DataError: For other labels.
    """
    if config.task is not None and model.task and config.task != model.task:
        raise ConfigError(f"TrainerConfig.task is {config.task!r}, but the model is for {model.task!r}. Change one.")
    for dataset in datasets:
        _check_tokenizer(model, dataset)
        labels = getattr(dataset, "id2label", None)
        own = model.config.get("id2label")
        if not labels or not own or dict(labels) == dict(own):
            continue
        unnamed = all(name == f"LABEL_{index}" for index, name in own.items())
        if len(labels) == len(own) and unnamed:
            model.config.update(id2label=dict(labels))
            continue
        raise DataError(
            f"the model has {len(own)} labels ({_some(own)}), but the data has {len(labels)} ({_some(labels)}), or in "
            "another order. Load the model with id2label=dataset.id2label, and give that to the other datasets too."
        )


def check_measured(config: TrainerConfig, eval_dataset: Any) -> None:
    """Raises an OptionError, or a DataError, when there is nothing to evaluate with, but should be."""
    needs = ("early_stopping_patience", "load_best_model_at_end", "eval_steps")
    asked = next((name for name in needs if getattr(config, name)), None)
    if eval_dataset is None and config.do_evaluate and asked is not None:
        raise OptionError(f"TrainerConfig.{asked} needs evaluations. Give eval_dataset.")
    if eval_dataset is not None and config.do_evaluate and not len(eval_dataset):
        raise DataError("eval_dataset has no samples. Check where it was read from.")


def check_lengths(model: Any, dataset: Any, name: str) -> None:
    """Raises a DataError when samples have more tokens than the model has positions for, before one of them comes."""
    backbone: Any = getattr(model, "backbone", None)
    limit = getattr(backbone, "max_tokens", None)
    if limit is None or not isinstance(dataset, Dataset) or backbone.blanks is not None:
        return
    longer = [(index, length) for index, length in enumerate(dataset.lengths) if length > limit]
    if longer:
        index, length = longer[0]
        raise DataError(
            f"{len(longer)} samples of {name} have more tokens than the {limit} that the model has positions for; the "
            f"first is sample {index} with {length}. Build the dataset with max_length={limit}."
        )


def give_preprocessor(model: Any, dataset: Any, preprocessor: Any) -> None:
    """Gives a model the preprocessors it is trained with; one without any gets the dataset's."""
    if preprocessor is not None:
        model.preprocessor = preprocessor
    elif not model.preprocessor and isinstance(getattr(dataset, "preprocessor", None), Preprocessor | Mapping):
        model.preprocessor = dataset.preprocessor


def _check_tokenizer(model: Any, dataset: Any) -> None:
    """Raises a DataError when texts become other tokens in training than in prediction."""
    own = model.preprocessor.tokenizer
    given = getattr(dataset, "preprocessor", None)
    other = getattr(given, "tokenizer", given)
    if own is None or other is None or own is other or not hasattr(other, "get_vocab"):
        return
    if other.get_vocab() != own.get_vocab():
        raise DataError(
            f"the dataset {dataset.config.name!r} was made with another tokenizer than the model's. Build it with "
            "preprocessor=model.preprocessor."
        )


@contextlib.contextmanager
def saving_memory(model: Any, every: int) -> Iterator[None]:
    """While it is entered, activations of all blocks, or of every so many-th, are computed twice; 0: as the model says.

    Raises:
        ConfigError: When the model cannot.
    """
    stacks = [part for part in model.modules() if isinstance(part, Stack)]
    if every and not stacks:
        raise ConfigError(f"TrainerConfig.checkpoint_activations: {type(model).__name__} has no blocks to do so.")
    before = [stack.checkpoint_activations for stack in stacks]
    for stack in stacks:
        stack.checkpoint_activations = every or stack.checkpoint_activations
    try:
        yield
    finally:
        for stack, value in zip(stacks, before, strict=True):
            stack.checkpoint_activations = value


def not_finite(trainer: Trainer, group: list[SampledBatch], loss: float, norm: float) -> str:
    """What to say of a step whose loss or gradient is NaN or infinite."""
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient is {norm}, though the loss is finite,"
    step = trainer.state.global_step + 1
    alone = [sample for batch in group for sample in _culprits(trainer, batch)]
    if alone:
        cause = f"By itself too it is for sample {', '.join(map(str, alone[:SHOWN]))} of train_dataset: look there."
    else:
        samples = [sample for batch in group for sample in batch.samples]
        shown = ", ".join(map(str, samples[:SHOWN])) + (", ..." if len(samples) > SHOWN else "")
        cause = (
            f"No sample of this step ({shown}) is the cause by itself: lower learning_rate or max_grad_norm, or use "
            "mixed_precision='bf16'."
        )
    return f"{what} in step {step} (epoch {trainer.state.epoch + 1}), so training stops. {cause}"


def out_of_range(trainer: Trainer, batch: SampledBatch, error: IndexError) -> str:
    """What to say of a label or token that the model does not have."""
    alone = _culprits(trainer, batch)
    where = ", ".join(map(str, alone[:SHOWN] or batch.samples[:SHOWN]))
    return (
        f"step {trainer.state.global_step + 1}: a label or token is out of the model's range ({error}), in sample "
        f"{where} of train_dataset. Mend it, or build the model with as many labels and tokens."
    )


def _culprits(trainer: Trainer, batch: SampledBatch) -> list[int]:
    """The samples of a batch whose loss cannot be computed, or is not finite, when they are alone."""
    if is_sharded(trainer.runner):
        return []
    found = []
    collator = trainer.collator_for(trainer.train_dataset)
    trainer.step.eval()
    for sample in batch.samples:
        alone = SampledBatch([sample], dict(collator([trainer.train_dataset[sample]]))).to(trainer.device)
        try:
            with torch.no_grad(), trainer.computing():
                loss = float(trainer.step(alone.tensors)["loss"])
        except IndexError:
            loss = math.nan
        if not math.isfinite(loss):
            found.append(sample)
    trainer.step.train()
    return found


def _some(labels: dict[int, str]) -> str:
    names = [str(name) for name in labels.values()]
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
