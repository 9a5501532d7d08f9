"""The base of datasets: rows from somewhere, and for each the features that a model and its loss take."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from torch import Tensor

from ..builders import config_for
from ..configs import DatasetConfig
from ..errors import DataError, InputError, OptionError, PreprocessorError
from ..fields import Between
from ..registry import datasets_registry
from .collators import PadCollator
from .rows import Rows, read_rows
from .transforms import Features

if TYPE_CHECKING:
    from ..preprocessors.encoded import Encoded, Side
    from ..preprocessors.tokenizer import Tokenizer

__all__ = ["Dataset", "TextConfig", "TextDataset"]

logger = logging.getLogger("hezar_like")
ROWS_AT_ONCE = 1000


@dataclass(kw_only=True)
class TextConfig(DatasetConfig):
    """Fields of the configs of all datasets that are read from rows of texts."""

    columns: list[str] | None = None
    """Names of the columns of a CSV or TSV file without a header, or of a CoNLL file."""
    max_length: Annotated[int, Between(1, 10**6)] | None = None
    """The most tokens of a sample, special ones included; longer texts are cut; None: what the tokenizer says."""


class Dataset:
    """Samples by number, for a `torch.utils.data.DataLoader`.

    A subclass implements `features`, and is registered with `register_dataset`. Rows are checked when the dataset is
    made, so that bad data is told before training begins.

    Args:
        config: The settings; copied.
        split: Which part of a folder or of a dataset on the Hub.
        preprocessor: What turns rows into features: a tokenizer, or the `model.preprocessor` of the model to train.
        rows: The samples themselves, in place of the config's `path`; see `read_rows`.
        **kwargs: Fields of the config to override.

    Raises:
        DataError: When the rows cannot be read, or are not what the config says.
        OptionError: When nothing says where the rows are.
    """

    config_class: ClassVar[type[DatasetConfig]] = DatasetConfig

    def __init__(
        self,
        config: DatasetConfig | None = None,
        split: str | None = None,
        preprocessor: Any = None,
        *,
        rows: Any = None,
        **kwargs: Any,
    ) -> None:
        self.config: Any = copy.deepcopy(config or self.config_class()).update(kwargs)
        self.split, self.preprocessor = split, preprocessor
        self.rows = self._shortened(self._read(self.config.path if rows is None else rows))
        self.check()

    @classmethod
    def load(
        cls,
        hub_path: str | os.PathLike[str],
        split: str | None = None,
        preprocessor: Any = None,
        config: DatasetConfig | None = None,
        config_filename: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        *,
        task: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Reads a dataset from a folder or the Hub, as Hezar's `Dataset.load` does.

        Its kind is that of `config`, or `task`, or of the `dataset_config.yaml` beside the data.

        Args:
            hub_path: A file, a folder, or a Hub id.
            split: Which part.
            preprocessor: See `Dataset`.
            config: The config; default: the one beside the data, or the defaults of the task.
            config_filename: Name of the config's file.
            cache_dir: Where downloads are kept.
            task: The dataset's registry name, where there is no config.
            **kwargs: Fields of the config to override.
        """
        name = task or (config.name if config is not None else None)
        if name is None and cls is not Dataset and cls.config_class.name:
            name = cls.config_class.name
        if name is None:
            filename = config_filename or DatasetConfig.default_filename
            config = DatasetConfig.from_file(_config_file(hub_path, filename, cache_dir))
            name = config.name
        entry = datasets_registry[name]
        own = config_for(entry, config, {"path": os.fspath(hub_path), **kwargs})
        if cache_dir is not None:
            own.update(hf_load_kwargs={**(own.get("hf_load_kwargs") or {}), "cache_dir": os.fspath(cache_dir)})
        return entry.module_class(own, split, preprocessor)

    def check(self) -> None:
        """Raises a DataError for rows that are not what the config says; overridden by subclasses."""

    def features(self, indices: range) -> list[Features]:
        """What a model and its loss take of some samples; each kind says how."""
        raise NotImplementedError(f"{type(self).__name__} must define features.")

    def set_epoch(self, epoch: int) -> None:
        """Makes the random choices of another epoch; nothing is done where nothing is random."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Features:
        return self._all[index]

    @cached_property
    def _all(self) -> list[Features]:
        """The features of all samples, made when the first is asked for: texts are tokenized together, and once."""
        blocks = range(0, len(self), ROWS_AT_ONCE)
        parts = [self.features(range(start, min(start + ROWS_AT_ONCE, len(self)))) for start in blocks]
        self.tell()
        return [sample for part in parts for sample in part]

    def tell(self) -> None:
        """Says what was lost when all features are made; overridden by subclasses that lose something."""

    @property
    def lengths(self) -> Sequence[int]:
        """How many tokens each sample has, for samplers."""
        return [len(sample["token_ids"]) for sample in self._all]

    @property
    def data_collator(self) -> Callable[[Sequence[Features]], dict[str, Tensor]]:
        """Makes batches of samples."""
        return PadCollator()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.config.name!r}: {len(self)} samples>"

    def _read(self, source: Any) -> Rows:
        if source is None:
            raise OptionError(f"{self.config.name!r} has no samples. Give the config's path, or rows.")
        config = self.config
        return read_rows(source, self.split, columns=config.get("columns"), hf_load_kwargs=config.hf_load_kwargs)

    def _shortened(self, rows: Rows) -> Rows:
        most = self.config.max_size
        if most is None:
            return rows
        count = round(len(rows) * most) if isinstance(most, float) and most <= 1 else int(most)
        if count < 1:
            raise DataError(f"max_size is {most}, so no sample is left of {len(rows)}. Give a larger one.")
        return rows if count >= len(rows) else rows.first(count)


class TextDataset(Dataset):
    """Base of datasets whose features are made by a tokenizer."""

    _cut_rows = 0

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            PreprocessorError: When the dataset was not given one.
        """
        found = getattr(self.preprocessor, "tokenizer", None) or self.preprocessor
        if found is None or not hasattr(found, "encode_texts"):
            raise PreprocessorError(
                f"the dataset {self.config.name!r} has no tokenizer. Give preprocessor=model.preprocessor, or one."
            )
        return found

    @property
    def max_length(self) -> int | None:
        """The most tokens of a sample: the config's or the tokenizer's."""
        own: int | None = self.config.max_length
        return self.tokenizer.config.max_length if own is None else own

    @property
    def data_collator(self) -> Callable[[Sequence[Features]], dict[str, Tensor]]:
        return PadCollator.of(self.tokenizer)

    def cut(self, row: Encoded, limit: int | None, side: Side | None = None) -> Encoded:
        """A row with at most so many tokens; how many were cut is said once.

        Args:
            row: The tokens of a text.
            limit: The most tokens; None for no limit.
            side: The end that is cut off; default: the tokenizer's.
        """
        if limit is None or len(row) <= limit:
            return row
        self._cut_rows += 1
        return row.truncated(limit, side or self.tokenizer.config.truncation_side)

    def tell(self) -> None:
        if self._cut_rows:
            logger.warning(
                f"{self._cut_rows} texts of the dataset {self.config.name!r} were longer than what is read and were "
                f"cut. Give a larger max_length than {self.max_length} to keep them whole."
            )

    def encode(self, texts: Sequence[Any], indices: range, **options: Any) -> list[Encoded]:
        """Tokenizes texts of rows, after the text normalizer if there is one, and without cutting them.

        Raises:
            DataError: With the row, for what is no text.
        """
        normalizer = getattr(self.preprocessor, "text_normalizer", None)
        if normalizer is not None and all(isinstance(text, str) for text in texts):
            texts = normalizer(list(texts))
        try:
            return self.tokenizer.encode_texts(texts, **options)
        except InputError as error:
            if error.index is None:
                raise
            raise DataError(f"{self.rows.where(indices[error.index])}: {error.args[0]}") from None


def _config_file(path: str | os.PathLike[str], filename: str, cache_dir: Any) -> Path:
    """The config beside the data of a folder or a Hub id."""
    reason, found = "", Path(path).expanduser()
    found = found / filename if found.is_dir() else found.parent / filename
    if found.is_file():
        return found
    if not Path(path).exists():
        from huggingface_hub import hf_hub_download

        try:
            repository = os.fspath(path).partition(":")[0]
            return Path(hf_hub_download(repository, filename, repo_type="dataset", cache_dir=cache_dir))
        except (OSError, ValueError) as error:  # what the Hub's client raises
            reason = f" ({' '.join(str(error).split())[:200]})"
    raise DataError(f"{os.fspath(path)!r}: has no {filename}, so its kind is unknown{reason}. Give task or config.")
