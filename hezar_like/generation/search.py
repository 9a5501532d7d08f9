"""What all searches share: the tokens so far, their scores, and when a text is done."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ..backbones import Piece, Writer
from ..errors import NonFiniteOutput, OptionError
from .options import GenerationConfig
from .processors import NOTHING, Processor, Written, processors
from .stopping import StopTexts

__all__ = ["Result", "Search", "Steps", "finish", "most_likely"]


@dataclass
class Result:
    """What was written for each input.

    Attributes:
        tokens: The piece's start and the new tokens, [inputs, sequences, length] int64; after the end the end token.
        lengths: Number of new tokens, the end token included, [inputs, sequences] int64.
        ended: Whether the last of them is an end token, [inputs, sequences] bool.
        scores: The sum of their log-probabilities over their number to the power of `length_penalty`, [inputs,
            sequences] float32.
        token_scores: Log-probability of each new token, as the rules left it, [inputs, sequences, new] float32; 0
            after the end.
        read: Hidden states of the piece's start, [inputs, start, width].
        end: The end token that stands behind shorter texts.
    """

    tokens: Tensor
    lengths: Tensor
    ended: Tensor
    scores: Tensor
    token_scores: Tensor
    read: Tensor
    end: int = 0


Steps: TypeAlias = Generator[Tensor, None, Result]
"""A search at work: it yields the new tokens of a step, [rows, any] int64 (`NOTHING`: none), and returns the result. Of
beams they are those of the best beginnings so far, which others may still overtake."""


def most_likely(scores: Tensor) -> Tensor:
    """The best token of each row, [rows, vocabulary] to [rows] int64; `argmax` takes three times as long on a CPU."""
    return scores.max(-1).indices


def finish(steps: Steps) -> Result:
    """Lets a search come to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


class Search:
    """One piece on its way: what was written in each row, and what may come next.

    Args:
        writer: Reads and goes on.
        piece: What to write.
        head: From hidden states [rows, 1, width] to scores [rows, 1, vocabulary].
        config: The options.
        ends: Tokens that end a text, where the writer and the options name none.
        room: The most new tokens.
        stop: Texts that end a text.
        rules: More rules for scores, after those of the options.

    Attributes:
        inputs: Number of inputs.
        tokens: What stands before the next token, [rows, length] int64; the rows of an input stand together.
        new: How many of them are new.
    """

    def __init__(
        self,
        writer: Writer,
        piece: Piece,
        head: Callable[[Tensor], Tensor],
        config: GenerationConfig,
        *,
        ends: Sequence[int],
        room: int,
        stop: StopTexts | None = None,
        rules: Sequence[Processor] = (),
    ) -> None:
        self.writer, self.piece, self.config, self.stop = writer, piece, config, stop
        self._head, device = head, piece.tokens.device
        self.inputs, self.new = len(piece.tokens), 0
        self.ends, self._end_tokens = torch.tensor(tuple(ends), dtype=torch.int64, device=device), tuple(ends)
        self.tokens = piece.tokens if piece.history is None else piece.history
        self.limits = self._limits(room)
        self.room = int(self.limits.max()) if len(self.limits) else 0
        self.read = piece.tokens.new_zeros(0)
        self._more_rules = rules
        self._vocabulary, self._last = 0, self.read
        self._rules: list[Processor] | None = None
        self._suppressed = torch.tensor(writer.unwritten, dtype=torch.int64, device=device)

    @property
    def end(self) -> int:
        """The token that fills what follows the end."""
        return self._end_tokens[0] if self._end_tokens else 0

    @property
    def filler(self) -> int:
        """What a row is given to read that is done: the end, where the model has such a token."""
        return self.end if self.end < self._vocabulary else 0

    @property
    def may_end(self) -> bool:
        """Whether a text may end before its tokens run out."""
        return bool(self._end_tokens) or self.stop is not None

    def start(self) -> Tensor:
        """Reads what the piece starts with, and scores its first token: [inputs, vocabulary] float32."""
        self.read = self.writer.step(self.piece.tokens)
        scores = self.score(self.read)
        self._check(scores)
        return scores

    def step(self, tokens: Tensor) -> Tensor:
        """Reads the tokens [rows] chosen last, and scores the next: [rows, vocabulary] float32."""
        return self.score(self.writer.step(tokens[:, None]))

    def score(self, states: Tensor) -> Tensor:
        """Hidden states [rows, length, width] to the model's scores of the token behind the last of them, [rows,
        vocabulary] float32.
        """
        self._last = self.scores(states[:, -1:])[:, 0]
        return self._last

    def scores(self, states: Tensor) -> Tensor:
        """Hidden states [rows, length, width] to the model's scores, [rows, length, vocabulary] float32."""
        scores = self._head(states).float()
        self._vocabulary = scores.size(-1)
        if len(self._suppressed):
            scores[..., self._suppressed] = float("-inf")
        return scores

    def ruled(self, scores: Tensor) -> Tensor:
        """Scores [rows, vocabulary] with the rules of the config; they may be overwritten."""
        if self._rules is None:
            own = processors(self.config, self._end_tokens, scores.size(1), scores.device)
            self._rules = [*own, *self._more_rules]
        if self._rules:
            per_input = len(scores) // self.inputs
            limits = self.limits if per_input == 1 else self.limits.repeat_interleave(per_input)
            written = Written(self.tokens, self.new, limits)
            for rule in self._rules:
                scores = rule(scores, written)
            if bool((scores.amax(-1) == float("-inf")).any()):
                raise OptionError(
                    "the rules leave no token to write. Check suppress_tokens, bad_words_ids and no_repeat_ngram_size, "
                    f"and whether forced tokens are below the vocabulary's size, {scores.size(-1)}."
                )
        return scores.log_softmax(-1) if self.config.renormalize_logits else scores

    def _check(self, scores: Tensor) -> None:
        """NaN would come out as a confident wrong text; what once is NaN stays so."""
        best = scores.amax() if scores.numel() else scores.new_zeros(())
        if not bool(best < float("inf")):
            raise NonFiniteOutput(
                "the model's scores are NaN or infinity. Check its weights, or load it with dtype='float32'."
            )

    def expand(self, times: int) -> None:
        """Goes on with every row so many times."""
        self.writer.expand(times)
        self.tokens = self.tokens.repeat_interleave(times, 0)

    def append(self, tokens: Tensor) -> None:
        """Adds a new token [rows] to each row."""
        self.tokens = torch.cat((self.tokens, tokens[:, None]), 1)
        self.new += 1

    def finished(self, last: Tensor) -> Tensor:
        """Whether rows end with the token [rows] that was added last, [rows] bool."""
        new = self.tokens[:, self.tokens.size(1) - self.new :]
        return self.ended(last, None if self.stop is None else new)

    def ended(self, last: Tensor, new: Tensor | None) -> Tensor:
        """Whether texts end with their last token.

        Args:
            last: The last tokens, any shape.
            new: All new tokens up to them, [..., length]; only needed where texts end texts.
        """
        done = last == self._end_tokens[0] if len(self._end_tokens) == 1 else torch.isin(last, self.ends)
        if self.stop is not None and new is not None:
            rows = new[..., -self.stop.reach :].flatten(0, -2).tolist()
            done |= self.stop(rows).to(done.device).view(last.shape)
        return done

    def result(self, new: Tensor, lengths: Tensor, token_scores: Tensor, scores: Tensor | None = None) -> Result:
        """What was written.

        Args:
            new: New tokens [inputs, sequences, any]; what stands behind `lengths` does not count.
            lengths: Number of new tokens, [inputs, sequences].
            token_scores: Their log-probabilities, shaped like `new`.
            scores: Of the sequences; default: made of these.
        """
        self._check(self._last)
        behind = torch.arange(new.size(2), device=new.device) >= lengths[..., None]
        token_scores = token_scores.masked_fill(behind, 0.0)
        if scores is None:
            scores = token_scores.sum(-1) / lengths.clamp(min=1) ** self.config.length_penalty
        start = self.piece.tokens[:, None].expand(-1, new.size(1), -1)
        tokens = torch.cat((start, new.masked_fill(behind, self.end)), 2)
        last = new.gather(2, (lengths[..., None] - 1).clamp(min=0))[..., 0] if new.size(2) else lengths
        ended = torch.isin(last, self.ends) & (lengths > 0)
        return Result(tokens, lengths, ended, scores, token_scores, self.read, self.end)

    def _limits(self, room: int) -> Tensor:
        """How many new tokens each input may get, [inputs] int64."""
        most = self.config.max_length
        limits = torch.full((self.inputs,), room, dtype=torch.int64, device=self.tokens.device)
        if self.piece.limits is not None:
            limits = torch.minimum(limits, self.piece.limits)
        if self.config.max_new_tokens is None and most is not None:
            lengths = (self.tokens != NOTHING).sum(1)
            if self.inputs and int(lengths.max()) >= most:
                raise OptionError(
                    f"max_length is {most}, but there are {int(lengths.max())} tokens already. Give a larger one, or "
                    "max_new_tokens, which does not count them."
                )
            limits = torch.minimum(limits, most - lengths)
        return limits
