"""Metrics of a whole corpus, by name. Names are imported when asked for."""

from __future__ import annotations

from ..lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "metric": ("Metric",),
        "classification": (
            "Accuracy", "AccuracyConfig", "F1", "F1Config", "Precision", "PrecisionConfig", "Recall", "RecallConfig",
        ),
        "sequence_labeling": ("Seqeval", "SeqevalConfig"),
        "span_labeling": ("Spans", "SpansConfig"),
        "text_generation": ("BLEU", "BLEUConfig", "ROUGE", "ROUGEConfig"),
        "speech_recognition": ("CER", "CERConfig", "WER", "WERConfig"),
        "language_modeling": ("Perplexity", "PerplexityConfig"),
        "ranking": ("MRR", "MRRConfig", "Spearman", "SpearmanConfig"),
        "..configs": ("MetricConfig",),
        "..registry": ("metrics_registry", "register_metric"),
        "..builders": ("build_metric",),
    },
)  # fmt: skip
