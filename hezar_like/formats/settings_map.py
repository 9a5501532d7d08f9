"""Two-way tables of the settings in another system's config.json, as `KeyMap` is one of the names of weights."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..configs import ModelConfig
from ..errors import ConfigError, OptionError, listed
from ..family import Family
from .transformers_settings import irrelevant_settings

__all__ = ["SettingsMap", "number"]

logger = logging.getLogger("hezar_like")


@dataclass(frozen=True)
class SettingsMap:
    """What a system's settings are here.

    Attributes:
        required: Settings that must be there, each with our field.
        optional: Settings that may be there, each with our field.
        constants: Our fields for which that system has no setting, and what they are there: a value, or a function of
            the other fields.
        fixed: Settings there that can only have one value here.
        known: Settings there that say nothing about what is computed, or that are read elsewhere.
    """

    required: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    known: Collection[str] = ()

    def read(self, values: Mapping[str, Any], family: Family, path: Path | str) -> dict[str, Any]:
        """Our fields.

        Args:
            values: All settings.
            family: The family they are for.
            path: The file, for messages.

        Raises:
            ConfigError: When settings are missing, or ask for what does not exist here.
        """
        missing = [key for key in self.required if key not in values]
        if missing:
            raise ConfigError(f"{path}: the settings {', '.join(map(repr, missing))} are missing. Add them.")
        for key, value in self.fixed.items():
            if key in values and values[key] != value:
                raise ConfigError(
                    f"{path}: {key} is {values[key]!r:.100}; only {value!r} is supported for {family.name!r}."
                )
        names = {**self.optional, **self.required}
        said = {*names, *self.fixed, *self.known, *irrelevant_settings(values, family, Path(path))}
        unknown = [key for key in values if key not in said and not key.startswith("_")]
        if unknown:
            logger.warning(f"{path}: these settings are unknown here and have no effect: {listed(unknown)}")
        result = {name: values[key] for key, name in names.items() if key in values}
        return result | self._constants(result)

    def write(self, config: ModelConfig, system: str) -> dict[str, Any]:
        """The settings of a model.

        Raises:
            OptionError: When the system has no model with this config.
        """
        for name, value in self._constants(config).items():
            if config[name] != value:
                raise OptionError(
                    f"{system} has only models with {name}={value!r}, and {config.name!r} has {config[name]!r}. "
                    "Use save() for our own layout."
                )
        optional = {key: config[name] for key, name in self.optional.items() if config[name] is not None}
        return {**{key: config[name] for key, name in self.required.items()}, **optional, **self.fixed}

    def _constants(self, fields: Any) -> dict[str, Any]:
        return {name: value(fields) if callable(value) else value for name, value in self.constants.items()}


def number(values: Mapping[str, Any], key: str) -> int | None:
    """A setting that is a number of things; None where there is none, for which some write -1."""
    value = values.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
