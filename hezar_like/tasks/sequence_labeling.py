"""A label for every token: named entities, parts of speech."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from torch import Tensor

from ..errors import InputError, OptionError
from ..outputs import BackboneOutput, ClassifierOutput
from .labels import LabelsConfig
from .scoring import IGNORED, ScoringTask
from .task import register_task
from .text import TextBatch, TextInput, content_places, own_batch

Aggregate = Literal["word", "entity"]
UNREAD = "O"
"""Label of a given word of which the model read no token."""
_SCHEME = re.compile(r"([BIMESLUW])[-_](.+)")


class TokenLabel(TypedDict):
    """A label for a part of the text.

    Attributes:
        token: The token as the tokenizer shows it; with `aggregate`, the text itself.
        label: Its label; for entities without the prefix of a scheme such as B-.
        start: First character in the text; None with `return_offsets=False`.
        end: One past the last character; None with `return_offsets=False`.
        score: The label's probability; for words and entities the mean; None with `return_scores=False`.
    """

    token: str
    label: str
    start: int | None
    end: int | None
    score: float | None


@dataclass
class _Span:
    start: int
    end: int
    probabilities: Tensor | None
    """None for a given word without tokens."""


@dataclass(kw_only=True)
class SequenceLabelingConfig(LabelsConfig):
    """Sequence labeling."""

    prediction_skip_tokens: list[str] = field(default_factory=list)
    """Tokens without a record, besides the special ones around a text, which never have one."""
    classifier_bias: bool = True
    """Whether the layer that scores labels has a bias."""

    def check(self) -> None:
        super().check()
        # Hezar's RoBERTa files hold "</s>, <pad>" as one token: a quote stands in the wrong place in its source.
        parts = [part for token in self.prediction_skip_tokens for part in token.split(", ") if part]
        if parts != self.prediction_skip_tokens:
            self.prediction_skip_tokens = parts


class LabelingTask(ScoringTask):
    """Base of tasks that label parts of texts. An input may also be a list of words; a long text is read in windows."""

    config: LabelsConfig
    long_text = "window"
    reads_words = True

    def check_input(self, item: TextInput, index: int) -> None:
        if isinstance(item.text, tuple):
            raise InputError("is a pair of texts. Give one text, or the list of its words.", index)

    def label_name(self, label: int) -> str:
        """The name of a label by its index."""
        return self.config.label(label)


@register_task(
    "sequence_labeling",
    SequenceLabelingConfig,
    "labels for the tokens of texts",
    aliases=("token_classification", "ner", "pos"),
    endings=("ForTokenClassification",),
    pipeline_tag="token-classification",
)
class SequenceLabeling(LabelingTask):
    """Labels tokens. An input may also be a list of words; a long text is read in overlapping windows."""

    config: SequenceLabelingConfig

    def read_out(
        self, output: BackboneOutput, inputs: Mapping[str, Any], labels: Tensor | None, scored: Tensor | None = None
    ) -> ClassifierOutput:
        """See `ScoringTask`; where the model tells padding by its token, labels of padding do not count."""
        if labels is not None and self.backbone.padding_token is not None:
            mask = self.backbone.given_mask(output.last_hidden_state, inputs)
            labels = labels if mask is None else labels.masked_fill(~mask.bool(), IGNORED)
        return super().read_out(output, inputs, labels, scored)

    def post_process(  # type: ignore[override]
        self,
        outputs: ClassifierOutput,
        batch: TextBatch,
        *,
        aggregate: Aggregate | None = None,
        return_offsets: bool = True,
        return_scores: bool = True,
    ) -> list[list[TokenLabel]]:
        """Scores to labeled tokens, words or entities.

        Args:
            outputs: Of `forward`.
            batch: Of `preprocess`.
            aggregate: None: one record per token. "word": one per word, by the mean of its tokens' probabilities.
                "entity": words merged by their labels, B- I- E- S- or the like, without those labeled O.
            return_offsets: False leaves `start` and `end` None.
            return_scores: False leaves `score` None.

        Returns:
            For each input its records, in the order of the text. Characters count in the text after a text normalizer,
            and in pre-split words joined by single spaces.
        """
        if aggregate not in (None, "word", "entity"):
            raise OptionError(f"aggregate is {aggregate!r}; it must be None, 'word' or 'entity'.")
        results = []
        for item, scores in zip(own_batch(batch).inputs, self.label_scores(outputs.logits.float(), batch), strict=True):
            if aggregate is None:
                records = self._tokens(item, scores)
            else:
                words = self._words(item, scores)
                records = self._describe(item, words) if aggregate == "word" else self._entities(item, words)
            for record in records:
                if not return_offsets:
                    record["start"] = record["end"] = None
                if not return_scores:
                    record["score"] = None
            results.append(records)
        return results

    def label_scores(self, logits: Tensor, batch: TextBatch) -> list[Tensor]:
        """For each input, how probable each label is for its content tokens, [tokens, labels]; the best one wins.

        Args:
            logits: Of all rows, [rows, length, labels].
            batch: The inputs, and which rows are theirs.
        """
        probabilities = logits.softmax(-1).cpu()
        pairs = zip(batch.inputs, batch.rows, strict=True)
        return [at_places(probabilities[rows], content_places(item)) for item, rows in pairs]

    def _tokens(self, item: TextInput, scores: Tensor) -> list[TokenLabel]:
        encoded = item.encoded
        columns = encoded.content
        names = encoded.tokens()
        spans = content_offsets(item)
        best, labels = scores.max(-1) if len(scores) else (scores.sum(-1), scores.sum(-1).long())
        skipped = set(self.config.prediction_skip_tokens)
        return [
            {"token": names[i], "label": self.label_name(label), "start": start, "end": end, "score": score}
            for i, (start, end), score, label in zip(columns, spans, best.tolist(), labels.tolist(), strict=True)
            if names[i] not in skipped
        ]

    def _words(self, item: TextInput, scores: Tensor) -> list[_Span]:
        """The words with their mean probabilities; for pre-split input exactly the given ones."""
        encoded = item.encoded
        columns = encoded.content
        groups: dict[int | None, list[int]] = {}
        for token, column in enumerate(columns):
            groups.setdefault(encoded.word_ids[column], []).append(token)
        if item.words is not None:
            starts = _word_starts(item.words)
            return [
                _Span(start, start + len(word), scores[groups[i]].mean(0) if i in groups else None)
                for i, (start, word) in enumerate(zip(starts, item.words, strict=True))
            ]
        spans = content_offsets(item)
        return [_Span(spans[own[0]][0], spans[own[-1]][1], scores[own].mean(0)) for own in groups.values()]

    def _describe(self, item: TextInput, words: Sequence[_Span]) -> list[TokenLabel]:
        records = []
        for word in words:
            label, score = UNREAD, 0.0
            if word.probabilities is not None:
                label, score = self.label_name(int(word.probabilities.argmax())), float(word.probabilities.max())
            records.append(text_record(item, word.start, word.end, label, score))
        return records

    def _entities(self, item: TextInput, words: Sequence[_Span]) -> list[TokenLabel]:
        """Merges words by the scheme of their labels; labels without a scheme merge with equal neighbours."""
        entities: list[tuple[str, list[TokenLabel]]] = []
        open_kind: str | None = None
        for word in self._describe(item, words):
            scheme = _SCHEME.fullmatch(word["label"])
            position, kind = scheme.groups() if scheme else ("I", word["label"])
            if kind == "O":
                open_kind = None
                continue
            if kind == open_kind and position in "IMEL":
                entities[-1][1].append(word)
            else:
                entities.append((kind, [word]))
            open_kind = None if position in "ESLUW" else kind
        return [
            text_record(
                item, parts[0]["start"] or 0, parts[-1]["end"] or 0, kind,
                sum(part["score"] or 0.0 for part in parts) / len(parts),
            )
            for kind, parts in entities
        ]  # fmt: skip


def at_places(rows: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
    """What [rows, length, labels] holds for these rows and columns, [places, labels]."""
    windows, columns = [window for window, _ in places], [column for _, column in places]
    return rows[windows, columns]


def text_record(item: TextInput, start: int, end: int, label: str, score: float) -> TokenLabel:
    """A record whose text is what stands at its offsets, without the spaces some tokenizers count in."""
    text = item.text[start:end]
    assert isinstance(text, str)
    start += len(text) - len(text.lstrip())
    return {"token": text.strip(), "label": label, "start": start, "end": start + len(text.strip()), "score": score}


def _word_starts(words: Sequence[str]) -> list[int]:
    """Where each word begins in the words joined by spaces."""
    starts, position = [], 0
    for word in words:
        starts.append(position)
        position += len(word) + 1
    return starts


def content_offsets(item: TextInput) -> list[tuple[int, int]]:
    """Character offsets of the content tokens in the input's text."""
    encoded = item.encoded
    columns = encoded.content
    if item.words is None:
        return [encoded.offsets[i] for i in columns]
    starts = _word_starts(item.words)
    return [
        (
            starts[encoded.word_ids[i] or 0] + encoded.offsets[i][0],
            starts[encoded.word_ids[i] or 0] + encoded.offsets[i][1],
        )
        for i in columns
    ]
