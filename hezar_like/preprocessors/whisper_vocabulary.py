"""Whisper's languages and special tokens, and OpenAI's files of its vocabulary."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from ..errors import OptionError, TokenizerError, did_you_mean
from .rust_backend import guarded
from .vocabulary import ROLES, Vocabulary

__all__ = [
    "END", "LANGUAGES", "START", "TIMESTAMPS", "WhisperVocabulary", "language_code", "merges_of",
    "read_tiktoken", "special_tokens",
]  # fmt: skip

# fmt: off
LANGUAGES = {
    "en": "english", "zh": "chinese", "de": "german", "es": "spanish", "ru": "russian", "ko": "korean", "fr": "french",
    "ja": "japanese", "pt": "portuguese", "tr": "turkish", "pl": "polish", "ca": "catalan", "nl": "dutch",
    "ar": "arabic", "sv": "swedish", "it": "italian", "id": "indonesian", "hi": "hindi", "fi": "finnish",
    "vi": "vietnamese", "he": "hebrew", "uk": "ukrainian", "el": "greek", "ms": "malay", "cs": "czech",
    "ro": "romanian", "da": "danish", "hu": "hungarian", "ta": "tamil", "no": "norwegian", "th": "thai", "ur": "urdu",
    "hr": "croatian", "bg": "bulgarian", "lt": "lithuanian", "la": "latin", "mi": "maori", "ml": "malayalam",
    "cy": "welsh", "sk": "slovak", "te": "telugu", "fa": "persian", "lv": "latvian", "bn": "bengali", "sr": "serbian",
    "az": "azerbaijani", "sl": "slovenian", "kn": "kannada", "et": "estonian", "mk": "macedonian", "br": "breton",
    "eu": "basque", "is": "icelandic", "hy": "armenian", "ne": "nepali", "mn": "mongolian", "bs": "bosnian",
    "kk": "kazakh", "sq": "albanian", "sw": "swahili", "gl": "galician", "mr": "marathi", "pa": "punjabi",
    "si": "sinhala", "km": "khmer", "sn": "shona", "yo": "yoruba", "so": "somali", "af": "afrikaans", "oc": "occitan",
    "ka": "georgian", "be": "belarusian", "tg": "tajik", "sd": "sindhi", "gu": "gujarati", "am": "amharic",
    "yi": "yiddish", "lo": "lao", "uz": "uzbek", "fo": "faroese", "ht": "haitian creole", "ps": "pashto",
    "tk": "turkmen", "nn": "nynorsk", "mt": "maltese", "sa": "sanskrit", "lb": "luxembourgish", "my": "myanmar",
    "bo": "tibetan", "tl": "tagalog", "mg": "malagasy", "as": "assamese", "tt": "tatar", "haw": "hawaiian",
    "ln": "lingala", "ha": "hausa", "ba": "bashkir", "jw": "javanese", "su": "sundanese", "yue": "cantonese",
}
"""The languages by their codes, in the order of their tokens; the last is only in the vocabulary of large-v3."""
OTHER_NAMES = {
    "burmese": "my", "valencian": "ca", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb", "pushto": "ps",
    "panjabi": "pa", "moldavian": "ro", "moldovan": "ro", "sinhalese": "si", "castilian": "es", "mandarin": "zh",
    "farsi": "fa",
}
# fmt: on
CODES = {**OTHER_NAMES, **{name: code for code, name in LANGUAGES.items()}}
TIMESTAMPS = [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
"""The tokens of the times from 0 to 30 seconds, in steps of 20 ms."""
MAX_TOKENS = 1_000_000
END, START = "<|endoftext|>", "<|startoftranscript|>"
GPT2_END = 50256
"""The id of <|endoftext|> in GPT-2's vocabulary, which the English models have."""


def language_code(language: str) -> str:
    """The code of a language that is given by its code, English name or token: "fa", "Persian", "<|fa|>".

    Raises:
        OptionError: When Whisper has no such language.
    """
    name = language.strip().lower().removeprefix("<|").removesuffix("|>") if isinstance(language, str) else ""
    if name in LANGUAGES:
        return name
    if name not in CODES:
        near = did_you_mean(name, CODES if len(name) > 3 else LANGUAGES)
        raise OptionError(f"Whisper has no language {language!r:.100}.{near}")
    return CODES[name]


class WhisperVocabulary(Vocabulary):
    """The part of Whisper's tokenizer that knows the ids of special tokens.

    Raises:
        TokenizerError: When one is asked for that the vocabulary lacks.
    """

    roles = (*ROLES, "translate", "transcribe", "notimestamps")

    def _id(self, *tokens: str | None) -> int:
        """The id of the first of these tokens that the vocabulary has."""
        found = next((i for i in map(self.token_to_id, tokens) if i is not None), None)
        if found is None:
            raise TokenizerError(f"the vocabulary has no token {tokens[0]!r}. Load another tokenizer.json.")
        return found

    # fmt: off
    @property
    def start_id(self) -> int:
        """The id of <|startoftranscript|>, with which the decoder begins."""
        return self._id(START)
    @property
    def end_id(self) -> int:
        """The id of <|endoftext|>; text has smaller ids, special tokens and times larger ones."""
        return self._id(END)
    @property
    def translate_id(self) -> int:
        """The id of <|translate|>."""
        return self._id(self.config.translate_token)
    @property
    def transcribe_id(self) -> int:
        """The id of <|transcribe|>."""
        return self._id(self.config.transcribe_token)
    @property
    def start_of_lm_id(self) -> int:
        """The id of <|startoflm|>."""
        return self._id("<|startoflm|>")
    @property
    def start_of_previous_id(self) -> int:
        """The id of <|startofprev|>, after which comes the text before."""
        return self._id("<|startofprev|>")
    @property
    def no_speech_id(self) -> int:
        """The id of <|nospeech|>, in older vocabularies <|nocaptions|>."""
        return self._id("<|nospeech|>", "<|nocaptions|>")
    @property
    def no_timestamps_id(self) -> int:
        """The id of <|notimestamps|>."""
        return self._id(self.config.notimestamps_token)
    @property
    def timestamp_begin(self) -> int:
        """The id of <|0.00|>; each larger id is 20 ms later."""
        return self.no_timestamps_id + 1
    # fmt: on

    @property
    def is_multilingual(self) -> bool:
        """Whether the model knows languages and tasks."""
        known = self.config.is_multilingual
        return self.end_id != GPT2_END if known is None else known

    @property
    def language_ids(self) -> dict[str, int]:
        """The tokens of the languages by code; empty for an English model, whose tokens have no meaning."""
        ids = {code: self.token_to_id(f"<|{code}|>") for code in LANGUAGES if self.is_multilingual}
        return {code: i for code, i in ids.items() if i is not None}

    def language_id(self, language: str) -> int:
        """The token of a language, which is given by code or English name.

        Raises:
            OptionError: When there is no such language, or the model does not know it.
        """
        code, known = language_code(language), self.language_ids
        if code not in known:
            others = did_you_mean(code, known) if known else " It is a model of English."
            raise OptionError(f"this Whisper model does not know the language {language!r:.100}.{others}")
        return known[code]

    def language_of(self, token_id: int) -> str | None:
        """The code of the language whose token this is, or None."""
        return next((code for code, i in self.language_ids.items() if i == token_id), None)


def special_tokens(languages: int) -> list[str]:
    """The special tokens in OpenAI's order, without the timestamps that follow; `languages` is how many it has."""
    codes = [f"<|{code}|>" for code in list(LANGUAGES)[:languages]]
    rest = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
    return [END, START, *codes, *(f"<|{name}|>" for name in rest)]


# -- OpenAI's files -------------------------------------------------------------------------------------------------


def read_tiktoken(path: str | Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Reads a `.tiktoken` file: per line a token, in base64, and its rank.

    Returns:
        The vocabulary of a byte-level BPE, and its merges, which the ranks imply.

    Raises:
        TokenizerError: With the path.
    """
    with guarded(f"{str(path)!r} is not a vocabulary of tiktoken", "Download it again."):
        ranks: dict[bytes, int] = {}
        with open(path, "rb") as file:
            for line in file:
                token, rank = line.split()
                # One token of the multilingual vocabulary is empty, and written as a lone "=".
                ranks[b"" if token == b"=" else base64.b64decode(token, validate=True)] = int(rank)
                if len(ranks) > MAX_TOKENS:
                    raise ValueError(f"more than {MAX_TOKENS} tokens")
        if sorted(ranks.values()) != list(range(len(ranks))) or not {bytes([i]) for i in range(256)} <= ranks.keys():
            raise ValueError("a rank or a byte is missing, or there twice")
        letters = _letters()
        tokens = sorted(ranks, key=ranks.__getitem__)
        vocabulary = {"".join(map(letters.__getitem__, token)): rank for rank, token in enumerate(tokens)}
        return vocabulary, merges_of(vocabulary)


def merges_of(vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """The merges of a BPE, of its tokens and their ranks alone: two tokens are merged where both together are a token.

    Raises:
        ValueError: When no merges lead to one of the tokens.
    """
    longer = (token for token in sorted(vocabulary, key=vocabulary.__getitem__) if len(token) > 1)
    return [_halves(token, vocabulary) for token in longer]


def _letters() -> list[str]:
    """GPT-2's stand-ins for the bytes: itself for what can be seen, and letters from U+0100 on for the rest."""
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in seen else chr(next(hidden)) for byte in range(256)]


def _halves(token: str, ranks: Mapping[str, int]) -> tuple[str, str]:
    """The two tokens that are merged last to make one: what its letters become without it."""
    parts = list(token)
    while len(parts) > 2:
        pairs = [ranks.get(parts[i] + parts[i + 1], MAX_TOKENS) for i in range(len(parts) - 1)]
        rank = min(pairs)
        if rank >= ranks[token]:
            raise ValueError(f"no merges lead to the token {token!r:.100}")
        place = pairs.index(rank)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]
