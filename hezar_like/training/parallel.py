"""One model on several processes: DDP, or FSDP2 with the same rule for every family, a shard for each block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ..blocks import Block
from ..errors import ConfigError
from ..loading import unique_tensors
from .adamw import AdamW
from .config import TrainerConfig
from .distributed import rank, world_size
from .tensor_parallel import share_layers

__all__ = [
    "clip_gradients", "data_ranks", "distribute", "is_sharded", "load_tensors", "shard_again", "synchronised",
    "whole_tensors",
]  # fmt: skip

LEAST = 1e-6
"""What torch adds to a norm by which it divides."""


def distribute(step: nn.Module, config: TrainerConfig, device: torch.device) -> nn.Module:
    """What runs a training step: itself, or for all processes together.

    Raises:
        ConfigError: When the config asks for processes and there are none.
    """
    if world_size() == 1 and config.distributed:
        raise ConfigError("TrainerConfig.distributed is true, but there is one process. Start with torchrun.")
    if world_size() > 1 and config.distributed is False:
        raise ConfigError(
            f"TrainerConfig.distributed is false, but there are {world_size()} processes. Leave it out, or start one."
        )
    if config.tensor_parallel > 1:
        if world_size() != config.tensor_parallel:
            raise ConfigError(
                f"TrainerConfig.tensor_parallel is {config.tensor_parallel}, but there are {world_size()} processes. "
                "Start as many."
            )
        share_layers(step, device)
        return step
    if config.cpu_offload and not torch.distributed.is_initialized():
        raise ConfigError(
            "TrainerConfig.cpu_offload is true, which needs a group of processes, if of one only. Start with torchrun "
            "--nproc-per-node 1, or more."
        )
    if torch.distributed.is_initialized() and config.strategy == "fsdp":
        policy: dict[str, Any] = {"reshard_after_forward": config.reshard_after_forward}
        if config.cpu_offload:
            policy["offload_policy"] = CPUOffloadPolicy(pin_memory=device.type == "cuda")
        for block in [part for part in step.modules() if isinstance(part, Block)]:
            fully_shard(block, **policy)
        fully_shard(step, **policy)
        return step
    if world_size() == 1:
        return step
    ids = [device.index] if device.type == "cuda" and device.index is not None else None
    # A head may leave parts of a backbone unused, such as a pooler.
    return DistributedDataParallel(step, device_ids=ids, find_unused_parameters=True)


def is_sharded(model: nn.Module) -> bool:
    """Whether parameters are shards."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def shard_again(runner: nn.Module) -> None:
    """Gives up what each process gathered of the others' shards in a forward pass that no backward pass follows."""
    for part in runner.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def data_ranks(config: TrainerConfig) -> tuple[int, int]:
    """The number of this process among those that read other batches, and how many these are."""
    return (0, 1) if config.tensor_parallel > 1 else (rank(), world_size())


def clip_gradients(optimizer: Optimizer, most: float, *, later: bool) -> float:
    """Scales gradients down to a norm, and returns what it was.

    Args:
        optimizer: Whose parameters' gradients.
        most: The norm.
        later: Whether the step of the optimizer, an `AdamW` of ours, scales them.
    """
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = [], []  # no operation takes shards and whole tensors
    for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
        if parameter.grad is not None:
            groups[isinstance(parameter, DTensor)].append(parameter)
    norms = [nn.utils.get_total_norm([_numbers(p) for p in group]) for group in groups if group]
    total = torch.stack([n.full_tensor() if isinstance(n, DTensor) else n for n in norms] or [torch.zeros(())]).norm()
    if later:
        assert isinstance(optimizer, AdamW)
        scale = (total.float() + LEAST) / most
        optimizer.grad_scale = scale if scale > 1 else None
    else:
        for group in groups:
            nn.utils.clip_grads_with_norm_(group, most, total)
    return float(total)


def _numbers(parameter: nn.Parameter) -> Tensor:
    """Those of a gradient that may differ from zero."""
    assert parameter.grad is not None
    if not parameter.grad.is_sparse:
        return parameter.grad
    parameter.grad = parameter.grad.coalesce()
    return parameter.grad.values()


@contextlib.contextmanager
def synchronised(runner: nn.Module, last: bool) -> Iterator[None]:
    """Lets gradients be summed over processes only in the last batch of a step."""
    if isinstance(runner, FSDPModule):
        runner.set_requires_gradient_sync(last)
    context: AbstractContextManager[Any] = contextlib.nullcontext()
    if isinstance(runner, DistributedDataParallel) and not last:
        context = runner.no_sync()
    with context:
        yield


def whole_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights, shared ones once, on the CPU where they were shards; empty in all but the first process then.

    Where parameters are shards, all processes must call this.
    """
    if not is_sharded(model):
        return unique_tensors(model)
    names = unique_tensors(model).keys()
    found: dict[str, Any] = get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    return {name: tensor for name, tensor in found.items() if name in names} if rank() == 0 else {}


def load_tensors(model: nn.Module, tensors: dict[str, Any]) -> None:
    """Takes weights that were saved by `whole_tensors`."""
    if is_sharded(model):
        set_model_state_dict(model, tensors, options=StateDictOptions(full_state_dict=True, strict=False))
        return
    own = unique_tensors(model)
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
