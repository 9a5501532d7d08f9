"""Text to ids and back: encoding, padding, truncation, decoding.

The Rust object is only ever read here. Its own padding and truncation are state that all threads would share, so both
are done on plain lists, and Hezar's `enable_padding` and `enable_truncation` are deliberately absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from ..errors import OptionError, TokenizerError, did_you_mean
from .call_options import padding_strategy, tensor_kind, truncation_strategy
from .encoded import Encoded, Encoding, Side, TextInput
from .padding import has_rows, pad_rows, pad_tensor, plain_rows, to_tensors
from .rust_backend import guarded
from .text_inputs import as_batch, check_inputs, refuse_broken_text
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

__all__ = ["TextCoding"]

# In the order in which a call returns them; those that are no numbers never become tensors.
COLUMNS: Mapping[str, Callable[[Encoded], Any]] = {
    "token_ids": lambda encoded: encoded.ids,
    "token_type_ids": lambda encoded: encoded.type_ids,
    "attention_mask": lambda encoded: [1] * len(encoded),
    "special_tokens_mask": lambda encoded: list(map(int, encoded.special)),
    "offsets_mapping": lambda encoded: encoded.offsets,
    "length": len,
    "tokens": Encoded.tokens,
    "word_ids": lambda encoded: encoded.word_ids,
}
NOT_TENSORS = ("offsets_mapping", "tokens", "word_ids")


class TextCoding(Vocabulary):
    """The part of a tokenizer that turns texts into rows of ids and rows of ids into texts."""

    token_ids_name: ClassVar[str] = "token_ids"

    # -- text to tokens ---------------------------------------------------------------------------------------------

    def encode_texts(
        self, texts: Iterable[TextInput], *, add_special_tokens: bool = True, is_split_into_words: bool = False
    ) -> list[Encoded]:
        """Tokenizes a batch, without padding or truncation.

        Args:
            texts: Texts, pairs of texts, or (with `is_split_into_words`) lists of words.
            add_special_tokens: Whether the post-processor adds its tokens, such as [CLS] and [SEP].
            is_split_into_words: Whether each text is a list of words.

        Raises:
            InputError: With the index of an item that is not a text.
            TokenizerError: When the tokenizer fails, for instance in one of its regular expressions.
        """
        batch = check_inputs(texts, words=is_split_into_words)
        try:
            with guarded("the tokenizer failed on these texts", "Check its tokenizer.json, or try fewer texts."):
                encodings = self.run_backend(batch, is_split_into_words, add_special_tokens)
        except TokenizerError:
            refuse_broken_text(batch)
            raise
        options: dict[str, Any] = {"words": is_split_into_words, "byte_level": self.is_byte_level}
        options["shared_ids"] = self.shared_ids
        return [Encoded.of(encoding, text, **options) for encoding, text in zip(encodings, batch, strict=True)]

    def run_backend(self, batch: list[TextInput], words: bool, add_special_tokens: bool) -> Sequence[Encoding]:
        """Tokenizes a batch of checked inputs; overridden by kinds that do more than their tokenizer.json says."""
        return self.backend.encode_batch(batch, is_pretokenized=words, add_special_tokens=add_special_tokens)

    def encode(
        self, inputs: str | Sequence[TextInput], is_pretokenized: bool = False, add_special_tokens: bool = True
    ) -> list[Encoded]:
        """Tokenizes a text or a batch; a list with one item per text comes back in either case."""
        batch, _ = as_batch(inputs, None, is_pretokenized)
        return self.encode_texts(batch, add_special_tokens=add_special_tokens, is_split_into_words=is_pretokenized)

    def __call__(
        self,
        inputs: str | Iterable[TextInput],
        text_pair: str | Iterable[str] | None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str | None = None,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        return_tensors: str | None = "list",
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        return_tokens: bool | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool = True,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        return_word_ids: bool = False,
        device: str | torch.device | None = None,
        **unknown: Any,
    ) -> dict[str, Any]:
        """Tokenizes a text or a batch.

        Args:
            inputs: A text, or texts and pairs of texts, or (with `is_split_into_words`) lists of words.
            text_pair: The second texts, when `inputs` holds the first.
            add_special_tokens: Whether the post-processor adds its tokens.
            padding: True or "longest", "max_length", or None. Tensors are always padded.
            truncation: True or "longest_first", "only_first", "only_second", or None.
            max_length: Where to cut and how far to pad, in tokens; default: the config's, if it has one. Without
                either, nothing is cut.
            return_tensors: "list", "numpy" ("np") or "torch" ("pt").
            stride: Tokens that the windows of `return_overflowing_tokens` share; 0 takes the config's.
            is_split_into_words: Whether each text is a list of words.
            pad_to_multiple_of: The padded length is rounded up to a multiple of this; default: the config's.
            return_tokens: Adds `tokens`: the tokens as text.
            return_token_type_ids: Adds `token_type_ids`.
            return_attention_mask: Adds `attention_mask`: 1 for tokens, 0 for padding.
            return_overflowing_tokens: Cuts long texts into windows, each one a row, in reading order; adds
                `overflow_to_sample_mapping` with the index of each row's text.
            return_special_tokens_mask: Adds `special_tokens_mask`: 1 for added tokens and padding.
            return_offsets_mapping: Adds `offsets_mapping`: start and end of each token in characters of its text.
            return_length: Adds `length`: tokens per row without padding.
            return_word_ids: Adds `word_ids`: the number of each token's word.
            device: Where torch tensors go.
            **unknown: Refused.

        Returns:
            `token_ids` [N, L] int64 and the other columns. A single text with list output has no N dimension.

        Raises:
            InputError: With the index of an item that is not a text.
            OptionError: For an unknown option, or one with a wrong value.
        """
        if unknown:
            name = next(iter(unknown))
            known = TextCoding.__call__.__kwdefaults__ or {}
            raise OptionError(f"a tokenizer has no option {name!r}.{did_you_mean(name, known)}")
        kind = tensor_kind(return_tensors)
        strategy = truncation_strategy(truncation)
        fill = padding_strategy(padding) or (None if kind == "list" else "longest")
        limit = max_length if max_length is not None else self.config.max_length

        batch, single = as_batch(inputs, text_pair, is_split_into_words)
        rows = self.encode_texts(batch, add_special_tokens=add_special_tokens, is_split_into_words=is_split_into_words)
        origin = list(range(len(rows)))
        if strategy is not None and limit is not None:
            if return_overflowing_tokens:
                overlap, sliding = stride or self.config.stride, 0 if strategy == "only_first" else None
                cut = [[window for _, window in row.windows(limit, overlap, sequence=sliding)] for row in rows]
                origin = [i for i, windows in enumerate(cut) for _ in windows]
                rows = [window for windows in cut for window in windows]
            else:
                rows = [row.truncated(limit, self.config.truncation_side, strategy) for row in rows]

        wanted = {
            "token_ids": True,
            "token_type_ids": return_token_type_ids,
            "attention_mask": return_attention_mask,
            "special_tokens_mask": return_special_tokens_mask,
            "offsets_mapping": return_offsets_mapping,
            "length": return_length,
            "tokens": return_tokens,
            "word_ids": return_word_ids,
        }
        columns = {name: list(map(COLUMNS[name], rows)) for name, flag in wanted.items() if flag}
        if fill is not None:
            if fill == "max_length" and limit is None:
                raise OptionError("padding='max_length' needs a max_length. Give one, or use padding='longest'.")
            length = limit if fill == "max_length" else None
            columns = self._pad(columns, length, pad_to_multiple_of, tensors=kind != "list")
        if return_overflowing_tokens:
            columns["overflow_to_sample_mapping"] = origin
        elif single and kind == "list":
            columns = {name: values if name == "length" else values[0] for name, values in columns.items()}
        return to_tensors(columns, kind, keep=NOT_TENSORS, device=device)

    # -- padding ----------------------------------------------------------------------------------------------------

    @property
    def padding_id(self) -> int:
        """The id that padding is made of: pad, else eos, else 0. Masks hide it, so any id does."""
        known = (i for i in (self.pad_token_id, self.eos_token_id) if i is not None)
        return next(known, 0)

    def pad_tensors(
        self,
        encoded: Sequence[Encoded],
        *,
        length: int | None = None,
        multiple_of: int | None = None,
        side: Side | None = None,
        token_type_ids: bool = False,
        device: str | torch.device | None = None,
    ) -> dict[str, torch.Tensor]:
        """Makes the tensors a model takes.

        Args:
            encoded: The texts of a batch.
            length: Smallest L; default: the longest text.
            multiple_of: L is rounded up to a multiple of this; default: the config's.
            side: Where the padding goes; default: the config's.
            token_type_ids: Whether they are added.
            device: Where the tensors go.

        Returns:
            `token_ids` [N, L] int64, `attention_mask` [N, L] int64 (1 = look), and `token_type_ids` [N, L] int64.
        """
        multiple_of = multiple_of or self.config.pad_to_multiple_of
        pad: dict[str, Any] = {"length": length, "multiple_of": multiple_of, "side": side or self.config.padding_side}
        ids, mask = pad_tensor([row.ids for row in encoded], self.padding_id, **pad)
        columns = {self.token_ids_name: ids, "attention_mask": mask.long()}
        if token_type_ids:
            type_id = self.config.pad_token_type_id
            columns["token_type_ids"], _ = pad_tensor([row.type_ids for row in encoded], type_id, **pad)
        return to_tensors(columns, "torch", device=device)

    def pad_encoded_batch(
        self,
        inputs: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
        padding: bool | str | None = None,
        max_length: int | None = None,
        truncation: bool = True,
        return_tensors: str | None = None,
        include_keys: Sequence[str] | None = None,
        exclude_keys: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Pads rows that are ids already.

        Args:
            inputs: Columns of rows, or one mapping per row. Columns of single values are left as they are.
            padding: "max_length", or anything else for the longest row.
            max_length: The length for "max_length".
            truncation: Whether rows longer than `max_length` are cut, for "max_length".
            return_tensors: "list", "numpy" or "torch".
            include_keys: Only these columns are padded; default: all.
            exclude_keys: These columns are neither padded nor made tensors; nor are texts, offsets and word ids.
        """
        kind = tensor_kind(return_tensors)
        fill = padding_strategy(padding)
        if fill == "max_length" and max_length is None:
            raise OptionError("padding='max_length' needs a max_length. Give one, or use padding='longest'.")
        length = max_length if fill == "max_length" else None
        if not isinstance(inputs, Mapping):
            inputs = {key: [row[key] for row in inputs] for key in (inputs[0] if inputs else ())}
        kept = (*NOT_TENSORS, *(exclude_keys or ()))
        columns = {name: list(values) if name in kept else plain_rows(values) for name, values in inputs.items()}
        rows = {
            name: [row[:length] if truncation else row for row in values]
            for name, values in columns.items()
            if name not in kept and (not include_keys or name in include_keys) and has_rows(values)
        }
        return to_tensors(columns | self._pad(rows, length, None, tensors=False), kind, keep=kept)

    def _pad(
        self, columns: dict[str, list[Any]], length: int | None, multiple_of: int | None, *, tensors: bool
    ) -> dict[str, Any]:
        values = {
            "token_type_ids": self.config.pad_token_type_id, "attention_mask": 0, "special_tokens_mask": 1,
            "offsets_mapping": (0, 0), "tokens": self.pad_token or "", "word_ids": None,
        }  # fmt: skip
        multiple_of = multiple_of or self.config.pad_to_multiple_of
        pad: dict[str, Any] = {"length": length, "multiple_of": multiple_of, "side": self.config.padding_side}
        result: dict[str, Any] = {}
        for name, rows in columns.items():
            value = values.get(name, self.padding_id)
            if name == "length":
                result[name] = rows
            elif tensors and name not in NOT_TENSORS:
                result[name], _ = pad_tensor(rows, cast(int, value), **pad)
            else:
                result[name] = pad_rows(rows, value, **pad)
        return result

    # -- tokens to text ---------------------------------------------------------------------------------------------

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> list[str]:
        """Turns ids into text.

        Args:
            ids: Ids [L], or rows of ids [N, L]; lists, arrays or tensors.
            skip_special_tokens: Whether special tokens are left out.

        Returns:
            One text per row.
        """
        rows = plain_rows(ids)
        if rows and not has_rows(rows):
            rows = [rows]
        with guarded("these ids cannot be decoded", "Give integers that are not negative, without -100 in labels."):
            return self.backend.decode_batch(rows, skip_special_tokens=skip_special_tokens)

    @property
    def is_byte_level(self) -> bool:
        """Whether tokens are spelled in stand-ins for bytes."""
        decoder = self.backend.decoder
        return decoder is not None and b'"ByteLevel"' in decoder.__getstate__()
