"""Training each kind of tokenizer, and saving it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizer_samples import FIXTURES, SENTENCES

from hezar_like.configs import PreprocessorConfig
from hezar_like.errors import ConfigError, PreprocessorError, TokenizerError
from hezar_like.preprocessors import BPETokenizer, Preprocessor, Tokenizer, TokenizerConfig, WordPieceConfig
from hezar_like.registry import preprocessors_registry

NAMES = ("wordpiece_tokenizer", "bpe_tokenizer", "sentencepiece_bpe_tokenizer", "sentencepiece_unigram_tokenizer")
TEXTS = [sentence for sentence in SENTENCES if sentence.isascii()]


def untrained(name: str, **fields: object) -> Tokenizer:
    entry = preprocessors_registry[name]
    return entry.module_class(entry.config_class(vocab_size=400, show_progress=False, **fields))


@pytest.mark.parametrize("name", NAMES)
def test_train_save_load_round_trip(name: str, tmp_path: Path) -> None:
    tokenizer = untrained(name, max_length=64, mask_token=None)
    tokenizer.train_from_iterator(TEXTS)
    tokenizer.save(tmp_path)
    again = Preprocessor.load(tmp_path)
    assert type(again) is type(tokenizer) and again.config.name == name
    assert again.config.to_dict() == tokenizer.config.to_dict() | {"vocab_size": len(tokenizer)}
    assert again.config.mask_token is None and again.mask_token_id is None
    assert again.vocab == tokenizer.vocab and again.special_ids == tokenizer.special_ids
    for text in TEXTS[:4]:
        rows = again([text, (text, "a cat")], return_token_type_ids=True)
        assert rows == tokenizer([text, (text, "a cat")], return_token_type_ids=True)
        assert again.unk_token_id not in rows["token_ids"][0]
        decoded = again.decode(rows["token_ids"][0])[0]
        assert decoded.replace(" ", "") == text.replace(" ", "")
        assert name == "wordpiece_tokenizer" or decoded == text
        assert again.num_special_tokens_to_add(False) == (1 if name.startswith("sentencepiece") else 2)


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_come_first_and_are_in_the_template(name: str) -> None:
    tokenizer = untrained(name, additional_special_tokens=["<tool>"])
    tokenizer.train_from_iterator(iter(TEXTS), vocab_size=120)
    assert len(tokenizer) <= 300 and tokenizer.config.vocab_size == 120
    assert sorted(tokenizer.special_ids) == list(range(len(tokenizer.special_tokens)))
    assert "<tool>" in tokenizer.special_tokens
    (encoded,) = tokenizer.encode_texts([("a", "b")])
    specials = [token for token, special in zip(encoded.tokens(), encoded.special, strict=True) if special]
    assert specials == {
        "wordpiece_tokenizer": ["[CLS]", "[SEP]", "[SEP]"],
        "bpe_tokenizer": ["<s>", "</s>", "</s>", "</s>"],
    }.get(name, ["</s>", "</s>"])
    assert max(encoded.type_ids) == (1 if name == "wordpiece_tokenizer" else 0)


@pytest.mark.parametrize("name", NAMES)
def test_other_special_tokens_can_be_chosen(name: str) -> None:
    tokenizer = untrained(name, unk_token="<what>", pad_token="<nothing>")
    tokenizer.train_from_iterator(TEXTS)
    assert tokenizer.unk_token_id is not None and tokenizer.pad_token == "<nothing>"
    ids = tokenizer("字", add_special_tokens=False)["token_ids"]
    assert name == "bpe_tokenizer" or tokenizer.unk_token_id in ids


def test_training_from_files(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(TEXTS))
    tokenizer = untrained("bpe_tokenizer")
    tokenizer.train(path)
    assert tokenizer.decode(tokenizer("lazy fox")["token_ids"]) == ["lazy fox"]
    with pytest.raises(TokenizerError, match="training the tokenizer failed"):
        tokenizer.train(tmp_path / "absent.txt")


def test_untrained_wordpiece_says_so() -> None:
    with pytest.raises(TokenizerError, match="UNK"):
        untrained("wordpiece_tokenizer")("a")


def test_the_base_class_needs_a_file() -> None:
    with pytest.raises(PreprocessorError, match="tokenizer_file"):
        Tokenizer(TokenizerConfig())


# -- config files ---------------------------------------------------------------------------------------------------

LEGACY = {
    "name": "wordpiece_tokenizer", "config_type": "PREPROCESSOR", "pretrained_path": "checkpoints/5", "max_length": 512,
    "truncation_strategy": "longest_first", "truncation_direction": "left", "padding_strategy": "longest",
    "padding_direction": "left", "pad_token_id": 0, "special_tokens": ["[UNK]"], "model": None, "vocab_size": 394,
}  # fmt: skip


def test_legacy_keys_are_read() -> None:
    config = TokenizerConfig.from_saved(LEGACY)
    assert type(config) is WordPieceConfig
    assert (config.max_length, config.truncation_side, config.padding_side) == (512, "left", "left")
    assert not {"special_tokens", "model", "padding_strategy"} & set(config.to_dict())


def test_deprecated_reads_as_unset() -> None:
    values = {"name": "bpe_tokenizer", "max_length": "deprecated", "padding": "deprecated", "stride": "deprecated"}
    config = TokenizerConfig.from_saved(values | {"pad_to_multiple_of": "deprecated"})
    assert (config.max_length, config.stride, config.pad_to_multiple_of) == (None, 0, 0)


def test_wrong_keys_and_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'pad_token'"):
        PreprocessorConfig.from_saved({"name": "bpe_tokenizer", "pad_tokn": "x"})
    with pytest.raises(ConfigError, match=r"padding_side.*'up'"):
        WordPieceConfig(padding_side="up")
    with pytest.raises(ConfigError, match="max_length"):
        WordPieceConfig(max_length=0)


def test_overrides_do_not_reach_the_config_given() -> None:
    tokenizer = Preprocessor.load(FIXTURES / "tokenizer_bpe", max_length=7)
    assert isinstance(tokenizer, BPETokenizer) and tokenizer.config.max_length == 7
    other = BPETokenizer(tokenizer.config, backend=tokenizer.backend, max_length=9)
    assert (tokenizer.config.max_length, other.config.max_length) == (7, 9)
