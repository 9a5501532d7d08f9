"""`Task`: a model that is a family's backbone with a head."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import nn

from ..backbones import BackboneBase
from ..configs import ModelConfig
from ..engine.routing import names_of_parameters
from ..errors import OptionError, PreprocessorError, TokenizerError, did_you_mean
from ..family import Family, family_of
from ..layers import materialize, without_memory
from ..models.model import Model
from ..registry import Registered, caller_location, tasks_registry

if TYPE_CHECKING:
    from ..preprocessors import PreprocessorsContainer
    from ..preprocessors.tokenizer import Tokenizer

__all__ = ["Task", "register_task"]

T = TypeVar("T", bound=type["Task"])
OTHER_NAMES = {"input_ids": "token_ids", "segment_ids": "token_type_ids"}
"""What other systems call inputs that all have."""
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def register_task(
    name: str,
    config_class: type[ModelConfig],
    description: str,
    *,
    aliases: tuple[str, ...] = (),
    endings: tuple[str, ...] = (),
    pipeline_tag: str = "",
) -> Callable[[T], T]:
    """Registers a task.

    Args:
        name: Its name, which ends the registry names of its models.
        config_class: Its own config fields; their names must differ from every family's.
        description: What it does, in a few words.
        aliases: Other names users may write.
        endings: How transformers' class names for it end, as in `BertForMaskedLM`; the first is written.
        pipeline_tag: The Hub's name for it.
    """
    where = caller_location()

    def register(cls: T) -> T:
        cls.task, cls.endings, cls.pipeline_tag = name, endings, pipeline_tag
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

    endings: ClassVar[tuple[str, ...]] = ()
    threads: ClassVar[int | None] = None

    def __init__(self, config: ModelConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        head = self.family.heads[self.task]
        device = torch.empty(0).device
        # Built without memory and filled once: torch would first fill every weight with values nobody keeps.
        with without_memory():
            self.backbone: BackboneBase = self.family.backbone(self.config)
            self.head: nn.Module | None = head.build(self.config)
        if device.type != "meta":
            materialize(self, device)
            self.family.initialize(self, self.config)
        self.tie()

    def __call__(self, *args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        """Runs `forward`; see `named` for how inputs may be given, and `return_dict=False` for a plain tuple."""
        output = super().__call__(**self.named(args, kwargs))
        return output if return_dict else tuple(output.values())

    def named(self, args: Sequence[Any], kwargs: Mapping[str, Any], also: Collection[str] = ()) -> dict[str, Any]:
        """The inputs by their own names, given by place or by the names of other systems, as `input_ids`.

        One that is None is not given, so that calls written for other models work. `also` are more names to suggest for
        one that is unknown.

        Raises:
            OptionError: For an input that the model does not take, or that is given twice.
        """
        names, others = self.forward_names, {**OTHER_NAMES, **self.backbone.input_names}
        if len(args) > len(self._positional):
            raise OptionError(f"{self.config.name!r} takes {len(self._positional)} inputs by place, not {len(args)}.")
        inputs: dict[str, Any] = dict(zip(self._positional, args, strict=False))
        for key, value in kwargs.items():
            if value is None:
                continue
            own = key if key in names else others.get(key, key)
            if own not in names:
                raise OptionError(
                    f"{self.config.name!r} takes no {key!r}.{did_you_mean(key, {*names, *others, *also})}"
                )
            if own in inputs:
                raise OptionError(f"{own!r} is given twice, under two names or by place too. Leave one out.")
            inputs[own] = value
        return inputs

    @cached_property
    def forward_names(self) -> frozenset[str]:
        """What `forward` takes by name, without the other names: its own parameters and the backbone's."""
        own = frozenset(key for key, p in inspect.signature(self.forward).parameters.items() if p.kind not in VARIABLE)
        return own | (names_of_parameters(self.backbone.forward) or frozenset())

    @cached_property
    def _positional(self) -> list[str]:
        parameters = inspect.signature(self.backbone.forward).parameters.values()
        return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

    @property
    def input_names(self) -> frozenset[str] | None:
        """What the model takes by name, under all names."""
        return self.forward_names | OTHER_NAMES.keys() | self.backbone.input_names.keys()

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

    def checkpoint_activations(self, every: int = 1) -> None:
        """Makes training save memory by computing activations twice; gradients are equal.

        Args:
            every: 0 for none; 1, or True, for all; k for those of every k-th block.
        """
        self.backbone.checkpoint_activations(every)

    def tie(self) -> None:
        """Makes tied weights one again, after something replaced them."""
        for name, target in self.tied.items():
            module, _, leaf = name.rpartition(".")
            setattr(self.get_submodule(module), leaf, self.get_parameter(target))

    def check_preprocessor(self, preprocessor: PreprocessorsContainer) -> None:
        tokenizer, size = preprocessor.tokenizer, self.config.get("vocab_size")
        if tokenizer is None or size is None or len(tokenizer) == 0:
            return
        last = tokenizer.max_token_id  # counted anew at each call
        if last >= size:
            raise TokenizerError(
                f"the tokenizer has token ids up to {last}, but the model has vocab_size={size}. "
                "Use the tokenizer the model was trained with, or build the model with a larger vocab_size."
            )
        types = self.backbone.token_types
        if 1 < types <= tokenizer.max_type_id:
            raise TokenizerError(
                f"the tokenizer has token types up to {tokenizer.max_type_id}, but the model has {types}. "
                "Use the tokenizer the model was trained with."
            )
        if last < size // 2:
            raise TokenizerError(
                f"the tokenizer has only {len(tokenizer)} tokens, but the model has vocab_size={size}: it is another "
                "model's. Use the model's own tokenizer, or build the model with a smaller vocab_size."
            )

    def _tokenizer(self) -> Tokenizer:
        tokenizer = self.preprocessor.tokenizer
        if tokenizer is None:
            raise PreprocessorError(
                f"{self.config.name!r} has no tokenizer. Load one with it, or set model.preprocessor = tokenizer."
            )
        found: Tokenizer = tokenizer
        return found
