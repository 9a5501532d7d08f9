"""One text at a time: the best next token, or one that is drawn, again and again."""

from __future__ import annotations

import torch

from .processors import NOTHING
from .sampling import Chance, draw, narrow
from .search import Search, Steps, most_likely

__all__ = ["token_by_token"]


def token_by_token(search: Search, *, scored: bool = False) -> Steps:
    """Greedy search, or sampling.

    Args:
        search: What to write.
        scored: Whether the log-probabilities of the tokens are wanted; without, they are 0.
    """
    config = search.config
    samples = config.num_return_sequences if config.draws else 1
    scores = search.start()
    if samples > 1:
        search.expand(samples)
        scores = scores.repeat_interleave(samples, 0)
    chance = Chance(search.inputs, samples, config.seed, scores.device) if config.draws else None
    limits = search.limits.repeat_interleave(samples)
    idle = search.piece.idle
    done = torch.zeros_like(limits, dtype=torch.bool) if idle is None else idle.repeat_interleave(samples)
    lengths = -done.long()  # 0: not known yet
    some = bool(done.any())
    even = bool((limits == search.room).all())  # then the loop's own limit is enough
    chosen, found = [], []
    while True:
        scores = search.ruled(scores)
        token = most_likely(scores) if chance is None else draw(narrow(scores, config), chance.next())
        if scored:
            found.append(scores.log_softmax(-1).gather(1, token[:, None])[:, 0])
        if some:
            token = token.masked_fill(done, search.filler)
        search.append(token)
        chosen.append(token)
        yield (token.masked_fill(done, NOTHING) if some else token)[:, None]
        if search.may_end or not even:
            done = done | search.finished(token) | (limits <= search.new)
            some = bool(done.any())
            if some:
                lengths = torch.where(done & (lengths == 0), search.new, lengths)
        if search.new >= search.room or (some and bool(done.all())):
            break
        scores = search.step(token)
    lengths = torch.where(lengths == 0, search.new, lengths).clamp(min=0)
    new = torch.stack(chosen, 1).view(search.inputs, samples, -1)
    token_scores = torch.stack(found, 1).view_as(new) if scored else torch.zeros_like(new, dtype=torch.float32)
    return search.result(new, lengths.view(search.inputs, samples), token_scores)
