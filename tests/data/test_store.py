"""Token stores: byte for byte those of ModelCenter, read as views, shared by ranks, and never read when broken."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hezar_like.data import DistributedIndexedDataset, IndexedDataset, IndexedDatasetWriter
from hezar_like.errors import DataError, OptionError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "indexed_dataset"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
STORES = {"mmap_i32": "int32", "mmap_u16": "uint16", "mmap_u16_nodoc": "uint16"}


def write(prefix: Path, documents: list[list[list[int]]], dtype: str = "int32", ends: bool = True) -> Path:
    with IndexedDatasetWriter(prefix, dtype) as writer:
        for document in documents:
            for sequence in document:
                writer.add_item(sequence)
            if ends:
                writer.end_document()
    return prefix


@pytest.mark.parametrize("name", STORES)
def test_files_are_those_of_the_original(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, EXPECTED["documents"], STORES[name], ends=not name.endswith("nodoc"))
    for ending in (".bin", ".idx"):
        assert (tmp_path / f"{name}{ending}").read_bytes() == (FIXTURES / f"{name}{ending}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.bin", f"{name}.idx"]


@pytest.mark.parametrize("name", [*STORES, "cached_i32"])
def test_the_originals_files_are_read(name: str) -> None:
    store = IndexedDataset(FIXTURES / name)
    assert [sequence.tolist() for sequence in store] == EXPECTED["sequences"]
    assert [store[i].tolist() for i in range(-len(store), len(store))] == EXPECTED["sequences"] * 2
    assert [sequence.tolist() for sequence in store[1:4:2]] == EXPECTED["sequences"][1:4:2]
    assert list(store.lengths) == list(map(len, EXPECTED["sequences"]))
    documents = [[s.tolist() for s in store.document(i)] for i in range(store.documents)]
    assert documents == ([] if name.endswith("nodoc") else EXPECTED["documents"])
    assert store.get(3, 1, 2).tolist() == [300, 2]
    assert store.get(3, 3).tolist() == [2, 4]
    for index in (len(store), -len(store) - 1):
        with pytest.raises(IndexError):
            store[index]


def test_items_are_views_and_travel_to_workers(tmp_path: Path) -> None:
    store = IndexedDataset(write(tmp_path / "x", [[[1, 2, 3]], [[4]]]))
    first = store[0]
    assert isinstance(first, np.ndarray) and np.shares_memory(first, store.tokens) and not first.flags.writeable
    copy = pickle.loads(pickle.dumps(store))
    assert [sequence.tolist() for sequence in copy] == [[1, 2, 3], [4]]
    for given_name in ("x.bin", "x.idx"):
        assert len(IndexedDataset(tmp_path / given_name)) == 2
    assert "2 sequences of int32" in repr(store)


documents = st.lists(st.lists(st.lists(st.integers(0, 255), max_size=5), max_size=4), max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(documents, st.sampled_from(["uint8", "uint16", "int16", "int32", "int64"]))
def test_what_is_written_is_read(tmp_path: Path, given_documents: list[list[list[int]]], dtype: str) -> None:
    store = IndexedDataset(write(tmp_path / "x", given_documents, dtype))
    assert [s.tolist() for s in store] == [s for document in given_documents for s in document]
    assert [[s.tolist() for s in store.document(i)] for i in range(store.documents)] == given_documents
    with IndexedDatasetWriter(tmp_path / "y", dtype) as writer:  # joined with itself
        writer.append(store)
        writer.append(store)
    joined = IndexedDataset(tmp_path / "y")
    assert [[s.tolist() for s in joined.document(i)] for i in range(joined.documents)] == given_documents * 2


def test_the_writer_takes_tensors_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with IndexedDatasetWriter(tmp_path / "x", "uint16") as writer:
        writer.add_item(torch.tensor([1, 65535], dtype=torch.int64))
        writer.add_item(np.array([7], dtype=np.int16))
        for bad, message in (([65536], "cannot hold"), ([-1], "cannot hold"), ([1.5], "integers"), ([[1]], "one dimension")):
            with pytest.raises(DataError, match=f"sequence 2: .*{message}"):
                writer.add_item(bad)
    assert [s.tolist() for s in IndexedDataset(tmp_path / "x")] == [[1, 65535], [7]]
    with pytest.raises(OptionError, match="dtype is 'float32'"):
        IndexedDatasetWriter(tmp_path / "z", "float32")
    with pytest.raises(DataError, match="holds uint16, not int32"), IndexedDatasetWriter(tmp_path / "z") as writer:
        writer.append(IndexedDataset(tmp_path / "x"))
    assert not list(tmp_path.glob("z*"))


def test_an_error_leaves_the_old_store(tmp_path: Path) -> None:
    write(tmp_path / "x", [[[1, 2]]])
    with pytest.raises(RuntimeError), IndexedDatasetWriter(tmp_path / "x") as writer:
        writer.add_item([9])
        raise RuntimeError
    assert [s.tolist() for s in IndexedDataset(tmp_path / "x")] == [[1, 2]]
    assert len(list(tmp_path.iterdir())) == 2


BROKEN = {
    "empty index": ("idx", lambda data: b"", "no index of a token store"),
    "another file": ("idx", lambda data: b"PK\x03\x04" * 20, "no index of a token store"),
    "index cut in its header": ("idx", lambda data: data[:20], "has 20 bytes, but must have 34: it was cut off"),
    "index cut off": ("idx", lambda data: data[:-3], "it was cut off"),
    "index with more": ("idx", lambda data: data + b"\0", "has .* bytes, but must have"),
    "tokens cut off": ("bin", lambda data: data[:-2], "needs 60 bytes of .*bin, which has 58: it was cut off"),
    "no tokens": ("bin", lambda data: b"", "which has 0: it was cut off"),
    "version": ("idx", lambda data: data[:9] + struct.pack("<Q", 2) + data[17:], "is of version 2"),
    "type": ("idx", lambda data: data[:17] + b"\6" + data[18:], "has tokens of the type 6"),
    "count": ("idx", lambda data: data[:18] + struct.pack("<Q", 2**60) + data[26:], "it was cut off"),
    "length": ("idx", lambda data: data[:34] + struct.pack("<i", -1) + data[38:], "impossible places or lengths"),
    "place": ("idx", lambda data: data[:54] + struct.pack("<q", -4) + data[62:], "impossible places or lengths"),
    "borders": ("idx", lambda data: data[:-8] + struct.pack("<q", 99), "borders of documents out of order"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_one_clear_error(case: str, tmp_path: Path) -> None:
    ending, change, message = BROKEN[case]
    for part in ("bin", "idx"):
        data = (FIXTURES / f"mmap_i32.{part}").read_bytes()
        (tmp_path / f"x.{part}").write_bytes(change(data) if part == ending else data)
    with pytest.raises(DataError, match=message) as error:
        IndexedDataset(tmp_path / "x")
    assert str(tmp_path / "x") in str(error.value)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.bin: there is no such file"):
        IndexedDataset(tmp_path / "x")
    (tmp_path / "x.bin").touch()
    with pytest.raises(DataError, match=r"x\.idx: there is no such file"):
        IndexedDataset(tmp_path / "x")


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_stores_as_in_modelcenter(world_size: int, tmp_path: Path) -> None:
    stores = [list(range(100, 107)), list(range(200, 204)), list(range(300, 305))]
    for number, items in enumerate(stores):
        write(tmp_path / f"part_{number}", [[[item, item]] for item in items])
    found = [DistributedIndexedDataset(tmp_path, "part", rank, world_size) for rank in range(world_size)]
    for rank, own in enumerate(found):
        expected = [n for items in stores for n in items[len(items) // world_size * rank :][: len(items) // world_size]]
        assert [sequence.tolist() for sequence in own] == [[n, n] for n in expected]
        assert own[-1].tolist() == own[len(own) - 1].tolist() == [expected[-1]] * 2
        assert [sequence.tolist() for sequence in own[1:3]] == [[n, n] for n in expected[1:3]]
        assert list(own.lengths) == [2] * len(expected)
        assert len(pickle.loads(pickle.dumps(own))) == len(own)
    assert sum(map(len, found)) + found[0].left_over == 16
    with pytest.raises(IndexError):
        found[0][len(found[0])]


def test_ranks_of_a_single_store_and_wrong_ranks(tmp_path: Path) -> None:
    write(tmp_path / "x", [[[1]], [[2]], [[3]]])
    own = DistributedIndexedDataset(tmp_path, "x", 1, 2)
    assert ([s.tolist() for s in own], own.left_over) == ([[2]], 1)
    with pytest.raises(OptionError, match="rank is 2 and world_size 2"):
        DistributedIndexedDataset(tmp_path, "x", 2, 2)
    with pytest.raises(DataError, match="there is no such file"):
        DistributedIndexedDataset(tmp_path, "y", 0, 1)
