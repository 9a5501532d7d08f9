"""Models written by hezar 1.0.0 that write texts: the same texts, by greedy and by beam search."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import assert_same_config, assert_same_tensors, difference
from safetensors.torch import load_file

from hezar_like import Model

FIXTURES = Path(__file__).parents[1] / "fixtures" / "hezar"
# Of the scores' standard deviation. What Hezar wrote down is itself up to 3e-5 of it from float64 for T5.
TOLERANCE = 5e-5
FOLDERS = sorted(path.parent.name for path in FIXTURES.glob("*_text_generation*/model_config.yaml"))
LEGACY = "legacy_gpt2_attn_bias"


def cases(folder: str) -> list[dict[str, Any]]:
    return json.loads((FIXTURES / folder / "expected.json").read_text(encoding="utf-8"))["cases"]


@cache
def loaded(folder: str) -> Model:
    return Model.load(FIXTURES / folder, device="cpu")


ALL = [(folder, case) for folder in FOLDERS for case in cases(folder) if "predict" in case]
each_case = pytest.mark.parametrize(("folder", "case"), ALL, ids=[f"{folder}-{case['id']}" for folder, case in ALL])


@each_case
def test_recorded_texts(folder: str, case: dict[str, Any]) -> None:
    """Hezar ignored options of generation in predict; here they count, and without them the texts are its own."""
    options = dict(case["predict_kwargs"])
    limits = {name: options.pop(name) for name in ("max_new_tokens", "max_length") if name in options}
    model = loaded(folder)
    assert model.predict(case["inputs"], **options) == case["predict"]
    if limits:
        (shorter,), (whole,) = model.predict(case["inputs"], **options, **limits), case["predict"]
        assert shorter["text"] != whole["text"] and len(shorter["text"]) < len(whole["text"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_recorded_scores(folder: str) -> None:
    model, recorded = loaded(folder), load_file(FIXTURES / folder / "expected.safetensors")
    compared = [case for case in cases(folder) if f"{case['id']}/logits" in recorded]
    assert len(compared) >= 3
    for case in compared:
        options = {key: value for key, value in case["predict_kwargs"].items() if key == "prefix"}
        batch = dict(model.preprocess(case["inputs"], **options))
        assert torch.equal(batch["token_ids"], recorded[f"{case['id']}/token_ids"])
        if "decoder_input_ids" in recorded:
            batch["decoder_input_ids"] = recorded["decoder_input_ids"].expand(len(case["inputs"]), -1)
        with torch.no_grad():
            expected = recorded[f"{case['id']}/logits"]
            assert difference(model(**batch).logits, expected) <= TOLERANCE * expected.std()


def test_a_batch_hezar_could_not_read() -> None:
    for folder in FOLDERS:
        for case in cases(folder):
            if "error" in case:
                model = loaded(folder)
                singles = [model.predict(text)[0] for text in case["inputs"]]
                assert model.predict(case["inputs"]) == singles


def test_buffers_of_old_files() -> None:
    """Hezar read this file by position and wrote garbage; without the buffers the same weights are recorded too."""
    model, same = Model.load(FIXTURES / LEGACY, device="cpu"), loaded("gpt2_text_generation")
    assert_same_tensors(model.state_dict(), same.state_dict())
    (case,) = cases(LEGACY)
    assert model.predict(case["inputs"]) == same.predict(case["inputs"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_saved_again(folder: str, tmp_path: Path) -> None:
    model = loaded(folder)
    model.save(tmp_path)
    again = Model.load(tmp_path, device="cpu")
    assert_same_config(again.config, model.config)
    assert_same_tensors(again.state_dict(), model.state_dict())
    texts = cases(folder)[0]["inputs"]
    assert again.predict(texts) == model.predict(texts)
    assert again.config.generation == model.config.generation != type(model.config)().generation
