"""The log of a training, a JSON object per line, and its curves as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from .disk import writing

__all__ = ["append_line", "cut_log", "draw_curves", "read_log"]

WIDTH, HEIGHT, MARGIN = 640, 320, 48
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Adds a line to a log; numbers that are not finite become null, which JSON has no other word for.

    Raises:
        HubError: When it cannot be written.
    """
    plain = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in record.items()}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain, ensure_ascii=False) + "\n")


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a log, without one that was cut off; none where there is no log."""
    records = []
    path = Path(path)
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def cut_log(path: Path, step: int) -> None:
    """Makes the folder of a log; removes lines of steps after one from which training goes on.

    Raises:
        HubError: When it cannot be written.
    """
    records = read_log(path)
    kept = [record for record in records if record.get("step", 0) <= step]
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if len(kept) < len(records):
            partial = path.with_suffix(".part")
            partial.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept), encoding="utf-8")
            partial.replace(path)


def draw_curves(records: Iterable[Mapping[str, Any]], names: Sequence[str] = ("loss", "evaluation.loss")) -> str:
    """A picture of values by step.

    Args:
        records: The lines of a log.
        names: The values that are drawn.

    Returns:
        An SVG file's text.
    """
    records = list(records)
    curves = {
        name: [(float(r["step"]), float(r[name])) for r in records if isinstance(r.get(name), int | float)]
        for name in names
    }
    curves = {name: points for name, points in curves.items() if points}
    everything = [point for points in curves.values() for point in points] or [(0.0, 0.0)]
    left, right = (pick(x for x, _ in everything) for pick in (min, max))
    low, high = (pick(y for _, y in everything) for pick in (min, max))

    def place(x: float, y: float) -> str:
        across = MARGIN + (x - left) / ((right - left) or 1) * (WIDTH - 2 * MARGIN)
        down = HEIGHT - MARGIN - (y - low) / ((high - low) or 1) * (HEIGHT - 2 * MARGIN)
        return f"{across:.1f},{down:.1f}"

    bottom, end = HEIGHT - MARGIN, WIDTH - MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<path d="M{MARGIN},{MARGIN} V{bottom} H{end}" fill="none" stroke="#888"/>',
        f'<text x="{MARGIN - 4}" y="{MARGIN + 4}" text-anchor="end">{high:.4g}</text>',
        f'<text x="{MARGIN - 4}" y="{bottom}" text-anchor="end">{low:.4g}</text>',
        f'<text x="{MARGIN}" y="{bottom + 16}">{left:.0f}</text>',
        f'<text x="{end}" y="{bottom + 16}" text-anchor="end">step {right:.0f}</text>',
    ]
    for number, (name, points) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(place(x, y) for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts += [
            f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="2" fill="{colour}"/>' for p in line.split()
        ]
        where = MARGIN + 12 + 160 * number
        parts.append(f'<text x="{where}" y="{MARGIN - 16}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
