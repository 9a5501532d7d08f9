"""The command line, mostly in this process: what is printed, where errors go, and with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Fails, json_lines, run_process
from huggingface_hub import constants

from hezar_like import Model
from hezar_like.cli import main

# -- the other commands ---------------------------------------------------------------------------------------------


def test_list(fails: Fails, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {entry["name"] for entry in listed["models"]} >= {"bert", "bert_text_classification"}
    assert all(entry["description"] and entry["where"] for entry in listed["formats"])
    assert main(["list", "tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["text_embedding", "vectors", "of", "texts"] for line in lines)
    assert "Did you mean 'models'?" in fails("list", "model")


def test_info_of_names(
    fails: Fails, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["info", "bert"]) == 0
    family = capsys.readouterr().out
    assert "where:        hezar_like/models/bert.py:" in family
    assert "mask_filling, " in family and "sequence_labeling" in family
    assert "  hidden_size: int = 768\n      Size of the hidden states." in family
    assert main(["info", "ner"]) == 0
    assert "families:     bert" in capsys.readouterr().out
    assert "Did you mean 'bert_text_classification'" in fails("info", "bert_text_clasification")
    assert "does not exist" in fails("info", "./nothing\nhere")


def test_info_of_the_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "trainer"]) == 0
    shown = capsys.readouterr().out
    for line in ("TrainerConfig:", "  num_epochs: int = 1", "LoRAConfig:", "  targets: list[str] = ['q', 'v']"):
        assert line in shown.splitlines()


def test_info_of_a_folder(classifier: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", classifier]) == 0
    facts = dict(line.strip().split(":", 1) for line in capsys.readouterr().out.splitlines()[1:])
    facts = {key: value.strip() for key, value in facts.items()}
    assert facts["parameters"] == f"{Model.load(classifier).num_parameters:,}"
    assert (facts["format"], facts["model"], facts["dtype"]) == ("native", "bert_text_classification", "float32")
    assert facts["preprocessors"] == "wordpiece_tokenizer"
    assert facts["labels"] == "bad\\x1b[31m\\u202elabel, good, so-so"


def test_export_and_convert_keep_the_model(
    classifier: str, tmp_path: Path, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign, native = str(tmp_path / "foreign"), str(tmp_path / "native")
    assert main(["export", classifier, "transformers", foreign]) == 0
    assert "config.json" in capsys.readouterr().out
    (tmp_path / "native").mkdir()
    (tmp_path / "native" / "notes.txt").write_text("mine")
    assert main(["convert", foreign, native]) == 0
    report = capsys.readouterr().out
    assert "model_config.yaml" in report
    assert "notes.txt" not in report
    assert Model.load(native).predict(["a dog"]) == Model.load(classifier).predict(["a dog"])
    assert "are the same" in fails("convert", foreign, f"{foreign}/.")
    assert "Did you mean 'transformers'" in fails("export", classifier, "transformer", native)


def test_warnings_of_the_library_are_lines(classifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign = str(tmp_path / "foreign")
    assert main(["export", classifier, "transformers", foreign]) == 0
    assert main(["convert", foreign, str(tmp_path / "filler"), "--task", "mask_filling"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("hezar_like: warning: ") for line in lines] == [True, True]
    assert "are new and random" in lines[1]


def test_doctor(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blob").write_bytes(b"x" * 2000)
    (tmp_path / "link").symlink_to("blob")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    assert main(["doctor"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert torch.__version__ in rows["torch"]
    assert "soundfile" in rows
    assert torch.backends.cpu.get_cpu_capability() in rows["cpu"]
    assert "(2.0 kB)" in rows["cache"]
    assert "yes (HF_HUB_OFFLINE=1" in rows["offline"]
    assert rows["token"].split() == ["token", "yes"]


# -- the program ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "code", "reason"),
    [
        (RuntimeError("two\n  lines\x1b"), 1, "unexpected RuntimeError: two lines\\x1b. This should not happen"),
        (ValueError(""), 1, "unexpected ValueError"),
    ],
)
def test_unexpected_errors(
    raised: Exception,
    code: int,
    reason: str,
    classifier: str,
    fails: Fails,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: Any, **__: Any) -> Any:
        raise raised

    monkeypatch.setattr(Model, "load", load)
    assert reason in fails("predict", classifier, "a", code=code)
    monkeypatch.setenv("HEZAR_LIKE_DEBUG", "1")
    assert main(["predict", classifier, "a"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_leaves_nothing_behind(
    classifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("hezar_like.engine.prediction.stream", interrupted)
    assert main(["predict", classifier, "a", "--output", str(tmp_path / "out.jsonl")]) == 130
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_no_command_a_wrong_one_and_the_version(fails: Fails, capsys: pytest.CaptureFixture[str]) -> None:
    assert "COMMAND" in fails()
    assert "unknown command 'predct'. Did you mean 'predict'?" in fails("predct")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("hezar_like ")


def test_help_and_wrong_arguments_do_not_import_torch() -> None:
    commands = [["--help"], ["list", "--help"], ["predict"], ["predict", "m", "--set", "x"], ["export", "--x"], ["x"]]
    code = f"import sys; from hezar_like.cli import main; codes = [main(c) for c in {commands}]; "
    code += "print(codes, [name for name in ('torch', 'transformers', 'huggingface_hub') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[0, 0, 2, 2, 2, 2] []"


def test_a_pipe_in_any_locale(classifier: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = run_process("predict", classifier, input="هزار 🙂\n", env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert json_lines(result.stdout)[0]["text"] == "هزار 🙂"


def test_the_file_that_standard_output_goes_to_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "hezar_like", "predict", "no/model", "a", "--output", str(target)]
    with target.open("w") as file:
        result = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, "of its own" in result.stderr) == (2, True)


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-m", "hezar_like", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
