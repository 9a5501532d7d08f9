"""What generative models write, and how much room they have for it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from comparing import difference
from tiny_models import LONGEST, TEXTS, inputs_for, prompts_for, tiny_model
from torch import Tensor

from hezar_like import Model
from hezar_like.errors import InputError, OptionError

DECODERS = ["gpt2_text_generation", "gptj_text_generation"]
READERS = ["t5_text_generation"]
LONG = " ".join(TEXTS * 3)


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


@pytest.fixture(params=DECODERS + READERS)
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


def by_hand(model: Model, name: str, inputs: dict[str, Any], count: int) -> Tensor:
    """The best next token again and again, each time of a whole pass."""
    inputs = dict(inputs)
    with torch.no_grad():
        for _ in range(count):
            best = model(**inputs).logits[:, -1:].argmax(-1)
            inputs[name] = torch.cat((inputs[name], best), 1)
            if name == "token_ids" and "attention_mask" in inputs:
                inputs["attention_mask"] = torch.cat((inputs["attention_mask"], torch.ones_like(best)), 1)
    return inputs[name]


# -- predict ----------------------------------------------------------------------------------------------------------


def test_a_decoder_goes_on(decoder: Model) -> None:
    tokenizer = decoder.preprocessor.tokenizer
    for count in (1, 5):
        (result,) = decoder.predict("the dog", max_new_tokens=count)
        assert list(result) == ["text"]
        tokens = tokenizer.encode_texts(["the dog"])[0].ids
        whole = by_hand(decoder, "token_ids", {"token_ids": torch.tensor([tokens])}, count)
        assert result["text"] == tokenizer.decode(whole.tolist())[0] and result["text"].startswith("the dog")


def test_a_reader_answers(reader: Model) -> None:
    tokenizer = reader.preprocessor.tokenizer
    (result,) = reader.predict("the dog", max_new_tokens=5)
    start = torch.tensor([[reader.config.decoder_start_token_id]])
    read = torch.tensor([tokenizer.encode_texts(["the dog"])[0].ids])
    whole = by_hand(reader, "decoder_input_ids", {"token_ids": read, "decoder_input_ids": start}, 5)
    assert result["text"] == tokenizer.decode(whole[:, 1:].tolist())[0]


def test_the_end(model: Model) -> None:
    """After it there is nothing more, whatever other rows of the batch write."""
    model.config.eos_token_id = 10_000  # never written
    endless = [model.predict(text, max_new_tokens=10, post_process=False)[0][-10:].tolist() for text in TEXTS]
    assert all(len(row) == 10 for row in endless)
    end = endless[0][4]
    model.config.eos_token_id = end
    expected = [row[: row.index(end)] if end in row else row for row in endless]
    rows = model.predict(TEXTS, max_new_tokens=10, post_process=False, batch_size=len(TEXTS))
    start = 1 if model.config.family == "t5" else model.preprocess(TEXTS)["token_ids"].size(1)
    assert len({len(row) for row in rows}) == 1 and len(expected[0]) < 10
    for row, own in zip(rows, expected, strict=True):
        written = row[start:].tolist()
        assert written == own + [end] * (len(written) - len(own))
    tokenizer = model.preprocessor.tokenizer
    for text, record, own in zip(TEXTS, model.predict(TEXTS, max_new_tokens=10), expected, strict=True):
        prompt = [] if model.config.family == "t5" else tokenizer.encode_texts([text])[0].ids
        assert record["text"] == tokenizer.decode([[*prompt, *own]])[0]


def test_texts_leave_room_for_what_is_written(decoder: Model, caplog: pytest.LogCaptureFixture) -> None:
    """How much is written follows from the model and the option, never from the other texts of a batch."""
    most = decoder.backbone.max_tokens
    assert decoder.max_tokens == most // 2 == LONGEST
    with caplog.at_level(logging.WARNING, "hezar_like"):
        short, long = decoder.predict(["the dog", LONG], post_process=False)
    assert len(short) == len(long) == most and f"was cut to the {LONGEST} this model reads" in caplog.text
    alone = decoder.predict("the dog", post_process=False)[0]
    assert torch.equal(short[-len(alone) :], alone)
    for count in (1, 90, most - 3):
        assert len(decoder.predict(LONG, max_new_tokens=count, post_process=False)[0]) == most
    assert len(decoder.predict(LONG, max_new_tokens=3, max_input_length=10, post_process=False)[0]) == 13
    with pytest.raises(InputError, match=f"the most is {most - 3}"):
        decoder.predict(LONG, max_new_tokens=3, long_text="error")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": True}, "max_new_tokens is True"),
        ({"max_new_tokens": "5"}, "max_new_tokens is '5'"),
        ({"max_new_tokens": 96}, "max_new_tokens is 96, but this model has positions for 96 tokens in all"),
        ({"max_new_tokens": 90, "max_input_length": 7}, "max_input_length is 7, .*reads at most 6 tokens where it writes 90"),
        ({"long_text": "window"}, "must be one of 'truncate', 'error'"),
        ({"max_new_token": 5}, "Did you mean 'max_new_tokens'"),
        ({"output_attentions": True}, "output_attentions"),
    ],
)
def test_wrong_options(decoder: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        decoder.predict("the dog", **options)


def test_models_without_a_limit_write_fifty(reader: Model) -> None:
    assert len(reader.predict("the dog", post_process=False)[0]) == 51
    assert len(reader.predict("the dog", post_process=False, max_new_tokens=200)[0]) == 201


# -- generate ---------------------------------------------------------------------------------------------------------


def test_names_and_places_of_inputs(model: Model) -> None:
    inputs = inputs_for(model) | {"attention_mask": torch.ones(2, 6, dtype=torch.long)}
    inputs.pop("decoder_input_ids", None)
    expected = model.generate(**inputs, max_new_tokens=4)
    tokens, mask = inputs.values()
    for result in (
        model.generate(tokens, mask, max_new_tokens=4),
        model.generate(input_ids=tokens, max_new_tokens=4),
        model.generate(tokens, length=torch.tensor([6, 6]), max_new_tokens=4),
    ):
        assert torch.equal(result, expected)


def test_lengths_are_padding_too(reader: Model) -> None:
    tokens, mask, _ = inputs_for(reader).values()
    expected = reader.generate(tokens, mask, max_new_tokens=4)
    assert torch.equal(reader.generate(tokens, length=mask.sum(1), max_new_tokens=4), expected)
    assert not torch.equal(reader.generate(tokens, max_new_tokens=4), expected)


def test_a_reader_goes_on_from_what_was_written(reader: Model) -> None:
    inputs = inputs_for(reader)
    expected = by_hand(reader, "decoder_input_ids", inputs, 4)
    assert torch.equal(reader.generate(**inputs, max_new_tokens=4), expected)
    with torch.no_grad():
        encoded = reader.backbone.encode(inputs["token_ids"], inputs["attention_mask"])
    given = {"encoder_outputs": encoded, "attention_mask": inputs["attention_mask"]}
    written = inputs["decoder_input_ids"]
    assert torch.equal(reader.generate(**given, decoder_input_ids=written, max_new_tokens=4), expected)
    vectors = reader.backbone.embed.tokens(inputs["token_ids"])
    given = {"inputs_embeds": vectors, "attention_mask": inputs["attention_mask"]}
    assert torch.equal(reader.generate(**given, decoder_input_ids=written, max_new_tokens=4), expected)


def test_masks_of_heads_last(model: Model) -> None:
    inputs = inputs_for(model)
    name = "decoder_input_ids" if "decoder_input_ids" in inputs else "token_ids"
    inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
    stack = getattr(model.backbone, "decoder" if name == "decoder_input_ids" else "stack")
    heads = torch.ones(len(stack.blocks), model.config.num_attention_heads)
    heads[0, :3] = 0
    option = "decoder_head_mask" if name == "decoder_input_ids" else "head_mask"
    inputs[option] = heads
    assert torch.equal(model.generate(**inputs, max_new_tokens=6), by_hand(model, name, inputs, 6))


@pytest.mark.parametrize("wrong", ["labels", "use_cache", "past_key_values"])
def test_what_is_not_for_generation(model: Model, wrong: str) -> None:
    with pytest.raises(OptionError, match=f"generate\\(\\) takes no '{wrong}'"):
        model.generate(**inputs_for(model), **{wrong: True})


def test_there_must_be_tokens(decoder: Model, reader: Model) -> None:
    with pytest.raises(OptionError, match=r"generate\(\) needs 'token_ids'"):
        decoder.generate(inputs_embeds=torch.randn(1, 2, 32))
    with pytest.raises(ValueError, match="give exactly one of token_ids and inputs_embeds"):
        reader.generate()
    with pytest.raises(OptionError, match="takes no 'token_id'.*Did you mean 'token_ids'"):
        decoder.generate(token_id=torch.ones(1, 1, dtype=torch.long))


def test_no_more_positions(decoder: Model) -> None:
    tokens = torch.full((1, decoder.backbone.max_tokens - 3), 7)
    assert decoder.generate(tokens).size(1) == decoder.backbone.max_tokens
    with pytest.raises(
        OptionError, match="max_new_tokens is 4, but this model has positions for 3 tokens more"
    ):
        decoder.generate(tokens, max_new_tokens=4)


def test_no_gradients(model: Model) -> None:
    assert not model.generate(**prompts_for(model), max_new_tokens=2).requires_grad


# -- loss -------------------------------------------------------------------------------------------------------------


def test_loss_of_a_decoder(decoder: Model) -> None:
    """Each token is predicted from those before it; -100 does not count."""
    inputs = inputs_for(decoder)
    labels = inputs["token_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    output = decoder(**inputs, labels=labels)
    expected = F.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert difference(output.loss, expected) <= 1e-6 and torch.equal(output.logits, decoder(**inputs).logits)


def test_loss_of_a_reader(reader: Model) -> None:
    """Labels stand where they are predicted, and what comes before them is the decoder's input."""
    reader.config.decoder_start_token_id = 9
    reader.backbone.decoder_start_token_id, reader.backbone.pad_token_id = 9, 8
    tokens, mask, written = inputs_for(reader).values()
    labels = written.clone()
    labels[:, 2] = -100
    output = reader(tokens, mask, labels=labels)
    shifted = torch.tensor([[9, 2, 20, 8], [9, 2, 60, 8]])
    assert torch.equal(reader.backbone.shifted(labels), shifted)
    assert torch.equal(output.logits, reader(tokens, mask, shifted).logits)
    assert difference(output.loss, F.cross_entropy(output.logits.flatten(0, 1), labels.flatten())) <= 1e-6
    with pytest.raises(OptionError, match="give decoder_input_ids, decoder_inputs_embeds, or labels"):
        reader(tokens, mask)


def test_tokens_that_are_none() -> None:
    """A vocabulary that was filled up: nothing of that is written, and it does not count."""
    model = tiny_model("gpt2_text_generation", unused_tokens=20)
    inputs = prompts_for(model)
    output = model(**inputs, labels=inputs["token_ids"])
    assert (output.logits[..., -20:] == float("-inf")).all() and output.logits[..., :-20].isfinite().all()
    output.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model.generate(**inputs, max_new_tokens=20).max() < 100
    with pytest.raises(ValueError, match="unused_tokens is 120"):
        tiny_model("gpt2_text_generation", unused_tokens=120)


def test_the_loss_of_a_model_in_half_precision_is_taken_in_single() -> None:
    model = tiny_model("gpt2_text_generation").to(torch.bfloat16)
    ids = torch.randint(1, 100, (4, 16))
    output = model(ids, labels=ids)
    expected = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1).double(), ids[:, 1:].flatten())
    assert output.loss.dtype == torch.float32
    assert abs(output.loss.item() - expected.item()) < 1e-5
