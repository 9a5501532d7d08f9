"""How a model writes when a call does not say, as other systems put it: generation_config.json, or a block."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from ..configs import ModelConfig
from ..errors import ConfigError, listed
from ..family import family_of
from ..generation import GenerationConfig, generation_field
from ..preprocessors.transformers_tokenizer import Find
from ..text_files import read_json

__all__ = ["GENERATION", "from_settings", "generation_files", "read_generation"]

logger = logging.getLogger("hezar_like")
G = TypeVar("G", bound=GenerationConfig)

GENERATION = "generation_config.json"
ROLES = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
"""Tokens that transformers looks for there."""


# Settings that say nothing about which tokens are chosen, or that another field says.
IRRELEVANT = frozenset({
    "assistant_confidence_threshold", "assistant_early_exit", "assistant_lookbehind", "bos_token_id", "cache_config",
    "cache_implementation", "compile_config", "disable_compile", "generation_kwargs", "is_assistant",
    "low_memory", "max_matching_ngram_size", "num_assistant_tokens", "num_assistant_tokens_schedule",
    "output_attentions", "output_hidden_states", "output_logits", "output_scores", "pad_token_id", "stop_strings",
    "prefill_chunk_size", "remove_invalid_values", "return_dict_in_generate",
    "target_lookbehind", "transformers_version", "use_cache", "name", "config_type",
})  # fmt: skip
ONLY_DRAWN = frozenset({"temperature", "top_k", "top_p", "min_p", "typical_p"})
"""What decides only which tokens are drawn."""
NO_TOP_P = 1e-9
"""What keeps the best token alone, as 0 does in transformers."""


def from_settings(kind: type[G], settings: Mapping[str, Any], where: str) -> G:
    """A config from what other systems wrote; what has no meaning here is left out, what is unknown is told.

    Args:
        kind: Its class.
        settings: Of transformers' generation_config.json, or Hezar's block in a model's config.
        where: The file, for messages.

    Raises:
        ConfigError: For a wrong value; names the file.
    """
    known = set(kind.fields())
    values = {key: value for key, value in settings.items() if key in known and value is not None}
    others = [key for key in settings if key not in known | IRRELEVANT and not key.startswith("_")]
    if unknown := [key for key in others if not _does_nothing(settings[key])]:
        names = listed(unknown)
        logger.warning(f"{where}: these settings of generation are unknown here and have no effect: {names}")
    if stop := settings.get("stop_strings"):
        values["stop"] = [stop] if isinstance(stop, str) else stop
    if not values.get("penalty_alpha"):
        values.pop("penalty_alpha", None)
        if not values.get("do_sample"):  # transformers keeps and ignores them
            values = {key: value for key, value in values.items() if key not in ONLY_DRAWN}
    if values.get("do_sample") and values.get("num_beams", 1) != 1:
        logger.warning(f"{where}: do_sample and num_beams are both set; texts are written by beam search alone.")
        values = {key: value for key, value in values.items() if key not in ONLY_DRAWN | {"do_sample"}}
    several = values.get("num_return_sequences", 1)
    if several != 1 and values.get("num_beams", 1) == 1 and not values.get("do_sample"):
        logger.warning(f"{where}: num_return_sequences is {several}, but one text is written for each input.")
        del values["num_return_sequences"]
    if values.get("top_p") == 0:
        values["top_p"] = NO_TOP_P
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _does_nothing(value: Any) -> bool:
    """Whether a setting has a value that turns it off, whatever it is."""
    return value in (None, [], {}) or value is False or (value in (0, 1) and not isinstance(value, bool))


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
        return {name: from_settings(kind, written, "config.json")}
    written = read_json(path)
    # A token is said there again, or, where the file was made of the model's config, as that once was.
    derived = bool(written.get("_from_model_config"))
    again = {key for key in ROLES if key in written and (derived or written[key] == settings.get(key))}
    return {name: from_settings(kind, {key: written[key] for key in written if key not in again}, str(path))}


def generation_files(config: ModelConfig) -> dict[str, dict[str, Any]]:
    """What generation_config.json says of a model, by its name; nothing for a model that does not write."""
    found = generation_field(type(config))
    if found is None:
        return {}
    roles = {name: config.get(name) for name in ROLES if config.get(name) is not None}
    said = config[found[0]].to_dict()
    if "stop" in said:
        said["stop_strings"] = said.pop("stop")
    own = family_of(config).write_generation(config)
    return {GENERATION: {**roles, **own, **said}}
