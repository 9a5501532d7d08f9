"""Finding, holding, saving and pushing the preprocessors of a model."""

from __future__ import annotations

import copy
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizer_samples import FIXTURES

from hezar_like import hub
from hezar_like.errors import CheckpointError, ConfigError, PreprocessorError
from hezar_like.preprocessors import (
    BPETokenizer,
    Preprocessor,
    PreprocessorConfig,
    PreprocessorsContainer,
    TextNormalizer,
    TextNormalizerConfig,
    Tokenizer,
    register_preprocessor,
)


@dataclass
class ShoutingConfig(PreprocessorConfig):
    name = "shouting"
    marks: int = 1


class Shouting(Preprocessor):
    """Says it loud."""

    config_filename = "shouting_config.yaml"

    def __call__(self, text: str) -> str:
        return text.upper() + "!" * self.config.marks


@pytest.fixture
def container(own_registrations: None, bpe: Tokenizer) -> PreprocessorsContainer:
    register_preprocessor("shouting", ShoutingConfig)(Shouting)
    parts = [
        bpe,
        TextNormalizer(TextNormalizerConfig(replace_patterns=[["ي", "ی"]])),
        Shouting(ShoutingConfig(), marks=3),
    ]
    return PreprocessorsContainer((part.config.name, part) for part in parts)


def test_access_by_name_and_kind(container: PreprocessorsContainer) -> None:
    assert container.tokenizer is container["bpe_tokenizer"] is container.bpe_tokenizer
    assert container.text_normalizer is container["text_normalizer"]
    assert container.image_processor is None and container.audio_feature_extractor is None
    assert container.shouting("hi") == "HI!!!"
    assert repr(container).startswith("PreprocessorsContainer([('bpe_tokenizer', <BPETokenizer 'bpe_tokenizer'>), (")
    with pytest.raises(KeyError, match="Did you mean 'bpe_tokenizer'"):
        container["bpe_tokeniser"]
    with pytest.raises(AttributeError, match="Did you mean 'bpe_tokenizer'"):
        _ = container.bpe_tokeniser
    assert not hasattr(container, "tokenizers") and container.get("x") is None


def test_saves_and_loads_all(container: PreprocessorsContainer, tmp_path: Path) -> None:
    container.save(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == set(
        container.files()
    )
    again = Preprocessor.load(tmp_path)
    assert isinstance(again, PreprocessorsContainer) and set(again) == set(container)
    assert again.files() == container.files()
    assert again.shouting("hi") == "HI!!!" and again.tokenizer("hi") == container.tokenizer("hi")
    assert isinstance(Tokenizer.load(tmp_path), BPETokenizer)
    assert isinstance(Shouting.load(tmp_path), Shouting)
    assert list(TextNormalizer.load(tmp_path, force_return_dict=True)) == ["text_normalizer"]
    container.save(tmp_path / "flat", subfolder="")
    assert (tmp_path / "flat" / "tokenizer.json").is_file()
    assert set(Preprocessor.load(tmp_path / "flat", subfolder="")) == set(container)


def test_copies_are_independent(container: PreprocessorsContainer) -> None:
    for twin in (copy.deepcopy(container), pickle.loads(pickle.dumps(container))):
        assert twin.files() == container.files() and twin.tokenizer is not container.tokenizer


def test_load_says_what_is_missing(container: PreprocessorsContainer, tmp_path: Path) -> None:
    with pytest.raises(PreprocessorError, match=r"tokenizer_config.yaml"):
        Preprocessor.load(tmp_path)
    assert Preprocessor.load(tmp_path, force_return_dict=True) == {}
    with pytest.raises(PreprocessorError, match=r"normalizer_config.yaml"):
        TextNormalizer.load(FIXTURES / "tokenizer_bpe")
    with pytest.raises(PreprocessorError, match="is a WordPieceTokenizer, not a BPETokenizer"):
        BPETokenizer.load(FIXTURES / "tokenizer_wordpiece")
    container.save(tmp_path)
    (tmp_path / "preprocessor/tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer.json"):
        Preprocessor.load(tmp_path)
    config = tmp_path / "preprocessor/tokenizer_config.yaml"
    config.write_text("name: bpe_tokeniser\n")
    with pytest.raises(PreprocessorError, match=r"tokenizer_config.yaml.*Did you mean 'bpe_tokenizer'"):
        Preprocessor.load(tmp_path)
    config.write_text("config_type: preprocessor\n")
    with pytest.raises(PreprocessorError, match="no `name`"):
        Preprocessor.load(tmp_path)
    config.write_text("name: bpe_tokenizer\npad_tokn: x\n")
    with pytest.raises(ConfigError, match=r"tokenizer_config.yaml.*pad_token"):
        Preprocessor.load(tmp_path)


def test_files_that_collide_are_refused(bpe: Tokenizer) -> None:
    container = PreprocessorsContainer(one=bpe, two=bpe)
    with pytest.raises(PreprocessorError, match=r"both write 'preprocessor/tokenizer.json'"):
        container.files()


def test_push_is_one_commit(container: PreprocessorsContainer, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    monkeypatch.setattr(hub, "push", lambda repo, content, **options: pushed.append((repo, content, options)) or "url")
    assert container.push_to_hub("me/model", private=True, token="t") == "url"
    assert container.tokenizer.push_to_hub("me/model", subfolder="x", commit_message="m") == "url"
    (repo, content, options), (_, own, own_options) = pushed
    assert repo == "me/model"
    assert {name: data.decode() for name, data in content.items()} == container.files()
    assert options == {"commit_message": "Upload preprocessors", "private": True, "token": "t"}
    assert list(own) == ["x/tokenizer.json", "x/tokenizer_config.yaml"] and own_options["commit_message"] == "m"


def test_a_failed_save_leaves_the_old_files(container: PreprocessorsContainer, tmp_path: Path) -> None:
    container.save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    broken = copy.deepcopy(container)
    broken.shouting.extra_files = lambda: {"../escape": "x"}
    with pytest.raises(CheckpointError):
        broken.save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_loading_copies_nothing_from_other_folders(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "tokenizer_bpe", tmp_path / "model")
    (tmp_path / "model/preprocessor/unknown_config.yaml").write_text("name: nothing\n")
    assert isinstance(Preprocessor.load(tmp_path / "model"), BPETokenizer)
