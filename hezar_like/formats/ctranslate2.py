"""CTranslate2's layout: config.json + model.bin + the vocabulary, as faster-whisper's repositories have it."""

from __future__ import annotations

import logging
import re
from itertools import takewhile
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import CheckpointError, ConfigError, listed
from ..hub import Source
from ..keymap import KeyMap
from ..preprocessors import PreprocessorsContainer
from ..preprocessors.transformers_tokenizer import tokenizer_from_transformers
from ..preprocessors.whisper_tokenizer import WhisperBPETokenizer
from ..preprocessors.whisper_vocabulary import END
from ..registry import models_registry
from ..text_files import read_json
from .ctranslate2_file import CTranslate2File
from .format import Checkpoint, Format, Request, register_format
from .weight_files import TensorInfo, describe
from .weight_files import read_json as read_any_json
from .weights import Weights
from .whisper_settings import languages_in, published_tokens, token_settings, whisper_preprocessors

logger = logging.getLogger("hezar_like")

WEIGHTS = "model.bin"
FIRST_PART = "model.bin.part1"
CONFIG = "config.json"
VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
MAX_VOCABULARY_BYTES = 20_000_000
KIND = "WhisperSpec"
HEAD_DIM = 64
"""Channels of each attention head of the published models, for files that do not tell the number of heads."""
ACTIVATIONS = ("relu", "gelu_new", "silu", "gelu")
"""The activations by their numbers, as far as there are the same here."""
NUMBERS = {
    "decoder/alibi": 0,
    "decoder/alibi_use_positive_positions": None,
    "decoder/alignment_heads": None,
    "decoder/alignment_layer": None,
    "decoder/multi_query_attention": 0,
    "decoder/pre_norm": 1,
    "decoder/scale_alibi": None,
    "decoder/scale_embeddings": 0,
    "decoder/start_from_zero_embedding": 0,
}
"""Settings in the weights, with the value they must have; None: any, because it says nothing about Whisper."""
SETTINGS = {
    "alignment_heads": "alignment_heads",
    "suppress_ids": "suppress_tokens",
    "suppress_ids_begin": "begin_suppress_tokens",
    "lang_ids": None,  # the vocabulary tells which language is which
}
"""Settings in config.json, and the fields of `generation_config` they are."""
STACKED = {"self_attention.linear_0": ("q", "k", "v"), "attention.linear_1": ("k", "v")}
"""Modules that are several of ours, stacked: here each part is a module with its name at the end."""
BLOCK = {
    "self_attention.layer_norm": "attn_norm",
    **{f"self_attention.linear_0.{part}": f"attn.{part}" for part in ("q", "k", "v")},
    "self_attention.linear_0.k.bias": None,  # there are none: they are zeros
    "self_attention.linear_1": "attn.out",
    "attention.layer_norm": "cross_norm",
    "attention.linear_0": "cross.q",
    **{f"attention.linear_1.{part}": f"cross.{part}" for part in ("k", "v")},
    "attention.linear_1.k.bias": None,
    "attention.linear_2": "cross.out",
    "ffn.layer_norm": "mlp_norm",
    "ffn.linear_0": "mlp.up",
    "ffn.linear_1": "mlp.down",
}
TABLE = {
    "encoder.conv1": "backbone.audio.conv1",
    "encoder.conv2": "backbone.audio.conv2",
    "encoder.position_encodings.encodings": "backbone.audio.positions.weight",
    "encoder.layer_norm": "backbone.encoder.norm",
    "decoder.embeddings": "backbone.embed.tokens",
    "decoder.position_encodings.encodings": "backbone.embed.positions.weight",
    "decoder.layer_norm": "backbone.decoder.norm",
    "decoder.projection": "head.out",
    **{
        f"{side}.layers.{{}}.{foreign}": native and f"backbone.{side}.blocks.{{}}.{native}"
        for side in ("encoder", "decoder")
        for foreign, native in BLOCK.items()
    },
}
LEAVES = {"gamma": "weight", "beta": "bias"}


@register_format("ctranslate2", "config.json + model.bin of Whisper, as CTranslate2 and faster-whisper have it")
class CTranslate2(Format):
    """Reads Whisper models of CTranslate2, in all of its types of weights."""

    rank = 3

    def __init__(self) -> None:
        self._bins = 0

    def tell_tales(self, config_filename: str | None) -> list[str]:
        return [WEIGHTS]

    def detect(self, source: Source, config_filename: str | None) -> bool:
        return any(source.find(name) is not None for name in (WEIGHTS, FIRST_PART))

    def open(self, source: Source, request: Request) -> Checkpoint:
        name = request.model_filename or WEIGHTS
        if name == WEIGHTS and source.find(name) is None:
            raise CheckpointError(
                f"{source} has {FIRST_PART!r} and no {WEIGHTS!r}: put the parts together, one after the other, with "
                f"'cat {WEIGHTS}.part* > {WEIGHTS}'."
            )
        file = CTranslate2File(source.get(name))
        if file.kind != KIND:
            raise CheckpointError(
                f"weight file {describe(file.path)} is a {file.kind!r:.100} of CTranslate2, and only {KIND!r} is "
                "supported. Load the model it was converted from."
            )
        weights = WhisperWeights(file)
        fields = _sizes(file) | {"tie_word_embeddings": "decoder.projection.weight" not in weights.header}
        self._bins = fields["num_mel_bins"]
        vocabulary = fields["vocab_size"]
        listed = _vocabulary(source)
        tokens = {token: index for index, token in enumerate(listed)} if listed else published_tokens(vocabulary)
        fields |= token_settings(tokens, vocabulary, str(source))
        fields["generation_config"] |= _settings(source.find(request.config_filename or CONFIG))
        entry = models_registry.compose("whisper", request.task or "speech_recognition")
        return Checkpoint(
            entry, fields, Weights([weights], repr(str(file.path))), tables=lambda config, task: KeyMap(TABLE)
        )

    def preprocessors(self, source: Source) -> PreprocessorsContainer:
        tokenizer = tokenizer_from_transformers(source.find)
        listed = _vocabulary(source) if tokenizer is None else None
        if listed:
            texts = list(takewhile(lambda token: token != END, listed))
            tokenizer = WhisperBPETokenizer.from_tokens(texts, languages_in(len(listed)))
        return whisper_preprocessors(source.find, tokenizer, self._bins)


class WhisperWeights:
    """The weights of Whisper in a file of CTranslate2; a `WeightFile` with a tensor for each of ours.

    Args:
        file: The file.

    Raises:
        CheckpointError: When it asks for what Whisper has not.
    """

    def __init__(self, file: CTranslate2File) -> None:
        self.path, self.metadata, self._file = file.path, file.metadata, file
        self._sources: dict[str, tuple[str, tuple[int, int]]] = {}
        self.header: dict[str, TensorInfo] = {}
        for stored, info in file.header.items():
            if file.aliases.get(stored) == "decoder/embeddings/weight":
                continue  # the head, which is the embedding
            path, _, leaf = re.sub(r"/layer_(\d+)/", r"/layers/\1/", stored).replace("/", ".").rpartition(".")
            parts = next((parts for name, parts in STACKED.items() if re.search(rf"\d\.{name}$", path)), ("",))
            if info.shape[0] % len(parts):
                raise self._error(f"has {stored!r} of shape {list(info.shape)}, which is not {len(parts)} parts")
            shape = (info.shape[0] // len(parts), *info.shape[1:])
            for index, part in enumerate(parts):
                name = ".".join(filter(None, (path, part, LEAVES.get(leaf, leaf))))
                self._sources[name] = stored, (index, len(parts))
                self.header[name] = TensorInfo(shape, info.dtype, info.file)
        self._check_keys()

    def read(self, name: str) -> Tensor:
        stored, part = self._sources[name]
        return self._file.read(stored, part)

    def _check_keys(self) -> None:
        for name in self.header:
            if name.endswith(".k.bias") and self.read(name).any():
                raise self._error(f"has biases of keys in {self._sources[name][0]!r}, and Whisper has none")

    def _error(self, reason: str) -> CheckpointError:
        return CheckpointError(f"weight file {describe(self.path)} {reason}; convert the model again")


def _sizes(file: CTranslate2File) -> dict[str, Any]:
    """The fields of the config that the weights tell."""

    def shape(name: str, dimensions: int = 2) -> tuple[int, ...]:
        found = file.header.get(name)
        if found is None or len(found.shape) != dimensions:
            told = "no" if found is None else f"a {len(found.shape)}-dimensional"
            raise CheckpointError(f"weight file {describe(file.path)} has {told} {name!r}; convert the model again")
        return found.shape

    numbers = dict(file.numbers)
    vocabulary, width = shape("decoder/embeddings/weight")
    result: dict[str, Any] = {
        "vocab_size": vocabulary,
        "d_model": width,
        "num_mel_bins": shape("encoder/conv1/weight", 3)[1],
        "max_source_positions": shape("encoder/position_encodings/encodings")[0],
        "max_target_positions": shape("decoder/position_encodings/encodings")[0],
    }
    for side in ("encoder", "decoder"):
        layers = {int(found[1]) for name in file.header if (found := re.match(rf"{side}/layer_(\d+)/", name))}
        result[f"{side}_layers"] = len(layers)
        result[f"{side}_attention_heads"] = numbers.pop(f"{side}/num_heads", max(1, width // HEAD_DIM))
        if layers:
            result[f"{side}_ffn_dim"] = shape(f"{side}/layer_{min(layers)}/ffn/linear_0/weight")[0]
    activation = int(numbers.pop("decoder/activation", ACTIVATIONS.index("gelu")))
    if numbers.pop("encoder/activation", activation) != activation or not 0 <= activation < len(ACTIVATIONS):
        raise CheckpointError(f"weight file {describe(file.path)} has activations that are not supported.")
    wrong = {name: value for name, value in numbers.items() if NUMBERS.get(name, name) not in (None, value)}
    if wrong:
        listed = ", ".join(f"{name!r:.100}={value}" for name, value in list(wrong.items())[:5])
        raise CheckpointError(
            f"weight file {describe(file.path)} asks for what is not supported: {listed}. "
            "Load the model it was converted from."
        )
    return result | {"activation_function": ACTIVATIONS[activation]}


def _settings(path: Path | None) -> dict[str, Any]:
    """The fields of `generation_config` that config.json tells."""
    values = {} if path is None else read_json(path)
    if unknown := sorted(values.keys() - SETTINGS.keys()):
        logger.warning(f"{path}: these settings are unknown here and have no effect: {listed(unknown)}")
    fields = {field: values.get(key) for key, field in SETTINGS.items() if field is not None}
    return {field: value for field, value in fields.items() if value is not None}


def _vocabulary(source: Source) -> list[str] | None:
    """The tokens in the order of their ids; None when no file lists them."""
    path = next((found for name in VOCABULARIES if (found := source.find(name)) is not None), None)
    if path is None:
        return None
    if path.stat().st_size > MAX_VOCABULARY_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_VOCABULARY_BYTES} bytes; this is no vocabulary.")
    try:
        text = path.read_text(encoding="utf-8")
        tokens = read_any_json(text) if path.suffix == ".json" else text.removesuffix("\n").split("\n")
    except ValueError as error:
        raise ConfigError(f"{path}: is not readable ({error}). Download it again.") from None
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ConfigError(f"{path}: is no list of tokens. Download it again.")
    return tokens
