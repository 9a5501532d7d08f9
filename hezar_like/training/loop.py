"""The loop: from batches to steps, with what is logged, measured and saved between them."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..engine.memory import give_back_freed, keeping_freed
from ..errors import ConfigError, DataError, HezarLikeError, NonFiniteOutput, OptionError
from ..utils import set_seed
from . import checkpoints, faults
from .adamw import AdamW, gradients_by_row
from .batches import PackedRowsCollator, SampledBatch, batches, training_sampler
from .distributed import telling_of_lost_ranks, totals_of_ranks, world_size
from .evaluation import check_metrics
from .interruption import Interruption
from .logs import append_line, cut_log
from .optimizers import build_optimizer
from .parallel import clip_gradients, data_ranks, synchronised
from .saver import Saver
from .schedules import build_schedule
from .state import TrainerState
from .step import counted

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Loop"]

logger = logging.getLogger("hezar_like")


class Loop:
    """One training, from its first step or from a checkpoint.

    Args:
        trainer: Whose model, data and settings.
        optimizer: Default: the config's.
        schedule: Of the learning rate; default: the config's.

    Attributes:
        scaler: Scales losses in fp16.
        plateau: The schedule, if it follows evaluations and not steps.
        sampler: Says which samples make a batch.
        saver: Saves checkpoints.
    """

    def __init__(self, trainer: Trainer, optimizer: Optimizer | None, schedule: Any) -> None:
        self.trainer, self.config = trainer, trainer.config
        config = self.config
        if trainer.train_dataset is None:
            raise OptionError("there is nothing to train on. Give train_dataset.")
        faults.check_lengths(trainer.model, trainer.train_dataset, "train_dataset")
        if trainer.eval_dataset is not None and config.do_evaluate:
            check_metrics(trainer)
            faults.check_lengths(trainer.model, trainer.eval_dataset, "eval_dataset")
        set_seed(config.seed + data_ranks(config)[0])
        self.sampler = training_sampler(trainer.train_dataset, config)
        trainer.state = TrainerState(total_steps=self._total_steps())
        self.optimizer = optimizer or build_optimizer(
            trainer.model,
            config.optimizer,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            options=config.optimizer_kwargs,
        )
        end = config.lr_scheduling_steps or trainer.state.total_steps
        self.schedule: Any = schedule or build_schedule(
            self.optimizer,
            config.lr_scheduler or "constant",
            warmup=config.warmup_steps or round(config.warmup_ratio * end),
            end=end,
            mode="max" if trainer.maximizes else "min",
            **(config.lr_scheduler_kwargs or {}),
        )
        self.plateau = self.schedule if isinstance(self.schedule, ReduceLROnPlateau) else None
        if self.plateau is not None and (trainer.eval_dataset is None or not config.do_evaluate):
            raise OptionError("the lr_scheduler follows evaluations. Give eval_dataset, and leave do_evaluate true.")
        self.scaler = torch.amp.GradScaler(trainer.device.type, enabled=trainer.precision == "fp16")
        self._in_step = isinstance(self.optimizer, AdamW) and not self.scaler.is_enabled()
        self._log_every = config.log_steps or max(1, trainer.state.total_steps // 100)
        self._evaluated_at = -1
        self._stopping = self._settled = False
        self.saver = Saver(self)
        self._best_values: dict[str, float] = {}

    def run(self, resume: bool | str | None) -> None:
        """Trains until the end; see `Trainer.train`.

        Args:
            resume: See `TrainerConfig.resume_from_checkpoint`.
        """
        trainer = self.trainer
        self._resume(resume)
        self._logged_at, self._logged_tokens = time.perf_counter(), trainer.state.tokens
        for callback in trainer.callbacks:
            callback.on_train_begin(trainer)
        by_row = gradients_by_row(trainer.model) if self._in_step and world_size() == 1 else nullcontext()
        try:
            with Interruption() as interruption, telling_of_lost_ranks(), by_row, keeping_freed():
                while trainer.state.global_step < trainer.state.total_steps and not trainer.state.stop:
                    self._epoch(interruption)
                    if self._stopping:
                        break
                if not self._stopping:
                    self._evaluate()
                if self.config.save_enabled:
                    self.saver.save()
                self.saver.finish()
                if interruption.noted is not None:
                    interruption.stop()
        finally:
            self.saver.give_up()
            for callback in trainer.callbacks:
                callback.on_train_end(trainer)
        best = trainer.state.best_step
        if self.config.load_best_model_at_end and best is not None and best != trainer.state.global_step:
            checkpoints.load_model(trainer, trainer.checkpoints_path / f"{best:08d}")
            trainer.last_values = self._best_values or trainer.evaluate()

    def sampler_state(self) -> dict[str, Any]:
        """Where in the data training is."""
        self.sampler.set_epoch(self.trainer.state.epoch)
        return self.sampler.state_dict(self.trainer.state.epoch_step)

    def load_sampler_state(self, state: Mapping[str, Any], processes: int) -> None:
        """Goes on at a place in the data, which other numbers of processes reach after as many samples."""
        values = dict(state)
        _, own = data_ranks(self.config)
        if processes != own:
            done = values["batches_done"] * processes // own
            values |= {"world_size": own, "batches_done": done}
            self.trainer.state.epoch_step = done
        self.sampler.load_state_dict(values)

    def _resume(self, wanted: bool | str | None) -> None:
        trainer, root = self.trainer, self.trainer.checkpoints_path
        folder = checkpoints.checkpoint_to_resume(root, wanted)
        if folder is not None:
            checkpoints.load_checkpoint(self, folder)
            if wanted is not True and self.config.save_enabled:
                checkpoints.check_nothing_later(root, trainer.state.global_step)
            self.saver.saved_at = trainer.state.global_step
            self._forget_best_elsewhere()
        elif trainer.is_first and self.config.save_enabled and checkpoints.whole_checkpoints(root):
            raise ConfigError(
                f"{str(root)!r} holds checkpoints of another training. Go on with it by resume_from_checkpoint=True, "
                "or give another output_dir."
            )
        if trainer.is_first:
            cut_log(trainer.log_path, trainer.state.global_step)

    def _forget_best_elsewhere(self) -> None:
        """What was best in a training of another folder cannot be loaded in the end."""
        state, root = self.trainer.state, self.trainer.checkpoints_path
        step = state.best_step
        if step is not None and self.config.save_enabled and not (root / f"{step:08d}").is_dir():
            logger.warning(f"The best checkpoint, of step {step}, is not in {str(root)!r}, and so does not count.")
            state.best_step, state.best_metric_value, state.worse_evaluations = None, None, 0

    def _total_steps(self) -> int:
        config, lengths = self.config, []
        if config.max_steps is not None:
            return config.max_steps
        for epoch in range(config.num_epochs if config.max_tokens else 1):
            self.sampler.set_epoch(epoch)
            lengths.append(math.ceil(len(self.sampler) / config.gradient_accumulation_steps))
        self.sampler.set_epoch(0)
        return sum(lengths) if config.max_tokens else lengths[0] * config.num_epochs

    def _epoch(self, interruption: Interruption) -> None:
        """The rest of an epoch."""
        trainer, state = self.trainer, self.trainer.state
        for part in (self.sampler, trainer.train_dataset):
            if hasattr(part, "set_epoch"):
                part.set_epoch(state.epoch)
        trainer.step.train()
        for group in self._groups():
            self._train_on(group, interruption)
            if self._stopping or state.stop or state.global_step >= state.total_steps:
                break
        if state.epoch_step < len(self.sampler):
            return
        state.epoch, state.epoch_step = state.epoch + 1, 0
        if self.config.eval_steps is None and not self._stopping:
            self._evaluate()
        if self.config.save_steps is None and self.config.save_enabled:
            self.saver.save()

    def _groups(self) -> Iterator[list[SampledBatch]]:
        """The batches of each step."""
        trainer, config = self.trainer, self.config
        collator: Any = trainer.collator_for(trainer.train_dataset)
        if config.packed:
            collator = PackedRowsCollator(getattr(collator, "fill", {}).get("token_ids", 0))
        workers, pin = config.num_dataloader_workers, trainer.device.type == "cuda"
        group: list[SampledBatch] = []
        for batch in batches(trainer.train_dataset, self.sampler, collator, workers=workers, pin=pin):
            group.append(batch)
            if len(group) == config.gradient_accumulation_steps:
                yield group
                group = []
        if group:
            yield group

    def _train_on(self, group: list[SampledBatch], interruption: Interruption) -> None:
        """One step of the optimizer, and what is due after it."""
        trainer, state, config = self.trainer, self.trainer.state, self.config
        counts = [counted(trainer.model, batch.tensors) for batch in group]
        told = float(interruption.noted is not None)
        # All processes stop after the same step.
        items, told = totals_of_ranks([sum(counts), told], trainer.device)
        total = 0.0
        for number, (batch, count) in enumerate(zip(group, counts, strict=True), 1):
            total += self._backward(batch.to(trainer.device), count, items, last=number == len(group))
            state.tokens += batch.tokens * data_ranks(config)[1]
            state.epoch_step += 1
        (loss,) = totals_of_ranks([total], trainer.device)
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.optimizer, config.max_grad_norm or math.inf, later=self._in_step)
        if not math.isfinite(loss) or (not math.isfinite(norm) and not self.scaler.is_enabled()):
            self.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteOutput(faults.not_finite(trainer, group, loss, norm))
        rate, scale = self.optimizer.param_groups[0]["lr"], self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        too_large = self.scaler.get_scale() < scale  # for fp16, so that the step was left out
        if self.plateau is None and not too_large:
            self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if not self._settled:  # states of the optimizer are there now; what lies free between them is not needed again
            give_back_freed()
            self._settled = True
        state.global_step += 1
        state.loss_tracker_sum += loss * items
        state.loss_tracker_count += items
        if state.global_step % self._log_every == 0 or state.global_step == state.total_steps:
            self._log_loss(rate, norm)
        for callback in trainer.callbacks:
            callback.on_step_end(trainer)
        if told and interruption.noted is None:  # another process was told, and ends likewise
            interruption.noted = signal.SIGINT
        self._stopping = bool(told) if world_size() > 1 else interruption.noted is not None
        if config.eval_steps is not None and state.global_step % config.eval_steps == 0:
            self._evaluate()
            trainer.step.train()
        if config.save_steps is not None and config.save_enabled and state.global_step % config.save_steps == 0:
            self.saver.save()

    def _backward(self, batch: SampledBatch, count: float, items: float, *, last: bool) -> float:
        """Adds a batch's gradient; its loss weighs as much as what it counts of the whole step."""
        trainer = self.trainer
        with synchronised(trainer.runner, last):
            try:
                with trainer.computing():
                    output = trainer.runner(batch.tensors)
            except IndexError as error:
                raise DataError(faults.out_of_range(trainer, batch, error)) from None
            weight = count / items if items else 0.0
            self.scaler.scale(output["loss"] * (weight * world_size())).backward()
        return float(output["loss"].detach()) * weight

    def _log_loss(self, rate: float, norm: float) -> None:
        state, now = self.trainer.state, time.perf_counter()
        values = {
            "loss": state.loss_tracker_sum / (state.loss_tracker_count or math.nan),
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens_per_second": round((state.tokens - self._logged_tokens) / max(now - self._logged_at, 1e-9), 1),
        }
        state.loss_tracker_sum = state.loss_tracker_count = 0.0
        self._logged_at, self._logged_tokens = now, state.tokens
        self._log(values)

    def _log(self, values: Mapping[str, Any]) -> None:
        """Adds a line to the log, with the step and the epoch."""
        trainer = self.trainer
        if trainer.is_first:
            epochs = trainer.state.epoch + trainer.state.epoch_step / max(len(self.sampler), 1)
            record = {"step": trainer.state.global_step, "epoch": round(epochs, 4), **values}
            append_line(trainer.log_path, record)
            for callback in trainer.callbacks:
                callback.on_log(trainer, record)

    def _measured(self) -> tuple[dict[str, float], float]:
        """All values, and the one that says what is best."""
        values, key = self.trainer.evaluate(), self.config.metric_for_best_model
        value = values.get(key, values.get(f"evaluation.{key}"))
        if value is None:
            raise ConfigError(f"metric_for_best_model is {key!r}, but there are {', '.join(values)}. Name one of them.")
        return values, value

    def _evaluate(self) -> None:
        """Evaluates, and keeps what is best so far."""
        trainer, state, config = self.trainer, self.trainer.state, self.config
        if trainer.eval_dataset is None or not config.do_evaluate or self._evaluated_at == state.global_step:
            return
        self._evaluated_at = state.global_step
        try:
            values, value = self._measured()
        except HezarLikeError:
            if config.save_enabled and world_size() == 1:  # what was learned is not lost by what measures it
                self.saver.save()
            raise
        self._log(values)
        if self.plateau is not None:
            self.plateau.step(value)
        state.worse_evaluations += 1
        best = state.best_metric_value
        if best is None or math.isnan(best) or (value > best if trainer.maximizes else value < best):
            state.best_metric_value, state.best_step, state.worse_evaluations = value, state.global_step, 0
            self._best_values = values
            if config.save_enabled:
                self.saver.save()
        for callback in trainer.callbacks:
            callback.on_evaluate(trainer, values)
