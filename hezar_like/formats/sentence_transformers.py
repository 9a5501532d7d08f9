"""sentence-transformers' layout: modules.json names a transformers folder, a pooling and a normalization."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, OptionError, listed
from ..family import Family
from ..hub import Source
from ..paths import check_name
from ..preprocessors import PreprocessorsContainer
from ..preprocessors.transformers_tokenizer import Find
from ..text_files import read_bounded, read_json
from .format import Checkpoint, Content, Request, register_format
from .transformers import Transformers

logger = logging.getLogger("hezar_like")
MAX_MODULES_BYTES = 1_000_000
MODULES = "modules.json"
# By the name in today's files and the one in older files.
POOLINGS = {
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
}
SIMILARITIES = {"cosine": "cosine", "dot": "dot"}


@register_format("sentence_transformers", "modules.json + a transformers model + 1_Pooling")
class SentenceTransformers(Transformers):
    """Reads and writes text embeddings as sentence-transformers does."""

    rank = 1
    shares = ("transformers",)

    def tell_tales(self, config_filename: str | None) -> list[str]:
        return [MODULES]

    def detect(self, source: Source, config_filename: str | None) -> bool:
        return config_filename is None and source.find(MODULES) is not None

    def open(self, source: Source, request: Request) -> Checkpoint:
        modules = _modules(source)
        find = _inside(source, modules["Transformer"])
        if request.task not in (None, "text_embedding"):
            return self.open_files(find, str(source), request)
        extra: dict[str, Any] = {"normalize": "Normalize" in modules}
        if "Pooling" in modules:
            extra["pooling"] = _pooling(source.get(_join(modules["Pooling"], "config.json")))
        path = source.find("config_sentence_transformers.json")
        settings = read_json(path) if path else {}
        name = settings.get("similarity_fn_name") or "cosine"
        if not isinstance(name, str) or name not in SIMILARITIES:
            raise ConfigError(f"{path}: similarity_fn_name {name!r:.100} is not supported; only cosine and dot are.")
        prompts, prompt_name = settings.get("prompts"), settings.get("default_prompt_name")
        prompt = prompts.get(str(prompt_name)) if prompt_name and isinstance(prompts, Mapping) else None
        if prompt_name and prompt is None:
            raise ConfigError(f"{path}: there is no prompt {prompt_name!r:.100}, the default. Save the model again.")
        if prompt:
            logger.warning(
                f"{path}: texts for this model begin with {prompt!r:.200}, which is not added here. Add it yourself."
            )
        extra["similarity_function"] = SIMILARITIES[name]
        wanted = Request("text_embedding", request.model_filename, request.config_filename)
        return self.open_files(find, str(source), wanted, extra)

    def preprocessors(self, source: Source) -> PreprocessorsContainer:
        find = _inside(source, _modules(source)["Transformer"])
        path = find("sentence_bert_config.json")
        settings = read_json(path) if path else {}
        if settings.get("do_lower_case"):
            raise ConfigError(
                f"{path}: do_lower_case=true is not supported. Lower-case the texts, and set it to false."
            )
        return self.tokenizer(find, settings.get("max_seq_length"))

    def write(self, content: Content, folder: Path) -> Path:
        if content.task != "text_embedding":
            raise OptionError(
                f"sentence-transformers has no model for {content.config.name!r}. Export a text embedding."
            )
        return super().write(content, folder)

    def settings(self, content: Content, family: Family, architecture: str) -> dict[str, Any]:
        config, tokenizer = content.config, content.preprocessor.tokenizer
        modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
        pooling = {key: config["pooling"] == name for key, name in POOLINGS.items() if key.startswith("pooling_mode_")}
        return {
            "1_Pooling/config.json": {"word_embedding_dimension": config["hidden_size"], **pooling},
            "sentence_bert_config.json": {
                "max_seq_length": tokenizer.config.max_length if tokenizer else None,
                "do_lower_case": False,
            },
            "config_sentence_transformers.json": {"similarity_fn_name": config["similarity_function"]},
            **super().settings(content, family, architecture),
            MODULES: [
                {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for i, (kind, path) in enumerate(modules[: 3 if config["normalize"] else 2])
            ],
        }


def _modules(source: Source) -> dict[str, str]:
    """The folder of each module by its kind."""
    path = source.get(MODULES)
    try:
        content = json.loads(read_bounded(path, MAX_MODULES_BYTES))
        modules = {str(item["type"]).rpartition(".")[2]: str(item["path"]) for item in content}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ConfigError(f"{path}: is not a list of modules with type and path. Save the model again.") from None
    unknown = modules.keys() - {"Transformer", "Pooling", "Normalize"}
    if unknown or "Transformer" not in modules:
        raise ConfigError(
            f"{path}: the modules {listed(sorted(modules))} are not supported; Transformer, Pooling and Normalize are."
        )
    for folder in modules.values():
        if folder:
            check_name(folder, str(path))
    return modules


def _pooling(path: Path) -> str:
    values = read_json(path)
    named = values.get("pooling_mode", [])
    chosen = list(map(str, named if isinstance(named, list) else [named]))
    chosen += [key for key, value in values.items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in POOLINGS:
        raise ConfigError(f"{path}: the pooling {listed(chosen)} is not supported; just one of {sorted(POOLINGS)} is.")
    return POOLINGS[chosen[0]]


def _inside(source: Source, folder: str) -> Find:
    return lambda name: source.find(_join(folder, name))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
