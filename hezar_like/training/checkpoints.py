"""Checkpoints: all that training needs to go on as if it had never stopped.

A checkpoint is a folder named by its step, as Hezar's: the model in the native layout, and in `train/` the rest. It is
written under another name, and gets its own when it is whole.
"""

from __future__ import annotations

import copy
import logging
import random
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import saving, text_files
from ..errors import CheckpointError, ConfigError
from ..formats.native import WEIGHTS
from ..formats.weights import find_weights
from ..loading import unique_tensors
from .disk import writing
from .distributed import rank, wait_for_ranks
from .logs import draw_curves, read_log
from .lora import save_adapter
from .optimizer_state import dump, load_optimizer, saved_optimizer
from .parallel import data_ranks, is_sharded, load_tensors, whole_tensors
from .state import TrainerState

if TYPE_CHECKING:
    from .loop import Loop
    from .trainer import Trainer

__all__ = [
    "check_nothing_later", "checkpoint_to_resume", "load_checkpoint", "load_model", "rotate", "saved_checkpoint",
    "saved_model", "whole_checkpoints",
]  # fmt: skip

logger = logging.getLogger("hezar_like")
UNFINISHED = ".unfinished-"
STATE, RANDOM, TRAINED = "train/trainer_state.yaml", "train/random-{}.pt", "train/trained.pt"


def saved_checkpoint(loop: Loop, *, later: bool = False) -> Callable[[], Path]:
    """Takes down where a training is. All processes must call it, and what it returns, in this order.

    Args:
        loop: The training.
        later: Whether training goes on before the result is called, or while it runs, which costs copies.

    Returns:
        What writes the checkpoint, which has its name when that is done in the first process, and returns its folder.
        It raises a HubError when it cannot be written.
    """
    trainer, state = loop.trainer, loop.trainer.state
    final = trainer.checkpoints_path / f"{state.global_step:08d}"
    folder = final.with_name(f"{UNFINISHED}{final.name}")
    if rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        with writing(folder):
            (folder / "train").mkdir(parents=True)
    wait_for_ranks()
    parts = [saved_model(trainer, folder, later=later)]
    if trainer.config.lora is not None and rank() == 0:  # by our own names: exactly what was trained
        parts.append(partial(dump, _copies(_trained(trainer.model), later), folder / TRAINED))
    parts.append(saved_optimizer(loop, folder, later=later))
    dump(_random_state(trainer.device), folder / RANDOM.format(rank()))
    values = {**state.to_dict(), "sampler": loop.sampler_state(), "world_size": data_ranks(trainer.config)[1]}
    curves = draw_curves(read_log(trainer.log_path)) if rank() == 0 else ""
    wait_for_ranks()

    def write() -> Path:
        for save in parts:
            save()
        if rank() == 0:
            with writing(folder):
                trainer.config.save(folder / "train")
                (folder / "train" / "loss.svg").write_text(curves, encoding="utf-8")
                sizes = {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
                (folder / STATE).write_text(text_files.dump_yaml({**values, "files": sizes}), encoding="utf-8")
                shutil.rmtree(final, ignore_errors=True)
                folder.rename(final)
        return final

    return write


def saved_model(trainer: Trainer, folder: Path, *, later: bool = False) -> Callable[[], object]:
    """What saves the model as it is now, or the adapter that is trained, to a folder; see `saved_checkpoint`."""
    model = trainer.model
    if trainer.config.lora is not None:
        own = copy.deepcopy(model) if later else model
        return partial(_save_adapter, own, folder) if rank() == 0 else _nothing
    tensors = whole_tensors(model)
    if rank() != 0:
        return _nothing
    return partial(
        saving.save_model,
        folder,
        model.config,
        tensors if is_sharded(model) else _copies(tensors, later),
        model.preprocessor,
        filename=model.model_filename,
        config_filename=model.config_filename,
    )


def _save_adapter(model: Any, folder: Path) -> None:
    save_adapter(model, folder)
    model.config.save(folder)


def _nothing() -> None:
    """What processes but the first save of a whole model."""


def _copies(tensors: Mapping[str, Tensor], wanted: bool) -> dict[str, Tensor]:
    """Tensors that training does not change, in the memory of the CPU; or these themselves."""
    return {name: tensor.detach().to("cpu", copy=True) if wanted else tensor for name, tensor in tensors.items()}


def load_model(trainer: Trainer, folder: Path) -> None:
    """Takes the weights of a checkpoint.

    Raises:
        CheckpointError: When they are not those of this model.
    """
    if trainer.config.lora is not None:
        load_tensors(trainer.model, torch.load(folder / TRAINED, weights_only=True))
        return
    names = trainer.model.model_filename, *WEIGHTS
    weights = find_weights(lambda name: p if (p := folder / name).is_file() else None, names, repr(str(folder)))
    own = unique_tensors(trainer.model)
    odd = [n for n in own.keys() | weights.header.keys() if n not in own or n not in weights]
    odd += [n for n in own.keys() & weights.header.keys() if tuple(own[n].shape) != tuple(weights.header[n].shape)]
    if odd:
        raise CheckpointError(
            f"{str(folder)!r} is a checkpoint of another model: {min(odd)!r} and {len(odd) - 1} more weights are not "
            "in both, or have another shape. Resume with the model it was made with."
        )
    load_tensors(trainer.model, dict(weights.items()))


def load_checkpoint(loop: Loop, folder: Path) -> None:
    """Brings a training to where it was when it saved. All processes must call it.

    Raises:
        CheckpointError: When the checkpoint is not whole, or not of this model.
        ConfigError: When it was made with other data or batches.
    """
    reason = why_not_whole(folder)
    if reason is not None:
        raise CheckpointError(f"{str(folder)!r} cannot be resumed: {reason}. Give another checkpoint.")
    trainer, values = loop.trainer, text_files.read_yaml(folder / STATE)
    load_model(trainer, folder)
    load_optimizer(loop, folder)
    total = trainer.state.total_steps
    trainer.state = TrainerState.from_dict(values)
    trainer.state.total_steps = total
    loop.load_sampler_state(values["sampler"], int(values["world_size"]))
    own = folder / RANDOM.format(rank())
    if own.is_file() and values["world_size"] == data_ranks(trainer.config)[1]:
        _set_random_state(torch.load(own, weights_only=True), trainer.device)


def why_not_whole(folder: Path) -> str | None:
    """What a checkpoint lacks; None when it is whole."""
    if not folder.is_dir():
        return "there is no such folder"
    try:
        sizes = text_files.read_yaml(folder / STATE)["files"]
    except (ConfigError, KeyError):
        return f"{STATE} is missing or broken"
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return f"{name} is missing or cut off"
    return None


def whole_checkpoints(root: Path) -> list[Path]:
    """The whole checkpoints of a folder, by step; others are told in a warning."""
    found = []
    for folder in sorted(p for p in root.iterdir() if p.name.isdecimal()) if root.is_dir() else ():
        reason = why_not_whole(folder)
        if reason is None:
            found.append(folder)
        else:
            logger.warning(f"The checkpoint {str(folder)!r} is left out: {reason}.")
    return found


def checkpoint_to_resume(root: Path, wanted: bool | str | None) -> Path | None:
    """The checkpoint that `resume_from_checkpoint` means; None to begin anew.

    Args:
        root: Folder of the checkpoints.
        wanted: True for the last whole one, or a folder, or the name of one in `root`.
    """
    if wanted is None or wanted is False:
        return None
    if wanted is True:
        whole = whole_checkpoints(root)
        return whole[-1] if whole else None
    given = Path(wanted).expanduser()
    return given if given.is_dir() or not (root / wanted).is_dir() else root / wanted


def check_nothing_later(root: Path, step: int) -> None:
    """Raises a ConfigError when training would go another way beside later checkpoints, and be mixed with them."""
    later = [folder.name for folder in whole_checkpoints(root) if int(folder.name) > step]
    if later:
        raise ConfigError(
            f"{str(root)!r} holds checkpoints behind step {step}: {', '.join(later[:5])}. Move them away, or give "
            "another output_dir and the whole path of the checkpoint."
        )


def rotate(root: Path, keep: int | None, best_step: int | None) -> None:
    """Removes all checkpoints but the last ones and the best, and what killed processes left."""
    for unfinished in root.glob(f"{UNFINISHED}*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    if keep is None:
        return
    numbered = sorted(p for p in root.iterdir() if p.name.isdecimal())
    for folder in numbered[:-keep]:
        if int(folder.name) != best_step:
            shutil.rmtree(folder, ignore_errors=True)


def _trained(model: Any) -> dict[str, Any]:
    return {name: tensor for name, tensor in unique_tensors(model).items() if model.get_parameter(name).requires_grad}


def _random_state(device: torch.device) -> dict[str, Any]:
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if "numpy" in sys.modules:  # who does not use it draws nothing from it
        kind, keys, *rest = sys.modules["numpy"].random.get_state()
        state["numpy"] = (kind, keys.tolist(), *rest)
    return state


def _set_random_state(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    if "numpy" in state and "numpy" in sys.modules:
        sys.modules["numpy"].random.set_state(state["numpy"])
