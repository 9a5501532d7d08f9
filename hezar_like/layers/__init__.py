"""The vocabulary families are written in: plain torch modules that know no names, configs or files."""

from .attention import Attention, attention_mask_to_look
from .embeddings import TextEmbedding
from .heads import ClassificationHead, MaskFillingHead, Pooler, TokenHead
from .initialization import initialize, materialize, without_memory
from .mlp import ACTIVATIONS, MLP
from .trace import Trace

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Attention",
    "ClassificationHead",
    "MaskFillingHead",
    "Pooler",
    "TextEmbedding",
    "TokenHead",
    "Trace",
    "attention_mask_to_look",
    "initialize",
    "materialize",
    "without_memory",
]
