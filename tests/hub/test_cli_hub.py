"""push, pull, list --hub and cache, in this process."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from hezar_like import Model, build_model
from hezar_like.cli import main
from hezar_like.hub import resolve
from hezar_like.preprocessors import WordPieceConfig, WordPieceTokenizer
from hezar_like.testing import HubServer

TEXTS = ["a small text", "another one"]


@pytest.fixture(autouse=True)
def environment(hub: HubServer, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_write")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    tokenizer = WordPieceTokenizer(WordPieceConfig(vocab_size=60, show_progress=False))
    tokenizer.train_from_iterator(TEXTS * 3)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = build_model("bert_text_classification", vocab_size=len(tokenizer), id2label={0: "a", 1: "b"}, **sizes)
    model.preprocessor = tokenizer
    return str(model.save(tmp_path / "model"))


def run(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    """What a command prints; its one line on stderr when it fails."""
    assert main(list(argv)) == code, capsys.readouterr().err
    captured = capsys.readouterr()
    assert "hf_write" not in captured.out + captured.err
    if code:
        assert captured.err.startswith("hezar_like: error: ") and captured.err.count("\n") == 1, captured.err
        return captured.err
    assert captured.err == ""
    return captured.out


def test_push_and_pull(
    hub: HubServer, folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--language", "fa", "--language", "en", "--license", "mit", "--metric", "accuracy=0.5", "--metric", "f1=1"]
    address = run(capsys, "push", folder, "ann/m", "--private", *options)
    repository = hub.repo("ann/m")
    assert repository is not None and repository.private
    assert address == f"{hub.url}/ann/m/commit/{repository.refs['refs/heads/main']}\n"
    card = hub.read("ann/m", "README.md").decode()
    assert "license: mit" in card and "- en" in card and "| f1 | 1 |" in card

    assert run(capsys, "push", folder, "ann/m", *options) == address
    assert run(capsys, "push", folder, "ann/m", "--branch", "dev").startswith(f"{hub.url}/ann/m/commit/")
    hub.add_file("ann/m", "model_config.yaml", b"name: old")
    assert run(capsys, "push", folder, "ann/m", "--pull-request") == f"{hub.url}/ann/m/discussions/1\n"

    run(capsys, "push", "ann/m", "ann/silent", "--revision", "dev", "--base-model", "")
    assert b"base_model" not in hub.read("ann/silent", "README.md")

    printed = run(capsys, "pull", "ann/m", "--revision", "dev")
    assert printed.splitlines()[0] == f"ann/m@{resolve('ann/m', revision='dev').commit} to the cache:"
    assert {line.split()[0] for line in printed.splitlines()[1:]} == {
        "model.safetensors", "model_config.yaml", "preprocessor/tokenizer.json", "preprocessor/tokenizer_config.yaml",
    }  # fmt: skip
    hub.add_file("ann/m", "huge.bin", b"x", revision="dev")
    copy = tmp_path / "copy"
    assert f"to {str(copy)!r}:" in run(capsys, "pull", "ann/m", str(copy), "--revision", "dev")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert Model.load(copy).predict(TEXTS) == Model.load(folder).predict(TEXTS)
    assert not (copy / "huge.bin").exists() and not any(path.is_symlink() for path in copy.rglob("*"))


def test_push_and_pull_refuse(hub: HubServer, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "NAME=NUMBER" in run(capsys, "push", folder, "ann/m", "--metric", "accuracy", code=2)
    assert "Hub id" in run(capsys, "push", folder, "a/b/c", code=2)
    assert "write access" in run(capsys, "push", folder, "bob/m", code=2)
    assert "on this computer already" in run(capsys, "pull", folder, code=2)
    assert "not an empty folder" in run(capsys, "pull", "ann/m", folder, code=2)
    assert "does not exist" in run(capsys, "pull", "ann/nothing", code=2)
    assert not hub.repositories


def test_list(hub: HubServer, folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("acme/first", "ann/second"):
        Model.load(folder).push_to_hub(name)
    hub.add_file("bob/third", "README.md", b"---\nlibrary_name: transformers\npipeline_tag: text-classification\n---\n")

    def names(*options: str) -> list[str]:
        return [row["repo"] for row in json.loads(run(capsys, "list", "--hub", "--json", *options))]

    assert names() == ["acme/first", "ann/second"]
    assert names("--task", "text_classification", "--author", "acme") == ["acme/first"]
    assert names("--task", "ner") == [] and names("--search", "sec") == ["ann/second"] and len(names("--limit", "1")) == 1
    assert names("--library", "transformers", "--task", "text_classification") == ["bob/third"]
    assert len(names("--library", "any")) == 3
    assert run(capsys, "list", "models", "--hub", "--author", "ann").split()[:2] == ["ann/second", "text-classification"]
    assert run(capsys, "list", "--hub", "--author", "nobody") == "  (none)\n"
    assert "goes with --hub" in run(capsys, "list", "--task", "ner", code=2)
    assert "lists models, not tasks" in run(capsys, "list", "tasks", "--hub", code=2)
    assert "at least 1" in run(capsys, "list", "--hub", "--limit", "0", code=2)
    assert "Did you mean" in run(capsys, "list", "--hub", "--task", "text_clasification", code=2)
    hub.fault("/api/models", status=503, times=-1)
    assert "HTTP 503" in run(capsys, "list", "--hub", code=2)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "unset HF_HUB_OFFLINE" in run(capsys, "list", "--hub", code=2)


def test_cache(hub: HubServer, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "cache") == "  (none)\n" and "not in the cache" in run(capsys, "cache", "remove", "a/b", code=2)
    for name in ("ann/first", "ann/second"):
        Model.load(folder).push_to_hub(name)
        Model.load(name)
    hub.clear()
    source = resolve("ann/first", local_files_only=True)
    (row,) = json.loads(run(capsys, "cache", "list", "ann/first", "--json"))
    assert row["repo"] == "ann/first" and row["commits"] == [source.commit] and row["bytes"] > 1000
    assert [line.split()[0] for line in run(capsys, "cache").splitlines()] == ["ann/first", "ann/second"]
    assert run(capsys, "cache", "verify").endswith("files are as the Hub announced them\n")

    weights = source.get("model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert main(["cache", "verify"]) == 2
    captured = capsys.readouterr()
    assert "broken: 'model.safetensors' of ann/first" in captured.out and "1 of 8 files are broken" in captured.err
    run(capsys, "cache", "verify", "ann/second")
    assert not hub.log
    run(capsys, "pull", "ann/first")
    run(capsys, "cache", "verify")

    old, new = (weights.parent / f"{name}.incomplete" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"x" * 100)
    os.utime(old, (time.time() - 10_000,) * 2)
    assert "100 bytes" in run(capsys, "cache", "clean") and not old.exists() and new.exists()

    assert "Did you mean 'ann/first'" in run(capsys, "cache", "remove", "ann/second", "ann/frist", code=2)
    assert "removed ann/second" in run(capsys, "cache", "remove", "ann/second")
    assert [line.split()[0] for line in run(capsys, "cache").splitlines()] == ["ann/first"]
    assert "needs the names" in run(capsys, "cache", "remove", code=2)
    assert "takes no names" in run(capsys, "cache", "clean", "x", code=2)
    assert "goes with list" in run(capsys, "cache", "verify", "--json", code=2)
    assert "Did you mean 'remove'" in run(capsys, "cache", "remov", code=2)


@pytest.mark.parametrize("command", ["push", "pull", "cache", "list"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, command, "--help")
    assert printed.startswith(f"usage: hezar_like {command}") and "None" not in printed
