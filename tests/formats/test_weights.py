"""Weight files: good ones, and each way they can be broken, foreign or hostile."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hezar_like.errors import CheckpointError, HubError
from hezar_like.files import stage
from hezar_like.formats.weights import find_weights, open_weights, save_weights, stale_weights

CANDIDATES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.pt",
)
INDEX = "model.safetensors.index.json"


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {
        "half": torch.randn(3, 4).to(torch.bfloat16),
        "matrix": torch.randn(5, 6),
        "column": torch.randn(4, 3).T,
        "scalar": torch.tensor(7),
        "flags": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 3),
    }


def finder(folder):
    return lambda name: folder / name if (folder / name).is_file() else None


def find(folder):
    return find_weights(finder(folder), CANDIDATES, f"folder {str(folder)!r}")


def same(weights, tensors):
    assert set(weights) == set(tensors)
    for name, tensor in weights.items():
        assert tensor.dtype == tensors[name].dtype and torch.equal(tensor, tensors[name]), name
        assert weights.header[name].shape == tensor.shape and weights.header[name].dtype == tensor.dtype


def refused(path, *parts, **options):
    """The error of opening a file; it is one line, names the file and its size, and has these parts."""
    with pytest.raises(CheckpointError) as error:
        open_weights([path], **options)
    text = str(error.value)
    assert text.isprintable() and repr(str(path)) in text and len(text) < 600, text
    assert f"({path.stat().st_size} bytes)" in text
    for part in parts:
        assert part in text, text


def raw(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


# ---------------------------------------------------------------- saving and reading back


@pytest.mark.parametrize("filename", ["model.safetensors", "model.pt", "pytorch_model.bin"])
def test_round_trip(tmp_path, tensors, filename):
    with stage(tmp_path) as staged:
        assert save_weights(tensors, staged, filename, metadata={"made": "today"}) == [filename]
    weights = find(tmp_path)
    same(weights, tensors)
    assert len(weights) == 6 and weights.nbytes == sum(tensor.nbytes for tensor in tensors.values())
    assert filename in weights.description and {info.file for info in weights.header.values()} == {filename}
    assert "matrix" in weights and "nope" not in weights


def test_the_library_reads_what_we_write(tmp_path, tensors):
    with stage(tmp_path) as staged:
        save_weights(tensors, staged, metadata={"b": "2", "a": "é"})
    same_file = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(same_file[name], tensors[name]) for name in tensors) and len(same_file) == len(tensors)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt", "a": "é", "b": "2"}
    assert find(tmp_path).metadata == {"format": "pt", "a": "é", "b": "2"}


@pytest.mark.parametrize("filename", ["model.safetensors", "model.pt"])
def test_the_same_tensors_give_the_same_bytes(tmp_path, tensors, filename):
    seen = set()
    for number in range(3):
        with stage(tmp_path / str(number)) as staged:
            save_weights(tensors, staged, filename, metadata={"x": "1", "y": "2", "z": "3"})
        seen.add((tmp_path / str(number) / filename).read_bytes())
    assert len(seen) == 1


def test_the_order_of_names_does_not_matter_and_tensors_are_aligned(tmp_path, tensors):
    for folder, items, notes in (
        ("a", list(tensors.items()), {"x": "1", "y": "2"}),
        ("b", list(tensors.items())[::-1], {"y": "2", "x": "1"}),
    ):
        with stage(tmp_path / folder) as staged:
            save_weights(dict(items), staged, metadata=notes)
    data = (tmp_path / "a" / "model.safetensors").read_bytes()
    assert data == (tmp_path / "b" / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert all(
        (8 + length + header[name]["data_offsets"][0]) % tensor.dtype.itemsize == 0 for name, tensor in tensors.items()
    )


def test_shards(tmp_path):
    tensors = {f"layer.{number}": torch.full((100,), float(number)) for number in range(7)}
    with stage(tmp_path) as staged:
        names = save_weights(tensors, staged, max_shard_bytes=1000)
    assert names == [f"model-0000{number}-of-00004.safetensors" for number in (1, 2, 3, 4)] + [INDEX]
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"] == {"total_size": 2800} and index["weight_map"]["layer.6"] == names[3]
    weights = find(tmp_path)
    same(weights, tensors)
    assert weights.header["layer.2"].file == names[1] and INDEX in weights.description


def test_a_tensor_larger_than_a_shard_gets_its_own(tmp_path):
    with stage(tmp_path) as staged:
        names = save_weights({"a": torch.ones(1), "b": torch.ones(99), "c": torch.ones(1)}, staged, max_shard_bytes=8)
    assert len(names) == 4


def test_reading_maps_the_file(tmp_path):
    save_file({"a": torch.ones(1000)}, tmp_path / "model.safetensors")
    torch.save({"a": torch.ones(1000)}, tmp_path / "model.pt")
    for name in ("model.safetensors", "model.pt"):
        tensor = open_weights([tmp_path / name])["a"]
        start = tensor.data_ptr()
        ranges = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(name)]
        spans = [tuple(int(part, 16) for part in fields[0].split("-")) for fields in ranges]
        assert any(begin <= start < end for begin, end in spans), name


def test_pickles_do_not_save_the_rest_of_a_storage(tmp_path):
    with stage(tmp_path) as staged:
        save_weights({"a": torch.zeros(1_000_000)[:2]}, staged, "model.pt")
    assert (tmp_path / "model.pt").stat().st_size < 10_000


@pytest.mark.parametrize(
    "tensor", [torch.ones(3, device="meta"), torch.eye(3).to_sparse(), torch.ones(2, dtype=torch.complex128)]
)
@pytest.mark.parametrize("filename", ["model.safetensors", "model.pt"])
def test_tensors_that_cannot_be_saved(tmp_path, tensor, filename):
    with pytest.raises(CheckpointError, match="cannot save tensor 'odd'"), stage(tmp_path) as staged:
        save_weights({"odd": tensor}, staged, filename)
    assert not os.listdir(tmp_path)


def test_other_extensions_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="'model.h5'; end the name with"), stage(tmp_path) as staged:
        save_weights({}, staged, "model.h5")


@pytest.mark.parametrize("filename", ["model.safetensors", "model.pt"])
def test_a_full_disk_keeps_the_old_weights(tmp_path, filename):
    with stage(tmp_path) as staged:
        save_weights({"a": torch.ones(3)}, staged, filename)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # stands for the full disk
    try:
        with pytest.raises(HubError, match="check the space"), stage(tmp_path) as staged:
            save_weights({"a": torch.ones(1_000_000)}, staged, filename)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    same(find(tmp_path), {"a": torch.ones(3)})
    assert os.listdir(tmp_path) == [filename]


def test_saving_over_weights_that_are_mapped(tmp_path):
    for value in (1.0, 2.0):
        with stage(tmp_path) as staged:
            save_weights({"a": torch.full((10_000,), value)}, staged)
        if value == 1.0:
            old = find(tmp_path)["a"]
    assert bool((old == 1).all()) and bool((find(tmp_path)["a"] == 2).all())


def test_stale_weights():
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    others = [
        "model.onnx",
        "model.bin",
        "sub/model.safetensors",
        "pytorch_model.bin",
        "model-1.safetensors",
        "README.md",
    ]
    there = [*shards, INDEX, "model.safetensors", "model.pt", *others]
    assert stale_weights("model.safetensors", ["model.safetensors"], there) == [INDEX, *shards]
    assert stale_weights("model.safetensors", [*shards, INDEX], there) == ["model.safetensors"]
    assert stale_weights("model.pt", ["model.pt"], there) == [INDEX, *shards, "model.safetensors"]


@pytest.mark.parametrize("sizes", [(10, 10_000), (10_000, 10), (1000, 500)])
def test_single_and_sharded_replace_each_other(tmp_path, sizes):
    tensors = {f"t{number}": torch.randn(100) for number in range(5)}
    for size in sizes:
        tensors = {name: tensor + 1 for name, tensor in tensors.items()}
        with stage(tmp_path) as staged:
            names = save_weights(tensors, staged, max_shard_bytes=size)
            for name in stale_weights("model.safetensors", names, os.listdir(tmp_path)):
                staged.remove(name)
        assert sorted(os.listdir(tmp_path)) == sorted(names)
        same(find(tmp_path), tensors)


# ---------------------------------------------------------------- finding


def test_the_first_candidate_wins(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    assert find(tmp_path)["a"] == 0
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert find(tmp_path)["a"] == 1


def test_nothing_found(tmp_path):
    with pytest.raises(CheckpointError, match="folder .* has no weights; looked for 'model.safetensors', .*'model.pt'"):
        find(tmp_path)


def test_unknown_extension_and_missing_file(tmp_path):
    (tmp_path / "model.h5").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="none of the extensions"):
        open_weights([tmp_path / "model.h5"])
    with pytest.raises(CheckpointError, match="does not exist"):
        open_weights([tmp_path / "nope.pt"])


# ---------------------------------------------------------------- indexes


@pytest.fixture
def sharded(tmp_path):
    save_file({"a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "one.safetensors")
    save_file({"c": torch.ones(1)}, tmp_path / "two.safetensors")
    return tmp_path


def write_index(folder, content, name=INDEX):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


GOOD = {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}


@pytest.mark.parametrize(
    "content, part",
    [
        ({"weight_map": {**GOOD, "a": "../one.safetensors"}}, "inside the model folder"),
        ({"weight_map": {**GOOD, "a": "/etc/passwd"}}, "inside the model folder"),
        ({"weight_map": {**GOOD, "a": 5}}, "inside the model folder"),
        ({"weight_map": {**GOOD, "a": "one.bin"}}, "must end with .safetensors"),
        ({"weight_map": {}}, "no 'weight_map'"),
        ({"weight_map": ["a"]}, "no 'weight_map'"),
        ({}, "no 'weight_map'"),
        ([], "no 'weight_map'"),
        ("version https://git-lfs.github.com/spec/v1", "no valid JSON"),
        ('{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}', "duplicate key 'a'"),
        ("[" * 100_000, "no valid JSON"),
        ("{} " + " " * 10_000_001, "larger than 10000000 bytes"),
        ({"weight_map": {**GOOD, "d": "gone.safetensors"}}, "names files that are not there: 'gone.safetensors'"),
        ({"weight_map": {**GOOD, "d": "two.safetensors"}}, "not in the file it names: 'd'"),
        ({"weight_map": {"a": "one.safetensors", "c": "two.safetensors"}}, "omits: 'b'"),
        ({"weight_map": {**GOOD, "a": "two.safetensors"}}, "not in the file it names: 'a'"),
    ],
)
def test_bad_indexes(sharded, content, part):
    write_index(sharded, content)
    with pytest.raises(CheckpointError) as error:
        find(sharded)
    text = str(error.value)
    assert part in text and INDEX in text and text.isprintable() and len(text) < 600


def test_good_index(sharded):
    write_index(sharded, {"metadata": {}, "weight_map": GOOD})
    assert sorted(find(sharded)) == ["a", "b", "c"]


@pytest.mark.parametrize("deeper", ["a", "z"])
def test_shards_of_one_name_in_two_folders(deeper, sharded):
    (sharded / deeper).mkdir()
    save_file({"d": torch.zeros(2)}, sharded / deeper / "one.safetensors")
    write_index(sharded, {"weight_map": {**GOOD, "d": f"{deeper}/one.safetensors"}})
    one = torch.ones(1)
    same(find(sharded), {"a": one, "b": one, "c": one, "d": torch.zeros(2)})


def test_a_tensor_in_two_shards(sharded):
    save_file({"c": torch.ones(1), "a": torch.ones(1)}, sharded / "two.safetensors")
    write_index(sharded, {"weight_map": GOOD})
    with pytest.raises(CheckpointError, match="more than one of .*: 'a'"):
        find(sharded)


def test_many_names_are_cut(sharded):
    write_index(sharded, {"weight_map": {**GOOD, **{f"x{number}": "one.safetensors" for number in range(1000)}}})
    with pytest.raises(CheckpointError, match="'x19' and 980 more") as error:
        find(sharded)
    assert len(str(error.value)) < 600


def test_sharded_pickles(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "one.bin")
    torch.save({"b": torch.zeros(2)}, tmp_path / "two.bin")
    write_index(tmp_path, {"weight_map": {"a": "one.bin", "b": "two.bin"}}, "pytorch_model.bin.index.json")
    same(find(tmp_path), {"a": torch.ones(1), "b": torch.zeros(2)})


# ---------------------------------------------------------------- safetensors


def good_bytes(tmp_path):
    save_file({"a": torch.ones(100)}, tmp_path / "good.safetensors")
    return (tmp_path / "good.safetensors").read_bytes()


HTML = b"<!DOCTYPE html><html><body>404</body></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"


@pytest.mark.parametrize(
    "change, part",
    [
        (lambda good: b"", "is empty"),
        (lambda good: good[:7], "too short"),
        (lambda good: good[:-1], "broken safetensors file"),
        (lambda good: good[:20], "header claims"),
        (lambda good: good + b"x", "broken safetensors file"),
        (lambda good: struct.pack("<Q", 2**63) + good[8:], "header claims 9223372036854775808 bytes"),
        (lambda good: LFS, "is a Git LFS pointer and not the weights; run 'git lfs pull'"),
        (lambda good: b"\n" + HTML, "is a web page (HTML)"),
        (lambda good: b'{"error": "Repository not found"}', "is JSON text"),
        (lambda good: b"PK\x03\x04" + good, "is a ZIP file"),
        (lambda good: pickle.dumps({"a": 1}), "is a pickle"),
    ],
)
def test_foreign_and_cut_safetensors(tmp_path, change, part):
    path = tmp_path / "model.safetensors"
    path.write_bytes(change(good_bytes(tmp_path)))
    refused(path, part)


@pytest.mark.parametrize(
    "header, data",
    [
        ({"a": entry([-1], 0, 4)}, b"1234"),
        ({"a": entry([1.5], 0, 4)}, b"1234"),
        ({"a": entry([2**40, 2**40], 0, 4)}, b"1234"),
        ({"a": entry([1], 0, 4), "b": entry([1], 2, 6)}, b"123456"),
        ({"a": entry([1], 0, 4), "b": entry([1], 6, 10)}, b"1234567890"),
        ({"a": entry([1], 0, 4, "F31")}, b"1234"),
        (b"[" * 50_000, b""),
        (b"\xff\xfe{}", b""),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' * 2 + b'"b":{}}', b"1234"),
    ],
)
def test_hostile_headers(tmp_path, header, data):
    refused(raw(tmp_path / "model.safetensors", header, data), "broken safetensors file")


def test_duplicate_key(tmp_path):
    one = json.dumps(entry([1], 0, 4))
    refused(raw(tmp_path / "model.safetensors", f'{{"a":{one},"a":{one}}}'.encode(), b"1234"), "duplicate key 'a'")


def test_a_panic_becomes_our_error(tmp_path, monkeypatch):
    class PanicException(BaseException):
        pass

    def panic(*args, **options):
        raise PanicException("index out of bounds")

    path = tmp_path / "model.safetensors"
    path.write_bytes(good_bytes(tmp_path))
    monkeypatch.setattr("hezar_like.formats.weight_files.safe_open", panic)
    refused(path, "PanicException: index out of bounds")


def test_types_that_are_not_supported_are_named(tmp_path):
    path = raw(tmp_path / "model.safetensors", {"odd": entry([2], 0, 1, "F4")}, b"1")
    refused(path, "'odd'", "'F4'")


def test_all_types(tmp_path):
    types = (
        torch.int64,
        torch.float64,
        torch.bfloat16,
        torch.float16,
        torch.float8_e4m3fn,
        torch.uint16,
        torch.complex64,
    )
    tensors = {str(dtype): torch.ones(2, 2).to(dtype) for dtype in types}
    with stage(tmp_path) as staged:
        save_weights(tensors, staged)
    weights = find(tmp_path)
    assert {name: info.dtype for name, info in weights.header.items()} == {str(dtype): dtype for dtype in types}
    assert all(torch.equal(weights[name].float(), torch.ones(2, 2)) for name in tensors if "complex" not in name)


# ---------------------------------------------------------------- pickles


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_run_no_code(tmp_path, legacy):
    path = tmp_path / "model.pt"
    torch.save({"a": Evil(tmp_path / "owned")}, path, _use_new_zipfile_serialization=not legacy)
    refused(path, "'posix.system'", "only tensors are read", "safetensors")
    assert not (tmp_path / "owned").exists()


def test_a_plain_pickle_runs_no_code(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(pickle.dumps(Evil(tmp_path / "owned"), protocol=2))
    refused(path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "content, name",
    [
        ({"a": torch.ones(1), "args": argparse.Namespace(x=1)}, "argparse.Namespace"),
        ({"a": torch.ones(3).numpy()}, "numpy"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
)
def test_blocked_globals_are_named(tmp_path, content, name):
    torch.save(content, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", name, "only tensors are read")


def test_legacy_pickle(tmp_path, tensors):
    torch.save(tensors, tmp_path / "model.pt", _use_new_zipfile_serialization=False)
    same(find(tmp_path), tensors)


@pytest.mark.parametrize("wrappers", [["state_dict"], ["module"], ["model"], ["model", "state_dict"]])
def test_wrappers_are_taken_off(tmp_path, tensors, wrappers):
    content = tensors
    for wrapper in wrappers:
        content = {wrapper: content}
    torch.save(content, tmp_path / "model.pt")
    same(find(tmp_path), tensors)


@pytest.mark.parametrize(
    "content, part",
    [
        ({"a": torch.ones(1), "epoch": 3}, "int under 'epoch'"),
        ({"module": {"a": torch.ones(1)}, "step": 3}, "under 'module'"),
        ({5: torch.ones(1)}, "under 5"),
        ([torch.ones(1)], "holds list"),
        (torch.ones(1), "holds Tensor"),
        ({"a": torch.eye(2).to_sparse()}, "special tensor"),
        ({"a": torch.ones(2, device="meta")}, "special tensor"),
    ],
)
def test_what_is_no_flat_dict_of_tensors(tmp_path, content, part):
    torch.save(content, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", part)


def test_a_view_of_nothing_is_not_copied(tmp_path):
    torch.save({"big": torch.ones(1).as_strided((10**12,), (0,))}, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "'big'", "4000000000000 bytes made of 4")


def zipped(path, compression, change=lambda name, data: data):
    torch.save({"a": torch.zeros(100_000)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, change(name, data))
    return path


def test_zip_bombs(tmp_path, monkeypatch):
    path = zipped(tmp_path / "model.bin", zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(torch, "load", lambda *args, **options: pytest.fail("opened a zip bomb"))
    refused(path, "compressed members")


def test_declared_size_beyond_the_file(tmp_path):
    path = zipped(tmp_path / "model.bin", zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    position = data.rindex(b"PK\x01\x02")  # the last entry of the directory; its size stands 24 bytes on
    data[position + 24 : position + 28] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    refused(path, "declares")


@pytest.mark.parametrize(
    "change, part",
    [
        (lambda good: good[:-30], "was cut off"),
        (lambda good: good[:100], "was cut off"),
        (lambda good: b"", "is empty"),
        (lambda good: HTML, "web page"),
        (lambda good: LFS, "Git LFS pointer"),
        (lambda good: b'{"error": 1}', "JSON"),
        (lambda good: b"\x80\x02}q\x00", "was cut off"),
        (lambda good: b"anything else", "was cut off or is no torch file"),
        (lambda good: struct.pack("<Q", 2) + b'{"a"', "is a safetensors file"),
    ],
)
def test_foreign_and_cut_pickles(tmp_path, change, part):
    path = tmp_path / "model.bin"
    torch.save({"a": torch.ones(100)}, path)
    path.write_bytes(change(path.read_bytes()))
    refused(path, part)


def test_torchscript(tmp_path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:  # the members that torch.jit.save writes beside the tensors
        archive.writestr("model/constants.pkl", b"")
        archive.writestr("model/code/__torch__.py", b"class Linear: pass", zipfile.ZIP_DEFLATED)
    refused(path, "TorchScript")


def test_old_torch_reads_no_pickles(tmp_path, monkeypatch):
    torch.save({"a": torch.ones(1)}, tmp_path / "model.pt")
    monkeypatch.setattr(torch, "__version__", "2.9.1")
    refused(tmp_path / "model.pt", "torch 2.9.1", "install torch 2.10")
