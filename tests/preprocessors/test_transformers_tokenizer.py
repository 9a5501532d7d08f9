"""Our tokenizers give the ids of transformers' own, through files in both directions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizer_samples import SENTENCES
from transformers import (
    AutoTokenizer,
    BertTokenizerFast,
    GPT2TokenizerFast,
    RobertaTokenizerFast,
    XLMRobertaTokenizerFast,
)

from hezar_like.errors import TokenizerError
from hezar_like.preprocessors import Preprocessor, Tokenizer, tokenizer_from_transformers, transformers_tokenizer_files
from hezar_like.registry import preprocessors_registry

TEXTS = [
    *SENTENCES[:5],
    "",
    "  Two  spaces, ünïcödé & UPPER\tcase 漢字 🙂  ",
    "a [MASK] and <mask> inside</s> the text",
    "never-seen wordsxyz",
]
PAIRS = list(zip(TEXTS, reversed(TEXTS), strict=True))
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def trained(name: str, special: list[str]) -> Tokenizer:
    entry = preprocessors_registry[name]
    names = dict.fromkeys(("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
    fields: dict[str, Any] = {f"{role}_token": None for role in names} | {"unk_token": special[-1]}
    config = entry.config_class(**fields, additional_special_tokens=special, vocab_size=400, show_progress=False)
    tokenizer = entry.module_class(config)
    tokenizer.train_from_iterator(SENTENCES)
    return tokenizer


def write_vocab_txt(folder: Path) -> None:
    learned = trained("wordpiece_tokenizer", ["[UNK]"]).vocab
    tokens = BERT + sorted(set(learned) - set(BERT))
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")


def write_bpe(folder: Path, special: list[str]) -> None:
    trained("bpe_tokenizer", special).model.save(str(folder))


def settings(folder: Path, **values: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(values))


def bert(folder: Path) -> Any:
    write_vocab_txt(folder)
    settings(folder, tokenizer_class="BertTokenizer", do_lower_case=True, model_max_length=512)
    return BertTokenizerFast.from_pretrained(folder)


def bert_cased(folder: Path) -> Any:
    write_vocab_txt(folder)
    options = {"do_lower_case": False, "strip_accents": False, "tokenize_chinese_chars": False}
    settings(folder, tokenizer_class="BertTokenizer", **options, additional_special_tokens=["[MASK]"])
    return BertTokenizerFast.from_pretrained(folder)


def roberta(folder: Path) -> Any:
    write_bpe(folder, ["<s>", "<pad>", "</s>", "<mask>", "<unk>"])
    settings(folder, tokenizer_class="RobertaTokenizer", model_max_length=10**30)
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "single_word": False, "normalized": False}
    (folder / "special_tokens_map.json").write_text(json.dumps({"mask_token": mask, "bos_token": "<s>"}))
    return RobertaTokenizerFast.from_pretrained(folder)


def roberta_with_prefix_space(folder: Path) -> Any:
    write_bpe(folder, ["<s>", "<pad>", "</s>", "<mask>", "<unk>"])
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "single_word": False, "normalized": False}
    options = {"add_prefix_space": True, "padding_side": "left", "truncation_side": "left"}
    settings(folder, tokenizer_class="RobertaTokenizer", mask_token=mask | {"__type": "AddedToken"}, **options)
    return RobertaTokenizerFast.from_pretrained(folder)


def gpt2(folder: Path) -> Any:
    write_bpe(folder, ["<|endoftext|>"])
    settings(folder, tokenizer_class="GPT2Tokenizer", model_max_length=1024)
    return GPT2TokenizerFast.from_pretrained(folder)


def xlm_roberta(folder: Path) -> Any:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    model = json.loads(trained("sentencepiece_unigram_tokenizer", special).backend.to_str())["model"]
    theirs = XLMRobertaTokenizerFast(vocab=[tuple(item) for item in model["vocab"]])
    theirs.save_pretrained(folder)
    return XLMRobertaTokenizerFast.from_pretrained(folder)


MAKERS = (bert, bert_cased, roberta, roberta_with_prefix_space, gpt2, xlm_roberta)
KINDS = {
    bert: "wordpiece_tokenizer",
    bert_cased: "wordpiece_tokenizer",
    xlm_roberta: "sentencepiece_unigram_tokenizer",
}


def finder(folder: Path) -> Callable[[str], Path | None]:
    return lambda name: folder / name if (folder / name).is_file() else None


def check_equal(ours: Tokenizer, theirs: Any) -> None:
    for options in ({}, {"add_special_tokens": False}):
        assert ours(TEXTS, **options)["token_ids"] == theirs(TEXTS, **options)["input_ids"]
    for length in (5, 9, 16):
        for strategy in (True, "only_first"):
            mine = ours(TEXTS, truncation=strategy, max_length=length)["token_ids"]
            assert mine == theirs(TEXTS, truncation=strategy, max_length=length)["input_ids"]
        mine = ours(PAIRS, truncation=True, max_length=length, return_offsets_mapping=True)
        reference = theirs(PAIRS, truncation=True, max_length=length, return_offsets_mapping=True)
        assert mine["token_ids"] == reference["input_ids"]
        # The Rust library trims spaces from offsets after it cuts, so a cut on the left changes the first one there.
        if theirs.truncation_side == "right":
            assert mine["offsets_mapping"] == reference["offset_mapping"]
    mine = ours(PAIRS, return_offsets_mapping=True)["offsets_mapping"]
    assert mine == theirs(PAIRS, return_offsets_mapping=True)["offset_mapping"]
    if theirs.truncation_side == "right":  # with "left" the Rust library gives windows from the end; ours read forward
        windows = {"truncation": True, "max_length": 9, "stride": 3, "return_overflowing_tokens": True}
        mine, reference = ours(TEXTS, **windows), theirs(TEXTS, **windows)
        assert mine["token_ids"] == reference["input_ids"]
        assert mine["overflow_to_sample_mapping"] == list(reference["overflow_to_sample_mapping"])
    pairs = ours(PAIRS, return_token_type_ids=True)
    assert pairs["token_ids"] == theirs(PAIRS)["input_ids"]
    assert pairs["token_type_ids"] == theirs(PAIRS, return_token_type_ids=True)["token_type_ids"]
    words = [text.split() for text in SENTENCES[:5]]
    mine = ours(words, is_split_into_words=True, return_word_ids=True)
    reference = theirs(words, is_split_into_words=True)
    assert mine["token_ids"] == reference["input_ids"]
    assert mine["word_ids"] == [reference.word_ids(i) for i in range(len(words))]


@pytest.mark.parametrize("make", MAKERS)
def test_ids_equal_through_every_layout(make: Callable[[Path], Any], tmp_path: Path) -> None:
    (folder := tmp_path / "theirs").mkdir()
    theirs = make(folder)
    from_parts = tokenizer_from_transformers(finder(folder))
    assert from_parts is not None and from_parts.config.name == KINDS.get(make, "bpe_tokenizer")
    assert from_parts.config.padding_side == theirs.padding_side
    assert from_parts.config.truncation_side == theirs.truncation_side
    check_equal(from_parts, theirs)

    theirs.save_pretrained(tmp_path / "saved")  # with a tokenizer.json
    from_json = tokenizer_from_transformers(finder(tmp_path / "saved"))
    assert from_json is not None and type(from_json) is type(from_parts)
    check_equal(from_json, theirs)
    for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        assert from_json.role(role) == from_parts.role(role) == getattr(theirs, f"{role}_token")
    assert from_parts.config.max_length == from_json.config.max_length
    assert from_parts.config.max_length == (theirs.model_max_length if theirs.model_max_length < 10**6 else None)

    from_parts.save(tmp_path / "native")
    native = Preprocessor.load(tmp_path / "native")
    check_equal(native, theirs)

    (back := tmp_path / "back").mkdir()
    for name, content in transformers_tokenizer_files(native).items():
        (back / name).write_bytes(content)
    again = AutoTokenizer.from_pretrained(back)
    check_equal(native, again)
    assert again.pad_token_id == theirs.pad_token_id and again.mask_token == theirs.mask_token
    assert again.model_max_length > 10**6 or again.model_max_length == theirs.model_max_length


def test_added_tokens_of_old_checkpoints(tmp_path: Path) -> None:
    theirs = gpt2(tmp_path)
    size = len(theirs)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<b>": size + 1, "<a>": size}))
    settings(tmp_path, pad_token="<a>", additional_special_tokens=["<b>"])
    ours = tokenizer_from_transformers(finder(tmp_path))
    assert ours is not None and ours.pad_token_id == size and ours.token_to_id("<b>") == size + 1
    assert ours.special_tokens == ["<|endoftext|>", "<a>", "<b>"]
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<a>": size + 7}))
    with pytest.raises(TokenizerError, match="'<a>' has the id"):
        tokenizer_from_transformers(finder(tmp_path))


def test_the_mask_of_roberta_takes_the_space_before_it(tmp_path: Path) -> None:
    roberta(tmp_path)
    (tmp_path / "special_tokens_map.json").unlink()
    ours = tokenizer_from_transformers(finder(tmp_path))
    assert ours is not None and ours.mask_token == "<mask>"
    ids = ours(["a <mask>", "a"], add_special_tokens=False)["token_ids"]
    assert ids[0] == [*ids[1], ours.mask_token_id]


def test_no_tokenizer_is_none(tmp_path: Path) -> None:
    assert tokenizer_from_transformers(finder(tmp_path)) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{}"),
        ("merges.txt", "zz yy\n"),
        ("merges.txt", "a\n"),
        ("tokenizer_config.json", '{"eos_token": 5}'),
    ],
)
def test_broken_files_are_named(name: str, content: str, tmp_path: Path) -> None:
    gpt2(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(TokenizerError, match="5" if name == "tokenizer_config.json" else name):
        tokenizer_from_transformers(finder(tmp_path))
