"""GLM's `predict`: blanks in texts are filled, and texts without one are continued."""

from __future__ import annotations

import pytest
import torch
from tiny_models import LONGEST, SIZES, tiny_model

from hezar_like import Model
from hezar_like.errors import InputError, OptionError, PreprocessorError

MASK, START, END = "[MASK]", SIZES["sop_token_id"], SIZES["eop_token_id"]
TEXTS = [f"the {MASK} brown fox", f"{MASK} cat sat on {MASK} mat {MASK}", "the lazy dogs", "", f"a {MASK}"]


@pytest.fixture(scope="module")
def glm() -> Model:
    return tiny_model("glm_text_generation")


def ids(glm: Model, text: str) -> list[int]:
    return glm.preprocessor.tokenizer.encode_texts([text])[0].ids


def by_hand(glm: Model, text: str, most: int, end: int = END) -> tuple[list[list[int]], list[int]]:
    """The tokens that fill each blank, and the text with them, in one pass after the other."""
    row, pieces = ids(glm, text), []
    length = len(row)
    masks = [place for place, token in enumerate(row) if token == 4]
    positions = [list(range(length)), [0] * length]
    for place in masks:
        pieces.append([])
        token = START
        for step in range(1, most + 1):
            row = [*row, token]
            positions = [[*positions[0], place], [*positions[1], step]]
            with torch.no_grad():
                scores = glm(torch.tensor([row]), length, torch.tensor([positions])).logits[0, -1]
            scores[START] = -torch.inf
            token = int(scores.argmax())
            if token == end:
                break
            pieces[-1].append(token)
    text_row = row[:length]
    for place, piece in zip(reversed(masks), reversed(pieces), strict=True):
        text_row[place : place + 1] = piece
    return pieces, text_row


@pytest.mark.parametrize("most", [1, 4])
def test_what_is_written_is_the_best_token_after_the_other(most: int, glm: Model) -> None:
    tokenizer = glm.preprocessor.tokenizer
    for text, record in zip(TEXTS, glm.predict(TEXTS, max_new_tokens=most), strict=True):
        blank = text if MASK in text else f"{text} {MASK}"
        pieces, row = by_hand(glm, blank, most)
        assert record == {"text": tokenizer.decode([row])[0], "blanks": tokenizer.decode(pieces)}


@pytest.mark.parametrize("batch_size", [1, 2, "auto"])
def test_a_batch_gives_what_single_inputs_give(batch_size: object, glm: Model) -> None:
    singles = [glm.predict(text, max_new_tokens=5)[0] for text in TEXTS]
    assert glm.predict(TEXTS * 2, max_new_tokens=5, batch_size=batch_size) == singles * 2


def test_pieces_end_and_later_ones_do_not_see_what_comes_after_the_end(glm: Model) -> None:
    """Rows end at different steps; what is read for those that are done is not seen by their next piece."""
    texts = [f"{MASK} {word} {MASK}" for word in ("dog", "cat", "mat", "fox", "box", "quick", "jump", "zebras")]
    written = glm.generate(**glm.preprocess(texts), max_new_tokens=6)
    rows, tokens = written[:, 1:7].tolist(), written[:, 1:7].unique().tolist()
    # The token that comes at the most different steps of the first pieces.
    end = max(tokens, key=lambda token: len({row.index(token) if token in row else -1 for row in rows}))
    glm = tiny_model("glm_text_generation", eop_token_id=end)
    expected = [by_hand(glm, text, 6, end)[0] for text in texts]
    assert len({len(first) for first, _ in expected}) > 1
    for records in (glm.predict(texts, max_new_tokens=6), glm.predict(texts, max_new_tokens=6, batch_size=3)):
        for pieces, record in zip(expected, records, strict=True):
            assert record["blanks"] == glm.preprocessor.tokenizer.decode(pieces)


@torch.no_grad()
def test_a_piece_has_no_second_start() -> None:
    """Else nobody could tell where it ends."""
    glm = tiny_model("glm_text_generation", tie_word_embeddings=False)
    text = torch.tensor([ids(glm, f"a {MASK} {MASK}")])
    state = glm(torch.cat((text, torch.tensor([[START]])), 1)).last_hidden_state[0, -1]
    glm.head.out.weight[START] = 100 * state
    assert glm(torch.cat((text, torch.tensor([[START]])), 1)).logits[0, -1].argmax() == START
    (written,) = glm.generate(text, max_new_tokens=4).tolist()
    assert written.count(START) == 2 and len(glm.predict(f"a {MASK} {MASK}", max_new_tokens=4)[0]["blanks"]) == 2


def test_rows_without_a_further_blank_wait() -> None:
    glm = tiny_model("glm_text_generation", tie_word_embeddings=False)
    batch = glm.preprocess([f"a {MASK}", f"{MASK} cat {MASK}"])
    first, second = glm.generate(**batch, max_new_tokens=4).tolist()
    piece = second.index(START, 1)
    assert first[0] == second[0] == START and set(first[piece:]) == {END} and END not in second[piece : piece + 2]


def test_pairs_are_continued_in_the_second(glm: Model) -> None:
    (pair,) = glm.preprocess([("the dog", "a cat")]).inputs
    assert pair.encoded.ids == ids(glm, ("the dog", f"a cat {MASK}"))
    (filled,) = glm.preprocess([(f"the {MASK}", "a cat")]).inputs
    assert filled.encoded.ids == ids(glm, (f"the {MASK}", "a cat"))


def test_long_texts_keep_what_is_continued(glm: Model, caplog: pytest.LogCaptureFixture) -> None:
    """The end of a text that is continued, the beginning of one with blanks."""
    words = "the quick brown fox and a lazy dog " * 20
    most = glm.max_tokens
    assert most == 2 * LONGEST  # what is written has positions of its own
    for text in (words, f"{words} {MASK}"):
        (item,) = glm.preprocess([text]).inputs
        whole = ids(glm, f"{words} {MASK}")
        assert item.encoded.ids == [whole[0], *whole[-most + 1 :]]
    (item,) = glm.preprocess([f"{MASK} {words}"]).inputs
    assert item.encoded.ids[:-1] == ids(glm, f"{MASK} {words}")[: most - 1]
    assert "was cut" in caplog.text
    with pytest.raises(InputError, match="item 1 .* no blank among the tokens that are read"):
        glm.predict(["a", f"{words} {MASK} dog"])
    with pytest.raises(InputError, match="item 0 .* tokens; the most is"):
        glm.predict([words], long_text="error")


def test_how_much_is_written(glm: Model) -> None:
    most = glm.backbone.max_tokens
    written = glm.generate(torch.tensor([ids(glm, f"a {MASK}")]), max_new_tokens=most)
    assert written.size(1) <= most + 1
    with pytest.raises(OptionError, match=f"max_new_tokens is {most + 1}, but this model has positions for {most}"):
        glm.predict(TEXTS, max_new_tokens=most + 1)
    text = torch.tensor([ids(glm, "a cat")])
    assert glm.generate(text).shape == (1, 0)  # nothing to fill


def test_a_tokenizer_without_the_blank() -> None:
    glm = tiny_model("glm_text_generation", vocab_size=130, gmask_token_id=129)
    assert len(glm.predict(f"a {MASK}", max_new_tokens=2)[0]["blanks"]) == 1
    with pytest.raises(PreprocessorError, match="the tokenizer has no token 129"):
        glm.predict("a", max_new_tokens=2)
