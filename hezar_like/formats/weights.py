"""Weights on disk: reading them through their header, and saving them. Knows files and tensors, no models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError, listed
from ..paths import check_name
from .weight_files import PICKLE_SUFFIXES, TensorInfo, WeightFile, describe, open_file, read_json
from .weight_saving import save_weights, stale_weights

__all__ = ["TensorInfo", "Weights", "find_weights", "open_weights", "save_weights", "stale_weights"]

INDEX_SUFFIX = ".index.json"
ADAPTER = "adapter_config.json"
MAX_INDEX_BYTES = 10_000_000


class Weights(Mapping[str, Tensor]):
    """An opened checkpoint: a mapping of names to tensors that reads each tensor when it is asked for.

    Iterating over `items()` needs memory for one tensor at a time; safetensors and torch ZIP files are memory-mapped.

    Attributes:
        header: What the files say of each tensor, known without reading tensors.
        metadata: The files' own notes.
        description: Where the weights are, for messages.
    """

    def __init__(self, files: Sequence[WeightFile], description: str) -> None:
        self._files = {name: file for file in files for name in file.header}
        self._names: dict[str, str] = {}  # what a tensor is called in its file, where that differs
        self.header: dict[str, TensorInfo] = {name: file.header[name] for name, file in self._files.items()}
        self.metadata: dict[str, str] = {key: value for file in files for key, value in file.metadata.items()}
        self.description = description

    def renamed(self, rename: Callable[[str], str]) -> Weights:
        """The same tensors under other names.

        Raises:
            CheckpointError: When two tensors would get one name.
        """
        new = {rename(name): (file, name) for name, file in self._files.items()}
        if len(new) < len(self._files):
            raise CheckpointError(
                f"{self.description} holds tensors whose names stand for the same; save the model again"
            )
        result = Weights([], self.description)
        result._files = {name: file for name, (file, _) in new.items()}
        result._names = {name: old for name, (_, old) in new.items()}
        result.header = {name: file.header[old] for name, (file, old) in new.items()}
        result.metadata = self.metadata
        return result

    @property
    def nbytes(self) -> int:
        """The size of all tensors in bytes."""
        return sum(info.nbytes for info in self.header.values())

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name].read(self._names.get(name, name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, name: object) -> bool:  # Mapping's own would read the tensor
        return name in self._files

    def __repr__(self) -> str:
        return f"Weights({self.description}, {len(self)} tensors, {self.nbytes} bytes)"


def open_weights(paths: Sequence[Path], *, training_state: bool = False) -> Weights:
    """Opens weight files that have a model together.

    Args:
        paths: The files, .safetensors or torch pickles.
        training_state: Whether torch pickles may hold the state of training beside their weights.

    Raises:
        CheckpointError: When a file is broken or foreign, or a tensor is in two of them.
    """
    files = [open_file(path, training_state=training_state) for path in paths]
    _check_unique(files)
    return Weights(files, ", ".join(repr(str(path)) for path in paths))


def _open_shards(index: Path, find: Callable[[str], Path | None], *, training_state: bool) -> Weights:
    """Opens all shards of an index; they and it must agree."""
    weight_map = _read_index(index)
    found = {shard: find(shard) for shard in sorted(set(weight_map.values()))}
    missing = [shard for shard, path in found.items() if path is None]
    if missing:
        raise CheckpointError(
            f"{str(index)!r} names files that are not there: {listed(missing)}; download them or save the model again"
        )
    opened = {shard: open_file(path, training_state=training_state) for shard, path in found.items() if path}
    _check_unique(list(opened.values()))
    lacking = [name for name, shard in weight_map.items() if name not in opened[shard].header]
    omitted = [name for file in opened.values() for name in file.header if name not in weight_map]
    if lacking or omitted:
        faults = [f"tensors not in the file it names: {listed(lacking)}"] if lacking else []
        faults += [f"tensors of the files that it omits: {listed(omitted)}"] if omitted else []
        raise CheckpointError(f"{str(index)!r} does not fit its files ({'; '.join(faults)}); save the model again")
    return Weights(list(opened.values()), repr(str(index)))


def find_weights(
    find: Callable[[str], Path | None], candidates: Sequence[str], where: str, *, training_state: bool = False
) -> Weights:
    """Opens the first of these weight files that is there.

    Args:
        find: Gives the path of a file of the model by its name, or None; `Source.find`.
        candidates: Names in the order of preference; those ending with ".index.json" are indexes of shards.
        where: The model, for messages.
        training_state: See `open_weights`.

    Raises:
        CheckpointError: When none is there, or the one found is broken.
    """
    for candidate in candidates:
        path = find(candidate)
        if path is None:
            continue
        if candidate.endswith(INDEX_SUFFIX):
            return _open_shards(path, find, training_state=training_state)
        return open_weights([path], training_state=training_state)
    if find(ADAPTER) is not None:
        raise CheckpointError(
            f"{where} has an adapter and no weights: load the model it is for, and then the adapter with "
            "hezar_like.training.load_adapter(model, folder)"
        )
    raise CheckpointError(
        f"{where} has no weights; looked for {', '.join(map(repr, candidates))}: "
        f"check that it is a model, or save it again"
    )


def _read_index(path: Path) -> dict[str, str]:
    """Reads which shard holds which tensor."""
    if path.stat().st_size > MAX_INDEX_BYTES:
        raise CheckpointError(f"index {describe(path)} is larger than {MAX_INDEX_BYTES} bytes; save the model again")
    try:
        content = read_json(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(
            f"index {describe(path)} is no valid JSON ({error}); download or save it again"
        ) from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"index {describe(path)} has no 'weight_map' of tensors to files; save the model again")
    suffix = Path(path.name.removesuffix(INDEX_SUFFIX)).suffix
    allowed = PICKLE_SUFFIXES if suffix in PICKLE_SUFFIXES else (".safetensors",)
    for tensor, shard in weight_map.items():
        check_name(shard, f"index {str(path)!r} at {tensor!r}")
        if not shard.endswith(allowed):
            raise CheckpointError(
                f"index {str(path)!r} names {shard!r} for {tensor!r}; weight files must end with {' or '.join(allowed)}"
            )
    return weight_map


def _check_unique(files: Sequence[WeightFile]) -> None:
    counts = Counter(name for file in files for name in file.header)
    doubled = [name for name, count in counts.items() if count > 1]
    if doubled:
        names = ", ".join(repr(str(file.path)) for file in files[:3])
        raise CheckpointError(f"tensors are in more than one of {names}: {listed(doubled)}; save the model again")
