"""Work spread over threads: all of it is done, and nothing stays behind when it ends early."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from hezar_like.engine.threads import spread


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def begun() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("hezar_like-")]


def test_each_item_once_without_gradients() -> None:
    done: list[tuple[int, bool]] = []
    spread(lambda item: done.append((item, torch.is_inference_mode_enabled())), range(50))
    with torch.inference_mode():
        spread(lambda item: done.append((item, torch.is_inference_mode_enabled())), [50], limit=3)
    assert sorted(done) == [(item, True) for item in range(51)]


def test_the_limit() -> None:
    names = set()
    spread(lambda _: names.add(threading.current_thread().name), range(20), limit=1)
    assert names == {threading.current_thread().name}


def test_the_first_error_ends_it() -> None:
    done = []

    def run(item: int) -> None:
        done.append(item)
        if item == 5:
            raise ValueError("five")

    with pytest.raises(ValueError, match="five"):
        spread(run, range(10_000))
    assert len(done) < 10_000


def test_an_interruption_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    done, going_on = [], threading.Event()

    def run(item: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            going_on.wait()
        done.append(item)

    join = threading.Thread.join

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        spread(run, range(5))
    monkeypatch.setattr(threading.Thread, "join", join)
    going_on.set()
    for thread in begun():
        thread.join()
    assert sorted(done) == list(range(5))


def test_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name == "hezar_like-1":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(RuntimeError, match="new thread"):
        spread(lambda _: None, range(5))
    for thread in begun():
        thread.join(10)
    assert not begun()
