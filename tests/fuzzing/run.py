"""Damages files at random and uses them: `python tests/fuzzing/run.py --count 100000`.

Every case must succeed or end in an error of ours, of one line, without the secret that the environment holds; without
a warning, another program, a connection or a file elsewhere; in bounded time and memory. Cases run in processes that
are forked, so that one which dies or hangs is only one that was found. A case is its target and its number: both give
the same damage again, with `--target NAME --first NUMBER --count 1`.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import mmap
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RUST_BACKTRACE"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import torch  # noqa: E402
from confined import Fault, check_message, confine  # noqa: E402
from mutations import mutated  # noqa: E402
from targets import TARGETS, Target, prepare  # noqa: E402

from hezar_like.errors import HezarLikeError  # noqa: E402

SECONDS = 5.0
HANGS_AFTER = 20.0
MEGABYTES = 2000
PER_FORK = 2000


@dataclass
class Report:
    """What came out.

    Attributes:
        outcomes: How often each target succeeded, or ended in which class of error.
        found: Of each kind of fault the cases, as target, number and what was raised.
        slowest: The longest time of a case in seconds.
        peak: The most memory that a process had in MB.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    found: dict[str, list[tuple[str, int, str]]] = field(default_factory=dict)
    slowest: float = 0.0
    peak: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.outcomes.values())


def use(target: Target, folder: Path, content: bytes) -> str:
    """Uses a file with this content.

    Returns:
        "fine", or the name of our error's class.

    Raises:
        BaseException: Whatever else comes out; a `Fault` for an error of ours that is not as it must be.
    """
    path = folder / target.file
    path.unlink(missing_ok=True)  # never written over: a model of before may still be mapped
    path.write_bytes(content)
    said = _Said()
    start = time.process_time()
    logging.getLogger("hezar_like").addHandler(said)
    try:
        target.use(folder)
        outcome = "fine"
    except HezarLikeError as error:
        outcome = type(error).__name__
        said.lines.append(str(error))
    finally:
        logging.getLogger("hezar_like").removeHandler(said)
    spent = time.process_time() - start
    if spent > SECONDS:
        raise Fault(f"took {spent:.1f} s")
    for line in said.lines:
        check_message(line)
    return outcome


class _Said(logging.Handler):
    """What is said to the user."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def fuzz(names: list[str], first: int, count: int, place: Path, hangs_after: float) -> Report:
    """Runs `count` cases, the targets in turn."""
    cases = [(names[i % len(names)], first + i // len(names)) for i in range(count)]
    report, done = Report(), 0
    while done < count:
        part = cases[done : done + PER_FORK]
        with tempfile.TemporaryFile() as told:
            state = mmap.mmap(-1, 8)
            pid = os.fork()
            if pid == 0:
                _work(part, place, told, state, hangs_after)
            _, status = os.waitpid(pid, 0)
            (finished,) = struct.unpack("q", state[:8])
            told.seek(0)
            _collect(told.read().decode(errors="replace"), report)
        if finished < len(part):
            name, number = part[finished]
            report.outcomes[name, "died"] += 1
            how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "it hangs or has exited"
            report.found.setdefault(f"{name}: the process died, {how}", []).append((name, number, how))
        done += finished + (finished < len(part))
    return report


def _work(cases: list[tuple[str, int]], place: Path, told: Any, state: mmap.mmap, hangs_after: float) -> None:
    """The forked process: runs cases, writes down what happens, and never returns."""
    try:
        own = Path(tempfile.mkdtemp(dir=place))
        folders = {name: own / TARGETS[name].folder for name, _ in cases}
        for folder in set(folders.values()):
            shutil.copytree(place / "good" / folder.name, folder)
        confine(own, MEGABYTES)
        logging.getLogger("hezar_like").propagate = False
        torch.set_num_threads(1)
        for done, (name, number) in enumerate(cases):
            target = TARGETS[name]
            good = (place / "good" / target.folder / target.file).read_bytes()
            faulthandler.dump_traceback_later(hangs_after, exit=True, file=told.fileno())
            start, note = time.perf_counter(), ""
            try:
                damaged = mutated(good, target.kind, random.Random(f"{name}:{number}"))
                outcome = use(target, folders[name], damaged)
            except BaseException as error:
                place_of = traceback.extract_tb(error.__traceback__)[-1]
                outcome = "FOUND"
                message = " ".join(str(error).split())[:200]
                note = f"{type(error).__name__} at {Path(place_of.filename).name}:{place_of.lineno}\t{message}"
            faulthandler.cancel_dump_traceback_later()
            path = folders[name] / target.file
            path.unlink(missing_ok=True)
            path.write_bytes(good)
            line = f"{name}\t{number}\t{outcome}\t{time.perf_counter() - start:.3f}\t{note}\n"
            os.write(told.fileno(), line.encode(errors="backslashreplace"))
            state[:8] = struct.pack("q", done + 1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        os.write(told.fileno(), f"peak\t{peak:.0f}\n".encode())
    finally:
        os._exit(0)


def _collect(text: str, report: Report) -> None:
    for line in text.splitlines():
        parts = line.split("\t")
        if parts[0] == "peak":
            report.peak = max(report.peak, float(parts[1]))
        elif len(parts) >= 5 and parts[1].isdecimal():
            name, number, outcome = parts[0], int(parts[1]), parts[2]
            report.outcomes[name, outcome] += 1
            report.slowest = max(report.slowest, float(parts[3]))
            if outcome == "FOUND":
                report.found.setdefault(f"{name}: {parts[4]}", []).append((name, number, parts[5]))
        else:
            print(line, file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="how many damaged files")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each target")
    parser.add_argument("--target", choices=TARGETS, help="only this one")
    parser.add_argument("--hangs-after", type=float, default=HANGS_AFTER, metavar="SECONDS")
    parser.add_argument("--plant", metavar="CODE", nargs="+", help="targets that have these faults, to see them found")
    options = parser.parse_args()
    if options.plant:
        card = TARGETS["a card"]
        TARGETS.clear()
        TARGETS.update({code: replace(card, use=lambda folder, code=code: exec(code)) for code in options.plant})
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder) / "good")
        names = [options.target] if options.target else list(TARGETS)
        report = fuzz(names, options.first, options.count, Path(folder), options.hangs_after)
    for name in names:
        outcomes = {outcome: count for (of, outcome), count in sorted(report.outcomes.items()) if of == name}
        print(f"{name}: {', '.join(f'{count} {outcome}' for outcome, count in outcomes.items())}")
    seconds = time.perf_counter() - start
    print(f"{report.count} files in {seconds:.0f} s, the slowest {report.slowest:.2f} s, {report.peak:.0f} MB at most")
    for kind, cases in sorted(report.found.items(), key=lambda item: -len(item[1])):
        print(f"FOUND {len(cases)} times: {kind}; first --target {cases[0][0]!r} --first {cases[0][1]}: {cases[0][2]}")
    return 1 if report.found or report.count != options.count else 0


if __name__ == "__main__":
    sys.exit(main())
