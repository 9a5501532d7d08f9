"""Searches that transformers has not, or not any more, against their definitions computed without caches."""

from __future__ import annotations

from functools import wraps
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from comparing import perturb
from tiny_models import tiny_model
from torch import Tensor

from hezar_like import Model
from hezar_like.errors import OptionError
from hezar_like.generation.beam import _best_of_many
from hezar_like.generation.lookup import continuation
from hezar_like.generation.sampling import draw

KINDS = ["gpt2_text_generation", "gptj_text_generation", "llama_text_generation", "t5_text_generation"]
NEW = 10
SEED = torch.Generator().manual_seed(5)
PROMPTS = [torch.randint(3, 25, (1, 4 + i), generator=SEED) for i in range(3)]


def model_of(name: str, scale: float = 3.0) -> Model:
    """A model that is surer of itself than random ones are, so that texts do not repeat one token."""
    model = tiny_model(name)
    perturb(model)
    model.config.generation.update(eos_token_id=[])
    with torch.no_grad():
        for block in (*getattr(model.backbone, "stack", model.backbone).modules(),):
            if isinstance(block, torch.nn.Linear):
                block.weight.mul_(scale)
    return model.eval()


@torch.no_grad()
def scores_and_states(model: Model, prompt: Tensor, written: list[int]) -> tuple[Tensor, Tensor]:
    """Of the whole text, anew: scores [length, vocabulary] and hidden states [length, width] of the decoder's input."""
    new = torch.tensor([written], dtype=torch.int64)
    if model.config.family == "t5":
        start = torch.tensor([[model.config.decoder_start_token_id]])
        inputs = {"token_ids": prompt, "decoder_input_ids": torch.cat((start, new), 1)}
    else:
        inputs = {"token_ids": torch.cat((prompt, new), 1)}
    output = model(**inputs)
    return output.logits[0].float(), output.last_hidden_state[0].float()


def new_tokens(model: Model, prompt: Tensor, **options: Any) -> list[list[int]]:
    output = model.generate(token_ids=prompt, **{"max_new_tokens": NEW, **options}, return_dict=True)
    return output.sequences[:, output.sequences.size(1) - NEW :].tolist()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("alpha", [0.2, 0.6, 1.0])
def test_contrastive_search(name: str, alpha: float) -> None:
    model, top_k = model_of(name), 4
    for prompt in PROMPTS:
        written: list[int] = []
        for _ in range(NEW):
            scores, states = scores_and_states(model, prompt, written)
            probabilities, candidates = scores[-1].softmax(-1).topk(top_k)
            values = []
            for probability, candidate in zip(probabilities, candidates.tolist(), strict=True):
                new = scores_and_states(model, prompt, [*written, candidate])[1][-1]
                likeness = F.cosine_similarity(new[None], states).max()
                values.append((1 - alpha) * probability - alpha * likeness)
            written.append(int(candidates[int(torch.stack(values).argmax())]))
        assert new_tokens(model, prompt, penalty_alpha=alpha, top_k=top_k) == [written]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("guesses", [1, 3, 10])
def test_prompt_lookup_is_greedy_search(name: str, guesses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(name, scale=1.0)
    steps = []
    forward = type(model.backbone).forward

    @wraps(forward)
    def counting(*args: Any, **kwargs: Any) -> Any:
        steps.append(1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(type(model.backbone), "forward", counting)
    saved = 0
    for rule in ({}, {"repetition_penalty": 1.2}, {"no_repeat_ngram_size": 3}):
        for prompt in PROMPTS:
            prompt = prompt.repeat(1, 3)  # there is something to look up
            steps.clear()
            expected = model.generate(token_ids=prompt, max_new_tokens=24, **rule)
            usual = len(steps)
            steps.clear()
            assert torch.equal(
                model.generate(token_ids=prompt, max_new_tokens=24, prompt_lookup_num_tokens=guesses, **rule), expected
            )
            saved += usual - len(steps)
            end = int(expected[0, -8])
            ends = {"max_new_tokens": 24, "eos_token_id": end, "prompt_lookup_num_tokens": guesses, **rule}
            shorter = model.generate(token_ids=prompt, **ends)
            assert torch.equal(shorter, expected[:, : shorter.size(1)]) and int(shorter[0, -1]) == end
    assert saved > 0


def test_prompt_lookup_of_a_batch() -> None:
    model = model_of("gpt2_text_generation")
    rows = torch.cat([torch.cat((torch.zeros(1, 6 - len(p[0]), dtype=torch.int64), p), 1) for p in PROMPTS])
    mask = (rows > 0).long()
    plain = model.generate(token_ids=rows, attention_mask=mask, max_new_tokens=NEW)
    guessed = model.generate(token_ids=rows, attention_mask=mask, max_new_tokens=NEW, prompt_lookup_num_tokens=4)
    assert torch.equal(plain, guessed)


@pytest.mark.parametrize("name", KINDS)
def test_groups_of_beams(name: str) -> None:
    """Each group searches for itself, with what tokens of earlier groups cost it in the same step."""
    model, groups, size, penalty = model_of(name), 3, 2, 1.5
    for prompt in PROMPTS:
        beams: list[list[tuple[float, list[int]]]] = [[(0.0, [])] for _ in range(groups)]
        for _ in range(NEW):
            taken: list[int] = []
            for number in range(groups):
                found = []
                for total, written in beams[number]:
                    scores = scores_and_states(model, prompt, written)[0][-1].log_softmax(-1)
                    for token in taken:
                        scores[token] -= penalty
                    found += [(total + value, [*written, token]) for token, value in enumerate(scores.tolist())]
                beams[number] = sorted(found, reverse=True)[:size]
                taken += [written[-1] for _, written in beams[number]]
        best = sorted((beam for group in beams for beam in group), reverse=True)
        options = {"num_beams": groups * size, "num_beam_groups": groups, "diversity_penalty": penalty}
        assert new_tokens(model, prompt, **options, num_return_sequences=4) == [written for _, written in best[:4]]
        apart = {tuple(text[:1]) for text in new_tokens(model, prompt, **options, num_return_sequences=6)}
        assert len(apart) > 1


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 1}, {"num_beams": 3}, {"penalty_alpha": 0.4, "top_k": 3}])
def test_scores(name: str, options: dict[str, Any]) -> None:
    """They are the log-probabilities of what was written, and their sum."""
    model = model_of(name)
    for prompt in PROMPTS:
        output = model.generate(
            token_ids=prompt, max_new_tokens=NEW, **options, length_penalty=0.5, return_dict=True, return_scores=True
        )
        written = output.sequences[0, -NEW:].tolist()
        scores = scores_and_states(model, prompt, written[:-1])[0][-NEW:].log_softmax(-1)
        expected = scores.gather(1, torch.tensor(written)[:, None])[:, 0]
        assert torch.allclose(output.token_scores[0], expected, atol=1e-4)
        assert torch.allclose(output.scores[0], expected.sum() / NEW**0.5, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_seeds(name: str) -> None:
    """The same samples alone, in any batch, and however many are drawn; others with another seed."""
    model = model_of(name, scale=1.0)
    rows = torch.cat([prompt[:, :4] for prompt in PROMPTS])
    options = {"do_sample": True, "max_new_tokens": NEW, "temperature": 1.5}

    def samples(tokens: Tensor, seed: int | None, count: int = 1) -> Tensor:
        output = model.generate(token_ids=tokens, seed=seed, num_return_sequences=count, **options)
        return output[:, -NEW:].view(len(tokens), count, NEW)

    first = samples(rows, 7)
    assert torch.equal(first, samples(rows, 7)) and not torch.equal(first, samples(rows, 8))
    assert torch.equal(first[1:2], samples(rows[1:2], 7))
    assert torch.equal(first[[2, 0]], samples(rows[[2, 0]], 7))
    many = samples(rows, 7, 4)
    assert torch.equal(many[:, :1], first) and len(set(map(tuple, many[0].tolist()))) == 4
    assert not torch.equal(samples(rows, None), samples(rows, None))


def test_frequencies() -> None:
    """Tokens are drawn as often as they are probable."""
    model = model_of("gpt2_text_generation", scale=1.0)
    prompt = PROMPTS[0]
    probabilities = scores_and_states(model, prompt, [])[0][-1].softmax(-1)
    count = 1000
    drawn = torch.cat([
        model.generate(token_ids=prompt, do_sample=True, seed=seed, num_return_sequences=count, max_new_tokens=1)[:, -1]
        for seed in range(4)
    ])
    found = torch.bincount(drawn, minlength=len(probabilities)) / len(drawn)
    assert (found - probabilities).abs().max() < 5 * (0.25 / len(drawn)) ** 0.5


def test_temperature_zero_is_greedy() -> None:
    model = model_of("gpt2_text_generation")
    greedy = model.generate(token_ids=PROMPTS[0], max_new_tokens=NEW)
    assert torch.equal(model.generate(token_ids=PROMPTS[0], do_sample=True, temperature=0, max_new_tokens=NEW), greedy)
    assert torch.equal(model.generate(token_ids=PROMPTS[0], do_sample=True, top_k=1, max_new_tokens=NEW), greedy)


def test_the_window_of_repetition() -> None:
    """Only tokens of the window count."""
    model = model_of("gpt2_text_generation")
    for prompt in PROMPTS:
        written: list[int] = []
        for _ in range(NEW):
            scores = scores_and_states(model, prompt, written)[0][-1]
            for token in {*[*prompt[0].tolist(), *written][-3:]}:
                scores[token] = scores[token] * 2.0 if scores[token] < 0 else scores[token] / 2.0
            written.append(int(scores.argmax()))
        assert new_tokens(model, prompt, repetition_penalty=2.0, repetition_window=3) == [written]


def test_max_length_counts_a_decoders_input() -> None:
    model = model_of("gpt2_text_generation")
    rows = torch.tensor([[0, 0, 5, 6, 7], [4, 5, 6, 7, 8]])
    output = model.generate(token_ids=rows, attention_mask=rows > 0, max_length=8, eos_token_id=2, return_dict=True)
    assert output.lengths.tolist() == [5, 3]
    alone = model.generate(token_ids=rows[:1, 2:], max_length=8)
    assert output.sequences[0, 5:].tolist() == alone[0, 3:].tolist()
    with pytest.raises(OptionError, match="max_length is 5, but there are 5 tokens already"):
        model.generate(token_ids=rows, attention_mask=rows > 0, max_length=5)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_new_tokens": 0}, "max_new_tokens is 0; it must be"),
    ({"max_new_tokens": -1}, "max_new_tokens is -1"),
    ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5"),
    ({"temperature": -1, "do_sample": True}, "temperature is -1.0; it must be between 0"),
    ({"temperature": float("nan"), "do_sample": True}, "temperature is nan; it must be a finite number"),
    ({"top_k": -3, "do_sample": True}, "top_k is -3"),
    ({"top_p": 0, "do_sample": True}, "top_p is 0.0"),
    ({"top_p": 1.5, "do_sample": True}, "top_p is 1.5"),
    ({"num_beams": 0}, "num_beams is 0"),
    ({"num_beams": 4, "num_beam_groups": 3}, "num_beams=4 must be a multiple of num_beam_groups=3"),
    ({"num_beams": 2, "do_sample": True}, "num_beams and do_sample are two ways"),
    ({"num_return_sequences": 2}, "num_return_sequences=2 needs do_sample=True, or as many num_beams"),
    ({"penalty_alpha": 0.5}, "needs top_k of at least 2"),
    ({"early_stopping": "soon"}, "early_stopping is 'soon'"),
    ({"bad_words_ids": [[]]}, "has a word without tokens"),
    ({"stop": ["a", ""]}, "stop has an empty text"),
    ({"seed": -1}, "seed is -1"),
    ({"num_beam": 3}, "Did you mean 'num_beams'"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[next(iter(options)) for options, _ in BAD])
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    model = model_of("gpt2_text_generation")
    for call in (lambda: model.generate(token_ids=PROMPTS[0], **options), lambda: model.predict("the", **options)):
        with pytest.raises(OptionError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_a_call_wins_over_the_models_own_way() -> None:
    model = model_of("gpt2_text_generation")
    greedy = model.generate(token_ids=PROMPTS[0], max_new_tokens=NEW)
    model.config.generation.update(num_beams=4, num_beam_groups=2, diversity_penalty=1.0)
    assert torch.equal(model.generate(token_ids=PROMPTS[0], do_sample=True, top_k=1, max_new_tokens=NEW), greedy)
    assert torch.equal(model.generate(token_ids=PROMPTS[0], num_beams=1, num_beam_groups=1, max_new_tokens=NEW), greedy)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"penalty_alpha": 0.4, "top_k": 3}], ids=["greedy", "beams", "contrastive"])
def test_padding_counts_for_no_rule(options: dict[str, Any]) -> None:
    """Also where the padding token is one that texts have."""
    model = model_of("gpt2_text_generation", scale=1.0)
    rules = {"repetition_penalty": 3.0, "no_repeat_ngram_size": 2, "min_length": 9, "eos_token_id": [30, 31, 32]}
    for pad in (0, 5):
        rows = torch.full((len(PROMPTS), 9), pad)
        for row, prompt in zip(rows, PROMPTS, strict=True):
            row[9 - prompt.size(1) :] = prompt[0]
        mask = torch.tensor([[0] * (9 - prompt.size(1)) + [1] * prompt.size(1) for prompt in PROMPTS])
        together = model.generate(
            token_ids=rows, attention_mask=mask, max_new_tokens=NEW, **rules, **options, return_dict=True
        )
        for index, prompt in enumerate(PROMPTS):
            alone = model.generate(token_ids=prompt, max_new_tokens=NEW, **rules, **options, return_dict=True)
            length = int(alone.lengths[0])
            assert int(together.lengths[index]) == length
            assert together.sequences[index, 9 : 9 + length].tolist() == alone.sequences[0, prompt.size(1) :].tolist()[:length]


@pytest.mark.parametrize("name", ["gpt2_text_generation", "gptj_text_generation", "llama_text_generation"])
def test_padding_is_like_nothing_in_contrastive_search(name: str) -> None:
    model = model_of(name)
    options = {"max_new_tokens": NEW, "penalty_alpha": 1.0, "top_k": 8}
    for seed in range(3):
        random = torch.Generator().manual_seed(seed)
        rows = torch.randint(3, 110, (2, 16), generator=random)
        mask = torch.tensor([[0] * 14 + [1] * 2, [1] * 16])
        together = model.generate(token_ids=rows, attention_mask=mask, **options)
        assert together[0, 16:].tolist() == model.generate(token_ids=rows[:1, 14:], **options)[0, 2:].tolist()


def test_more_candidates_than_tokens() -> None:
    model = model_of("gpt2_text_generation")
    size = model.config.vocab_size
    for options in ({"penalty_alpha": 0.5}, {"do_sample": True, "seed": 1}):
        most, more = (
            model.generate(token_ids=PROMPTS[0], top_k=count, max_new_tokens=NEW, **options) for count in (size, 9 * size)
        )
        assert torch.equal(most, more)


def test_max_length_of_a_call_wins_over_the_models_number_of_new_tokens() -> None:
    model = model_of("gpt2_text_generation")
    model.config.generation.update(max_new_tokens=2)
    length = PROMPTS[0].size(1)
    assert model.generate(token_ids=PROMPTS[0]).size(1) == length + 2
    assert model.generate(token_ids=PROMPTS[0], max_length=length + 5).size(1) == length + 5
    assert model.generate(token_ids=PROMPTS[0], max_length=length + 5, max_new_tokens=3).size(1) == length + 3


def test_the_largest_number_draws_a_token_that_may_be_drawn() -> None:
    scores = torch.randn(2000, 50, generator=torch.Generator().manual_seed(0))
    scores[:, 40:] = float("-inf")
    below_one = torch.nextafter(torch.ones(2000, dtype=torch.float64), torch.zeros(()).double())
    assert draw(scores, below_one).max() < 40 and draw(scores, torch.zeros(2000).double()).max() == 0


def test_guesses_follow_the_longest_match_that_is_last() -> None:
    tokens = torch.tensor([1, 2, 3, 9, 2, 3, 8, 7, 3, 6, 1, 2, 3])
    assert continuation(tokens, 2).tolist() == [9, 2]
    assert continuation(tokens[4:], 9).tolist() == [8, 7, 3, 6, 1, 2, 3]
    assert continuation(torch.tensor([5, 1, 5, 2, 5]), 1).tolist() == [2] and not len(continuation(tokens[:3], 4))


@pytest.mark.parametrize("width", [100, 128 * 9, 128 * 40 + 17, 50257])
def test_the_best_of_many_are_the_best(width: int) -> None:
    scores = torch.randn(3, width, generator=torch.Generator().manual_seed(width))
    scores[0, torch.randperm(width, generator=torch.Generator().manual_seed(1))[: width // 2]] = float("-inf")
    for count in (1, 2, 8, 31):
        found, places = _best_of_many(scores, count)
        expected = scores.topk(count)
        assert torch.equal(found, expected.values) and torch.equal(places, expected.indices)
