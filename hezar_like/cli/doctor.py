"""`hezar_like doctor`: what is installed, what this computer can do, where downloads go."""

from __future__ import annotations

import argparse
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from .terminal import file_size, say, table

if TYPE_CHECKING:
    from .parser import Commands, Parser

__all__ = ["add"]

REQUIREMENT = re.compile(r"([\w.-]+)[^;]*(?:;.*extra == ['\"]([\w-]+)['\"])?")
FOR_DEVELOPERS = ("dev", "bench", "all")
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def add(commands: Commands[Parser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "doctor", help="describe this installation", description="Describe this installation, as for a bug report."
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Prints what a report of a problem should say."""
    needed, optional = _requirements()
    versions = {"python": platform.python_version(), "hezar_like": __version__}
    versions |= {name: _version(name) or "MISSING" for name in needed}
    extras = {
        name: _version(name) or f"not installed; pip install 'hezar_like[{extra}]'" for name, extra in optional.items()
    }
    sections = {"versions": versions, "optional": extras, "computer": _computer(), "hub": _hub()}
    for number, (title, rows) in enumerate(sections.items()):
        say() if number else None
        say(f"{title}:")
        for line in table(list(rows.items())):
            say(line)


def _requirements() -> tuple[list[str], dict[str, str]]:
    """What is needed, and what is optional with the extra that brings it; as the package itself says."""
    try:
        lines = requires("hezar_like") or []
    except PackageNotFoundError:  # run from a folder that was never installed
        lines = ["torch", "omegaconf", "huggingface_hub", "safetensors", "tokenizers", "pyyaml"]
    needed, optional = [], {}
    for line in lines:
        match = REQUIREMENT.match(line)
        if match is None or match[1].replace("-", "_") == "hezar_like":
            continue
        if match[2] is None:
            needed.append(match[1])
        elif match[2] not in FOR_DEVELOPERS:
            optional[match[1]] = match[2]
    return needed, optional


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _computer() -> dict[str, str]:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    named = f" ({torch.cuda.get_device_name()})" if accelerator is not None and accelerator.type == "cuda" else ""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": f"{torch.backends.cpu.get_cpu_capability()}, {usable} usable cores",
        "threads": f"{torch.get_num_threads()} of torch",
        "onednn": "yes" if torch.backends.mkldnn.is_available() else "no",  # type: ignore[no-untyped-call]
        "accelerator": f"{accelerator}{named}" if accelerator is not None else "none",
    }


def _hub() -> dict[str, str]:
    from huggingface_hub import constants, get_token

    folder = Path(constants.HF_HUB_CACHE)
    offline = [f"{name}={os.environ[name]}" for name in OFFLINE_VARIABLES if name in os.environ]
    return {
        "cache": f"{folder} ({file_size(_size(folder))})" if folder.is_dir() else f"{folder} (not there yet)",
        "offline": ("yes" if constants.is_offline_mode() else "no") + (f" ({', '.join(offline)})" if offline else ""),
        "token": "yes" if get_token() else "no",  # never the token itself
    }


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; links, by which the cache shares files between commits, do not count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink() and path.exists():
                total += path.stat().st_size
    return total
