"""Collators, packing and samplers: nothing is lost, nothing sees what it must not, and positions are found again."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_model

from hezar_like.data import (
    BatchSampler,
    Holes,
    IndexedDataset,
    IndexedDatasetWriter,
    PackCollator,
    PackedRows,
    PadCollator,
    span_mask,
)
from hezar_like.data.packing import pack
from hezar_like.errors import ConfigError, DataError, OptionError

# -- collators ----------------------------------------------------------------------------------------------------------


def test_lists_numbers_rows_and_tensors_are_padded() -> None:
    samples = [
        {"token_ids": [5, 6, 7], "position_ids": [[0, 1, 2], [0, 0, 1]], "context": [True, False, True], "sep": 2, "labels": [1, 2, 3], "x": torch.ones(2)},
        {"token_ids": [8], "position_ids": [[0], [0]], "context": [True], "sep": 1, "labels": [4], "x": torch.zeros(2)},
    ]
    batch = PadCollator(9)(samples)
    assert {name: value.tolist() for name, value in batch.items()} == {
        "token_ids": [[5, 6, 7], [8, 9, 9]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "position_ids": [[[0, 1, 2], [0, 0, 1]], [[0, 0, 0], [0, 0, 0]]],
        "context": [[True, False, True], [True, False, False]],
        "sep": [2, 1],
        "labels": [[1, 2, 3], [4, -100, -100]],
        "x": [[1.0, 1.0], [0.0, 0.0]],
    }
    assert batch["context"].dtype == torch.bool
    left = PadCollator(side="left", multiple_of=4, fill={"labels": 0})([{"token_ids": [1, 2], "labels": [3]}])
    assert (left["token_ids"].tolist(), left["labels"].tolist()) == ([[0, 0, 1, 2]], [[0, 0, 0, 3]])
    assert PadCollator()([{"token_ids": [], "labels": 0.5}])["labels"].tolist() == [0.5]


def test_samples_that_do_not_go_together() -> None:
    for collate in (PadCollator(), PackCollator()):
        with pytest.raises(DataError, match="without samples"):
            collate([])
    with pytest.raises(DataError, match="sample 1 of the batch and sample 0 do not both have labels"):
        PadCollator()([{"token_ids": [1], "labels": [1]}, {"token_ids": [1]}])
    with pytest.raises(DataError, match="sample 1 of the batch has 2 tokens, but 1 labels"):
        PackCollator()([{"token_ids": [1], "labels": [1]}, {"token_ids": [1, 2], "labels": [1]}])
    with pytest.raises(DataError, match="sample 0 has 3 tokens, but a row has room for 2"):
        PackCollator(2)([{"token_ids": [1, 2, 3]}])


# -- packing ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 20), max_size=60), st.integers(20, 64))
def test_rows_hold_every_text_once_and_are_full(lengths: list[int], room: int) -> None:
    rows = pack(lengths, room)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    sums = sorted(sum(lengths[i] for i in row) for row in rows)
    assert all(0 < total <= room for total in sums)
    assert len(sums) < 2 or sums[0] + sums[1] > room  # else two rows would be one


def test_packed_batch() -> None:
    samples = [{"token_ids": [5, 6, 7], "labels": [-100, 6, 7], "context": [True, True, False]}, {"token_ids": [8, 9], "labels": [-100, 9], "context": [True, False]}, {"token_ids": [4, 3], "labels": [-100, 3], "context": [True, False]}]
    one = PackCollator()(samples)
    assert one["token_ids"].tolist() == [[5, 6, 7, 8, 9, 4, 3]]
    assert one["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert one["span"].tolist() == [[1, 1, 1, 2, 2, 3, 3]]
    rows = PackCollator(5, pad_id=1)(samples)
    assert rows["token_ids"].tolist() == [[5, 6, 7, 8, 9], [4, 3, 1, 1, 1]]
    assert rows["labels"].tolist() == [[-100, 6, 7, -100, 9], [-100, 3, -100, -100, -100]]
    assert rows["span"].tolist() == [[1, 1, 1, 2, 2], [1, 1, 0, 0, 0]]
    assert rows["context"].tolist()[1] == [True, False, False, False, False]
    assert set(one) == set(rows) == {"token_ids", "position_ids", "span", "labels", "context"}
    labelled = PackCollator()([{"token_ids": [1, 2], "labels": 4}, {"token_ids": [3], "labels": 5}])
    assert (labelled["labels"].tolist(), labelled["first_tokens"].tolist()) == ([4, 5], [0, 2])
    apart = PackCollator(2)([{"token_ids": [3], "labels": 5}, {"token_ids": [1, 2], "labels": 4}])
    assert (apart["token_ids"].tolist(), apart["first_tokens"].tolist()) == ([[3, 0], [1, 2]], [0, 2])
    mask = span_mask(rows["span"])
    assert mask[0].int().tolist() == [[1, 1, 1, 0, 0]] * 3 + [[0, 0, 0, 1, 1]] * 2
    assert not mask[1, 2:].any() and not mask[1, :, 2:].any()


@pytest.mark.parametrize("name", ["gpt2_text_generation", "bert_mask_filling", "llama_text_generation"])
def test_a_packed_batch_has_the_loss_and_gradients_of_the_padded_one(name: str) -> None:
    model = tiny_model(name).float()
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(10, 100, (size,), generator=generator).tolist() for size in (7, 3, 12, 5)]
    samples = [{"token_ids": row, "labels": [-100, *row[1:]]} for row in rows]
    found = []
    for packed in (PackCollator()(samples), PackCollator(14)(samples)):
        attention_mask = span_mask(packed["span"])
        found.append({"token_ids": packed["token_ids"], "position_ids": packed["position_ids"], "attention_mask": attention_mask, "labels": packed["labels"]})
    losses, gradients = [], []
    for inputs in (PadCollator()(samples), *found):
        model.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    for loss, gradient in zip(losses[1:], gradients[1:], strict=True):
        assert loss == pytest.approx(losses[0], abs=1e-5)
        assert (gradient - gradients[0]).abs().max() < 1e-5


def test_cpm_takes_packed_holes_as_they_are() -> None:
    model = tiny_model("cpm1_text_generation").float()
    samples = [Holes()(list(range(10, 10 + size)), Random(size)) for size in (9, 14, 20, 3)]
    batches = [PadCollator()(samples), PackCollator(24)(samples), PackCollator()(samples)]
    losses = [model(**batch).loss.item() for batch in batches]
    assert losses[1:] == pytest.approx([losses[0]] * 2, abs=1e-5)


def store(folder: Path, sizes: list[int]) -> IndexedDataset:
    with IndexedDatasetWriter(folder / "x") as writer:
        for number, size in enumerate(sizes):
            writer.add_item(list(range(100 * number, 100 * number + size)))
    return IndexedDataset(folder / "x")


@pytest.mark.parametrize("sizes", [[5, 3, 0, 9, 1], [30], [2] * 20, [0, 0, 7], []])
@pytest.mark.parametrize("length", [2, 4, 7])
def test_rows_of_a_store(sizes: list[int], length: int, tmp_path: Path) -> None:
    own = store(tmp_path, sizes)
    rows = PackedRows(own, length)
    whole = [token for sequence in own for token in sequence.tolist()]
    assert len(rows) == len(whole) // length == len(rows.lengths)
    found = [rows[i] for i in range(len(rows))]
    assert [token for row in found for token in row["token_ids"]] == whole[: len(rows) * length]
    for row in found:
        text = [token // 100 for token in row["token_ids"]]
        starts = [i for i in range(length) if not i or text[i] != text[i - 1]]
        assert [i for i, label in enumerate(row["labels"]) if label == -100] == starts
        assert [i for i, place in enumerate(row["position_ids"]) if place == 0] == starts
        assert row["span"] == [sum(start <= i for start in starts) for i in range(length)]
    if found:
        assert rows[-1] == found[-1]
    with pytest.raises(IndexError):
        rows[len(rows)]
    with pytest.raises(OptionError, match="at least 2"):
        PackedRows(own, 1)


# -- samplers -----------------------------------------------------------------------------------------------------------

LENGTHS = [3, 9, 1, 7, 7, 2, 12, 5, 30, 4, 4, 8, 6, 1, 2, 11, 10]
KINDS: list[dict[str, Any]] = [
    {"batch_size": 4},
    {"batch_size": 4, "shuffle": False},
    {"batch_size": 3, "group_by_length": True},
    {"max_tokens": 20},
    {"max_tokens": 20, "group_by_length": True, "shuffle": False},
    {"max_tokens": 24, "packed": True, "batch_size": 5},
]


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_each_sample_comes_and_batches_keep_their_bounds(options: dict[str, Any], world_size: int) -> None:
    ranks = [BatchSampler(LENGTHS, **options, rank=rank, world_size=world_size) for rank in range(world_size)]
    batches = [list(sampler) for sampler in ranks]
    assert len({len(own) for own in batches}) == 1 and [len(own) for own in batches] == list(map(len, ranks))
    seen = [i for own in batches for batch in own for i in batch]
    assert set(seen) == set(range(len(LENGTHS)))
    for batch in (batch for own in batches for batch in own):
        assert len(batch) <= options.get("batch_size", 99)
        own = [LENGTHS[i] for i in batch]
        tokens = sum(own) if options.get("packed") else max(own) * len(own)
        assert tokens <= options.get("max_tokens", 10**9) or len(batch) == 1
    exact = [BatchSampler(LENGTHS, **options, rank=rank, world_size=world_size, repeat=False) for rank in range(world_size)]
    assert sorted(i for sampler in exact for batch in sampler for i in batch) == list(range(len(LENGTHS)))
    dropped = [list(BatchSampler(LENGTHS, **options, rank=rank, world_size=world_size, drop_last=True)) for rank in range(world_size)]
    assert len({len(own) for own in dropped}) == 1
    flat = [i for own in dropped for batch in own for i in batch]
    assert len(set(flat)) == len(flat)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_position_is_found_again(options: dict[str, Any]) -> None:
    sampler = BatchSampler(LENGTHS, **options, rank=1, world_size=2, seed=5)
    sampler.set_epoch(3)
    whole = list(sampler)
    state = sampler.state_dict(2)
    other = BatchSampler(LENGTHS, **options, rank=1, world_size=2, seed=5)
    other.load_state_dict(state)
    other.set_epoch(3)  # as a loop over epochs does
    assert len(other) == len(whole)
    assert list(other) == whole[2:]
    assert list(other) == whole  # and then the epoch from its beginning
    other.set_epoch(4)
    sampler.set_epoch(4)
    assert list(other) == list(sampler)
    assert (list(sampler) != whole) == options.get("shuffle", True)


def test_a_state_of_other_batches_is_refused() -> None:
    state = BatchSampler(LENGTHS, 4).state_dict(1)
    with pytest.raises(ConfigError, match="saved with batch_size=4, and now it is 5"):
        BatchSampler(LENGTHS, 5).load_state_dict(state)
    with pytest.raises(ConfigError, match="saved with samples=17, and now it is 16"):
        BatchSampler(16, 4).load_state_dict(state)


def test_like_lengths_come_together() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 500, (5000,), generator=generator).tolist()

    def padding(**options: Any) -> float:
        batches = [[lengths[i] for i in batch] for batch in BatchSampler(lengths, 16, **options)]
        return sum(max(own) * len(own) for own in batches) / sum(lengths) - 1

    assert padding(group_by_length=True) < 0.05 < 0.5 < padding()


def test_lengths_of_a_store_are_taken(tmp_path: Path) -> None:
    own = store(tmp_path, [5, 3, 9, 1])
    assert sorted(i for batch in BatchSampler(own.lengths, max_tokens=10, group_by_length=True) for i in batch) == [0, 1, 2, 3]


def test_wrong_options() -> None:
    for options, message in (
        ({}, "give batch_size, max_tokens"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": True}, "batch_size is True"),
        ({"batch_size": 2, "rank": 2, "world_size": 2}, "rank is 2"),
    ):
        with pytest.raises(OptionError, match=message):
            BatchSampler(LENGTHS, **options)
    with pytest.raises(OptionError, match="need the length of each sample"):
        BatchSampler(5, max_tokens=3)
    assert list(BatchSampler(0, 4)) == [] and list(BatchSampler([], max_tokens=4, group_by_length=True)) == []
