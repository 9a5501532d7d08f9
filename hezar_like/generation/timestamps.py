"""Rules for models that write times between texts: each segment between two times, one after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from .processors import FORBIDDEN, Processor, Written

__all__ = ["timestamp_rules"]


def timestamp_rules(first: int, end: int, latest_start: int | None = None) -> Processor:
    """Makes what is written segments of text, each with the time before it at which it begins, and that of its end.

    A time comes first; a segment ends later than it begins, and none begins before the end of the one before. Where all
    times together are more probable than any text, a time follows (Radford et al., 2022:
    https://arxiv.org/abs/2212.04356, section 4.5).

    Args:
        first: The token of the time 0; all tokens behind it are later times, and the one before it is never written.
        end: The token that ends everything; those before it are text.
        latest_start: How many steps of time after 0 the first segment may begin; None: any number.
    """

    def process(scores: Tensor, written: Written) -> Tensor:
        if written.new == 0:
            scores[:, :first] = FORBIDDEN
            if latest_start is not None:
                scores[:, first + latest_start + 1 :] = FORBIDDEN
            return scores
        scores[:, first - 1] = FORBIDDEN
        new = written.tokens[:, written.tokens.size(1) - written.new :]
        is_time = new >= first
        last, before = is_time[:, -1], is_time[:, max(0, written.new - 2)]
        ended = last & ~before if written.new > 1 else torch.zeros_like(last)  # the first time begins a segment
        text, times = scores[:, :end], scores[:, first:]
        times.masked_fill_((last & ~ended)[:, None], FORBIDDEN)
        text.masked_fill_(ended[:, None], FORBIDDEN)
        # What just ended may be followed by a segment that begins at once; everything else is later.
        earliest = torch.where(is_time, new - first + 1, 0).amax(1) - ended.long()
        steps = torch.arange(times.size(1), device=scores.device)
        times.masked_fill_(steps < earliest[:, None], FORBIDDEN)
        likely = times.logsumexp(1) > scores[:, :first].amax(1)
        scores[:, :first].masked_fill_(likely[:, None], FORBIDDEN)
        return scores

    return process
