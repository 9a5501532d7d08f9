"""From raw text to a store: each line once and in order, whatever is cut where, and however often it is killed."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from samples import TEXTS, glm_tokenizer, tokenizer

from hezar_like.cli import main
from hezar_like.data import IndexedDataset, load_tokenizer, prepare_data
from hezar_like.data.corpus import corpus_files, cut_into_pieces, read_piece
from hezar_like.errors import DataError, OptionError, PreprocessorError

LINES = [*TEXTS, "", "   ", "one<n>two", "the\u2028fox\x0bjumps", "café\r", *(f"cat {n}" for n in range(60)), "no newline at the end"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_bytes("\n".join(LINES).encode())
    return path


def expected(lines: list[str], end: list[int] | None = None) -> list[list[int]]:
    texts = [line.removesuffix("\r").replace("<n>", "\n") for line in lines if line.strip()]
    rows = tokenizer().encode_texts(texts, add_special_tokens=False)
    return [[*row.ids, *(end or [])] for row in rows]


@pytest.mark.parametrize("size", [1, 2, 7, 50, 333, 10**6])
@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
def test_each_line_is_in_just_one_piece(size: int, last: str, tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    content = "\n".join(LINES) + last
    path.write_bytes(content.encode())
    found = [line for piece in cut_into_pieces(path, size) for line in read_piece(piece, "text")]
    assert found == [line.removesuffix("\r") for line in content.removesuffix("\n").split("\n")]


@pytest.mark.parametrize(("piece_bytes", "processes"), [(10**6, 1), (150, 2)])
def test_the_store_holds_every_line_in_order(
    piece_bytes: int, processes: int, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hezar_like.data.preparation.PIECE_BYTES", piece_bytes)
    told: list[tuple[int, int]] = []
    counts = prepare_data(
        [corpus], tokenizer(), tmp_path / "out", end_token="[SEP]", processes=processes, report=lambda *s: told.append(s)
    )
    rows = expected(LINES, [tokenizer().sep_token_id])
    store = IndexedDataset(tmp_path / "out")
    assert [sequence.tolist() for sequence in store] == rows
    assert (store.documents, store.dtype.name) == (len(rows), "uint16")
    assert (counts.lines, counts.documents, counts.empty, counts.short) == (len(LINES), len(rows), 2, 0)
    assert counts.tokens == sum(map(len, rows)) and counts.sequences == len(rows) and counts.dropped_tokens == 0
    assert told[-1] == (corpus.stat().st_size,) * 2
    assert told == sorted(told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "out.bin", "out.idx"]


def test_long_documents_are_cut_and_what_is_short_is_counted(corpus: Path, tmp_path: Path) -> None:
    counts = prepare_data([corpus], tokenizer(), tmp_path / "out", end_token=None, length=4, min_length=3, processes=1)
    rows = expected(LINES)
    pieces = [[row[i : i + 4] for i in range(0, len(row), 4)] for row in rows]
    kept = [[piece for piece in own if len(piece) >= 3] for own in pieces]
    store = IndexedDataset(tmp_path / "out")
    assert [[s.tolist() for s in store.document(i)] for i in range(store.documents)] == [own for own in kept if own]
    assert counts.documents + counts.short + counts.empty == counts.lines == len(LINES)
    assert counts.tokens + counts.dropped_tokens == sum(map(len, rows))


def test_json_lines_several_files_and_types(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "a cat", "n": 1}\n\n{"body": "the\\ndog"}\n', encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfthe fox\n")
    prepare_data(
        [tmp_path / "a.jsonl", str(tmp_path / "*.txt")], tokenizer(), tmp_path / "out", text_key="body", dtype="int32",
        end_token=None, newline="", processes=1,
    )  # fmt: skip
    store = IndexedDataset(tmp_path / "out")
    assert [s.tolist() for s in store] == expected(["a cat", "the\ndog", "the fox"])
    assert store.dtype.name == "int32"


def test_tokenizers_that_do_more_than_their_file(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("a cat [MASK]\nthe dog\n")
    own = glm_tokenizer()
    prepare_data([tmp_path / "x.txt"], own, tmp_path / "out", processes=1)
    rows = [[*row.ids, own.eos_token_id] for row in own.encode_texts(["a cat [MASK]", "the dog"], add_special_tokens=False)]
    assert [s.tolist() for s in IndexedDataset(tmp_path / "out")] == rows


SCRIPT = """
import sys
from hezar_like.data import preparation
preparation.PIECE_BYTES = 200
preparation.prepare_data([sys.argv[1]], sys.argv[2], sys.argv[3], end_token=None, processes=2, report=lambda *s: print(*s, flush=True))
"""


def test_after_a_kill_it_goes_on_and_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = tmp_path / "corpus.txt"
    lines = [f"cat {n} sat on the mat" for n in range(400)]
    corpus.write_text("\n".join(lines) + "\n")
    tokenizer().save(tmp_path / "model")
    command = [sys.executable, "-c", SCRIPT, str(corpus), str(tmp_path / "model"), str(tmp_path / "out")]
    done = []
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            assert process.stdout is not None
            done.append(sum(1 for _, line in zip(range(8), process.stdout, strict=False)))
            os.kill(process.pid, signal.SIGKILL)
            process.stdout.read()
        assert not (tmp_path / "out.idx").exists()
    parts = tmp_path / "out.parts"
    before = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.json")}
    assert done == [8, 8] and len(before) > 8
    (parts / "000003.json").write_text('{"lines": ')  # a mark that was cut off counts as none
    monkeypatch.setattr("hezar_like.data.preparation.PIECE_BYTES", 200)
    told: list[int] = []
    counts = prepare_data([corpus], tmp_path / "model", tmp_path / "out", end_token=None, processes=1, report=lambda d, t: told.append(d))
    assert counts.lines == counts.documents == len(lines)
    assert [s.tolist() for s in IndexedDataset(tmp_path / "out")] == expected(lines)
    assert not parts.exists()


def test_workers_end_with_the_process_that_began_them(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a cat sat\n" * 4000)
    tokenizer().save(tmp_path / "model")
    command = [sys.executable, "-c", SCRIPT, str(corpus), str(tmp_path / "model"), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        workers = children(process.pid)
        assert len(workers) == 2
        os.kill(process.pid, signal.SIGKILL)
        process.stdout.read()
    end = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, workers))


def test_ctrl_c_ends_it_quietly_and_it_goes_on(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(f"a cat {n} sat\n" for n in range(1_000_000)))
    model = tokenizer().save(tmp_path / "model")
    command = [sys.executable, "-m", "hezar_like", "prepare-data", str(corpus), "--tokenizer", str(model)]
    command += ["--output", str(tmp_path / "out"), "--end-token", "none", "--processes", "1"]
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background of a shell ignore it
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, start_new_session=True, preexec_fn=listen) as process:
        while not list((tmp_path / "out.parts").glob("*.json")) or not (tmp_path / "out.parts" / "000000.json").exists():
            time.sleep(0.02)
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "")
    assert not (tmp_path / "out.idx").exists()
    counts = prepare_data([corpus], model, tmp_path / "out", end_token=None, processes=1)
    assert counts.documents == len(IndexedDataset(tmp_path / "out")) == 1_000_000


def test_an_output_that_cannot_be_written(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*file/out': .*Check the path"):
        prepare_data([corpus], tokenizer(), tmp_path / "file" / "out", processes=1)


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_other_settings_are_not_mixed_in(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_data([corpus], tokenizer(), tmp_path / "out", end_token=None, processes=1, report=fail)
    assert (tmp_path / "out.parts").is_dir()
    with pytest.raises(DataError, match=r"out.parts: was begun with other settings \(length\)"):
        prepare_data([corpus], tokenizer(), tmp_path / "out", end_token=None, length=5, processes=1)
    corpus.write_text("a cat\n")
    with pytest.raises(DataError, match=r"other settings \(files\)"):
        prepare_data([corpus], tokenizer(), tmp_path / "out", end_token=None, processes=1)
    prepare_data([corpus], tokenizer(), tmp_path / "out", end_token=None, processes=1, overwrite=True)
    with pytest.raises(DataError, match=r"out.idx: is there already"):
        prepare_data([corpus], tokenizer(), tmp_path / "out", end_token=None, processes=1)
    assert [s.tolist() for s in IndexedDataset(tmp_path / "out")] == expected(["a cat"])


BAD_LINES = {
    "not UTF-8": (b"fine\n" * 30 + b"caf\xe9\nfine\n", "x.txt", "line 31: not UTF-8"),
    "not JSON": (b'{"text": "a"}\n{"text": \n', "x.jsonl", "line 2: not JSON"),
    "no text": (b'{"text": "a"}\n\n{"body": "b"}\n', "x.jsonl", "line 3: has no text under the key 'text'; it has 'body'"),
    "a list": (b"[1]\n", "x.jsonl", "line 1: .*it is no object"),
    "a surrogate": (b'{"text": "\\ud800"}\n', "x.jsonl", "line 1: its text holds half a character"),
    "deep": (b"[" * 100_000 + b"\n", "x.jsonl", "line 1: not JSON"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_named(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hezar_like.data.preparation.PIECE_BYTES", 64)
    content, name, message = BAD_LINES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}, {message}"):
        prepare_data([tmp_path / name], tokenizer(), tmp_path / "out", processes=1)
    assert not (tmp_path / "out.idx").exists()
    if case == "not UTF-8":  # mended, nothing of what was done is lost
        with pytest.raises(DataError, match="other settings"):
            (tmp_path / name).write_bytes(content.replace(b"\xe9", b"e"))
            prepare_data([tmp_path / name], tokenizer(), tmp_path / "out", processes=1)


def test_inputs_that_are_none(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    for given, message in (
        ([tmp_path / "no.txt"], "no.txt: there is no such file"),
        ([tmp_path / "*.md"], r"\*.md: there is no such file"),
        ([tmp_path], "is a folder. Give the files in it"),
        ([tmp_path / "empty.txt"], "empty.txt: is empty"),
        ([], "the corpus: is empty"),
        ([corpus, tmp_path / "." / "corpus.txt"], "is given twice"),
    ):
        with pytest.raises(DataError, match=message):
            corpus_files(given)
    with pytest.raises(OptionError, match="length is 0"):
        prepare_data([corpus], tokenizer(), tmp_path / "out", length=0)
    with pytest.raises(OptionError, match="nothing would be kept"):
        prepare_data([corpus], tokenizer(), tmp_path / "out", length=3, min_length=4)
    with pytest.raises(OptionError, match="end_token is '<eod>', which the vocabulary lacks"):
        prepare_data([corpus], tokenizer(), tmp_path / "out", end_token="<eod>")
    with pytest.raises(OptionError, match="dtype is 'float16'"):
        prepare_data([corpus], tokenizer(), tmp_path / "out", end_token=None, dtype="float16", processes=1)
    own = copy.copy(tokenizer())
    own.__class__ = type("Own", (type(own),), {"__module__": "__main__"})
    with pytest.raises(OptionError, match="Own is defined in the script itself"):
        prepare_data([corpus], own, tmp_path / "out")
    with pytest.raises(PreprocessorError, match="no.json: there is no such file"):
        load_tokenizer(tmp_path / "no.json")
    with pytest.raises(PreprocessorError, match="has no tokenizer"):
        load_tokenizer(tmp_path)


def test_the_command(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tokenizer().save(tmp_path / "model") / "preprocessor" / "tokenizer.json"
    given = ["prepare-data", str(corpus), "--tokenizer", str(file), "--output", str(tmp_path / "out"), "--processes", "1"]
    assert main([*given, "--end-token", "none"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and said.out.startswith(f"{len(LINES)} lines: {len(LINES) - 2} documents, 2 empty, 0 too short\n")
    assert [s.tolist() for s in IndexedDataset(tmp_path / "out")] == expected(LINES)
    for wrong, message in (
        ([*given, "--end-token", "none"], "is there already. Give another output, or overwrite it."),
        ([*given, "--length", "0"], "'0' is no positive integer"),
        (["prepare-data", "--tokenizer", str(file), "--output", "x"], "the corpus: is empty"),
        ([*given, "--lenght", "4"], "unknown option '--lenght'. Did you mean '--length' or"),
    ):
        assert main(wrong) == 2
        said = capsys.readouterr()
        assert message in said.err and said.err.count("\n") == 1 and said.out == ""
