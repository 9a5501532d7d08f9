"""Beam search, with groups of beams that are kept apart where asked for. Which beams win is as in transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .search import Search, Steps

__all__ = ["beam_search"]

HOPELESS = -1.0e9
NEIGHBOURS = 128
"""Of so many neighbouring scores the best is looked for first."""


def beam_search(search: Search) -> Steps:
    """Keeps the `num_beams` most probable beginnings of each input, and returns the best texts.

    With `num_beam_groups` the beams of a group choose one group after the other, and a token costs
    `diversity_penalty` for each beam of earlier groups that takes it in the same step (Vijayakumar et al., 2016).
    """
    config, inputs = search.config, search.inputs
    beams, count = config.num_beams, config.num_beam_groups
    size = beams // count
    scores = search.ruled(search.start().log_softmax(-1))
    vocabulary = scores.size(1)
    search.expand(beams)
    # At first all beams are the same: only the first of each group may be continued.
    begun = (scores + HOPELESS)[:, None, None].repeat(1, count, size, 1)
    begun[:, :, 0] = scores[:, None]
    scores = begun
    groups = [Group(search, size) for _ in range(count)]
    first = torch.arange(inputs, device=scores.device)[:, None] * beams
    while True:
        sources: list[Tensor] = []
        tokens: list[Tensor] = []
        for number, group in enumerate(groups):
            own = scores[:, number]
            if number and config.diversity_penalty:
                taken = torch.zeros_like(own[:, 0]).scatter_add_(
                    1, torch.cat(tokens, 1), own.new_ones(inputs, number * size)
                )
                own = own - config.diversity_penalty * taken[:, None]
            source, token = group.advance(own)
            sources.append(first + number * size + source)
            tokens.append(token)
        rows, token = torch.cat(sources, 1).flatten(), torch.cat(tokens, 1).flatten()
        search.tokens = search.tokens[rows]
        search.append(token)
        yield token[:, None]
        still_open = [group.goes_on() for group in groups]  # each finds out what of it is over
        if search.new >= search.room or not any(still_open):
            break
        search.writer.reorder(rows, search.new - 1)
        scores = search.ruled(search.step(token).log_softmax(-1)).view(inputs, count, size, vocabulary)
    best = Group.merged(groups, config.num_return_sequences)
    lengths, scores = best.lengths * best.there, best.scores.masked_fill(~best.there, 0.0)  # idle rows have no text
    return search.result(best.texts, lengths, best.found, scores)


class Finished:
    """Finished texts of each input, the best first.

    Attributes:
        texts: New tokens, [inputs, texts, room] int64.
        found: Their log-probabilities, float32.
        lengths: Their number, [inputs, texts] int64.
        scores: See `Result.scores`; where there is no text, hopeless.
        there: Whether there is one, [inputs, texts] bool.
    """

    def __init__(self, texts: Tensor, found: Tensor, lengths: Tensor, scores: Tensor, there: Tensor) -> None:
        self.texts, self.found, self.lengths, self.scores, self.there = texts, found, lengths, scores, there

    def best(self, count: int) -> Finished:
        """The `count` best ones."""
        scores, order = self.scores.topk(count)
        wide = order[..., None].expand(-1, -1, self.texts.size(2))
        others = (self.lengths.gather(1, order), scores, self.there.gather(1, order))
        return Finished(self.texts.gather(1, wide), self.found.gather(1, wide), *others)

    @staticmethod
    def joined(parts: list[Finished]) -> Finished:
        """Those of several."""
        names = ("texts", "found", "lengths", "scores", "there")
        return Finished(*(torch.cat([getattr(part, name) for part in parts], 1) for name in names))


class Group:
    """Beams that compete with each other.

    Args:
        search: What is written.
        size: Number of beams of each input.
    """

    def __init__(self, search: Search, size: int) -> None:
        self._search, self._size = search, size
        shape, device = (search.inputs, size), search.tokens.device
        self._scores = torch.zeros(shape, device=device)  # log-probabilities of the beams
        self._new = torch.full((*shape, search.room), search.end, device=device)
        self._found = torch.zeros(*shape, search.room, device=device)
        self._done = Finished(
            self._new.clone(),
            self._found.clone(),
            torch.zeros(shape, dtype=torch.int64, device=device),
            self._scores + HOPELESS,
            torch.zeros(shape, dtype=torch.bool, device=device),
        )
        idle = search.piece.idle
        self._open = torch.ones(search.inputs, 1, dtype=torch.bool, device=device)
        if idle is not None:
            self._open &= ~idle[:, None]
        # So many are looked at that enough are left when some of them end.
        self._looked_at = max(2, 1 + len(search.ends)) * size

    def advance(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Takes the best continuations.

        Args:
            scores: Log-probabilities of the next token of each beam, [inputs, beams, vocabulary].

        Returns:
            The beams that are continued, by their number, and their tokens, [inputs, beams] int64 each.
        """
        search, new, vocabulary = self._search, self._search.new, scores.size(2)
        totals = (scores + self._scores[..., None]).flatten(1)
        if totals.size(1) < self._looked_at:
            totals = F.pad(totals, (0, self._looked_at - totals.size(1)), value=2 * HOPELESS)
        totals, order = _best_of_many(totals, self._looked_at)
        source, token = order // vocabulary % self._size, order % vocabulary
        wide = source[..., None].expand(-1, -1, search.room)
        texts, found = self._new.gather(1, wide), self._found.gather(1, wide)
        texts[..., new], found[..., new] = token, totals - self._scores.gather(1, source)
        ends = self._ends(source, token)
        full = (search.limits <= new + 1)[:, None]
        self._collect(texts, found, totals, ends | full)
        # What ended is not continued; at the last step it still counts for the other groups.
        self._scores, kept = totals.masked_fill(ends, HOPELESS).topk(self._size)
        wide = kept[..., None].expand(-1, -1, search.room)
        self._new, self._found = texts.gather(1, wide), found.gather(1, wide)
        return source.gather(1, kept), token.gather(1, kept)

    def goes_on(self) -> bool:
        """Whether a beam of any input may still become one of the best texts; asked after each step."""
        config, new = self._search.config, self._search.new
        most = new
        if config.early_stopping == "never" and config.length_penalty > 0:
            most = self._search.limits[:, None]  # type: ignore[assignment]  # a length for each input
        possible = self._scores[:, :1] / most**config.length_penalty
        worst = self._done.scores.masked_fill(~self._done.there, HOPELESS).amin(1, keepdim=True)
        self._open &= possible > worst
        if config.early_stopping is True:
            self._open &= ~self._done.there.all(1, keepdim=True)
        self._open &= self._search.limits[:, None] > new
        return bool(self._open.any())

    @staticmethod
    def merged(groups: list[Group], count: int) -> Finished:
        """The `count` best texts of all groups."""
        return Finished.joined([group._done for group in groups]).best(count)

    def _ends(self, source: Tensor, token: Tensor) -> Tensor:
        """Whether candidates end with their last token, [inputs, candidates] bool."""
        search, tokens = self._search, None
        if search.stop is not None:
            texts = self._new.gather(1, source[..., None].expand(-1, -1, search.room))[..., : search.new]
            tokens = torch.cat((texts, token[..., None]), 2)
        return search.ended(token, tokens)

    def _collect(self, texts: Tensor, found: Tensor, totals: Tensor, ends: Tensor) -> None:
        """Keeps the best of what ended, and of what had."""
        length = self._search.new + 1
        counts = ends.clone()
        counts[:, self._size :] = False  # those behind the beams are there to go on, not to end
        counts &= self._open
        scores = (totals / length**self._search.config.length_penalty).masked_fill(~counts, HOPELESS)
        lengths = torch.full_like(self._done.lengths[:, :1], length).expand_as(counts)
        ended = Finished(texts, found, lengths, scores, counts)
        self._done = Finished.joined([self._done, ended]).best(self._size)


def _best_of_many(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `topk` of long rows [rows, scores], in a seventh of its time.

    The best ones are among the neighbours of those that are the best of their neighbours.
    """
    rows, width = scores.shape
    groups = width // NEIGHBOURS
    if groups <= count:
        return scores.topk(count)
    start = groups * NEIGHBOURS
    _, best = scores[:, :start].view(rows, groups, NEIGHBOURS).amax(-1).topk(count, sorted=False)
    places = (best[..., None] * NEIGHBOURS + torch.arange(NEIGHBOURS, device=best.device)).flatten(1)
    places = torch.cat((places, torch.arange(start, width, device=best.device).expand(rows, -1)), 1)
    found, order = scores.gather(1, places).topk(count)
    return found, places.gather(1, order)
