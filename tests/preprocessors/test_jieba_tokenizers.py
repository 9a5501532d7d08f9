"""The tokenizers that cut words with jieba: their rules, offsets, threads, and what happens without jieba."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import jieba
import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published_vocabularies import golden
from transformers import BertTokenizerFast

from hezar_like import build_model
from hezar_like.errors import ConfigError, InputError, MissingDependency, OptionError, PreprocessorError, TokenizerError
from hezar_like.models import Model
from hezar_like.preprocessors import (
    JiebaLongestMatchTokenizer,
    JiebaWordPieceTokenizer,
    Preprocessor,
    Tokenizer,
    build_preprocessor,
    flagai_tokenizer,
    modelcenter_tokenizer,
)
from hezar_like.preprocessors.jieba_words import _segmenter, cut_words

Find = Callable[[str], Path | None]
GOLDEN = [row["text"] for row in golden("mc_cpm1")["rows"]]
SENTENCES = [text for text in GOLDEN if len(text) < 100]
texts = st.text(st.sampled_from("今天我们中国的是在北京公园玩龘槃涅，。！“” ab cAB12.5%-+<>\n\r\t＜ＡＢ１』（『〔\u3000▂▃￼😀"), max_size=40)
slow = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = ("cpm1", "cpm2", "modelcenter", "pegasus")


@pytest.fixture(scope="module")
def jiebas(published: Callable[[str], Find], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    path = published("roberta-base-ch")("vocab.txt")
    assert path is not None
    vocabulary = tmp_path_factory.mktemp("pegasus") / "vocab.txt"
    words = ["今天", "我们", "中国", "公园", "北京", "天气", "ABC", "Hello"]
    vocabulary.write_text(path.read_text(encoding="utf-8") + "\n".join(words) + "\n", encoding="utf-8")
    found = {
        "cpm1": flagai_tokenizer(published("cpm-large-ch"), "cpm1"),
        "cpm2": modelcenter_tokenizer(published("cpm2-large of modelcenter"), "cpm2"),
        "modelcenter": modelcenter_tokenizer(published("cpm1-large of modelcenter"), "cpm1"),
        "pegasus": flagai_tokenizer(lambda name: vocabulary if name == "vocab.txt" else None, "t5"),
    }
    return {kind: tokenizer for kind, tokenizer in found.items() if tokenizer is not None}


# -- against other code ---------------------------------------------------------------------------------------------


@given(text=texts)
@slow
def test_cpm1_gives_what_sentencepiece_gives_for_joined_words(
    text: str, jiebas: dict[str, Tokenizer], published: Callable[[str], Find]
) -> None:
    path = published("cpm-large-ch")("spiece.model")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    words = [word.replace(" ", "▂").replace("\n", "▃") for word in jieba.cut(text)]
    ids, expected = jiebas["cpm1"](text)["token_ids"], theirs.encode(" ".join(words))
    # Of two ways with the same score, sentencepiece takes the one that its sums in single precision favour.
    scores = [sum(map(theirs.get_score, row)) for row in (ids, expected)]
    assert ids == expected or scores[0] == pytest.approx(scores[1], abs=1e-3)


@given(text=texts, half_width=st.booleans())
@pytest.mark.parametrize("kind", ["cpm2", "modelcenter"])
@slow
def test_the_longest_piece_counts(text: str, half_width: bool, kind: str, jiebas: dict[str, Tokenizer]) -> None:
    """Against the rule as it is told: no cache, no bound on the length of a piece."""
    tokenizer = type(jiebas[kind])(jiebas[kind].config, backend=jiebas[kind].backend, half_width=half_width)
    ids, space, line = tokenizer.vocab, tokenizer.config.space_token, tokenizer.config.line_token
    stand_ins = {"\ufff2": space, "\ufff3": line}
    for stand_in, written in (("\ufff3", "\n"), ("\ufff3", line), ("\ufff2", " "), ("\ufff2", space)):
        text = text.replace(written, stand_in)
    expected = []
    for word in jieba.cut(text):
        if word in stand_ins:
            expected.append(ids[stand_ins[word]])
            continue
        rest = "".join(HALF.get(character, character) for character in word) if half_width else word
        while rest:
            piece = next((rest[:end] for end in range(len(rest), 0, -1) if rest[:end] in ids), None)
            expected.append(ids[piece or "<unk>"])
            rest = rest[len(piece or "x") :]
    assert tokenizer(text)["token_ids"] == expected


HALF = dict(zip("＜ＡＢ１（『』〔\u3000。", "<AB1(‘’[ ｡", strict=True)) | {"，": ",", "！": "!"}


@given(text=texts)
@slow
def test_t5_pegasus_takes_words_of_the_vocabulary_whole(text: str, jiebas: dict[str, Tokenizer]) -> None:
    ours = jiebas["pegasus"]
    bert = BertTokenizerFast(vocab=ours.get_vocab(with_added_tokens=False))
    expected: list[int] = []
    for word in jieba.cut(text, HMM=False):
        expected += [ours.vocab[word]] if word in ours.vocab else bert(word, add_special_tokens=False)["input_ids"]
    assert ours(text, add_special_tokens=False)["token_ids"] == expected
    assert ours(text)["token_ids"] == [101, *expected, 102]


def test_t5_pegasus(jiebas: dict[str, Tokenizer]) -> None:
    row = jiebas["pegasus"]("今天，天气很好，Hello helloABC", return_tokens=True, return_offsets_mapping=True)
    assert row["tokens"][:8] == ["[CLS]", "今天", "，", "天气", "很", "好", "，", "Hello"]
    assert row["tokens"][-4:] == ["Hello", "hello", "##abc", "[SEP]"]
    assert row["offsets_mapping"][:4] == [(0, 0), (0, 2), (2, 3), (3, 5)]
    pair = jiebas["pegasus"]("今天", "天气", return_token_type_ids=True, return_special_tokens_mask=True)
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1] and pair["special_tokens_mask"] == [1, 0, 1, 0, 1]
    assert jiebas["pegasus"].num_special_tokens_to_add(True) == 3 and jiebas["cpm1"].num_special_tokens_to_add() == 0
    assert jiebas["pegasus"].decode(pair["token_ids"]) == ["今天 天气"]


# -- properties -----------------------------------------------------------------------------------------------------


@given(text=texts)
@pytest.mark.parametrize("kind", KINDS)
@slow
def test_offsets_are_slices_in_order(kind: str, text: str, jiebas: dict[str, Tokenizer]) -> None:
    (encoded,) = jiebas[kind].encode_texts([text])
    spans = [span for span, special in zip(encoded.offsets, encoded.special, strict=True) if not special]
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)
    lengths = {len(encoded.ids), len(encoded.tokens()), len(encoded.type_ids), len(encoded.word_ids)}
    assert lengths == {len(encoded), len(encoded.offsets)}
    if kind in ("cpm2", "modelcenter"):  # nothing is normalized away, so the tokens cover the text
        assert "".join(text[start:end] for start, end in spans) == text
        for (start, end), token in zip(spans, encoded.tokens(), strict=True):
            stand_ins = ("<unk>", jiebas[kind].config.space_token, jiebas[kind].config.line_token)
            assert token in stand_ins or text[start:end] == token


@given(text=texts)
@pytest.mark.parametrize("kind", ["cpm2", "modelcenter"])
@slow
def test_decoding_gives_the_text_back_where_nothing_is_unknown(
    kind: str, text: str, jiebas: dict[str, Tokenizer]
) -> None:
    tokenizer = jiebas[kind]
    ids = tokenizer(text)["token_ids"]
    plain = text.replace(tokenizer.config.space_token, " ").replace(tokenizer.config.line_token, "\n")
    if tokenizer.unk_token_id not in ids:
        assert tokenizer.decode(ids) == ([plain] if ids else [])


@given(text=texts)
@slow
def test_decoding_of_cpm1_is_stable(text: str, jiebas: dict[str, Tokenizer]) -> None:
    ids = jiebas["cpm1"](text)["token_ids"]
    once = jiebas["cpm1"].decode([ids])
    if jiebas["cpm1"].unk_token_id not in ids:
        assert jiebas["cpm1"].decode(jiebas["cpm1"](once)["token_ids"]) == once


@given(text=texts, limit=st.integers(2, 20), overlap=st.integers(0, 1))
@slow
def test_cutting_and_windows(text: str, limit: int, overlap: int, jiebas: dict[str, Tokenizer]) -> None:
    (full,) = jiebas["pegasus"].encode_texts([text])
    assert len(full.truncated(limit)) == min(limit, len(full))
    content = [i for i, special in zip(full.ids, full.special, strict=True) if not special]
    for start, window in full.windows(limit + 2, overlap):
        part = [i for i, special in zip(window.ids, window.special, strict=True) if not special]
        assert content[start : start + len(part)] == part and sum(window.special) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_batches_pairs_and_words(kind: str, jiebas: dict[str, Tokenizer]) -> None:
    tokenizer = jiebas[kind]
    rows = tokenizer(SENTENCES, padding=True, return_tensors="pt", return_token_type_ids=True)
    assert rows["token_ids"].shape == rows["attention_mask"].shape
    for i, text in enumerate(SENTENCES):
        assert rows["token_ids"][i][rows["attention_mask"][i].bool()].tolist() == tokenizer(text)["token_ids"]
    single = [tokenizer(text, add_special_tokens=False)["token_ids"] for text in SENTENCES[:2]]
    pair = tokenizer(*SENTENCES[:2], return_token_type_ids=True)
    assert [i for i in pair["token_ids"] if i in {*single[0], *single[1]}] == [*single[0], *single[1]]
    assert pair["token_type_ids"] == sorted(pair["token_type_ids"])
    # Words that are given are tokenized one by one, and keep their numbers.
    words = ["今天天气", "很好", "", "a b"]
    (encoded,) = tokenizer.encode_texts([words], add_special_tokens=False, is_split_into_words=True)
    alone = [tokenizer(word, add_special_tokens=False)["token_ids"] for word in words]
    assert encoded.ids == list(chain.from_iterable(alone))
    assert encoded.word_ids == [i for i, ids in enumerate(alone) for _ in ids]
    assert all(end <= len(words[i or 0]) for (_, end), i in zip(encoded.offsets, encoded.word_ids, strict=True))
    assert tokenizer([]) == {"token_ids": [], "attention_mask": []}


@pytest.mark.parametrize("kind", KINDS)
def test_added_tokens_are_never_cut(kind: str, jiebas: dict[str, Tokenizer], tmp_path: Path) -> None:
    tokenizer = copy.deepcopy(jiebas[kind])
    before = tokenizer("今天<tool>天气")["token_ids"]
    assert tokenizer.add_special_tokens(["<tool>", "<tool>s"]) == 2
    added = tokenizer.token_to_id("<tool>"), tokenizer.token_to_id("<tool>s")
    row = tokenizer("今天<tool>天气<tool>s", return_offsets_mapping=True)
    assert [i for i in row["token_ids"] if i in added] == list(added) and len(row["token_ids"]) < len(before) + 2
    assert [span for span, i in zip(row["offsets_mapping"], row["token_ids"], strict=True) if i in added] == [
        (2, 8), (10, 17),
    ]  # fmt: skip
    tokenizer.save(tmp_path)
    again = Preprocessor.load(tmp_path)
    assert again("今天<tool>天气") == tokenizer("今天<tool>天气")
    assert tokenizer.decode(row["token_ids"])[0].replace(" ", "") == "今天天气"
    assert jiebas[kind]("今天<tool>天气")["token_ids"] == before


def test_special_tokens_in_a_text_are_text(jiebas: dict[str, Tokenizer]) -> None:
    for kind, text in (("cpm1", "<s>a</s><eod>"), ("cpm2", "<pad><s_0>"), ("pegasus", "[MASK][SEP]")):
        ids = jiebas[kind](text, add_special_tokens=False)["token_ids"]
        assert not set(ids) & (set(jiebas[kind].special_ids) - {jiebas[kind].unk_token_id})


def test_long_words_and_long_texts(jiebas: dict[str, Tokenizer]) -> None:
    cpm2 = jiebas["cpm2"]
    assert cpm2("x" * 201)["token_ids"] == [0] and 0 not in cpm2("x" * 200)["token_ids"]
    assert cpm2("x" * 201, return_offsets_mapping=True)["offsets_mapping"] == [(0, 201)]
    text = "今天天气很好，" * 20_000
    once = jiebas["cpm1"]("今天天气很好，")["token_ids"]
    assert jiebas["cpm1"](text)["token_ids"] == once * 20_000


def test_settings_count_when_they_change(jiebas: dict[str, Tokenizer]) -> None:
    tokenizer = copy.deepcopy(jiebas["modelcenter"])
    plain = tokenizer("ＡＢＣ")["token_ids"]
    tokenizer.config.update(half_width=True)
    assert tokenizer("ＡＢＣ")["token_ids"] == tokenizer("ABC")["token_ids"] != plain
    assert tokenizer.config.to_dict()["half_width"] is True
    loaded = type(tokenizer)(tokenizer.config, backend=tokenizer.backend, q2b=False)
    assert loaded("ＡＢＣ")["token_ids"] == plain


def test_sentinels_of_cpm2(jiebas: dict[str, Tokenizer]) -> None:
    cpm2, cpm1 = jiebas["cpm2"], jiebas["modelcenter"]
    assert isinstance(cpm2, JiebaLongestMatchTokenizer) and isinstance(cpm1, JiebaLongestMatchTokenizer)
    assert cpm2.sentinel_ids == list(range(26050, 26240)) and cpm1.sentinel_ids == []
    assert (cpm2.space_token_id, cpm2.line_token_id, cpm2.eod_token_id) == (10, 3, 7)


def test_the_defaults_that_fail_in_modelcenter_are_an_error_with_advice(jiebas: dict[str, Tokenizer]) -> None:
    with pytest.raises(TokenizerError, match="space_token: '</_>' is not in the vocabulary. Give space_token="):
        JiebaLongestMatchTokenizer(jiebas["cpm2"].config, backend=jiebas["cpm2"].backend, space_token="</_>")


# -- jieba itself ---------------------------------------------------------------------------------------------------


def test_words_do_not_depend_on_what_a_program_tells_jieba() -> None:
    before = cut_words("很好玩吧北京")
    jieba.setLogLevel(logging.WARNING)
    jieba.add_word("好玩吧北", freq=10**9)
    try:
        assert list(jieba.cut("很好玩吧北京")) != before == cut_words("很好玩吧北京")
    finally:
        jieba.del_word("好玩吧北")


def test_sixteen_threads_equal_one_from_the_first_text_on(jiebas: dict[str, Tokenizer]) -> None:
    for kind in KINDS:
        alone = [jiebas[kind](text)["token_ids"] for text in SENTENCES] * 8
        fresh = type(jiebas[kind])(jiebas[kind].config, backend=jiebas[kind].backend)
        _segmenter.cache_clear()
        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(lambda text, t=fresh: t(text)["token_ids"], SENTENCES * 8)) == alone


def test_it_is_silent_and_writes_nothing(tmp_path: Path) -> None:
    code = "from hezar_like.preprocessors.jieba_words import cut_words; print(cut_words('今天天气很好'))"
    options: dict[str, Any] = {"capture_output": True, "text": True, "check": True}
    environment = {"PATH": "", "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, env=environment, **options)
    assert result.stdout.strip() == "['今天天气', '很', '好']" and result.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def without_jieba(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "jieba", None)
    _segmenter.cache_clear()
    yield
    _segmenter.cache_clear()


def test_without_jieba_texts_are_refused_and_the_rest_works(
    without_jieba: None, jiebas: dict[str, Tokenizer], published: Callable[[str], Find], tmp_path: Path
) -> None:
    for kind, tokenizer in jiebas.items():
        tokenizer.save(tmp_path / kind)
        loaded = Preprocessor.load(tmp_path / kind)
        with pytest.raises(MissingDependency, match=r"'jieba'.*pip install 'hezar_like\[chinese\]'"):
            loaded("今天")
        assert loaded.decode([[1000]]) == tokenizer.decode([[1000]])
        assert loaded.vocab == tokenizer.vocab
    # The words of FlagAI's variant make no difference, so it needs no jieba.
    joined = flagai_tokenizer(published("cpm-large-ch"), "cpm1", joiner="")
    assert joined is not None and joined("今天")["token_ids"] == [837]


# -- in a model, and what is broken ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_model(kind: str, jiebas: dict[str, Tokenizer], tmp_path: Path) -> None:
    sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    model = build_model("bert_text_embedding", vocab_size=len(jiebas[kind]), **sizes).eval()
    model.preprocessor = jiebas[kind]
    model.save(tmp_path)
    loaded = Model.load(tmp_path, device="cpu")
    assert type(loaded.preprocessor.tokenizer) is type(jiebas[kind])
    assert repr(loaded.predict(SENTENCES[:4])) == repr(model.predict(SENTENCES[:4]))
    if kind == "cpm1":
        assert (tmp_path / "preprocessor" / "sentencepiece.model").read_bytes() == jiebas[kind].sentencepiece
        (tmp_path / "preprocessor" / "sentencepiece.model").write_bytes(b"version https://git-lfs")
        with pytest.raises(TokenizerError, match="sentencepiece.model.*git lfs pull"):
            Model.load(tmp_path, device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_pickles(kind: str, jiebas: dict[str, Tokenizer]) -> None:
    for twin in (copy.deepcopy(jiebas[kind]), pickle.loads(pickle.dumps(jiebas[kind]))):
        assert twin(SENTENCES) == jiebas[kind](SENTENCES) and twin.config == jiebas[kind].config
        assert twin.sentencepiece == jiebas[kind].sentencepiece and twin.vocab == jiebas[kind].vocab


def test_what_is_broken(jiebas: dict[str, Tokenizer], tmp_path: Path) -> None:
    for kind, tokenizer in jiebas.items():
        with pytest.raises(InputError, match="item 1 of the inputs has the lone surrogate"):
            tokenizer(["今天", "a\ud800"])
        with pytest.raises(InputError, match="item 1"):
            tokenizer(["今天", None])
        with pytest.raises(OptionError, match="no role 'sod'"):
            tokenizer.role("sod")
        with pytest.raises(ConfigError, match="joiner" if kind == "cpm1" else "unknown key"):
            type(tokenizer)(tokenizer.config, backend=tokenizer.backend, joiner="-")
    no_ends = JiebaWordPieceTokenizer(jiebas["pegasus"].config, backend=jiebas["pegasus"].backend, cls_token="<cls>")
    with pytest.raises(TokenizerError, match="the cls_token '<cls>' is not in the vocabulary"):
        no_ends("今天")
    assert no_ends("今天", add_special_tokens=False)["token_ids"] == [jiebas["pegasus"].token_to_id("今天")]
    for name in ("jieba_unigram_tokenizer", "jieba_longest_match_tokenizer", "jieba_wordpiece_tokenizer"):
        with pytest.raises(PreprocessorError, match="cannot be built without a file"):
            build_preprocessor(name)
