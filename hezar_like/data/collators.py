"""From the features of samples to a batch of tensors, padded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from ..errors import DataError
from ..preprocessors.encoded import Side
from ..preprocessors.padding import pad_rows, pad_tensor
from .transforms import IGNORED, Features

__all__ = ["PadCollator"]


class PadCollator:
    """Pads the lists of samples to the longest of the batch.

    Args:
        pad_id: What `token_ids` and `decoder_input_ids` are padded with.
        side: Where the padding goes.
        multiple_of: Lengths are rounded up to a multiple of this.
        fill: What other lists are padded with, by name; default: -100 for `labels`, False for truth values, else 0.
    """

    def __init__(
        self,
        pad_id: int = 0,
        *,
        side: Side = "right",
        multiple_of: int | None = None,
        fill: Mapping[str, int] | None = None,
    ) -> None:
        self.side: Side = side
        self.multiple_of = multiple_of
        self.fill = {"token_ids": pad_id, "decoder_input_ids": pad_id, "labels": IGNORED, **(fill or {})}

    @classmethod
    def of(cls, tokenizer: Any, **settings: Any) -> Self:
        """The collator of a tokenizer: its padding, its side, its token types."""
        config = tokenizer.config
        settings = {"side": config.padding_side, "multiple_of": config.pad_to_multiple_of or None} | settings
        settings["fill"] = {"token_type_ids": config.pad_token_type_id, **(settings.get("fill") or {})}
        return cls(tokenizer.padding_id, **settings)

    def __call__(self, features: Sequence[Features]) -> dict[str, Tensor]:
        """Makes a batch.

        Args:
            features: The samples, all with the same names. A value is a list with one item per token, several such
                lists (as GLM's positions), a tensor, or a number.

        Returns:
            Lists [samples, length] int64, or bool for truth values; several lists [samples, lists, length]; numbers
            [samples]; tensors [samples, ...]; and, where there are `token_ids` without one, an `attention_mask`
            [samples, length] int64 (1 = look).

        Raises:
            DataError: When there are no samples, or they have different names.
        """
        if not features:
            raise DataError("a batch without samples cannot be made. Check the sampler.")
        names = features[0].keys()
        for number, sample in enumerate(features):
            if sample.keys() != names:
                odd = ", ".join(sorted(names ^ sample.keys()))
                raise DataError(f"sample {number} of the batch and sample 0 do not both have {odd}.")
        batch: dict[str, Tensor] = {}
        for name in names:
            values = [sample[name] for sample in features]
            batch[name], mask = self._column(name, values)
            if name == "token_ids" and mask is not None and "attention_mask" not in names:
                batch["attention_mask"] = mask.long()
        return batch

    def _column(self, name: str, values: list[Any]) -> tuple[Tensor, Tensor | None]:
        first = values[0]
        if isinstance(first, Tensor):
            return torch.stack(values), None
        if not isinstance(first, list):
            return torch.tensor(values), None
        if first and isinstance(first[0], list):
            rows = [row for value in values for row in value]
            padded, _ = self._pad(name, rows)
            return padded.view(len(values), len(first), -1), None
        if first and isinstance(first[0], bool | float):
            kind = type(first[0])
            pad = {"multiple_of": self.multiple_of, "side": self.side}
            return torch.tensor(pad_rows(values, kind(self.fill.get(name, 0)), **pad)), None  # type: ignore[arg-type]
        return self._pad(name, values)

    def _pad(self, name: str, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        return pad_tensor(rows, self.fill.get(name, 0), multiple_of=self.multiple_of, side=self.side)
