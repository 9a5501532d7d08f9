"""Schedules, optimizers, losses, settings, logs: the parts of training by themselves."""

from __future__ import annotations

import math
import xml.dom.minidom
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedulers
from trained import language, model, rows, trainer, without_dropout

from hezar_like import build_dataset, build_model
from hezar_like.errors import ConfigError, DataError, InputError, OptionError
from hezar_like.trainer import Trainer as ByHezarsPath
from hezar_like.training import (
    Trainer,
    TrainerConfig,
    build_optimizer,
    build_schedule,
    cosent_loss,
    draw_curves,
    focal_loss,
    read_log,
)
from hezar_like.training.logs import append_line, cut_log
from hezar_like.training.schedules import factor

HEZARS_FIELDS = {
    "output_dir", "task", "device", "num_epochs", "init_weights_from", "resume_from_checkpoint", "max_steps",
    "num_dataloader_workers", "dataloader_shuffle", "seed", "optimizer", "learning_rate", "weight_decay",
    "lr_scheduler", "lr_scheduler_kwargs", "lr_scheduling_steps", "batch_size", "eval_batch_size",
    "gradient_accumulation_steps", "distributed", "mixed_precision", "use_cpu", "do_evaluate",
    "evaluate_with_generate", "metrics", "metric_for_best_model", "save_enabled", "save_freq", "save_steps",
    "log_steps", "checkpoints_dir", "logs_dir",
}  # fmt: skip


def modelcenters(name: str, lr: float, t: int, w: int, e: int, gamma: float = 0.95) -> float:
    """ModelCenter's formulas, written out from its documentation."""
    if t < w:
        return lr / math.sqrt(w) * t / w if name == "noam" else lr * t / w
    return {
        "noam": lambda: lr / math.sqrt(t),
        "constant": lambda: lr,
        "linear": lambda: max(0.0, lr * (e - t) / (e - w)),
        "cosine": lambda: max(0.0, lr * 0.5 * (1 + math.cos((t - w) / max(1, e - w) * math.pi))),
        "exponential": lambda: max(0.0, lr * gamma ** (t - w)),
    }[name]()


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "exponential", "noam"])
def test_schedules_have_modelcenters_formulas(name: str) -> None:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.3)
    schedule = build_schedule(optimizer, name, warmup=4, end=20)
    for step in range(20):
        if step or name != "noam":
            assert optimizer.param_groups[0]["lr"] == pytest.approx(modelcenters(name, 0.3, step, 4, 20), abs=1e-12)
        optimizer.step()
        schedule.step()
    assert factor(name, 3, warmup=0, end=10) > 0
    assert factor(name, 30, warmup=4, end=20) >= 0


@pytest.mark.parametrize("warmup", [0, 5])
@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("step", {"step_size": 4, "gamma": 0.5}, lambda o: schedulers.StepLR(o, 4, 0.5)),
        ("step", {"step_size": 7}, lambda o: schedulers.StepLR(o, 7)),
        ("multi_step", {"milestones": [9, 3]}, lambda o: schedulers.MultiStepLR(o, [3, 9])),
        ("polynomial", {}, lambda o: schedulers.PolynomialLR(o, 30)),
        ("polynomial", {"power": 2, "total_iters": 12}, lambda o: schedulers.PolynomialLR(o, 12, 2)),
        ("cosine", {"eta_min": 0.02}, lambda o: schedulers.CosineAnnealingLR(o, 30, 0.02)),
        ("one_cycle", {}, lambda o: schedulers.OneCycleLR(o, 0.3, 30, cycle_momentum=False)),
        ("one_cycle", {"pct_start": 0.5, "div_factor": 4, "final_div_factor": 8}, lambda o: schedulers.OneCycleLR(
            o, 0.3, 30, pct_start=0.5, div_factor=4, final_div_factor=8, cycle_momentum=False)),
        ("cyclic", {"base_lr": 0.1, "step_size_up": 4, "step_size_down": 7}, lambda o: schedulers.CyclicLR(
            o, 0.1, 0.3, 4, 7, cycle_momentum=False)),
        ("cyclic", {"step_size_up": 6}, lambda o: schedulers.CyclicLR(o, 0, 0.3, 6, cycle_momentum=False)),
        ("exponential", {"gamma": 0.9}, lambda o: schedulers.ExponentialLR(o, 0.9)),
    ],
)  # fmt: skip
def test_schedules_that_hezar_has_are_torchs(name: str, options: dict[str, Any], theirs: Any, warmup: int) -> None:
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    own, other = (torch.optim.SGD([weight], lr=0.3) for weight in weights)
    schedule = build_schedule(own, name, warmup=warmup, end=30 + warmup, **options)
    for step in range(warmup):
        assert own.param_groups[0]["lr"] == pytest.approx(0.3 * step / warmup)
        own.step()
        schedule.step()
    expected = theirs(other)
    for step in range(30):
        assert own.param_groups[0]["lr"] == pytest.approx(other.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        own.step()
        schedule.step()
        other.step()
        if step < 29:  # the end of a cycle of 30 steps
            expected.step()


def test_each_group_has_its_own_highest_rate() -> None:
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [weights[0]], "lr": 0.1}, {"params": [weights[1]], "lr": 0.2}], lr=1.0)
    schedule = build_schedule(optimizer, "cosine", warmup=0, end=2, eta_min=0.05)
    for _ in range(2):
        optimizer.step()
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.05])


def test_what_follows_evaluations_has_no_warm_up() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    with pytest.raises(OptionError, match="has no warm-up, but warmup is 4"):
        build_schedule(optimizer, "reduce_on_plateau", warmup=4, end=9)
    assert build_schedule(optimizer, "reduce_on_plateau", warmup=0, end=9, mode="max").mode == "max"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lr_scheduler": "step"}, "'step' needs 'step_size'"),
        ({"lr_scheduler": "multi_step", "lr_scheduler_kwargs": {"milestones": [3, 0]}}, "milestones is .3, 0.; it must"),
        ({"lr_scheduler": "step", "lr_scheduler_kwargs": {"step_size": 2.5}}, "step_size is 2.5; it must be a whole"),
        ({"lr_scheduler": "cosine", "lr_scheduler_kwargs": {"eta_min": "1e-6"}}, "eta_min is '1e-6'; it must be 0 or more"),
        ({"lr_scheduler": "one_cycle", "lr_scheduler_kwargs": {"max_lr": 1}}, "takes no 'max_lr': it takes pct_start, "),
        ({"lr_scheduler": "one_cycle", "lr_scheduler_kwargs": {"div_factor": 0}}, "div_factor is 0; it must be above 0"),
        ({"lr_scheduler": "linear", "lr_scheduler_kwargs": {"gamma": 1}}, "takes no 'gamma': it takes none"),
        ({"lr_scheduler": "one_cycl"}, "Did you mean 'one_cycle'"),
        ({"lr_scheduler": "reduce_on_plateau", "do_evaluate": False}, "needs do_evaluate"),
        ({"lr_scheduler": "reduce_on_plateau", "warmup_ratio": 0.1}, "has no warm-up"),
        ({"lr_scheduler": "reduce_on_plateau", "lr_scheduler_kwargs": {"patient": 1}}, "takes no 'patient'"),
        ({"lr_scheduler": "reduce_on_plateau", "lr_scheduler_kwargs": {"mode": "max"}}, "takes no 'mode': it takes factor"),
        ({"lr_scheduler": "reduce_on_plateau", "lr_scheduler_kwargs": {"patience": "2"}}, "patience is '2'; it must be a"),
        ({"lr_scheduler": "reduce_on_plateau", "lr_scheduler_kwargs": {"factor": 2.0}}, "factor is 2.0; .*, and below 1"),
        ({"lr_scheduler": "reduce_on_plateau", "lr_scheduler_kwargs": {"threshold_mode": 1}}, "must be 'rel' or 'abs'"),
        ({"lr_scheduler": "multi_step", "lr_scheduler_kwargs": {"milestones": 3}}, "milestones is 3; .*, in a list"),
        ({"lr_scheduler": "one_cycle", "lr_scheduler_kwargs": {"pct_start": 3}}, "pct_start is 3; .*, and at most 1"),
    ],
)
def test_a_schedule_that_cannot_be_is_told(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainerConfig(**fields)


def test_defaults_may_be_given() -> None:
    for name, options in (
        ("cyclic", {"step_size_down": None}), ("polynomial", {"total_iters": 0}),
        ("reduce_on_plateau", {"min_lr": [0.1, 0], "cooldown": 0, "eps": 1e-8}),
    ):  # fmt: skip
        assert TrainerConfig(lr_scheduler=name, lr_scheduler_kwargs=options).lr_scheduler_kwargs == options


def test_an_optimizer_that_was_scheduled_before_begins_anew() -> None:
    optimizer, rates = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1), []
    for _ in range(2):
        schedule, found = build_schedule(optimizer, "cosine", warmup=0, end=4, eta_min=0.02), []
        for _ in range(4):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        rates.append(found)
    assert rates[0] == pytest.approx(rates[1]) and rates[0][-1] < 0.04


def test_unknown_schedules_and_optimizers_suggest() -> None:
    with pytest.raises(OptionError, match="Did you mean 'cosine'"):
        factor("cosin", 1)
    assert factor("cosine_anealing", 5, end=10) == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="optimizer is 'adamax'; it must be one of adamw"):
        TrainerConfig(optimizer="adamax")
    with pytest.raises(ConfigError, match="optimizer is 'adamm', which is unknown. Did you mean 'adam"):
        build_optimizer(nn.Linear(2, 2), "adamm", learning_rate=1.0)
    with pytest.raises(ConfigError, match="optimizer_kwargs do not fit 'sgd'"):
        build_optimizer(nn.Linear(2, 2), "sgd", learning_rate=1.0, options={"betas": [0.1, 0.2]})
    frozen = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ConfigError, match="no parameter"):
        build_optimizer(frozen, learning_rate=1.0)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "sdg", "adafactor"])
def test_optimizers_learn_and_spare_biases(name: str) -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = build_optimizer(layer, name, learning_rate=0.05, weight_decay=0.1)
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {2: 0.1, 1: 0.0}
    x = torch.randn(64, 4)
    y = x[:, :1] - x[:, 1:2]
    losses = []
    for _ in range(60):
        loss = F.mse_loss(layer(x), y)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]


def test_focal_loss() -> None:
    logits, labels = torch.randn(5, 3, 4), torch.tensor([[0, 1, -100]] * 5)
    assert torch.allclose(focal_loss(logits, labels, 0.0), F.cross_entropy(logits.flatten(0, 1), labels.flatten()))
    p = logits.softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0][:, :2]
    assert torch.allclose(focal_loss(logits, labels, 2.0), (-((1 - p) ** 2) * p.log()).mean())


def test_cosent_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 4, 6, generator=generator)
    scores = torch.tensor([0.1, 0.9, 0.5, 0.5])
    cosines = F.cosine_similarity(left, right)
    terms = [math.exp(20 * float(cosines[i] - cosines[j])) for i in range(4) for j in range(4) if scores[i] < scores[j]]
    assert float(cosent_loss(left, right, scores)) == pytest.approx(math.log(1 + sum(terms)), rel=1e-5)
    assert float(cosent_loss(left, right, torch.ones(4))) == 0.0


@pytest.mark.parametrize(
    ("name", "packed"),
    [("gpt2_text_generation", False), ("gpt2_text_generation", True), ("llama_text_generation", True), ("t5_text_generation", False)],
)
def test_head_and_loss_at_once_are_head_and_loss(tmp_path: Path, name: str, packed: bool) -> None:
    own = without_dropout(model(name))
    data = language("causal", 8)
    found = []
    for fused in (False, True):
        run = trainer(
            tmp_path / str(fused), without_dropout(model(name)), data, fused_loss=fused, packed=packed, batch_size=8, max_steps=1,
            optimizer="sgd", learning_rate=1.0, max_grad_norm=None, save_enabled=False,
        )  # fmt: skip
        run.train()
        found.append((run.load_logs()[0]["loss"], run.load_logs()[0]["grad_norm"], run.model.state_dict()))
    (loss, norm, weights), (fused_loss, fused_norm, fused_weights) = found
    assert fused_loss == pytest.approx(loss, abs=1e-5) and fused_norm == pytest.approx(norm, rel=1e-5)
    assert all(torch.allclose(weights[key], fused_weights[key], atol=1e-5) for key in weights)
    assert not all(torch.equal(weights[key], tensor) for key, tensor in own.state_dict().items())


def test_head_and_loss_at_once_keep_no_scores() -> None:
    """No tensor that is kept for the backward pass is as wide as the vocabulary is for each token."""
    own: Any = build_model(
        "gpt2_text_generation", vocab_size=5000, hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    own.train()
    tokens = torch.randint(0, 5000, (8, 40))
    sizes: dict[bool, int] = {}
    for fused in (False, True):
        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t):
            loss = own.fused_loss(token_ids=tokens, labels=tokens) if fused else own(token_ids=tokens, labels=tokens).loss
        assert loss.requires_grad
        sizes[fused] = max(tensor.numel() for tensor in kept)
    assert sizes[False] >= 8 * 39 * 5000 > 5 * sizes[True]


def test_what_cannot_be_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fused_loss is for models that write"):
        trainer(tmp_path, fused_loss=True)
    with pytest.raises(ConfigError, match="without label_smoothing"):
        TrainerConfig(fused_loss=True, label_smoothing=0.1)
    with pytest.raises(ConfigError, match="scores are those of its last layer"):
        trainer(tmp_path, model("gemma2_text_generation"), language("causal", 4), fused_loss=True, save_enabled=False).train()


def test_vectors_learn_the_order_of_pairs(tmp_path: Path) -> None:
    texts = [row["text"] for row in rows(16)]
    pairs = []
    for index, text in enumerate(texts):
        other = texts[(index * 7 + 3) % len(texts)]
        shared = len({*text.split()} & {*other.split()}) / len({*text.split()} | {*other.split()})
        pairs.append({"text": text, "text_pair": other, "score": str(round(shared, 3))})
    own = model("bert_text_embedding")
    data = build_dataset("text_similarity", rows=pairs, preprocessor=own.preprocessor)
    batch = data.data_collator([data[i] for i in range(5)])
    assert batch["token_ids"].shape[0] == 10 and batch["labels"].tolist() == pytest.approx([float(p["score"]) for p in pairs[:5]])
    output = own(**batch)
    left, right = (own.embed([pair[name] for pair in pairs[:5]]) for name in ("text", "text_pair"))
    assert torch.allclose(output.logits, F.cosine_similarity(left, right), atol=1e-5)
    assert torch.allclose(output.loss, cosent_loss(left, right, batch["labels"]), atol=1e-4)
    run = trainer(
        tmp_path, own, data, eval_dataset=data, metrics=["spearman"], metric_for_best_model="spearman", batch_size=16,
        num_epochs=30, learning_rate=3e-3, save_enabled=False,
    )  # fmt: skip
    before = run.evaluate()["evaluation.spearman"]
    run.train()
    after = run.evaluate()["evaluation.spearman"]
    assert run.maximizes and after > 0.9 > before
    assert torch.stack(run.predict(data)).shape == (16,)
    with pytest.raises(InputError, match="10 texts and 3 labels; a label is for two"):
        own(**{**batch, "labels": batch["labels"][:3]})
    with pytest.raises(DataError, match="row 1: 'much' is no number"):
        build_dataset("text_similarity", rows=[pairs[0], {**pairs[1], "score": "much"}])


def test_config_takes_hezars_fields_and_refuses_others(tmp_path: Path) -> None:
    assert set(TrainerConfig.fields()) >= HEZARS_FIELDS
    assert ByHezarsPath is Trainer
    config = TrainerConfig(
        output_dir="x", metrics=["f1", {"name": "accuracy"}], lora={"r": 4, "targets": ["q"]}, lr_scheduler="noam"
    )
    config.save(tmp_path)
    assert TrainerConfig.load(tmp_path) == config
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"learning_rat": 1.0}, "Did you mean 'learning_rate'"),
        ({"learning_rate": "fast"}, "must be a number"),
        ({"batch_size": 0}, "between 1"),
        ({"lr_scheduler": "cosin"}, "Did you mean 'cosine'"),
        ({"mixed_precision": "fp8"}, "must be one of"),
        ({"label_smoothing": 0.1, "focal_gamma": 1.0}, "not both"),
        ({"lr_scheduler_kwargs": {"gamma": 1}}, "takes no 'gamma'"),
        ({"cpu_offload": True}, "strategy='fsdp'"),
        ({"reshard_after_forward": False}, "strategy='fsdp'"),
        ({"early_stopping_patience": 2, "do_evaluate": False}, "do_evaluate"),
        ({"load_best_model_at_end": True, "save_enabled": False}, "save_enabled"),
        ({"lora": {"rr": 1}}, "unknown key 'rr'"),
        ({"strategy": "fsdp", "lora": {}}, "ddp"),
        ({"label_smoothing": 1}, "nothing is learned"),
        ({"tensor_parallel": 2, "strategy": "fsdp"}, "goes neither with"),
        ({"tensor_parallel": 2, "lora": {}}, "goes neither with"),
    ]
    for fields, message in wrong:
        with pytest.raises(ConfigError, match=message):
            TrainerConfig(**fields)


def test_log_survives_what_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "log.jsonl"
    assert read_log(path) == []
    for step in (1, 2, 3):
        append_line(path, {"step": step, "loss": 1.0 / step, "grad_norm": math.nan})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [r["step"] for r in read_log(path)] == [1, 2, 3]
    assert read_log(path)[0]["grad_norm"] is None
    cut_log(path, 2)
    assert path.read_text() == '{"step": 1, "loss": 1.0, "grad_norm": null}\n{"step": 2, "loss": 0.5, "grad_norm": null}\n'


@pytest.mark.parametrize("records", [[], [{"step": 1, "loss": 2.0}], [{"step": i, "loss": 1 / i, "evaluation.loss": 0.5} for i in (1, 5, 9)]])
def test_curves_are_a_picture(records: list[dict[str, Any]]) -> None:
    document = xml.dom.minidom.parseString(draw_curves(records))
    lines = document.getElementsByTagName("polyline")
    assert len(lines) == (2 if len(records) > 1 else len(records))
    for line in lines:
        points = [tuple(map(float, p.split(","))) for p in line.getAttribute("points").split()]
        assert len(points) == len(records)
        assert all(0 <= x <= 640 and 0 <= y <= 320 for x, y in points)
