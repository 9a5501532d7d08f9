"""Writing with an encoder: who sees whom, what counts, and the same answers in any batch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from comparing import difference
from flagai_models import FIXTURES, part
from tiny_models import TEXTS, tiny_model

from hezar_like import Model
from hezar_like.errors import OptionError

FAMILIES = ["bert_text_generation", "roberta_text_generation"]


@pytest.fixture(scope="module", params=FAMILIES)
def writer(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


def test_mask_is_that_of_flagai() -> None:
    model = Model.load(FIXTURES / "bert_flagai", task="text_generation", device="cpu")
    given = part("bert_flagai", "seq2seq", "in")
    inputs = {"token_ids": given["input_ids"], "token_type_ids": given["segment_ids"]}
    expected = part("bert_flagai", "seq2seq", "out")["unilm_mask"][:, 0].bool() & given["input_ids"].ne(0)[:, None]
    assert torch.equal(model.backbone.reading_and_writing(inputs)["attention_mask"], expected)


@torch.no_grad()
def test_who_sees_whom(writer: Model) -> None:
    tokens, types = torch.tensor([[5, 20, 30, 40, 50, 60]]), torch.tensor([[0, 0, 0, 1, 1, 1]])
    first = writer(token_ids=tokens, token_type_ids=types).logits
    for changed in range(6):
        other = tokens.clone()
        other[0, changed] = 70
        seen = (writer(token_ids=other, token_type_ids=types).logits - first).abs().amax(-1)[0] > 1e-6
        expected = [changed < 3 if i < 3 else changed < 3 or changed <= i for i in range(6)]
        assert seen.tolist() == expected, changed


@torch.no_grad()
def test_all_is_read_where_nothing_is_written(writer: Model) -> None:
    tokens = torch.tensor([[5, 20, 30, 40], [5, 50, 60, 0]])
    inputs = {"token_ids": tokens, "attention_mask": tokens.ne(0)}
    expected = writer.head(writer.backbone(**inputs).last_hidden_state)
    assert difference(writer(**inputs).logits, expected) == 0.0
    zeros = {"token_type_ids": torch.zeros_like(tokens)}
    assert difference(writer(**inputs, **zeros).logits, expected) < 1e-5
    lengths = writer(token_ids=tokens, length=torch.tensor([4, 3]), **zeros).logits
    assert difference(lengths, expected) < 1e-5
    full = tokens.ne(0)[:, None].expand(2, 4, 4)  # a mask that says all
    own = writer(token_ids=tokens, attention_mask=full, token_type_ids=torch.ones_like(tokens)).logits
    types = {} if writer.backbone.token_types < 2 else {"token_type_ids": torch.ones_like(tokens)}
    expected = writer.head(writer.backbone(**inputs, **types).last_hidden_state)
    assert difference(own, expected) < 1e-5


@torch.no_grad()
def test_only_what_is_written_counts(writer: Model) -> None:
    tokens, types = torch.tensor([[5, 20, 30, 40, 50, 0]]), torch.tensor([[0, 0, 0, 1, 1, 0]])
    output = writer(token_ids=tokens, attention_mask=tokens.ne(0), token_type_ids=types, labels=tokens)
    assert abs(output.loss - F.cross_entropy(output.logits[0, 2:4], tokens[0, 3:5])) < 1e-6
    with pytest.raises(OptionError, match="give token_type_ids with labels"):
        writer(token_ids=tokens, labels=tokens)


@torch.no_grad()
def test_generate_writes_the_best_token_each_time(writer: Model) -> None:
    writer.preprocessor = None
    if "eos_token_id" in writer.config.fields():
        writer.config.eos_token_id = None
    rows = [[5, 20, 30, 40, 50], [6, 60, 70]]
    expected = []
    for row in rows:
        types = [0] * len(row)
        row = list(row)
        for _ in range(4):
            scores = writer(token_ids=torch.tensor([row]), token_type_ids=torch.tensor([types])).logits[0, -1]
            row.append(int(scores.argmax()))
            types.append(1)
        expected.append(row[-4:])
    padding = writer.config.pad_token_id
    tokens = torch.tensor([rows[0], [*rows[1], padding, padding]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    assert writer.generate(token_ids=tokens, attention_mask=mask, max_new_tokens=4).tolist() == expected
    assert writer.generate(input_ids=tokens, length=mask.sum(1), max_new_tokens=4).tolist() == expected
    assert len({tuple(row) for row in expected}) == 2


@pytest.mark.parametrize("name", FAMILIES)
def test_predict(name: str) -> None:
    model = tiny_model(name)
    results = model.predict(TEXTS, max_new_tokens=6)
    assert results == [model.predict(text, max_new_tokens=6)[0] for text in TEXTS]
    assert len({result["text"] for result in results}) > 1


@torch.no_grad()
def test_the_separator_ends_an_answer() -> None:
    model = tiny_model("bert_text_generation")
    end = model.preprocessor.tokenizer.sep_token_id
    model.head.out.bias.data[end] = 1e4
    assert [result["text"] for result in model.predict(["the dog", "a"], max_new_tokens=5)] == ["", ""]
    batch = model.preprocess(["the dog", "a"])
    assert model.generate(**{name: batch[name] for name in batch}, max_new_tokens=5).tolist() == [[end], [end]]


@torch.no_grad()
def test_rows_can_be_chosen_again(writer: Model) -> None:
    """As a search does that follows several answers to one text."""
    tokens, mask = torch.tensor([[5, 20, 30, 40], [6, 50, 60, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    both = writer.backbone.writer({"token_ids": tokens, "attention_mask": mask})
    (piece,) = both.pieces()
    assert piece.tokens.shape == (2, 0)
    first = both.step(piece.tokens)
    both.select(torch.tensor([1, 1, 0]))
    states = both.step(torch.tensor([[70], [80], [90]]))
    for row, (kept, token) in enumerate([(1, 70), (1, 80), (0, 90)]):
        alone = writer.backbone.writer({"token_ids": tokens[kept : kept + 1, : 4 - kept]})
        assert difference(alone.step(piece.tokens[:1]), first[kept : kept + 1]) < 1e-5
        assert difference(alone.step(torch.tensor([[token]])), states[row : row + 1]) < 1e-5
    with pytest.raises(ValueError, match="position_ids cannot be given here"):
        writer.generate(token_ids=tokens, position_ids=torch.arange(4)[None])


def test_room() -> None:
    model = tiny_model("bert_text_generation", max_position_embeddings=8)
    tokens = torch.tensor([[5, 20, 30, 40]])
    assert model.generate(token_ids=tokens, max_new_tokens=4).shape[1] <= 4
    with pytest.raises(OptionError, match="max_new_tokens is 5, but this model has positions for 4 tokens more"):
        model.generate(token_ids=tokens, max_new_tokens=5)
