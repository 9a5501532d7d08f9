"""A malicious repository zoo: folders that are models of strangers. Each animal changes a good model's folder."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["ANIMALS", "Animal"]

WEIGHTS = "model.safetensors"
TOKENIZER = "preprocessor/tokenizer.json"
SETTINGS = "preprocessor/tokenizer_config.yaml"
CONFIG = "model_config.yaml"


@dataclass(frozen=True)
class Animal:
    """One malicious folder.

    Attributes:
        base: The good folder that it grows from: "native", "transformers" or "sentence-transformers".
        change: Makes the folder malicious; the second argument is a file that must not appear.
        ends: How using it ends: "refused", or "harmless".
    """

    base: str
    change: Callable[[Path, Path], None]
    ends: str = "refused"


def calling(name: str, *arguments: Any) -> bytes:
    """A pickle of a dict whose value is the result of a call; made of opcodes, so that any name will do."""
    module, _, function = name.rpartition(".")
    body = b"".join(b"X" + struct.pack("<I", len(text)) + text for text in (module.encode(), function.encode()))
    parts = pickle.dumps(arguments, protocol=2)[2:-1]
    return b"\x80\x04}X\x0f\x00\x00\x00head.out.weight" + body + b"\x93" + parts + b"Rs."


def zipped(data: bytes, *, compression: int = zipfile.ZIP_STORED, extra: dict[str, bytes] | None = None) -> bytes:
    """A file as torch.save writes it, around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in {"data.pkl": data, "version": b"3\n", "byteorder": b"little", **(extra or {})}.items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


CALLS: dict[str, Callable[[Path], tuple[str, tuple[Any, ...]]]] = {
    "system": lambda mark: ("os.system", (f"touch {mark}",)),
    "posix system": lambda mark: ("posix.system", (f"touch {mark}",)),
    "eval": lambda mark: ("builtins.eval", (f"open({str(mark)!r}, 'w')",)),
    "exec": lambda mark: ("builtins.exec", (f"open({str(mark)!r}, 'w')",)),
    "popen": lambda mark: ("subprocess.Popen", (["touch", str(mark)],)),
    "run_path": lambda mark: ("runpy.run_path", (str(mark.parent / "evil.py"),)),
    "import": lambda mark: ("importlib.import_module", ("evil",)),
    "open": lambda mark: ("io.open", (str(mark), "w")),
    "torch.load": lambda mark: ("torch.serialization.load", (str(mark),)),
    "torch.hub": lambda mark: ("torch.hub.load", ("evil/repo", "model")),
    "getattr": lambda mark: ("builtins.getattr", (1, "__class__")),
    "own registry": lambda mark: ("hezar_like.registry.register_model", ("x",)),
    "own files": lambda mark: ("hezar_like.files.stage", (str(mark),)),
    "rmtree": lambda mark: ("shutil.rmtree", (str(mark.parent),)),
    "connect": lambda mark: ("socket.create_connection", (("192.0.2.1", 80),)),
    "compile": lambda mark: ("torch._inductor.codecache.PyCodeCache.load", ("raise SystemExit",)),
    "a gigantic bytearray": lambda mark: ("builtins.bytearray", (2**40,)),
}


def pickled(name: str, wrap: Callable[[bytes], bytes], call: str) -> Callable[[Path, Path], None]:
    def change(folder: Path, mark: Path) -> None:
        for path in folder.glob("*.safetensors"):
            path.unlink()
        function, arguments = CALLS[call](mark)
        (folder / name).write_bytes(wrap(calling(function, *arguments)))

    return change


def write(name: str, content: Any) -> Callable[[Path, Path], None]:
    """Another file, or another content of it: bytes, text, or data that becomes JSON."""

    def change(folder: Path, mark: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        data = content if isinstance(content, bytes | str) else json.dumps(content)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    return change


def append(name: str, line: str) -> Callable[[Path, Path], None]:
    def change(folder: Path, mark: Path) -> None:
        path = folder / name
        path.write_text(path.read_text() + line.replace("MARK", str(mark)) + "\n")

    return change


def edit(name: str, function: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Path], None]:
    """Changes a JSON file."""

    def change(folder: Path, mark: Path) -> None:
        content = json.loads((folder / name).read_text())
        function(content)
        write(name, content)(folder, mark)

    return change


def link(name: str, target: str) -> Callable[[Path, Path], None]:
    def change(folder: Path, mark: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return change


def special(name: str, make: Callable[[Path], None]) -> Callable[[Path, Path], None]:
    def change(folder: Path, mark: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def sparse(name: str, size: int, start: bytes = b"") -> Callable[[Path, Path], None]:
    """A file that claims to be large and takes no space on the disk."""

    def change(folder: Path, mark: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            file.write(start)
            file.truncate(size)

    return change


def header(entries: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def regex(part: str, pattern: str) -> Callable[[Path, Path], None]:
    parts: dict[str, Any] = {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        "normalizer": {"type": "Replace", "pattern": {"Regex": pattern}, "content": "b"},
        "decoder": {"type": "Replace", "pattern": {"Regex": pattern}, "content": "b"},
    }
    return edit(TOKENIZER, lambda content: content.update({part: parts[part]}))


def code(folder: Path, mark: Path) -> None:
    """Code beside the model, under every name that somebody may import."""
    evil = f"open({str(mark)!r}, 'w').write('ran')\n"
    names = ["modeling_evil.py", "configuration_evil.py", "__init__.py", "setup.py", "conftest.py", "sitecustomize.py"]
    (folder / "preprocessor").mkdir(exist_ok=True)
    for name in [*names, "preprocessor/__init__.py", "bert_text_classification.py", "hezar_like_plugin.py"]:
        (folder / name).write_text(evil)
    (folder / "evil.pth").write_text(f"import os; os.system('touch {mark}')")


EVIL = {"auto_map": {"AutoModel": "modeling_evil.Evil", "AutoConfig": "configuration_evil.Evil"}}
TEMPLATES = {
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.system('id') }}",
    "globals by attr": "{{ messages|attr('__class__')|attr('__init__')|attr('__globals__') }}",
    "a billion letters": "{{ 'a' * 10**9 }}",
    "an endless loop": "{% for i in range(10**12) %}a{% endfor %}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}{{ os.system('id') }}",
    "a large power": "{{ 10 ** 10 ** 8 }}",
    "format": "{{ '%1000000000d' % 1 }}",
    "deep": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
}

ANIMALS: dict[str, Animal] = {
    **{f"pickle of {call} in model.pt": Animal("native", pickled("model.pt", bytes, call)) for call in CALLS},
    **{f"zipped pickle of {call}": Animal("native", pickled("model.pt", zipped, call)) for call in CALLS},
    **{
        f"pickle of {call} in pytorch_model.bin": Animal("transformers", pickled("pytorch_model.bin", zipped, call))
        for call in ("system", "eval", "torch.hub", "own files")
    },
    "a pickle named safetensors": Animal("native", write(WEIGHTS, calling("os.system", "id"))),
    "a pickle as tokenizer": Animal("native", write(TOKENIZER, calling("os.system", "id"))),
    "a pickle as config": Animal("native", write(CONFIG, calling("os.system", "id"))),
    "a zip bomb": Animal(
        "native",
        lambda folder, mark: (
            write("model.pt", zipped(b"\x80\x02}.", compression=zipfile.ZIP_DEFLATED, extra={"data/0": bytes(10**8)}))(folder, mark),
            (folder / WEIGHTS).unlink(),
        )[0],
    ),
    "a quine of lists in a pickle": Animal(
        "native",
        lambda folder, mark: (
            (folder / WEIGHTS).unlink(),
            write("model.pt", b"\x80\x02}X\x01\x00\x00\x00a]q\x00" + b"(h\x00h\x00h\x00e" * 100_000 + b"s.")(folder, mark),
        )[1],
    ),
    # -- paths and links
    "an index to other folders": Animal(
        "native",
        lambda folder, mark: (
            (folder / WEIGHTS).unlink(),
            write("model.safetensors.index.json", {"weight_map": {"a": "../../../etc/passwd.safetensors"}})(folder, mark),
        )[1],
    ),
    "an index to itself": Animal(
        "native",
        lambda folder, mark: (
            (folder / WEIGHTS).unlink(),
            write("model.safetensors.index.json", {"weight_map": {"a": "model.safetensors.index.json"}})(folder, mark),
        )[1],
    ),
    "modules in other folders": Animal(
        "sentence-transformers",
        write("modules.json", [{"idx": 0, "path": "../../etc", "type": "sentence_transformers.models.Transformer"}]),
    ),
    "modules that are code": Animal(
        "sentence-transformers", write("modules.json", [{"idx": 0, "path": "", "type": "os.system"}])
    ),
    "modules that are nonsense": Animal(
        "sentence-transformers", write("config_sentence_transformers.json", {"similarity_fn_name": ["cosine"]})
    ),
    "a prompt that is nowhere": Animal(
        "sentence-transformers", write("config_sentence_transformers.json", {"default_prompt_name": "x", "prompts": {}})
    ),
    "a save that was cut off": Animal(
        "native", write(".hezar_like-commit/.steps.json", {"../../secret": False, "model_config.yaml": True})
    ),
    "a link to passwords as config": Animal("native", link(CONFIG, "/etc/passwd")),
    "a link to passwords as tokenizer": Animal("native", link(TOKENIZER, "/etc/passwd")),
    "a link to passwords as settings": Animal("native", link(SETTINGS, "/etc/passwd")),
    "a link to passwords as weights": Animal("native", link(WEIGHTS, "/etc/passwd")),
    "a link to itself": Animal("native", link(TOKENIZER, "tokenizer.json")),
    "a link to endless zeros": Animal("native", link(TOKENIZER, "/dev/zero")),
    "a pipe as config": Animal("native", special(CONFIG, os.mkfifo)),
    "a pipe as weights": Animal("native", special(WEIGHTS, os.mkfifo)),
    "a folder as weights": Animal("native", special(WEIGHTS, Path.mkdir)),
    # -- large files
    "700 megabytes of config": Animal("native", sparse(CONFIG, 7 * 10**8, b"name: bert\n")),
    "700 megabytes of tokenizer": Animal("native", sparse(TOKENIZER, 7 * 10**8, b"{")),
    "700 megabytes of settings": Animal("native", sparse(SETTINGS, 7 * 10**8)),
    "700 megabytes of their config": Animal("transformers", sparse("config.json", 7 * 10**8, b"{")),
    "700 megabytes of their tokens": Animal("transformers", sparse("added_tokens.json", 7 * 10**8, b"{")),
    "700 megabytes of modules": Animal("sentence-transformers", sparse("modules.json", 7 * 10**8, b"[")),
    "700 megabytes of words": Animal(
        "transformers",
        lambda folder, mark: (
            (folder / "tokenizer.json").unlink(),
            sparse("vocab.txt", 7 * 10**8, b"[PAD]\n")(folder, mark),
        )[1],
    ),
    "700 megabytes of pieces": Animal(
        "transformers",
        lambda folder, mark: (
            (folder / "tokenizer.json").unlink(),
            (folder / "tokenizer_config.json").unlink(),
            sparse("spiece.model", 7 * 10**8, b"\x0a")(folder, mark),
        )[2],
    ),
    "700 megabytes of weights": Animal("native", sparse(WEIGHTS, 7 * 10**8, struct.pack("<Q", 6 * 10**8))),
    "700 megabytes of template": Animal(
        "transformers", sparse("chat_template.jinja", 7 * 10**8, b"{{ messages }}")
    ),
    # -- configs
    "a target": Animal("native", append(CONFIG, "_target_: os.system")),
    "an auto map": Animal("native", append(CONFIG, "auto_map: {AutoModel: modeling_evil.Evil}")),
    "trust": Animal("native", append(CONFIG, "trust_remote_code: true")),
    "their auto map": Animal("transformers", edit("config.json", lambda c: c.update(EVIL))),
    "their target": Animal("transformers", edit("config.json", lambda c: c.update(_target_="os.system"))),
    "their internals": Animal(
        "transformers", edit("config.json", lambda c: c.update(_attn_implementation_internal="evil/kernels"))
    ),
    "their model type": Animal("transformers", edit("config.json", lambda c: c.update(model_type="../evil"))),
    "a tokenizer class": Animal(
        "transformers", edit("tokenizer_config.json", lambda c: c.update(EVIL, tokenizer_class="EvilTokenizer")), "harmless"
    ),
    "code beside the model": Animal("native", code, "harmless"),
    "code beside their model": Animal("transformers", code, "harmless"),
    "an interpolation": Animal("native", append(CONFIG, "base: ${oc.env:FUZZ_SECRET}")),
    "an interpolation in settings": Animal("native", append(SETTINGS, "cls_token: ${oc.env:FUZZ_SECRET}")),
    "an interpolation in theirs": Animal(
        "transformers", edit("config.json", lambda c: c.update(id2label={"0": "${oc.env:FUZZ_SECRET}", "1": "b", "2": "c"}))
    ),
    "an interpolation as a name": Animal("native", write(CONFIG, "name: ${oc.env:FUZZ_SECRET}\n")),
    "a tag": Animal("native", append(CONFIG, "x: !!python/object/apply:os.system ['touch MARK']")),
    "a million labels": Animal("native", write(CONFIG, "name: bert_text_classification\nnum_labels: 1000000\n")),
    "a thousand layers": Animal("native", append(CONFIG, "num_decoder_layers: 1000")),
    "gigantic sizes": Animal(
        "transformers",
        edit(
            "config.json",
            lambda c: c.update(hidden_size=2**20, intermediate_size=2**20, num_hidden_layers=1000, vocab_size=10**8, num_attention_heads=1),
        ),
    ),
    "a gigantic extractor": Animal(
        "native",
        write(
            "preprocessor/feature_extractor_config.yaml",
            "name: whisper_feature_extractor\nchunk_length: 1048576\nfeature_size: 1048576\nn_fft: 1048576\n",
        ),
    ),
    # -- weights
    "a shape of 2^62 and 0": Animal(
        "native", write(WEIGHTS, header({"head.out.weight": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}}))
    ),
    "a shape that overflows": Animal(
        "native", write(WEIGHTS, header({"a": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 16]}}, bytes(16)))
    ),
    "300,000 tensors": Animal(
        "native",
        lambda folder, mark: write(
            WEIGHTS, header({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(300_000)})
        )(folder, mark),
    ),
    "names that move the cursor": Animal(
        "native",
        write(WEIGHTS, header({"\x1b[2J\x1b[31m\r\n\u202e": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))),
    ),
    "a repeated storage": Animal(
        "native",
        lambda folder, mark: (
            (folder / WEIGHTS).unlink(),
            torch.save({"head.out.weight": torch.zeros(1).expand(10**6, 10**6)}, folder / "model.pt"),
        )[1],
    ),
    # -- tokenizers
    **{
        f"a catastrophic regex as {part}": Animal("native", regex(part, pattern), "either")
        for part, pattern in (
            ("pre_tokenizer", "(a+)+$"), ("normalizer", "(a|a)*$"), ("decoder", "(a|aa)+$"), ("normalizer", "(.*)*x"),
        )
    },
    "a regex that repeats a billion times": Animal("native", regex("normalizer", "a{1000000}{1000000}"), "either"),
    "normalizers that grow a text": Animal(
        "native",
        edit(
            TOKENIZER,
            lambda c: c.update(
                normalizer={"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"}] * 9}
            ),
        ),
        "either",
    ),
    "a normalizer that prepends a lot": Animal(
        "native",
        edit(TOKENIZER, lambda c: c.update(normalizer={"type": "Prepend", "prepend": "a" * 10**7})),
        "either",
    ),
    "padding to 100 million": Animal(
        "native",
        edit(
            TOKENIZER,
            lambda c: c.update(
                padding={
                    "strategy": {"Fixed": 10**8}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]",
                }
            ),
        ),
        "harmless",
    ),
    "special tokens out of range": Animal(
        "native", edit(TOKENIZER, lambda c: c["post_processor"]["special_tokens"]["[CLS]"].update(ids=[10**6]))
    ),
    "special tokens without an end": Animal(
        "native",
        edit(
            TOKENIZER,
            lambda c: c["post_processor"]["special_tokens"]["[CLS]"].update(ids=[2] * 10**6, tokens=["[CLS]"] * 10**6),
        ),
        "either",
    ),
    "multiples of a billion": Animal("native", append(SETTINGS, "pad_to_multiple_of: 1000000000"), "either"),
    **{
        f"a template with {name}": Animal(
            "transformers", edit("tokenizer_config.json", lambda c, text=text: c.update(chat_template=text)), "either"
        )
        for name, text in TEMPLATES.items()
    },
}  # fmt: skip
