"""Preprocessors: tokenizers, text normalizer, image processors, audio features. Names are imported when asked for."""

from __future__ import annotations

from ..lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "preprocessor": ("Preprocessor", "read_preprocessors"),
        "container": ("PreprocessorsContainer", "UnknownPreprocessor"),
        "tokenizer": ("Tokenizer", "TokenizerConfig"),
        "tokenizer_kinds": (
            "BPEConfig",
            "BPETokenizer",
            "SentencePieceBPEConfig",
            "SentencePieceBPETokenizer",
            "SentencePieceUnigramConfig",
            "SentencePieceUnigramTokenizer",
            "WordPieceConfig",
            "WordPieceTokenizer",
        ),
        "glm_tokenizer": ("GLMTokenizer", "GLMTokenizerConfig"),
        "jieba_tokenizer_kinds": (
            "JiebaLongestMatchConfig",
            "JiebaLongestMatchTokenizer",
            "JiebaUnigramConfig",
            "JiebaUnigramTokenizer",
            "JiebaWordPieceConfig",
            "JiebaWordPieceTokenizer",
        ),
        "flagai_modelcenter": (
            "flagai_tokenizer",
            "flagai_tokenizer_files",
            "modelcenter_tokenizer",
            "modelcenter_tokenizer_files",
        ),
        "encoded": ("Encoded",),
        "padding": ("pad_rows",),
        "text_normalizer": ("TextNormalizer", "TextNormalizerConfig"),
        "audio": ("Recording", "read_audio"),
        "audio_features": (
            "AudioFeatureExtractor",
            "AudioFeatureExtractorConfig",
            "WhisperFeatureExtractor",
            "WhisperFeatureExtractorConfig",
        ),
        "transformers_extractor": ("extractor_from_transformers", "transformers_extractor_files"),
        "whisper_tokenizer": ("WhisperBPEConfig", "WhisperBPETokenizer"),
        "transformers_tokenizer": ("tokenizer_from_transformers", "transformers_tokenizer_files"),
        "..configs": ("PreprocessorConfig",),
        "..registry": ("register_preprocessor", "preprocessors_registry"),
        "..builders": ("build_preprocessor",),
    },
)
