"""Predicting with Ray, which spreads work over processes and machines: the extra `ray`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

from .errors import HezarLikeError, OptionError, did_you_mean, one_line, require

__all__ = ["RayPredictor", "spread_with_ray"]

T = TypeVar("T")
RETRIES = 3  # a part that ends its worker each time, say for lack of memory, would do so for ever


class RayPredictor:
    """Predicts batches of a Ray dataset; each worker loads the model once, when it starts.

        dataset = ray.data.read_json("big.jsonl", lines=True)
        arguments = {"source": "org/name", "predict": {"top_k": 3}}
        dataset.map_batches(RayPredictor, fn_constructor_kwargs=arguments, batch_size=1024, concurrency=2)

    Args:
        source: A folder that all machines see, or a Hub id.
        columns: The column with the inputs; of several, each input is a dict, such as {"text": ..., "text_pair": ...}.
        result: The column to add with the results: plain data, so tensors become lists.
        load: Keywords of `Model.load`, such as {"dtype": "auto", "device": "cpu"}.
        predict: Keywords of `Model.predict`.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        columns: str | Sequence[str] = "text",
        result: str = "result",
        load: Mapping[str, Any] | None = None,
        predict: Mapping[str, Any] | None = None,
    ) -> None:
        from .models.model import Model

        self.columns = columns
        self.result = result
        self.options = {"progress": False, **(predict or {})}
        self.model = Model.load(source, **(load or {}))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Adds the column of results.

        Args:
            batch: Columns by name: arrays or lists of equal length.

        Raises:
            OptionError: When a column is not there.
            InputError: For an input the model cannot take; names its index in this batch.
        """
        names = [self.columns] if isinstance(self.columns, str) else list(self.columns)
        for name in names:
            if name not in batch:
                raise OptionError(f"the dataset has no column {name!r}.{did_you_mean(name, batch)}")
        columns = [_plain(batch[name]) for name in names]
        inputs = columns[0]
        if not isinstance(self.columns, str):
            inputs = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return {**batch, self.result: _plain(self.model.predict(inputs, **self.options))}


def spread_with_ray(
    worker: type,
    arguments: tuple[Any, ...],
    tasks: Sequence[T],
    send: Callable[[Any, T], Any],
    *,
    workers: int | None = None,
    use_gpu: bool = True,
) -> Iterator[Any]:
    """Lets workers of Ray do tasks; each gets the next one when it is done with the last.

    It uses the Ray that this process has started already, else the cluster that the variable RAY_ADDRESS names, else
    one of its own on this machine, without a dashboard and without telling anybody. A worker that dies is started again
    and does its task once more.

    Args:
        worker: The class of the workers; it can be imported where they are.
        arguments: What each is made with.
        tasks: What to do.
        send: Takes a worker and a task, and calls a `worker.method.remote(...)`.
        workers: How many; default: one for each GPU, or without any one for each machine, which has all its CPUs.
        use_gpu: Whether each worker gets a GPU, where there are any.

    Yields:
        What the methods return, as it comes.

    Raises:
        MissingDependency: When Ray is not installed.
        OptionError: When there are more workers than GPUs or CPUs.
        HezarLikeError: When Ray cannot be reached, or a task ends every worker; an error of this package that a task
            raised comes as it was.
    """
    if not tasks:
        return
    ray = require("ray", extra="ray")
    with _started(ray):
        resources, count = _resources(ray, workers, use_gpu)
        remote = ray.remote(max_restarts=-1, max_task_retries=RETRIES, **resources)(worker)
        actors = [remote.remote(*arguments) for _ in range(min(count, len(tasks)))]
        try:
            yield from require("ray.util", extra="ray").ActorPool(actors).map_unordered(send, tasks)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, HezarLikeError) else error) from None
        except ray.exceptions.RayError as error:
            raise HezarLikeError(f"a worker of Ray died {RETRIES + 1} times at one task: {one_line(error)}") from None
        finally:
            for actor in actors:
                ray.kill(actor)


@contextmanager
def _started(ray: ModuleType) -> Iterator[None]:
    """Ray, running; what was started for this is stopped."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS") or "local"
    try:
        ray.init(address=address, include_dashboard=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise HezarLikeError(f"Ray cannot be used at {address!r}: {one_line(error)}. Check RAY_ADDRESS") from None
    try:
        yield
    finally:
        ray.shutdown()


def _resources(ray: ModuleType, workers: int | None, use_gpu: bool) -> tuple[dict[str, float], int]:
    """What each worker gets, so that all find a place, and how many there are."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(machine.get("GPU", 0) for machine in machines)) if use_gpu else 0
    with_cpus = [int(machine["CPU"]) for machine in machines if machine.get("CPU", 0) >= 1]
    most, kind = (gpus, "GPUs") if gpus else (sum(with_cpus), "CPUs")
    count = workers or gpus or len(with_cpus)
    if count > most or not count:
        raise OptionError(f"workers is {count}, and Ray has {most} {kind}. Use at most as many, or add machines.")
    if gpus:
        return {"num_gpus": 1}, count
    return {"num_cpus": max(1, min(with_cpus) // -(-count // len(with_cpus)))}, count


def _plain(value: Any) -> Any:
    """Lists and dicts instead of tensors, arrays, and mappings of any kind."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
