"""Blank fillers: a text with blanks, read in both directions, and behind it the pieces that fill them (GLM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blocks import Context, Stack
from ..layers import Cache, TextEmbedding, Trace, attention_mask_to_look
from ..layers.blanks import prefix_look
from ..layers.embeddings import ascending_positions
from ..layers.prompts import PromptEncoder, insert
from ..outputs import BackboneOutput
from .base import BackboneBase, check_covers, tokens_of
from .blank_writer import BlankWriter, CausalWriter, told_apart
from .writing import Writer

__all__ = ["BlankFiller"]


class BlankFiller(BackboneBase):
    """One stack behind one embedding, in which a text sees itself, and what comes after it the text and itself so far.

    Attributes:
        embed: Tokens to vectors; positions within pieces, where there are any, are its types.
        stack: The blocks.
        prompts: Vectors that can stand in the place of tokens.
        max_memory: How many positions of `mems` are kept, where not all are asked for.
        pool: What sums up an input: its first token, the one behind the text ("start") or the text's last ("pad").
    """

    embed: TextEmbedding
    stack: Stack
    prompts: PromptEncoder | None
    max_memory: int = 0
    pool: Literal["cls", "start", "pad"] = "cls"
    shifts_labels = False
    writes_apart = True
    input_names = {
        "target_ids": "labels",
        "dec_input_ids": "choice_ids",
        "dec_position_ids": "choice_position_ids",
    }

    def forward(
        self,
        token_ids: Tensor | None = None,
        attention_mask: Tensor | int | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        sep: Tensor | int | None = None,
        block_position_ids: Tensor | None = None,
        length: Tensor | None = None,
        mems: Sequence[Tensor] | None = None,
        return_memory: bool | None = None,
        detach_memory: bool = True,
        prompt_pos: Tensor | None = None,
        head_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BackboneOutput:
        """Runs the backbone.

        What is not said of pieces is told by the tokens: the text ends before the first start token, every start token
        begins a piece, and the pieces fill the blanks in their order.

        Args:
            token_ids: [batch, length] int64; with `mems` or `past_key_values` only the new tokens.
            attention_mask: 1 = look, 0 = padding, [batch, length], of the new tokens or of earlier ones too. Or who
                sees whom altogether, with up to four dimensions, of whose last one the end is used. Or, as one number
                or [batch], what `sep` is.
            position_ids: The place of each token in the text, and for a piece that of its blank, [batch, length] int64;
                or this and `block_position_ids`, [batch, 2, length].
            inputs_embeds: Token vectors [batch, length, width] in place of `token_ids`.
            sep: How many of the new tokens are text, which all see: one number, or [batch] int64. Default after earlier
                tokens: none.
            block_position_ids: The place of each token in its piece, from 1 on, 0 in the text, [batch, length] int64.
            length: Number of tokens of each row, [batch] int64, in place of a mask of padding.
            mems: Of the call before; then `position_ids` must be given where the model has positions.
            return_memory: Return `mems` for the next call: of all tokens (True), or of the last `max_memory` (False).
                It costs more than `past_key_values`, with the same result.
            detach_memory: Whether gradients end at the returned `mems`.
            prompt_pos: Where the learned prompts stand, [prompts] or [batch, prompts] int64.
            head_mask: What the output of each head is multiplied with, [blocks, heads].
            past_key_values: Of the call before; it is added to. `position_ids` as with `mems`.
            use_cache: Return `past_key_values` for the next call.
            output_hidden_states: Also return the hidden states of every block.
            output_attentions: Also return the attention probabilities of every block.

        Raises:
            ValueError: When inputs are missing, given twice, do not fit together, or are too long.
        """
        tokens = tokens_of(token_ids, inputs_embeds, "token_ids and inputs_embeds")
        if mems is not None and (past_key_values is not None or use_cache):
            raise ValueError("give mems, or past_key_values and use_cache, not both: they say the same.")
        cache = Cache(len(self.stack.blocks)) if use_cache and past_key_values is None else past_key_values
        past = mems[0].size(1) if mems is not None else 0 if cache is None else cache.length
        given_sep, attention_mask = told_apart(attention_mask)
        if sep is not None and (given_sep is not None or (attention_mask is not None and attention_mask.ndim > 2)):
            raise ValueError("give sep, or attention_mask with the same numbers or all that sep says, not both.")
        if mems is not None and len(mems) != len(self.stack.blocks) + 1:
            raise ValueError(f"mems has {len(mems)} tensors; give the {len(self.stack.blocks) + 1} of the call before.")
        sep = given_sep if sep is None else sep
        all_said = sep is not None and position_ids is not None and (position_ids.ndim == 3 or not self.has_blocks)
        told = None
        if token_ids is not None and self.blanks is not None and not past and not all_said:
            told = self.blanks.positions(token_ids)
        if sep is None:
            sep = 0 if past else tokens.size(1) if told is None else told[1]
        mask = self.attention_mask(tokens, attention_mask, length)
        if cache is not None:
            mask = cache.whole_mask(mask, tokens.size(1))
        look, causal = who_sees_whom(tokens, sep, mask, past)
        places = self._places(tokens, position_ids, block_position_ids, None if told is None else told[0], past)
        if prompt_pos is not None:
            tokens = self._prompted(tokens, prompt_pos)
        remembers = return_memory is not None
        context = Context(
            mask=look,
            causal=causal,
            cache=cache,
            head_mask=head_mask,
            memories=mems,
            trace=Trace(hidden_states=output_hidden_states, attentions=output_attentions, mems=remembers),
        )
        x = self.stack(self.embed(tokens, *places), context)
        output = BackboneOutput(last_hidden_state=x, past_key_values=cache, **context.trace.found())
        if output.mems is not None:
            kept = None if return_memory else self.max_memory
            output.mems = remember(output.mems, mems, kept, detach=detach_memory)
        return output

    @property
    def has_positions(self) -> bool:
        """Whether there are learned positions, so that it matters where tokens stand."""
        return self.embed.positions is not None

    @property
    def has_blocks(self) -> bool:
        """Whether there are learned positions within pieces."""
        return self.embed.types is not None

    def given_mask(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor | None:
        sep, mask = told_apart(inputs.get("attention_mask"))
        sep = inputs.get("sep") if sep is None else sep
        real = super().given_mask(states, {**inputs, "attention_mask": mask})
        if sep is None:
            return real
        indices = torch.arange(states.size(1), device=states.device)
        text = indices < torch.as_tensor(sep, device=states.device).reshape(-1, 1).expand(len(states), 1)
        return text if real is None else text & real.bool()

    def summarize(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        if self.pool == "cls":
            return states[:, :1]
        at = self._ends(states, inputs) - int(self.pool == "pad")
        return states[torch.arange(len(states), device=states.device), at][:, None]

    def writer(self, inputs: Mapping[str, Any]) -> Writer:
        """See `BackboneBase.writer`; blanks are filled, and with `sep=0`, a text that is read causally is answered."""
        sep = inputs.get("sep", told_apart(inputs.get("attention_mask"))[0])
        causal = sep is not None and not bool(torch.as_tensor(sep).any())
        return CausalWriter(self, inputs) if causal else BlankWriter(self, inputs)

    def _ends(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """The number of each row's tokens before the first piece, without padding, [batch] int64."""
        tokens, mask = inputs.get("token_ids"), self.given_mask(states, inputs)
        whole = torch.full((len(states),), states.size(1), device=states.device)
        ends = whole if mask is None else mask.sum(1)
        if tokens is not None and self.blanks is not None and told_apart(inputs.get("attention_mask"))[0] is None:
            whole = self.blanks.positions(tokens)[1]
        ends = ends.minimum(whole)
        if self.pool == "start" and bool((ends >= states.size(1)).any()):
            raise ValueError(
                "pool_token is 'start', the token behind the text that starts a piece, and there is none. Add one."
            )
        return ends

    def _places(
        self, tokens: Tensor, places: Tensor | None, blocks: Tensor | None, told: Tensor | None, past: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Indices into the learned positions, and into those within pieces."""
        if not self.has_positions:
            return None, None
        if places is None and past:
            raise ValueError("give position_ids: where tokens stand after earlier ones is not told by themselves.")
        if places is not None and places.ndim == 3:
            if blocks is not None:
                raise ValueError("give block_position_ids, or position_ids with two rows for each input, not both.")
            places, blocks = places.unbind(1)
        if blocks is not None and not self.has_blocks:
            raise ValueError("this model has no positions within pieces: give position_ids as [batch, length].")
        if blocks is None and told is not None:
            blocks = told[:, 1]
        if places is None:
            places = ascending_positions(tokens) if told is None else told[:, 0]
            if tokens.size(1) > (self.max_tokens or 0):
                self.check_length(max(int(places.max()) + 1, 0 if blocks is None else int(blocks.max())))
        return places, blocks

    def _prompted(self, tokens: Tensor, places: Tensor) -> Tensor:
        if self.prompts is None:
            raise ValueError("this model has no learned prompts to put at prompt_pos. Build it with a spell_length.")
        return insert(self.prompts(), tokens if tokens.is_floating_point() else self.embed.tokens(tokens), places)


def who_sees_whom(tokens: Tensor, sep: Tensor | int, mask: Tensor | None, past: int) -> tuple[Tensor | None, bool]:
    """The mask of a `Context`, and whether it is causal.

    Args:
        tokens: The new ones, [batch, length] or with vectors.
        sep: How many of them are text, one number or [batch].
        mask: Of padding, [batch, new or all]; or of all that matters, with more dimensions.
        past: Number of earlier tokens.
    """
    queries = tokens.size(1)
    if mask is not None and mask.ndim == 2 and past and mask.size(1) == queries:
        mask = F.pad(mask, (past, 0), value=1)
    if mask is not None and mask.ndim > 2:
        mask = mask[..., -past - queries :]
    check_covers(mask, past + queries)
    seen, prefix = attention_mask_to_look(mask), torch.as_tensor(sep).reshape(-1)
    if len(prefix) not in (1, len(tokens)):
        raise ValueError(
            f"attention_mask or sep has {len(prefix)} numbers for {len(tokens)} inputs. Give how many tokens of each "
            "are text, or a mask [batch, length]."
        )
    if (mask is not None and mask.ndim > 2) or bool((prefix >= queries).all()):
        return seen, False
    if not bool(prefix.any()):
        return seen, True
    look = prefix_look(prefix.to(tokens.device), queries, past)
    return look if seen is None else look & seen, False


def remember(
    states: Sequence[Tensor], earlier: Sequence[Tensor] | None, most: int | None, *, detach: bool
) -> tuple[Tensor, ...]:
    """Adds states of a pass to earlier ones, [batch, length, width] each, and keeps the last `most` positions."""
    if detach:
        states = [state.detach() for state in states]
    if earlier is not None:
        states = [torch.cat(pair, 1) for pair in zip(earlier, states, strict=True)]
    return tuple(state if most is None else state[:, max(0, state.size(1) - most) :] for state in states)
