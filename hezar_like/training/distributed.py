"""Several processes that train one model, as `torchrun` starts them; every helper also works in a single process."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import OptionError, ProcessLost
from ..utils import set_seed

__all__ = [
    "all_reduce_mean", "gather_objects", "gather_result", "init_distributed", "inspect_model", "print_rank", "rank",
    "sum_loss", "telling_of_lost_ranks", "totals_of_ranks", "wait_for_ranks", "whole_tensor", "world_size",
]  # fmt: skip

logger = logging.getLogger("hezar_like")
BACKENDS = re.compile("gloo|nccl|connection (closed|reset) by peer", re.IGNORECASE)
"""What the messages of torch.distributed speak of, whose errors have no class of their own for gloo."""


def init_distributed(seed: int | None = None, *, backend: str | None = None) -> None:
    """Joins the processes that `torchrun` started; does nothing but seed where it started none.

    Args:
        seed: Seeds random numbers, those of each rank differently.
        backend: "nccl", "gloo", ...; default: "gloo", and beside it, for tensors on GPUs, "nccl", where there is a GPU
            for each process of this machine.

    Raises:
        OptionError: When the processes cannot be joined.
    """
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        local = int(os.environ.get("LOCAL_RANK", "0"))
        gpus = torch.cuda.device_count()
        if backend is None:
            backend = "cpu:gloo,cuda:nccl" if gpus >= int(os.environ.get("LOCAL_WORLD_SIZE", "1")) else "gloo"
        if "nccl" in backend:
            torch.cuda.set_device(local)
        try:
            dist.init_process_group(backend)
        except (RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise OptionError(f"the processes cannot be joined: {reason}. Start them with torchrun.") from None
    if seed is not None:
        set_seed(seed + rank())


def rank() -> int:
    """The number of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wait_for_ranks() -> None:
    """Goes on when all processes are here."""
    if dist.is_initialized():
        dist.barrier()


@contextlib.contextmanager
def telling_of_lost_ranks() -> Iterator[None]:
    """Says what to do when another process has ended, in place of what the backend says.

    Raises:
        ProcessLost: When processes cannot be reached.
    """
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not (isinstance(error, dist.DistError) or BACKENDS.search(str(error))):
            raise
        reason = str(error).partition(". ")[0].partition("] ")[2] or str(error)  # without the line of C++
        message = (
            f"another process of the training cannot be reached ({reason}), so process {rank()} ends, too. See what it "
            "said; then start all again with resume_from_checkpoint=True, to go on from the last checkpoint."
        )
        logger.error(message)  # at once, because torchrun ends the processes that are left within a moment
        raise ProcessLost(message) from None


def print_rank(*values: Any, rank: int = 0) -> None:
    """Prints in one process only.

    Args:
        *values: As of `print`.
        rank: The process that prints.
    """
    if (dist.get_rank() if dist.is_initialized() else 0) == rank:
        print(*values, flush=True)


def totals_of_ranks(values: Sequence[float], device: torch.device) -> list[float]:
    """The sum of each number over all processes."""
    if not dist.is_initialized():
        return list(values)
    totals = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(totals)
    found: list[float] = totals.tolist()
    return found


def all_reduce_mean(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, without a gradient; ModelCenter calls it `sum_loss`.

    Args:
        value: Of the same shape everywhere.
    """
    result = value.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(result)
        result /= world_size()
    return result


sum_loss = all_reduce_mean


def gather_result(value: Tensor) -> Tensor:
    """What all processes have, one below the other by rank.

    Args:
        value: [rows, ...]; rows may differ in number, the rest of the shape may not.

    Returns:
        [all rows, ...] on the CPU.
    """
    return torch.cat([part.cpu() for part in gather_objects(value.detach().cpu())])


def gather_objects(value: Any) -> list[Any]:
    """What each process has, by rank, for all of them."""
    found = [value] * world_size()
    if dist.is_initialized():
        dist.all_gather_object(found, value)
    return found


def inspect_model(model: nn.Module, names: str | Iterable[str] = "") -> str:
    """A table of parameters: shape, mean, deviation, and the same of gradients where there are any.

    Args:
        model: The model. Where its parameters are shards, all processes must call this.
        names: What the names of the parameters that are shown begin with; default: all.

    Returns:
        One line for each, for printing.
    """
    starts = (names,) if isinstance(names, str) else tuple(names)
    lines = [("parameter", "shape", "mean", "std", "grad mean", "grad std")]
    for name, parameter in model.named_parameters():
        if name.startswith(starts):
            cells = [_statistics(tensor) for tensor in (parameter, parameter.grad)]
            lines.append((name, "x".join(map(str, parameter.shape)), *cells[0], *cells[1]))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = (zip(line, widths, strict=True) for line in lines)
    return "\n".join("  ".join(cell.ljust(width) for cell, width in row).rstrip() for row in rows)


def _statistics(tensor: Tensor | None) -> tuple[str, str]:
    if tensor is None:
        return "", ""
    whole = whole_tensor(tensor).float()
    return f"{whole.mean().item():.4g}", f"{whole.std(correction=0).item():.4g}"


def whole_tensor(tensor: Tensor) -> Tensor:
    """A tensor that may be a shard as a whole one, in every process."""
    gather = getattr(tensor.detach(), "full_tensor", None)
    return tensor.detach() if gather is None else gather()
