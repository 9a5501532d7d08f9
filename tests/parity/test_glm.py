"""GLM as FlagAI's and ModelCenter's code compute it: logits, losses, gradients, memories, pieces that are written."""

from __future__ import annotations

import pytest
import torch
from glm_fixtures import COMMANDS, FOLDER, TOLERANCE, cases, error, inputs, model, output
from safetensors.torch import load_file
from torch import Tensor

from hezar_like import Model

LANGUAGE_MODELS = [
    (name, case)
    for name in (
        "glm", "glm_1d", "glm_relative", "glm_attention_scale", "glm_ptuning_lstm", "glm_ptuning_mlp",
        "glm_ptuning_none",
    )
    for case in cases(name)
    if not case.startswith(("seqcls", "multi_token", "mems_truncated"))
]  # fmt: skip
FORWARD = ("input_ids", "position_ids", "attention_mask", "prompt_pos")


def of_forward(name: str, case: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in inputs(name, case).items() if key in FORWARD}


@torch.no_grad()
@pytest.mark.parametrize(("name", "case"), LANGUAGE_MODELS)
def test_logits(name: str, case: str) -> None:
    glm, given = model(name), of_forward(name, case)
    assert error(glm(**given).logits, output(name, case)) <= TOLERANCE
    explicit = glm(**given, output_attentions=True)
    assert error(explicit.logits, output(name, case)) <= TOLERANCE
    assert len(explicit.attentions) == glm.config.num_hidden_layers


def test_every_case_of_every_folder_is_here() -> None:
    assert len(LANGUAGE_MODELS) == 16
    assert {case for case in cases("glm") if ("glm", case) not in LANGUAGE_MODELS} == {
        "seqcls_cls", "seqcls_start", "seqcls_pad", "multi_token_cloze", "mems_truncated",
    }  # fmt: skip


# -- losses and gradients ---------------------------------------------------------------------------------------------


def test_loss_over_all_positions() -> None:
    """Labels stand where they are predicted."""
    for name in ("glm", "glm_1d", "glm_relative", "glm_attention_scale"):
        for case in ("blank", "gmask"):
            target = inputs(name, case, "target_ids")["target_ids"]
            loss = model(name)(**of_forward(name, case), target_ids=target).loss
            assert loss.item() == pytest.approx(output(name, case, "loss_all_positions").item(), rel=1e-6)


def test_loss_of_pieces_and_its_gradients() -> None:
    """FlagAI's GLMForSeq2Seq: labels that are 0 do not count, but their weight does."""
    glm, given = model("glm"), inputs("glm", "blank")
    labels = given["target_ids"].masked_fill(given["target_ids"] == 0, -100)
    loss = glm(**of_forward("glm", "blank"), labels=labels, loss_mask=given["loss_mask"]).loss
    assert loss.item() == pytest.approx(output("glm", "blank", "loss_seq2seq").item(), rel=1e-6)
    loss.backward()
    found = {name: parameter.grad for name, parameter in glm.named_parameters()}
    ours = dict(glm.family.keymap(glm.config, glm.task).to_foreign(found.items()))
    theirs = load_file(FOLDER / "glm" / "grads_blank.safetensors")
    assert set(ours) == set(theirs)
    for key, gradient in theirs.items():
        torch.testing.assert_close(ours[key], gradient, rtol=1e-4, atol=1e-6 * gradient.abs().max().item(), msg=key)


def test_gradients_are_equal_with_less_memory() -> None:
    gradients = []
    for saves in (False, True):
        glm = model("glm_relative").train()
        for part in glm.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        for block in glm.backbone.stack.blocks:
            block.attn.dropout = 0.0
        glm.checkpoint_activations(saves)
        glm(**of_forward("glm_relative", "blank"), return_memory=True).logits.square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in glm.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


# -- heads ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("pool", ["cls", "start", "pad"])
def test_text_classification(pool: str) -> None:
    case = f"seqcls_{pool}"
    given = inputs("glm", case)
    glm = model("glm", task="text_classification", num_labels=5, pool_token=pool)
    for ours, theirs in (("dense", "pool_layer"), ("out", "multichoice_head")):
        layer = glm.head.get_submodule(ours)
        layer.weight.copy_(given[f"{theirs}.weight"])
        layer.bias.copy_(given[f"{theirs}.bias"])
    result = glm(**{key: given[key] for key in ("input_ids", "position_ids", "attention_mask", "labels")})
    assert error(result.logits, output("glm", case)) <= TOLERANCE
    assert result.loss.item() == pytest.approx(output("glm", case, "loss").item(), rel=1e-6)


@torch.no_grad()
def test_multi_token_cloze() -> None:
    result = model("glm", task="cloze")(**inputs("glm", "multi_token_cloze"))
    assert error(result.logits, output("glm", "multi_token_cloze")) <= TOLERANCE
    assert result.loss.item() == pytest.approx(output("glm", "multi_token_cloze", "loss").item(), rel=1e-6)


# -- memories ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("case", ["blank", "gmask", "mems"])
def test_mems(case: str) -> None:
    mems = model("glm")(**of_forward("glm", case), return_memory=False).mems
    assert len(mems) == 4
    for number, states in enumerate(mems):
        assert error(states, output("glm", case, f"mem_{number}")) <= TOLERANCE


@torch.no_grad()
def test_only_the_last_states_are_kept() -> None:
    glm, given = model("glm", max_memory_length=7), inputs("glm", "mems_truncated")
    sep = int(given["sep"])
    tokens, places = given["input_ids"], given["position_ids"]
    first = glm(tokens[:, :sep], given["sep"], places[..., :sep], return_memory=False)
    for number, states in enumerate(first.mems):
        assert error(states, output("glm", "mems_truncated", f"mem_{number}")) <= TOLERANCE
    second = glm(tokens[:, sep:], torch.tensor([0]), places[..., sep:], mems=first.mems)
    assert error(second.logits, output("glm", "mems_truncated", "logits_second")) <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("with_mems", [True, False])
def test_one_token_after_the_other(with_mems: bool) -> None:
    """Through `mems` and through `past_key_values`, as the original did with mems."""
    glm, given = model("glm"), inputs("glm", "mems")
    tokens, places, sep = given["input_ids"], given["position_ids"], int(given["attention_mask"])
    options = {"return_memory": True} if with_mems else {"use_cache": True}
    result = glm(tokens[:, :sep], sep, places[..., :sep], **options)
    logits = [result.logits]
    for index in range(sep, tokens.size(1)):
        step = slice(index, index + 1)
        past = {"mems": result.mems, **options} if with_mems else {"past_key_values": result.past_key_values}
        result = glm(tokens[:, step], position_ids=places[..., step], **past)
        logits.append(result.logits)
    assert error(torch.cat(logits, 1), output("glm", "mems", "logits_incremental")) <= TOLERANCE
    assert error(torch.cat(logits, 1), output("glm", "mems")) <= TOLERANCE


# -- positions that are told by the tokens ------------------------------------------------------------------------------


@torch.no_grad()
def test_positions_of_modelcenters_port() -> None:
    """The second row, with one piece, is as in ModelCenter. The first has two, and ModelCenter goes on counting in the
    second piece (token 12 and after) where the first ended: there ours are those that are right, which the other case
    gives explicitly.
    """
    glm = Model.load(FOLDER / "glm_mc", device="cpu")
    given = inputs("glm_mc", "explicit_positions")
    right = output("glm_mc", "explicit_positions")
    assert error(glm(**given).logits, right) <= TOLERANCE
    ours, theirs = glm(**inputs("glm_mc", "auto_positions")).logits, output("glm_mc", "auto_positions")
    assert error(ours, right) <= TOLERANCE
    assert error(ours[1], theirs[1]) <= TOLERANCE and error(ours[0, :12], theirs[0, :12]) <= TOLERANCE
    assert error(ours[0, 12:], theirs[0, 12:]) > 1


@torch.no_grad()
@pytest.mark.parametrize("name", ["glm", "glm_attention_scale"])
def test_positions_of_suffixes_need_not_be_given(name: str) -> None:
    glm = model(name, **COMMANDS)
    given = inputs(name, "gmask", "input_ids")
    assert error(glm(**given).logits, output(name, "gmask")) <= TOLERANCE


# -- pieces that are written --------------------------------------------------------------------------------------------

# Of the original's greedy search with 6 tokens for each blank: what it reads and what it writes.
WRITTEN = [
    ([102, 18, 56, 69, 103, 69, 70, 55, 28, 63, 53, 100], [106, *[67] * 6]),
    ([102, 14, 27, 103, 25, 1, 38, 23, 44, 103, 20, 100], [106, *[90] * 6, 106, *[3] * 6]),
]


def test_blanks_are_filled_as_the_original_does() -> None:
    glm = model("glm", **COMMANDS)
    for text, pieces in WRITTEN:
        assert glm.generate(torch.tensor([text]), max_new_tokens=6).tolist() == [pieces]


@pytest.mark.parametrize("padding", [0, 3])
def test_blanks_of_a_batch_are_filled_like_those_of_single_texts(padding: int) -> None:
    glm = model("glm", **COMMANDS)
    tokens = torch.tensor([text + [5] * padding for text, _ in WRITTEN])
    mask = torch.tensor([[1] * 12 + [0] * padding] * 2)
    first, second = glm.generate(tokens, attention_mask=mask, max_new_tokens=6).tolist()
    assert first == WRITTEN[0][1] + [COMMANDS["eop_token_id"]] * 7 and second == WRITTEN[1][1]
