"""Runs what a stranger's file asks for in a forked process that may do next to nothing, and for which time is short."""

from __future__ import annotations

import faulthandler
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hezar_like.errors import HezarLikeError

__all__ = ["SECRET", "Fault", "Outcome", "check_message", "confine", "in_fork"]

SECRET = "the-value-of-a-secret-variable"
"""What the variable FUZZ_SECRET holds; no message may."""
LONGEST_MESSAGE = 6000
NO_MEMORY = ("needs more memory than is free", "Memory ran out for a batch")
"""What the package says then: an error of ours, but not one that a file may lead to."""
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen", "socket.connect", "socket.getaddrinfo")  # fmt: skip
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "shutil.rmtree")


class Fault(Exception):
    """What no file may lead to."""


@dataclass
class Outcome:
    """What came of an action in a forked process.

    Attributes:
        kind: "fine", the class of the error, or "died".
        said: The error's message, or the end of what a process that died wrote.
        seconds: Processor time.
        megabytes: By how much its memory grew.
    """

    kind: str
    said: str
    seconds: float
    megabytes: float


def check_message(text: str) -> None:
    """Raises a `Fault` unless a message is one plain line of bounded length, without the secret and not about memory."""
    if SECRET in text:
        raise Fault("told the secret")
    if not text.isprintable():
        raise Fault("a message that is not one plain line")
    if len(text) > LONGEST_MESSAGE:
        raise Fault("a message without an end")
    if any(words in text for words in NO_MEMORY):
        raise Fault("took all memory there was")


def confine(own: Path, megabytes: int) -> None:
    """Bounds the memory of this process for good, makes warnings errors, and forbids what a file must not lead to.

    Args:
        own: The only folder in which files may be written.
        megabytes: How much more memory it may take.
    """
    warnings.simplefilter("error")
    os.environ["FUZZ_SECRET"] = SECRET
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    allowed = (str(own), "/dev/null")

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FORBIDDEN:
            raise Fault(f"{event} {arguments!r:.100}")
        writes = event in CHANGES or (event == "open" and bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)))
        path = os.fsdecode(arguments[0]) if arguments and isinstance(arguments[0], str | bytes | os.PathLike) else ""
        # What is not absolute is below a folder that is open already.
        if writes and os.path.isabs(path) and not path.startswith(allowed):
            raise Fault(f"{event} {path!r:.100}")

    sys.addaudithook(watch)


def in_fork(action: Callable[[], object], own: Path, *, seconds: float, megabytes: int) -> Outcome:
    """Does something in a forked and confined process.

    Args:
        action: What to do; errors of any class end it.
        own: The only folder in which files may be written.
        seconds: After so much time the process is ended.
        megabytes: How much more memory it may take.
    """
    with tempfile.TemporaryFile() as told:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, for processes with threads
            pid = os.fork()
        if pid == 0:
            _work(action, own, seconds, megabytes, told.fileno())
        os.waitpid(pid, 0)
        told.seek(0)
        lines = told.read().decode(errors="replace").splitlines()
    end = lines[-1].split("\t") if lines else []
    if len(end) != 5 or end[0] != "end":
        return Outcome("died", " | ".join(lines[-5:]), seconds, 0.0)
    return Outcome(end[1], end[2], float(end[3]), float(end[4]))


def _work(action: Callable[[], object], own: Path, seconds: float, megabytes: int, told: int) -> None:
    """The forked process; never returns."""
    try:
        faulthandler.dump_traceback_later(seconds, exit=True, file=told)
        before, start = _peak(), time.process_time()
        confine(own, megabytes)
        try:
            action()
            kind, said = "fine", ""
        except BaseException as error:
            kind, said = type(error).__name__, str(error)
            if isinstance(error, HezarLikeError):
                kind = kind if not _is_bad(said) else "Fault"
            if os.environ.get("SHOW_TRACEBACKS"):
                traceback.print_exc()
        line = "\t".join(
            ("end", kind, repr(said)[1:-1].replace("\t", " "), str(time.process_time() - start), str(_peak() - before))
        )
        os.write(told, line.encode(errors="backslashreplace") + b"\n")
    finally:
        os._exit(0)


def _is_bad(text: str) -> bool:
    try:
        check_message(text)
    except Fault:
        return True
    return False


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
