"""A progress bar that stays away from services and logs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Literal, TypeVar

from ..terminals import is_terminal

T = TypeVar("T")
SECONDS_BEFORE_SHOWN = 2.0


def with_progress(results: Iterable[T], total: object, progress: bool | Literal["auto"]) -> Iterator[T]:
    """Passes results through and counts them on the terminal.

    Args:
        results: The results.
        total: The inputs; their number is shown when it is known.
        progress: True, False, or "auto": only on a terminal, and only when it takes longer than two seconds.
    """
    if progress is False or (progress == "auto" and not is_terminal(sys.stderr)):
        return iter(results)
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # its own bar, which honours its variables

    count = len(total) if isinstance(total, Sized) else None
    delay = 0.0 if progress is True else SECONDS_BEFORE_SHOWN
    bar: Iterator[T] = iter(tqdm(results, total=count, delay=delay, desc="predict"))  # type: ignore[no-untyped-call]
    return bar


@contextmanager
def seconds_bar(progress: bool | Literal["auto"]) -> Iterator[Callable[[float, float], None] | None]:
    """A bar that counts seconds of audio.

    Args:
        progress: As of `with_progress`.

    Yields:
        What is to be told how many more seconds are done, and how many more there are; None where nothing is shown.
    """
    if progress is False or (progress == "auto" and not is_terminal(sys.stderr)):
        yield None
        return
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    delay = 0.0 if progress is True else SECONDS_BEFORE_SHOWN
    with tqdm(total=0, delay=delay, desc="predict", unit="s") as bar:  # type: ignore[no-untyped-call]
        sums = [0.0, 0.0]

        def report(done: float, found: float) -> None:
            sums[0], sums[1] = sums[0] + done, sums[1] + found
            bar.total = round(sums[1])
            bar.update(round(sums[0]) - bar.n)

        yield report
