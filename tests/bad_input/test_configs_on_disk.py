"""Rows 1 to 14: configs of strangers. Each gives one clear error, and nothing in it is ever followed or run."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hezar_like import Config, Model, build_model
from hezar_like.errors import CheckpointError, ConfigError, HezarLikeError, RegistryError
from hezar_like.text_files import parse_yaml

SECRET = "the-value-of-the-secret"
CONFIG = "model_config.yaml"


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:SECRET}", "${oc.create:{a: 1}}", "${..hidden_size}", "${a", "'${oc.env:SECRET}'", "[1, '${x}']",
        "{a: {b: '${oc.env:SECRET}'}}", "|\n  ${oc.env:SECRET}", "before ${oc.decode:${oc.env:SECRET}} after",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["base", "hidden_act"])
def test_rows_1_and_2_interpolation(
    key: str, value: str, refused: Any, rewrite: Any, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    rewrite(f"{key}: {value}")
    with refused(ConfigError, CONFIG, "line ", "interpolation is not allowed here"):
        try:
            load()
        except HezarLikeError as error:
            assert SECRET not in f"{error!r}{error.__cause__!r}{error.__context__!r}"
            raise


def test_row_1_interpolation_as_a_key(refused: Any, rewrite: Any, load: Any) -> None:
    rewrite("'${oc.env:SECRET}': 1")
    with refused(ConfigError, CONFIG, "interpolation is not allowed here"):
        load()


@pytest.mark.parametrize("label", ["${oc.env:SECRET}", "a ${b"])
def test_row_1_a_text_that_could_not_be_read_back_is_not_saved(label: str, refused: Any, folder: Path) -> None:
    model = build_model("bert_text_classification", hidden_size=12, num_hidden_layers=0, id2label={0: label, 1: "b"})
    with refused(ConfigError, repr(label), "cannot be saved"):
        model.save(folder)


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch x']", "!!python/name:os.system", "!!python/object/new:os.mkdir [x]",
        "!foo 1", "!!binary aGk=", "!!set {a}", "!!int '8'",
    ],
)  # fmt: skip
def test_row_3_tags(value: str, refused: Any, rewrite: Any, load: Any, tmp_path: Path) -> None:
    line = rewrite(f"hidden_size: {value}")
    with refused(ConfigError, CONFIG, f"line {line}", "tag", "not allowed"):
        load()
    assert not (tmp_path / "x").exists()


def test_row_4_duplicate_key(refused: Any, folder: Path, load: Any) -> None:
    path = folder / CONFIG
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines, 1) if line.startswith("hidden_size"))
    path.write_text("\n".join([*lines, "hidden_size: 8"]))
    with refused(ConfigError, CONFIG, "'hidden_size'", f"lines {first} and {len(lines) + 1}"):
        load()


NINES = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
BOMBS = {
    "aliases": "a0: &a0 [1]\n" + NINES,
    "an alias of itself": "a: &a [*a]",
    "deep lists": "a: " + "[" * 2000,
    "deep mappings": "a: " + "{a: " * 2000,
    "deep blocks": "".join(" " * i + "a:\n" for i in range(1200)),
    "five megabytes": "a: " + "x" * 5_000_000,
    "five megabytes of keys": "".join(f"k{i}: 1\n" for i in range(400_000)),
    "a long integer": "hidden_size: " + "9" * 5000,
    "a long hexadecimal integer": "hidden_size: 0x" + "f" * 5000,
    "a long key": "? " + "k" * 500_000 + "\n: 1",
    "a long name": "name: " + "x" * 500_000,
    "many unknown keys": "".join(f"k{i}: 1\n" for i in range(20_000)),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_row_5_bombs(bomb: str, refused: Any, folder: Path, load: Any) -> None:
    text = BOMBS[bomb] if bomb == "a long name" else f"name: bert_text_classification\n{BOMBS[bomb]}"
    (folder / CONFIG).write_text(text)
    with refused(RegistryError if bomb == "a long name" else ConfigError):
        load()


@pytest.mark.parametrize("bomb", ["aliases", "deep lists", "five megabytes"])
def test_row_5_bombs_take_no_memory(bomb: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError):
            parse_yaml(BOMBS[bomb][:1_000_000] + "\n'")
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["empty"]),
        (b"# only a comment\n", ["empty"]),
        (b"---\n", ["mapping"]),
        (b"- a\n- b\n", ["mapping", "list"]),
        (b"just text\n", ["mapping", "str"]),
        (b"name: bert\n---\nname: bert\n", ["2 YAML documents"]),
        ("name: bert\n".encode("utf-16"), ["line 1", "UTF-8"]),
        ("name: bert\n# caf\u00e9\n".encode("latin-1"), ["line 2", "UTF-8"]),
        (b"name: bert\nhidden_act: a\0b\n", []),
        (b"name: bert\nx:\n\ty: 1\n", ["line 3"]),
        (b"name: 'bert\n", ["line "]),
        (b"name: bert\n  x: [1, 2\ny: }\n", ["line "]),
        (b"? [a, b]\n: 1\n", ["line 1", "key"]),
        (b"name: bert\x1b[31m\n", []),
    ],
    ids=[
        "empty", "comment", "null", "list", "scalar", "two documents", "utf-16", "latin-1", "nul", "tab", "quote",
        "brackets", "list as key", "escape",
    ],
)  # fmt: skip
def test_row_6_not_a_config(content: bytes, parts: list[str], refused: Any, folder: Path, load: Any) -> None:
    (folder / CONFIG).write_bytes(content)
    with refused(ConfigError, str(folder / CONFIG), *parts):
        load()


def test_row_6_a_byte_order_mark_is_fine(folder: Path, load: Any) -> None:
    path = folder / CONFIG
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load().config.hidden_size == 32


def test_row_7_values_mean_what_they_say() -> None:
    text = "rate: 1e-5\nlanguage: no\ntime: 12:30:45\nzip: 010\nwhen: 2024-01-01\nyes: on\nsize: 0x10\nname: null\n"
    assert parse_yaml(text) == {
        "rate": 1e-5, "language": "no", "time": "12:30:45", "zip": 10, "when": "2024-01-01", "yes": "on", "size": 16,
        "name": None,
    }  # fmt: skip


def test_row_7_exponents_are_numbers_for_a_field(rewrite: Any, load: Any) -> None:
    rewrite("layer_norm_eps: 1e-5")
    assert load().config.layer_norm_eps == 1e-5


@pytest.mark.parametrize(
    ("key", "nearest"), [("hiden_size", "hidden_size"), ("num_label", "num_labels"), ("vocabsize", "vocab_size")]
)
def test_row_8_unknown_key(key: str, nearest: str, refused: Any, rewrite: Any, load: Any, folder: Path) -> None:
    rewrite(f"{key}: 8")
    with refused(ConfigError, str(folder / CONFIG), f"unknown key {key!r}", f"Did you mean {nearest!r}"):
        load()
    with refused(ConfigError, f"unknown key {key!r}", f"Did you mean {nearest!r}"):
        build_model("bert_text_classification", **{key: 8})
    with refused(ConfigError, f"unknown key {key!r}", f"Did you mean {nearest!r}"):
        Config.load(folder, filename="model_config.yaml", config_type="x", **{key: 8})


@pytest.mark.parametrize(
    "line",
    [
        "_attn_implementation_internal: evil/kernels", "auto_map: {AutoModel: evil/repo--modeling.Evil}",
        "_target_: os.system", "_name_or_path: evil/repo", "__class__: os.system", "custom_pipelines: {}",
    ],
)  # fmt: skip
def test_row_9_keys_that_choose_code(line: str, refused: Any, rewrite: Any, load: Any) -> None:
    rewrite(line)
    with refused(ConfigError, CONFIG, f"unknown key {line.partition(':')[0]!r}"):
        load()


@pytest.mark.parametrize(
    ("extra", "fine"),
    [
        ({"auto_map": {"AutoModel": "evil/repo--modeling.Evil"}}, False),
        ({"_target_": "os.system"}, False),
        ({"_name_or_path": "../../evil"}, True),
        ({"_attn_implementation_internal": "evil/kernels"}, False),
    ],
)
def test_row_9_in_a_config_of_transformers(
    extra: dict[str, Any], fine: bool, refused: Any, load: Any, tmp_path: Path
) -> None:
    load().export("transformers", tmp_path / "theirs")
    path = tmp_path / "theirs" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | extra))
    if fine:  # it has no effect
        model = Model.load(tmp_path / "theirs", device="cpu")
        assert "evil" not in str(model.config) and "os.system" not in str(model.config)
    else:
        with refused(ConfigError, str(path), repr(next(iter(extra)))):
            Model.load(tmp_path / "theirs", device="cpu")


@pytest.mark.parametrize(
    "name", ["os.system", "../x", "/etc/passwd", "bert_text_clasification", "tests.evil", "a" * 300]
)
def test_row_10_unknown_names(name: str, refused: Any, rewrite: Any, load: Any, folder: Path) -> None:
    rewrite(f"name: {name}")
    nearest = ["Did you mean", "'bert_text_classification'"] if name.startswith("bert") else []
    with refused(HezarLikeError, f"unknown model {name[:200]!r}", *nearest):
        build_model(name)
    with refused(HezarLikeError, str(folder / CONFIG), f"unknown model {name[:200]!r}", *nearest):
        load()


@pytest.mark.parametrize("line", ["name: null", "name: 5", "name: [bert]", "name: ''"])
def test_row_10_names_that_are_none(line: str, refused: Any, rewrite: Any, load: Any, folder: Path) -> None:
    rewrite(line)
    with refused(ConfigError, str(folder / CONFIG), "name"):
        load()


@pytest.mark.parametrize("line", ["config_type: preprocessor", "config_type: banana", "config_type: [model]"])
def test_row_10_another_kind_of_config(line: str, refused: Any, rewrite: Any, load: Any, folder: Path) -> None:
    rewrite(line)
    with refused(HezarLikeError, str(folder / CONFIG), "config_type"):
        load()


BAD_SIZES = {
    "-1": "-1", "0": "0", "true": "True", "'8'": "'8'", "8.5": "8.5", ".nan": "nan", "null": "None", "[8]": "[8]",
    "1048577": "1048577", "32.0": "32.0",
}  # fmt: skip


@pytest.mark.parametrize("value", BAD_SIZES)
def test_row_11_wrong_types(value: str, refused: Any, rewrite: Any, load: Any) -> None:
    rewrite(f"hidden_size: {value}")
    with refused(ConfigError, CONFIG, f"Config.hidden_size is {BAD_SIZES[value]}", "it must be "):
        load()


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"hidden_size": 10, "num_attention_heads": 3}, ["hidden_size=10", "num_attention_heads=3"]),
        ({"vocab_size": 0}, ["vocab_size is 0"]),
        ({"hidden_dropout_prob": 1.5}, ["hidden_dropout_prob is 1.5", "between 0 and 1"]),
        ({"hidden_dropout_prob": -0.1}, ["hidden_dropout_prob is -0.1"]),
        ({"layer_norm_eps": float("nan")}, ["layer_norm_eps is nan", "finite"]),
        ({"layer_norm_eps": float("inf")}, ["layer_norm_eps is inf", "finite"]),
        ({"layer_norm_eps": 10**400}, ["layer_norm_eps is", "finite"]),
        ({"hidden_act": "gelo"}, ["hidden_act is 'gelo'", "'gelu'"]),
        ({"hidden_act": "x" * 10**6}, ["hidden_act is 'xxx", "unknown"]),
        ({"hidden_act": ["gelu"]}, ["hidden_act is ['gelu'] (list)"]),
        ({"pad_token_id": 30522}, ["pad_token_id is 30522", "vocab_size"]),
        ({"pad_token_id": -1}, ["pad_token_id is -1"]),
        ({"initializer_range": -1}, ["initializer_range is -1"]),
        ({"position_embedding_type": "relative"}, ["position_embedding_type is 'relative'", "'absolute'"]),
        ({"tie_word_embeddings": 1}, ["tie_word_embeddings is 1 (int)", "true or false"]),
        ({"problem_type": "ranking"}, ["problem_type is 'ranking'", "'regression'"]),
        ({"hidden_size": 16**5000}, ["hidden_size is a huge number"]),
        ({"hidden_size": 10**4000}, ["hidden_size is 1000", "1048576"]),
    ],
)
def test_row_12_ranges_before_anything_is_built(
    fields: dict[str, Any], parts: list[str], refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("built")

    monkeypatch.setattr(torch.nn.Linear, "__init__", build)
    monkeypatch.setattr(torch.nn.Embedding, "__init__", build)
    with refused(ConfigError, "Config", *parts):
        build_model("bert_text_classification", **fields)


@pytest.mark.parametrize(
    "line",
    [
        "num_hidden_layers: 1000000000", "num_hidden_layers: 4097", "vocab_size: 1000000000000",
        "intermediate_size: 100000000", "max_position_embeddings: 9999999999", "num_labels: 100000000",
        "type_vocab_size: 9000000000000000000000",
    ],
)  # fmt: skip
def test_row_13_sizes_out_of_this_world(line: str, refused: Any, rewrite: Any, load: Any) -> None:
    rewrite(line)
    key, _, value = line.partition(": ")
    with refused(ConfigError, CONFIG, f"{key} is {value}", "between"):
        load()


@pytest.mark.parametrize(
    "line",
    ["vocab_size: 99999999", "max_position_embeddings: 1000000", "hidden_size: 1000000", "num_hidden_layers: 60"],
)
def test_row_13_sizes_that_the_weights_do_not_have_cost_no_memory(
    line: str, refused: Any, rewrite: Any, load: Any
) -> None:
    rewrite(line)  # float32 weights of these sizes would take up to terabytes
    with refused(CheckpointError, "do not fit"):
        load()


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"num_labels": 2, "id2label": {0: "a", 1: "b", 2: "c"}}, ["num_labels=2", "3 labels"]),
        ({"id2label": {0: "a", 2: "b"}}, ["id2label", "[0, 2]", "0, 1, 2"]),
        ({"id2label": {1: "a", 2: "b"}}, ["id2label", "[1, 2]"]),
        ({"id2label": {0: "a", "0": "b"}}, ["id2label", "key 0 twice"]),
        ({"id2label": {0: "same", 1: "same"}}, ["id2label", "'same' twice"]),
        ({"id2label": ["a", "b"]}, ["id2label", "mapping"]),
        ({"id2label": {0: "a", 1: None}}, ["id2label[1] is None"]),
        ({"id2label": {0: "a", "x": "b"}}, ["id2label", "'x'"]),
        ({"id2label": {0: "a", True: "b"}}, ["id2label", "True"]),
        ({"id2label": {0: "a", 1: "x" * 10**6}}, ["id2label", "1000000 characters"]),
        ({"id2label": {}}, ["num_labels is 0"]),
    ],
)
def test_row_14_labels(fields: dict[str, Any], parts: list[str], refused: Any) -> None:
    with refused(ConfigError, *parts):
        build_model("bert_text_classification", hidden_size=12, num_hidden_layers=0, **fields)


def test_row_14_labels_that_the_weights_do_not_have(refused: Any, rewrite: Any, load: Any) -> None:
    rewrite("num_labels: 2")
    with refused(ConfigError, CONFIG, "num_labels=2", "3 labels"):
        load()
    rewrite("id2label: {0: a, 1: b}")
    with refused(CheckpointError, "'head.out.weight' is [3, 32] in the file, [2, 32] in the model"):
        load()


def test_row_14_string_keys_are_numbers(rewrite: Any, load: Callable[..., Model]) -> None:
    rewrite("id2label: {'0': x, '2': z, '1': y}")
    assert load().config.id2label == {0: "x", 1: "y", 2: "z"}
