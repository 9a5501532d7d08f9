"""From files to a model: every tensor of a checkpoint is accounted for before one of them is read."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .configs import ModelConfig
from .engine.memory import ROWS, read_by_parts, release
from .errors import CheckpointError, ConfigError, OptionError, did_you_mean
from .formats import Checkpoint, detect
from .formats.format import Request
from .formats.weights import TensorInfo
from .hub import Source
from .keymap import KeyMap, Part, Stored
from .layers import assign, materialize, without_memory
from .paths import check_name
from .registry import tasks_registry

__all__ = ["fitting_tensors", "load_model", "misfits", "unique_tensors"]

logger = logging.getLogger("hezar_like")
M = TypeVar("M", bound=nn.Module)
WEIGHT_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
LISTED = 20
COMPARED = 1000  # names, when the nearest is looked for; a file may have millions


def load_model(
    cls: type[M],
    source: Source,
    *,
    task: str | None,
    overrides: dict[str, Any],
    model_filename: str | None,
    config_filename: str | None,
    with_preprocessor: bool,
    dtype: str | torch.dtype | None,
) -> M:
    """Loads what `Model.load` promises; see there for the arguments."""
    kind = _weight_type(dtype)
    if config_filename:
        check_name(config_filename, "the name of the config file")
    form = detect(source, config_filename)
    own_task = getattr(cls, "task", "")
    task = tasks_registry[task].name if task is not None else None
    options = {key: overrides[key] for key in form.options if key in overrides}
    overrides = {key: value for key, value in overrides.items() if key not in options}
    checkpoint = form.open(source, Request(task or own_task or None, model_filename, config_filename, options))
    module_class = checkpoint.entry.module_class
    if not issubclass(module_class, cls):
        raise ConfigError(
            f"{source} holds a {module_class.__name__} ({checkpoint.entry.name!r}), not a {cls.__name__}. "
            "Load it with Model.load."
        )
    fields, others = checkpoint.entry.config_class, inspect.signature(getattr(cls, "load", load_model)).parameters
    for key in overrides:
        if key not in fields.fields() and key not in fields.aliases:
            raise ConfigError(
                f"load has no parameter {key!r}, nor has {fields.__name__} such a field."
                f"{did_you_mean(key, [*fields.fields(), *others, *form.options])}"
            )
    config = fields.from_dict(checkpoint.values).update(overrides)
    if isinstance(config, ModelConfig) and config.family:
        with without_memory():
            model = module_class(config)
        _fill(model, checkpoint, kind, new_labels=bool({"num_labels", "id2label"} & overrides.keys()))
    else:
        model = module_class(config)
        match = _match(model, checkpoint, {}, [])
        _refuse(match, checkpoint)
        model.to(kind or _common_type(match, checkpoint))
        # Not strict: a parameter with two names is in the file under one, and all of them are accounted for.
        state = {name: checkpoint.weights[keys[0][0]] for name, keys in match.sources.items()}
        nn.Module.load_state_dict(model, state, strict=False)
    model.source = source
    if with_preprocessor:
        model.preprocessor = form.preprocessors(source)
    result: M = model
    return result


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A model's state with shared parameters only once, under their first name."""
    seen: dict[int, str] = {}
    shared = {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if seen.setdefault(id(parameter), name) != name
    }
    return {name: tensor for name, tensor in model.state_dict().items() if name not in shared}


def fitting_tensors(model: nn.Module, state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors whose name and shape the model has.

    Raises:
        CheckpointError: When there is none, though both have some.
    """
    own = model.state_dict()
    fitting = {name: t for name, t in state_dict.items() if name in own and own[name].shape == t.shape}
    if own and state_dict and not fitting:
        raise CheckpointError(
            f"none of the {len(state_dict)} given weights fits: the model has {_list(own)}, given are "
            f"{_list(state_dict)}. Load a checkpoint of another layout with Model.load."
        )
    return fitting


def misfits(
    model: nn.Module, state_dict: Mapping[str, Any], fitting: Mapping[str, Tensor], absent: Sequence[str]
) -> tuple[list[str], list[str]]:
    """What a state dict lacks, and what of it does not fit, both of which a warning says in the words of Hezar.

    Args:
        model: Into which it was loaded.
        state_dict: All that was given.
        fitting: What of it was loaded.
        absent: Names of the model that were not in it, a shared weight under all of its names.
    """
    unique = unique_tensors(model)
    missing = [key for key in absent if key in unique]
    unexpected = [key for key in state_dict if key not in fitting]
    if missing or unexpected:
        logger.warning(
            "Partially loading the weights as the model architecture and the given state dict are incompatible!\n"
            "Ignore this warning in case you plan on fine-tuning this model\n"
            f"Incompatible keys: {unexpected}\nMissing keys: {missing}"
        )
    return missing, unexpected


@dataclass
class _Match:
    """What becomes of every tensor.

    Attributes:
        expected: The model's own tensors by name, shared ones once.
        sources: For each the names in the file, and what of the tensors there it is; several are copies of one.
        other_heads: Names in the file of heads for other tasks.
        unexpected: Names in the file nobody knows.
        misshaped: Names of the model whose tensor in the file has another shape.
    """

    expected: dict[str, Tensor]
    sources: dict[str, list[tuple[str, Part]]] = field(default_factory=lambda: defaultdict(list))
    other_heads: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshaped: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        return [name for name in self.expected if name not in self.sources]


def _match(model: nn.Module, checkpoint: Checkpoint, tied: Mapping[str, str], tables: list[KeyMap]) -> _Match:
    state = model.state_dict() if tied else unique_tensors(model)
    match = _Match({name: tensor for name, tensor in state.items() if name not in tied})
    keymap, others = (tables[0], tables[1:]) if tables else (None, [])
    for key, info in checkpoint.weights.header.items():
        parts = keymap.parts(key) if keymap is not None else None
        for part in [Part(key, Stored(key))] if parts is None else parts:
            # Heads of two tasks may share published names, such as BERT's `classifier`: only their own task uses them.
            of_head = part.name.startswith("head.") and not checkpoint.own_task and keymap is not None
            if of_head and not (parts is not None and keymap is not None and keymap.in_backbone(key)):
                match.other_heads.append(key)
                continue
            native = tied.get(part.name, part.name)
            if native not in match.expected:
                of_unknown_head = checkpoint.unknown_head and keymap is not None and not key.startswith(keymap.prefix)
                elsewhere = parts is None and (of_unknown_head or any(other.knows(key) for other in others))
                (match.other_heads if elsewhere else match.unexpected).append(key)
            else:
                match.sources[native].append((key, part))
                if tuple(match.expected[native].shape) != part.shape(info.shape):
                    match.misshaped.append(native)
    return match


def _fill(model: Any, checkpoint: Checkpoint, dtype: torch.dtype | None, *, new_labels: bool) -> None:
    """Gives a task's model on meta its weights: the file's, and random ones for a head the file does not have."""
    table = checkpoint.tables
    tasks = [model.task, *(other for other in model.family.heads if other != model.task)]
    tables = [] if table is None else [table(model.config, task) for task in tasks]
    match = _match(model, checkpoint, model.tied, tables)
    relabeled = [name for name in match.misshaped if new_labels and name.startswith("head.out.")]
    for name in relabeled:
        match.misshaped.remove(name)
        del match.sources[name]
    fresh = _new_head(model, match, may_lack_head=bool(tables) or not checkpoint.own_task or new_labels)
    _refuse(match, checkpoint, allowed=fresh)
    if match.other_heads:
        logger.warning(
            f"{checkpoint.weights.description} also has weights of heads for other tasks: {_list(match.other_heads)}."
        )
    if fresh:
        reason = "has other labels" if relabeled else "does not have them"
        logger.warning(
            f"These weights of {model.config.name!r} are new and random, because {checkpoint.weights.description} "
            f"{reason}: {_list(fresh)}. Train the model before you use it."
        )
    dtype = dtype or _common_type(match, checkpoint)
    state = {
        name: _as_type(_read(name, keys, checkpoint), dtype if match.expected[name].is_floating_point() else None)
        for name, keys in match.sources.items()
    }
    assign(model, state | {name: tensor.to(dtype) for name, tensor in fresh.items()})
    model.tie()


def _new_head(model: Any, match: _Match, *, may_lack_head: bool) -> dict[str, Tensor]:
    """Random weights for what is missing, where that is the last layer of the head, whole, and maybe more of it."""
    missing = set(match.missing)
    last_layer = {name for name in match.expected if name.startswith("head.out.")} or {
        name for name in match.expected if name.startswith("head.")
    }
    if not missing or not may_lack_head or not last_layer <= missing:
        return {}
    if any(not name.startswith("head.") for name in missing):
        return {}
    with without_memory():
        head = model.family.heads[model.task].build(model.config)
    materialize(head, torch.device("cpu"))
    model.family.initialize(head, model.config)
    return {f"head.{name}": tensor for name, tensor in head.state_dict().items() if f"head.{name}" in missing}


def _refuse(match: _Match, checkpoint: Checkpoint, allowed: Mapping[str, Tensor] | None = None) -> None:
    """Raises one error that lists all that does not fit."""
    header, missing = checkpoint.weights.header, [name for name in match.missing if name not in (allowed or {})]
    problems = []
    if missing:
        problems.append(f"missing: {_list(missing, near=match.unexpected)}")
    if match.unexpected:
        problems.append(f"unexpected: {_list(match.unexpected, near=missing)}")
    if match.misshaped:
        shapes = [
            f"{name!r} is {_shape_in_file(match, name, header)!s:.200} in the file, {list(match.expected[name].shape)} "
            "in the model"
            for name in match.misshaped[:LISTED]
        ]
        problems.append("of another shape: " + ", ".join(shapes))
    wrong_types = {
        f"{name!r} ({str(header[keys[0][0]].dtype).removeprefix('torch.')})"
        for name, keys in match.sources.items()
        if not _fits(match.expected[name].dtype, header[keys[0][0]].dtype)
    }
    if wrong_types:
        problems.append(f"of a type that does not fit: {', '.join(sorted(wrong_types)[:LISTED])}")
    if problems:
        raise CheckpointError(
            f"the weights in {checkpoint.weights.description} do not fit {checkpoint.entry.name!r}; "
            f"{'; '.join(problems)}. Check that config and weights belong together."
        )


def _fits(own: torch.dtype, given: torch.dtype) -> bool:
    """Whether a tensor of a type may be loaded: weights of any precision, anything else, such as counts, as it is."""
    return given in WEIGHT_TYPES if own.is_floating_point else given == own


def _shape_in_file(match: _Match, name: str, header: Mapping[str, TensorInfo]) -> list[int]:
    key, part = match.sources[name][0]
    return list(part.shape(header[key].shape))


def _read(name: str, keys: list[tuple[str, Part]], checkpoint: Checkpoint) -> Tensor:
    """Reads a tensor; where the file holds it under several names, they must agree."""
    tensor, *copies = (part.read(checkpoint.weights[key]) for key, part in keys)
    for (key, _), copy in zip(keys[1:], copies, strict=True):
        if copy.data_ptr() != tensor.data_ptr() and not torch.equal(copy, tensor):
            raise CheckpointError(
                f"{checkpoint.weights.description}: {keys[0][0]!r} and {key!r} should be the same tensor and differ. "
                "If the model was trained with separate ones, load it with tie_word_embeddings=False."
            )
    return tensor


def _as_type(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor in another type; the memory of the file's own is not needed after that."""
    if dtype is None or tensor.dtype == dtype:
        return tensor
    if not tensor.ndim:
        return tensor.to(dtype)
    converted = torch.empty_like(tensor, dtype=dtype)
    for part, result in zip(read_by_parts(tensor), torch.split(converted, ROWS), strict=True):
        result.copy_(part)
    release(tensor)
    return converted


def _weight_type(dtype: str | torch.dtype | None) -> torch.dtype | None:
    names = {str(kind).removeprefix("torch."): kind for kind in WEIGHT_TYPES}
    if dtype is None or dtype in WEIGHT_TYPES:
        return dtype if isinstance(dtype, torch.dtype) else None
    if isinstance(dtype, str) and dtype in names:
        return names[dtype]
    raise OptionError(f"dtype is {dtype!r}, which is no type for weights.{did_you_mean(dtype, names)}")


def _common_type(match: _Match, checkpoint: Checkpoint) -> torch.dtype:
    """The file's type; the widest, where it has several."""
    kinds = {
        # What is scaled while it is read is rounded anew, and may have been scaled to fit into half precision.
        torch.promote_types(checkpoint.weights.header[key].dtype, torch.float32)
        if part.scaled
        else checkpoint.weights.header[key].dtype
        for name, [(key, part), *_] in match.sources.items()
        if match.expected[name].is_floating_point()
    }
    result = torch.get_default_dtype() if not kinds else kinds.pop()
    for kind in kinds:
        result = torch.promote_types(result, kind)
    return result


def _list(names: Any, near: list[str] | None = None) -> str:
    """Names with repr, as they come from files; with the nearest of some others."""
    shown = []
    for name in list(names)[:LISTED]:
        close = difflib.get_close_matches(name, (near or [])[:COMPARED], n=1, cutoff=0.8)
        shown.append(f"{name!r:.100}" + (f" (near {close[0]!r:.100})" if close else ""))
    more = len(names) - LISTED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
