"""The table of the README names at least one test for each row, and only tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROWS = dict(re.findall(r"^\| (\d+) \| [^\n]+? \| (`.+`) \|$", Path(__file__).with_name("README.md").read_text(), re.MULTILINE))


def test_every_row_is_there() -> None:
    assert [int(row) for row in ROWS] == list(range(1, 64))


@pytest.mark.parametrize("row", ROWS)
def test_its_tests_exist(row: str) -> None:
    for name in re.findall("`([^`]+)`", ROWS[row]):
        file, _, function = name.partition("::")
        tree = ast.parse((TESTS / file).read_text())
        assert function.startswith("test_")
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_tests_that_the_promises_name_exist() -> None:
    """SECURITY.md names tests of functions, and whole files of tests."""
    text = (TESTS.parent / "SECURITY.md").read_text()
    files = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", text)
    assert len(files) > 20
    for file, function in files:
        assert f"def {function}" in (TESTS / file).read_text(), (file, function)
