"""Decoders token by token, and what every backbone does for training and for those who look inside."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from comparing import difference
from tiny_models import LONGEST, text_models, tiny_model
from torch import Tensor, nn

from hezar_like import Model
from hezar_like.backbones import BackboneBase, EncoderDecoder
from hezar_like.layers import Attention, Cache
from hezar_like.outputs import BackboneOutput
from hezar_like.registry import families_registry, models_registry

TOLERANCE = 2e-5
BACKBONES = [name for name in text_models() if models_registry[name].module_class.task == "backbone"]


def backbone_class(name: str) -> type[BackboneBase]:
    return families_registry[name].module_class.backbone


def takes(name: str, parameter: str) -> bool:
    return parameter in inspect.signature(backbone_class(name).forward).parameters


# GLM, whose tokens see each other and are told where they stand, has tests of its own.
DECODERS = [name for name in BACKBONES if takes(name, "past_key_values") and not takes(name, "mems")]
READERS = [name for name in DECODERS if issubclass(backbone_class(name), EncoderDecoder)]
# With dropout everywhere, whatever the defaults.
DROPOUTS = {
    name: {field: 0.3 for field in models_registry[name].config_class.fields() if "drop" in field} for name in BACKBONES
}
random = torch.Generator().manual_seed(0)
TOKENS = torch.randint(5, 119, (3, 9), generator=random)
READ = torch.randint(5, 119, (3, 7), generator=random)
READ_MASK = (torch.arange(7) < torch.tensor([[7], [4], [5]])).long()
RIGHT = (torch.arange(9) < torch.tensor([[9], [6], [8]])).long()
MASKS = {"none": None, "right": RIGHT, "left": RIGHT.flip(1)}
STEPS = [(0, 4), (4, 5), (5, 6), (6, 9)]


def run(model: Model, tokens: Tensor, mask: Tensor | None, **options: Any) -> BackboneOutput:
    """The backbone on what a decoder has to go on from; an encoder has read something before."""
    if isinstance(model.backbone, EncoderDecoder):
        given = {"token_ids": READ, "attention_mask": READ_MASK} | options
        return model.backbone(decoder_input_ids=tokens, decoder_attention_mask=mask, **given)
    return model.backbone(token_ids=tokens, attention_mask=mask, **options)


def step_by_step(model: Model, steps: Iterable[tuple[Tensor, Tensor | None]], **options: Any) -> Tensor:
    """The states of all steps, each of which goes on from the one before."""
    states, cache = [], None
    for tokens, mask in steps:
        output = run(model, tokens, mask, past_key_values=cache, use_cache=True, **options)
        cache = output.past_key_values
        states.append(output.last_hidden_state)
    return torch.cat(states, 1)


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


# -- token by token ---------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("padding", MASKS)
def test_steps_are_one_pass(decoder: Model, padding: str) -> None:
    """The attention mask may be of the new tokens, or of all."""
    mask = MASKS[padding]
    expected, real = run(decoder, TOKENS, mask).last_hidden_state, torch.ones_like(TOKENS) if mask is None else mask
    for of_all in (True, False):
        steps = [
            (TOKENS[:, start:end], None if mask is None else mask[:, 0 if of_all else start : end])
            for start, end in STEPS
        ]
        states = step_by_step(decoder, steps)
        assert difference(states[real.bool()], expected[real.bool()]) <= TOLERANCE


@torch.no_grad()
def test_the_padding_of_the_first_step_is_remembered(decoder: Model) -> None:
    mask = MASKS["left"]
    expected = run(decoder, TOKENS, mask).last_hidden_state
    states = step_by_step(decoder, [(TOKENS[:, :6], mask[:, :6]), *((TOKENS[:, i : i + 1], None) for i in (6, 7, 8))])
    assert difference(states[mask.bool()], expected[mask.bool()]) <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("padding", MASKS)
def test_rows_can_be_kept_and_doubled(decoder: Model, padding: str) -> None:
    """As beam search does."""
    mask, rows = MASKS[padding], torch.tensor([2, 0, 0, 1])
    first = run(decoder, TOKENS[:, :5], None if mask is None else mask[:, :5], use_cache=True)
    cache = first.past_key_values
    cache.select(rows)
    options: dict[str, Any] = {}
    if isinstance(decoder.backbone, EncoderDecoder):
        options = {"token_ids": None, "encoder_outputs": first.encoder_last_hidden_state[rows]}
        options["attention_mask"] = READ_MASK[rows]
    tokens, mask = TOKENS[rows], None if mask is None else mask[rows]
    expected = run(decoder, tokens, mask, **options).last_hidden_state[:, 5:]
    new = None if mask is None else mask[:, 5:]  # the cache remembers that of the others, and selects of it too
    result = run(decoder, tokens[:, 5:], new, past_key_values=cache, **options).last_hidden_state
    real = torch.ones_like(tokens[:, 5:]) if mask is None else mask[:, 5:]
    assert difference(result[real.bool()], expected[real.bool()]) <= TOLERANCE


@torch.no_grad()
def test_nothing_is_kept_unless_asked_for(decoder: Model) -> None:
    output = run(decoder, TOKENS, None)
    assert output.past_key_values is None and "past_key_values" not in output
    cache = run(decoder, TOKENS, None, use_cache=True).past_key_values
    assert isinstance(cache, Cache) and cache.length == TOKENS.size(1)
    again = run(decoder, TOKENS[:, :2], None, past_key_values=cache)
    assert again.past_key_values is cache and cache.length == TOKENS.size(1) + 2


@torch.no_grad()
def test_many_steps(decoder: Model) -> None:
    """The buffers of the cache grow several times."""
    tokens = TOKENS.repeat(1, 5)
    expected = run(decoder, tokens, None).last_hidden_state
    states = step_by_step(decoder, [(tokens[:, i : i + 1], None) for i in range(tokens.size(1))])
    assert difference(states, expected) <= TOLERANCE


def test_gradients_of_steps_are_those_of_one_pass(decoder: Model) -> None:
    weight = decoder.backbone.embed.tokens.weight
    run(decoder, TOKENS, None).last_hidden_state.square().sum().backward()
    expected, weight.grad = weight.grad, None
    step_by_step(decoder, [(TOKENS[:, start:end], None) for start, end in STEPS]).square().sum().backward()
    torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-3 * expected.abs().max().item())


@torch.no_grad()
def test_what_a_later_token_is_changes_nothing_before(decoder: Model) -> None:
    changed = TOKENS.clone()
    changed[:, 6] = 4
    before, after = (run(decoder, tokens, None).last_hidden_state for tokens in (TOKENS, changed))
    assert difference(before[:, :6], after[:, :6]) <= TOLERANCE
    assert difference(before[:, 6:], after[:, 6:]) > 1e-2


@pytest.mark.parametrize("wrong", [3, 10])
def test_a_mask_of_other_tokens_is_refused(decoder: Model, wrong: int) -> None:
    cache = run(decoder, TOKENS[:, :4], None, use_cache=True).past_key_values
    with pytest.raises(ValueError, match=f"attention_mask covers {wrong} tokens, but there are 6"):
        run(decoder, TOKENS[:, 4:6], torch.ones(3, wrong), past_key_values=cache)


def test_more_tokens_than_positions_in_steps(decoder: Model) -> None:
    most = decoder.backbone.max_tokens
    tokens = torch.full((1, most or LONGEST), 7)
    options = {"token_ids": READ[:1], "attention_mask": None} if isinstance(decoder.backbone, EncoderDecoder) else {}
    cache = run(decoder, tokens, None, use_cache=True, **options).past_key_values
    if most is None:
        run(decoder, tokens, None, past_key_values=cache, **options)
        assert cache.length == 2 * LONGEST
    else:
        with pytest.raises(ValueError, match=f"has {most + 1} tokens, but this model has positions for {most}"):
            run(decoder, tokens[:, :1], None, past_key_values=cache, **options)


# -- other ways to give inputs ----------------------------------------------------------------------------------------


@torch.no_grad()
def test_lengths_in_place_of_masks(decoder: Model) -> None:
    expected = run(decoder, TOKENS, RIGHT).last_hidden_state
    lengths = RIGHT.sum(1)
    if isinstance(decoder.backbone, EncoderDecoder):
        options = {"attention_mask": None, "length": READ_MASK.sum(1), "decoder_length": lengths}
        result = run(decoder, TOKENS, None, **options).last_hidden_state
        both = {"decoder_length": lengths}
    else:
        result, both = run(decoder, TOKENS, None, length=lengths).last_hidden_state, {"length": lengths}
    assert difference(result[RIGHT.bool()], expected[RIGHT.bool()]) <= TOLERANCE
    with pytest.raises(ValueError, match="not both"):
        run(decoder, TOKENS, RIGHT, **both)


@torch.no_grad()
@pytest.mark.parametrize("name", READERS)
def test_what_was_read_can_be_given(name: str) -> None:
    model = tiny_model(name)
    expected = run(model, TOKENS, RIGHT)
    encoded = model.backbone.encode(READ, READ_MASK)
    vectors, written = (model.backbone.embed.tokens(tokens) for tokens in (READ, TOKENS))
    for options in (
        {"encoder_outputs": encoded}, {"encoder_outputs": encoded.last_hidden_state},
        {"encoder_outputs": (encoded.last_hidden_state,)}, {"inputs_embeds": vectors},
        {"token_ids": READ, "decoder_input_ids": None, "decoder_inputs_embeds": written},
    ):  # fmt: skip
        given = {"decoder_input_ids": TOKENS, "decoder_attention_mask": RIGHT, "attention_mask": READ_MASK} | options
        result = model.backbone(**given)
        assert difference(result.last_hidden_state[RIGHT.bool()], expected.last_hidden_state[RIGHT.bool()]) <= TOLERANCE
    alone = model.backbone(READ, READ_MASK)
    real = READ_MASK.bool()
    assert difference(alone.last_hidden_state[real], encoded.last_hidden_state[real]) == 0.0
    with pytest.raises(ValueError, match="give exactly one of"):
        model.backbone(decoder_input_ids=TOKENS)


@torch.no_grad()
@pytest.mark.parametrize("name", READERS)
def test_who_sees_what_of_what_was_read(name: str) -> None:
    """By default all but the padding; or by a mask for each token."""
    model = tiny_model(name)
    expected = run(model, TOKENS, None).last_hidden_state
    crossing = READ_MASK[:, None, None].expand(3, 1, 9, 7)
    assert difference(run(model, TOKENS, None, cross_attention_mask=crossing).last_hidden_state, expected) <= TOLERANCE
    narrow = crossing.clone()
    narrow[:, :, 5:, 0] = 0
    result = run(model, TOKENS, None, cross_attention_mask=narrow).last_hidden_state
    assert difference(result[:, :5], expected[:, :5]) <= TOLERANCE < difference(result[:, 5:], expected[:, 5:])


# -- looking inside ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_what_a_decoder_saw(decoder: Model) -> None:
    """Of each step with what was kept: each of its tokens over all so far."""
    traced = {"output_hidden_states": True, "output_attentions": True}
    blocks = len(
        decoder.backbone.decoder.blocks if hasattr(decoder.backbone, "decoder") else decoder.backbone.stack.blocks
    )
    heads = decoder.config.num_attention_heads
    plain = run(decoder, TOKENS, None).last_hidden_state
    cache = None
    for start, end in STEPS:
        output = run(decoder, TOKENS[:, start:end], None, past_key_values=cache, use_cache=True, **traced)
        cache = output.past_key_values
        assert difference(output.last_hidden_state, plain[:, start:end]) <= TOLERANCE
        assert len(output.hidden_states) == blocks + 1 and len(output.attentions) == blocks
        assert torch.equal(output.hidden_states[-1], output.last_hidden_state)
        for weights in output.attentions:
            assert weights.shape == (3, heads, end - start, end)
            assert difference(weights.sum(-1), torch.ones(3, heads, end - start)) <= TOLERANCE
            later = torch.ones(end - start, end, dtype=torch.bool).triu(start + 1)
            assert weights[:, :, later].abs().sum() == 0
        if isinstance(decoder.backbone, EncoderDecoder):
            assert [w.shape for w in output.cross_attentions] == [(3, heads, end - start, 7)] * blocks
            assert all(w.masked_select(READ_MASK[:, None, None] == 0).abs().sum() == 0 for w in output.cross_attentions)
            assert len(output.encoder_hidden_states) == len(output.encoder_attentions) + 1
        else:
            assert output.cross_attentions is None


HEAD_MASKS = {"head_mask": "stack", "decoder_head_mask": "decoder", "cross_attn_head_mask": "decoder"}
MASKED = [(name, mask) for name in BACKBONES for mask in HEAD_MASKS if takes(name, mask)]


@torch.no_grad()
@pytest.mark.parametrize(("name", "option"), MASKED)
def test_a_head_that_is_masked_is_gone(name: str, option: str) -> None:
    """As if what it gives were multiplied with zeros."""
    model = tiny_model(name)
    reads = isinstance(model.backbone, EncoderDecoder)
    stack = getattr(model.backbone, "encoder" if reads and option == "head_mask" else HEAD_MASKS[option])
    layer = "cross" if option == "cross_attn_head_mask" else "attn"
    mask = torch.ones(len(stack.blocks), model.config.num_attention_heads)
    expected = run(model, TOKENS, RIGHT).last_hidden_state
    assert difference(run(model, TOKENS, RIGHT, **{option: mask}).last_hidden_state, expected) <= TOLERANCE
    mask[1, 2] = mask[0, 0] = 0.0
    result = run(model, TOKENS, RIGHT, **{option: mask}).last_hidden_state
    assert difference(result, expected) > 1e-3
    for block, row in zip(stack.blocks, mask, strict=True):
        attention: Attention = getattr(block, layer)
        for head in (row == 0).nonzero().flatten().tolist():
            attention.out.weight[:, head * attention.head_dim : (head + 1) * attention.head_dim] = 0.0
    assert difference(run(model, TOKENS, RIGHT).last_hidden_state, result) <= TOLERANCE


# -- training ---------------------------------------------------------------------------------------------------------


def gradients(model: Model, **options: Any) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(0)  # for dropout
    output = run(model, TOKENS, RIGHT, **options)
    loss = output.last_hidden_state[RIGHT.bool()].square().sum()
    for states in output.hidden_states or ():
        loss = loss + states[RIGHT.bool()].abs().sum()
    loss.backward()
    return {name: p.grad for name, p in model.backbone.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("options", [{}, {"output_hidden_states": True, "output_attentions": True}])
@pytest.mark.parametrize("name", BACKBONES)
def test_activations_computed_twice_give_equal_gradients(name: str, options: dict[str, bool]) -> None:
    """Also with dropout, of which both times the same numbers are dropped, and with relative positions."""
    model = tiny_model(name, **DROPOUTS[name]).train()
    expected = gradients(model, **options)
    model.checkpoint_activations()
    result = gradients(model, **options)
    assert set(result) == set(expected) and len(expected) > 10
    for key, gradient in expected.items():
        assert difference(result[key], gradient) <= 1e-5 * gradient.abs().max().clamp(min=1).item(), key
    model.checkpoint_activations(False)
    assert difference(gradients(model, **options), expected) == 0.0


def test_activations_are_really_computed_twice(backbone: Model) -> None:
    calls: list[int] = []
    stacks = [part for part in backbone.backbone.modules() if type(part).__name__ == "Stack"]
    for stack in stacks:
        for block in stack.blocks:
            block.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    gradients(backbone.train())
    once = len(calls)
    calls.clear()
    backbone.checkpoint_activations()
    gradients(backbone)
    assert once == sum(len(stack.blocks) for stack in stacks) and len(calls) == 2 * once
    calls.clear()
    with torch.no_grad():
        run(backbone, TOKENS, RIGHT)
    assert len(calls) == once


# -- rows that see nothing --------------------------------------------------------------------------------------------

NOTHING = torch.tensor([[True, True, False, True], [False] * 4, [True, False, False, False]])[None, None]
FORMS = {
    "bool": NOTHING,
    "float": torch.zeros(1, 1, 3, 4).masked_fill(~NOTHING, float("-inf")),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [{}, {"num_kv_heads": 2}, {"softcap": 5.0}, {"norm": nn.LayerNorm}], ids=str)
def test_a_query_that_sees_nothing_gets_nothing(form: str, options: dict[str, Any], traced: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(32, 4, **options)
    x = torch.randn(2, 3, 32, requires_grad=True)
    source = torch.randn(2, 4, 32, requires_grad=True)
    bias = FORMS[form]
    if form == "float":
        bias = bias.clone().requires_grad_()
    y = attention(x, source, mask=bias, probabilities=[] if traced else None)
    assert difference(y[:, 1], attention.out.bias.expand(2, 32)) <= 1e-6
    assert (y[:, 0] - attention.out.bias).abs().max() > 1e-3
    y.square().sum().backward()
    given = [x, source, *attention.parameters()]
    assert all(tensor.grad is None or tensor.grad.isfinite().all() for tensor in given)
    assert x.grad[:, 1].abs().max() == 0.0 and x.grad[:, 0].abs().max() > 0
    assert form == "bool" or bias.grad.isfinite().all()


def test_a_row_of_padding_alone(backbone: Model) -> None:
    """An empty text in a batch: neither its numbers nor its gradients are NaN, and the others are as ever."""
    mask = RIGHT.clone()
    mask[1] = 0
    options = {}
    if isinstance(backbone.backbone, EncoderDecoder):
        read = READ_MASK.clone()
        read[1] = 0
        options = {"attention_mask": read}
    output = run(backbone, TOKENS, mask, **options).last_hidden_state
    assert output.isfinite().all()
    output.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in backbone.parameters())
    others = copy.deepcopy(mask).bool()
    with torch.no_grad():
        expected = run(backbone, TOKENS, RIGHT).last_hidden_state
    assert difference(output.detach()[others], expected[others]) <= TOLERANCE
