"""ModelCenter's models compute here what its own code computed: outputs, losses, gradients, step by step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from comparing import difference
from modelcenter_models import CASES, FIXTURES, NAMES, inputs, load, part
from safetensors.torch import load_file
from torch import Tensor

from hezar_like import Model
from hezar_like.formats.modelcenter_tables import LAYOUTS
from hezar_like.layers import RelativeBias
from hezar_like.text_files import read_json

TOLERANCE = 2e-5
"""Of the deviation of what is compared."""
COMPARED = ("logits", "last_hidden_state", "pooler_output", "encoder_last_hidden_state")
GRADIENTS = [(name, case) for name, case in CASES if (FIXTURES / name / f"grads_{case}.safetensors").is_file()]
DECODERS = [(name, case) for name, case in CASES if case in ("full_no_mask", "head_cache")]


def error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, in deviations of what should be; what is infinite must be so in both."""
    finite = theirs.isfinite()
    assert ours.shape == theirs.shape and torch.equal(ours.isfinite(), finite)
    return difference(ours[finite], theirs[finite]) / theirs[finite].std().item()


def test_all_models_are_there() -> None:
    assert {load(name).config.family for name in NAMES} == set(LAYOUTS)
    assert len(CASES) == 42 and len(GRADIENTS) == 14


@pytest.mark.parametrize(("name", "case"), CASES)
@torch.no_grad()
def test_outputs(name: str, case: str) -> None:
    output, expected = load(name, case)(**inputs(name, case)), part(name, case, "out")
    compared = [key for key in COMPARED if key in expected]
    assert compared
    for key in compared:
        assert error(output[key], expected[key]) <= TOLERANCE, key


def loss_of(model: Model, name: str, case: str) -> Tensor:
    labels = part(name, case, "in")["labels"]
    if model.config.family == "cpm1":  # its labels stand where they are predicted; ours are the input
        return F.cross_entropy(model(**inputs(name, case)).logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    return model(**inputs(name, case), labels=labels).loss


@pytest.mark.parametrize(("name", "case"), [pair for pair in CASES if "loss" in part(*pair, "out")])
@torch.no_grad()
def test_losses(name: str, case: str) -> None:
    expected = part(name, case, "out")["loss"].item()
    assert loss_of(load(name, case), name, case).item() == pytest.approx(expected, rel=1e-5)


def scale_of(name: str) -> Any:
    return "fan_in" if read_json(FIXTURES / name / "config.json")["length_scale"] else 1.0


@pytest.mark.parametrize(("name", "case"), GRADIENTS)
def test_gradients(name: str, case: str) -> None:
    """Of every stored tensor: ours, times what the stored one is multiplied with."""
    model = load(name, case)
    loss_of(model, name, case).backward()
    ours = dict(model.named_parameters())
    keymap = LAYOUTS[model.config.family].keymap(model.config, model.task, scale=scale_of(name))
    expected = load_file(FIXTURES / name / f"grads_{case}.safetensors")
    for key, theirs in expected.items():
        parts = keymap.parts(key)
        assert parts is not None
        gradient = ours[parts[0].name].grad if parts else None
        if gradient is None:
            assert not theirs.any(), key
            continue
        gradient = gradient * parts[0].stored.factor(gradient)
        if key.endswith("relative_attention_bias"):
            # ModelCenter does not train the last bucket; the texts for decoders here are too short to need it.
            assert not theirs[-1].any() and (gradient[-1].any() or key.startswith("position_bias_dec"))
            gradient, theirs = gradient[:-1], theirs[:-1]
        # Those of keys' biases are zero, but for rounding: they move all scores of a query alike.
        assert difference(gradient, theirs) <= 1e-4 * theirs.abs().max().item() + 1e-7, key
    trained = {parameter for parameter, tensor in ours.items() if tensor.grad is not None}
    assert trained == {p.name for key in expected for p in keymap.parts(key) or () if ours[p.name].grad is not None}


@pytest.mark.parametrize(("name", "case"), DECODERS)
@torch.no_grad()
def test_step_by_step(name: str, case: str) -> None:
    """What was seen is kept: in two pieces, and then token by token, a decoder says the same."""
    model, given, expected = load(name), inputs(name, case), part(name, case, "out")
    assert error(expected.get("logits_incremental", expected["logits"]), expected["logits"]) <= TOLERANCE
    own = "decoder_input_ids" if "decoder_input_ids" in given else "input_ids"
    tokens = given.pop(own)
    encoded = model.backbone.encode(given["input_ids"], given["attention_mask"]) if given else None
    shared = {"encoder_outputs": encoded, "attention_mask": given["attention_mask"]} if given else {}
    logits, cache, done = [], None, 0
    for count in (tokens.size(1) - 5, 1, 3, 1):
        piece = tokens[:, done : done + count]
        output = model(**{own: piece}, **shared, past_key_values=cache, use_cache=True)
        cache, done = output.past_key_values, done + count
        logits.append(output.logits)
    assert done == tokens.size(1)
    assert error(torch.cat(logits, 1), expected["logits"]) <= TOLERANCE


@torch.no_grad()
def test_context_of_earlier_tokens_step_by_step() -> None:
    """A prompt that is read both ways, and then what is written after it."""
    model, tokens = load("cpm1"), inputs("cpm1", "causal")["input_ids"]
    context = torch.arange(tokens.size(1))[None] < 9
    span, length = torch.tensor([[0] * 4 + [1] * 22]), torch.tensor([26, 26, 26])
    whole = model(tokens, length=length, context=context, span=span).logits
    first = model(tokens[:, :12], context=context[:, :12], span=span[:, :12], use_cache=True)
    cache = first.past_key_values
    second = model(tokens[:, 12:], context=context, span=span, past_key_values=cache)
    assert error(torch.cat((first.logits, second.logits), 1), whole) <= TOLERANCE
    plain = model(tokens, length=length, context=context).logits
    cache = model(tokens[:, :9], context=context[:, :9], use_cache=True).past_key_values
    assert error(model(tokens[:, 9:], past_key_values=cache).logits, plain[:, 9:]) <= TOLERANCE


@torch.no_grad()
def test_writing_after_a_context() -> None:
    """Rows padded on the left write what each row writes alone, after a prompt that is read both ways."""
    model, tokens = load("cpm1", eos_token_id=None), inputs("cpm1", "causal")["input_ids"][:, :8]
    together = torch.cat((torch.zeros(3, 2, dtype=torch.long), tokens), 1)
    mask = (together > 0).long()
    mask[:, 2:] = 1
    context = torch.ones_like(mask).bool()
    written = model.generate(token_ids=together, attention_mask=mask, context=context, max_new_tokens=6)
    for row, alone in zip(written, tokens, strict=True):
        expected = alone[None]
        for _ in range(6):
            known = torch.arange(expected.size(1))[None] < 8
            logits = model(expected, context=known).logits
            expected = torch.cat((expected, logits[:, -1:].argmax(-1)), 1)
        assert row[2:].tolist() == expected[0].tolist()


def flip_direction(model: Model) -> None:
    for module in model.backbone.modules():
        if isinstance(module, RelativeBias):
            module.bidirectional = not module.bidirectional


MISTAKES: dict[str, tuple[str, str, dict[str, Any], Any]] = {
    "another gelu": ("bert_mc", "base", {"hidden_act": "gelu_new"}, None),
    "another gelu in a gate": ("cpm2", "base", {"feed_forward_proj": "gated-gelu"}, None),
    "another gelu side by side": ("gptj_mc", "base", {"hidden_act": "gelu_new"}, None),
    "the gelu of today": ("gpt2_mc_gelu_erf", "base", {"hidden_act": "gelu_new"}, None),
    "a larger epsilon": ("cpm1", "prefix", {"rms_norm_eps": 1e-5}, None),
    "a larger epsilon in two stacks": ("t5_mc", "base", {"layer_norm_eps": 1.0}, None),
    "no scale of scores": ("cpm1", "causal", {"attention_scale": 1.0}, None),
    "a scale of scores": ("cpm2_plain", "base", {"attention_scale": None}, None),
    "transformers' scale of the head": ("t5_mc", "base", {"logit_scale": None}, None),
    "positions to one side": ("cpm1", "prefix", {}, flip_direction),
    "positions to both sides": ("t5_mc", "base", {}, flip_direction),
    "fewer far positions": ("cpm1", "causal", {"relative_attention_max_distance": 19}, None),
    "padding that looks": ("bert_mc", "base", {"blind_padding": False}, None),
    "padding that looks in two stacks": ("t5_mc", "base", {"blind_padding": False}, None),
    "fewer turned channels": ("gptj_mc", "base", {"rotary_dim": 6}, None),
    "a head of today": ("bert_mc", "v2022_tied", {"format_version": "head"}, None),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@torch.no_grad()
def test_a_wrong_reading_would_be_seen(mistake: str) -> None:
    name, case, options, change = MISTAKES[mistake]
    model = load(name, case, **options)
    if change is not None:
        change(model)
    logits = model(**inputs(name, case)).logits
    assert error(logits, part(name, case, "out")["logits"]) > 5 * TOLERANCE


@torch.no_grad()
def test_padding_takes_up_positions() -> None:
    """RoBERTa's positions there are 2, 3, 4, ..., whatever the tokens are."""
    tokens = inputs("roberta_mc", "base")["input_ids"].clone()
    tokens[:, 3:6] = 1
    model, positions = load("roberta_mc"), torch.arange(2, 2 + tokens.size(1))[None]
    assert difference(model(tokens).logits, model(tokens, position_ids=positions).logits) == 0.0
    other = load("roberta_mc", count_padding=False)
    assert error(other(tokens).logits, model(tokens).logits) > 5 * TOLERANCE


@torch.no_grad()
def test_sums_of_t5_are_multiplied_with_their_epsilon(tmp_path: Path) -> None:
    """Without layers, a T5 is its embedding and its norm; vectors so small that the epsilon tells are read exactly."""
    settings = read_json(FIXTURES / "t5_mc" / "config.json")
    settings |= {"num_encoder_layers": 0, "num_decoder_layers": 0}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    weights = torch.load(FIXTURES / "t5_mc" / "pytorch_model.pt", weights_only=True)
    weights = {key: tensor for key, tensor in weights.items() if ".layers." not in key}
    weights["input_embedding.weight"] *= 1e-3
    torch.save(weights, tmp_path / "pytorch_model.pt")
    given = inputs("t5_mc", "base")
    output = Model.load(tmp_path, format_version="head", device="cpu")(**given)
    small = weights["input_embedding.weight"]
    x = small[given["input_ids"]]
    x = x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weights["encoder.output_layernorm.weight"]
    assert error(output.encoder_last_hidden_state, x) <= TOLERANCE
    assert error(output.logits, output.last_hidden_state @ small.T) <= TOLERANCE


@torch.no_grad()
def test_positions_in_pieces_start_anew() -> None:
    """ModelCenter counts on in a second piece, which is a mistake of its; here it is as GLM was trained."""
    model, given = load("glm_mc"), inputs("glm_mc", "auto_positions")
    starts = given["input_ids"] == 106
    first = starts.long().argmax(1, keepdim=True)
    indices = torch.arange(starts.size(1)).expand(len(starts), -1)
    last = torch.where(starts, indices, 0).cummax(1).values
    anew = (indices - last + 1) * (indices >= first)
    assert starts.sum(1).tolist() == [2, 1] and not torch.equal(anew, given["block_position_ids"])
    expected = model(given["input_ids"], block_position_ids=anew).logits
    assert difference(model(given["input_ids"]).logits, expected) == 0.0


@torch.no_grad()
def test_names_of_inputs() -> None:
    """ModelCenter's earlier calls are taken too."""
    given, model = inputs("cpm2", "base"), load("cpm2")
    older = {"input_ids": "enc_input", "length": "enc_length", "decoder_input_ids": "dec_input"}
    older["decoder_length"] = "dec_length"
    expected = part("cpm2", "base", "out")["logits"]
    assert error(model(**{older[key]: tensor for key, tensor in given.items()}).logits, expected) <= TOLERANCE
    given, model = inputs("cpm1", "packed"), load("cpm1")
    expected = part("cpm1", "packed", "out")["logits"]
    assert error(model(input=given.pop("input_ids"), **given).logits, expected) <= TOLERANCE


@pytest.mark.parametrize("inputs_of", ["context", "span", "attention_mask", "position_ids"])
def test_masks_must_be_for_all_tokens(inputs_of: str) -> None:
    tokens = inputs("cpm1", "causal")["input_ids"]
    with pytest.raises(ValueError, match=rf"{inputs_of} covers 25 tokens, but there are 26"):
        load("cpm1")(tokens, **{inputs_of: torch.ones(3, 25, dtype=torch.long)})


@torch.no_grad()
def test_relative_positions_can_be_given() -> None:
    """Only distances matter: texts in one row may count on, or each from zero."""
    model, tokens = load("cpm1"), inputs("cpm1", "causal")["input_ids"]
    span = (torch.arange(26) >= 11).long()[None]
    expected = model(tokens, span=span).logits
    positions = torch.cat((torch.arange(11), torch.arange(15)))[None]
    assert error(model(tokens, span=span, position_ids=positions).logits, expected) <= TOLERANCE
    assert error(model(tokens, position_ids=positions).logits, model(tokens).logits) > 5 * TOLERANCE
    cache = model(tokens[:, :20], span=span[:, :20], position_ids=positions[:, :20], use_cache=True).past_key_values
    later = model(tokens[:, 20:], span=span, position_ids=positions, past_key_values=cache).logits
    assert error(later, expected[:, 20:]) <= TOLERANCE


@torch.no_grad()
def test_other_tasks_of_a_file() -> None:
    """Each head of a file is loaded for its own task, and a pooler for all."""
    given, expected = inputs("bert_mc", "base"), part("bert_mc", "base", "out")
    pooled = load("bert_mc", task="backbone")(**given)
    assert error(pooled.pooler_output, expected["pooler_output"]) <= TOLERANCE
    assert error(pooled.last_hidden_state, expected["last_hidden_state"]) <= TOLERANCE
    classifier = load("bert_mc", task="text_classification")
    assert torch.equal(classifier.head.dense.weight, load("bert_mc").backbone.pooler.dense.weight)
    given, expected = inputs("cpm1_cls", "causal"), part("cpm1_cls", "causal", "out")["last_hidden_state"]
    writer = load("cpm1_cls", task="text_generation")
    embedding = load("cpm1_cls").backbone.embed.tokens.weight
    assert error(writer(**given).logits, expected @ embedding.T) <= TOLERANCE
    filler = load("bert_mc_cls", task="mask_filling")
    stored = torch.load(FIXTURES / "bert_mc_cls" / "pytorch_model.pt", weights_only=True)
    assert torch.equal(filler.head.dense.weight, stored["lm_head.dense.weight"])
