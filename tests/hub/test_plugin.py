"""The fixture that others get, in a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

PLUGIN = "hezar_like.testing.plugin"
TESTS = """
import os, subprocess, sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard, constants, get_token, hf_hub_download, scan_cache_dir
from huggingface_hub.errors import CacheNotFound, LocalEntryNotFoundError


def test_the_client_knows_this_hub_only(hub):
    assert HfApi().endpoint == hub.url and get_token() == hub.token
    api = HfApi()
    api.create_repo("tester/model")
    api.upload_file(path_or_fileobj=b"name: bert", path_in_repo="config.yaml", repo_id="tester/model")
    assert hub.files("tester/model") == {"config.yaml"}
    assert Path(hf_hub_download("tester/model", "config.yaml")).read_text() == "name: bert"
    ModelCard("---\\nlicense: mit\\n---\\n").push_to_hub("tester/model")
    assert b"mit" in hub.read("tester/model", "README.md")
    code = "from huggingface_hub import HfApi; print(HfApi().whoami()['name'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "tester\\n"


def test_every_test_has_a_hub_of_its_own(hub):
    assert hub.repo("tester/model") is None
    hub.add_file("tester/model", "config.yaml", b"1")
    hub.fault("/resolve/", "HEAD", status=404)
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download("tester/model", "config.yaml")
    assert [entry["status"] for entry in hub.requests("HEAD")] == [404]


def test_without_a_hub(hub_environment):
    assert not hub_environment.exists() and get_token() is None
    with pytest.raises(CacheNotFound):
        scan_cache_dir()


def test_all_is_as_before():
    assert constants.ENDPOINT == "https://huggingface.co" and "HF_TOKEN" not in os.environ
"""


def test_in_a_pytest_of_others(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(TESTS.replace("\\\\n", "\\n"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    found_by_itself = PLUGIN in {point.value for point in entry_points(group="pytest11")}
    named = [] if found_by_itself else ["-p", PLUGIN]
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *named, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert run.returncode == 0 and "4 passed" in run.stdout, run.stdout[-3000:]


def test_the_package_needs_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import hezar_like.testing, hezar_like.cli; print('fine')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "fine\n", run.stderr
