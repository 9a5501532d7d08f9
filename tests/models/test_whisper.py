"""Whisper: equal to transformers' in outputs, losses, gradients and files; caches, shared recordings, bad input."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from comparing import assert_same_config, assert_same_tensors, difference
from safetensors.torch import load_file
from tiny_models import tiny_model
from torch import Tensor
from whisper_models import SIZES, VARIANTS, features, original, saved, whisper

from hezar_like import Model, build_model
from hezar_like.errors import ConfigError, OptionError
from hezar_like.outputs import BackboneOutput
from hezar_like.registry import tasks_registry
from hezar_like.tasks.speech_recognition import SpeechGenerationConfig

TOLERANCE = 2e-5
WRITTEN = torch.tensor([[4, 20, 30, 40, 50], [4, 5, 6, 7, 8]])
LABELS = torch.tensor([[20, 1, 40, 50, 3], [5, 6, 3, -100, -100]])
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


# -- as in transformers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_outputs(variant: str, tmp_path: Path) -> None:
    model, theirs = saved(tmp_path, **VARIANTS[variant])
    x = features(model)
    extra = {"output_attentions": True, "output_hidden_states": True}
    result, expected = model(x, WRITTEN, **extra), theirs(x, decoder_input_ids=WRITTEN, **extra)
    spread = expected.logits.std().item()
    assert difference(result.logits, expected.logits) <= TOLERANCE * spread
    assert difference(model(x, WRITTEN).logits, expected.logits) <= TOLERANCE * spread
    for name in ("cross_attentions", "encoder_attentions", "encoder_hidden_states", "encoder_last_hidden_state"):
        assert difference(result[name], expected[name]) <= TOLERANCE, name
    assert difference(result.hidden_states, expected.decoder_hidden_states) <= TOLERANCE


def test_loss_and_gradients(tmp_path: Path) -> None:
    model, theirs = saved(tmp_path)
    x = features(model)
    result, expected = model(x, labels=LABELS), theirs(x, labels=LABELS)
    assert expected.loss > 1
    assert difference(result.loss, expected.loss) <= TOLERANCE
    result.loss.backward()
    expected.loss.backward()
    keymap = model.family.keymap(model.config, model.task)
    ours = {keymap.foreign(name): parameter.grad for name, parameter in model.named_parameters()}
    for name, parameter in theirs.named_parameters():
        gradient = ours.pop(name)
        assert (gradient is None) == (parameter.grad is None), name
        if gradient is not None:
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert not ours
    assert model.backbone.audio.positions.weight.grad is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_there_and_back(variant: str, tmp_path: Path) -> None:
    model, theirs = saved(tmp_path / "original", **VARIANTS[variant])
    model.export("transformers", tmp_path / "exported")
    assert_same_tensors(*(load_file(tmp_path / name / "model.safetensors") for name in ("exported", "original")))
    again, report = transformers.WhisperForConditionalGeneration.from_pretrained(
        tmp_path / "exported", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(report.values()), report
    x = features(model)
    with torch.no_grad():
        assert torch.equal(
            again.eval()(x, decoder_input_ids=WRITTEN).logits, theirs(x, decoder_input_ids=WRITTEN).logits
        )
    model.save(tmp_path / "native")
    Model.load(tmp_path / "native", device="cpu").export("transformers", tmp_path / "second")
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (tmp_path / "exported" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_an_untied_head(tmp_path: Path) -> None:
    theirs = original(tie_word_embeddings=False)
    theirs.proj_out.weight = torch.nn.Parameter(torch.randn_like(theirs.proj_out.weight))
    theirs.save_pretrained(tmp_path)
    model, x = Model.load(tmp_path, device="cpu"), features(whisper())
    expected = theirs(x, decoder_input_ids=WRITTEN).logits
    assert difference(model(x, WRITTEN).logits, expected) <= TOLERANCE * expected.std()


def test_a_file_of_the_backbone_alone_is_whole(tmp_path: Path) -> None:
    theirs = original()
    theirs.model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["WhisperModel"]
    model = Model.load(tmp_path, device="cpu")
    x = features(model)
    assert difference(model(x, WRITTEN).logits, theirs(x, decoder_input_ids=WRITTEN).logits) <= TOLERANCE
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "architectures": None}))
    assert torch.equal(Model.load(tmp_path, device="cpu")(x, WRITTEN).logits, model(x, WRITTEN).logits)


def test_random_weights_are_those_of_the_original() -> None:
    torch.manual_seed(0)
    fields = {key: value for key, value in SIZES.items() if key != "begin_suppress_tokens"} | {"d_model": 96}
    model = build_model("whisper_speech_recognition", **fields, init_std=0.5)
    theirs = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**fields, init_std=0.5))
    names = dict(model.family.keymap(model.config, model.task).to_foreign(model.state_dict().items()))
    for name, tensor in theirs.state_dict().items():
        own = names[name]
        assert math.isclose(own.std().item(), tensor.std().item(), rel_tol=0.15, abs_tol=1e-6), name
        assert math.isclose(own.mean().item(), tensor.mean().item(), abs_tol=0.15), name
    waves = theirs.model.encoder.embed_positions.weight
    assert difference(model.backbone.audio.positions.weight, waves) <= 1e-6
    assert not model.backbone.audio.positions.weight.requires_grad
    assert model.head.out.weight is model.backbone.embed.tokens.weight


# -- caches and recordings --------------------------------------------------------------------------------------------


@torch.no_grad()
def test_cached_and_whole() -> None:
    model = whisper()
    x = features(model)
    whole = model(x, WRITTEN).logits
    encoded, cache = model.backbone.encode(x), None
    for place in range(WRITTEN.size(1)):
        step = model(
            encoder_outputs=encoded,
            decoder_input_ids=WRITTEN[:, place : place + 1],
            past_key_values=cache,
            use_cache=True,
        )
        cache = step.past_key_values
        assert difference(step.logits[:, 0], whole[:, place]) <= TOLERANCE


@torch.no_grad()
def test_a_batch_gives_what_single_recordings_give() -> None:
    model = whisper()
    x = features(model, rows=3)
    tokens = WRITTEN[[0, 1, 0]]
    together = model(x, tokens).logits
    alone = torch.cat([model(x[i : i + 1], tokens[i : i + 1]).logits for i in range(3)])
    assert difference(together, alone) <= TOLERANCE


@torch.no_grad()
def test_padding_on_the_left_moves_positions() -> None:
    model = whisper()
    x = features(model, rows=1)
    padded = torch.cat((torch.ones(1, 3, dtype=torch.int64), WRITTEN[:1]), 1)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    expected = model(x, WRITTEN[:1]).logits
    assert difference(model(x, padded, mask).logits[:, 3:], expected) <= TOLERANCE
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    given = model(x, padded, mask, decoder_position_ids=places)
    assert difference(given.logits[:, 3:], expected) <= TOLERANCE


class Count:
    """How many rows went through a layer."""

    def __init__(self, layer: torch.nn.Module) -> None:
        self.rows: list[int] = []
        layer.register_forward_pre_hook(lambda _, inputs: self.rows.append(len(inputs[0])))


@torch.no_grad()
def test_a_recording_is_looked_at_once_for_all_that_is_written_of_it() -> None:
    model = whisper()
    x = features(model)
    keys = Count(model.backbone.decoder.blocks[0].cross.k)
    reader = Count(model.backbone.encoder.blocks[0].attn.k)
    writer = model.backbone.writer({"input_features": x})
    (piece,) = writer.pieces()
    assert piece.tokens.tolist() == [[2], [2]] and writer.room == 23
    first = writer.step(piece.tokens)
    writer.expand(3)
    tokens = torch.tensor([[11], [12], [13], [21], [22], [23]])
    second = writer.step(tokens)
    writer.reorder(torch.tensor([1, 1, 0, 3, 5, 4]), 1)
    third = writer.step(tokens + 30)
    assert keys.rows == [2] and reader.rows == [2]

    history = torch.tensor([[12], [12], [11], [21], [23], [22]])
    for i, row in enumerate(history):
        whole = torch.cat((torch.tensor([2]), row, tokens[i] + 30))[None]
        states = model.backbone(x[i // 3 : i // 3 + 1], whole).last_hidden_state
        assert difference(states[0, 0], first[i // 3, 0]) <= TOLERANCE
        assert difference(states[0, 2], third[i, 0]) <= TOLERANCE
    assert second.shape == third.shape == (6, 1, 36)


@pytest.mark.parametrize("rows", [[1], [1, 0], [0, 0, 1], [1, 1, 0, 0], [0, 1, 0, 1]])
@torch.no_grad()
def test_any_rows_can_go_on(rows: list[int]) -> None:
    model = whisper()
    x = features(model)
    writer = model.backbone.writer({"input_features": x, "decoder_input_ids": WRITTEN[:, :3]})
    assert writer.room == 21
    (piece,) = writer.pieces()
    writer.step(piece.tokens)
    writer.select(torch.tensor(rows))
    states = writer.step(WRITTEN[rows, 3:4])
    writer.select(torch.arange(len(rows)).flip(0))
    states = writer.step(WRITTEN[rows, 4:5].flip(0)).flip(0)
    expected = model.backbone(x, WRITTEN).last_hidden_state
    assert difference(states[:, 0], expected[rows, 4]) <= TOLERANCE


@torch.no_grad()
def test_tokens_can_be_taken_back() -> None:
    model = whisper()
    x = features(model)
    writer = model.backbone.writer({"encoder_outputs": model.backbone.encode(x), "decoder_input_ids": WRITTEN[:, :2]})
    (piece,) = writer.pieces()
    writer.step(piece.tokens)
    writer.step(torch.tensor([[60, 61], [62, 63]]))
    writer.forget(2)
    states = writer.step(WRITTEN[:, 2:])
    assert difference(states, model.backbone(x, WRITTEN).last_hidden_state[:, 2:]) <= TOLERANCE


@torch.no_grad()
def test_where_each_token_was_spoken() -> None:
    model = whisper()
    x = features(model)
    cross = model(x, WRITTEN, output_attentions=True).cross_attentions
    assert [tuple(weights.shape) for weights in cross] == [(2, 3, 5, 10)] * 2
    assert difference(cross[0].sum(-1), torch.ones(2, 3, 5)) <= 1e-5
    shared = model(
        encoder_outputs=model.backbone.encode(x), decoder_input_ids=WRITTEN[[0, 0, 1, 1]], output_attentions=True
    )
    assert difference(shared.cross_attentions[1], cross[1][[0, 0, 1, 1]]) <= TOLERANCE


@torch.no_grad()
def test_the_encoder_alone() -> None:
    model = whisper()
    x = features(model)
    output = model.backbone(x)
    assert isinstance(output, BackboneOutput)
    assert torch.equal(output.last_hidden_state, model.backbone.encode(x).last_hidden_state)
    assert torch.equal(
        model(encoder_outputs=output.last_hidden_state, decoder_input_ids=WRITTEN).logits, model(x, WRITTEN).logits
    )


# -- how it writes ----------------------------------------------------------------------------------------------------

FACTS: dict[str, Any] = {
    "suppress_tokens": [7, 9],
    "begin_suppress_tokens": [5],
    "alignment_heads": [[0, 1], [1, 2]],
    "is_multilingual": False,
    "lang_to_id": {"<|en|>": 11},
    "task_to_id": {"transcribe": 12, "translate": 13},
    "no_timestamps_token_id": 14,
    "prev_sot_token_id": 15,
    "max_initial_timestamp_index": 40,
    "return_timestamps": True,
    "language": "en",
    "task": "translate",
    "max_length": 20,
    "num_beams": 3,
    "eos_token_id": 3,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "decoder_start_token_id": 4,
}


def test_facts_of_generation_come_and_go(tmp_path: Path) -> None:
    saved(tmp_path / "first")
    (tmp_path / "first" / "generation_config.json").write_text(json.dumps(FACTS | {"transformers_version": "5"}))
    model = Model.load(tmp_path / "first", device="cpu")
    ours = model.config.generation_config
    assert isinstance(ours, SpeechGenerationConfig)
    read = {**ours.to_dict(), "alignment_heads": [list(pair) for pair in ours.alignment_heads or ()]}
    assert {name: read.get(name, model.config.get(name)) for name in FACTS} == FACTS
    model.save(tmp_path / "native")
    assert_same_config(Model.load(tmp_path / "native", device="cpu").config, model.config)
    model.export("transformers", tmp_path / "second")
    theirs = transformers.GenerationConfig.from_pretrained(tmp_path / "second")
    assert {name: getattr(theirs, name) for name in FACTS} == FACTS


def test_an_exported_model_writes_as_long_as_it_can(tmp_path: Path) -> None:
    """transformers would stop after 20 tokens."""
    model = tiny_model("whisper_speech_recognition")
    assert model.config.generation_config.max_length is None
    model.export("transformers", tmp_path)
    exported = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert exported.max_length == model.config.max_target_positions


def test_older_files_have_them_in_config_json(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    settings = json.loads((tmp_path / "config.json").read_text())
    old = {"suppress_tokens": [6], "begin_suppress_tokens": [8, 9], "forced_decoder_ids": [[1, None], [2, 50]]}
    (tmp_path / "config.json").write_text(json.dumps(settings | old))
    read = Model.load(tmp_path, device="cpu").config.generation_config
    assert (read.suppress_tokens, read.begin_suppress_tokens) == ([6], [8, 9])
    assert read.forced_decoder_ids == [(1, None), (2, 50)]


def test_names_of_the_task() -> None:
    for name in ("asr", "automatic_speech_recognition", "speech_recognition"):
        assert tasks_registry[name].module_class.task == "speech_recognition"


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"decoder_input_ids": WRITTEN}, ValueError, "exactly one of input_features and encoder_outputs"),
        ({"input_features": torch.zeros(2, 6, 19)}, ValueError, r"\[2, 6, 19\].*reads \[batch, 6, 20\]"),
        ({"input_features": torch.zeros(2, 5, 20)}, ValueError, r"\[2, 5, 20\].*reads \[batch, 6, 20\]"),
        ({"input_features": torch.zeros(6, 20)}, ValueError, "feature extractor"),
        ({"input_features": torch.zeros(1, 6, 20), "decoder_input_ids": torch.ones(1, 25).long()}, ValueError, "24"),
        ({"token_ids": WRITTEN}, OptionError, "no 'token_ids'"),
    ],
)
def test_bad_inputs(inputs: dict[str, Tensor], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        whisper()(**{"decoder_input_ids": WRITTEN} | inputs)


def test_nothing_to_write() -> None:
    with pytest.raises(OptionError, match="labels"):
        whisper()(torch.zeros(1, 6, 20))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"d_model": 35}, "d_model=35 is not divisible by 2"),
        ({"decoder_attention_heads": 5}, "decoder_attention_heads=5"),
        ({"pad_token_id": 120}, "pad_token_id"),
        ({"decoder_start_token_id": 120}, "decoder_start_token_id"),
        ({"num_mel_bins": 0}, "num_mel_bins"),
        ({"generation_config": {"task": "sing"}}, "task"),
        ({"generation_config": {"languages": "en"}}, "language"),
        ({"generation_config": {"alignment_heads": [[0, 1, 2]]}}, "alignment_heads"),
    ],
)
def test_bad_configs(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model("whisper_speech_recognition", **{k: v for k, v in SIZES.items() if k[:5] != "begin"} | fields)


def test_settings_that_ask_for_another_model(tmp_path: Path) -> None:
    saved(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"scale_embedding": True}))
    with pytest.raises(ConfigError, match="scale_embedding is True"):
        Model.load(tmp_path, device="cpu")
