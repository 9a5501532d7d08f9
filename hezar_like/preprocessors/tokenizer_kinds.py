"""The named kinds of tokenizer. They differ in how an untrained one is built and trained; a saved one is its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from ..registry import register_preprocessor
from .templates import Named, roberta_template, template
from .tokenizer import Tokenizer, TokenizerConfig

__all__ = [
    "BPEConfig",
    "BPETokenizer",
    "SentencePieceBPEConfig",
    "SentencePieceBPETokenizer",
    "SentencePieceUnigramConfig",
    "SentencePieceUnigramTokenizer",
    "WordPieceConfig",
    "WordPieceTokenizer",
]


@dataclass
class WordPieceConfig(TokenizerConfig):
    """Settings of a WordPiece tokenizer, as BERT has.

    Attributes:
        wordpieces_prefix: What marks a token that continues a word.
    """

    name = "wordpiece_tokenizer"
    unk_token: str | None = "[UNK]"
    sep_token: str | None = "[SEP]"
    pad_token: str | None = "[PAD]"
    cls_token: str | None = "[CLS]"
    mask_token: str | None = "[MASK]"
    wordpieces_prefix: str = "##"


@dataclass
class BPEConfig(TokenizerConfig):
    """Settings of a byte-level BPE tokenizer, as GPT-2 and RoBERTa have.

    Attributes:
        dropout: Probability of leaving out a merge, for training with varied tokens; None for never.
        continuing_subword_prefix: What marks a token that continues a word.
        end_of_word_suffix: What marks a token that ends a word.
        fuse_unk: Whether unknown tokens in a row become one.
    """

    name = "bpe_tokenizer"
    bos_token: str | None = "<s>"
    eos_token: str | None = "</s>"
    unk_token: str | None = "<unk>"
    sep_token: str | None = "<sep>"
    pad_token: str | None = "<pad>"
    cls_token: str | None = "<cls>"
    mask_token: str | None = "<mask>"
    dropout: float | None = None
    continuing_subword_prefix: str = ""
    end_of_word_suffix: str = ""
    fuse_unk: bool = False


@dataclass
class SentencePieceBPEConfig(BPEConfig):
    """Settings of a BPE tokenizer in the manner of SentencePiece.

    Attributes:
        replacement: The character that stands for a space inside tokens.
        add_prefix_space: Whether a space is put before the first word.
        keeps_sentencepiece: Whether a `.model` file is kept beside tokenizer.json, for systems that read no other.
    """

    name = "sentencepiece_bpe_tokenizer"
    replacement: str = "▁"
    add_prefix_space: bool = True
    keeps_sentencepiece: bool = False


@dataclass
class SentencePieceUnigramConfig(SentencePieceBPEConfig):
    """Settings of a unigram tokenizer in the manner of SentencePiece, as T5 and XLM-R have."""

    name = "sentencepiece_unigram_tokenizer"
    vocab_size: int = 8000


class _Kind(Tokenizer):
    """What the kinds share: which special tokens come first in a trained vocabulary."""

    first_roles: ClassVar[tuple[str, ...]] = ()
    """Roles in the order of their ids, as the models that use this kind have them by default."""

    def training_options(self) -> dict[str, Any]:
        """The options that all trainers of the Rust library take."""
        named = [getattr(self.config, f"{role}_token") for role in self.first_roles]
        special = [token for token in (*named, *(self.config.additional_special_tokens or ())) if token is not None]
        return {
            "vocab_size": self.config.vocab_size,
            "show_progress": self.config.show_progress,
            "special_tokens": list(dict.fromkeys(special)),
            "initial_alphabet": self.config.initial_alphabet,
        }

    def named(self, role: str) -> Named | None:
        """The special token of a role and its id, when the vocabulary has it."""
        token, token_id = self.role(role), self.role_id(role)
        return None if token is None or token_id is None else (token, token_id)


@register_preprocessor("wordpiece_tokenizer", WordPieceConfig)
class WordPieceTokenizer(_Kind):
    """WordPiece tokenizer, as BERT has."""

    config: WordPieceConfig
    first_roles = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")

    def build(self) -> RustTokenizer:
        backend = RustTokenizer(models.WordPiece(unk_token=self.config.unk_token or "[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece(prefix=self.config.wordpieces_prefix)
        return backend

    def trainer(self) -> Any:
        return trainers.WordPieceTrainer(
            **self.training_options(),
            min_frequency=self.config.min_frequency,
            limit_alphabet=self.config.limit_alphabet,
            continuing_subword_prefix=self.config.wordpieces_prefix,
        )

    def finish_training(self) -> None:
        self.backend.post_processor = template(self.named("cls"), self.named("sep"), second_type=1)


@register_preprocessor("bpe_tokenizer", BPEConfig)
class BPETokenizer(_Kind):
    """Byte-level BPE tokenizer, as GPT-2 and RoBERTa have."""

    config: BPEConfig
    first_roles = ("bos", "pad", "eos", "unk", "mask", "sep", "cls")

    def build(self) -> RustTokenizer:
        backend = RustTokenizer(_bpe(self.config))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        backend.post_processor = processors.ByteLevel(trim_offsets=True)
        return backend

    def trainer(self) -> Any:
        # Every byte is in the alphabet, so that no text is unknown.
        options = self.training_options() | {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
        return _bpe_trainer(self.config, options)

    def finish_training(self) -> None:
        first, last = self.named("bos"), self.named("eos")
        if first and last:
            self.backend.post_processor = roberta_template(first, last)


class _SentencePiece(_Kind):
    """What the kinds in the manner of SentencePiece share: spaces are part of tokens, and a text ends with eos."""

    config: SentencePieceBPEConfig
    first_roles = ("pad", "eos", "unk", "bos", "mask", "sep", "cls")

    def build(self) -> RustTokenizer:
        metaspace: dict[str, Any] = {
            "replacement": self.config.replacement,
            "prepend_scheme": "always" if self.config.add_prefix_space else "never",
        }
        backend = RustTokenizer(self.untrained_model())
        backend.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
        backend.pre_tokenizer = pre_tokenizers.Metaspace(**metaspace)
        backend.decoder = decoders.Metaspace(**metaspace)
        return backend

    def untrained_model(self) -> Any:
        raise NotImplementedError

    def finish_training(self) -> None:
        self.backend.post_processor = template(None, self.named("eos"))


@register_preprocessor("sentencepiece_bpe_tokenizer", SentencePieceBPEConfig)
class SentencePieceBPETokenizer(_SentencePiece):
    """BPE tokenizer in the manner of SentencePiece."""

    def untrained_model(self) -> Any:
        return _bpe(self.config)

    def trainer(self) -> Any:
        options = self.training_options() | {"limit_alphabet": self.config.limit_alphabet}
        return _bpe_trainer(self.config, options)


@register_preprocessor("sentencepiece_unigram_tokenizer", SentencePieceUnigramConfig)
class SentencePieceUnigramTokenizer(_SentencePiece):
    """Unigram tokenizer in the manner of SentencePiece, as T5 and XLM-R have."""

    config: SentencePieceUnigramConfig

    def untrained_model(self) -> Any:
        return models.Unigram()

    def trainer(self) -> Any:
        return trainers.UnigramTrainer(**self.training_options(), unk_token=self.config.unk_token)


def _bpe(config: BPEConfig) -> Any:
    given = {"dropout": config.dropout, "unk_token": config.unk_token, **_marks(config)}
    return models.BPE(fuse_unk=config.fuse_unk, **{key: value for key, value in given.items() if value is not None})


def _bpe_trainer(config: BPEConfig, options: dict[str, Any]) -> Any:
    return trainers.BpeTrainer(**options, min_frequency=config.min_frequency, **_marks(config))


def _marks(config: BPEConfig) -> dict[str, Any]:
    names = ("continuing_subword_prefix", "end_of_word_suffix")
    return {name: getattr(config, name) for name in names if getattr(config, name)}
