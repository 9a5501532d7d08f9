"""Trains a small GPT-2 from raw text: python examples/pretrain_gpt2.py [FOLDER]

With two processes it comes to the same: torchrun --nproc-per-node 2 examples/pretrain_gpt2.py FOLDER
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from hezar_like import Trainer, TrainerConfig, build_dataset, build_model, build_preprocessor
from hezar_like.data import prepare_data
from hezar_like.training import init_distributed, print_rank
from hezar_like.training.distributed import rank, wait_for_ranks, world_size

WHO, DOES = ["the cat", "a dog", "my sister", "the old king", "one bird"], ["sees", "finds", "wants", "paints"]
WHAT, WHERE = ["a red house", "the river", "some bread"], ["in the morning", "by the sea", "at school", "once more"]
ROWS_OF_A_STEP = 40


def main(arguments: Sequence[str] = ()) -> int:
    """Tokenizes, trains and writes; returns the exit code."""
    with tempfile.TemporaryDirectory() as temporary:
        return train(Path(arguments[0] if arguments else temporary))


def train(folder: Path) -> int:
    """The same in a folder, which all processes share."""
    init_distributed(seed=0)
    lines = [f"{' '.join(words)}." for words in product(WHO, DOES, WHAT, WHERE)]
    tokenizer = build_preprocessor("bpe_tokenizer", vocab_size=300, min_frequency=1, show_progress=False)
    tokenizer.train_from_iterator(lines)
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "corpus.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        counts = prepare_data([folder / "corpus.txt"], tokenizer, folder / "corpus", processes=1, overwrite=True)
        print_rank(f"{counts.documents} documents, {counts.tokens} tokens")
    wait_for_ranks()
    data = build_dataset("causal_language_modeling", path=str(folder / "corpus"), preprocessor=tokenizer)
    config = TrainerConfig(
        output_dir=str(folder / "output"), num_epochs=10, batch_size=ROWS_OF_A_STEP // world_size(), learning_rate=5e-3,
        lr_scheduler="cosine", warmup_ratio=0.1, packed=True, log_steps=1, save_enabled=False, use_cpu=True,
    )  # fmt: skip
    model = build_model(
        "gpt2_text_generation",
        vocab_size=len(tokenizer), hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=48, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        generation={"eos_token_id": tokenizer.eos_token_id},
    )  # fmt: skip
    model.preprocessor = tokenizer
    trainer = Trainer(model, config, data)
    trainer.train()
    losses = [record["loss"] for record in trainer.load_logs()]
    print_rank(f"loss {losses[0]:.5f} at first, {losses[-1]:.5f} at last")
    begun = tokenizer("the old king", add_special_tokens=False, return_tensors="torch")
    print_rank(tokenizer.decode(model.generate(begun["token_ids"], max_new_tokens=16).tolist())[0])
    return 0 if losses[-1] < 0.25 * losses[0] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
