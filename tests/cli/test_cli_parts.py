"""`hezar_like predict --input FILE --output FILE`: a run that was stopped goes on, and no line is lost or doubled."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Fails, json_lines
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_model

from hezar_like import Model
from hezar_like.cli import main, parts
from hezar_like.cli.job import PartPredictor
from hezar_like.errors import InputError

LINES = [f'{{"id": {number}, "text": "the fox {"dog " * (number % 7)}"}}\n' for number in range(40)]


class Run:
    """A file of inputs, its output, and the command between them."""

    def __init__(self, folder: Path, model: str) -> None:
        self.input, self.output = folder / "in.jsonl", folder / "out.jsonl"
        self.parts = folder / "out.jsonl.parts"
        self.input.write_text("".join(LINES))
        self.model = model

    def argv(self, *options: str) -> list[str]:
        files = ["--input", str(self.input), "--output", str(self.output)]
        return ["predict", self.model, *files, "--device", "cpu", "--lines-per-part", "4", *options]

    def kept(self) -> list[str]:
        return sorted(path.name for path in self.parts.glob("*.jsonl"))

    def check(self) -> None:
        """The output is complete and in order, and nothing else is left."""
        found = json_lines(self.output.read_text(encoding="utf-8"))
        inputs = json_lines(self.input.read_text(encoding="utf-8"))
        assert [{key: line[key] for key in ("id", "text")} for line in found] == inputs
        expected = Model.load(self.model, device="cpu").predict([line["text"] for line in inputs])
        for line, labels in zip(found, expected, strict=True):
            assert line["result"] == [label | {"score": pytest.approx(label["score"], abs=1e-6)} for label in labels]
        assert sorted(path.name for path in self.output.parent.iterdir()) == ["in.jsonl", "out.jsonl"]


@pytest.fixture
def run(tmp_path: Path, classifier: str) -> Run:
    return Run(tmp_path, classifier)


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first lines of the parts that are predicted, as they are."""
    original, found = PartPredictor.lines, []

    def lines(self: PartPredictor, data: bytes, first_line: int) -> Iterator[str]:
        found.append(first_line)
        return original(self, data, first_line)

    monkeypatch.setattr(PartPredictor, "lines", lines)
    return found


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Ctrl-C when so many parts are done."""
    original = parts.PartsFolder.write

    def write(self: parts.PartsFolder, part: parts.Part, lines: list[str]) -> None:
        if part.number == count:
            raise KeyboardInterrupt
        original(self, part, lines)

    monkeypatch.setattr(parts.PartsFolder, "write", write)


def stopped(run: Run, monkeypatch: pytest.MonkeyPatch, count: int = 3) -> None:
    """A run that was stopped when so many parts were done."""
    with monkeypatch.context() as patch:
        stop_after(patch, count)
        assert main(run.argv()) == 130
    assert len(run.kept()) == count
    assert not run.output.exists()


def test_a_killed_command_goes_on(run: Run, predicted: list[int]) -> None:
    run.input.write_text("".join(LINES * 2))
    command = [sys.executable, "-m", "hezar_like", *run.argv("--lines-per-part", "1")]
    with subprocess.Popen(command) as process:
        while len(run.kept()) < 5:
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert not run.output.exists()
    count = len(run.kept())
    assert 5 <= count < 80
    assert main(run.argv("--lines-per-part", "1")) == 0
    # What a kill caught between two renames counts as done, too.
    assert predicted in (list(range(count + 1, 81)), list(range(count + 2, 81)))
    run.check()


def test_only_what_is_missing_is_predicted(
    run: Run, predicted: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(run, monkeypatch)
    assert f"3 parts are done and kept in {run.parts}" in capsys.readouterr().err
    (run.parts / run.kept()[1]).unlink()
    predicted.clear()
    assert main(run.argv()) == 0
    assert predicted == [5, *range(13, 40, 4)]
    run.check()


def test_a_mended_line_costs_its_part(run: Run, predicted: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    run.input.write_text("".join([*LINES[:21], "oops\n", *LINES[22:]]))
    assert main(run.argv()) == 2
    assert f"{run.input}, line 22: not JSON" in capsys.readouterr().err
    predicted.clear()
    run.input.write_text("".join([LINES[9], *LINES[1:]]))  # and the first line is another one
    assert main(run.argv()) == 0
    assert predicted == [1, *range(21, 40, 4)]
    run.check()


def test_a_stop_before_the_folder_is_gone(run: Run, monkeypatch: pytest.MonkeyPatch, predicted: list[int]) -> None:
    def remove(self: parts.PartsFolder) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parts.PartsFolder, "remove", remove)
        assert main(run.argv()) == 130
    predicted.clear()
    assert main(run.argv()) == 0
    assert predicted == []
    run.check()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--set", "top_k=2"], "options was {} and is {'top_k': 2}"),
        (["--dtype", "bfloat16"], "dtype was None and is 'bfloat16'"),
        (["--quantize", "int8"], "quantize was None and is 'int8'"),
        (["--lines-per-part", "5"], "lines_per_part was 4 and is 5"),
        (["--input-format", "txt"], "input_format was 'jsonl' and is 'txt'"),
    ],
)
def test_parts_made_otherwise_are_refused(
    options: list[str], reason: str, run: Run, fails: Fails, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    stopped(run, monkeypatch)
    capsys.readouterr()
    message = fails(*run.argv(*options))
    assert reason in message and "remove this folder" in message
    assert len(run.kept()) == 3


def test_a_model_that_changed_is_refused(
    run: Run, fails: Fails, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.model = str(Model.load(run.model).save(tmp_path / "model"))
    stopped(run, monkeypatch)
    capsys.readouterr()
    Model.load(run.model).save(run.model)
    assert "version of the model was" in fails(*run.argv())


def test_a_tokenizer_that_changed_is_refused(
    run: Run, fails: Fails, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Model.load(run.model)
    run.model = str(model.save(tmp_path / "model"))
    stopped(run, monkeypatch)
    capsys.readouterr()
    model.preprocessor.tokenizer.save(run.model)
    assert "version of the model was" in fails(*run.argv())


def test_results_may_be_beside_the_model(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run.model = str(Model.load(run.model).save(tmp_path / "model"))
    run.output = tmp_path / "model" / "out.jsonl"
    run.parts = tmp_path / "model" / "out.jsonl.parts"
    stopped(run, monkeypatch)
    assert main(run.argv()) == 0
    assert len(run.output.read_text().splitlines()) == 40


def test_without_parts_nothing_binds(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(run, monkeypatch)
    for name in run.kept():
        (run.parts / name).unlink()
    found = json.loads((run.parts / parts.MANIFEST).read_text())
    (run.parts / parts.MANIFEST).write_text(json.dumps(found | {"options": {"top_k": 2}}))
    assert main(run.argv()) == 0
    run.check()


def test_how_it_runs_may_change(run: Run, predicted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(run, monkeypatch)
    predicted.clear()
    assert main(run.argv("--batch-size", "2")) == 0
    assert predicted == list(range(13, 40, 4))
    run.check()


def test_two_runs_do_not_meet(run: Run, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    from hezar_like.engine import progress

    messages = []

    def other_run(*_: object) -> Iterator[str]:
        before = (run.parts / parts.MANIFEST).read_text()
        messages.append(fails(*run.argv("--set", "top_k=2")))
        assert (run.parts / parts.MANIFEST).read_text() == before
        return iter(())

    with monkeypatch.context() as patch:
        patch.setattr(parts, "with_progress", other_run)
        patch.setattr(parts.PartsFolder, "has", lambda *_: False)
        assert main(run.argv()) == 2  # nothing was predicted, so nothing can be joined
    assert "another run is working in" in messages[0]
    assert parts.with_progress is progress.with_progress
    assert main(run.argv()) == 0
    run.check()


@pytest.mark.parametrize("name", ["thesis.jsonl", parts.MANIFEST])
def test_a_folder_of_somebody_else_stays(name: str, run: Run, fails: Fails) -> None:
    run.parts.mkdir()
    (run.parts / name).write_text("mine")
    assert "is no folder of parts" in fails(*run.argv())
    assert (run.parts / name).read_text() == "mine"


@pytest.mark.parametrize(
    "text", ["", "\n \n\n\n\n\n", '\ufeff"a dog"\n\n\n\n\n\n"the fox"', '"\\r"\n"a\u2028dog\x85"\n' * 9]
)
def test_any_file_gives_what_a_pipe_gives(text: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run.input.write_text(text, encoding="utf-8")
    assert main(run.argv()) == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(run.input.read_bytes())))
    piped = tmp_path / "piped.jsonl"
    options = ["--input", "-", "--input-format", "jsonl", "--output", str(piped), "--device", "cpu"]
    assert main(["predict", run.model, *options]) == 0
    ours, theirs = ([json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] for path in (run.output, piped))
    assert [line["text"] for line in ours] == [line["text"] for line in theirs]
    assert [line["result"][0]["label"] for line in ours] == [line["result"][0]["label"] for line in theirs]


@given(st.lists(st.binary(max_size=5)), st.integers(1, 5))
def test_parts_are_the_whole(pieces: list[bytes], count: int) -> None:
    data = b"\n".join(pieces)
    file = io.BytesIO(data)
    found = list(parts.split(file, "file", count))
    assert b"".join(part.read(file) for part in found) == data
    lines = io.BytesIO(data).readlines()
    assert [part.first_line for part in found] == list(range(1, len(lines) + 1, count))
    assert [part.read(file).count(b"\n") for part in found[:-1]] == [count] * len(found[:-1])


def test_an_input_that_changes_meanwhile() -> None:
    (_, second) = parts.split(io.BytesIO(b"a\nb\n"), "file", 1)
    with pytest.raises(InputError, match="changed from line 2 on"):
        second.read(io.BytesIO(b"a\nc\n"))


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["a text", "--engine", "ray"], "--engine needs files"),
        (["--input", "-", "--output", "out.jsonl", "--lines-per-part", "3"], "--lines-per-part needs files"),
        (["--input", os.devnull, "--input-format", "txt", "--engine", "ray", "--output", "x"], "--engine needs files"),
        (["--input", "missing.txt", "--engine", "ray", "--output", "out.jsonl"], "'missing.txt' cannot be read"),
        (["a text", "--workers", "2"], "--workers are those of --engine ray"),
        (["a text", "--engine", "rays"], "Did you mean 'ray'"),
        (["a text", "--quantize", "int2"], "unknown kind 'int2'. Did you mean 'int8' or 'int4'?"),
        (["a text", "--set", "quantize=int8"], "no option"),
        (["a text", "--lines-per-part", "0"], "must be a positive integer"),
    ],
)
def test_wrong_arguments(argv: list[str], reason: str, classifier: str, fails: Fails) -> None:
    assert reason in fails("predict", classifier, *argv)


def test_the_fastest_dtype(classifier: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--device", "cpu", "--set", "top_k=3", "--dtype", "auto"]
    assert main(["predict", classifier, "the fox", *options]) == 0
    (line,) = json_lines(capsys.readouterr().out)
    assert line["result"] == Model.load(classifier, device="cpu", dtype="auto").predict("the fox", top_k=3)[0]


def test_rounded_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tiny_model("gpt2_text_generation").save(tmp_path / "model"))
    given, load = [], Model.load

    def watched(*args: Any, **options: Any) -> Model:
        given.append(options["quantize"])
        return load(*args, **options)

    monkeypatch.setattr(Model, "load", watched)
    assert main(["predict", folder, "the fox", "--device", "cpu", "--quantize", "int8"]) == 0
    (line,) = json_lines(capsys.readouterr().out)
    assert given == ["int8"]
    assert line["result"] == load(folder, device="cpu", quantize="int8").predict("the fox")[0]


def test_a_full_disk_keeps_what_is_done(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.fsync

    def full(descriptor: int) -> None:
        if len(run.kept()) == 2:
            raise OSError(28, "No space left on device")
        original(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(run.argv()) == 2
    assert len(run.kept()) == 2
    assert main(run.argv()) == 0
    run.check()
