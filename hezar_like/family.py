"""What a family's file hands to the framework, and the decorator it does so with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from .backbones import BackboneBase
from .configs import ModelConfig
from .keymap import KeyMap, Stored, Table
from .layers import initialize
from .registry import Registered, caller_location, families_registry, tasks_registry

__all__ = ["Family", "Head", "family_of", "register_family"]

B = TypeVar("B", bound=type[BackboneBase])


@dataclass(frozen=True)
class Head:
    """How a family serves one task.

    Attributes:
        build: Makes the head from the model's config; None where the task needs none.
        keys: Foreign names of the head's weights, as transformers publishes them, to native names; or a function of the
            config that gives them.
        tied: Native names of the head's weights that are another weight of the model, and which one.
        infer: Config values that only the names of a checkpoint's weights tell; its second argument is whether the
            checkpoint is of this task.
        published: Whether transformers has a model with this head.
        endings: How transformers' class names for it end, where they differ from the task's; the first is written. None
            at all: no class there has it.
    """

    build: Callable[[Any], nn.Module | None] = lambda config: None
    keys: Table | Callable[[Any], Table] = field(default_factory=dict)
    tied: Callable[[Any], Mapping[str, str]] = lambda config: {}
    infer: Callable[[Collection[str], bool], Mapping[str, Any]] = lambda keys, own_task: {}
    published: Callable[[Any], bool] = lambda config: True
    endings: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Family:
    """An architecture.

    Attributes:
        name: Its registry name.
        backbone: Class of the backbone, built from the config.
        config_class: Its config.
        keys: Foreign names of the backbone's weights, as transformers publishes them, to native names; or a function of
            the config that gives them.
        heads: For each task it serves, by the task's name, the head; several may have the same one.
        prefix: What the foreign names of the backbone begin with where there is a head.
        spellings: Older spellings inside foreign names; see `KeyMap`.
        model_types: transformers' names (`model_type`) of this family.
        titles: How transformers' class names for this family begin, as in `BertModel`; the first is written.
        irrelevant: Settings in transformers' config.json that say nothing about what a model of this family computes.
        fixed: Settings there that do, with the only value that exists here.
        own: Fields that transformers' config does not have.
        published: Whether a model of transformers can compute what one with this config does.
        read_settings: Fields that transformers' settings, and the names of the weights, say in other words.
        write_settings: Those settings, of a config.
        write_generation: Settings in transformers' generation_config.json that a model needs there.
        initialize: Fills a model's parameters with random values, given the model and its config.
    """

    name: str
    backbone: type[BackboneBase]
    config_class: type[ModelConfig]
    keys: Table | Callable[[Any], Table]
    heads: Mapping[str, Head]
    prefix: str = ""
    spellings: Mapping[str, str] = field(default_factory=dict)
    model_types: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    irrelevant: Collection[str] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    own: Collection[str] = ()
    published: Callable[[Any], bool] = lambda config: True
    read_settings: Callable[[Mapping[str, Any], Collection[str]], Mapping[str, Any]] = lambda settings, names: {}
    write_settings: Callable[[Any], Mapping[str, Any]] = lambda config: {}
    write_generation: Callable[[Any], Mapping[str, Any]] = lambda config: {}
    initialize: Callable[[nn.Module, Any], None] = lambda model, config: initialize(
        model, config.get("initializer_range", 0.02)
    )

    def keymap(self, config: ModelConfig, task: str) -> KeyMap:
        """The table of this family's model for a task."""
        head = self.heads[task]
        table = self.backbone_table(config)
        table |= head.keys(config) if callable(head.keys) else head.keys
        return KeyMap(table, prefix=self.prefix, spellings=self.spellings)

    def backbone_table(self, config: ModelConfig) -> dict[str, str | Stored | None]:
        """The foreign names of the backbone's weights, with the prefix, to native names."""
        keys = self.keys(config) if callable(self.keys) else self.keys
        return {self.prefix + foreign: native for foreign, native in keys.items()}

    def shared_head(self, config: ModelConfig, task: str) -> dict[str, str]:
        """What of a head is published as part of the backbone, such as BERT's pooler: foreign to native names."""
        keys = self.heads[task].keys
        table = keys(config) if callable(keys) else keys
        return {
            foreign: native
            for foreign, native in table.items()
            if isinstance(native, str) and self.prefix and foreign.startswith(self.prefix)
        }

    def same_head(self, task: str, other: str) -> bool:
        """Whether two tasks have one head, so that a checkpoint for the one has all weights for the other."""
        first, second = self.heads[task], self.heads[other]
        return task == other or (first.build is second.build and first.keys is second.keys)

    def endings(self, task: str) -> tuple[str, ...]:
        """How transformers' class names for a task end."""
        own = self.heads[task].endings
        endings: tuple[str, ...] = tasks_registry[task].module_class.endings if own is None else own
        return endings


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
