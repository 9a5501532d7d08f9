"""The tokenizer: cutting, padding, threads, bad files and bad texts."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_samples import FIXTURES, SENTENCES

from hezar_like.errors import InputError, OptionError, TokenizerError
from hezar_like.preprocessors import Preprocessor, Tokenizer, pad_rows

LOADED = {kind: Preprocessor.load(FIXTURES / f"tokenizer_{kind}") for kind in ("bpe", "wordpiece", "unigram")}
kinds = st.sampled_from(sorted(LOADED))
texts = st.text(
    alphabet=st.one_of(st.sampled_from("abc the dog هزار هوش‌ ,.!🙂"), st.characters(codec="utf-8")), max_size=60
)


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import hezar_like.preprocessors", ("torch", "tokenizers", "transformers")),
        ("from hezar_like.preprocessors import BPETokenizer, TextNormalizer, tokenizer_from_transformers", ("torch",)),
    ],
)
def test_what_an_import_does_not_import(statement: str, absent: tuple[str, ...]) -> None:
    code = f"import sys; {statement}; print([name for name in {absent} if name in sys.modules])"
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# -- properties -----------------------------------------------------------------------------------------------------


@given(kind=kinds, text=texts)
@settings(max_examples=150, deadline=None)
def test_offsets_are_slices_in_order(kind: str, text: str) -> None:
    (encoded,) = LOADED[kind].encode_texts([text])
    assert len(encoded.offsets) == len(encoded.ids) == len(encoded.tokens()) == len(encoded.special)
    for (start, end), special in zip(encoded.offsets, encoded.special, strict=True):
        assert 0 <= start <= end <= len(text)
        assert not special or (start, end) == (0, 0)
    starts = [start for (start, _), special in zip(encoded.offsets, encoded.special, strict=True) if not special]
    assert starts == sorted(starts)


@given(
    kind=kinds, text=texts, pair=st.none() | texts, limit=st.integers(4, 30), side=st.sampled_from(["left", "right"])
)
@settings(max_examples=200, deadline=None)
def test_truncation_keeps_special_tokens_and_length(
    kind: str, text: str, pair: str | None, limit: int, side: str
) -> None:
    (full,) = LOADED[kind].encode_texts([text if pair is None else (text, pair)])
    cut = full.truncated(limit, side)
    assert len(cut) == min(len(full), limit)
    assert sum(cut.special) == sum(full.special)
    for sequence in (0, 1):
        whole = [i for i, s in zip(full.ids, full.sequence_ids, strict=True) if s == sequence]
        part = [i for i, s in zip(cut.ids, cut.sequence_ids, strict=True) if s == sequence]
        assert part == (whole[: len(part)] if side == "right" else whole[len(whole) - len(part) :])


@given(
    kind=kinds, text=texts, pair=st.none() | texts, limit=st.integers(4, 30), side=st.sampled_from(["left", "right"])
)
@settings(max_examples=200, deadline=None)
def test_truncation_equals_the_rust_library(kind: str, text: str, pair: str | None, limit: int, side: str) -> None:
    tokenizer = LOADED[kind]
    rust = type(tokenizer.backend).from_str(tokenizer.backend.to_str())
    rust.enable_truncation(limit, direction=side)
    (full,) = tokenizer.encode_texts([text if pair is None else (text, pair)])
    cut = full.truncated(limit, side)
    theirs = rust.encode(text, pair)
    assert cut.ids == theirs.ids and cut.type_ids == theirs.type_ids and cut.offsets == theirs.offsets


@given(kind=kinds, text=texts, pair=st.none() | texts, room=st.integers(1, 12), overlap=st.integers(0, 11))
@settings(max_examples=200, deadline=None)
def test_windows_cover_everything_with_the_overlap(
    kind: str, text: str, pair: str | None, room: int, overlap: int
) -> None:
    (full,) = LOADED[kind].encode_texts([text if pair is None else (text, pair)])
    sliding = int(pair is not None and 1 in full.sequence_ids)
    fixed = sum(s != sliding for s in full.sequence_ids)
    if overlap >= room:
        with pytest.raises(OptionError, match="overlap"):
            full.windows(fixed + room, overlap)
        return
    content = [i for i, s in zip(full.ids, full.sequence_ids, strict=True) if s == sliding]
    end = 0
    for index, (start, window) in enumerate(full.windows(fixed + room, overlap)):
        assert len(window) <= fixed + room and sum(window.special) == sum(full.special)
        part = [i for i, s in zip(window.ids, window.sequence_ids, strict=True) if s == sliding]
        assert content[start : start + len(part)] == part
        assert start == (end - overlap if index else 0)
        assert len(part) > overlap or index == 0
        end = start + len(part)
    assert end == len(content)


@given(text=texts)
@settings(max_examples=100, deadline=None)
def test_byte_level_decoding_gives_the_text_back(text: str) -> None:
    tokenizer = LOADED["bpe"]
    (encoded,) = tokenizer.encode_texts([text], add_special_tokens=False)
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == ([text] if encoded.ids else [])


@given(kind=kinds, words=st.lists(st.sampled_from(" ".join(SENTENCES).split()), max_size=12))
@settings(max_examples=100, deadline=None)
def test_decoding_is_stable(kind: str, words: list[str]) -> None:
    tokenizer = LOADED[kind]
    once = tokenizer.decode([tokenizer.encode_texts([" ".join(words)])[0].ids])
    assert tokenizer.decode([tokenizer.encode_texts(once)[0].ids]) == once


@given(rows=st.lists(st.lists(st.integers(0, 9), max_size=9), max_size=5), multiple=st.none() | st.integers(1, 8))
def test_padded_rows_are_equal_and_hold_the_rows(rows: list[list[int]], multiple: int | None) -> None:
    right = pad_rows(rows, -1, multiple_of=multiple)
    left = pad_rows(rows, -1, multiple_of=multiple, side="left")
    assert len({len(row) for row in right + left}) <= 1
    assert all(len(row) % (multiple or 1) == 0 for row in right)
    assert [[i for i in row if i >= 0] for row in right] == rows == [[i for i in row if i >= 0] for row in left]
    assert [row[::-1] for row in pad_rows([row[::-1] for row in rows], -1, multiple_of=multiple)] == left


# -- calls ----------------------------------------------------------------------------------------------------------


def test_tensors_equal_lists(tokenizer: Tokenizer) -> None:
    options = {
        "padding": True,
        "return_token_type_ids": True,
        "return_special_tokens_mask": True,
        "return_length": True,
    }
    lists = tokenizer(SENTENCES[:5], **options)
    for name in ("torch", "pt"):
        tensors = tokenizer(SENTENCES[:5], return_tensors=name, **options)
        assert {key: rows.tolist() for key, rows in tensors.items()} == lists
        assert all(rows.dtype == torch.int64 for rows in tensors.values())
    for name in ("numpy", "np"):
        arrays = tokenizer(SENTENCES[:5], return_tensors=name, **options)
        assert all(isinstance(rows, np.ndarray) for rows in arrays.values())
        assert {key: rows.tolist() for key, rows in arrays.items()} == lists
    assert lists["length"] == [sum(mask) for mask in lists["attention_mask"]]
    made = tokenizer.pad_tensors(tokenizer.encode_texts(SENTENCES[:5]), token_type_ids=True)
    assert {key: rows.tolist() for key, rows in made.items()} == {key: lists[key] for key in made}


def test_left_padding_and_multiples_come_from_the_config(wordpiece: Tokenizer) -> None:
    tokenizer = type(wordpiece)(wordpiece.config, backend=wordpiece.backend, padding_side="left", pad_to_multiple_of=8)
    rows = tokenizer(["a cat", SENTENCES[0]], padding=True)
    assert [len(row) for row in rows["token_ids"]] == [16, 16]
    assert rows["attention_mask"][0] == [0] * 11 + [1] * 5
    assert wordpiece.config.padding_side == "right"
    options = {"padding": True, "return_special_tokens_mask": True, "return_word_ids": True, "return_tokens": True}
    rows = tokenizer(["a", "a cat"], **options | {"pad_to_multiple_of": 6})
    assert rows["special_tokens_mask"] == [[1, 1, 1, 1, 0, 1], [1, 1, 0, 0, 0, 1]]
    assert rows["tokens"][0] == ["[PAD]", "[PAD]", "[PAD]", "[CLS]", "a", "[SEP]"]
    assert rows["word_ids"][0] == [None] * 4 + [0, None]
    tensors = tokenizer(["a", "a cat"], return_tensors="pt", **options | {"pad_to_multiple_of": 6})
    assert {name: getattr(part, "tolist", lambda part=part: part)() for name, part in tensors.items()} == rows


def test_max_length_of_the_config_is_where_truncation_cuts(wordpiece: Tokenizer) -> None:
    tokenizer = type(wordpiece)(wordpiece.config, backend=wordpiece.backend, max_length=5)
    assert len(tokenizer(SENTENCES[0], truncation=True)["token_ids"]) == 5
    assert len(tokenizer(SENTENCES[0], truncation=True, max_length=7)["token_ids"]) == 7
    assert len(tokenizer(SENTENCES[0])["token_ids"]) > 7
    assert len(wordpiece(SENTENCES[0], truncation=True)["token_ids"]) > 7


def test_single_text_and_pairs(wordpiece: Tokenizer) -> None:
    flat = wordpiece("a cat", return_tokens=True, return_length=True)
    assert flat["tokens"] == ["[CLS]", "a", "ca", "##t", "[SEP]"] and flat["length"] == [5]
    pairs = wordpiece([("a cat", "the dog"), ["the dog", "a cat"]], return_token_type_ids=True)
    assert wordpiece(["a cat", "the dog"], ["the dog", "a cat"], return_token_type_ids=True) == pairs
    assert wordpiece("a cat", "the dog")["token_ids"] == pairs["token_ids"][0]
    assert pairs["token_type_ids"][0] == [0] * 5 + [1] * 3


def test_overflow_gives_every_window_of_a_single_text(tokenizer: Tokenizer) -> None:
    options = {"truncation": True, "max_length": 8, "stride": 2, "return_overflowing_tokens": True}
    rows = tokenizer([SENTENCES[0], "a"], **options)
    alone = tokenizer(SENTENCES[0], **options)
    assert rows["overflow_to_sample_mapping"] == [0] * len(alone["token_ids"]) + [1]
    assert rows["token_ids"][:-1] == alone["token_ids"]


def test_tokens_of_words_are_readable(bpe: Tokenizer) -> None:
    words = ["هزار", "کتابخانه"]
    (encoded,) = bpe.encode_texts([words], is_split_into_words=True)
    assert encoded.tokens()[:2] == ["<s>", "هزار"]
    assert set(encoded.word_ids) == {None, 0, 1}


def test_empty_batches(tokenizer: Tokenizer) -> None:
    assert tokenizer([]) == {"token_ids": [], "attention_mask": []}
    assert tokenizer([], return_tensors="pt")["token_ids"].shape == (0, 0)
    assert tokenizer.encode_texts([]) == [] and tokenizer.decode([]) == []
    assert tokenizer.pad_encoded_batch([]) == {}


def test_decode_takes_rows_arrays_and_tensors(tokenizer: Tokenizer) -> None:
    ids = tokenizer(SENTENCES[0])["token_ids"]
    expected = tokenizer.decode(ids)
    for given_ids in ([ids], torch.tensor(ids), torch.tensor([ids]), np.array([ids]), [torch.tensor(ids)]):
        assert tokenizer.decode(given_ids) == expected
    with pytest.raises(TokenizerError, match="-100"):
        tokenizer.decode([[-100]])


def test_pad_encoded_batch(wordpiece: Tokenizer) -> None:
    rows = [wordpiece("a cat"), wordpiece("a")]
    padded = wordpiece.pad_encoded_batch(
        [row | {"labels": i} for i, row in enumerate(rows)], padding="max_length", max_length=4, return_tensors="pt"
    )
    assert padded["token_ids"].tolist() == [rows[0]["token_ids"][:4], [*rows[1]["token_ids"], 0]]
    assert padded["labels"].tolist() == [0, 1]
    assert wordpiece.pad_encoded_batch({"a": [[1], [1, 2]], "b": [[1], [1, 2]]}, include_keys=["a"])["b"] == [
        [1],
        [1, 2],
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"paddding": True}, "Did you mean 'padding'"),
        ({"padding": "longst"}, "padding='longst'.*'longest'"),
        ({"truncation": "first"}, "truncation='first'"),
        ({"return_tensors": "tf"}, "return_tensors='tf'"),
        ({"padding": "max_length"}, "needs a max_length"),
        ({"truncation": True, "max_length": 1}, "no room for the 2 special tokens"),
        ({"truncation": "only_second", "max_length": 4}, "only_second"),
        ({"truncation": True, "max_length": 5, "stride": 3, "return_overflowing_tokens": True}, "overlap=3"),
    ],
)
def test_wrong_options(wordpiece: Tokenizer, options: dict, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        wordpiece(SENTENCES[0], **options)


def test_added_special_tokens_are_kept_whole_and_saved(tmp_path: Path) -> None:
    tokenizer = Preprocessor.load(FIXTURES / "tokenizer_bpe")
    assert tokenizer.add_special_tokens(["<user>"]) == 1 and tokenizer.add_tokens("foxtrot") == 1
    tokenizer.save(tmp_path)
    again = Preprocessor.load(tmp_path)
    assert "<user>" in again.special_tokens and again.get_added_vocab() == tokenizer.get_added_vocab()
    assert again("a<user>b", add_special_tokens=False, return_tokens=True)["tokens"] == ["a", "<user>", "b"]
    assert again.vocab_size == tokenizer.vocab_size and len(again) == again.max_token_id + 1 == 502


# -- threads --------------------------------------------------------------------------------------------------------


def test_sixteen_threads_equal_one(tokenizer: Tokenizer) -> None:
    chance = random.Random(0)
    jobs = [
        (
            [" ".join(chance.choices(SENTENCES, k=chance.randint(1, 6))) for _ in range(chance.randint(1, 8))],
            {"truncation": True, "max_length": chance.randint(5, 60), "padding": chance.choice([True, "max_length"])},
        )
        for _ in range(160)
    ]
    alone = [tokenizer(inputs, **options) for inputs, options in jobs]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda job: tokenizer(job[0], **job[1]), jobs))
    assert together == alone


# -- bad files (rows 35 to 37 of the threat table) ------------------------------------------------------------------


def broken(change: dict) -> str:
    data = json.loads((FIXTURES / "tokenizer_bpe/preprocessor/tokenizer.json").read_text())
    return json.dumps(data | change | {"model": data["model"] | change.get("model", {})})


SPLIT = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[" * 100_000,
        "version https://git-lfs.github.com/spec/v1",
        '{"model": {"type": "Nothing"}}',
        broken({"pre_tokenizer": SPLIT | {"pattern": {"Regex": "(a"}}}),
        broken({"model": {"merges": ["zz yy"]}}),
        broken({"model": {"vocab": {"a": -1}}}),
    ],
    ids=["empty", "object", "deep", "lfs", "unknown model", "bad regex", "merges", "negative id"],
)
def test_broken_tokenizer_file_names_the_path(tmp_path: Path, content: str, bpe: Tokenizer) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer.json") as caught:
        type(bpe)(bpe.config, tokenizer_file=path)
    assert "\n" not in str(caught.value)
    with pytest.raises(TokenizerError, match=r"absent.json"):
        type(bpe)(bpe.config, tokenizer_file=tmp_path / "absent.json")


def test_catastrophic_regex_is_an_error_and_the_tokenizer_lives_on(tmp_path: Path, bpe: Tokenizer) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(broken({"pre_tokenizer": SPLIT}))
    tokenizer = type(bpe)(bpe.config, tokenizer_file=path)
    with pytest.raises(TokenizerError, match="retry-limit"):
        tokenizer(["a" * 40 + "!"])
    assert len(tokenizer("b", add_special_tokens=False)["token_ids"]) == 1


def test_padding_and_truncation_of_the_file_are_never_used(tmp_path: Path, bpe: Tokenizer) -> None:
    path = tmp_path / "tokenizer.json"
    fixed = {"strategy": {"Fixed": 100_000_000}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 1}
    short = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    path.write_text(broken({"padding": fixed | {"pad_type_id": 0, "pad_token": "<pad>"}, "truncation": short}))
    tokenizer = type(bpe)(bpe.config, tokenizer_file=path)
    assert tokenizer(SENTENCES[0]) == bpe(SENTENCES[0])
    assert '"padding": null' in tokenizer.files()["preprocessor/tokenizer.json"]


# -- bad texts (row 41) ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [None, 5, b"text", float("nan"), ["a", "b", "c"], [["a"]], ["a", None], {}, "\ud800"], ids=repr
)
def test_bad_text_is_named_by_its_index(tokenizer: Tokenizer, bad: object) -> None:
    with pytest.raises(InputError, match="item 3 of the inputs") as caught:
        tokenizer(["a", "", "b", bad, "c"])
    assert "\n" not in str(caught.value)
    caught.value.args[0].encode()  # also the message is text


@pytest.mark.parametrize("bad", [None, 5, b"text", {"a": 1}], ids=repr)
def test_inputs_that_are_no_texts(tokenizer: Tokenizer, bad: object) -> None:
    with pytest.raises(InputError, match="the inputs are"):
        tokenizer(bad)


def test_words_must_be_lists_of_texts(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"item 1 of the inputs .* list of words"):
        tokenizer([["a"], "b"], is_split_into_words=True)


@pytest.mark.parametrize("text", ["", "  ", "a\0b", "\u202eکتابخانه‌ها", "🙂👩‍👩‍👧", "a" * 1_000_000])
def test_odd_texts_work(tokenizer: Tokenizer, text: str) -> None:
    rows = tokenizer([text, "a"], truncation=True, max_length=50, padding=True)
    assert len(rows["token_ids"][0]) == len(rows["token_ids"][1]) <= 50


def test_windows_of_a_long_text_are_fast(bpe: Tokenizer) -> None:
    (encoded,) = bpe.encode_texts([" ".join(SENTENCES) * 200])
    windows = encoded.windows(128, 16)
    assert len(windows) > 900 and sum(len(window.offsets) for _, window in windows) > 100_000
