"""Saves that are killed or run out of space, in a process of its own that forks; `test_interrupted_saves.py` runs it.

Three models of other sizes, in one file and in shards of the same names, are saved over each other in one folder.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from tiny_models import tiny_model

from hezar_like import Model
from hezar_like.errors import HubError
from hezar_like.formats.weights import save_weights

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 0, "num_labels": 3}
SHARDED = {"max_shard_bytes": 9000, "metadata": None}
# What a save asks the system for, beside writing into files that are open.
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod")
NEVER = 10**9

MODELS = [
    tiny_model("bert_text_classification", **SIZES),
    tiny_model("bert_text_classification", **SIZES | {"hidden_size": 12}),
    tiny_model("bert_text_classification", **SIZES | {"id2label": {0: "x", 1: "y", 2: "z"}}),
]


def save(number: int, folder: Path) -> None:
    """The first model is saved in one file, the others in shards."""
    with mock.patch.dict(save_weights.__kwdefaults__, SHARDED if number else {}):
        MODELS[number].save(folder)


def loaded(folder: Path) -> int:
    """Which model a folder has: exactly one of them, with all its parts."""
    model = Model.load(folder, device="cpu")
    state = model.state_dict()
    for number, other in enumerate(MODELS):
        own = other.state_dict()
        same = all(state[name].shape == own[name].shape and torch.equal(state[name], own[name]) for name in own)
        if model.config == other.config and same and model.preprocessor.tokenizer is not None:
            return number
    raise AssertionError("a model that nobody saved")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def interrupted(folder: Path, kill: Callable[[int, int], None], turns: int, chance: random.Random) -> dict[str, Any]:
    """Saves again and again, each time interrupted, and looks after each what is there.

    Args:
        folder: Where to.
        kill: Runs one save of a model's number that is interrupted, at the turn's point.
        turns: How many.
        chance: Chooses the models.

    Returns:
        How often the old and the new model was there, and how many saves had left something to clear up.
    """
    expected = []
    for number in range(len(MODELS)):
        save(number, folder)
        assert loaded(folder) == number
        expected.append(files(folder))
    old, outcomes = len(MODELS) - 1, Counter()
    for turn in range(turns):
        new = chance.choice([number for number in range(len(MODELS)) if number != old])
        kill(turn, new)
        there = loaded(folder)
        assert there in (old, new), (turn, old, new, there)
        outcomes["old" if there == old else "new"] += 1
        outcomes["orphans"] += files(folder) != expected[there]
        old = chance.randrange(len(MODELS))
        save(old, folder)
        assert files(folder) == expected[old], (turn, files(folder) ^ expected[old])
        assert turn % 10 or loaded(folder) == old
    return dict(outcomes)


def in_fork(action: Callable[[], None]) -> int:
    """Starts a process that does something and ends; gives its id."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    return pid


def at_random(folder: Path, turns: int) -> dict[str, Any]:
    """Kills a save at a random moment of the time that it takes."""
    chance = random.Random(0)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        os.waitpid(in_fork(lambda: save(1, folder)), 0)
        times.append(time.perf_counter() - start)
    longest = sorted(times)[2]

    def kill(turn: int, number: int) -> None:
        pid = in_fork(lambda: save(number, folder))
        time.sleep(chance.uniform(0, 1.1) * longest)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    return interrupted(folder, kill, turns, chance)


def at_each_step(folder: Path) -> dict[str, Any]:
    """Kills a save before each single request to the system."""

    def kill(turn: int, number: int) -> None:
        def action() -> None:
            on_event(turn, lambda event: os.kill(os.getpid(), signal.SIGKILL))
            save(number, folder)

        os.waitpid(in_fork(action), 0)

    return interrupted(folder, kill, steps(folder), random.Random(1))


def steps(folder: Path) -> int:
    """The most requests to the system of any save."""
    counts = []
    for number in range(len(MODELS)):
        reading, writing = os.pipe()

        def action(number: int = number, writing: int = writing) -> None:
            count = on_event(NEVER, lambda event: None)
            save(number, folder)
            os.write(writing, str(count()).encode())

        os.waitpid(in_fork(action), 0)
        os.close(writing)
        counts.append(int(os.read(reading, 100)))
        os.close(reading)
    return max(counts)


def on_event(number: int, action: Callable[[str], None]) -> Callable[[], int]:
    """Does something at the given request to the system, for the rest of this process; gives their count."""
    count = 0

    def hook(event: str, arguments: Any) -> None:
        nonlocal count
        if event in EVENTS:
            count += 1
            if count == number + 1:
                action(event)

    sys.addaudithook(hook)
    return lambda: count


@contextlib.contextmanager
def room(left: int) -> Iterator[None]:
    """A disk with so many bytes left: what is written beyond them is an error, after the part that still fits."""
    opened = io.open

    def limited(*arguments: Any, **options: Any) -> Any:
        file = opened(*arguments, **options)
        if file.writable():
            inner = file.buffer if isinstance(file, io.TextIOWrapper) else file

            def write(data: Any) -> int:
                nonlocal left
                content = data.encode() if isinstance(data, str) else bytes(data)
                inner.write(content[: max(left, 0)])
                left -= len(content)
                if left < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return len(data)

            return Proxy(file, write)
        return file

    with mock.patch("io.open", limited), mock.patch("builtins.open", limited):
        yield


class Proxy:
    """A file with another way to write."""

    def __init__(self, file: Any, write: Any) -> None:
        self.file, self.write = file, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Any:
        self.file.__enter__()
        return self

    def __exit__(self, *arguments: Any) -> Any:
        return self.file.__exit__(*arguments)


def refused(folder: Path, number: int) -> None:
    """A save without space either works or says so, in one line with the folder's name."""
    try:
        save(number, folder)
    except HubError as error:
        text = str(error)
        assert str(folder) in text and "No space left on device" in text and text.isprintable(), text


def full_disk(folder: Path, turns: int) -> dict[str, Any]:
    """A disk on which so many bytes fit: none, and up to more than a save needs."""
    save(1, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    def kill(turn: int, number: int) -> None:
        with room(turn * size * 5 // 4 // turns):
            refused(folder, number)

    return interrupted(folder, kill, turns, random.Random(2))


def full_at_each_step(folder: Path) -> dict[str, Any]:
    """A disk that is full when a file or folder is made, moved or removed, for each of these."""

    def fail(event: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def kill(turn: int, number: int) -> None:
        def action() -> None:
            on_event(turn, fail)
            refused(folder, number)
            os.kill(os.getpid(), signal.SIGTERM)  # to be told from an assertion that failed

        _, status = os.waitpid(in_fork(action), 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM, "not refused as it should be"

    return interrupted(folder, kill, steps(folder), random.Random(3))


def real_disk(folder: Path, turns: int) -> dict[str, Any]:
    """A folder on a small file system of its own, such as a tmpfs of 200 kB, that another file fills ever more."""

    def kill(turn: int, number: int) -> None:
        ballast = folder.parent / "ballast"
        space = os.statvfs(folder)
        ballast.write_bytes(b"\0" * max(space.f_bavail * space.f_frsize - turn * 4096, 0))
        try:
            refused(folder, number)
        finally:
            ballast.unlink()

    return interrupted(folder, kill, turns, random.Random(4))


if __name__ == "__main__":
    kind, place, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    ways = {way.__name__: way for way in (at_random, at_each_step, full_disk, full_at_each_step, real_disk)}
    print(json.dumps(ways[kind](Path(place), *map(int, rest))))
