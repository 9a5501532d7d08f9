"""Tasks: what is done with a backbone. One file each; a task never knows a family.

The classes of registered tasks can be imported from here: `from hezar_like.tasks import TextEmbedding`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backbone import TextBackbone as TextBackbone
    from .cloze import Cloze as Cloze
    from .mask_filling import MaskFilling as MaskFilling
    from .multiple_choice import MultipleChoice as MultipleChoice
    from .sequence_labeling import SequenceLabeling as SequenceLabeling
    from .text_classification import TextClassification as TextClassification
    from .text_embedding import TextEmbedding as TextEmbedding


def __getattr__(name: str) -> Any:
    if name[:1].isupper():
        from ..registry import tasks_registry

        for entry in tasks_registry.values():
            if entry.module_class.__name__ == name:
                return entry.module_class
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
