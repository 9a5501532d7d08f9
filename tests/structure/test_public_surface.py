"""The names and signatures that users rely on. A change here is a change for them: say so in the changelog."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterable

import pytest

from hezar_like import errors
from hezar_like.models import Model

NAMES = {
    "hezar_like": """
        Config Dataset HezarLikeError Metric Model ModelConfig Preprocessor PreprocessorConfig Tokenizer Trainer
        TrainerConfig __version__
        build_dataset build_embedding build_metric build_model build_preprocessor
        list_available_datasets list_available_embeddings list_available_metrics list_available_models
        list_available_preprocessors
        register_dataset register_embedding register_metric register_model register_preprocessor
    """,
    "hezar_like.models": "Model ModelConfig build_model register_model",
    "hezar_like.preprocessors": """
        AudioFeatureExtractor AudioFeatureExtractorConfig
        BPEConfig BPETokenizer Encoded GLMTokenizer GLMTokenizerConfig
        JiebaLongestMatchConfig JiebaLongestMatchTokenizer JiebaUnigramConfig JiebaUnigramTokenizer
        JiebaWordPieceConfig JiebaWordPieceTokenizer Preprocessor PreprocessorConfig PreprocessorsContainer Recording
        SentencePieceBPEConfig SentencePieceBPETokenizer SentencePieceUnigramConfig SentencePieceUnigramTokenizer
        TextNormalizer TextNormalizerConfig Tokenizer TokenizerConfig UnknownPreprocessor WhisperBPEConfig
        WhisperBPETokenizer WhisperFeatureExtractor WhisperFeatureExtractorConfig WordPieceConfig
        WordPieceTokenizer build_preprocessor extractor_from_transformers flagai_tokenizer flagai_tokenizer_files modelcenter_tokenizer
        modelcenter_tokenizer_files pad_rows preprocessors_registry read_audio read_preprocessors register_preprocessor
        tokenizer_from_transformers transformers_extractor_files transformers_tokenizer_files
    """,
    "hezar_like.data": """
        BatchSampler BlankInfilling CausalTokens Dataset DatasetConfig DistributedIndexedDataset Holes IndexedDataset
        IndexedDatasetWriter LanguageModelingDataset PackCollator PackedRows PadCollator Prompt PromptDataset
        PromptDatasetConfig Rows Seq2SeqDataset Seq2SeqDatasetConfig SequenceLabelingDataset
        SequenceLabelingDatasetConfig SpanCorruption SpanLabelingDataset SpanLabelingDatasetConfig SpeechRecognitionDataset SpeechRecognitionDatasetConfig
        TextClassificationDataset TextClassificationDatasetConfig TextDataset TextSimilarityDataset
        TextSimilarityDatasetConfig TextSummarizationDataset TextSummarizationDatasetConfig TokenMasking TransformedDataset answer_scores build_dataset datasets_registry
        load_tokenizer prepare_data read_rows register_dataset span_mask
    """,
    "hezar_like.metrics": """
        Accuracy AccuracyConfig BLEU BLEUConfig CER CERConfig F1 F1Config MRR MRRConfig Metric MetricConfig Perplexity
        PerplexityConfig Precision PrecisionConfig ROUGE ROUGEConfig Recall RecallConfig Seqeval SeqevalConfig
        Spans SpansConfig Spearman SpearmanConfig WER WERConfig build_metric metrics_registry register_metric
    """,
    "hezar_like.training": """
        Callback EarlyStopping LoRAConfig ProgressBar TensorBoard Trackio Trainer TrainerConfig TrainerState
        add_lora
        all_reduce_mean build_optimizer build_schedule cosent_loss draw_curves focal_loss gather_result init_distributed
        inspect_model load_adapter merge_lora print_rank read_log save_adapter sum_loss
    """,
}
SIGNATURES = {
    "load": [
        "hub_or_local_path", "load_locally=False", "load_preprocessor=True", "model_filename=None",
        "config_filename=None", "save_path=None", "*", "task=None", "device=None", "dtype=None", "quantize=None", "compile=False",
        "revision=None",
        "token=None", "cache_dir=None", "local_files_only=False", "verify=False", "**kwargs",
    ],
    "save": ["path", "filename=None", "save_preprocessor=True", "config_filename=None"],
    "push_to_hub": [
        "repo_id", "filename=None", "config_filename=None", "push_preprocessor=True", "commit_message=None",
        "private=None", "*", "token=None", "revision=None", "create_pr=False", "card=None",
    ],
    "predict": [
        "inputs", "*", "batch_size='auto'", "progress='auto'", "device=None", "preprocess=True", "post_process=True",
        "**options",
    ],
    "stream": [
        "inputs", "*", "batch_size='auto'", "device=None", "preprocess=True", "post_process=True", "**options",
    ],
    "export": ["format", "path"],
    "load_state_dict": ["state_dict", "strict=True", "assign=False"],
}  # fmt: skip
# Each error, and the kinds of Python's own that code written for those still catches.
ERRORS = {
    "HezarLikeError": [Exception],
    "ConfigError": [ValueError],
    "RegistryError": [KeyError],
    "CheckpointError": [ValueError],
    "DataError": [ValueError],
    "PreprocessorError": [ValueError],
    "TokenizerError": [errors.PreprocessorError, ValueError],
    "InputError": [ValueError],
    "OptionError": [TypeError],
    "OutOfMemory": [errors.InputError, MemoryError],
    "HubError": [OSError],
    "NonFiniteOutput": [ArithmeticError],
    "MissingDependency": [ImportError],
    "ProcessLost": [ConnectionError],
}


def written(parameters: Iterable[inspect.Parameter]) -> list[str]:
    """A signature without annotations, as `def` has it."""
    shown: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        shown.append(f"{stars}{parameter.name}{default}")
    return shown


@pytest.mark.parametrize("module", NAMES)
def test_public_names(module: str) -> None:
    found = importlib.import_module(module)
    names = NAMES[module].split()
    assert sorted(found.__all__) == sorted(names)
    assert set(names) <= set(dir(found))
    assert [name for name in names if getattr(found, name, None) is None] == []
    with pytest.raises(AttributeError, match=r"has no attribute 'no_such_name'"):
        getattr(found, "no_such_name")  # noqa: B009


def test_star_imports() -> None:
    code = "\n".join(f"from {module} import *\n({', '.join(NAMES[module].split())})" for module in NAMES)
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("method", SIGNATURES)
def test_signatures(method: str) -> None:
    parameters = inspect.signature(getattr(Model, method)).parameters.values()
    assert written(p for p in parameters if p.name != "self") == SIGNATURES[method]


def test_errors() -> None:
    found = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
    assert found == set(ERRORS)
    for name, kinds in ERRORS.items():
        cls = getattr(errors, name)
        assert issubclass(cls, errors.HezarLikeError) and all(issubclass(cls, kind) for kind in kinds)
        assert str(cls("text")) == "text"


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("BERTConfig", "BertConfig"), ("RoBERTaConfig", "RobertaConfig"), ("DistilBERTConfig", "DistilBertConfig"),
        ("BERTTextClassification", "BertTextClassification"), ("BERTMaskFillingConfig", "BertMaskFillingConfig"),
    ],
)  # fmt: skip
def test_names_of_hezar(name: str, same_as: str) -> None:
    models = importlib.import_module("hezar_like.models")
    assert getattr(models, name) is getattr(models, same_as)


@pytest.mark.parametrize("first", ["bert"])
def test_a_module_of_models_is_never_taken_for_a_class(first: str) -> None:
    code = f"import hezar_like.models as m\ntry:\n    m.{first}\nexcept AttributeError:\n    print('absent')\n"
    code += f"from hezar_like.models import {first}\nimport types\nassert isinstance({first}, types.ModuleType)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "absent\n"), result.stderr
