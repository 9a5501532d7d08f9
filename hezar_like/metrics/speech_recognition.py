"""How many words or letters of what was said are wrong, by jiwer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..configs import MetricConfig
from ..errors import DataError, require
from ..registry import register_metric
from .metric import Metric

__all__ = ["CER", "WER", "CERConfig", "WERConfig"]


@dataclass
class ErrorRateConfig(MetricConfig):
    """Fields of both rates of errors."""

    objective: Literal["maximize", "minimize"] = "minimize"
    """Whether more is better."""
    concatenate_texts: bool = False
    """Whether all texts are one, so that words may move from one to the next."""


@dataclass
class WERConfig(ErrorRateConfig):
    """Rate of wrong words."""

    name = "wer"


@dataclass
class CERConfig(ErrorRateConfig):
    """Rate of wrong letters."""

    name = "cer"
    sentence_delimiter: str = " "
    """What stands between texts that are made one."""


class ErrorRate(Metric):
    """Base of both: substitutions, deletions and insertions of all texts, by the length of all targets.

    Predictions and targets are texts.
    """

    def score(self, predictions: list[Any], targets: list[Any], config: Any) -> dict[str, float]:
        jiwer = require("jiwer", extra="metrics")
        for name, texts in (("prediction", predictions), ("target", targets)):
            odd = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
            if odd is not None:
                raise DataError(f"{name} {odd} is {type(texts[odd]).__name__}, but must be a text.")
        if not any(text.strip() for text in targets):
            raise DataError("all targets are empty, so there is nothing to count errors by. Give texts.")
        # Several spaces are one, as in Hezar, so that CER does not depend on how words are set apart.
        predictions, targets = ([" ".join(text.split()) for text in texts] for texts in (predictions, targets))
        if config.concatenate_texts:
            between = getattr(config, "sentence_delimiter", " ")
            predictions, targets = [between.join(predictions)], [between.join(targets)]
        return {config.name: getattr(jiwer, config.name)(targets, predictions)}


@register_metric("wer", WERConfig, "rate of wrong words")
class WER(ErrorRate):
    """Rate of wrong words; see `ErrorRate`."""

    config_class = WERConfig


@register_metric("cer", CERConfig, "rate of wrong letters")
class CER(ErrorRate):
    """Rate of wrong letters; see `ErrorRate`."""

    config_class = CERConfig
