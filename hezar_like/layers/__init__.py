"""The vocabulary families are written in: plain torch modules that know no names, configs or files."""

from .attention import AttendInstead, Attention, attention_mask_to_look
from .cache import Cache, KeyValues
from .crf import CRFHead, LinearChainCRF
from .embeddings import TextEmbedding
from .global_pointer import GlobalPointerHead, multilabel_cross_entropy
from .heads import ClassificationHead, LanguageModelHead, MaskFillingHead, Pooler, TokenHead
from .initialization import assign, initialize, materialize, without_memory
from .mlp import ACTIVATIONS, MLP
from .norms import RMSNorm
from .relative import RelativeBias
from .rotary import Rotary, Rotation, rotate
from .trace import Trace

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "AttendInstead",
    "Attention",
    "CRFHead",
    "Cache",
    "ClassificationHead",
    "GlobalPointerHead",
    "KeyValues",
    "LanguageModelHead",
    "LinearChainCRF",
    "MaskFillingHead",
    "Pooler",
    "RMSNorm",
    "RelativeBias",
    "Rotary",
    "Rotation",
    "TextEmbedding",
    "TokenHead",
    "Trace",
    "assign",
    "attention_mask_to_look",
    "initialize",
    "materialize",
    "multilabel_cross_entropy",
    "rotate",
    "without_memory",
]
