"""Adapters: they begin as nothing, are trained alone, merged, and exchanged in PEFT's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import samples
from safetensors.torch import load_file, save_file
from test_ranks import NAMES
from tiny_models import inputs_for
from trained import classification, model, trainer

from hezar_like import Model, ModelConfig
from hezar_like.data import PadCollator
from hezar_like.errors import CheckpointError, ConfigError, OptionError
from hezar_like.training import LoRAConfig, add_lora, load_adapter, merge_lora, save_adapter
from hezar_like.training.lora import LoRALinear
from hezar_like.training.step import TrainingStep


def scores(own: Model) -> torch.Tensor:
    with torch.no_grad():
        return own.eval()(**inputs_for(own)).logits


def scores_in_training(own: Model) -> torch.Tensor:
    data = samples(own.task, 3, blanks=own.task == "text_generation" and own.backbone.blanks is not None)
    with torch.no_grad():
        return TrainingStep(own.eval())(PadCollator()(data))["logits"]


def trained_adapter(own: Model, **fields: Any) -> list[str]:
    """Adapters that do something."""
    names = add_lora(own, **fields)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in own.modules():
            if isinstance(part, LoRALinear):
                part.lora_b.normal_(0, 0.2, generator=generator)
    return names


def test_it_begins_as_nothing_and_trains_alone(tmp_path: Path) -> None:
    own = model()
    before = scores(own)
    base = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    run = trainer(tmp_path, own, lora={"r": 2, "targets": ["q", "mlp.up"]}, num_epochs=8, learning_rate=1e-2)
    assert torch.equal(scores(own), before)
    trainable = {name for name, p in own.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[2] for name in trainable if not name.startswith("head.")} == {"lora_a", "lora_b"}
    assert sum(isinstance(part, LoRALinear) for part in own.modules()) == 4
    run.train()
    losses = [r["loss"] for r in run.load_logs()]
    assert sum(losses[-6:]) < sum(losses[:6])
    for name, tensor in own.state_dict().items():
        if name in base and not name.startswith("head."):
            assert torch.equal(tensor, base[name]), name
    folder = run.save()
    assert {p.name for p in folder.iterdir()} >= {"adapter_model.safetensors", "adapter_config.json", "train_config.yaml"}
    assert not (folder / "model.safetensors").exists()
    with pytest.raises(CheckpointError, match=r"has an adapter and no weights.*load_adapter\(model, folder\)"):
        Model.load(folder)
    fresh = model()
    load_adapter(fresh, folder)
    assert torch.allclose(scores(fresh), scores(own), atol=1e-6)


def test_merged_is_the_same_model(tmp_path: Path) -> None:
    own = model("gpt2_text_generation")
    trained_adapter(own, r=3, targets=["q", "v", "attn.out", "mlp.down"], train=[])
    wanted = scores(own)
    merge_lora(own)
    assert torch.allclose(scores(own), wanted, atol=1e-5)
    assert not any(isinstance(part, LoRALinear) for part in own.modules())
    assert all(p.requires_grad for p in own.parameters())
    own.save(tmp_path)
    assert torch.allclose(scores(Model.load(tmp_path, device="cpu")), wanted, atol=1e-5)


def test_predictions_see_the_adapter() -> None:
    own = model()
    texts = ["a cat sat on the mat", "the lazy dog"]
    before = own.predict(texts, post_process=False)
    trained_adapter(own)
    after = own.predict(texts, post_process=False)
    batch = own.preprocess(texts)
    with torch.no_grad():
        wanted = own(**batch).logits
    assert not torch.allclose(before[0]["logits"], after[0]["logits"], atol=1e-3)
    assert torch.allclose(torch.stack([row["logits"] for row in after]), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("bert_text_classification", ["q", "v", "mlp.up"]),
        ("roberta_sequence_labeling", ["attn.k"]),
        ("gpt2_text_generation", ["q", "v"]),  # published in one layer
        ("gpt2_text_generation", ["q", "k", "v", "attn.out"]),
        ("llama_text_generation", ["q", "v", "mlp.gate"]),
        ("t5_text_generation", ["q", "v"]),
    ],
)
def test_saved_is_loaded(name: str, targets: list[str], tmp_path: Path) -> None:
    own = model(name)
    chosen = trained_adapter(own, targets=targets, alpha=6.0, r=3)
    save_adapter(own, tmp_path)
    fresh = model(name)
    assert not torch.allclose(scores(fresh), scores(own), atol=1e-3)
    assert load_adapter(fresh, tmp_path) == sorted(chosen)
    assert torch.allclose(scores(fresh), scores(own), atol=1e-6)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["peft_type"] == "LORA"
    assert settings["lora_alpha"] == 6.0


@pytest.mark.parametrize("name", NAMES)
def test_every_family_has_adapters(name: str, tmp_path: Path) -> None:
    """On every linear layer of the blocks, also where transformers has no names for them."""
    own = model(name)
    targets = ["q", "k", "v", "attn.out", "mlp.up", "mlp.down"]
    chosen = trained_adapter(own, targets=targets, r=2, train=[])
    save_adapter(own, tmp_path)
    fresh = model(name)
    assert load_adapter(fresh, tmp_path) == sorted(chosen)
    wanted = scores_in_training(own)
    assert torch.allclose(scores_in_training(fresh), wanted, atol=1e-5)
    merge_lora(fresh)
    assert torch.allclose(scores_in_training(fresh), wanted, atol=1e-4)
    assert not torch.allclose(scores_in_training(model(name)), wanted, atol=1e-3)


def test_an_adapter_that_was_not_trained(tmp_path: Path) -> None:
    """Where several layers are published as one, nothing says then which of them have adapters."""
    own = model("gpt2_text_generation")
    add_lora(own)
    save_adapter(own, tmp_path)
    with pytest.raises(CheckpointError, match="all zero"):
        load_adapter(model("gpt2_text_generation"), tmp_path)


def test_models_of_no_family_have_adapters(tmp_path: Path) -> None:
    class Net(Model):
        def __init__(self) -> None:
            super().__init__(ModelConfig())
            self.q = torch.nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.q(x)

    own = Net()
    trained_adapter(own, targets=["q"], train=[])
    save_adapter(own, tmp_path)
    fresh = Net()
    fresh.load_state_dict({name: tensor for name, tensor in own.state_dict().items() if "lora" not in name})
    load_adapter(fresh, tmp_path)
    x = torch.randn(3, 4)
    assert torch.allclose(fresh(x), own(x), atol=1e-6) and not torch.allclose(own(x), merged_without(own, x))


def merged_without(own: Model, x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(x, own.q.weight, own.q.bias)


def test_names_are_those_of_peft(tmp_path: Path) -> None:
    """Files of PEFT 0.21 for transformers' BERT have these names and shapes."""
    own = model(hidden_size=32)
    trained_adapter(own, r=4)
    save_adapter(own, tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    prefix = "base_model.model.bert.encoder.layer.1.attention.self.query"
    assert tensors[f"{prefix}.lora_A.weight"].shape == (4, 32)
    assert tensors[f"{prefix}.lora_B.weight"].shape == (32, 4)
    assert "base_model.model.classifier.weight" in tensors
    # One that PEFT made on the layer in which GPT-2's queries, keys and values stand together.
    gpt2 = model("gpt2_text_generation")
    a, b = torch.randn(2, 32), torch.randn(96, 2)
    folder = tmp_path / "gpt2"
    folder.mkdir()
    layer = "base_model.model.transformer.h.0.attn.c_attn"
    save_file({f"{layer}.lora_A.weight": a, f"{layer}.lora_B.weight": b}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "fan_in_fan_out": true}')
    wanted = model("gpt2_text_generation")
    with torch.no_grad():
        attn = wanted.backbone.stack.blocks[0].attn
        for linear, part in zip((attn.q, attn.k, attn.v), (b @ a * 2).chunk(3), strict=True):
            linear.weight += part
    assert len(load_adapter(gpt2, folder)) == 3
    assert torch.allclose(scores(gpt2), scores(wanted), atol=1e-5)


@pytest.mark.parametrize("name", ["bert_text_classification", "gpt2_text_generation"])
def test_adapters_of_several_ranks_and_scales(name: str, tmp_path: Path) -> None:
    """As PEFT's `rank_pattern` and `alpha_pattern` make them; queries and keys of GPT-2 stand in one layer there."""
    own = model(name).requires_grad_(False)
    block = own.backbone.stack.blocks[0]
    for parent, leaf, r, alpha in ((block.attn, "q", 2, 4.0), (block.attn, "k", 3, 2.0), (block.mlp, "up", 1, 5.0)):
        layer = LoRALinear.of(getattr(parent, leaf), r, alpha)
        torch.nn.init.normal_(layer.lora_b)
        setattr(parent, leaf, layer)
    for _ in range(2):
        save_adapter(own, tmp_path)
        fresh = model(name)
        assert not torch.allclose(scores(fresh), scores(own), atol=1e-3)
        assert len(load_adapter(fresh, tmp_path)) == 3
        assert torch.allclose(scores(fresh), scores(own), atol=1e-5)
        own = fresh


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    own = model()
    with pytest.raises(ConfigError, match="no linear layer's name ends with query"):
        add_lora(own, LoRAConfig(targets=["query"]))
    with pytest.raises(OptionError, match="no adapters to save"):
        save_adapter(own, tmp_path)
    trained_adapter(own)
    with pytest.raises(ConfigError, match="adapters already"):
        add_lora(own)
    save_adapter(own, tmp_path)
    with pytest.raises(CheckpointError, match="another size"):
        load_adapter(model(hidden_size=64), tmp_path)
    with pytest.raises(CheckpointError, match=r"has an adapter of 'bert\.encoder"):
        load_adapter(model("gpt2_text_generation"), tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | {"use_dora": True}))
    with pytest.raises(CheckpointError, match="use_dora is True"):
        load_adapter(model(), tmp_path)


def test_checkpoints_resume_an_adapter(tmp_path: Path) -> None:
    run = trainer(tmp_path, lora={}, max_steps=2, eval_dataset=classification(4, 1))
    run.train()
    folder = tmp_path / "checkpoints" / "00000002"
    assert (folder / "adapter_config.json").is_file()
    assert (folder / "train" / "trained.pt").stat().st_size < 60_000
    again = trainer(tmp_path, lora={}, max_steps=4)
    assert again.train(resume_from_checkpoint=True).global_step == 4
