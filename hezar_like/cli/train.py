"""`hezar_like train`: a training as a YAML file says."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .terminal import say, table

if TYPE_CHECKING:
    from .parser import Commands, Parser

__all__ = ["add"]


def add(commands: Commands[Parser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "train",
        help="train a model",
        description="Train as a YAML file says: which model, which data, and the settings of the Trainer. Ctrl-C saves "
        "a checkpoint. With several processes: torchrun --nproc-per-node 2 -m hezar_like train FILE ...",
    )
    parser.rest = "overrides"
    parser.add_argument("recipe", metavar="FILE", help="the YAML file")
    parser.add_argument(
        "overrides", metavar="KEY=VALUE", nargs="*", default=[], help="values that win, as trainer.num_epochs=3"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint, if there is one")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Trains, saves, and prints the last values."""
    from ..training.recipes import read_recipe, trainer_of

    trainer = trainer_of(read_recipe(args.recipe, args.overrides))
    state = trainer.train(resume_from_checkpoint=True if args.resume else None)
    folder = trainer.save()
    if trainer.is_first:
        say(f"{state.global_step} steps, {state.tokens:,} tokens, saved to {folder}")
        for line in table([(key, f"{value:.4f}") for key, value in trainer.last_values.items()] or [("", "")]):
            say(line)
