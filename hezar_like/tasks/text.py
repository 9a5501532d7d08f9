"""What all tasks on texts share: from texts to batches of tokens, in one row each or in windows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ..engine.batches import Batch
from ..engine.routing import check_positive
from ..errors import InputError, OptionError
from ..outputs import BackboneOutput, Output
from .task import Task

if TYPE_CHECKING:
    from ..preprocessors.encoded import Encoded
    from ..preprocessors.tokenizer import Tokenizer

__all__ = ["LongText", "TextBatch", "TextInput", "TextTask"]

logger = logging.getLogger("hezar_like")
LongText = Literal["truncate", "window", "error"]
DEFAULT_OVERLAP = 0.25


@dataclass
class TextInput:
    """One input on its way through a task.

    Attributes:
        text: What character offsets refer to; pre-split words are joined by spaces, pairs have two texts.
        words: The words, where the input was split already.
        encoded: All its tokens, as far as they are used.
        windows: For each row, where its content starts in the content of `encoded`, and its tokens.
    """

    text: str | tuple[str, str]
    words: list[str] | None
    encoded: Encoded
    windows: list[tuple[int, Encoded]]


class TextBatch(Batch):
    """Tokens of some inputs; the tensors are padded when they are first read."""

    def __init__(
        self,
        inputs: Sequence[TextInput],
        tokenizer: Tokenizer,
        with_types: bool,
        side: Literal["left", "right"] = "right",
    ) -> None:
        self.inputs = list(inputs)
        self._tokenizer, self._with_types, self._side = tokenizer, with_types, side

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """`token_ids`, `attention_mask` and, where the model has segment types, `token_type_ids`: [rows, length]."""
        # On the task's side, whatever the tokenizer prefers; at least one column: an empty text is one of padding.
        rows = [row for item in self.inputs for _, row in item.windows]
        return self._tokenizer.pad_tensors(rows, length=1, side=self._side, token_type_ids=self._with_types)

    @property
    def lengths(self) -> list[list[int]]:
        return [[len(row) for _, row in item.windows] for item in self.inputs]

    @property
    def rows(self) -> list[slice]:
        """For each input, its rows in the tensors."""
        ends = torch.tensor([len(item.windows) for item in self.inputs]).cumsum(0).tolist()
        return [slice(end - len(item.windows), end) for item, end in zip(self.inputs, ends, strict=True)]

    def select(self, inputs: Sequence[int]) -> Self:
        return type(self)([self.inputs[i] for i in inputs], self._tokenizer, self._with_types, self._side)

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def own_batch(batch: Any) -> TextBatch:
    """The batch, when `preprocess` made it, so that results can be told by text.

    Raises:
        OptionError: When it is something else.
    """
    if not isinstance(batch, TextBatch):
        raise OptionError(
            f"with preprocess=False, predict takes what preprocess() returned, and this is a {type(batch).__name__}. "
            "Give the texts, or post_process=False for what forward returns."
        )
    return batch


def content_places(item: TextInput) -> list[tuple[int, int]]:
    """For each content token of an input, the window and column that see most of what surrounds it.

    Where two windows overlap, the first is used up to the middle of the overlap.
    """
    columns = [row.content for _, row in item.windows]
    starts = [start for start, _ in item.windows]
    ends = [start + len(own) for start, own in zip(starts, columns, strict=True)]
    borders = [(start + end) // 2 for start, end in zip(starts[1:], ends[:-1], strict=True)]
    places = []
    for window, (start, own) in enumerate(zip(starts, columns, strict=True)):
        first = borders[window - 1] if window else 0
        last = borders[window] if window < len(borders) else ends[window]
        places += [(window, own[token - start]) for token in range(first, last)]
    return places


class TextTask(Task):
    """Base of tasks that read texts. An input is a text, a pair of texts, or {"text": ..., "text_pair": ...}."""

    batches_per_window = 32
    forward_options: ClassVar[tuple[str, ...] | None] = ("output_hidden_states", "output_attentions")
    long_text: ClassVar[LongText] = "truncate"
    """What happens to texts longer than the model reads, when `predict` is not told."""
    long_text_modes: ClassVar[tuple[LongText, ...]] = ("truncate", "window", "error")
    """What can happen to them."""
    padding_side: Literal["left", "right"] = "right"
    """Where rows are padded; on the right the columns of a row are the tokens of its text."""
    reads_words: ClassVar[bool] = False
    """Whether a list of strings is one text split into words, and not a pair of texts."""

    def forward(self, *, labels: Tensor | None = None, **inputs: Any) -> Output:
        """Runs the backbone, and then `read_out`. Inputs may also be given by their place.

        Args:
            labels: What the result should be; then the output has a loss. See `compute_loss`.
            **inputs: See the backbone's `forward`.
        """
        return self.read_out(self.backbone(**inputs), inputs, labels)

    def read_out(self, output: BackboneOutput, inputs: Mapping[str, Any], labels: Tensor | None) -> Output:
        """From the backbone's output to the task's.

        Args:
            output: The backbone's.
            inputs: What it was given by name.
            labels: What the result should be.
        """
        raise NotImplementedError(f"{type(self).__name__} must override read_out.")

    @property
    def max_tokens(self) -> int | None:
        """The most tokens of one input, special ones included: the tokenizer's limit or the model's."""
        tokenizer = self.preprocessor.tokenizer
        limits = [self.backbone.max_tokens, tokenizer.config.max_length if tokenizer else None]
        return min((limit for limit in limits if limit is not None), default=None)

    def preprocess(
        self,
        inputs: Any,
        *,
        long_text: LongText | None = None,
        overlap: int | None = None,
        max_length: int | None = None,
    ) -> TextBatch:
        """Texts to tokens.

        Args:
            inputs: One input or a list of them.
            long_text: What happens to longer texts: "truncate" them with a warning, read them in overlapping windows
                ("window"), or raise an "error"; default: the task's.
            overlap: How many tokens neighbouring windows share; default: a quarter of a window.
            max_length: The most tokens of one row; default, and upper end: what the model reads.

        Raises:
            PreprocessorError: When the model has no tokenizer.
            InputError: For an input that is no text, or is too long with `long_text="error"`.
            OptionError: For a wrong value of an option.
        """
        limit = self._row_limit(max_length)
        mode = long_text or self.long_text
        if mode not in self.long_text_modes:
            modes = ", ".join(map(repr, self.long_text_modes))
            raise OptionError(f"long_text is {mode!r}; for {self.task} it must be one of {modes}.")
        tokenizer = self._tokenizer()
        texts = [self._parse(item) for item in ([inputs] if self.is_one_input(inputs) else inputs)]
        texts = self._normalize(texts)
        encoded = self._encode(tokenizer, texts)
        prepared = []
        for index, (text, row) in enumerate(zip(texts, encoded, strict=True)):
            windows = [(0, row)]
            if limit is not None and len(row) > limit:
                windows = self._shorten(row, index, mode, limit, overlap)
                row = row if mode == "window" else windows[0][1]
            words = list(text) if isinstance(text, list) else None
            shown = " ".join(words) if words is not None else text
            prepared.append(TextInput(shown, words, row, windows))
            self.check_input(prepared[-1], index)
        return TextBatch(prepared, tokenizer, self.backbone.token_types > 1, self.padding_side)

    def check_input(self, item: TextInput, index: int) -> None:
        """Raises an InputError for an input this task cannot use; overridden by tasks."""

    def _row_limit(self, max_length: int | None) -> int | None:
        if max_length is None:
            return self.max_tokens
        check_positive("max_length", max_length)
        limit = self.backbone.max_tokens
        if limit is not None and max_length > limit:
            raise OptionError(f"max_length is {max_length}, but this model reads at most {limit} tokens.")
        return max_length

    def _parse(self, item: Any) -> Any:
        if isinstance(item, Mapping) and "text" in item:
            if item.get("text_pair") is not None:
                return item["text"], item["text_pair"]
            item = item["text"]
        if isinstance(item, list | tuple):
            return list(item) if self.reads_words else tuple(item)
        return item

    def _normalize(self, texts: list[Any]) -> list[Any]:
        normalizer = self.preprocessor.text_normalizer
        if normalizer is None:
            return texts

        if all(isinstance(text, str) for text in texts):
            return list(normalizer(texts))

        def normalize(text: Any) -> Any:
            if isinstance(text, str):
                return normalizer(text)[0]
            return type(text)(map(normalize, text)) if isinstance(text, list | tuple) else text

        results = []
        for index, text in enumerate(texts):
            try:
                results.append(normalize(text))
            except InputError as error:
                raise InputError(str(error.args[0]), index) from None
        return results

    def _encode(self, tokenizer: Tokenizer, texts: list[Any]) -> list[Encoded]:
        split = [i for i, text in enumerate(texts) if isinstance(text, list)]
        if not split:
            return tokenizer.encode_texts(texts)
        if len(split) == len(texts):
            return tokenizer.encode_texts(texts, is_split_into_words=True)
        odd = next(i for i, text in enumerate(texts) if isinstance(text, list) != isinstance(texts[0], list))
        raise InputError("is not of the kind of item 0. Give texts, or lists of words, in one call.", odd)

    def _shorten(
        self, row: Encoded, index: int, mode: LongText, limit: int, overlap: int | None
    ) -> list[tuple[int, Encoded]]:
        windows = "window" in self.long_text_modes
        if mode == "error":
            others = "'truncate' or 'window'" if windows else "'truncate'"
            raise InputError(f"has {len(row)} tokens; the most is {limit}. Use long_text={others}.", index)
        if mode == "window":
            if overlap is not None and (isinstance(overlap, bool) or not isinstance(overlap, int)):
                raise OptionError(f"overlap is {overlap!r}; it must be a number of tokens.")
            room = limit - sum(row.special)
            return row.windows(limit, int(room * DEFAULT_OVERLAP) if overlap is None else overlap)
        if not self.__dict__.get("_warned_of_truncation"):
            self.__dict__["_warned_of_truncation"] = True
            others = "'window' to read it all, or 'error'" if windows else "'error'"
            logger.warning(
                f"A text of {len(row)} tokens was cut to the {limit} this model reads; this is said once. "
                f"Use long_text={others} to refuse such texts."
            )
        return [(0, self.cut(row, limit))]

    def cut(self, row: Encoded, limit: int) -> Encoded:
        """The part of a long text that is read, up to `limit` tokens; overridden by tasks."""
        return row.truncated(limit)
