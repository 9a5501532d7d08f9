"""When checkpoints are written: at once, or beside training, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from . import checkpoints
from .distributed import wait_for_ranks
from .parallel import is_sharded

if TYPE_CHECKING:
    from .loop import Loop

__all__ = ["Saver"]


class Saver:
    """Saves the checkpoints of a training. All processes must call its methods.

    Args:
        loop: The training.

    Attributes:
        saved_at: The step of the last checkpoint.
        group: What processes save shards with in the background, beside what they do in training.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop, self._later = loop, loop.config.save_in_background
        self.saved_at = -1
        self._writing: Future[Path] | None = None
        own_group = self._later and is_sharded(loop.trainer.runner)
        self.group = torch.distributed.new_group(backend="gloo") if own_group else None

    def save(self) -> None:
        """Saves a checkpoint of this step, unless there is one, and removes old ones.

        Raises:
            HubError: When it, or the one before it, cannot be written.
        """
        step = self._loop.trainer.state.global_step
        if self.saved_at == step:
            return
        self.finish()
        write = checkpoints.saved_checkpoint(self._loop, later=self._later)
        self.saved_at = step
        if self._later:
            self._writing = _in_background(write)
        else:
            self._written(write())

    def finish(self) -> None:
        """Waits for the checkpoint that is being written in the background, if there is one.

        Raises:
            HubError: When it cannot be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            self._written(writing.result())

    def give_up(self) -> None:
        """Waits likewise when training has ended by an error, which says more than what came of the checkpoint."""
        if self._writing is not None:
            wait([self._writing])

    def _written(self, folder: Path) -> None:
        trainer, config = self._loop.trainer, self._loop.config
        wait_for_ranks()
        if trainer.is_first:
            checkpoints.rotate(trainer.checkpoints_path, config.keep_checkpoints, trainer.state.best_step)
        for callback in trainer.callbacks:
            callback.on_save(trainer, folder)


def _in_background(work: Callable[[], Path]) -> Future[Path]:
    """Begins some work; its result, or its error, is in the future."""
    future: Future[Path] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="checkpoint").start()  # which the interpreter waits for
    return future
