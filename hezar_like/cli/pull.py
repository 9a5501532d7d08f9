"""`hezar_like pull`: a model from the Hub, into the cache or a folder."""

from __future__ import annotations

import argparse
import os
import shutil
from typing import TYPE_CHECKING

from ..paths import folder_at
from .parser import UsageError
from .terminal import file_size, say, table

if TYPE_CHECKING:
    from .parser import Commands, Parser

__all__ = ["add"]


def add(commands: Commands[Parser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "pull",
        help="download a model from the Hub",
        description="Download the files of a model that are needed to load it, into the cache, where it loads without "
        "the Hub from then on, or into a folder, as they are. Every file is checked against the hash that the Hub "
        "tells, also those that were in the cache.",
    )
    parser.add_argument("source", metavar="REPO", help="its name on the Hub, such as org/name")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", help="where to; must be empty, made when missing")
    parser.add_argument("--task", help="the files for this task instead of the one that the model's files name")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Downloads, and prints what and where."""
    from .. import files
    from ..models.model import Model

    if os.path.exists(os.path.expanduser(args.source)):
        raise UsageError(f"{args.source!r} is on this computer already. Give the name of a repository on the Hub.")
    folder = None if args.folder is None else folder_at(args.folder, "FOLDER")
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{args.folder!r} is not an empty folder. Give another one.")
    source = Model.load(args.source, task=args.task, revision=args.revision, device="cpu", verify=True).source
    assert source is not None
    found = dict(reversed(source.found.items()))  # the config, which was found first, is written last
    if folder is not None:
        with files.stage(folder) as staged:
            for name, path in found.items():
                shutil.copyfile(path, staged(name))
    say(f"{source.repo_id}@{source.commit} to {'the cache' if folder is None else repr(str(folder))}:")
    for line in table([(name, file_size(path.stat().st_size)) for name, path in sorted(found.items())]):
        say(line)
