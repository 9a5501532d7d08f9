"""How a model writes when a call does not say: in the files of transformers, and in ours."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_models import tiny_model

from hezar_like import Model
from hezar_like.errors import ConfigError
from hezar_like.generation import GenerationConfig

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
SETTINGS: dict[str, Any] = {
    "max_new_tokens": 7, "num_beams": 3, "length_penalty": 0.5, "no_repeat_ngram_size": 2, "early_stopping": True,
    "repetition_penalty": 1.3, "eos_token_id": [3, 9], "bad_words_ids": [[5], [6, 7]], "num_return_sequences": 2,
}  # fmt: skip


def original(folder: Path, **settings: Any) -> transformers.GPT2LMHeadModel:
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=2, n_positions=64, vocab_size=99, bos_token_id=1, eos_token_id=2
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.generation_config = transformers.GenerationConfig(**settings)
    model.save_pretrained(folder)
    return model


def test_they_come_and_go(tmp_path: Path) -> None:
    theirs = original(tmp_path / "original", **SETTINGS)
    model = Model.load(tmp_path / "original", device="cpu")
    assert model.config.generation == GenerationConfig(**SETTINGS)
    tokens = torch.randint(3, 99, (1, 6), generator=torch.Generator().manual_seed(0))
    expected = theirs.generate(tokens, pad_token_id=3)
    assert model.generate(tokens).tolist() == expected.tolist()
    model.save(tmp_path / "native")
    assert Model.load(tmp_path / "native", device="cpu").config.generation == model.config.generation
    model.export("transformers", tmp_path / "exported")
    again = transformers.GenerationConfig.from_pretrained(tmp_path / "exported")
    assert {name: getattr(again, name) for name in SETTINGS} == SETTINGS


def test_older_files_have_them_in_config_json(tmp_path: Path) -> None:
    original(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_length": 12, "num_beams": 2, "top_k": 50}))
    assert Model.load(tmp_path, device="cpu").config.generation == GenerationConfig(max_length=12, num_beams=2)


def test_the_end_is_that_of_the_config_unless_another_is_named(tmp_path: Path) -> None:
    original(tmp_path, eos_token_id=2, max_new_tokens=3)
    assert Model.load(tmp_path, device="cpu").config.generation.eos_token_id is None
    original(tmp_path, eos_token_id=[2, 5], max_new_tokens=3)
    assert Model.load(tmp_path, device="cpu").config.generation.eos_token_id == [2, 5]


def test_what_is_unknown_is_told_and_what_is_wrong_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    original(tmp_path)
    path = tmp_path / "generation_config.json"
    told = {"guidance_scale": 3.0, "token_healing": True, "max_time": 2.5, "encoder_repetition_penalty": 1.0}
    path.write_text(json.dumps({**told, "use_cache": True, "penalty_alpha": 0.0, "top_k": 50}))
    with caplog.at_level(logging.WARNING, "hezar_like"):
        model = Model.load(tmp_path, device="cpu")
    assert "have no effect: 'guidance_scale', 'token_healing', 'max_time'\n" in caplog.text
    assert model.config.generation == GenerationConfig()
    path.write_text(json.dumps({"num_beams": 0}))
    with pytest.raises(ConfigError, match=r"generation_config.json.*num_beams is 0; it must be between 1"):
        Model.load(tmp_path, device="cpu")


def test_our_file_says_what_differs_from_the_defaults(tmp_path: Path) -> None:
    model = tiny_model("t5_text_generation", generation={"num_beams": 4}, input_prefix="translate: ")
    model.save(tmp_path)
    text = (tmp_path / "model_config.yaml").read_text()
    assert "generation:\n  num_beams: 4\n" in text and "input_prefix: 'translate: '" in text
    with pytest.raises(ConfigError, match="num_beam'.*Did you mean 'num_beams'"):
        tiny_model("t5_text_generation", generation={"num_beam": 4})


def test_a_prefix_stands_before_every_text() -> None:
    model = tiny_model("t5_text_generation", input_prefix="the dog ")
    plain = tiny_model("t5_text_generation")
    plain.load_state_dict(model.state_dict())
    assert model.predict(["sat", ("sat", "on")]) == plain.predict(["the dog sat", ("the dog sat", "on")])
    assert model.predict({"text": "sat"}, prefix="a ") == plain.predict("a sat")
