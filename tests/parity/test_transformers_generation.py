"""Decoders of transformers: token by token, with padding on either side, and what they write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import difference
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers_models import (
    TOLERANCE,
    class_of,
    decodes,
    distance,
    example,
    load,
    of_task,
    original,
    ours,
    reads_first,
    saved,
    variants,
    with_written,
)

from hezar_like import Model
from hezar_like.errors import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
GENERATORS = of_task("text_generation")
DECODERS = [name for name in GENERATORS if decodes(name)]
CASES = [(name, variant) for name in GENERATORS for variant in variants(name, "text_generation")]
each_case = pytest.mark.parametrize(
    ("model_type", "variant"), CASES, ids=["-".join(filter(None, case)) for case in CASES]
)
NEW = 12


def left_padded(theirs: Any) -> dict[str, Tensor]:
    """A batch with padding on the left; transformers is told what it does not count by itself."""
    batch = example(theirs, side="left")
    return batch | {"position_ids": (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)}


@torch.no_grad()
@each_case
def test_token_by_token(model_type: str, variant: str, tmp_path: Path) -> None:
    """Steps of one and of several tokens, with what was kept of earlier ones, on both sides."""
    model, theirs = saved(tmp_path, model_type, "text_generation", variant)
    batch = with_written(theirs, example(theirs, side="right" if reads_first(model_type) else "left"))
    name, mask = ("input_ids", "attention_mask")
    if reads_first(model_type):
        name, mask = ("decoder_input_ids", "decoder_attention_mask")
    batch[mask] = torch.ones_like(batch[mask])
    expected = theirs(**batch, use_cache=False).logits
    assert model(**ours(batch)).past_key_values is None
    kept: dict[str, Any] = {}
    start, length = 0, batch[name].size(1)
    for end in (4, 5, 6, length):
        step = {key: value for key, value in batch.items() if key not in (name, mask)}
        both = step | {name: batch[name][:, start:end], mask: batch[mask][:, :end]}
        output = model(**ours(both), use_cache=True, past_key_values=kept.get("ours"))
        other = theirs(**both, use_cache=True, past_key_values=kept.get("theirs"))
        kept = {"ours": output.past_key_values, "theirs": other.past_key_values}
        assert distance(output.logits, other.logits) <= TOLERANCE
        assert distance(output.logits, expected[:, start:end]) <= TOLERANCE
        assert output.past_key_values.length == end
        start = end


@torch.no_grad()
@pytest.mark.parametrize("model_type", DECODERS)
def test_padding_on_the_left(model_type: str, tmp_path: Path) -> None:
    model, theirs = saved(tmp_path, model_type, "text_generation")
    batch = left_padded(theirs)
    expected = theirs(**batch).logits
    del batch["position_ids"]
    real = batch["attention_mask"].bool()
    assert distance(model(**ours(batch)).logits[real], expected[real]) <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("model_type", [name for name in of_task("text_classification") if decodes(name)])
def test_classification_by_the_last_token(model_type: str, side: str, tmp_path: Path) -> None:
    """transformers finds it by the padding token, we by the mask; where there is neither, it is the very last."""
    model, theirs = saved(tmp_path, model_type, "text_classification")
    batch = left_padded(theirs) if side == "left" else example(theirs)
    expected = theirs(**batch).logits
    batch.pop("position_ids", None)
    assert distance(model(**ours(batch)).logits, expected) <= TOLERANCE
    unpadded = {"input_ids": torch.randint(5, 99, (3, 7), generator=torch.Generator().manual_seed(0))}
    assert distance(model(**ours(unpadded)).logits, theirs(**unpadded).logits) <= TOLERANCE
    # A token that is none of padding, whatever its id.
    lengths = torch.full((3,), 4)
    short = model(token_ids=unpadded["input_ids"], length=lengths).logits
    assert distance(short, theirs(input_ids=unpadded["input_ids"][:, :4]).logits) <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("model_type", [name for name in of_task("sequence_labeling") if decodes(name)])
def test_labels_with_padding_on_the_left(model_type: str, tmp_path: Path) -> None:
    model, theirs = saved(tmp_path, model_type, "sequence_labeling")
    batch = left_padded(theirs)
    expected = theirs(**batch).logits
    del batch["position_ids"]
    real = batch["attention_mask"].bool()
    assert distance(model(**ours(batch)).logits[real], expected[real]) <= TOLERANCE


def written(model: Model, batch: dict[str, Tensor]) -> Tensor:
    return model.generate(**ours(batch), max_new_tokens=NEW)


@each_case
def test_greedy_generation(model_type: str, variant: str, tmp_path: Path) -> None:
    """With rows of unequal lengths, that end at different places; and from the exported files."""
    model, theirs = saved(tmp_path / "original", model_type, "text_generation", variant)
    batch = example(theirs, side="right" if reads_first(model_type) else "left")
    options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": model.config.pad_token_id}
    model.config.eos_token_id = None
    endless = written(model, batch)
    expected = theirs.generate(**batch, **options, eos_token_id=None)
    assert torch.equal(endless, expected)
    assert endless.size(1) == NEW + (1 if reads_first(model_type) else batch["input_ids"].size(1))

    end = endless[0, -NEW // 2].item()  # a token that at least one row writes
    model.config.eos_token_id = end
    options["pad_token_id"] = end
    expected = theirs.generate(**batch, **options, eos_token_id=end)
    result = written(model, batch)
    assert torch.equal(result, expected)
    assert (result[0, -NEW // 2 + endless.size(1) - result.size(1) :] == end).all()

    model.export("transformers", tmp_path / "exported")
    again = class_of(model_type, "text_generation").from_pretrained(tmp_path / "exported")
    assert torch.equal(again.generate(**batch, **options), expected)


@pytest.mark.parametrize("model_type", GENERATORS)
def test_several_end_tokens(model_type: str, tmp_path: Path) -> None:
    model, theirs = saved(tmp_path, model_type, "text_generation")
    batch = example(theirs, side="right" if reads_first(model_type) else "left")
    endless = written(model, batch)
    ends = sorted({endless[0, -NEW + 2].item(), endless[1, -NEW + 4].item()})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": ends}))
    model = load(tmp_path, "text_generation")
    assert model.config.eos_token_id == ends
    options = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": ends, "pad_token_id": ends[0]}
    assert torch.equal(written(model, batch), theirs.generate(**batch, **options))


# -- T5's scale, and whether its head is the embedding ----------------------------------------------------------------

WITH_ENCODER = [name for name in GENERATORS if reads_first(name)]


@torch.no_grad()
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_scale_and_tie_of_t5_are_two_things(tied: bool, scaled: bool, tmp_path: Path) -> None:
    """transformers 5 calls every head tied, and by the weights it finds unties some; the scale is said apart."""
    variant = "" if tied else "untied"
    theirs = original("t5", "text_generation", variant, scale_decoder_outputs=scaled)
    theirs.save_pretrained(tmp_path / "original")
    assert json.loads((tmp_path / "original" / "config.json").read_text())["tie_word_embeddings"] is True
    if scaled and not tied:
        with pytest.raises(CheckpointError, match="should be the same tensor and differ.*tie_word_embeddings=False"):
            Model.load(tmp_path / "original")
    model = Model.load(tmp_path / "original", **({"tie_word_embeddings": False} if scaled and not tied else {}))
    assert model.config.tie_word_embeddings is tied and model.config.head_scale == (32**-0.5 if scaled else 1.0)
    batch = with_written(theirs, example(theirs))
    expected = theirs(**batch).logits
    assert distance(model(**ours(batch)).logits, expected) <= TOLERANCE
    model.export("transformers", tmp_path / "exported")
    again = class_of("t5", "text_generation").from_pretrained(tmp_path / "exported", attn_implementation="eager")
    assert difference(again(**batch).logits, expected) == 0.0


@torch.no_grad()
@pytest.mark.parametrize("model_type", WITH_ENCODER)
@pytest.mark.parametrize("variant", ["", "gated-untied"])
def test_configs_of_earlier_versions(model_type: str, variant: str, tmp_path: Path) -> None:
    """They say by `tie_word_embeddings` alone what the head is and whether its input is scaled."""
    theirs = original(model_type, "text_generation", variant)
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())
    settings.pop("scale_decoder_outputs", None)
    if variant or model_type == "t5":
        settings["tie_word_embeddings"] = not variant
    path.write_text(json.dumps(settings))
    batch = with_written(theirs, example(theirs))
    assert distance(load(tmp_path, "text_generation")(**ours(batch)).logits, theirs(**batch).logits) <= TOLERANCE


@pytest.mark.parametrize("name", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])
def test_copies_of_the_embedding_must_agree(name: str, tmp_path: Path) -> None:
    saved(tmp_path, "t5", "text_generation")
    weights = load_file(tmp_path / "model.safetensors")
    weights[name] = weights["shared.weight"].clone()
    save_file(weights, tmp_path / "model.safetensors")
    assert load(tmp_path, "text_generation").config.tie_word_embeddings
    weights[name][3] += 1
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"shared\.weight.* should be the same tensor and differ"):
        load(tmp_path, "text_generation")
