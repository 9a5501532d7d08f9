"""A training as a YAML file: the model, the data, and the settings of the Trainer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..builders import build_dataset, build_model
from ..errors import ConfigError, did_you_mean, one_line
from ..models.model import Model
from ..preprocessors import Preprocessor
from ..registry import datasets_registry
from .config import TrainerConfig
from .trainer import Trainer

__all__ = ["read_recipe", "trainer_of"]

SECTIONS = ("model", "dataset", "train_dataset", "eval_dataset", "trainer")


def read_recipe(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Reads a recipe. It is the user's own, so that values may refer to others, as in ${trainer.seed}.

    Args:
        path: The YAML file.
        overrides: Values that win, as `trainer.learning_rate=1e-4`.

    Returns:
        Plain data by section.

    Raises:
        ConfigError: When the file cannot be read, or has an unknown section; an override without `=` is one, too.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    file, overrides = Path(path).expanduser(), list(overrides)
    for item in overrides:
        key, equals, _ = item.partition("=")
        if not equals:
            raise ConfigError(f"{item!r} is no override. Write it as trainer.learning_rate=1e-4.")
        _check_section(key.partition(".")[0], f"the override {item!r}")
    try:
        loaded = OmegaConf.load(file)
        merged = OmegaConf.merge(loaded, OmegaConf.from_dotlist(overrides))
        values: Any = OmegaConf.to_container(merged, resolve=True)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror or error}). Check the path.") from None
    except (YAMLError, OmegaConfBaseException, TypeError, ValueError) as error:
        reason = one_line(error)
        raise ConfigError(f"{file}: {reason}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: a recipe must be a mapping with the sections {', '.join(SECTIONS)}.")
    for section, content in values.items():
        _check_section(str(section), str(file))
        if content is not None and not isinstance(content, dict):
            raise ConfigError(f"{file}: {section} must be a mapping of names to values, not {content!r}.")
    return {section: values.get(section) or {} for section in SECTIONS}


def trainer_of(recipe: Mapping[str, Mapping[str, Any]]) -> Trainer:
    """Builds what a recipe says.

    The model is loaded from `model.path`, or built as `model.name`, with `model.preprocessor` for the tokenizer of
    another one; everything else there is a field of its config. `dataset` has `name`, and fields of both datasets.
    Labels are those of the training data.

    Args:
        recipe: Of `read_recipe`.

    Raises:
        ConfigError, RegistryError, DataError: For unknown keys and wrong values.
    """
    if type(recipe["trainer"].get("resume_from_checkpoint")) is int:
        raise ConfigError(
            "trainer.resume_from_checkpoint was read as a number. Write the checkpoint's name in quotes, as in "
            "'trainer.resume_from_checkpoint=\"00000100\"'."
        )
    config = TrainerConfig.from_dict(recipe["trainer"])
    shared = dict(recipe["dataset"])
    name = shared.pop("name", None)
    if name is None:
        raise ConfigError("the recipe has no dataset.name. Give the kind of the data, such as text_classification.")
    labelled = "id2label" in datasets_registry[name].config_class.fields()
    fields = {key: shared | dict(recipe[key]) for key in ("train_dataset", "eval_dataset")}
    if not fields["train_dataset"].keys() & {"path", "split"}:
        raise ConfigError("the recipe has no data to train on. Give train_dataset.path.")
    train = _dataset(name, fields["train_dataset"]) if labelled else None
    model_fields = dict(recipe["model"])
    if train is not None and "id2label" not in model_fields and "num_labels" not in model_fields:
        model_fields["id2label"] = train.id2label
    model = _model(model_fields)
    if train is None:
        train = _dataset(name, fields["train_dataset"], model.preprocessor)
    else:
        train.preprocessor = model.preprocessor
        fields["eval_dataset"].setdefault("id2label", train.id2label)
    measured = _dataset(name, fields["eval_dataset"], model.preprocessor) if recipe["eval_dataset"] else None
    return Trainer(model, config, train, measured)


def _dataset(name: str, fields: Mapping[str, Any], preprocessor: Any = None) -> Any:
    values = dict(fields)
    return build_dataset(name, split=values.pop("split", None), preprocessor=preprocessor, **values)


def _model(fields: dict[str, Any]) -> Model:
    path, name, preprocessor = (fields.pop(key, None) for key in ("path", "name", "preprocessor"))
    if (path is None) == (name is None):
        raise ConfigError("the recipe needs model.path, to load a model, or model.name, to build one; not both.")
    model = build_model(name, **fields) if path is None else Model.load(path, device="cpu", **fields)
    if preprocessor is not None:
        model.preprocessor = Preprocessor.load(preprocessor, force_return_dict=True)
    return model


def _check_section(name: str, where: str) -> None:
    if name in SECTIONS:
        return
    owner = next((f"trainer.{name}" for field in TrainerConfig.fields() if field == name), None)
    hint = f" Did you mean {owner!r}?" if owner else did_you_mean(name, SECTIONS)
    raise ConfigError(f"{where}: there is no section {name!r}.{hint}")
