"""Generation as `predict` and `stream` show it: texts, scores, what ends a text, whole characters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comparing import perturb
from tiny_models import inputs_for, tiny_model

from hezar_like import Model
from hezar_like.errors import OptionError
from hezar_like.generation import TextStream, cut
from hezar_like.layers.substitutes import SUBSTITUTES

KINDS = ["gpt2_text_generation", "llama_text_generation", "t5_text_generation"]
TEXTS = ["the cat sat", "هزار", "the quick brown fox jumps over the dog", "a"]
NEW = 14


def model_of(name: str, **fields: Any) -> Model:
    model = tiny_model(name, **fields)
    perturb(model)
    return model.eval()


def prompt(model: Model, text: str) -> str:
    """What a decoder's text begins with."""
    if model.config.family == "t5":
        return ""
    tokenizer = model.preprocessor.tokenizer
    return tokenizer.decode([tokenizer.encode_texts([text])[0].ids])[0]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "options",
    [{}, {"do_sample": True, "seed": 3, "temperature": 2.0}, {"penalty_alpha": 0.5, "top_k": 3}, {"prompt_lookup_num_tokens": 2}],
    ids=["greedy", "samples", "contrastive", "lookup"],
)
def test_pieces_make_up_the_text(name: str, options: dict[str, Any]) -> None:
    model = model_of(name)
    options = {"max_new_tokens": NEW, **options}
    records = model.predict(TEXTS, **options)
    for batch_size in (1, 3, "auto"):
        written = [""] * len(TEXTS)
        for index, piece in model.stream(TEXTS, batch_size=batch_size, **options):
            assert piece
            written[index] += piece
        for text, record, own in zip(TEXTS, records, written, strict=True):
            assert record["text"] == prompt(model, text) + own
    assert list(model.stream([], **options)) == []


def test_pieces_come_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    model, steps = model_of("gpt2_text_generation"), []
    step = type(model.backbone.writer({"token_ids": model.preprocess("a")["token_ids"]})).step

    def counted(self: Any, tokens: Any) -> Any:
        steps.append(tokens.size(1))
        return step(self, tokens)

    monkeypatch.setattr("hezar_like.backbones.decoder.DecoderWriter.step", counted)
    pieces = model.stream(["the cat"], max_new_tokens=NEW, eos_token_id=[])
    next(pieces)
    assert 1 <= len(steps) <= 3
    model.train()
    pieces.close()
    assert model.training


def test_between_pieces_a_model_is_as_it_was_given() -> None:
    """A stream may stay unfinished: meanwhile the model is trained, gets other weights, and is called directly."""
    fields = {"hidden_dropout_prob": 0.5, "embd_pdrop": 0.5}
    model, other = (model_of("gpt2_text_generation", **fields).bfloat16() for _ in range(2))
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.5)
    batch, options = inputs_for(model), {"max_new_tokens": NEW, "eos_token_id": []}
    expected, others = ("".join(piece for _, piece in one.stream("the cat", **options)) for one in (model, other))
    assert expected != others
    for trained_before in (True, False):
        pieces = model.train(trained_before).stream("the cat", **options)
        written = next(pieces)[1]
        assert model.training is trained_before and not SUBSTITUTES
        model.train()
        assert written + "".join(piece for _, piece in pieces) == expected
        assert all(part.training for part in model.modules())
    pieces = model.eval().stream("the cat", **options)
    next(pieces)
    with torch.no_grad():
        for name, weight in other.state_dict().items():
            model.get_parameter(name).copy_(weight)
        assert torch.equal(model(**batch).logits, other(**batch).logits)
    assert "".join(piece for _, piece in pieces)
    assert "".join(piece for _, piece in model.stream("the cat", **options)) == others


def test_inputs_that_come_one_by_one() -> None:
    model = model_of("gpt2_text_generation")
    taken = []

    def texts() -> Any:
        for number in range(1000):
            taken.append(number)
            yield f"the cat {number}"

    index, piece = next(model.stream(texts(), batch_size=2, max_new_tokens=3))
    assert index < 64 and piece and len(taken) <= 64


def test_an_input_that_is_wrong_is_named() -> None:
    model = model_of("gpt2_text_generation")
    with pytest.raises(Exception, match="item 70"):
        list(model.stream(["the"] * 70 + [None], batch_size=1, max_new_tokens=1))


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_return_sequences": 2, "do_sample": True}])
def test_what_cannot_be_streamed(options: dict[str, Any]) -> None:
    model = model_of("gpt2_text_generation")
    name = next(iter(options))
    with pytest.raises(OptionError, match=f"{name} is {options[name]}, but stream"):
        model.stream(TEXTS, **options)
    with pytest.raises(OptionError, match="no option 'max_new_token'.*Did you mean 'max_new_tokens'"):
        model.stream(TEXTS, max_new_token=3)


@pytest.mark.parametrize(
    ("name", "here"),
    [("max_tokens", "max_new_tokens"), ("beam_size", "num_beams"), ("n", "num_return_sequences"), ("stop_strings", "stop")],
)
def test_names_of_other_systems_are_understood(name: str, here: str) -> None:
    with pytest.raises(OptionError, match=f"no option {name!r}. Did you mean {here!r}"):
        model_of("gpt2_text_generation").predict("the", **{name: 2})
    with pytest.raises(OptionError) as error:  # only where there is such an option
        tiny_model("bert_text_classification").predict("the", **{name: 2})
    assert repr(here) not in str(error.value)


@pytest.mark.parametrize("name", KINDS)
def test_texts_that_end_a_text(name: str) -> None:
    """They may span tokens; what follows them is not there, and neither are they."""
    model = model_of(name)
    plain = model.predict(TEXTS, max_new_tokens=NEW, eos_token_id=[])
    spanning = 0
    for text, record in zip(TEXTS, plain, strict=True):
        start = len(prompt(model, text))
        new = record["text"][start:]
        middle = len(new) // 2
        stop = new[middle : middle + 4]
        if len(stop) < 2:
            continue
        expected = record["text"][: start + new.find(stop)]
        options = {"max_new_tokens": NEW, "eos_token_id": [], "stop": [stop, "never there"]}
        assert model.predict(text, **options) == [{"text": expected}]
        assert model.predict(text, **options, num_beams=1, do_sample=True, top_k=1) == [{"text": expected}]
        assert "".join(piece for _, piece in model.stream(text, **options)) == expected[start:]
        (scored,) = model.predict(text, **options, return_scores=True)
        assert len(scored["tokens"]) == len(scored["token_scores"]) < NEW
        spanning += sum(stop in token for token in scored["tokens"]) == 0
        (beam,) = model.predict(text, **options, num_beams=4)
        assert stop not in beam["text"][start:]
    assert spanning


def test_stop_is_one_text_or_several() -> None:
    model = model_of("gpt2_text_generation")
    assert model.predict("the", stop="x", max_new_tokens=3) == model.predict("the", stop=["x"], max_new_tokens=3)
    assert cut("abcabc", ["ca", "bc"]) == "a" and cut("abc", []) == "abc"


@pytest.mark.parametrize("name", KINDS)
def test_bad_words(name: str) -> None:
    """The tokens that a word usually has are not written one after the other."""
    model, options = model_of(name), {"max_new_tokens": NEW, "return_scores": True}
    tokenizer, tried = model.preprocessor.tokenizer, 0
    for text, record in zip(TEXTS, model.predict(TEXTS, **options), strict=True):
        for token in record["tokens"]:
            (row,) = tokenizer.encode_texts([token])
            if token.isalpha() and [tokenizer.id_to_token(row.ids[i]) for i in row.content] == [token]:
                (other,) = model.predict(text, **options, bad_words=["nothing", token])
                assert token not in other["tokens"]
                tried += 1
    assert tried


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("options", [{"num_beams": 4}, {"do_sample": True, "seed": 2, "temperature": 3.0}])
def test_several_texts(name: str, options: dict[str, Any]) -> None:
    model = model_of(name)
    options = {"max_new_tokens": NEW, "return_scores": True, **options}
    records = model.predict(TEXTS, num_return_sequences=3, **options)
    assert len(records) == len(TEXTS)
    for record, single in zip(records, model.predict(TEXTS, **options), strict=True):
        assert len(record["sequences"]) == 3 and record["sequences"][0] == {k: v for k, v in record.items() if k != "sequences"}
        assert record["text"] == single["text"] and record["score"] == pytest.approx(single["score"], abs=1e-4)
        assert len({tuple(sequence["tokens"]) for sequence in record["sequences"]}) > 1
        if "num_beams" in options:
            scores = [sequence["score"] for sequence in record["sequences"]]
            assert scores == sorted(scores, reverse=True)
        for sequence in record["sequences"]:
            assert sum(sequence["token_scores"]) / len(sequence["tokens"]) == pytest.approx(sequence["score"], abs=1e-4)
    shapes = [tuple(rows.shape[:1]) for rows in model.predict(TEXTS, num_return_sequences=3, post_process=False, **options)]
    assert shapes == [(3,)] * len(TEXTS)


BYTES = {0: b"a", 1: "é".encode()[:1], 2: "é".encode()[1:], 3: "🙂".encode()[:2], 4: "🙂".encode()[2:], 5: b" b", 9: b""}


def decode(rows: list[list[int]]) -> list[str]:
    return [b"".join(BYTES[token] for token in row).decode(errors="replace") for row in rows]


def pieces(tokens: list[int], stop: list[str]) -> list[str]:
    text = TextStream(decode, [0] * 20, [9], stop)
    return [*(text.add([token]) for token in tokens), text.close()]


def test_whole_characters() -> None:
    assert pieces([0, 1, 2, 3, 4, 5], []) == ["a", "", "é", "", "🙂", " b", ""]
    assert pieces([0, 1, 9], []) == ["a", "", "\N{REPLACEMENT CHARACTER}", ""]
    assert pieces([1], []) == ["", "\N{REPLACEMENT CHARACTER}"]


def test_what_may_begin_a_stop_is_held_back() -> None:
    assert pieces([0, 5, 0, 5], ["a ba"]) == ["", "", "", "", ""]
    assert pieces([5, 0, 5, 5], ["a ba"]) == [" b", "", "", "a b b", ""]
    assert pieces([5, 0, 5, 9], ["a ba"]) == [" b", "", "", "a b", ""]
    assert pieces([5, 0, 5], ["a ba"]) == [" b", "", "", "a b"]
    assert pieces([0, 0, 5, 0, 0], ["a ba"]) == ["", "a", "", "", "", ""]
