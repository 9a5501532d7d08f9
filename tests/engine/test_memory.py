"""Memory that is kept, or given back."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PAGES = """
import resource
import torch
from hezar_like.engine.memory import keeping_freed

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(2**24)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with keeping_freed():
    pages()  # the first ones come from the system
    kept = pages()
print(kept, pages())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_memory_that_was_freed_is_used_again() -> None:
    """Counts the pages that come from the system for the same memory, used eight times, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    kept, usual = map(int, done.stdout.split())
    assert kept * 4 < usual
