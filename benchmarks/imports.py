"""What importing costs beside `import torch`, in CPU seconds of fresh processes, interleaved."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

STATEMENTS = {
    "torch": "import torch",
    "hezar_like": "import hezar_like",
    "hezar_like.models": "import hezar_like.models",
    "Model": "from hezar_like.models import Model; import torch",
    "transformers AutoModel": "from transformers import AutoModel, AutoTokenizer",
    "sentence_transformers": "import sentence_transformers",
}
ROUNDS = 7


def cpu_seconds(statement: str) -> float:
    """User and system time of a fresh Python that runs a statement."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints the median, and the ratio to torch in the same round with its spread."""
    rounds = [{name: cpu_seconds(statement) for name, statement in STATEMENTS.items()} for _ in range(ROUNDS + 1)][1:]
    print(f"{'import':<26}{'CPU s':>8}{'x torch':>9}   (lowest .. highest ratio of {ROUNDS} rounds)")
    for name in STATEMENTS:
        ratios = sorted(times[name] / times["torch"] for times in rounds)
        seconds = statistics.median(times[name] for times in rounds)
        print(f"{name:<26}{seconds:>8.3f}{statistics.median(ratios):>9.3f}   ({ratios[0]:.3f} .. {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
