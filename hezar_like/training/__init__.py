"""Training: the Trainer, its config and callbacks, LoRA, several processes. Names are imported when asked for."""

from __future__ import annotations

from ..lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "callbacks": ("Callback", "EarlyStopping", "ProgressBar", "TensorBoard", "Trackio"),
        "config": ("TrainerConfig",),
        "distributed": (
            "all_reduce_mean", "gather_result", "init_distributed", "inspect_model", "print_rank", "sum_loss",
        ),
        "logs": ("draw_curves", "read_log"),
        "lora": ("LoRAConfig", "add_lora", "load_adapter", "merge_lora", "save_adapter"),
        "losses": ("cosent_loss", "focal_loss"),
        "optimizers": ("build_optimizer",),
        "schedules": ("build_schedule",),
        "state": ("TrainerState",),
        "trainer": ("Trainer",),
    },
)  # fmt: skip
