"""What a format has to know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from torch import Tensor

from ..configs import Config, ModelConfig
from ..errors import OptionError
from ..hub import Source
from ..keymap import KeyMap
from ..registry import Registered, Registry, caller_location
from .weights import Weights

if TYPE_CHECKING:
    from ..preprocessors import PreprocessorsContainer

__all__ = ["Checkpoint", "Content", "Format", "Request", "formats_registry", "register_format"]

F = TypeVar("F", bound=type["Format"])

formats_registry = Registry("format", "hezar_like.formats", "hezar_like.formats")


@dataclass(frozen=True)
class Request:
    """What the caller of a load wants.

    Attributes:
        task: The task, or None for the one the files name.
        model_filename: Name of the weights file, or None.
        config_filename: Name of the config file, or None.
        options: Of the format; see `Format.options`.
    """

    task: str | None = None
    model_filename: str | None = None
    config_filename: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Checkpoint:
    """A model on disk, read as far as its header.

    Attributes:
        entry: What to build.
        values: Config fields for it.
        weights: The opened weights.
        tables: Gives foreign to native names for the config of a task of the family; None where the names are native.
        own_task: Whether the model is for the task the files are of, so that its head must be among the weights.
        unknown_head: Whether the files are of a task that is not known here, so that any name may be its head's.
    """

    entry: Registered
    values: dict[str, Any]
    weights: Weights
    tables: Callable[[ModelConfig, str], KeyMap] | None = None
    own_task: bool = True
    unknown_head: bool = False


@dataclass(frozen=True)
class Content:
    """A model, as a format needs it to write it.

    Attributes:
        config: The model's config.
        task: Its task; empty when it is a user's own model.
        tensors: Its weights by native name, shared ones once.
        preprocessor: Its preprocessors.
    """

    config: ModelConfig
    task: str
    tensors: Mapping[str, Tensor]
    preprocessor: PreprocessorsContainer


class Format(ABC):
    """A dialect.

    Attributes:
        rank: Formats are tried in this order; the more special one first.
        shares: Formats whose files are part of this one's.
        options: Keywords of `Model.load` that say how files of this format are to be read.
    """

    rank: ClassVar[int] = 10
    shares: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def tell_tales(self, config_filename: str | None) -> list[str]:
        """Files by which it is known, for messages."""

    @abstractmethod
    def detect(self, source: Source, config_filename: str | None) -> bool:
        """Whether a source is of this format."""

    @abstractmethod
    def open(self, source: Source, request: Request) -> Checkpoint:
        """Reads the config and the header of the weights."""

    def read_config(
        self, values: Mapping[str, Any], path: Path, family: str | None, task: str | None
    ) -> ModelConfig | None:
        """The config of a new model, by the settings of a config file alone.

        Args:
            values: The settings.
            path: The file, for messages, and for those beside it.
            family: The family, where the caller knows it.
            task: The task; default: the one the settings name, or the family's first.

        Returns:
            The config; None where the settings are not of this format.

        Raises:
            ConfigError: When the settings are of this format and wrong.
        """
        return None

    @abstractmethod
    def preprocessors(self, source: Source) -> PreprocessorsContainer:
        """Reads the preprocessors; an empty container when there are none."""

    def write(self, content: Content, folder: Path) -> Path:
        """Saves a model in this format.

        Raises:
            OptionError: When this format cannot be written, or cannot hold the model.
        """
        raise OptionError(f"models cannot be exported to {type(self).__name__}. Export to 'transformers', or save().")


def register_format(name: str, description: str) -> Callable[[F], F]:
    """Registers a format."""
    where = caller_location()

    def register(cls: F) -> F:
        formats_registry.add(Registered(name, cls, Config, description, where))
        return cls

    return register
