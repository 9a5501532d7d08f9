"""Two and four processes of `torchrun` do what one does: losses, gradients, checkpoints; and the helpers for them."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import LONG, OPTIONS, OPTIONS_AND_WAYS, STRATEGIES, WAYS, samples, trainer_for
from safetensors.torch import load_file
from trained import beside_tests, model, without_dropout

from hezar_like.layers import Attention
from hezar_like.registry import families_registry
from hezar_like.training import all_reduce_mean, gather_result, init_distributed, inspect_model, read_log
from hezar_like.training.parallel import whole_tensors

NAMES = [
    "bert_text_classification", "bert_mask_filling", "roberta_mask_filling", "distilbert_text_classification",
    "gpt2_text_generation", "gptj_text_generation", "llama_text_generation", "mistral_text_generation",
    "qwen2_text_generation", "qwen3_text_generation", "gemma2_text_generation", "gemma3_text_generation",
    "t5_text_generation", "cpm1_text_generation", "cpm2_text_generation", "glm_text_generation",
    "whisper_speech_recognition",
]  # fmt: skip
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """What one, two and four processes wrote; once, however many processes test."""
    if not hasattr(request.config, "workerinput"):
        return written(tmp_path_factory.mktemp("ranks"))
    shared = tmp_path_factory.getbasetemp().parent
    with (shared / "ranks.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (shared / "ranks" / "done").exists():
            written(shared / "ranks")
            (shared / "ranks" / "done").touch()
    return shared / "ranks"


def written(root: Path) -> Path:
    for name in NAMES:
        model(name, **dropout_fields(name)).save(root / "models" / name, save_preprocessor=False)
    alone = LONG | {"gradient_accumulation_steps": 4, "save_steps": 2}
    trainer_for(root / "models" / "bert_text_classification", root / "alone", **alone).train()
    for count in (2, 4):
        done = torchrun(count, "ranks.py", str(root))
        assert done.returncode == 0, done.stderr[-3000:]
    return root


def torchrun(count: int, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.run(
        [*command, str(HERE / script), *arguments], env=beside_tests(), capture_output=True, text=True, timeout=900
    )


def uneven(own: Any, count: int) -> bool:
    """Whether so many processes cannot share the heads."""
    attentions = [part for part in own.modules() if isinstance(part, Attention)]
    return any(part.num_heads % count or part.k.out_features // part.head_dim % count for part in attentions)


def test_every_family_is_trained_here() -> None:
    assert {name.partition("_")[0] for name in NAMES} == set(families_registry)


def dropout_fields(name: str) -> dict[str, float]:
    """No dropout, in the words of each family."""
    fields = type(model(name).config).fields()
    return {field: 0.0 for field in fields if field.endswith(("_pdrop", "dropout", "dropout_prob", "dropout_rate", "dropout_p"))}


def found_by(root: Path, number: int) -> dict[str, Any]:
    return json.loads((root / f"rank{number}of2.json").read_text())


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_are_those_of_one_process(
    root: Path, tmp_path: Path, name: str, count: int, strategy: str
) -> None:
    """A step of SGD with a rate of 1 changes weights by their gradients."""
    own = trainer_for(root / "models" / name, tmp_path, gradient_accumulation_steps=count, do_evaluate=False)
    without_dropout(own.model)
    before = {key: tensor.clone() for key, tensor in whole_tensors(own.model).items()}
    own.train()
    after = whole_tensors(own.model)
    folder = root / "out" / f"{name}-{strategy}-{count}"
    if (folder / "refused.txt").is_file():
        told = (folder / "refused.txt").read_text()
        assert strategy == "tensor" and "which cannot be shared evenly" in told and uneven(own.model, count), told
        return
    other = load_file(folder / "weights.safetensors")
    assert other.keys() == after.keys()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    for key, tensor in after.items():
        assert (tensor - other[key]).abs().max() <= 1e-5 * max(1.0, float((tensor - before[key]).abs().max())), key
    log = read_log(folder / "logs" / "log.jsonl")
    assert log[0]["loss"] == pytest.approx(own.load_logs()[0]["loss"], abs=1e-5)
    assert log[0]["grad_norm"] == pytest.approx(own.load_logs()[0]["grad_norm"], rel=1e-4)


@pytest.mark.parametrize(("option", "way"), OPTIONS_AND_WAYS)
def test_options_are_those_of_one_process(root: Path, tmp_path: Path, option: str, way: str) -> None:
    name, fields = OPTIONS[option]
    fields = {"max_steps": 2, "learning_rate": 0.1, "gradient_accumulation_steps": 2} | fields
    own = trainer_for(root / "models" / name, tmp_path, **fields)
    own.train()
    folder = root / "options" / f"{option}-{way}"
    other = load_file(folder / "weights.safetensors")
    for key, tensor in whole_tensors(own.model).items():
        assert torch.allclose(tensor, other[key], atol=1e-5), key
    pairs = zip(read_log(folder / "logs" / "log.jsonl"), own.load_logs(), strict=True)
    for theirs, mine in pairs:
        found = {key: value for key, value in theirs.items() if key in ("loss", "grad_norm", "evaluation.loss")}
        assert found == pytest.approx({key: mine[key] for key in found}, rel=1e-4)


def test_a_killed_process_ends_the_others_and_all_go_on_from_the_last_checkpoint(root: Path) -> None:
    done = torchrun(2, "ranks.py", str(root), "lose")
    assert done.returncode == 1
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("another process of the training")]
    assert "cannot be reached (" in told and "so process 0 ends" in told and "resume_from_checkpoint=True" in told
    start, fields = root / "models" / "bert_text_classification", LONG | {"max_steps": 6, "gradient_accumulation_steps": 4}
    again = trainer_for(start, root / "lost", **fields)
    again.train(resume_from_checkpoint=True)
    assert [record["step"] for record in again.load_logs() if "loss" in record] == [1, 2, 3, 4, 5, 6]
    # What was lost was done again, and the end is that of a training in which nothing happened.
    whole = trainer_for(start, root / "nothing_lost", **fields)
    whole.train()
    ends = (whole_tensors(own.model) for own in (whole, again))
    assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(*(end.values() for end in ends), strict=True))


def test_helpers(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (found_by(root, number)["helpers"] for number in (0, 1))
    assert (first["printed"], second["printed"]) == ("here\n", "there\n")
    for found in (first, second):
        assert found["world"] == 2
        assert found["mean"] == found["sum_loss"] == [1.5]
        assert found["gathered"] == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
    init_distributed(3)  # also where there is one process
    value = torch.tensor([2.0])
    assert all_reduce_mean(value).equal(value)
    assert gather_result(value).equal(value)
    layer = torch.nn.Linear(2, 3)
    layer(torch.ones(2)).sum().backward()
    lines = inspect_model(layer).splitlines()
    assert lines[0].split() == ["parameter", "shape", "mean", "std", "grad", "mean", "grad", "std"]
    assert lines[1].split()[:2] == ["weight", "3x2"]
    assert lines[2].split()[-2:] == ["1", "0"]
    assert len(inspect_model(layer, "bias").splitlines()) == 2


@pytest.mark.parametrize("strategy", WAYS)
def test_a_checkpoint_of_two_goes_on_in_one_and_in_four(root: Path, tmp_path: Path, strategy: str) -> None:
    """Four batches are a step in all of them."""
    start, saved = root / "models" / "bert_text_classification", root / "saved" / strategy
    fields = LONG | {"gradient_accumulation_steps": 4}
    whole = trainer_for(start, tmp_path / "whole", **fields)
    whole.train()
    finished = load_file(saved / "checkpoints" / "00000004" / "model.safetensors")
    again = trainer_for(start, tmp_path / "again", **fields)
    again.train(resume_from_checkpoint=str(saved / "checkpoints" / "00000002"))
    by_four = load_file(root / "on_four" / strategy / "checkpoints" / "00000004" / "model.safetensors")
    begun = load_file(saved / "checkpoints" / "00000002" / "model.safetensors")
    for key, tensor in whole_tensors(whole.model).items():
        for other in (finished[key], by_four[key], whole_tensors(again.model)[key]):
            assert torch.allclose(tensor, other, atol=1e-5), key
    assert not all(torch.allclose(tensor, begun[key], atol=1e-3) for key, tensor in finished.items())
    assert (saved / "checkpoints" / "00000002" / "train" / "shards").is_dir() == (strategy != "ddp")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_checkpoint_of_one_goes_on_in_two(root: Path, strategy: str) -> None:
    end, others = (
        load_file(root / name / "checkpoints" / "00000004" / "model.safetensors") for name in ("alone", f"of_one/{strategy}")
    )
    assert all(torch.allclose(tensor, others[key], atol=1e-5) for key, tensor in end.items())


def test_processes_measure_and_stop_together(root: Path) -> None:
    first, second = (found_by(root, number)["checkpoints"] for number in (0, 1))
    assert first == second
    for strategy in WAYS:
        assert first[strategy]["resumed"]
        # Each sample counts once, however many processes there are.
        own = trainer_for(Path(first[strategy]["folder"]), root / "again" / strategy)
        assert own.evaluate()["evaluation.loss"] == pytest.approx(first[strategy]["evaluation.loss"], abs=1e-5)
        scores = torch.stack(own.predict(samples("text_classification", 5)))
        assert torch.allclose(scores, torch.tensor(first[strategy]["scores"]), atol=1e-5)
    assert first["stopped"] in (2, 3)
    assert "'bleu' compares texts" in first["refused"]
    assert "distributed is false, but there are 2 processes" in first["alone"]
    names = [path.name for path in (root / "saved" / "stopped" / "checkpoints").iterdir()]
    assert names == [f"{first['stopped']:08d}"]
