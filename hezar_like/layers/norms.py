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
        wide, shape = x.float(), self.weight.shape
        if self.offset:
            return F.rms_norm(wide, shape, self.weight.float() + self.offset, self.eps).to(x.dtype)
        return F.rms_norm(wide, shape, None, self.eps).to(x.dtype) * self.weight
