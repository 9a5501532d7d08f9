"""Tokenizers in the files of FlagAI and ModelCenter: read from whichever there are, and written back.

Neither system says in its files which tokenizer they belong to: the family tells, and where it does not, the files do.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

from tokenizers import AddedToken, decoders, models
from tokenizers import Tokenizer as RustTokenizer

from ..errors import OptionError, did_you_mean
from .glm_tokenizer import GLMTokenizer
from .jieba_tokenizer_kinds import (
    JiebaLongestMatchConfig,
    JiebaLongestMatchTokenizer,
    JiebaUnigramConfig,
    JiebaUnigramTokenizer,
    JiebaWordPieceConfig,
    JiebaWordPieceTokenizer,
)
from .sentencepiece_model import backend_from_sentencepiece, read_model_file
from .tokenizer import Tokenizer, TokenizerConfig
from .transformers_tokenizer import Find, tokenizer_from_transformers, transformers_tokenizer_files
from .vocabulary import ROLES
from .vocabulary_files import (
    byte_level_bpe_backend,
    longest_match_backend,
    merges_bytes,
    vocabulary_json_bytes,
    vocabulary_text_bytes,
    wordpiece_backend,
)

__all__ = ["flagai_tokenizer", "flagai_tokenizer_files", "modelcenter_tokenizer", "modelcenter_tokenizer_files"]

FLAGAI_FAMILIES = ("bert", "roberta", "gpt2", "t5", "glm", "cpm1")
MODELCENTER_FAMILIES = ("bert", "roberta", "gpt2", "gptj", "t5", "glm", "cpm1", "cpm2")
SENTENCEPIECE = ("spiece.model", "cog-pretrain.model", "vocab.model", "chinese_vocab.model")
GPTJ_TOKENS = [f"<|extratoken_{index}|>" for index in range(1, 144)]
# Tokens that belong to a kind, and are in no file of these systems.
IMPLIED = re.compile(r"<extra_id_\d+>|\[unused_\d+\]|<\|extratoken_\d+\|>")


# -- reading --------------------------------------------------------------------------------------------------------


def flagai_tokenizer(
    find: Find, family: str, *, hidden_size: int | None = None, layout: str | None = None, joiner: str = " "
) -> Tokenizer | None:
    """Reads the tokenizer of a FlagAI checkpoint, with the ids its model was trained on.

    Args:
        find: Gives the path of a file of the checkpoint, or None; `Source.find` for instance.
        family: "bert", "roberta", "gpt2", "t5", "glm" or "cpm1". A GPT-2 of sentencepiece files is CPM-1, one of a
            vocab.txt has BERT's tokenizer, and a T5 of a vocab.txt is T5-Pegasus.
        hidden_size: The model's; it tells GLM-10b-ch (4096), whose [gMASK] has another id, from GLM-large-ch.
        layout: Name of GLM's command ids in `glm_layouts.LAYOUTS`; default: as published. With one, other families get
            command tokens as well, as in FlagAI's AutoLoader.
        joiner: What stands between the words of CPM-1; "" gives FlagAI's ids, which are not the published ones.

    Returns:
        The tokenizer; None when there are no files of one.

    Raises:
        OptionError: For an unknown family or layout.
        TokenizerError, ConfigError: With the path of the broken file.
    """
    _check_family(family, FLAGAI_FAMILIES, "FlagAI")
    sentencepiece, vocabulary = _first(find, SENTENCEPIECE), find("vocab.txt")
    if layout is not None or family == "glm":
        return _glm(find, layout, hidden_size)
    if sentencepiece and family in ("gpt2", "cpm1"):
        return _cpm1(sentencepiece, joiner)
    if vocabulary and family == "t5":
        return _t5_pegasus(vocabulary)
    return _plain(find, family)


def modelcenter_tokenizer(find: Find, family: str) -> Tokenizer | None:
    """Reads the tokenizer of a ModelCenter checkpoint.

    Args:
        find: Gives the path of a file of the checkpoint, or None; `Source.find` for instance.
        family: "bert", "roberta", "gpt2", "gptj", "t5", "glm", "cpm1" or "cpm2".

    Returns:
        The tokenizer; None when there are no files of one.

    Raises:
        OptionError: For an unknown family.
        TokenizerError, ConfigError: With the path of the broken file.
    """
    _check_family(family, MODELCENTER_FAMILIES, "ModelCenter")
    if family == "glm":
        return _glm(find, "modelcenter_glm_10b_ch", None)
    if family in ("cpm1", "cpm2"):
        path = find("vocab.txt")
        return None if path is None else _longest_match(path)
    tokenizer = _plain(find, family)
    if tokenizer is not None and family == "gptj":
        tokenizer.add_tokens([AddedToken(token) for token in GPTJ_TOKENS])
    return tokenizer


def _check_family(family: str, families: tuple[str, ...], system: str) -> None:
    if family not in families:
        raise OptionError(f"{system} has no tokenizer for the family {family!r:.100}.{did_you_mean(family, families)}")


def _first(find: Find, names: tuple[str, ...]) -> Path | None:
    return next((path for path in map(find, names) if path is not None), None)


def _plain(find: Find, family: str) -> Tokenizer | None:
    """The tokenizers that transformers has as well."""
    tokenizer = tokenizer_from_transformers(find, kind="T5" if family == "t5" else None)
    if tokenizer is not None and "keeps_sentencepiece" in tokenizer.config.fields():
        path = find("spiece.model")
        tokenizer.sentencepiece = None if path is None else read_model_file(path)
    return tokenizer


def _glm(find: Find, layout: str | None, hidden_size: int | None) -> GLMTokenizer | None:
    """A vocabulary of any kind with command tokens, by default those of the GLM model that has this kind."""
    if path := _first(find, SENTENCEPIECE):
        chinese = "glm_10b_ch" if hidden_size == 4096 else "glm_large_ch"
        return GLMTokenizer.from_layout(layout or chinese, backend_from_sentencepiece(path), read_model_file(path))
    if (path := find("vocab.json")) and (merges := find("merges.txt")):
        return GLMTokenizer.from_layout(layout or "glm_10b_en", byte_level_bpe_backend(path, merges, {}))
    if path := find("vocab.txt"):
        return GLMTokenizer.from_layout(layout or "glm_large_en", wordpiece_backend(path, {}))
    return None


def _cpm1(path: Path, joiner: str) -> JiebaUnigramTokenizer:
    config = JiebaUnigramConfig().update(joiner=joiner)
    backend = backend_from_sentencepiece(path)
    steps = {"<unk>": "⁇", "▁": "", config.space_token: " ", config.line_token: "\n"}
    backend.decoder = decoders.Sequence([decoders.Replace(*step) for step in steps.items()] + [decoders.Fuse()])
    tokenizer = JiebaUnigramTokenizer(config.update(vocab_size=backend.get_vocab_size()), backend=backend)
    tokenizer.sentencepiece = read_model_file(path)
    return tokenizer


def _longest_match(path: Path) -> JiebaLongestMatchTokenizer:
    backend = longest_match_backend(path)
    config = JiebaLongestMatchConfig(vocab_size=backend.get_vocab_size())
    # ModelCenter's own default for CPM-2 is a token that its vocabulary lacks, and fails.
    if backend.token_to_id(config.space_token) is None and backend.token_to_id(config.line_token) is None:
        config.update(space_token="▂", line_token="▃")
    _mark_special(backend, config, "eod")
    spelled = {config.space_token: " ", config.line_token: "\n"}
    backend.decoder = decoders.Sequence([decoders.Fuse(), *(decoders.Replace(*step) for step in spelled.items())])
    return JiebaLongestMatchTokenizer(config, backend=backend)


def _t5_pegasus(path: Path) -> JiebaWordPieceTokenizer:
    backend = wordpiece_backend(path, {})
    config = JiebaWordPieceConfig(vocab_size=backend.get_vocab_size())
    _mark_special(backend, config)
    return JiebaWordPieceTokenizer(config, backend=backend)


def _mark_special(backend: RustTokenizer, config: TokenizerConfig, *roles: str) -> None:
    """Tells a backend which of its tokens are special, so that decoding can leave them out."""
    named = [config[f"{role}_token"] for role in (*ROLES, *roles)]
    backend.add_special_tokens(
        [AddedToken(token, normalized=False) for token in named if token and backend.token_to_id(token) is not None]
    )


# -- writing --------------------------------------------------------------------------------------------------------


def flagai_tokenizer_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """Writes a tokenizer in the files that FlagAI reads.

    Returns:
        Contents by file name: spiece.model (with vocab.json for CPM-1), or vocab.json and merges.txt, or vocab.txt.

    Raises:
        OptionError: When the files cannot hold this tokenizer.
    """
    _refuse_added_tokens(tokenizer, "FlagAI")
    if getattr(tokenizer.backend.normalizer, "lowercase", True) is False:
        raise OptionError(
            "FlagAI reads texts in lower case, and this tokenizer does not. Use save() for our own layout."
        )
    return _vocabulary_files(tokenizer, "spiece.model") or _refuse_kind("FlagAI")


def modelcenter_tokenizer_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """Writes a tokenizer in the files that ModelCenter reads.

    Returns:
        Contents by file name: vocab.model for GLM, vocab.txt for CPM-1 and CPM-2. For the others, which ModelCenter
        takes from transformers, tokenizer.json and tokenizer_config.json, and the older files where they can be made.

    Raises:
        OptionError: When the files cannot hold this tokenizer.
    """
    if isinstance(tokenizer, GLMTokenizer | JiebaLongestMatchTokenizer):
        _refuse_added_tokens(tokenizer, "ModelCenter")
        return _vocabulary_files(tokenizer, "vocab.model") or _refuse_kind("ModelCenter")
    return _vocabulary_files(tokenizer, "spiece.model") | transformers_tokenizer_files(tokenizer)


def _vocabulary_files(tokenizer: Tokenizer, sentencepiece_name: str) -> dict[str, bytes]:
    """The files of a vocabulary; none for one in the manner of sentencepiece that was not made of its file."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    if tokenizer.sentencepiece is not None:
        # Only CPM-1's system reads a second list of the pieces; it ends in a newline.
        pieces = isinstance(tokenizer, JiebaUnigramTokenizer)
        listed = {"vocab.json": vocabulary_json_bytes(vocabulary) + b"\n"} if pieces else {}
        return {sentencepiece_name: tokenizer.sentencepiece, **listed}
    if isinstance(tokenizer.model, models.WordPiece):
        return {"vocab.txt": vocabulary_text_bytes(vocabulary)}
    if tokenizer.is_byte_level:
        return {"vocab.json": vocabulary_json_bytes(vocabulary), "merges.txt": merges_bytes(tokenizer.backend)}
    return {}


def _refuse_kind(system: str) -> NoReturn:
    raise OptionError(
        f"{system} reads this kind of tokenizer from a sentencepiece file, and this one was not made of one. "
        "Load it from the original checkpoint, or use save() for our own layout."
    )


def _refuse_added_tokens(tokenizer: Tokenizer, system: str) -> None:
    own = tokenizer.config.get("command_ids", {})
    added = [token for token in tokenizer.get_added_vocab() if token not in own and not IMPLIED.fullmatch(token)]
    if added:
        raise OptionError(
            f"{system}'s files have no place for the added token {added[0]!r:.100}. Use save() for our own layout."
        )
