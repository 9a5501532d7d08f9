"""Recipes in YAML, from Python and from the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from trained import beside_tests, model, rows

from hezar_like import Model
from hezar_like.cli import main
from hezar_like.errors import ConfigError
from hezar_like.training.recipes import read_recipe, trainer_of

RECIPE = """
model:
  path: start
  task: text_classification
dataset:
  name: text_classification
  columns: [text, label]
train_dataset: {path: train.tsv}
eval_dataset: {path: dev.tsv}
trainer:
  output_dir: out
  num_epochs: 2
  batch_size: 4
  use_cpu: true
  log_steps: ${trainer.batch_size}
  metrics: [accuracy, {name: f1, average: macro}]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    model("bert_mask_filling").save("start")
    for name, seed in (("train", 0), ("dev", 1)):
        text = "".join(f"{row['text']}\t{row['label']}\n" for row in rows(12, seed))
        Path(f"{name}.tsv").write_text(text, encoding="utf-8")
    Path("x.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def test_a_recipe_is_trained(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "x.yaml", "trainer.learning_rate=1e-3", "trainer.max_steps=5"]) == 0
    shown = capsys.readouterr().out
    assert "5 steps" in shown
    assert "evaluation.accuracy" in shown
    trained = Model.load("out", device="cpu")
    assert trained.config.id2label == {0: "dog", 1: "none"}
    assert main(["train", "x.yaml", "trainer.max_steps=6", "--resume"]) == 0
    assert "6 steps" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_command_saves_and_goes_on(place: Path, capsys: pytest.CaptureFixture[str], name: str, code: int) -> None:
    script = (
        "import os, signal, sys; from hezar_like.cli import main; from hezar_like.training import ProgressBar\n"
        "def told(bar, trainer):\n"
        f"    if trainer.state.global_step == 4: os.kill(os.getpid(), signal.{name})\n"
        "ProgressBar.on_step_end = told\n"
        "sys.exit(main(['train', 'x.yaml']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=beside_tests(), capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "error:" not in done.stderr
    assert sorted(path.name for path in Path("out/checkpoints").iterdir()) == ["00000003", "00000004"]
    assert main(["train", "x.yaml", "--resume"]) == 0
    assert "6 steps" in capsys.readouterr().out


def test_overrides_and_references(place: Path) -> None:
    recipe = read_recipe("x.yaml", ["trainer.batch_size=3", "model.hidden_dropout_prob=0.0"])
    assert recipe["trainer"]["log_steps"] == 3
    own = trainer_of(recipe)
    assert own.config.batch_size == 3
    assert own.model.config.hidden_dropout_prob == 0.0
    assert [metric.config.name for metric in own.metrics] == ["accuracy", "f1"]
    assert own.eval_dataset.id2label == own.train_dataset.id2label


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.yaml", "learning_rate=1"], "no section 'learning_rate'. Did you mean 'trainer.learning_rate'?"),
        (["x.yaml", "trainer.learning_rat=1"], "unknown key 'learning_rat'. Did you mean 'learning_rate'"),
        (["x.yaml", "trainer.learning_rate=fast"], "learning_rate is 'fast' (str); it must be a number"),
        (["x.yaml", "trainr.seed=1"], "no section 'trainr'. Did you mean 'trainer'"),
        (["x.yaml", "dataset.colums=[a]"], "unknown key 'colums'. Did you mean 'columns'"),
        (["x.yaml", "dataset.name=text_clasification"], "Did you mean 'text_classification'"),
        (["x.yaml", "model.hiden_size=8"], "'hidden_size'"),
        (["x.yaml", "model.name=bert"], "not both"),
        (["x.yaml", "trainer"], "is no override. Write it as trainer.learning_rate=1e-4"),
        (["x.yaml", "train_dataset.path=nowhere.tsv"], "nowhere.tsv"),
        (["x.yaml", "trainer.seed=${nothing}"], "nothing"),
        (["x.yaml", "trainer.resume_from_checkpoint=00000010"], 'in quotes, as in \'trainer.resume_from_checkpoint="00000100"\''),
        (["y.yaml"], "y.yaml: cannot be read (No such file or directory)"),
        (["x.yaml", "--resum"], "unknown option '--resum'. Did you mean '--resume'"),
    ],
)
def test_mistakes_are_told(place: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert message in error
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "broken.yaml: "),
        ("- 1", "broken.yaml: "),
        ("model: [", "broken.yaml"),
        ("modell: {}", "no section 'modell'. Did you mean 'model'"),
        ("trainer: 3", "trainer must be a mapping"),
        ("trainer: {}", "no dataset.name"),
        ("dataset: {name: text_classification}", "no data to train on"),
        ("dataset: {name: seq2seq}\ntrain_dataset: {path: train.tsv}", "needs model.path"),
    ],
)
def test_broken_files_are_told(place: Path, text: str, message: str) -> None:
    Path("broken.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        trainer_of(read_recipe("broken.yaml"))
    assert message in str(caught.value)


def test_the_recipes_here_are_read() -> None:
    folder = Path(__file__).parents[2] / "configs" / "train"
    from hezar_like.registry import datasets_registry
    from hezar_like.training import TrainerConfig

    files = sorted(folder.glob("*.yaml"))
    assert len(files) >= 3
    for file in files:
        recipe = read_recipe(file)
        TrainerConfig.from_dict(recipe["trainer"])
        entry = datasets_registry[recipe["dataset"].pop("name")]
        entry.config_class.from_dict(recipe["dataset"] | {"path": "x"})
