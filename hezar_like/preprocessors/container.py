"""The container in which a model holds its preprocessors by name."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import files, hub, paths
from ..errors import PreprocessorError, did_you_mean

__all__ = ["PreprocessorsContainer", "UnknownPreprocessor", "push_files", "save_files"]


class UnknownPreprocessor(PreprocessorError, KeyError):
    """A container was asked for a preprocessor that it does not hold."""

    def __str__(self) -> str:  # KeyError shows its message in quotes
        return str(self.args[0]) if self.args else ""


class PreprocessorsContainer(OrderedDict[str, Any]):
    """The preprocessors of a model, by registry name, which are also attributes.

    `tokenizer`, `text_normalizer`, `image_processor` and `audio_feature_extractor` find one by its kind, or are None.
    """

    @property
    def tokenizer(self) -> Any:
        return self._of_kind("Tokenizer")

    @property
    def text_normalizer(self) -> Any:
        return self._of_kind("TextNormalizer")

    @property
    def image_processor(self) -> Any:
        return self._of_kind("ImageProcessor")

    @property
    def audio_feature_extractor(self) -> Any:
        return self._of_kind("AudioFeatureExtractor")

    def _of_kind(self, base: str) -> Any:
        # By name, so that asking for an image processor does not import one.
        kinds = ({cls.__name__ for cls in type(item).__mro__} for item in self.values())
        return next((item for item, names in zip(self.values(), kinds, strict=True) if base in names), None)

    def __missing__(self, name: object) -> Any:
        raise UnknownPreprocessor(f"there is no preprocessor {name!r} here.{did_you_mean(name, map(str, self))}")

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"there is no preprocessor {name!r} here.{did_you_mean(name, map(str, self))}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.items())!r})"

    def files(self, subfolder: str | None = None) -> dict[str, str | bytes]:
        """What all of them save: names relative to the model's folder, and contents.

        Raises:
            PreprocessorError: When two of them write the same file.
        """
        result: dict[str, str | bytes] = {}
        for name, preprocessor in self.items():
            own = preprocessor.files(subfolder)
            if twice := sorted(own.keys() & result.keys()):
                raise PreprocessorError(
                    f"{name!r} and another preprocessor both write {twice[0]!r}. "
                    f"Set another `config_filename` in {type(preprocessor).__name__}."
                )
            result |= own
        return result

    def save(self, path: str | os.PathLike[str], subfolder: str | None = None) -> Path:
        """Writes the files of all preprocessors into a model's folder: all of them, or none."""
        return save_files(self.files(subfolder), path)

    def push_to_hub(
        self,
        repo_id: str,
        subfolder: str | None = None,
        commit_message: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> str:
        """Uploads the files of all preprocessors in one commit; see `Preprocessor.push_to_hub`."""
        return push_files(self.files(subfolder), repo_id, commit_message or "Upload preprocessors", private, kwargs)


def save_files(contents: Mapping[str, str | bytes], path: str | os.PathLike[str]) -> Path:
    """Writes files into a folder, all or none, in their order; returns the folder."""
    folder = paths.folder_at(path)
    with files.stage(folder) as staged:
        for name, content in contents.items():
            staged(name).write_bytes(_as_bytes(content))
    return folder


def push_files(
    contents: Mapping[str, str | bytes], repo_id: str, message: str, private: bool | None, options: Mapping[str, Any]
) -> str:
    """Uploads files in one commit; returns its address."""
    content = {name: _as_bytes(data) for name, data in contents.items()}
    return hub.push(repo_id, content, commit_message=message, private=private, **options)


def _as_bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
