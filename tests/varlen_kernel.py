"""Attention of texts of any lengths in one kernel, written out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn


class Kernel:
    """What torch documents of its kernel, in plain operations, and with any type."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, starts: Tensor, key_starts: Tensor, longest: int, keys: int, **how: Any
    ) -> Tensor:
        self.calls += 1
        # The real one refuses arguments that it does not know, on tensors without numbers too.
        empty = [part.to("meta", torch.bfloat16) for part in (q, k, v)]
        expected = varlen_attn(*empty, *(s.to("meta") for s in (starts, key_starts)), longest, keys, **how)
        assert starts.dtype == torch.int32 and torch.equal(starts, key_starts) and starts[-1] == len(q)
        assert longest == keys == starts.diff().max()
        earlier, later = how["window_size"]
        results = []
        for start, end in pairwise(starts.tolist()):
            places = torch.arange(end - start)
            behind = places[:, None] - places
            seen = torch.ones_like(behind, dtype=torch.bool)
            if earlier >= 0:
                seen &= behind <= earlier
            if later >= 0:
                seen &= behind >= -later
            text = (part[start:end].transpose(0, 1) for part in (q, k, v))
            y = F.scaled_dot_product_attention(*text, seen, scale=how["scale"], enable_gqa=how["enable_gqa"])
            results.append(y.transpose(0, 1))
        result = torch.cat(results)
        assert result.shape == expected.shape
        return result
