"""CPM-1 writes into holes: each token is the best one of a pass over everything that is there."""

from __future__ import annotations

import pytest
import torch
from comparing import perturb
from tiny_models import tiny_model
from torch import Tensor

from hezar_like import Model
from hezar_like.errors import OptionError


@pytest.fixture(scope="module")
def cpm1() -> Model:
    model = tiny_model("cpm1_text_generation")
    perturb(model)
    model.config.generation.update(eos_token_id=[])
    return model.eval()


@torch.no_grad()
def by_hand(model: Model, tokens: Tensor, begin: int, count: int, span: Tensor | None) -> list[int]:
    """Fills a hole of one row; tokens of it that are not written yet are padding."""
    tokens = tokens.clone()
    context = torch.ones_like(tokens, dtype=torch.bool)
    context[:, begin : begin + count] = False
    for place in range(begin, begin + count):
        mask = torch.ones_like(tokens)
        mask[:, place : begin + count] = 0
        logits = model(token_ids=tokens, attention_mask=mask, context=context, span=span).logits
        tokens[0, place] = logits[0, place - 1].argmax()
    return tokens[0, begin : begin + count].tolist()


def test_a_hole_in_the_middle(cpm1: Model) -> None:
    tokens = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(1))
    context = torch.ones(2, 9, dtype=torch.bool)
    context[0, 3:6] = context[1, 5:7] = False
    span = torch.tensor([[0] * 9, [0, 0, 1, 1, 1, 1, 1, 1, 1]])
    output = cpm1.generate(token_ids=tokens, context=context, span=span, max_new_tokens=6, return_dict=True)
    assert output.lengths.tolist() == [3, 2]
    first = by_hand(cpm1, tokens[:1], 3, 3, span[:1])
    second = by_hand(cpm1, tokens[1:], 5, 2, span[1:])
    assert output.sequences[0, 9:12].tolist() == first and output.sequences[1, 9:11].tolist() == second
    beams = cpm1.generate(token_ids=tokens, context=context, span=span, num_beams=3, max_new_tokens=6, return_dict=True)
    assert (beams.scores >= cpm1.generate(
        token_ids=tokens, context=context, span=span, max_new_tokens=6, return_dict=True, return_scores=True
    ).scores - 1e-5).all()


def test_behind_the_context(cpm1: Model) -> None:
    tokens = torch.randint(3, 90, (2, 6), generator=torch.Generator().manual_seed(2))
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    output = cpm1.generate(token_ids=tokens, attention_mask=mask, context=mask.bool(), max_new_tokens=4)
    for row, length in ((0, 4), (1, 6)):
        longer = torch.cat((tokens[row : row + 1, :length], torch.zeros(1, 4, dtype=torch.int64)), 1)
        assert output[row, 6:].tolist() == by_hand(cpm1, longer, length, 4, None)


def test_what_cannot_be_filled(cpm1: Model) -> None:
    tokens = torch.randint(3, 90, (1, 6))
    for context in ([0, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 1]):
        with pytest.raises(OptionError, match="context must be True before the one hole"):
            cpm1.generate(token_ids=tokens, context=torch.tensor([context]).bool(), max_new_tokens=2)
