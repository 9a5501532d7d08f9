"""States of the optimizer, the schedule and the scaler in a checkpoint: one file, or several where they are shards."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as load_shards
from torch.distributed.checkpoint.state_dict_saver import async_save as save_shards_later
from torch.distributed.checkpoint.state_dict_saver import save as save_shards

from ..errors import ConfigError
from .disk import writing
from .distributed import rank
from .parallel import is_sharded

if TYPE_CHECKING:
    from .loop import Loop

__all__ = ["OPTIMIZER", "dump", "load_optimizer", "saved_optimizer"]

WAYS = ("fused", "foreach", "capturable")
"""How a step is computed, which is no matter of its state: other processes may do it in another way."""
OPTIMIZER, SHARDS = "train/optimizer.pt", "train/shards"


def saved_optimizer(loop: Loop, folder: Path, *, later: bool) -> Callable[[], object]:
    """What saves the states as they are now, by names of parameters, so that other numbers of processes can take them.

    Args:
        loop: The training.
        folder: The checkpoint's.
        later: Whether training goes on before it is called, or while it runs.
    """
    state: dict[str, Any] = {"optimizer": get_optimizer_state_dict(loop.trainer.model, loop.optimizer)}
    others = {"schedule": loop.schedule.state_dict(), "scaler": loop.scaler.state_dict()}
    write_shards: Callable[[], object] | None = None
    if not is_sharded(loop.trainer.model):
        others |= state
    elif later:
        future: Any = save_shards_later(state, checkpoint_id=folder / SHARDS, process_group=loop.saver.group)
        write_shards = future.result
    else:
        write_shards = partial(save_shards, state, checkpoint_id=folder / SHARDS)
    if later and rank() == 0:
        others = copy.deepcopy(others)

    def save() -> None:
        if write_shards is not None:
            write_shards()
        if rank() == 0:
            dump(others, folder / OPTIMIZER)

    return save


def load_optimizer(loop: Loop, folder: Path) -> None:
    """Takes the states of a checkpoint.

    Raises:
        ConfigError: When it was made with a schedule of another kind.
    """
    model, optimizer = loop.trainer.model, loop.optimizer
    saved: dict[str, Any] = torch.load(folder / OPTIMIZER, weights_only=True, map_location="cpu")
    # Versions of torch differ in what is none of their users' business.
    ours, theirs = ({n for n in state if n[0] != "_"} for state in (loop.schedule.state_dict(), saved["schedule"]))
    if ours != theirs:
        raise ConfigError(
            f"{str(folder)!r} was made with an lr_scheduler of another kind than {type(loop.schedule).__name__}. "
            "Resume with the one it was made with."
        )
    whole = "optimizer" in saved
    if not whole:
        state: dict[str, Any] = {"optimizer": get_optimizer_state_dict(model, optimizer)}
        with warnings.catch_warnings():  # that there is one process is no news
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            load_shards(state, checkpoint_id=folder / SHARDS)
        saved |= state
    options = StateDictOptions(full_state_dict=whole and is_sharded(model))
    ways = [{name: group[name] for name in WAYS if name in group} for group in optimizer.param_groups]
    set_optimizer_state_dict(model, optimizer, saved["optimizer"], options=options)
    for group, way in zip(optimizer.param_groups, ways, strict=True):
        group.update(way)
    loop.schedule.load_state_dict(saved["schedule"])
    if saved["scaler"]:  # it is empty where another processor trained in float32 instead
        loop.scaler.load_state_dict(saved["scaler"])


def dump(value: Any, path: Path) -> None:
    """Saves tensors and plain data.

    Raises:
        HubError: When the file cannot be written.
    """
    with writing(path):
        try:
            torch.save(value, path)
        except RuntimeError as error:  # torch raises it for a full disk
            raise OSError(f"{error}") from None
