"""How FlagAI's files hold the models of one family; the families themselves are in `flagai_families`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..configs import ModelConfig
from ..family import Family
from ..keymap import KeyMap, Table
from ..preprocessors.transformers_tokenizer import Find
from .settings_map import SettingsMap
from .weights import TensorInfo

__all__ = ["FlagAIFamily", "Header"]

Header = Mapping[str, TensorInfo]
"""What a checkpoint holds, by the names in its files."""


@dataclass(frozen=True)
class FlagAIFamily:
    """How FlagAI's files hold the models of a family.

    Attributes:
        name: The family's registry name, also for its tokenizer.
        tell: A setting that every config.json of this family has, and no other's.
        settings: The table of its settings.
        keymap: Gives the table of its weights' names, from the family, a config, a task and what is in the file.
        heads: For each task whose head has weights of its own, foreign to native names; the more special ones first, as
            the first one that is in a file tells the task the file is for.
        task: The task of a file without any of these heads.
        tasks: All tasks that FlagAI has a model for.
        infer: Fields told by settings that are read together, by what is in the file, and by other files.
        refuse: Why FlagAI has no such model, given the config and the task; None where it has.
        write: More settings, given the config.
        zero_is_padding: Whether FlagAI's code takes token 0 for padding.
    """

    name: str
    tell: str
    settings: SettingsMap
    keymap: Callable[[Family, Any, str, Header], KeyMap]
    task: str
    tasks: tuple[str, ...]
    heads: Mapping[str, Table] = field(default_factory=dict)
    infer: Callable[[Mapping[str, Any], Header, Find], Mapping[str, Any]] = lambda values, header, find: {}
    refuse: Callable[[ModelConfig, str], str | None] = lambda config, task: None
    write: Callable[[ModelConfig], Mapping[str, Any]] = lambda config: {}
    zero_is_padding: bool = True

    def holds(self, task: str, header: Header, prefix: str) -> bool:
        """Whether a file has the head of a task; `prefix` is what the names of the backbone begin with."""
        modules = [name for name in self.heads.get(task, ()) if not (prefix and name.startswith(prefix))]
        return bool(modules) and all(
            any(key == module or key.startswith(f"{module}.") for key in header) for module in modules
        )
