"""Predicting a file in parts, so that a run that was killed goes on where it was.

The results of each part are a file in a folder beside the output, `OUTPUT.parts`. The name of such a file tells the
part's number and what its lines were, so a part counts as done only for the very same lines. A manifest in the folder
tells what else the results depend on. When all parts are there they are joined, and the folder is removed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from .. import __version__
from ..distributed_predict import spread_with_ray
from ..engine.progress import with_progress
from ..errors import HubError, InputError
from .job import PARTS, Job, PartPredictor
from .parser import UsageError
from .records import kind_of_file, open_file, raw_lines
from .results import check_output, open_output

__all__ = ["Part", "PartsFolder", "predict_in_parts", "split"]

LINES_PER_PART = 1024
MANIFEST, LOCK = "manifest.json", "lock"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Some lines of a file.

    Attributes:
        number: Which part it is, counted from 0.
        first_line: The number of its first line, counted from 1.
        start: The byte it begins at.
        size: How many bytes it has.
        digest: A hash of its bytes.
    """

    number: int
    first_line: int
    start: int
    size: int
    digest: str

    @property
    def results(self) -> str:
        """The name of the file with its results."""
        return f"{self.number:09d}-{self.digest}.jsonl"

    def read(self, file: BinaryIO) -> bytes:
        """Its bytes.

        Raises:
            InputError: When they are others than before.
        """
        file.seek(self.start)
        data = file.read(self.size)
        if _digest([data]) != self.digest:
            raise InputError(f"the input changed from line {self.first_line} on while it was read. Run this again.")
        return data


def split(file: BinaryIO, name: str, lines_per_part: int) -> Iterator[Part]:
    """The parts of a file, found in one pass.

    Args:
        file: The file, at its beginning.
        name: Its name, for messages.
        lines_per_part: How many lines a part has; the last one may have fewer.

    Raises:
        InputError: For a line that is too long.
    """
    lines = (line for line, _ in raw_lines(file, name))
    number = start = 0
    while chosen := list(islice(lines, lines_per_part)):
        size = sum(map(len, chosen))
        yield Part(number, number * lines_per_part + 1, start, size, _digest(chosen))
        number, start = number + 1, start + size


class PartsFolder:
    """The folder with the results of the parts that are done.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def opened(self, manifest: Mapping[str, Any]) -> Iterator[None]:
        """Keeps the folder for this run; when the block fails and nothing is done yet, the folder goes.

        Args:
            manifest: What the results depend on, as plain data.

        Raises:
            UsageError: When another run uses the folder, its parts were made otherwise, or it is something else.
            HubError: When it cannot be written.
        """
        from .. import files

        self._check_ours()
        with files.stage(self.path):
            pass  # this makes the folder, or finishes what a kill cut off
        with (self.path / LOCK).open("wb") as lock:
            self._keep(lock)
            self._check_same(manifest)
            with files.stage(self.path) as staged:
                staged(MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")
            try:
                yield
            except BaseException:
                done = sum(1 for _ in self.path.glob("*.jsonl"))
                if done:
                    logger.warning("%d parts are done and kept in %s; the same command goes on", done, self.path)
                else:
                    self.remove()
                raise

    def has(self, part: Part) -> bool:
        """Whether the results of a part are there."""
        return (self.path / part.results).is_file()

    def write(self, part: Part, lines: Sequence[str]) -> None:
        """Puts the results of a part there, all or none."""
        from .. import files

        with files.stage(self.path) as staged:
            staged(part.results).write_bytes("".join(f"{line}\n" for line in lines).encode())

    def join(self, parts: Sequence[Part], output: BinaryIO) -> None:
        """Writes the results of all parts in their order.

        Raises:
            HubError: When one is not there.
        """
        for part in parts:
            if not self.has(part):
                raise HubError(f"{part.results!r} was taken away from {str(self.path)!r}; run this again")
            with (self.path / part.results).open("rb") as results:
                shutil.copyfileobj(results, output)

    def remove(self) -> None:
        """Removes the folder; the manifest after the parts, for it says whose they are."""
        for results in self.path.glob("*.jsonl"):
            results.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def _manifest(self) -> Any:
        """What the manifest says; None when there is none that can be read."""
        with suppress(OSError, ValueError, RecursionError):
            return json.loads((self.path / MANIFEST).read_bytes())
        return None

    def _check_ours(self) -> None:
        """Refuses a folder that no run has made; one may have been killed before it wrote a manifest."""
        names = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        visible = {name for name in names if not name.startswith(".")} - {LOCK}
        if visible and not isinstance(self._manifest(), dict):
            raise UsageError(f"{str(self.path)!r} is no folder of parts. Move it away, or give another --output")

    def _check_same(self, manifest: Mapping[str, Any]) -> None:
        """Refuses parts that were made otherwise."""
        found = self._manifest()
        if found is None or not any(self.path.glob("*.jsonl")):
            return
        for key, value in manifest.items():
            if found.get(key) != value:
                raise UsageError(
                    f"{str(self.path)!r} has parts that were made otherwise: {key} was {found.get(key)!r:.200} and is "
                    f"{value!r:.200}. Go on as before, or remove this folder to start anew"
                )

    def _keep(self, lock: BinaryIO) -> None:
        """Keeps other runs out for as long as the file is open; a process that is killed closes it too."""
        from .. import files

        try:
            files.lock(lock.fileno(), wait=False)
        except BlockingIOError:
            raise UsageError(f"another run is working in {str(self.path)!r}. Wait for it, or stop it") from None


def predict_in_parts(
    job: Job,
    path: str,
    kind: str | None,
    output: str,
    *,
    lines_per_part: int = LINES_PER_PART,
    on_ray: bool = False,
    workers: int | None = None,
) -> None:
    """Predicts a file into another one, or does what is left of that.

    Args:
        job: What with.
        path: The file of inputs.
        kind: "jsonl" or "txt"; None: what the file's name says.
        output: The file of results, which appears when complete.
        lines_per_part: How many lines are done at once, and lost by a kill.
        on_ray: Whether workers of Ray predict, and not this process.
        workers: How many; None: as many as `spread_with_ray` says.

    Raises:
        UsageError: When the files cannot be these, or the parts found were made otherwise.
        InputError: For a bad line.
        HubError: When something cannot be read or written.
    """
    kind = kind_of_file(path, kind)
    with open_file(path) as file:
        target = check_output(output)
        job.check()
        job, version = job.pinned()
        folder = PartsFolder(target.with_name(f"{target.name}{PARTS}"))
        with folder.opened(_manifest(job, version, kind, lines_per_part)):
            parts = list(split(file, path, lines_per_part))
            missing = [part for part in parts if not folder.has(part)]
            predictor = PartPredictor(job, path, kind)
            lines = (
                _on_ray(predictor, file, missing, folder, workers)
                if on_ray
                else _here(predictor, file, missing, folder)
            )
            for _ in with_progress(lines, None, "auto"):
                pass
            with open_output(target) as joined:
                folder.join(parts, joined)
            folder.remove()


def _here(predictor: PartPredictor, file: BinaryIO, missing: Sequence[Part], folder: PartsFolder) -> Iterator[str]:
    """Predicts parts one after the other; gives their lines, to be counted."""
    for part in missing:
        lines = []
        for line in predictor.lines(part.read(file), part.first_line):
            lines.append(line)
            yield line
        folder.write(part, lines)


def _on_ray(
    predictor: PartPredictor, file: BinaryIO, missing: Sequence[Part], folder: PartsFolder, workers: int | None
) -> Iterator[str]:
    """The same with workers of Ray. Only this process touches files, so the workers may be on any machine."""

    def send(worker: Any, part: Part) -> Any:
        return worker.predict.remote(part.number, part.read(file), part.first_line)

    by_number = {part.number: part for part in missing}
    arguments = (predictor.job, predictor.name, predictor.kind)
    use_gpu = predictor.job.device in (None, "cuda")
    for number, lines in spread_with_ray(PartPredictor, arguments, missing, send, workers=workers, use_gpu=use_gpu):
        folder.write(by_number[number], lines)
        yield from lines


def _manifest(job: Job, version: str, kind: str, lines_per_part: int) -> dict[str, Any]:
    """What results depend on, as it comes back from a file of JSON."""
    depends = {
        "hezar_like": __version__,
        "lines_per_part": lines_per_part,
        "input_format": kind,
        "model": job.source,
        "version of the model": version,
        "task": job.task,
        "dtype": job.dtype,
        "quantize": job.quantize,
        "options": job.options,
    }
    manifest: dict[str, Any] = json.loads(json.dumps(depends, default=str))
    return manifest


def _digest(pieces: Sequence[bytes]) -> str:
    hashed = hashlib.blake2b(digest_size=12)
    for piece in pieces:
        hashed.update(piece)
    return hashed.hexdigest()
