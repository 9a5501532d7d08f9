"""Writing weight files. The same tensors always give the same bytes."""

from __future__ import annotations

import ctypes
import json
import re
import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, HubError
from ..paths import check_name
from .weight_files import PICKLE_SUFFIXES, SAFETENSORS_DTYPES

__all__ = ["save_weights", "stale_weights"]

MAX_SHARD_BYTES = 5 * 10**9
DTYPE_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}


def save_weights(
    tensors: Mapping[str, Tensor],
    staged: Callable[[str], Path],
    filename: str = "model.safetensors",
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    metadata: Mapping[str, str] | None = None,
) -> list[str]:
    """Writes tensors as one safetensors file, or as shards with an index when they are larger than one shard.

    Tensors are copied to the CPU one at a time. Tensors that share memory are written as often as they are given.

    Args:
        tensors: Names and dense tensors; of any device, contiguous or not.
        staged: Gives the path to write a file to, by its name; the `Staging` of a save.
        filename: The name of the file. With the extension .pt, .bin or .pth, a plain dict of tensors is written with
            `torch.save` instead, in one file.
        max_shard_bytes: The most bytes of tensors in one file; a tensor that is larger gets its own.
        metadata: Notes for the header of each file, beside {"format": "pt"}.

    Returns:
        The names of the files, in the order in which they must be put in place.

    Raises:
        CheckpointError: When a tensor cannot be stored, or the file's name has another extension.
        HubError: When the disk is full.
    """
    path = Path(check_name(filename, "the name of the weight file"))
    if path.suffix not in (".safetensors", *PICKLE_SUFFIXES):
        raise CheckpointError(f"cannot save weights as {filename!r}; end the name with .safetensors or .pt")
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type == "meta" or tensor.dtype not in DTYPE_NAMES:
            raise CheckpointError(
                f"cannot save tensor {name!r} ({tensor.layout}, {tensor.dtype}, {tensor.device}); "
                f"make it a dense tensor of one of the types {', '.join(DTYPE_NAMES.values())}"
            )
    if path.suffix in PICKLE_SUFFIXES:
        _save_pickle(tensors, staged(filename))
        return [filename]
    notes = {"format": "pt", **(metadata or {})}
    shards = _split(tensors, max_shard_bytes)
    if len(shards) == 1:
        _write_safetensors(tensors, shards[0], staged(filename), notes)
        return [filename]
    stem = filename.removesuffix(".safetensors")
    names = [f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for shard_name, members in zip(names, shards, strict=True):
        _write_safetensors(tensors, members, staged(shard_name), notes)
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": {member: name for name, members in zip(names, shards, strict=True) for member in members},
    }
    index_name = f"{filename}.index.json"
    staged(index_name).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return [*names, index_name]


def stale_weights(filename: str, kept: Collection[str], existing: Iterable[str]) -> list[str]:
    """Names the old files that a save of `filename` makes wrong: its own old forms, and what would be read instead.

    These are the single safetensors file, the shards and the index of the same stem, and for the name of a torch
    pickle also the old file itself. Torch pickles beside a new safetensors file are left: they are read after it.

    Args:
        filename: The name that was given to `save_weights`.
        kept: The names that it gave back.
        existing: The names that are in the folder or repository.

    Returns:
        Names to delete, indexes first, so that no index outlives its shards.
    """
    stem = re.escape(filename.removesuffix(Path(filename).suffix))
    old = re.compile(
        rf"{stem}(-\d{{5}}-of-\d{{5}})?\.safetensors|{stem}\.safetensors\.index\.json|{re.escape(filename)}"
    )
    stale = {name for name in existing if old.fullmatch(name)} - set(kept)
    return sorted(stale, key=lambda name: (not name.endswith(".index.json"), name))


def _split(tensors: Mapping[str, Tensor], max_shard_bytes: int) -> list[list[str]]:
    """Fills shards with the names in their order."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    return shards


def _write_safetensors(tensors: Mapping[str, Tensor], names: Iterable[str], path: Path, notes: dict[str, str]) -> None:
    """Writes one file. The library's own writer puts metadata in a random order and wants all tensors in memory."""
    # Large types first keeps every tensor aligned to its type, since the header is padded to 8 bytes.
    ordered = sorted(names, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(sorted(notes.items()))}
    end = 0
    for name in ordered:
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        dtype = DTYPE_NAMES[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in ordered:
            dense = tensors[name].detach().cpu().contiguous()
            file.write(_memory(dense))


def _memory(tensor: Tensor) -> bytes | memoryview:
    """The bytes of a contiguous tensor on the CPU, without a copy. torch shows them through NumPy only."""
    if not tensor.nbytes:
        return b""
    return memoryview((ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr()))


def _save_pickle(tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        torch.save({name: _own_memory(tensor) for name, tensor in tensors.items()}, path)
    except RuntimeError as error:  # torch reports a full disk so
        raise HubError(f"cannot write {path.name!r}: {error}; check the space and the permissions there") from error


def _own_memory(tensor: Tensor) -> Tensor:
    """The tensor without the rest of a larger storage, which torch.save would write as well."""
    dense = tensor.detach().cpu().contiguous()
    return dense if dense.untyped_storage().nbytes() == dense.nbytes else dense.clone()
