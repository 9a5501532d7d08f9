"""Drawing tokens by their probabilities: what may be drawn, and with which random numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from .options import GenerationConfig

__all__ = ["Chance", "draw", "narrow"]

FORBIDDEN = float("-inf")
COLDEST = 1e-6
"""Scores that are divided by less than this may become infinite, of which no probabilities can be made."""
MIX, WRAP = 0x9E3779B97F4A7C15, 2**63
"""Fibonacci hashing: seeds that follow each other give numbers that have nothing to do with each other."""


def narrow(scores: Tensor, config: GenerationConfig) -> Tensor:
    """Scores of the tokens that may be drawn; the others get minus infinity. The rules' order is transformers'.

    Args:
        scores: [rows, vocabulary] float32.
        config: temperature, top_k, top_p, min_p and typical_p.
    """
    if config.temperature != 1.0:
        scores = scores / max(config.temperature, COLDEST)
    if config.top_k and config.top_k < scores.size(1):
        least = scores.topk(config.top_k).values[:, -1:]
        scores = scores.masked_fill(scores < least, FORBIDDEN)
    if config.top_p is not None and config.top_p < 1:
        scores = most_probable(scores, config.top_p)
    if config.min_p:
        probabilities = scores.softmax(-1)
        scores = scores.masked_fill(probabilities < config.min_p * probabilities.amax(-1, keepdim=True), FORBIDDEN)
    if config.typical_p is not None and config.typical_p < 1:
        scores = most_typical(scores, config.typical_p)
    return scores


def most_probable(scores: Tensor, share: float) -> Tensor:
    """Keeps the fewest best tokens that together have the probability `share`, one at least."""
    ordered, order = scores.sort()
    unlikely = ordered.softmax(-1).cumsum(-1) <= 1 - share
    unlikely[:, -1] = False
    return scores.masked_fill(unlikely.scatter(1, order, unlikely), FORBIDDEN)


def most_typical(scores: Tensor, share: float) -> Tensor:
    """Keeps the tokens whose information is nearest to the entropy and that together have `share`, one at least."""
    information = -scores.log_softmax(-1)
    probabilities = (-information).exp()
    entropy = (probabilities * information).nansum(-1, keepdim=True)  # 0 * infinity is no information
    distance, order = (information - entropy).abs().sort()
    covered = probabilities.gather(1, order).cumsum(-1)
    last = (covered < share).sum(1, keepdim=True).clamp(max=scores.size(1) - 1)
    far = distance > distance.gather(1, last)
    return scores.masked_fill(far.scatter(1, order, far), FORBIDDEN)


def draw(scores: Tensor, numbers: Tensor) -> Tensor:
    """Draws one token of each row.

    Args:
        scores: [rows, vocabulary] float32.
        numbers: Uniform in [0, 1), [rows] float64; the same number draws the same token.

    Returns:
        [rows] int64.
    """
    sums = scores.softmax(-1).double().cumsum(-1)
    whole = sums[:, -1:]
    wanted = torch.minimum(numbers[:, None] * whole, whole.nextafter(torch.zeros_like(whole)))  # rounding may reach it
    # Of NaN, which the search reports in the end, nothing is found.
    return torch.searchsorted(sums, wanted, right=True)[:, 0].clamp(max=scores.size(1) - 1)


class Chance:
    """Random numbers for the samples of each input.

    With a seed they depend on it, the number of the sample and the step, and on nothing else: an input gets the same
    samples alone, in any batch, and however many are drawn.

    Args:
        inputs: Number of inputs.
        samples: Number of samples of each.
        seed: None: by torch's own generator.
        device: Where they are needed.
    """

    def __init__(self, inputs: int, samples: int, seed: int | None, device: torch.device) -> None:
        self._inputs, self._samples, self._device = inputs, samples, device
        self._streams: list[torch.Generator] | None = None
        if seed is not None:
            seeds = [(seed + sample * MIX) % WRAP for sample in range(samples)]
            self._streams = [torch.Generator().manual_seed(own) for own in seeds]

    def next(self) -> Tensor:
        """The numbers of a step, [inputs * samples] float64 in [0, 1)."""
        if self._streams is None:
            return torch.rand(self._inputs * self._samples, dtype=torch.float64, device=self._device)
        drawn = [torch.rand(1, dtype=torch.float64, generator=stream) for stream in self._streams]
        return torch.cat(drawn).repeat(self._inputs).to(self._device)
