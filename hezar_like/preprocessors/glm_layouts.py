"""The ids of GLM's command tokens, checkpoint by checkpoint.

They follow no rule: the ids of the Chinese models have a gap, and in some systems two tokens share an id. Sources:
FlagAI 9a885f3 (`flagai/data/tokenizer`), THUDM/GLM 4f61ed7 (`data_utils/tokenization.py`), ModelCenter 1449045
(`model_center/tokenizer/glm_tokenizer.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

__all__ = ["LAYOUTS", "TOKENS", "CommandIds"]

TOKENS: Mapping[str, str] = {
    "pad": "<|endoftext|>", "eos": "<|endoftext|>", "sep": "[SEP]", "cls": "[CLS]", "mask": "[MASK]", "unk": "[UNK]",
    "sop": "<|startofpiece|>", "eop": "<|endofpiece|>", "gmask": "[gMASK]", "smask": "[sMASK]",
}  # fmt: skip
"""How the command tokens are spelled, by role; in a vocabulary of BERT, pad and eos are [PAD]."""


@dataclass(frozen=True)
class CommandIds:
    """The command tokens of a checkpoint by role, and how its system joins texts.

    Attributes:
        pad, eos, sep, cls, mask, unk: Ids, as in other models.
        sop, eop: Begin and end of a piece that fills a blank.
        gmask: Blank at the end, which a generated text fills; None where the system has none.
        smask: Blank for a sentence.
        end: The id after a text where it is not eos; the second text of a pair then has the token type 1.
        decoding: What stands in a decoded text after a command token: the next text as it is; a space ("spaced"); or
            all tokens are joined as they are ("joined").
    """

    pad: int
    eos: int
    sep: int
    cls: int
    mask: int
    unk: int
    sop: int
    eop: int
    gmask: int | None = None
    smask: int | None = None
    end: int | None = None
    decoding: Literal["plain", "spaced", "joined"] = "plain"

    def by_role(self) -> dict[str, int]:
        """The ids that there are, in the order in which the last of those that share an id gives it its name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {role: values[role] for role in TOKENS if values[role] is not None}


LAYOUTS: Mapping[str, CommandIds] = {
    # As published: GLM-large-ch, GLM-10b-ch as it was trained (its [gMASK] is eop), and the English models. The
    # 10b-ch of the Hugging Face Hub has another row for [gMASK], and so the layout of large-ch.
    "glm_large_ch": CommandIds(
        50000, 50000, sep=50001, cls=50002, mask=50003, unk=50004, sop=50006, eop=50007, smask=50008, gmask=50009
    ),
    "glm_10b_ch": CommandIds(
        50000, 50000, sep=50001, cls=50002, mask=50003, unk=50004, sop=50006, eop=50007, smask=50008, gmask=50007
    ),
    "glm_large_en": CommandIds(
        0, 0, sep=102, cls=101, mask=103, unk=100, sop=30522, eop=30523, gmask=30524, smask=30525
    ),
    "glm_10b_en": CommandIds(
        50256, 50256, sop=50257, eop=50258, cls=50259, mask=50260, sep=50261, unk=50262, gmask=50263, smask=50264
    ),
    # ModelCenter's port of 10b-ch knows one mask, in the place of [sMASK].
    "modelcenter_glm_10b_ch": CommandIds(
        50000, 50000, sep=50001, cls=50002, mask=50008, unk=50004, sop=50006, eop=50007
    ),
    # What FlagAI's AutoLoader makes of the same files, and of those of other models. Their [gMASK] is no token of its
    # own; only for comparison with FlagAI.
    "flagai_glm_ch": CommandIds(
        50000, 50000, sep=50001, cls=50002, mask=50003, unk=50004, sop=50006, eop=50007, gmask=50007, smask=50008,
        decoding="spaced",
    ),
    "flagai_glm_large_en": CommandIds(
        0, 0, sep=102, cls=101, mask=103, unk=100, sop=30522, eop=30523, gmask=30524, smask=30525
    ),
    "flagai_glm_10b_en": CommandIds(
        50256, 50256, sop=50257, eop=50258, cls=50259, mask=50260, sep=50261, unk=50262, gmask=50262, smask=50263
    ),
    "flagai_roberta_base_ch": CommandIds(
        0, 0, sep=102, cls=101, mask=103, unk=100, sop=21128, eop=21129, gmask=21130, smask=21131, end=102,
        decoding="joined",
    ),
    "flagai_gpt2_base_en": CommandIds(
        50256, 50256, sop=50257, eop=50258, cls=50256, mask=50260, sep=50261, unk=50256, gmask=50261, smask=50262,
        end=50256,
    ),
    "flagai_t5_base_en": CommandIds(
        32000, 32000, sep=32001, cls=32002, mask=32003, unk=32004, sop=32006, eop=32007, gmask=32007, smask=32008,
        end=1, decoding="spaced",
    ),
}  # fmt: skip
