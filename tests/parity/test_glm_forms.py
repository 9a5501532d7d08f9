"""GLM: what can be said in several ways gives one result; what cannot be is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from comparing import difference, perturb
from glm_fixtures import COMMANDS, error, inputs, model
from torch import Tensor

from hezar_like import Model, build_model
from hezar_like.errors import ConfigError, OptionError
from hezar_like.layers import Attention
from hezar_like.layers.blanks import Blanks
from hezar_like.layers.transformer_xl import TransformerXLAttention, shift, sinusoids

CLOSE = 1e-5
TEXT, BLANK, START, END = 102, 103, 106, 107


@pytest.fixture
def glm() -> Model:
    return model("glm", **COMMANDS)


def tiny(task: str = "text_generation", **fields: Any) -> Model:
    """Random weights, so that nothing is trivial."""
    sizes = {"vocab_size": 120, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    name = "glm" if task == "backbone" else f"glm_{task}"
    built = build_model(name, **sizes, max_position_embeddings=40, **COMMANDS, **fields)
    perturb(built)
    return built.eval()


@torch.no_grad()
def logits(glm: Model, *args: Any, **options: Any) -> Tensor:
    return glm(*args, **options).logits


# -- who sees whom ------------------------------------------------------------------------------------------------------


def test_where_texts_end_in_all_forms(glm: Model) -> None:
    given = inputs("glm", "blank", "input_ids", "position_ids", "attention_mask")
    tokens, places, ends = given["input_ids"][:1], given["position_ids"][:1], given["attention_mask"][:1]
    end = int(ends)
    expected = logits(glm, tokens, ends, places)
    indices = torch.arange(tokens.size(1))
    look = (indices <= indices[:, None]) | (indices < end)
    for form in (end, ends[0], ends, look[None], look[None, None].float(), torch.cat((look, look), 1)[None, None]):
        assert difference(logits(glm, tokens, form, places), expected) <= CLOSE
    for form in (end, ends[0], ends):
        assert difference(logits(glm, tokens, sep=form, position_ids=places), expected) <= CLOSE
        assert difference(logits(glm, tokens, torch.ones_like(tokens), places, sep=form), expected) <= CLOSE
    whole = glm(tokens, position_ids=places[:, 0], block_position_ids=places[:, 1])  # told by the tokens
    assert difference(whole.logits, expected) <= CLOSE
    assert difference(logits(glm, tokens, end + 1, places), expected) > 1e-2


def test_a_mask_of_all_rules(glm: Model) -> None:
    """Who sees whom altogether is not added to; texts without pieces are read in both directions."""
    tokens = torch.tensor([[TEXT, 5, 6, 7, 8, 100]])
    changed = torch.tensor([[TEXT, 5, 6, 7, 9, 100]])
    causal = torch.ones(6, 6).tril()[None]
    assert difference(logits(glm, tokens, causal)[:, :4], logits(glm, changed, causal)[:, :4]) <= CLOSE
    assert difference(logits(glm, tokens, 0), logits(glm, tokens, causal)) <= CLOSE
    assert difference(logits(glm, tokens)[:, :4], logits(glm, changed)[:, :4]) > 1e-3
    assert difference(logits(glm, tokens, 6), logits(glm, tokens)) <= CLOSE


def test_padding_is_not_seen() -> None:
    """Neither behind a row, nor between a text and its piece."""
    glm = tiny()
    row = torch.tensor([[TEXT, 5, BLANK, 7, 100, START, 8, 9]])
    alone = logits(glm, row)
    for where in (5, 8):
        padded = torch.cat((row[:, :where], torch.full((1, 3), 50), row[:, where:]), 1)
        mask = torch.cat((torch.ones(1, where), torch.zeros(1, 3), torch.ones(1, 8 - where)), 1)
        real = mask[0].bool()
        places = torch.zeros(1, 2, 11, dtype=torch.int64)
        places[..., real] = glm.backbone.blanks.positions(row)[0]
        assert difference(logits(glm, padded, mask, places)[:, real], alone) <= CLOSE
        other = torch.where(real, padded, 60)
        assert difference(logits(glm, other, mask, places)[:, real], alone) <= CLOSE
    batch = torch.cat((row, torch.tensor([[TEXT, 6, BLANK, 100, START, 8, 50, 50]])))
    lengths = torch.tensor([8, 6])
    assert difference(logits(glm, batch, length=lengths)[:1], alone) <= CLOSE
    assert difference(logits(glm, batch, length=lengths)[1:, :6], logits(glm, batch[1:, :6])) <= CLOSE


# -- memories -----------------------------------------------------------------------------------------------------------


def splits(length: int, seed: int) -> list[int]:
    cuts = sorted(random.Random(seed).sample(range(1, length), 3))
    return [end - start for start, end in zip([0, *cuts], [*cuts, length], strict=True)]


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fields", [{}, {"relative_encoding": True}, {"block_position_encoding": False}], ids=str)
def test_in_parts_and_in_one_pass(fields: dict[str, bool], seed: int) -> None:
    """All that comes after a text sees what came before, through `mems` and through `past_key_values`."""
    glm = tiny(**fields)
    torch.manual_seed(seed)
    tokens, text = torch.randint(0, 99, (2, 17)), 0 if fields.get("relative_encoding") else 5
    places = torch.randint(0, 40, (2, 2, 17) if glm.backbone.has_blocks else (2, 17))
    expected = logits(glm, tokens, text, places)
    sizes = [5 + splits(12, seed)[0], *splits(12, seed)[1:]]
    for way in ("mems", "past_key_values"):
        found, past, start = [], {}, 0
        for size in sizes:
            part = slice(start, start + size)
            wanted = {"return_memory": True} if way == "mems" else {"use_cache": True}
            sep = {"sep": text} if start == 0 else {}
            output = glm(tokens[:, part], position_ids=places[..., part], **sep, **past, **wanted)
            past = {way: output[way]}
            found.append(output.logits)
            start += size
        assert difference(torch.cat(found, 1), expected) <= CLOSE, way


@torch.no_grad()
@pytest.mark.parametrize("way", ["mems", "past_key_values"])
def test_padding_that_was_read_before(way: str, glm: Model) -> None:
    short, long = torch.tensor([[TEXT, 5, BLANK, 100]]), torch.tensor([[TEXT, 5, 6, 7, BLANK, 100]])
    texts = torch.cat((torch.cat((short, torch.tensor([[50, 50]])), 1), long))
    mask = torch.tensor([[1] * 4 + [0] * 2, [1] * 6])
    piece, places = torch.tensor([[START, 8], [START, 9]]), torch.tensor([[[2, 2], [1, 2]], [[4, 4], [1, 2]]])
    wanted = {"return_memory": True} if way == "mems" else {"use_cache": True}
    read = glm(texts, mask, **wanted)
    # The cache remembers the padding, memories do not.
    seen = torch.cat((mask, torch.ones(2, 2)), 1) if way == "mems" else None
    together = glm(piece, seen, places, **{way: read[way]})
    for row, text in enumerate((short, long)):
        alone = logits(glm, torch.cat((text, piece[row : row + 1]), 1))
        assert difference(together.logits[row], alone[0, -2:]) <= CLOSE


@pytest.mark.parametrize("detach", [True, False])
def test_gradients_end_at_memories_or_do_not(detach: bool, glm: Model) -> None:
    text, piece = torch.tensor([[TEXT, 5, BLANK, 100]]), torch.tensor([[START]])
    mems = glm(text, return_memory=True, detach_memory=detach).mems
    glm(piece, position_ids=torch.tensor([[[2], [1]]]), mems=mems).logits[..., 7].sum().backward()
    gradients = glm.backbone.embed.tokens.weight.grad.abs().amax(1)
    assert gradients[START] > 0 and bool(gradients[5] > 0) is not detach


def test_how_much_is_remembered(glm: Model) -> None:
    tokens = torch.tensor([[TEXT, 5, BLANK, 100]])
    assert glm(tokens).mems is None
    for most, expected in ((0, 0), (3, 3), (4, 4), (9, 4)):
        small = model("glm", **COMMANDS, max_memory_length=most)
        assert {states.size(1) for states in small(tokens, return_memory=False).mems} == {expected}
        assert {states.size(1) for states in small(tokens, return_memory=True).mems} == {4}


# -- positions ----------------------------------------------------------------------------------------------------------


def reference(row: list[int], blanks: Blanks) -> tuple[list[int], list[int], int]:
    """Positions token by token."""
    text = row[: row.index(blanks.start)] if blanks.start in row else row
    masks = [index for index, token in enumerate(text) if token in blanks.tokens]
    places, inside, piece = [], [], -1
    for index, token in enumerate(row):
        piece += token == blanks.start
        if piece < 0 or not masks:
            places.append(index)
        else:
            places.append(masks[min(piece, len(masks) - 1)])
        inside.append(0 if piece < 0 else 1 if token == blanks.start else inside[-1] + 1)
    return places, inside, len(text)


@pytest.mark.parametrize("seed", range(20))
def test_positions_are_those_of_their_definition(seed: int) -> None:
    blanks, chance = Blanks((7, 8), start=9, end=0, suffix=7), random.Random(seed)
    rows = [[chance.choice([1, 2, 3, 7, 8, 9]) for _ in range(chance.randint(12, 12))] for _ in range(5)]
    positions, ends = blanks.positions(torch.tensor(rows))
    for row, found, end in zip(rows, positions.tolist(), ends.tolist(), strict=True):
        assert (*found, end) == reference(row, blanks)


def test_a_row_may_be_longer_than_its_text(glm: Model) -> None:
    """A piece has positions of its own; a text has no more than there are."""
    most = glm.backbone.max_tokens
    text = torch.full((1, most), 5)
    text[0, 3] = BLANK
    piece = torch.full((1, most), 6)
    piece[0, 0] = START
    assert logits(glm, torch.cat((text, piece), 1)).shape[1] == 2 * most
    for row in (torch.cat((text, text[:, :1]), 1), torch.cat((text, piece, piece[:, 1:2]), 1)):
        with pytest.raises(ValueError, match=f"{most + 1} tokens, but this model has positions for {most}"):
            glm(row)


def test_relative_positions_depend_on_distances_alone() -> None:
    """`(q + u) k + (q + v) r`, by definition, for all keys up to a query's own."""
    torch.manual_seed(0)
    attention = TransformerXLAttention(16, 2).eval()
    perturb(attention)
    x, memory = torch.randn(1, 4, 16), torch.randn(1, 3, 16)
    seen, traced = torch.cat((memory, x), 1), []
    mask = torch.ones(4, 7).tril(3).bool()
    attention(x, seen, mask=mask, probabilities=traced)
    q, k = (layer(y).view(-1, 2, 8) for layer, y in ((attention.q, x[0]), (attention.k, seen[0])))
    r = attention.relative(sinusoids(7, 16, x.device)).view(7, 2, 8).flip(0)  # by distance
    scores = torch.full((2, 4, 7), -torch.inf)
    for i in range(4):
        for j in range(i + 4):
            content = ((q[i] + attention.content_bias) * k[j]).sum(-1)
            scores[:, i, j] = (content + ((q[i] + attention.position_bias) * r[i + 3 - j]).sum(-1)) * 8**-0.5
    assert difference(traced[0][0], scores.softmax(-1)) <= 1e-6
    assert difference(attention(x, seen, mask=mask), attention(x, seen, mask=mask, probabilities=[])) <= 1e-6
    ramp = torch.arange(12.0).view(3, 4)
    assert shift(ramp).tolist() == [[2, 3, 0, 4], [5, 6, 7, 0], [8, 9, 10, 11]]


def test_scores_beyond_half_precision_are_held() -> None:
    """What FlagAI's attention_scale is for."""
    torch.manual_seed(0)
    attention = Attention(64, 1).eval()
    with torch.no_grad():
        for layer in (attention.q, attention.k):
            layer.weight.copy_(torch.eye(64) * 100)
    x = (torch.randn(1, 9, 64) * 8).half()
    scores = (attention.q(x.float()) @ attention.k(x.float()).mT) / 8
    assert scores.abs().max() > torch.finfo(torch.float16).max
    for mask in (None, torch.ones(1, 1, 9, 9).tril().bool()):
        exact, found = attention.float()(x.float(), mask=mask), attention.half()(x, mask=mask)
        assert found.isfinite().all() and difference(found, exact) < 0.02


# -- prompts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lstm", "mlp", "none"])
def test_prompts_stand_where_they_are_put(kind: str) -> None:
    glm = tiny(spell_length=2, spell_func=kind)
    tokens = torch.tensor([[TEXT, 5, 6, 7, 100], [TEXT, 8, 9, 10, 100]])
    for places in ([1, 3], [[1, 3], [2, 1]]):
        places = torch.tensor(places)
        vectors = glm.backbone.embed.tokens(tokens).clone()
        for row in range(2):
            for number, place in enumerate(places.expand(2, 2)[row].tolist()):
                vectors[row, place] = glm.backbone.prompts()[number]
        by_hand = logits(glm, inputs_embeds=vectors)
        assert difference(logits(glm, tokens, prompt_pos=places), by_hand) <= CLOSE
        assert difference(logits(glm, tokens), by_hand) > 1e-3
    glm(tokens, prompt_pos=places).logits.sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in glm.backbone.prompts.parameters())


# -- what sums up an input ----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_pools() -> None:
    tokens = torch.tensor([[TEXT, 5, BLANK, 100, START, 50], [TEXT, 5, 6, BLANK, 100, START]])
    for pool, places in (("cls", [0, 0]), ("start", [4, 5]), ("pad", [3, 4])):
        glm = tiny("text_classification", pool_token=pool)
        output = glm(tokens)
        by_hand = glm.head(output.last_hidden_state[torch.arange(2), places][:, None])
        assert difference(output.logits, by_hand) == 0
        assert difference(glm(tokens, torch.tensor([4, 5])).logits, by_hand) <= CLOSE
    padded, mask = torch.tensor([[TEXT, 5, 6, 100, 50, 50]]), torch.tensor([[1, 1, 1, 1, 0, 0]])
    pad, start = tiny("text_classification", pool_token="pad"), tiny("text_classification", pool_token="start")
    assert difference(pad(padded, mask).logits, pad(padded[:, :4]).logits) <= CLOSE
    with pytest.raises(ValueError, match="pool_token is 'start'"):
        start(padded[:, :4])


@torch.no_grad()
def test_embeddings_are_of_texts() -> None:
    glm = tiny("text_embedding")
    text = torch.tensor([[TEXT, 5, BLANK, 100]])
    row = torch.cat((text, torch.tensor([[START, 8]])), 1)
    expected = glm(text).embeddings
    padded = torch.cat((text, torch.tensor([[50, START, 8]])), 1)
    assert difference(glm(padded, torch.tensor([[1] * 4 + [0] + [1] * 2]), sep=5).embeddings, expected) <= CLOSE
    for end in (4, torch.tensor(4), torch.tensor([4])):
        assert difference(glm(row, end).embeddings, expected) <= CLOSE
        assert difference(glm(row, sep=end).embeddings, expected) <= CLOSE


# -- writing ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_writer_goes_on_with_chosen_rows(glm: Model) -> None:
    texts = torch.tensor([[TEXT, 5, BLANK, 6, 100], [TEXT, BLANK, 7, BLANK, 100]])
    writer = glm.backbone.writer({"token_ids": texts})
    pieces = writer.pieces()
    first = next(pieces)
    assert first.tokens.tolist() == [[START], [START]] and first.idle.tolist() == [False, False]
    writer.step(first.tokens)
    writer.select(torch.tensor([1, 0, 1]))
    states = writer.step(torch.tensor([[11], [12], [13]]))
    for row, (text, token) in enumerate(((1, 11), (0, 12), (1, 13))):
        alone = glm(torch.cat((texts[text], torch.tensor([START, token])))[None]).last_hidden_state
        assert difference(states[row], alone[0, -1:]) <= CLOSE
    second = next(pieces)
    assert second.tokens.tolist() == [[START], [END], [START]] and second.idle.tolist() == [False, True, False]
    writer.step(torch.tensor([[START], [END], [START]]))
    states = writer.step(torch.tensor([[14], [END], [15]]))
    row = [*texts[1].tolist(), START, 13, START, 15]
    places = torch.tensor([[[*range(5), 1, 1, 3, 3], [0] * 5 + [1, 2, 1, 2]]])
    assert difference(states[2], glm(torch.tensor([row]), 5, places).last_hidden_state[0, -1:]) <= CLOSE
    with pytest.raises(StopIteration):
        next(pieces)


@torch.no_grad()
def test_a_writer_reads_several_tokens_at_once(glm: Model) -> None:
    text, states = torch.tensor([[TEXT, 5, BLANK, 6, 100]]), []
    for steps in ([[START, 11, 12]], [[START], [11], [12]]):
        writer = glm.backbone.writer({"token_ids": text})
        next(writer.pieces())
        states.append(torch.cat([writer.step(torch.tensor([step])) for step in steps], 1))
        states.append(writer.step(torch.tensor([[13]])))
    assert difference(states[:2], states[2:]) <= CLOSE


@torch.no_grad()
def test_nothing_is_read_behind_the_blank_at_the_end(glm: Model) -> None:
    """Tokenizers put an end there; texts that are to be continued were learned without."""
    text = [TEXT, 5, 6, COMMANDS["gmask_token_id"]]
    for rest in ([], [100]):
        assert (
            glm.generate(torch.tensor([text + rest]), max_new_tokens=4).tolist()
            == glm.generate(torch.tensor([text]), max_new_tokens=4).tolist()
        )
    blank = glm.backbone.blanks
    assert blank.unread(torch.tensor([[*text, 100], [TEXT, 100, BLANK, 100, 109]])).int().tolist() == [
        [0, 0, 0, 0, 1], [0, 0, 0, 0, 0],
    ]  # fmt: skip


@torch.no_grad()
def test_relative_positions_write_too() -> None:
    glm = tiny(relative_encoding=True)
    text = torch.tensor([[TEXT, 5, BLANK, 6, 100]])
    written = glm.generate(text, max_new_tokens=5)[0].tolist()
    mems, token = glm(text, return_memory=True).mems, START
    for expected in written[1:]:
        output = glm(torch.tensor([[token]]), mems=mems, return_memory=True)
        output.logits[0, -1, START] = -torch.inf
        mems, token = output.mems, int(output.logits[0, -1].argmax())
        assert token == expected
    assert written[0] == START and len(written) == 6


# -- random weights -----------------------------------------------------------------------------------------------------


def test_random_weights_are_those_of_the_authors() -> None:
    """What is added to the residual stream starts small, the deeper the model the smaller."""
    glm = build_model(
        "glm_text_classification", vocab_size=500, hidden_size=96, num_hidden_layers=8, num_attention_heads=4
    )
    for block in glm.backbone.stack.blocks:
        for layer, std in (
            (block.attn.q, 0.02),
            (block.mlp.up, 0.02),
            (block.attn.out, 0.005),
            (block.mlp.down, 0.005),
        ):
            assert layer.weight.std().item() == pytest.approx(std, rel=0.1)
            assert layer.bias.abs().max() == 0
    for layer in (glm.backbone.embed.tokens, glm.backbone.embed.positions, glm.backbone.embed.types, glm.head.dense):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
    relative = build_model("glm", vocab_size=50, hidden_size=16, num_attention_heads=2, relative_encoding=True)
    assert relative.backbone.stack.blocks[0].attn.content_bias.abs().max() == 0


# -- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention_mask": 2, "sep": 2}, "give sep, or attention_mask"),
        ({"attention_mask": torch.ones(1, 4, 4), "sep": 2}, "give sep, or attention_mask"),
        ({"mems": [torch.zeros(1, 2, 16)] * 2, "position_ids": torch.zeros(1, 2, 4).long()}, "mems has 2 tensors"),
        ({"attention_mask": torch.tensor([1, 2, 3])}, "has 3 numbers for 1 inputs"),
        ({"sep": torch.tensor([1, 2])}, "has 2 numbers for 1 inputs"),
        ({"attention_mask": torch.ones(1, 5)}, "covers 5 tokens, but there are 4"),
        ({"attention_mask": torch.ones(1, 1, 4, 3)}, "covers 3 tokens, but there are 4"),
        ({"mems": [torch.zeros(1, 2, 16)] * 3, "use_cache": True}, "give mems, or past_key_values"),
        ({"mems": [torch.zeros(1, 2, 16)] * 3}, "give position_ids"),
        ({"position_ids": torch.zeros(1, 2, 4).long(), "block_position_ids": torch.zeros(1, 4).long()}, "not both"),
        ({"prompt_pos": torch.tensor([1])}, "spell_length"),
        ({"inputs_embeds": torch.zeros(1, 4, 16)}, "exactly one of"),
        ({"length": torch.tensor([4]), "attention_mask": torch.ones(1, 4)}, "attention_mask or length"),
    ],
)
def test_what_does_not_fit_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny()(torch.tensor([[TEXT, 5, 6, 100]]), **options)


def test_other_errors() -> None:
    with pytest.raises(ValueError, match="has 3 places, but this model has 2"):
        tiny(spell_length=2)(torch.tensor([[TEXT, 5, 6, 100]]), prompt_pos=torch.tensor([0, 1, 2]))
    plain = tiny(block_position_encoding=False)
    with pytest.raises(ValueError, match="no positions within pieces"):
        plain(torch.tensor([[TEXT, 5]]), position_ids=torch.zeros(1, 2, 2).long())
    for silent in (plain, model("glm")):
        with pytest.raises(OptionError, match=r"does not write.*sop_token_id.*block_position_encoding"):
            silent.generate(torch.tensor([[TEXT, BLANK, 100]]))
    with pytest.raises(OptionError, match="attention_mask has 3 dimensions"):
        tiny().generate(torch.tensor([[TEXT, BLANK, 100]]), attention_mask=torch.ones(1, 3, 3))
    with pytest.raises(ConfigError, match=r"sop_token_id is 120, but there are only 120 tokens"):
        build_model("glm", vocab_size=120, hidden_size=16, num_attention_heads=2, sop_token_id=120)
    assert error(torch.ones(3) + torch.arange(3), torch.arange(3.0)) == pytest.approx(1.0)
