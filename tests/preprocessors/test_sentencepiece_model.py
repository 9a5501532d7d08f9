"""`.model` files give the ids of sentencepiece itself, and through transformers' rules those of transformers."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizer_samples import SENTENCES
from transformers import CamembertTokenizer, T5Tokenizer, XLMRobertaTokenizer

from hezar_like.errors import TokenizerError
from hezar_like.preprocessors import Preprocessor, Tokenizer, tokenizer_from_transformers
from hezar_like.preprocessors import sentencepiece_model as module
from hezar_like.preprocessors.sentencepiece_model import Kind, backend_from_sentencepiece, read_sentencepiece

CORPUS = [
    *SENTENCES,
    *("می‌خواهم به خانه‌ی شما بیایم", "کتاب‌ها را روی میز گذاشتم", "今天天气很好,我们去公园玩吧", "北京市海淀区中关村"),
    *("for i in range(10): print(i)", "emoji 😀 and 🙂", "the  cat   has spaces", "numbers 0 1 2 3 4 5 6 7 8 9"),
]
TEXTS = [
    *CORPUS,
    *("", " ", "    ", "\t", "\n", "\r\n", "  two  spaces  ", "a\tb\t\tc", "line\nbreak\n\nmore\n", " \t \n "),
    *("هزار،  کتاب‌ها‌‌ی\u200c", "خانه‌ها و مَدرَسه", "全角　空格ＡＢＣ１２３，。！", "龘靐齉 rare 字", "½ ﬁ ² ① ﷺ"),
    *("😀😀 👩‍👩‍👧 🇮🇷 ❤️", "Ünïcödé naïve Ångström", "x\u200by\ufeffz\u00a0w", "\x01", "a\x01b", "a▁b ▁ c▁", "▁", "▁▁"),
    *(
        "two\r\nlines\r\n\r\n",
        "the<n>cat<n><n>sat",
        "<n>",
        " <n> ",
        "<n> the",
        "the  <n>  cat",
        "<n",
        "ＡＢＣ the ＡＢ",
        "a，b",
        "<nn><n>n",
    ),
]
SYMBOLS = ["<n>", "<nn>", "ＡＢ"]


def train(path: Path, **options: Any) -> sentencepiece.SentencePieceProcessor:
    written = io.BytesIO()
    defaults = {"vocab_size": 600, "hard_vocab_limit": False, "minloglevel": 2, "num_threads": 1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=written, **(defaults | options)
    )
    path.write_bytes(written.getvalue())
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def load(folder: Path, **settings: Any) -> Tokenizer:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = tokenizer_from_transformers(lambda name: folder / name if (folder / name).is_file() else None)
    assert tokenizer is not None
    return tokenizer


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("rule", ["nmt_nfkc", "identity", "nfkc_cf"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byte_fallback": True},
        {"user_defined_symbols": SYMBOLS, "control_symbols": ["<ctl>"]},
        {"user_defined_symbols": [*SYMBOLS, "\n"], "byte_fallback": True, "remove_extra_whitespaces": False},
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": False, "split_by_whitespace": False, "split_digits": True},
        {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    ],
    ids=["plain", "bytes", "symbols", "symbols-bytes-spaces", "no-prefix", "all-spaces", "t5-ids"],
)
def test_ids_equal_those_of_sentencepiece(kind: str, rule: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.model"
    size = {} if kind == "unigram" else {"vocab_size": 700 if options.get("byte_fallback") else 400}
    theirs = train(path, model_type=kind, normalization_rule_name=rule, **size, **options)
    backend = backend_from_sentencepiece(path)
    assert [backend.id_to_token(i) for i in range(len(theirs))] == [theirs.id_to_piece(i) for i in range(len(theirs))]
    assert backend.get_vocab_size() == len(theirs)
    different = [text for text in TEXTS if theirs.encode(text) != backend.encode(text).ids]
    assert not different, (theirs.encode(different[0], out_type=str), backend.encode(different[0]).tokens)
    # sentencepiece spells unknown text " ⁇ ", so only what is known can come back equal
    for text in TEXTS:
        ids = theirs.encode(text)
        if theirs.unk_id() not in ids and theirs.decode(ids) == theirs.decode(ids).strip():
            assert backend.decode(ids).strip() == theirs.decode(ids), text


def test_fields_and_control_symbols(tmp_path: Path) -> None:
    theirs = train(tmp_path / "a.model", pad_id=3, control_symbols=["<ctl>"], user_defined_symbols=["<n>"], bos_id=-1)
    model = read_sentencepiece(tmp_path / "a.model")
    assert (model.unk_id, model.bos_id, model.eos_id, model.pad_id) == (0, -1, theirs.eos_id(), 3)
    assert set(model.texts(Kind.CONTROL)) == {"</s>", "<pad>", "<ctl>"}
    assert model.texts(Kind.USER_DEFINED) == ["<n>"] and model.charsmap and model.add_dummy_prefix
    backend = backend_from_sentencepiece(tmp_path / "a.model")
    # Here we follow transformers: what spells a control symbol is that symbol, and decode leaves it out.
    ids = backend.encode("the cat<ctl>").ids
    assert ids == [*theirs.encode("the cat"), theirs.piece_to_id("<ctl>")] != theirs.encode("the cat<ctl>")
    assert backend.decode(ids) == "the cat"


def test_only_equal_scores_are_told_apart_differently(tmp_path: Path) -> None:
    """Ties are broken by the rounding of float32 sums in sentencepiece, so both answers must have the same score."""
    theirs = train(tmp_path / "a.model")
    backend = backend_from_sentencepiece(tmp_path / "a.model")
    for length in range(1, 60):
        for letters in ("a", "the", "0 ", "，", "-", "=*"):
            text = letters * length
            ours, reference = backend.encode(text).ids, theirs.encode(text)
            scores = [sum(theirs.get_score(i) for i in ids) for ids in (ours, reference)]
            assert ours == reference or scores[0] == pytest.approx(scores[1], abs=1e-3)


# -- transformers' rules --------------------------------------------------------------------------------------------

WITH_SPECIAL = [*(t for t in TEXTS if t not in ("\x01",)), "a <mask> in", "<mask>", "the<mask>cat </s> sat", "<unk> x"]


def vocabulary(sp: sentencepiece.SentencePieceProcessor, first: list[str], start: int) -> list[tuple[str, float]]:
    return [*((token, 0.0) for token in first), *((sp.id_to_piece(i), sp.get_score(i)) for i in range(start, len(sp)))]


def check_roberta(folder: Path, ours: Tokenizer, theirs: Any) -> None:
    pairs = list(zip(WITH_SPECIAL, reversed(WITH_SPECIAL), strict=True))
    assert ours(WITH_SPECIAL)["token_ids"] == theirs(WITH_SPECIAL)["input_ids"]
    assert ours(pairs)["token_ids"] == theirs(pairs)["input_ids"]
    words = [text.split() for text in SENTENCES[:5]]
    mine, reference = (
        ours(words, is_split_into_words=True, return_word_ids=True),
        theirs(words, is_split_into_words=True),
    )
    assert mine["token_ids"] == reference["input_ids"]
    assert mine["word_ids"] == [reference.word_ids(i) for i in range(len(words))]
    assert ours.mask_token_id == theirs.mask_token_id == len(ours) - 1
    for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        assert ours.role(role) == getattr(theirs, f"{role}_token")
    ours.save(folder / "native")
    assert Preprocessor.load(folder / "native")(pairs) == ours(pairs)


@pytest.mark.parametrize("where", ["tokenizer_config.json", "config.json", "nowhere"])
def test_xlm_roberta(where: str, tmp_path: Path) -> None:
    sp = train(tmp_path / "sentencepiece.bpe.model")
    first = ["<s>", "<pad>", "</s>", "<unk>"]
    charsmap = read_sentencepiece(tmp_path / "sentencepiece.bpe.model").charsmap
    theirs = XLMRobertaTokenizer(vocab=[*vocabulary(sp, first, 3), ("<mask>", 0.0)], _spm_precompiled_charsmap=charsmap)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "xlm-roberta"} if where == "config.json" else {}))
    ours = load(tmp_path, **({"tokenizer_class": "XLMRobertaTokenizer"} if where.startswith("tok") else {}))
    assert ours.config.name == "sentencepiece_unigram_tokenizer" and len(ours) == len(sp) + 2
    check_roberta(tmp_path, ours, theirs)
    # and the rule of fairseq itself: ids of sentencepiece plus one, its unknown 0 is 3
    for text in TEXTS:
        ids = ours(text, add_special_tokens=False)["token_ids"]
        assert ids == [i + 1 if i else 3 for i in sp.encode(text)]
    assert [ours.token_to_id(token) for token in first] == [0, 1, 2, 3]


def test_camembert(tmp_path: Path) -> None:
    sp = train(tmp_path / "sentencepiece.bpe.model")
    first = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"]
    charsmap = read_sentencepiece(tmp_path / "sentencepiece.bpe.model").charsmap
    theirs = CamembertTokenizer(vocab=[*vocabulary(sp, first, 1), ("<mask>", 0.0)], _spm_precompiled_charsmap=charsmap)
    ours = load(tmp_path, tokenizer_class="CamembertTokenizer")
    check_roberta(tmp_path, ours, theirs)
    assert ours("the cat")["token_ids"] == [5, *(i + 4 for i in sp.encode("the cat")), 6]


def test_t5(tmp_path: Path) -> None:
    sp = train(tmp_path / "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    charsmap = read_sentencepiece(tmp_path / "spiece.model").charsmap
    extra = [f"<extra_id_{i}>" for i in reversed(range(100))]
    full = [*vocabulary(sp, [], 0), *((token, 0.0) for token in extra)]
    theirs = T5Tokenizer(vocab=full, _spm_precompiled_charsmap=charsmap)
    ours = load(tmp_path, tokenizer_class="T5Tokenizer")
    texts = [*TEXTS, "the <extra_id_0> sat <extra_id_99>on</s>", "<extra_id_1>"]
    assert ours(texts)["token_ids"] == theirs(texts)["input_ids"]
    pairs = list(zip(texts, reversed(texts), strict=True))
    assert ours(pairs)["token_ids"] == theirs(pairs)["input_ids"]
    assert ours.token_to_id("<extra_id_0>") == len(sp) + 99 == theirs.convert_tokens_to_ids("<extra_id_0>")
    assert (ours.pad_token_id, ours.eos_token_id, ours.unk_token_id, ours.bos_token_id) == (0, 1, 2, None)
    with pytest.raises(TokenizerError, match="extra_ids"):
        load(tmp_path, tokenizer_class="T5Tokenizer", extra_ids=10**12)
    unnamed = load(tmp_path)
    assert unnamed("the cat")["token_ids"] == [*sp.encode("the cat"), 1] and len(unnamed) == len(sp)


def test_llama_begins_with_bos(tmp_path: Path) -> None:
    sp = train(
        tmp_path / "tokenizer.model", model_type="bpe", vocab_size=700, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
    )  # fmt: skip
    ours = load(tmp_path, tokenizer_class="LlamaTokenizer")
    assert ours.config.name == "sentencepiece_bpe_tokenizer"
    assert ours(TEXTS)["token_ids"] == [[1, *sp.encode(text)] for text in TEXTS]
    other = load(tmp_path, tokenizer_class="LlamaTokenizer", add_bos_token=False, add_eos_token=True)
    assert other("the cat")["token_ids"] == [*sp.encode("the cat"), 2]


@pytest.mark.parametrize(
    ("file", "name"), [("spiece.model", "AlbertTokenizer"), ("sentencepiece.bpe.model", "MBartTokenizer")]
)
def test_other_tokenizers_are_refused(file: str, name: str, tmp_path: Path) -> None:
    train(tmp_path / file)
    with pytest.raises(TokenizerError, match="rules of its own. Save a tokenizer.json"):
        load(tmp_path, tokenizer_class=name)


# -- broken files ---------------------------------------------------------------------------------------------------


def field(number: int, content: bytes) -> bytes:
    def varint(value: int) -> bytes:
        return (bytes([value & 127 | 128]) + varint(value >> 7)) if value > 127 else bytes([value])

    return varint(number << 3 | 2) + varint(len(content)) + content


def piece(text: bytes, kind: int = 1) -> bytes:
    return field(1, field(1, text) + b"\x18" + bytes([kind]))


UNK = piece(b"<unk>", 2)
BROKEN = {
    "empty": b"",
    "html": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5069051\n",
    "pickle": pickle.dumps({"a": [1, 2, 3], "b": "text"}),
    "zip": b"PK\x03\x04\x14\x00\x00\x00",
    "json": b'{"version": "1.0"}',
    "random": bytes(range(256)),
    "absurd length": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    "endless number": b"\x08" + b"\xff" * 100,
    "no unknown": piece(b"a"),
    "two unknown": UNK + piece(b"b", 2),
    "twice": UNK + piece(b"a") * 2,
    "empty piece": UNK + piece(b""),
    "not UTF-8": UNK + piece(b"\xff\xfe"),
    "long piece": UNK + piece(b"a" * 10_000),
    "kind 9": UNK + piece(b"a", 9),
    "score nan": UNK + field(1, field(1, b"a") + b"\x15\x00\x00\xc0\x7f"),
    "score of another type": UNK + field(1, field(1, b"a") + b"\x10\x05"),
    "text of another type": UNK + field(1, b"\x08\x05"),
    "piece of another type": b"\x08\x05",
    "model type as text": UNK + field(2, field(3, b"a")),
    "charsmap": UNK + piece(b"a") + field(3, field(2, b"\xff\xff\xff\x7f12345678")),
    "short charsmap": UNK + piece(b"a") + field(3, field(2, b"\x01")),
    "word model": UNK + piece(b"a") + field(2, b"\x18\x03"),
    "unused": UNK + piece(b"a", 5),
    "suffix": UNK + piece(b"a") + field(2, b"\xc0\x01\x01"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.model"
    path.write_bytes(BROKEN[name])
    with pytest.raises(TokenizerError) as caught:
        backend_from_sentencepiece(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and message.endswith(("again.", "first."))


def test_truncated_and_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "a.model", user_defined_symbols=SYMBOLS)
    whole = (tmp_path / "a.model").read_bytes()
    path = tmp_path / "broken.model"
    for length in range(1, len(whole), len(whole) // 50):
        path.write_bytes(whole[:length])
        try:
            backend_from_sentencepiece(path).encode("the cat")  # a cut between two fields cannot be seen
        except TokenizerError as error:
            assert str(path) in str(error)
    with pytest.raises(TokenizerError, match="no such file|No such file"):
        backend_from_sentencepiece(tmp_path / "absent.model")
    for limit, value in (("MAX_BYTES", len(whole) - 1), ("MAX_PIECES", 20), ("MAX_SYMBOLS", 2)):
        with monkeypatch.context() as patch, pytest.raises(TokenizerError, match="more than|larger than"):
            patch.setattr(module, limit, value)
            backend_from_sentencepiece(tmp_path / "a.model")
