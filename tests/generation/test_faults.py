"""What a hostile or careless caller does: clear errors, and no wrong text without one."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_model
from torch import Tensor

from hezar_like import Model
from hezar_like.errors import NonFiniteOutput, OptionError
from hezar_like.generation import GenerationConfig, StopTexts

IDS = torch.tensor([[2, 20, 30, 40, 50], [0, 0, 2, 60, 70]])
MASK = IDS.ne(0)
DECODERS = ["gpt2_text_generation", "llama_text_generation"]


@pytest.mark.parametrize("name", [*DECODERS, "t5_text_generation", "glm_text_generation"])
@pytest.mark.parametrize(
    "options",
    [{}, {"do_sample": True}, {"num_beams": 2}, {"penalty_alpha": 0.5, "top_k": 2}, {"prompt_lookup_num_tokens": 2}],
    ids=lambda options: next(iter(options), "greedy"),
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_never_make_a_text(name: str, options: dict[str, Any], value: float) -> None:
    model = tiny_model(name)
    with torch.no_grad():
        next(p for key, p in model.named_parameters() if "mlp.down.weight" in key).fill_(value)
    with pytest.raises(NonFiniteOutput):
        model.predict("the cat", max_new_tokens=3, **options)
    if "num_beams" not in options:
        with pytest.raises(NonFiniteOutput):
            list(model.stream("the cat", max_new_tokens=3, **options))


def test_an_end_token_the_model_does_not_have() -> None:
    model = tiny_model("gpt2_text_generation")
    model.config.generation.update(eos_token_id=50256)
    for options in ({"max_length": 9}, {"stop": ["a", "e", "o"], "max_new_tokens": 20}):
        texts = ["the cat", "the cat sat on the mat"]
        assert model.predict(texts, **options) == [model.predict(text, **options)[0] for text in texts]


def new_tokens(output: Any, row: int) -> list[int]:
    start = output.sequences.size(1) - output.token_scores.size(1)
    return output.sequences[row, start : start + int(output.lengths[row])].tolist()


@pytest.mark.parametrize("options", [{"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.7}, {"num_beams": 3}])
def test_beams_keep_their_limits_in_any_batch(options: dict[str, Any]) -> None:
    model = tiny_model("llama_text_generation")
    options = {**options, "max_length": 7, "eos_token_id": [], "return_dict": True, "num_return_sequences": 3}
    rows = torch.tensor([[2, 20, 30, 40, 50], [0, 0, 0, 0, 60]])
    together = model.generate(rows, rows.ne(0), **options)
    assert together.lengths.tolist() == [2] * 3 + [6] * 3
    for index, row in enumerate(rows):
        alone = model.generate(row[row.ne(0)][None], **options)
        for number in range(3):
            assert new_tokens(together, 3 * index + number) == new_tokens(alone, number)


@pytest.mark.parametrize("options", [{"max_length": 9}, {"max_new_tokens": 6, "eos_token_id": [69, 3]}])
def test_prompt_lookup_of_rows_that_end_at_different_places(options: dict[str, Any]) -> None:
    model = tiny_model("gpt2_text_generation")
    plain, guessed = (
        model.generate(IDS, MASK, **options, **more, return_dict=True) for more in ({}, {"prompt_lookup_num_tokens": 3})
    )
    assert [new_tokens(plain, row) for row in (0, 1)] == [new_tokens(guessed, row) for row in (0, 1)]
    blanks = tiny_model("glm_text_generation")
    texts = ["a cat [MASK]", "the dog [MASK] jumps [MASK] over"]
    more = {"max_new_tokens": 5, "prompt_lookup_num_tokens": 2}
    assert blanks.predict(texts, **more) == blanks.predict(texts, max_new_tokens=5)


def test_guesses_hold_no_padding() -> None:
    model = tiny_model("gpt2_text_generation")
    ids = torch.tensor([[5, 6, 0, 0, 5, 6, 7, 0, 5, 6]])
    mask = torch.tensor([[1, 1, 0, 0, 1, 1, 1, 0, 1, 1]])
    options = {"max_new_tokens": 8, "suppress_tokens": [token for token in range(100) if token not in (5, 6, 7)]}
    assert model.generate(ids, mask, **options, prompt_lookup_num_tokens=3).shape == (1, 18)


def test_blanks_a_row_has_not_count_for_nothing() -> None:
    model = tiny_model("glm_text_generation")
    texts = ["the cat [MASK]", "the [MASK] dog [MASK]"]
    for options in ({"num_beams": 3}, {}):
        options = {**options, "max_new_tokens": 5, "return_scores": True}
        together, (alone,) = model.predict(texts, **options), model.predict(texts[0], **options)
        assert together[0]["blanks"] == alone["blanks"]
        assert together[0]["score"] == pytest.approx(alone["score"], abs=1e-4)
    for name, value in (("stop", ["e"]), ("eos_token_id", 5)):
        with pytest.raises(OptionError, match=f"{name} cannot be given to a model that fills blanks"):
            model.predict(texts, **{name: value})


NEEDLESS = [
    {"top_p": 0.5}, {"temperature": 5.0}, {"seed": 5}, {"seed": 5, "num_beams": 2}, {"top_k": 3}, {"num_beam_groups": 1, "diversity_penalty": 5.0},
    {"repetition_window": 3},
]  # fmt: skip


@pytest.mark.parametrize("options", NEEDLESS, ids=str)
def test_options_that_would_change_nothing(options: dict[str, Any]) -> None:
    model = tiny_model("gpt2_text_generation")
    for call in (model.predict, model.stream):
        with pytest.raises(OptionError, match="which needs .* Add that, or leave it out"):
            call("a", **options)
    with pytest.raises(OptionError, match="Leave return_scores out"):
        model.stream("a", return_scores=True)


def test_options_that_would_be_ignored() -> None:
    model = tiny_model("gpt2_text_generation")
    for options, message in (
        ({"decoder_start_token_id": 5}, "decoder_start_token_id is for encoders with decoders"),
        ({"min_new_tokens": 9, "max_new_tokens": 2}, "min_new_tokens=9 is more than max_new_tokens=2"),
    ):
        with pytest.raises(OptionError, match=message):
            model.generate(IDS, MASK, **options)
        with pytest.raises(OptionError, match=message):
            model.predict("a", **options)
    for name in ("output_hidden_states", "output_attentions"):
        with pytest.raises(OptionError, match=f"takes no '{name}'"):
            model.generate(IDS, MASK, **{name: True})


def test_files_that_ask_for_what_cannot_be_had_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_model("gpt2_text_generation").export("transformers", tmp_path)
    cases: list[tuple[dict[str, Any], GenerationConfig, str]] = [
        ({"do_sample": True, "num_beams": 4, "top_p": 0.9}, GenerationConfig(num_beams=4), "by beam search alone"),
        ({"num_return_sequences": 3}, GenerationConfig(), "one text is written for each input"),
        ({"do_sample": True, "top_p": 0.0}, GenerationConfig(do_sample=True, top_p=1e-9), ""),
        ({"stop_strings": ["\n"]}, GenerationConfig(stop=["\n"]), ""),
    ]
    for settings, expected, warning in cases:
        (tmp_path / "generation_config.json").write_text(json.dumps(settings))
        caplog.clear()
        with caplog.at_level(logging.WARNING, "hezar_like"):
            model = Model.load(tmp_path, device="cpu")
        assert model.config.generation == expected
        assert warning in caplog.text if warning else not caplog.records
    model.export("transformers", tmp_path / "again")
    assert json.loads((tmp_path / "again" / "generation_config.json").read_text())["stop_strings"] == ["\n"]


def test_rules_that_leave_no_token() -> None:
    model = tiny_model("gpt2_text_generation")
    everything = list(range(model.config.vocab_size))
    for options in ({"suppress_tokens": everything}, {"forced_bos_token_id": 10**4}):
        for more in ({}, {"do_sample": True}, {"num_beams": 2}):
            with pytest.raises(OptionError, match="the rules leave no token to write"):
                model.generate(IDS, MASK, max_new_tokens=2, **options, **more)
    beams = model.generate(IDS, MASK, num_beams=3, forced_bos_token_id=9, max_new_tokens=2, num_return_sequences=3)
    assert beams[:, 5].tolist() == [9] * 6
    with pytest.raises(OptionError, match="decoder_start_token_id is 500; this model has 120 tokens"):
        tiny_model("t5_text_generation").generate(IDS, MASK, decoder_start_token_id=500)


def test_penalties_where_all_is_padding() -> None:
    model, ids = tiny_model("gpt2_text_generation"), torch.tensor([[2, 20, 0], [2, 20, 30]])
    mask = torch.tensor([[0, 0, 0], [1, 1, 1]])
    output = model.generate(ids, mask, max_new_tokens=2, repetition_penalty=1.2)
    assert output[1, 3:].tolist() == model.generate(ids[1:], max_new_tokens=2, repetition_penalty=1.2)[0, 3:].tolist()


def test_what_an_encoder_made_in_any_form() -> None:
    model = tiny_model("t5_text_generation")
    states = model.backbone.encode(IDS, MASK.long()).last_hidden_state.detach()
    expected = model.generate(IDS, MASK.long(), max_new_tokens=4)
    for given in (states, (states,), {"last_hidden_state": states}):
        for more in ({}, {"prompt_lookup_num_tokens": 2}, {"decoder_start_token_id": 2}):
            found: Tensor = model.generate(encoder_outputs=given, attention_mask=MASK.long(), max_new_tokens=4, **more)
            assert torch.equal(found, expected)


def test_padding_on_the_wrong_side() -> None:
    """What is behind it would be written as if the padding were the text."""
    for name in DECODERS:
        model = tiny_model(name)
        for given in ({"attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])}, {"length": torch.tensor([2, 3])}):
            with pytest.raises(OptionError, match="ends with padding.*on the left"):
                model.generate(torch.tensor([[2, 20, 0], [2, 20, 30]]), **given, max_new_tokens=2)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(0, 5, dtype=torch.int64), r"has the shape \[0, 5\].* needs \[batch, length\]"),
        (IDS[0], r"has the shape \[.\].* needs \[batch, length\]"),
        (IDS.float(), "is of the type torch.float32; generate.. needs a tensor of integers"),
        (IDS.tolist(), "is of the type list; generate.. needs a tensor"),
        (torch.tensor([[5, 120]]), "has the token 120; this model has the tokens 0 to 119"),
        (torch.tensor([[5, -1]]), "has the token -1; this model"),
    ],
)
def test_tokens_that_are_none(tokens: Any, message: str) -> None:
    for name in ("gpt2_text_generation", "t5_text_generation"):
        with pytest.raises(OptionError, match=f"^token_ids {message}"):
            tiny_model(name).generate(tokens, max_new_tokens=2)
    with pytest.raises(OptionError, match=f"^decoder_input_ids {message}"):
        tiny_model("t5_text_generation").generate(IDS, decoder_input_ids=tokens, max_new_tokens=2)


def test_a_temperature_of_nearly_nothing_is_greedy() -> None:
    model = tiny_model("gpt2_text_generation")
    greedy = model.generate(IDS, max_new_tokens=6)
    for temperature in (1e-6, 1e-39, 1e-300):
        assert torch.equal(model.generate(IDS, max_new_tokens=6, do_sample=True, temperature=temperature), greedy)


def test_a_stop_of_characters_that_take_several_tokens() -> None:
    """As many of the last tokens are looked at as the longest characters take."""
    bytes_of = "🙂🙃".encode()
    stop = StopTexts(["🙂🙃"], lambda rows: [bytes(row).decode(errors="replace") for row in rows])
    rows = [[97, *bytes_of], [*bytes_of[:-1]], [*bytes_of, 97]]
    assert stop(rows).tolist() == [True, False, True]


def test_a_stream_that_is_open_when_python_ends_says_nothing() -> None:
    program = """
import sys
sys.path[:0] = sys.argv[1:]
from tiny_models import tiny_model
model = tiny_model("gpt2_text_generation")
pieces = model.stream(["the cat", "dog"], max_new_tokens=5)
next(pieces)
"""
    folders = [str(Path(__file__).parents[1]), *sys.path]
    ended = subprocess.run([sys.executable, "-c", program, *folders], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_stream_takes_one_input_before_its_first_piece() -> None:
    model, taken = tiny_model("gpt2_text_generation"), []

    def texts() -> Any:
        while True:
            taken.append(1)
            yield "the cat"

    next(model.stream(texts(), max_new_tokens=3, eos_token_id=[]))
    assert len(taken) == 1
