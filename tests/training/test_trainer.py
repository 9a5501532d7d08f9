"""The Trainer: it learns, goes on exactly where it was, and says what is wrong."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from torch import Tensor
from trained import beside_tests, classification, language, model, rows, tagging, trainer, without_dropout

from hezar_like import Model, build_dataset, build_metric, build_preprocessor
from hezar_like.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    HubError,
    MissingDependency,
    NonFiniteOutput,
    OptionError,
)
from hezar_like.metrics import Metric
from hezar_like.testing import HubServer
from hezar_like.training import Callback, EarlyStopping, TensorBoard, Trackio, Trainer, TrainerConfig, read_log
from hezar_like.training.step import counted


class Recorder(Callback):
    """Notes what happens; stops after a step."""

    def __init__(self, stop_at: int = -1) -> None:
        self.events: list[str] = []
        self.stop_at = stop_at

    def on_train_begin(self, trainer: Trainer) -> None:
        self.events.append("begin")

    def on_step_end(self, trainer: Trainer) -> None:
        self.events.append("step")
        trainer.state.stop = trainer.state.global_step == self.stop_at

    def on_evaluate(self, trainer: Trainer, values: Any) -> None:
        self.events.append("evaluate")

    def on_save(self, trainer: Trainer, folder: Path) -> None:
        self.events.append(f"save {folder.name}")

    def on_train_end(self, trainer: Trainer) -> None:
        self.events.append("end")


def weights(own: Model) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in own.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns_measures_and_saves(tmp_path: Path) -> None:
    data = classification(40)
    own = trainer(
        tmp_path, data=data, eval_dataset=data, metrics=["accuracy", {"name": "f1", "average": "binary"}],
        batch_size=8, num_epochs=20, learning_rate=3e-3, lr_scheduler="linear", metric_for_best_model="accuracy",
        load_best_model_at_end=True,
    )  # fmt: skip
    before = own.evaluate()
    state = own.train()
    told = own.last_values
    after = own.evaluate()
    assert told == after  # of the weights that are there, the best
    assert after["evaluation.accuracy"] > max(before["evaluation.accuracy"], 0.8)
    assert set(after) == {"evaluation.loss", "evaluation.accuracy", "evaluation.f1"}
    assert after["evaluation.accuracy"] == state.best_metric_value
    assert own.model.config.id2label == {0: "dog", 1: "none"}
    folder = own.save()
    loaded = Model.load(folder, device="cpu")
    predictions = loaded.predict([row["text"] for row in rows(40)])
    right = [p[0]["label"] == row["label"] for p, row in zip(predictions, rows(40), strict=True)]
    assert sum(right) / 40 == after["evaluation.accuracy"]
    assert (folder / "loss.svg").read_text().startswith("<svg")
    for checkpoint in own.checkpoints_path.iterdir():
        assert (checkpoint / "train" / "loss.svg").read_text().count("<polyline") == 2  # of training and of evaluation
    assert TrainerConfig.load(folder).num_epochs == 20
    records = own.load_logs()
    assert [r["step"] for r in records if "loss" in r] == list(range(1, 101))
    assert len([r for r in records if "evaluation.loss" in r]) == 20


def test_evaluation_is_of_all_samples_at_once(tmp_path: Path) -> None:
    data = classification(11)
    own = trainer(tmp_path, data=data, eval_dataset=data, metrics=["accuracy", "f1"], eval_batch_size=4)
    values = own.evaluate()
    scores = torch.stack(own.predict(data))
    labels = torch.tensor([data[i]["labels"] for i in range(11)])
    assert values["evaluation.loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(scores, labels)), rel=1e-5)
    assert values["evaluation.f1"] == build_metric("f1").compute(scores, labels)["f1"]
    alone = own.model(token_ids=torch.tensor([data[3]["token_ids"]])).logits[0]
    assert torch.allclose(scores[3], alone, atol=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"optimizer": "sgd", "optimizer_kwargs": {"momentum": 0.9}, "lr_scheduler": "noam", "warmup_steps": 3},
        {"optimizer": "adafactor", "lr_scheduler": "cosine", "packed": True, "max_tokens": 40, "group_by_length": True},
        {"gradient_accumulation_steps": 2, "mixed_precision": "bf16", "num_dataloader_workers": 0, "batch_size": 2},
        {"lora": {"r": 2, "dropout": 0.1}, "mixed_precision": "fp16"},
        {"save_in_background": True, "save_steps": 1},
        {"save_in_background": True, "save_steps": 1, "lora": {"r": 2}},
    ],
    ids=["adamw", "sgd", "packed", "accumulated", "lora", "background", "background_lora"],
)
@pytest.mark.usefixtures("any_precision")
def test_resuming_is_exact(tmp_path: Path, fields: dict[str, Any]) -> None:
    """Ten steps are five, and five more in another trainer: weights, optimizer, schedule, samples and dropout."""
    fields = {"max_steps": 10, "log_steps": 3, "eval_dataset": classification(6, 1), "metrics": ["accuracy"]} | fields
    whole = trainer(tmp_path / "whole", model(hidden_dropout_prob=0.2), **fields)
    whole.train()
    first = trainer(tmp_path / "parts", model(hidden_dropout_prob=0.2), callbacks=[Recorder(stop_at=5)], **fields)
    assert first.train().global_step == 5
    torch.manual_seed(99)
    second = trainer(tmp_path / "parts", model(hidden_dropout_prob=0.2, seed=3), **fields)
    if "lora" in fields:  # the adapter is small because the rest is the model that was there
        second = trainer(tmp_path / "parts", model(hidden_dropout_prob=0.2), **fields)
    state = second.train(resume_from_checkpoint=True)
    assert state.global_step == 10
    assert same(weights(whole.model), weights(second.model))
    for one, other in ((whole.loop, second.loop),):
        assert one.schedule.state_dict() == other.schedule.state_dict()
        assert one.optimizer.param_groups[0]["lr"] == other.optimizer.param_groups[0]["lr"]
        for p, q in zip(one.optimizer.state.values(), other.optimizer.state.values(), strict=True):
            assert all(torch.equal(torch.as_tensor(p[key]), torch.as_tensor(q[key])) for key in p if p[key] is not None)
    losses = [{r["step"]: r["loss"] for r in own.load_logs() if "loss" in r} for own in (whole, second)]
    assert losses[0] == losses[1]
    # The first of both trainings measured at its end, too.
    measured = {"best_step": 0, "best_metric_value": 0.0, "worse_evaluations": 0}
    assert whole.state.to_dict() | measured == state.to_dict() | measured


@pytest.mark.parametrize("name", ["bert_text_classification", "gpt2_text_generation", "bert_sequence_labeling"])
def test_accumulated_batches_are_one_batch(tmp_path: Path, name: str) -> None:
    """The mean over all tokens, or rows, and not over means of batches, which differ in tokens and in size."""
    data = {"text": classification, "gpt2": lambda n: language("causal", n), "bert": tagging}[
        "gpt2" if "gpt2" in name else "bert" if "labeling" in name else "text"
    ](10)
    results = []
    for size, parts in ((10, 1), (4, 3)):
        own = trainer(
            tmp_path / str(size), without_dropout(model(name)), data, batch_size=size, max_steps=1, save_enabled=False,
            gradient_accumulation_steps=parts, dataloader_shuffle=False, max_grad_norm=None,
        )  # fmt: skip
        own.train()
        results.append(own.load_logs()[0])
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-5)
    assert results[0]["grad_norm"] == pytest.approx(results[1]["grad_norm"], rel=1e-4)


def test_what_a_loss_is_the_mean_of() -> None:
    labels = torch.tensor([[-100, 5, 6], [7, -100, -100]])
    batch = {"token_ids": torch.ones(2, 3, dtype=torch.long), "labels": labels}
    assert counted(model("bert_sequence_labeling"), batch) == 3
    assert counted(model("gpt2_text_generation"), batch) == 2
    assert counted(model("t5_text_generation"), batch) == 3
    assert counted(model("bert_sequence_labeling_crf"), batch) == 2
    assert counted(model(), batch | {"labels": torch.tensor([0, 1])}) == 2
    assert counted(model("gpt2_text_generation"), batch | {"loss_mask": torch.ones(2, 3)}) == 4


def test_a_batch_without_labels_changes_nothing(tmp_path: Path) -> None:
    data = [{"token_ids": [2, 20, 3], "labels": [-100] * 3}, {"token_ids": [2, 21, 3], "labels": [0, 1, 1]}]
    from hezar_like.data import PadCollator

    own = Trainer(
        model("bert_sequence_labeling"),
        TrainerConfig(output_dir=str(tmp_path), batch_size=1, max_steps=2, use_cpu=True, dataloader_shuffle=False, log_steps=1),
        data, data_collator=PadCollator(),
    )  # fmt: skip
    own.train()
    first, second = own.load_logs()
    assert first["loss"] is None
    assert first["grad_norm"] == 0.0
    assert second["loss"] > 0


@pytest.mark.parametrize("every", [True, 2])
def test_checkpointing_activations_changes_no_gradient(every: bool | int) -> None:
    from hezar_like.training.faults import saving_memory

    batch = classification().data_collator([classification()[i] for i in range(4)])
    grads, calls = [], []
    for setting in (False, every):
        own = model(num_hidden_layers=4).train()
        runs: list[int] = []
        for index, block in enumerate(own.backbone.stack.blocks):
            block.mlp.register_forward_pre_hook(lambda *_, index=index, runs=runs: runs.append(index))
        torch.manual_seed(0)
        with saving_memory(own, setting):
            own(**batch).loss.backward()
        assert own.backbone.stack.checkpoint_activations == 0
        calls.append([runs.count(index) for index in range(4)])
        grads.append([p.grad for p in own.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    assert calls == [[1] * 4, [2] * 4 if every is True else [2, 1, 2, 1]]
    own.checkpoint_activations(3)
    with saving_memory(own, False):
        assert own.backbone.stack.checkpoint_activations == 3  # what the model was told before stays


def test_best_and_last_checkpoints_stay(tmp_path: Path) -> None:
    recorder = Recorder()
    own = trainer(tmp_path, eval_dataset=classification(8, 1), num_epochs=6, keep_checkpoints=2, callbacks=[recorder])
    state = own.train()
    names = sorted(p.name for p in own.checkpoints_path.iterdir())
    assert names[-2:] == ["00000030", "00000036"]
    assert f"{state.best_step:08d}" in names
    assert len(names) <= 3
    assert recorder.events[0] == "begin"
    assert recorder.events[-1] == "end"
    assert recorder.events.count("evaluate") == 6
    # Another training in the same folder would mix them.
    with pytest.raises(ConfigError, match="resume_from_checkpoint=True"):
        trainer(tmp_path).train()


def test_early_stopping(tmp_path: Path) -> None:
    own = trainer(tmp_path, eval_dataset=classification(8, 1), num_epochs=9, learning_rate=0.0, early_stopping_patience=2)
    assert any(isinstance(callback, EarlyStopping) for callback in own.callbacks)
    state = own.train()
    assert state.epoch == 3
    assert state.best_step == 6


def test_a_half_checkpoint_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = trainer(tmp_path, max_steps=4, save_steps=2, keep_checkpoints=None)
    own.train()
    last = own.checkpoints_path / "00000004"
    content = (last / "model.safetensors").read_bytes()
    (last / "model.safetensors").write_bytes(content[:-10])
    caplog.set_level(logging.WARNING, "hezar_like")
    again = trainer(tmp_path, max_steps=4, save_steps=2, keep_checkpoints=None)
    steps = Recorder()
    again.callbacks.append(steps)
    again.train(resume_from_checkpoint=True)
    assert "model.safetensors is missing or cut off" in caplog.text
    assert steps.events.count("step") == 2
    assert (last / "model.safetensors").read_bytes() == content
    (last / "train" / "optimizer.pt").unlink()
    with pytest.raises(CheckpointError, match=r"optimizer.pt is missing or cut off\. Give another"):
        trainer(tmp_path, max_steps=6).train(resume_from_checkpoint=str(last))
    with pytest.raises(CheckpointError, match="there is no such folder"):
        trainer(tmp_path, max_steps=6).train(resume_from_checkpoint="nowhere")
    with pytest.raises(ConfigError, match=r"batch_size=4, and now it is 2"):
        trainer(tmp_path, max_steps=6, batch_size=2).train(resume_from_checkpoint="00000002")
    with pytest.raises(CheckpointError, match="another model"):
        trainer(tmp_path, model(hidden_size=16), max_steps=6).train(resume_from_checkpoint="00000002")


@pytest.mark.parametrize("later", [False, True])
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: bool) -> None:
    own = trainer(tmp_path, max_steps=4, save_steps=2, save_in_background=later)
    save = torch.save

    def full(value: Any, path: Path) -> None:
        if "00000004" in str(path) and path.name == "optimizer.pt":
            raise RuntimeError("PytorchStreamWriter failed writing file")
        save(value, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(HubError, match=r"optimizer.pt'.*check the space"):
        own.train()
    monkeypatch.undo()
    assert [p.name for p in own.checkpoints_path.iterdir() if p.name.isdecimal()] == ["00000002"]
    again = trainer(tmp_path, max_steps=4, save_steps=2)
    again.train(resume_from_checkpoint=True)
    assert sorted(p.name for p in again.checkpoints_path.iterdir()) == ["00000002", "00000004"]


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hezar_like import saving

    own = trainer(tmp_path, max_steps=4, save_steps=1, save_in_background=True, keep_checkpoints=None)
    save, recorder, steps, further = saving.save_model, Recorder(), [], threading.Event()

    class Further(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.state.global_step == 2:
                further.set()

    def slow(folder: Path, *args: Any, **options: Any) -> Path:
        assert further.wait(60)  # the first checkpoint is written when the second step is done
        steps.append(own.state.global_step)
        assert not list(own.checkpoints_path.glob("00000001")) or folder.name > ".unfinished-00000001"
        return save(folder, *args, **options)

    monkeypatch.setattr(saving, "save_model", slow)
    own.callbacks += [Further(), recorder]
    own.train()
    assert steps[0] == 2
    assert [event for event in recorder.events if event.startswith("save")] == [f"save 0000000{i}" for i in range(1, 5)]
    assert recorder.events.index("save 00000001") > [i for i, e in enumerate(recorder.events) if e == "step"][1]
    monkeypatch.undo()
    at_once = trainer(tmp_path / "at_once", max_steps=4, save_steps=1, keep_checkpoints=None)
    at_once.train()
    for number in range(1, 5):
        pair = [load_file(t.checkpoints_path / f"0000000{number}" / "model.safetensors") for t in (own, at_once)]
        assert same(*pair)


def test_a_value_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    class Counted(Metric):
        runs = 0

        def score(self, predictions: Any, targets: Any, config: Any) -> dict[str, float]:
            Counted.runs += 1
            return {"counted": float("nan") if Counted.runs in (1, 4) else float(Counted.runs)}

    own = trainer(tmp_path, eval_dataset=classification(4, 1), metrics=[Counted()], metric_for_best_model="counted", num_epochs=4)
    state = own.train()
    assert (state.best_metric_value, state.best_step, state.worse_evaluations) == (3.0, 18, 1)


def test_nan_stops_with_the_sample(tmp_path: Path) -> None:
    class Poisoned:
        def __init__(self) -> None:
            self.own = classification(12)
            self.id2label, self.data_collator = self.own.id2label, self.collate

        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> Any:
            return {**self.own[index], "poison": index == 7}

        def collate(self, features: Any) -> dict[str, Tensor]:
            return self.own.data_collator(features)

    data = Poisoned()
    own = trainer(tmp_path, data=data, max_steps=9)
    forward = own.model.backbone.embed.forward
    row = torch.tensor(data[7]["token_ids"])

    def poisoned(tokens: Tensor, *args: Any) -> Tensor:
        x = forward(tokens, *args)
        hit = (tokens[:, : len(row)] == row).all(1) if tokens.size(1) >= len(row) else torch.zeros(len(tokens)).bool()
        return x.masked_fill(hit[:, None, None], float("nan"))

    own.model.backbone.embed.forward = poisoned
    before = None

    class Keep(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            nonlocal before
            before = weights(trainer.model)

    before = weights(own.model)
    own.callbacks.append(Keep())
    with pytest.raises(NonFiniteOutput, match=r"the loss is nan in step [123] \(epoch 1\).*sample 7 of train_dataset"):
        own.train()
    assert same(before, weights(own.model))


def test_a_loss_that_explodes_says_what_to_change(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteOutput, match=r"in step \d+ .*training stops"):
        trainer(tmp_path, model("gpt2_text_generation"), language("causal"), max_steps=50, learning_rate=1e4,
                optimizer="sgd", max_grad_norm=None).train()  # fmt: skip


def test_bad_data_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train_dataset has no samples"):
        trainer(tmp_path, data=[]).train()
    with pytest.raises(OptionError, match="Give train_dataset"):
        Trainer(model(), TrainerConfig(output_dir=str(tmp_path))).train()
    with pytest.raises(DataError, match=r"the model has 3 labels .* but the data has 2 \(dog, none\)"):
        trainer(tmp_path, model(num_labels=3))
    with pytest.raises(DataError, match="another order"):
        trainer(tmp_path, model(num_labels=None, id2label={0: "none", 1: "dog"}))
    with pytest.raises(ConfigError, match="task is 'mask_filling'"):
        trainer(tmp_path, task="mask_filling")
    data = [{"token_ids": [2, 20, 3], "labels": i % 4} for i in range(8)]
    from hezar_like.data import PadCollator

    config = TrainerConfig(output_dir=str(tmp_path), batch_size=8, max_steps=1, use_cpu=True, dataloader_shuffle=False)
    with pytest.raises(DataError, match=r"step 1: a label or token is out of .* in sample 2, 3, 6, 7 of"):
        Trainer(model(), config, data, data_collator=PadCollator()).train()
    with pytest.raises(ConfigError, match="label_smoothing needs"):
        trainer(tmp_path, model("bert_sequence_labeling_crf"), tagging(), label_smoothing=0.1)
    with pytest.raises(ConfigError, match="tensor_parallel is 2, but there are 1 processes"):
        trainer(tmp_path, tensor_parallel=2)
    with pytest.raises(ConfigError, match="there is one process"):
        trainer(tmp_path, distributed=True)
    with pytest.raises(OptionError, match="load_best_model_at_end needs evaluations. Give eval_dataset"):
        trainer(tmp_path, load_best_model_at_end=True)
    with pytest.raises(OptionError, match="'bleu' compares texts"):
        trainer(tmp_path, eval_dataset=classification(), metrics=["bleu"]).evaluate()
    with pytest.raises(ConfigError, match="metric_for_best_model is 'f2', and it is not known"):
        trainer(tmp_path, metrics=["accuracy", "perplexity"], metric_for_best_model="f2")


def test_other_losses_are_the_tasks_own_with_other_settings(tmp_path: Path) -> None:
    data = classification(8)
    batch = data.data_collator([data[i] for i in range(8)])
    own = trainer(tmp_path, data=data, label_smoothing=0.2)
    own.step.eval()
    found = own.step(batch)
    wanted = torch.nn.functional.cross_entropy(found["logits"], batch["labels"], label_smoothing=0.2)
    assert torch.allclose(found["loss"], wanted)
    causal = language("causal", 4)
    batch = causal.data_collator([causal[i] for i in range(4)])
    own = trainer(tmp_path, model("gpt2_text_generation"), causal, focal_gamma=1e-9)
    own.step.eval()
    plain = own.model(**batch).loss
    assert torch.allclose(own.step(batch)["loss"], plain, atol=1e-5)


def test_a_model_without_preprocessors_gets_those_of_the_data(tmp_path: Path) -> None:
    data, own = classification(), model()
    own.preprocessor = None
    trainer(tmp_path, own, data)
    assert own.preprocessor.tokenizer is data.tokenizer
    other = model()
    given = other.preprocessor.tokenizer
    other.preprocessor = None
    Trainer(other, TrainerConfig(output_dir=str(tmp_path), use_cpu=True), data, preprocessor=given)
    assert other.preprocessor.tokenizer is given
    wrong = build_preprocessor("wordpiece_tokenizer", vocab_size=90, min_frequency=1, show_progress=False)
    wrong.train_from_iterator(["something else"])
    with pytest.raises(DataError, match="another tokenizer than the model's"):
        Trainer(other, TrainerConfig(output_dir=str(tmp_path)), classification_of(wrong))


def classification_of(tokenizer: Any) -> Any:
    return build_dataset("text_classification", rows=rows(4), preprocessor=tokenizer)


def test_weights_to_begin_with(tmp_path: Path) -> None:
    start = model("bert_mask_filling", seed=5)
    start.save(tmp_path / "start")
    own = trainer(tmp_path / "out", init_weights_from=str(tmp_path / "start"))
    assert torch.equal(own.model.state_dict()["backbone.embed.tokens.weight"], start.state_dict()["backbone.embed.tokens.weight"])


@pytest.mark.usefixtures("any_precision")
@pytest.mark.parametrize("precision", ["bf16", "fp16", "no"])
def test_mixed_precision_trains(tmp_path: Path, precision: str) -> None:
    own = trainer(tmp_path, num_epochs=10, mixed_precision=precision, learning_rate=3e-3, save_enabled=False, log_steps=1)
    own.train()
    losses = [r["loss"] for r in own.load_logs()]
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])
    assert own.model.dtype == torch.float32


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_processor_without_a_type_says_so(
    tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would take forty times as long."""
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    found = []
    for number, value in enumerate((precision, None)):
        own = trainer(tmp_path / str(number), max_steps=3, mixed_precision=value)
        own.train()
        found.append(own)
    (said,) = [record.getMessage() for record in caplog.records if "mixed_precision" in record.getMessage()]
    assert repr(precision) in said and "float32 is used" in said
    assert same(weights(found[0].model), weights(found[1].model))
    assert not found[0].loop.scaler.is_enabled()
    assert found[0].precision is None and found[0].config.mixed_precision == precision


@pytest.mark.parametrize(("signal", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_interruption_saves(tmp_path: Path, signal: str, code: int, workers: int) -> None:
    """Ctrl-C for all processes of a group: the step is finished, saved, and the exit is that of Ctrl-C."""
    script = (
        "import sys, os, subprocess, time; from trained import trainer\n"
        "from hezar_like.training import Callback\n"
        "class Stop(Callback):\n"
        "    def on_step_end(self, trainer):\n"
        "        if trainer.state.global_step == 3:\n"
        f"            subprocess.run(['kill', '-s', '{signal[3:]}', '--', f'-{{os.getpgid(0)}}'])\n"
        "            time.sleep(0.5)\n"  # a process that ended is noticed now
        f"fields = dict(num_epochs=50, num_dataloader_workers={workers}, callbacks=[Stop()])\n"
        "try: trainer(sys.argv[1], **fields).train()\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, env=beside_tests(), capture_output=True, timeout=120, start_new_session=True)
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["00000003"]
    state = trainer(tmp_path, max_steps=5, num_epochs=50).train(resume_from_checkpoint=True)
    assert state.global_step == 5
    assert [r["step"] for r in read_log(tmp_path / "logs" / "log.jsonl") if "loss" in r][-1] == 5


def test_models_of_ones_own_are_trained(tmp_path: Path) -> None:
    from dataclasses import dataclass

    from hezar_like import ModelConfig

    @dataclass
    class NetConfig(ModelConfig):
        name = "trained_net"
        width: int = 4

    class Net(Model):
        def __init__(self, config: NetConfig) -> None:
            super().__init__(config)
            self.out = torch.nn.Linear(config.width, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.out(x)}

        def compute_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
            return torch.nn.functional.cross_entropy(logits, labels)

    points = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    data = [{"x": point, "labels": int(point[0] > 0)} for point in points]
    config = TrainerConfig(output_dir=str(tmp_path), num_epochs=30, batch_size=5, learning_rate=0.1, use_cpu=True)
    from torch.utils.data import default_collate

    own = Trainer(Net(NetConfig()), config, data, data, default_collate, metrics=[build_metric("accuracy")])
    own.train()
    assert own.evaluate()["evaluation.accuracy"] >= 0.95


def test_text_metrics_by_generation(tmp_path: Path) -> None:
    from tiny_models import tiny_tokenizer

    pairs = [{"source": row["text"], "target": row["text"].split()[0]} for row in rows(6)]
    data = build_dataset("seq2seq", rows=pairs, preprocessor=tiny_tokenizer(max_length=None))
    own = trainer(tmp_path, model("t5_text_generation"), data, eval_dataset=data, metrics=["cer"], max_steps=2)
    values = own.evaluate()
    assert values["evaluation.cer"] > 0
    own.train()


def test_tensorboard_reads_the_log(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fields = {"max_steps": 4, "log_steps": 1, "eval_steps": 2, "eval_dataset": classification(4, 1)}
    own = trainer(tmp_path, callbacks=[TensorBoard()], save_enabled=False, **fields)
    own.train()
    found = EventAccumulator(str(tmp_path / "logs"))
    found.Reload()
    for name in ("loss", "learning_rate", "grad_norm", "evaluation.loss"):
        expected = [(record["step"], record[name]) for record in own.load_logs() if name in record]
        assert [event.step for event in found.Scalars(name)] == [step for step, _ in expected]
        assert [event.value for event in found.Scalars(name)] == pytest.approx([value for _, value in expected])


def test_trackio_is_told_of_the_log(tmp_path: Path) -> None:
    """In a process of its own: Trackio reads where to keep runs when it is imported, and has threads."""
    script = (
        "import json, sys; from pathlib import Path; from trained import classification, trainer\n"
        "import trackio; from hezar_like.training import Trackio\n"
        "given, ended, init, finish = {}, [], trackio.init, trackio.Run.finish\n"
        "trackio.init = lambda **options: given.update(options) or init(**options)\n"
        "trackio.Run.finish = lambda run: ended.append(run.name) or finish(run)\n"
        "own = trainer(Path(sys.argv[1]), max_steps=4, log_steps=1, eval_steps=2, eval_dataset=classification(4, 1),\n"
        "              callbacks=[Trackio('films', name='first', group='tests')], save_enabled=False)\n"
        "own.train()\n"
        "from trackio.sqlite_storage import SQLiteStorage\n"
        "print(json.dumps([SQLiteStorage.get_logs('films', 'first'), SQLiteStorage.get_run_config('films', 'first'), own.load_logs(), given['group'], ended]))\n"
    )
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "board"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told, config, logged, group, ended = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[[")))
    assert config["max_steps"] == 4 and group == "tests" and ended == ["first"]
    for name in ("loss", "learning_rate", "evaluation.loss"):
        expected = [(record["step"], record[name]) for record in logged if name in record]
        assert [(record["step"], record[name]) for record in told if name in record] == expected


@pytest.mark.parametrize(
    ("create", "message"),
    [(TensorBoard, "tensorboard.*hezar_like.train."), (lambda: Trackio("films"), "trackio.*hezar_like.trackio.")],
)
def test_boards_are_options(create: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorboard", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=message):
        create()


def test_the_card_tells_of_the_run(tmp_path: Path, hub: HubServer) -> None:
    own = trainer(tmp_path, max_steps=3, eval_dataset=classification(8, 1), metrics=["accuracy"], save_enabled=False)
    own.train()
    own.push_to_hub("tester/films")
    files = hub.files("tester/films")
    assert {"loss.svg", "README.md", "model.safetensors"} <= set(files)
    loaded = Path(hf_hub_download("tester/films", "README.md")).read_text(encoding="utf-8")
    for line in ("## Training", "| steps | 3 |", "| optimizer | adamw |", "![how the loss went](loss.svg)", "| accuracy |"):
        assert line in loaded, loaded
    assert Path(hf_hub_download("tester/films", "loss.svg")).read_text(encoding="utf-8").startswith("<svg")


def test_a_bar_only_where_it_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(tmp_path / "a", max_steps=2, save_enabled=False).train()
    assert capsys.readouterr().err == ""
    trainer(tmp_path / "b", max_steps=2, save_enabled=False, progress=True).train()
    assert "2/2" in capsys.readouterr().err
