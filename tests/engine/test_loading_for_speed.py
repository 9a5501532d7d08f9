"""Types of weights, rounding and memory that a caller of `load` asks for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import assert_same_tensors, difference
from safetensors.torch import load_file, save_file
from tiny_models import TEXTS, tiny_model

from hezar_like import Model
from hezar_like.engine import rounded
from hezar_like.engine.devices import fastest_dtype
from hezar_like.engine.linears import plain, projection
from hezar_like.engine.memory import ROWS, read_by_parts, release
from hezar_like.errors import OptionError
from hezar_like.loading import _as_type
from hezar_like.training import LoRAConfig, add_lora


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model("gpt2_text_generation", hidden_size=128, intermediate_size=256).save(tmp_path / "model")
    return tmp_path / "model"


def test_auto_is_the_fastest_type(folder: Path) -> None:
    assert Model.load(folder, device="cpu", dtype="auto").dtype == fastest_dtype(torch.device("cpu"))
    assert fastest_dtype(torch.device("cpu")) == (
        torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32
    )


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_rounding_changes_what_is_multiplied_with_and_nothing_else(folder: Path, tmp_path: Path, quantize: Any) -> None:
    model, plain = Model.load(folder, device="cpu", quantize=quantize), Model.load(folder, device="cpu")
    rounded = model.predict(TEXTS[:2], max_new_tokens=4, return_scores=True)
    exact = plain.predict(TEXTS[:2], max_new_tokens=4, return_scores=True)
    assert [r["score"] for r in rounded] != [e["score"] for e in exact]
    model.save(tmp_path / "again")
    assert_same_tensors(Model.load(tmp_path / "again", device="cpu").state_dict(), plain.state_dict())


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_a_rounded_row_does_not_depend_on_its_batch(folder: Path, quantize: Any) -> None:
    model = Model.load(folder, device="cpu", quantize=quantize)
    rows = torch.randint(5, 100, (5, 7), generator=torch.Generator().manual_seed(0))
    whole = model.generate(rows, max_new_tokens=6, return_dict=True)
    part = model.generate(rows[[3, 1]], max_new_tokens=6, return_dict=True)
    assert part.sequences.tolist() == whole.sequences[[3, 1]].tolist()
    assert torch.allclose(part.token_scores, whole.token_scores[[3, 1]], atol=1e-5)


def test_four_bits(folder: Path) -> None:
    """Sixteen steps for each group of inputs, and what that changes."""
    layer = Model.load(folder, device="cpu").backbone.stack.blocks[0].mlp.up
    x, weight = torch.randn(3, 128), layer.weight.detach()
    rounded = torch.zeros_like(weight)
    for start in range(0, 128, 64):
        low, high = weight[:, start : start + 64].aminmax(dim=1, keepdim=True)
        step = (high - low) / 15
        rounded[:, start : start + 64] = ((weight[:, start : start + 64] - low) / step).round() * step + low
    expected, found = x @ rounded.t() + layer.bias, projection("int4", layer).run(x)
    assert (found - expected).std() < 0.01 * expected.std()  # activations and scales are bfloat16
    exact = x @ weight.t() + layer.bias
    assert 0.03 < (found - exact).std() / exact.std() < 0.15
    odd = torch.nn.Linear(48, 32)  # no group divides this
    assert torch.equal(projection("int4", odd).run(x[:, :48]), projection("int8", odd).run(x[:, :48]))


@pytest.mark.parametrize("quantize", ["int2", "INT8", 8, ["int8"]])
def test_other_ways_of_rounding_are_refused(folder: Path, quantize: object) -> None:
    with pytest.raises(OptionError, match="must be 'int8'"):
        Model.load(folder, device="cpu", quantize=quantize)  # type: ignore[arg-type]


def test_int8_is_refused_where_it_is_of_no_use(tmp_path: Path) -> None:
    tiny_model("bert_text_classification").save(tmp_path)
    with pytest.raises(OptionError, match="bfloat16"):
        Model.load(tmp_path, device="cpu", quantize="int8")


def test_rounding_asked_for_by_hand_is_checked_too() -> None:
    for name, value, message in (
        ("gpt2_text_generation", "int2", "must be 'int8' or 'int4'"),
        ("bert_text_classification", "int8", "bfloat16"),
    ):
        model = tiny_model(name)
        model.quantize = value  # type: ignore[assignment]
        with pytest.raises(OptionError, match=message):
            model.predict("the cat")
        model.quantize = None
        assert len(model.predict("the cat")) == 1


@pytest.mark.parametrize("name", ["gpt2_text_generation", "llama_text_generation", "t5_text_generation"])
@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_weights_of_any_type_are_rounded(name: str, quantize: Any) -> None:
    model = tiny_model(name, hidden_size=64)
    model.quantize = quantize
    expected = model.predict(TEXTS[:2], max_new_tokens=4)
    assert model.double().predict(TEXTS[:2], max_new_tokens=4) == expected


@pytest.mark.parametrize("change", ["hook", "lora"])
def test_a_model_that_is_not_rounded_says_so_once(change: str, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model("gpt2_text_generation")
    if change == "hook":
        model.backbone.stack.blocks[1].mlp.up.register_forward_hook(lambda *_: None)
    else:
        add_lora(model, LoRAConfig(r=2))
    model.predict(TEXTS[0], max_new_tokens=2)
    assert not caplog.records
    model.quantize = "int8"
    for _ in range(2):
        model.predict(TEXTS[0], max_new_tokens=2)
    (record,) = caplog.records
    assert "quantize='int8' does not count" in record.getMessage() and "merge LoRA" in record.getMessage()


def resident(tensor: torch.Tensor) -> int:
    """Kilobytes of the mapping of a tensor that are in memory."""
    place, inside = tensor.data_ptr(), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            low, high = (int(number, 16) for number in first.split("-"))
            inside = low <= place < high
        elif inside and first == "Rss:":
            return int(rest[0])
    raise AssertionError("the tensor is in no mapping")


def test_memory_of_a_file_is_given_back_and_read_again(folder: Path) -> None:
    weight = Model.load(folder, device="cpu").head.out.weight.detach()
    values = weight.clone()
    before = resident(weight)
    release(weight)
    assert resident(weight) < before
    assert torch.equal(weight, values)


def test_memory_that_was_written_to_is_kept(folder: Path) -> None:
    model = Model.load(folder, device="cpu")
    weight = model.head.out.weight
    weight.data.mul_(2.0)
    values = weight.detach().clone()
    release(weight)
    assert torch.equal(weight, values)
    own = torch.randn(512, 512)
    kept = own.clone()
    release(own)
    assert torch.equal(own, kept)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says what is in memory")
def test_a_large_tensor_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    """While it becomes another type, or is rounded, the file's part that was read is given back."""
    weight = torch.arange(4 * ROWS * 64, dtype=torch.float32).view(-1, 64)
    save_file({"weight": weight}, tmp_path / "model.safetensors")
    mapped = load_file(tmp_path / "model.safetensors")["weight"]
    held = []
    for number, part in enumerate(read_by_parts(mapped)):
        assert torch.equal(part, weight[number * ROWS : (number + 1) * ROWS])
        held.append(resident(mapped))
    assert number == 3 and max(held) < 2.5 * part.nbytes / 1024
    assert torch.equal(_as_type(mapped, torch.bfloat16), weight.bfloat16())
    turned = mapped.mT
    assert torch.equal(_as_type(turned, torch.float16), weight.half().mT)
    assert _as_type(turned, torch.float32) is turned and _as_type(torch.tensor(1.5), torch.float16) == 1.5
    layer = torch.nn.Linear(64, 4 * ROWS, bias=False)
    layer.weight = torch.nn.Parameter(mapped)
    projection("int8", layer).run(torch.ones(1, 64))
    assert resident(mapped) < 2.5 * part.nbytes / 1024


@pytest.mark.parametrize("bias", [False, True])
def test_one_row_needs_no_packed_copy(bias: bool) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(512, 256, bias).to(torch.bfloat16)
    x = torch.randn(1, 512).to(torch.bfloat16)
    found = plain(layer.weight.detach(), layer.bias).run(x)
    assert found.dtype == torch.bfloat16
    assert difference(found, layer.double()(x.double())) <= 0.02


@torch.inference_mode()
@pytest.mark.parametrize("by_fbgemm", [False, True], ids=["onednn", "fbgemm"])
@pytest.mark.parametrize("bias", [False, True])
def test_rows_in_8_bits_do_not_know_of_each_other(bias: bool, by_fbgemm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_fbgemm:
        monkeypatch.setattr(rounded, "_lacks_vnni", lambda: True)
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(64, 48, bias), torch.randn(9, 64) * torch.logspace(-3, 3, 9)[:, None]
    run, wanted = projection("int8", layer).run, layer(x)
    found = run(x)
    assert (found - wanted).norm() <= 0.03 * wanted.norm()
    assert torch.allclose(run(x[2:5]), found[2:5], rtol=1e-6)
    x[4, 7], x[6, 1] = float("nan"), float("inf")
    odd = run(x)
    assert odd[4].isnan().all() and not odd[6].isfinite().any()
    others = [0, 1, 2, 3, 5, 7, 8]
    assert torch.equal(odd[others], found[others])


WITHOUT_VNNI = """
import torch
from hezar_like.engine import rounded
from hezar_like.engine.linears import projection
torch.cpu._is_vnni_supported = lambda: False
torch.manual_seed(0)
layer = torch.nn.Linear(768, 512)
for rows in (1, 16):
    x = torch.randn(rows, 768).abs() + 1.0
    wanted = layer(x)
    print(float((projection("int8", layer).run(x) - wanted).detach().std() / wanted.std()))
"""


def test_8_bits_do_not_overflow_on_older_processors() -> None:
    """There products of two and two numbers are added in 16 bits: these environment variables bring that about here."""
    older = {"ONEDNN_MAX_CPU_ISA": "AVX2", "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_VNNI], env=os.environ | older, capture_output=True, text=True, check=True
    )
    assert all(float(line) < 0.03 for line in done.stdout.split()), done.stdout
