"""A new family costs one new file: a toy one is dropped beside the others, and everything else follows."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TOY = '''
"""Toy: the mean of what was seen so far."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from hezar_like.backbones import Backbone
from hezar_like.blocks import Block, Stack
from hezar_like.configs import ModelConfig
from hezar_like.family import Head, register_family
from hezar_like.fields import Layers, Size, Vocabulary
from hezar_like.layers import MLP, Attention, ClassificationHead, TextEmbedding


BLOCK = "backbone.stack.blocks.{}."
KEYS = {
    "wte": "backbone.embed.tokens",
    **{f"h.{{}}.{name}": f"{BLOCK}attn.{name}" for name in ("q", "k", "v", "out")},
    **{f"h.{{}}.{name}": f"{BLOCK}{name}" for name in ("attn_norm", "mlp_norm", "mlp.up", "mlp.down")},
}


@dataclass(kw_only=True)
class ToyNetConfig(ModelConfig):
    """A toy."""

    name = "toy_net"
    vocab_size: Vocabulary = 100
    """Number of tokens."""
    hidden_size: Size = 8
    """Size of the hidden states."""
    num_hidden_layers: Layers = 1
    """Number of blocks."""


@register_family(
    "toy_net",
    ToyNetConfig,
    "A toy",
    keys=KEYS,
    heads={
        "backbone": Head(),
        "text_embedding": Head(),
        "text_classification": Head(
            lambda c: ClassificationHead(c.hidden_size, c.num_labels), {"pre": "head.dense", "cls": "head.out"}
        ),
    },
)
class ToyNet(Backbone):
    """Blocks without positions."""

    def __init__(self, config: ToyNetConfig) -> None:
        super().__init__()
        self.embed = TextEmbedding(config.vocab_size, config.hidden_size)
        self.stack = Stack([
            Block(
                Attention(config.hidden_size, 2),
                MLP(config.hidden_size, 16, "relu"),
                lambda: nn.LayerNorm(config.hidden_size),
            )
            for _ in range(config.num_hidden_layers)
        ])
'''

USE = """
    import sys
    import hezar_like.models

    hezar_like.models.__path__.append("families")

    import torch
    from hezar_like import Model, build_model, build_preprocessor, list_available_models
    from hezar_like.errors import ConfigError, RegistryError
    from hezar_like.models import ToyNetConfig, ToyNetTextClassification
    from hezar_like.registry import families_registry, models_registry

    names = {"toy_net", "toy_net_text_embedding", "toy_net_text_classification"}
    assert {name for name in list_available_models() if name.startswith("toy_net")} == names
    assert "toy_net.py:" in families_registry["toy_net"].where
    assert models_registry["toy_net_text_classification"].description == "A toy: labels for texts and pairs of texts"

    for wrong, right in (("toynet", "toy_net"), ("toy_net_text_clasification", "toy_net_text_classification")):
        try:
            build_model(wrong)
        except RegistryError as error:
            assert f"Did you mean {right!r}" in str(error), error
        else:
            raise AssertionError(wrong)
    try:
        build_model("toy_net", hiden_size=4)
    except ConfigError as error:
        assert "Did you mean 'hidden_size'" in str(error), error
    else:
        raise AssertionError
    try:
        build_model("toy_net_mask_filling")
    except RegistryError as error:
        assert "toy_net" in str(error), error
    else:
        raise AssertionError

    tokenizer = build_preprocessor("wordpiece_tokenizer", vocab_size=60, show_progress=False)
    tokenizer.train_from_iterator(["the cat sat on the mat"] * 3)
    for name in sorted(names):
        model = build_model(name, vocab_size=len(tokenizer)).eval()
        model.preprocessor = tokenizer
        model.save(name)
        loaded = Model.load(name, device="cpu")
        assert type(loaded) is type(model) and loaded.config == model.config
        assert repr(loaded.predict(["the cat", ""])) == repr(model.predict(["the cat", ""]))
    config = ToyNetConfig(hidden_size=4)
    assert build_model("toy_net_text_classification", config, num_labels=3).config.hidden_size == 4
    assert ToyNetTextClassification is models_registry["toy_net_text_classification"].module_class
    moved = Model.load("toy_net", task="text_classification", num_labels=4, device="cpu")
    assert moved.config.num_labels == 4
    print("done")
"""


@pytest.mark.parametrize("source", [TOY, TOY.replace("keys=KEYS", "keys={}")], ids=["published", "unpublished"])
def test_one_file(source: str, tmp_path: Path) -> None:
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "toy_net.py").write_text(source)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(USE)], cwd=tmp_path, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
