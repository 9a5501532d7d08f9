"""GLM's tokenizer: command tokens between the texts that sentencepiece cuts, and ids that two tokens share."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published_vocabularies import golden

from hezar_like import build_model
from hezar_like.errors import ConfigError, TokenizerError
from hezar_like.models import Model
from hezar_like.preprocessors import GLMTokenizer, GLMTokenizerConfig, Preprocessor, Tokenizer, flagai_tokenizer

Find = Callable[[str], Path | None]
COMMANDS = ["[CLS]", "[MASK]", "[sMASK]", "[gMASK]", "<|startofpiece|>", "<|endofpiece|>", "<|endoftext|>", "[SEP]"]
SENTENCES = [row["text"] for row in golden("glm_ch")["rows"]]
parts = st.text(st.sampled_from("今天我们中国的公园玩龘，。！ ab cAB125%\n\t＜ＡＢ１』\u3000▂▁😀"), max_size=12)
texts = st.lists(st.sampled_from([*COMMANDS, "<n>"]) | parts, max_size=8).map("".join)
slow = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LAYOUTS = ["glm_large_ch", "glm_10b_ch"]


@pytest.fixture(scope="module")
def glms(published: Callable[[str], Find]) -> dict[str, Tokenizer]:
    found = {layout: flagai_tokenizer(published("glm-large-ch"), "glm", layout=layout) for layout in LAYOUTS}
    return {layout: tokenizer for layout, tokenizer in found.items() if tokenizer is not None}


@given(text=texts)
@pytest.mark.parametrize("layout", LAYOUTS)
@slow
def test_sentencepiece_cuts_what_stands_between_command_tokens(
    layout: str, text: str, glms: dict[str, Tokenizer], published: Callable[[str], Find]
) -> None:
    tokenizer = glms[layout]
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(published("glm-large-ch")("cog-pretrain.model")))
    expected, decoded = [], ""
    for part in re.split(f"({'|'.join(map(re.escape, COMMANDS))})", text):
        command = part in COMMANDS
        ids = [tokenizer.config.command_ids[part]] if command else theirs.encode(part)
        expected += ids
        decoded += part if command else theirs.decode(ids)
    assert tokenizer(text, add_special_tokens=False)["token_ids"] == expected
    if layout == "glm_large_ch" and not any(theirs.unk_id() == i for i in expected):
        assert tokenizer.decode(expected, skip_special_tokens=False) == ([decoded] if expected else [])


@given(text=texts)
@pytest.mark.parametrize("layout", LAYOUTS)
@slow
def test_offsets_are_slices_in_order(layout: str, text: str, glms: dict[str, Tokenizer]) -> None:
    (encoded,) = glms[layout].encode_texts([text])
    assert encoded.ids[0] == 50002 and encoded.ids[-1] == 50000 and encoded.special.count(True) == 2
    spans = [encoded.offsets[i] for i in encoded.content]
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)
    for i, (start, end) in zip(encoded.content, spans, strict=True):
        if encoded.tokens()[i] in COMMANDS:
            assert text[start:end].strip() == encoded.tokens()[i]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_padding_and_threads(layout: str, glms: dict[str, Tokenizer]) -> None:
    tokenizer = glms[layout]
    options = {"truncation": True, "max_length": 9, "stride": 2, "return_overflowing_tokens": True, "padding": True}
    alone = [tokenizer([text, "a<|endofpiece|>"], **options) for text in SENTENCES]
    assert all(i in range(50010) for rows in alone for row in rows["token_ids"] for i in row)
    for rows in alone:
        assert rows["token_ids"][-1][:3] == [50002, 778, 50007]
        assert {row[0] for row in rows["token_ids"]} == {50002} and set(rows["token_ids"][-1][4:]) <= {50000}
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda text: tokenizer([text, "a<|endofpiece|>"], **options), SENTENCES * 4)) == alone * 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_a_model(layout: str, glms: dict[str, Tokenizer], tmp_path: Path) -> None:
    sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    model = build_model("bert_text_embedding", vocab_size=50048, **sizes).eval()
    model.preprocessor = glms[layout]
    model.save(tmp_path)
    loaded = Model.load(tmp_path, device="cpu")
    assert repr(loaded.predict(["a[gMASK]", "<|endofpiece|>"])) == repr(model.predict(["a[gMASK]", "<|endofpiece|>"]))
    assert loaded.preprocessor.glm_tokenizer.config.command_ids == glms[layout].config.command_ids
    for twin in (copy.deepcopy(glms[layout]), pickle.loads(pickle.dumps(glms[layout]))):
        assert twin(SENTENCES) == glms[layout](SENTENCES) and twin.vocab == glms[layout].vocab


def test_ids_in_the_config(glms: dict[str, Tokenizer], tmp_path: Path) -> None:
    backend = glms["glm_large_ch"].backend
    moved = GLMTokenizer(GLMTokenizerConfig(command_ids={"[sMASK]": 50003}), backend=backend)
    assert moved.smask_token_id == moved.mask_token_id == 50003 and moved.id_to_token(50008) is None
    assert moved("[sMASK]", add_special_tokens=False)["token_ids"] == [50003]
    with pytest.raises(TokenizerError, match=r"command_ids: '\[dBLOCK\]' is not in the vocabulary"):
        GLMTokenizer(GLMTokenizerConfig(command_ids={"[dBLOCK]": 50010}), backend=backend)
    with pytest.raises(ConfigError, match="command_ids"):
        GLMTokenizerConfig(command_ids={"[MASK]": -1})
    moved.save(tmp_path)
    config = tmp_path / "preprocessor" / "tokenizer_config.yaml"
    config.write_text(config.read_text().replace("'[sMASK]': 50003", "'[tMASK]': 50003"))
    with pytest.raises(TokenizerError, match="tMASK"):
        Preprocessor.load(tmp_path)


def test_words_that_are_given(glms: dict[str, Tokenizer]) -> None:
    (encoded,) = glms["glm_10b_ch"].encode_texts([["a", "[gMASK]", " "]], is_split_into_words=True)
    assert encoded.word_ids == [None, 0, 1, None] and encoded.ids == [50002, 778, 50007, 50000]
