"""Names of everything that can be built, and where each is defined.

A registry is a read-only mapping from a name to a `Registered` entry. Built-in entries register themselves with a
decorator in their own file and are imported when they are first asked for; users register theirs with the same
decorators; other packages through the entry points `hezar_like.models`, `hezar_like.preprocessors`, and so on.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from .errors import RegistryError, did_you_mean

__all__ = [
    "Registered",
    "Registry",
    "datasets_registry",
    "embeddings_registry",
    "metrics_registry",
    "models_registry",
    "preprocessors_registry",
    "register_dataset",
    "register_embedding",
    "register_metric",
    "register_model",
    "register_preprocessor",
]

C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Registered:
    """One name: what is built, from which config, and where it was defined.

    Attributes:
        name: The registry name.
        module_class: The class (for a family, the `Family` record) behind the name.
        config_class: Its config class.
        description: One line for people.
        where: `path/to/file.py:line` of the definition.
    """

    name: str
    module_class: Any
    config_class: Any
    description: str = ""
    where: str = ""


class Registry(Mapping[str, Registered]):
    """Unique names of one kind; a miss suggests, a duplicate is refused.

    Args:
        kind: What is registered, in words for messages ("model", "preprocessor").
        package: The package whose modules register the built-in entries, if there is one.
        plugins: The entry point group through which other packages add theirs, if they can.
    """

    def __init__(self, kind: str, package: str | None = None, plugins: str | None = None) -> None:
        self.kind = kind
        self._package = package
        self._plugins = plugins
        self._entries: dict[str, Registered] = {}
        self._aliases: dict[str, str] = {}
        self._plugins_loaded = False

    def add(self, entry: Registered, *, aliases: tuple[str, ...] = ()) -> None:
        """Adds an entry.

        Raises:
            RegistryError: When one of its names is taken by something else. Defining the same class again, as when a
                notebook cell is run twice, replaces the first.
        """
        for name in (entry.name, *aliases):
            old = self._known(name)
            if old is not None and not _same_definition(old, entry):
                raise RegistryError(
                    f"the {self.kind} name {name!r} is taken: it is defined at {old.where}. Choose another name."
                )
        self._entries[entry.name] = entry
        self._aliases.update(dict.fromkeys(aliases, entry.name))

    def find(self, name: str) -> Registered | None:
        """The entry of a name or alias, or None; imports what is needed to know."""
        entry = self._known(name)
        if entry is None:
            self._import(name)
            entry = self._known(name)
        if entry is None:
            self._import_all()
            entry = self._known(name)
        return entry

    def unknown(self, name: object) -> RegistryError:
        """The error for a name that is not here."""
        return RegistryError(f"unknown {self.kind} {str(name)[:200]!r}.{did_you_mean(name, [*self, *self._aliases])}")

    def __getitem__(self, name: str) -> Registered:
        entry = self.find(name) if isinstance(name, str) else None
        if entry is None:
            raise self.unknown(name)
        return entry

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def __iter__(self) -> Iterator[str]:
        self._import_all()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._import_all()
        return len(self._entries)

    @property
    def aliases(self) -> Mapping[str, str]:
        """Second names, each with the first."""
        return self._aliases

    def _known(self, name: str) -> Registered | None:
        return self._entries.get(self._aliases.get(name, name))

    def _modules(self) -> list[str]:
        if self._package is None:
            return []
        return [module.name for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__)]

    def _import(self, name: str) -> None:
        """Imports the built-in file of that name; families and tasks are found in the file called like them."""
        if name in self._modules():
            importlib.import_module(f"{self._package}.{name}")

    def _import_all(self) -> None:
        for module in self._modules():
            importlib.import_module(f"{self._package}.{module}")
        if self._plugins is not None and not self._plugins_loaded:
            self._plugins_loaded = True
            for plugin in _installed().select(group=self._plugins):
                plugin.load()


@cache
def _installed() -> Any:
    """What all installed packages offer, to select from by group; reading it takes longer than loading a model."""
    return entry_points()


class ModelsRegistry(Registry):
    """All model names: users' own, the families, and every family with every task it has a head for.

    `<family>_<task>` is never registered: the longest suffix that names a task gives the task, the rest the family.
    """

    def __init__(self, families: Registry, tasks: Registry) -> None:
        super().__init__("model", plugins="hezar_like.models")
        self._families, self._tasks = families, tasks
        self._composed: dict[tuple[str, str], Registered] = {}

    def compose(self, family_name: str, task_name: str) -> Registered:
        """The model of a family for a task; both may be aliases.

        Raises:
            RegistryError: When one of them is unknown, or the family has no head for the task.
        """
        family, task = self._families[family_name], self._tasks[task_name]
        if task.name not in family.module_class.heads:
            raise RegistryError(
                f"the family {family.name!r} has no head for the task {task.name!r}; "
                f"it has: {', '.join(sorted(family.module_class.heads))}."
            )
        key = family.name, task.name
        if key not in self._composed:
            name = family.name if task.name == "backbone" else f"{family.name}_{task.name}"
            self._composed[key] = Registered(
                name=name,
                module_class=task.module_class,
                config_class=(
                    family.config_class
                    if task.name == "backbone"
                    else task.config_class.compose(family.config_class, name)
                ),
                description=f"{family.description}: {task.description}",
                where=family.where,
            )
        return self._composed[key]

    def unknown(self, name: object) -> RegistryError:
        """The error for an unknown name; a known family without that head is told apart from a typing error."""
        family, task = self._split(str(name))
        if family is not None:
            heads = ", ".join(sorted(self._families[family].module_class.heads))
            return RegistryError(f"the family {family!r} has no head for the task {task!r}; it has: {heads}.")
        return RegistryError(
            f"unknown model {str(name)[:200]!r}.{did_you_mean(name, self)} "
            "A model of your own is known once the module that registers it is imported."
        )

    def __iter__(self) -> Iterator[str]:
        self._import_all()
        products = {
            family if task == "backbone" else f"{family}_{task}"
            for family in self._families
            for task in self._families[family].module_class.heads
            if task in self._tasks
        }
        return iter(sorted(products | set(self._entries)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _known(self, name: str) -> Registered | None:
        return self._entries.get(name) or self._resolve(name)

    def _resolve(self, name: str) -> Registered | None:
        family, task = self._split(name)
        if family is None or task not in self._families[family].module_class.heads:
            return None
        return self.compose(family, task)

    def _split(self, name: str) -> tuple[str | None, str]:
        """The family and the task in a name, where it has a family; the longest suffix that names a task counts."""
        for suffix in sorted([*self._tasks, *self._tasks.aliases], key=len, reverse=True):
            stem = name.removesuffix(f"_{suffix}")
            if stem != name and stem in self._families:
                return stem, self._tasks[suffix].name
        return (name if name in self._families else None), "backbone"


def caller_location(depth: int = 2) -> str:
    """`file:line` of the code that called the caller of this function."""
    frame = sys._getframe(depth)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _same_definition(old: Registered, new: Registered) -> bool:
    def identity(entry: Registered) -> tuple[str, str, str]:
        thing = getattr(entry.module_class, "backbone", entry.module_class)
        return entry.name, thing.__module__, thing.__qualname__

    return identity(old) == identity(new)


def _register(
    registry: Registry, name: str, config_class: type, description: str | None, where: str
) -> Callable[[C], C]:
    own = getattr(config_class, "name", None)
    if own != name:
        raise RegistryError(
            f"{config_class.__name__}.name is {own!r}, but it is registered as {name!r}. "
            f"Write `name = {name!r}` in {config_class.__name__}."
        )

    def add(cls: C) -> C:
        summary = description or (cls.__doc__ or "").strip().partition("\n")[0]
        registry.add(Registered(name, cls, config_class, summary, where))
        return cls

    return add


families_registry = Registry("model family", "hezar_like.models", "hezar_like.families")
tasks_registry = Registry("task", "hezar_like.tasks", "hezar_like.tasks")
models_registry = ModelsRegistry(families_registry, tasks_registry)
preprocessors_registry = Registry("preprocessor", "hezar_like.preprocessors", "hezar_like.preprocessors")
datasets_registry = Registry("dataset", "hezar_like.data", "hezar_like.datasets")
metrics_registry = Registry("metric", "hezar_like.metrics", "hezar_like.metrics")
embeddings_registry = Registry("embedding", plugins="hezar_like.embeddings")


def register_model(model_name: str, config_class: type, description: str | None = None) -> Callable[[C], C]:
    """Registers a `Model` subclass of your own, so that `build_model` and `Model.load` find it.

    Args:
        model_name: A new name, equal to `config_class.name`.
        config_class: A dataclass derived from `ModelConfig`.
        description: One line for listings; the first line of the class's docstring when left out.

    Raises:
        RegistryError: When the name is taken, or is not the config's.
    """
    return _register(models_registry, model_name, config_class, description, caller_location())


def register_preprocessor(
    preprocessor_name: str, config_class: type, description: str | None = None
) -> Callable[[C], C]:
    """Registers a `Preprocessor` subclass; see `register_model`."""
    return _register(preprocessors_registry, preprocessor_name, config_class, description, caller_location())


def register_dataset(dataset_name: str, config_class: type, description: str | None = None) -> Callable[[C], C]:
    """Registers a dataset class; see `register_model`."""
    return _register(datasets_registry, dataset_name, config_class, description, caller_location())


def register_metric(metric_name: str, config_class: type, description: str | None = None) -> Callable[[C], C]:
    """Registers a metric class; see `register_model`."""
    return _register(metrics_registry, metric_name, config_class, description, caller_location())


def register_embedding(embedding_name: str, config_class: type, description: str | None = None) -> Callable[[C], C]:
    """Registers a word embedding class; see `register_model`."""
    return _register(embeddings_registry, embedding_name, config_class, description, caller_location())
