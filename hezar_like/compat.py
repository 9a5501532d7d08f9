"""Doors with the names that FlagAI and ModelCenter have; behind each is our own API.

    from hezar_like.compat import AutoLoader, CPM1, CPM1Config, GLMModel

    AutoLoader("title-generation", model_name="GLM-large-ch", model_dir="./state_dict").get_model()
    GLMModel.from_pretrain(download_path="./state_dict", model_name="GLM-large-ch")
    GLMModel.init_from_json("config.json", checkpoint_activations=True)
    CPM1(CPM1Config.from_json_file("config.json"))

What stands where is in docs/migration/flagai.md and docs/migration/modelcenter.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .builders import build_model
from .configs import ModelConfig
from .engine.devices import usable_device
from .errors import HubError, OptionError, TokenizerError, did_you_mean
from .formats import config_from_json, formats_registry
from .formats.modelcenter_tables import LAYOUTS
from .hub import resolve
from .models.model import Model as AnyModel
from .preprocessors.tokenizer import Tokenizer
from .tasks.task import Task
from .text_files import read_json

__all__ = ["TASKS", "AutoLoader", "ConfigDoor", "Model", "ModelDoor"]

TASKS: Mapping[str, str | None] = {
    "lm": None,  # what the files are of
    "seq2seq": "text_generation",
    "title-generation": "text_generation",
    "poetry": "text_generation",
    "masklm": "mask_filling",
    "classification": "text_classification",
    "semantic-matching": "text_classification",
    "sequence-labeling": "sequence_labeling",
    "sequence-labeling-crf": "sequence_labeling_crf",
    "sequence-labeling-gp": "sequence_labeling_global_pointer",
    "ner": "sequence_labeling",
    "ner-crf": "sequence_labeling_crf",
    "ner-gp": "sequence_labeling_global_pointer",
    "embedding": "text_embedding",
}
"""FlagAI's names of tasks, and ours."""

_FLAGAI = {
    "BertModel": ("bert", "backbone"),
    "BertForClsClassifier": ("bert", "text_classification"),
    "BertForEmbedding": ("bert", "text_embedding"),
    "BertForMaskLM": ("bert", "mask_filling"),
    "BertForSeq2seq": ("bert", "text_generation"),
    "BertForSequenceLabeling": ("bert", "sequence_labeling"),
    "BertForSequenceLabelingCRF": ("bert", "sequence_labeling_crf"),
    "BertForSequenceLabelingGP": ("bert", "sequence_labeling_global_pointer"),
    "GLMForMultiTokenCloze": ("glm", "cloze"),
    "GLMForSeq2Seq": ("glm", "text_generation"),
    "GLMForSequenceClassification": ("glm", "text_classification"),
    "GLMModel": ("glm", "text_generation"),
    "GPT2Model": ("gpt2", "text_generation"),
    "T5Model": ("t5", "text_generation"),
}
_MODELCENTER = {
    "Bert": ("bert", "mask_filling"),
    "CPM1": ("cpm1", "text_generation"),
    "CPM2": ("cpm2", "text_generation"),
    "GLM": ("glm", "text_generation"),
    "GPT2": ("gpt2", "text_generation"),
    "GPTj": ("gptj", "text_generation"),
    "Roberta": ("roberta", "mask_filling"),
    "T5": ("t5", "text_generation"),
}
_DOORS = {**_FLAGAI, **_MODELCENTER}


def __getattr__(name: str) -> Any:
    """The door of a model class of FlagAI or ModelCenter, or of a config class of ModelCenter."""
    if name in _DOORS:
        return ModelDoor(*_DOORS[name])
    if name.removesuffix("Config") in _MODELCENTER:
        return ConfigDoor(*_MODELCENTER[name.removesuffix("Config")])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{did_you_mean(name, [*_DOORS, *__all__])}")


class ModelDoor:
    """A model class of another system: each of its ways to make a model makes one of ours.

    Args:
        family: Registry name of the family; None: what the files say.
        task: Registry name of the task; None: what the files say.
    """

    def __init__(self, family: str | None = None, task: str | None = None) -> None:
        self.family, self.task = family, task

    def __call__(self, config: ModelConfig, **kwargs: Any) -> AnyModel:
        """Builds a model with random weights.

        Args:
            config: Of `init_from_json`'s file, or of a `ConfigDoor`.
            **kwargs: Config fields that win over it.
        """
        return build_model(config.name, config, **kwargs)

    def from_pretrain(
        self,
        download_path: str | os.PathLike[str] = "./checkpoints/",
        model_name: str = "RoBERTa-base-ch",
        only_download_config: bool = False,
        device: Any = "cpu",
        **kwargs: Any,
    ) -> AnyModel:
        """Loads a model, as FlagAI's classes do.

        Processes that do so at once download what is missing once.

        Args:
            download_path: Where the model's folder is, or where downloads are kept.
            model_name: Name of that folder, or a repository id "org/name" on the Hub.
            only_download_config: Build it from the config, with random weights.
            device: Where to put it.
            **kwargs: Config fields that win over the file's; also FlagAI's `class_num`.

        Raises:
            HubError: When there is no such folder and the name is no repository id.
        """
        folder = Path(download_path).expanduser() / model_name
        if folder.is_dir():
            if only_download_config:
                return self.init_from_json(folder / "config.json", device, **kwargs)
            return AnyModel.load(folder, task=self.task, device=device, **_own(kwargs))
        if model_name.count("/") != 1:
            raise HubError(
                f"there is no folder {str(folder)!r}, and {model_name!r} is no repository id. Put the model's files "
                'there, or give an id "org/name" of the Hub.'
            )
        return AnyModel.load(model_name, task=self.task, device=device, cache_dir=str(download_path), **_own(kwargs))

    def from_pretrained(
        self, pretrained_model_name_or_path: str | os.PathLike[str], config: ModelConfig | None = None, **kwargs: Any
    ) -> AnyModel:
        """Loads a model, as ModelCenter's classes do.

        Args:
            pretrained_model_name_or_path: A folder or a repository id.
            config: Config whose fields win over the file's.
            **kwargs: For `Model.load`.
        """
        fields = {} if config is None else {key: config[key] for key in config.fields()}
        return AnyModel.load(pretrained_model_name_or_path, task=kwargs.pop("task", self.task), **(fields | kwargs))

    def init_from_json(
        self,
        config_file: str | os.PathLike[str] = "./config.json",
        device: Any = "cpu",
        *,
        checkpoint_activations: bool | None = None,
        **kwargs: Any,
    ) -> AnyModel:
        """Builds a model with random weights from a config of FlagAI, ModelCenter or transformers.

        Args:
            config_file: The file.
            device: Where to put it.
            checkpoint_activations: Whether training computes activations twice to save memory; default: the file's.
            **kwargs: Fields that win over the file's, in its names or in ours.
        """
        path = Path(config_file)
        if checkpoint_activations is None:
            checkpoint_activations = bool(read_json(path, infinite=True).get("checkpoint_activations"))
        config = config_from_json(path, family=self.family, task=self.task, overrides=_own(kwargs))
        model = build_model(config.name, config)
        if checkpoint_activations:
            assert isinstance(model, Task)
            model.checkpoint_activations()
        return model.to(usable_device(device))

    from_json_file = init_from_json


class ConfigDoor:
    """A config class of ModelCenter: it gives configs of ours.

    Args:
        family: Registry name of the family.
        task: Registry name of the task.
    """

    def __init__(self, family: str, task: str) -> None:
        self.family, self.task = family, task

    def __call__(self, **kwargs: Any) -> ModelConfig:
        """A config from ModelCenter's settings; what is left out has the default of its latest version."""
        settings = {**LAYOUTS[self.family].defaults, **kwargs}
        name = f"{self.family}'s settings"
        config = formats_registry["modelcenter"].module_class().read_config(settings, name, self.family, self.task)
        assert isinstance(config, ModelConfig)
        return config

    def from_json_file(self, json_file: str | os.PathLike[str], **kwargs: Any) -> ModelConfig:
        """Reads a file; settings that win over it may be given by ModelCenter's names or ours."""
        return config_from_json(Path(json_file), family=self.family, task=self.task, overrides=kwargs)

    def from_pretrained(self, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> ModelConfig:
        """Reads the file of a folder or of a repository on the Hub."""
        return self.from_json_file(resolve(pretrained_model_name_or_path).get("config.json"), **kwargs)


class AutoLoader:
    """FlagAI's way to a model for a task.

    Args:
        task_name: One of `TASKS`, with dashes or underscores.
        model_name: Name of the model's folder, or a repository id "org/name" on the Hub.
        model_dir: Where that folder is, or where downloads are kept. A folder `<model_name>-<task_name>`, of a model
            that was trained for the task, is taken first.
        only_download_config: Build the model from its config, with random weights.
        device: Where to put it; default: the accelerator if there is one, else the CPU.
        **kwargs: Config fields that win over the file's; also FlagAI's `class_num`.

    Raises:
        OptionError: For an unknown task; lists all.
        HubError: When there is no such model.
    """

    def __init__(
        self,
        task_name: str = "lm",
        model_name: str = "RoBERTa-base-ch",
        model_dir: str | os.PathLike[str] = "./checkpoints/",
        only_download_config: bool = False,
        device: Any = None,
        **kwargs: Any,
    ) -> None:
        self.task_name = task_name.replace("_", "-")
        if self.task_name not in TASKS:
            known = ", ".join(sorted(TASKS))
            raise OptionError(f"unknown task {task_name!r}; known: {known}.{did_you_mean(self.task_name, TASKS)}")
        trained = f"{model_name}-{self.task_name}"
        name = trained if (Path(model_dir).expanduser() / trained).is_dir() else model_name
        door = ModelDoor(task=TASKS[self.task_name])
        self._model = door.from_pretrain(model_dir, name, only_download_config, device, **kwargs)

    def get_model(self) -> AnyModel:
        """The model."""
        return self._model

    def get_tokenizer(self) -> Tokenizer:
        """Its tokenizer.

        Raises:
            TokenizerError: When its files have none.
        """
        tokenizer = self._model.preprocessor.tokenizer
        if tokenizer is None:
            raise TokenizerError(f"{self._model.source} has no tokenizer. Put its vocabulary files beside the weights.")
        found: Tokenizer = tokenizer
        return found

    def get_task_name(self) -> str:
        """The task, with dashes."""
        return self.task_name


def _own(fields: Mapping[str, Any]) -> dict[str, Any]:
    """FlagAI's name for the number of labels as ours."""
    return {"num_labels" if key == "class_num" else key: value for key, value in fields.items()}


Model = ModelDoor()
"""The door of any model whose files say what it is."""
