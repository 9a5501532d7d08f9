"""The wheel that is built has all that is needed, and works where the source tree is not."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIFE = """
import sys
from pathlib import Path
import hezar_like
from hezar_like import Model, build_model, list_available_models
from hezar_like.cli import main

installed, source = sys.argv[1:]
assert Path(hezar_like.__file__).is_relative_to(installed), hezar_like.__file__
assert len(list_available_models()) > 50
tokenizer = hezar_like.build_preprocessor("wordpiece_tokenizer", vocab_size=60, min_frequency=1, show_progress=False)
tokenizer.train_from_iterator(["the cat", "a dog"])
sizes = dict(vocab_size=len(tokenizer), hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8)
model = build_model("bert_text_classification", num_labels=2, **sizes)
model.preprocessor = tokenizer
model.save("model")
assert Model.load("model").predict("the cat") == model.predict("the cat")
assert main(["list", "models"]) == 0 and main(["predict", "model", "the cat"]) == 0
import hezar_like.testing.hub_server
from importlib import metadata
outside = [m.__file__ for n, m in sys.modules.items() if n.startswith("hezar_like") and not m.__file__.startswith(installed)]
assert outside == [], outside
assert not any(str(getattr(m, "__file__", "")).startswith(f"{source}/hezar_like") for m in list(sys.modules.values()))
print("lived")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy without what git ignores, as the source distribution has it; no network is used."""
    place = tmp_path_factory.mktemp("wheel")
    copy = place / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / "hezar_like").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = copy / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run = subprocess.run([*command, "--wheel-dir", str(place), str(copy)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    (built,) = place.glob("hezar_like-*.whl")
    return built


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    found = (path for path in (ROOT / "hezar_like").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert {name for name in names if ".dist-info/" not in name} == {path.relative_to(ROOT).as_posix() for path in found}
    assert "hezar_like/py.typed" in names and "hezar_like/models/bert.py" in names
    assert any(name.endswith("/LICENSE") for name in names) and any(name.endswith("entry_points.txt") for name in names)


def test_it_works_without_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(installed)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    (tmp_path / "life.py").write_text(LIFE)
    (tmp_path / "elsewhere").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, "-P", str(tmp_path / "life.py"), str(installed), str(ROOT)],
        cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0 and run.stdout.endswith("lived\n"), run.stderr[-2000:]
