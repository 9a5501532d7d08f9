"""Row 54: saves that are killed or run out of space leave the old model or the new one, and the next save no orphan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hezar_like import Model
from hezar_like.errors import CheckpointError, HubError
from hezar_like.files import PENDING, STEPS, located, stage

PROGRAM = Path(__file__).with_name("interrupted_saves.py")
OLD = {"a.txt": "old a", "b.txt": "old b", "c/d.txt": "old d"}


def outcomes(folder: Path, *arguments: str) -> dict[str, int]:
    """What a way of `interrupted_saves.py` found; it ends with an error when a folder was not as it must be."""
    way, *rest = arguments
    run = subprocess.run(
        [sys.executable, str(PROGRAM), way, str(folder), *rest], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found: dict[str, int] = json.loads(run.stdout)
    return found


def test_row_54_killed_at_200_random_moments(tmp_path: Path) -> None:
    found = outcomes(tmp_path / "model", "at_random", "200")
    assert found["old"] + found["new"] == 200
    assert min(found.values()) > 5, "the moments are not spread over the save"


def test_row_54_killed_before_each_request_to_the_system(tmp_path: Path) -> None:
    found = outcomes(tmp_path / "model", "at_each_step")
    assert min(found.values()) > 20


def test_row_54_a_disk_that_fills_at_50_points(tmp_path: Path) -> None:
    found = outcomes(tmp_path / "model", "full_disk", "50")
    assert found["old"] + found["new"] == 50 and found["old"] > 30 and found["new"] > 0
    assert found["orphans"] == 0


def test_row_54_a_disk_that_is_full_at_each_request(tmp_path: Path) -> None:
    found = outcomes(tmp_path / "model", "full_at_each_step")
    assert found["old"] > 20 and found["new"] > 0


# -- what a killed save leaves, file by file --------------------------------------------------------------------------


@pytest.fixture
def half_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a save was cut off after it had moved one file of three to its place."""
    folder = tmp_path / "folder"
    for name, text in OLD.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    class Killed(BaseException):
        pass

    replace = os.replace

    def once(source: Any, target: Any) -> None:
        replace(source, target)
        raise Killed

    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(Killed), stage(folder) as staged:
        staged("a.txt").write_text("new a")
        staged.remove("b.txt")
        staged("c/d.txt").write_text("new d")
        staged("e.txt").write_text("new e")
    monkeypatch.undo()
    return folder


def test_all_new_files_count_at_once(half_saved: Path) -> None:
    def text(name: str) -> str | None:
        path = located(half_saved, name)
        return None if path is None else path.read_text()

    assert [text(name) for name in ("a.txt", "b.txt", "c/d.txt", "e.txt", "f.txt")] == [
        "new a", None, "new d", "new e", None
    ]  # fmt: skip
    assert (half_saved / "b.txt").exists() and not (half_saved / "e.txt").exists()


def test_the_next_save_finishes_it(half_saved: Path) -> None:
    with stage(half_saved) as staged:
        staged("a.txt").write_text("newer a")
    left = {path.relative_to(half_saved).as_posix(): path.read_text() for path in half_saved.rglob("*") if path.is_file()}
    assert left == {"a.txt": "newer a", "c/d.txt": "new d", "e.txt": "new e"}


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ('{"../../secret": false}', CheckpointError), ('{"/etc/passwd": true}', CheckpointError), ("[]", CheckpointError),
        ("{", CheckpointError), ('{"a.txt": 1}', CheckpointError), ("[" * 100_000, CheckpointError),
        ('{"link/x": true}', HubError), ('{"c": false}', HubError),
    ],
)  # fmt: skip
def test_a_strangers_folder_that_looks_like_a_save(
    steps: str, kind: type[Exception], half_saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (half_saved / "link").symlink_to(tmp_path / "elsewhere")
    (half_saved / PENDING / "link").mkdir()
    (half_saved / PENDING / "link" / "x").write_text("theirs")
    (half_saved / PENDING / STEPS).write_text(steps)
    with pytest.raises(kind) as error, stage(half_saved):
        pass
    assert str(error.value).isprintable() and len(str(error.value)) < 1000
    assert (tmp_path / "secret").read_text() == "mine" and list((tmp_path / "elsewhere").iterdir()) == []
    assert (half_saved / "c" / "d.txt").read_text() == "old d"


def test_two_processes_that_save_do_not_mix(folder: Path, tmp_path: Path) -> None:
    """Both save a model of their own again and again; after that the folder has one of them."""
    other = tmp_path / "other"
    Model.load(folder, device="cpu", id2label={0: "x", 1: "y", 2: "z"}).save(other)
    code = "import sys; from hezar_like import Model; m = Model.load(sys.argv[1], device='cpu')\nfor _ in range(20): m.save(sys.argv[2])"
    together = tmp_path / "together"
    runs = [subprocess.Popen([sys.executable, "-c", code, str(source), str(together)]) for source in (folder, other)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    contents = [
        {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for place in (together, folder, other)
    ]
    assert contents[0] in contents[1:] and contents[1] != contents[2]
