"""A Whisper model written by hezar 1.0.0: the same config, the same logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from comparing import assert_same_config, assert_same_tensors, difference
from safetensors.torch import load_file

from hezar_like import Model
from hezar_like.tasks.speech_recognition import SpeechGenerationConfig

FOLDER = Path(__file__).parents[1] / "fixtures" / "speech" / "hezar_whisper"
TOLERANCE = 1e-5
CONFIGS = ["model_config.yaml", "model_config_timestamps.yaml"]


def load(config_filename: str) -> Model:
    return Model.load(FOLDER, device="cpu", config_filename=config_filename)


@pytest.mark.parametrize("config_filename", CONFIGS)
@torch.no_grad()
def test_recorded_logits(config_filename: str) -> None:
    model, expected = load(config_filename), load_file(FOLDER / "expected.safetensors")
    logits = model(expected["input_features"], decoder_input_ids=expected["decoder_input_ids"]).logits
    assert difference(logits, expected["logits"]) <= TOLERANCE


@pytest.mark.parametrize("config_filename", CONFIGS)
def test_the_config_means_what_it_says(config_filename: str) -> None:
    config = load(config_filename).config
    assert (config.d_model, config.encoder_layers, config.decoder_layers, config.vocab_size) == (32, 2, 2, 2008)
    assert (config.decoder_start_token_id, config.eos_token_id, config.pad_token_id) == (401, 400, 400)
    generation = config.generation_config
    assert isinstance(generation, SpeechGenerationConfig)
    assert (generation.language, generation.task, generation.max_length) == ("fa", "transcribe", 24)
    assert (generation.no_timestamps_token_id, generation.prev_sot_token_id) == (506, 504)
    assert generation.task_to_id == {"transcribe": 502, "translate": 501}
    assert generation.lang_to_id["<|fa|>"] == 443 and len(generation.lang_to_id) == 99
    assert generation.alignment_heads == [(0, 0)] and generation.begin_suppress_tokens == [220, 400]
    never = list(range(401, 2008)) if config_filename == CONFIGS[0] else []
    assert (generation.suppress_tokens or []) == never


@pytest.mark.parametrize("config_filename", CONFIGS)
def test_saved_as_ours(config_filename: str, tmp_path: Path) -> None:
    model = load(config_filename)
    model.save(tmp_path)
    loaded = Model.load(tmp_path, device="cpu")
    assert_same_config(loaded.config, model.config)
    assert_same_tensors(loaded.state_dict(), model.state_dict())
    assert (
        list(loaded.preprocessor) == list(model.preprocessor) == ["whisper_bpe_tokenizer", "whisper_feature_extractor"]
    )
