"""The loop of `predict`: windows of inputs, batches of similar length, results in order."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..errors import InputError, NonFiniteOutput, OptionError, did_you_mean
from .batches import Batch, by_input, plan, unbatch, windows
from .devices import usable_device
from .routing import accepted, check_positive, route

__all__ = ["Predicting", "Writing", "stream", "stream_pieces"]

T = TypeVar("T")
DEFAULT_BATCH_SIZE = 32
_lock = threading.Lock()
_running: WeakKeyDictionary[Any, tuple[int, tuple[Any, ...]]] = WeakKeyDictionary()
"""For each model that predicts at the moment: in how many threads, and its modules to put back into training mode."""
OWN_OPTIONS = ("batch_size", "device", "post_process", "preprocess", "progress")


class Predicting(Protocol):
    """What the loop needs of a model."""

    is_generative: ClassVar[bool]
    batches_per_window: ClassVar[int]
    forward_options: ClassVar[tuple[str, ...] | None]
    training: bool

    @property
    def forward(self) -> Callable[..., Any]: ...
    @property
    def input_names(self) -> frozenset[str] | None: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def preprocess(self) -> Callable[..., Any]: ...
    @property
    def generate(self) -> Callable[..., Any]: ...
    @property
    def post_process(self) -> Callable[..., Any]: ...
    @property
    def infer(self) -> Callable[..., Any]: ...
    @property
    def run(self) -> Callable[..., Any]: ...
    def is_one_input(self, inputs: Any) -> bool: ...
    def modules(self) -> Iterator[Any]: ...
    def to(self, device: Any) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...


class Writing(Predicting, Protocol):
    """What the loop needs of a model that gives results in pieces."""

    @property
    def write(self) -> Callable[..., Iterator[tuple[int, Any]]]: ...


def stream_pieces(
    model: Writing, inputs: Any, batch_size: int | str, device: str | torch.device | None, options: Mapping[str, Any]
) -> Iterator[tuple[int, Any]]:
    """Checks everything at once, then yields pieces of results as they come, each with the number of its input.

    Args:
        model: Its `write` takes tensors by name, the `batch` they are of, and options; it yields pieces with the number
            of their row.
        inputs: One input, or any iterable of inputs.
        batch_size: The most rows per batch, or "auto".
        device: Moves the model there first.
        options: For `preprocess`, and for `write` those of `forward_options`.
    """
    limit, routed = _start(model, batch_size, device, options, model.write)

    def pieces() -> Iterator[tuple[int, Any]]:
        start = 0
        for window in _windows(model, inputs, _window_size(model, limit), first=limit or 1):
            with _numbered_from(start):
                prepared = model.preprocess(window, **routed[0])
                for indices, batch in _batches(model, prepared, limit):
                    for row, piece in model.write(_to_device(batch, model.device), batch=batch, **routed[1]):
                        yield start + indices[row], piece
            start += len(window)

    return _evaluated(model, pieces())


def _evaluated(model: Predicting, steps: Iterator[T]) -> Iterator[T]:
    """Runs steps without gradients, and without leaving that to whoever takes what they yield."""
    with _evaluating(model):
        while True:
            with torch.inference_mode():
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step


def stream(
    model: Predicting,
    inputs: Any,
    batch_size: int | str,
    device: str | torch.device | None,
    preprocess: bool,
    post_process: bool,
    options: Mapping[str, Any],
) -> Iterator[Any]:
    """Checks everything at once, then yields results lazily; see `Model.stream`."""
    run = model.generate if model.is_generative else model.forward
    limit, routed = _start(model, batch_size, device, options, run, model.post_process)
    return _results(model, inputs, limit, preprocess, post_process, routed)


def _start(
    model: Predicting,
    batch_size: int | str,
    device: str | torch.device | None,
    options: Mapping[str, Any],
    run: Callable[..., Any],
    *others: Callable[..., Any],
) -> tuple[int | None, list[dict[str, Any]]]:
    """Checks the options: the limit of a batch, and what goes to `preprocess`, to `run`, and to others."""
    if batch_size != "auto":
        check_positive("batch_size", batch_size, " or 'auto'")
    routed = route(options, model.preprocess, run, *others, only=model.forward_options, also=OWN_OPTIONS)
    if device is not None:
        model.to(usable_device(device))
    return None if isinstance(batch_size, str) else batch_size, routed


def _window_size(model: Predicting, limit: int | None) -> int:
    """How many inputs are prepared at once."""
    return min((limit or DEFAULT_BATCH_SIZE) * model.batches_per_window, sys.maxsize)


@contextmanager
def _numbered_from(start: int) -> Iterator[None]:
    """An error in an input names its number among all inputs, of which so many came before."""
    try:
        yield
    except InputError as error:
        error.index = None if error.index is None else error.index + start
        raise


def _batches(model: Predicting, prepared: Batch, limit: int | None) -> Iterator[tuple[list[int], Batch]]:
    """Batches of similar length, with the numbers of their inputs."""
    for indices in plan(prepared.lengths, limit, on_cpu=model.device.type == "cpu"):
        yield indices, prepared.select(indices)


def _results(
    model: Predicting,
    inputs: Any,
    limit: int | None,
    preprocess: bool,
    post_process: bool,
    routed: list[dict[str, Any]],
) -> Iterator[Any]:
    if not preprocess:
        _check_names(inputs, model.input_names)
        yield from _window(model, inputs, _count(inputs), limit, False, post_process, routed)
        return
    start = 0
    for window in _windows(model, inputs, _window_size(model, limit)):
        with _numbered_from(start):
            results = _window(model, window, len(window), limit, True, post_process, routed)
        yield from results
        start += len(window)


def _check_names(batch: Any, known: frozenset[str] | None) -> None:
    """What the user prepared is all meant: a misspelled mask must not just be left out."""
    if known is not None and isinstance(batch, Mapping) and not isinstance(batch, Batch) and known & set(batch):
        for key in batch:
            if key not in known:
                raise OptionError(f"the model takes no {key!r}.{did_you_mean(key, known)}")


def _windows(model: Predicting, inputs: Any, size: int, first: int = DEFAULT_BATCH_SIZE) -> Iterator[Any]:
    if isinstance(inputs, Tensor):  # a batch, whose rows are the inputs
        return iter(torch.split(inputs, size) if _count(inputs) else ())
    if model.is_one_input(inputs):
        return iter([[inputs]])
    # What comes one by one may come slowly: its first results should not wait for a whole window.
    return windows(inputs, size, first=None if isinstance(inputs, Sized) else first)


def _count(batch: Any) -> int:
    """How many inputs a batch stands for."""
    if isinstance(batch, Batch):
        return len(batch.lengths)
    rows = next(iter(batch.values()), ()) if isinstance(batch, Mapping) else batch
    if not hasattr(rows, "__len__") or getattr(rows, "ndim", 1) == 0:
        raise InputError(f"a batch must have one row for each input; this is a single {type(rows).__name__}.")
    return len(rows)


def _window(
    model: Predicting,
    window: Any,
    count: int,
    limit: int | None,
    preprocess: bool,
    post_process: bool,
    routed: list[dict[str, Any]],
) -> list[Any]:
    """The results of some inputs that are prepared together."""
    with _evaluating(model), torch.inference_mode():
        prepared = model.preprocess(window, **routed[0]) if preprocess else window
        if not isinstance(prepared, Batch):
            return _batch(model, prepared, count, post_process, routed)
        results: list[Any] = [None] * count
        for indices, batch in _batches(model, prepared, limit):
            part = _batch(model, batch, len(indices), post_process, routed)
            for index, result in zip(indices, part, strict=True):
                results[index] = result
        return results


@contextmanager
def _evaluating(model: Predicting) -> Iterator[None]:
    """Dropout is off while any thread predicts; the last one to finish puts back what was in training mode."""
    with _lock:
        count, training = _running.get(model, (0, ()))
        now = tuple(part for part in model.modules() if part.training)
        if now:
            training = tuple(dict.fromkeys((*training, *now)))
            model.train(False)
        _running[model] = count + 1, training
    try:
        yield
    finally:
        with _lock:
            count, training = _running.pop(model)
            if count > 1:
                _running[model] = count - 1, training
            else:
                for part in training:
                    part.training = True


def _batch(model: Predicting, batch: Any, count: int, post_process: bool, routed: list[dict[str, Any]]) -> list[Any]:
    run = model.infer if post_process else model.run
    outputs = run(_to_device(batch, model.device), **routed[1])
    _check_finite(outputs)
    if post_process:
        outputs = model.post_process(outputs, **accepted(model.post_process, {"batch": batch}), **routed[2])
    elif isinstance(batch, Batch) and not isinstance(outputs, list):
        return by_input(outputs, batch.rows)
    return outputs if isinstance(outputs, list) and len(outputs) == count else unbatch(outputs, count)


def _to_device(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor | Batch):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _to_device(value, device) for key, value in batch.items()}
    return batch


def _check_finite(outputs: Any) -> None:
    """NaN would come out as a confident wrong answer."""
    for value in outputs.values() if isinstance(outputs, Mapping) else [outputs]:
        if isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
            raise NonFiniteOutput(
                "the model returned NaN or infinity. Check its weights, or load it with dtype='float32'."
            )
