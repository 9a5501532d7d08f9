"""Nothing in a stranger's folder runs, leaks, hangs or takes the memory; nothing outside of it is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from confined import SECRET, in_fork
from tiny_models import tiny_model
from zoo import ANIMALS

from hezar_like import Model, errors

SECONDS, MEGABYTES = 30.0, 1500
ERRORS = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
TEXTS = ["the cat", "a" * 40 + "!", "aaaaaaaaaa"]
MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that animals grow from."""
    place = tmp_path_factory.mktemp("good")
    sizes = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 8}
    model = tiny_model("bert_text_classification", num_labels=3, **sizes)
    model.save(place / "native")
    model.export("transformers", place / "transformers")
    tiny_model("bert_text_embedding", pooling="mean", **sizes).export(
        "sentence_transformers", place / "sentence-transformers"
    )
    return place


def use(folder: Path, saved: Path) -> None:
    """What a user does with a model: loads it, looks at it, predicts, decodes, saves it again."""
    model = Model.load(folder, device="cpu")
    assert repr(model)
    tokenizer = model.preprocessor.tokenizer
    result = model.predict(TEXTS, long_text="truncate")
    assert len(result) == len(TEXTS)
    if tokenizer is not None:
        tokenizer.decode([[7] * 40])
        if tokenizer.config.chat_template:
            assert len(tokenizer.apply_chat_template(MESSAGES)) < 10**7
    model.save(saved)


@pytest.mark.parametrize("name", ANIMALS)
def test_nothing_runs_leaks_or_hangs(name: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    animal, mark = ANIMALS[name], tmp_path / "mark"
    folder = Path(shutil.copytree(good / animal.base, tmp_path / "inside" / "model"))
    saved = tmp_path / "inside" / "saved"
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')")
    animal.change(folder, mark)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = {path.name for path in tmp_path.iterdir()}

    outcome = in_fork(lambda: use(folder, saved), tmp_path / "inside", seconds=SECONDS, megabytes=MEGABYTES)

    assert {path.name for path in tmp_path.iterdir()} == before and not mark.exists(), "something ran"
    assert (tmp_path / "secret").read_text() == "mine"
    assert outcome.kind == "fine" or outcome.kind in ERRORS, f"{outcome.kind}: {outcome.said}"
    assert {"refused": outcome.kind != "fine", "harmless": outcome.kind == "fine", "either": True}[animal.ends], outcome
    assert outcome.seconds < 10 and outcome.megabytes < 500, outcome
    assert SECRET not in outcome.said and "root:" not in outcome.said
    for path in saved.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


KEEPERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a program": (lambda place: os.system("true"), "Fault"),
    "a file elsewhere": (lambda place: (place.parent / "elsewhere").write_text("x"), "Fault"),
    "memory": (lambda place: bytearray(2**32), "MemoryError"),
    "time": (lambda place: [None for _ in iter(int, 1) if False], "died"),
    "a foreign error": (lambda place: {}["a"], "KeyError"),
    "nothing": (lambda place: None, "fine"),
}


@pytest.mark.parametrize("name", KEEPERS)
def test_the_keepers_see_it(name: str, tmp_path: Path) -> None:
    """The test above can fail: what must not happen is noticed."""
    action, kind = KEEPERS[name]
    (tmp_path / "inside").mkdir()
    outcome = in_fork(lambda: action(tmp_path / "inside"), tmp_path / "inside", seconds=2.0, megabytes=500)
    assert outcome.kind == kind, outcome
