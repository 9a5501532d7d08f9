"""How the models of each kind read a text with a blank, and where they answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .infilling import blanks_filled
from .transforms import IGNORED, Features, sentinels, special_id

if TYPE_CHECKING:
    from .prompts import Prompt, PromptDataset

__all__ = ["STYLES"]

BLANK = "{blank}"
Made = list[Features | None]
"""The features of samples; None for one whose blank was cut off."""


def _masked(dataset: PromptDataset, prompts: Sequence[Prompt], indices: range) -> Made:
    """The blank is a mask, and the answer stands in it."""
    rows = _texts_with(dataset, prompts, indices, str(dataset.tokenizer.mask_token))
    mask = special_id(dataset.tokenizer, "mask")
    made: Made = []
    for ids, prompt in zip(rows, prompts, strict=True):
        place = ids.index(mask) if mask in ids else None
        answer = dataset.answer_ids[prompt.label]
        labels = [answer if i == place else IGNORED for i in _places(ids)]
        made.append(None if place is None else {"token_ids": ids, "labels": labels})
    return made


def _classified(dataset: PromptDataset, prompts: Sequence[Prompt], indices: range) -> Made:
    """No blank: the pair of texts has a class."""
    texts: list[Any] = [p.text if p.text_pair is None else (p.text, p.text_pair) for p in prompts]
    rows = [dataset.cut(row, dataset.max_length) for row in dataset.encode(texts, indices)]
    return [
        {"token_ids": row.ids, "token_type_ids": row.type_ids, "labels": p.label}
        for row, p in zip(rows, prompts, strict=True)
    ]


def _continued(dataset: PromptDataset, prompts: Sequence[Prompt], indices: range) -> Made:
    """The answer follows the text; of a text that is too long the end is read."""
    rows = dataset.encode([p.text for p in prompts], indices, add_special_tokens=False)
    room = None if dataset.max_length is None else dataset.max_length - 1
    made: Made = []
    for row, prompt in zip(rows, prompts, strict=True):
        ids = dataset.cut(row, room, "left").ids
        answer = dataset.answer_ids[prompt.label]
        made.append({"token_ids": [*ids, answer], "labels": [*[IGNORED] * len(ids), answer]})
    return made


def _after_padding(dataset: PromptDataset, prompts: Sequence[Prompt], indices: range) -> Made:
    """The blank is a sentinel, after which the decoder, which begins with padding, writes the answer."""
    return _decoded(dataset, prompts, indices, (dataset.tokenizer.padding_id,))


def _after_sentinel(dataset: PromptDataset, prompts: Sequence[Prompt], indices: range) -> Made:
    """The blank is a sentinel, with which the decoder begins."""
    return _decoded(dataset, prompts, indices, ())


def _decoded(dataset: PromptDataset, prompts: Sequence[Prompt], indices: range, start: tuple[int, ...]) -> Made:
    token = sentinels(dataset.tokenizer)[0]
    rows = _texts_with(dataset, prompts, indices, str(dataset.tokenizer.id_to_token(token)))
    return [
        {
            "token_ids": ids,
            "decoder_input_ids": [*start, token],
            "labels": [*[IGNORED] * len(start), dataset.answer_ids[p.label]],
        }
        if token in ids
        else None
        for ids, p in zip(rows, prompts, strict=True)
    ]


def _in_hole(dataset: PromptDataset, prompts: Sequence[Prompt], indices: range) -> Made:
    """The blank is a hole of one token, read from both sides; the text begins with <s>."""
    tokenizer = dataset.tokenizer
    parts = [p.text.partition(BLANK) for p in prompts]
    left = dataset.encode([before for before, _, _ in parts], indices, add_special_tokens=False)
    right = dataset.encode([after for _, _, after in parts], indices, add_special_tokens=False)
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    made: Made = []
    for before, after, prompt in zip(left, right, prompts, strict=True):
        room = None if dataset.max_length is None else dataset.max_length - len(begin) - 1 - len(after.ids)
        if room is not None and room < 1:
            made.append(None)
            continue
        first = [*begin, *dataset.cut(before, room, "left").ids]
        ids = [*first, tokenizer.padding_id, *after.ids]
        hole = len(first)
        made.append(
            {
                "token_ids": ids,
                "context": [place != hole for place in _places(ids)],
                "labels": [dataset.answer_ids[prompt.label] if place == hole else IGNORED for place in _places(ids)],
            }
        )
    return made


def _written_behind(dataset: PromptDataset, prompts: Sequence[Prompt], indices: range) -> Made:
    """The blank is filled behind the text, by the whole answer."""
    tokenizer = dataset.tokenizer
    mask, start, stop = (special_id(tokenizer, role) for role in ("mask", "sop", "eop"))
    answers = tokenizer.encode_texts([p.choices[p.label] for p in prompts], add_special_tokens=False)
    longest = max((len(answer) for answer in answers), default=0) + 1
    made: Made = []
    rows = _texts_with(dataset, prompts, indices, str(tokenizer.mask_token), longest)
    for ids, answer in zip(rows, answers, strict=True):
        if mask not in ids:
            made.append(None)
            continue
        place = ids.index(mask)
        tokens = [*ids[:place], *answer.ids, *ids[place + 1 :]]
        span = (place, place + len(answer.ids))
        made.append(blanks_filled(tokens, [span], [0], blank=mask, start=start, stop=stop))
    return made


def _texts_with(
    dataset: PromptDataset, prompts: Sequence[Prompt], indices: range, blank: str, reserved: int = 0
) -> list[list[int]]:
    """The tokens of texts with this blank; of a text that is too long the end is read."""
    rows = dataset.encode([p.text.replace(BLANK, blank) for p in prompts], indices)
    limit = None if dataset.max_length is None else dataset.max_length - reserved
    return [dataset.cut(row, limit, "left").ids for row in rows]


def _places(ids: Sequence[int]) -> range:
    return range(len(ids))


STYLES: Mapping[str, Callable[..., Made]] = {
    "bert": _masked, "pair": _classified, "gpt": _continued, "t5": _after_padding, "cpm1": _in_hole,
    "cpm2": _after_sentinel, "glm": _written_behind,
}  # fmt: skip
"""How a text with a blank is read, by the names that templates have for it."""
