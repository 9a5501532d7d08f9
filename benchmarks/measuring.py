"""Engines beside each other: each in a process of its own with one thread, run in turn, in CPU seconds."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1").partition(",")[0])
"""What an engine may use."""
LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
ONE_THREAD = dict.fromkeys(LIMITS, "1")
BUSY = "while True: pass"

Actions = Mapping[str, Callable[[], Any]]
"""What an engine can do, by the name of the case."""


class Run(NamedTuple):
    """What an action took, and what came of it."""

    seconds: float
    value: Any


def timed(action: Callable[[], Any]) -> Run:
    """Runs an action; the seconds are the CPU's for this process, or with several threads those that pass."""
    clock = time.process_time if THREADS == 1 else time.perf_counter
    start = clock()
    value = action()
    return Run(clock() - start, value)


def median(runs: Sequence[Run]) -> float:
    """The median of the seconds."""
    return statistics.median(run.seconds for run in runs)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> str:
    """The median of the ratios within each round, with the lowest and the highest."""
    found = sorted(a / b for a, b in zip(numerators, denominators, strict=True))
    return f"{statistics.median(found):.2f} ({found[0]:.2f} .. {found[-1]:.2f})"


class Engine:
    """A process that has loaded an engine, and runs what it is asked to.

    Args:
        name: Which engine.
        script: The benchmark; it is called with `--engine`, the name and the arguments, and calls `serve`.
        arguments: What the engine is to be made of.
        threads: How many it may use.
    """

    def __init__(self, name: str, script: str, arguments: Sequence[str], threads: int = 1) -> None:
        command = [sys.executable, script, "--engine", name, *arguments]
        environment = os.environ | dict.fromkeys(LIMITS, str(threads))
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.cases: list[str] = self._answer()

    def run(self, case: str) -> Run:
        """Runs a case once."""
        assert self._process.stdin is not None
        print(case, file=self._process.stdin, flush=True)
        return Run(*self._answer())

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SystemExit(f"The process of {self.name} ended; its message is above.")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


@contextmanager
def engines(names: Sequence[str], script: str, arguments: Sequence[str], threads: int = 1) -> Iterator[list[Engine]]:
    """Starts all engines, one after another, and ends them."""
    with ExitStack() as stack:
        yield [stack.enter_context(Engine(name, script, arguments, threads)) for name in names]


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that want a core each, all the time."""
    with ExitStack() as stack:
        for _ in range(count):
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            stack.callback(other.kill)
        yield


def serve(actions: Actions) -> None:
    """What the process of an engine does: it answers with names of cases, then runs each one that it reads."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    print(json.dumps(list(actions)), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(actions[line.strip()])), file=answers, flush=True)


def compare(present: Sequence[Engine], case: str, rounds: int) -> dict[str, list[Run]]:
    """Runs a case in all engines that have it, each round with another one first, after one run that does not count."""
    able = [engine for engine in present if case in engine.cases]
    found: dict[str, list[Run]] = {engine.name: [] for engine in able}
    for number in range(rounds + 1):
        first = number % len(able)
        for engine in able[first:] + able[:first]:
            run = engine.run(case)
            if number:
                found[engine.name].append(run)
    return found


def show(
    title: str,
    found: Mapping[str, list[Run]],
    columns: Mapping[str, Callable[[list[Run], list[Run]], str]] | None = None,
    unit: str = "CPU s",
) -> None:
    """Prints a case as a table: median seconds, ratios to the first engine, and more.

    Args:
        title: Of the table.
        found: The runs of each engine; the first one is what the others are compared with.
        columns: Names of more columns, and what is in them, given the runs of the first engine and of this one.
        unit: What kind of seconds these are.
    """
    columns = columns or {}
    reference = next(iter(found.values()))
    ours = [run.seconds for run in reference]
    print(f"\n| {' | '.join([title, unit, '× first', *columns])} |\n|{'---|' * (3 + len(columns))}")
    for name, runs in found.items():
        seconds = [run.seconds for run in runs]
        more = [column(reference, runs) for column in columns.values()]
        cells = [name, f"{median(runs):.3f}", ratio(seconds, ours), *more]
        print(f"| {' | '.join(cells)} |", flush=True)


@dataclass(frozen=True)
class Benchmark:
    """What a script says of its measurements.

    Attributes:
        packages: The engines, with the package that each needs; the first is what the others are compared with.
        quick: What the quick form has.
        prepare: Writes what the engines need into a folder; its second argument is whether the form is the quick one.
        actions: What an engine can do, given its name, that folder, the form, and a text that names of cases must hold.
        columns: More columns of a case's table, given its runs; see `show`.
    """

    packages: Mapping[str, str]
    quick: str
    prepare: Callable[[Path, bool], None]
    actions: Callable[[str, Path, bool, str], Actions]
    columns: Callable[[Mapping[str, list[Run]]], Mapping[str, Callable[[list[Run], list[Run]], str]]]


def main(script: str, description: str | None, benchmark: Benchmark) -> None:
    """Runs a script: makes the models, starts the engines that are installed, and prints the tables."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help=f"only {benchmark.quick}, and one round")
    parser.add_argument("--rounds", type=int, help="runs of each engine that count; default: 3, in the quick form 1")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with this in their names")
    parser.add_argument("--threads", type=int, default=1, help="of each engine; with several, real seconds")
    parser.add_argument("--neighbours", type=int, default=0, help="processes beside that want a core each")
    parser.add_argument("--engine", nargs=2, metavar=("NAME", "FOLDER"), help="be the process of one engine")
    given = parser.parse_args()
    if given.engine:
        serve(benchmark.actions(given.engine[0], Path(given.engine[1]), given.quick, given.only))
        return
    present = [name for name, package in benchmark.packages.items() if importlib.util.find_spec(package)]
    print("not installed:", ", ".join(sorted(benchmark.packages.keys() - set(present))) or "none")
    with tempfile.TemporaryDirectory() as temporary:
        benchmark.prepare(Path(temporary), given.quick)
        arguments = [temporary, "--only", given.only, *(["--quick"] if given.quick else [])]
        unit = "CPU s" if given.threads == 1 else f"s, {given.threads} threads"
        unit += f", {given.neighbours} neighbours" if given.neighbours else ""
        with engines(present, script, arguments, given.threads) as ready, neighbours(given.neighbours):
            for case in ready[0].cases:
                found = compare(ready, case, given.rounds or (1 if given.quick else 3))
                show(case, found, benchmark.columns(found), unit)
