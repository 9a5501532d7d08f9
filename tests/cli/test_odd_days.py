"""The command where a program cannot count on anything: closed and full outputs, readers that leave, odd names."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Fails

CAN_BE_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def shell(command: str, *names: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of the shell in which `hezar` is the command, and "$1" and so on are the names."""
    hezar = f"hezar() {{ {shlex.quote(sys.executable)} -m hezar_like \"$@\"; }}; {command}"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run(
        ["bash", "-c", hezar, "bash", *names], capture_output=True, encoding="utf-8", errors="surrogateescape",
        timeout=120, check=False, env=environment,
    )  # fmt: skip


def one_error(run: subprocess.CompletedProcess[str], part: str, code: int = 2) -> None:
    assert run.returncode == code and part in run.stderr, run.stderr
    assert run.stderr.startswith("hezar_like: error: ") and run.stderr.count("\n") == 1 and run.stderr.isascii()


def test_a_closed_output(classifier: str) -> None:
    one_error(shell('hezar predict "$1" "the dog" >&-', classifier), "no standard output to write to. Give --output FILE")
    assert shell("hezar list tasks >&-").stderr == ""


def test_no_place_to_complain(classifier: str, tmp_path: Path) -> None:
    run = shell('hezar predict "$1" "the dog" 2>&-', classifier)
    assert run.returncode == 0 and run.stdout.count("\n") == 1
    run = shell('hezar predict "$1" "the dog" --set top_k=0 2>&-', classifier)
    assert run.returncode == 2 and run.stdout == ""


@CAN_BE_FULL
@pytest.mark.parametrize("command", ['predict "$1" "the dog"', "list models", "info bert"])
def test_a_full_output(classifier: str, command: str) -> None:
    one_error(shell(f"hezar {command} > /dev/full", classifier), "the output cannot be written: No space left on device")


def test_a_reader_that_leaves(classifier: str, tmp_path: Path) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_text('{"text": "the dog"}\n' * 5000)
    run = shell('hezar predict "$1" --input "$2" | head -1; exit ${PIPESTATUS[0]}', classifier, str(lines))
    assert run.returncode == 141 and run.stdout.count("\n") == 1 and run.stderr == ""


def test_a_home_that_is_not_there(classifier: str) -> None:
    run = shell('unset HOME; hezar predict "$1" "the dog" && hezar cache', classifier, HF_HOME="/nonexistent/x")
    assert run.returncode == 0 and run.stderr == "" and "(none)" in run.stdout


def test_a_locale_without_letters(classifier: str) -> None:
    run = shell("hezar list models && hezar info text_classification", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert run.returncode == 0 and run.stderr == ""


def test_names_of_outputs(classifier: str, tmp_path: Path, fails: Fails) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_text('{"text": "the dog"}\n')
    before = sorted(tmp_path.iterdir())
    (tmp_path / "circle").symlink_to("circle")
    for name in (os.fsdecode(b"out\xff.jsonl"), "x" * 5000, "a\0b", "circle/x", "a:b"):
        assert "no name for a file" in fails("predict", classifier, "--input", str(lines), "--output", str(tmp_path / name))
    (tmp_path / "circle").unlink()
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", ["predict", "info", "pull", "push", "export", "convert"])
def test_names_without_an_end(command: str, fails: Fails, tmp_path: Path) -> None:
    more = {"predict": ["text"], "push": ["me/x"], "export": ["transformers", str(tmp_path / "x")], "convert": [str(tmp_path / "x")]}
    assert len(fails(command, "x" * 100_000, *more.get(command, []))) < 1500
