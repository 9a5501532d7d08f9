"""Rotary positions (Su et al., 2021): https://arxiv.org/abs/2104.09864, and how they are stretched for longer texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Rotation(NamedTuple):
    """By what to turn vectors.

    Attributes:
        cos: [batch or 1, 1, length, channels], float32.
        sin: The same.
        interleaved: Whether pairs are neighbours (GPT-J) or a half apart (Llama).
    """

    cos: Tensor
    sin: Tensor
    interleaved: bool


class RotaryScaling(Protocol):
    """A way to read texts longer than those of the training, by slower frequencies.

    Raises:
        ValueError: When it is made of numbers that make no sense.
    """

    @property
    def magnitude(self) -> float:
        """What turned vectors are multiplied with."""

    def scaled(self, frequencies: Tensor, theta: float) -> Tensor:
        """The frequencies to use instead, [pairs] float32; `theta` is their base."""


@dataclass(frozen=True)
class LinearScaling:
    """Positions closer together (Chen et al., 2023): https://arxiv.org/abs/2306.15595.

    Args:
        factor: How much longer texts get.
    """

    factor: float
    magnitude = 1.0

    def __post_init__(self) -> None:
        check_positive(factor=self.factor)

    def scaled(self, frequencies: Tensor, theta: float) -> Tensor:
        return frequencies / self.factor


@dataclass(frozen=True)
class DynamicScaling:
    """Frequencies by the length of each text: https://www.reddit.com/r/LocalLLaMA/comments/14mrgpr.

    They are the usual ones up to the length of the training, and only so long texts may be given: those of longer ones
    change with every token that is added, and with the other texts of the batch.

    Args:
        factor: How much longer texts get.
    """

    factor: float
    magnitude = 1.0

    def __post_init__(self) -> None:
        check_positive(factor=self.factor)

    def scaled(self, frequencies: Tensor, theta: float) -> Tensor:
        return frequencies


@dataclass(frozen=True)
class Llama3Scaling:
    """Low frequencies slower, high ones as they are, between them in part (Llama 3.1): https://arxiv.org/abs/2407.21783.

    Args:
        factor: How much slower.
        low_freq_factor: Frequencies with fewer turns than this in a text of the original length are low.
        high_freq_factor: Those with more turns than this are high.
        original_max_position_embeddings: The original length.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int
    magnitude = 1.0

    def __post_init__(self) -> None:
        check_positive(factor=self.factor, original_max_position_embeddings=self.original_max_position_embeddings)
        if not self.low_freq_factor < self.high_freq_factor:
            raise ValueError(
                f"low_freq_factor is {self.low_freq_factor}; it must be less than high_freq_factor, "
                f"{self.high_freq_factor}."
            )

    def scaled(self, frequencies: Tensor, theta: float) -> Tensor:
        turns = self.original_max_position_embeddings / (2 * math.pi / frequencies)
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = kept.clamp(0, 1)
        return (1 - kept) * frequencies / self.factor + kept * frequencies


@dataclass(frozen=True)
class YarnScaling:
    """YaRN (Peng et al., 2023): https://arxiv.org/abs/2309.00071.

    Args:
        factor: How much longer texts get.
        original_max_position_embeddings: How long they were.
        attention_factor: What turned vectors are multiplied with; default: by the factor.
        beta_fast: Frequencies with more turns than this in a text of the original length stay as they are.
        beta_slow: Those with fewer turns than this get slower by the whole factor.
        mscale: With `mscale_all_dim`: weighs the logarithm of the factor in the default of `attention_factor`.
        mscale_all_dim: The same in what that is divided by.
        truncate: Whether the borders between these frequencies are whole numbers.
    """

    factor: float
    original_max_position_embeddings: int
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        check_positive(
            factor=self.factor,
            original_max_position_embeddings=self.original_max_position_embeddings,
            beta_fast=self.beta_fast,
            beta_slow=self.beta_slow,
        )

    @property
    def magnitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._magnitude(self.mscale) / self._magnitude(self.mscale_all_dim)
        return self._magnitude(1.0)

    def scaled(self, frequencies: Tensor, theta: float) -> Tensor:
        pairs = len(frequencies)
        low, high = (self._pair(turns, pairs, theta) for turns in (self.beta_fast, self.beta_slow))
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * pairs - 1)
        ramp = torch.arange(pairs, dtype=torch.float32, device=frequencies.device) - low
        slowed = (ramp / (high - low if high != low else 0.001)).clamp(0, 1)
        return frequencies / self.factor * slowed + frequencies * (1 - slowed)

    def _magnitude(self, weight: float) -> float:
        return 1.0 if self.factor <= 1 else 0.1 * weight * math.log(self.factor) + 1.0

    def _pair(self, turns: float, pairs: int, theta: float) -> float:
        """The number, perhaps between two, of the pair that makes so many turns in a text of the original length."""
        return pairs * math.log(self.original_max_position_embeddings / (turns * 2 * math.pi)) / math.log(theta)


def check_positive(**numbers: float) -> None:
    """Raises a ValueError for the first of these numbers that is not positive."""
    for name, number in numbers.items():
        if number <= 0:
            raise ValueError(f"{name} is {number}; it must be positive.")


SCALINGS: Mapping[str, type[LinearScaling | DynamicScaling | Llama3Scaling | YarnScaling]] = {
    "linear": LinearScaling,
    "dynamic": DynamicScaling,
    "llama3": Llama3Scaling,
    "yarn": YarnScaling,
}
"""Scalings under the names configs give them."""


class Rotary:
    """Angles for positions. Blocks with equal ones share one object, so that they are computed once for all.

    Args:
        dim: How many channels of each head are turned, the first ones.
        theta: Base of the frequencies.
        interleaved: Whether pairs of channels are neighbours (GPT-J) or a half of `dim` apart (Llama).
        scaling: How texts longer than those of the training are read; default: they are not.
    """

    def __init__(
        self,
        dim: int,
        theta: float = 10_000.0,
        *,
        interleaved: bool = False,
        scaling: RotaryScaling | None = None,
    ) -> None:
        self.dim, self.theta, self.interleaved, self.scaling = dim, theta, interleaved, scaling
        self.magnitude = 1.0 if scaling is None else scaling.magnitude
        """What turned vectors are multiplied with."""
        self._frequencies: dict[torch.device, Tensor] = {}

    def frequencies(self, device: torch.device) -> Tensor:
        """Radians per position for each pair, [dim / 2] float32; the same numbers on every device."""
        if device not in self._frequencies:
            exponents = torch.arange(0, self.dim, 2, dtype=torch.float32, device="cpu") / self.dim
            values = 1.0 / self.theta**exponents
            values = values if self.scaling is None else self.scaling.scaled(values, self.theta)
            self._frequencies[device] = values.to(device)
        return self._frequencies[device]

    def __call__(self, positions: Tensor) -> Rotation:
        """The rotation of positions [batch or 1, length]."""
        angles = positions[:, None, :, None].float() * self.frequencies(positions.device)
        angles = angles.repeat_interleave(2, -1) if self.interleaved else torch.cat((angles, angles), -1)
        cos, sin = angles.cos(), angles.sin()
        if self.magnitude != 1.0:
            cos, sin = cos * self.magnitude, sin * self.magnitude
        return Rotation(cos, sin, self.interleaved)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turns the first channels of [batch, heads, length, channels], as many as the rotation has."""
    dim = rotation.cos.size(-1)
    turned, rest = x[..., :dim].float(), x[..., dim:]
    if rotation.interleaved:
        other = torch.stack((-turned[..., 1::2], turned[..., ::2]), -1).flatten(-2)
    else:
        other = torch.cat((-turned[..., dim // 2 :], turned[..., : dim // 2]), -1)
    turned = torch.addcmul(turned * rotation.cos, other, rotation.sin).to(x.dtype)
    return torch.cat((turned, rest), -1) if rest.size(-1) else turned
