"""Row 43: where memory runs out for a batch, smaller ones are tried, with the same results."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from comparing import difference
from confined import in_fork
from tiny_models import texts_for, tiny_model
from torch import Tensor, nn

from hezar_like import Model, ModelConfig
from hezar_like.errors import HezarLikeError, InputError, OutOfMemory

CLOSE = 1e-5
SPEECH = Path(__file__).parents[1] / "fixtures" / "speech" / "hezar_whisper"


def cuda() -> None:
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB of which 1.00 GiB is free."
    )


def windows() -> None:
    raise RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."
    )


def python() -> None:
    raise MemoryError


NO_MEMORY: list[Callable[[], Any]] = [
    cuda, windows, python, lambda: torch.empty(2**60, dtype=torch.uint8), lambda: numpy.empty(2**60, numpy.uint8)
]  # fmt: skip
NAMES = ["CUDA", "Windows", "Python", "Linux", "NumPy"]


class Limit:
    """Lets memory run out in a part of a model for more rows than there may be, after some was taken.

    Attributes:
        rows: How many rows each of its calls had.
    """

    def __init__(self, part: nn.Module, most: int, fail: Callable[[], Any] = cuda) -> None:
        self.rows: list[int] = []
        self._most, self._fail = most, fail
        self._taken = threading.local()  # others may be in the middle of their tries
        self._hook = part.register_forward_pre_hook(self._before)

    def __enter__(self) -> Limit:
        gc.disable()  # what is freed only some day is kept
        return self

    def __exit__(self, *error: object) -> None:
        gc.enable()
        self._hook.remove()

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        taken: list[weakref.ref[Tensor]] = self._taken.__dict__.setdefault("tensors", [])
        assert not any(tensor() is not None for tensor in taken), "a failed try is kept"
        self.rows.append(len(args[0]))
        if len(args[0]) > self._most:
            tensor = torch.zeros(1000)
            taken.append(weakref.ref(tensor))
            self._fail()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Batches in their order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def embedding(model: Model) -> nn.Module:
    return next(part for name, part in model.named_modules() if name.endswith("embed.tokens"))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "Memory ran out" in record.getMessage()]


# -- batches of texts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fail", NO_MEMORY, ids=NAMES)
def test_row_43_halves_down_to_what_fits(fail: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model("bert_text_classification", num_labels=3)
    texts = texts_for(model) * 4
    expected = model.predict(texts, top_k=None, batch_size=24)
    with Limit(embedding(model), 7, fail) as limit:
        results = model.predict(texts, top_k=None, batch_size=24)
        assert limit.rows == [24, 12, 6, 6, 6, 6]
        assert difference(results, expected) < CLOSE
        assert len(said(caplog)) == 1 and "a batch of 24" in said(caplog)[0] and "batch_size=12" in said(caplog)[0]
        assert difference(model.predict(texts, top_k=None, batch_size=24), expected) < CLOSE
    assert len(limit.rows) == 12 and len(said(caplog)) == 1


@pytest.mark.parametrize(
    ("name", "most", "options"),
    [
        ("bert_sequence_labeling", 8, {"max_length": 8, "overlap": 2}), ("bert_mask_filling", 1, {}),
        ("bert_text_embedding", 1, {}), ("t5", 1, {}),
        ("gpt2_text_generation", 1, {"max_new_tokens": 4}),
        ("gpt2_text_generation", 2, {"max_new_tokens": 4, "do_sample": True, "seed": 3, "num_return_sequences": 2}),
        ("t5_text_generation", 3, {"max_new_tokens": 4, "num_beams": 3}),
    ],
)  # fmt: skip
def test_row_43_every_task_gives_the_same_in_order(name: str, most: int, options: dict[str, Any]) -> None:
    model = tiny_model(name)
    texts = texts_for(model)
    expected = model.predict(texts, **options)
    with Limit(embedding(model), most) as limit:
        assert difference(model.predict(texts, **options), expected) < CLOSE
    assert max(limit.rows) > most  # it had to be cut


@pytest.mark.parametrize("threads", [2, 8])
def test_row_43_batches_side_by_side(threads: int) -> None:
    model = tiny_model("bert_text_classification", num_labels=3)
    texts = texts_for(model) * 8
    expected = model.predict(texts, top_k=None)
    torch.set_num_threads(threads)
    with Limit(embedding(model), 3) as limit:
        assert difference(model.predict(texts, top_k=None, batch_size=6), expected) < CLOSE
    assert limit.rows.count(6) == 8 and limit.rows.count(3) == 16


@pytest.mark.parametrize("fail", NO_MEMORY, ids=NAMES)
def test_row_43_one_item_that_does_not_fit(fail: Callable[[], Any]) -> None:
    model = tiny_model("bert_text_classification", num_labels=3)
    texts = ["the cat", "the dog", *texts_for(model)]
    longest = max(range(len(texts)), key=lambda i: len(model.preprocess([texts[i]])["token_ids"][0]))
    with Limit(embedding(model), 0, fail) as limit, pytest.raises(OutOfMemory) as error:
        model.predict(texts)
    text = str(error.value)
    assert limit.rows == [8, 4, 2, 1] and f"item {longest} of the inputs needs more memory than is free (" in text
    assert text.isprintable() and len(text) < 500
    assert isinstance(error.value, MemoryError) and isinstance(error.value, InputError) and error.value.index == longest
    assert len(model.predict(texts)) == 8


def test_row_43_the_number_is_that_of_all_inputs() -> None:
    model = tiny_model("bert_text_classification", num_labels=3)
    texts = ["the cat"] * 70 + ["the cat sat on the mat"] + ["a"] * 29
    results = model.stream(iter(texts), batch_size=2)  # the first window has 32 inputs, the second one 64
    hook = embedding(model).register_forward_pre_hook(lambda _, args: cuda() if args[0].size(1) > 5 else None)
    with pytest.raises(OutOfMemory, match="item 70 of the inputs"):
        list(results)
    hook.remove()
    assert len(model.predict(texts)) == 100


def own_error() -> None:
    raise RuntimeError("not enough memory: this model can't allocate memory for that")


def own_class() -> None:
    raise OSError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


@pytest.mark.parametrize("fail", [own_error, own_class])
def test_row_43_what_only_sounds_like_it_is_the_users(
    fail: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model("bert_text_classification", num_labels=3)
    with Limit(embedding(model), 1, fail) as limit, pytest.raises((RuntimeError, OSError)) as error:
        model.predict(texts_for(model))
    assert limit.rows == [6] and not isinstance(error.value, HezarLikeError) and not said(caplog)


# -- batches of other kinds -------------------------------------------------------------------------------------------


class Sums(Model):
    """A model of a user's, whose batches are plain tensors."""

    def __init__(self) -> None:
        super().__init__(ModelConfig())
        self.part = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x).sum(1)


def test_row_43_a_model_of_the_users_own(caplog: pytest.LogCaptureFixture) -> None:
    model, inputs = Sums(), [torch.full((2,), float(i)) for i in range(7)]
    expected = [2.0 * i for i in range(7)]
    with Limit(model.part, 2) as limit:
        assert [float(y) for y in model.predict(inputs)] == expected
        assert limit.rows == [7, 3, *[1] * 7]
        assert [float(y) for y in model.predict(torch.stack(inputs))] == expected
    assert len(said(caplog)) == 1


def test_row_43_memory_that_runs_out_for_preprocess(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("bert_text_classification", num_labels=3)
    texts, prepare, sizes = texts_for(model), model.preprocess, list[int]()
    expected = model.predict(texts, top_k=None)

    def limited(inputs: Any, **options: Any) -> Any:
        sizes.append(len(inputs))
        return prepare(inputs, **options) if len(inputs) <= 2 else python()

    monkeypatch.setattr(type(model), "preprocess", lambda self, inputs, **options: limited(inputs, **options))
    assert difference(model.predict(texts, top_k=None), expected) < CLOSE
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]
    texts = [*texts[:4], 5]
    with pytest.raises(InputError, match="item 4 of the inputs"):
        model.predict(texts)


def test_row_43_a_batch_that_the_user_prepared() -> None:
    model = tiny_model("bert_text_classification", num_labels=3)
    texts = texts_for(model)
    batch, expected = model.preprocess(texts), model.predict(texts, top_k=None)
    with Limit(embedding(model), 2):  # what preprocess returned can be cut
        assert difference(model.predict(batch, preprocess=False, top_k=None), expected) < CLOSE
    with Limit(embedding(model), 2) as limit, pytest.raises(OutOfMemory, match="the batch needs more memory") as error:
        model.predict(dict(batch), preprocess=False, post_process=False)
    assert limit.rows == [6] and error.value.index is None


def test_row_43_texts_that_come_piece_by_piece() -> None:
    model = tiny_model("gpt2_text_generation")
    with Limit(embedding(model), 2) as limit, pytest.raises(OutOfMemory, match="the batch needs more memory"):
        list(model.stream(texts_for(model), max_new_tokens=3))
    assert len(limit.rows) == 1
    with Limit(embedding(model), 2):
        pieces = list(model.stream(texts_for(model), max_new_tokens=3, batch_size=2))
    assert {number for number, _ in pieces} <= set(range(6)) and pieces


# -- recordings -------------------------------------------------------------------------------------------------------


def recordings() -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(16_000 * seconds, generator=random) / 10 for seconds in (3, 70, 1, 45)]


@pytest.mark.parametrize("options", [{}, {"return_timestamps": "word"}, {"windows": "parallel"}])
@pytest.mark.parametrize("name", ["backbone.audio.conv1", "backbone.embed.tokens"])
def test_row_43_windows_of_recordings(name: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    model: Any = Model.load(SPEECH, device="cpu", config_filename="model_config_timestamps.yaml")
    part = model.get_submodule(name)
    options = {"temperature": 0.0, **options}  # of what is drawn there are several rows for a window
    expected, pieces = model.predict(recordings(), **options), list(model.stream(recordings(), **options))
    with Limit(part, 1) as limit:
        assert difference(model.predict(recordings(), **options), expected) < CLOSE
        again = list(model.stream(recordings(), **options))
    assert max(limit.rows) > 1 and len(said(caplog)) == 1
    assert [number for number, _ in again] == [number for number, _ in pieces] and pieces
    assert difference([chunk for _, chunk in again], [chunk for _, chunk in pieces]) < CLOSE
    with Limit(part, 0), pytest.raises(OutOfMemory, match="item 0 of the inputs"):
        model.predict(recordings(), **options)


def test_row_43_features_of_one_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = Model.load(SPEECH, device="cpu", config_filename="model_config_timestamps.yaml")
    extractor = type(model.preprocessor.audio_feature_extractor)
    make = extractor.features
    calls = 0

    def features(self: Any, audio: Any, **options: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return make(self, audio, **options) if calls < 3 else python()

    monkeypatch.setattr(extractor, "features", features)
    with pytest.raises(OutOfMemory, match="item 2 of the inputs"):
        model.predict(recordings())


# -- memory that is really short --------------------------------------------------------------------------------------


def test_row_43_a_process_with_little_memory(tmp_path: Path) -> None:
    """The same process has room for one batch at once, and then not."""
    model = tiny_model("bert_text_classification", num_labels=3, hidden_size=128, intermediate_size=1024)
    texts = ["the cat sat on the mat and the dog too " * 2] * 512
    expected = model.predict(texts[:1], top_k=None)[0]
    log = tmp_path / "log"

    def short() -> None:
        logging.getLogger("hezar_like").addHandler(logging.FileHandler(log))
        torch.set_num_threads(1)
        results = model.predict(texts, top_k=None, batch_size=512, long_text="truncate")
        assert all(difference(result, expected) < CLOSE for result in results) and len(results) == 512

    for megabytes, cut in ((2000, False), (40, True)):
        outcome = in_fork(short, tmp_path, seconds=60, megabytes=megabytes)
        assert outcome.kind == "fine", outcome
        assert ("Memory ran out" in log.read_text()) is cut
