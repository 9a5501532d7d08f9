"""Datasets from every source, their features, and one clear error for every kind of bad data."""

from __future__ import annotations

import json
import logging
import pickle
import wave
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import TEXTS, glm_tokenizer, sentinel_tokenizer, tokenizer
from tiny_models import tiny_model
from torch.utils.data import DataLoader

from hezar_like import build_dataset, build_model, list_available_datasets
from hezar_like.data import (
    BatchSampler,
    Dataset,
    IndexedDatasetWriter,
    PadCollator,
    TextClassificationDatasetConfig,
    read_rows,
)
from hezar_like.data.transforms import TransformedDataset
from hezar_like.errors import ConfigError, DataError, OptionError, PreprocessorError, RegistryError
from hezar_like.preprocessors import PreprocessorsContainer, WhisperFeatureExtractor, WhisperFeatureExtractorConfig

ROWS = [{"text": "a cat", "label": "good"}, {"text": "the dog sat", "label": "bad"}, {"text": 'say "no"', "label": "good"}]
CONLL = "-DOCSTART- O\n\na B-X\ncat I-X\n\nthe O\ndog B-Y\nsat O\n"
CONLLU = (
    "# text = the cats\n1\tthe\tthe\tDET\t_\t_\t2\tdet\t_\t_\n2-3\tcats\t_\t_\t_\t_\t_\t_\t_\t_\n"
    "2\tcat\tcat\tNOUN\t_\t_\t0\troot\t_\t_\n2.1\tx\tx\tX\t_\t_\t_\t_\t_\t_\n3\ts\ts\tPART\t_\t_\t2\tcase\t_\t_\n\n"
    "1\tsat\tsit\tVERB\t_\t_\t0\troot\t_\t_\n\n"
)  # fmt: skip


def write_all(folder: Path) -> dict[str, Any]:
    """The same rows in every form; each with what else is needed to read it."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    texts = [(row["text"], row["label"]) for row in ROWS]
    (folder / "a.csv").write_text('text,label\na cat,good\nthe dog sat,bad\n"say ""no""",good\n', encoding="utf-8-sig")
    (folder / "a.tsv").write_text("".join(f"{text}\t{label}\r\n" for text, label in texts), newline="")
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), folder / "a.parquet")
    (folder / "split" / "data").mkdir(parents=True)
    for number, row in enumerate(ROWS):
        (folder / "split" / "data" / f"train-0000{number}-of-3.jsonl").write_text(json.dumps(row))
    (folder / "split" / "data" / "test.jsonl").write_text(json.dumps(ROWS[0]))
    return {
        "list": {"rows": ROWS},
        "csv": {"path": str(folder / "a.csv")},
        "tsv": {"path": str(folder / "a.tsv"), "columns": ["text", "label"]},
        "jsonl": {"path": str(folder / "a.jsonl")},
        "parquet": {"path": str(folder / "a.parquet")},
        "folder": {"path": str(folder / "split"), "split": "train"},
        "datasets": {"rows": datasets.Dataset.from_list(ROWS)},
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_all(tmp_path_factory.mktemp("sources"))


@pytest.mark.parametrize("name", ["list", "csv", "tsv", "jsonl", "parquet", "folder", "datasets"])
def test_every_source_gives_the_same_samples(name: str, sources: dict[str, Any]) -> None:
    data = build_dataset("text_classification", preprocessor=tokenizer(), **sources[name])
    assert data.id2label == {0: "bad", 1: "good"}
    assert [data[i]["labels"] for i in range(3)] == [1, 0, 1]
    assert [data[i]["token_ids"] for i in range(3)] == [row.ids for row in tokenizer().encode_texts([row["text"] for row in ROWS])]
    assert list(data.lengths) == [len(data[i]["token_ids"]) for i in range(3)]
    assert pickle.loads(pickle.dumps(data))[1] == data[1]
    batch = next(iter(DataLoader(data, batch_size=3, collate_fn=data.data_collator)))
    assert batch["labels"].tolist() == [1, 0, 1] and batch["attention_mask"].sum() == sum(data.lengths)


def test_names_of_classes_of_the_source(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "tags": datasets.List(datasets.ClassLabel(names=["O", "B-X"])), "text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    found = datasets.Dataset.from_dict({"tokens": [["a", "cat"]], "tags": [[0, 1]], "text": ["a"], "label": [1]}, features=features)
    found.to_parquet(tmp_path / "x.parquet")
    for source in ({"rows": found}, {"path": str(tmp_path / "x.parquet")}):
        assert build_dataset("sequence_labeling", preprocessor=tokenizer(), **source).id2label == {0: "O", 1: "B-X"}
        data = build_dataset("text_classification", preprocessor=tokenizer(), **source)
        assert (data.id2label, data[0]["labels"]) == ({0: "no", 1: "yes"}, 1)
    with pytest.raises(DataError, match="has the splits train. Give one"):
        read_rows(datasets.DatasetDict({"train": found}))


def test_names_are_registered_and_configs_come_back() -> None:
    names = {
        "text_classification", "sequence_labeling", "seq2seq", "text_summarization", "causal_language_modeling",
        "masked_language_modeling", "span_corruption", "blank_infilling", "hole_filling", "prompt", "speech_recognition",
    }  # fmt: skip
    assert names <= set(list_available_datasets())
    from hezar_like.registry import datasets_registry

    for name in names:
        config = datasets_registry[name].config_class(path="x", max_size=3)
        assert config.from_dict(config.to_dict()) == config
    with pytest.raises(RegistryError, match="Did you mean 'text_classification'"):
        build_dataset("text_clasification")


def test_hezars_way_of_loading(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("content,mood\na cat,1\nthe dog,0\n")
    (tmp_path / "dataset_config.yaml").write_text(
        "name: text_classification\nconfig_type: dataset\ntask: text_classification\ntext_field: content\nlabel_field: mood\n"
    )
    data = Dataset.load(tmp_path, split="train", preprocessor=tokenizer())
    assert [data[i]["labels"] for i in range(2)] == [1, 0]
    config = TextClassificationDatasetConfig(text_field="content", label_field="mood")
    assert len(Dataset.load(tmp_path, "train", tokenizer(), config, max_size=1)) == 1
    with pytest.raises(DataError, match="has no no.yaml, so its kind is unknown"):
        Dataset.load(tmp_path, config_filename="no.yaml")
    with pytest.raises(DataError, match=r"has no files of the split 'trian'. Did you mean 'train'"):
        Dataset.load(tmp_path, "trian", tokenizer())


def test_a_dataset_of_the_hub_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []

    def load(*names: str, **options: Any) -> Any:
        asked.append((names, options))
        if names[0] == "org/nothing":
            raise FileNotFoundError("Dataset 'org/nothing'\ndoesn't exist")
        return datasets.Dataset.from_list([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    data = build_dataset(
        "text_classification", path="org/films:small", split="train", preprocessor=tokenizer("bpe_tokenizer"),
        hf_load_kwargs={"revision": "abc"},
    )  # fmt: skip
    assert asked == [(("org/films", "small"), {"split": "train", "revision": "abc"})]
    assert data.id2label == {0: "x", 1: "y"} and data[1]["labels"] == 1
    with pytest.raises(DataError, match="org/nothing.*doesn't exist"):
        build_dataset("text_classification", path="org/nothing", split="train")


@pytest.mark.parametrize(("size", "left"), [(2, 2), (0.34, 1), (1.0, 3), (1, 1), (99, 3)])
def test_max_size(size: float, left: int, sources: dict[str, Any]) -> None:
    for name in ("list", "datasets", "csv"):
        assert len(build_dataset("text_classification", max_size=size, **sources[name])) == left


# -- kinds ----------------------------------------------------------------------------------------------------------------


def test_pairs_several_labels_and_numbers(caplog: pytest.LogCaptureFixture) -> None:
    pairs = build_dataset("text_classification", rows=[{"text": "a cat", "b": "the dog", "label": 0}], text_pair_field="b", preprocessor=tokenizer(), id2label={0: "x", 1: "y"})
    row = tokenizer().encode_texts([("a cat", "the dog")])[0]
    assert pairs[0] == {"token_ids": row.ids, "token_type_ids": row.type_ids, "labels": 0}
    several = build_dataset("text_classification", rows=[{"text": "a", "label": ["x", "z"]}, {"text": "b", "label": ["y"]}], problem_type="multi_label_classification", preprocessor=tokenizer())
    assert several.data_collator([several[0], several[1]])["labels"].tolist() == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    numbers = build_dataset("text_classification", rows=[{"text": "a", "label": "0.5"}, {"text": "b", "label": 2}], problem_type="regression", preprocessor=tokenizer())
    assert [numbers[i]["labels"] for i in range(2)] == [0.5, 2.0]
    short = build_dataset("text_classification", rows=[{"text": TEXTS[3], "label": 1}], max_length=4, preprocessor=tokenizer())
    with caplog.at_level(logging.WARNING, "hezar_like"):
        short[0]
    assert "1 texts of the dataset 'text_classification' were longer than what is read and were cut" in caplog.text
    assert len(short[0]["token_ids"]) == 4 and short[0]["token_ids"][-1] == tokenizer().sep_token_id


def test_labels_of_words(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text(CONLL)
    data = build_dataset("sequence_labeling", path=str(tmp_path / "x.conll"), preprocessor=tokenizer())
    assert data.id2label == {0: "B-X", 1: "B-Y", 2: "I-X", 3: "O"}
    assert data[0]["labels"] == [-100, 0, 2, -100]
    (tmp_path / "x.conllu").write_text(CONLLU)
    pos = build_dataset("sequence_labeling", path=str(tmp_path / "x.conllu"), tags_field="upos", preprocessor=tokenizer())
    assert [row["tokens"] for row in pos.rows.rows] == [["the", "cat", "s"], ["sat"]]
    assert pos.id2label == {0: "DET", 1: "NOUN", 2: "PART", 3: "VERB"}


def test_labels_of_words_of_several_tokens(caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"tokens": ["unzebraish", "cat"], "tags": ["B-X", "I-X"]}]
    pieces = len(tokenizer().encode_texts(["unzebraish"], add_special_tokens=False)[0])
    assert pieces > 1
    first = build_dataset("sequence_labeling", rows=rows, preprocessor=tokenizer())[0]["labels"]
    assert first == [-100, 0, *[-100] * (pieces - 1), 1, -100]
    every = build_dataset("sequence_labeling", rows=rows, preprocessor=tokenizer(), label_all_tokens=True)[0]["labels"]
    assert every == [-100, *[0] * pieces, 1, -100]
    inside = build_dataset("sequence_labeling", rows=rows, preprocessor=tokenizer(), label_all_tokens=True, is_iob_schema=True)
    assert inside[0]["labels"] == [-100, 0, *[1] * (pieces - 1), 1, -100]
    with caplog.at_level(logging.WARNING, "hezar_like"):
        cut = build_dataset("sequence_labeling", rows=rows, preprocessor=tokenizer(), max_length=pieces + 2)
        assert len(cut[0]["labels"]) == pieces + 2
    assert "1 words of the dataset 'sequence_labeling' have no token: 1 sentences are longer" in caplog.text


def test_layouts_of_texts_and_what_is_written() -> None:
    rows = [{"source": "a cat sat", "target": "the dog"}]
    t5 = sentinel_tokenizer()
    plain = {text: t5.encode_texts([text])[0].ids for text in ("go: a cat sat", "the dog")}
    data = build_dataset("seq2seq", rows=rows, prefix="go: ", preprocessor=t5)
    assert data[0] == {"token_ids": plain["go: a cat sat"], "labels": plain["the dog"]}
    own = tokenizer()
    source, target = (own.encode_texts([text], add_special_tokens=False)[0].ids for text in ("a cat sat", "the dog"))
    unilm = build_dataset("seq2seq", rows=rows, layout="encoder", preprocessor=own)[0]
    assert unilm["token_ids"] == [own.cls_token_id, *source, own.sep_token_id, *target, own.sep_token_id]
    assert unilm["token_type_ids"] == [0] * (len(source) + 2) + [1] * (len(target) + 1)
    assert unilm["labels"] == [-100] * (len(source) + 2) + [*target, own.sep_token_id]
    source, target = (t5.encode_texts([text], add_special_tokens=False)[0].ids for text in ("a cat sat", "the dog"))
    decoder = build_dataset("seq2seq", rows=rows, layout="decoder", preprocessor=t5, max_target_length=2)[0]
    assert decoder == {"token_ids": [*source, target[0], t5.eos_token_id], "labels": [*[-100] * len(source), target[0], t5.eos_token_id]}
    glm = glm_tokenizer()
    source, target = (glm.encode_texts([text], add_special_tokens=False)[0].ids for text in ("a cat sat", "the dog"))
    blank = build_dataset("seq2seq", rows=rows, layout="blank", preprocessor=glm)[0]
    ids = {role: glm.role_id(role) for role in ("cls", "gmask", "sop", "eop")}
    assert blank["token_ids"] == [ids["cls"], *source, ids["gmask"], ids["sop"], *target]
    assert blank["labels"] == [*[-100] * (len(source) + 2), *target, ids["eop"]]
    summary = build_dataset("text_summarization", rows=[{"body": "a", "summary": "b"}], text_field="body", preprocessor=t5)
    assert set(summary[0]) == {"token_ids", "labels"}
    with pytest.raises(PreprocessorError, match="has no eos token"):
        build_dataset("seq2seq", rows=rows, layout="decoder", preprocessor=own)[0]


LEARNING = {
    "causal_language_modeling": tokenizer,
    "masked_language_modeling": tokenizer,
    "span_corruption": sentinel_tokenizer,
    "blank_infilling": glm_tokenizer,
    "hole_filling": tokenizer,
}


def test_the_end_of_a_stored_document_is_there_once() -> None:
    own = sentinel_tokenizer()
    (ids,) = [row.ids for row in own.encode_texts(TEXTS[:1], add_special_tokens=False)]
    for name in ("causal_language_modeling", "span_corruption"):
        without, ended = (
            TransformedDataset([row], build_dataset(name, rows=TEXT_ROWS, preprocessor=own).transform())[0]
            for row in (ids, [*ids, own.eos_token_id])
        )
        assert without == ended and ended["token_ids"].count(own.eos_token_id) == 1


@pytest.mark.parametrize("name", LEARNING)
def test_rows_and_stores_teach_the_same(name: str, tmp_path: Path) -> None:
    own = LEARNING[name]()
    texts = [" ".join(TEXTS), *TEXTS]
    with IndexedDatasetWriter(tmp_path / "x") as writer:
        for row in own.encode_texts(texts, add_special_tokens=False):
            writer.add_item(row.ids)
    options = {"preprocessor": own, "max_length": 40, "seed": 3}
    rows = build_dataset(name, rows=[{"text": text} for text in texts], **options)
    assert len(rows) > len(texts)  # a long one is several samples
    whole = own.encode_texts(texts, add_special_tokens=False)
    assert [token for row in rows.sequences for token in row] == [token for row in whole for token in row.ids]
    stored = build_dataset(name, path=str(tmp_path / "x"), **options)
    assert [rows[i] for i in range(len(rows))] == [stored[i] for i in range(len(stored))]
    assert list(rows.lengths) == list(stored.lengths)
    assert len(build_dataset(name, path=str(tmp_path / "x.bin"), max_size=2, **options)) == len(rows) - len(texts) + 2
    first = [rows[i] for i in range(len(rows))]
    rows.set_epoch(1)
    assert ([rows[i] for i in range(len(rows))] != first) == (name != "causal_language_modeling")
    batch = rows.data_collator([rows[i] for i in range(len(rows))])
    assert batch["token_ids"].shape == batch["labels"].shape or name == "span_corruption"


def test_speech(tmp_path: Path) -> None:
    import datasets

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 8000))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"audio": "a.wav", "sentence": "the dog"}))
    extractor = WhisperFeatureExtractor(WhisperFeatureExtractorConfig(chunk_length=1))
    both = PreprocessorsContainer({"bpe_tokenizer": tokenizer("bpe_tokenizer"), "whisper_feature_extractor": extractor})
    data = build_dataset("speech_recognition", path=str(tmp_path / "rows.jsonl"), preprocessor=both)
    batch = data.data_collator([data[0], data[0]])
    ids = tokenizer("bpe_tokenizer").encode_texts(["the dog"], add_special_tokens=False)[0].ids
    assert data[0]["labels"] == [*ids, tokenizer("bpe_tokenizer").eos_token_id] and list(data.lengths) == [len(ids) + 1]
    assert batch["input_features"].shape == (2, 80, 100)
    arrays = build_dataset("speech_recognition", rows=[{"audio": {"array": torch.zeros(8000), "sampling_rate": 8000}, "sentence": "a"}], preprocessor=both)
    assert arrays[0]["input_features"].shape == (80, 100)
    hub = datasets.Dataset.from_dict({"audio": [str(tmp_path / "a.wav")], "sentence": ["a"]})
    hub = hub.cast_column("audio", datasets.Audio(sampling_rate=16000))
    assert build_dataset("speech_recognition", rows=hub, preprocessor=both)[0]["input_features"].shape == (80, 100)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"audio": "b.wav", "sentence": "the dog"}))
    with pytest.raises(DataError, match=r"rows.jsonl, line 1: there is no recording .*b.wav"):
        build_dataset("speech_recognition", path=str(tmp_path / "rows.jsonl"), preprocessor=both)
    (tmp_path / "b.wav").write_bytes(b"no audio")
    broken = build_dataset("speech_recognition", path=str(tmp_path / "rows.jsonl"), preprocessor=both)
    with pytest.raises(DataError, match=r"rows.jsonl, line 1: "):
        broken[0]
    with pytest.raises(PreprocessorError, match="needs a feature extractor"):
        build_dataset("speech_recognition", rows=[{"audio": torch.zeros(9), "sentence": "a"}], preprocessor=tokenizer("bpe_tokenizer"))[0]


# What a model takes of each kind: the model, the dataset, its options, and rows.
TEXT_ROWS = [{"text": text} for text in TEXTS[:4]]
PAIRS = [{"source": TEXTS[0], "target": TEXTS[1]}, {"source": TEXTS[2], "target": TEXTS[3]}]
SEAMS: dict[str, tuple[str, str, dict[str, Any], list[dict[str, Any]]]] = {
    "classes": ("bert_text_classification", "text_classification", {"id2label": {i: str(i) for i in range(5)}}, [{"text": TEXTS[0], "label": 3}, {"text": TEXTS[1], "label": 0}]),
    "words": ("bert_sequence_labeling", "sequence_labeling", {"id2label": {i: str(i) for i in range(5)}}, [{"tokens": ["a", "cat"], "tags": [1, 4]}, {"tokens": ["dog"], "tags": [0]}]),
    "masks": ("bert_mask_filling", "masked_language_modeling", {}, TEXT_ROWS),
    "causal": ("gpt2_text_generation", "causal_language_modeling", {}, TEXT_ROWS),
    "holes": ("cpm1_text_generation", "hole_filling", {}, TEXT_ROWS),
    "written": ("t5_text_generation", "seq2seq", {}, PAIRS),
    "unilm": ("bert_text_generation", "seq2seq", {"layout": "encoder"}, PAIRS),
}


@pytest.mark.parametrize("name", SEAMS)
def test_a_model_learns_from_the_features(name: str) -> None:
    model_name, dataset_name, options, rows = SEAMS[name]
    model = tiny_model(model_name)
    data = build_dataset(dataset_name, rows=rows, preprocessor=model.preprocessor, max_length=40, **options)
    sampler = BatchSampler(data.lengths, 4, shuffle=False)
    (batch,) = DataLoader(data, batch_sampler=sampler, collate_fn=PadCollator.of(data.tokenizer))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(12):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_blank_filler_learns_from_blanks() -> None:
    own = glm_tokenizer()
    ids = {f"{role}_token_id": own.role_id(role) for role in ("sop", "eop", "mask")}
    torch.manual_seed(0)
    model = build_model(
        "glm_text_generation", vocab_size=own.max_token_id + 1, hidden_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64, **ids,
    )  # fmt: skip
    data = build_dataset("blank_infilling", rows=TEXT_ROWS, preprocessor=own, max_length=30, kinds=(1, 0, 0))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for epoch in range(100):
        data.set_epoch(epoch)
        loss = model(**data.data_collator([data[i] for i in range(len(data))])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


# -- bad data --------------------------------------------------------------------------------------------------------------

BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("x.csv", b"", "x.csv: is empty"),
    "blank": ("x.tsv", b" \n\n", "x.tsv: is empty"),
    "header only": ("x.csv", b"text,label\n", "x.csv: has no samples"),
    "ragged": ("x.csv", b"text,label\na,b\na,b,c\n", r"x.csv, line 3: has 3 cells, but there are 2 columns \(text, label\)"),
    "open quote": ("x.csv", b'text,label\na,"b\n', "x.csv, line 2: .*Check the quotes"),
    "column twice": ("x.csv", b"text,text\na,b\n", "x.csv, line 1: names a column twice"),
    "wrong column": ("x.csv", b"txt,label\na,b\n", "x.csv, line 2: has no 'text'. Did you mean 'txt'"),
    "not UTF-8": ("x.tsv", b"text\tlabel\na\tb\ncaf\xe9\tb\n", "x.tsv, line 3: not UTF-8"),
    "not JSON": ("x.jsonl", b'{"text": "a", "label": 1}\n{"text": \n', "x.jsonl, line 2: not JSON"),
    "no object": ("x.jsonl", b"3\n", "x.jsonl, line 1: is int"),
    "no text": ("x.jsonl", b'{"text": 3, "label": 1}\n', "x.jsonl, line 1: 'text' is int, but must be a text"),
    "no label": ("x.jsonl", b'{"text": "a", "label": null}\n', "x.jsonl, line 1: has no 'label'"),
    "a list of labels": ("x.jsonl", b'{"text": "a", "label": ["b"]}\n', "x.jsonl, line 1: 'label' is .*must be one label"),
    "unknown label": ("x.jsonl", b'{"text": "a", "label": "goood"}\n', "x.jsonl, line 1: there is no label 'goood'. Did you mean 'good'"),
    "label out of range": ("x.jsonl", b'{"text": "a", "label": 1}\n\n{"text": "a", "label": 7}\n', "x.jsonl, line 3: there is no label 7"),
    "no Parquet": ("x.parquet", b"text,label\n", "x.parquet: is no Parquet file"),
    "another ending": ("x.xlsx", b"PK", "x.xlsx: the ending '.xlsx' does not tell what it holds"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_one_clear_error(case: str, tmp_path: Path) -> None:
    name, content, message = BAD_FILES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        build_dataset("text_classification", path=str(tmp_path / name), id2label={0: "bad", 1: "good"})


BAD_CONLL = {
    "ragged": ("x.conll", "a B-X\ncat\n", r"x.conll, line 2: has 1 columns, but must have 2 \(tokens, tags\)"),
    "too many": ("x.conll", "a B-X\n\ncat O O\n", "x.conll, line 3: has 3 columns"),
    "ragged CoNLL-U": ("x.conllu", "# text\n1\ta\ta\n", "x.conllu, line 2: has 3 columns, but must have 10"),
    "nothing": ("x.conll", "\n-DOCSTART- O\n\n", "x.conll: has no samples"),
}


@pytest.mark.parametrize("case", BAD_CONLL)
def test_bad_sentences_are_one_clear_error(case: str, tmp_path: Path) -> None:
    name, content, message = BAD_CONLL[case]
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        build_dataset("sequence_labeling", path=str(tmp_path / name))


def test_bad_rows_and_settings(tmp_path: Path) -> None:
    for rows, message in (
        ([], "the list of rows: has no samples"),
        (["a"], "row 0: is str. Give a mapping"),
        ([{"tokens": "a b", "tags": ["O", "O"]}], "row 0: 'tokens' is str, but must be a list"),
        ([{"tokens": ["a"], "tags": ["O", "O"]}], "row 0: has 1 words, but 2 labels"),
        ([{"tokens": [], "tags": []}], "row 0: has no words"),
        ([{"tokens": ["a"], "tags": ["B-Z"]}], "row 0: there is no label 'B-Z'"),
    ):
        with pytest.raises(DataError, match=message):
            build_dataset("sequence_labeling", rows=rows, id2label={0: "O"})
    with pytest.raises(DataError, match="a label is 1000000000000, which is no number of a class"):
        build_dataset("text_classification", rows=[{"text": "a", "label": 10**12}])
    with pytest.raises(DataError, match="row 1: the label 1.5 is no class. Give names or whole numbers"):
        build_dataset("text_classification", rows=[{"text": "a", "label": 1}, {"text": "a", "label": 1.5}])
    with pytest.raises(DataError, match="row 0: there is no label -1"):
        build_dataset("text_classification", rows=[{"text": "a", "label": -1}])
    with pytest.raises(DataError, match="row 0: 'x' is no number"):
        build_dataset("text_classification", rows=[{"text": "a", "label": "x"}], problem_type="regression")
    with pytest.raises(OptionError, match="has no samples. Give the config's path, or rows"):
        build_dataset("text_classification")
    with pytest.raises(PreprocessorError, match="has no tokenizer"):
        build_dataset("text_classification", rows=ROWS)[0]
    with pytest.raises(DataError, match="there is no such file or folder"):
        build_dataset("text_classification", path=str(tmp_path / "no.csv"))
    with pytest.raises(DataError, match="has no files of samples"):
        build_dataset("text_classification", path=str(tmp_path))
    with pytest.raises(DataError, match="no sample is left of 3"):
        build_dataset("text_classification", rows=ROWS, max_size=0)
    with pytest.raises(ConfigError, match="unknown key 'text_feild'. Did you mean 'text_field'"):
        build_dataset("text_classification", rows=ROWS, text_feild="x")
    with pytest.raises(DataError, match="row 1: "):
        build_dataset("causal_language_modeling", rows=[{"text": "a"}, {"text": None}], preprocessor=tokenizer())
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("text,label\na,b\n")
    with pytest.raises(DataError, match="has files of test, train. Give a split"):
        build_dataset("text_classification", path=str(tmp_path))
