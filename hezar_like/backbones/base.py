"""What all text backbones share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..blocks import Stack
from ..errors import OptionError
from ..layers import attention_mask_to_look
from ..layers.blanks import Blanks
from ..layers.embeddings import ascending_positions
from .writing import Writer

__all__ = ["BackboneBase", "check_covers", "end_of", "places", "tokens_of"]


def end_of(states: Tensor, mask: Tensor | None, which: Literal["first", "last"]) -> Tensor:
    """The hidden state of each row's first or last token, [batch, width].

    Args:
        states: [batch, length, width].
        mask: 1 for a token, 0 for padding, which may stand on either side, [batch, length]; None: there is none.
        which: The token.
    """
    if mask is None:
        return states[:, 0 if which == "first" else -1]
    present = mask.long()
    place = present.argmax(1) if which == "first" else mask.size(1) - 1 - present.flip(1).argmax(1)
    return states[torch.arange(len(states), device=states.device), place]


def tokens_of(token_ids: Tensor | None, inputs_embeds: Tensor | None, names: str) -> Tensor:
    """The one of both that is given.

    Raises:
        ValueError: When not exactly one is.
    """
    tokens = token_ids if inputs_embeds is None else inputs_embeds
    if tokens is None or (token_ids is not None and inputs_embeds is not None):
        raise ValueError(f"give exactly one of {names}.")
    return tokens


class BackboneBase(nn.Module):
    """What all text backbones tell the tasks.

    Attributes:
        max_tokens: The most tokens one input may have; None for no limit.
        token_types: Number of segment types; where there is only one, they need not be given.
        blind_padding: Whether padding looks at nothing, as in ModelCenter, and not at the text, as in transformers.
            It tells only in what comes out at the padding.
        padding_token: The token that is padding wherever no attention mask is given, as in FlagAI; None: no token is.
        summary: The token that sums up an input: the first, or, where later ones are not seen, the last.
        shifts_labels: Whether the labels of language modelling are the input itself, of which each token is predicted
            from those before it; else they stand where they are predicted.
        writes_apart: Whether what it writes takes no positions from what it reads.
        input_names: Other names of the inputs of `forward`, with theirs.
        blanks: How it fills blanks in texts by writing behind them, where it does.
    """

    max_tokens: int | None = None
    token_types: int = 1
    blind_padding: bool = False
    padding_token: int | None = None
    blanks: Blanks | None = None
    summary: ClassVar[Literal["first", "last"]] = "first"
    shifts_labels: ClassVar[bool] = True
    writes_apart: ClassVar[bool] = False
    input_names: ClassVar[Mapping[str, str]] = {}

    def attention_mask(
        self, tokens: Tensor, attention_mask: Tensor | None = None, length: Tensor | None = None
    ) -> Tensor | None:
        """The attention mask, however it is given.

        Args:
            tokens: Token ids [batch, length], or vectors [batch, length, width].
            attention_mask: 1 = look, 0 = padding; [batch, length], or up to four dimensions.
            length: The number of tokens of each row instead, [batch] int64.

        Raises:
            ValueError: When both are given.
        """
        if length is not None:
            if attention_mask is not None:
                raise ValueError("give attention_mask or length, not both.")
            return torch.arange(tokens.size(1), device=tokens.device) < length.to(tokens.device)[:, None]
        if attention_mask is None and self.padding_token is not None and not tokens.is_floating_point():
            return tokens != self.padding_token
        return attention_mask

    def given_mask(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor | None:
        """The attention mask [batch, length] of a call; None where there was none, or one that says more.

        Args:
            states: What the call returned, [batch, length, width].
            inputs: What `forward` was given by name.
        """
        tokens = inputs.get("token_ids")
        given = states if tokens is None else tokens
        mask = self.attention_mask(given, inputs.get("attention_mask"), inputs.get("length"))
        return mask if mask is not None and mask.ndim == 2 else None

    def look(self, attention_mask: Tensor | None, queries: Tensor | None = None) -> Tensor | None:
        """Who sees whom, for `Context.mask`; `queries` is the mask of the ones who look, where it is another."""
        mask = attention_mask_to_look(attention_mask)
        if not self.blind_padding or attention_mask is None or attention_mask.ndim != 2 or mask is None:
            return mask
        looking = attention_mask if queries is None else queries
        return mask & looking.bool()[:, None, :, None]

    def present(self, attention_mask: Tensor | None) -> Tensor | None:
        """What is a token and no padding, for `Context.present`; None where the mask says more, or there is none."""
        return attention_mask.bool() if attention_mask is not None and attention_mask.ndim == 2 else None

    def summarize(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """The hidden state that sums up each input, [batch, 1, width].

        Args:
            states: [batch, length, width].
            inputs: What `forward` was given by name.
        """
        return end_of(states, self.given_mask(states, inputs), self.summary)[:, None]

    def writer(self, inputs: Mapping[str, Any]) -> Writer:
        """Reads, and goes on writing.

        Args:
            inputs: Of `forward`, by name.

        Raises:
            OptionError: When this backbone does not write.
        """
        raise OptionError(f"{type(self).__name__} reads texts, but does not write any.")

    def check_length(self, length: int) -> None:
        """Raises a ValueError for an input with more tokens than there are positions."""
        if self.max_tokens is not None and length > self.max_tokens:
            raise ValueError(
                f"the input has {length} tokens, but this model has positions for {self.max_tokens}. "
                "Truncate it, or predict with long_text='truncate'."
            )

    def checkpoint_activations(self, every: int = 1) -> None:
        """Makes training save memory by computing activations twice: 0 none; 1, or True, all; k every k-th block's."""
        for module in self.modules():
            if isinstance(module, Stack):
                module.checkpoint_activations = every


def check_covers(mask: Tensor | None, length: int, name: str = "attention_mask") -> None:
    """Raises a ValueError for a mask that is not for all earlier and new tokens."""
    if mask is not None and mask.size(-1) != length:
        raise ValueError(f"{name} covers {mask.size(-1)} tokens, but there are {length}, earlier ones included.")


def places(tokens: Tensor, past: int, attention_mask: Tensor | None) -> Tensor:
    """The place of each token in its text, counted from the first that is no padding: [batch or 1, length] int64."""
    positions = ascending_positions(tokens) + past
    if attention_mask is None or attention_mask.ndim != 2:
        return positions
    first = attention_mask.long().argmax(-1, keepdim=True)  # the mask's first 1
    return (positions - first).clamp(min=0)
