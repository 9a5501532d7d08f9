"""`hezar_like prepare-data`: from raw text to a token store."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..terminals import is_terminal
from .terminal import file_size, say, table

if TYPE_CHECKING:
    from .parser import Commands, Parser

__all__ = ["add"]


def add(commands: Commands[Parser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "prepare-data",
        help="tokenize raw text for pre-training",
        description="Tokenize raw text, a document per line, with every core, into the .bin and .idx files that "
        "ModelCenter and Megatron read. Cut off, it goes on where it was when it is called again.",
    )
    parser.rest = "inputs"
    parser.add_argument(
        "inputs", metavar="FILE", nargs="*", default=[], help="a text file, or .jsonl; names may have * and ?"
    )
    parser.add_argument(
        "--tokenizer", metavar="NAME", required=True, help="a tokenizer.json, or a model's folder or Hub id"
    )
    parser.add_argument("--output", metavar="PREFIX", required=True, help="what the names of both files begin with")
    parser.add_argument(
        "--end-token", metavar="TOKEN", default="auto", help="after each document; default: eos if any; none for none"
    )
    parser.add_argument("--length", metavar="N", type=_count, help="cut documents into sequences of N tokens")
    parser.add_argument(
        "--min-length", metavar="N", type=_count, default=1, help="leave out sequences of fewer tokens; default: 1"
    )
    parser.add_argument("--newline", metavar="TEXT", default="<n>", help="what stands for a newline; default: <n>")
    parser.add_argument("--text-key", metavar="KEY", default="text", help="where .jsonl has the text; default: text")
    parser.add_argument("--dtype", default="auto", help="uint16, int32, ...; default: by the vocabulary")
    parser.add_argument("--processes", metavar="N", type=_count, help="default: the number of cores")
    parser.add_argument("--overwrite", action="store_true", help="replace an older store of that name")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Tokenizes, and says what became of the lines."""
    from ..data.preparation import prepare_data
    from ..data.store_format import store_paths

    with _progress() as report:
        counts = prepare_data(
            args.inputs,
            args.tokenizer,
            args.output,
            end_token=None if args.end_token == "none" else args.end_token,
            length=args.length,
            min_length=args.min_length,
            newline=args.newline,
            text_key=args.text_key,
            dtype=args.dtype,
            processes=args.processes,
            overwrite=args.overwrite,
            report=report,
        )
    say(f"{counts.lines:,} lines: {counts.documents:,} documents, {counts.empty:,} empty, {counts.short:,} too short")
    say(f"{counts.sequences:,} sequences, {counts.tokens:,} tokens, {counts.dropped_tokens:,} tokens left out")
    for line in table([(str(path), file_size(path.stat().st_size)) for path in store_paths(args.output)]):
        say(line)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar that counts bytes, on a terminal."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    with tqdm(total=None, desc="prepare-data", unit="B", unit_scale=True) as bar:  # type: ignore[no-untyped-call]

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive integer")
    return int(text)
