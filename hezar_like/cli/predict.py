"""`hezar_like predict`: texts in, one result for each out."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .parser import UsageError, add_source
from .records import Record, open_records, same_file
from .results import open_results

if TYPE_CHECKING:
    from ..models.model import Model
    from .parser import Commands, Parser

__all__ = ["add"]


def add(commands: Commands[Parser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "predict",
        help="run a model on texts",
        description="Run a model on texts, from the arguments, a file, or a pipe. Prints JSON lines; on a terminal, "
        "text for people.",
    )
    add_source(parser, "MODEL")
    parser.rest = "texts"
    parser.add_argument(
        "texts", metavar="TEXT", nargs="*", default=[], help="a text; put -- before one that begins with -"
    )
    parser.add_argument("--input", metavar="FILE", help="read texts from a file; - for standard input")
    parser.add_argument(
        "--input-format",
        metavar="FORMAT",
        choices=("jsonl", "txt"),
        help="jsonl: a line is a JSON string or an object with text and maybe text_pair or choices; all of it is "
        "repeated in the output. txt: a line is a text. Default: by the file's name; txt for standard input",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write JSON lines to this file, which appears when complete; - for standard output",
    )
    parser.add_argument("--device", help="where to run, such as cpu or cuda:0; default: the accelerator if any")
    parser.add_argument("--dtype", help="type of the weights, such as bfloat16; default: the files'")
    parser.add_argument(
        "--batch-size", metavar="N", type=_batch_size, default="auto", help="most texts at once; auto: by their length"
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="options of the model's predict, as in --set top_k=3 aggregate=entity; values are read as YAML",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Predicts. What is wrong with the arguments or the files is told before the model is loaded."""
    options = _options(args.set)
    output = None if args.output == "-" else args.output
    if output is not None and args.input is not None and same_file(args.input, output):
        raise UsageError(f"--output is the same file as --input, {args.output!r}. Give another name")
    with (
        open_records(args.texts, args.input, args.input_format) as records,
        open_results(output) as write,
    ):
        from ..engine.progress import with_progress

        model = _load(args, options)
        results = _predict(model, records, options | {"batch_size": args.batch_size})
        on_screen = output is None and sys.stdout.isatty()
        for record, result in with_progress(results, args.texts or None, False if on_screen else "auto"):
            write(record, result)


def _predict(model: Model, records: Iterator[Record], options: dict[str, Any]) -> Iterator[tuple[Record, Any]]:
    """Each record with its result. Only those records are held that the model has taken and not answered."""
    from ..engine import prediction

    pending: deque[Record] = deque()
    answered = 0

    def inputs() -> Iterator[Any]:
        for record in records:
            pending.append(record)
            yield record.model_input

    try:
        batch_size = options.pop("batch_size")
        for result in prediction.stream(model, inputs(), batch_size, None, True, True, options):
            yield pending.popleft(), result
            answered += 1
    except InputError as error:
        if error.index is None or not 0 <= error.index - answered < len(pending):
            raise
        raise InputError(f"{pending[error.index - answered].where}: {error.args[0]}") from None


def _load(args: argparse.Namespace, options: dict[str, Any]) -> Model:
    from ..models.model import Model

    own = inspect.signature(Model.stream).parameters
    for key in options:
        if key in own and own[key].kind is not inspect.Parameter.VAR_KEYWORD:
            flag = f"--{key.replace('_', '-')}"
            hint = f"Use {flag}" if hasattr(args, key) else "The command decides it"
            raise UsageError(f"--set cannot set {key!r}. {hint}")
    return Model.load(args.source, task=args.task, revision=args.revision, device=args.device, dtype=args.dtype)


def _options(pairs: list[str]) -> dict[str, Any]:
    """Plain data from `key=value`; nothing in it is looked up or run."""
    from ..text_files import parse_yaml

    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"--set takes KEY=VALUE, not {pair!r}. Put texts before --set, or after --")
        if key in options:
            raise UsageError(f"--set gives {key!r} twice. Remove one")
        read = parse_yaml(f"value: {value}", f"--set {key}")
        if read.keys() != {"value"}:
            raise UsageError(f"--set {key}: a value must be on one line")
        options[key] = read["value"]
    return options


def _batch_size(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no batch size; it must be a positive integer or auto")
    return int(text)
