"""Losses beside the tasks' own."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..tasks.scoring import IGNORED
from ..tasks.text_embedding import cosent_loss

__all__ = ["cosent_loss", "focal_loss", "softened_loss"]


def focal_loss(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """Cross entropy in which what is right already counts less (Lin et al., 2017: https://arxiv.org/abs/1708.02002).

    Args:
        logits: [..., classes].
        labels: [...] int64; those that are -100 do not count.
        gamma: Losses are weighted with (1 - p)^gamma for the probability p of the right class; 0 is cross entropy.

    Returns:
        The mean, a scalar in float32.
    """
    losses = F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), reduction="none", ignore_index=IGNORED)
    weighted = (1 - (-losses).exp()).clamp(min=0) ** gamma * losses if gamma else losses
    return weighted.sum() / (labels != IGNORED).sum()


def softened_loss(logits: Tensor, labels: Tensor, *, label_smoothing: float, focal_gamma: float) -> Tensor:
    """Cross entropy with label smoothing, or focal loss; see `TrainerConfig`."""
    if focal_gamma:
        return focal_loss(logits, labels, focal_gamma)
    return F.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), label_smoothing=label_smoothing, ignore_index=IGNORED
    )
