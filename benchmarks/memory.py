"""Memory and start-up: what a process needs for a first prediction, and whether a long stream stays flat.

Each measurement is a process of its own. Memory is the peak of the process over that of one that only imports torch;
times are the CPU's, of the whole process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

from measuring import ONE_THREAD, ratio

ROUNDS = 3
HEAD = """
import resource, sys, time
sys.path.insert(0, {here!r})
"""
TAIL = """
used = resource.getrusage(resource.RUSAGE_SELF)
import json
with open("/proc/self/status") as file:  # ru_maxrss would count what the process was forked from
    peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
print(json.dumps([used.ru_utime + used.ru_stime, peak / 1024, extra]))
"""
FIRST = 'from hezar_like import Model\nmodel = Model.load({folder!r}, device="cpu"{options})\n'
BODIES = {
    "torch alone": "import torch\nextra = None",
    "hezar_like": FIRST + 'model.predict("a first text")\nextra = None',
    "hezar_like, 128 texts": FIRST + "from corpus import texts\nmodel.predict(texts(128))\nextra = None",
    "hezar_like, 64 tokens": (
        FIRST + "import torch\nmodel.generate(torch.randint(3, 50000, (1, 32)), max_new_tokens=64)\nextra = None"
    ),
    "transformers": (
        "from transformers import pipeline\n"
        'pipeline("text-classification", {folder!r}, device="cpu")("a first text")\nextra = None'
    ),
    "stream": FIRST
    + textwrap.dedent("""
        def rows():
            for number in range({count}):
                yield f"text number {{number}}"

        def now():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * resource.getpagesize() / 2**20

        early = last = 0.0
        start = time.process_time()
        for number, _ in enumerate(model.stream(rows()), 1):
            if number == {early}:
                early = now()
        extra = [early, now(), {count} / (time.process_time() - start)]
    """),
}


def measure(body: str, **values: object) -> tuple[float, float, object]:
    """CPU seconds and peak memory in MB of a process that runs a body, and what it adds to that."""
    code = (HEAD + body + TAIL).format(here=str(Path(__file__).parent), **values)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | ONE_THREAD
    )
    seconds, memory, extra = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds, memory, extra


def make(folder: Path) -> None:
    """Writes BERT-base, a small BERT, and GPT-2, as transformers does."""
    from encoders import make as make_encoders
    from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

    make_encoders(folder, quick=True, convert_too=False)
    small = BertConfig(num_labels=3, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
    BertForSequenceClassification(small).save_pretrained(folder / "small")
    for file in (folder / "bert").glob("*token*.json"):
        (folder / "small" / file.name).write_bytes(file.read_bytes())
    GPT2LMHeadModel(GPT2Config(bos_token_id=None, eos_token_id=None)).save_pretrained(folder / "gpt2")


def size(model: Path, scale: float) -> float:
    """The weights in MB, where each number takes `scale` times as much memory as in the file."""
    return (model / "model.safetensors").stat().st_size / 2**20 * scale


def memory(folder: Path, base: float) -> None:
    """Peak memory by type of weights, and what of it is not weights."""
    print("\n| model, weights | weights, MB | peak over torch, MB | bar, MB |\n|---|---|---|---|")
    cases: Sequence[tuple[str, str, str, float]] = (
        ("hezar_like, 128 texts", "bert", "", 1.0),
        ("hezar_like, 128 texts", "bert", ', dtype="bfloat16"', 0.5),
        ("hezar_like, 64 tokens", "gpt2", ", load_preprocessor=False", 1.0),
        ("hezar_like, 64 tokens", "gpt2", ', load_preprocessor=False, dtype="bfloat16"', 0.5),
        ("hezar_like, 64 tokens", "gpt2", ', load_preprocessor=False, dtype="float16"', 0.5),
        ("hezar_like, 64 tokens", "gpt2", ', load_preprocessor=False, quantize="int8"', 0.25),
    )
    for body, name, options, scale in cases:
        _, peak, _ = measure(BODIES[body], folder=str(folder / name), options=options)
        weights = size(folder / name, scale)
        kind = options.rpartition("=")[2].strip('"') if "=" in options and scale < 1 else "float32"
        print(f"| {name}, {kind} | {weights:.0f} | {peak - base:.0f} | {weights * 1.15 + 250:.0f} |", flush=True)


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a shorter stream and one round")
    given = parser.parse_args()
    rounds, count = (1, 20_000) if given.quick else (ROUNDS, 1_000_000)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder)
        base = statistics.median(measure(BODIES["torch alone"])[1] for _ in range(rounds))
        bert = {"folder": str(folder / "bert"), "options": ""}
        names = ["torch alone", "hezar_like", *(["transformers"] if importlib.util.find_spec("transformers") else [])]
        times = {name: [measure(BODIES[name], **bert)[0] for _ in range(rounds)] for name in names}
        print("\n| process to its first prediction, BERT-base | CPU s | × hezar_like |\n|---|---|---|")
        for name, seconds in times.items():
            print(f"| {name} | {statistics.median(seconds):.2f} | {ratio(seconds, times['hezar_like'])} |")
        memory(folder, base)
        early = count // 100
        _, _, extra = measure(BODIES["stream"], folder=str(folder / "small"), options="", count=count, early=early)
        assert isinstance(extra, list)
        print(f"\n{count} texts streamed: {extra[0]:.0f} MB after {early}, {extra[1]:.0f} MB at the end "
              f"({extra[1] / extra[0] - 1:+.1%}), {extra[2]:.0f} texts per CPU second")  # fmt: skip


if __name__ == "__main__":
    main()
