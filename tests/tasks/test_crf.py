"""Sequence labeling with a conditional random field: against all chains of labels, one by one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from comparing import difference
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TEXTS, tiny_model
from torch import Tensor

from hezar_like import Model
from hezar_like.errors import InputError
from hezar_like.layers import LinearChainCRF
from hezar_like.outputs import ClassifierOutput
from hezar_like.tasks.sequence_labeling_crf import NEVER
from hezar_like.tasks.text import content_places

LABELS = 3


def crf_of(labels: int = LABELS, seed: int = 0) -> LinearChainCRF:
    torch.manual_seed(seed)
    crf = LinearChainCRF(labels)
    crf.transitions.data.normal_(0, 2)
    return crf


def all_chains(crf: LinearChainCRF, scores: Tensor) -> dict[tuple[int, ...], Tensor]:
    """The score of every chain of labels, for the scores of a row of tokens [length, labels]."""
    result = {}
    for chain in itertools.product(range(scores.size(1)), repeat=len(scores)):
        own = sum(scores[i, label] for i, label in enumerate(chain))
        pairs = sum(crf.transitions[a, b] for a, b in itertools.pairwise(chain))
        result[chain] = own + pairs
    return result


@given(st.integers(0, 10**6), st.integers(1, 6), st.data())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_loss_best_chain_and_probabilities(seed: int, length: int, data: st.DataObject) -> None:
    crf = crf_of(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, length, LABELS, generator=generator) * 2
    labels = torch.randint(LABELS, (3, length), generator=generator)
    flags = st.lists(st.booleans(), min_size=length, max_size=length)
    mask = torch.tensor(data.draw(st.lists(flags, min_size=3, max_size=3)))
    loss = crf.loss(scores, labels.masked_fill(~mask, -100), mask)
    best, probabilities = crf.decode(scores, mask)
    for row in range(3):
        places = mask[row].nonzero()[:, 0].tolist()
        if not places:
            assert loss[row] == 0
            continue
        chains = all_chains(crf, scores[row, places])
        total = torch.stack(list(chains.values())).logsumexp(0)
        assert abs(loss[row] - (total - chains[tuple(labels[row, places].tolist())])) < 1e-4
        assert chains[tuple(best[row, places].tolist())] == max(chains.values())
        for i, place in enumerate(places):
            for label in range(LABELS):
                own = [score for chain, score in chains.items() if chain[i] == label]
                assert abs(probabilities[row, place, label] - (torch.stack(own).logsumexp(0) - total).exp()) < 1e-5


def test_gradients() -> None:
    crf = crf_of()
    scores = torch.randn(2, 5, LABELS, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    labels = torch.tensor([[0, 1, 2, 1, 0], [2, 2, -100, -100, -100]])
    crf.loss(scores, labels, mask).sum().backward()
    _, probabilities = crf.decode(scores.detach(), mask)
    truth = torch.nn.functional.one_hot(labels.clamp(min=0), LABELS)
    expected = (probabilities - truth) * mask[..., None]  # what is expected, less what is true
    torch.testing.assert_close(scores.grad, expected, rtol=1e-4, atol=1e-5)
    assert crf.transitions.grad.abs().min() > 1e-6


def labeler(**fields: Any) -> Model:
    names = {"num_labels": None, "id2label": {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}}
    return tiny_model("bert_sequence_labeling_crf", **(names | fields))


@torch.no_grad()
def test_labels_depend_on_the_ones_before() -> None:
    torch.manual_seed(0)  # some random models write next to no pairs
    model = labeler()
    model.head.crf.transitions.data.zero_()
    pairs = {pair for records in model.predict(TEXTS) for pair in itertools.pairwise(r["label"] for r in records)}
    names = list(model.config.id2label.values())
    for first, second in pairs:
        model.head.crf.transitions.data[names.index(first), names.index(second)] = -1e4
    after = {pair for records in model.predict(TEXTS) for pair in itertools.pairwise(r["label"] for r in records)}
    assert len(pairs) > 5 and after and not pairs & after


def test_without_transitions_it_is_plain_labeling() -> None:
    model, plain = labeler(), tiny_model("bert_sequence_labeling", num_labels=5)
    model.head.crf.transitions.data.zero_()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "crf" not in k})
    plain.config.id2label = model.config.id2label
    for options in ({}, {"return_offsets": False, "return_scores": False}):
        assert difference(model.predict(TEXTS, **options), plain.predict(TEXTS, **options)) < 1e-5


@pytest.mark.parametrize("aggregate", [None, "word", "entity"])
def test_batches_give_what_single_texts_give(aggregate: str | None) -> None:
    model = labeler()
    expected = [model.predict(text, aggregate=aggregate)[0] for text in TEXTS]
    assert difference(model.predict(TEXTS, aggregate=aggregate), expected) < 1e-5
    assert difference(model.predict(TEXTS, aggregate=aggregate, batch_size=2), expected) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("special", [True, False])
def test_the_chain(special: bool) -> None:
    """What is decoded: all content tokens in one chain, over all windows, perhaps with the special ones around."""
    model = labeler(chain_special_tokens=special)
    for text in ("the dog", "pack my box with five dozen liquor jugs " * 8):
        batch = model.preprocess(text)
        logits = model(**{name: batch[name] for name in batch}).logits
        (item,) = batch.inputs
        rows = [logits[place] for place in content_places(item)]
        if special:
            last = item.windows[-1][1]
            rows = [logits[0, 0], *rows, logits[-1, len(last) - 1]]
            rows[0] = rows[0] + torch.tensor([0.0] + [NEVER] * 4)
        scores = torch.stack(rows)[None]
        best, probabilities = model.head.crf.decode(scores, torch.ones(1, scores.size(1), dtype=torch.bool))
        inner = slice(1, -1) if special else slice(None)
        (records,) = model.predict(text)
        assert [record["label"] for record in records] == [model.config.id2label[i] for i in best[0, inner].tolist()]
        chosen = probabilities[0, inner].gather(1, best[0, inner, None])[:, 0]
        assert difference([record["score"] for record in records], chosen.tolist()) < 1e-5


def test_long_texts_given_words_and_nothing() -> None:
    model = labeler(chain_special_tokens=True)
    text = "the dog " * 60
    (records,) = model.predict(text, aggregate="word")
    assert [record["token"] for record in records] == text.split()
    (records,) = model.predict([["a", "cat", ""]], aggregate="word")
    assert [record["token"] for record in records] == ["a", "cat", ""]
    assert model.predict(["", "  "]) == [[], []]
    with pytest.raises(InputError, match="item 1 of the inputs is a pair of texts"):
        model.predict(["a", {"text": "a", "text_pair": "b"}])


@torch.no_grad()
def test_loss_of_the_task() -> None:
    """Tokens with -100 are not in the chain, wherever they stand; and neither is padding told by its token."""
    model = labeler(mask_padding_tokens=True)
    tokens = torch.tensor([[2, 20, 30, 40, 3], [2, 60, 3, 0, 0]])
    labels = torch.tensor([[-100, 1, -100, 2, -100], [-100, 3, -100, 4, 4]])
    output = model(token_ids=tokens, labels=labels)
    chains = [all_chains(model.head.crf, output.logits[0, [1, 3]]), all_chains(model.head.crf, output.logits[1, [1]])]
    expected = [
        torch.stack(list(own.values())).logsumexp(0) - own[true]
        for own, true in zip(chains, [(1, 2), (3,)], strict=True)
    ]
    assert abs(output.loss - torch.stack(expected).mean()) < 1e-4


def test_post_process_takes_what_forward_gives() -> None:
    model = labeler()
    batch = model.preprocess(["the dog"])
    logits = torch.zeros(1, batch["token_ids"].size(1), 5)
    logits[..., 3] = 50.0
    model.head.crf.transitions.data.zero_()
    (records,) = model.post_process(ClassifierOutput(logits=logits), batch, aggregate="entity")
    assert [(record["token"], record["label"]) for record in records] == [("the", "LOC"), ("dog", "LOC")]
    assert all(record["score"] == pytest.approx(1.0) for record in records)
