"""How a blank filler goes on after a text: with the pieces that fill its blanks, or with the text that answers it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import OptionError
from ..layers import Cache
from ..layers.blanks import piece_positions
from .writing import CachedWriter, Piece

if TYPE_CHECKING:
    from .blank_filler import BlankFiller

__all__ = ["BlankWriter", "CausalWriter", "told_apart"]


class BlankWriter(CachedWriter):
    """Writes pieces into a cache that holds the text; later pieces see earlier ones.

    Args:
        backbone: It reads.
        inputs: Of its `forward`, by name, with `token_ids`.

    Raises:
        OptionError: When the model knows no blanks.
    """

    goes_on = True

    def __init__(self, backbone: BlankFiller, inputs: Mapping[str, Any]) -> None:
        if backbone.blanks is None:
            raise OptionError(
                "this model does not write: its config must name its command tokens (sop_token_id, eop_token_id and "
                "mask_token_id), and have block_position_encoding or relative_encoding."
            )
        tokens, given = inputs["token_ids"], inputs.get("attention_mask")
        if isinstance(given, Tensor) and given.ndim > 2:
            raise OptionError(
                f"attention_mask has {given.ndim} dimensions; to write, give one of padding, [batch, length]."
            )
        self._backbone, self._blanks = backbone, backbone.blanks
        self.room, self.unwritten = backbone.max_tokens, (self._blanks.start,)
        self.ends = self._blanks.ends
        seen = self._seen(tokens, inputs)
        others = {name: value for name, value in inputs.items() if name not in ("attention_mask", "length", "sep")}
        mask = None if bool(seen.all()) else seen
        cache = backbone(**others, attention_mask=mask, sep=tokens.size(1), use_cache=True).past_key_values
        super().__init__(cache)
        self._text = tokens.masked_fill(~seen, -1)
        self._places, self._counts = self._blanks.places(tokens)
        self._place, self._written = self._counts, 0

    def pieces(self) -> Iterator[Piece]:
        for number in range(int(self._counts.max())):
            self._place, self._written = self._places[:, number], 0
            idle = self._counts <= number
            start = torch.full_like(self._counts, self._blanks.start).masked_fill(idle, self._blanks.end)
            yield Piece(start[:, None], idle, torch.cat((self._text, start[:, None]), 1))

    def step(self, tokens: Tensor) -> Tensor:
        positions = piece_positions(self._place, self._written + 1, tokens.size(1))
        self._written += tokens.size(1)
        live = torch.isin(tokens, torch.tensor(self.ends, device=tokens.device), invert=True)
        output = self._backbone(
            tokens,
            None if bool(live.all()) else live,
            positions if self._backbone.has_positions else None,
            past_key_values=self._cache,
        )
        return output.last_hidden_state

    def select(self, rows: Tensor) -> None:
        super().select(rows)
        self._keep(rows)

    def expand(self, times: int) -> None:
        super().expand(times)
        self._keep(torch.arange(len(self._counts), device=self._counts.device).repeat_interleave(times))

    def _keep(self, rows: Tensor) -> None:
        self._text, self._places = self._text[rows], self._places[rows]
        self._counts, self._place = self._counts[rows], self._place[rows]

    def forget(self, count: int) -> None:
        super().forget(count)
        self._written -= count

    def _seen(self, tokens: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """What of the texts is read, without padding."""
        mask = self._backbone.given_mask(tokens[..., None], inputs)
        return ~self._blanks.unread(tokens) if mask is None else mask.bool() & ~self._blanks.unread(tokens)


class CausalWriter(CachedWriter):
    """Answers texts as models do that FlagAI trained for titles and poems: they read `[sop] text [sep]`, causally.

    Args:
        backbone: It reads and writes.
        inputs: Of its `forward`, by name, with `token_ids`.
    """

    def __init__(self, backbone: BlankFiller, inputs: Mapping[str, Any]) -> None:
        super().__init__(Cache(len(backbone.stack.blocks)))
        tokens = inputs["token_ids"]
        mask = backbone.attention_mask(tokens, told_apart(inputs.get("attention_mask"))[1], inputs.get("length"))
        real = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.bool()
        # What is written follows the text without a gap: padding goes to the left.
        order = real.long().argsort(dim=1, stable=True)
        self._backbone, self._start, self._real = backbone, tokens.gather(1, order), real.gather(1, order)
        self._padding = tokens.size(1) - real.sum(1)
        if backbone.blanks is not None:
            self.ends = (backbone.blanks.end,)
        if backbone.max_tokens is not None:
            self.room = backbone.max_tokens - tokens.size(1)

    def pieces(self) -> Iterator[Piece]:
        yield Piece(self._start, history=None if bool(self._real.all()) else self._start.masked_fill(~self._real, -1))

    def step(self, tokens: Tensor) -> Tensor:
        past = self._cache.length
        places = (torch.arange(tokens.size(1), device=tokens.device) + past - self._padding[:, None]).clamp(min=0)
        mask = None if past or bool(self._real.all()) else self._real
        positions = torch.stack((places, torch.zeros_like(places)), 1) if self._backbone.has_blocks else places
        output = self._backbone(
            tokens,
            mask,
            positions if self._backbone.has_positions else None,
            sep=0,
            past_key_values=self._cache,
        )
        return output.last_hidden_state

    def select(self, rows: Tensor) -> None:
        super().select(rows)
        self._padding = self._padding[rows]

    def expand(self, times: int) -> None:
        super().expand(times)
        self._padding = self._padding.repeat_interleave(times)


def told_apart(attention_mask: Tensor | int | None) -> tuple[Tensor | int | None, Tensor | None]:
    """What is given as attention mask: where texts end, as one number or one for each input; or a mask."""
    if attention_mask is None or isinstance(attention_mask, int):
        return attention_mask, None
    return (attention_mask, None) if attention_mask.ndim < 2 else (None, attention_mask)
