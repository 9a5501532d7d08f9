"""Greedy search that guesses: several tokens are read at once, and kept as far as greedy search would choose them."""

from __future__ import annotations

import torch
from torch import Tensor

from .search import Search, Steps, most_likely

__all__ = ["prompt_lookup"]

LONGEST_MATCH = 3
"""With how many of the last tokens a place in the text is looked for, at most."""


def prompt_lookup(search: Search) -> Steps:
    """Guesses that what followed the last tokens before follows them again (Saxena, 2023).

    Guesses are read in one step and checked one by one: the tokens are those of greedy search. For one input; what is
    wrong in a guess costs time, what is right saves a step for each token.
    """
    writer, most = search.writer, search.config.prompt_lookup_num_tokens
    assert search.inputs == 1 and most is not None
    scores = search.start()[None]
    guess = search.tokens.new_empty(0)
    found = []
    while True:
        accepted = []
        for place in range(scores.size(1)):
            ruled = search.ruled(scores[:, place])
            token = most_likely(ruled)
            found.append(ruled.log_softmax(-1).gather(1, token[:, None])[:, 0])
            search.append(token)
            accepted.append(token)
            done = bool(search.finished(token)) or search.new >= search.room
            if done or place == len(guess) or bool(token != guess[place]):
                break
        yield torch.stack(accepted, 1)
        writer.forget(len(guess) - (len(accepted) - 1))
        if done:
            break
        guess = continuation(search.tokens[0], min(most, search.room - search.new - 1))
        scores = search.scores(writer.step(torch.cat((token, guess))[None]))
    count = search.new
    new = search.tokens[:, None, search.tokens.size(1) - count :]
    return search.result(new, torch.full_like(search.limits, count)[:, None], torch.stack(found, 1)[:, None])


def continuation(tokens: Tensor, count: int) -> Tensor:
    """What followed the last few tokens where they stood last: up to `count` of [length], or nothing."""
    for size in range(min(LONGEST_MATCH, len(tokens) - 1), 0, -1):
        same = (tokens[:-1].unfold(0, size, 1) == tokens[-size:]).all(1).nonzero()[:, 0]
        if len(same):
            start = int(same[-1]) + size
            guess = tokens[start : start + count]
            return guess[: len(guess) if bool((guess >= 0).all()) else int((guess < 0).int().argmax())]
    return tokens[:0]
