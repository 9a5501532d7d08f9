"""The text normalizer."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hezar_like.errors import ConfigError, InputError, PreprocessorError
from hezar_like.preprocessors import Preprocessor, TextNormalizer, TextNormalizerConfig


def normalizer(**fields: object) -> TextNormalizer:
    return TextNormalizer(TextNormalizerConfig(**fields))


# The newest characters are not in the tables of both Python and Rust; the forms of old ones never change.
old = st.characters(codec="utf-8").filter(lambda c: unicodedata.ucd_3_2_0.category(c) != "Cn")


@given(st.text(old))
def test_normal_forms(text: str) -> None:
    assert normalizer(nfkd=True, nfkc=False)([text]) == [unicodedata.normalize("NFKD", text)]
    assert normalizer(nfkd=False, nfkc=True)([text]) == [unicodedata.normalize("NFKC", text)]
    assert normalizer(nfkd=False, nfkc=False)([text]) == [text]


def test_arguments_win_over_the_config() -> None:
    both = normalizer()
    assert both("é①") == ["é1"]
    assert both("é①", nfkd=False, nfkc=False) == ["é①"]
    assert both("é①", nfkc=False) == ["e\u03011"]
    off = normalizer(nfkd=False, nfkc=False, replace_patterns=[["a", "b"]])
    assert off("a①", nfkc=True) == ["b1"]
    assert off("a①", replace_patterns=[]) == ["a①"]
    assert off("a①", replace_patterns={"x": ["①", "2"]}) == ["a2"]


@pytest.mark.parametrize(
    "patterns",
    [
        [["ي", "ی"], ["[0-9]+", "N"]],
        {"yeh": ["ي", "ی"], "digits": ["[0-9]+", "N"]},
        [{"yeh": ["ي", "ی"]}, {"digits": ("[0-9]+", "N")}],
    ],
)
def test_patterns_in_every_form_and_in_order(patterns: object, tmp_path: Path) -> None:
    made = normalizer(replace_patterns=patterns, nfkd=False)
    assert made(["علي 123", ""]) == ["علی N", ""]
    made.save(tmp_path)
    text = (tmp_path / "preprocessor/normalizer_config.yaml").read_text()
    again = Preprocessor.load(tmp_path)
    assert again.config.to_dict() == made.config.to_dict() and again("علي 5") == ["علی N"]
    # Hezar wrote the kind in capitals here, and could not read it back.
    (tmp_path / "preprocessor/normalizer_config.yaml").write_text(text.replace(": preprocessor", ": PREPROCESSOR"))
    assert Preprocessor.load(tmp_path)("علي 5") == ["علی N"]


def test_replacements_are_literal() -> None:
    assert normalizer(replace_patterns=[["(a)(b)", r"\2$1"]])("ab") == [r"\2$1"]


def test_bad_patterns_are_named_when_it_is_made() -> None:
    with pytest.raises(PreprocessorError, match=r"'\(a'"):
        normalizer(replace_patterns=[["(a", "b"]])
    with pytest.raises(ConfigError, match=r"replace_patterns\[1\]"):
        normalizer(replace_patterns=[["a", "b"], ["a"]])
    with pytest.raises(ConfigError, match="replace_patterns"):
        normalizer(replace_patterns="a")


def test_catastrophic_pattern_ends_in_an_error() -> None:
    made = normalizer(replace_patterns=[["(a+)+$", "b"]])
    begin = time.monotonic()
    with pytest.raises(PreprocessorError, match="item 1 of the inputs"):
        made(["fine", "a" * 40 + "!"])
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize("bad", [None, 5, b"a", ["a"], "\ud800"], ids=repr)
def test_bad_texts(bad: object) -> None:
    with pytest.raises(InputError, match="item 1 of the inputs"):
        normalizer()(["a", bad])
    assert normalizer()([]) == []
