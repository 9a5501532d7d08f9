"""`hezar_like convert` and `hezar_like export`: from any layout to ours, and from any layout to another."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..paths import folder_at
from .parser import UsageError, add_source
from .terminal import file_size, say, table

if TYPE_CHECKING:
    from .parser import Commands, Parser

__all__ = ["add"]


def add(commands: Commands[Parser]) -> None:
    """Adds both commands."""
    for name, summary, run in (
        ("convert", "load a model of any layout and save it in the native one", convert),
        ("export", "load a model of any layout and save it so that another system opens it", export),
    ):
        parser = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        add_source(parser, "SOURCE")
        if run is export:
            parser.add_argument("format", metavar="FORMAT", help="such as transformers; see: hezar_like list formats")
        parser.add_argument("folder", metavar="FOLDER", help="where to; made when missing")
        parser.set_defaults(run=run)


def convert(args: argparse.Namespace) -> None:
    """Saves a model natively."""
    folder = _target(args)
    before = _files(folder)
    model = _load(args)
    model.save(folder)
    _report(model, folder, before)


def export(args: argparse.Namespace) -> None:
    """Saves a model in a named format."""
    from ..formats import formats_registry

    folder = _target(args)
    before = _files(folder)
    name = formats_registry[args.format].name  # an unknown one is told before the model is loaded
    model = _load(args)
    model.export(name, folder)
    _report(model, folder, before)


def _target(args: argparse.Namespace) -> Path:
    source, folder = os.path.expanduser(args.source), folder_at(args.folder, "FOLDER")
    if os.path.exists(source) and folder.exists() and folder.samefile(source):
        raise UsageError(f"SOURCE and FOLDER are the same, {args.folder!r}. Give another folder to write to.")
    return folder


def _load(args: argparse.Namespace) -> Any:
    from ..models.model import Model

    return Model.load(args.source, task=args.task, revision=args.revision, device="cpu")


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file in a folder, with what tells that it was written again."""
    stats = {path: path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


def _report(model: Any, folder: Path, before: dict[Path, tuple[int, int]]) -> None:
    written = [path for path, mark in _files(folder).items() if before.get(path) != mark]
    say(f"wrote {model.config.name!r} from {model.source} to {str(folder)!r}:")
    for line in table([(path.relative_to(folder).as_posix(), file_size(path.stat().st_size)) for path in written]):
        say(line)
