"""Caches of keys and values: how they grow, and what is copied when rows change places."""

from __future__ import annotations

import torch

from hezar_like.layers import Cache


def grown(cache: Cache, tokens: int, rows: int = 3) -> set[int]:
    """Adds single tokens; where the buffer was after each."""
    places = set()
    for _ in range(tokens):
        new = torch.randn(2, rows, 2, 1, 4)
        keys, values = cache.own[0].append(new[0], new[1])
        assert torch.equal(keys[:, :, -1:], new[0]) and torch.equal(values[:, :, -1:], new[1])
        places.add(keys.data_ptr())
    return places


@torch.no_grad()
def test_a_token_is_a_token_copied() -> None:
    """The buffer has room for many more: it is made anew a few times, not for each token."""
    cache = Cache(1)
    first = torch.randn(2, 3, 2, 10, 4)
    cache.own[0].append(first[0], first[1])
    assert len(grown(cache, 500)) <= 8
    keys, values = cache.own[0].read()
    assert keys.shape == (3, 2, 510, 4) and torch.equal(keys[:, :, :10], first[0])
    assert torch.equal(values[:, :, :10], first[1])
    assert cache.own[0]._kept is not None and cache.own[0]._kept.size(3) < 2 * 510


@torch.no_grad()
def test_rows_that_change_places_copy_their_last_tokens_only() -> None:
    cache = Cache(1)
    grown(cache, 12)
    before = cache.own[0].read()[0].clone()
    place = cache.own[0].read()[0].data_ptr()
    cache.reorder(torch.tensor([1, 1, 0]), last=4)
    after = cache.own[0].read()[0]
    assert after.data_ptr() == place and torch.equal(after[:, :, :8], before[:, :, :8])
    assert torch.equal(after[:, :, 8:], before[[1, 1, 0], :, 8:])
    cache.forget(3)
    assert cache.length == 9 and torch.equal(cache.own[0].read()[0], after[:, :, :9])
    cache.select(torch.tensor([2]))
    cache.expand(2)
    assert torch.equal(cache.own[0].read()[0], after[[2, 2], :, :9])
