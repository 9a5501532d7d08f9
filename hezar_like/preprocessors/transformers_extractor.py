"""Feature extractors in the files of transformers: read, and written as they read them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigError, PreprocessorError, listed
from ..text_files import read_json
from .audio_features import WhisperFeatureExtractor, WhisperFeatureExtractorConfig

__all__ = ["extractor_from_transformers", "transformers_extractor_files"]

logger = logging.getLogger("hezar_like")

PUBLISHED = "preprocessor_config.json"
PUBLISHED_WITH_TOKENIZER = "processor_config.json"
FIXED = {"feature_extractor_type": ("WhisperFeatureExtractor",), "dither": (0.0,), "do_normalize": (False, None)}
"""Settings with the values that are supported."""
IRRELEVANT = ("mel_filters", "n_samples", "nb_max_frames", "processor_class", "padding", "max_length", "return_tensors")
"""Settings that follow from others, or that calls decide."""


def extractor_from_transformers(find: Callable[[str], Path | None]) -> WhisperFeatureExtractor | None:
    """Reads the feature extractor of a transformers checkpoint.

    Args:
        find: Gives the path of a file of the checkpoint, or None; `Source.find` for instance.

    Returns:
        The extractor of preprocessor_config.json, or else of processor_config.json; None when neither has one.

    Raises:
        PreprocessorError, ConfigError: With the path of the file.
    """
    path = find(PUBLISHED)
    values = {} if path is None else read_json(path)
    if path is None and (path := find(PUBLISHED_WITH_TOKENIZER)):
        values = read_json(path).get("feature_extractor") or {}
    if path is None or "feature_extractor_type" not in values:
        return None
    for key, supported in FIXED.items():
        if values.get(key, supported[0]) not in supported:
            raise PreprocessorError(f"{path}: {key}={values[key]!r:.100} is not supported; only {supported[0]!r} is.")
    known = WhisperFeatureExtractorConfig.fields()
    if unknown := sorted(set(values) - {*known, *FIXED, *IRRELEVANT}):
        logger.warning(f"{path}: these settings are unknown here and have no effect: {listed(unknown)}")
    try:
        own = {key: value for key, value in values.items() if key in known and key not in IRRELEVANT}
        return WhisperFeatureExtractor(WhisperFeatureExtractorConfig.from_dict(own))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def transformers_extractor_files(extractor: WhisperFeatureExtractor) -> dict[str, bytes]:
    """Writes a feature extractor so that transformers' AutoFeatureExtractor and AutoProcessor read it.

    Returns:
        Contents by file name: preprocessor_config.json.
    """
    config = extractor.config
    settings = {name: config[name] for name in config.fields() if name not in IRRELEVANT}
    settings |= {"feature_extractor_type": "WhisperFeatureExtractor", "processor_class": "WhisperProcessor"}
    settings |= {"n_samples": config.chunk_length * config.sampling_rate, "nb_max_frames": extractor.window_frames}
    return {PUBLISHED: json.dumps(dict(sorted(settings.items())), indent=2).encode()}
