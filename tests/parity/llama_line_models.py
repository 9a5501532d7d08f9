"""Tiny models of Llama, Mistral, Qwen and Gemma of transformers, in all their variants, and inputs for them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import transformers
from comparing import difference, perturb
from torch import Tensor

from hezar_like import Model
from hezar_like.registry import families_registry

TOLERANCE = 2e-5  # of the standard deviation of what is compared
LENGTH, WINDOW = 23, 5
SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-4,
    "pad_token_id": 0,
    "eos_token_id": None,
}
GEMMA = {"head_dim": 12, "query_pre_attn_scalar": 10, "sliding_window": WINDOW}
LINEAR = {"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 500.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32, "rope_theta": 500.0,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 500.0}
YARN_ALL = YARN | {"beta_fast": 8.0, "beta_slow": 2.0, "mscale": 0.7, "mscale_all_dim": 1.2, "truncate": False}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-mha-tied": ("llama", {"num_key_value_heads": None, "tie_word_embeddings": True}),
    "llama-head_dim-biases": ("llama", {"head_dim": 12, "attention_bias": True, "mlp_bias": True}),
    "llama-linear": ("llama", {"rope_parameters": LINEAR}),
    "llama-dynamic": ("llama", {"rope_parameters": DYNAMIC}),
    "llama-llama3": ("llama", {"rope_parameters": LLAMA3}),
    "llama-yarn": ("llama", {"rope_parameters": YARN}),
    "llama-yarn-all": ("llama", {"rope_parameters": YARN_ALL}),
    "llama-yarn-factor": ("llama", {"rope_parameters": YARN | {"attention_factor": 1.3}}),
    "mistral": ("mistral", {"sliding_window": WINDOW}),
    "mistral-no-window": ("mistral", {"sliding_window": None, "head_dim": 12, "tie_word_embeddings": True}),
    "qwen2": ("qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen2-windows": ("qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}),
    "qwen2-mha-tied": ("qwen2", {"num_key_value_heads": 4, "tie_word_embeddings": True, "rope_parameters": YARN}),
    "qwen3": ("qwen3", {"head_dim": 12}),
    "qwen3-windows": (
        "qwen3",
        {"head_dim": 12, "attention_bias": True, "use_sliding_window": True, "sliding_window": WINDOW}
        | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "gemma2": ("gemma2", GEMMA | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma2-no-caps": ("gemma2", GEMMA | {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gemma2-mha-untied": ("gemma2", GEMMA | {"num_key_value_heads": 4, "tie_word_embeddings": False}),
    "gemma3": ("gemma3_text", GEMMA | {"sliding_window_pattern": 2}),
    "gemma3-linear": (
        "gemma3_text",
        GEMMA | {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}
        | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "final_logit_softcapping": 3.0},
    ),
}  # fmt: skip
PLAIN = {variant.partition("-")[0]: variant for variant in reversed(VARIANTS)}
CLASSES: dict[str, Any] = {
    "text_generation": transformers.AutoModelForCausalLM,
    "backbone": transformers.AutoModel,
    "text_embedding": transformers.AutoModel,
    "text_classification": transformers.AutoModelForSequenceClassification,
    "sequence_labeling": transformers.AutoModelForTokenClassification,
}
CASES = [(variant, "text_generation") for variant in VARIANTS] + [
    (variant, task)
    for family, variant in PLAIN.items()
    for task in families_registry[family].module_class.heads
    if task != "text_generation"
]


def original(variant: str, task: str = "text_generation", **fields: Any) -> Any:
    """A tiny model of transformers with random weights."""
    model_type, own = VARIANTS[variant]
    labels = {"num_labels": 5} if task in ("text_classification", "sequence_labeling") else {}
    return built(model_type, SIZES | own | labels | fields, task)


def built(model_type: str, values: dict[str, Any], task: str = "text_generation") -> Any:
    """A model of transformers with random weights, by its settings."""
    config = transformers.AutoConfig.for_model(model_type, **copy.deepcopy(values))  # it writes into what it is given
    model = CLASSES[task].from_config(config, attn_implementation="eager")
    perturb(model)
    with torch.no_grad():
        for module in model.modules():
            if type(module).__name__.startswith("Gemma") and type(module).__name__.endswith("RMSNorm"):
                module.weight -= 1  # these are kept around zero
    return model.eval()


def loaded(theirs: Any, folder: Path, task: str | None = None, **options: Any) -> Model:
    theirs.save_pretrained(folder)
    return Model.load(folder, device="cpu", task=task, **options)


def example(rows: int = 4, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Tokens, and a mask with padding on the left, on the right, and none at all."""
    random = torch.Generator().manual_seed(seed)
    mask = torch.ones(rows, LENGTH, dtype=torch.long)
    mask[1, :9] = mask[2, 16:] = mask[3, :-1] = 0
    return torch.randint(1, 120, (rows, LENGTH), generator=random) * mask, mask


def assert_close(ours: Any, theirs: Any, seen: Tensor | None = None, tolerance: float = TOLERANCE) -> None:
    """All numbers at tokens that are no padding are as near as the spread of theirs allows."""
    for own, other in zip(*[x if isinstance(x, tuple) else (x,) for x in (ours, theirs)], strict=True):
        own, other = (own, other) if seen is None else (own[seen], other[seen])
        assert difference(own, other) <= tolerance * other.std().item()


def main_output(output: Any) -> Tensor:
    return output["logits"] if "logits" in output else output["last_hidden_state"]


@torch.no_grad()
def assert_same_outputs(model: Model, theirs: Any) -> None:
    tokens, mask = example()
    seen = mask.bool()
    everything = {"output_hidden_states": True, "output_attentions": True}
    expected = theirs(input_ids=tokens, attention_mask=mask, **everything)
    result = model(token_ids=tokens, attention_mask=mask, **everything)
    assert_close(result.hidden_states, expected.hidden_states, seen)
    for own, other in zip(result.attentions, expected.attentions, strict=True):
        assert difference(own.transpose(1, 2)[seen], other.transpose(1, 2)[seen]) <= TOLERANCE
    if model.task == "text_embedding":
        return
    plain = model(token_ids=tokens, attention_mask=mask)
    one, one_expected = model(token_ids=tokens[:1]), theirs(input_ids=tokens[:1])
    per_token = seen if main_output(expected).ndim == 3 else None
    for own in (result, plain):
        assert_close(main_output(own), main_output(expected), per_token)
    assert_close(main_output(one), main_output(one_expected))
