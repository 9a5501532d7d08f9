"""Configs: what they take, and that files bring back what was saved."""

from __future__ import annotations

import copy
import enum
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import built_in

from hezar_like import Config, ModelConfig, PreprocessorConfig
from hezar_like.errors import ConfigError
from hezar_like.models import BertConfig, BertTextClassificationConfig, DistilBertConfig
from hezar_like.registry import models_registry, preprocessors_registry
from hezar_like.text_files import dump_yaml, parse_yaml, read_json


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Inner(Config):
    name = "inner_of_a_test"
    depth: int = 1


@dataclass
class Sample(ModelConfig):
    name = "sample_of_a_test"
    count: int = 3
    rate: float = 0.5
    flag: bool = False
    text: str = "a"
    maybe: int | None = None
    old_style: int = None  # type: ignore[assignment]  # Hezar's configs are written so
    choice: Literal["x", "y", 1] = "x"
    words: list[str] = field(default_factory=list)
    pair: tuple[int, float] = (1, 2.0)
    names: dict[int, str] = field(default_factory=dict)
    color: Color = Color.RED
    inner: Inner = field(default_factory=Inner)
    anything: Any = None
    optional: Optional[float] = None  # noqa: UP045


GOOD = [
    ("count", -5, -5), ("rate", 1, 1.0), ("flag", True, True), ("maybe", None, None), ("old_style", None, None),
    ("old_style", 4, 4), ("choice", 1, 1), ("words", ("a", "b"), ["a", "b"]), ("pair", [3, 4], (3, 4.0)),
    ("names", {"0": "a", 1: "b"}, {0: "a", 1: "b"}), ("color", "blue", Color.BLUE), ("color", Color.RED, Color.RED),
    ("inner", {"depth": 7}, Inner(depth=7)), ("anything", {"a": [1, None]}, {"a": [1, None]}), ("optional", 2, 2.0),
]  # fmt: skip
BAD = [
    ("count", True), ("count", "3"), ("count", 3.0), ("count", None), ("rate", "0.5"), ("rate", float("nan")),
    ("rate", float("inf")), ("rate", True), ("rate", 10**400), ("flag", 1), ("flag", "true"), ("text", 5),
    ("text", b"a"), ("maybe", "1"), ("maybe", False), ("old_style", "4"), ("choice", "z"), ("choice", True),
    ("words", "ab"), ("words", [1]), ("pair", [1]), ("pair", [1, 2, 3]), ("pair", ["1", 2]), ("names", {"x": "a"}),
    ("names", {0: 1}), ("names", {0: "a", "0": "b"}), ("names", {True: "a"}), ("color", "green"),
    ("inner", {"dpth": 7}), ("inner", {"depth": "7"}), ("inner", 7), ("optional", float("nan")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_values_that_fit(name: str, value: Any, expected: Any) -> None:
    for config in (Sample(**{name: value}), Sample.from_dict({name: value}), Sample().update({name: value})):
        assert (getattr(config, name) == expected and type(getattr(config, name)) is type(expected)) or name == "names"
    config = Sample()
    setattr(config, name, value)
    assert config[name] == expected


@pytest.mark.parametrize(
    ("name", "value"), BAD, ids=[f"{name} {str(value)[:9] if type(value) is not int else 'int'}" for name, value in BAD]
)
def test_values_that_do_not_fit(name: str, value: Any) -> None:
    config = Sample()
    before = config.to_dict()
    for attempt in (
        lambda: Sample(**{name: value}),
        lambda: Sample.from_dict({name: value}),
        lambda: config.update({"text": "changed", name: value}),
        lambda: setattr(config, name, value),
    ):
        with pytest.raises(ConfigError) as error:
            attempt()
        text = str(error.value)
        assert (name in text or "Inner" in text) and "\n" not in text and len(text) < 300
    assert config.to_dict() == before


@pytest.mark.parametrize(
    "value", [10**5000, "x" * 10**6, [0] * 10**5, {"a": "\n" * 1000}], ids=["number", "text", "list", "mapping"]
)
def test_messages_stay_short(value: Any) -> None:
    for name in ("count", "choice", "words", "names", "color"):
        if not (name == "count" and isinstance(value, int)):
            with pytest.raises(ConfigError) as error:
                Sample(**{name: value})
            assert len(str(error.value)) < 300 and "\n" not in str(error.value)


def test_unknown_names() -> None:
    for attempt in (
        lambda: Sample(cuont=1),  # type: ignore[call-arg]
        lambda: Sample.from_dict({"cuont": 1}),
        lambda: Sample().update(cuont=1),
        lambda: setattr(Sample(), "cuont", 1),
        lambda: Sample().cuont,  # type: ignore[attr-defined]
    ):
        with pytest.raises((ConfigError, AttributeError), match=r"'cuont'.* Did you mean 'count'"):
            attempt()


def test_as_a_mapping() -> None:
    config = Sample(count=4)
    assert dict(config)["count"] == config["count"] == config.get("count") == 4
    assert list(config)[:2] == ["name", "config_type"] and len(config) == len(config.keys()) == len(Sample.fields()) + 2
    assert "count" in config and "nothing" not in config and config.get("nothing", 7) == 7
    with pytest.raises(KeyError):
        config["nothing"]
    assert Sample(**{key: value for key, value in dict(config).items() if key in Sample.fields()}) == config


def test_copies_and_pickles_are_equal_and_apart() -> None:
    for config in (Sample(names={0: "a"}), BertTextClassificationConfig(num_labels=3), BertConfig(hidden_size=24)):
        for twin in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
            assert twin == config and type(twin) is type(config)


def test_labels_by_tensors() -> None:
    names = BertTextClassificationConfig(id2label={0: "neg", 1: "pos"}).id2label
    assert [names[index] for index in torch.tensor([1, 0])] == ["pos", "neg"]
    for wrong in (torch.tensor(2), torch.tensor(-1), torch.tensor(0.5), "0", None):
        with pytest.raises(KeyError):
            names[wrong]


def test_labels_follow_their_number() -> None:
    config = BertTextClassificationConfig()
    assert config.num_labels == 2 and config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    config.update(num_labels=3)
    assert len(config.id2label) == 3
    config.update(id2label={0: "a", 1: "b"})
    assert config.num_labels == 2 and config.label2id == {"a": 0, "b": 1}
    before = config.to_dict()
    with pytest.raises(ConfigError, match="num_labels=5, but id2label names 2 labels"):
        config.update(num_labels=5, id2label={0: "a", 1: "b"})
    with pytest.raises(ConfigError, match="num_labels=5"):
        config.num_labels = 5
        config.update()
    config.num_labels = 2
    assert config.to_dict() == before


def test_other_names_of_fields() -> None:
    config = DistilBertConfig(dim=24, n_heads=2)
    assert (config.hidden_size, config.dim, config["dim"], config.num_attention_heads) == (24, 24, 24, 2)
    config.dim = 36
    assert config.hidden_size == 36 and "dim" not in config.to_dict()
    with pytest.raises(ConfigError, match="'hidden_size' is given twice, also as 'dim'"):
        DistilBertConfig(hidden_size=24, dim=24)


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", built_in())
def test_every_config_comes_back(name: str, tmp_path: Path) -> None:
    config = models_registry[name].config_class()
    path = config.save(tmp_path)
    assert path == tmp_path / "model_config.yaml"
    loaded = ModelConfig.load(tmp_path)
    assert type(loaded) is type(config) and loaded == config
    assert ModelConfig.load(tmp_path, vocab_size=99_999).vocab_size == 99_999
    assert yaml.safe_load(path.read_text()) == config.to_dict()  # any reader of YAML has the same


@pytest.mark.parametrize("name", sorted(preprocessors_registry))
def test_every_config_of_a_preprocessor_comes_back(name: str, tmp_path: Path) -> None:
    config = preprocessors_registry[name].config_class()
    config.save(tmp_path, "settings.yaml", subfolder="preprocessor")
    assert PreprocessorConfig.load(tmp_path, "settings.yaml", subfolder="preprocessor") == config


def test_the_file_says_which_class(tmp_path: Path) -> None:
    BertConfig(hidden_size=24).save(tmp_path)
    with pytest.raises(ConfigError, match=r"model_config.yaml: 'bert' is a BertConfig, not a DistilBertConfig"):
        DistilBertConfig.load(tmp_path)
    with pytest.raises(ConfigError, match=r"model_config.yaml: config_type is 'model'"):
        PreprocessorConfig.load(tmp_path, "model_config.yaml")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    BertConfig(hidden_size=24).save(tmp_path)
    before = (tmp_path / "model_config.yaml").read_bytes()
    with pytest.raises(ConfigError, match="cannot be saved"):
        BertTextClassificationConfig(id2label={0: "${HOME}", 1: "b"}).save(tmp_path)
    assert (tmp_path / "model_config.yaml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model_config.yaml"]


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: "${" not in text),
    st.sampled_from([
        "no", "yes", "on", "off", "null", "~", "", " ", "1e-5", "1_000", "0o7", "010", "0x1F", "12:30:45", "=", "<<",
        "2024-01-01", ".inf", "-.INF", ".nan", "+1", "1.", ".5", "1e5", "- a", "a: b", "#x", "'", '"', "\\", "&a", "*a",
        "!x", "%x", "@x", "`x", "|", ">", "? x", "a\nb", "a\n", "\n", "\t", "\u2028", "\x85", "\ufeff", "TRUE", "nULL",
    ]),
)  # fmt: skip
DATA = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(SCALARS.filter(lambda key: isinstance(key, str | int)), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abc_", min_size=1, max_size=5), DATA, max_size=6))
def test_what_is_written_is_read(data: dict[str, Any]) -> None:
    text = dump_yaml(data)
    assert parse_yaml(text) == data
    assert repr(parse_yaml(text)) == repr(data)  # 1, 1.0 and True are equal, and not the same
    assert yaml.safe_load(text) == data


@pytest.mark.parametrize("text", ["${a}", "a${", "\ud800"])
def test_texts_that_could_not_be_read_back(text: str) -> None:
    for data in ({"a": text}, {text: 1}, {"a": [{"b": text}]}):
        with pytest.raises(ConfigError, match="cannot be saved"):
            dump_yaml(data)


@given(st.text(max_size=200))
def test_any_text_is_a_mapping_or_a_clear_error(text: str) -> None:
    try:
        assert isinstance(parse_yaml(text, "somewhere"), dict)
    except ConfigError as error:
        assert "somewhere" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ('{"a": 1, "a": 2}', "duplicate key 'a'"), ('{"a": NaN}', "NaN"), ('{"a": -Infinity}', "-Infinity"),
        ("[1]", "list"), ("{", "line 1"), ("", "line 1"), ("[" * 10**5, "deep"), ('{"a": ' + "9" * 5000 + "}", "number"),
    ],
)  # fmt: skip
def test_json_that_is_no_config(content: str, part: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ConfigError) as error:
        read_json(path)
    assert str(path) in str(error.value) and part in str(error.value) and "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        BertConfig.from_file(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_json(tmp_path / "none.json")
