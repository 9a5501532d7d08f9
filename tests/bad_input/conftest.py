"""A tiny model on disk to damage, no network, and nothing left changed."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_model

from hezar_like import Model
from hezar_like.errors import HezarLikeError

Refused = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: Any) -> None:
        raise AssertionError(f"the network was asked for {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert_text_classification", num_labels=3).save(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def folder(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of three labels whose files the test may damage; also the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def refused(folder: Path) -> Refused:
    """`with refused(ErrorClass, "part of the message", ...)`: one clear line, soon, and no file changed."""

    @contextmanager
    def check(kind: type[HezarLikeError], *parts: str, seconds: float = 1.0) -> Iterator[None]:
        before = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
        start = time.process_time()
        with pytest.raises(kind) as caught:
            yield
        spent = time.process_time() - start
        text = str(caught.value)
        for part in parts:
            assert part in text, text
        assert text.isprintable() and len(text) < 4000, text
        assert isinstance(caught.value, HezarLikeError)
        assert spent < seconds
        assert {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()} == before

    return check


@pytest.fixture
def load(folder: Path) -> Callable[..., Model]:
    return lambda **options: Model.load(folder, device="cpu", **options)


@pytest.fixture
def rewrite(folder: Path) -> Callable[..., int]:
    """Puts a line into model_config.yaml, in place of the one of that key or at the end; gives its number."""

    def change(line: str) -> int:
        path = folder / "model_config.yaml"
        entries = re.split(r"\n(?! )", path.read_text().rstrip("\n"))  # a key with all lines of its value
        key = line.partition(":")[0]
        kept = [line for entry in entries if entry.partition(":")[0] != key for line in entry.splitlines()]
        path.write_text("\n".join([*kept, line]) + "\n")
        return len(kept) + 1

    return change
