"""Norms that torch has not, or not as models need them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Division by the root of the mean square (Zhang and Sennrich, 2019): https://arxiv.org/abs/1910.07467.

    The mean is taken in float32.

    Args:
        width: Size of the vectors.
        eps: Added to the mean square.
        offset: Added to the weight: 1 where weights are stored around zero (Gemma), which also multiplies in float32.
    """

    def __init__(self, width: int, eps: float = 1e-6, *, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps, self.offset = eps, offset
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Makes it multiply with one."""
        nn.init.constant_(self.weight, 1.0 - self.offset)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to the same."""
        normed = _over_root_mean_square(x.float(), self.eps)
        if self.offset:
            return (normed * (self.weight.float() + self.offset)).to(x.dtype)
        return normed.to(x.dtype) * self.weight


def _over_root_mean_square(x: Tensor, eps: float) -> Tensor:
    """[..., width] float32, divided by the root of its mean square."""
    if x.device.type != "cpu":
        return F.rms_norm(x, x.shape[-1:], None, eps)
    # Here torch would do the same in twice as many operations.
    root = x.size(-1) ** 0.5
    size = torch.hypot(torch.linalg.vector_norm(x, 2, -1, True), x.new_full((), eps**0.5 * root))
    return torch.addcdiv(x.new_zeros(()), x, size, value=root)
