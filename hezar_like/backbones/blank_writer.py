"""How a blank filler goes on after a text: with the pieces that fill its blanks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import OptionError
from ..layers.blanks import piece_positions
from .writing import Piece, Writer

if TYPE_CHECKING:
    from .blank_filler import BlankFiller

__all__ = ["BlankWriter"]


class BlankWriter(Writer):
    """Writes pieces into a cache that holds the text; later pieces see earlier ones.

    Args:
        backbone: It reads.
        inputs: Of its `forward`, by name, with `token_ids`.

    Raises:
        OptionError: When the model knows no blanks.
    """

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
        self.ends = tuple(token for token in (self._blanks.end, self._blanks.closing) if token is not None)
        seen = self._seen(tokens, inputs)
        others = {name: value for name, value in inputs.items() if name not in ("attention_mask", "length", "sep")}
        mask = None if bool(seen.all()) else seen
        self._cache = backbone(**others, attention_mask=mask, sep=tokens.size(1), use_cache=True).past_key_values
        self._places, self._counts = self._blanks.places(tokens)
        self._place, self._written = self._counts, 0

    def pieces(self) -> Iterator[Piece]:
        for number in range(int(self._counts.max())):
            self._place, self._written = self._places[:, number], 0
            idle = self._counts <= number
            start = torch.full_like(self._counts, self._blanks.start).masked_fill(idle, self._blanks.end)
            yield Piece(start[:, None], idle)

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
        self._cache.select(rows)
        self._places, self._counts, self._place = self._places[rows], self._counts[rows], self._place[rows]

    def _seen(self, tokens: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """What of the texts is read, without padding."""
        mask = self._backbone.given_mask(tokens[..., None], inputs)
        return ~self._blanks.unread(tokens) if mask is None else mask.bool() & ~self._blanks.unread(tokens)
