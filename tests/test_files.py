"""hezar_like.files: names from strangers, and saving that does not lose the old files."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from hezar_like import files
from hezar_like.errors import CheckpointError, HubError
from hezar_like.files import HOST, TEMPORARY_PREFIX, lock, stage
from hezar_like.paths import check_name

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "model.safetensors").write_text("old weights")
    (path / "config.yaml").write_text("old config")
    return path


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


OLD = {"model.safetensors": "old weights", "config.yaml": "old config"}


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name", ["model.safetensors", "preprocessor/tokenizer.json", "a..b", "مدل.json", ".hidden", "a b"]
)
def test_plain_names_pass(name):
    assert check_name(name, "x") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "/etc/passwd",
        "C:\\x",
        "C:x",
        "a\\b",
        "file://x",
        "https://h/x",
        "a\0b",
        "a\x1b[31m",
    ]
    + ["a\n", "a//b", "a/", "./a", "x" * 256, "é" * 128, "\ud800", 5, None],
)
def test_other_names_are_refused_in_one_line(name):
    with pytest.raises(CheckpointError, match="file names must be inside the model folder") as error:
        check_name(name, "'config.yaml' at 'vocab_file'")
    text = str(error.value)
    assert "config.yaml" in text and text.isprintable() and len(text) < 400


# ---------------------------------------------------------------- saving


def test_files_are_put_in_place_in_the_order_asked_for(folder, monkeypatch):
    (folder / "old-1.safetensors").write_text("x")
    steps = []
    replace, unlink = os.replace, Path.unlink
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append(("put", Path(b).name)), replace(a, b)))
    with stage(folder) as staged:
        staged("model.safetensors").write_text("new weights")
        staged("preprocessor/tokenizer.json").write_text("{}")
        staged.remove("old-1.safetensors")
        staged.remove("never-there")
        staged("config.yaml").write_text("new config")
        assert contents(folder).items() >= OLD.items()
        monkeypatch.setattr(
            Path, "unlink", lambda path, **options: (steps.append(("remove", path.name)), unlink(path, **options))
        )
    steps = [step for step in steps if step[1] != ".mode"]
    assert steps == [
        ("put", "model.safetensors"),
        ("put", "tokenizer.json"),
        ("remove", "old-1.safetensors"),
        ("remove", "never-there"),
        ("put", "config.yaml"),
    ]
    new = {"model.safetensors": "new weights", "preprocessor/tokenizer.json": "{}", "config.yaml": "new config"}
    assert contents(folder) == new and sorted(os.listdir(folder)) == [
        "config.yaml",
        "model.safetensors",
        "preprocessor",
    ]


def test_a_saved_name_is_never_removed(folder):
    with stage(folder) as staged:
        staged("config.yaml").write_text("new")
        staged.remove("config.yaml")
    assert contents(folder)["config.yaml"] == "new"


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_files(folder, error):
    with pytest.raises(type(error)), stage(folder) as staged:
        staged("config.yaml").write_text("new")
        staged.remove("model.safetensors")
        raise error
    assert contents(folder) == OLD and len(os.listdir(folder)) == 2


def test_a_full_disk_leaves_the_old_files(folder, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HubError, match="No space left on device") as error, stage(folder) as staged:
        staged("model.safetensors").write_text("new")
    assert str(folder) in str(error.value) and contents(folder) == OLD and len(os.listdir(folder)) == 2


def test_a_file_that_was_not_written(folder):
    with pytest.raises(HubError, match="'config.yaml' was announced"), stage(folder) as staged:
        staged("model.safetensors").write_text("new")
        staged("config.yaml")
    assert contents(folder) == OLD


def test_target_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(HubError, match="a file stands in its way"), stage(target):
            pass


def test_read_only_target(folder, monkeypatch):
    def refuse(**options):
        raise PermissionError(errno.EACCES, "Permission denied", options["dir"])

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(HubError, match="Permission denied.*check the space and the permissions"), stage(folder):
        pass


def test_a_folder_in_place_of_a_file_is_noticed_before_anything_changes(folder):
    (folder / "z.yaml").mkdir()
    with pytest.raises(HubError, match="z.yaml.*is a folder"), stage(folder) as staged:
        staged("model.safetensors").write_text("new")
        staged("z.yaml").write_text("new")
    assert contents(folder) == OLD


def test_links_are_replaced_and_not_written_through(folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (folder / "config.yaml").unlink()
    (folder / "config.yaml").symlink_to(secret)
    with stage(folder) as staged:
        staged("config.yaml").write_text("new")
    assert secret.read_text() == "mine" and not (folder / "config.yaml").is_symlink()
    (tmp_path / "elsewhere").mkdir()
    (folder / "preprocessor").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HubError, match="is a link"), stage(folder) as staged:
        staged("preprocessor/x").write_text("new")
    assert not os.listdir(tmp_path / "elsewhere")


def test_a_linked_target_folder_works(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    with stage(tmp_path / "link") as staged:
        staged("config.yaml").write_text("new")
    assert contents(folder)["config.yaml"] == "new"


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with stage(tmp_path / "deep" / "model") as staged:
            path = staged("model.safetensors")
            path.write_text("x")
            path.chmod(0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "deep" / "model" / "model.safetensors").stat().st_mode) == 0o640


def test_kill_keeps_the_old_files_and_the_next_save_sweeps(folder):
    code = (
        "import os, signal, sys; from pathlib import Path; from hezar_like.files import stage\n"
        "with stage(Path(sys.argv[1])) as staged:\n"
        "    staged('model.safetensors').write_text('new'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT)
    assert run.returncode == -signal.SIGKILL
    assert contents(folder).items() >= OLD.items() and len(os.listdir(folder)) == 3
    with stage(folder) as staged:
        staged("config.yaml").write_text("new")
    assert contents(folder) == {**OLD, "config.yaml": "new"} and len(os.listdir(folder)) == 2


def test_the_sweep_leaves_running_saves_and_other_hosts(folder):
    running = folder / f"{TEMPORARY_PREFIX}{HOST}-{os.getpid()}-abcd"
    foreign = folder / f"{TEMPORARY_PREFIX}elsewhere-999999999-abcd"
    old = folder / f"{TEMPORARY_PREFIX}elsewhere-1-abcd"
    for path in (running, foreign, old):
        path.mkdir()
    os.utime(old, (time.time() - 90_000,) * 2)
    with stage(folder):
        pass
    assert running.is_dir() and foreign.is_dir() and not old.exists()


def test_saves_of_many_threads_do_not_disturb_each_other(folder):
    errors = []

    def save(number):
        try:
            with stage(folder) as staged:
                staged("config.yaml").write_text(str(number) * 1000)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(set(contents(folder)["config.yaml"])) == 1 and len(os.listdir(folder)) == 2


# ---------------------------------------------------------------- locks


def test_who_has_the_lock(folder):
    with (folder / "lock").open("wb") as first, (folder / "lock").open("wb") as second:
        lock(first.fileno(), wait=False)
        with pytest.raises(BlockingIOError):
            lock(second.fileno(), wait=False)
    with (folder / "lock").open("wb") as third:
        lock(third.fileno(), wait=False)


@pytest.mark.parametrize("why", ["Windows", "a file system of a network"])
def test_where_there_are_no_locks(why, folder, monkeypatch):
    def none(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if why == "Windows":
        monkeypatch.setattr(files, "fcntl", None)
    else:
        monkeypatch.setattr(files.fcntl, "flock", none)
    with stage(folder) as staged:
        staged("config.yaml").write_text("new config")
    assert contents(folder) == OLD | {"config.yaml": "new config"}
