"""Xet, by which the Hub's client moves large files, and plain HTTP where that does not work.

A firewall may let the Hub through and not the storage of Xet, which is elsewhere. The client then knows no other way,
and says so with errors of Python's most general kinds, after minutes.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from .hub_errors import redact

__all__ = ["give_up_xet", "or_by_http"]

logger = logging.getLogger("hezar_like")

Result = TypeVar("Result")

FUNCTIONS = frozenset({"xet_get", "_upload_xet_files"})
"""Those of the client that hand over to Xet; what is raised below them is told apart by nothing else."""


def or_by_http(function: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Calls a function of the Hub's client; when Xet fails in it, once more, without Xet from then on."""
    try:
        return function(*args, **options)
    except Exception as error:
        if not any(frame.name in FUNCTIONS for frame in traceback.extract_tb(error.__traceback__)):
            raise
        give_up_xet(f"{type(error).__name__}: {error}")
    return function(*args, **options)


def give_up_xet(why: str) -> None:
    """Lets this process move all further files by plain HTTP: whatever was in the way of one is so for the others."""
    from huggingface_hub import constants

    if not constants.HF_HUB_DISABLE_XET:
        constants.HF_HUB_DISABLE_XET = True
        told = redact(why)[:300]
        logger.warning("Xet failed (%s); files go by plain HTTP now. Set HF_HUB_DISABLE_XET=1 to never try it", told)
