"""Whisper's tokenizer: byte-level BPE, and special tokens for languages, tasks and times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as RustTokenizer

from ..errors import ConfigError, OptionError, TokenizerError
from ..registry import register_preprocessor
from .padding import has_rows, plain_rows
from .rust_backend import guarded
from .tokenizer_kinds import BPEConfig, BPETokenizer
from .whisper_vocabulary import (
    END,
    LANGUAGES,
    START,
    TIMESTAMPS,
    WhisperVocabulary,
    language_code,
    merges_of,
    read_tiktoken,
    special_tokens,
)
from .whisper_words import MARKS, NOTES, WITHOUT_SPACES, join_to_words, split_to_characters

__all__ = ["WhisperBPEConfig", "WhisperBPETokenizer"]


@dataclass
class WhisperBPEConfig(BPEConfig):
    """Settings of Whisper's tokenizer.

    Attributes:
        translate_token: What asks for a translation into English.
        transcribe_token: What asks for the text as it is spoken.
        notimestamps_token: What asks for a text without times; the times are the tokens after it.
        add_prefix_space: Whether a space is put before the first word of a text, for a tokenizer that is trained.
        add_bos_token: Never; what begins a text is the prompt.
        language: The language in the prompt, by code or English name; None for none.
        task: The task in the prompt; None for none.
        predict_timestamps: Whether the prompt asks for times.
        is_multilingual: Whether the model knows languages and tasks; None tells it from the vocabulary: those of the
            English models are GPT-2's.
    """

    name = "whisper_bpe_tokenizer"
    aliases = {"model_max_length": "max_length"}
    bos_token: str | None = END
    eos_token: str | None = END
    unk_token: str | None = END
    sep_token: str | None = None
    pad_token: str | None = END
    cls_token: str | None = None
    mask_token: str | None = None
    translate_token: str | None = "<|translate|>"
    transcribe_token: str | None = "<|transcribe|>"
    notimestamps_token: str | None = "<|notimestamps|>"
    add_prefix_space: bool = False
    add_bos_token: Literal[False] = False
    language: str | None = None
    task: Literal["transcribe", "translate"] | None = None
    predict_timestamps: bool = False
    is_multilingual: bool | None = None

    def check(self) -> None:
        super().check()
        if self.language is not None:
            try:
                language_code(self.language)
            except OptionError as error:
                raise ConfigError(f"language: {error}") from None


@register_preprocessor("whisper_bpe_tokenizer", WhisperBPEConfig)
class WhisperBPETokenizer(WhisperVocabulary, BPETokenizer):
    """Tokenizer of the Whisper models.

    A call puts the prompt before a text and <|endoftext|> after it, as the decoder is trained; `prompt_ids` gives the
    prompt alone. The tokens of the times from <|0.00|> to <|30.00|> follow <|notimestamps|>; a vocabulary that lacks
    them gets them.

    Raises:
        TokenizerError: When the tokens of the times have other ids.
    """

    config: WhisperBPEConfig

    def __init__(self, config: WhisperBPEConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        if self.token_to_id(START) is not None:
            self._complete()

    @classmethod
    def from_tiktoken(cls, path: str | Path, languages: int = 99, **kwargs: Any) -> Self:
        """Reads a vocabulary of OpenAI's: `multilingual.tiktoken`, or `gpt2.tiktoken` of the English models.

        Args:
            path: The file.
            languages: How many languages the model has: 99, or 100 for large-v3 and what was made of it.
            **kwargs: Fields of the config.

        Raises:
            TokenizerError: With the path.
        """
        return cls._from_bpe(*read_tiktoken(path), languages, WhisperBPEConfig(**kwargs))

    @classmethod
    def from_tokens(cls, tokens: Sequence[str], languages: int = 99, **kwargs: Any) -> Self:
        """Makes a tokenizer of the bare list of its tokens, whose order tells how texts are cut.

        Args:
            tokens: In the order of their ids, in GPT-2's letters for bytes, up to the first special token.
            languages: See `from_tiktoken`.
            **kwargs: Fields of the config.

        Raises:
            TokenizerError: When these are no tokens of Whisper.
        """
        with guarded("these are no tokens of Whisper", "Put the model's tokenizer.json beside them."):
            vocabulary = {token: index for index, token in enumerate(tokens)}
            if len(vocabulary) < len(tokens) or sum(len(token) == 1 for token in vocabulary) != 256:
                raise ValueError("a byte is missing, or a token there twice")
            merges = merges_of(vocabulary)
        return cls._from_bpe(vocabulary, merges, languages, WhisperBPEConfig(**kwargs))

    @classmethod
    def _from_bpe(
        cls, vocabulary: dict[str, int], merges: list[tuple[str, str]], languages: int, config: WhisperBPEConfig
    ) -> Self:
        backend = _backend(models.BPE(vocabulary, merges, fuse_unk=False), config)
        _add_special_tokens(backend, languages)
        return cls(config, backend=backend)

    # -- building and training --------------------------------------------------------------------------------------

    def build(self) -> RustTokenizer:
        return _backend(super().build().model, self.config)

    def training_options(self) -> dict[str, Any]:
        # The special tokens come last, as in the published vocabularies.
        own = len(special_tokens(len(LANGUAGES))) + len(TIMESTAMPS)
        return super().training_options() | {"vocab_size": self.config.vocab_size - own, "special_tokens": []}

    def finish_training(self) -> None:
        _add_special_tokens(self.backend, len(LANGUAGES))
        self._complete()

    def _complete(self) -> None:
        """Adds what a vocabulary may lack, and puts the prompt of the config before texts."""
        begin = self.timestamp_begin
        if self.token_to_id(TIMESTAMPS[0]) is None:
            self.backend.add_tokens([AddedToken(token, normalized=False) for token in TIMESTAMPS])
            self.config.vocab_size = len(self)
        for step, token in ((0, TIMESTAMPS[0]), (len(TIMESTAMPS) - 1, TIMESTAMPS[-1])):
            if self.token_to_id(token) != begin + step:
                raise TokenizerError(
                    f"the token {token!r} has the id {self.token_to_id(token)}, but {begin + step} is its place after "
                    f"{self.config.notimestamps_token!r}. Load another tokenizer.json."
                )
        if self.config.additional_special_tokens is None:
            added = sorted(self.backend.get_added_tokens_decoder().items())
            self.config.additional_special_tokens = [token.content for _, token in added if token.special]
        self.set_prefix_tokens()

    def set_prefix_tokens(
        self,
        language: str | None = None,
        task: str | None = None,
        predict_timestamps: bool | None = None,
    ) -> None:
        """Changes the prompt that a call puts before texts, and the config. Not while other threads tokenize.

        Args:
            language: Code or English name; default: it stays as it is.
            task: "transcribe" or "translate"; default: it stays as it is.
            predict_timestamps: Whether times are asked for; default: it stays as it is.
        """
        given = {"language": language, "task": task, "predict_timestamps": predict_timestamps}
        self.config.update({name: value for name, value in given.items() if value is not None})
        ids = self.prompt_ids()
        prompt = [str(self.id_to_token(i)) for i in ids]
        self.backend.post_processor = processors.TemplateProcessing(
            single=[*prompt, "$A:0", END],
            pair=[*prompt, "$A:0", "$B:1", f"{END}:1"],
            special_tokens=[*zip(prompt, ids, strict=True), (END, self.end_id)],
        )

    # -- special tokens ---------------------------------------------------------------------------------------------

    def prompt_ids(
        self, language: str | None = None, task: str | None = None, timestamps: bool | None = None
    ) -> list[int]:
        """What the decoder begins with: <|startoftranscript|>, language, task, and <|notimestamps|>.

        An English model has neither language nor task there.

        Args:
            language: Code or English name; default: the config's; without one there is none in the prompt.
            task: "transcribe" or "translate"; likewise.
            timestamps: Whether times are asked for; default: the config's `predict_timestamps`.

        Raises:
            OptionError: When the model does not know the language or the task.
        """
        language = self.config.language if language is None else language
        task = self.config.task if task is None else task
        if task not in (None, "transcribe", "translate"):
            raise OptionError(f"task={task!r:.100} is unknown. Give 'transcribe' or 'translate'.")
        prompt = [self.start_id]
        if self.is_multilingual:
            prompt += [] if language is None else [self.language_id(language)]
            prompt += [] if task is None else [self.translate_id if task == "translate" else self.transcribe_id]
        elif task == "translate" or (language is not None and language_code(language) != "en"):
            unknown = "translates nothing" if task == "translate" else f"does not know the language {language!r:.100}"
            raise OptionError(f"this Whisper model {unknown}. It is a model of English.")
        wanted = self.config.predict_timestamps if timestamps is None else timestamps
        return prompt if wanted else [*prompt, self.no_timestamps_id]

    @cached_property
    def non_speech_tokens(self) -> list[int]:
        """Ids of what is written and not spoken, in order: brackets, notes of music, marks of speakers and the like.

        It is what OpenAI's decoding suppresses for `suppress_tokens="-1"`.
        """
        marks, whole = ([space + text for text in texts for space in ("", " ")] for texts in (MARKS, NOTES))
        first = [" -", " '", *whole]  # a word may have these inside, but does not begin with them
        rows = self.encode_texts([*marks, *first], add_special_tokens=False)
        single = [row.ids[0] for row in rows[: len(marks)] if len(row) == 1]
        return sorted({*single, *(row.ids[0] for row in rows[len(marks) :])})

    # -- tokens to text ---------------------------------------------------------------------------------------------

    def decode(self, ids: Any, skip_special_tokens: bool = True, decode_with_timestamps: bool = False) -> list[str]:
        """Turns ids into text.

        Args:
            ids: Ids [L], or rows of ids [N, L]; lists, arrays or tensors.
            skip_special_tokens: Whether special tokens are left out, and what comes after <|startofprev|>, the text
                before, up to the prompt.
            decode_with_timestamps: Whether the tokens of times are written, as <|1.08|>, or left out.

        Returns:
            One text per row.
        """
        rows = plain_rows(ids)
        rows = rows if has_rows(rows) or not rows else [rows]
        if skip_special_tokens:
            rows = [self._without_previous(row) for row in rows]
        if not decode_with_timestamps:
            begin = self.timestamp_begin
            rows = [[i for i in row if i < begin] for row in rows]
        return super().decode(rows, skip_special_tokens) if rows else []

    def _without_previous(self, row: list[int]) -> list[int]:
        """Leaves out the text before this one that the decoder was told."""
        if row[:1] != [self.start_of_previous_id]:
            return row
        return row[row.index(self.start_id) :] if self.start_id in row else []

    def split_to_words(self, ids: Sequence[int], language: str | None = None) -> tuple[list[str], list[list[int]]]:
        """Splits the tokens of a text into words, by OpenAI's rules for the times of words.

        Words begin at spaces and at marks of punctuation; where a language has no spaces, at each character that is
        complete. Special tokens and times are words of their own.

        Args:
            ids: Ids of a text.
            language: Code or English name; default: the config's, or else one with spaces.

        Returns:
            The words with the spaces before them, and the ids of each.
        """
        language = self.config.language if language is None else language
        characters = split_to_characters(ids, self._spell)
        if language is not None and language_code(language) in WITHOUT_SPACES:
            return characters
        return join_to_words(*characters, self.end_id)

    def _spell(self, ids: Sequence[int]) -> str:
        return self.backend.decode(list(ids), skip_special_tokens=False)


def _backend(model: Any, config: WhisperBPEConfig) -> RustTokenizer:
    """Byte-level BPE with GPT-2's rules."""
    backend = RustTokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=config.add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    return backend


def _add_special_tokens(backend: RustTokenizer, languages: int) -> None:
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in special_tokens(languages)])
