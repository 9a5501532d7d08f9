"""Configs: dataclasses that know their registry name, check every value, and read and write YAML."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import os
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from pprint import pformat
from typing import Any, ClassVar, Literal, Self, dataclass_transform

from . import files, hub, paths, text_files
from .errors import ConfigError, did_you_mean
from .fields import coerce
from .registry import (
    Registry,
    datasets_registry,
    embeddings_registry,
    metrics_registry,
    models_registry,
    preprocessors_registry,
)

__all__ = ["Config", "DatasetConfig", "EmbeddingConfig", "MetricConfig", "ModelConfig", "PreprocessorConfig"]

# What identifies a config in its file; `task` is there for people and for Hezar, which wrote it everywhere.
IDENTITY = ("name", "config_type", "task")
# What a load passes on to the download.
DOWNLOAD_OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "verify")
# Written by Hezar into its model configs, and without a meaning here.
LEGACY_KEYS = frozenset({
    "use_cache", "gradient_checkpointing", "output_past", "tie_weights_", "qa_dropout", "file_name",
    "add_cross_attention", "sinusoidal_pos_embds",
})  # fmt: skip


class _ConfigType(type):
    """Gives constructors the aliases of a config and errors that suggest."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **cls._known(kwargs))  # type: ignore[attr-defined]


@dataclass_transform(kw_only_default=False)
@dataclasses.dataclass
class Config(metaclass=_ConfigType):
    """Base of all configs.

    A subclass is a plain dataclass that sets `name = "..."`. Every assignment, in the constructor or later, is checked
    against the field's annotation; unknown names are refused.

    Attributes:
        name: The registry name of what this configures.
        config_type: The kind of registry it is in.
    """

    name: ClassVar[str] = ""
    config_type: ClassVar[str] = "base"
    default_filename: ClassVar[str] = "config.yaml"
    aliases: ClassVar[Mapping[str, str]] = {}
    """Other names of fields, accepted wherever fields are given by name."""

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Checks fields against each other; overridden by subclasses, which call it first."""

    # -- building ---------------------------------------------------------------------------------------------------

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Names of the fields, in order."""
        return tuple(f.name for f in dataclasses.fields(cls) if f.init and f.name not in IDENTITY[:2])

    @classmethod
    def _known(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values under their fields' own names; an unknown name is an error."""
        known, result = cls.fields(), {}
        for key, value in values.items():
            field = cls.aliases.get(key, key)
            if field not in known:
                raise ConfigError(f"{cls.__name__}: unknown key {str(key)[:200]!r}.{did_you_mean(key, known)}")
            if field in result:
                raise ConfigError(f"{cls.__name__}: {field!r} is given twice, also as {key!r}. Remove one.")
            result[field] = value
        return result

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> Self:
        """Builds a config from plain data; `overrides` win.

        Raises:
            ConfigError: For unknown keys, wrong types and values out of range.
        """
        own = cls._known({key: value for key, value in values.items() if key not in IDENTITY or key in cls.fields()})
        return cls(**(own | cls._known(overrides)))

    def update(self, values: Mapping[str, Any] | None = None, **kwargs: Any) -> Self:
        """Sets fields in place and checks them all; nothing changes when one is wrong.

        Returns:
            This config.
        """
        changes = self._known({**(values or {}), **kwargs})
        trial = copy.deepcopy(self)
        trial._apply(changes)
        self.__dict__.update(trial.__dict__)
        return self

    def _apply(self, changes: Mapping[str, Any]) -> None:
        for key, value in changes.items():
            setattr(self, key, value)
        self.check()

    def __setattr__(self, key: str, value: Any) -> None:
        key = self.aliases.get(key, key)
        types = _field_types(type(self))
        if key in types:
            value = coerce(value, types[key], f"{type(self).__name__}.{key}")
        elif not key.startswith("_"):
            raise ConfigError(f"{type(self).__name__} has no field {key!r}.{did_you_mean(key, types)}")
        super().__setattr__(key, value)

    def __getattr__(self, key: str) -> Any:
        if key in type(self).aliases:
            return getattr(self, type(self).aliases[key])
        if key.startswith("__"):  # Python asks, as for __deepcopy__, and wants no suggestions
            raise AttributeError(key)
        raise AttributeError(f"{type(self).__name__} has no field {key!r}.{did_you_mean(key, self.fields())}")

    # -- as a mapping -----------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain data: identity first, then every field, also those that are None."""
        data = {"name": self.name, "config_type": self.config_type}
        return data | {name: _plain(getattr(self, name)) for name in self.fields()}

    def keys(self) -> list[str]:
        return list(self.to_dict())

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)

    def __getitem__(self, key: str) -> Any:
        if key in self.aliases or key in (*self.fields(), "name", "config_type"):
            return getattr(self, key)
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        return len(self.to_dict())

    def __str__(self) -> str:
        return pformat(self.to_dict(), sort_dicts=False)

    # -- files ------------------------------------------------------------------------------------------------------

    @classmethod
    def load(
        cls,
        hub_or_local_path: str | os.PathLike[str],
        filename: str | None = None,
        subfolder: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Reads a config from a folder or the Hub.

        The class is the one registered for the file's `name`, when that is a kind of this class.

        Args:
            hub_or_local_path: A folder, or a repository id.
            filename: Name of the YAML file; default: this kind's own.
            subfolder: Folder inside the repository.
            **kwargs: `revision`, `token`, `cache_dir`, `local_files_only` go to the download; others override fields.

        Raises:
            ConfigError, HubError: When the file cannot be read or is wrong.
        """
        download = {key: kwargs.pop(key) for key in DOWNLOAD_OPTIONS if key in kwargs}
        source = hub.resolve(hub_or_local_path, **download)
        name = filename or cls.default_filename
        return cls.from_file(source.get(f"{subfolder}/{name}" if subfolder else name), **kwargs)

    @classmethod
    def from_file(cls, path: str | Path, **overrides: Any) -> Self:
        """Reads one YAML file; see `load`."""
        try:
            return cls.from_saved(text_files.read_yaml(path), **overrides)
        except ConfigError as error:
            raise error if str(path) in str(error) else ConfigError(f"{path}: {error}") from None

    @classmethod
    def from_saved(cls, values: Mapping[str, Any], **overrides: Any) -> Self:
        """Builds the config that a saved file's `name` stands for; keys that only Hezar knew are left out."""
        kind = cls._class_of(values)
        if kind is not cls:
            return kind.from_saved(values, **overrides)  # it may have rules of its own
        # Hezar wrote some fields twice, under their published name, which counts, and under the general one.
        doubled = {field for alias, field in kind.aliases.items() if alias in values and alias != field}
        dropped = doubled | (LEGACY_KEYS - set(kind.fields()))
        if values.get("add_cross_attention"):
            dropped.discard("add_cross_attention")  # that is another architecture, and so an unknown key
        return kind.from_dict({key: value for key, value in values.items() if key not in dropped}, **overrides)

    @classmethod
    def _class_of(cls, values: Mapping[str, Any]) -> type[Self]:
        name, kind_of_config = values.get("name"), str(values.get("config_type", cls.config_type)).lower()
        if kind_of_config != cls.config_type and cls.config_type != Config.config_type:
            raise ConfigError(
                f"config_type is {kind_of_config[:100]!r}, but a {cls.__name__} is of type {cls.config_type!r}. "
                "Correct it, or read the file with another class."
            )
        registry = REGISTRIES.get(kind_of_config)
        if registry is None or not name or name == cls.name:
            return cls
        kind = registry[name].config_class
        if not issubclass(kind, cls):
            raise ConfigError(
                f"{name!r} is a {kind.__name__}, not a {cls.__name__}. Load it with {kind.__name__}.load."
            )
        return kind

    def save(self, save_dir: str | os.PathLike[str], filename: str | None = None, subfolder: str | None = None) -> Path:
        """Writes the YAML file into a folder, replacing it at once or not at all.

        Returns:
            The file's path.
        """
        folder = paths.folder_at(save_dir) / (subfolder or "")
        name = filename or self.default_filename
        with files.stage(folder) as staged:
            staged(name).write_text(text_files.dump_yaml(self.to_dict()), encoding="utf-8")
        return folder / name

    def push_to_hub(
        self,
        repo_id: str,
        filename: str | None = None,
        subfolder: str | None = None,
        commit_message: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> str:
        """Uploads the YAML file in one commit; `kwargs` (`token`, `revision`) go to the upload.

        Returns:
            The commit's address.
        """
        name = filename or self.default_filename
        path = f"{subfolder}/{name}" if subfolder else name
        content = text_files.dump_yaml(self.to_dict()).encode()
        message = commit_message or f"Upload {path}"
        return hub.push(repo_id, {path: content}, commit_message=message, private=private, **kwargs)


@dataclasses.dataclass
class ModelConfig(Config):
    """Base of model configs."""

    config_type: ClassVar[str] = "model"
    family: ClassVar[str] = ""
    """The family, where the model is one of a family for a task; set when the family is registered."""
    default_filename: ClassVar[str] = "model_config.yaml"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__ and "family" not in cls.__dict__:
            cls.family = ""  # a user's own model may take over the fields of a family's config

    @classmethod
    def compose(cls, family_config: type[ModelConfig], name: str) -> type[ModelConfig]:
        """The config of a family's model for a task: a family's config and a task's config at once.

        `cls` is the task's; the two must not share field names, which a test checks for all pairs.
        """
        bases = (family_config,) if issubclass(family_config, cls) else (cls, family_config)
        title = "".join(word.capitalize() for word in name.split("_")) + "Config"
        space = {
            "name": name,
            "family": family_config.family,
            "aliases": {**family_config.aliases, **cls.aliases},
            "__doc__": family_config.__doc__,
            "__module__": __name__,
            "__reduce__": lambda self: (_rebuild, (self.name, self.to_dict())),
        }
        return typing.cast("type[ModelConfig]", dataclasses.dataclass(_ConfigType(title, bases, space)))


@dataclasses.dataclass
class PreprocessorConfig(Config):
    """Base of preprocessor configs."""

    config_type: ClassVar[str] = "preprocessor"


@dataclasses.dataclass
class DatasetConfig(Config):
    """Base of dataset configs."""

    config_type: ClassVar[str] = "dataset"
    default_filename: ClassVar[str] = "dataset_config.yaml"

    path: str | None = None
    """Where the samples are: a file, a folder, or a Hub id, which may end with a subset, as in org/name:subset."""
    max_size: int | float | None = None
    """How many samples are read, or, as a number with a point up to 1.0, which share of them; None: all."""
    hf_load_kwargs: dict[str, Any] | None = None
    """More arguments of `datasets.load_dataset`, for Hub ids."""


@dataclasses.dataclass
class MetricConfig(Config):
    """Base of metric configs."""

    config_type: ClassVar[str] = "metric"

    objective: Literal["maximize", "minimize"] = "maximize"
    """Whether more is better."""
    output_keys: list[str] | None = None
    """Which of the values are returned; None: all."""
    n_decimals: int | None = 4
    """Decimals that values are rounded to; None: not rounded."""


@dataclasses.dataclass
class EmbeddingConfig(Config):
    """Base of word embedding configs."""

    config_type: ClassVar[str] = "embedding"
    default_filename: ClassVar[str] = "embedding_config.yaml"


REGISTRIES: Mapping[str, Registry] = {
    "model": models_registry,
    "preprocessor": preprocessors_registry,
    "dataset": datasets_registry,
    "metric": metrics_registry,
    "embedding": embeddings_registry,
}


def _rebuild(name: str, values: dict[str, Any]) -> Config:
    """Unpickles a composed config; its class has no import path, but its name stands for it."""
    return models_registry[name].config_class.from_dict(values)


_TYPES: dict[type, dict[str, Any]] = {}


def _field_types(cls: type) -> dict[str, Any]:
    """The resolved annotations of a config's fields; one that cannot be resolved is not checked."""
    if cls not in _TYPES:
        hints: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            try:
                hints |= typing.get_type_hints(base, include_extras=True) if base is not object else {}
            except NameError:  # a name that is only local to the function the class is defined in
                hints |= inspect.get_annotations(base)
        _TYPES[cls] = {f.name: _or_none(hints.get(f.name, Any), f.default) for f in dataclasses.fields(cls)}
    return _TYPES[cls]


def _or_none(annotation: Any, default: Any) -> Any:
    """`size: int = None` means that None is allowed."""
    return annotation | None if default is None and not isinstance(annotation, str) else annotation


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return getattr(value, "value", value) if not isinstance(value, str | int | float | bool | None) else value
