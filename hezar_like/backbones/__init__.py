"""Backbones are made of embeddings and stacks: from tokens to hidden states."""

from .base import BackboneBase
from .blank_filler import BlankFiller
from .decoder import Decoder
from .encoder import Backbone
from .encoder_decoder import EncoderDecoder, as_output
from .text_encoder_decoder import TextEncoderDecoder
from .writing import CachedWriter, Piece, Writer

__all__ = [
    "Backbone",
    "BackboneBase",
    "BlankFiller",
    "CachedWriter",
    "Decoder",
    "EncoderDecoder",
    "Piece",
    "TextEncoderDecoder",
    "Writer",
    "as_output",
]
