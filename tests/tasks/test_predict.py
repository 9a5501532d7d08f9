"""What `predict` and `stream` promise for every task."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch
from comparing import difference
from tiny_models import TEXTS, text_models, texts_for, tiny_model
from torch import nn

from hezar_like import Model, ModelConfig
from hezar_like.engine import prediction
from hezar_like.errors import HezarLikeError, InputError, NonFiniteOutput, OptionError, PreprocessorError

TASKS = ["bert", "bert_text_classification", "bert_sequence_labeling", "bert_mask_filling", "bert_text_embedding"]
CLOSE = 1e-5


@pytest.fixture(scope="module", params=TASKS)
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


@pytest.fixture(scope="module")
def classifier() -> Model:
    return tiny_model("bert_text_classification", num_labels=3)


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert text and "\n" not in text and len(text) < 500
    return text


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "suggestion"),
    [("top_kk", "'top_k'"), ("long_txt", "'long_text'"), ("batchsize", "'batch_size'"), ("devise", "'device'")],
)
def test_unknown_option_suggests(classifier: Model, option: str, suggestion: str) -> None:
    with pytest.raises(OptionError) as error:
        classifier.predict("a", **{option: 1})
    assert repr(option) in one_line(error) and suggestion in one_line(error)
    assert isinstance(error.value, TypeError) and isinstance(error.value, HezarLikeError)


@pytest.mark.parametrize("value", [0, -1, True, False, 1.5, "many", None])
def test_batch_size_that_is_none(classifier: Model, value: object) -> None:
    with pytest.raises(OptionError) as error:
        classifier.predict(["a"], batch_size=value)
    assert "batch_size" in one_line(error) and repr(value) in one_line(error) and "positive integer" in one_line(error)


@pytest.mark.parametrize("value", [1, 2, "auto", 10**9, 10**30])
def test_every_batch_size_gives_the_same(model: Model, value: object) -> None:
    texts = texts_for(model)
    assert difference(model.predict(texts, batch_size=value), [model.predict(text)[0] for text in texts]) < CLOSE


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("long_text", "cut"), ("max_length", 0), ("max_length", True), ("max_length", "8"), ("max_length", 10**6),
        ("max_length", 1), ("top_k", 0), ("top_k", True), ("top_k", 1.5), ("scores", "loud"), ("threshold", "high"),
        ("threshold", float("nan")), ("threshold", True),
    ],
)  # fmt: skip
def test_wrong_values_name_the_option(classifier: Model, option: str, value: object) -> None:
    with pytest.raises(OptionError) as error:
        classifier.predict("the dog and the cat", **{option: value})
    assert option in one_line(error)


def test_options_are_checked_before_the_first_input_is_read(classifier: Model) -> None:
    def never() -> Iterator[str]:
        raise AssertionError("read")
        yield ""

    with pytest.raises(OptionError):
        classifier.stream(never(), wrong=1)


# -- inputs and their order -------------------------------------------------------------------------------------------


def test_single_list_tuple_and_generator(model: Model) -> None:
    texts = texts_for(model)
    expected = model.predict(texts)
    assert len(expected) == len(texts)
    assert difference(model.predict(tuple(texts)), expected) == 0
    assert difference(model.predict(text for text in texts), expected) == 0
    assert difference(list(model.stream(iter(texts))), expected) == 0
    assert len(model.predict(texts[0])) == 1


@pytest.mark.parametrize("nothing", [[], (), iter(()), {}.keys()], ids=["list", "tuple", "iterator", "keys"])
def test_no_inputs_no_results(model: Model, nothing: object) -> None:
    assert model.predict(nothing) == []


def test_stream_is_lazy(model: Model) -> None:
    read = itertools.count()
    endless = ((text, next(read))[0] for text in itertools.cycle(texts_for(model)))
    results = model.stream(endless, batch_size=2)
    assert next(read) == 0  # nothing is read before the first result is asked for
    first = list(itertools.islice(results, 5))
    assert difference(first, model.predict(texts_for(model)[:5])) < CLOSE
    assert next(read) <= 2 * model.batches_per_window + 2


def test_a_long_stream_gives_back_what_was_freed(classifier: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    given_back = []
    monkeypatch.setattr(prediction, "TIDIED_AFTER", 400)
    monkeypatch.setattr(prediction, "give_back_freed", lambda: given_back.append(1))
    assert len(list(classifier.stream(("a cat" for _ in range(399)), batch_size=1))) == 399
    assert not given_back
    assert len(list(classifier.stream(("a cat" for _ in range(1300)), batch_size=1))) == 1300
    assert len(given_back) == 3


def test_order_survives_sorting_by_length(classifier: Model) -> None:
    texts = [" ".join(["dog"] * (1 + 7 * i % 11)) for i in range(20)]
    for text, result in zip(texts, classifier.predict(texts, batch_size=3), strict=True):
        assert difference(result, classifier.predict(text)[0]) < CLOSE


# -- what a call leaves behind ----------------------------------------------------------------------------------------


def test_a_call_leaves_the_model_as_it_was(model: Model) -> None:
    config, state = model.config.to_dict(), {name: t.clone() for name, t in model.state_dict().items()}
    model.train()
    part = next(module for module in model.modules() if isinstance(module, nn.Dropout))
    part.eval()  # a user froze this one
    try:
        results = model.predict(texts_for(model))
        assert model.training and not part.training
        assert difference(results, model.predict(texts_for(model))) == 0  # no dropout, though it is in training mode
    finally:
        model.eval()
    assert model.config.to_dict() == config
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_the_mode_comes_back_after_an_error(classifier: Model) -> None:
    classifier.train()
    try:
        with pytest.raises(InputError):
            classifier.predict(["a", None])
        assert classifier.training
    finally:
        classifier.eval()


@pytest.mark.parametrize("training", [False, True])
def test_16_threads_give_what_one_gives(training: bool) -> None:
    model = tiny_model("bert_text_classification", hidden_dropout_prob=0.5).train(training)
    texts = [" ".join(TEXTS[: i % 5 + 1]) for i in range(32)]
    expected = [model.predict(text, top_k=None) for text in texts]
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda text: model.predict(text, top_k=None), texts))
    assert difference(results, expected) < CLOSE
    assert model.training is training and all(part.training is training for part in model.modules())


# -- numbers that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", TASKS)
def test_weights_that_lie(name: str, value: float) -> None:
    model = tiny_model(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    with pytest.raises(NonFiniteOutput) as error:
        model.predict(texts_for(model)[:1])
    assert "NaN or infinity" in one_line(error) and isinstance(error.value, ArithmeticError)


# -- steps left out ---------------------------------------------------------------------------------------------------


def test_preprocessed_inputs(model: Model) -> None:
    texts = texts_for(model)
    batch = model.preprocess(texts)
    assert difference(model.predict(batch, preprocess=False), model.predict(texts)) < CLOSE


@pytest.mark.parametrize("name", ["bert_text_classification", "bert_sequence_labeling", "bert_text_embedding"])
def test_preprocessed_windows_of_a_long_text(name: str) -> None:
    model = tiny_model(name)
    texts = ["the dog " * 50, "the cat"]
    batch = model.preprocess(texts, long_text="window")
    assert len(batch["token_ids"]) > 2
    expected = model.predict(texts, long_text="window")
    assert difference(model.predict(batch, preprocess=False), expected) < CLOSE
    assert difference(model.predict(batch, preprocess=False, batch_size=1), expected) < CLOSE


def test_plain_tensors_tell_no_texts(model: Model) -> None:
    tensors = dict(model.preprocess(texts_for(model)))
    with pytest.raises(OptionError) as error:
        model.predict(tensors, preprocess=False)
    assert "post_process=False" in one_line(error)


@pytest.mark.parametrize("name", ["bert", "bert_text_classification", "bert_sequence_labeling", "bert_text_embedding"])
def test_forward_outputs(name: str) -> None:
    model = tiny_model(name)
    texts = ["a", "the dog", "a cat sat"]  # as many as there are hidden states, which must not be taken for rows
    tensors = dict(model.preprocess(texts))
    with torch.inference_mode():
        expected = model(**tensors, output_hidden_states=True)
    for given, options in ((texts, {}), (tensors, {"preprocess": False})):
        rows = model.predict(given, post_process=False, output_hidden_states=True, **options)
        assert len(rows) == 3
        for i, row in enumerate(rows):
            assert set(row) == set(expected)
            states = torch.stack(row["hidden_states"])
            # Without post_process the padding is still there, and a batch of its own may have less of it.
            wanted = torch.stack([state[i] for state in expected.hidden_states])[:, : states.size(1)]
            real = int(tensors["attention_mask"][i].sum())
            assert difference(states[:, :real], wanted[:, :real]) < CLOSE


def test_windows_without_post_process_come_in_rows(classifier: Model) -> None:
    long, short = classifier.predict(["the dog " * 50, "a"], post_process=False, long_text="window")
    assert long["logits"].ndim == 2 and len(long["logits"]) > 1
    alone = classifier.predict("a", post_process=False)[0]["logits"]
    assert torch.allclose(short["logits"], alone, atol=1e-6)


def test_masks_without_post_process_have_all_scores() -> None:
    model = tiny_model("bert_mask_filling")
    mask = model.preprocessor.tokenizer.mask_token
    texts = [f"the {mask} and {mask}", f"a {mask}"]
    for text, outputs in zip(texts, model.predict(texts, post_process=False), strict=True):
        tokens = len(model.preprocess(text).inputs[0].encoded)
        assert outputs["logits"].shape[1] == model.config.vocab_size and len(outputs["logits"]) >= tokens


def test_a_tensor_is_no_text(model: Model) -> None:
    with pytest.raises(InputError):
        model.predict(torch.tensor([[1, 2], [3, 4]]))


# -- preprocessors ----------------------------------------------------------------------------------------------------


def test_without_a_tokenizer(model: Model) -> None:
    bare = tiny_model(model.config.name)
    bare.preprocessor = None
    with pytest.raises(PreprocessorError) as error:
        bare.predict("a")
    assert "tokenizer" in one_line(error) and "model.preprocessor" in one_line(error)


@pytest.mark.parametrize("name", text_models())
def test_a_batch_gives_what_single_inputs_give(name: str) -> None:
    model = tiny_model(name)
    texts = texts_for(model)
    assert difference(model.predict(texts), [model.predict(text)[0] for text in texts]) < CLOSE


# -- models of users --------------------------------------------------------------------------------------------------


@dataclass
class RowsConfig(ModelConfig):
    name = "rows_of_a_test"


class Rows(Model):
    """Its own steps record what they were given."""

    def __init__(self, config: RowsConfig) -> None:
        super().__init__(config=config)
        self.layer = nn.Linear(2, 2)
        self.seen: list[torch.Tensor] = []

    def preprocess(self, inputs: torch.Tensor, *, shift: float = 0.0) -> torch.Tensor:
        self.seen.append(inputs)
        return inputs + shift

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, self.layer(x)


def test_a_batch_tensor_goes_through_preprocess_with_its_options() -> None:
    model = Rows(RowsConfig())
    given = torch.arange(10.0).reshape(5, 2)
    results = model.predict(given, shift=1.0, batch_size=2)
    assert [len(part) for part in model.seen] == [2, 2, 1]
    assert torch.equal(torch.stack([first for first, _ in results]), given + 1)
    assert model.predict(torch.empty(0, 2)) == []


def test_outputs_that_are_a_tuple_are_told_apart_by_rows() -> None:
    model = Rows(RowsConfig())
    results = model.predict(torch.arange(4.0).reshape(2, 2))  # two rows and two outputs
    assert [tuple(part.shape for part in result) for result in results] == [((2,), (2,))] * 2
    assert torch.equal(results[1][0], torch.tensor([2.0, 3.0]))


def test_a_tensor_without_rows() -> None:
    with pytest.raises(InputError) as error:
        Rows(RowsConfig()).predict(torch.tensor(1.0))
    assert "row" in one_line(error)
