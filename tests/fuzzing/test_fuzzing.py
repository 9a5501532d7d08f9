"""A short part of the fuzzing, always the same; the long one is `python tests/fuzzing/run.py --count 100000`."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hezar_like.configs import ModelConfig
from hezar_like.errors import HezarLikeError
from hezar_like.formats.weights import open_weights
from hezar_like.registry import models_registry

sys.path.insert(0, str(Path(__file__).parent))

from mutations import KINDS, mutated

PROGRAM = Path(__file__).with_name("run.py")


def fuzz(*arguments: str) -> tuple[int, str]:
    run = subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, timeout=300)
    return run.returncode, run.stdout + run.stderr


def test_damaged_files_end_in_errors_of_ours() -> None:
    code, said = fuzz("--count", "1440", "--first", "0")
    assert code == 0, said[-3000:]
    match = re.search(r"1440 files in \d+ s, the slowest ([\d.]+) s, (\d+) MB at most", said)
    assert match is not None and float(match[1]) < 20 and int(match[2]) < 2000
    assert len(re.findall(r"^[\w' -]+: .*\d+ fine", said, re.MULTILINE)) > 25, "most damage should not be all there is"
    assert len(re.findall(r"\d+ \w+Error", said)) > 30


PLANTED = {
    "a foreign error": "raise KeyError('x')",
    "a hang": "while True: pass",
    "a program": "import os; os.system('true')",
    "memory": "x = bytearray(2**33)",
    "a dead process": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "an error of two lines": "from hezar_like.errors import ConfigError; raise ConfigError('a\\nb')",
    "the secret": "import os; from hezar_like.errors import ConfigError; raise ConfigError(os.environ['FUZZ_SECRET'])",
    "memory that we tell of": "from hezar_like.engine.fitting import naming_memory as n; n()(lambda: bytearray(2**33))()",
    "a warning": "import warnings; warnings.warn('x')",
}


def test_what_is_planted_is_found() -> None:
    """The test above can fail."""
    code, said = fuzz("--count", str(2 * len(PLANTED)), "--hangs-after", "2", "--plant", *PLANTED.values())
    assert code == 1
    for name, fault in PLANTED.items():
        assert re.search(rf"FOUND 2 times: {re.escape(fault)}: ", said), (name, said[-3000:])


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_always_the_same_and_always_some(kind: str) -> None:
    good = json.dumps({"a": 1, "b": ["x", {"c": None}]}).encode()
    results = [[mutated(good, kind, random.Random(i)) for i in range(200)] for _ in range(2)]
    assert results[0] == results[1] and sum(result != good for result in results[0]) > 150


# -- values drawn by hypothesis, which also makes what it finds small --------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = sorted(models_registry)
QUIET = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@QUIET
@given(st.sampled_from(NAMES), st.data())
def test_any_value_of_any_field(name: str, data: Any) -> None:
    """A field takes a value, and the config comes back equal from its dict; or there is one error of ours."""
    config_class = models_registry[name].config_class
    fields = st.sampled_from(config_class.fields())
    values = data.draw(st.dictionaries(fields, VALUES, max_size=3))
    try:
        config = config_class(**values)
    except HezarLikeError as error:
        assert str(error).isprintable() and len(str(error)) < 4000
    else:
        assert ModelConfig.from_saved(config.to_dict()).to_dict() == config.to_dict()


@QUIET
@given(
    st.dictionaries(st.text(max_size=12) | st.just("__metadata__"), VALUES | st.fixed_dictionaries({
        "dtype": st.sampled_from(["F32", "F16", "I64", "BOOL", "F4", "F8_E8M0", "x"]),
        "shape": st.lists(st.integers(-2, 2**63), max_size=4),
        "data_offsets": st.lists(st.integers(-1, 2**63), min_size=1, max_size=3),
    }), max_size=4),
    st.binary(max_size=64),
)  # fmt: skip
def test_any_header(tmp_path: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode(errors="surrogatepass")
    path = tmp_path / "model.safetensors"
    path.unlink(missing_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    try:
        weights = open_weights([path])
        assert sum(info.nbytes for info in weights.header.values()) == weights.nbytes <= len(data)
    except HezarLikeError as error:
        assert str(error).isprintable() and len(str(error)) < 4000
