"""Tiny models of everything that is registered, and texts for them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from comparing import perturb
from torch import Tensor

import hezar_like
from hezar_like import Config, Model, Tokenizer, build_model, build_preprocessor, list_available_models
from hezar_like.backbones import Decoder, EncoderDecoder
from hezar_like.registry import models_registry
from hezar_like.tasks.choices import ChoiceTask
from hezar_like.tasks.text import TextTask

# Sizes by the name of a config's field, for each that a config has: all different, to see them told apart.
SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "rotary_dim": 6,
    "intermediate_size": 48,
    "max_position_embeddings": 48,
    "relative_attention_num_buckets": 10,
    "relative_attention_max_distance": 20,
    "pad_token_id": 0,
    # Of speech recognition, whose two stacks differ in everything.
    "num_mel_bins": 6,
    "d_model": 36,
    "encoder_layers": 3,
    "encoder_attention_heads": 6,
    "encoder_ffn_dim": 40,
    "decoder_layers": 2,
    "decoder_attention_heads": 3,
    "decoder_ffn_dim": 56,
    "max_source_positions": 10,
    "max_target_positions": 24,
    "decoder_start_token_id": 2,
    # Of blank fillers: two letters that no text here has as a token, and what the tokenizer below calls [MASK].
    "sop_token_id": 31,
    "eop_token_id": 45,
    "mask_token_id": 4,
}
# Where there are two stacks, of two heights; transformers cannot generate with more blocks in the decoder.
TWO_STACKS = {"num_hidden_layers": 3, "num_decoder_layers": 2}
# Of each text a model without a limit of its own reads so many tokens.
LONGEST = SIZES["max_position_embeddings"]
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
    """Names of the built-in models that read texts, and no choices beside them."""
    tasks = {name: models_registry[name].module_class for name in built_in()}
    return [name for name, task in tasks.items() if issubclass(task, TextTask) and not issubclass(task, ChoiceTask)]


def tiny_fields(config_class: type[Config], **fields: Any) -> dict[str, Any]:
    """Small sizes for the fields a config has; `fields` win."""
    own = config_class.fields()
    sizes = SIZES | LABELS | (TWO_STACKS if "num_decoder_layers" in own else {})
    given = {config_class.aliases.get(key, key) for key in fields}
    return {key: value for key, value in sizes.items() if key in own and key not in given} | fields


@cache
def tiny_tokenizer(kind: str = "wordpiece_tokenizer", max_length: int | None = None) -> Tokenizer:
    """A tokenizer trained on a few sentences, with as many tokens as the tiny models; do not change it."""
    sizes = {"vocab_size": SIZES["vocab_size"], "max_length": max_length}
    tokenizer = build_preprocessor(kind, min_frequency=1, show_progress=False, **sizes)
    tokenizer.train_from_iterator(TEXTS * 4)
    return tokenizer


def tiny_model(name: str, **fields: Any) -> Model:
    """A tiny model with random weights, ready to predict."""
    entry = models_registry[name]
    values = tiny_fields(entry.config_class, **fields)
    if entry.module_class.is_generative and "max_position_embeddings" in values.keys() - fields.keys():
        values["max_position_embeddings"] = 2 * LONGEST  # half of them are for what is written
    model = build_model(name, **values)
    perturb(model)
    if isinstance(model, TextTask):
        model.preprocessor = tiny_tokenizer(max_length=None if model.backbone.max_tokens else LONGEST)
    return model.eval()


def tiny_whisper() -> Model:
    """A tiny model that writes nonsense for recordings, with times; its random weights come from a file."""
    folder = Path(__file__).parent / "fixtures" / "speech" / "hezar_whisper"
    return Model.load(folder, device="cpu", config_filename="model_config_timestamps.yaml")


def inputs_for(model: Model) -> dict[str, Tensor]:
    """Tokens in two rows, one with padding, as the model's `forward` takes them."""
    tokens = torch.tensor([[2, 20, 30, 40, 50, 3], [2, 60, 70, 3, 0, 0]])
    inputs = {"token_ids": tokens, "attention_mask": tokens.ne(0).long()}
    if isinstance(model.backbone, EncoderDecoder) and model.is_generative:
        inputs["decoder_input_ids"] = tokens[:, :4]
    return inputs


def prompts_for(model: Model) -> dict[str, Tensor]:
    """The same as `generate` takes them: a decoder goes on from the end of each row."""
    inputs = inputs_for(model)
    if not isinstance(model.backbone, Decoder):
        return inputs
    tokens = torch.stack([row.roll(int((row == 0).sum())) for row in inputs["token_ids"]])
    return {"token_ids": tokens, "attention_mask": tokens.ne(0).long()}


def is_exportable(model: Model) -> bool:
    """Whether transformers has such a model."""
    family, head = model.family, model.family.heads[model.task]
    published = family.published(model.config) and head.published(model.config)
    return bool(family.titles and family.endings(model.task)) and published


def texts_for(model: Model) -> list[str]:
    """Texts of mixed lengths, one of them without tokens, that the model's task takes."""
    if model.task == "mask_filling":
        return [f"{text} {model.preprocessor.tokenizer.mask_token} the" for text in TEXTS]
    return TEXTS
