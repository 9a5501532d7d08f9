"""Damage to files: of their bytes, and of what they mean. The same random numbers always do the same damage."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

import yaml

__all__ = ["KINDS", "mutated"]

BITS = [b"\0", b"\xff", b"\n", b"\r", b"\t", b"'", b'"', b"{", b"}", b"[", b"]", b":", b",", b"-", b"#", b"&a ", b"*a", b"!!python/object/apply:os.system [id]", b"${oc.env:FUZZ_SECRET}", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\x1b[31m", b"\xe2\x80\xae", b"9" * 400, b"[" * 3000, b"{" * 3000, b'{"a":' * 1500, b"a" * 20_000, b"../", b"---\n", b".nan", b"1e999", b"-1", b"\\ud800", b"\\u0000", b"PK\x03\x04", b"\x80\x02", b"(a+)+$"]  # fmt: skip
NUMBERS = [0, 1, 2**7, 2**8 - 1, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1]
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 7, 2**31, 2**63, 10**12, 10**400, -(10**9), 0.5, -0.0, 1e300, float("nan"),
    float("inf"), "", " ", "a", "8", "\x1b[31mred", "../../etc/passwd", "/etc/passwd", "C:\\x", "file:///etc/passwd",
    "${oc.env:FUZZ_SECRET}", "a" * 20_000, "\ud800", "\0", "<img src=x onerror=alert(1)>", "os.system", "(a+)+$", "[",
    "\u202emoc", [], {}, [[]], [None], {"a": 1}, {"": None}, ["a"] * 1000, {"_target_": "os.system"}, list(range(50)),
    {str(i): i for i in range(500)}, "gelu", "bert", 12, 1000, [1, 2, 3], "true", "Regex", {"type": "Sequence"},
]  # fmt: skip
KEYS: list[Any] = ["_target_", "auto_map", "__class__", "name", "config_type", "", "\x1b[31m", "a" * 5000, "${x}", "type", "shape", "dtype", "data_offsets", "__metadata__", "content", "text", "messages", "result", "0", "-1", "trust_remote_code", "_attn_implementation_internal"]  # fmt: skip


def mutated(data: bytes, kind: str, chance: random.Random) -> bytes:
    """The content with one to four faults.

    Args:
        data: A good file's content.
        kind: What the file is, one of `KINDS`; it is then also read, changed in its meaning, and written again.
        chance: The random numbers.
    """
    damages = [_damage_bytes, KINDS[kind]] if KINDS[kind] is not None else [_damage_bytes]
    damage = chance.choice(damages)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        data = damage(data, chance)
    return data


def _damage_bytes(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    if chance.random() < 0.3:  # most formats are decided at their beginning
        start = min(start, chance.randrange(64))
    end = min(len(data), start + chance.choice((0, 1, 1, 4, 8, 30, 500)))
    if chance.random() < 0.5:
        what = chance.choice(BITS)
    elif chance.random() < 0.5:
        what = struct.pack(chance.choice("<>") + chance.choice(("Q", "q")), chance.choice(NUMBERS) & (2**63 - 1))
    else:
        what = bytes(chance.randrange(256) for _ in range(max(1, end - start)))
    match chance.randrange(7):
        case 0:
            return data[:start]
        case 1:
            return data[:start] + data[end:]
        case 2:
            return data[:start] + what + data[start:]
        case 3:
            return data[:start] + what + data[end:]
        case 4:
            return data[:start] + data[start:end] * chance.choice((2, 3, 100)) + data[end:]
        case 5:
            flipped = bytearray(data or b"\0")
            flipped[start % len(flipped)] ^= 1 << chance.randrange(8)
            return bytes(flipped)
        case _:
            other = chance.randrange(len(data) + 1)
            piece = data[other : other + max(1, end - start)]
            return data[:start] + piece + data[end:]


def _damage_tree(tree: Any, chance: random.Random) -> Any:
    """Changes one place in plain data; the tree may be changed in place."""
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in list(items)[:300]:
            places.append((node, key))
            collect(value)

    collect(tree)
    if not places or chance.random() < 0.02:
        return chance.choice(VALUES)
    node, key = chance.choice(places)
    value = node[key]
    match chance.randrange(9):
        case 0 | 1 | 2:
            node[key] = chance.choice(VALUES)
        case 3:
            del node[key]
        case 4 if isinstance(node, dict):
            node[chance.choice(KEYS)] = node.pop(key)
        case 4 | 5:
            if isinstance(node, dict):
                node[chance.choice(KEYS)] = chance.choice(VALUES)
            else:
                node.insert(key, chance.choice(VALUES))
        case 6:
            node[key] = [value] if chance.random() < 0.5 else {chance.choice(KEYS): value}
        case 7:
            other, other_key = chance.choice(places)
            node[key] = json.loads(json.dumps(other[other_key], default=str))  # a copy, so that nothing is circular
        case _:
            if isinstance(value, bool) or value is None:
                node[key] = chance.choice(VALUES)
            elif isinstance(value, int | float):
                node[key] = value + chance.choice((-1, 1)) if abs(value) < 10**6 else 1
            elif isinstance(value, str):
                node[key] = _damage_bytes(value.encode(errors="replace"), chance).decode(errors="replace")
            else:
                node[key] = chance.choice(VALUES)
    return tree


def _damage_json(data: bytes, chance: random.Random) -> bytes:
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return _damage_bytes(data, chance)
    text = json.dumps(_damage_tree(tree, chance), ensure_ascii=chance.random() < 0.7)
    return text.encode(errors="surrogatepass")


def _damage_lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    number = chance.randrange(len(lines))
    lines[number] = _damage_json(lines[number], chance)
    return b"\n".join(lines)


def _damage_yaml(data: bytes, chance: random.Random) -> bytes:
    try:
        tree = yaml.safe_load(data)
        changed = _damage_tree(tree, chance)
        return yaml.safe_dump(changed, sort_keys=False, allow_unicode=chance.random() < 0.5).encode(errors="replace")
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError, TypeError, AttributeError):
        return _damage_bytes(data, chance)


def _damage_safetensors(data: bytes, chance: random.Random) -> bytes:
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    except (struct.error, ValueError, RecursionError):
        return _damage_bytes(data, chance)
    text = json.dumps(_damage_tree(header, chance)).encode(errors="surrogatepass")
    length = len(text) if chance.random() < 0.9 else chance.choice(NUMBERS)
    return struct.pack("<Q", length) + text + rest


KINDS: dict[str, Callable[[bytes, random.Random], bytes] | None] = {
    "json": _damage_json, "jsonl": _damage_lines, "yaml": _damage_yaml, "safetensors": _damage_safetensors,
    "bytes": None,
}  # fmt: skip
