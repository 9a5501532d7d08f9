"""Adapters as PEFT itself reads and writes them, for models as transformers runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from test_lora import scores, trained_adapter
from tiny_models import inputs_for
from torch import Tensor
from trained import model

from hezar_like import Model
from hezar_like.training import load_adapter, save_adapter

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's
SEQUENCES, CAUSAL = "AutoModelForSequenceClassification", "AutoModelForCausalLM"
CASES: list[tuple[str, str, list[str], list[str]]] = [
    ("bert_text_classification", SEQUENCES, ["q", "v"], ["query", "value"]),
    ("roberta_text_classification", SEQUENCES, ["q", "mlp.up"], ["query", "intermediate.dense"]),
    ("gpt2_text_generation", CAUSAL, ["q", "k", "v", "attn.out"], ["c_attn", "attn.c_proj"]),
    ("llama_text_generation", CAUSAL, ["q", "v", "mlp.gate"], ["q_proj", "v_proj", "gate_proj"]),
    ("t5_text_generation", "T5ForConditionalGeneration", ["q", "v"], ["q", "v"]),
]


def theirs(own: Model, door: str, folder: Path) -> Any:
    """The model as transformers has it."""
    own.export("transformers", folder)
    return getattr(transformers, door).from_pretrained(folder, dtype=torch.float32)


def their_scores(other: Any, own: Model) -> Tensor:
    inputs = inputs_for(own)
    inputs["input_ids"] = inputs.pop("token_ids")
    with torch.no_grad():
        return other.eval()(**inputs).logits


def difference(ours: Tensor, others: Tensor) -> float:
    """The largest one, in deviations."""
    return float((ours - others).abs().max() / others.std())


@pytest.mark.parametrize(("name", "door", "targets", "others"), CASES, ids=[case[0] for case in CASES])
def test_peft_reads_ours_and_we_read_its(
    name: str, door: str, targets: list[str], others: list[str], tmp_path: Path
) -> None:
    own = model(name)
    plain = theirs(own, door, tmp_path / "plain")
    trained_adapter(own, targets=targets, r=3, alpha=6.0)
    save_adapter(own, tmp_path / "ours")
    read = PeftModel.from_pretrained(plain, str(tmp_path / "ours"))
    assert difference(scores(own), their_scores(read, own)) <= 2e-5

    fresh = model(name)
    before = scores(fresh)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules=others, fan_in_fan_out="c_attn" in others)
    made = get_peft_model(theirs(fresh, door, tmp_path / "again"), settings)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for key, parameter in made.named_parameters():
            if "lora_B" in key:
                parameter.normal_(0, 0.2, generator=generator)
    made.save_pretrained(str(tmp_path / "theirs"))
    load_adapter(fresh, tmp_path / "theirs")
    assert not torch.allclose(scores(fresh), before, atol=1e-3)
    assert difference(scores(fresh), their_scores(made, fresh)) <= 2e-5
