"""GLM by other searches than greedy: pieces of several blanks, beams and samples, texts that are read causally."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from comparing import difference, perturb
from safetensors.torch import load_file
from tiny_models import SIZES, tiny_model
from torch import Tensor

from hezar_like import Model
from hezar_like.errors import InputError, OptionError

START, END, BLANK = SIZES["sop_token_id"], SIZES["eop_token_id"], 4
FIXTURE = Path(__file__).parents[1] / "fixtures" / "flagai_modelcenter" / "glm"
TOKENS = torch.tensor([[2, 10, BLANK, 11, 12, BLANK, 13, 3]])
NEW = 5


@pytest.fixture(scope="module")
def glm() -> Model:
    model = tiny_model("glm_text_generation")
    perturb(model)
    return model.eval()


@torch.no_grad()
def scores_after(model: Model, text: Tensor, pieces: list[tuple[int, list[int]]]) -> Tensor:
    """Log-probabilities of the next token of the last piece; each has its blank's place and its tokens."""
    length = text.size(1)
    rows, places, blocks = text[0].tolist(), list(range(length)), [0] * length
    for place, tokens in pieces:
        rows += [START, *tokens]
        places += [place] * (len(tokens) + 1)
        blocks += range(1, len(tokens) + 2)
    scores = model(torch.tensor([rows]), length, torch.tensor([[places, blocks]])).logits[0, -1].float()
    scores = scores.log_softmax(-1)
    scores[START] = -torch.inf
    return scores


def best_piece(model: Model, earlier: list[tuple[int, list[int]]], place: int, beams: int) -> list[int]:
    """Beam search by its definition: no text may end, so all have one length."""
    found: list[tuple[float, list[int]]] = [(0.0, [])]
    for _ in range(NEW):
        longer = []
        for total, tokens in found:
            scores = scores_after(model, TOKENS, [*earlier, (place, tokens)])
            scores[END] = -torch.inf
            longer += [(total + value, [*tokens, token]) for token, value in enumerate(scores.tolist())]
        found = sorted(longer, reverse=True)[:beams]
    return found[0][1]


@pytest.mark.parametrize("beams", [1, 3])
def test_later_pieces_follow_the_best_earlier_ones(glm: Model, beams: int) -> None:
    first = best_piece(glm, [], 2, beams)
    second = best_piece(glm, [(2, first)], 5, beams)
    # The last token of a piece has not been read when the next one begins, as in the original.
    unread = best_piece(glm, [(2, first[:-1])], 5, beams)
    written = glm.generate(token_ids=TOKENS, num_beams=beams, max_new_tokens=NEW, min_new_tokens=NEW)[0].tolist()
    assert written[: NEW + 1] == [START, *first]
    assert written[NEW + 1 :] == [START, *unread]
    assert second  # what it would be otherwise is another question


def test_batches_and_options_of_blanks(glm: Model) -> None:
    other = torch.tensor([[2, BLANK, 20, 21, 22, 23, 3, 0]])
    both, mask = torch.cat((TOKENS, other)), torch.tensor([[1] * 8, [1] * 7 + [0]])
    for options in ({"num_beams": 3}, {"do_sample": True, "seed": 4, "temperature": 2.0}, {"penalty_alpha": 0.5, "top_k": 3}):
        together = glm.generate(token_ids=both, attention_mask=mask, max_new_tokens=NEW, **options)
        alone = [
            glm.generate(token_ids=both[i : i + 1], attention_mask=mask[i : i + 1], max_new_tokens=NEW, **options)
            for i in (0, 1)
        ]
        assert together[0, : alone[0].size(1)].tolist() == alone[0][0].tolist()
        assert together[1, : alone[1].size(1)].tolist() == alone[1][0].tolist()


def test_texts_that_are_answered() -> None:
    start = tiny_model("glm_text_generation").preprocessor.tokenizer.cls_token_id  # one that is special, as real ones are
    glm = tiny_model("glm_text_generation", sop_token_id=start)
    tokenizer = glm.preprocessor.tokenizer
    texts = ["the cat sat", "", "a dog"]
    records = glm.predict(texts, layout="seq2seq", max_new_tokens=4, eos_token_id=[], return_scores=True)
    written = [""] * 3
    for index, piece in glm.stream(texts, layout="seq2seq", max_new_tokens=4):
        written[index] += piece
    for text, record, streamed in zip(texts, records, written, strict=True):
        row = tokenizer.encode_texts([text], add_special_tokens=False)[0].ids
        read = torch.tensor([[start, *row, tokenizer.sep_token_id]])
        new = glm.generate(token_ids=read, sep=0, max_new_tokens=4)[0, read.size(1) :].tolist()
        assert record["tokens"] == [tokenizer.id_to_token(token) for token in new]
        assert record["text"] == tokenizer.decode([[token for token in new if token != END]])[0] == streamed
    with pytest.raises(OptionError, match="layout is 'titles'; it must be"):
        glm.predict(texts, layout="titles")
    with pytest.raises(InputError, match="item 0 .*it must be a text"):
        glm.predict([("a", "b")], layout="seq2seq")
    with pytest.raises(OptionError, match="is for blank fillers"):
        tiny_model("gpt2_text_generation").predict("a", layout="seq2seq")


@torch.no_grad()
def test_a_text_that_is_read_causally() -> None:
    """The scores of FlagAI for `[sop] text [sep] answer`, token by token, and what follows from them."""
    model = Model.load(FIXTURE, task="text_generation", device="cpu")
    case = load_file(FIXTURE / "cases.safetensors")
    tokens, expected = case["encode_plus_seq2seq/in/input_ids"], case["encode_plus_seq2seq/out/logits"]
    writer = model.backbone.writer({"token_ids": tokens[:, :6], "sep": 0})
    states = [writer.step(next(writer.pieces()).tokens)]
    states += [writer.step(tokens[:, place : place + 1]) for place in range(6, tokens.size(1))]
    assert difference(model.head(torch.cat(states, 1)), expected) <= 2e-5 * expected.std()

    short = torch.cat((tokens[:, :5], torch.zeros(1, 2, dtype=torch.int64)), 1)
    mask = torch.tensor([[1] * 5 + [0] * 2, [1] * 7])
    rows = torch.cat((short, tokens[:, :7]))
    together = model.generate(token_ids=rows, attention_mask=mask, sep=0, max_new_tokens=4)
    for row, length in ((0, 5), (1, 7)):
        alone = model.generate(token_ids=rows[row : row + 1, :length], sep=0, max_new_tokens=4)
        assert together[row, -4:].tolist() == alone[0, -4:].tolist()
