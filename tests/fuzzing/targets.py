"""What is fuzzed: one file of a folder each, and what a user would do with that folder."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from tiny_models import tiny_fields, tiny_model, tiny_tokenizer

from hezar_like import Model, Preprocessor, build_preprocessor
from hezar_like.cli import main
from hezar_like.configs import ModelConfig
from hezar_like.errors import HezarLikeError
from hezar_like.files import stage
from hezar_like.formats import config_from_json
from hezar_like.formats.weights import save_weights
from hezar_like.hub import Source
from hezar_like.loading import unique_tensors
from hezar_like.model_card import CardOptions, ModelFacts, update_card
from hezar_like.preprocessors.transformers_extractor import extractor_from_transformers, transformers_extractor_files
from hezar_like.preprocessors.transformers_tokenizer import tokenizer_from_transformers
from hezar_like.registry import models_registry

__all__ = ["TARGETS", "Target", "prepare"]

SMALL = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 8, "num_labels": 3}
TEXTS = ["the cat", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "\u0647\u0632\u0627\u0631 \u200c\U0001f600\0"]
OTHERS = (
    "gpt2_text_generation", "t5", "whisper_speech_recognition", "llama_text_generation", "glm_cloze", "gemma3", "cpm1",
)  # fmt: skip
CENTER = {
    "vocab_size": 89, "type_size": 2, "position_size": 40, "dim_model": 24, "num_heads": 3, "dim_head": 8, "dim_ff": 40,
    "num_layers": 1, "pos_bias_type": "none", "norm_bias": True, "norm_eps": 1e-12, "att_bias": True, "tied": True,
    "att_mask_value": "-1e4", "ffn_activate_fn": "gelu", "length_scale": False, "attn_scale": True, "int8": False,
}  # fmt: skip
TEMPLATE = """{% for message in messages -%}
<|{{ message['role'] }}|>{{ message['content'] | trim }}{% if not loop.last %}{{ '\\n' }}{% endif %}
{%- set count = namespace(n=loop.index) %}
{%- endfor %}{% macro end(x) %}{{ x * 3 }}{% endmacro %}{{ end('.') }}"""
LINES = [
    {"text": "the cat"}, "the dog", {"text": "a", "text_pair": "b", "more": [1, {"x": None}]}, {"text": "", "id": 7},
    {"text": "\u0647\u0632\u0627\u0631", "label": "x"},
]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """One file that is damaged.

    Attributes:
        folder: Name of the folder with it, one of those that `prepare` makes.
        file: Its name there.
        kind: What it is; see `mutations.KINDS`.
        use: What a user does with the folder.
    """

    folder: str
    file: str
    kind: str
    use: Callable[[Path], Any]


def _predict(folder: Path) -> None:
    Model.load(folder, device="cpu").predict(TEXTS, long_text="truncate")


def _load(folder: Path) -> None:
    Model.load(folder, device="cpu")


def _preprocessors(folder: Path) -> None:
    for preprocessor in Preprocessor.load(folder, force_return_dict=True).values():
        for text in TEXTS if preprocessor.config.name != "whisper_feature_extractor" else [torch.zeros(400)]:
            preprocessor(text)


def _config(folder: Path) -> None:
    config = ModelConfig.load(folder)
    assert type(config).from_saved(config.to_dict()) == config


def _foreign_config(folder: Path) -> None:
    config_from_json(folder / "config.json", family="bert")


def _foreign_extractor(folder: Path) -> None:
    extractor = extractor_from_transformers(Source(str(folder), folder=folder).find)
    if extractor is not None:
        extractor(torch.zeros(400))


def _foreign_tokenizer(folder: Path) -> None:
    tokenizer = tokenizer_from_transformers(Source(str(folder), folder=folder).find)
    if tokenizer is not None:
        tokenizer(TEXTS)


def _conversation(folder: Path) -> None:
    tokenizer = Preprocessor.load(folder)
    tokenizer.apply_chat_template([{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}])


def _card(folder: Path) -> None:
    card = (folder / "README.md").read_text(errors="replace")
    facts = ModelFacts("ann/model", "bert_text_classification", "text_classification", "text-classification", 5)
    update_card(card, facts, CardOptions(language=["en"]))


def _command(folder: Path) -> None:
    """Lines through the command; it must end with what a user can mend, and then without an output."""
    said = io.StringIO()
    output = folder / "results.jsonl"
    with mock.patch.object(Model, "load", lambda *args, **options: _command.model), contextlib.redirect_stderr(said):
        code = main(["predict", str(folder), "--input", str(folder / "texts.jsonl"), "--output", str(output)])
    assert output.exists() == (code == 0), "half an output"
    if code == 0:
        for line in output.read_text().splitlines():
            json.loads(line)
    output.unlink(missing_ok=True)
    if code == 2:
        raise HezarLikeError(said.getvalue().strip())
    assert code == 0, said.getvalue()


TARGETS = {
    "config": Target("model", "model_config.yaml", "yaml", _load),
    **{f"config of {name}": Target(name, "model_config.yaml", "yaml", _config) for name in OTHERS},
    "config of transformers": Target("theirs", "config.json", "json", _load),
    "config of ModelCenter": Target("center", "config.json", "json", _foreign_config),
    "settings of generation": Target("writer", "generation_config.json", "json", _load),
    "weights": Target("model", "model.safetensors", "safetensors", _predict),
    "pickled weights": Target("pickled", "model.pt", "bytes", _load),
    "index": Target("sharded", "model.safetensors.index.json", "json", _load),
    "a shard": Target("sharded", "model-00002-of-00003.safetensors", "safetensors", _load),
    "tokenizer": Target("model", "preprocessor/tokenizer.json", "json", _predict),
    "byte-level tokenizer": Target("bpe", "preprocessor/tokenizer.json", "json", _preprocessors),
    "unigram tokenizer": Target("unigram", "preprocessor/tokenizer.json", "json", _preprocessors),
    "settings of a tokenizer": Target("model", "preprocessor/tokenizer_config.yaml", "yaml", _preprocessors),
    "settings of a normalizer": Target("normalizer", "preprocessor/normalizer_config.yaml", "yaml", _preprocessors),
    "settings of a feature extractor": Target(
        "speech", "preprocessor/feature_extractor_config.yaml", "yaml", _preprocessors
    ),
    "tokenizer settings of transformers": Target("theirs", "tokenizer_config.json", "json", _load),
    "special tokens of transformers": Target("words", "special_tokens_map.json", "json", _load),
    "words of transformers": Target("words", "vocab.txt", "bytes", _load),
    "extractor of transformers": Target("their speech", "preprocessor_config.json", "json", _foreign_extractor),
    "bytes of transformers' merges": Target("pairs", "merges.txt", "bytes", _foreign_tokenizer),
    "vocabulary of transformers": Target("pairs", "vocab.json", "json", _foreign_tokenizer),
    "added tokens of transformers": Target("more words", "added_tokens.json", "json", _foreign_tokenizer),
    "pieces of sentencepiece": Target("pieces", "spiece.model", "bytes", _foreign_tokenizer),
    "template of a chat": Target("chat", "preprocessor/chat_template.jinja", "bytes", _conversation),
    "modules of sentence-transformers": Target("sentences", "modules.json", "json", _load),
    "pooling of sentence-transformers": Target("sentences", "1_Pooling/config.json", "json", _load),
    "settings of sentence-transformers": Target("sentences", "config_sentence_transformers.json", "json", _load),
    "lengths of sentence-transformers": Target("sentences", "sentence_bert_config.json", "json", _load),
    "lines for the command": Target("model", "texts.jsonl", "jsonl", _command),
    "a card": Target("card", "README.md", "yaml", _card),
}


def _piece(piece: tuple[str, int]) -> bytes:
    """A piece as a sentencepiece model has it: text, score and kind."""
    text = piece[0].encode()
    content = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", -1.0) + b"\x18" + bytes([piece[1]])
    return b"\x0a" + bytes([len(content)]) + content


def prepare(place: Path) -> None:
    """Writes good files of every kind into folders."""
    model = tiny_model("bert_text_classification", **SMALL)
    model.save(place / "model")
    (place / "model" / "texts.jsonl").write_text("\n".join(json.dumps(line) for line in LINES) + "\n")
    _command.model = model
    model.save(place / "sharded")
    with stage(place / "sharded") as staged:
        staged.remove("model.safetensors")
        assert len(save_weights(unique_tensors(model), staged, max_shard_bytes=8_000)) == 4
    model.save(place / "pickled", filename="model.pt")
    model.export("transformers", place / "theirs")
    shutil.copytree(place / "theirs", place / "words")
    (place / "words" / "tokenizer.json").unlink()
    vocabulary = model.preprocessor.tokenizer.backend.get_vocab()
    (place / "words" / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    tokens = {"cls_token": "[CLS]", "sep_token": {"content": "[SEP]", "lstrip": False}, "pad_token": "[PAD]"}
    (place / "words" / "special_tokens_map.json").write_text(json.dumps(tokens))
    for kind, folder in (("bpe_tokenizer", "bpe"), ("sentencepiece_unigram_tokenizer", "unigram")):
        tiny_tokenizer(kind).save(place / folder)
    build_preprocessor("text_normalizer").save(place / "normalizer")
    build_preprocessor("whisper_feature_extractor", feature_size=4).save(place / "speech")
    chat = copy.deepcopy(tiny_tokenizer())
    chat.config.update(chat_template=TEMPLATE)
    chat.save(place / "chat")
    shutil.copytree(place / "theirs", place / "pairs")
    (place / "pairs" / "tokenizer.json").unlink()
    (place / "pairs" / "tokenizer_config.json").unlink()
    tokens = [*"abcdefghijklmnopqrstuvwxyz", "th", "the", "\u0120", "\u0120c"]
    (place / "pairs" / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (place / "pairs" / "merges.txt").write_text("#version: 0.2\nt h\nth e\n\u0120 c\n", encoding="utf-8")
    shutil.copytree(place / "words", place / "more words")
    (place / "more words" / "added_tokens.json").write_text(json.dumps({"[NEW]": len(vocabulary), "the cat": len(vocabulary) + 1}))
    (place / "pieces").mkdir()
    (place / "pieces" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
    pieces = [("<pad>", 3), ("</s>", 3), ("<unk>", 2), *((letter, 1) for letter in "abcdefghijklmnopqrstuvwxyz")]
    (place / "pieces" / "spiece.model").write_bytes(b"".join(map(_piece, pieces)))
    sentences = tiny_model("bert_text_embedding", num_hidden_layers=1, pooling="mean")
    sentences.export("sentence_transformers", place / "sentences")
    writer = tiny_model("gpt2_text_generation", num_hidden_layers=1)
    writer.export("transformers", place / "writer")
    (place / "writer" / "generation_config.json").write_text(
        json.dumps({"max_new_tokens": 3, "do_sample": True, "top_k": 5, "temperature": 0.7, "eos_token_id": [3, 4]})
    )
    for name in OTHERS:
        config_class = models_registry[name].config_class
        config_class(**tiny_fields(config_class)).save(place / name)
    (place / "center").mkdir()
    (place / "center" / "config.json").write_text(json.dumps(CENTER))
    (place / "their speech").mkdir()
    for name, content in transformers_extractor_files(build_preprocessor("whisper_feature_extractor")).items():
        (place / "their speech" / name).write_bytes(content)
    (place / "card").mkdir()
    (place / "card" / "README.md").write_text("---\nlanguage: [en, fa]\ntags:\n- a\nmodel-index:\n- name: x\n  results: []\n---\n# Model\n")
