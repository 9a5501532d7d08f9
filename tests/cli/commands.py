"""What the tests of the commands share."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Protocol

EVIL = "bad\x1b[31m\u202elabel"


class Fails(Protocol):
    """Runs a command that must fail, and gives its one line on stderr."""

    def __call__(self, *argv: str, code: int = 2) -> str: ...


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def run_process(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hezar_like", *argv]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False, **options)
