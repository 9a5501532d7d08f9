"""Tiny models of everything that is registered, and texts for them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from comparing import perturb

import hezar_like
from hezar_like import Config, Model, Tokenizer, build_model, build_preprocessor, list_available_models
from hezar_like.registry import models_registry
from hezar_like.tasks.text import TextTask

# Sizes by the name of a config's field, for each that a config has.
SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 48,
    "pad_token_id": 0,
}
# A number of labels that is no default and no other size.
LABELS = {"num_labels": 5}
TEXTS = [
    "a cat sat on the mat",
    "the dog",
    "how vexingly quick daft zebras jump over the lazy dogs in the box!",
    "",
    "هزار، کتابخانه‌ای کامل",
    "pack my box with five dozen liquor jugs, and then the quick brown fox sat",
]


def built_in() -> list[str]:
    """Names of the registered models, without those that tests register."""
    package = Path(hezar_like.__file__).parent
    return [name for name in list_available_models() if Path(models_registry[name].where).is_relative_to(package)]


def text_models() -> list[str]:
    """Names of the built-in models that read texts."""
    return [name for name in built_in() if issubclass(models_registry[name].module_class, TextTask)]


def tiny_fields(config_class: type[Config], **fields: Any) -> dict[str, Any]:
    """Small sizes for the fields a config has; `fields` win."""
    return {key: value for key, value in (SIZES | LABELS).items() if key in config_class.fields()} | fields


@cache
def tiny_tokenizer(kind: str = "wordpiece_tokenizer") -> Tokenizer:
    """A tokenizer trained on a few sentences, with as many tokens as the tiny models; do not change it."""
    tokenizer = build_preprocessor(kind, vocab_size=SIZES["vocab_size"], min_frequency=1, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 4)
    return tokenizer


def tiny_model(name: str, **fields: Any) -> Model:
    """A tiny model with random weights, ready to predict."""
    model = build_model(name, **tiny_fields(models_registry[name].config_class, **fields))
    perturb(model)
    if isinstance(model, TextTask):
        model.preprocessor = tiny_tokenizer()
    return model.eval()


def texts_for(model: Model) -> list[str]:
    """Texts of mixed lengths, one of them without tokens, that the model's task takes."""
    if model.task == "mask_filling":
        return [f"{text} {model.preprocessor.tokenizer.mask_token} the" for text in TEXTS]
    return TEXTS
