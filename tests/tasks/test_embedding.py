"""Text embedding: vectors, their similarity, and windows of long texts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from comparing import difference
from tiny_models import TEXTS, tiny_model

from hezar_like import Model
from hezar_like.outputs import BackboneOutput

POOLINGS = ["mean", "cls", "max", "mean_sqrt_len"]


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("bert_text_embedding")


def test_a_vector_per_text(model: Model) -> None:
    results = model.predict(TEXTS)
    assert [result["embedding"].shape for result in results] == [(32,)] * len(TEXTS)
    matrix = model.embed(TEXTS)
    assert matrix.dtype == torch.float32 and torch.equal(matrix, torch.stack([r["embedding"] for r in results]))
    assert difference(model.embed(TEXTS, batch_size=1), matrix) < 1e-5
    assert model.embed("the dog").shape == (1, 32)
    assert model.embed([]).shape == (0, 32)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_leaves_padding_out(pooling: str) -> None:
    model = tiny_model("bert_text_embedding", pooling=pooling)
    states = torch.tensor([[[3.0, 1.0], [5.0, 2.0], [100.0, 100.0]]])
    expected = {
        "mean": [4.0, 1.5],
        "cls": [3.0, 1.0],
        "max": [5.0, 2.0],
        "mean_sqrt_len": [8 / 2**0.5, 3 / 2**0.5],
    }
    output = model.read_out(BackboneOutput(last_hidden_state=states), {"attention_mask": torch.tensor([[1, 1, 0]])})
    torch.testing.assert_close(output.embeddings, torch.tensor([expected[pooling]]))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_normalized(pooling: str) -> None:
    model = tiny_model("bert_text_embedding", pooling=pooling, normalize=True)
    lengths = model.embed([*TEXTS, "the dog " * 60], long_text="window").norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(len(TEXTS) + 1))


def test_windows_are_averaged_by_their_number_of_tokens(model: Model) -> None:
    text = "the dog and the cat " * 20
    batch = model.preprocess([text], long_text="window")
    with torch.inference_mode():
        rows = model(**batch).embeddings
    weights = batch["attention_mask"].sum(1).float()
    assert len(rows) > 1
    expected = (rows * weights[:, None]).sum(0) / weights.sum()
    torch.testing.assert_close(model.embed(text, long_text="window")[0], expected, rtol=1e-4, atol=1e-5)


def test_similarity(model: Model) -> None:
    left, right = model.embed(TEXTS[:2]), model.embed(TEXTS[2:5])
    expected = F.normalize(left, dim=-1) @ F.normalize(right, dim=-1).T
    torch.testing.assert_close(model.similarity(TEXTS[:2], TEXTS[2:5]), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.similarity(left, right), expected)
    assert model.similarity("the dog", "the dog").item() == pytest.approx(1, abs=1e-5)
    assert model.similarity("the dog", []).shape == (1, 0)
    dot = tiny_model("bert_text_embedding", similarity_function="dot")
    torch.testing.assert_close(dot.similarity(left, right), left @ right.T)
