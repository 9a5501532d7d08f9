"""What a prediction is made with: a model, how it is loaded, and the options of its predict."""

from __future__ import annotations

import hashlib
import inspect
import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .parser import UsageError
from .records import Record, read_records
from .results import json_line

if TYPE_CHECKING:
    from ..models.model import Model

__all__ = ["PARTS", "Job", "PartPredictor", "predict"]

PARTS = ".parts"
"""How the name of a folder with parts of results ends."""


@dataclass(frozen=True)
class Job:
    """A model and the options of its predict, as plain data that another process can be given.

    Attributes:
        source: A folder, or a Hub id.
        task: The task to build instead of the files' own.
        revision: Branch, tag or commit on the Hub.
        device: Where to run.
        dtype: Type of the weights.
        quantize: What the weights are rounded to.
        batch_size: The most texts at once, or "auto".
        options: Those of the model's own predict.
    """

    source: str
    task: str | None
    revision: str | None
    device: str | None
    dtype: str | None
    quantize: Any
    batch_size: int | str
    options: Mapping[str, Any]

    def check(self) -> None:
        """Refuses options that are not the model's but the command's."""
        from ..models.model import Model

        own = inspect.signature(Model.stream).parameters
        for key in self.options:
            if key in own and own[key].kind is not inspect.Parameter.VAR_KEYWORD:
                hint = f"Use --{key.replace('_', '-')}" if hasattr(self, key) else "The command decides it"
                raise UsageError(f"--set cannot set {key!r}. {hint}")

    def pinned(self) -> tuple[Job, str]:
        """This job with a source that all processes take for the same files, and what tells these files from others.

        That is a commit of the Hub, or a hash of the names, sizes and times of the files in a folder and in the folders
        in it, such as that of the preprocessors, but not of parts of results.
        """
        from .. import hub

        source = hub.resolve(self.source, revision=self.revision)
        if source.folder is None:
            return replace(self, revision=source.commit), str(source.commit)
        found = [path for pattern in ("*", "*/*") for path in source.folder.glob(pattern) if path.is_file()]
        state = [
            (str(path.relative_to(source.folder)), path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(found)
            if path.parent == source.folder or (not path.parent.name.startswith(".") and path.parent.suffix != PARTS)
        ]
        return replace(self, source=str(source.folder.resolve())), hashlib.sha256(repr(state).encode()).hexdigest()

    def load(self) -> Model:
        """Loads the model."""
        from ..models.model import Model

        return Model.load(
            self.source,
            task=self.task,
            revision=self.revision,
            device=self.device,
            dtype=self.dtype,
            quantize=self.quantize,
        )


class PartPredictor:
    """Predicts parts of a file; the model is loaded at the first one, and once.

    Args:
        job: What with.
        name: The file's name, for messages.
        kind: "jsonl" or "txt".
    """

    def __init__(self, job: Job, name: str, kind: str) -> None:
        self.job = job
        self.name = name
        self.kind = kind

    def lines(self, data: bytes, first_line: int) -> Iterator[str]:
        """The results of a part as lines of JSON, one for each record.

        Args:
            data: The part.
            first_line: Which line of the whole file it begins with, counted from 1.
        """
        records = read_records(io.BytesIO(data), self.name, self.kind, first_line)
        for record, result in predict(self._model, records, self.job):
            yield json_line(record, result)

    def predict(self, number: int, data: bytes, first_line: int) -> tuple[int, list[str]]:
        """The number of a part, whatever it is, with all its `lines`."""
        return number, list(self.lines(data, first_line))

    @cached_property
    def _model(self) -> Model:
        return self.job.load()


def predict(model: Model, records: Iterable[Record], job: Job) -> Iterator[tuple[Record, Any]]:
    """Each record with its result. Only those records are held that the model has taken and not answered.

    Args:
        model: The model that the job has loaded.
        records: What to predict.
        job: How.

    Raises:
        InputError: For a record that the model does not take; names its place.
    """
    from ..engine import prediction

    pending: deque[Record] = deque()
    answered = 0

    def inputs() -> Iterator[Any]:
        for record in records:
            pending.append(record)
            yield record.model_input

    try:
        for result in prediction.stream(model, inputs(), job.batch_size, None, True, True, job.options):
            yield pending.popleft(), result
            answered += 1
    except InputError as error:
        if error.index is None or not 0 <= error.index - answered < len(pending):
            raise
        raise InputError(f"{pending[error.index - answered].where}: {error.args[0]}") from None
