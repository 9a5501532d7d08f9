"""Giving back memory that a file can fill again."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["give_back_freed", "keeping_freed", "read_by_parts", "release"]

ROWS = 2**13
"""A large tensor is read by so many rows: what that needs beside the result is then small."""

MAPPINGS = Path("/proc/self/smaps")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""What glibc's `mallopt` calls the free memory at the end of its own from which it gives it back, and the size from
which memory is the system's own; and below, what both are in programs that use large blocks."""
USUAL = {TRIM_THRESHOLD: 2**26, MMAP_THRESHOLD: 2**25}


def release(tensor: Tensor) -> None:
    """Gives back the memory of a tensor that is mapped from a file; it is read again when somebody looks at it.

    Nothing happens where that is not known to lose nothing: for a tensor in memory of its own, one in whose file
    mapping anything was written, or on a system that does not say so.
    """
    if tensor.device.type != "cpu" or not MAPPINGS.exists():
        return
    size = mmap.PAGESIZE
    start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.numel() * tensor.element_size()
    if not tensor.is_contiguous():
        storage = tensor.untyped_storage()
        start, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
    start, end = -(-start // size) * size, end // size * size
    if end > start and _is_untouched_file(start, end):
        ctypes.CDLL(None, use_errno=True).madvise(
            ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED
        )


def read_by_parts(tensor: Tensor) -> Iterator[Tensor]:
    """The rows of a tensor, some at a time; see `release` for what happens to each part after it was read."""
    for part in torch.split(tensor, ROWS):
        yield part
        if len(part) < len(tensor):
            release(part)


def give_back_freed() -> None:
    """Gives memory that was freed back to the system, where the C library can."""
    if not MAPPINGS.exists():
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def keeping_freed() -> Iterator[None]:
    """While it is entered, memory that was freed is kept for what comes next, where the C library is glibc.

    Memory that comes from the system anew is cleared first, page by page, which a loop would wait for in each round.
    """
    change = getattr(ctypes.CDLL(None), "mallopt", None) if MAPPINGS.exists() else None
    if change is None:
        yield
        return
    for threshold in USUAL:
        change(threshold, 2**30)
    try:
        yield
    finally:
        for threshold, size in USUAL.items():
            change(threshold, size)
        give_back_freed()


def _is_untouched_file(start: int, end: int) -> bool:
    """Whether memory is part of one mapping of a file to which nothing was written.

    A page that was written to is the process's own ("anonymous", or in the swap); one of a file that was itself written
    a moment ago is "dirty" until the disk has it, and yet the file's.
    """
    inside = is_file = False
    with MAPPINGS.open() as lines:
        for line in lines:
            first, *rest = line.split()
            if not first.endswith(":"):
                low, high = (int(number, 16) for number in first.split("-"))
                inside = low <= start and end <= high
                is_file = inside and len(rest) > 4 and rest[4].startswith("/")
            elif inside and first in ("Anonymous:", "Swap:"):
                if rest[0] != "0":
                    return False
                if first == "Swap:":
                    return is_file
    return False
