"""How ModelCenter holds the models of one family: names of weights, and settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..configs import ModelConfig
from ..errors import ConfigError, OptionError, did_you_mean, listed
from ..family import Family
from ..fields import coerce
from ..keymap import KeyMap, Stored, Table
from ..registry import families_registry
from .modelcenter_names import Scale

__all__ = ["Layout", "Setting", "Version"]

Version = Literal["2022", "head"]
ALLOWED: Mapping[str, Any] = {"cls_head": int | None, "scale": bool | float | None, "att_mask_value": Any}
"""Types of settings whose default does not show it."""
LOST = frozenset({
    "add_pooling_layer", "blind_padding", "bos_token_id", "classifier_dropout", "count_padding",
    "decoder_start_token_id", "eos_token_id", "initializer_factor", "initializer_range", "keep_pooler", "pad_token_id",
})  # fmt: skip
"""Fields without a setting that say nothing about what a model computes, or only at the padding."""
IRRELEVANT = frozenset({
    "att_init_mean", "att_init_std", "emb_init_mean", "emb_init_std", "ffn_init_mean", "ffn_init_std", "half", "int8",
    "norm_init_var", "pos_init_mean", "pos_init_std", "post_layer_norm", "proj_init_mean", "proj_init_std",
})  # fmt: skip
"""Settings that say how random weights are made, or nothing at all, but for the order of layers in BERT."""
LOOK_NOWHERE = -1e4
"""What scores of what is not to be seen are set to: low enough that nothing of it is left."""


class Setting:
    """A setting that config fields here say too.

    Args:
        *fields: The fields; all have its value.
        values: Its values with ours, where they differ; others do not exist here.
        factor: What a number is multiplied with to get ours.
    """

    def __init__(self, *fields: str, values: Mapping[Any, Any] | None = None, factor: float = 1.0) -> None:
        self.fields, self.values, self.factor = fields, values, factor

    def read(self, value: Any, where: str) -> dict[str, Any]:
        """The fields' values.

        Raises:
            ConfigError: When there is no such value here; begins with `where`.
        """
        if self.values is not None:
            if value not in self.values:
                known = ", ".join(map(repr, self.values))
                near = did_you_mean(str(value), [name for name in self.values if isinstance(name, str)])
                raise ConfigError(
                    f"{where} is {value!r:.100}, which is not supported; it must be one of {known}.{near}"
                )
            value = self.values[value]
        return dict.fromkeys(self.fields, value if self.factor == 1.0 else value * self.factor)

    def write(self, config: ModelConfig) -> Any:
        """Its value.

        Raises:
            OptionError: When it has none that says what the config does.
        """
        name = self.fields[0]
        if self.values is None:
            return config[name] if self.factor == 1.0 else config[name] / self.factor
        for theirs, ours in self.values.items():
            if ours == config[name]:
                return theirs
        raise OptionError(
            f"ModelCenter has no {name}={config[name]!r}, only {', '.join(map(repr, self.values.values()))}."
        )


@dataclass(frozen=True)
class Layout:
    """How ModelCenter holds the models of one family.

    Attributes:
        tasks: What its own head is for: the task it is read as first.
        keys: The names of the backbone's weights, given the config and what matrices are multiplied with.
        head: The names of the head's weights, given the same.
        settings: The settings that config fields here say too.
        defaults: Today's values of all settings.
        older: Those of 2022 that were others, where they tell.
        newer: Settings that there were not in 2022.
        fixed: Settings whose default is the only value that exists here.
        irrelevant: Settings that say nothing about what the models compute, besides those of all families.
        read: Fields that settings say together, given the version if it was told.
        write: Settings that fields say together.
        copies: What is stored once more: its names, and the native names of what it is a copy of.
        head_bias: Whether a head that scores tokens with weights of its own has a bias; None: no setting tells.
        label_head: What the head that scores labels is called where it is not `cls_projection`.
        lost: Fields without a setting, besides those of all families.
    """

    tasks: tuple[str, ...]
    keys: Callable[[Any, Scale], Table]
    settings: Mapping[str, Setting]
    defaults: Mapping[str, Any]
    head: Callable[[Any, Scale], Table] = lambda config, scale: (
        {} if config.tie_word_embeddings else {"output_projection": Stored("head.out", scale=scale)}
    )
    older: Mapping[str, Any] = field(default_factory=dict)
    newer: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    irrelevant: tuple[str, ...] = ()
    read: Callable[[Mapping[str, Any], Version | None], dict[str, Any]] = lambda values, told: {}
    write: Callable[[Any], dict[str, Any]] = lambda config: {}
    copies: Callable[[Any], dict[str, str]] = lambda config: {}
    head_bias: bool | None = False
    label_head: str = "cls_projection"
    lost: tuple[str, ...] = ()

    def complete(self, given: Mapping[str, Any], told: Version | None, where: str) -> dict[str, Any]:
        """All settings of a config file that gives some.

        Args:
            given: What it gives.
            told: The version, if the caller knows. The file does not say it, but for settings and values that are new;
                without these it is taken for one of 2022, as published ones are, which leave out what is default.
            where: The file, for messages.

        Raises:
            ConfigError: For a setting that ModelCenter does not have, or of another type.
        """
        unknown = [key for key in given if key not in (*self.defaults, *self.irrelevant)]
        if unknown:
            near = did_you_mean(unknown[0], self.defaults)
            raise ConfigError(f"{where}: ModelCenter has no {listed(unknown)} for this model.{near}")
        new = any(key in given for key in self.newer) or str(given.get("ffn_activate_fn")).endswith("gelu_new")
        values = {**self.defaults, **(self.older if told == "2022" or (told is None and not new) else {}), **given}
        return {
            key: coerce(values[key], ALLOWED.get(key, type(default)), f"{where}: {key}")
            for key, default in self.defaults.items()
        }

    def read_fields(self, values: Mapping[str, Any], told: Version | None, where: str) -> dict[str, Any]:
        """The fields of a family's config, of all settings.

        Raises:
            ConfigError: For a value that does not exist here.
        """
        expected = {key: self.defaults[key] for key in self.fixed}
        if self.head_bias is not None and not values["tied"] and not values["cls_head"]:
            expected["proj_bias"] = self.head_bias
        for key, value in expected.items():
            if values[key] != value:
                raise ConfigError(f"{where}: {key} is {values[key]!r:.100}; only {value!r} is supported here.")
        heads, size, width = values["num_heads"], values["dim_head"], values["dim_model"]
        if "dim_head" not in self.settings and heads * size != width:
            raise ConfigError(
                f"{where}: num_heads * dim_head is {heads} * {size}; here it must be dim_model, which is {width}."
            )
        _check_mask_value(values["att_mask_value"], where)
        said = [setting.read(values[key], f"{where}: {key}") for key, setting in self.settings.items()]
        return {key: value for fields in said for key, value in fields.items()} | self.read(values, told)

    def write_settings(self, config: ModelConfig, *, half: bool) -> dict[str, Any]:
        """Today's settings of a model.

        Args:
            config: The model's config.
            half: Whether its weights are in half precision.

        Raises:
            OptionError: When there are none that say all that the config says; names the fields.
        """
        labels = config.get("num_labels")
        values = {**self.defaults, "half": half, "cls_head": labels}
        values |= {key: setting.write(config) for key, setting in self.settings.items()}
        if "dim_head" not in self.settings:
            values["dim_head"] = config.hidden_size // config.num_attention_heads
        if labels is not None:
            values["proj_bias"] = config.classifier_bias
        elif self.head_bias is not None:
            values["proj_bias"] = self.head_bias
        values |= self.write(config)
        unset = [setting.fields[0] for key, setting in self.settings.items() if values[key] is None]
        if unset:
            raise OptionError(f"ModelCenter needs {', '.join(unset)}; {config.name!r} has none. Set them.")
        family: Family = families_registry[config.family].module_class
        again = family.config_class.from_dict(self.read_fields(values, "head", "config.json"))
        other = [
            f"{name}={config[name]!r} (there: {again[name]!r})"
            for name in family.config_class.fields()
            if name not in (*LOST, *self.lost) and not _same(config[name], again[name])
        ]
        if other:
            raise OptionError(
                f"ModelCenter has no {config.family} with {', '.join(other)}. Use save() for our own layout."
            )
        return values

    def keymap(self, config: ModelConfig, task: str, *, scale: Scale = 1.0, label_head: str | None = None) -> KeyMap:
        """The names of a model's weights.

        Args:
            config: Its config.
            task: Its task.
            scale: What matrices are multiplied with when they are read.
            label_head: What the head that scores labels is called, where it is not as usual.
        """
        label_head = label_head or self.label_head
        table = dict(self.keys(config, scale))
        if task in self.tasks:
            table |= {name: native for name, native in self.head(config, scale).items() if name != label_head}
        elif task == "sequence_labeling":
            table[label_head] = Stored("head.out", scale=scale)
        if "keep_pooler" in config:
            family: Family = families_registry[config.family].module_class
            of_head = next(iter(family.shared_head(config, task).values()), None)
            table["pooler.dense"] = "backbone.pooler.dense" if config.keep_pooler else of_head
        return KeyMap(table, copies=self.copies(config) if task in self.tasks else {})


def _check_mask_value(value: Any, where: str) -> None:
    try:
        low = float(value) <= LOOK_NOWHERE
    except (TypeError, ValueError, OverflowError):
        low = False
    if not low:
        raise ConfigError(
            f"{where}: att_mask_value is {value!r:.100}; only {LOOK_NOWHERE:g} and less is supported, so that "
            "nothing is seen through a mask."
        )


def _same(value: Any, other: Any) -> bool:
    """Whether two values of a field say the same; None says what follows from other fields."""
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, rel_tol=1e-9)
    return value is None or value == other
