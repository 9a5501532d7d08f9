"""`hezar_like info`: what a name stands for, or what is in a folder or Hub repository."""

from __future__ import annotations

import argparse
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .listing import registries
from .parser import UsageError, suggestion
from .terminal import file_size, say, table

if TYPE_CHECKING:
    from ..configs import Config
    from ..formats import Checkpoint
    from ..registry import Registered, Registry
    from .parser import Commands, Parser

__all__ = ["add"]

# "bert" is a family and also its model without a task; the family tells more.
ORDER = ("families", "models", "tasks", "preprocessors", "formats", "datasets", "metrics", "embeddings")


def add(commands: Commands[Parser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "info",
        help="describe a name, or a model in a folder or on the Hub",
        description="Describe a registry name with all settings, or what loading a folder or Hub id would give. "
        "Of a folder only config and header are read; of a Hub repository the weights are downloaded into the cache.",
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a registry name, trainer for its settings, a folder (./ before it helps), or a Hub id",
    )
    parser.add_argument("--task", help="for a folder or Hub id: the task to build on the backbone")
    parser.add_argument("--revision", help="for a Hub id: branch, tag or commit")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Describes what the name stands for: the trainer, a registered thing, then a folder, then a repository."""
    if args.name == "trainer":
        from ..training import LoRAConfig, TrainerConfig

        for config_class in (TrainerConfig, LoRAConfig):
            _print_fields(config_class)
        return
    known = registries()
    entries = ((kind, known[kind].find(args.name)) for kind in ORDER)
    kind, entry = next(((kind, entry) for kind, entry in entries if entry is not None), ("", None))
    if entry is None:
        _describe_source(args, known)
        return
    if args.task is not None or args.revision is not None:
        raise UsageError(f"{args.name!r} is a registry name; --task and --revision are for folders and Hub ids")
    _print_facts(entry.name, _facts(kind, entry, known))
    _print_fields(entry.config_class)
    if Path(args.name).is_dir():
        say()
        say(f"There is also a folder of this name here; for it, type ./{args.name}")


def _facts(kind: str, entry: Registered, known: dict[str, Registry]) -> dict[str, str]:
    facts = {"kind": known[kind].kind, "description": entry.description, "where": _short_location(entry.where)}
    if kind == "families":
        facts["tasks"] = ", ".join(sorted(entry.module_class.heads))
    elif kind == "tasks":
        families = known["families"].values()
        facts["families"] = ", ".join(family.name for family in families if entry.name in family.module_class.heads)
    else:
        facts["class"] = getattr(entry.module_class, "__name__", str(entry.module_class))
    aliases = [alias for alias, name in known[kind].aliases.items() if name == entry.name]
    return facts | ({"also called": ", ".join(sorted(aliases))} if aliases else {})


def _print_facts(title: str, facts: dict[str, str]) -> None:
    say(title)
    for line in table([(f"{key}:", value) for key, value in facts.items()]):
        say(line)


def _print_fields(config_class: type[Config]) -> None:
    from ..field_docs import field_defaults, field_docs, field_types

    types, defaults = field_types(config_class), field_defaults(config_class)
    if types:
        say()
        say(f"{config_class.__name__}:")
    for name, meaning in field_docs(config_class).items():
        say(f"  {name}: {types[name]}" + (f" = {defaults[name]}" if name in defaults else "  (required)"))
        if meaning:
            say(f"      {meaning}")


def _describe_source(args: argparse.Namespace, known: dict[str, Registry]) -> None:
    from .. import hub
    from ..errors import HubError, RegistryError
    from ..formats import detect, formats_registry
    from ..formats.format import Request

    try:
        source = hub.resolve(args.name, revision=args.revision)
    except HubError as error:
        names = {name for registry in known.values() for name in [*registry, *registry.aliases]}
        near = suggestion(args.name, names)
        if "/" in args.name or not near:
            raise
        raise RegistryError(f"{args.name!r} is no registry name, no folder, and on the Hub: {error}.{near}") from None
    form = detect(source)
    checkpoint = form.open(source, Request(args.task))
    name = next(name for name, entry in formats_registry.items() if entry.module_class is type(form))
    facts = {"source": str(source), "format": name, **_checkpoint_facts(checkpoint)}
    facts["preprocessors"] = ", ".join(form.preprocessors(source)) or "-"
    _print_facts(args.name, facts)


def _checkpoint_facts(checkpoint: Checkpoint) -> dict[str, str]:
    entry, header = checkpoint.entry, checkpoint.weights.header.values()
    config = entry.config_class.from_dict(checkpoint.values)
    types = sorted({str(info.dtype).removeprefix("torch.") for info in header})
    labels = config.get("id2label")
    facts = {
        "model": entry.name,
        "class": entry.module_class.__name__,
        "task": getattr(entry.module_class, "task", "") or "-",
        "parameters": f"{_parameters(entry, config, checkpoint):,}",
        "tensors": f"{len(header):,}",
        "dtype": ", ".join(types),
        "size": file_size(checkpoint.weights.nbytes),
    }
    return facts | ({"labels": ", ".join(labels.values())} if labels else {})


def _parameters(entry: Registered, config: Config, checkpoint: Checkpoint) -> int:
    """The built model's; for a user's own class, which may need memory to build, what the files hold."""
    if not getattr(entry.config_class, "family", ""):
        return sum(math.prod(info.shape) for info in checkpoint.weights.header.values())
    import torch

    with torch.device("meta"):
        count: int = entry.module_class(config).num_parameters
    return count


def _short_location(where: str) -> str:
    """`file:line`, relative to the current folder or from the package's name on, whichever is shortest."""
    package = str(Path(__file__).parents[2]) + os.sep
    forms = [where, where.removeprefix(package)]
    with suppress(ValueError, OSError):  # another drive, or a current folder that is gone
        forms.append(os.path.relpath(where))
    return min(forms, key=len)
