"""What `torchrun` starts in the tests: the cases of a folder, with what each process found written beside them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hezar_like import Model
from hezar_like.data import PadCollator
from hezar_like.data.infilling import blanks_filled
from hezar_like.errors import ConfigError
from hezar_like.training import (
    Callback,
    Trainer,
    TrainerConfig,
    all_reduce_mean,
    gather_result,
    init_distributed,
    inspect_model,
    print_rank,
    sum_loss,
)
from hezar_like.training.distributed import rank, world_size
from hezar_like.training.parallel import whole_tensors


def samples(task: str, count: int = 16, *, blanks: bool = False) -> list[dict[str, Any]]:
    """Tokens, or sounds, with labels of a task; or a text with a blank to fill."""
    generator = torch.Generator().manual_seed(1)
    found: list[dict[str, Any]] = []
    for number in range(count):
        length = int(torch.randint(4, 12, (1,), generator=generator))
        tokens = [2, *torch.randint(50, 110, (length,), generator=generator).tolist(), 3]
        labels: Any = tokens if task == "text_generation" else [t if t % 3 == 0 else -100 for t in tokens]
        if blanks:
            found.append(blanks_filled(tokens, [(2, 4)], [0], blank=4, start=31, stop=45))
        elif task == "speech_recognition":
            found.append({"input_features": torch.randn(6, 20, generator=generator), "labels": tokens})
        else:
            found.append({"token_ids": tokens, "labels": number % 2 if task == "text_classification" else labels})
    return found


def trainer_for(folder: Path, output: Path, **fields: Any) -> Trainer:
    """The trainer of a saved model, the same in one process and in several."""
    own = Model.load(folder, device="cpu")
    data = samples(own.task, blanks=own.task == "text_generation" and own.backbone.blanks is not None)
    settings = {
        "batch_size": 2, "optimizer": "sgd", "learning_rate": 1.0, "max_grad_norm": None, "log_steps": 1, "use_cpu": True,
        "save_enabled": False, "max_steps": 1,
    }  # fmt: skip
    config = TrainerConfig(output_dir=str(output), **settings | fields)
    return Trainer(own, config, data, data[:5], PadCollator(), metrics=fields.get("metrics"))


STRATEGIES = ("ddp", "fsdp", "tensor")


def gradients(root: Path) -> None:
    for model in sorted((root / "models").iterdir()):
        for strategy in STRATEGIES:
            output = root / "out" / f"{model.name}-{strategy}-{world_size()}"
            fields: dict[str, Any] = {"strategy": strategy}
            if strategy == "tensor":  # all processes read the same
                fields = {"tensor_parallel": world_size(), "gradient_accumulation_steps": world_size()}
            try:
                own = trainer_for(model, output, do_evaluate=False, **fields)
            except ConfigError as error:
                output.mkdir(parents=True, exist_ok=True)
                (output / "refused.txt").write_text(str(error))
                continue
            own.train()
            tensors = whole_tensors(own.model)
            if rank() == 0:
                save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, output / "weights.safetensors")


WAYS_TO_SHARE: dict[str, dict[str, Any]] = {
    "ddp": {}, "fsdp": {"strategy": "fsdp"}, "zero2": {"strategy": "fsdp", "reshard_after_forward": False},
    "offload": {"strategy": "fsdp", "cpu_offload": True}, "tensor": {"tensor_parallel": 2, "gradient_accumulation_steps": 2},
}  # fmt: skip
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "clipped": ("bert_text_classification", {"max_grad_norm": 0.01}),
    "packed": ("bert_text_classification", {"packed": True}),
    "recomputed": ("bert_text_classification", {"checkpoint_activations": True}),
    "smoothed": ("gpt2_text_generation", {"label_smoothing": 0.1}),
    "fused": ("gpt2_text_generation", {"fused_loss": True}),
    "best": (
        "bert_text_classification",
        {"max_steps": 4, "eval_steps": 1, "save_steps": 1, "save_enabled": True, "load_best_model_at_end": True, "learning_rate": 0.5},
    ),
    "adapted": ("bert_text_classification", {"lora": {"r": 2, "targets": ["q", "mlp.up"]}}),
}  # fmt: skip


# Adapters need no shards, which the config says.
OPTIONS_AND_WAYS = [(one, way) for one in OPTIONS for way in WAYS_TO_SHARE if one != "adapted" or way == "ddp"]


def options(root: Path) -> None:
    """Two steps with each option in each way."""
    for option, way in OPTIONS_AND_WAYS:
        (name, fields), output = OPTIONS[option], root / "options" / f"{option}-{way}"
        settings = {"max_steps": 2, "learning_rate": 0.1} | fields | WAYS_TO_SHARE[way]
        own = trainer_for(root / "models" / name, output, **settings)
        own.train()
        tensors = whole_tensors(own.model)
        if rank() == 0:
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, output / "weights.safetensors")


def helpers() -> dict[str, Any]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        print_rank("here")
        print_rank("there", rank=1)
    layer = torch.nn.Linear(2, 3)
    value = torch.tensor([float(rank() + 1)])
    return {
        "world": world_size(),
        "printed": text.getvalue(),
        "mean": all_reduce_mean(value).tolist(),
        "sum_loss": sum_loss(value).tolist(),
        "gathered": gather_result(torch.full((rank() + 1, 2), float(rank()))).tolist(),
        "table": inspect_model(layer, "weight"),
    }


class Late(Callback):
    """One process is told to stop, and all do."""

    def on_step_end(self, trainer: Trainer) -> None:
        if rank() == 1 and trainer.state.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)


LONG: dict[str, Any] = {
    "optimizer": "adamw", "learning_rate": 1e-2, "max_steps": 4, "save_enabled": True, "keep_checkpoints": None,
    # Keys' biases change no scores: without this, the rounding that is their gradient would be made large.
    "optimizer_kwargs": {"eps": 1e-4},
}  # fmt: skip

WAYS: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "ddp"}, "fsdp": {"strategy": "fsdp"},
    "background": {"strategy": "fsdp", "save_in_background": True}, "tensor": {},
}  # fmt: skip


def resumed(root: Path) -> None:
    """Goes on with the checkpoints of two processes."""
    for name, fields in WAYS.items():
        if name == "tensor":
            fields = {"tensor_parallel": 4, "gradient_accumulation_steps": 4}
        own = trainer_for(root / "models" / "bert_text_classification", root / "on_four" / name, **LONG | fields)
        own.train(resume_from_checkpoint=str(root / "saved" / name / "checkpoints" / "00000002"))


class Killed(Callback):
    """The second process ends at once, as by a full memory."""

    def on_step_end(self, trainer: Trainer) -> None:
        if rank() == 1 and trainer.state.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)


def lose(root: Path) -> None:
    fields = LONG | {"max_steps": 50, "save_steps": 2, "gradient_accumulation_steps": 2}
    own = trainer_for(root / "models" / "bert_text_classification", root / "lost", **fields)
    own.callbacks.append(Killed())
    own.train()


def checkpoints(root: Path) -> dict[str, Any]:
    model = root / "models" / "bert_text_classification"
    fields = LONG | {"gradient_accumulation_steps": 2}
    found: dict[str, Any] = {}
    for strategy, way in WAYS.items():
        if strategy == "tensor":
            way = {"tensor_parallel": 2, "gradient_accumulation_steps": 4}
        own = trainer_for(model, root / "saved" / strategy, save_steps=2, **fields | way)
        own.train()
        found[strategy] = {**own.evaluate(), "scores": torch.stack(own.predict(samples("text_classification", 5))).tolist()}
        folder = own.save()
        again = trainer_for(model, root / "again" / strategy, **fields | way)
        again.train(resume_from_checkpoint=str(own.checkpoints_path / "00000002"))
        tensors, others = whole_tensors(own.model), whole_tensors(again.model)
        found[strategy]["resumed"] = all(torch.equal(tensors[name], others[name]) for name in tensors)
        found[strategy]["folder"] = str(folder)
    own = trainer_for(model, root / "saved" / "stopped", **fields | {"max_steps": 50, "gradient_accumulation_steps": 1})
    own.callbacks.append(Late())
    try:
        own.train()
    except KeyboardInterrupt:
        found["stopped"] = own.state.global_step
    for strategy in STRATEGIES:
        way = {"tensor_parallel": 2, "gradient_accumulation_steps": 4} if strategy == "tensor" else {"strategy": strategy}
        own = trainer_for(model, root / "of_one" / strategy, **fields | way)
        own.train(resume_from_checkpoint=str(root / "alone" / "checkpoints" / "00000002"))
    try:
        trainer_for(model, root / "x", strategy="fsdp", metrics=["bleu"]).evaluate()
    except TypeError as error:
        found["refused"] = str(error)
    try:
        trainer_for(model, root / "x", distributed=False)
    except ConfigError as error:
        found["alone"] = str(error)
    return found


if __name__ == "__main__":
    root = Path(sys.argv[1])
    init_distributed(seed=1)
    if sys.argv[2:] == ["lose"]:
        lose(root)
    results: dict[str, Any] = {}
    gradients(root)
    if world_size() == 2:
        options(root)
        results = {"helpers": helpers(), "checkpoints": checkpoints(root)}
    else:
        resumed(root)
    (root / f"rank{rank()}of{world_size()}.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()
