"""Many processes and threads of one machine that load one model download it once, and all get the same one."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import constants

from hezar_like import Model, build_model
from hezar_like.hub import resolve
from hezar_like.preprocessors import WordPieceConfig, WordPieceTokenizer
from hezar_like.testing import HubServer

PROCESSES, THREADS = 4, 16
TEXTS = ["a small text", "another one that is longer", "a text"]
LOAD = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from hezar_like.hub import resolve
from hezar_like import Model

Model.load(sys.argv[1])  # imports all there is to import
resolve("ann/model")
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor({THREADS // PROCESSES}) as pool:
    results = pool.map(lambda _: Model.load("ann/model", device="cpu").predict({TEXTS!r}), range({THREADS // PROCESSES}))
    print({{repr(result) for result in results}})
"""


@pytest.fixture
def folder(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    tokenizer = WordPieceTokenizer(WordPieceConfig(vocab_size=60, show_progress=False))
    tokenizer.train_from_iterator(TEXTS * 3)
    model = build_model(
        "bert_text_classification", vocab_size=len(tokenizer), id2label={0: "a", 1: "b"},
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
    )  # fmt: skip
    model.preprocessor = tokenizer
    model.push_to_hub("ann/model", token="hf_write")
    hub.clear()
    return model.save(tmp_path / "model")


def downloads(hub: HubServer) -> list[str]:
    return sorted(entry["path"].rpartition("/")[2] for entry in hub.requests("GET", "/resolve/|/cdn/"))


def test_processes(hub: HubServer, folder: Path) -> None:
    expected = repr(Model.load(folder, device="cpu").predict(TEXTS))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", LOAD, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(PROCESSES)
    ]  # fmt: skip
    assert [process.stdout and process.stdout.readline() for process in running] == ["ready\n"] * PROCESSES
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0] * PROCESSES, answers
    assert {out for out, _ in answers} == {f"{ {expected} }\n"}
    found = downloads(hub)
    assert len(found) == len(set(found)) == 4, found


def test_threads(hub: HubServer, folder: Path) -> None:
    expected = Model.load(folder, device="cpu").predict(TEXTS)
    with ThreadPoolExecutor(THREADS) as pool:
        models = list(pool.map(lambda _: Model.load("ann/model", device="cpu"), range(THREADS)))
        results = list(pool.map(lambda model: model.predict(TEXTS), models))
        shared = list(pool.map(lambda _: models[0].predict(TEXTS), range(THREADS)))
    assert results == shared == [expected] * THREADS
    found = downloads(hub)
    assert len(found) == len(set(found)) == 4, found


def test_a_download_that_is_killed(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    content = bytes(range(256)) * 50_000
    hub.add_file("ann/large", "model.safetensors", content)
    hub.fault("/cdn/", stall_after=11_000_000, delay=30)
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "30")
    code = "from hezar_like.hub import resolve; resolve('ann/large').get('model.safetensors')"
    process = subprocess.Popen([sys.executable, "-c", code])
    blobs = Path(constants.HF_HUB_CACHE) / "models--ann--large" / "blobs"
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in blobs.glob("*.incomplete")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert resolve("ann/large").get("model.safetensors").read_bytes() == content
