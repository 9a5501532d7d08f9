"""Texts, and what is to be written for them: summaries, titles, translations, verses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ..errors import PreprocessorError
from ..fields import Between
from ..registry import register_dataset
from .dataset import TextConfig, TextDataset
from .infilling import blanks_filled
from .transforms import IGNORED, Features, special_id

__all__ = ["Seq2SeqDataset", "Seq2SeqDatasetConfig", "TextSummarizationDatasetConfig"]

Layout = Literal["encoder_decoder", "decoder", "encoder", "blank"]


@dataclass(kw_only=True)
class Seq2SeqDatasetConfig(TextConfig):
    """Texts, and what is to be written for them."""

    name = "seq2seq"
    source_field: str = "source"
    """Column of the texts that are read."""
    target_field: str = "target"
    """Column of the texts that are to be written."""
    prefix: str | None = None
    """What every text that is read begins with."""
    max_target_length: Annotated[int, Between(1, 10**6)] | None = None
    """The most tokens that are to be written, special ones included; None: as `max_length`."""
    layout: Layout = "encoder_decoder"
    """What reads and writes: an encoder and a decoder (T5), a decoder (GPT), an encoder (UniLM), or GLM's blanks."""


@dataclass(kw_only=True)
class TextSummarizationDatasetConfig(Seq2SeqDatasetConfig):
    """Texts and summaries, by Hezar's names."""

    name = "text_summarization"
    aliases = {"text_field": "source_field", "summary_field": "target_field"}
    source_field: str = "text"
    """Column of the texts."""
    target_field: str = "summary"
    """Column of the summaries."""
    title_field: str | None = None
    """Column of the titles, which nothing reads; Hezar has it too."""


@register_dataset("seq2seq", Seq2SeqDatasetConfig, "texts, and what is to be written for them")
class Seq2SeqDataset(TextDataset):
    """Features `token_ids` and `labels`, and, by layout, `token_type_ids` or `position_ids` and `sep`."""

    config: Seq2SeqDatasetConfig
    config_class = Seq2SeqDatasetConfig

    def check(self) -> None:
        self.rows.texts(self.config.source_field)
        self.rows.texts(self.config.target_field)

    def features(self, indices: range) -> list[Features]:
        config, rows = self.config, self.rows
        plain = config.layout in ("decoder", "blank")
        sources = [(config.prefix or "") + rows[i][config.source_field] for i in indices]
        targets = [rows[i][config.target_field] for i in indices]
        read = self.encode(sources, indices, add_special_tokens=not plain)
        written = self.encode(targets, indices, add_special_tokens=config.layout == "encoder_decoder")
        most = config.max_target_length or self.max_length
        lay = getattr(self, f"_{config.layout}")
        result = []
        for source, target in zip(read, written, strict=True):
            result.append(lay(self.cut(source, self.max_length).ids, self.cut(target, most, "right").ids, most))
        return result

    def _encoder_decoder(self, source: Sequence[int], target: Sequence[int], most: int | None) -> Features:
        return {"token_ids": list(source), "labels": list(target)}

    def _decoder(self, source: Sequence[int], target: Sequence[int], most: int | None) -> Features:
        """The text, what follows it, and the end."""
        written = _ended(target, self._end("eos"), most)
        return {"token_ids": [*source, *written], "labels": [*[IGNORED] * len(source), *written]}

    def _encoder(self, source: Sequence[int], target: Sequence[int], most: int | None) -> Features:
        """[CLS] text [SEP] what is written [SEP], with token types 0 and 1."""
        written = _ended(target, self._end("sep"), most)
        return {
            "token_ids": [*source, *written],
            "token_type_ids": [*[0] * len(source), *[1] * len(written)],
            "labels": [*[IGNORED] * len(source), *written],
        }

    def _blank(self, source: Sequence[int], target: Sequence[int], most: int | None) -> Features:
        """[CLS] text [gMASK], and behind it the piece."""
        tokenizer = self.tokenizer
        blank, start, stop = (special_id(tokenizer, role) for role in ("gmask", "sop", "eop"))
        begin = () if tokenizer.cls_token_id is None else (tokenizer.cls_token_id,)
        tokens = [*source, *target]
        span = (len(source), len(tokens))
        return blanks_filled(tokens, [span], [0], blank=blank, start=start, stop=stop, begin=begin)

    def _end(self, role: str) -> int:
        found: Any = self.tokenizer.role_id(role)
        if found is None:
            raise PreprocessorError(
                f"the tokenizer has no {role} token, with which {self.config.layout!r} ends what is written. Use one "
                "that has, or another layout."
            )
        return int(found)


@register_dataset("text_summarization", TextSummarizationDatasetConfig, "texts and summaries, by Hezar's names")
class TextSummarizationDataset(Seq2SeqDataset):
    """See `Seq2SeqDataset`."""

    config_class = TextSummarizationDatasetConfig


def _ended(target: Sequence[int], end: int, most: int | None) -> list[int]:
    """What is written, with the end, which a cut does not remove."""
    return [*(target if most is None else target[: most - 1]), end]
