"""Datasets, collators, samplers and token stores. Names are imported when asked for."""

from __future__ import annotations

from ..lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "collators": ("PadCollator",),
        "dataset": ("Dataset", "TextDataset"),
        "indexed_dataset": ("DistributedIndexedDataset", "IndexedDataset"),
        "infilling": ("BlankInfilling",),
        "language_modeling": ("LanguageModelingDataset",),
        "masking": ("CausalTokens", "Holes", "SpanCorruption", "TokenMasking"),
        "packing": ("PackCollator", "PackedRows", "span_mask"),
        "preparation": ("load_tokenizer", "prepare_data"),
        "prompts": ("Prompt", "PromptDataset", "PromptDatasetConfig", "answer_scores"),
        "rows": ("Rows", "read_rows"),
        "samplers": ("BatchSampler",),
        "seq2seq": (
            "Seq2SeqDataset",
            "Seq2SeqDatasetConfig",
            "TextSummarizationDataset",
            "TextSummarizationDatasetConfig",
        ),
        "sequence_labeling": ("SequenceLabelingDataset", "SequenceLabelingDatasetConfig"),
        "span_labeling": ("SpanLabelingDataset", "SpanLabelingDatasetConfig"),
        "speech_recognition": ("SpeechRecognitionDataset", "SpeechRecognitionDatasetConfig"),
        "store_writer": ("IndexedDatasetWriter",),
        "text_classification": ("TextClassificationDataset", "TextClassificationDatasetConfig"),
        "text_similarity": ("TextSimilarityDataset", "TextSimilarityDatasetConfig"),
        "transforms": ("TransformedDataset",),
        "..configs": ("DatasetConfig",),
        "..registry": ("datasets_registry", "register_dataset"),
        "..builders": ("build_dataset",),
    },
)
