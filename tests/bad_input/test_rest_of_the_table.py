"""Rows that no other file has: labels, repositories full of traps, numbers and types of weights, files on disk, gaps."""

from __future__ import annotations

import json
import os
import stat
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hezar_like import build_preprocessor
from hezar_like.cli import main
from hezar_like.errors import CheckpointError, ConfigError, NonFiniteOutput, OptionError, RegistryError

WEIGHTS = "model.safetensors"
OUT = "head.out.weight"
TEXTS = ["the cat", "a", "", "the dog sat on the mat"]


def replace(folder: Path, **tensors: torch.Tensor) -> None:
    """Other values for some of the weights; names with `_` for `.`."""
    path = folder / WEIGHTS
    weights = {name: tensor.clone() for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(weights | {name.replace("__", "."): tensor for name, tensor in tensors.items()}, path)


# -- labels -----------------------------------------------------------------------------------------------------------

LABELS = ["<img src=x onerror=alert(1)>", "\x1b[31mred\x1b[0m", "a\nb\rc", "\u202ecod.exe", "</script>"]


@pytest.mark.parametrize("label", LABELS)
def test_row_15_labels_in_a_terminal(
    label: str, folder: Path, load: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(id2label={0: label, 1: "b", 2: "c"}).save(folder)
    model = load()
    assert model.predict("the cat", top_k=None)[0] and label in model.config.id2label.values()
    assert repr(model).replace("\n", "").isprintable()
    for arguments in (["info", str(folder)], ["predict", str(folder), "the cat", "--set", "top_k=3"]):
        capsys.readouterr()
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        assert main(arguments) == 0
        said = capsys.readouterr().out
        assert not any(letter in said for letter in "\x1b\r\u202e"), said


def test_row_15_a_label_of_a_megabyte(refused: Any, rewrite: Any, load: Any) -> None:
    rewrite(f"id2label: {{0: {'x' * 900_000}, 1: b, 2: c}}")
    with refused(ConfigError, "id2label has a name of 900000 characters"):
        load()


# -- numbers and types of weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_row_25_one_number_that_is_none(value: float, folder: Path, load: Any) -> None:
    weights = load_file(folder / WEIGHTS)[OUT].clone()
    weights[0, 0] = value
    replace(folder, head__out__weight=weights)
    model = load()  # reading every number would make every load slow
    with pytest.raises(NonFiniteOutput, match="NaN or infinity"):
        model.predict("the cat")


def test_row_25_zeros_in_a_norm_are_numbers(folder: Path, load: Any) -> None:
    norm = "backbone.embed.norm.weight"
    replace(folder, **{norm.replace(".", "__"): torch.zeros_like(load_file(folder / WEIGHTS)[norm])})
    (result,) = load().predict("the cat", top_k=None)
    assert abs(sum(entry["score"] for entry in result) - 1) < 1e-5


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
def test_row_26_types_that_are_converted(dtype: torch.dtype, close: float, folder: Path, load: Any) -> None:
    before = load().predict(TEXTS, top_k=None)
    path = folder / WEIGHTS
    weights = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(weights, path)
    assert load().dtype == dtype
    model = load(dtype="float32")
    assert model.dtype == torch.float32
    own = model.state_dict()
    assert all(torch.equal(own[name], tensor.float()) for name, tensor in weights.items())
    for result, expected in zip(model.predict(TEXTS, top_k=None), before, strict=True):
        scores = {entry["label"]: entry["score"] for entry in expected}
        assert {entry["label"] for entry in result} == scores.keys()
        assert all(abs(entry["score"] - scores[entry["label"]]) <= close for entry in result)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.uint8, torch.float8_e4m3fn])
def test_row_26_types_that_are_refused_by_name(dtype: torch.dtype, refused: Any, folder: Path, load: Any) -> None:
    replace(folder, head__out__weight=torch.zeros(3, 32).to(dtype))
    with refused(CheckpointError, f"{OUT!r} ({str(dtype).removeprefix('torch.')})", "a type that does not fit"):
        load()


@pytest.mark.parametrize("rank", [65, 1000, 100_000])
def test_row_27_a_tensor_of_many_dimensions(rank: int, refused: Any, folder: Path, load: Any) -> None:
    header = {OUT: {"dtype": "F32", "shape": [1] * rank, "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 4)
    with refused(CheckpointError, OUT):
        load()


# -- predict ----------------------------------------------------------------------------------------------------------


def test_row_42_nothing_gives_nothing(load: Any) -> None:
    model = load()
    assert model.predict([]) == [] and list(model.stream(iter(()))) == []


@pytest.mark.parametrize("batch_size", [1, 3, "auto", 10**9])
def test_row_43_batches_keep_the_order(batch_size: Any, load: Any) -> None:
    model = load()
    labels = [entry["label"] for entry in (result[0] for result in model.predict(TEXTS * 3, batch_size=batch_size))]
    assert labels == [model.predict(text)[0][0]["label"] for text in TEXTS * 3]


@pytest.mark.parametrize("batch_size", [0, -1, True, 1.5, "8", None])
def test_row_43_batches_of_nothing(batch_size: Any, refused: Any, load: Any) -> None:
    model = load()
    with refused(OptionError, "batch_size"):
        model.predict(TEXTS, batch_size=batch_size)


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("umask", "mode"), [(0o027, 0o640), (0o022, 0o644), (0o077, 0o600)])
def test_row_55_permissions(umask: int, mode: int, load: Any, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        load().save(tmp_path / "new")
    finally:
        os.umask(before)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert len(found) >= 4 and set(found.values()) == {mode}


def test_row_56_a_model_lives_on_when_its_files_are_replaced(folder: Path, load: Any) -> None:
    model = load()
    before = model.predict(TEXTS, top_k=None)
    other = load(id2label={0: "x", 1: "y", 2: "z"})
    for _ in range(3):
        other.save(folder)
        model.save(folder)
    assert model.predict(TEXTS, top_k=None) == before
    assert load().predict(TEXTS, top_k=None) == before


# -- what this version does not have ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["image_processor", "vit_image_processor"])
def test_row_46_there_are_no_images_yet(name: str) -> None:
    with pytest.raises(RegistryError, match="unknown preprocessor"):
        build_preprocessor(name)


def test_row_63_there_is_no_server_yet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "model"]) == 2
    assert "unknown command 'serve'" in capsys.readouterr().err
