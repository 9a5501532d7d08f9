"""The examples of training run, and learn what they say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from test_ranks import torchrun

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*train_*.py")), ids=lambda path: path.stem)
def test_it_learns(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runpy.run_path(str(path))["main"]() == 0, capsys.readouterr().out


def test_two_processes_learn_what_one_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = EXAMPLES / "pretrain_gpt2.py"
    assert runpy.run_path(str(script))["main"]([str(tmp_path / "one")]) == 0
    one = capsys.readouterr().out.splitlines()
    done = torchrun(2, str(script), str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr[-3000:]
    two = done.stdout.splitlines()
    assert one[0] == two[0] == "240 documents, 4760 tokens"
    losses = [[float(word.rstrip(",")) for word in lines[1].split() if "." in word] for lines in (one, two)]
    assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-5)
    assert losses[0][1] == pytest.approx(losses[1][1], abs=1e-4)  # rounding of 60 steps
    assert one[2] == two[2]
