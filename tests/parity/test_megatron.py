"""CPM-1, CPM-2 and GLM as they were published: equal outputs, from any number of ranks."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from comparing import assert_same_tensors, difference, perturb
from flagai_models import FIXTURES, assert_close, part, settings, weights
from safetensors.torch import load_file
from torch import Tensor

from hezar_like import Model, build_model
from hezar_like.errors import CheckpointError, ConfigError, OptionError
from hezar_like.formats.megatron_families import FAMILIES

RANK = "mp_rank_{:02d}_model_states.pt"

# What Megatron does with a matrix or bias, by the end of its name: rows, in so many parts, or columns (0).
SPLIT = {
    r"word_embeddings\.weight|word_embeds\.weight|lm_head\.weight": 1,
    r"query_key_value\.\w+|self_attn\.project\.weight": 3,
    r"project_kv\.weight": 2,
    r"project_q\.weight|dense_h_to_4h\.\w+|wi_\d\.weight": 1,
    r"(self_attn|cross_attn|attention)\.dense\.weight|dense_4h_to_h\.weight|wo\.weight": 0,
    r"relative_attention_bias\.weight": 0,
}


def pieces(name: str, tensor: Tensor, ranks: int) -> list[Tensor]:
    """The part of each rank."""
    parts = [count for ending, count in SPLIT.items() if re.search(f"(^|\\.)({ending})$", name)]
    if not parts:
        return [tensor] * ranks
    (count,) = parts
    if count == 0:
        return [piece.clone() for piece in tensor.chunk(ranks, 1)]
    stacked = [whole.chunk(ranks) for whole in tensor.chunk(count)]
    return [torch.cat([own[rank] for own in stacked]) for rank in range(ranks)]


def write_ranks(path: Path, state: dict[str, Tensor], ranks: int, values: dict[str, Any] | None = None) -> Path:
    """Writes a checkpoint of so many ranks, as it is published."""
    path.mkdir(parents=True, exist_ok=True)
    split = {name: pieces(name, tensor, ranks) for name, tensor in state.items()}
    for rank in range(ranks):
        torch.save({"module": {name: own[rank] for name, own in split.items()}}, path / RANK.format(rank))
    if values is not None:
        (path / "config.json").write_text(json.dumps(values))
    return path


# Models whose sizes can be divided by four, and their config.json.
SIZES = {"vocab_size": 104, "hidden_size": 24, "num_attention_heads": 4}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gpt2": (
        SIZES | {"num_hidden_layers": 2, "max_position_embeddings": 20, "bos_token_id": 1, "eos_token_id": 7, "pad_token_id": 5},
        {"num_layers": 2, "max_position_embeddings": 20, "layernorm_epsilon": 1e-5} | SIZES,
    ),
    "t5": (
        SIZES
        | {"num_hidden_layers": 2, "num_decoder_layers": 3, "head_dim": 10, "intermediate_size": 32, "tie_word_embeddings": False}
        | {"feed_forward_proj": "gated-gelu", "eos_token_id": 7, "pad_token_id": 5, "decoder_start_token_id": 1},
        {"d_model": 24, "num_heads": 4, "d_kv": 10, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 3, "layer_norm_epsilon": 1e-6}
        | {"vocab_size": 104, "feed_forward_proj": "relu", "do_dim_trick": False, "init_method_std": 0.02},
    ),
    "glm": (
        SIZES | {"num_hidden_layers": 2, "max_position_embeddings": 20},
        {"num_layers": 2, "max_sequence_length": 20, "block_position_encoding": True, "relative_encoding": False} | SIZES,
    ),
}  # fmt: skip
RECORDS = {record.name: record for record in FAMILIES}


def example(name: str) -> tuple[Model, dict[str, Tensor]]:
    """A model with random weights, and those under the published names."""
    model = build_model(f"{name}_text_generation", **MODELS[name][0]).eval()
    perturb(model)
    tensors = {key: tensor for key, tensor in model.state_dict().items() if key not in model.tied}
    state = dict(RECORDS[name].keymap(model.family, model.config, model.task).to_foreign(tensors.items()))
    return model, {key.removeprefix("model."): tensor for key, tensor in state.items()}


def logits(model: Model) -> Tensor:
    tokens = torch.tensor([[8, 20, 30, 40, 50, 60], [9, 70, 80, 90, 100, 103]])
    inputs = {"token_ids": tokens}
    if model.config.family == "t5":
        inputs["decoder_input_ids"] = tokens[:, :4]
    with torch.no_grad():
        return model(**inputs).logits


# -- equal outputs ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_cpm1() -> None:
    model, given = Model.load(FIXTURES / "cpm1_tsinghua", device="cpu"), part("cpm1_tsinghua", "base", "in")
    expected = part("cpm1_tsinghua", "base", "out")["logits"]
    assert model.config.name == "gpt2_text_generation"
    assert_close(model(**given).logits, expected)
    assert_close(model(input_ids=given["input_ids"]).logits, expected)


@torch.no_grad()
def test_cpm2() -> None:
    model, given = Model.load(FIXTURES / "cpm2_tsinghua", device="cpu"), part("cpm2_tsinghua", "base", "in")
    expected = part("cpm2_tsinghua", "base", "out")
    assert model.config.name == "t5_text_generation" and model.config.feed_forward_proj == "gated-gelu"
    # A query that may see nothing sees everything in the original, and its states mean nothing.
    read, written = (given[f"{side}_attention_mask"][:, 0].sum(-1) > 0 for side in ("enc", "dec"))
    inputs = {"input_ids": given["enc_input_ids"], "decoder_input_ids": given["dec_input_ids"]}
    for masks in (
        {
            "attention_mask": given["enc_attention_mask"],
            "decoder_attention_mask": given["dec_attention_mask"],
            "cross_attention_mask": given["cross_attention_mask"],
        },
        {"attention_mask": read.long(), "decoder_attention_mask": written.long()},
    ):
        output = model(**inputs, **masks)
        assert_close(output.logits, expected["logits"], written)
        assert_close(output.last_hidden_state, expected["last_hidden_state"], written)
        assert_close(output.encoder_last_hidden_state, expected["encoder_last_hidden_state"], read)


@pytest.mark.parametrize(("name", "file"), [("cpm1_tsinghua", "as_hf_gpt2.pt"), ("cpm2_tsinghua", "as_hf_t5.pt")])
def test_as_transformers_has_it(name: str, file: str, tmp_path: Path) -> None:
    Model.load(FIXTURES / name, device="cpu").export("transformers", tmp_path)
    written, expected = load_file(tmp_path / "model.safetensors"), torch.load(FIXTURES / name / file, weights_only=True)
    copies = {key for key in expected if key.endswith("embed_tokens.weight")}
    assert all(torch.equal(expected[key], written["shared.weight"]) for key in copies)
    assert_same_tensors(
        {key: tensor for key, tensor in written.items() if key not in copies},
        {key: tensor for key, tensor in expected.items() if key not in copies},
    )


# -- ranks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("name", MODELS)
def test_ranks_are_put_together(name: str, ranks: int, configured: bool, tmp_path: Path) -> None:
    model, state = example(name)
    write_ranks(tmp_path, state, ranks, MODELS[name][1] if configured else None)
    loaded = Model.load(tmp_path, device="cpu", **({} if configured else {"num_attention_heads": 4}))
    assert_same_tensors(loaded.state_dict(), model.state_dict())
    assert difference(logits(loaded), logits(model)) == 0.0


@pytest.mark.parametrize("name", ["cpm1_tsinghua", "cpm2_tsinghua"])
@pytest.mark.parametrize("ranks", [1, 3])
def test_original_over_ranks(name: str, ranks: int, tmp_path: Path) -> None:
    """Three heads can be split over three ranks, with a vocabulary and an inner size that can."""
    state, values = weights(name), settings(name)
    for key in state:
        if re.search(r"word_embeddings|word_embeds|lm_head", key):
            state[key] = state[key][:90]
        elif re.search(r"wi_\d", key):
            state[key] = state[key][:39]
        elif key.endswith("wo.weight"):
            state[key] = state[key][:, :39].contiguous()
    values["vocab_size"] = 90
    values |= {"d_ff": 39} if "d_ff" in values else {}
    whole = Model.load(write_ranks(tmp_path / "whole", state, 1, values), device="cpu")
    split = Model.load(write_ranks(tmp_path / "split", state, ranks, values), device="cpu")
    assert_same_tensors(split.state_dict(), whole.state_dict())


@pytest.mark.parametrize("ranks", [1, 2])
def test_no_needless_copies(ranks: int, tmp_path: Path) -> None:
    """Queries, keys and values stay in the memory of what they are stacked in."""
    model, state = example("gpt2")
    weights_of = Model.load(write_ranks(tmp_path, state, ranks, MODELS["gpt2"][1]), device="cpu").state_dict()
    q, k = (weights_of[f"backbone.stack.blocks.0.attn.{part}.weight"] for part in ("q", "k"))
    assert q.untyped_storage().data_ptr() == k.untyped_storage().data_ptr()
    assert_same_tensors(weights_of, model.state_dict())


@pytest.mark.parametrize("tracker", ["latest_checkpointed_iteration.txt", "latest"])
def test_folder_of_an_iteration(tracker: str, tmp_path: Path) -> None:
    model, state = example("gpt2")
    write_ranks(tmp_path / "80000", state, 2)
    (tmp_path / tracker).write_text("80000\n")
    assert_same_tensors(Model.load(tmp_path, num_attention_heads=4, device="cpu").state_dict(), model.state_dict())
    (tmp_path / "80000" / "config.json").write_text(json.dumps(MODELS["gpt2"][1]))
    assert_same_tensors(Model.load(tmp_path, device="cpu").state_dict(), model.state_dict())
    (tmp_path / tracker).write_text("../80000\n")
    with pytest.raises(CheckpointError, match="holds no model that can be read"):
        Model.load(tmp_path)


def test_state_of_training_is_left_unread(tmp_path: Path) -> None:
    model, state = example("gpt2")
    write_ranks(tmp_path, state, 2, MODELS["gpt2"][1])
    for rank in range(2):
        beside = {
            "iteration": 80000, "lr_scheduler": None, "mp_world_size": 2, "args": argparse.Namespace(lr=1.0),
            "np_rng_state": numpy.random.get_state(), "torch_rng_state": torch.get_rng_state() if rank else None,
            "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
        }  # fmt: skip
        content = torch.load(tmp_path / RANK.format(rank), weights_only=True)
        del beside["torch_rng_state"]
        torch.save(beside | content, tmp_path / RANK.format(rank))
    assert_same_tensors(Model.load(tmp_path, device="cpu").state_dict(), model.state_dict())


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_missing_ranks_are_named(name: str, tmp_path: Path) -> None:
    write_ranks(tmp_path, example(name)[1], 4, MODELS[name][1])
    for rank in (1, 3):
        (tmp_path / RANK.format(rank)).unlink()
    with pytest.raises(CheckpointError) as error:
        Model.load(tmp_path)
    assert (
        "the weights are split over 4 files, and mp_rank_01_model_states.pt, mp_rank_03_model_states.pt are not there"
        in str(error.value)
    )
    (tmp_path / RANK.format(0)).unlink()
    with pytest.raises(CheckpointError, match="holds no model that can be read"):
        Model.load(tmp_path)


def test_too_many_ranks(tmp_path: Path) -> None:
    write_ranks(tmp_path, example("gpt2")[1], 2, MODELS["gpt2"][1])
    (tmp_path / RANK.format(2)).write_bytes((tmp_path / RANK.format(0)).read_bytes())
    with pytest.raises(CheckpointError, match="split over 2 files, and mp_rank_02_model_states.pt is there too"):
        Model.load(tmp_path)


def change(path: Path, do: Callable[[dict[str, Tensor]], None]) -> None:
    content = torch.load(path, weights_only=True)
    do(content["module"])
    torch.save(content, path)


def test_ranks_of_different_checkpoints(tmp_path: Path) -> None:
    write_ranks(tmp_path, example("gpt2")[1], 2, MODELS["gpt2"][1])

    def other(state: dict[str, Tensor]) -> None:
        del state["transformer.layers.1.mlp.dense_h_to_4h.bias"]
        state["surplus"] = torch.zeros(1)
        state["position_embeddings.weight"] = state["position_embeddings.weight"].half()
        state["word_embeddings.weight"] = state["word_embeddings.weight"].repeat(2, 1)

    change(tmp_path / RANK.format(1), other)
    with pytest.raises(CheckpointError) as error:
        Model.load(tmp_path)
    message = str(error.value)
    for told in (
        "'mp_rank_01_model_states.pt' lacks 'transformer.layers.1.mlp.dense_h_to_4h.bias'",
        "also has 'surplus'",
        "'position_embeddings.weight' is [20, 24] float16 and not [20, 24] float32",
        "'word_embeddings.weight' is [104, 24] float32 and not [52, 24] float32",
    ):
        assert told in message, told


def test_what_should_be_the_same_on_all_ranks(tmp_path: Path) -> None:
    write_ranks(tmp_path, example("gpt2")[1], 2, MODELS["gpt2"][1])
    change(tmp_path / RANK.format(1), lambda state: state["transformer.final_layernorm.bias"].add_(1))
    with pytest.raises(
        CheckpointError, match=r"'transformer.final_layernorm.bias' should be the same in .* and differs"
    ):
        Model.load(tmp_path)


def test_half_merged(tmp_path: Path) -> None:
    """Some tensors are whole on every rank: then they are too large when put together."""
    model, state = example("gpt2")
    write_ranks(tmp_path, state, 2, MODELS["gpt2"][1])
    names = ("word_embeddings.weight", "transformer.layers.0.mlp.dense_4h_to_h.weight")
    for rank in range(2):
        change(tmp_path / RANK.format(rank), lambda own: own.update({name: state[name] for name in names}))
    with pytest.raises(CheckpointError) as error:
        Model.load(tmp_path)
    assert "'backbone.embed.tokens.weight' is [208, 24] in the file, [104, 24] in the model" in str(error.value)
    assert "'backbone.stack.blocks.0.mlp.down.weight' is [24, 192] in the file, [24, 96] in the model" in str(
        error.value
    )


def test_not_split_evenly(tmp_path: Path) -> None:
    write_ranks(tmp_path, example("gpt2")[1], 2, MODELS["gpt2"][1])
    name = "transformer.layers.0.attention.query_key_value.weight"
    for rank in range(2):
        change(tmp_path / RANK.format(rank), lambda state: state.update({name: state[name][:-1]}))
    with pytest.raises(CheckpointError, match=f"holds 35 of 72 rows or heads in '{name}', which is no equal part"):
        Model.load(tmp_path)


def test_cut_off(tmp_path: Path) -> None:
    write_ranks(tmp_path, example("gpt2")[1], 2, MODELS["gpt2"][1])
    path = tmp_path / RANK.format(1)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(
        CheckpointError, match=r"mp_rank_01_model_states.pt' \(\d+ bytes\) is a torch file that was cut off"
    ):
        Model.load(tmp_path)


def test_missing_and_unknown_tensors_are_all_listed(tmp_path: Path) -> None:
    _, state = example("t5")
    del state["decoder.blocks.1.cross_attn.cross_attn.project_kv.weight"]
    state["encoder.blocks.0.surplus.weight"] = torch.zeros(2, 2)
    with pytest.raises(CheckpointError) as error:
        Model.load(write_ranks(tmp_path, state, 2, MODELS["t5"][1]))
    message = str(error.value)
    assert "missing: 'backbone.decoder.blocks.1.cross.k.weight', 'backbone.decoder.blocks.1.cross.v.weight'" in message
    assert "unexpected: 'encoder.blocks.0.surplus.weight'" in message


@pytest.mark.parametrize(
    ("name", "published"),
    [("gpt2", "2.6B parameters has 32"), ("t5", "11B parameters has 64"), ("glm", "GLM-large has 16")],
)
def test_heads_must_be_said(name: str, published: str, tmp_path: Path) -> None:
    write_ranks(tmp_path, example(name)[1], 2)
    with pytest.raises(ConfigError) as error:
        Model.load(tmp_path)
    assert "has no config.json, and weights do not tell the number of attention heads" in str(error.value)
    assert "Load it with num_attention_heads=...: " in str(error.value) and published in str(error.value)
    for wrong in (0, "4", True):
        with pytest.raises(OptionError, match="num_attention_heads is .*; it must be a positive integer"):
            Model.load(tmp_path, num_attention_heads=wrong)


def test_heads_that_cannot_be(tmp_path: Path) -> None:
    write_ranks(tmp_path, example("t5")[1], 2)
    with pytest.raises(CheckpointError, match="holds 2 of 5 rows or heads"):
        Model.load(tmp_path, num_attention_heads=5)
    with pytest.raises(CheckpointError, match="split over 4 files"):
        Model.load(tmp_path, num_attention_heads=8)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("gpt2", "word_embeddings.weight"),
        ("gpt2", "transformer.layers.0.attention.query_key_value.weight"),
        ("t5", "word_embeds.weight"),
        ("t5", "encoder.blocks.0.self_attn.self_attn.relative_attention_bias.weight"),
        ("glm", "word_embeddings.weight"),
    ],
)
def test_tensors_that_tell_the_sizes_must_be_there(name: str, tensor: str, tmp_path: Path) -> None:
    _, state = example(name)
    for change_it in (lambda: state.update({tensor: torch.zeros(8, 4, 1)}), lambda: state.pop(tensor)):
        change_it()
        with pytest.raises(CheckpointError, match=f"has no matrix '{tensor}'. Download it again"):
            Model.load(write_ranks(tmp_path, state, 1, MODELS[name][1]))


def test_unknown_weights(tmp_path: Path) -> None:
    torch.save({"module": {"a.weight": torch.zeros(2, 2)}}, tmp_path / RANK.format(0))
    with pytest.raises(
        CheckpointError, match="holds no model that is known here: gpt2 has 'position_embeddings.weight'"
    ):
        Model.load(tmp_path)


def test_only_one_value(tmp_path: Path) -> None:
    values = MODELS["t5"][1] | {"do_dim_trick": True}
    with pytest.raises(ConfigError, match="do_dim_trick is True; only False is supported"):
        Model.load(write_ranks(tmp_path, example("t5")[1], 1, values))


class Evil:
    def __reduce__(self) -> Any:
        return eval, ("print('owned')",)


def test_pickles_run_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ranks(tmp_path, example("gpt2")[1], 1, MODELS["gpt2"][1])
    content = torch.load(tmp_path / RANK.format(0), weights_only=True)
    torch.save({**content, "args": Evil()}, tmp_path / RANK.format(0))
    with pytest.raises(CheckpointError, match="is a pickle that needs 'eval', and only tensors are read"):
        Model.load(tmp_path)
    torch.save({"module": {**content["module"], "a": argparse.Namespace()}}, tmp_path / RANK.format(0))
    with pytest.raises(CheckpointError, match="holds TrainingState under 'a' and not a tensor"):
        Model.load(tmp_path)
    assert "owned" not in capsys.readouterr().out


def test_not_written(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="models cannot be exported to Megatron"):
        example("gpt2")[0].export("megatron", tmp_path)
    with pytest.raises(OptionError, match="Leave out model_filename"):
        Model.load(FIXTURES / "cpm1_tsinghua", model_filename=RANK.format(0))
