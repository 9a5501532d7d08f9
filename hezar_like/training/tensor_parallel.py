"""Each layer's heads and channels on several processes (Shoeybi et al., 2019: https://arxiv.org/abs/1909.08053).

One rule for every family: queries, keys, values and what goes up in an MLP are cut by their outputs, what follows by
its inputs. All processes read the same batch; what is not cut is the same in all of them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from ..errors import ConfigError
from ..layers import MLP, Attention

__all__ = ["share_layers"]

OUTPUTS, INPUTS = ("q", "k", "v", "up", "gate"), ("out", "down")


def share_layers(model: nn.Module, device: torch.device) -> None:
    """Cuts the linear layers of attention and MLPs in place, so that each process has a part of them.

    Args:
        model: The model; the same everywhere but for its weights, which become those of the first process.
        device: Where it is.

    Raises:
        ConfigError: When heads or channels cannot be shared evenly.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    parts = {name: part for name, part in model.named_modules() if isinstance(part, Attention | MLP)}
    for name, part in parts.items():
        _check(name, part, mesh.size())
    if not parts:
        raise ConfigError(f"TrainerConfig.tensor_parallel: {type(model).__name__} has no layers that can be shared.")
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.data, 0)
    for part in parts.values():
        plan: dict[str, ParallelStyle] = {}
        for name, child in part.named_children():
            if isinstance(child, nn.Linear) and name in (*OUTPUTS, *INPUTS):
                plan[name] = ColwiseParallel() if name in OUTPUTS else RowwiseParallel()
        parallelize_module(part, mesh, plan)
        if isinstance(part, Attention):
            _share_heads(part, mesh)


def _check(name: str, part: Attention | MLP, count: int) -> None:
    if isinstance(part, MLP):
        sizes = {"channels": part.up.out_features}
    else:
        sizes = {"heads": part.num_heads, "heads of keys": part.k.out_features // part.head_dim}
    for what, size in sizes.items():
        if size % count:
            raise ConfigError(
                f"TrainerConfig.tensor_parallel is {count}, but {name!r} has {size} {what}, which cannot be shared "
                "evenly. Give a number that divides them."
            )


def _share_heads(attention: Attention, mesh: DeviceMesh) -> None:
    """Gives each process what belongs to its heads of masks, and sums the gradients of what norms the heads of all."""
    heads = attention.num_heads

    def own_part(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = kwargs.get("mask")
        if mask is not None and mask.ndim == 4 and mask.size(1) == heads > 1:
            kwargs = {**kwargs, "mask": _OwnHeads.apply(mask, mesh)}  # type: ignore[no-untyped-call]
        return args, kwargs

    attention.register_forward_pre_hook(own_part, with_kwargs=True)
    for norm in (attention.q_norm, attention.k_norm):
        for parameter in () if norm is None else norm.parameters():
            parameter.register_hook(lambda gradient: _summed(gradient, mesh))  # type: ignore[no-untyped-call]


class _OwnHeads(torch.autograd.Function):
    """A process's heads of what all of them have, [any, heads, ...]; the gradient is of all heads again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mesh: DeviceMesh) -> Tensor:
        ctx.mesh = mesh
        return x.chunk(mesh.size(), 1)[mesh.get_local_rank()].contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        parts = [torch.empty_like(gradients[0]) for _ in range(ctx.mesh.size())]
        dist.all_gather(parts, gradients[0].contiguous(), group=ctx.mesh.get_group())
        return torch.cat(parts, 1), None


def _summed(gradient: Tensor, mesh: DeviceMesh) -> Tensor:
    total = gradient.clone()
    dist.all_reduce(total, group=mesh.get_group())
    return total
