"""`hezar_like cache`: the models that were downloaded."""

from __future__ import annotations

import argparse
import datetime
import json
from typing import TYPE_CHECKING

from ..errors import HubError
from .parser import UsageError
from .terminal import file_size, say, table

if TYPE_CHECKING:
    from .parser import Commands, Parser

__all__ = ["add"]

ACTIONS = ("list", "verify", "remove", "clean")


def add(commands: Commands[Parser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "cache",
        help="list, check or remove downloaded models",
        description="List the models in the cache of the Hub's client (verify: hash their files and tell which are "
        "broken; remove: delete models; clean: delete what killed downloads left). No command asks the Hub.",
    )
    parser.add_argument("action", metavar="ACTION", nargs="?", choices=ACTIONS, default="list", help=", ".join(ACTIONS))
    parser.add_argument("repos", metavar="REPO", nargs="*", help="which models; for list and verify, default: all")
    parser.add_argument("--json", action="store_true", help="for list: as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Does one of the actions."""
    if args.json and args.action != "list":
        raise UsageError(f"--json goes with list, not with {args.action}.")
    if args.action == "remove" and not args.repos:
        raise UsageError("remove needs the names of models. See: hezar_like cache")
    if args.action == "clean" and args.repos:
        raise UsageError("clean takes no names; it removes what killed downloads of all models left.")
    {"list": _list, "verify": _verify, "remove": _remove, "clean": _clean}[args.action](args)


def _list(args: argparse.Namespace) -> None:
    from ..hub_cache import cached_models

    models = cached_models(args.repos)
    if args.json:
        rows = [{"repo": m.repo_id, "bytes": m.bytes, "commits": m.commits, "used": _time(m.used)} for m in models]
        print(json.dumps(rows, indent=2))
        return
    shown = [(m.repo_id, file_size(m.bytes), m.commits[0][:7] if m.commits else "-", _time(m.used)) for m in models]
    for line in table(shown) or ["  (none)"]:
        say(line)


def _verify(args: argparse.Namespace) -> None:
    from ..hub_cache import broken_files

    checked = broken = 0
    for repo, name, path in broken_files(args.repos):
        checked += 1
        if path is not None:
            broken += 1
            say(f"  broken: {name!r} of {repo} at {str(path)!r}")
    if broken:
        raise HubError(f"{broken} of {checked} files are broken; download them again with: hezar_like pull REPO")
    say(f"{checked} files are as the Hub announced them")


def _remove(args: argparse.Namespace) -> None:
    from ..hub_cache import remove_models

    say(f"removed {', '.join(args.repos)}: {file_size(remove_models(args.repos))}")


def _clean(args: argparse.Namespace) -> None:
    from ..hub_cache import clean_cache

    say(f"removed what killed downloads left: {file_size(clean_cache())}")


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M")
