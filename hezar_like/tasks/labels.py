"""Labels of classifiers: their number and their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from ..configs import ModelConfig
from ..errors import ConfigError
from ..fields import Between

MAX_LABEL_LENGTH = 1000


@dataclass(kw_only=True)
class LabelsConfig(ModelConfig):
    """Config fields of tasks whose answers are labels."""

    num_labels: Annotated[int, Between(1, 10**5)] | None = None
    """Number of labels; default: as many as `id2label` names, or 2."""
    id2label: dict[int, str] | None = None
    """Name of each label by its index; default: LABEL_0, LABEL_1, ..."""

    def check(self) -> None:
        super().check()
        owner = type(self).__name__
        if self.id2label is None:
            self.num_labels = 2 if self.num_labels is None else self.num_labels
            self.id2label = {i: f"LABEL_{i}" for i in range(self.num_labels)}
        if self.num_labels is None:
            self.num_labels = len(self.id2label)
        if sorted(self.id2label) != list(range(len(self.id2label))):
            raise ConfigError(f"{owner}.id2label has the keys {sorted(self.id2label)[:20]}; they must be 0, 1, 2, ...")
        if self.num_labels != len(self.id2label):
            raise ConfigError(
                f"{owner}: num_labels={self.num_labels}, but id2label names {len(self.id2label)} labels. Change one."
            )
        names = list(self.id2label.values())
        for name in names:
            if len(name) > MAX_LABEL_LENGTH:
                raise ConfigError(f"{owner}.id2label has a name of {len(name)} characters. Shorten it.")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"{owner}.id2label names {twice!r} twice. Give every label its own name.")

    @property
    def label2id(self) -> dict[str, int]:
        """Index of each label by its name."""
        assert self.id2label is not None
        return {name: index for index, name in self.id2label.items()}

    def label(self, index: int) -> str:
        """The name of a label.

        Raises:
            ConfigError: When somebody changed `id2label`, and it names fewer labels than the model's head gives.
        """
        names = self.id2label or {}
        if index not in names:
            raise ConfigError(
                f"{type(self).__name__}.id2label names {len(names)} labels, none of them {index}, which the model "
                "gives. Name as many as the model was built with, or load it with id2label=... for a new head."
            )
        return names[index]

    def update(self, values: Mapping[str, Any] | None = None, **kwargs: Any) -> Self:
        """Sets fields; a new `id2label` brings its number, a new `num_labels` new names."""
        changes = {**(values or {}), **kwargs}
        if "id2label" in changes and "num_labels" not in changes:
            changes["num_labels"] = None
        elif changes.get("num_labels") not in (None, self.num_labels) and "id2label" not in changes:
            changes["id2label"] = None
        return super().update(changes)
