"""Errors of the Hub's client: what they mean, in our words, and which of them pass by themselves."""

from __future__ import annotations

import json
import re

__all__ = ["explain", "has_secret", "is_transient", "origin", "redact", "seconds_to_wait", "status_of"]

SECRET = re.compile(r"Bearer\s+\S+|hf_\w+|(?<=://)[^/@\s]+(?=@)|(?<=\?)[^\s?]*(?:[Tt]oken|[Ss]ignature)=[^\s'\"]*")
PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
# What a connection may fail with that would fail again.
LASTING_FAULTS = frozenset({"ProxyError", "UnsupportedProtocol", "LocalProtocolError", "InvalidURL"})
CUT_SHORT = "Consistency check failed"
UNREADABLE = "the answer is not one that the Hub would give; check HF_ENDPOINT and the proxy, and try again"
MEANING_OF_STATUS = {
    401: "the Hub does not know this token; run 'hf auth login', or pass another token=..., or token=False",
    403: "this token may not do that; use one with write access to this repository",
    409: "the Hub is busy with another change of it; try again",
    412: "somebody else changed it meanwhile, and nothing was pushed; look at that change and push again",
    429: "the Hub asks for fewer requests; wait some minutes and try again",
}


def redact(text: str) -> str:
    """Takes tokens, passwords and line breaks out of a text that may come from another program."""
    return SECRET.sub("hf_***", " ".join(text.split()))


def has_secret(error: BaseException) -> bool:
    """Whether an error, or one it came from, must not be shown."""
    chain: BaseException | None = error
    while chain is not None:
        if SECRET.search(str(chain)):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    from huggingface_hub.errors import HfHubHTTPError

    error = origin(error)
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING_STATUS
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return True  # an answer that was damaged on its way
    return _is_of_connection(error) or CUT_SHORT in str(error)


def seconds_to_wait(error: BaseException) -> float | None:
    """What the Hub says of when to come back; None when it says nothing."""
    response = getattr(origin(error), "response", None)
    told = response.headers.get("retry-after", "") if response is not None else ""
    return float(told) if told.isdecimal() else None


def status_of(error: BaseException) -> int | None:
    """The HTTP status the Hub answered with; None when it did not answer."""
    return getattr(getattr(origin(error), "response", None), "status_code", None)


def explain(error: BaseException) -> str:
    """Says what an error of the Hub's client means and what to do."""
    from huggingface_hub import errors

    found = origin(error)
    if isinstance(found, errors.OfflineModeIsEnabled):
        return "the Hub is not used (offline); unset HF_HUB_OFFLINE"
    if isinstance(found, errors.RevisionResolutionError | errors.LocalEntryNotFoundError):
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
        (json.JSONDecodeError, UNREADABLE),
        (UnicodeDecodeError, UNREADABLE),
        (errors.FileMetadataError, UNREADABLE),
    ]
    for kind, sentence in sentences:
        if isinstance(found, kind):
            return sentence
    if isinstance(found, errors.HfHubHTTPError):
        return _explain_status(found.response.status_code, found.server_message or str(found))
    if CUT_SHORT in str(found):
        return "the download was cut short; check the network and try again"
    if _is_of_connection(found) or type(found).__name__ in LASTING_FAULTS:
        return (
            f"the Hub cannot be reached ({type(found).__name__}: {found}); "
            f"check the network, the proxy and HF_ENDPOINT, and try again"
        )
    if isinstance(found, OSError) and found.errno is not None:
        return f"{found.strerror} at {found.filename!r}; check the space and the permissions there, or set HF_HOME"
    return f"{type(found).__name__}: {found}; check the arguments and try again"


def _explain_status(status: int, message: str) -> str:
    if status in MEANING_OF_STATUS:
        return f"{MEANING_OF_STATUS[status]} (HTTP {status})"
    if status >= 500:
        return f"the Hub has trouble of its own (HTTP {status}); try again in a minute"
    return f"the Hub answered HTTP {status}: {message}; check the request"


def origin(error: BaseException) -> BaseException:
    """The error itself; where the client wrapped what kept it from the Hub, or from uploading a file, that."""
    from huggingface_hub import errors

    wrappers = (errors.RevisionResolutionError, errors.LocalEntryNotFoundError, RuntimeError)
    while isinstance(error, wrappers) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_of_connection(error: BaseException) -> bool:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled | HfHubHTTPError):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    # The client's HTTP library is its own choice, so its errors are known by their names.
    names = {kind.__name__ for kind in type(error).__mro__}
    return "TransportError" in names and not names & LASTING_FAULTS
