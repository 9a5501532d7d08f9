"""What a `Trainer` is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from ..configs import Config
from ..errors import ConfigError, OptionError
from ..fields import Between, Probability
from .optimizers import OPTIMIZERS
from .optimizers import OTHER_NAMES as OTHER_OPTIMIZERS
from .schedules import ON_PLATEAU, check_schedule

__all__ = ["LoRAConfig", "TrainerConfig"]

Positive = Annotated[int, Between(1, 2**31)]
Steps = Annotated[int, Between(0, 2**31)]
Rate = Annotated[float, Between(0, 1e4)]
_Number = Annotated[float, Between(0, 1e9)]


@dataclass
class LoRAConfig(Config):
    """Low-rank adapters (Hu et al., 2021: https://arxiv.org/abs/2106.09685)."""

    name = "lora"
    config_type = "lora"
    r: Annotated[int, Between(1, 2**16)] = 8
    """Rank of what is added to a weight."""
    alpha: _Number = 16.0
    """What is added is multiplied with this over the rank."""
    dropout: Probability = 0.0
    """Dropout probability on the input of the adapters."""
    targets: list[str] = field(default_factory=lambda: ["q", "v"])
    """Linear layers that get an adapter, by the end of their names, such as `q`, `attn.out` or `mlp.up`."""
    train: list[str] = field(default_factory=lambda: ["head"])
    """Parts that are trained whole, and saved with the adapter, by the beginning of their names."""


@dataclass
class TrainerConfig(Config):
    """Training; the names of fields are Hezar's where it has them."""

    name = "trainer"
    config_type = "trainer"
    default_filename: ClassVar[str] = "train_config.yaml"

    output_dir: str = "output"
    """Folder of the checkpoints, the logs and the trained model."""
    task: str | None = None
    """The task that is trained, told for people; where the model has another one, that is an error."""
    device: str | None = None
    """Where the model is trained; default: the accelerator if there is one, else the CPU."""
    use_cpu: bool = False
    """Whether to train on the CPU, whatever else there is."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """What processes share: gradients only, or also parameters and states of the optimizer (FSDP2)."""
    reshard_after_forward: bool = True
    """With fsdp, whether a block's parameters are given up between its forward and backward pass, as ZeRO-3 does."""
    cpu_offload: bool = False
    """With fsdp on a GPU, whether shards and states of the optimizer stay in the memory of the CPU; needs torchrun."""
    tensor_parallel: Positive = 1
    """How many processes share the heads and channels of each layer, and read the same batches: 1, or all of them."""
    distributed: bool | None = None
    """True refuses to train without other processes, False with them; None: with those torchrun started, if it did."""
    num_epochs: Positive = 1
    """How often all samples are seen, unless `max_steps` says when training ends."""
    max_steps: Positive | None = None
    """How many optimizer steps; default: what the epochs give. Samples come again as often as that takes."""
    init_weights_from: str | None = None
    """A model's folder or Hub id whose weights are taken before training, where they fit by name and shape."""
    resume_from_checkpoint: bool | str | None = None
    """A checkpoint's folder to go on from; True: the last whole one of `output_dir`, or the beginning if none is."""
    num_dataloader_workers: Annotated[int, Between(0, 1024)] = 0
    """Processes that prepare batches; 0: this one does."""
    dataloader_shuffle: bool = True
    """Whether each epoch has another order."""
    seed: Annotated[int, Between(0, 2**31)] = 42
    """Seed of the order of samples, of dropout, and of what else is random."""
    optimizer: str = "adamw"
    """adamw, adam, sgd or adafactor."""
    optimizer_kwargs: dict[str, Any] | None = None
    """More arguments of the optimizer, such as betas."""
    learning_rate: Rate = 2e-5
    """The highest learning rate."""
    weight_decay: Annotated[float, Between(0, 1e3)] = 0.0
    """Weight decay of matrices; biases and norms have none."""
    lr_scheduler: str | None = None
    """constant, linear, cosine, exponential, noam, polynomial, step, multi_step, one_cycle or cyclic, after the
    warm-up; or reduce_on_plateau, of `metric_for_best_model`; default: constant."""
    lr_scheduler_kwargs: dict[str, Any] | None = None
    """More arguments of the schedule, such as `gamma` of the exponential one; see `hezar_like.training.schedules`."""
    lr_scheduling_steps: Positive | None = None
    """The step at which the schedule ends; default: the last."""
    warmup_steps: Steps = 0
    """Steps in which the learning rate rises."""
    warmup_ratio: Probability = 0.0
    """The same as a share of all steps, where `warmup_steps` is 0."""
    batch_size: Positive | None = None
    """The most samples of a batch in each process; default: 1, or with `max_tokens` as many as fit."""
    max_tokens: Positive | None = None
    """The most tokens of a batch in each process, padding included where there is any."""
    packed: bool = False
    """Whether texts stand in rows one after the other, without padding. Loss and gradients are the same."""
    group_by_length: bool = False
    """Whether samples of like length come together."""
    eval_batch_size: Positive | None = None
    """The most samples of a batch in evaluation; default: `batch_size`, but at least 16."""
    gradient_accumulation_steps: Positive = 1
    """Batches of a step; the loss is the mean over all of their tokens, or rows."""
    max_grad_norm: _Number | None = 1.0
    """Gradients are scaled down to this norm; None: never."""
    mixed_precision: Literal["bf16", "fp16", "no"] | None = None
    """The type in which matrices are multiplied; weights stay as they are, in fp16 losses are scaled."""
    checkpoint_activations: bool | Annotated[int, Between(1, 1000)] = False
    """Whether to save memory by computing activations twice: of all blocks, or of every so many-th."""
    label_smoothing: Probability = 0.0
    """Share of probability that wrong classes should get (Szegedy et al., 2015)."""
    focal_gamma: Annotated[float, Between(0, 100)] = 0.0
    """Of the focal loss, which heeds less what is right already (Lin et al., 2017); 0: the common loss."""
    fused_loss: bool = False
    """Whether models that write compute scores and loss at once, for some tokens at a time: much less memory, and more
    time on a CPU. Needs torch 2.13."""
    lora: LoRAConfig | None = None
    """Train only adapters of these settings; default: all weights."""
    do_evaluate: bool = True
    """Whether to evaluate while training, where there is an `eval_dataset`."""
    eval_steps: Positive | None = None
    """How many steps are between evaluations; default: an epoch."""
    evaluate_with_generate: bool = True
    """Whether models that write do so in evaluation, where a metric compares texts; else those are refused."""
    metrics: list[str | dict[str, Any]] | None = None
    """What is measured in evaluation: names, or mappings with `name` and fields of the metric's config."""
    metric_for_best_model: str = "loss"
    """The value of the evaluation that says which checkpoint is best."""
    early_stopping_patience: Positive | None = None
    """Stop after so many evaluations without a better one."""
    load_best_model_at_end: bool = False
    """Whether the weights of the best checkpoint are taken in the end."""
    save_enabled: bool = True
    """Whether checkpoints are saved."""
    save_freq: Literal["deprecated"] | None = None
    """Nothing; Hezar's files have it."""
    save_steps: Positive | None = None
    """How many steps are between checkpoints; default: an epoch."""
    save_in_background: bool = False
    """Whether training goes on while a checkpoint is written, for which weights and states are copied first."""
    keep_checkpoints: Positive | None = 2
    """How many of the last checkpoints are kept, beside the best one; None: all."""
    log_steps: Positive | None = None
    """How many steps are between lines of the log; default: a hundredth of them all."""
    checkpoints_dir: str = "checkpoints"
    """Folder of the checkpoints in `output_dir`."""
    logs_dir: str = "logs"
    """Folder of the log in `output_dir`."""
    progress: bool | Literal["auto"] = "auto"
    """Whether to show a bar; "auto" does on a terminal."""

    def check(self) -> None:
        super().check()
        if self.optimizer not in {*OPTIMIZERS, *OTHER_OPTIMIZERS}:
            names = ", ".join(dict.fromkeys([*OPTIMIZERS, *OTHER_OPTIMIZERS]))
            raise ConfigError(f"TrainerConfig.optimizer is {self.optimizer!r}; it must be one of {names}.")
        try:
            schedule = check_schedule(self.lr_scheduler or "constant", self.lr_scheduler_kwargs or {})
        except OptionError as error:
            raise ConfigError(f"TrainerConfig: {error}") from None
        if schedule == ON_PLATEAU and not self.do_evaluate:
            raise ConfigError(f"TrainerConfig.lr_scheduler is {schedule!r}, which needs do_evaluate.")
        if schedule == ON_PLATEAU and (self.warmup_steps or self.warmup_ratio):
            raise ConfigError(f"TrainerConfig.lr_scheduler is {schedule!r}, which has no warm-up. Leave it out.")
        if self.label_smoothing == 1:
            raise ConfigError("TrainerConfig.label_smoothing is 1, so that nothing is learned. Give less.")
        if self.label_smoothing and self.focal_gamma:
            raise ConfigError("TrainerConfig: give label_smoothing or focal_gamma, not both.")
        if self.fused_loss and (self.label_smoothing or self.focal_gamma):
            raise ConfigError("TrainerConfig: fused_loss is a cross entropy without label_smoothing and focal_gamma.")
        for what, usual in (("cpu_offload", False), ("reshard_after_forward", True)):
            if self.strategy != "fsdp" and getattr(self, what) is not usual:
                raise ConfigError(f"TrainerConfig.{what} is {not usual}, which needs strategy='fsdp'.")
        if self.load_best_model_at_end and not (self.do_evaluate and self.save_enabled):
            raise ConfigError("TrainerConfig.load_best_model_at_end needs do_evaluate and save_enabled.")
        if self.early_stopping_patience and not self.do_evaluate:
            raise ConfigError("TrainerConfig.early_stopping_patience needs do_evaluate.")
        if self.lora is not None and self.strategy == "fsdp":
            raise ConfigError("TrainerConfig: lora is trained with strategy='ddp'; its weights need no shards.")
        if self.optimizer == "adafactor" and (self.strategy == "fsdp" or self.tensor_parallel > 1):
            raise ConfigError(
                "TrainerConfig.optimizer is 'adafactor', which torch has not for shards of parameters. Use adamw, or "
                "strategy='ddp' without tensor_parallel."
            )
        if self.tensor_parallel > 1 and (self.strategy == "fsdp" or self.lora is not None):
            raise ConfigError(
                "TrainerConfig.tensor_parallel goes neither with strategy='fsdp' nor with lora. Give one."
            )

    @property
    def train_batch_size(self) -> int | None:
        """`batch_size`, decided; None: as many samples as `max_tokens` lets in."""
        return 1 if self.batch_size is None and self.max_tokens is None else self.batch_size
