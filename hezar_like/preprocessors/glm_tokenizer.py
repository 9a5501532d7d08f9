"""GLM's tokenizer: a vocabulary of another model, and command tokens with the ids of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tokenizers import AddedToken, Regex, decoders, models
from tokenizers import Tokenizer as RustTokenizer

from ..errors import OptionError, TokenizerError, did_you_mean
from ..fields import TokenId
from ..registry import register_preprocessor
from .encoded import Encoding, TextInput
from .glm_layouts import LAYOUTS, TOKENS, CommandIds
from .templates import template
from .tokenizer import Tokenizer, TokenizerConfig
from .vocabulary import ROLES

__all__ = ["GLMTokenizer", "GLMTokenizerConfig"]


@dataclass
class GLMTokenizerConfig(TokenizerConfig):
    """Settings of a GLM tokenizer.

    Attributes:
        sop_token: What begins the piece that fills a blank.
        eop_token: What ends it.
        smask_token: The blank for a sentence.
        gmask_token: The blank at the end, which a generated text fills.
        command_ids: The ids of the special tokens; two tokens may share one.
        keeps_sentencepiece: Whether the `.model` file is kept beside tokenizer.json, for systems that read no other.
    """

    name = "glm_tokenizer"
    eos_token: str | None = "<|endoftext|>"
    unk_token: str | None = "[UNK]"
    sep_token: str | None = "[SEP]"
    pad_token: str | None = "<|endoftext|>"
    cls_token: str | None = "[CLS]"
    mask_token: str | None = "[MASK]"
    sop_token: str | None = "<|startofpiece|>"
    eop_token: str | None = "<|endofpiece|>"
    smask_token: str | None = "[sMASK]"
    gmask_token: str | None = "[gMASK]"
    command_ids: dict[str, TokenId] = field(default_factory=dict)
    keeps_sentencepiece: bool = False


@register_preprocessor("glm_tokenizer", GLMTokenizerConfig)
class GLMTokenizer(Tokenizer):
    """Tokenizer of the GLM models, Chinese and English; `from_layout` makes one with the ids of a checkpoint.

    Special tokens that a text spells are those tokens; the masks take the spaces before them. A text of nothing but
    spaces has no tokens.

    Raises:
        TokenizerError: When a token of `command_ids` is not in the vocabulary.
    """

    config: GLMTokenizerConfig
    roles = (*ROLES, "sop", "eop", "smask", "gmask")

    def __init__(self, config: GLMTokenizerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        shared: dict[int, int] = {}
        for token, token_id in self.config.command_ids.items():
            given = self.backend.token_to_id(token)
            if given is None:
                raise TokenizerError(
                    f"command_ids: {token!r:.100} is not in the vocabulary. Remove it, or load another tokenizer.json."
                )
            if given != token_id:
                shared[given] = token_id
        self.shared_ids = shared

    @classmethod
    def from_layout(cls, layout: str, backend: RustTokenizer, sentencepiece: bytes | None = None) -> Self:
        """Gives a vocabulary the command tokens of a checkpoint.

        A text becomes `[CLS] text eos`, a pair `[CLS] text eos text eos`.

        Args:
            layout: Name of the ids in `glm_layouts.LAYOUTS`.
            backend: The vocabulary and its rules, without command tokens; it is changed.
            sentencepiece: Content of the `.model` file that the backend was made of, to keep for exports.

        Raises:
            OptionError: For an unknown layout.
            TokenizerError: When the layout does not fit the size of the vocabulary.
        """
        if layout not in LAYOUTS:
            raise OptionError(f"there is no layout {layout!r:.100} of command tokens.{did_you_mean(layout, LAYOUTS)}")
        commands = LAYOUTS[layout]
        padding = {"pad": "[PAD]", "eos": "[PAD]"} if isinstance(backend.model, models.WordPiece) else {}
        tokens = {**TOKENS, **padding}
        ids = {tokens[role]: token_id for role, token_id in commands.by_role().items()}
        _add_command_tokens(backend, ids, layout)

        last = commands.eos if commands.end is None else commands.end
        named = [(str(backend.id_to_token(token_id)), token_id) for token_id in (commands.cls, last)]
        backend.post_processor = template(*named, second_type=0 if commands.end is None else 1)
        backend.decoder = _decoder(backend, commands, [token for token in ids if token not in padding.values()])
        names = {f"{role}_token": token if token in ids else None for role, token in tokens.items()}
        config = GLMTokenizerConfig(command_ids=ids, vocab_size=backend.get_vocab_size()).update(names)
        tokenizer = cls(config, backend=backend)
        tokenizer.sentencepiece = sentencepiece
        return tokenizer

    def run_backend(self, batch: list[TextInput], words: bool, add_special_tokens: bool) -> Sequence[Encoding]:
        inputs = batch if words else [_without_blank(item) for item in batch]
        return super().run_backend(inputs, words, add_special_tokens)

    # fmt: off
    @property
    def sop_token_id(self) -> int | None: return self.role_id("sop")
    @property
    def eop_token_id(self) -> int | None: return self.role_id("eop")
    @property
    def smask_token_id(self) -> int | None: return self.role_id("smask")
    @property
    def gmask_token_id(self) -> int | None: return self.role_id("gmask")
    # fmt: on


def _add_command_tokens(backend: RustTokenizer, ids: dict[str, int], layout: str) -> None:
    """Adds the tokens in the order of their ids; those that share another's id come last, with ids of no meaning."""
    size = backend.get_vocab_size()
    found = {token: token_id for token in ids if (token_id := backend.token_to_id(token)) is not None}
    owners = {token_id: token for token, token_id in ids.items()}
    owners |= {ids[token]: token for token in found}
    first = min(set(owners) - {ids[token] for token in found}, default=size)
    for token, token_id in {**found, owners.get(first, ""): size}.items():
        if ids.get(token, size) != token_id:
            raise TokenizerError(
                f"the layout {layout!r} does not fit a vocabulary of {size} tokens: {token!r} would have the id "
                f"{token_id} and not {ids[token]}. Choose another layout."
            )
    new = [owners.get(token_id, f"[unused_{token_id}]") for token_id in range(size, max(owners) + 1)]
    others = [token for token in ids if token not in owners.values()]
    masks = {TOKENS[role] for role in ("mask", "smask", "gmask")}
    backend.add_special_tokens(
        [AddedToken(token, lstrip=token in masks, normalized=False) for token in (*found, *new, *others)]
    )


def _decoder(backend: RustTokenizer, commands: CommandIds, tokens: list[str]) -> Any:
    if isinstance(backend.model, models.WordPiece):
        return decoders.Fuse() if commands.decoding == "joined" else decoders.WordPiece("##", cleanup=False)
    if b'"ByteLevel"' in backend.decoder.__getstate__():
        return backend.decoder
    # As sentencepiece: it spells what is unknown with spaces, and each text begins without the space of its first word.
    after = "|".join(re.escape(token) for token in tokens)
    steps = [
        decoders.Replace("<unk>", " ⁇ "),
        decoders.Replace("▁", " "),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
        decoders.Replace(Regex(f"(?<={after}) ?"), " " if commands.decoding == "spaced" else ""),
    ]
    trim = [decoders.Replace(Regex(r"\A +| +\z"), "")] if commands.decoding == "spaced" else []
    return decoders.Sequence([*steps, *trim])


def _without_blank(item: TextInput) -> TextInput:
    if isinstance(item, str):
        return item if item.strip() else ""
    first, second = (text if text.strip() else "" for text in item)
    return first, second
