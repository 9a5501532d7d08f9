"""Rows 21 to 24: weight files that are broken, foreign, or another model's. Nothing is loaded, and the file is named."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hezar_like import Model
from hezar_like.errors import CheckpointError

WEIGHTS = "model.safetensors"
OUT = "head.out.weight"


def with_header(change: dict[str, Any] | str, data: bytes = b"\0" * 16) -> bytes:
    text = change if isinstance(change, str) else json.dumps(change)
    return struct.pack("<Q", len(text)) + text.encode() + data


def entry(shape: Any, offsets: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"", lambda data: data[:7], lambda data: data[:-1], lambda data: data[:1000],
        lambda data: data + b"\0", lambda data: struct.pack("<Q", 2**63) + data[8:],
        lambda data: struct.pack("<Q", 2**64 - 1) + data[8:], lambda data: b"\xff" * 100,
    ],
    ids=["empty", "7 bytes", "cut", "cut header", "trailing", "length 2^63", "length 2^64-1", "noise"],
)  # fmt: skip
def test_row_21_broken_files(damage: Any, refused: Any, folder: Path, load: Any) -> None:
    path = folder / WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    with refused(CheckpointError, repr(str(path)), f"({path.stat().st_size} bytes)"):
        load()


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry([-1], [0, 4])}, {"a": entry([1.5], [0, 6])}, {"a": entry([2**62, 4], [0, 16])},
        {"a": entry([2**40], [0, 16])}, {"a": entry([3], [0, 12]), "b": entry([3], [4, 16])},
        {"a": entry([1], [0, 4]), "b": entry([1], [12, 16])}, {"a": entry([4], [0, 16], "F99")},
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}',
        "{not json", "[]", '{"a": 5}', '{"a": {}}', "{" * 5000,
        {"a": entry([4], [16, 0])}, {"__metadata__": {"x": 5}, "a": entry([4], [0, 16])},
    ],
    ids=[
        "negative", "fraction", "overflow", "too large", "overlap", "hole", "unknown dtype", "duplicate", "not json",
        "list", "number", "no fields", "deep", "backwards", "metadata",
    ],
)  # fmt: skip
def test_row_22_lying_headers(header: Any, refused: Any, folder: Path, load: Any) -> None:
    path = folder / WEIGHTS
    path.write_bytes(with_header(header))
    with refused(CheckpointError, repr(str(path))):
        load()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\n\n<html>", "web page"),
        (pickle.dumps({"a": 1}), "pickle"),
        (zipped(), "ZIP"),
        (b'{"error": "Repository not found"}', "JSON"),
    ],
    ids=["lfs", "html", "html after newlines", "pickle", "zip", "json"],
)
def test_row_23_something_else(content: bytes, kind: str, refused: Any, folder: Path, load: Any) -> None:
    (folder / WEIGHTS).write_bytes(content)
    with refused(CheckpointError, repr(str(folder / WEIGHTS)), kind):
        load()


class Touch:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("x"),)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_row_23_a_pickle_is_not_run(name: str, refused: Any, folder: Path, load: Any, tmp_path: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(pickle.dumps({"head.out.weight": Touch()}))
    with refused(CheckpointError, repr(str(folder / name)), "pickle"):
        load()
    assert not (tmp_path / "x").exists()


def damage(folder: Path, kind: str) -> None:
    path = folder / WEIGHTS
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    if kind == "missing":
        del tensors[OUT]
    elif kind == "extra":
        tensors["head.extra.weight"] = torch.zeros(2)
    elif kind == "transposed":
        tensors[OUT] = tensors[OUT].T.contiguous()
    elif kind == "renamed":
        tensors["head.output.weight"] = tensors.pop(OUT)
    elif kind == "escape":
        tensors["head.\x1b[31m../../x"] = torch.zeros(2)
    elif kind == "rank 0":
        tensors[OUT] = torch.tensor(1.0)
    elif kind == "rank 60":
        tensors[OUT] = tensors[OUT].reshape(*[1] * 58, *tensors[OUT].shape)
    elif kind == "integers":
        tensors[OUT] = tensors[OUT].long()
    elif kind == "layer":
        tensors = {name.replace("blocks.1", "blocks.7"): tensor for name, tensor in tensors.items()}
    elif kind == "nothing":
        tensors = {}
    path.unlink()
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("missing", [f"missing: {OUT!r}"]),
        ("extra", ["unexpected: 'head.extra.weight'"]),
        ("transposed", [f"{OUT!r} is [32, 3] in the file, [3, 32] in the model"]),
        ("renamed", [f"missing: {OUT!r} (near 'head.output.weight')", f"'head.output.weight' (near {OUT!r})"]),
        ("escape", [r"unexpected: 'head.\x1b[31m../../x'"]),
        ("rank 0", [f"{OUT!r} is [] in the file, [3, 32] in the model"]),
        ("rank 60", [f"{OUT!r} is [1, 1, "]),
        ("integers", [f"{OUT!r} (int64)", "a type that does not fit"]),
        ("layer", ["'backbone.stack.blocks.1.attn.q.weight' (near 'backbone.stack.blocks.7.attn.q.weight')"]),
        ("nothing", ["missing"]),
    ],
)
def test_row_24_weights_that_do_not_fit(kind: str, parts: list[str], refused: Any, folder: Path, load: Any) -> None:
    damage(folder, kind)
    with refused(CheckpointError, repr(str(folder / WEIGHTS)), "'bert_text_classification'", *parts):
        load()


def test_row_24_all_problems_are_in_one_error(refused: Any, folder: Path, load: Any) -> None:
    for kind in ("extra", "renamed", "escape"):
        damage(folder, kind)
    with refused(CheckpointError, "missing: ", "unexpected: ", "'head.extra.weight'", "'head.output.weight'"):
        load()


def test_row_24_no_weights_at_all(refused: Any, folder: Path, load: Any) -> None:
    (folder / WEIGHTS).unlink()
    with refused(CheckpointError, str(folder), "has no weights", "'model.safetensors'"):
        load()


def test_row_24_a_state_dict_of_which_nothing_fits_changes_nothing(refused: Any, load: Any) -> None:
    model: Model = load()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with refused(CheckpointError, "none of the 2 given weights fits", "'head.out.weight'", "'foo'"):
        model.load_state_dict({"head.out.weight": torch.zeros(5, 5), "foo": torch.zeros(2)})
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
