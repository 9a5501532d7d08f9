"""What Whisper's checkpoints say only by their sizes and their vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..preprocessors import Preprocessor, PreprocessorsContainer
from ..preprocessors.audio_features import WhisperFeatureExtractor, WhisperFeatureExtractorConfig
from ..preprocessors.transformers_extractor import extractor_from_transformers
from ..preprocessors.whisper_vocabulary import END, LANGUAGES, START, TIMESTAMPS, special_tokens

__all__ = ["languages_in", "published_tokens", "token_settings", "whisper_preprocessors"]

GPT2_TOKENS = 50256
"""The tokens for text in the vocabulary of the English models, which is GPT-2's; the others have one more."""
MULTILINGUAL = 51865
"""The fewest tokens of a model that knows several languages."""
TASKS = ("transcribe", "translate")
FIRST_SEGMENT = 50
"""The first segment begins at most so many fiftieths of a second after the beginning, for OpenAI's code."""


def languages_in(vocabulary: int) -> int:
    """How many languages OpenAI's vocabulary of so many tokens has."""
    others = len(special_tokens(0)) + len(TIMESTAMPS) + GPT2_TOKENS + (vocabulary >= MULTILINGUAL)
    return min(max(0, vocabulary - others), len(LANGUAGES))


def published_tokens(vocabulary: int) -> dict[str, int]:
    """The special tokens of OpenAI's vocabulary of so many tokens, with their ids."""
    first = GPT2_TOKENS + (vocabulary >= MULTILINGUAL)
    return {token: first + place for place, token in enumerate(special_tokens(languages_in(vocabulary)))}


def token_settings(tokens: Mapping[str, int], vocabulary: int, where: str) -> dict[str, Any]:
    """The fields of a config that name tokens, `generation_config` among them.

    Args:
        tokens: The special tokens with their ids.
        vocabulary: The number of the model's tokens.
        where: The model, for messages.

    Raises:
        ConfigError: When the tokens that every text begins and ends with are not there.
    """
    end, start = tokens.get(END), tokens.get(START)
    if end is None or start is None or max(end, start) >= vocabulary:
        raise ConfigError(f"{where} has no vocabulary with {END!r} and {START!r}, in a model of {vocabulary} tokens.")
    roles = dict.fromkeys(("eos_token_id", "pad_token_id", "bos_token_id"), end) | {"decoder_start_token_id": start}
    generation: dict[str, Any] = {
        "is_multilingual": end != GPT2_TOKENS,
        "max_initial_timestamp_index": FIRST_SEGMENT,
        "no_timestamps_token_id": tokens.get("<|notimestamps|>"),
        "prev_sot_token_id": tokens.get("<|startofprev|>"),
    }
    if generation["is_multilingual"]:
        known = [f"<|{code}|>" for code in LANGUAGES]
        generation["lang_to_id"] = {token: tokens[token] for token in known if token in tokens}
        generation["task_to_id"] = {task: tokens[f"<|{task}|>"] for task in TASKS if f"<|{task}|>" in tokens}
    return {**roles, "generation_config": generation}


def whisper_preprocessors(
    find: Callable[[str], Path | None], tokenizer: Preprocessor | None, bins: int
) -> PreprocessorsContainer:
    """The preprocessors of a model whose files need not tell how audio is read.

    Args:
        find: Gives the path of a file of the model by its name, or None.
        tokenizer: The tokenizer, if there is one.
        bins: Numbers in each frame of the features that the model reads.
    """
    extractor = extractor_from_transformers(find) or WhisperFeatureExtractor(
        WhisperFeatureExtractorConfig(feature_size=bins)
    )
    found = [extractor] if tokenizer is None else [tokenizer, extractor]
    return PreprocessorsContainer({item.config.name: item for item in found})
