"""`Trainer`: a model, data, and the loop in between."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ..engine.devices import usable_device
from ..errors import ConfigError, OptionError
from ..models.model import Model
from ..utils import set_seed
from . import checkpoints, evaluation, faults
from .callbacks import Callback, EarlyStopping, ProgressBar
from .config import TrainerConfig
from .disk import writing
from .distributed import init_distributed, rank, wait_for_ranks, world_size
from .logs import draw_curves, read_log
from .loop import Loop
from .lora import add_lora, merge_lora
from .parallel import distribute, is_sharded
from .precision import computing, usable_precision
from .state import TrainerState
from .step import TrainingStep, why_not_packed

__all__ = ["Trainer"]


class Trainer:
    """Trains a model, in one process or in those that `torchrun` started.

    Args:
        model: The model; it is moved to the device, and changed in place.
        config: The settings; copied.
        train_dataset: The samples to learn from; see `hezar_like.data`.
        eval_dataset: The samples to measure with.
        data_collator: Makes batches of samples; default: the dataset's.
        preprocessor: The model's from now on, to be saved with it; default: what it has, or else the dataset's.
        metrics: What is measured: names, mappings with `name` and fields, or metrics; default: the config's.
        callbacks: What looks on.
        optimizer: One of torch; default: the config's.
        lr_scheduler: A scheduler of torch for it, which is told of each step; default: the config's.

    Attributes:
        state: Where training is.
        maximizes: Whether more of `metric_for_best_model` is better.
        loop: The present training, or the last one.
        log_path: The log, a JSON object per line.

    Raises:
        ConfigError, OptionError, DataError: For settings that do not go together, or do not fit model or data.
    """

    def __init__(
        self,
        model: Model,
        config: TrainerConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        data_collator: Callable[..., dict[str, Tensor]] | None = None,
        preprocessor: Any = None,
        *,
        metrics: str | Iterable[Any] | Mapping[str, Any] | None = None,
        callbacks: Iterable[Callback] = (),
        optimizer: Optimizer | None = None,
        lr_scheduler: Any = None,
    ) -> None:
        self.config = config = TrainerConfig.from_dict((config or TrainerConfig()).to_dict())
        self.model: Any = model
        self.train_dataset, self.eval_dataset, self._collator = train_dataset, eval_dataset, data_collator
        faults.give_preprocessor(model, train_dataset, preprocessor)
        faults.check_fit(model, config, (train_dataset, eval_dataset))
        faults.check_measured(config, eval_dataset)
        reason = why_not_packed(model) if config.packed else None
        if reason is not None:
            raise ConfigError(f"TrainerConfig.packed: {model.config.name!r} cannot be trained packed: {reason}.")
        init_distributed()
        self.device = usable_device("cpu" if config.use_cpu else config.device)
        set_seed(config.seed)
        if config.init_weights_from is not None:
            source = Model.load(config.init_weights_from, load_preprocessor=False, device="cpu")
            model.load_state_dict(source.state_dict())
        if config.lora is not None:
            add_lora(model, config.lora)
        model.to(self.device)
        self.metrics = evaluation.build_metrics(config.metrics if metrics is None else metrics, model)
        self.maximizes = evaluation.objective(config.metric_for_best_model, self.metrics) == "maximize"
        self.step = TrainingStep(
            model,
            label_smoothing=config.label_smoothing,
            focal_gamma=config.focal_gamma,
            fused=config.fused_loss,
        )
        self.runner = distribute(self.step, config, self.device)
        self.precision = usable_precision(config.mixed_precision, self.device)
        self.computing = computing(model, self.precision, self.device, sharded=is_sharded(model))
        self._given = optimizer, lr_scheduler
        if lr_scheduler is not None and optimizer is None:
            raise OptionError("give the optimizer of the lr_scheduler, too.")
        self.state = TrainerState()
        patience = [EarlyStopping(config.early_stopping_patience)] if config.early_stopping_patience else []
        callbacks = list(callbacks)
        odd = next((callback for callback in callbacks if not isinstance(callback, Callback)), None)
        if odd is not None:
            raise OptionError(f"{odd!r} is no callback. Give objects of subclasses of hezar_like.training.Callback.")
        self.callbacks: list[Callback] = [ProgressBar(config.progress), *patience, *callbacks]
        self.last_values: dict[str, float] = {}

    # -- what users call ----------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: bool | str | None = None) -> TrainerState:
        """Trains until the end, or until a callback stops it.

        Ctrl-C ends it after the step that is being done, with a checkpoint.

        Args:
            resume_from_checkpoint: See `TrainerConfig`, which it wins over.

        Returns:
            The state in the end.

        Raises:
            NonFiniteOutput: When the loss is NaN or infinite; weights are those before that step.
            DataError: When there is nothing to learn from.
            KeyboardInterrupt: After Ctrl-C.
        """
        self.loop = Loop(self, *self._given)
        resume = self.config.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        with faults.saving_memory(self.model, self.config.checkpoint_activations):
            self.loop.run(resume)
        self.model.eval()
        return self.state

    def evaluate(self, eval_dataset: Any = None) -> dict[str, float]:
        """The loss and the metrics of a dataset, counted over all of its samples at once.

        Args:
            eval_dataset: The samples; default: those of the trainer.

        Returns:
            `evaluation.loss`, and `evaluation.<value>` of each metric.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise OptionError("there is nothing to evaluate with. Give eval_dataset.")
        self.last_values = evaluation.evaluate(self, dataset)
        return dict(self.last_values)

    def predict(self, dataset: Any) -> list[Tensor]:
        """The model's scores of each sample of a dataset, in order; for results by name there is `model.predict`.

        Returns:
            Float32 on the CPU: [labels], or of tokens [length, labels].
        """
        return evaluation.scores_of(self, dataset)

    def save(self, path: str | Path | None = None) -> Path:
        """Saves the model, or its adapter, and the config of the training. All processes must call it.

        Args:
            path: The folder; default: `output_dir`.
        """
        folder = Path(path or self.config.output_dir).expanduser()
        checkpoints.saved_model(self, folder)()
        if self.is_first:
            with writing(folder):
                self.config.save(folder)
                (folder / "loss.svg").write_text(draw_curves(read_log(self.log_path)), encoding="utf-8")
        wait_for_ranks()
        return folder

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Uploads the model, with the last evaluation, the run and its curves in its card; adapters are merged into
        what is uploaded.

        Args:
            repo_id: "org/name".
            **options: See `Model.push_to_hub`.

        Returns:
            The commit's address.

        Raises:
            OptionError: When there are several processes.
        """
        if world_size() > 1:
            raise OptionError("push from one process: save() first, then Model.load(path).push_to_hub(repo_id).")
        model = self.model
        if self.config.lora is not None:  # the model itself keeps its adapters, and can be trained further
            model = copy.deepcopy(model)
            merge_lora(model)
        card = dict(options.pop("card", None) or {})
        values = {name.removeprefix("evaluation."): value for name, value in self.last_values.items()}
        card.setdefault("metrics", {name: value for name, value in values.items() if math.isfinite(value)})
        card.setdefault("training", self._run())
        card.setdefault("curves", draw_curves(self.load_logs()))
        address: str = model.push_to_hub(repo_id, card=card, **options)
        return address

    def _run(self) -> dict[str, Any]:
        """The run in numbers."""
        config, records = self.config, [record for record in self.load_logs() if record.get("loss") is not None]
        values = {
            "steps": self.state.global_step,
            "epochs": records[-1]["epoch"] if records else None,
            "tokens": self.state.tokens,
            "last loss": round(records[-1]["loss"], 4) if records else None,
            "samples of a batch": config.batch_size,
            "tokens of a batch": config.max_tokens,
            "optimizer": config.optimizer,
            "learning rate": f"{config.learning_rate:g}, {config.lr_scheduler or 'constant'}",
            "precision": self.precision,
            "seed": config.seed,
        }
        return {name: value for name, value in values.items() if value is not None}

    def load_logs(self) -> list[dict[str, Any]]:
        """The lines of the log."""
        return read_log(self.log_path)

    # -- where things are ---------------------------------------------------------------------------------------------

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files."""
        return rank() == 0

    @property
    def checkpoints_path(self) -> Path:
        """Folder of the checkpoints."""
        return Path(self.config.output_dir, self.config.checkpoints_dir).expanduser()

    @property
    def log_path(self) -> Path:
        """The log."""
        return Path(self.config.output_dir, self.config.logs_dir).expanduser() / "log.jsonl"

    @property
    def runner_for_evaluation(self) -> nn.Module:
        """What computes scores without gradients."""
        return self.runner if is_sharded(self.runner) else self.step

    def collator_for(self, dataset: Any) -> Callable[..., dict[str, Tensor]]:
        """What makes padded batches of a dataset's samples."""
        collator = self._collator or getattr(dataset, "data_collator", None)
        if collator is None:
            raise OptionError("the dataset has no data_collator. Give data_collator.")
        return collator
