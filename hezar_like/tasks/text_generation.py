"""Language modelling: the next tokens of a text, or the text that answers one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

import torch.nn.functional as F
from torch import Tensor

from ..backbones import Backbone, Decoder, EncoderDecoder
from ..engine.batches import Batch
from ..engine.routing import check_positive
from ..errors import ConfigError, InputError, OptionError
from ..generation import cut
from ..layers import LanguageModelHead
from ..outputs import ClassifierOutput, GenerationOutput
from ..preprocessors.chat_template import ChatText
from .conversations import as_texts, by_kind, is_conversation
from .filled_text import AnsweredBatch, answered, encode_with_blanks, fill, is_continued
from .scoring import IGNORED, ScoringTask
from .task import register_task
from .text import LongText, TextBatch, TextInput, own_batch
from .writing import WritingConfig, WritingTask

if TYPE_CHECKING:
    from ..preprocessors.encoded import Encoded
    from ..preprocessors.tokenizer import Tokenizer


@dataclass
class TextGenerationConfig(WritingConfig):
    """What a model that writes texts has beside its family's config."""

    input_prefix: str = ""
    """What every input begins with, such as "translate English to German: "."""


class GeneratedText(TypedDict):
    """What was written for one input; a decoder's begins with the input itself, unless that is a conversation.

    Attributes:
        text: The text; the answer alone, where the input is a conversation.
        score: See `GenerationOutput.scores`; with `return_scores`.
        tokens: The new tokens; with `return_scores`, but not where blanks are filled.
        token_scores: The log-probability of each; with `return_scores`.
        sequences: All texts of this input, the best first, where there are several.
    """

    text: str
    score: NotRequired[float]
    tokens: NotRequired[list[str]]
    token_scores: NotRequired[list[float]]
    sequences: NotRequired[list[GeneratedText]]


@register_task(
    "text_generation",
    TextGenerationConfig,
    "the next tokens of texts, or texts for texts",
    aliases=("language_modeling", "causal_lm", "lm", "seq2seq", "text2text_generation"),
    endings=("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"),
    pipeline_tag="text-generation",
)
class TextGeneration(WritingTask, ScoringTask):
    """Scores next tokens, and writes texts.

    An input may also be a conversation, which the tokenizer's chat template writes as a text: a list of messages, which
    are mappings with "role" and "content"; or {"messages": [...]}, where "tools", "documents", the name of a "template"
    and its "variables" may stand beside them. See `Tokenizer.apply_chat_template`.
    """

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

    def is_one_input(self, inputs: Any) -> bool:
        """See `Model.is_one_input`; a list of messages is one conversation."""
        return is_conversation(inputs) or super().is_one_input(inputs)

    def preprocess(  # type: ignore[override]  # `max_length` is an option of generation
        self,
        inputs: Any,
        *,
        prefix: str | None = None,
        long_text: LongText | None = None,
        max_input_length: int | None = None,
        max_new_tokens: int | None = None,
        layout: Literal["blanks", "seq2seq"] = "blanks",
    ) -> TextBatch:
        """Texts to tokens; see `TextTask.preprocess`.

        Args:
            inputs: One input or a list of them.
            prefix: What every text begins with, but no conversation; default: the config's `input_prefix`.
            long_text: What happens to longer texts; of conversations the beginning is cut off.
            max_input_length: The most tokens of one row; default, and upper end: what leaves room for what is written.
            max_new_tokens: How many tokens that needs; see `GenerationConfig`.
            layout: What a blank filler does: fill blanks, or answer texts, as FlagAI's models for titles and poems do.

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
        if max_input_length is not None:
            check_positive("max_input_length", max_input_length)
        if most is not None and max_input_length is not None and max_input_length > most:
            raise OptionError(
                f"max_input_length is {max_input_length}, but this model reads at most {most} tokens where it writes "
                f"{max_new_tokens or self._usual_new_tokens}. Ask for fewer."
            )
        if max_input_length is None and most is not None:
            own = super().max_tokens
            max_input_length = most if own is None else min(most, own)
        prefix = self.config.input_prefix if prefix is None else prefix
        inputs = as_texts(self._tokenizer(), [inputs] if self.is_one_input(inputs) else inputs)
        if prefix:
            inputs = [_prefixed(item, prefix) for item in inputs]
        if layout == "blanks":
            return super().preprocess(inputs, long_text=long_text, max_length=max_input_length)
        if layout != "seq2seq":
            raise OptionError(f"layout is {layout!r}; it must be 'blanks' or 'seq2seq'.")
        inputs = answered(self._tokenizer(), inputs, self.backbone.blanks)
        batch = super().preprocess(inputs, long_text="error", max_length=max_input_length)
        return AnsweredBatch(batch.inputs, self._tokenizer(), self.backbone.token_types > 1, self.padding_side)

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
        seen, labels = self._seen(labels, inputs)
        output = self.read_out(self.backbone(**seen), seen, None)
        if labels is not None:
            output.loss = self.compute_loss(output.logits, labels, loss_mask)
        return output

    def fused_loss(self, *, labels: Tensor, **inputs: Any) -> Tensor:
        """The loss of `forward`, without keeping the scores of all tokens in memory.

        Args:
            labels: See `forward`.
            **inputs: See the backbone's `forward`.

        Raises:
            ConfigError: When the head cannot; see `LanguageModelHead.loss`.
        """
        if not isinstance(self.head, LanguageModelHead):
            raise ConfigError(f"fused_loss needs a head of one layer, which {self.config.name!r} has not.")
        seen, own = self._seen(labels, inputs)
        assert own is not None
        states = self.states(self.backbone(**seen), seen)
        if self.backbone.shifts_labels:
            states, own = states[:, :-1], own[:, 1:]
        return self.head.loss(states, own)

    def _seen(self, labels: Tensor | None, inputs: dict[str, Any]) -> tuple[dict[str, Any], Tensor | None]:
        """What the backbone gets, and the labels that count."""
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
        return seen, labels

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

    def post_process(  # type: ignore[override]
        self,
        outputs: GenerationOutput,
        batch: TextBatch,
        *,
        stop: list[str] | str | None = None,
        return_scores: bool = False,
    ) -> list[GeneratedText]:
        """Token ids to texts; those with blanks come back as `FilledText`.

        Args:
            outputs: Of `generate` with `return_dict`.
            batch: Of `preprocess`.
            stop: Texts that end a text; default: the config's.
            return_scores: Add scores and tokens to the records.
        """
        tokenizer, items = self._tokenizer(), own_batch(batch).inputs
        texts = self.config.generation.stop if stop is None else [stop] if isinstance(stop, str) else stop
        count = len(outputs.sequences) // max(1, len(items))
        records = []
        rows = zip(outputs.sequences.tolist(), outputs.lengths.tolist(), outputs.ended.tolist(), strict=True)
        for index, (row, length, ended) in enumerate(rows):
            item, start = items[index // count], len(row) - outputs.token_scores.size(1)
            new = row[start : start + length]
            blanks = None if isinstance(item.text, ChatText) else self.backbone.blanks
            record = self._record(tokenizer, item, new[: length - ended] if blanks is None else row, texts)
            if return_scores:
                record["score"] = outputs.scores[index].item()
            if return_scores and blanks is None:
                record["tokens"] = [tokenizer.id_to_token(token) or "" for token in new]
                record["token_scores"] = outputs.token_scores[index, :length].tolist()
            records.append(record)
        if count == 1:
            return records
        return [{**records[i], "sequences": records[i : i + count]} for i in range(0, len(records), count)]

    def _record(self, tokenizer: Tokenizer, item: TextInput, new: list[int], stop: list[str]) -> GeneratedText:
        if self.backbone.blanks is not None and not isinstance(item.text, ChatText):
            return fill(tokenizer, item.encoded.ids, new, self.backbone.blanks)  # type: ignore[return-value]
        read = self._read(item)
        (text,) = tokenizer.decode([[*read, *new]])
        if stop:
            before = len(tokenizer.decode([read])[0])
            text = text[:before] + cut(text[before:], stop)
        return GeneratedText(text=text)

    def read_tokens(self, batch: Batch) -> list[list[int]]:
        return [self._read(item) for item in own_batch(batch).inputs]

    def _read(self, item: TextInput) -> list[int]:
        """The tokens of an input that the text begins with: a decoder's, but for conversations."""
        return (
            [] if not isinstance(self.backbone, Decoder) or isinstance(item.text, ChatText) else item.windows[0][1].ids
        )

    def _most_read(self, max_new_tokens: int | None) -> int | None:
        """The most tokens of an input that leave a decoder room for so many more; None for no limit."""
        limit = self.backbone.max_tokens
        if limit is None or self.backbone.writes_apart:
            return limit
        return limit - (max_new_tokens or self._usual_new_tokens)

    # -- blanks -----------------------------------------------------------------------------------------------------

    def check_input(self, item: TextInput, index: int) -> None:
        blanks = self.backbone.blanks
        if (
            blanks is not None
            and not isinstance(item.text, ChatText)
            and not set(blanks.tokens) & set(item.encoded.ids)
        ):
            raise InputError("has no blank among the tokens that are read: it was cut off. Give a shorter text.", index)

    def cut(self, row: Encoded, limit: int) -> Encoded:
        """The beginning of a text; its end, where it is continued there."""
        blanks = self.backbone.blanks
        at_end = isinstance(row.source, ChatText) or (blanks is not None and is_continued(row, blanks))
        return row.truncated(limit, "left" if at_end else "right")

    def _normalize(self, texts: list[Any]) -> list[Any]:
        return by_kind(texts, super()._normalize, list)

    def _encode(self, tokenizer: Tokenizer, texts: list[Any]) -> list[Encoded]:
        encode = super()._encode

        def others(given: list[Any]) -> list[Encoded]:
            blanks = self.backbone.blanks
            return encode(tokenizer, given) if blanks is None else encode_with_blanks(tokenizer, given, blanks)

        return by_kind(texts, others, lambda chats: tokenizer.encode_texts(chats, add_special_tokens=False))


def _prefixed(item: Any, prefix: str) -> Any:
    """An input with something before it; of a pair before the first text."""
    if isinstance(item, ChatText):
        return item
    if isinstance(item, str):
        return prefix + item
    if isinstance(item, Mapping) and isinstance(item.get("text"), str):
        return {**item, "text": prefix + item["text"]}
    if isinstance(item, list | tuple) and item and isinstance(item[0], str):
        return type(item)((prefix + item[0], *item[1:]))
    return item


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
