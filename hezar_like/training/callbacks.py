"""What looks on while a model is trained."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import require
from ..terminals import is_terminal

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Callback", "EarlyStopping", "ProgressBar", "TensorBoard", "Trackio"]


class Callback:
    """Does nothing at each moment of training; subclass it and override some.

    `trainer.state` says where training is; `trainer.state.stop = True` ends it after the step.
    """

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first step, after a checkpoint was read."""

    def on_step_end(self, trainer: Trainer) -> None:
        """After each optimizer step."""

    def on_log(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        """For each line of the log, in the first process only."""

    def on_evaluate(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        """After an evaluation."""

    def on_save(self, trainer: Trainer, folder: Path) -> None:
        """When a checkpoint is whole."""

    def on_train_end(self, trainer: Trainer) -> None:
        """When training ends, also by an error."""


class EarlyStopping(Callback):
    """Stops after some evaluations without a better value of `metric_for_best_model`.

    Args:
        patience: How many.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        if trainer.state.worse_evaluations >= self.patience:
            trainer.state.stop = True


class ProgressBar(Callback):
    """A bar with the steps and the last loss.

    Args:
        progress: True, False, or "auto": only on a terminal.
    """

    def __init__(self, progress: bool | Literal["auto"] = "auto") -> None:
        self._shown = is_terminal(sys.stderr) if progress == "auto" else progress
        self._bar: Any = None

    def on_train_begin(self, trainer: Trainer) -> None:
        if self._shown and trainer.is_first:
            from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

            state = trainer.state
            self._bar = tqdm(total=state.total_steps, initial=state.global_step, desc="train", unit="step")  # type: ignore[no-untyped-call]

    def on_step_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.update(1)

    def on_log(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        if self._bar is not None:
            shown = {key: value for key, value in record.items() if key == "loss" or key.startswith("evaluation.")}
            self._bar.set_postfix({key.removeprefix("evaluation."): f"{value:.4g}" for key, value in shown.items()})

    def on_train_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.close()


class TensorBoard(Callback):
    """Writes the log for TensorBoard, too.

    Args:
        folder: Where to; default: the trainer's folder of logs.

    Raises:
        MissingDependency: When the package `tensorboard` is not installed.
    """

    def __init__(self, folder: str | None = None) -> None:
        require("tensorboard", extra="train")
        self._folder, self._writer = folder, None

    def on_log(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        if self._writer is None:
            module: Any = require("torch.utils.tensorboard", extra="train")
            self._writer = module.SummaryWriter(self._folder or str(trainer.log_path.parent))
        writer: Any = self._writer
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float):
                writer.add_scalar(name, value, record["step"])

    def on_train_end(self, trainer: Trainer) -> None:
        if self._writer is not None:
            self._writer.close()


class Trackio(Callback):
    """Sends the log to Trackio, too: https://huggingface.co/docs/trackio.

    Args:
        project: The project there.
        name: The run's name; default: one that Trackio makes.
        **options: More arguments of `trackio.init`, such as `space_id`.

    Raises:
        MissingDependency: When the package `trackio` is not installed.
    """

    def __init__(self, project: str, name: str | None = None, **options: Any) -> None:
        self._trackio: Any = require("trackio", extra="trackio")
        self._options, self._run = {"project": project, "name": name, **options}, None

    def on_log(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        if self._run is None:
            self._run = self._trackio.init(config=trainer.config.to_dict(), **self._options)
        run: Any = self._run
        numbers = {name: value for name, value in record.items() if name != "step" and isinstance(value, int | float)}
        run.log(numbers, step=record["step"])

    def on_train_end(self, trainer: Trainer) -> None:
        if self._run is not None:
            self._run.finish()
