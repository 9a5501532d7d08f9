"""How near written texts come to given ones: BLEU and ROUGE, by the packages that are the standard for each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from ..configs import MetricConfig
from ..errors import DataError, require
from ..registry import register_metric
from .metric import Metric

__all__ = ["BLEU", "ROUGE", "BLEUConfig", "ROUGEConfig"]

ROUGES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@dataclass
class BLEUConfig(MetricConfig):
    """BLEU."""

    name = "bleu"
    tokenize: Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"] = "13a"
    """How texts are cut into words: sacrebleu's rule for Western texts, for all scripts, for Chinese, ..., letters."""
    smooth_method: Literal["exp", "floor", "add-k", "none"] = "exp"
    """What is done where longer sequences of words never match."""
    lowercase: bool = False
    """Whether letters of both cases are the same."""


@dataclass
class ROUGEConfig(MetricConfig):
    """ROUGE."""

    name = "rouge"
    words: Literal["unicode", "characters"] = "unicode"
    """What is compared: words of letters and digits of any script, or single letters, as for Chinese."""
    use_stemmer: bool = False
    """Whether English words are cut to their stems; other scripts are then left out."""


@register_metric("bleu", BLEUConfig, "n-grams that written and given texts share, of the whole corpus")
class BLEU(Metric):
    """BLEU of the whole corpus, from 0 to 1, by sacrebleu.

    Predictions are texts, or lists of words, which are then taken as they are. A target is such a text, or a list of
    texts of which any is right; for a prediction that is a list of words, a list of lists of words.
    """

    config_class = BLEUConfig

    def score(self, predictions: list[Any], targets: list[Any], config: Any) -> dict[str, float]:
        sacrebleu = require("sacrebleu", extra="metrics")
        split = isinstance(predictions[0], list)
        texts = [_joined(prediction) for prediction in predictions]
        references = [_references(target, split, number) for number, target in enumerate(targets)]
        most = max(map(len, references))
        columns = [[own[i] if i < len(own) else None for own in references] for i in range(most)]
        metric = sacrebleu.metrics.BLEU(
            tokenize="none" if split else config.tokenize,
            smooth_method=config.smooth_method,
            lowercase=config.lowercase,
            force=True,
        )
        return {"bleu": metric.corpus_score(texts, columns).score / 100}


@register_metric("rouge", ROUGEConfig, "words and sequences that summaries and given ones share")
class ROUGE(Metric):
    """F1 of ROUGE-1, -2, -L and -Lsum, the mean of all texts, by rouge-score.

    Predictions are texts; a target is a text, or a list of texts of which the nearest counts. Sentences of -Lsum are
    lines.
    """

    config_class = ROUGEConfig

    def score(self, predictions: list[Any], targets: list[Any], config: Any) -> dict[str, float]:
        scorers = require("rouge_score.rouge_scorer", extra="metrics")
        scorer = scorers.RougeScorer(
            list(ROUGES),
            use_stemmer=config.use_stemmer,
            tokenizer=None if config.use_stemmer else _Words(config.words),
        )
        sums = dict.fromkeys(ROUGES, 0.0)
        for number, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
            found = scorer.score_multi(_references(target, False, number), _text(prediction, number))
            for name in ROUGES:
                sums[name] += found[name].fmeasure
        return {name: value / len(predictions) for name, value in sums.items()}


class _Words:
    """A tokenizer for rouge-score; its own knows only the letters a to z."""

    def __init__(self, words: str) -> None:
        self._find = re.compile(r"[^\W_]" if words == "characters" else r"[^\W_]+(?:\u200c[^\W_]+)*").findall

    def tokenize(self, text: str) -> list[str]:
        found: list[str] = self._find(text.lower())
        return found


def _joined(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(value)


def _text(value: Any, number: int) -> str:
    if not isinstance(value, str):
        raise DataError(f"text {number} is {type(value).__name__}, but must be a text.")
    return value


def _references(target: Any, split: bool, number: int) -> list[str]:
    several = isinstance(target, list | tuple) and not (split and target and isinstance(target[0], str))
    found = [_joined(one) for one in (target if several else [target])]
    if not found:
        raise DataError(f"target {number} is an empty list. Give at least one text.")
    return found
