"""Trains a small GLM from nothing to fill blanks: python examples/pretrain_glm.py"""

from __future__ import annotations

import sys
import tempfile

from hezar_like import Trainer, TrainerConfig, build_dataset, build_model, build_preprocessor
from hezar_like.preprocessors import GLMTokenizer, GLMTokenizerConfig
from hezar_like.utils import set_seed

MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
COMMANDS = (
    "[CLS]", "[MASK]", "[sMASK]", "[gMASK]", "<|startofpiece|>", "<|endofpiece|>", "<|endoftext|>", "[SEP]", "[UNK]",
)  # fmt: skip


def glm_tokenizer(lines: list[str]) -> GLMTokenizer:
    """A tokenizer of the words of some lines, with GLM's command tokens."""
    words = build_preprocessor("wordpiece_tokenizer", vocab_size=400, min_frequency=1, show_progress=False)
    words.train_from_iterator(lines * 4)
    words.backend.add_special_tokens(list(COMMANDS))
    ids = {token: words.backend.token_to_id(token) for token in COMMANDS}
    config = GLMTokenizerConfig(command_ids=ids, unk_token="[UNK]", eos_token="[SEP]", vocab_size=len(words))
    return GLMTokenizer(config, backend=words.backend)


def main() -> int:
    """Trains and fills a blank; returns the exit code."""
    set_seed(0)
    lines = [" ".join((MONTHS * 2)[first : first + count]) for count in (5, 7) for first in range(len(MONTHS))]
    tokenizer = glm_tokenizer(lines)
    data = build_dataset(
        "blank_infilling", rows=[{"text": line} for line in lines], preprocessor=tokenizer, kinds=(1, 0, 0), share=0.2
    )
    model = build_model(
        "glm_text_generation",
        vocab_size=tokenizer.max_token_id + 1, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=32, initializer_range=0.1,
        **{f"{role}_token_id": tokenizer.role_id(role) for role in ("sop", "eop", "mask")},
    )  # fmt: skip
    model.preprocessor = tokenizer
    with tempfile.TemporaryDirectory() as folder:
        config = TrainerConfig(
            output_dir=folder, num_epochs=100, batch_size=8, learning_rate=3e-3, lr_scheduler="cosine",
            warmup_steps=10, log_steps=1, save_enabled=False, use_cpu=True,
        )  # fmt: skip
        trainer = Trainer(model, config, data)
        trainer.train()
        losses = [record["loss"] for record in trainer.load_logs()]
    first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    print(f"loss {first:.3f} at first, {last:.3f} at last")
    print(model.predict("august september [MASK] november december", max_new_tokens=4)[0]["text"])
    return 0 if last < 0.2 * first else 1


if __name__ == "__main__":
    sys.exit(main())
