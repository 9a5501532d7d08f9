"""`hezar_like list --hub`: the models on the Hub."""

from __future__ import annotations

import argparse
import itertools
import json
from typing import TYPE_CHECKING, Any

from .parser import UsageError
from .terminal import say, table

if TYPE_CHECKING:
    from .parser import Parser

__all__ = ["add_options", "check_options", "run"]

LIBRARY = "hezar_like"
DEFAULT_LIMIT = 50
OPTIONS = ("task", "author", "search", "library", "limit")


def add_options(parser: Parser) -> None:
    """Adds what `list` takes for the Hub."""
    group = parser.add_argument_group("models on the Hub")
    group.add_argument("--hub", action="store_true", help="list models on the Hub, the most downloaded first")
    group.add_argument("--task", help="only models for this task; see: hezar_like list tasks")
    group.add_argument("--author", help="only models of this user or organization")
    group.add_argument("--search", metavar="TEXT", help="only models with this in their name")
    group.add_argument("--library", help=f"only models pushed by this library; any for all. Default: {LIBRARY}")
    group.add_argument("--limit", metavar="N", type=int, help=f"at most so many; default: {DEFAULT_LIMIT}")


def check_options(args: argparse.Namespace) -> None:
    """Raises an error for options that do not go together."""
    given = [name for name in OPTIONS if getattr(args, name) is not None]
    if given and not args.hub:
        raise UsageError(f"--{given[0]} goes with --hub, which lists models on the Hub.")
    if args.hub and args.kind not in (None, "models"):
        raise UsageError(f"--hub lists models, not {args.kind}.")
    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit must be at least 1, not {args.limit}.")


def run(args: argparse.Namespace) -> None:
    """Asks the Hub and prints."""
    from ..hub_client import Access, call

    library = args.library or LIBRARY
    options: dict[str, Any] = {"author": args.author, "search": args.search, "limit": args.limit or DEFAULT_LIMIT}
    tags = [] if library == "any" else [library]
    if args.task is not None:
        from ..registry import tasks_registry

        task = tasks_registry[args.task]
        # Our own cards name the task itself; others only know the Hub's names of tasks, which may hold several.
        if library == LIBRARY:
            tags.append(task.name)
        elif task.module_class.pipeline_tag:
            options["pipeline_tag"] = task.module_class.pipeline_tag
        else:
            raise UsageError(f"the Hub has no name for the task {task.name!r}; leave out --task or --library.")
    client = Access().client()

    def ask() -> list[Any]:
        found = client.list_models(filter=tags or None, sort="downloads", **options)
        return list(itertools.islice(found, options["limit"]))

    rows = [
        {"repo": model.id, "task": model.pipeline_tag, "downloads": model.downloads, "private": bool(model.private)}
        for model in call("the list of models", ask)
    ]
    if args.json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    shown = [(row["repo"], row["task"] or "-", f"{row['downloads'] or 0:,} downloads") for row in rows]
    for line in table(shown) or ["  (none)"]:
        say(line)
