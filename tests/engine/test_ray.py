"""Ray spreads the parts of a file, and batches of a dataset, over two workers; workers and commands get killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tiny_models import tiny_model

from hezar_like import Model, distributed_predict
from hezar_like.cli import main
from hezar_like.distributed_predict import RayPredictor, _resources, spread_with_ray
from hezar_like.errors import HezarLikeError, MissingDependency, OptionError

LINES = [f'{{"id": {number}, "text": "the cat sat {"dog " * (number % 7)}"}}\n' for number in range(60)]


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray

        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=80_000_000,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
        )
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model("bert_text_classification").save(tmp_path_factory.mktemp("ray") / "model"))


@pytest.fixture
def argv(model: str, tmp_path: Path) -> list[str]:
    (tmp_path / "in.jsonl").write_text("".join(LINES))
    files = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    return ["predict", model, *files, "--device", "cpu", "--lines-per-part", "2", "--engine", "ray", "--workers", "2"]


def check(argv: list[str], folder: Path) -> None:
    """The output has every line once, in order, with the model's own results, and nothing else is left."""
    found = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    inputs = [json.loads(line) for line in LINES]
    assert [{key: line[key] for key in ("id", "text")} for line in found] == inputs
    expected = Model.load(argv[1], device="cpu").predict([line["text"] for line in inputs])
    for line, labels in zip(found, expected, strict=True):
        assert line["result"] == [label | {"score": pytest.approx(label["score"], abs=1e-6)} for label in labels]
    assert sorted(path.name for path in folder.iterdir()) == ["in.jsonl", "out.jsonl"]


def done(folder: Path) -> int:
    return len(list((folder / "out.jsonl.parts").glob("*.jsonl")))


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Processes below one, with their command lines."""
    try:
        children = [
            int(word)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for word in (task / "children").read_text().split()
        ]
    except FileNotFoundError:
        return
    for child in children:
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield child, command
        yield from descendants(child)


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ray")
def test_a_worker_is_killed(argv: list[str], tmp_path: Path) -> None:
    killed = []

    def kill() -> None:
        while not done(tmp_path):
            time.sleep(0.002)
        workers = [pid for pid, command in descendants(os.getpid()) if "ray::PartPredictor" in command]
        os.kill(workers[0], signal.SIGKILL)
        killed.append(workers[0])

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        assert main(argv) == 0
    finally:
        thread.join(30)
    assert killed
    check(argv, tmp_path)


@pytest.mark.usefixtures("ray")
def test_the_command_is_killed(argv: list[str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "hezar_like", *argv, "--workers", "1"], stderr=subprocess.DEVNULL
    ) as process:
        while done(tmp_path) < 4:
            assert process.poll() is None
            time.sleep(0.002)
        below = dict(descendants(process.pid))
        process.kill()
    kept = done(tmp_path)
    assert 4 <= kept < len(LINES) // 2
    assert main(argv[: argv.index("--engine")]) == 0  # parts are parts, whoever made them
    check(argv, tmp_path)
    deadline = time.monotonic() + 30
    workers = [pid for pid, command in below.items() if "ray::PartPredictor" in command]
    assert len(workers) == 1
    while any(runs(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.usefixtures("ray")
def test_a_bad_line_is_named_as_in_the_whole_file(
    argv: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.jsonl").write_text("".join([*LINES[:30], '{"text": 1}\n', *LINES[31:]]))
    assert main([*argv, "--workers", "1"]) == 2
    assert f'error: {tmp_path / "in.jsonl"}, line 31: "text" holds int.' in capfd.readouterr().err
    assert done(tmp_path) == 15


def test_ray_is_not_installed(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(argv) == 2
    assert "pip install 'hezar_like[ray]'" in capsys.readouterr().err


# -- a worker that always dies, and one that dies once --------------------------------------------------------------


def mortal_worker(marker: Path, always: bool) -> type:
    """Its pickle holds the class itself, because workers cannot import this file."""

    class Mortal:
        def double(self, number: int) -> int:
            import os

            if number == 3 and (always or not marker.exists()):
                marker.touch()
                os.kill(os.getpid(), 9)
            return 2 * number

    return Mortal


def send(worker: Any, number: int) -> Any:
    return worker.double.remote(number)


@pytest.mark.usefixtures("ray")
def test_each_task_is_answered_once(tmp_path: Path) -> None:
    worker = mortal_worker(tmp_path / "marker", always=False)
    assert sorted(spread_with_ray(worker, (), range(9), send, workers=2)) == list(range(0, 18, 2))
    assert (tmp_path / "marker").exists()
    assert list(spread_with_ray(worker, (), [], send)) == []


@pytest.mark.usefixtures("ray")
def test_a_task_that_ends_every_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed_predict, "RETRIES", 1)
    worker = mortal_worker(tmp_path / "marker", always=True)
    with pytest.raises(HezarLikeError, match="died 2 times at one task"):
        list(spread_with_ray(worker, (), [3], send))


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        assert options["address"] == "auto"
        raise ConnectionError("could not\nfind any running Ray")

    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))  # type: ignore[arg-type]
    with pytest.raises(HezarLikeError, match="^Ray cannot be used at 'auto': could not find any running Ray. Check"):
        list(spread_with_ray(object, (), [1], send))


# -- who gets what --------------------------------------------------------------------------------------------------


def machine(cpus: int, gpus: int = 0, alive: bool = True) -> dict[str, Any]:
    resources = {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("machines", "workers", "use_gpu", "expected"),
    [
        ([machine(8)], None, True, ({"num_cpus": 8}, 1)),
        ([machine(8), machine(4), machine(9, alive=False)], None, True, ({"num_cpus": 4}, 2)),
        ([machine(8), machine(4)], 3, True, ({"num_cpus": 2}, 3)),
        ([machine(3), machine(1)], 4, True, ({"num_cpus": 1}, 4)),
        ([machine(8, 2), machine(8, 1)], None, True, ({"num_gpus": 1}, 3)),
        ([machine(8, 2), machine(8, 1)], 2, True, ({"num_gpus": 1}, 2)),
        ([machine(8, 2)], None, False, ({"num_cpus": 8}, 1)),
    ],
)
def test_resources(
    machines: list[Any], workers: int | None, use_gpu: bool, expected: tuple[Mapping[str, int], int]
) -> None:
    assert _resources(SimpleNamespace(nodes=lambda: machines), workers, use_gpu) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("machines", "workers", "kind"),
    [([machine(2)], 3, "2 CPUs"), ([machine(9, 1)], 2, "1 GPUs"), ([], None, "0 CPUs")],
)
def test_too_many_workers(machines: list[Any], workers: int | None, kind: str) -> None:
    with pytest.raises(OptionError, match=f"Ray has {kind}"):
        _resources(SimpleNamespace(nodes=lambda: machines), workers, True)  # type: ignore[arg-type]


# -- datasets -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")  # its own defaults
def test_batches_of_a_dataset(ray: ModuleType, model: str) -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    rows = [json.loads(line) for line in LINES]
    arguments = {"source": model, "load": {"device": "cpu"}, "predict": {"top_k": 2}}
    found = (
        ray.data.from_items(rows)
        .map_batches(RayPredictor, fn_constructor_kwargs=arguments, batch_size=16, concurrency=2, num_cpus=0.5)
        .take_all()
    )
    found.sort(key=lambda row: row["id"])
    assert [{key: row[key] for key in ("id", "text")} for row in found] == rows
    expected = Model.load(model, device="cpu").predict([row["text"] for row in rows], top_k=2)
    for row, labels in zip(found, expected, strict=True):
        assert list(row["result"]) == [label | {"score": pytest.approx(label["score"], abs=1e-6)} for label in labels]


def test_several_columns(model: str) -> None:
    predictor = RayPredictor(model, ["text", "text_pair"], "labels", load={"device": "cpu"})
    batch = {"text": ["the cat", "a dog"], "text_pair": ["sat", "the mat"]}
    found = predictor(batch)
    assert list(found) == ["text", "text_pair", "labels"]
    assert found["labels"] == predictor.model.predict([("the cat", "sat"), ("a dog", "the mat")])
    with pytest.raises(OptionError, match="no column 'text_pair'. Did you mean 'text_pairs'"):
        predictor({"text": ["a"], "text_pairs": ["b"]})


def test_tensors_are_lists(tmp_path: Path) -> None:
    folder = tiny_model("bert_text_embedding").save(tmp_path / "model")
    predictor = RayPredictor(folder, load={"device": "cpu"})
    (found,) = predictor({"text": ["the cat"]})["result"]
    assert {type(number) for number in found["embedding"]} == {float}


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"hezar_like\[ray\]"):
        list(spread_with_ray(object, (), [1], send))
