"""ModelCenter's layers and blocks: each row of docs/migration/modelcenter.md, against ModelCenter's equations."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from modelcenter_equations import (
    ACTIVATE,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    HIDE,
    KEYS,
    QUERIES,
    WIDTH,
    attended,
    attention,
    block_output,
    bucket,
    close,
    dropped,
    fed_forward,
    folded,
    layer_norm,
    linear,
    mlp,
    normed,
    randomized,
    rms,
    some_mask,
    states,
    turned,
)
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hezar_like.blocks import Block, Context, Stack
from hezar_like.errors import ConfigError
from hezar_like.layers import (
    ACTIVATIONS,
    MLP,
    Attention,
    LanguageModelHead,
    RelativeBias,
    RMSNorm,
    Rotary,
    TextEmbedding,
    Trace,
    attention_mask_to_look,
    initialize,
    rotate,
)

PAGE = Path(__file__).parents[2] / "docs" / "migration" / "modelcenter.md"
COVERED: set[str] = set()


def covers(*rows: str) -> Callable[[Any], Any]:
    """Names the rows of the page that a test is for, by their first cell without backticks."""
    COVERED.update(rows)
    return lambda test: test


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(1)


# -- every layer and block ------------------------------------------------------------------------------------------


@covers("dtype")
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.08), (torch.float64, 1e-12)]
)
@pytest.mark.parametrize("norm", [rms, layer_norm])
def test_dtype(norm: Any, dtype: torch.dtype, tolerance: float) -> None:
    stack = randomized(Stack([Block(attention(), mlp(), norm)], norm(), RelativeBias(HEADS))).to(dtype)
    x, mask = states().to(dtype), some_mask()
    ours = stack(x, Context(mask=mask[:, None]))
    bias = stack.bias(QUERIES, QUERIES)
    (block,) = stack.blocks
    theirs = block_output(
        block, x, lambda h: attended(block.attn, h, h, mask, bias), lambda h: fed_forward(block.mlp, h, "gated_gelu")
    )
    assert ours.dtype == dtype
    if dtype == torch.float64 and norm is rms:
        tolerance = 1e-6  # the mean square is taken in float32
    close(ours, normed(theirs, stack.norm), tolerance)


@covers("init_mean, init_std", "att_init_mean, att_init_std, ffn_init_mean, ffn_init_std")
@pytest.mark.parametrize(
    ("make", "std", "mean"),
    [
        (lambda: nn.Linear(300, 200), 1.0, 0.0),
        (lambda: nn.Embedding(300, 200), 1.0, -0.5),
        (lambda: RelativeBias(100, 320), 1.0, 0.0),
        (lambda: Attention(128, 2, bias=True), 0.02, 0.01),
        (lambda: MLP(128, 256, "relu", gated=True), 0.04, 0.0),
    ],
    ids=["linear", "embedding", "relative", "attention", "mlp"],
)
def test_init_means_and_stds(make: Callable[[], nn.Module], std: float, mean: float) -> None:
    layer = randomized(make())
    initialize(layer, std, mean)
    for name, parameter in layer.named_parameters():
        if name.endswith("bias"):
            assert torch.equal(parameter, torch.zeros_like(parameter))
        else:  # five standard errors
            assert abs(parameter.mean() - mean) <= 5 * std / parameter.numel() ** 0.5
            assert abs(parameter.std() - std) <= 5 * std / (2 * parameter.numel()) ** 0.5


def test_layers_of_one_block_start_differently() -> None:
    block = Block(Attention(128, 4), MLP(128, 256, "gelu"), partial(RMSNorm, 128))
    initialize(block.attn, 0.02)
    initialize(block.mlp, 0.5, 3.0)
    assert abs(block.attn.q.weight.std() - 0.02) < 1e-3 and abs(block.attn.q.weight.mean()) < 1e-3
    assert abs(block.mlp.up.weight.std() - 0.5) < 0.02 and abs(block.mlp.up.weight.mean() - 3) < 0.02
    assert torch.equal(block.mlp_norm.weight, torch.ones(128))


@covers("length_scale", "Linear(length_scale_before=True)")
@pytest.mark.parametrize("before", [False, True])
def test_length_scale_is_a_smaller_weight(before: bool) -> None:
    layer, x = randomized(nn.Linear(WIDTH, HIDDEN)), states()
    theirs = linear(x, layer, length_scale=True, before=before)
    assert (layer(x) - theirs).abs().max() > 0.1
    close(folded(layer)(x), theirs)


def test_length_scale_of_whole_layers() -> None:
    attn, feed = randomized(attention(bias=True)), randomized(mlp(bias=True))
    x, mask = states(), some_mask()
    scored, fed = attended(attn, x, x, mask, length_scale=True), fed_forward(feed, x, "gated_gelu", length_scale=True)
    close(folded(attn)(x, mask=mask[:, None]), scored)
    close(folded(feed)(x), fed)


class LengthScale(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / weight.size(1) ** 0.5


def test_length_scale_with_the_large_weight() -> None:
    layer, x = randomized(nn.Linear(WIDTH, HIDDEN)), states()
    theirs = linear(x, layer, length_scale=True)
    (expected,) = torch.autograd.grad(theirs.square().sum(), layer.weight)
    parametrize.register_parametrization(layer, "weight", LengthScale())
    ours = layer(x)
    close(ours, theirs.detach())
    ours.square().sum().backward()
    close(layer.parametrizations.weight.original.grad, expected.double())


# -- layers ---------------------------------------------------------------------------------------------------------


@covers("Linear(dim_in, dim_out)", "Linear(bias=True)", "linear(x)")
@pytest.mark.parametrize("bias", [False, True])
def test_linear(bias: bool) -> None:
    layer, x = randomized(nn.Linear(WIDTH, HIDDEN, bias)), states()
    close(layer(x), linear(x, layer))


@covers("Embedding(vocab_size, embedding_size)", "Embedding(length_scale=True)", "embedding(ids)")
def test_embedding() -> None:
    ids = torch.randint(50, (2, QUERIES))
    plain = randomized(nn.Embedding(50, WIDTH))
    close(plain(ids), plain.weight.double()[ids])
    for scale in (1.0, WIDTH**-0.5):
        layer = randomized(TextEmbedding(50, WIDTH, scale=scale))
        close(layer(ids), layer.tokens.weight.double()[ids] * scale)


@covers("embedding.projection(x)")
@pytest.mark.parametrize("length_scale", [False, True])
def test_projection(length_scale: bool) -> None:
    scale = WIDTH**-0.5 if length_scale else 1.0
    embed = randomized(TextEmbedding(50, WIDTH, scale=scale))
    head = LanguageModelHead(WIDTH, 50, scale=scale)
    head.out.weight = embed.tokens.weight
    ids, x = torch.randint(50, (2, QUERIES)), states()
    theirs = torch.einsum("bld,vd->blv", x.double() * scale, embed.tokens.weight.double())
    close(head(x), theirs)
    if not length_scale:
        close(F.linear(x, embed.tokens.weight), theirs)
    head(embed(ids)).square().sum().backward()
    weight = embed.tokens.weight.detach().double().requires_grad_()
    (weight[ids] * scale * scale @ weight.T).square().sum().backward()
    close(embed.tokens.weight.grad, weight.grad)  # one parameter, used twice
    assert len([*nn.ModuleList([embed, head]).parameters()]) == 1


@covers(
    "RelativePositionEmbedding(num_heads, num_buckets, max_distance)",
    "RelativePositionEmbedding(bidirectional=False)",
    "position_bias(query_len, key_len)",
)
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (64, 256), (8, 20)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_relative_positions(num_buckets: int, max_distance: int, bidirectional: bool) -> None:
    layer = randomized(RelativeBias(HEADS, num_buckets, max_distance, bidirectional=bidirectional))
    for queries, keys in ((300, 300), (5, 12), (12, 5)):
        pairs = [bucket(q - k, num_buckets, max_distance, bidirectional) for q in range(queries) for k in range(keys)]
        theirs = layer.table.weight.double()[torch.tensor(pairs)].view(queries, keys, HEADS).permute(2, 0, 1)
        longer = max(queries, keys)
        close(layer(longer, longer)[0, :, :queries, :keys], theirs)
    latest = layer(1, 40)[0, :, 0]
    close(latest, layer(40, 40)[0, :, -1].double())
    layer(300, 300).sum().backward()
    untrained = (layer.table.weight.grad == 0).all(1).nonzero().flatten().tolist()
    assert untrained == ([num_buckets // 2] if bidirectional else []), "later keys are at a distance"


@covers("RotaryEmbedding(rotary_dim)", "h_q, h_k = rotary(h_q, h_k)")
@pytest.mark.parametrize("dim", [4, 8, HEAD_DIM])
def test_rotary_positions(dim: int) -> None:
    rotary = Rotary(dim, interleaved=True)
    for length in (QUERIES, 400):
        x = torch.randn(2, length, HEADS, HEAD_DIM)
        ours = rotate(x.transpose(1, 2), rotary(torch.arange(length)[None])).transpose(1, 2)
        close(ours, turned(x.double(), dim), 1e-4 if length == 400 else 2e-5)  # float32 angles of far positions
        assert torch.equal(ours[..., dim:], x[..., dim:])
    later = rotate(x.transpose(1, 2)[:, :, 5:9], rotary(torch.arange(5, 9)[None]))
    assert torch.equal(later.transpose(1, 2), ours[:, 5:9])


@covers("LayerNorm(dim_norm, eps)", "LayerNorm(bias=False)", "layernorm(x)")
@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("kind", [nn.LayerNorm, RMSNorm])
def test_norms(kind: Any, eps: float) -> None:
    norm, x = randomized(kind(WIDTH, eps)), 3 * states() + 1
    assert norm.eps == eps and (getattr(norm, "bias", None) is not None) == (kind is nn.LayerNorm)
    close(norm(x), normed(x, norm))
    half = norm.half()
    assert half(x.half()).dtype == torch.float16
    close(half(100 * x.half()), normed(100 * x.half(), half), 4e-3)  # squares beyond float16's largest number


@covers("LayerNorm(init_var)", "norm_init_var")
def test_init_var() -> None:
    block = Block(attention(), mlp(), rms)
    nn.init.constant_(block.attn_norm.weight, 0.25)
    x = states()
    close(block.attn_norm(x), normed(x, rms()) / 4)


@covers(
    "Attention(dim_in, dim_head, num_heads)", "Attention(dim_out)", "Attention(bias=True)",
    "Attention(attn_scale=True)", "attention(query, key_value, mask)", "dim_model, num_heads, dim_head",
    'Attention(pos_bias_type="none")', 'Attention(pos_bias_type="relative")', 'Attention(pos_bias_type="rotary")',
    "attention(position_bias=position_bias)", "Attention(mask_value)", "attn_scale, att_mask_value, pos_bias_type",
)  # fmt: skip
@pytest.mark.parametrize(("head_dim", "out_width"), [(HEAD_DIM, None), (6, 20), (8, None)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("attn_scale", [False, True])
@pytest.mark.parametrize("pos_bias_type", ["none", "relative", "rotary"])
def test_attention(head_dim: int, out_width: int | None, bias: bool, attn_scale: bool, pos_bias_type: str) -> None:
    rotary = Rotary(4, interleaved=True) if pos_bias_type == "rotary" else None
    layer = randomized(
        attention(
            head_dim=head_dim, out_width=out_width, bias=bias, scale=None if attn_scale else 1.0, rotary=rotary
        )
    )  # fmt: skip
    assert layer.k.weight.shape == (HEADS * head_dim, WIDTH)
    assert layer.out.weight.shape == (out_width or WIDTH, HEADS * head_dim)
    assert all((part.bias is not None) == bias for part in (layer.q, layer.k, layer.v, layer.out))
    for keys, other in ((QUERIES, False), (QUERIES, True), *(() if rotary else ((KEYS, True),))):
        query, mask = states(), some_mask(QUERIES, keys)
        source = states(keys) if other else query
        position_bias = torch.randn(HEADS, QUERIES, keys) if pos_bias_type == "relative" else None
        look = mask[:, None]
        given = look if position_bias is None else position_bias.masked_fill(~look, HIDE)
        rotation = rotary(torch.arange(QUERIES)[None]) if rotary else None
        traced: list[Tensor] = []
        for kept in (None, traced):  # both ways of attending
            ours = layer(query, source if other else None, mask=given, rotation=rotation, probabilities=kept)
            for fill in (HIDE, -1e4):
                theirs = attended(
                    layer, query, source, mask, position_bias,
                    attn_scale=attn_scale, mask_value=fill, rotary_dim=4 if rotary else 0,
                )  # fmt: skip
                close(ours, theirs)
        blind = ours[0, 2]
        expected = torch.zeros_like(blind) if layer.out.bias is None else layer.out.bias
        assert torch.equal(blind, expected)
        assert traced[0][~look.expand_as(traced[0])].abs().max() == 0
        if position_bias is None:
            for dtype in (torch.int64, torch.float32):
                again = layer(
                    query, source, mask=attention_mask_to_look(mask.to(dtype)), rotation=rotation, probabilities=traced
                )
                assert torch.equal(again, ours)


@pytest.mark.parametrize("kept", [None, []], ids=["fast", "explicit"])
@pytest.mark.parametrize("biased", [False, True])
def test_gradients_where_queries_see_nothing(biased: bool, kept: list[Tensor] | None) -> None:
    """They are the same as if those rows were not there; with minus infinity theirs are NaN, so -1e4 it is."""
    layer, table = randomized(attention(bias=True)), torch.randn(HEADS, QUERIES, QUERIES, requires_grad=True)
    x, mask = states(), some_mask()
    given = table.masked_fill(~mask[:, None], HIDE) if biased else mask[:, None]
    leaves = [*layer.parameters(), *([table] if biased else [])]
    ours = torch.autograd.grad(layer(x, mask=given, probabilities=kept).square().sum(), leaves)
    theirs = attended(layer, x, x, mask, table if biased else None, mask_value=-1e4)
    for mine, expected in zip(ours, torch.autograd.grad(theirs.square().sum(), leaves), strict=True):
        assert (mine - expected).abs().max() <= 1e-4 * expected.abs().max().clamp(min=1)


@covers(
    "FeedForward(dim_in, dim_ff)", "FeedForward(dim_out)", "FeedForward(bias=True)", "FeedForward(activate_fn)",
    "feedforward(x)", "dim_ff, ffn_activate_fn", "att_bias, ffn_bias",
)  # fmt: skip
@pytest.mark.parametrize("activate_fn", [f"{gated}{name}" for gated, name in product(("", "gated_"), ACTIVATE)])
@pytest.mark.parametrize(("bias", "out_width"), [(False, None), (True, 20)])
def test_feed_forward(activate_fn: str, bias: bool, out_width: int | None) -> None:
    name = activate_fn.removeprefix("gated_")
    layer = randomized(mlp(activation=name, gated=name != activate_fn, bias=bias, out_width=out_width))
    x = states()
    assert layer.up.weight.shape == (HIDDEN, WIDTH) and layer.down.weight.shape == (out_width or WIDTH, HIDDEN)
    assert all((part.bias is not None) == bias for part in (layer.gate, layer.up, layer.down) if part is not None)
    close(layer(x), fed_forward(layer, x, activate_fn))


def test_a_gated_activation_has_no_name_of_its_own() -> None:
    assert set(ACTIVATE) < set(ACTIVATIONS)
    with pytest.raises(ConfigError, match="activation is 'gated_gelu', which is unknown. Known: gelu, "):
        MLP(WIDTH, HIDDEN, "gated_gelu")


# -- dropout --------------------------------------------------------------------------------------------------------


@covers("dropout_p", "dropout_p of a block")
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_draws_where_theirs_does(p: float) -> None:
    """From one seed: the probabilities, what attention adds, what is between the MLP's layers, what the MLP adds."""
    block = randomized(Block(attention(dropout=p), mlp(dropout=p), rms, dropout=p))
    x, mask = states(), some_mask()
    # The explicit way of attending draws as theirs does.
    context = Context(mask=mask[:, None], trace=Trace(attentions=True))

    def theirs(p: float) -> Tensor:
        return block_output(
            block,
            x,
            lambda h: dropped(attended(block.attn, h, h, mask, dropout=p), p),
            lambda h: dropped(fed_forward(block.mlp, h, "gated_gelu", dropout=p), p),
        )

    torch.manual_seed(7)
    ours = block(x, context)
    torch.manual_seed(7)
    close(ours, theirs(p))
    assert (ours - theirs(0.0)).abs().max() > 0.1
    close(block.eval()(x, context), theirs(0.0))


def test_dropout_keeps_the_mean() -> None:
    """Of the fast way of attending too, whose random numbers are its own."""
    layer = randomized(attention(dropout=0.3, bias=True))
    x, look = states()[:1], some_mask()[:1, None]
    exact = layer.eval()(x, mask=look)
    many = 4000
    drawn = layer.train()(x.expand(many, -1, -1), mask=look)
    error = drawn.std(0) / many**0.5
    assert ((drawn.mean(0) - exact[0]).abs() <= 6 * error + 1e-5).all()
    assert (drawn.std(0)[[0, 1, 3]] > 1e-2).all() and drawn.std(0)[2].max() < 1e-5, "a query that sees nothing is sure"


# -- blocks ---------------------------------------------------------------------------------------------------------


@covers(
    "SelfAttentionBlock(...)(hidden_states, attention_mask, position_bias)",
    "CrossAttentionBlock(...)(hidden_states, key_value_states, attention_mask, position_bias)",
    "FFNBlock(...)(hidden_states)",
    "norm_bias, norm_eps",
)
@pytest.mark.parametrize("make_norm", [rms, layer_norm])
def test_parts_of_a_block(make_norm: Any) -> None:
    norm, attn, feed = randomized(make_norm()), randomized(attention()), randomized(mlp())
    x, encoded, mask, position_bias = states(), states(KEYS), some_mask(), torch.randn(HEADS, QUERIES, QUERIES)
    look = position_bias.masked_fill(~mask[:, None], HIDE)
    theirs = x + attended(attn, normed(x, norm), normed(x, norm), mask, position_bias)
    close(x + attn(norm(x), mask=look), theirs)
    mask = some_mask(QUERIES, KEYS)
    close(x + attn(norm(x), encoded, mask=mask[:, None]), x + attended(attn, normed(x, norm), encoded, mask))
    close(x + feed(norm(x)), x + fed_forward(feed, normed(x, norm), "gated_gelu"))


@covers(
    "TransformerBlock(...)", "TransformerBlock(is_decoder=True)", "TransformerBlock(parallel_ffn=True)",
    "block(self_hidden_states, self_attention_mask, self_position_bias)",
    "block(cross_hidden_states, cross_attention_mask)", "block(cross_position_bias)",
)  # fmt: skip
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("is_decoder", [False, True])
@pytest.mark.parametrize("order", ["pre", "parallel", "shared"])
@pytest.mark.parametrize("norm", [rms, layer_norm])
def test_transformer_block(norm: Any, order: str, is_decoder: bool, biased: bool) -> None:
    block = randomized(
        Block(
            attention(bias=True), mlp(), norm, order="pre" if order == "pre" else "parallel",
            cross=attention() if is_decoder else None, shared_norm=order == "shared",
        )
    )  # fmt: skip
    x, encoded, mask, encoded_mask = states(), states(KEYS), some_mask(), some_mask(QUERIES, KEYS)
    bias = torch.randn(HEADS, QUERIES, QUERIES) if biased else None
    cross_bias = torch.randn(HEADS, QUERIES, KEYS) if biased else None
    look = encoded_mask[:, None]
    ours = block(
        x,
        Context(
            mask=mask[:, None],
            bias=bias,
            encoded=encoded,
            encoded_mask=look if cross_bias is None else cross_bias.masked_fill(~look, HIDE),
        ),
    )
    theirs = block_output(
        block,
        x,
        lambda h: attended(block.attn, h, h, mask, bias),
        lambda h: fed_forward(block.mlp, h, "gated_gelu"),
        (lambda h: attended(block.cross, h, encoded, encoded_mask, cross_bias)) if is_decoder else None,
        (block.attn_norm, block.attn_norm if order == "shared" else block.mlp_norm),
        parallel_ffn=order != "pre",
    )
    close(ours, theirs)


@pytest.mark.parametrize("order", ["pre", "parallel"])
def test_what_an_order_of_norms_must_not_leave_out(order: Any) -> None:
    """Attention over an encoder's output and over memories tells in every order."""
    block = randomized(Block(attention(), mlp(), rms, order=order, cross=attention()))
    x, encoded, memory = states(), states(KEYS), states(3)
    plain = block(x, Context(encoded=encoded))
    assert (block(x, Context(encoded=encoded.flip(2))) - plain).abs().max() > 0.1
    remembering = block(x, Context(encoded=encoded, memories=[memory]))
    whole = block(torch.cat((memory, x), 1), Context(encoded=encoded))[:, 3:]
    close(remembering, whole.double())
    with pytest.raises(AssertionError, match="Context.encoded"):
        block(x)


def stack_of(layers: int, norm: Any, last: nn.Module | None, *, decodes: bool = False, **options: Any) -> Any:
    blocks = [Block(attention(), mlp(), norm, cross=attention() if decodes else None, **options) for _ in range(layers)]
    return randomized(Stack(blocks, last))


@covers("Encoder(num_layers)", "encoder(hidden_states, attention_mask, position_bias)")
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("shared", [False, True], ids=["bias given", "bias of the stack"])
@pytest.mark.parametrize("parallel", [False, True])
def test_encoder(layers: int, shared: bool, parallel: bool) -> None:
    options = {"order": "parallel", "shared_norm": False} if parallel else {}
    stack = stack_of(layers, rms, rms(), **options)
    stack.bias = randomized(RelativeBias(HEADS, 8, 20)) if shared else None
    x, mask = states(), some_mask()
    bias = stack.bias(QUERIES, QUERIES)[0] if shared else torch.randn(HEADS, QUERIES, QUERIES)
    theirs = x.double()
    for block in stack.blocks:
        theirs = block_output(
            block,
            theirs,
            lambda h, b=block: attended(b.attn, h, h, mask, bias),
            lambda h, b=block: fed_forward(b.mlp, h, "gated_gelu"),
            parallel_ffn=parallel,
        )
    theirs = normed(theirs, stack.norm)

    def context() -> Context:
        return Context(mask=mask[:, None], bias=None if shared else bias.detach())

    close(stack(x, context()), theirs)
    expected = torch.autograd.grad(theirs.square().sum(), [*stack.parameters()])
    stack.checkpoint_activations = True
    stack(x, context()).square().sum().backward()
    for parameter, gradient in zip(stack.parameters(), expected, strict=True):
        assert (parameter.grad - gradient).abs().max() <= 1e-4 * gradient.abs().max()


@covers(
    "Decoder(num_layers)", "decoder(hidden_states, attention_mask, position_bias)",
    "decoder(cross_hidden_states, cross_attention_mask, cross_position_bias)",
)  # fmt: skip
@pytest.mark.parametrize("rule", ["causal", "causal and padding", "given"])
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_decoder(rule: str, parallel: bool, biased: bool) -> None:
    options = {"order": "parallel", "shared_norm": False} if parallel else {}
    stack = stack_of(2, layer_norm, layer_norm(), decodes=True, **options)
    x, encoded, cross_mask = states(), states(KEYS), some_mask(QUERIES, KEYS)
    bias = torch.randn(HEADS, QUERIES, QUERIES) if biased else None
    cross_bias = torch.randn(HEADS, QUERIES, KEYS) if biased else None
    earlier = torch.ones(2, QUERIES, QUERIES).tril().bool()
    padding = (torch.arange(QUERIES) < torch.tensor([[QUERIES], [4]]))[:, None]
    mask = {"causal": earlier, "causal and padding": earlier & padding, "given": some_mask()}[rule]
    context = Context(
        mask={"causal": None, "causal and padding": padding[:, None], "given": mask[:, None]}[rule],
        causal=rule != "given",
        bias=bias,
        encoded=encoded,
        encoded_mask=cross_mask[:, None] if cross_bias is None else cross_bias.masked_fill(~cross_mask[:, None], HIDE),
    )
    theirs = x.double()
    for block in stack.blocks:
        theirs = block_output(
            block,
            theirs,
            lambda h, b=block: attended(b.attn, h, h, mask, bias),
            lambda h, b=block: fed_forward(b.mlp, h, "gated_gelu"),
            lambda h, b=block: attended(b.cross, h, encoded, cross_mask, cross_bias),
            parallel_ffn=parallel,
        )
    close(stack(x, context), normed(theirs, stack.norm))


@covers("post_layer_norm")
@pytest.mark.parametrize("norm", [rms, layer_norm])
def test_post_layer_norm_is_the_same_with_norms_moved_on_by_one(norm: Any) -> None:
    layers, ids, mask = 3, torch.randint(50, (2, QUERIES)), some_mask()
    embed = randomized(TextEmbedding(50, WIDTH, norm=norm()), seed=3)
    stack = stack_of(layers, norm, None, order="post")
    theirs = embed.tokens.weight.double()[ids]
    first = embed.norm
    for block in stack.blocks:
        theirs = block_output(
            block,
            theirs,
            lambda h, b=block: attended(b.attn, h, h, mask),
            lambda h, b=block: fed_forward(b.mlp, h, "gated_gelu"),
            norms=(first, block.attn_norm),
            post_layer_norm=True,
        )
        first = block.mlp_norm
    found = stack.double()(embed.double()(ids), Context(mask=mask[:, None]))  # three norms add up what float32 rounds
    close(found, normed(theirs, first))


# -- the page -------------------------------------------------------------------------------------------------------

BLOCK = """dim_model dtype int8 norm_init_var norm_bias norm_eps length_scale dropout_p """
ATTENDS = BLOCK + "num_heads dim_head att_init_mean att_init_std att_bias att_mask_value pos_bias_type attn_scale "
FEEDS = BLOCK + "dim_ff ffn_init_mean ffn_init_std ffn_bias ffn_activate_fn "
RANDOM = "dtype int8 init_mean init_std "
# What ModelCenter's documentation of 5 April 2022 has as arguments of constructors and of forward.
ARGUMENTS = {
    "Linear": RANDOM + "dim_in dim_out bias length_scale length_scale_before x",
    "Embedding": RANDOM + "vocab_size embedding_size length_scale ids projection x",
    "RelativePositionEmbedding": RANDOM + "num_heads num_buckets max_distance bidirectional query_len key_len",
    "RotaryEmbedding": "rotary_dim h_q h_k",
    "LayerNorm": "dim_norm dtype bias eps init_var x",
    "Attention": RANDOM
    + "dim_in dim_head num_heads dim_out bias mask_value pos_bias_type length_scale attn_scale dropout_p "
    + "query key_value mask position_bias",
    "FeedForward": RANDOM + "dim_in dim_ff dim_out bias activate_fn length_scale dropout_p x",
    "SelfAttentionBlock": ATTENDS + "post_layer_norm hidden_states attention_mask position_bias",
    "CrossAttentionBlock": ATTENDS + "post_layer_norm hidden_states key_value_states attention_mask position_bias",
    "FFNBlock": FEEDS + "post_layer_norm hidden_states",
    "TransformerBlock": ATTENDS
    + FEEDS
    + "is_decoder post_layer_norm parallel_ffn self_hidden_states self_attention_mask self_position_bias "
    + "cross_hidden_states cross_attention_mask cross_position_bias",
    "Encoder": ATTENDS + FEEDS + "num_layers post_layer_norm parallel_ffn hidden_states attention_mask position_bias",
    "Decoder": ATTENDS
    + FEEDS
    + "num_layers post_layer_norm parallel_ffn hidden_states attention_mask position_bias cross_hidden_states "
    + "cross_attention_mask cross_position_bias",
}
SHARED = ("Every layer and block", "Not here")
BLOCKS = ("Every block", "TransformerBlock")


def sections() -> dict[str, str]:
    """The parts of the page on layers and blocks, by heading."""
    page = PAGE.read_text(encoding="utf-8").split("## Layers and blocks\n")[1].split("\n## ")[0]
    parts = re.split(r"^### (.*)\n", page, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_row_has_a_test() -> None:
    cells = [cell for text in sections().values() for cell in re.findall(r"^\| (.*?) \| ", text, re.M)]
    rows = [cell.replace("`", "") for cell in cells if cell != "there"]
    assert sorted(rows) == sorted(COVERED)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_argument_has_a_row(name: str) -> None:
    parts = sections()
    headings = [name, *SHARED, *(BLOCKS if "dim_model" in ARGUMENTS[name] else ())]
    code = " ".join(re.findall(r"`(.*?)`", " ".join(parts[heading] for heading in headings)))
    written = set(re.findall(r"\w+", code))
    assert set(ARGUMENTS[name].split()) - written == set()
