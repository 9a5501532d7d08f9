"""The published vocabularies that FlagAI, ModelCenter and their models use, unpacked from one archive."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece

FOLDER = Path(__file__).parent / "fixtures" / "flagai_modelcenter" / "tokenizers"
GPT2 = {"vocab.json": "gpt2_vocab.json", "merges.txt": "gpt2_merges.txt"}
# The files of each checkpoint, with their names in the archive.
CHECKPOINTS = {
    "glm-large-ch": {"cog-pretrain.model": "glm_ch.model"},
    "glm-10b-ch": {"spiece.model": "glm_ch.model"},
    "glm-10b-zh of modelcenter": {"vocab.model": "glm_ch.model"},
    "glm-large-en": {"vocab.txt": "bert_uncased_vocab.txt"},
    "glm-10b-en": GPT2,
    "gpt2-base-en": GPT2,
    "roberta-base-ch": {"vocab.txt": "bert_chinese_vocab.txt"},
    "t5-base-en": {"spiece.model": "t5.model"},
    "cpm-large-ch": {"spiece.model": "cpm1.model", "vocab.json": "cpm1_vocab.json"},
    "cpm1-large of modelcenter": {"vocab.txt": "modelcenter_cpm1_vocab.txt"},
    "cpm2-large of modelcenter": {"vocab.txt": "modelcenter_cpm2_vocab.txt"},
}
# These two are made of the others, and equal to what was published.
DERIVED = {
    "gpt2_vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "cpm1_vocab.json": "563a32b89f872eac4c1583ea68c35db70905739aa1704ad0a7b7c5a8f6405f10",
}


def unpack(folder: Path) -> None:
    """Writes all vocabularies into a folder."""
    with tarfile.open(FOLDER / "vocabularies.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    merges = (folder / "gpt2_merges.txt").read_text(encoding="utf-8").split("\n")[1:-1]
    tokens = [*byte_characters(), *(merge.replace(" ", "") for merge in merges), "<|endoftext|>"]
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "cpm1.model"))
    contents = {
        "gpt2_vocab.json": json.dumps({token: i for i, token in enumerate(tokens)}),
        "cpm1_vocab.json": json.dumps({pieces.id_to_piece(i): i for i in range(len(pieces))}) + "\n",
    }
    for name, content in contents.items():
        assert hashlib.sha256(content.encode()).hexdigest() == DERIVED[name]
        (folder / name).write_text(content, encoding="utf-8")


def byte_characters() -> list[str]:
    """GPT-2's stand-ins for the bytes in the order of their ids: first the printable ones, which stand for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [*map(chr, printable), *(chr(256 + i) for i in range(256 - len(printable)))]


def finder(folder: Path, checkpoint: str) -> Callable[[str], Path | None]:
    """What gives the path of a file of a checkpoint by its name."""
    files = CHECKPOINTS[checkpoint]
    return lambda name: folder / files[name] if name in files else None


def golden(case: str) -> dict[str, Any]:
    """What the original code gave for a case."""
    return json.loads((FOLDER / f"{case}.json").read_text(encoding="utf-8"))
