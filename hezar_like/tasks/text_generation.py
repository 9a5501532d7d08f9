"""Language modelling: the next tokens of a text, or the text that answers one."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones import Backbone, Decoder, EncoderDecoder, Piece, Writer
from ..configs import ModelConfig
from ..engine.routing import check_positive
from ..errors import InputError, OptionError
from ..outputs import ClassifierOutput
from .filled_text import encode_with_blanks, fill, is_continued
from .scoring import IGNORED, ScoringTask
from .task import register_task
from .text import LongText, TextBatch, TextInput, own_batch

if TYPE_CHECKING:
    from ..preprocessors.encoded import Encoded
    from ..preprocessors.tokenizer import Tokenizer

DEFAULT_NEW_TOKENS = 50


class GeneratedText(TypedDict):
    """What was written for one input; a decoder's begins with the input itself."""

    text: str


@register_task(
    "text_generation",
    ModelConfig,
    "the next tokens of texts, or texts for texts",
    aliases=("language_modeling", "causal_lm", "lm", "seq2seq", "text2text_generation"),
    endings=("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"),
    pipeline_tag="text-generation",
)
class TextGeneration(ScoringTask):
    """Scores next tokens, and writes the best ones."""

    is_generative = True
    forward_options = ("max_new_tokens",)
    long_text_modes = ("truncate", "error")

    @property
    def padding_side(self) -> Literal["left", "right"]:  # type: ignore[override]
        """What is written follows the text without a gap."""
        return "left" if isinstance(self.backbone, Decoder) else "right"

    @property
    def max_tokens(self) -> int | None:
        """The most tokens of one input, special ones included; a decoder's leave room for what is written."""
        limits = [super().max_tokens, self._most_read(None)]
        return min((limit for limit in limits if limit is not None), default=None)

    def preprocess(
        self,
        inputs: Any,
        *,
        long_text: LongText | None = None,
        overlap: int | None = None,
        max_length: int | None = None,
        max_new_tokens: int | None = None,
    ) -> TextBatch:
        """Texts to tokens; see `TextTask.preprocess`.

        Args:
            inputs: One input or a list of them.
            long_text: What happens to longer texts.
            overlap: Not for this task, which has no windows.
            max_length: The most tokens of one row; default, and upper end: what leaves room for what is written.
            max_new_tokens: How many tokens that needs; see `generate`.

        Raises:
            OptionError: When the model has too few positions for both; else see there.
        """
        if max_new_tokens is not None:
            check_positive("max_new_tokens", max_new_tokens)
        most = self._most_read(max_new_tokens)
        if most is not None and most < 1:
            raise OptionError(
                f"max_new_tokens is {max_new_tokens}, but this model has positions for {self.backbone.max_tokens} "
                "tokens in all. Ask for fewer."
            )
        if max_length is not None:
            check_positive("max_length", max_length)
        if most is not None and max_length is not None and max_length > most:
            raise OptionError(
                f"max_length is {max_length}, but this model reads at most {most} tokens where it writes "
                f"{max_new_tokens or self._default_new_tokens}. Ask for fewer."
            )
        if max_length is None and most is not None:
            own = super().max_tokens
            max_length = most if own is None else min(most, own)
        return super().preprocess(inputs, long_text=long_text, overlap=overlap, max_length=max_length)

    def forward(
        self, *, labels: Tensor | None = None, loss_mask: Tensor | None = None, **inputs: Any
    ) -> ClassifierOutput:
        """Scores.

        Args:
            labels: Token ids, [batch, length] int64, -100 for those that do not count; then the output has a loss. A
                decoder's are its input: each is predicted from the tokens before it. Of an encoder with a decoder, the
                decoder's input is made of them where it is not given. An encoder's are its input too; those with token
                type 1 count. A blank filler's stand where they are predicted.
            loss_mask: How much each label counts, of the same shape: the loss is the weighted sum over that of the
                weights, those of labels that are -100 included. FlagAI's GLM takes labels that are 0 for such.
            **inputs: See the backbone's `forward`.
        """
        if labels is None and loss_mask is not None:
            raise OptionError("give labels with loss_mask: it says how much they count.")
        seen = inputs
        if isinstance(self.backbone, Backbone):
            seen, labels = self.backbone.reading_and_writing(inputs), _written(labels, inputs)
        elif (
            isinstance(self.backbone, EncoderDecoder)
            and not {"decoder_input_ids", "decoder_inputs_embeds"} & inputs.keys()
        ):
            if labels is None:
                raise OptionError("give decoder_input_ids, decoder_inputs_embeds, or labels; or call generate().")
            seen = {**inputs, "decoder_input_ids": self.backbone.shifted(labels)}
        output = self.read_out(self.backbone(**seen), seen, None)
        if labels is not None:
            output.loss = self.compute_loss(output.logits, labels, loss_mask)
        return output

    def compute_loss(self, logits: Tensor, labels: Tensor, loss_mask: Tensor | None = None) -> Tensor:
        """The mean cross entropy of the tokens whose label is not -100, a scalar in float32.

        Args:
            logits: [batch, length, vocabulary].
            labels: [batch, length] int64; see `forward`.
            loss_mask: Weights of the labels; see `forward`.
        """
        if self.backbone.shifts_labels:
            logits, labels = logits[:, :-1], labels[:, 1:]
            loss_mask = None if loss_mask is None else loss_mask[:, 1:]
        if loss_mask is None:
            return super().compute_loss(logits, labels)
        losses = F.cross_entropy(
            logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        weights = loss_mask.flatten().to(losses.dtype)
        return (losses * weights).sum() / weights.sum()

    @torch.no_grad()
    def generate(self, *args: Any, max_new_tokens: int | None = None, **inputs: Any) -> Tensor:
        """Writes the best next token again and again.

        Args:
            *args: For the backbone's `forward`, as is everything else.
            max_new_tokens: The most tokens to write; default: 50, or half of the model's positions where those are
                fewer, or what is left of them.
            **inputs: See the backbone's `forward`; rows of a decoder are padded on the left. An encoder with a decoder
                goes on from `decoder_input_ids` where they are given.

        Returns:
            [batch, length] int64: the input of the decoder, and what was written; after the end, the end token again.
            Of an encoder by itself only what was written; for blanks the pieces that fill them, with their start.

        Raises:
            OptionError: When there are no tokens to go on from, or too few positions.
        """
        inputs = self.named(args, inputs)
        if max_new_tokens is not None:
            check_positive("max_new_tokens", max_new_tokens)
        lacks = "token_ids" not in inputs and not isinstance(self.backbone, EncoderDecoder)
        if lacks or (own := {"labels", "loss_mask", "past_key_values", "use_cache"} & inputs.keys()):
            wrong = "needs 'token_ids'" if lacks else f"takes no {min(own)!r}"
            raise OptionError(f"generate() {wrong}: it goes on from tokens.")
        writer = self.backbone.writer(inputs)
        room = self._room(writer.room, max_new_tokens)
        pieces = [self._write(writer, piece, room) for piece in writer.pieces()]
        return torch.cat(pieces, 1) if pieces else inputs["token_ids"][:, :0]

    def _write(self, writer: Writer, piece: Piece, room: int) -> Tensor:
        """Writes the best next token up to so many times: [batch, length] int64, with what the piece starts with."""
        assert self.head is not None
        written, new = [piece.tokens], piece.tokens
        ends = torch.tensor(writer.ends or self._end_tokens(), dtype=torch.int64, device=new.device)
        done = new.new_zeros(len(new), dtype=torch.bool) if piece.idle is None else piece.idle
        for _ in range(room):
            scores = self.head(writer.step(new)[:, -1:])
            if writer.unwritten:
                scores[..., list(writer.unwritten)] = -torch.inf
            new = scores.argmax(-1)
            if len(ends):
                new = torch.where(done[:, None], ends[0], new)
                done = done | torch.isin(new[:, 0], ends)
            written.append(new)
            if bool(done.all()):
                break
        return torch.cat(written, 1)

    def post_process(self, outputs: Tensor, batch: TextBatch) -> list[GeneratedText]:  # type: ignore[override]
        """Token ids to texts; those with blanks come back as `FilledText`."""
        tokenizer, start, blanks = self._tokenizer(), batch["token_ids"].size(1), self.backbone.blanks
        ends = self._end_tokens()
        results: list[GeneratedText] = []
        for item, row in zip(own_batch(batch).inputs, outputs.tolist(), strict=True):
            if blanks is not None:
                results.append(fill(tokenizer, item.encoded.ids, row, blanks))
                continue
            first = begin = int(isinstance(self.backbone, EncoderDecoder))
            if not isinstance(self.backbone, Backbone | EncoderDecoder):
                first, begin = start - len(item.windows[0][1]), start
            written = takewhile(lambda token: token not in ends, row[begin:])
            (text,) = tokenizer.decode([[*row[first:begin], *written]])
            results.append(GeneratedText(text=text))
        return results

    # -- blanks -----------------------------------------------------------------------------------------------------

    def check_input(self, item: TextInput, index: int) -> None:
        blanks = self.backbone.blanks
        if blanks is not None and not set(blanks.tokens) & set(item.encoded.ids):
            raise InputError("has no blank among the tokens that are read: it was cut off. Give a shorter text.", index)

    def cut(self, row: Encoded, limit: int) -> Encoded:
        """The beginning of a text; its end, where it is continued there."""
        blanks = self.backbone.blanks
        return row.truncated(limit, "left" if blanks is not None and is_continued(row, blanks) else "right")

    def _encode(self, tokenizer: Tokenizer, texts: list[Any]) -> list[Encoded]:
        if self.backbone.blanks is None:
            return super()._encode(tokenizer, texts)
        return encode_with_blanks(tokenizer, texts, self.backbone.blanks)

    # -- how much is read and written -------------------------------------------------------------------------------

    @property
    def _default_new_tokens(self) -> int:
        limit = self.backbone.max_tokens
        return DEFAULT_NEW_TOKENS if limit is None else max(1, min(DEFAULT_NEW_TOKENS, limit // 2))

    def _most_read(self, max_new_tokens: int | None) -> int | None:
        """The most tokens of an input that leave a decoder room for so many more; None for no limit."""
        limit = self.backbone.max_tokens
        if limit is None or self.backbone.writes_apart:
            return limit
        return limit - (max_new_tokens or self._default_new_tokens)

    def _room(self, room: int | None, max_new_tokens: int | None) -> int:
        """How many tokens to write where there is room for so many; None for any number."""
        if room is None:
            return max_new_tokens or self._default_new_tokens
        if max_new_tokens is not None and max_new_tokens > room:
            raise OptionError(
                f"max_new_tokens is {max_new_tokens}, but this model has positions for {room} tokens more. "
                "Ask for fewer, or give shorter texts."
            )
        return max_new_tokens or min(self._default_new_tokens, room)

    def _end_tokens(self) -> list[int]:
        ends, tokenizer = self.config.get("eos_token_id"), self.preprocessor.tokenizer
        if ends is None and tokenizer is not None:
            ends = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]


def _written(labels: Tensor | None, inputs: Mapping[str, Any]) -> Tensor | None:
    """The labels of what is written by an encoder; the others become -100.

    Raises:
        OptionError: When nothing says which tokens are written.
    """
    if labels is None:
        return None
    types = inputs.get("token_type_ids")
    if types is None:
        raise OptionError("give token_type_ids with labels: 0 for the tokens that are read, 1 for those written.")
    return labels.masked_fill(types == 0, IGNORED)
