"""Searches and rules of transformers: the same tokens, and the same scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers_models import example, of_task, ours, reads_first, saved

from hezar_like import Model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
GENERATORS = of_task("text_generation")
FEW = ["gpt2", "t5", "llama"]
NEW = 12
ENDS = [7, 23, 41, 66, 90]
"""Several, so that texts end at different places."""


def pair(folder: Path, model_type: str) -> tuple[Model, Any]:
    model, theirs = saved(folder, model_type, "text_generation")
    theirs.generation_config.pad_token_id = 0
    return model, theirs


def prompts(theirs: Any, model_type: str, count: int = 4) -> list[dict[str, Tensor]]:
    """Single inputs without padding: what transformers counts of padding would not be compared."""
    size = theirs.config.vocab_size
    generator = torch.Generator().manual_seed(3)
    return [{"input_ids": torch.randint(3, size, (1, 5 + i), generator=generator)} for i in range(count)]


def compared(model: Model, theirs: Any, batch: dict[str, Tensor], options: dict[str, Any], **others: Any) -> None:
    """Their sequences, up to the end, and their scores."""
    options = {"max_new_tokens": NEW, "eos_token_id": ENDS, **options}
    ends = options["eos_token_id"]
    expected = theirs.generate(
        **batch, **{"pad_token_id": 0, "return_dict_in_generate": True, "output_scores": True, **options, **others}
    )
    output = model.generate(**ours(batch), **options, return_dict=True, return_scores=True)
    start = output.sequences.size(1) - output.token_scores.size(1)
    assert len(output.sequences) == len(expected.sequences)
    for row, length, other in zip(output.sequences, output.lengths.tolist(), expected.sequences, strict=True):
        assert row[: start + length].tolist() == other[: start + length].tolist()
        assert set(other[start + length :].tolist()) <= {0, ends[0]}, "they wrote more"
        assert length == NEW or int(row[start + length - 1]) in ends
    if getattr(expected, "sequences_scores", None) is not None:
        assert torch.allclose(output.scores, expected.sequences_scores, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("model_type", GENERATORS)
@pytest.mark.parametrize("beams", [2, 4])
def test_beams(model_type: str, beams: int, tmp_path: Path) -> None:
    model, theirs = pair(tmp_path, model_type)
    for batch in prompts(theirs, model_type):
        compared(model, theirs, batch, {"num_beams": beams})


@pytest.mark.parametrize("model_type", FEW)
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 0.6, 2.0])
def test_beams_and_their_options(model_type: str, early_stopping: Any, length_penalty: float, tmp_path: Path) -> None:
    model, theirs = pair(tmp_path, model_type)
    options = {"early_stopping": early_stopping, "length_penalty": length_penalty}
    for beams in (1, 2, 3, 5, 8):
        for batch in prompts(theirs, model_type, 2):
            best = {"num_return_sequences": beams} if beams > 1 else {}
            compared(model, theirs, batch, {**options, **best, "num_beams": beams})


@pytest.mark.parametrize("model_type", FEW)
def test_when_beams_stop(model_type: str, tmp_path: Path) -> None:
    """Where texts end often, each way to stop is another one."""
    model, theirs = pair(tmp_path, model_type)
    ends = list(range(1, theirs.config.vocab_size, 2))
    found = []
    for early_stopping in (False, True, "never"):
        for batch in prompts(theirs, model_type):
            options = {"num_beams": 2, "num_return_sequences": 2, "eos_token_id": ends, "length_penalty": 1.5}
            options["early_stopping"] = early_stopping
            compared(model, theirs, batch, options)
            found.append(model.generate(**ours(batch), **options, max_new_tokens=NEW).tolist())
    each = len(found) // 3
    assert found[:each] != found[each : 2 * each] and found[:each] != found[2 * each :]


RULES: list[dict[str, Any]] = [
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.6},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"bad_words_ids": [[i] for i in range(0, 50)] + [[60, 61], [70, 71, 72]]},
    {"min_new_tokens": 6, "length_penalty": -2.0},
    {"min_length": 9, "length_penalty": -2.0},
    {"forced_bos_token_id": 17},
    {"forced_eos_token_id": 23},
    {"suppress_tokens": list(range(40, 80))},
    {"begin_suppress_tokens": list(range(0, 60))},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 4, "suppress_tokens": [5, 6, 7]},
]


@pytest.mark.parametrize("model_type", FEW)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(rule))
@pytest.mark.parametrize("beams", [1, 3])
def test_rules(model_type: str, rule: dict[str, Any], beams: int, tmp_path: Path) -> None:
    model, theirs = pair(tmp_path, model_type)
    if "forced_bos_token_id" in rule and not reads_first(model_type):
        # There it is for a decoder that starts from one token; here it is what comes first, whatever that follows.
        batch = prompts(theirs, model_type)[0]
        new = model.generate(**ours(batch), num_beams=beams, max_new_tokens=NEW, **rule)[:, batch["input_ids"].size(1) :]
        assert new[:, 0].tolist() == [17]
        return
    changed = 0
    for batch in prompts(theirs, model_type):
        options = {"num_beams": beams, "max_new_tokens": NEW, "length_penalty": rule.get("length_penalty", 1.0)}
        options["eos_token_id"] = ENDS
        if "length_penalty" in rule:  # an end that comes early where no rule forbids it
            options["eos_token_id"] = [int(model.generate(**ours(batch), **options | {"eos_token_id": []})[0, -NEW + 2])]
        compared(model, theirs, batch, options | rule)
        plain, ruled = model.generate(**ours(batch), **options), model.generate(**ours(batch), **options | rule)
        changed += not torch.equal(plain, ruled)
    assert changed, "this rule would not be missed"


DRAWN: list[dict[str, Any]] = [
    {"top_k": 0},
    {"temperature": 0.4, "top_k": 0},
    {"temperature": 3.0, "top_k": 0},
    {"top_k": 5},
    {"top_p": 0.6, "top_k": 0},
    {"min_p": 0.3, "top_k": 0},
    {"typical_p": 0.5, "top_k": 0},
    {"temperature": 1.6, "top_k": 40, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2},
]


@pytest.mark.parametrize("model_type", FEW)
@pytest.mark.parametrize("options", DRAWN, ids=lambda options: "-".join(options))
def test_samples(
    model_type: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same uniform numbers the same tokens: theirs are drawn by inverting the cumulative probabilities."""
    model, theirs = pair(tmp_path, model_type)
    numbers = torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).tolist()
    left = {"theirs": iter(numbers), "ours": iter(numbers)}

    def multinomial(probabilities: Tensor, num_samples: int) -> Tensor:
        wanted = torch.tensor([next(left["theirs"]) for _ in probabilities], dtype=torch.float64)
        sums = probabilities.double().cumsum(-1)
        return (sums <= wanted[:, None] * sums[:, -1:]).sum(-1, keepdim=True)

    monkeypatch.setattr(torch, "multinomial", multinomial)
    monkeypatch.setattr(
        "hezar_like.generation.sampling.torch.rand",
        lambda count, **kwargs: torch.tensor([next(left["ours"]) for _ in range(count)], dtype=torch.float64),
    )
    for batch in prompts(theirs, model_type):
        compared(model, theirs, batch, {"do_sample": True, **options})
        left |= {"theirs": iter(numbers), "ours": iter(numbers)}


@pytest.mark.parametrize("model_type", GENERATORS)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3, "num_return_sequences": 2}], ids=["greedy", "beams"])
def test_batches(model_type: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Rows of unequal length write what they write alone."""
    model, theirs = pair(tmp_path, model_type)
    batch = ours(example(theirs, side="right" if reads_first(model_type) else "left"))
    options = {"max_new_tokens": NEW, "eos_token_id": ENDS, "return_dict": True, **options}
    output = model.generate(**batch, **options)
    count = options.get("num_return_sequences", 1)
    mask = batch["attention_mask"].bool()
    assert not mask.all()
    for index, (row, own) in enumerate(zip(batch["token_ids"], mask, strict=True)):
        alone = model.generate(token_ids=row[own][None], **options)
        for number in range(count):
            length = int(output.lengths[index * count + number])
            new = output.sequences[index * count + number][output.sequences.size(1) - output.token_scores.size(1) :]
            other = alone.sequences[number][alone.sequences.size(1) - alone.token_scores.size(1) :]
            assert int(alone.lengths[number]) == length
            assert new[:length].tolist() == other[:length].tolist()
