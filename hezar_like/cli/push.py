"""`hezar_like push`: a model of any layout to the Hub."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .parser import UsageError, add_source
from .terminal import say

if TYPE_CHECKING:
    from .parser import Commands, Parser

__all__ = ["add"]


def add(commands: Commands[Parser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "push",
        help="upload a model to the Hub",
        description="Load a model of any layout and upload it in the native one, in one commit, with a model card. "
        "What is there already is not sent again. The token is that of 'hf auth login', or of HF_TOKEN.",
    )
    add_source(parser, "MODEL")
    parser.add_argument("repo", metavar="REPO", help="where to, such as me/my-model; made when missing")
    parser.add_argument("--branch", help="the branch to commit to; made when missing. Default: the repository's")
    parser.add_argument("--pull-request", action="store_true", help="open a pull request instead of committing")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--message", help="the title of the commit; default: Upload <name of the model>")
    card = parser.add_argument_group("for the model card")
    card.add_argument("--language", metavar="CODE", action="append", help="such as fa; may be given again")
    card.add_argument("--license", metavar="NAME", help="the Hub's name of it, such as apache-2.0")
    card.add_argument(
        "--base-model", metavar="REPO", help="what it was made from; default: MODEL, when on the Hub; '' for nothing"
    )
    card.add_argument("--dataset", metavar="REPO", action="append", help="what it was trained on; may be given again")
    card.add_argument(
        "--metric", metavar="NAME=NUMBER", nargs="+", action="extend", type=_metric, help="such as f1=0.9"
    )
    card.add_argument("--description", metavar="TEXT", help="what stands at the top of a new card")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Loads, uploads, and prints the address."""
    from ..models.model import Model

    told: dict[str, Any] = {
        "language": args.language,
        "license": args.license,
        "base_model": args.base_model,
        "datasets": args.dataset,
        "metrics": dict(args.metric or ()),
        "description": args.description,
    }
    model = Model.load(args.source, task=args.task, revision=args.revision, device="cpu")
    address = model.push_to_hub(
        args.repo,
        commit_message=args.message,
        private=args.private or None,
        revision=args.branch,
        create_pr=args.pull_request,
        card={key: value for key, value in told.items() if value is not None},
    )
    say(address)


def _metric(text: str) -> tuple[str, float]:
    name, equals, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        equals = ""
    if not name or not equals:
        raise UsageError(f"--metric takes NAME=NUMBER, such as accuracy=0.93, not {text!r}.")
    return name, value
