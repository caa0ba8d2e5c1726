"""`make fuzz`: every target in a process of its own, a table at the end."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS
from tests.fuzz.workers import run_all, work

BUILD = Path("build/fuzz")


def main() -> int:
    """Exit status 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="names of targets, with commas between")
    parser.add_argument("--work", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        return work(next(each for each in TARGETS if each.name == asked.work), asked.inputs, asked.seed, BUILD)
    names = set(filter(None, asked.only.split(",")))
    unknown = names - {each.name for each in TARGETS}
    if unknown:
        parser.error(
            f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(t.name for t in TARGETS)}"
        )
    chosen = [each for each in TARGETS if not names or each.name in names]
    return run_all(chosen, asked.inputs, asked.seed, BUILD)


if __name__ == "__main__":
    sys.exit(main())
