"""The tokenizers of FlagAI, ModelCenter and Tsinghua's CPM-1 give the ids and texts that their own code gave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from published_vocabularies import golden
from transformers import AutoTokenizer

from hezar_like.errors import ConfigError, OptionError, TokenizerError
from hezar_like.preprocessors import (
    GLMTokenizer,
    JiebaLongestMatchTokenizer,
    JiebaUnigramTokenizer,
    JiebaWordPieceTokenizer,
    Preprocessor,
    Tokenizer,
    flagai_tokenizer,
    flagai_tokenizer_files,
    modelcenter_tokenizer,
    modelcenter_tokenizer_files,
    transformers_tokenizer_files,
)
from hezar_like.preprocessors.glm_layouts import LAYOUTS

Find = Callable[[str], Path | None]
# For each case the checkpoint, and how it is read.
CASES: dict[str, tuple[str, Callable[[Find], Tokenizer | None]]] = {
    "glm_ch": ("glm-large-ch", lambda find: flagai_tokenizer(find, "glm", hidden_size=1024)),
    "glm_ch_no_fix": ("glm-10b-ch", lambda find: flagai_tokenizer(find, "glm", hidden_size=4096)),
    "glm_10b_en": ("glm-10b-en", lambda find: flagai_tokenizer(find, "glm")),
    "flagai_uni_GLM-large-ch": ("glm-large-ch", lambda find: flagai_tokenizer(find, "glm", layout="flagai_glm_ch")),
    "flagai_uni_GLM-10b-ch": ("glm-10b-ch", lambda find: flagai_tokenizer(find, "glm", layout="flagai_glm_ch")),
    "flagai_uni_GLM-large-en": ("glm-large-en", lambda find: flagai_tokenizer(find, "glm")),
    "flagai_uni_GLM-10b-en": ("glm-10b-en", lambda find: flagai_tokenizer(find, "glm", layout="flagai_glm_10b_en")),
    "flagai_uni_GPT2-base-en": (
        "gpt2-base-en", lambda find: flagai_tokenizer(find, "gpt2", layout="flagai_gpt2_base_en"),
    ),
    "flagai_uni_RoBERTa-base-ch": (
        "roberta-base-ch", lambda find: flagai_tokenizer(find, "bert", layout="flagai_roberta_base_ch"),
    ),
    "flagai_uni_T5-base-en": ("t5-base-en", lambda find: flagai_tokenizer(find, "t5", layout="flagai_t5_base_en")),
    "cpm1_tsinghua": ("cpm-large-ch", lambda find: flagai_tokenizer(find, "cpm1")),
    "cpm1_flagai": ("cpm-large-ch", lambda find: flagai_tokenizer(find, "gpt2", joiner="")),
    "mc_cpm1": ("cpm1-large of modelcenter", lambda find: modelcenter_tokenizer(find, "cpm1")),
    "mc_cpm1_q2b": ("cpm1-large of modelcenter", lambda find: with_half_width(modelcenter_tokenizer(find, "cpm1"))),
    "mc_cpm2": ("cpm2-large of modelcenter", lambda find: modelcenter_tokenizer(find, "cpm2")),
}  # fmt: skip
# FlagAI's AutoLoader does not find the [MASK] it has made itself for a vocabulary of GPT-2, and adds "<addnew>" as a
# second one under its name. That is the only recorded value of 15 cases that is not kept.
SECOND_MASK = {"flagai_uni_GLM-10b-en": 50264, "flagai_uni_GPT2-base-en": 50263}
COMMANDS = ("[MASK]", "[gMASK]", "<|startofpiece|>")


def with_half_width(tokenizer: Tokenizer | None) -> Tokenizer:
    assert tokenizer is not None
    tokenizer.config.update(q2b=True)
    return tokenizer


@pytest.fixture(scope="module")
def read(published: Callable[[str], Find]) -> Callable[[str], Tokenizer]:
    known: dict[str, Tokenizer] = {}

    def tokenizer_of(case: str) -> Tokenizer:
        if case not in known:
            checkpoint, reader = CASES[case]
            found = reader(published(checkpoint))
            assert found is not None
            known[case] = found
        return known[case]

    return tokenizer_of


def check(tokenizer: Tokenizer, rows: list[dict[str, Any]]) -> None:
    texts = [row["text"] for row in rows]
    assert tokenizer(texts, add_special_tokens=False)["token_ids"] == [row["ids"] for row in rows]
    decoded = tokenizer.decode([row["ids"] for row in rows], skip_special_tokens=False)
    assert decoded == [row["decoded"] for row in rows]


@pytest.mark.parametrize("case", CASES)
def test_ids_and_texts_are_those_of_the_original_code(case: str, read: Callable[[str], Tokenizer]) -> None:
    rows = golden(case)["rows"]
    assert len(rows) == 21
    check(read(case), rows)


@pytest.mark.parametrize("case", CASES)
def test_special_tokens_are_those_of_the_original_code(case: str, read: Callable[[str], Tokenizer]) -> None:
    tokenizer, special = read(case), golden(case)["special"]
    sod = {"sod": "bos"}  # a start of a document is a bos token here
    ours: dict[str, Any] = {
        role: tokenizer.role_id(sod.get(role, role).lower())
        for role in special
        if sod.get(role, role).lower() in tokenizer.roles
    }
    texts = {"space": "space_token", "line": "line_token"}
    ours |= {name: tokenizer.token_to_id(tokenizer.config[field]) for name, field in texts.items() if name in special}
    ours |= {name: tokenizer.token_to_id(f"<{name}>") for name in ("s_0", "s_189") if name in special}
    size = tokenizer.max_token_id + 1
    # ModelCenter counts two stand-ins of its own for spaces and lines, which never leave it.
    ours |= {"num_tokens": size, "vocab_size": size, "len": size + 2}
    # What the generic code puts before and after a text; without <s> it takes what sentencepiece has for unknown text.
    unknown = tokenizer.token_to_id("<unk>") if case.endswith("T5-base-en") else tokenizer.role_id("cls")
    ours["start"] = unknown if tokenizer.token_to_id("<s>") is None else tokenizer.token_to_id("<s>")
    ends = [tokenizer.token_to_id(token) for token in ("</s>", "<|endoftext|>", "[SEP]")]
    ours["end"] = next((token_id for token_id in ends if token_id is not None), None)
    if case in SECOND_MASK:
        assert special.pop("mask") == SECOND_MASK[case] and special.pop("num_tokens") == SECOND_MASK[case] + 1
    assert {name: ours[name] for name in special} == special


@pytest.mark.parametrize("case", CASES)
def test_saved_and_loaded(case: str, read: Callable[[str], Tokenizer], tmp_path: Path) -> None:
    tokenizer = read(case)
    tokenizer.save(tmp_path)
    again = Preprocessor.load(tmp_path)
    assert type(again) is type(tokenizer) and again.config == tokenizer.saved_config()
    # The Rust library reads the scores of Unigram pieces with an error in the last digit.
    scores = {"preprocessor/tokenizer.json"} if type(tokenizer.model).__name__ == "Unigram" else set()
    ours, theirs = ({n: c for n, c in t.files().items() if n not in scores} for t in (again, tokenizer))
    assert ours == theirs
    check(again, golden(case)["rows"])
    assert again.vocab == tokenizer.vocab and again.special_ids == tokenizer.special_ids
    texts = ["北京 [MASK]", ("北京", "a cat")]
    options = {"return_token_type_ids": True, "return_offsets_mapping": True, "return_special_tokens_mask": True}
    assert again(texts, **options) == tokenizer(texts, **options)


PLAIN = {
    "flagai_uni_RoBERTa-base-ch": ("bert", "wordpiece_tokenizer"),
    "flagai_uni_GLM-large-en": ("bert", "wordpiece_tokenizer"),
    "flagai_uni_GPT2-base-en": ("gpt2", "bpe_tokenizer"),
    "flagai_uni_T5-base-en": ("t5", "sentencepiece_unigram_tokenizer"),
}


@pytest.mark.parametrize("case", PLAIN)
@pytest.mark.parametrize("reader", [flagai_tokenizer, modelcenter_tokenizer])
def test_the_models_that_transformers_has_too(
    case: str, reader: Callable[..., Tokenizer | None], published: Callable[[str], Find]
) -> None:
    """As FlagAI's generic tokenizer, where a text spells no command token, and is not only a space."""
    family, kind = PLAIN[case]
    tokenizer = reader(published(CASES[case][0]), family)
    assert tokenizer is not None and tokenizer.config.name == kind
    rows = [row for row in golden(case)["rows"] if not any(token in row["text"] for token in COMMANDS)]
    rows = [row for row in rows if row["text"] != " " and "<extra_id_0>" not in row["text"]]
    assert len(rows) == 16
    for row in rows:
        assert tokenizer(row["text"], add_special_tokens=False)["token_ids"] == row["ids"]


def test_extra_tokens_of_t5_and_gptj(published: Callable[[str], Find], tmp_path: Path) -> None:
    t5 = modelcenter_tokenizer(published("t5-base-en"), "t5")
    assert t5 is not None and [t5.token_to_id(f"<extra_id_{i}>") for i in (0, 99)] == [32099, 32000]
    assert t5("good <extra_id_0>")["token_ids"] == [207, 32099, 1] and len(t5) == 32100
    assert (t5.pad_token_id, t5.eos_token_id, t5.unk_token_id) == (0, 1, 2)

    find = published("gpt2-base-en")
    path = tmp_path / "added_tokens.json"
    path.write_text(json.dumps({f"<|extratoken_{i}|>": 50256 + i for i in range(1, 144)}))
    for added in (None, path):
        gptj = modelcenter_tokenizer(lambda name, added=added: added if name == path.name else find(name), "gptj")
        assert gptj is not None and len(gptj) == 50400
        assert [gptj.token_to_id(f"<|extratoken_{i}|>") for i in (1, 143)] == [50257, 50399]
        assert gptj("a<|extratoken_7|>")["token_ids"] == [64, 50263]
    assert set(modelcenter_tokenizer_files(gptj)) == {
        "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    with pytest.raises(OptionError, match="'<b>'"):
        gptj.add_tokens("<b>")
        flagai_tokenizer_files(gptj)


# -- templates and command tokens -----------------------------------------------------------------------------------


def test_a_text_of_glm_begins_with_cls_and_ends_with_eos(read: Callable[[str], Tokenizer]) -> None:
    expected = {
        "glm_ch": [50002, 778, 50000, 43658, 50000],
        "glm_ch_no_fix": [50002, 778, 50000, 43658, 50000],
        "glm_10b_en": [50259, 64, 50256, 65, 50256],
        "flagai_uni_GLM-large-en": [101, 1037, 0, 1038, 0],
        # FlagAI's `encode_plus` for models that are not GLM
        "flagai_uni_RoBERTa-base-ch": [101, 143, 102, 144, 102],
        "flagai_uni_GPT2-base-en": [50256, 64, 50256, 65, 50256],
        "flagai_uni_T5-base-en": [32002, 3, 9, 1, 3, 115, 1],
    }
    for case, ids in expected.items():
        tokenizer = read(case)
        row = tokenizer("a", "b", return_token_type_ids=True, return_special_tokens_mask=True)
        if case.startswith("glm_ch"):
            ids = [*ids[:3], *tokenizer("b", add_special_tokens=False)["token_ids"], ids[-1]]
        assert row["token_ids"] == ids, case
        assert max(row["token_type_ids"]) == int(case.startswith("flagai") and "GLM" not in case)
        assert sum(row["special_tokens_mask"]) == 3 == tokenizer.num_special_tokens_to_add(is_pair=True)
        assert tokenizer("a")["token_ids"] == ids[: len(tokenizer("a")["token_ids"])]


def test_command_tokens_by_name(read: Callable[[str], Tokenizer]) -> None:
    large, ten = read("glm_ch"), read("glm_ch_no_fix")
    assert isinstance(large, GLMTokenizer) and isinstance(ten, GLMTokenizer)
    names = ("sop", "eop", "mask", "smask", "gmask")
    assert [large.role_id(name) for name in names] == [50006, 50007, 50003, 50008, 50009]
    assert [ten.role_id(name) for name in names] == [50006, 50007, 50003, 50008, 50007]
    for tokenizer in (large, ten):
        properties = ("sop_token_id", "eop_token_id", "mask_token_id", "smask_token_id", "gmask_token_id")
        assert [getattr(tokenizer, name) for name in properties] == [tokenizer.role_id(name) for name in names]
    text = "<|startofpiece|>谢[gMASK]<|endofpiece|>"
    assert large(text, add_special_tokens=False)["token_ids"][2:] == [50009, 50007]
    row = ten(text, add_special_tokens=False, return_offsets_mapping=True, return_tokens=True)
    assert row["token_ids"][-2:] == [50007, 50007] and row["tokens"][-2:] == ["[gMASK]", "<|endofpiece|>"]
    assert [text[start:end] for start, end in row["offsets_mapping"]][-2:] == ["[gMASK]", "<|endofpiece|>"]
    # The id that the Rust library has for the second of two tokens is no id of this tokenizer.
    assert ten.max_token_id == 50008 and ten.id_to_token(50009) is None and ten.token_to_id("[unused_50005]") == 50005
    assert ten.vocab["<|endofpiece|>"] == ten.vocab["[gMASK]"] == 50007
    with pytest.raises(OptionError, match="no role 'gMASK'.*Known: .*gmask"):
        large.role("gMASK")
    assert read("mc_cpm1").role("eod") == "<eod>"
    with pytest.raises(OptionError, match="no role 'sop'"):
        read("mc_cpm1").role_id("sop")


def test_masks_take_the_spaces_before_them(read: Callable[[str], Tokenizer]) -> None:
    glm = read("glm_10b_en")
    tight = glm("a[MASK] b", add_special_tokens=False)["token_ids"]
    assert glm("a \n [MASK] b", add_special_tokens=False)["token_ids"] == tight
    assert glm(" \n ")["token_ids"] == [50259, 50256]
    # Only a text that is nothing but spaces has no tokens; spaces between tokens are tokens.
    assert glm("[CLS] [SEP]", add_special_tokens=False)["token_ids"] == [50259, 220, 50261]


def test_modelcenter_has_one_mask(published: Callable[[str], Find]) -> None:
    tokenizer = modelcenter_tokenizer(published("glm-10b-zh of modelcenter"), "glm")
    assert isinstance(tokenizer, GLMTokenizer)
    assert tokenizer("谢[MASK]")["token_ids"][-2:] == [50008, 50000]
    assert (tokenizer.mask_token_id, tokenizer.gmask_token_id, tokenizer.smask_token_id) == (50008, None, None)
    assert modelcenter_tokenizer_files(tokenizer)["vocab.model"] == tokenizer.sentencepiece


def test_layouts_that_do_not_fit(published: Callable[[str], Find]) -> None:
    fits = {
        "glm-large-ch": {"glm_large_ch", "glm_10b_ch", "modelcenter_glm_10b_ch", "flagai_glm_ch"},
        "glm-large-en": {"glm_large_en", "flagai_glm_large_en"},
        "roberta-base-ch": {"flagai_roberta_base_ch"},
    }
    for checkpoint, layouts in fits.items():
        for layout in LAYOUTS:
            if layout in layouts:
                assert flagai_tokenizer(published(checkpoint), "glm", layout=layout) is not None
                continue
            with pytest.raises(TokenizerError, match=f"{layout}.*does not fit a vocabulary of .* tokens"):
                flagai_tokenizer(published(checkpoint), "glm", layout=layout)
    with pytest.raises(OptionError, match="'glm_large_cn'.*Did you mean .*'glm_large_ch'"):
        flagai_tokenizer(published("glm-large-ch"), "glm", layout="glm_large_cn")


# -- files ----------------------------------------------------------------------------------------------------------

WRITTEN = {
    "glm_ch": {"spiece.model": "cog-pretrain.model"},
    "glm_ch_no_fix": {"spiece.model": "spiece.model"},
    "glm_10b_en": {"vocab.json": "vocab.json", "merges.txt": "merges.txt"},
    "flagai_uni_GLM-large-en": {"vocab.txt": "vocab.txt"},
    "flagai_uni_RoBERTa-base-ch": {"vocab.txt": "vocab.txt"},
    "flagai_uni_GPT2-base-en": {"vocab.json": "vocab.json", "merges.txt": "merges.txt"},
    "flagai_uni_T5-base-en": {"spiece.model": "spiece.model"},
    "cpm1_tsinghua": {"spiece.model": "spiece.model", "vocab.json": "vocab.json"},
    "mc_cpm1": {"vocab.txt": "vocab.txt"},
    "mc_cpm2": {"vocab.txt": "vocab.txt"},
}


@pytest.mark.parametrize("case", WRITTEN)
def test_files_are_written_as_they_were(
    case: str, read: Callable[[str], Tokenizer], published: Callable[[str], Find], tmp_path: Path
) -> None:
    write = modelcenter_tokenizer_files if case.startswith("mc_") else flagai_tokenizer_files
    read(case).save(tmp_path)
    for tokenizer in (read(case), Preprocessor.load(tmp_path)):
        files = write(tokenizer)
        assert set(files) == set(WRITTEN[case])
        for name, original in WRITTEN[case].items():
            path = published(CASES[case][0])(original)
            assert path is not None
            # ModelCenter's list for CPM-1 lacks the last newline, the only byte that differs.
            assert files[name] == path.read_bytes() + (b"\n" if case == "mc_cpm1" else b"")


def test_files_of_the_plain_kinds(published: Callable[[str], Find], tmp_path: Path) -> None:
    t5 = modelcenter_tokenizer(published("t5-base-en"), "t5")
    assert t5 is not None and t5.config.name == "sentencepiece_unigram_tokenizer"
    path = published("t5-base-en")("spiece.model")
    assert path is not None
    t5.save(tmp_path)
    for tokenizer in (t5, Preprocessor.load(tmp_path)):
        files = modelcenter_tokenizer_files(tokenizer)
        assert files["spiece.model"] == path.read_bytes() == flagai_tokenizer_files(tokenizer)["spiece.model"]
        assert set(files) == {"spiece.model", "tokenizer.json", "tokenizer_config.json"}
    other = type(t5)(t5.config, backend=t5.backend)  # has no such file, and does not say it has one
    assert not other.saved_config().keeps_sentencepiece
    with pytest.raises(OptionError, match="FlagAI reads this kind of tokenizer from a sentencepiece file"):
        flagai_tokenizer_files(other)
    assert set(modelcenter_tokenizer_files(other)) == {"tokenizer.json", "tokenizer_config.json"}
    t5.train_from_iterator(["a cat sat on a mat"] * 3, vocab_size=20)
    assert t5.sentencepiece is None and not t5.saved_config().keeps_sentencepiece
    bert = flagai_tokenizer(published("roberta-base-ch"), "bert")
    assert bert is not None and list(flagai_tokenizer_files(bert)) == ["vocab.txt"]
    bert.backend.normalizer.lowercase = False
    with pytest.raises(OptionError, match="lower case"):
        flagai_tokenizer_files(bert)


def test_transformers_reads_what_it_can(read: Callable[[str], Tokenizer], tmp_path: Path) -> None:
    glm = read("glm_ch")
    for name, content in transformers_tokenizer_files(glm).items():
        (tmp_path / name).write_bytes(content)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    texts = [row["text"] for row in golden("glm_ch")["rows"]]
    assert theirs(texts)["input_ids"] == glm(texts)["token_ids"]
    assert theirs.convert_tokens_to_ids("[gMASK]") == 50009 and "[gMASK]" in theirs.all_special_tokens
    for case in ("glm_ch_no_fix", "cpm1_tsinghua", "mc_cpm2"):
        with pytest.raises(OptionError, match="transformers would give other ids"):
            transformers_tokenizer_files(read(case))


# -- what is not there, or broken -----------------------------------------------------------------------------------


def test_no_files_no_tokenizer() -> None:
    for family in ("bert", "roberta", "gpt2", "t5", "glm", "cpm1"):
        assert flagai_tokenizer(lambda name: None, family) is None
    for family in ("bert", "roberta", "gpt2", "gptj", "t5", "glm", "cpm1", "cpm2"):
        assert modelcenter_tokenizer(lambda name: None, family) is None
    with pytest.raises(OptionError, match="FlagAI has no tokenizer for the family 'cpm2'"):
        flagai_tokenizer(lambda name: None, "cpm2")
    with pytest.raises(OptionError, match="ModelCenter has .* 'cpm3'.*Did you mean 'cpm2' or 'cpm1'"):
        modelcenter_tokenizer(lambda name: None, "cpm3")
    with pytest.raises(ConfigError, match="joiner"):
        flagai_tokenizer(lambda name: Path(__file__), "cpm1", joiner="_")


@pytest.mark.parametrize("family", ["glm", "cpm1", "t5"])
@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"\xff\xfe<unk>"])
@pytest.mark.parametrize("name", ["spiece.model", "vocab.txt"])
def test_broken_files_are_named(family: str, name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    find = lambda wanted: tmp_path / name if wanted == name else None  # noqa: E731
    reader = modelcenter_tokenizer if (family, name) == ("cpm1", "vocab.txt") else flagai_tokenizer
    with pytest.raises(TokenizerError) as caught:
        reader(find, family)
    assert name in str(caught.value) or "is not in the vocabulary" in str(caught.value) or "glm" in str(caught.value)


def test_the_kinds_are_the_expected(read: Callable[[str], Tokenizer], published: Callable[[str], Find]) -> None:
    assert type(read("cpm1_tsinghua")) is JiebaUnigramTokenizer
    assert type(read("mc_cpm2")) is JiebaLongestMatchTokenizer
    assert type(flagai_tokenizer(published("roberta-base-ch"), "t5")) is JiebaWordPieceTokenizer
    by_default = flagai_tokenizer(published("cpm-large-ch"), "cpm1")
    assert isinstance(by_default, JiebaUnigramTokenizer) and by_default.config.joiner == " "
