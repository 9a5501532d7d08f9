"""From a model to files: all of it, or, on an error, nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from . import files, hub, text_files
from .configs import ModelConfig
from .errors import CheckpointError
from .formats import refuse_other_layouts
from .formats.native import WEIGHTS
from .formats.weights import save_weights, stale_weights
from .model_card import CURVES, CardOptions, ModelFacts, update_card
from .paths import check_name
from .preprocessors import PreprocessorsContainer
from .preprocessors.preprocessor import preprocessor_config_files

if TYPE_CHECKING:
    from .models.model import Model

__all__ = ["push_model", "save_model", "superseded"]


def superseded(filename: str, kept: Collection[str], existing: Iterable[str], *, with_preprocessor: bool) -> list[str]:
    """Files of a model that was saved before, which would be loaded with or instead of the new one's.

    Args:
        filename: Name of the new weights file.
        kept: Names that were written.
        existing: Names that are there.
        with_preprocessor: Whether preprocessors were written too.
    """
    existing = list(existing)
    names = {name for own in (filename, WEIGHTS[0]) for name in stale_weights(own, kept, existing)}
    if with_preprocessor:
        names |= set(preprocessor_config_files()) - set(kept)
    return sorted(names)


def save_model(
    folder: Path,
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    preprocessor: PreprocessorsContainer | None,
    *,
    filename: str,
    config_filename: str,
) -> Path:
    """Saves a model in the native layout; see `Model.save`.

    Args:
        folder: Where to.
        config: The model's config.
        tensors: Its weights, shared ones once.
        preprocessor: Its preprocessors; None leaves those in the folder alone.
        filename: Name of the weights file.
        config_filename: Name of the config file.

    Raises:
        CheckpointError: When a file cannot have such a name.
        ConfigError: When fields that were set since do not fit each other.
        HubError: When the folder cannot be written, or holds a model of another layout.
    """
    config.check()
    if not check_name(config_filename, "the name of the config file").endswith((".yaml", ".yml")):
        raise CheckpointError(f"cannot save a config as {config_filename!r}; end the name with .yaml")
    refuse_other_layouts(folder, own=("native",))
    with files.stage(folder) as staged:
        kept = save_weights(tensors, staged, filename)
        existing = [entry.name for entry in folder.iterdir()]
        # What is asked for here and written below stays: a name of this save is never deleted.
        for stale in superseded(filename, kept, existing, with_preprocessor=False):
            staged.remove(stale)
        if preprocessor is not None:
            for file, content in preprocessor.files().items():
                staged(file).write_bytes(content.encode() if isinstance(content, str) else content)
            for file in preprocessor_config_files():
                staged.remove(file)
        staged(config_filename).write_text(text_files.dump_yaml(config.to_dict()), encoding="utf-8")
    return folder


def push_model(
    model: Model,
    repo_id: str,
    *,
    filename: str | None,
    config_filename: str | None,
    push_preprocessor: bool,
    commit_message: str | None,
    private: bool | None,
    token: str | bool | None,
    revision: str | None,
    create_pr: bool,
    card: Mapping[str, Any] | None,
) -> str:
    """Pushes a model with its card; see `Model.push_to_hub`.

    Returns:
        The address of the commit or the pull request.

    Raises:
        OptionError: When `card` is wrong; nothing has been sent.
        HubError: When the push failed.
    """
    options = CardOptions.from_mapping(card)
    facts = ModelFacts(
        repo_id,
        model.config.name,
        model.task,
        model.pipeline_tag,
        model.num_parameters,
        labels=tuple(map(str, (model.config.get("id2label") or {}).values())),
        base_model=base_model(model, repo_id),
    )
    weights = filename or model.model_filename
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder, filename, push_preprocessor, config_filename)
        if options.curves:
            Path(folder, CURVES).write_text(options.curves, encoding="utf-8")
        saved = {p.relative_to(folder).as_posix(): p for p in sorted(Path(folder).rglob("*")) if p.is_file()}
        return hub.push(
            repo_id,
            saved,
            commit_message=commit_message or f"Upload {model.config.name}",
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
            delete=lambda old: superseded(weights, saved, old, with_preprocessor=push_preprocessor),
            card=lambda existing: update_card(existing, facts, options),
        )


def base_model(model: Model, repo_id: str) -> str:
    """The repository that a model was loaded from, when it is pushed to another one."""
    origin = (model.source.repo_id if model.source is not None else None) or ""
    return "" if origin == repo_id else origin
