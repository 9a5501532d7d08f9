"""The base of all preprocessors, and how those of a model are found."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from .. import hub, text_files
from ..configs import DOWNLOAD_OPTIONS, PreprocessorConfig
from ..errors import ConfigError, PreprocessorError, did_you_mean
from ..registry import Registered, preprocessors_registry
from .container import PreprocessorsContainer, push_files, save_files

__all__ = ["Preprocessor", "read_preprocessors"]

CONFIG_FILENAMES = (
    "tokenizer_config.yaml",
    "normalizer_config.yaml",
    "image_processor_config.yaml",
    "feature_extractor_config.yaml",
)
"""Where the built-in kinds keep their configs. They are tried by name, because listing a repository costs a request."""


class Preprocessor:
    """Turns raw inputs into what a model takes; configured, registered, saved and loaded like a model.

    A subclass sets `config_filename`, implements `__call__`, and is registered with `register_preprocessor`. One that
    has more files than its config overrides `extra_files` and `read`.

    Args:
        config: The settings; copied, so that later changes of one do not reach the other.
        **kwargs: Fields of the config to override.
    """

    config_filename: ClassVar[str] = "preprocessor_config.yaml"
    subfolder: ClassVar[str] = "preprocessor"

    def __init__(self, config: PreprocessorConfig, **kwargs: Any) -> None:
        self.config: Any = copy.deepcopy(config).update(kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __call__")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.config.name!r}>"

    # -- files ------------------------------------------------------------------------------------------------------

    def saved_config(self) -> PreprocessorConfig:
        """The config as it is saved."""
        config: PreprocessorConfig = self.config
        return config

    def extra_files(self) -> dict[str, str | bytes]:
        """What is saved beside the config: file names and contents."""
        return {}

    def files(self, subfolder: str | None = None) -> dict[str, str | bytes]:
        """What `save` writes: names relative to the model's folder, and contents; the config comes last.

        Args:
            subfolder: Folder of the preprocessor inside the model's; default `preprocessor`, "" for none.
        """
        own = {**self.extra_files(), self.config_filename: text_files.dump_yaml(self.saved_config().to_dict())}
        folder = self.subfolder if subfolder is None else subfolder
        return {join(folder, name): content for name, content in own.items()}

    def save(self, path: str | os.PathLike[str], subfolder: str | None = None) -> Path:
        """Writes the files into a model's folder: all of them, or none.

        Returns:
            The model's folder.
        """
        return save_files(self.files(subfolder), path)

    def push_to_hub(
        self,
        repo_id: str,
        subfolder: str | None = None,
        commit_message: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> str:
        """Uploads the files in one commit; `kwargs` (`token`, `revision`) go to the upload.

        Returns:
            The commit's address.
        """
        return push_files(
            self.files(subfolder), repo_id, commit_message or f"Upload {self.config.name}", private, kwargs
        )

    @classmethod
    def load(
        cls,
        hub_or_local_path: str | os.PathLike[str],
        subfolder: str | None = None,
        *,
        force_return_dict: bool = False,
        config_filename: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Reads the preprocessors of a model from a folder or the Hub.

        Called on a subclass, it reads the one preprocessor of that kind.

        Args:
            hub_or_local_path: A folder, or a repository id.
            subfolder: Folder inside the model; default `preprocessor`, "" for the model's folder itself.
            force_return_dict: Return a `PreprocessorsContainer` also when there is just one.
            config_filename: Name of the config file; default: the known names.
            **kwargs: `revision`, `token`, `cache_dir`, `local_files_only` go to the download; others override fields
                of the config.

        Returns:
            The one preprocessor, or a `PreprocessorsContainer`.

        Raises:
            PreprocessorError: When there is none, or a file is broken.
            ConfigError, HubError: When a config is wrong or the files cannot be reached.
        """
        download = {key: kwargs.pop(key) for key in DOWNLOAD_OPTIONS if key in kwargs}
        source = hub.resolve(hub_or_local_path, **download)
        names = _config_names(cls) if config_filename is None else [config_filename]
        found = read_preprocessors(source, subfolder, names=names, overrides=kwargs)
        for name, preprocessor in found.items():
            if not isinstance(preprocessor, cls):
                kind = type(preprocessor).__name__
                raise PreprocessorError(
                    f"{source}: {name!r} is a {kind}, not a {cls.__name__}. Load it with {kind}.load."
                )
        if force_return_dict:
            return found
        if not found:
            raise PreprocessorError(
                f"{source} has no {cls.__name__}: none of {', '.join(names)} is in "
                f"{cls.subfolder if subfolder is None else subfolder!r}. Give `subfolder`, or save one there first."
            )
        return found if len(found) > 1 else next(iter(found.values()))

    @classmethod
    def read(cls, source: hub.Source, config: Any, subfolder: str) -> Self:
        """Builds the preprocessor from its config; overridden by those that read more files.

        Args:
            source: Where its files are; `source.get(f"{subfolder}/name")` gives one.
            config: The config that was read.
            subfolder: Folder of the preprocessor inside the source.
        """
        return cls(config)


def read_preprocessors(
    source: hub.Source,
    subfolder: str | None = None,
    *,
    names: list[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> PreprocessorsContainer:
    """Reads every preprocessor that a source has.

    Args:
        source: The model's files.
        subfolder: Folder inside the model; default `preprocessor`.
        names: Config files to try; default: those of all known kinds.
        overrides: Fields of the configs to override.

    Returns:
        The preprocessors by name; empty when there is none.

    Raises:
        PreprocessorError, ConfigError, HubError: When a file is broken or cannot be reached.
    """
    folder = Preprocessor.subfolder if subfolder is None else subfolder
    found = PreprocessorsContainer()
    if names is None:
        names = _config_names(Preprocessor)
        # A folder can be looked into, so that one whose class is not imported is an error and not just left out.
        there = sorted((source.folder / folder).glob("*_config.yaml")) if source.folder is not None else []
        names += [path.name for path in there if path.name not in names]
    for filename in names:
        path = source.find(join(folder, filename))
        if path is None:
            continue
        values = text_files.read_yaml(path)
        entry = _registered(values.get("name"), path)
        try:
            config = entry.config_class.from_saved(values, **(overrides or {}))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        found[entry.name] = entry.module_class.read(source, config, folder)
    return found


def _registered(name: Any, path: Path) -> Registered:
    entry = preprocessors_registry.find(name) if isinstance(name, str) else None
    if entry is None:
        problem = "there is no `name`" if name is None else f"unknown preprocessor {str(name)[:200]!r}"
        advice = "If it is one of your own, import the module that registers it first."
        raise PreprocessorError(f"{path}: {problem}.{did_you_mean(name, preprocessors_registry)} {advice}")
    return entry


def preprocessor_config_files() -> list[str]:
    """Where a model folder may hold configs of preprocessors, relative to it."""
    return [f"{Preprocessor.subfolder}/{name}" for name in _config_names(Preprocessor)]


def _config_names(cls: type[Preprocessor]) -> list[str]:
    """A kind's own config file; for the base class, those of all kinds."""
    if cls is not Preprocessor:
        return [cls.config_filename]
    classes = (entry.module_class for entry in preprocessors_registry.values())
    registered = (kind.config_filename for kind in classes if issubclass(kind, Preprocessor))
    return list(dict.fromkeys([*CONFIG_FILENAMES, *registered]))


def join(folder: str, name: str) -> str:
    """The name of a file in a folder; "" is the folder itself."""
    return f"{folder}/{name}" if folder else name
