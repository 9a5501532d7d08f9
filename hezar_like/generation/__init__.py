"""From scores to texts: searches, rules for scores, stopping. Knows backbones only as `Writer`s, and no families."""

from .options import GenerationConfig, generation_field
from .processors import Processor
from .search import Result, Search, Steps, finish
from .stopping import StopTexts, cut
from .strategies import write
from .streaming import TextStream

__all__ = [
    "GenerationConfig",
    "Processor",
    "Result",
    "Search",
    "Steps",
    "StopTexts",
    "TextStream",
    "cut",
    "finish",
    "generation_field",
    "write",
]
