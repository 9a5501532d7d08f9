"""Tiny models and data to train them with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from tiny_models import tiny_model, tiny_tokenizer

from hezar_like import Model, build_dataset
from hezar_like.training import Trainer, TrainerConfig

WORDS = ["a", "cat", "sat", "on", "the", "mat", "dog", "quick", "lazy", "zebras", "jump", "box", "five", "dozen"]


def beside_tests() -> dict[str, str]:
    """The environment of a process that finds what the tests share."""
    here = Path(__file__).parent
    known = [str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(known), "OMP_NUM_THREADS": "1"}


def rows(count: int = 24, seed: int = 0) -> list[dict[str, Any]]:
    """Texts of mixed lengths, whose label says whether there is a dog in them."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        length = int(torch.randint(2, 12, (1,), generator=generator))
        words = [WORDS[int(i)] for i in torch.randint(0, len(WORDS), (length,), generator=generator)]
        words = [word for word in words if word != "dog"] or ["a"]
        if number % 2:
            words[len(words) // 2] = "dog"
        found.append({"text": " ".join(words), "label": "dog" if number % 2 else "none"})
    return found


def classification(count: int = 24, seed: int = 0, **fields: Any) -> Any:
    return build_dataset("text_classification", rows=rows(count, seed), preprocessor=tiny_tokenizer(max_length=None), **fields)


def tagging(count: int = 24) -> Any:
    sentences = [row["text"].split() for row in rows(count)]
    tagged = [{"tokens": words, "tags": ["B-DOG" if word == "dog" else "O" for word in words]} for words in sentences]
    return build_dataset(
        "sequence_labeling", rows=tagged, preprocessor=tiny_tokenizer(max_length=None), id2label={0: "O", 1: "B-DOG"}
    )


def language(kind: str, count: int = 24) -> Any:
    return build_dataset(f"{kind}_language_modeling", rows=rows(count), preprocessor=tiny_tokenizer(max_length=None))


def model(name: str = "bert_text_classification", seed: int = 0, **fields: Any) -> Model:
    torch.manual_seed(seed)
    if name.endswith(("classification", "labeling", "labeling_crf")):
        fields = {"num_labels": 2} | fields
    own = tiny_model(name, **fields)
    own.preprocessor = tiny_tokenizer(max_length=None)  # that of the data
    return own


def trainer(folder: Path, own: Model | None = None, data: Any = None, **fields: Any) -> Trainer:
    others = {key: fields.pop(key) for key in ("eval_dataset", "metrics", "callbacks") if key in fields}
    config = TrainerConfig(output_dir=str(folder), **{"batch_size": 4, "learning_rate": 1e-3, "use_cpu": True} | fields)
    return Trainer(own or model(), config, classification() if data is None else data, **others)


def without_dropout(own: Model) -> Model:
    """The model, in which nothing is random in training either."""
    for part in own.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        elif hasattr(part, "dropout") and isinstance(part.dropout, float):
            part.dropout = 0.0
    return own
