"""One weight file on disk, safetensors or torch pickle: its header first, then one tensor at a time."""

from __future__ import annotations

import contextlib
import json
import math
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor
from torch.torch_version import TorchVersion

from ..errors import CheckpointError, one_line

__all__ = [
    "PICKLE_SUFFIXES", "SAFETENSORS_DTYPES", "PickleFile", "TensorInfo", "WeightFile", "describe", "open_file",
    "read_json",
]  # fmt: skip

PICKLE_SUFFIXES = (".bin", ".pt", ".pth")
MAX_HEADER_BYTES = 15_000_000  # enough for 100,000 tensors
WRAPPERS = ("state_dict", "module", "model")
# What training saves beside weights, and nobody reads here: random states of NumPy, and arguments.
UNREAD = (
    "argparse.Namespace", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "numpy.ndarray",
    "numpy.dtype",
)  # fmt: skip
SAFE_TORCH = "2.10"  # older versions can be made to run code or corrupt memory even with weights_only=True
SAFETENSORS_DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F64": torch.float64,
    "C64": torch.complex64,
}


FOREIGN = {
    "empty": "is empty; download it or save it again",
    "lfs": "is a Git LFS pointer and not the weights; run 'git lfs pull' in its folder",
    "html": "is a web page (HTML); download the file itself",
    "json": "is JSON text, perhaps an error answer of a server; download the file itself",
    "zip": "is a ZIP file, as torch.save writes; give it the extension .bin, or convert it",
    "pickle": "is a pickle, as old versions of torch.save write; give it the extension .bin, or convert it",
    "safetensors": "is a safetensors file; give it the extension .safetensors",
}


@dataclass(frozen=True)
class TensorInfo:
    """What a file says of a tensor, known without reading the tensor.

    Attributes:
        shape: Its sizes.
        dtype: Its type in the file.
        file: The name of the file that holds it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: str

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class WeightFile(Protocol):
    """An opened weight file."""

    path: Path
    header: dict[str, TensorInfo]
    metadata: dict[str, str]

    def read(self, name: str) -> Tensor:
        """Gives one tensor, on the CPU, without a copy where the file can be mapped."""


def open_file(path: Path, *, training_state: bool = False) -> WeightFile:
    """Opens a weight file by its extension: .safetensors, or a torch pickle (.bin, .pt, .pth).

    Args:
        path: The file.
        training_state: Whether a pickle may hold the state of training beside its weights; that is left unread.

    Raises:
        CheckpointError: When it is not what its name says, broken, or holds anything but tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"weight file {str(path)!r} does not exist; check the path")
    try:
        _kind(path)  # reads its beginning
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); check its permissions and the disk"
        raise CheckpointError(f"weight file {describe(path)} {reason}") from error
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    if path.suffix in PICKLE_SUFFIXES:
        return PickleFile(path, training_state=training_state)
    known = ", ".join((".safetensors", *PICKLE_SUFFIXES))
    raise CheckpointError(f"weight file {str(path)!r} has none of the extensions {known}; rename or convert it")


def describe(path: Path) -> str:
    """Names a file in a message, with its size."""
    return f"{str(path)!r} ({path.stat().st_size} bytes)"


def read_json(text: str | bytes) -> Any:
    """Reads JSON in which no object has a key twice.

    Raises:
        ValueError: When it is not such JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"duplicate key {key!r}")
        result[key] = value
    return result


class SafetensorsFile:
    """A safetensors file, memory-mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._errors():
            # It checks offsets, holes, overlaps and sizes; the header is then read again for what it lets pass.
            self._file: Any = safe_open(path, framework="pt", device="cpu")
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if length > MAX_HEADER_BYTES:
                    raise ValueError(f"a header of {length} bytes, more than {MAX_HEADER_BYTES}")
                header: dict[str, Any] = read_json(file.read(length))
        self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}
        self.header = {name: self._info(name, entry) for name, entry in header.items()}

    def _info(self, name: str, entry: Mapping[str, Any]) -> TensorInfo:
        dtype = SAFETENSORS_DTYPES.get(entry["dtype"])
        if dtype is None:
            raise CheckpointError(
                f"tensor {name!r} of {describe(self.path)} has type {entry['dtype']!r}, which is not supported; "
                f"convert it to one of {', '.join(SAFETENSORS_DTYPES)}"
            )
        return TensorInfo(tuple(entry["shape"]), dtype, self.path.name)

    def read(self, name: str) -> Tensor:
        with self._errors():
            tensor: Tensor = self._file.get_tensor(name)
        return tensor

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            # A panic of the Rust code is no Exception, but must not end the program of a user.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            if any("\ud800" <= letter <= "\udfff" for letter in str(self.path)):
                reason = "cannot be read, because its path is not UTF-8 text; rename the folder"
                raise CheckpointError(f"weight file {describe(self.path)} {reason}") from None
            kind = _kind(self.path)
            foreign = FOREIGN[kind] if kind not in ("", "safetensors") else _cut_safetensors(self.path)
            reason = foreign or f"is a broken safetensors file ({_one_line(error)}); download it or save it again"
            raise CheckpointError(f"weight file {describe(self.path)} {reason}") from error


class TrainingState:
    """Stands in for what a pickle holds and nobody reads."""

    def __init__(self, *args: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


class PickleFile:
    """A torch pickle of a flat dict of tensors, read with weights_only=True and memory-mapped when it is a ZIP file.

    Args:
        path: The file.
        training_state: See `open_file`.
        inside: The key under which the file has this dict, where there are others; default: what trainers write.

    Attributes:
        beside: What else is in the file, where the tensors are `inside`.
    """

    def __init__(self, path: Path, *, training_state: bool = False, inside: str | None = None) -> None:
        self.path = path
        self.metadata: dict[str, str] = {}
        self.beside: Mapping[Any, Any] = {}
        loaded = self._load([(TrainingState, name) for name in UNREAD] if training_state else [])
        if inside is not None:
            found = loaded.get(inside)
            if not isinstance(found, Mapping):
                raise self._error(f"has no dict of tensors under {inside!r}; check that it is the file you mean")
            self.beside, loaded = {key: value for key, value in loaded.items() if key != inside}, found
        if training_state and not any(isinstance(value, Tensor) for value in loaded.values()):
            loaded = next((loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), loaded)
        self._tensors = {name: self._checked(name, value) for name, value in loaded.items()}
        self.header = {
            name: TensorInfo(tuple(tensor.shape), tensor.dtype, path.name) for name, tensor in self._tensors.items()
        }

    def read(self, name: str) -> Tensor:
        return self._tensors[name]

    def _load(self, unread: list[Any]) -> Mapping[Any, Any]:
        if TorchVersion(torch.__version__) < SAFE_TORCH:
            raise self._error(
                f"is a pickle, unsafe to read with torch {torch.__version__}; install torch 2.10 or newer"
            )
        kind = _kind(self.path)
        if kind not in ("", "zip", "pickle"):
            raise self._error(FOREIGN[kind])
        try:
            if kind == "zip":
                self._check_zip()
            with torch.serialization.safe_globals(unread):
                loaded: object = torch.load(self.path, map_location="cpu", weights_only=True, mmap=kind == "zip")
        except CheckpointError:
            raise
        except Exception as error:
            raise self._error(_why_not_loaded(error)) from error
        while isinstance(loaded, Mapping) and len(loaded) == 1:
            ((key, inner),) = loaded.items()
            if key not in WRAPPERS or not isinstance(inner, Mapping):
                break
            loaded = inner
        if not isinstance(loaded, Mapping):
            raise self._error(f"holds {type(loaded).__name__} and not a dict of tensors; save model.state_dict()")
        return loaded

    def _check_zip(self) -> None:
        """A compressed member can unpack to any size, and so can members that overlap: torch writes neither."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = archive.infolist()
        except zipfile.BadZipFile:
            raise self._error("is a torch file that was cut off or damaged; download it or save it again") from None
        if any(member.filename.endswith("/constants.pkl") for member in members):
            raise self._error("is a TorchScript program and not a dict of tensors; save model.state_dict() instead")
        packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise self._error(f"has compressed members such as {packed[0]!r}, which torch never writes; save it again")
        declared = sum(member.file_size for member in members)
        if declared > self.path.stat().st_size:
            raise self._error(f"declares {declared} bytes of content, more than it has; download it or save it again")

    def _checked(self, name: Any, value: Any) -> Tensor:
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise self._error(
                f"holds {type(value).__name__} under {name!r} and not a tensor; "
                f"keep only the model's state_dict in it, and save it again"
            )
        tensor: Tensor = value.detach()
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise self._error(f"holds a special tensor ({tensor.layout}) under {name!r}; save it as a dense one")
        needed, stored = tensor.numel() * tensor.dtype.itemsize, tensor.untyped_storage().nbytes()
        if needed > stored:
            raise self._error(
                f"has tensor {name!r} of shape {tuple(tensor.shape)}, {needed} bytes made of {stored} by repeating; "
                f"save it with .contiguous()"
            )
        return tensor

    def _error(self, reason: str) -> CheckpointError:
        return CheckpointError(f"weight file {describe(self.path)} {reason}")


def _kind(path: Path) -> str:
    """Tells what a file is by its first bytes: a key of `FOREIGN`, or an empty string."""
    with path.open("rb") as file:
        start = file.read(512)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        return "empty"
    if text.startswith(b"version https://git-lfs"):
        return "lfs"
    if re.match(rb"<(!doctype|html|head|\?xml|!--)", text, re.IGNORECASE):
        return "html"
    if re.match(rb'(\{\s*["}]|\[)', text):
        return "json"
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    if re.match(rb"\x80[\x02-\x05]", start):
        return "pickle"
    return "safetensors" if start[8:10] == b'{"' else ""


def _cut_safetensors(path: Path) -> str | None:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
    if len(start) < 8:
        return "is too short for a safetensors file; download it or save it again"
    (length,) = struct.unpack("<Q", start)
    if length > size - 8:
        return f"was cut off or is no safetensors file: its header claims {length} bytes; download it or save it again"
    return None


def _why_not_loaded(error: Exception) -> str:
    text = str(error)
    blocked = re.search(r"GLOBAL ([\w.]+)", text)
    if blocked is not None:
        return (
            f"is a pickle that needs {blocked[1]!r}, and only tensors are read; load it where you trust it, "
            f"and save {{name: tensor}} of its weights with safetensors.torch.save_file"
        )
    return f"was cut off or is no torch file ({_one_line(error)}); download it or save it again"


def _one_line(error: BaseException) -> str:
    text = one_line(re.sub(r"\x1b\[\d*m", "", str(error)), most=120)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
