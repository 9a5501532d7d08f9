"""Trainings that go an unusual way: taken up elsewhere, measured wrongly, uploaded in between."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from trained import classification, language, model, rows, trainer, without_dropout

from hezar_like import Model, ModelConfig, build_dataset
from hezar_like.errors import ConfigError, DataError, HubError, OptionError
from hezar_like.testing import HubServer
from hezar_like.training import Callback, Trainer, TrainerConfig, load_adapter


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer) -> None:
        trainer.state.stop = trainer.state.global_step == self.step


def names(own: Trainer) -> list[str]:
    return sorted(path.name for path in own.checkpoints_path.iterdir())


def test_an_earlier_checkpoint_is_not_mixed_with_later_ones(tmp_path: Path) -> None:
    """New ones would be taken for older than those, and the next resumption would begin with those."""
    fields: dict[str, Any] = {"max_steps": 8, "save_steps": 2, "keep_checkpoints": None}
    first = trainer(tmp_path / "first", **fields)
    first.train()
    log = first.load_logs()
    again = trainer(tmp_path / "first", **fields)
    with pytest.raises(ConfigError, match=r"holds checkpoints behind step 4: 00000006, 00000008. Move them away"):
        again.train(resume_from_checkpoint="00000004")
    assert names(again) == ["00000002", "00000004", "00000006", "00000008"] and again.load_logs() == log
    elsewhere = trainer(tmp_path / "second", **fields)
    elsewhere.train(resume_from_checkpoint=str(first.checkpoints_path / "00000004"))
    assert names(elsewhere) == ["00000006", "00000008"]
    for name in ("00000006", "00000008"):
        (first.checkpoints_path / name).rename(tmp_path / name)
    assert again.train(resume_from_checkpoint="00000004").global_step == 8
    assert [record["step"] for record in again.load_logs() if "loss" in record] == list(range(1, 9))


def test_the_best_of_another_folder_does_not_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fields: dict[str, Any] = {
        "eval_dataset": classification(8, 1), "eval_steps": 2, "save_steps": 2, "learning_rate": 0.0,
        "load_best_model_at_end": True,
    }  # fmt: skip
    first = trainer(tmp_path / "first", max_steps=4, **fields)
    assert first.train().best_step == 2
    caplog.set_level(logging.WARNING, "hezar_like")
    second = trainer(tmp_path / "second", max_steps=8, **fields)
    state = second.train(resume_from_checkpoint=str(first.checkpoints_path / "00000004"))
    assert state.best_step == 6 and "so does not count" in caplog.text
    assert names(second) == ["00000006", "00000008"]


def test_what_cannot_be_measured_is_told_before_training(tmp_path: Path) -> None:
    causal = language("causal", 4)
    with pytest.raises(OptionError, match="'bleu' compares texts"):
        trainer(tmp_path, model("gpt2_text_generation"), causal, eval_dataset=causal, metrics="bleu").train()
    with pytest.raises(DataError, match="eval_dataset has no samples"):
        trainer(tmp_path, eval_dataset=[])
    assert trainer(tmp_path, eval_dataset=[], do_evaluate=False, max_steps=1, save_enabled=False).train().global_step == 1
    for evaluated, data in ((True, None), (False, causal)):
        own = model()
        optimizer = torch.optim.SGD(own.parameters())
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        config = TrainerConfig(output_dir=str(tmp_path), use_cpu=True, do_evaluate=evaluated)
        with pytest.raises(OptionError, match="the lr_scheduler follows evaluations. Give eval_dataset"):
            Trainer(own, config, classification(), data, optimizer=optimizer, lr_scheduler=plateau).train()


@pytest.mark.parametrize("given", [False, True], ids=["by_name", "ones_own"])
def test_the_rate_falls_where_nothing_gets_better(tmp_path: Path, given: bool) -> None:
    """By the evaluations' values, also those before it was stopped."""

    def made(folder: str, values: list[float]) -> Trainer:
        own, found, more = model(), iter(values), {}
        if given:
            optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=1)
            more = {"optimizer": optimizer, "lr_scheduler": plateau}
        config = TrainerConfig(
            output_dir=str(tmp_path / folder), use_cpu=True, max_steps=8, eval_steps=1, save_steps=1, log_steps=1,
            optimizer="sgd", learning_rate=0.1, metric_for_best_model="accuracy", keep_checkpoints=None,
            lr_scheduler="reduce_on_plateau", lr_scheduler_kwargs={"factor": 0.5, "patience": 1},
        )  # fmt: skip
        result = Trainer(own, config, classification(), classification(2), metrics=["accuracy"], **more)
        result.evaluate = lambda: {"evaluation.loss": 1.0, "evaluation.accuracy": next(found)}  # type: ignore[method-assign]
        return result

    def rates(own: Trainer) -> list[float]:
        return [record["learning_rate"] for record in own.load_logs() if "learning_rate" in record]

    whole = made("whole", [0.5, 0.6, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4])
    whole.train()
    # More is better, so that none is after the second; after two of these the rate is halved.
    assert rates(whole) == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025])
    again = made("again", [0.4] * 5)
    again.train(resume_from_checkpoint=str(whole.checkpoints_path / "00000003"))
    assert rates(again) == pytest.approx([0.1, 0.05, 0.05, 0.025, 0.025])


def test_a_checkpoint_needs_its_kind_of_schedule(tmp_path: Path) -> None:
    plateau = {"lr_scheduler": "reduce_on_plateau", "eval_dataset": classification(2)}
    for number, (before, after) in enumerate(((plateau, {}), ({}, plateau))):
        own = trainer(tmp_path / str(number), max_steps=2, **before)
        own.train()
        again = trainer(tmp_path / f"again{number}", max_steps=4, **after)
        with pytest.raises(ConfigError, match="with an lr_scheduler of another kind than"):
            again.train(resume_from_checkpoint=str(own.checkpoints_path / "00000002"))


def test_training_goes_on_where_there_are_other_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of a processor without float16 has no scale of losses, which the next one begins anew."""
    last = None
    for steps, known in ((2, False), (4, True), (6, False)):
        monkeypatch.setattr("hezar_like.training.precision.multiplies", lambda *_, known=known: known)
        own = trainer(tmp_path / str(steps), max_steps=steps, num_epochs=9, mixed_precision="fp16")
        assert own.train(resume_from_checkpoint=last).global_step == steps
        assert own.loop.scaler.is_enabled() is known
        last = str(own.checkpoints_path / f"{steps:08d}")


def test_texts_that_are_too_long_are_told_before_training(tmp_path: Path) -> None:
    short, long = {"text": "a dog", "label": "dog"}, {"text": "cat " * 80, "label": "none"}
    tokenizer = model().preprocessor
    data = build_dataset("text_classification", rows=[short, long], preprocessor=tokenizer)
    small = build_dataset("text_classification", rows=[short, {**short, "label": "none"}], preprocessor=tokenizer)
    message = "1 samples of {} have more tokens than the 48 .* the first is sample 1 with 82. Build the dataset with max_length=48"
    with pytest.raises(DataError, match=message.format("train_dataset")):
        trainer(tmp_path, data=data).train()
    with pytest.raises(DataError, match=message.format("eval_dataset")):
        trainer(tmp_path, data=small, eval_dataset=data).train()
    cut = build_dataset("text_classification", rows=[short, long], preprocessor=tokenizer, max_length=48)
    assert trainer(tmp_path, data=cut, max_steps=1).train().global_step == 1
    with pytest.raises(OptionError, match="is no callback"):
        trainer(tmp_path, callbacks=[StopAt])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metrics": ["accuracy"], "metric_for_best_model": "acc"}, "Name one of them"),
        ({"metrics": [{"name": "f1", "average": "binary", "pos_label": 7}]}, "pos_label is 7"),
    ],
)
def test_a_failed_evaluation_loses_no_step(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, OptionError), match=message):
        trainer(tmp_path, eval_dataset=classification(8, 1), num_epochs=2, **fields).train()
    again = trainer(tmp_path, eval_dataset=classification(8, 1), num_epochs=2)
    assert names(again) == ["00000006"]
    assert again.train(resume_from_checkpoint=True).global_step == 12


def test_an_upload_leaves_the_adapters(tmp_path: Path, hub: HubServer) -> None:
    own = trainer(tmp_path, lora={"r": 2}, max_steps=2, learning_rate=0.1)
    own.train()
    texts = ["a lazy dog", "five cats"]
    before = own.model.predict(texts)
    own.push_to_hub("tester/adapted")
    loaded = Model.load("tester/adapted", device="cpu")
    for mine, uploaded in zip(before, loaded.predict(texts), strict=True):
        assert mine[0]["label"] == uploaded[0]["label"]
        assert mine[0]["score"] == pytest.approx(uploaded[0]["score"], abs=1e-5)
    fresh = model(num_labels=None, id2label=own.model.config.id2label)
    load_adapter(fresh, own.save())
    assert fresh.predict(texts) == before
    own.config.max_steps = 4
    assert own.train(resume_from_checkpoint=True).global_step == 4


def test_scores_of_what_is_written_have_no_padding(tmp_path: Path) -> None:
    pairs = [{"source": row["text"], "target": " ".join(row["text"].split()[:2])} for row in rows(6)]
    own = model("t5_text_generation")
    data = build_dataset("seq2seq", rows=pairs, preprocessor=own.preprocessor)
    found = trainer(tmp_path, own, data).predict(data)
    assert [len(row) for row in found] == [len(data[i]["labels"]) for i in range(6)]
    assert len({len(row) for row in found}) > 1
    batch = data.data_collator([data[2]])
    with torch.no_grad():
        assert torch.allclose(found[2], own.eval()(**batch).logits[0], atol=1e-5)


def test_scores_that_are_of_no_sample_are_refused(tmp_path: Path) -> None:
    class Pairs(Model):
        """Scores that are one for two samples."""

        def __init__(self) -> None:
            super().__init__(ModelConfig())
            self.out = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.out(x)[::2]}

    data = [{"x": torch.ones(2)}] * 4
    own = Trainer(Pairs(), TrainerConfig(output_dir=str(tmp_path), use_cpu=True), data, data_collator=torch.utils.data.default_collate)
    with pytest.raises(OptionError, match="scores of 2 things for 4 samples"):
        own.predict(data)


def test_a_seed_is_a_training(tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((1, 1, 2)):
        own = trainer(tmp_path / str(number), model(hidden_dropout_prob=0.3), seed=seed, max_steps=4, save_enabled=False)
        own.train()
        found.append([record["loss"] for record in own.load_logs()])
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_gradients_are_scaled_down_to_their_norm(tmp_path: Path, optimizer: str) -> None:
    found = {}
    for most in (None, 0.05):
        own = trainer(
            tmp_path / str(most), optimizer=optimizer, learning_rate=10.0, max_grad_norm=most, max_steps=1, save_enabled=False,
            optimizer_kwargs={"eps": 1e3} if optimizer == "adamw" else None,
        )  # fmt: skip
        before = [parameter.detach().clone() for parameter in own.model.parameters()]
        own.train()
        moved = torch.stack([(p.detach() - b).norm() for p, b in zip(own.model.parameters(), before, strict=True)]).norm()
        found[most] = float(moved), own.load_logs()[0]["grad_norm"]
    (free, norm), (clipped, told) = found[None], found[0.05]
    assert norm == told > 0.5  # what is told is the norm before
    assert clipped == pytest.approx(free * 0.05 / norm, rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_a_model_of_another_type_is_trained_in_it(tmp_path: Path, dtype: torch.dtype) -> None:
    fields = {"max_steps": 3, "max_grad_norm": 0.1, "optimizer_kwargs": {"eps": 1e-4}}  # keys' biases change no scores
    usual, own = (trainer(tmp_path / str(t), model().to(t), **fields) for t in (torch.float32, dtype))
    for each in (usual, own):
        without_dropout(each.model)
        each.train()
    assert own.model.dtype == dtype
    for name, weight in usual.model.named_parameters():
        assert torch.allclose(own.model.get_parameter(name).float(), weight, atol=0.01 if dtype == torch.bfloat16 else 1e-5), name


@pytest.mark.usefixtures("any_precision")
def test_a_step_that_is_too_large_for_fp16_is_left_out(tmp_path: Path) -> None:
    class Large(Callback):
        """Scales the loss so far that gradients are infinite."""

        def on_train_begin(self, trainer: Trainer) -> None:
            trainer.loop.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100, backoff_factor=2.0**-90)
            self.weights = [parameter.detach().clone() for parameter in trainer.model.parameters()]

        def on_step_end(self, trainer: Trainer) -> None:
            pairs = zip(trainer.model.parameters(), self.weights, strict=True)
            same = all(torch.equal(parameter, before) for parameter, before in pairs)
            assert same is (trainer.state.global_step == 1)

    own = trainer(tmp_path, mixed_precision="fp16", max_steps=3, lr_scheduler="linear", save_enabled=False, callbacks=[Large()])
    own.train()
    rates = [record["learning_rate"] for record in own.load_logs()]
    assert rates[0] == rates[1] > rates[2]


def test_settings_that_need_processes_are_not_left_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Start with torchrun --nproc-per-node 1"):
        trainer(tmp_path, strategy="fsdp", cpu_offload=True)
    for fields in ({"strategy": "fsdp"}, {"tensor_parallel": 2}):
        with pytest.raises(ConfigError, match="adafactor.*shards"):
            TrainerConfig(optimizer="adafactor", **fields)


def test_a_place_that_cannot_be_written_to_is_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    own = trainer(tmp_path / "file" / "out", max_steps=2)
    steps = StopAt(-1)
    own.callbacks.append(steps)
    with pytest.raises(HubError, match=r"cannot save to '.*file/out/.*check the space and the permissions"):
        own.train()
    assert own.state.global_step == 0


@pytest.mark.parametrize("name", ["log.jsonl", "loss.svg", "trainer_state.yaml"])
def test_a_disk_that_is_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    own = trainer(tmp_path, max_steps=4, save_steps=2)
    opened = Path.open

    def full(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if path.name == name and mode != "r" and (own.state.global_step >= 3 or "00000004" in str(path)):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return opened(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(HubError, match=f"cannot save to .*No space left on device at '.*{name}'; check the space"):
        own.train()
    monkeypatch.undo()
    assert names(own) in (["00000002"], [".unfinished-00000004", "00000002"])
    assert trainer(tmp_path, max_steps=4, save_steps=2).train(resume_from_checkpoint=True).global_step == 4
