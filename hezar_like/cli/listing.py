"""`hezar_like list`: the names that can be used."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from . import hub_listing
from .terminal import say, table

if TYPE_CHECKING:
    from ..registry import Registry
    from .parser import Commands, Parser

__all__ = ["KINDS", "add", "registries"]

KINDS = ("models", "preprocessors", "tasks", "families", "formats", "datasets", "metrics", "embeddings")


def add(commands: Commands[Parser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "list",
        help="list what there is",
        description="List models, preprocessors and the rest by name, or models on the Hub.",
    )
    parser.add_argument(
        "kind", metavar="KIND", nargs="?", choices=KINDS, help=f"{', '.join(KINDS)}; all of them when left out"
    )
    parser.add_argument("--json", action="store_true", help="as JSON: {kind: [{name, description, where}]}")
    hub_listing.add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Prints names and descriptions."""
    hub_listing.check_options(args)
    if args.hub:
        hub_listing.run(args)
        return
    wanted = registries()
    if args.kind is not None:
        wanted = {args.kind: wanted[args.kind]}
    listed = {
        kind: [{"name": e.name, "description": e.description, "where": e.where} for e in registry.values()]
        for kind, registry in wanted.items()
    }
    if args.json:
        print(json.dumps(listed, ensure_ascii=False, indent=2))
        return
    for number, (kind, entries) in enumerate(listed.items()):
        if args.kind is None:
            say() if number else None
            say(f"{kind}:")
        for line in table([(entry["name"], entry["description"]) for entry in entries]) or ["  (none)"]:
            say(line)


def registries() -> dict[str, Registry]:
    """All registries by the kinds of this command."""
    from .. import registry
    from ..formats import formats_registry

    found = (
        registry.models_registry,
        registry.preprocessors_registry,
        registry.tasks_registry,
        registry.families_registry,
        formats_registry,
        registry.datasets_registry,
        registry.metrics_registry,
        registry.embeddings_registry,
    )
    return dict(zip(KINDS, found, strict=True))
