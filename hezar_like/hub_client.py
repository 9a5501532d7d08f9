"""The Hub's client at arm's length: how it is called, and the patience and the limits that it lacks.

The client tries some requests again and others never, and it waits for some answers without an end. Here every call
is tried again where that can help, and every answer is waited for only so long.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import HubError
from .hub_errors import explain, has_secret, is_transient, origin, redact, seconds_to_wait
from .hub_names import check_token
from .hub_xet import or_by_http
from .terminals import is_terminal

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

__all__ = ["FINAL", "Access", "call", "explained", "fallback_warnings", "limits", "retry"]

Result = TypeVar("Result")

TRIES = 3
FIRST_PAUSE = 0.5
"""Seconds before the second try; doubled for each further one."""
LONGEST_PAUSE = 60.0
"""Seconds; a Hub that wants to be left alone for longer is an error."""
PATIENCE = 20.0
"""Seconds after which a call that failed is not tried again; by then the client has tried enough by itself."""
FINAL = "_hezar_like_final"
"""Attribute of an error after which nothing more is tried."""
UPLOAD_TIMEOUT = "HEZAR_LIKE_UPLOAD_TIMEOUT"
"""Environment variable: seconds to wait for the answer to an upload; 60 when it is not set."""


@dataclass
class Access:
    """How the Hub is reached for one source or push. The token stays out of its repr and its pickle.

    Attributes:
        token: A token, True for the stored one, False for none; the stored one if any when None.
        cache_dir: Another cache folder than that of the client.
        cache_only: Whether no request may be made.
        verify: Whether files that were in the cache before are checked too.
    """

    token: str | bool | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    cache_only: bool = False
    verify: bool = False

    def __post_init__(self) -> None:
        check_token(self.token)

    def client(self) -> HfApi:
        """The client, which looks at a repository again when that failed."""
        import hezar_like

        # The endpoint is read here, and not only when the client is imported, so that a program can set it late.
        return _client_class()(
            endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or None,
            token=self.token,
            library_name="hezar_like",
            library_version=getattr(hezar_like, "__version__", None),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "token": None}


def call(where: str, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Calls the Hub's client, and again where that can help. The one place for what all calls share.

    Args:
        where: What is read or written, for the message.
        function: A function of the client that does no harm when it runs twice.
        *args: Its arguments.
        **options: Its named arguments.

    Raises:
        HubError: For every error of the client, without any token.
    """
    with explained(where):
        return retry(function, *args, **options)


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turns every error of the client into a HubError, without any token."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        message = redact(f"cannot use {where}: {explain(error)}")
        raise HubError(message) from (None if has_secret(error) else error)


def retry(function: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Calls a function of the client, and again, a few times, when what it failed with may pass."""
    started = time.monotonic()
    with limits:
        for attempt in range(1, TRIES + 1):
            try:
                return or_by_http(function, *args, **options)
            except Exception as error:
                pause = seconds_to_wait(error)
                if pause is None:
                    pause = FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
                tired = pause > LONGEST_PAUSE or time.monotonic() - started > PATIENCE or attempt == TRIES
                if tired or getattr(origin(error), FINAL, False) or not is_transient(error):
                    setattr(origin(error), FINAL, True)  # calls of `retry` within others do not multiply
                    raise
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


@functools.cache
def _client_class() -> type[HfApi]:
    from huggingface_hub import HfApi

    class Client(HfApi):
        """Asks again where it matters that the Hub is only away for a moment.

        The client itself would at once fall back to what the cache says of a branch, which may be an older commit.
        """

        def model_info(self, *args: Any, **options: Any) -> ModelInfo:
            return retry(super().model_info, *args, **options)

    return Client


class _Limits:
    """What holds while calls of ours are in progress, in whatever threads the client works.

    A request to which the client gave no time limit gets one, and nothing moves on a stderr that is no terminal.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._lock = threading.Lock()
        self._hid_bars = False

    def __enter__(self) -> None:
        from huggingface_hub import constants, get_session
        from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars

        session = get_session()
        with self._lock:
            self.calls += 1
            hooks = session.event_hooks
            if self.limit not in hooks["request"]:
                session.event_hooks = {**hooks, "request": [*hooks["request"], self.limit]}
            user_says = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None
            if not user_says and not _somebody_watches() and not are_progress_bars_disabled():
                disable_progress_bars()
                self._hid_bars = True

    def __exit__(self, *error: object) -> None:
        from huggingface_hub.utils.tqdm import enable_progress_bars

        with self._lock:
            self.calls -= 1
            if self.calls == 0 and self._hid_bars:
                enable_progress_bars()
                self._hid_bars = False

    def limit(self, request: Any) -> None:
        """A hook that the HTTP session calls before each request."""
        from huggingface_hub import constants

        given = request.extensions.get("timeout") or {}
        if self.calls == 0 or any(value is not None for value in given.values()):
            return
        reading = request.method in ("GET", "HEAD")
        seconds = float(constants.HF_HUB_ETAG_TIMEOUT) if reading else _upload_seconds()
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), seconds)


limits = _Limits()


def _upload_seconds() -> float:
    told = os.environ.get(UPLOAD_TIMEOUT) or "60"
    try:
        seconds = float(told)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise HubError(f"{UPLOAD_TIMEOUT} is {told[:40]!r}; set it to a number of seconds, such as 60, or unset it")
    return seconds


def _somebody_watches() -> bool:
    """Whether this is a terminal or a notebook."""
    return "ipykernel" in sys.modules or is_terminal(sys.stderr)


@contextmanager
def fallback_warnings() -> Iterator[list[str]]:
    """Collects the client's warning that it fell back to its cache, so that the user is warned once, and by us.

    The client tells of the fallback in no other way. If it words this differently some day, its own warning shows.
    """
    found: list[str] = []
    thread = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.thread != thread or "cached commit hash" not in message:
            return True
        found.append(message)
        return False

    client = logging.getLogger("huggingface_hub.hf_api")
    client.addFilter(keep)
    try:
        yield found
    finally:
        client.removeFilter(keep)
