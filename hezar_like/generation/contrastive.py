"""Contrastive search (Su et al., 2022: https://arxiv.org/abs/2202.06417)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .processors import NOTHING
from .search import Search, Steps

__all__ = ["contrastive_search"]


def contrastive_search(search: Search) -> Steps:
    """Takes of the `top_k` most probable tokens the one that is probable and unlike all before it.

    A candidate's score is `(1 - penalty_alpha)` times its probability, minus `penalty_alpha` times the largest cosine
    between its hidden state and those of the tokens before it.
    """
    config = search.config
    assert config.penalty_alpha is not None and config.top_k is not None
    alpha = config.penalty_alpha
    scores = search.ruled(search.start())
    count = min(config.top_k, scores.size(1))
    context = F.normalize(search.read.float(), dim=-1)
    unlike = context.new_zeros(context.shape[:2])
    if search.piece.history is not None:  # padding is like nothing
        unlike = unlike.masked_fill(search.tokens[:, -context.size(1) :] == NOTHING, -2.0)
    idle = search.piece.idle
    done = torch.zeros_like(search.limits, dtype=torch.bool) if idle is None else idle
    lengths = torch.zeros_like(search.limits)
    first = torch.arange(search.inputs, device=scores.device) * count
    chosen, found = [], []
    search.writer.expand(count)
    while True:
        probabilities, candidates = scores.softmax(-1).topk(count)
        states = search.writer.step(candidates.reshape(-1, 1))[:, -1:]
        likeness = F.normalize(states.float(), dim=-1).view(search.inputs, count, -1) @ context.mT
        likeness = (likeness + unlike[:, None]).amax(-1)
        values = ((1 - alpha) * probabilities - alpha * likeness).masked_fill(probabilities == 0, float("-inf"))
        best = values.argmax(-1)
        token = candidates.gather(1, best[:, None])[:, 0].masked_fill(done, search.filler)
        found.append(scores.log_softmax(-1).gather(1, token[:, None])[:, 0])
        lengths += ~done
        search.append(token)
        chosen.append(token)
        yield token.masked_fill(done, NOTHING)[:, None]
        done = done | search.finished(token) | (search.limits <= search.new)
        rows = first + best
        search.writer.reorder(rows.repeat_interleave(count), 1)
        if bool(done.all()):
            break
        read = states[rows]
        context = torch.cat((context, F.normalize(read.float(), dim=-1)), 1)
        unlike = F.pad(unlike, (0, 1))
        scores = search.ruled(search.score(read))
    search.writer.select(first)
    search.writer.forget(1)
    new = torch.stack(chosen, 1)[:, None]
    return search.result(new, lengths[:, None], torch.stack(found, 1)[:, None])
