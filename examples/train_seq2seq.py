"""Trains a small T5 from nothing to write titles, the first words of a text: python examples/train_seq2seq.py"""

from __future__ import annotations

import sys
import tempfile

from hezar_like import build_dataset, build_model, build_preprocessor
from hezar_like.training import Trainer, TrainerConfig

SUBJECTS = ["the river", "our school", "a storm", "the market", "this bridge", "the old king"]
EVENTS = ["grew fast", "was closed", "came back", "is open again", "won a prize"]


def main() -> int:
    """Trains, measures what it writes, and writes; returns the exit code."""
    rows = [
        {"source": f"{subject} {event} and all people of the town talk of it", "target": f"{subject} {event}"}
        for subject in SUBJECTS
        for event in EVENTS
    ]
    tokenizer = build_preprocessor("wordpiece_tokenizer", vocab_size=120, min_frequency=1, show_progress=False)
    tokenizer.train_from_iterator([row["source"] for row in rows])
    data = build_dataset("seq2seq", rows=rows, preprocessor=tokenizer)
    pad, sep = tokenizer.pad_token_id, tokenizer.sep_token_id
    model = build_model(
        "t5_text_generation",
        vocab_size=120, hidden_size=64, num_hidden_layers=2, num_decoder_layers=2, num_attention_heads=4, head_dim=16,
        intermediate_size=128, dropout_rate=0.0, pad_token_id=pad,
        generation={"max_new_tokens": 20, "eos_token_id": sep, "decoder_start_token_id": pad},
    )  # fmt: skip
    model.preprocessor = tokenizer
    with tempfile.TemporaryDirectory() as folder:
        config = TrainerConfig(
            output_dir=folder, num_epochs=50, batch_size=30, learning_rate=5e-3, lr_scheduler="cosine", warmup_steps=5,
            save_enabled=False, use_cpu=True, do_evaluate=False,
        )  # fmt: skip
        trainer = Trainer(model, config, data, eval_dataset=data, metrics=["cer"])
        trainer.train()
        print(trainer.evaluate())
    print(model.predict("a storm came back and all people of the town talk of it"))
    return 0 if trainer.last_values["evaluation.cer"] < 0.3 else 1


if __name__ == "__main__":
    sys.exit(main())
