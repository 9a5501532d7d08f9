"""Ctrl-C, and the signal with which schedulers of clusters end a process, after the step that is being done."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

__all__ = ["SIGNALS", "Interruption"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While it is entered, the first such signal is only noted; the second one interrupts at once.

    Attributes:
        noted: The signal that came.
    """

    def __init__(self) -> None:
        self.noted: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop(self) -> None:
        """Ends what was interrupted, as the signal would have done."""
        if self.noted == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted is not None:
            raise KeyboardInterrupt
        self.noted = number
