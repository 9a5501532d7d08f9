"""Tables of checkpoint keys: what one direction does, the other undoes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hezar_like.errors import CheckpointError
from hezar_like.keymap import KeyMap, Stored

LAYERS = 3
WORDS = st.text("abcxyz_", min_size=1, max_size=3)
ENTRIES = st.tuples(
    st.booleans(),  # whether it is of a layer
    st.sampled_from([0, -1, 2]),  # the layer's number on our side, minus the one on theirs
    st.integers(1, 3),  # how many native modules are stored together
    st.booleans(),  # transposed
    st.sampled_from([1.0, 0.5, 100.0, "fan_in"]),
    st.sampled_from([(4, 6), (6,), (2, 3, 4)]),
    st.lists(WORDS, min_size=1, max_size=3),
)


def built(entries: list[Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A table and all native tensors it speaks of."""
    table, natives = {}, {}
    for number, (layered, offset, count, transposed, scale, shape, words) in enumerate(entries):
        foreign = ".".join([f"t{number}", *(["{}"] if layered else []), *words])
        place = f".{{{offset or ''}}}" if layered else ""
        names = [f"ours{place}.m{number}_{part}" for part in range(count)]
        table[foreign] = Stored(*names, transposed=transposed, scale=scale)
        for layer in range(5, 5 + LAYERS) if layered else (0,):
            for name in names:
                filled = name.replace(f"{{{offset or ''}}}", str(layer))
                natives[f"{filled}.weight"] = torch.randn(*shape)
    return table, natives


def read(keymap: KeyMap, foreign: dict[str, Tensor]) -> dict[str, Tensor]:
    result = {}
    for key, tensor in foreign.items():
        for part in keymap.parts(key) or ():
            assert part.name not in result
            result[part.name] = part.read(tensor)
            assert tuple(result[part.name].shape) == part.shape(tensor.shape)
    return result


@given(st.lists(ENTRIES, min_size=1, max_size=6))
def test_writing_and_reading_are_inverse(entries: list[Any]) -> None:
    table, natives = built(entries)
    keymap = KeyMap(table)
    foreign = dict(keymap.to_foreign(natives.items()))
    assert sum(t.numel() for t in foreign.values()) == sum(t.numel() for t in natives.values())
    again = read(keymap, foreign)
    assert set(again) == set(natives)
    for name, tensor in natives.items():
        torch.testing.assert_close(again[name], tensor, msg=name)
    for name in natives:
        assert keymap.foreign(name) in foreign


@given(st.lists(ENTRIES, min_size=1, max_size=6), st.randoms())
def test_the_order_of_tensors_does_not_matter(entries: list[Any], random: Any) -> None:
    table, natives = built(entries)
    expected = dict(KeyMap(table).to_foreign(natives.items()))
    shuffled = list(natives.items())
    random.shuffle(shuffled)
    result = dict(KeyMap(table).to_foreign(shuffled))
    assert set(result) == set(expected) and all(torch.equal(result[key], expected[key]) for key in expected)


@given(st.lists(ENTRIES, min_size=1, max_size=4), WORDS)
def test_a_prefix_is_only_of_whole_models(entries: list[Any], word: str) -> None:
    table, natives = built(entries)
    keymap = KeyMap({f"{word}.{key}": value for key, value in table.items()}, prefix=f"{word}.")
    whole, bare = (dict(keymap.to_foreign(natives.items(), bare=bare)) for bare in (False, True))
    assert set(whole) == {f"{word}.{key}" for key in bare}
    for foreign in (whole, bare):
        assert set(read(keymap, foreign)) == set(natives)
        assert all(keymap.knows(key) and keymap.in_backbone(key) for key in foreign)


@given(ENTRIES.filter(lambda entry: entry[2] > 1), st.data())
def test_some_of_what_is_stored_together_is_refused(entry: Any, data: Any) -> None:
    table, natives = built([entry])
    natives.pop(data.draw(st.sampled_from(sorted(natives))))
    with pytest.raises(CheckpointError, match=r"only some of the weights that are stored together in 't0\."):
        dict(KeyMap(table).to_foreign(natives.items()))


@pytest.mark.parametrize(
    ("foreign", "native"),
    [("h.{}.a", "ours.a"), ("h.a", "ours.{}.a"), ("h.{}.{}.a", "ours.{}.a"), ("h.{}.a", "ours.{-1}.{}.a")],
)
def test_numbers_of_places_must_agree(foreign: str, native: str) -> None:
    for value in (native, Stored(native), Stored("x" + native, native)):
        with pytest.raises(ValueError, match="different numbers of layers"):
            KeyMap({foreign: value})


def names(keymap: KeyMap, key: str) -> list[str] | None:
    parts = keymap.parts(key)
    return None if parts is None else [part.name for part in parts]


def test_the_most_exact_entry_counts() -> None:
    keymap = KeyMap(
        {
            "h.{}.a": "ours.{}.a",
            "h.0.a": "first",
            "h.{}.a.bias": "ours.{}.bias",
            "h.1.a.bias": None,
            "norm": "norm",
        }
    )
    assert names(keymap, "h.3.a.weight") == ["ours.3.a.weight"]
    assert names(keymap, "h.0.a.weight") == ["first.weight"]
    assert names(keymap, "h.3.a.bias") == ["ours.3.bias"]
    assert names(keymap, "h.1.a.bias") == []
    assert names(keymap, "norm.weight") == ["norm.weight"]
    assert names(keymap, "norm") == ["norm"]
    for unknown in ("h.a.weight", "h.x.a.weight", "h.3.a.b.weight", "g.3.a.weight", "h.3", "", "norm.a.weight"):
        assert names(keymap, unknown) is None and not keymap.knows(unknown)


def test_a_written_number_is_itself_and_a_name_with_digits_no_number() -> None:
    keymap = KeyMap(
        {
            "block.{}.layer.0.a": "x.{}.a",
            "block.{}.layer.1.wi_0": "x.{}.b",
            "h.{}.e.{}.w": "y.{}.z.{}",
        }
    )
    assert names(keymap, "block.7.layer.0.a.weight") == ["x.7.a.weight"]
    assert names(keymap, "block.7.layer.1.wi_0.weight") == ["x.7.b.weight"]
    assert names(keymap, "block.7.layer.2.a.weight") is None
    assert names(keymap, "h.2.e.11.w.weight") == ["y.2.z.11.weight"]
    assert keymap.foreign("y.2.z.11.weight") == "h.2.e.11.w.weight"


def test_a_shifted_layer() -> None:
    """ModelCenter's norm before a block is BERT's norm after the block before it."""
    keymap = KeyMap({"layers.{}.norm": "blocks.{-1}.mlp_norm", "layers.0.norm": "embed.norm"})
    assert names(keymap, "layers.0.norm.weight") == ["embed.norm.weight"]
    assert names(keymap, "layers.3.norm.weight") == ["blocks.2.mlp_norm.weight"]
    assert keymap.foreign("blocks.2.mlp_norm.bias") == "layers.3.norm.bias"
    assert keymap.foreign("embed.norm.bias") == "layers.0.norm.bias"


def test_the_first_of_several_names_is_written() -> None:
    keymap = KeyMap({"wte": "tokens", "lm_head": "tokens", "old": None}, copies={"copy.weight": "tokens.weight"})
    tensor = torch.randn(3, 2)
    assert names(keymap, "lm_head.weight") == names(keymap, "wte.weight") == ["tokens.weight"]
    assert names(keymap, "old.weight") == []
    written = dict(keymap.to_foreign([("tokens.weight", tensor)]))
    assert set(written) == {"wte.weight", "copy.weight"} and all(torch.equal(t, tensor) for t in written.values())
    with pytest.raises(KeyError):
        keymap.foreign("unheard_of.weight")


def test_older_spellings() -> None:
    keymap = KeyMap({"norm": "norm"}, spellings={r"\.gamma$": ".weight", r"\.beta$": ".bias"})
    assert names(keymap, "norm.gamma") == ["norm.weight"] and names(keymap, "norm.beta") == ["norm.bias"]
    assert keymap.foreign("norm.weight") == "norm.weight"


def test_only_matrices_are_turned_and_scaled() -> None:
    keymap = KeyMap({"a": Stored("b", transposed=True, scale="fan_in"), "c": Stored("d", "e", scale=100.0)})
    matrix, vector = torch.randn(9, 4), torch.randn(4)
    (weight,), (bias,) = keymap.parts("a.weight"), keymap.parts("a.bias")
    assert torch.equal(weight.read(matrix), matrix.mT * (1 / math.sqrt(9))) and weight.scaled
    assert torch.equal(bias.read(vector), vector)
    one, two = keymap.parts("c.weight")
    assert torch.equal(one.read(matrix[:8]), matrix[:4] * 100) and torch.equal(two.read(matrix[:8]), matrix[4:8] * 100)


def test_half_precision_is_scaled_in_single() -> None:
    """What was scaled down to fit into half precision may not fit into it any more."""
    (part,) = KeyMap({"a": Stored("b", scale=100.0)}).parts("a.weight")
    stored = torch.full((2, 2), 30000.0, dtype=torch.float16)
    assert torch.equal(part.read(stored), torch.full((2, 2), 3_000_000.0))
    plain = KeyMap({"a": "b"}).parts("a.weight")[0]
    assert plain.read(stored).data_ptr() == stored.data_ptr()  # nothing is copied


def test_what_cannot_be_divided_fits_nothing() -> None:
    part = KeyMap({"a": Stored("b", "c", "d")}).parts("a.weight")[0]
    assert part.shape((9, 2)) == (3, 2)
    assert part.shape((8, 2)) == (8, 2) and part.shape(()) == ()
