"""The command line: `hezar_like COMMAND ...`. Nothing here imports torch before a command runs."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from .. import __version__
from ..errors import HezarLikeError
from . import cache, convert, doctor, info, listing, predict, prepare_data, pull, push, train
from .parser import Parser
from .terminal import LoggedWarnings, fold

__all__ = ["main"]

DEBUG = "HEZAR_LIKE_DEBUG"
FAILED, REFUSED, INTERRUPTED, NO_READER = 1, 2, 130, 141
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments without the program's name; default: the process's.

    Returns:
        The exit code: 0; 2 for what the user can mend; 1 for a fault of ours; 130 after Ctrl-C; 141 when whoever read
        the output went away, as the shell says of other programs.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to stop
    with _logged_warnings():
        try:
            args = _parser().parse_args(argv)
            args.run(args)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            _silence_stdout()
            return NO_READER
        except KeyboardInterrupt:
            return INTERRUPTED
        except SystemExit as error:  # from --help and --version
            return error.code if isinstance(error.code, int) else 0
        except HezarLikeError as error:
            return _fail(str(error), REFUSED)
        except OSError as error:
            if error.errno not in FULL:
                return _fault(error)
            _silence_stdout()
            return _fail(f"the output cannot be written: {error.strerror}. Make room, or write elsewhere", REFUSED)
        except Exception as error:
            return _fault(error)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="hezar_like", description="Run, inspect and convert models of any layout.")
    parser.add_argument("--version", action="version", version=f"hezar_like {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for command in (predict, listing, info, convert, push, pull, cache, prepare_data, train, doctor):
        command.add(commands)
    return parser


def _fault(error: Exception) -> int:
    hint = f"This should not happen; set {DEBUG}=1 to see where."
    return _fail(f"unexpected {type(error).__name__}: {str(error).rstrip('. ')}. {hint}", FAILED)


def _fail(message: str, code: int) -> int:
    if os.environ.get(DEBUG, "") not in ("", "0"):
        traceback.print_exc()
    if sys.stderr is not None:  # for print, none is the standard output
        print(f"hezar_like: error: {fold(message)}", file=sys.stderr)
    return code


def _silence_stdout() -> None:
    """Keeps Python from trying once more to write what is left in the buffer, and complaining, when it ends."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, descriptor)
    os.close(devnull)


@contextmanager
def _logged_warnings() -> Iterator[None]:
    logger, handler = logging.getLogger("hezar_like"), LoggedWarnings(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
