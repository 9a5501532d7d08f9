"""Tokenizers in the files of transformers: read from any of their layouts, and written as they read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, models, processors
from tokenizers import Tokenizer as RustTokenizer

from ..errors import OptionError, TokenizerError
from ..registry import preprocessors_registry
from ..text_files import read_json
from .chat_files import templates_for_transformers, templates_from_transformers
from .rust_backend import guarded, read_backend
from .sentencepiece_model import Kind, Piece, build_backend, read_sentencepiece
from .templates import roberta_template, template
from .tokenizer import Tokenizer
from .vocabulary import ROLES
from .vocabulary_files import byte_level_bpe_backend, wordpiece_backend

__all__ = ["tokenizer_from_transformers", "transformers_tokenizer_files"]

Find = Callable[[str], Path | None]
NO_LIMIT = 10**6
"""transformers writes 10^30 for a tokenizer without a limit; no model reads a million tokens at once."""
BERT_TOKENS = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
ROBERTA_TOKENS = {
    "bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "pad": "<pad>", "cls": "<s>", "mask": "<mask>",
}  # fmt: skip
GPT2_TOKENS = {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>"}
FAIRSEQ = {
    "XLMRoberta": ("<s>", "<pad>", "</s>", "<unk>"),
    "Camembert": ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"),
}
"""How the vocabularies of fairseq begin, where the `.model` has <unk>, <s>, </s>; by the tokenizer's class."""
PLAIN = ("T5", "MT5", "UMT5", "Llama", "PreTrained", "")
"""The classes that take the ids of a `.model` as they are, and change no text before."""
OWN_CLASSES = {"whisper_bpe_tokenizer": "WhisperTokenizer"}
"""The classes that other parts of transformers need, by our names; the rest gets the one that takes any file."""
OWN_SETTINGS = ("language", "task", "predict_timestamps")
"""Settings that only some kinds have, with the same names here."""


def tokenizer_from_transformers(find: Find, kind: str | None = None) -> Tokenizer | None:
    """Reads the tokenizer of a transformers checkpoint.

    Args:
        find: Gives the path of a file of the checkpoint, or None; `Source.find` for instance.
        kind: The tokenizer's class without its endings ("T5"), which tells what a `.model` lacks; default: what
            tokenizer_config.json or config.json says.

    Returns:
        The tokenizer from tokenizer.json, or vocab.txt (BERT's rules), or vocab.json and merges.txt (byte-level BPE),
        or a `.model` of sentencepiece; None when there is none of them.

    Raises:
        TokenizerError, ConfigError: With the path of the broken file.
    """
    settings = _read(find, "tokenizer_config.json")
    tokens = _special_tokens(settings, _read(find, "special_tokens_map.json"))
    if path := find("tokenizer.json"):
        backend, defaults = read_backend(path), {}
    elif path := find("vocab.txt"):
        unknown = _token(settings.get("unk_token") or "[UNK]").content
        backend, defaults = wordpiece_backend(path, settings, unknown), BERT_TOKENS
    elif (path := find("vocab.json")) and (merges := find("merges.txt")):
        backend = byte_level_bpe_backend(path, merges, settings)
        defaults = ROBERTA_TOKENS if {"<s>", "</s>"} <= backend.get_vocab().keys() else GPT2_TOKENS
    elif path := find("sentencepiece.bpe.model"):
        backend, defaults = _fairseq(path, kind or _class(find, settings) or "XLMRoberta")
    elif path := find("spiece.model") or find("tokenizer.model"):
        backend, defaults = _plain(path, kind or _class(find, settings), settings)
    else:
        return None
    for role, token in defaults.items():
        if role not in tokens and backend.token_to_id(token) is not None:
            tokens[role] = AddedToken(token, special=True, lstrip=token == "<mask>")
    listed = settings.get("additional_special_tokens") or settings.get("extra_special_tokens") or []
    additional = [_token(token) for token in (listed.values() if isinstance(listed, Mapping) else listed)]

    with guarded(f"{str(path)!r}: its special tokens cannot be added", "Check tokenizer_config.json beside it."):
        _add_tokens(backend, settings, _read(find, "added_tokens.json"), [*tokens.values(), *additional])
    if defaults and backend.post_processor is None:
        _set_post_processor(backend, {role: token.content for role, token in tokens.items()}, settings)

    entry = preprocessors_registry[_kind(backend, _class(find, settings))]
    length = settings.get("model_max_length")
    values: dict[str, Any] = {
        **{f"{role}_token": tokens[role].content if role in tokens else None for role in ROLES},
        "additional_special_tokens": list(dict.fromkeys(token.content for token in additional)) or None,
        "max_length": int(length) if isinstance(length, int | float) and 0 < length <= NO_LIMIT else None,
        "vocab_size": max(backend.get_vocab_size(), 1),
        **{key: settings[key] for key in ("padding_side", "truncation_side") if key in settings},
        **{key: settings[key] for key in OWN_SETTINGS if key in settings and key in entry.config_class.fields()},
        **templates_from_transformers(find, settings),
    }  # fmt: skip
    tokenizer: Tokenizer = entry.module_class(entry.config_class.from_dict(values), backend=backend)
    return tokenizer


def transformers_tokenizer_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """Writes a tokenizer so that transformers' AutoTokenizer reads it and gives equal ids.

    Returns:
        Contents by file name: tokenizer.json and tokenizer_config.json.

    Raises:
        OptionError: When the ids come from more than tokenizer.json.
    """
    if not tokenizer.self_contained:
        raise OptionError(
            f"transformers would give other ids than this {type(tokenizer).__name__}, which does more than its "
            "tokenizer.json says. Use save() for our own layout."
        )
    settings: dict[str, Any] = {
        # The one class of transformers that takes any tokenizer.json as it is.
        "tokenizer_class": OWN_CLASSES.get(tokenizer.config.name, "PreTrainedTokenizerFast"),
        "model_max_length": tokenizer.config.max_length or 10**30,
        "padding_side": tokenizer.config.padding_side,
        "truncation_side": tokenizer.config.truncation_side,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    if any(tokenizer.encode_texts([("a", "a")])[0].type_ids):
        settings["model_input_names"].insert(1, "token_type_ids")
    settings |= {f"{role}_token": token for role in ROLES if (token := tokenizer.role(role)) is not None}
    settings |= {key: value for key in OWN_SETTINGS if (value := tokenizer.config.get(key)) is not None}
    own_roles = [tokenizer.role(role) for role in tokenizer.roles if role not in ROLES]
    listed = dict.fromkeys([*(tokenizer.config.additional_special_tokens or ()), *own_roles])
    if additional := [token for token in listed if token in tokenizer.special_tokens]:
        settings["additional_special_tokens"] = additional
    settings |= templates_for_transformers(tokenizer.config)
    return {
        "tokenizer.json": tokenizer.backend.to_str(pretty=True).encode(),
        "tokenizer_config.json": json.dumps(settings, indent=2, ensure_ascii=False).encode(),
    }


# -- the layouts ----------------------------------------------------------------------------------------------------


def _class(find: Find, settings: Mapping[str, Any]) -> str:
    """The tokenizer's class without its endings, or else that of the model; "" when nothing says."""
    named = str(settings.get("tokenizer_class") or "").removesuffix("Fast").removesuffix("Tokenizer")
    if named in ("", "PreTrained"):
        kinds = {"xlm-roberta": "XLMRoberta", "camembert": "Camembert", "t5": "T5", "mt5": "MT5", "llama": "Llama"}
        kind = str(_read(find, "config.json").get("model_type") or "")
        return kinds.get(kind, kind)
    return named


def _fairseq(path: Path, kind: str) -> tuple[RustTokenizer, dict[str, str]]:
    """XLM-R and CamemBERT: the pieces follow special tokens of fairseq's own, and <mask> is the last."""
    if kind not in FAIRSEQ:
        raise _unknown(path, kind)
    model = read_sentencepiece(path)
    if [piece.text for piece in model.pieces[:3]] != ["<unk>", "<s>", "</s>"]:
        raise TokenizerError(f"{str(path)!r} does not begin with <unk>, <s>, </s>. Download it again.")
    kinds = {"<unk>": Kind.UNKNOWN}
    first = [Piece(text, 0.0, kinds.get(text, Kind.CONTROL)) for text in FAIRSEQ[kind]]
    pieces = [*first, *model.pieces[3:], Piece("<mask>", 0.0, Kind.CONTROL)]
    backend = build_backend(replace(model, pieces=pieces, unk_id=FAIRSEQ[kind].index("<unk>")), path)
    return backend, ROBERTA_TOKENS


def _plain(path: Path, kind: str, settings: Mapping[str, Any]) -> tuple[RustTokenizer, dict[str, str]]:
    """T5 and Llama. T5 (and whoever does not say) ends a text with eos; Llama begins it with bos unless told not to."""
    if kind not in PLAIN:
        raise _unknown(path, kind)
    model = read_sentencepiece(path)
    backend = build_backend(model, path)
    ids = {"unk": model.unk_id, "bos": model.bos_id, "eos": model.eos_id, "pad": model.pad_id}
    tokens = {role: model.pieces[index].text for role, index in ids.items() if index >= 0}
    if kind.endswith("T5"):
        # <extra_id_0> has the last id.
        count = settings.get("extra_ids", 100)
        if not isinstance(count, int) or count not in range(10_000):
            raise TokenizerError(
                f"{str(path)!r}: extra_ids={count!r:.100} makes no tokens. Correct tokenizer_config.json."
            )
        extra = [f"<extra_id_{i}>" for i in reversed(range(count))]
        backend.add_special_tokens([AddedToken(token, normalized=False) for token in extra])
    wanted = {
        "bos": settings.get("add_bos_token", kind == "Llama"),
        "eos": settings.get("add_eos_token", kind != "Llama"),
    }
    ends = [(tokens[role], ids[role]) if wanted[role] and role in tokens else None for role in ("bos", "eos")]
    backend.post_processor = template(*ends)
    return backend, tokens


def _unknown(path: Path, kind: str) -> TokenizerError:
    rest = "has rules of its own. Save a tokenizer.json beside it with transformers."
    return TokenizerError(f"{str(path)!r} belongs to the tokenizer {kind!r:.100}, which {rest}")


def _set_post_processor(backend: RustTokenizer, tokens: Mapping[str, str], settings: Mapping[str, Any]) -> None:
    """Sets what a tokenizer.json would have said: BERT's or RoBERTa's template, or none for GPT-2."""
    ends = [(tokens[role], backend.token_to_id(tokens[role]) or 0) for role in ("cls", "sep") if role in tokens]
    wordpiece = isinstance(backend.model, models.WordPiece)
    if len(ends) == 2:
        first, last = ends
        prefix_space = settings.get("add_prefix_space", False)
        backend.post_processor = (
            template(first, last, second_type=1)
            if wordpiece
            else roberta_template(first, last, add_prefix_space=prefix_space)
        )
    elif not wordpiece:
        backend.post_processor = processors.ByteLevel(trim_offsets=False)


def _kind(backend: RustTokenizer, named: str) -> str:
    """The registry name of the kind that has this model; `named` is the class in transformers, if one is told."""
    if named in ("Whisper", "whisper") or (not named and backend.token_to_id("<|startoftranscript|>") is not None):
        return "whisper_bpe_tokenizer"
    names = {"WordPiece": "wordpiece_tokenizer", "WordLevel": "wordpiece_tokenizer", "BPE": "bpe_tokenizer"}
    kind = names.get(type(backend.model).__name__, "sentencepiece_unigram_tokenizer")
    parts = [part.__getstate__() for part in (backend.pre_tokenizer, backend.decoder) if part is not None]
    if kind == "bpe_tokenizer" and not any(b'"ByteLevel"' in part for part in parts):
        return "sentencepiece_bpe_tokenizer"
    return kind


# -- special tokens -------------------------------------------------------------------------------------------------


def _read(find: Find, name: str) -> dict[str, Any]:
    path = find(name)
    return {} if path is None else read_json(path)


def _special_tokens(*sources: Mapping[str, Any]) -> dict[str, AddedToken]:
    """The special tokens by role; the first source that names one wins."""
    tokens = {}
    for role in ROLES:
        values = [value for source in sources if (value := source.get(f"{role}_token")) is not None]
        if values:
            tokens[role] = _token(values[0])
    return tokens


def _token(value: Any) -> AddedToken:
    """A token as transformers writes it: its text, or a mapping with its text and how it takes the spaces around."""
    if isinstance(value, str):
        return AddedToken(value, special=True, normalized=False)
    if isinstance(value, Mapping) and isinstance(value.get("content"), str):
        flags = {name: value.get(name) is True for name in ("lstrip", "rstrip", "single_word", "normalized")}
        return AddedToken(value["content"], special=True, **flags)
    raise TokenizerError(f"the special token {value!r:.200} is neither a text nor a mapping. Correct the JSON file.")


def _add_tokens(
    backend: RustTokenizer, settings: Mapping[str, Any], added: Mapping[str, Any], special: list[AddedToken]
) -> None:
    """Adds the tokens that the vocabulary lacks, in the order of their ids, and marks the special ones."""
    numbered = {token: index for token, index in added.items() if isinstance(index, int)}
    details = {}
    for index, value in settings.get("added_tokens_decoder", {}).items():
        details[value["content"]] = value
        numbered[value["content"]] = int(index)
    present = {token.content for token in backend.get_added_tokens_decoder().values()}
    names = {token.content for token in special}
    for token in sorted(numbered, key=lambda name: numbered[name]):
        if token in present:
            continue
        if details.get(token, {}).get("special", token in names):
            backend.add_special_tokens([_token(details.get(token, token))])
        else:
            backend.add_tokens([_plain_token(details.get(token, {}), token)])
        present.add(token)
        if backend.token_to_id(token) != numbered[token]:
            raise TokenizerError(
                f"the added token {token!r} has the id {numbered[token]}, but its place in the vocabulary is "
                f"{backend.token_to_id(token)}. Download the tokenizer again."
            )
    backend.add_special_tokens([token for token in special if token.content not in present])


def _plain_token(details: Mapping[str, Any], token: str) -> AddedToken:
    flags = {name: details.get(name) is True for name in ("lstrip", "rstrip", "single_word")}
    return AddedToken(token, special=False, normalized=details.get("normalized", True) is True, **flags)
