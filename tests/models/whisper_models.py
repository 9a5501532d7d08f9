"""Tiny Whisper models with random weights, of transformers and ours, and inputs for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from comparing import perturb
from tiny_models import tiny_model
from torch import Tensor

from hezar_like import Model

SIZES: dict[str, Any] = {
    "vocab_size": 120, "num_mel_bins": 6, "d_model": 36, "encoder_layers": 3, "decoder_layers": 2,
    "encoder_attention_heads": 6, "decoder_attention_heads": 3, "encoder_ffn_dim": 40, "decoder_ffn_dim": 56,
    "max_source_positions": 10, "max_target_positions": 24, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3,
    "decoder_start_token_id": 4, "begin_suppress_tokens": [8, 9],
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "relu": {"activation_function": "relu"},
    "more to write": {"decoder_layers": 4, "encoder_layers": 1, "max_target_positions": 40},
    "more bins": {"num_mel_bins": 128, "max_source_positions": 25},
    "one head": {"encoder_attention_heads": 1, "decoder_attention_heads": 1, "d_model": 8},
    "unpadded": {"pad_token_id": None},
}


def original(**settings: Any) -> Any:
    """A model of transformers."""
    config = transformers.WhisperConfig(**SIZES | settings)
    config._attn_implementation = "eager"
    model = transformers.WhisperForConditionalGeneration(config)
    perturb(model)
    return model.eval()


def saved(folder: Path, **settings: Any) -> tuple[Model, Any]:
    """A model read from files of transformers, and theirs."""
    theirs = original(**settings)
    theirs.save_pretrained(folder)
    return Model.load(folder, device="cpu"), theirs


def whisper() -> Model:
    """One of ours."""
    return tiny_model("whisper_speech_recognition")


def features(model: Model, rows: int = 2, seed: int = 0) -> Tensor:
    """Audio features, [rows, bins, frames]."""
    random = torch.Generator().manual_seed(seed)
    frames = 2 * model.config.max_source_positions
    return torch.randn(rows, model.config.num_mel_bins, frames, generator=random)
