"""What a family's file hands to the framework, and the decorator it does so with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from .configs import ModelConfig
from .keymap import KeyMap, Table
from .layers import initialize
from .registry import Registered, caller_location, families_registry

__all__ = ["Family", "Head", "family_of", "register_family"]

B = TypeVar("B", bound=type[nn.Module])


@dataclass(frozen=True)
class Head:
    """How a family serves one task.

    Attributes:
        build: Makes the head from the model's config; None where the task needs none.
        keys: Foreign names of the head's weights, as transformers publishes them, to native names.
        tied: Native names of the head's weights that are another weight of the model, and which one.
        infer: Config values that only the names of a checkpoint's weights tell; its second argument is whether the
            checkpoint is of this task.
        published: Whether transformers has a model with this head.
    """

    build: Callable[[Any], nn.Module | None] = lambda config: None
    keys: Table = field(default_factory=dict)
    tied: Callable[[Any], Mapping[str, str]] = lambda config: {}
    infer: Callable[[Collection[str], bool], Mapping[str, Any]] = lambda keys, own_task: {}
    published: Callable[[Any], bool] = lambda config: True


@dataclass(frozen=True)
class Family:
    """An architecture.

    Attributes:
        name: Its registry name.
        backbone: Class of the backbone, built from the config.
        config_class: Its config.
        keys: Foreign names of the backbone's weights, as transformers publishes them, to native names.
        heads: For each task it serves, by the task's name, the head.
        prefix: What the foreign names of the backbone begin with where there is a head.
        spellings: Older spellings inside foreign names; see `KeyMap`.
        model_types: transformers' names (`model_type`) of this family.
        titles: How transformers' class names for this family begin, as in `BertModel`; the first is written.
        initialize: Fills a model's parameters with random values, given the model and its config.
    """

    name: str
    backbone: type[nn.Module]
    config_class: type[ModelConfig]
    keys: Table
    heads: Mapping[str, Head]
    prefix: str = ""
    spellings: Mapping[str, str] = field(default_factory=dict)
    model_types: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    initialize: Callable[[nn.Module, Any], None] = lambda model, config: initialize(
        model, config.get("initializer_range", 0.02)
    )

    def keymap(self, task: str) -> KeyMap:
        """The table of this family's model for a task."""
        table = {self.prefix + foreign: native for foreign, native in self.keys.items()}
        return KeyMap(table | dict(self.heads[task].keys), prefix=self.prefix, spellings=self.spellings)


def register_family(
    name: str, config_class: type[ModelConfig], description: str, *, aliases: tuple[str, ...] = (), **facts: Any
) -> Callable[[B], B]:
    """Registers a backbone class as a family.

    Args:
        name: The registry name; the config's `name`, and the file's.
        config_class: The family's config.
        description: One line with the paper.
        aliases: Other names users may write.
        **facts: The other fields of `Family`.

    Raises:
        RegistryError: When a name is taken.
    """
    where = caller_location()

    def register(cls: B) -> B:
        config_class.family = name
        facts.setdefault("model_types", (name.replace("_", "-"),))
        family = Family(name, cls, config_class, **facts)
        families_registry.add(Registered(name, family, config_class, description, where), aliases=aliases)
        return cls

    return register


def family_of(config: ModelConfig) -> Family:
    """The family a model's config belongs to."""
    family: Family = families_registry[config.family].module_class
    return family
