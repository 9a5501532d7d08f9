"""Which search an option asks for, and the pieces of a text one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..backbones import Writer
from .beam import beam_search
from .contrastive import contrastive_search
from .lookup import prompt_lookup
from .options import GenerationConfig
from .processors import Processor
from .search import Result, Search, Steps
from .single import token_by_token
from .stopping import StopTexts

__all__ = ["write"]


def write(
    writer: Writer,
    head: Callable[[Tensor], Tensor],
    config: GenerationConfig,
    *,
    inputs: int,
    ends: Sequence[int],
    room: int,
    stop: StopTexts | None = None,
    scored: bool = False,
    rules: Sequence[Processor] = (),
) -> Steps:
    """Writes all pieces; of several sequences later pieces follow the first one of earlier pieces.

    Args:
        writer: Reads and goes on.
        head: From hidden states [rows, length, width] to scores [rows, length, vocabulary].
        config: The options.
        inputs: Number of inputs.
        ends: Tokens that end a text, where the writer names none.
        room: The most new tokens of each piece.
        stop: Texts that end a text.
        scored: Whether log-probabilities are wanted; without, those of one text at a time are 0.
        rules: More rules for scores, after those of the options.
    """
    results = []
    for piece in writer.pieces():
        search = Search(writer, piece, head, config, ends=writer.ends or ends, room=room, stop=stop, rules=rules)
        result = yield from _steps(search, scored)
        results.append(result)
        if writer.goes_on and (config.num_beams > 1 or result.tokens.size(1) > 1):
            _write_again(search, result)
    if not results:  # there is nothing to write
        none, number = torch.zeros(inputs, 1, 0), torch.zeros(inputs, 1)
        return Result(none.long(), number.long(), number.bool(), number, none, none[:, 0])
    return _joined(results)


def _steps(search: Search, scored: bool) -> Steps:
    config = search.config
    if config.num_beams > 1:
        return beam_search(search)
    if config.penalty_alpha:
        return contrastive_search(search)
    if config.prompt_lookup_num_tokens is not None:
        return prompt_lookup(search)
    return token_by_token(search, scored=scored)


def _write_again(search: Search, result: Result) -> None:
    """Leaves a writer as if it had written the first sequence of each input only."""
    rows = len(search.tokens) // search.inputs
    search.writer.select(torch.arange(search.inputs, device=search.tokens.device) * rows)
    search.writer.forget(search.new - 1)
    best = result.tokens[:, 0, search.piece.tokens.size(1) : -1]
    if best.size(1):
        search.writer.step(best[:, : search.new - 1])


def _joined(results: list[Result]) -> Result:
    if len(results) == 1:
        return results[0]
    ended = results[0].ended
    for result in results[1:]:
        ended = torch.where(result.lengths > 0, result.ended, ended)
    return Result(
        torch.cat([result.tokens for result in results], 2),
        torch.stack([result.lengths for result in results]).sum(0),
        ended,
        torch.stack([result.scores for result in results]).sum(0),
        torch.cat([result.token_scores for result in results], 2),
        results[0].read,
        results[0].end,
    )
