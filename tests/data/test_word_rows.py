"""Word by word, a corpus gets the ids that its tokenizer gives whole texts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import TEXTS, glm_tokenizer, tokenizer
from tokenizers import AddedToken, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as RustTokenizer

from hezar_like import Tokenizer
from hezar_like.data.word_rows import WordRows
from hezar_like.preprocessors import BPEConfig, BPETokenizer

PARTS = [*" ".join(TEXTS).split(), " ", "  ", "\n", "\t", "\u3000", "\u00a0", "\x1c", "\x85", "\u200c", "\u0301", "[MASK]", "<mask>", "'s", "!", "気"]
texts = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3)), max_size=12).map("".join)
spaced = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3)), max_size=12).map(" ".join)




@pytest.mark.parametrize(("kind", "by_words"), [("wordpiece_tokenizer", True), ("bpe_tokenizer", None)])
@given(batch=st.lists(st.one_of(texts, spaced), max_size=6))
def test_ids_are_those_of_whole_texts(kind: str, by_words: bool | None, batch: list[str]) -> None:
    own = tokenizer(kind)
    rows = WordRows(own)
    assert by_words is None or rows.by_words == by_words
    expected = [row.ids for row in own.encode_texts(batch, add_special_tokens=False)]
    assert rows(batch) == expected
    assert rows(batch) == expected  # from what it remembers


def gpt2_like() -> Tokenizer:
    """Byte-level BPE as GPT-2 has it."""
    backend = RustTokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False, special_tokens=["<|endoftext|>"])
    backend.train_from_iterator(TEXTS * 4, trainer)
    return BPETokenizer(BPEConfig(), backend=backend)


GPT2 = gpt2_like()


@settings(max_examples=300)
@given(batch=st.lists(st.one_of(texts, spaced), max_size=6))
def test_byte_level_words_keep_their_space(batch: list[str]) -> None:
    rows = WordRows(GPT2)
    assert rows.by_words
    assert rows(batch) == [row.ids for row in GPT2.encode_texts(batch, add_special_tokens=False)]


@pytest.mark.parametrize(
    "token", [AddedToken("two words"), AddedToken("<m>", lstrip=True), AddedToken("<m>", rstrip=True)]
)
def test_tokens_that_look_across_spaces_are_noticed(token: AddedToken) -> None:
    own = gpt2_like()
    own.backend.add_tokens([token])
    assert not WordRows(own).by_words


def test_other_kinds_get_whole_texts() -> None:
    for kind in ("sentencepiece_unigram_tokenizer", "sentencepiece_bpe_tokenizer"):
        assert not WordRows(tokenizer(kind)).by_words
    own = glm_tokenizer()
    assert not WordRows(own).by_words
    batch = ["a cat [MASK] sat", "", "the dog"]
    assert WordRows(own)(batch) == [row.ids for row in own.encode_texts(batch, add_special_tokens=False)]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hezar_like.data.word_rows.MOST_WORDS", 3)
    own = tokenizer()
    rows = WordRows(own)
    for text in (*TEXTS, "x" * 60, *TEXTS):
        assert rows([text]) == [own.encode_texts([text], add_special_tokens=False)[0].ids]
        assert len(rows._known) <= 12
        assert "x" * 60 not in rows._known
