"""Loading a checkpoint of 1.4 GB in its own type: we, transformers and a bare memory map, in turn, in fresh processes.

Seconds are from the call to the loaded model, with all imports done before; memory is how far the process's peak rises
above what it was before, once every weight has been read.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 5
SIZES = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}

MEASURE = """
import json, sys, time
from pathlib import Path

import torch

torch.set_num_threads(1)

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

{imports}
folder, tiny = sys.argv[1:]
warm_up(tiny)  # what is done once per process
before = peak()
start = time.perf_counter()
weights = load(folder)
seconds = time.perf_counter() - start
total = sum(float(tensor.sum()) for tensor in weights)  # reads every page
print(json.dumps({{"seconds": seconds, "memory": peak() - before, "total": total}}))
"""
LOADERS = {
    "ours": """
from hezar_like import Model
load = lambda folder: list(Model.load(folder).parameters())
warm_up = load
""",
    "transformers": """
import transformers
transformers.utils.logging.disable_progress_bar()
load = lambda folder: list(transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").parameters())
warm_up = load
""",
    "memory map": """
from safetensors import safe_open
def load(folder):
    with safe_open(f"{folder}/model.safetensors", "pt") as file:
        return [file.get_tensor(name) for name in file.keys()]
warm_up = load
""",
}


def measure(name: str, folder: Path, tiny: Path) -> dict[str, float]:
    """One load in a process of its own."""
    script = MEASURE.format(imports=LOADERS[name])
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(tiny)], check=True, capture_output=True, text=True
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Makes the checkpoint and prints the table."""
    from hezar_like import build_model

    with tempfile.TemporaryDirectory() as temporary:
        folder, tiny = Path(temporary, "model"), Path(temporary, "tiny")
        build_model("gpt2_text_generation", **SIZES).export("transformers", folder)
        build_model("gpt2_text_generation", **SIZES | {"hidden_size": 16, "num_hidden_layers": 1}).export(
            "transformers", tiny
        )
        size = (folder / "model.safetensors").stat().st_size
        rounds = [{name: measure(name, folder, tiny) for name in LOADERS} for _ in range(ROUNDS)]
    print(f"{size / 1e9:.2f} GB, {ROUNDS} rounds")
    for name in LOADERS:
        seconds = [found[name]["seconds"] for found in rounds]
        ratios = sorted(found[name]["seconds"] / found["ours"]["seconds"] for found in rounds)
        memory = statistics.median(found[name]["memory"] for found in rounds)
        print(
            f"{name:<14}{statistics.median(seconds):7.3f} s  ({min(seconds):.3f} .. {max(seconds):.3f})   "
            f"{statistics.median(ratios):6.2f} x ours ({ratios[0]:.2f} .. {ratios[-1]:.2f})   "
            f"memory {memory / size:5.2f} x the file"
        )


if __name__ == "__main__":
    main()
