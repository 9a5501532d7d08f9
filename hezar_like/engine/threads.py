"""Batches side by side on the cores, each computed by one thread.

Threads that compute one batch together wait for each other after every operation, and for whatever else runs on the
machine: on two cores of which a neighbour has half, several times as long as one thread takes alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

import torch

__all__ = ["spread"]

T = TypeVar("T")


def spread(run: Callable[[T], None], items: Sequence[T], limit: int | None = None) -> None:
    """Runs something for each item, on as many threads as torch uses; each takes the next item when it is done.

    Args:
        run: Called with an item, in inference mode.
        items: In the order in which they are begun.
        limit: The most threads; None for no limit.

    Raises:
        BaseException: What `run` raised first; then no more items are begun.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(items), limit or threads)
    if workers < 2:
        for item in items:
            run(item)
        return
    waiting: SimpleQueue[T] = SimpleQueue()
    for item in items:
        waiting.put(item)
    failed: list[BaseException] = []
    ready = threading.Barrier(workers)

    def work() -> None:
        try:
            torch.set_num_threads(1)  # of this thread, and of those that begin later
            ready.wait()
            with torch.inference_mode():
                while not failed:
                    try:
                        item = waiting.get_nowait()
                    except Empty:
                        return
                    run(item)
        except BaseException as error:
            failed.append(error)

    others = [threading.Thread(target=work, name=f"hezar_like-{number}", daemon=True) for number in range(workers - 1)]
    try:
        for other in others:
            other.start()
        work()
        for other in others:
            other.join()
    except BaseException as error:  # the wait was interrupted, or there are no more threads
        failed.append(error)
        ready.abort()
        raise
    finally:
        torch.set_num_threads(threads)
    if failed:
        raise failed[0]
