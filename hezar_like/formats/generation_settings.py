"""generation_config.json: how a model of transformers writes when a call does not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..configs import ModelConfig
from ..generation.options import generation_field
from ..preprocessors.transformers_tokenizer import Find
from ..text_files import read_json

__all__ = ["GENERATION", "generation_files", "read_generation"]

GENERATION = "generation_config.json"
ROLES = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
"""Tokens that transformers looks for there."""


def read_generation(find: Find, settings: Mapping[str, Any], config_class: type[ModelConfig]) -> dict[str, Any]:
    """The field of a model's config that says how it writes, by its name; nothing for a model that does not write.

    Args:
        find: Gives the path of a file of the model by its name, or None.
        settings: Those of config.json, which older versions kept these in.
        config_class: The model's.
    """
    found = generation_field(config_class)
    if found is None:
        return {}
    name, kind = found
    path = find(GENERATION)
    if path is None:
        written = {key: settings[key] for key in kind.fields() if key in settings and key not in ROLES}
        return {name: kind.from_settings(written, "config.json")}
    written = read_json(path)
    # A token is said there again, or, where the file was made of the model's config, as that once was.
    derived = bool(written.get("_from_model_config"))
    again = {key for key in ROLES if key in written and (derived or written[key] == settings.get(key))}
    return {name: kind.from_settings({key: written[key] for key in written if key not in again}, str(path))}


def generation_files(config: ModelConfig) -> dict[str, dict[str, Any]]:
    """What generation_config.json says of a model, by its name; nothing for a model that does not write."""
    found = generation_field(type(config))
    if found is None:
        return {}
    roles = {name: config.get(name) for name in ROLES if config.get(name) is not None}
    said = config[found[0]].to_dict()
    if "stop" in said:
        said["stop_strings"] = said.pop("stop")
    most = config.get("max_target_positions")
    if most is not None and not {"max_length", "max_new_tokens"} & said.keys():
        said["max_length"] = most  # else transformers stops after 20 tokens
    return {GENERATION: roles | said}
