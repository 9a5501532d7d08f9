"""What models learn language from: nothing of a text is lost, shares are kept, and seeds decide alone."""

from __future__ import annotations

from random import Random
from statistics import mean
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import glm_tokenizer, sentinel_tokenizer, tokenizer
from torch.utils.data import DataLoader

from hezar_like.data import (
    BlankInfilling,
    CausalTokens,
    Holes,
    PadCollator,
    SpanCorruption,
    TokenMasking,
    TransformedDataset,
)
from hezar_like.errors import ConfigError, PreprocessorError

tokens = st.lists(st.integers(10, 99), max_size=60)
seeds = st.integers(0, 10**6)
MASKING = TokenMasking(mask_id=4, vocab_size=100, kept_ids={0, 1, 2, 3, 4, 10}, begin=(2,), end=(3,))
SPANS = SpanCorruption(sentinels=tuple(range(200, 150, -1)), end=(1,))
BLANKS = BlankInfilling(
    mask_id=101, start_id=102, end_id=103, sentence_mask_id=104, suffix_mask_id=105, sentence_ends=frozenset({10}),
    begin=(106,), end=(107,),
)  # fmt: skip


@given(tokens, seeds)
def test_masked_tokens(ids: list[int], seed: int) -> None:
    sample = MASKING(ids, Random(seed))
    seen, labels = sample["token_ids"], sample["labels"]
    whole = [2, *ids, 3]
    assert len(seen) == len(labels) == len(whole)
    for token, label, right in zip(seen, labels, whole, strict=True):
        assert (token == right) if label == -100 else (label == right and (token == 4 or token not in MASKING.kept_ids))
    candidates = sum(token != 10 for token in ids)
    assert sum(label != -100 for label in labels) == min(candidates, max(1, round(candidates * 0.15)))


def test_shares_of_masks() -> None:
    sample = MASKING(list(range(11, 100)) * 500, Random(0))
    pairs = [(token, label) for token, label in zip(sample["token_ids"], sample["labels"], strict=True) if label != -100]
    assert len(pairs) / 44500 == pytest.approx(0.15, abs=1e-4)
    assert mean(token == 4 for token, _ in pairs) == pytest.approx(0.8, abs=0.02)
    assert mean(token == label for token, label in pairs) == pytest.approx(0.1 + 0.1 / 94, abs=0.02)


def spans_joined(source: list[int], target: list[int], sentinels: tuple[int, ...]) -> list[int]:
    """The text, from what is read and what is written."""
    hidden: dict[int, list[int]] = {}
    for token in target:
        if token in sentinels:
            hidden[token] = []
            current = hidden[token]
        else:
            current.append(token)
    return [own for token in source for own in (hidden.get(token, [token]))]


@given(tokens, seeds)
def test_corrupted_spans(ids: list[int], seed: int) -> None:
    sample = SPANS(ids, Random(seed))
    source, target = sample["token_ids"], sample["labels"]
    assert (source[-1], target[-1]) == (1, 1)
    assert spans_joined(source[:-1], target[:-1], SPANS.sentinels) == ids
    used = [token for token in source if token in SPANS.sentinels]
    assert used == [token for token in target if token in SPANS.sentinels] == list(SPANS.sentinels[: len(used)])
    if len(ids) > 1:
        assert len(target) - 1 - len(used) == min(max(round(len(ids) * 0.15), 1), len(ids) - 1)
        assert source[0] in ids and used  # a text begins with what is seen


def test_few_sentinels_make_long_spans() -> None:
    # Of a short text, too, any part is written.
    short = [SPANS(list(range(10, 20)), Random(seed))["token_ids"] for seed in range(200)]
    assert {ids.index(200) for ids in short} == set(range(1, 9))
    own = SpanCorruption(sentinels=(200, 199), share=0.5)
    sample = own(list(range(100)), Random(0))
    assert spans_joined(sample["token_ids"], sample["labels"], (200, 199)) == list(range(100))


def filled(sample: dict[str, Any], blanks: set[int]) -> tuple[list[int], list[list[int]]]:
    """The text with its blanks filled, and the pieces; checks positions and labels."""
    ids, (places, inside), sep, labels = (sample[key] for key in ("token_ids", "position_ids", "sep", "labels"))
    assert len(ids) == len(places) == len(inside) == len(labels)
    assert places[:sep] == list(range(sep)) and inside[:sep] == [0] * sep and labels[:sep] == [-100] * sep
    pieces: dict[int, list[int]] = {}
    at = sep
    while at < len(ids):
        assert ids[at] == 102
        end = next((i for i in range(at + 1, len(ids)) if ids[i] == 102), len(ids))
        assert inside[at:end] == list(range(1, end - at + 1))
        assert set(places[at:end]) == {places[at]} and ids[places[at]] in blanks
        assert labels[at:end] == [*ids[at + 1 : end], 103]
        pieces[places[at]] = ids[at + 1 : end]
        at = end
    text = [token for i, own in enumerate(ids[:sep]) for token in (pieces[i] if own in blanks else [own])]
    assert set(pieces) == {i for i, own in enumerate(ids[:sep]) if own in blanks}
    return text, list(pieces.values())


@given(tokens, seeds, st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]))
def test_blanks(ids: list[int], seed: int, kinds: tuple[float, float, float]) -> None:
    own = BlankInfilling(**{**{f: getattr(BLANKS, f) for f in BLANKS.__dataclass_fields__}, "kinds": kinds})
    sample = own(ids, Random(seed))
    text, pieces = filled(sample, {101, 104, 105})
    suffix = 105 in sample["token_ids"]
    assert text == [106, *ids] if suffix else text == [106, *ids, 107]
    if kinds == (1, 0, 0):
        left = round(len(ids) * 0.15) or min(len(ids), 1)
        assert sum(map(len, pieces)) == left
        positions = sample["token_ids"]
        assert not any(positions[i] == positions[i + 1] == 101 for i in range(len(positions) - 1))
    if kinds == (0, 0, 1) and ids:
        assert suffix and len(pieces) == 1 and len(pieces[0]) >= int(len(ids) * 0.25)
    if kinds == (0, 1, 0):
        assert all(10 not in piece[:-1] for piece in pieces)


def test_pieces_come_in_any_order_and_spans_are_of_their_mean_length() -> None:
    own = BlankInfilling(mask_id=101, start_id=102, end_id=103)
    samples = [filled(own(list(range(200, 1200)), Random(seed)), {101})[1] for seed in range(20)]
    assert mean(len(piece) for pieces in samples for piece in pieces) == pytest.approx(3.16, abs=0.15)  # Poisson without 0
    assert any([piece[0] for piece in pieces] != sorted(piece[0] for piece in pieces) for pieces in samples)


@given(tokens, seeds)
def test_holes(ids: list[int], seed: int) -> None:
    sample = Holes(document_end=99)(ids, Random(seed))
    hole = [place for place, seen in enumerate(sample["context"]) if not seen]
    assert sample["token_ids"] == ids
    assert hole == list(range(hole[0], hole[-1] + 1)) if hole else len(ids) < 2
    assert [label != -100 for label in sample["labels"]] == [not seen for seen in sample["context"]]
    assert all(sample["labels"][place] == ids[place] for place in hole)
    if len(ids) >= 8:
        assert len(ids) // 8 <= hole[0] <= len(ids) // 4
        assert hole[-1] + 1 >= len(ids) * 3 // 4
        assert ids[-1] != 99 or hole[-1] == len(ids) - 1


def test_causal_tokens() -> None:
    assert CausalTokens(begin=(1,), end=(2,))([5, 6], Random(0)) == {"token_ids": [1, 5, 6, 2], "labels": [-100, 5, 6, 2]}


def test_settings_of_tokenizers() -> None:
    own = tokenizer()
    masking = TokenMasking.of(own, share=0.3)
    assert (masking.mask_id, masking.begin, masking.end, masking.share) == (own.mask_token_id, (own.cls_token_id,), (own.sep_token_id,), 0.3)
    assert set(own.special_ids) <= set(masking.kept_ids) and masking.vocab_size == own.max_token_id + 1
    for form in ("<extra_id_{}>", "<s_{}>"):
        t5 = sentinel_tokenizer(form)
        spans = SpanCorruption.of(t5)
        assert [t5.id_to_token(i) for i in spans.sentinels] == [form.format(i) for i in range(20)]
        assert spans.end == (t5.eos_token_id,)
    glm = glm_tokenizer()
    blanks = BlankInfilling.of(glm)
    names = {"mask_id": "[MASK]", "start_id": "<|startofpiece|>", "end_id": "<|endofpiece|>", "suffix_mask_id": "[gMASK]", "sentence_mask_id": "[sMASK]"}
    assert {key: glm.id_to_token(getattr(blanks, key)) for key in names} == names
    assert blanks.end == (glm.eos_token_id,) and blanks.begin == (glm.cls_token_id,)
    with pytest.raises(PreprocessorError, match="no sentinels such as <extra_id_0>"):
        SpanCorruption.of(own)
    with pytest.raises(PreprocessorError, match="has no sop token"):
        BlankInfilling.of(own)
    for wrong in (lambda: TokenMasking(1, 2, share=2), lambda: SpanCorruption((1,), share=0.0), lambda: BlankInfilling(1, 2, 3, share=1)):
        with pytest.raises(ConfigError):
            wrong()


SEQUENCES = [torch.arange(10, 10 + size) for size in (20, 30, 8, 50)]


def test_samples_depend_on_seed_epoch_and_index_alone() -> None:
    data = TransformedDataset(SEQUENCES, MASKING, seed=3)
    first = [data[i] for i in range(4)]
    assert [data[i] for i in (3, 2, 1, 0)][::-1] == first
    assert data[-1] == data[3]
    assert TransformedDataset(SEQUENCES, MASKING, seed=4)[1] != first[1]
    data.set_epoch(1)
    assert data[1] != first[1]
    data.set_epoch(0)
    assert [data[i] for i in range(4)] == first
    assert list(data.lengths) == [20, 30, 8, 50]


def test_workers_that_stay_see_the_next_epoch() -> None:
    data = TransformedDataset(SEQUENCES, MASKING)
    loader = DataLoader(data, batch_size=4, num_workers=1, persistent_workers=True, collate_fn=PadCollator(), multiprocessing_context="fork")
    here = []
    for epoch in range(2):
        data.set_epoch(epoch)
        (batch,) = loader
        here.append(batch["token_ids"].tolist())
        expected = PadCollator()([data[i] for i in range(4)])
        assert batch["token_ids"].tolist() == expected["token_ids"].tolist()
    assert here[0] != here[1]
    del loader
