"""FlagAI's title generation: an encoder reads a text and writes its title, with UniLM's mask.

With a few sentences and a small BERT that knows nothing before. Run it with: python examples/train_title_generation.py
"""

from __future__ import annotations

import sys
import tempfile
from itertools import product

from hezar_like import Trainer, TrainerConfig, build_dataset, build_model, build_preprocessor
from hezar_like.utils import set_seed

PLACES, EVENTS = ["北京", "上海", "广州", "成都", "西安"], ["举办马拉松", "迎来大雪", "开通地铁", "举行书展"]


def main() -> int:
    """Trains and writes titles; returns the exit code."""
    set_seed(0)
    rows = [
        {"source": f"记者今日从{place}获悉，{place}将于本周{event}，市民反响热烈。", "target": f"{place}本周{event}"}
        for place, event in product(PLACES, EVENTS)
    ]
    tokenizer = build_preprocessor("wordpiece_tokenizer", vocab_size=200, min_frequency=1, show_progress=False)
    tokenizer.train_from_iterator([text for row in rows for text in row.values()])
    data = build_dataset("seq2seq", rows=rows, preprocessor=tokenizer, layout="encoder")
    model = build_model(
        "bert_text_generation",
        vocab_size=tokenizer.max_token_id + 1, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=80, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        generation={"max_new_tokens": 14, "eos_token_id": tokenizer.sep_token_id},
    )  # fmt: skip
    model.preprocessor = tokenizer
    with tempfile.TemporaryDirectory() as folder:
        config = TrainerConfig(
            output_dir=folder, num_epochs=40, batch_size=10, learning_rate=3e-3, lr_scheduler="linear",
            warmup_ratio=0.1, save_enabled=False, use_cpu=True,
        )  # fmt: skip
        Trainer(model, config, data).train()
    written = [
        record["text"].replace(" ", "") for record in model.predict([row["source"] for row in rows], num_beams=3)
    ]
    print(*written[:3], sep="\n")
    right = sum(text == row["target"] for text, row in zip(written, rows, strict=True))
    print(f"{right} of {len(rows)} titles are right")
    return 0 if right > 0.8 * len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
