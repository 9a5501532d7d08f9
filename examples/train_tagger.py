"""Trains a small tagger from nothing to find names of people and places: python examples/train_tagger.py"""

from __future__ import annotations

import sys
import tempfile

from hezar_like import build_dataset, build_model, build_preprocessor
from hezar_like.training import Trainer, TrainerConfig

PEOPLE, PLACES = ["Sara", "Omid", "Nora", "Ali", "Mina", "Jan"], ["Tehran", "Shiraz", "Berlin", "Rome", "Yazd", "Oslo"]
PATTERNS = ["{0} lives in {1} now", "yesterday {0} flew to {1}", "in {1} we met {0}", "{1} is far , said {0}"]


def sentences() -> list[dict[str, list[str]]]:
    """Words with their labels."""
    found = []
    for number, person in enumerate(PEOPLE * 4):
        place = PLACES[(number * 5 + number // 6) % len(PLACES)]
        words = PATTERNS[number % len(PATTERNS)].format(person, place).split()
        tags = ["B-PER" if word == person else "B-LOC" if word == place else "O" for word in words]
        found.append({"tokens": words, "tags": tags})
    return found


def main() -> int:
    """Trains, measures and predicts; returns the exit code."""
    rows = sentences()
    tokenizer = build_preprocessor("wordpiece_tokenizer", vocab_size=200, min_frequency=1, show_progress=False)
    tokenizer.train_from_iterator([" ".join(row["tokens"]) for row in rows])
    data = build_dataset("sequence_labeling", rows=rows, preprocessor=tokenizer)
    model = build_model(
        "bert_sequence_labeling",
        vocab_size=200, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        id2label=data.id2label,
    )  # fmt: skip
    model.preprocessor = tokenizer
    with tempfile.TemporaryDirectory() as folder:
        config = TrainerConfig(
            output_dir=folder, num_epochs=25, batch_size=8, learning_rate=3e-3, lr_scheduler="linear", warmup_ratio=0.1,
            packed=True, save_enabled=False, use_cpu=True, do_evaluate=False,
        )  # fmt: skip
        trainer = Trainer(model, config, data, eval_dataset=data, metrics=["seqeval"])
        trainer.train()
        print(trainer.evaluate())
    for record in model.predict("yesterday Mina flew to Oslo", aggregate="entity")[0]:
        print(f"{record['label']}: {record['token']}")
    return 0 if trainer.last_values["evaluation.f1"] > 0.8 else 1


if __name__ == "__main__":
    sys.exit(main())
