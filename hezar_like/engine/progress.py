"""A progress bar that stays away from services and logs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import Literal, TypeVar

T = TypeVar("T")
SECONDS_BEFORE_SHOWN = 2.0


def with_progress(results: Iterable[T], total: object, progress: bool | Literal["auto"]) -> Iterator[T]:
    """Passes results through and counts them on the terminal.

    Args:
        results: The results.
        total: The inputs; their number is shown when it is known.
        progress: True, False, or "auto": only on a terminal, and only when it takes longer than two seconds.
    """
    if progress is False or (progress == "auto" and not sys.stderr.isatty()):
        return iter(results)
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # its own bar, which honours its variables

    count = len(total) if isinstance(total, Sized) else None
    delay = 0.0 if progress is True else SECONDS_BEFORE_SHOWN
    bar: Iterator[T] = iter(tqdm(results, total=count, delay=delay, desc="predict"))  # type: ignore[no-untyped-call]
    return bar
