"""The Hub's client at arm's length: its errors and its warning, said in our words."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from .errors import HubError

__all__ = ["call", "fallback_warnings", "redact"]

Result = TypeVar("Result")

TOKEN_PATTERN = re.compile(r"Bearer\s+\S+|hf_\w+")


def redact(text: str) -> str:
    """Takes tokens and line breaks out of a text that may come from another program."""
    return TOKEN_PATTERN.sub("hf_***", " ".join(text.split()))


def call(where: str, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Calls the Hub's client. The one place for what all calls share.

    Args:
        where: What is read or written, for the message.
        function: A function of the client.
        *args: Its arguments.
        **options: Its named arguments.

    Raises:
        HubError: For every error of the client, without any token.
    """
    try:
        return function(*args, **options)
    except HubError:
        raise
    except Exception as error:
        text = str(error)
        # A traceback prints the cause as well, and with it any token in its text.
        cause = error if TOKEN_PATTERN.search(text) is None else None
        raise HubError(redact(f"cannot use {where}: {_explain(error)}")) from cause


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


def _explain(error: BaseException) -> str:
    """Says what an error of the Hub's client means and what to do."""
    from huggingface_hub import errors

    # The client wraps what kept it from the Hub in one of these; without a cause it was told not to try.
    wrapped = isinstance(error, (errors.RevisionResolutionError, errors.LocalEntryNotFoundError))
    if wrapped and error.__cause__ is not None:
        return _explain(error.__cause__)
    if wrapped or isinstance(error, errors.OfflineModeIsEnabled):
        return (
            "it is not in the cache, and the Hub is not used (offline); "
            "load it once with HF_HUB_OFFLINE unset and local_files_only=False"
        )
    sentences: list[tuple[type[Exception], str]] = [
        (errors.GatedRepoError, "it is gated; accept its conditions on the Hub and pass that account's token=..."),
        (
            errors.RepositoryNotFoundError,
            "on the Hub it does not exist, or it is private; "
            "check the spelling (a folder must exist), or pass the token=... of an account that may use it",
        ),
        (errors.DisabledRepoError, "the Hub has disabled access to it; use another model"),
        (errors.RevisionNotFoundError, "it has no such branch, tag or commit; check revision=... or leave it out"),
        (errors.RemoteEntryNotFoundError, "the Hub has no such file; check its name"),
        (errors.LocalTokenNotFoundError, "no token is stored here; run 'hf auth login' or pass token=..."),
    ]
    for kind, sentence in sentences:
        if isinstance(error, kind):
            return sentence
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(error.response.status_code, error.server_message or str(error))
    if isinstance(error, (ConnectionError, TimeoutError)) or type(error).__module__.startswith("httpx"):
        return (
            f"the Hub cannot be reached ({type(error).__name__}: {error}); "
            f"check the network, the proxy and HF_ENDPOINT, and try again"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.strerror} at {error.filename!r}; check the space and the permissions there, or set HF_HOME"
    return f"{type(error).__name__}: {error}; check the arguments and try again"


def _explain_status(status: int, message: str) -> str:
    known = {
        401: "the Hub does not know this token; run 'hf auth login', or pass another token=..., or token=False",
        403: "this token may not do that; use one with write access to this repository",
        409: "the Hub is busy with another change of it; try again",
        412: "somebody else changed it meanwhile, and nothing was pushed; look at that change and push again",
        429: "the Hub asks for fewer requests; wait some minutes and try again",
    }
    if status in known:
        return f"{known[status]} (HTTP {status})"
    if status >= 500:
        return f"the Hub has trouble of its own (HTTP {status}); try again in a minute"
    return f"the Hub answered HTTP {status}: {message}; check the request"
