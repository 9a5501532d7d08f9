"""AdamW on a CPU in fewer passes over memory; the numbers are those of `torch.optim.AdamW`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from ..layers.embeddings import TokenVectors

__all__ = ["AdamW", "gradients_by_row"]

NUMBERS = 2**20
"""So many of a parameter with a sparse gradient are changed at a time: zeros of its gradient stay in the cache then."""


class AdamW(torch.optim.AdamW):
    """AdamW, fused, for whole parameters on a CPU.

    A sparse gradient is one that is zero elsewhere: all rows of the parameter are changed, as by the whole gradient,
    which is never there.

    Attributes:
        grad_scale: What gradients are divided by in a step, so that clipping is no pass of its own; None: nothing.
    """

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options | {"fused": True})
        self.grad_scale: Tensor | None = None

    def _init_group(self, group: dict[str, Any], *lists: Any) -> bool:
        """Hands on what has a whole gradient; the others are changed here."""
        sparse = [p for p in group["params"] if p.grad is not None and p.grad.is_sparse]
        for parameter in sparse:
            self._change(parameter, group)
        whole = [p for p in group["params"] if p.grad is None or not p.grad.is_sparse]
        result: bool = super()._init_group(group | {"params": whole}, *lists)  # type: ignore[no-untyped-call]
        return result

    def _change(self, parameter: Tensor, group: Mapping[str, Any]) -> None:
        assert parameter.grad is not None
        gradient, state = parameter.grad.coalesce(), self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state |= {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        size = max(1, NUMBERS // parameter.size(1))
        own = parameter.new_zeros(size, parameter.size(1))
        wholes = parameter.detach(), state["exp_avg"], state["exp_avg_sq"]
        rows = gradient.indices()[0]
        counts = torch.bincount(rows // size, minlength=-(-len(parameter) // size)).tolist()
        parts = zip(*(torch.split(whole, size) for whole in wholes), strict=True)
        for part, places, values in zip(
            parts, torch.split(rows % size, counts), torch.split(gradient.values(), counts), strict=True
        ):
            own.index_copy_(0, places, values)
            numbers, *moments = part
            adamw(
                [numbers], [own[: len(numbers)]], moments[:1], moments[1:], [], [state["step"].clone()],
                fused=True, grad_scale=self.grad_scale, amsgrad=False, beta1=group["betas"][0], beta2=group["betas"][1],
                lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"], maximize=group["maximize"],
            )  # fmt: skip
            own.index_fill_(0, places, 0)
        state["step"] += 1


@contextmanager
def gradients_by_row(model: nn.Module) -> Iterator[None]:
    """While it is entered, gradients of token vectors are sparse, where nothing else has these as its weight."""
    uses: dict[int, int] = {}
    for part in model.modules():
        for parameter in part._parameters.values():
            uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    own = [part for part in model.modules() if isinstance(part, TokenVectors) and uses[id(part.weight)] == 1]
    for part in own:
        part.sparse = True
    try:
        yield
    finally:
        for part in own:
            part.sparse = False
