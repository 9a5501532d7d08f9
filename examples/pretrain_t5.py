"""Trains a small T5 from nothing to write the spans that were taken out of sentences: python examples/pretrain_t5.py"""

from __future__ import annotations

import sys
import tempfile
from itertools import product

from hezar_like import Trainer, TrainerConfig, build_dataset, build_model, build_preprocessor
from hezar_like.utils import set_seed

WHO, DOES = ["the cat", "a dog", "my sister", "the old king"], ["sees", "finds", "wants", "paints"]
WHAT, WHERE = ["a red house", "the river", "some bread"], ["in the morning", "by the sea", "at school"]


def main() -> int:
    """Trains; returns the exit code."""
    set_seed(0)
    lines = [" ".join(words) for words in product(WHO, DOES, WHAT, WHERE)]
    tokenizer = build_preprocessor("wordpiece_tokenizer", vocab_size=200, min_frequency=1, show_progress=False)
    tokenizer.train_from_iterator(lines)
    tokenizer.add_special_tokens([f"<extra_id_{number}>" for number in range(10)])
    data = build_dataset(
        "span_corruption", rows=[{"text": line} for line in lines], preprocessor=tokenizer, share=0.25, mean_span=2.0
    )
    model = build_model(
        "t5_text_generation",
        vocab_size=tokenizer.max_token_id + 1, hidden_size=64, num_hidden_layers=2, num_decoder_layers=2,
        num_attention_heads=4, head_dim=16, intermediate_size=128, dropout_rate=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model.preprocessor = tokenizer
    with tempfile.TemporaryDirectory() as folder:
        config = TrainerConfig(
            output_dir=folder, num_epochs=30, batch_size=24, learning_rate=5e-3, lr_scheduler="cosine",
            warmup_steps=10, log_steps=1, save_enabled=False, use_cpu=True,
        )  # fmt: skip
        trainer = Trainer(model, config, data)
        trainer.train()
        losses = [record["loss"] for record in trainer.load_logs()]
    first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    print(f"loss {first:.3f} at first, {last:.3f} at last")
    return 0 if last < 0.4 * first else 1


if __name__ == "__main__":
    sys.exit(main())
