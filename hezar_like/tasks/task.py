"""`Task`: a model that is a family's backbone with a head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from ..configs import ModelConfig
from ..family import Family, family_of
from ..layers import materialize, without_memory
from ..models.model import Model
from ..registry import Registered, caller_location, tasks_registry

__all__ = ["Task", "register_task"]

T = TypeVar("T", bound=type["Task"])


def register_task(
    name: str, config_class: type[ModelConfig], description: str, *, aliases: tuple[str, ...] = ()
) -> Callable[[T], T]:
    """Registers a task.

    Args:
        name: Its name, which ends the registry names of its models.
        config_class: Its own config fields; their names must differ from every family's.
        description: What it does, in a few words.
        aliases: Other names users may write.
    """
    where = caller_location()

    def register(cls: T) -> T:
        cls.task = name
        tasks_registry.add(Registered(name, cls, config_class, description, where), aliases=aliases)
        return cls

    return register


class Task(Model):
    """Base of tasks.

    Args:
        config: The config of a family's model for this task.
        **kwargs: Config fields that win over it.

    Attributes:
        backbone: The family's.
        head: The family's for this task; None where it needs none.
    """

    task: ClassVar[str] = ""

    def __init__(self, config: ModelConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        head = self.family.heads[self.task]
        device = torch.empty(0).device
        # Built without memory and filled once: torch would first fill every weight with values nobody keeps.
        with without_memory():
            self.backbone: nn.Module = self.family.backbone(self.config)
            self.head: nn.Module | None = head.build(self.config)
        if device.type != "meta":
            materialize(self, device)
            self.family.initialize(self, self.config)
        self.tie()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs `forward`; what transformers calls `input_ids` is `token_ids` here, and both are taken."""
        if "input_ids" in kwargs and "token_ids" not in kwargs:
            kwargs["token_ids"] = kwargs.pop("input_ids")
        return super().__call__(*args, **kwargs)

    def run(self, batch: Any, **options: Any) -> Any:
        """See `Model.run`; takes `input_ids` too."""
        if isinstance(batch, Mapping) and "input_ids" in batch and "token_ids" not in batch:
            batch = {"token_ids" if key == "input_ids" else key: value for key, value in batch.items()}
        return super().run(batch, **options)

    @property
    def family(self) -> Family:
        """The family of the backbone."""
        return family_of(self.config)

    @property
    def tied(self) -> dict[str, str]:
        """Names of weights that are another weight of the model, and which."""
        return dict(self.family.heads[self.task].tied(self.config))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """See `Model.load_state_dict`; tied weights stay tied."""
        result = super().load_state_dict(state_dict, strict, assign)
        self.tie()
        return result

    def tie(self) -> None:
        """Makes tied weights one again, after something replaced them."""
        for name, target in self.tied.items():
            module, _, leaf = name.rpartition(".")
            setattr(self.get_submodule(module), leaf, self.get_parameter(target))
