"""`prepare_data`: from raw text to a token store, with every core, and from where it was cut off."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import hub
from ..errors import DataError, OptionError, PreprocessorError
from ..preprocessors import tokenizer_kinds as tokenizer_kinds  # so that the registry need not import all, and torch
from ..preprocessors.preprocessor import read_preprocessors
from ..preprocessors.tokenizer import Tokenizer
from ..preprocessors.transformers_tokenizer import tokenizer_from_transformers
from .corpus import CorpusPiece, corpus_files, cut_into_pieces
from .encoding import Counts, Encoding, encode_piece
from .indexed_dataset import IndexedDataset
from .store_format import store_paths
from .store_writer import CODES, IndexedDatasetWriter, smallest_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["load_tokenizer", "prepare_data"]

PIECE_BYTES = 4_000_000
PLAN = "plan.json"


def prepare_data(
    inputs: Sequence[str | os.PathLike[str]],
    tokenizer: str | os.PathLike[str] | Tokenizer,
    output: str | os.PathLike[str],
    *,
    end_token: str | Literal["auto"] | None = "auto",
    length: int | None = None,
    min_length: int = 1,
    newline: str = "<n>",
    text_key: str = "text",
    dtype: str = "auto",
    processes: int | None = None,
    overwrite: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Counts:
    """Writes the store `<output>.bin` and `<output>.idx` of a corpus; a line is a document, an empty line is none.

    The result does not depend on the number of processes. Until it is done, what is done is in `<output>.parts`; the
    same call goes on from there after a kill.

    Args:
        inputs: Text files, or `.jsonl` files of objects with a text. Names may have * and ?.
        tokenizer: A tokenizer, the folder or Hub id of a model that has one, or a tokenizer.json.
        output: What the names of the two files begin with.
        end_token: The token after each document; "auto": the tokenizer's eos, if it has one; None for none.
        length: The most tokens of a sequence: longer documents are cut; default: one sequence for each document.
        min_length: Sequences with fewer tokens are left out, and counted.
        newline: What stands for a newline in a line; "" for nothing.
        text_key: Where the text is in the objects of `.jsonl` files.
        dtype: The type of tokens; "auto": uint16 where the vocabulary fits, else int32.
        processes: How many tokenize; default: as many as there are cores.
        overwrite: Whether an older store of that name, or one begun with other settings, is replaced.
        report: Is told the bytes that are done, and those of all inputs.

    Returns:
        What became of the lines.

    Raises:
        DataError: For a file that is missing, empty or broken, with the line; or a store begun with other settings.
        OptionError, PreprocessorError: For a wrong option, or a tokenizer that cannot be read.
        MissingDependency: Without numpy.
    """
    for name, value in (("length", length), ("min_length", min_length), ("processes", processes)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise OptionError(f"{name} is {value!r}; it must be a positive integer.")
    if length is not None and length < min_length:
        raise OptionError(f"length is {length} and min_length {min_length}, so nothing would be kept. Change one.")
    if dtype not in ("auto", *CODES):
        raise OptionError(f"dtype is {dtype!r}; it must be auto, or one of {', '.join(CODES)}.")
    files = corpus_files(inputs)
    own = tokenizer if isinstance(tokenizer, Tokenizer) else load_tokenizer(tokenizer)
    if type(own).__module__ == "__main__":
        raise OptionError(
            f"{type(own).__name__} is defined in the script itself, where other processes cannot find it. Put it "
            "into a module of its own, and import that."
        )
    kind = smallest_dtype(own.max_token_id + 1) if dtype == "auto" else dtype
    encoding = Encoding(kind, _end_id(own, end_token), length, min_length, newline, text_key)
    pieces = [piece for path in files for piece in cut_into_pieces(path, PIECE_BYTES)]
    total = sum(piece.end - piece.start for piece in pieces)
    bin_path, idx_path = store_paths(output)
    parts = Path(f"{str(bin_path)[:-4]}.parts")
    if idx_path.exists() and not overwrite and not (parts / PLAN).exists():
        raise DataError(f"{idx_path}: is there already. Give another output, or overwrite it.")
    with _disk_errors(output):
        _begin(parts, _plan(files, own, encoding), own, overwrite)
        command = _command(parts, own, encoding)
        counts, done = Counts(), 0
        with closing(_encode(pieces, parts, command, processes or os.cpu_count() or 1)) as results:
            for piece, found in results:
                counts.add(found)
                done += piece.end - piece.start
                if report is not None:
                    report(done, total)
        with IndexedDatasetWriter(output, kind) as writer:
            for number in range(len(pieces)):
                writer.append(IndexedDataset(parts / f"{number:06d}"))
        shutil.rmtree(parts)
    return counts


def load_tokenizer(name: str | os.PathLike[str]) -> Tokenizer:
    """Reads a tokenizer from a tokenizer.json, or a model of our layout or that of transformers.

    Raises:
        PreprocessorError, TokenizerError: When there is none, or it is broken.
        HubError: When there is no such folder or repository.
    """
    path = Path(name).expanduser()
    if path.suffix == ".json" and not path.exists():
        raise PreprocessorError(f"{path}: there is no such file. Check the path.")
    if path.is_file():
        source = hub.resolve(path.parent)
        found = tokenizer_from_transformers(
            lambda wanted: path if wanted == "tokenizer.json" else source.find(wanted) if wanted != path.name else None
        )
    else:
        source = hub.resolve(name)
        kept = read_preprocessors(source, names=[Tokenizer.config_filename])
        found = kept.tokenizer or tokenizer_from_transformers(source.find)
    if not isinstance(found, Tokenizer):
        raise PreprocessorError(f"{str(name)!r} has no tokenizer. Give a tokenizer.json, or a model that has one.")
    return found


@contextmanager
def _disk_errors(output: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        at = f" at {error.filename!r}" if error.filename else ""
        reason = error.strerror or type(error).__name__
        raise DataError(
            f"cannot write {os.fspath(output)!r}: {reason}{at}. Check the path, the permissions and the space there; "
            "then call again to go on."
        ) from None


def _command(parts: Path, tokenizer: Tokenizer, encoding: Encoding) -> list[str]:
    """What starts a worker."""
    kind, settings = type(tokenizer), json.dumps(asdict(encoding))
    return [sys.executable, "-m", encode_piece.__module__, str(parts), kind.__module__, kind.__name__, settings]


def _end_id(tokenizer: Tokenizer, token: str | None) -> int | None:
    if token == "auto":
        return tokenizer.eos_token_id
    found = tokenizer.token_to_id(token)
    if token is not None and found is None:
        raise OptionError(f"end_token is {token!r}, which the vocabulary lacks. Give one of its tokens, or None.")
    return found


def _plan(files: Sequence[Path], tokenizer: Tokenizer, encoding: Encoding) -> dict[str, Any]:
    """All that the result depends on, as plain data."""
    content = hashlib.sha256()
    for name, data in sorted(tokenizer.files().items()):
        content.update(f"{name}\0".encode() + (data.encode() if isinstance(data, str) else data))
    stats = [(str(path.resolve()), path.stat()) for path in files]
    return {
        "files": {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats},
        "tokenizer": content.hexdigest(),
        "piece_bytes": PIECE_BYTES,
        **asdict(encoding),
    }


def _begin(parts: Path, plan: dict[str, Any], tokenizer: Tokenizer, overwrite: bool) -> None:
    """Makes the folder of parts, or finds the one that an earlier call left."""
    path = parts / PLAN
    if path.exists():
        try:
            older = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            older = {}
        changed = [key for key in plan if older.get(key) != plan[key]]
        if not changed:
            return
        if not overwrite:
            raise DataError(
                f"{parts}: was begun with other settings ({', '.join(changed)}). Give those, or overwrite it."
            )
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    tokenizer.save(parts)
    temporary = parts / f"{PLAN}.part"
    temporary.write_text(json.dumps(plan), encoding="utf-8")
    os.replace(temporary, path)


def _encode(
    pieces: Sequence[CorpusPiece], parts: Path, command: Sequence[str], processes: int
) -> Generator[tuple[CorpusPiece, Counts], None, None]:
    """Encodes what is not yet encoded; gives each piece as it is done, first those that were done before."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    finished: queue.SimpleQueue[tuple[int, Counts] | BaseException] = queue.SimpleQueue()
    left = 0
    for number, piece in enumerate(pieces):
        counts = _done(parts / f"{number:06d}.json")
        if counts is not None:
            yield piece, counts
        else:
            waiting.put(number)
            left += 1
    if not left:
        return

    def serve(process: subprocess.Popen[str]) -> None:
        try:
            while True:
                number = waiting.get_nowait()
                prefix = parts / f"{number:06d}"
                counts = _ask(process, {"piece": asdict(pieces[number]), "prefix": str(prefix)})
                _mark(prefix.with_suffix(".json"), counts)
                finished.put((number, counts))
        except queue.Empty:
            return
        except BaseException as error:
            finished.put(error)

    with ExitStack() as stack:
        for _ in range(min(processes, left)):
            process = stack.enter_context(_worker(command))
            threading.Thread(target=serve, args=(process,), daemon=True).start()
        for _ in range(left):
            result = finished.get()
            if isinstance(result, BaseException):
                raise result
            yield pieces[result[0]], result[1]


@contextmanager
def _worker(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that encodes pieces with one thread; it is gone after the block."""
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env=environment
    )
    try:
        yield process
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError, AttributeError):
                stream.close()  # type: ignore[union-attr]
        process.wait()


def _ask(process: subprocess.Popen[str], order: dict[str, Any]) -> Counts:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        print(json.dumps(order), file=process.stdin, flush=True)
        answer = process.stdout.readline()
    except (OSError, ValueError):
        answer = ""
    if not answer:
        raise DataError(
            f"{order['piece']['path']}: the process that tokenizes it ended (exit code {process.poll()}), maybe for "
            "want of memory. Call again to go on, with fewer processes."
        )
    found = json.loads(answer)
    if "error" in found:
        raise DataError(found["error"])
    return Counts(**found["counts"])


def _done(path: Path) -> Counts | None:
    try:
        return Counts(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _mark(path: Path, counts: Counts) -> None:
    """Says that a part is whole."""
    temporary = path.with_suffix(".json.part")
    temporary.write_text(json.dumps(asdict(counts)), encoding="utf-8")
    os.replace(temporary, path)
