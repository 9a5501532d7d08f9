"""argparse with one-line errors that suggest, and with texts that may follow options."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from ..errors import HezarLikeError, did_you_mean

__all__ = ["Commands", "Parser", "UsageError", "add_source", "suggestion"]


class UsageError(HezarLikeError):
    """The arguments of a command are wrong."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are exceptions.

    Attributes:
        rest: The positional argument, if any, that takes what no other does, wherever it stands. argparse itself
            would end it at the first option.
    """

    rest: str | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.rstrip('.')}{'' if message.endswith('?') else '.'} See: {self.prog} --help")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuses what it does not know, so that the command's own parser can say what comes near."""
        given, literal = list(args) if args is not None else None, []
        if given is not None and self.rest is not None and "--" in given:
            literal = given[given.index("--") + 1 :]
            given = given[: given.index("--")]
        result, unknown = super().parse_known_args(given, namespace)
        for word in unknown:
            if word.startswith("-"):
                option = word.partition("=")[0]
                self.error(f"unknown option {option!r}.{suggestion(option, self._option_string_actions)}")
            if self.rest is None:
                self.error(f"unexpected argument {word!r}")
        if self.rest is not None:
            setattr(result, self.rest, [*getattr(result, self.rest), *unknown, *literal])
        return result, []

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = str(action.metavar or action.dest).lower()
            self.error(f"unknown {what} {value!r}.{did_you_mean(value, action.choices)}")


Commands = argparse._SubParsersAction  # argparse has no public name for it


def suggestion(name: str, known: Iterable[str]) -> str:
    """The nearest known names as a sentence that starts with a space; "" when none is near, however many there are."""
    sentence = did_you_mean(name, known, listing=1)
    return sentence if sentence.startswith(" Did") else ""


def add_source(parser: Parser, name: str) -> None:
    """Adds the arguments of every command that reads a model.

    Args:
        parser: The command's.
        name: What the model is called in its help.
    """
    parser.add_argument("source", metavar=name, help="a folder, or a Hub id such as org/name")
    parser.add_argument("--task", help="build this task on the model's backbone instead of the one its files name")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
