"""Fuzzing that is led by which lines a file makes run: `python tests/fuzzing/guided.py --target config --seconds 300`.

It needs atheris, which nothing else here does: `pip install atheris`, on Linux with Python 3.11 to 3.13. A case that runs new
lines of the package, of PyYAML or of Jinja is kept and damaged further, half of the time by bytes and half of the time in its
meaning. What must hold of a case is what holds in `run.py`. Of inputs that break it, the first at each place is told, and
left in a folder.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["hezar_like", "yaml", "jinja2"]):
    from run import MEGABYTES, TARGETS, confine, mutated, prepare, use

SEEDS = 100
LONGEST = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--seconds", type=int, default=300)
    options = parser.parse_args()
    target = TARGETS[options.target]
    place = Path(tempfile.mkdtemp(prefix="guided-"))
    own, found = place / "own", place / "found"
    with atheris.instrument_imports(include=["hezar_like", "yaml", "jinja2"]):  # also what is imported when it is used
        prepare(place / "good")
        shutil.copytree(place / "good" / target.folder, own / target.folder)
        good = (own / target.folder / target.file).read_bytes()
        assert use(target, own / target.folder, good) == "fine"
    found.mkdir()
    (place / "corpus").mkdir()
    for number in range(SEEDS):
        seed = mutated(good, target.kind, random.Random(number)) if number else good
        (place / "corpus" / f"{number}").write_bytes(seed[:LONGEST])
    seen: set[str] = set()

    def case(content: bytes) -> None:
        try:
            use(target, own / target.folder, content)
        except BaseException as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}"
            if kind not in seen:
                seen.add(kind)
                path = found / str(len(seen))
                path.write_bytes(content)
                print(f"FOUND {kind}: {' '.join(str(error).split())[:300]}: {path}", flush=True)

    def damage(content: bytes, longest: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.5:
            return mutated(content, target.kind, chance)[:longest]
        changed: bytes = atheris.Mutate(content, longest)
        return changed

    confine(place, MEGABYTES)
    limits = [f"-max_total_time={options.seconds}", f"-max_len={LONGEST}", "-timeout=20", "-rss_limit_mb=4000"]
    atheris.Setup([sys.argv[0], str(place / "corpus"), *limits], case, custom_mutator=damage)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
