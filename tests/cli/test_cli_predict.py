"""`hezar_like predict`: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import copy
import io
import json
import os
import sys
from pathlib import Path

import pytest
from commands import Fails, json_lines
from tiny_models import tiny_model

from hezar_like import Model
from hezar_like.cli import main


def pipe_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


# -- predict: inputs and outputs ------------------------------------------------------------------------------------


def test_arguments_are_predicted_wherever_they_stand(classifier: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--device", "cpu", "--set", "top_k=2", "scores=sigmoid", "--batch-size", "1"]
    assert main(["predict", classifier, "the fox", *options, "a dog", "--", "-x"]) == 0
    lines = json_lines(capsys.readouterr().out)
    expected = Model.load(classifier, device="cpu").predict(["the fox", "a dog", "-x"], top_k=2, scores="sigmoid")
    assert [line["text"] for line in lines] == ["the fox", "a dog", "-x"]
    assert [[label["label"] for label in line["result"]] for line in lines] == [
        [label["label"] for label in result] for result in expected
    ]
    assert lines[0]["result"][0]["score"] == pytest.approx(expected[0][0]["score"], abs=1e-6)


def test_a_file_keeps_its_other_keys_and_appears_whole(
    classifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "new" / "out.jsonl"
    source.write_bytes('\ufeff"هزار"\r\n\n{"id": 7, "text": "a dog", "text_pair": "the\u2028fox"}\n'.encode())
    assert main(["predict", classifier, "--input", str(source), "--output", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert "هزار" in target.read_text(encoding="utf-8")
    first, second = (json.loads(line) for line in target.read_text(encoding="utf-8").split("\n")[:-1])
    assert first["text"] == "هزار"
    assert (second["id"], second["text_pair"]) == (7, "the\u2028fox")
    (expected,) = Model.load(classifier).predict([("a dog", "the\u2028fox")])[0]
    assert second["result"] == [expected | {"score": pytest.approx(expected["score"], abs=1e-6)}]
    assert [path.name for path in target.parent.iterdir()] == ["out.jsonl"]


@pytest.mark.parametrize(
    ("data", "options", "texts"),
    [
        (b"one\n\ntwo", [], ["one", "", "two"]),
        (b'{"text": "one"}\n', ["--input", "-"], ['{"text": "one"}']),
        (b'{"text": "one"}\n"two"\n', ["--input-format", "jsonl"], ["one", "two"]),
        (b"", [], []),
    ],
)
def test_standard_input(
    data: bytes,
    options: list[str],
    texts: list[str],
    classifier: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe_in(monkeypatch, data)
    assert main(["predict", classifier, *options]) == 0
    assert [line["text"] for line in json_lines(capsys.readouterr().out)] == texts


def test_tensors_become_lists(folders: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", folders["text_embedding"], "the fox", "--dtype", "bfloat16"]) == 0
    (line,) = json_lines(capsys.readouterr().out)
    assert [type(number) for number in line["result"]["embedding"]] == [float] * 32


def test_input_without_end_is_streamed(classifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.BytesIO):
        read_lines = 0

        def readline(self, size: int | None = -1) -> bytes:  # type: ignore[override]
            self.read_lines += 1
            return b"a dog\n"

    class ClosedSoon(io.StringIO):
        def write(self, text: str) -> int:
            if self.tell() > 200:
                raise BrokenPipeError
            return super().write(text)

    endless = Endless()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(endless))
    monkeypatch.setattr(sys, "stdout", ClosedSoon())
    assert main(["predict", classifier]) == 141
    assert endless.read_lines <= 2048


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"3", "is int"),
        (b'{"txt": "a"}', "Did you mean 'txt'?"),
        (b'{"text": null}', "holds NoneType"),
        (b'{"text": "a", "text_pair": 1}', '"text_pair" holds int'),
        (b'{"text": "a", "n": NaN}', "NaN is not JSON"),
        (b'{"text": "a", "n": 1e999}', "cannot be written as JSON"),
        (b'{"text": "a", "result": 1}', 'the key "result"'),
        (b'"\\ud800"', "not Unicode text"),
        (b'"\xff"', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(
    line: bytes, reason: str, classifier: str, tmp_path: Path, fails: Fails
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b'"fine"\n' + line + b"\n")
    target.write_text("old")
    message = fails("predict", classifier, "--input", str(source), "--output", str(target))
    assert f"{source}, line 2: " in message
    assert reason in message
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_an_input_the_model_refuses_is_named_by_its_line(folders: dict[str, str], tmp_path: Path, fails: Fails) -> None:
    source = tmp_path / "in.txt"
    source.write_text("a [MASK]\n" * 1099 + "a dog\n")  # in the second window of inputs
    message = fails("predict", folders["mask_filling"], "--input", str(source))
    assert f"{source}, line 1100: has no [MASK]" in message


def test_a_terminal_gets_text_without_control_characters(
    classifier: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["predict", classifier, "می‌روم\x07", "--set", "top_k=null"]) == 0
    heading, *labels = capsys.readouterr().out.splitlines()
    assert heading == "می‌روم\\x07"
    assert any("label=bad\\x1b[31m\\u202elabel  score=0." in line for line in labels)
    assert len(labels) == 3


# -- predict: wrong arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["a", "--set", "topk=3"], "Did you mean 'top_k'?"),
        (["a", "--set", "top_k=[1"], "--set top_k, line 2: did not find expected"),
        (["a", "--set", "top_k=${oc.env:HOME}"], "interpolation is not allowed"),
        (["a", "--set", "batch_size=3"], "Use --batch-size"),
        (["a", "--set", "top_k=1", "top_k=2"], "twice"),
        (["--set", "top_k=1", "a text"], "Put texts before --set"),
        (["a", "--batch-size", "0"], "positive integer or auto"),
        (["a", "--ouput", "x"], "unknown option '--ouput'. Did you mean '--output'"),
        (["a", "--task", "mask_filing"], "Did you mean 'mask_filling'"),
        (["a", "--device", "cpux"], "the device 'cpux' cannot be used here"),
        (["a", "--dtype", "float23"], "Did you mean 'float32'"),
        (["a", "--input", "x.txt"], "not both"),
        (["--input", "x.csv"], "--input-format"),
        (["--input", "missing.txt"], "No such file"),
        (["a", "--output", os.devnull], "not a regular file"),
        (["\udcff"], "text 1: "),
    ],
)
def test_wrong_arguments(options: list[str], reason: str, classifier: str, fails: Fails) -> None:
    assert reason in fails("predict", classifier, *options)


def test_a_file_is_not_written_over_itself(classifier: str, tmp_path: Path, fails: Fails) -> None:
    source, link = tmp_path / "in.txt", tmp_path / "link.txt"
    source.write_text("a")
    link.symlink_to(source)
    assert "same file" in fails("predict", classifier, "--input", str(source), "--output", str(link))
    assert source.read_text() == "a"


def test_a_terminal_as_input_is_refused(classifier: str, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe_in(monkeypatch, b"a")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert "give texts" in fails("predict", classifier)


def test_conversations_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model("gpt2_text_generation")
    tokenizer = copy.deepcopy(model.preprocessor.tokenizer)
    tokenizer.config.update(chat_template="{% for message in messages %}{{ message.content }} {% endfor %}")
    model.preprocessor = tokenizer
    model.save(tmp_path / "model")
    messages = [{"role": "user", "content": "the cat"}]
    (tmp_path / "in.jsonl").write_text(json.dumps({"id": 1, "messages": messages}) + '\n"the dog"\n')
    options = ["--input", str(tmp_path / "in.jsonl"), "--set", "max_new_tokens=4"]
    assert main(["predict", str(tmp_path / "model"), *options]) == 0
    first, second = json_lines(capsys.readouterr().out)
    loaded = Model.load(tmp_path / "model")
    assert [first["result"], second["result"]] == loaded.predict([messages, "the dog"], max_new_tokens=4)
    assert first["messages"] == messages and first["id"] == 1
