"""`hezar_like predict`: texts in, one result for each out."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from ..terminals import is_terminal
from .job import Job, predict
from .parser import UsageError, add_source
from .parts import LINES_PER_PART, predict_in_parts
from .records import open_records, same_file
from .results import open_results

if TYPE_CHECKING:
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
        help="write JSON lines to this file, which appears when complete; - for standard output. With --input FILE, "
        "what is done is kept beside it in FILE.parts until then, and the same command goes on after it was stopped",
    )
    parser.add_argument("--device", help="where to run, such as cpu or cuda:0; default: the accelerator if any")
    parser.add_argument(
        "--dtype",
        help="type of the weights, such as bfloat16; auto: the fastest of the device; default: the files'",
    )
    parser.add_argument(
        "--quantize",
        choices=("int8", "int4"),
        metavar="KIND",
        help="int8, int4: a model that writes multiplies with weights rounded to so many bits, on a CPU; default: not",
    )
    parser.add_argument(
        "--engine",
        choices=("ray",),
        metavar="ENGINE",
        help="ray: spread the parts of the input over workers of Ray, on this machine or on the cluster that "
        "RAY_ADDRESS names; default: this process",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=_positive,
        help="how many workers of Ray load the model; default: one for each GPU, or without any one for each machine",
    )
    parser.add_argument(
        "--lines-per-part",
        metavar="N",
        type=_positive,
        help=f"how many lines are done at once, and once more after a kill; default: {LINES_PER_PART}",
    )
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
    job = Job(
        source=args.source,
        task=args.task,
        revision=args.revision,
        device=args.device,
        dtype=args.dtype,
        quantize=args.quantize,
        batch_size=args.batch_size,
        options=_options(args.set),
    )
    output = None if args.output == "-" else args.output
    if output is not None and args.input is not None and same_file(args.input, output):
        raise UsageError(f"--output is the same file as --input, {args.output!r}. Give another name")
    if args.workers is not None and args.engine is None:
        raise UsageError("--workers are those of --engine ray. Give both, or neither")
    if output is not None and not args.texts and _can_be_read_again(args.input):
        predict_in_parts(
            job,
            args.input,
            args.input_format,
            output,
            lines_per_part=args.lines_per_part or LINES_PER_PART,
            on_ray=args.engine == "ray",
            workers=args.workers,
        )
        return
    for flag, value in (("--engine", args.engine), ("--lines-per-part", args.lines_per_part)):
        if value is not None:
            raise UsageError(f"{flag} needs files: give --input FILE and --output FILE, and no texts")
    _predict_at_once(job, args, output)


def _can_be_read_again(path: str | None) -> bool:
    """Whether an input is a file and no pipe; one that is missing will be said to be."""
    return path not in (None, "-") and (os.path.isfile(path) or not os.path.exists(path))


def _predict_at_once(job: Job, args: argparse.Namespace, output: str | None) -> None:
    """Predicts what can be read only once, or is shown as it comes."""
    with (
        open_records(args.texts, args.input, args.input_format) as records,
        open_results(output) as write,
    ):
        from ..engine.progress import with_progress

        job.check()
        on_screen = output is None and is_terminal(sys.stdout)
        results = predict(job.load(), records, job)
        for record, result in with_progress(results, args.texts or None, False if on_screen else "auto"):
            write(record, result)


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
    return text if text == "auto" else _positive(text, " or auto")


def _positive(text: str, others: str = "") -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a positive integer{others}")
    return int(text)
