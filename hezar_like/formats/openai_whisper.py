"""OpenAI's own files of Whisper: one `.pt` with sizes and weights, such as tiny.pt or base.en.pt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .. import files
from ..errors import CheckpointError, OptionError, TokenizerError
from ..family import family_of
from ..hub import Source
from ..keymap import KeyMap
from ..preprocessors import PreprocessorsContainer
from ..preprocessors.transformers_tokenizer import tokenizer_from_transformers
from ..preprocessors.whisper_tokenizer import WhisperBPETokenizer
from ..registry import models_registry
from .format import Checkpoint, Content, Format, Request, register_format
from .weight_files import PickleFile, describe
from .weights import Weights
from .whisper_alignment import ALIGNMENT_HEADS, alignment_heads
from .whisper_settings import languages_in, published_tokens, token_settings, whisper_preprocessors

WRITTEN = "whisper.pt"
"""What export calls its file."""
VOCABULARIES = ("multilingual.tiktoken", "gpt2.tiktoken")
WEIGHTS, SIZES = "model_state_dict", "dims"
DIMENSIONS = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_state": "d_model",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}
"""The sizes in the file, and our fields."""
FIXED = {"activation_function": "gelu", "tie_word_embeddings": True}
"""What all of its models have."""
EXPANSION = 4
"""How many times as wide as the hidden states its MLPs are inside."""
SUPPRESSED = ("startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech")
"""The special tokens that its decoding never writes."""
SPACE = "Ġ"
ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "out"}
MODULES = {"attn_ln": "attn_norm", "mlp.0": "mlp.up", "mlp.2": "mlp.down", "mlp_ln": "mlp_norm"}
TABLE = {
    "encoder.conv1": "backbone.audio.conv1",
    "encoder.conv2": "backbone.audio.conv2",
    "encoder.positional_embedding": "backbone.audio.positions.weight",
    "encoder.ln_post": "backbone.encoder.norm",
    "decoder.token_embedding": "backbone.embed.tokens",
    "decoder.positional_embedding": "backbone.embed.positions.weight",
    "decoder.ln": "backbone.decoder.norm",
    **{
        f"{side}.blocks.{{}}.{foreign}": f"backbone.{side}.blocks.{{}}.{native}"
        for side, kinds in (("encoder", {"attn": "attn"}), ("decoder", {"attn": "attn", "cross_attn": "cross"}))
        for foreign, native in {
            **MODULES,
            **{f"{kind}_ln": f"{own}_norm" for kind, own in kinds.items()},
            **{f"{kind}.{part}": f"{own}.{name}" for kind, own in kinds.items() for part, name in ATTENTION.items()},
        }.items()
    },
}


@register_format("openai_whisper", "one .pt of Whisper with its sizes, as OpenAI publishes it")
class OpenAIWhisper(Format):
    """Reads and writes what OpenAI's `whisper.load_model` does. The vocabulary may be beside it, as OpenAI has it."""

    rank = 7

    def __init__(self) -> None:
        self._bins = 0
        self._tokenizer: WhisperBPETokenizer | None = None

    def tell_tales(self, config_filename: str | None) -> list[str]:
        return ["one .pt of OpenAI's Whisper"]

    def detect(self, source: Source, config_filename: str | None) -> bool:
        return config_filename is None and bool(_candidates(source))

    def open(self, source: Source, request: Request) -> Checkpoint:
        if request.model_filename is not None:
            path = source.get(request.model_filename)
        else:
            paths = _candidates(source)
            if len(paths) > 1:
                listed = ", ".join(repr(path.name) for path in paths)
                raise OptionError(f"{source} has several models: {listed}. Choose one with model_filename=...")
            (path,) = paths
        file = PickleFile(path, inside=WEIGHTS)
        fields = _fields(file)
        vocabulary = fields["vocab_size"]
        self._tokenizer = tokenizer = _tokenizer(source, vocabulary)
        tokens = published_tokens(vocabulary)
        fields |= token_settings(tokens, vocabulary, str(source))
        if tokenizer is not None:
            never = [tokens[f"<|{name}|>"] for name in SUPPRESSED if f"<|{name}|>" in tokens]
            suppressed = {"suppress_tokens": sorted({*tokenizer.non_speech_tokens, *never})}
            space = tokenizer.token_to_id(SPACE)
            if space is not None:
                suppressed["begin_suppress_tokens"] = [space, tokenizer.end_id]
            fields["generation_config"] |= suppressed
        heads = alignment_heads(path.stem, fields["decoder_layers"], fields["decoder_attention_heads"])
        fields["generation_config"]["alignment_heads"] = heads
        self._bins = fields["num_mel_bins"]
        entry = models_registry.compose("whisper", request.task or "speech_recognition")
        return Checkpoint(entry, fields, Weights([file], repr(str(path))), tables=lambda config, task: KeyMap(TABLE))

    def preprocessors(self, source: Source) -> PreprocessorsContainer:
        return whisper_preprocessors(source.find, self._tokenizer, self._bins)

    def write(self, content: Content, folder: Path) -> Path:
        config = content.config
        if family_of(config).name != "whisper":
            raise OptionError(f"OpenAI's Whisper has no model for {config.name!r}. Use save() for our own layout.")
        hidden = EXPANSION * config["d_model"]
        wanted = {**FIXED, "encoder_ffn_dim": hidden, "decoder_ffn_dim": hidden}
        for name, value in wanted.items():
            if config[name] != value:
                raise OptionError(
                    f"OpenAI's Whisper has only models with {name}={value!r}, and this one has {config[name]!r}. "
                    "Use save() for our own layout."
                )
        weights = dict(KeyMap(TABLE).to_foreign(content.tensors.items()))
        with files.stage(folder) as staged:
            sizes = {name: config[field] for name, field in DIMENSIONS.items()}
            torch.save({SIZES: sizes, WEIGHTS: weights}, staged(WRITTEN))
        return folder


def _tokenizer(source: Source, vocabulary: int) -> WhisperBPETokenizer | None:
    """What is beside the weights: OpenAI's vocabulary, or the files of a tokenizer of transformers."""
    path = next((path for name in VOCABULARIES if (path := source.find(name)) is not None), None)
    if path is not None:
        return WhisperBPETokenizer.from_tiktoken(path, languages_in(vocabulary))
    tokenizer = tokenizer_from_transformers(source.find)
    if tokenizer is not None and not isinstance(tokenizer, WhisperBPETokenizer):
        raise TokenizerError(f"{source} has a tokenizer that is none of Whisper. Remove its files.")
    return tokenizer


def _candidates(source: Source) -> list[Path]:
    """The files that may be such a model: those with OpenAI's names, and others that say what it says."""
    if source.folder is None:
        return [path for name in ALIGNMENT_HEADS if (path := source.find(f"{name}.pt")) is not None][:1]
    return [path for path in sorted(source.folder.glob("*.pt")) if path.stem in ALIGNMENT_HEADS or _is_whisper(path)]


def _is_whisper(path: Path) -> bool:
    try:
        return isinstance(PickleFile(path, inside=WEIGHTS).beside.get(SIZES), Mapping)
    except CheckpointError:
        return False


def _fields(file: PickleFile) -> dict[str, Any]:
    """The fields of the config that the sizes tell."""
    sizes = file.beside.get(SIZES)
    sizes = sizes if isinstance(sizes, Mapping) else {}
    wrong = [name for name in DIMENSIONS if type(sizes.get(name)) is not int]
    if wrong:
        raise CheckpointError(
            f"weight file {describe(file.path)} has no {', '.join(wrong)} in its {SIZES!r}: it is no Whisper of "
            "OpenAI's. Download it again."
        )
    if sizes["n_audio_state"] != sizes["n_text_state"]:
        raise CheckpointError(
            f"weight file {describe(file.path)} has n_audio_state={sizes['n_audio_state']} and "
            f"n_text_state={sizes['n_text_state']}, which differ in no Whisper. Download it again."
        )
    hidden = EXPANSION * sizes["n_audio_state"]
    fields = {field: sizes[name] for name, field in DIMENSIONS.items()}
    return {**fields, **FIXED, "encoder_ffn_dim": hidden, "decoder_ffn_dim": hidden}
