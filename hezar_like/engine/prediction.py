"""The loop of `predict`: windows of inputs, batches of similar length, results in order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from ..errors import InputError, NonFiniteOutput, OptionError, did_you_mean
from ..layers.substitutes import is_autocast
from .batches import Batch, by_input, plan, unbatch, windows
from .devices import usable_device
from .fitting import in_parts_that_fit, naming_memory
from .memory import give_back_freed
from .packing import Reads, reading_only
from .routing import accepted, check_positive, route
from .running import evaluating
from .threads import spread

__all__ = ["Predicting", "Writing", "stream", "stream_pieces"]

T = TypeVar("T")
DEFAULT_BATCH_SIZE = 32
TIDIED_AFTER = 10_000
"""Inputs of a stream, after which it gives back memory that lies free in small pieces: of these there would be more and
more."""
OWN_OPTIONS = ("batch_size", "device", "post_process", "preprocess", "progress")


class Predicting(Protocol):
    """What the loop needs of a model."""

    is_generative: ClassVar[bool]
    batches_per_window: ClassVar[int]
    threads: ClassVar[int | None]
    forward_options: ClassVar[tuple[str, ...] | None]
    training: bool

    @property
    def forward(self) -> Callable[..., Any]: ...
    @property
    def input_names(self) -> frozenset[str] | None: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def tokens_read(self) -> Reads: ...
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
    def write(self) -> Callable[..., Iterator[list[tuple[int, Any]]]]: ...


def stream_pieces(
    model: Writing, inputs: Any, batch_size: int | str, device: str | torch.device | None, options: Mapping[str, Any]
) -> Iterator[tuple[int, Any]]:
    """Checks everything at once, then yields pieces of results as they come, each with the number of its input.

    Args:
        model: Its `write` takes tensors by name, the `batch` they are of, and options; for each of its steps it yields
            pieces with the number of their row.
        inputs: One input, or any iterable of inputs.
        batch_size: The most rows per batch, or "auto".
        device: Moves the model there first.
        options: For `preprocess`, and for `write` those of `forward_options`.
    """
    limit, routed = _start(model, batch_size, device, options, model.write)

    def written(window: Any) -> Iterator[list[tuple[int, Any]]]:
        prepared = model.preprocess(window, **routed[0])
        for indices in _batches(model, prepared, limit):
            batch = prepared.select(indices)
            for step in model.write(_to_device(batch, model.device), batch=batch, **routed[1]):
                yield [(indices[row], piece) for row, piece in step]

    def pieces() -> Iterator[list[tuple[int, Any]]]:
        start = 0
        for window in _windows(model, inputs, _window_size(model, limit), first=limit or 1):
            steps = written(window)
            while True:
                with _numbered_from(start), naming_memory():  # what was given out cannot be tried again
                    step = next(steps, None)
                if step is None:  # handlers must not wait for whoever takes this: Python itself may end meanwhile
                    break
                yield [(start + index, piece) for index, piece in step]
            start += len(window)

    return _evaluated(model, pieces())


def _evaluated(model: Predicting, steps: Iterator[list[T]]) -> Iterator[T]:
    """Runs steps as predictions run, and leaves the model to whoever takes what they yield as it was given.

    A stream may stay unfinished for long, while the model is trained, or is given other weights.
    """
    while True:
        with evaluating(cast(nn.Module, model)), torch.inference_mode():
            try:
                step = next(steps)
            except StopIteration:
                return
        yield from step


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
    if model.device.type == "meta":
        raise OptionError("the model is on the device 'meta', where weights have no values. Load it on another.")
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


def _batches(model: Predicting, prepared: Batch, limit: int | None) -> list[list[int]]:
    """Batches of similar length: the numbers of their inputs."""
    return plan(prepared.lengths, limit, on_cpu=model.device.type == "cpu")


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
        with naming_memory():
            results = _window(model, inputs, _count(inputs), limit, False, post_process, routed)
        yield from results
        return
    start = 0
    for window in _windows(model, inputs, _window_size(model, limit)):

        def run(part: slice, window: Any = window) -> list[Any]:
            with _numbered_from(part.start):
                return _window(model, window[part], part.stop - part.start, limit, True, post_process, routed)

        with _numbered_from(start):
            results = in_parts_that_fit(model, range(len(window)), run)
        yield from results
        if start % TIDIED_AFTER + len(window) >= TIDIED_AFTER:
            give_back_freed()
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
    with evaluating(cast(nn.Module, model)), torch.inference_mode():
        prepared = model.preprocess(window, **routed[0]) if preprocess else window
        if not isinstance(prepared, Batch):
            return _batch(model, prepared, count, post_process, routed)
        results: list[Any] = [None] * count

        def place(indices: list[int]) -> None:
            def run(part: slice) -> list[Any]:
                own = indices[part]
                return _batch(model, prepared.select(own), len(own), post_process, routed)

            for index, result in zip(indices, in_parts_that_fit(model, indices, run), strict=True):
                results[index] = result

        spread(place, _batches(model, prepared, limit), 1 if is_autocast() else model.threads)  # others would not know
        return results


def _batch(model: Predicting, batch: Any, count: int, post_process: bool, routed: list[dict[str, Any]]) -> list[Any]:
    run = model.infer if post_process else model.run
    with reading_only(model.tokens_read if post_process else "all"):
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
