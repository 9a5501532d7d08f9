"""What users tell the Hub: ids, revisions, tokens. What it cannot be is an error before anything is asked."""

from __future__ import annotations

import re

from .errors import HubError, OptionError
from .hub_errors import redact
from .paths import shortened

__all__ = ["check_option", "check_repo_id", "check_revision", "check_token"]

REPO_PART = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
LONGEST_REVISION = 255
TOKEN = re.compile(r"[!-~]{1,4096}")


def check_repo_id(name: str) -> None:
    """Raises an error for what cannot be the id of a repository."""
    if not isinstance(name, str):
        raise OptionError(f"the repository is {shortened(name)} ({type(name).__name__}); it must be a text.")
    parts = name.split("/")
    valid = len(parts) <= 2 and len(name) <= 96 and all(REPO_PART.fullmatch(part) for part in parts)
    if not valid or "--" in name or ".." in name or name.endswith(".git"):
        raise HubError(
            f"{redact(shortened(name))} is neither a folder that exists nor a Hub id; a Hub id is 'name' or 'org/name' "
            f"of letters, digits, '-', '_' and '.', not '-' or '.' at its ends, no '--' or '..': check the spelling"
        )


def check_revision(revision: str | None) -> None:
    """Raises an error for what cannot be a branch, a tag or a commit."""
    if revision is None:
        return
    if not isinstance(revision, str):
        raise OptionError(f"revision is {shortened(revision)} ({type(revision).__name__}); it must be a text.")
    if not revision.isprintable() or not revision.strip() or len(revision) > LONGEST_REVISION:
        raise HubError(f"revision {shortened(revision)} is no branch, tag or commit; check it, or leave it out")


def check_token(token: str | bool | None) -> None:
    """Raises an error, without the token, for what cannot be one."""
    if token is not None and not isinstance(token, str | bool):
        raise OptionError(f"token is a {type(token).__name__}; it must be a text, True, False or None.")
    if isinstance(token, str) and not TOKEN.fullmatch(token):
        raise HubError("what was given as token is none: it has no letters, or others than a token has; copy it again")


def check_option(name: str, value: bool) -> None:
    """Raises an error when a switch is not True or False."""
    if not isinstance(value, bool):
        raise OptionError(f"{name} is {shortened(value)}; it must be True or False.")
