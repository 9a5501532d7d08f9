"""Many processes of one machine that load one model download it once."""

from __future__ import annotations

import subprocess
import sys

from hezar_like import build_model

PROCESSES = 4
LOAD = """
import os
from hezar_like.hub import resolve
from hezar_like import Model

resolve("ann/encoder")  # all are ready before the first asks for weights
print(sum(float(p.sum()) for p in Model.load("ann/encoder").parameters()))
"""


def test_weights_are_downloaded_once(hub, monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    model = build_model("bert", hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    model.push_to_hub("ann/encoder", token="hf_write")
    hub.clear()

    running = [
        subprocess.Popen([sys.executable, "-c", LOAD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    answers = [process.communicate(timeout=120) for process in running]

    assert [process.returncode for process in running] == [0] * PROCESSES, answers
    assert len({out for out, _ in answers}) == 1
    fetched = [entry for entry in hub.requests("GET", r"model\.safetensors|/cdn|/blobs?/") if entry["status"] == 200]
    assert len(fetched) == 1, [(entry["path"], entry["status"]) for entry in fetched]
