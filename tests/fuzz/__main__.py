"""Fuzz by hand: ``python -m tests.fuzz --inputs 1000000``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.target import judged, limited_memory
from tests.fuzz.targets import TARGETS


def report(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run inputs of every target, or of those named; print failures and counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS))
    parser.add_argument("--inputs", type=int, default=20_000, help="in all, or of one target")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="processor time")
    options = parser.parse_args()
    failures: Counter[str] = Counter()
    with limited_memory():
        for name in options.targets:
            count, ended = 0, time.process_time() + options.seconds / len(options.targets)
            whole = sum(TARGETS[other].share for other in options.targets)
            share = round(options.inputs * TARGETS[name].share / whole)
            started = time.process_time()
            for number in range(options.first, options.first + share):
                if time.process_time() > ended:
                    break
                count += 1
                content = TARGETS[name].numbered(number)
                with tempfile.TemporaryDirectory() as folder:
                    reason = judged(TARGETS[name], content, Path(folder))
                if reason:
                    last = reason.strip().splitlines()[-1][:200]
                    where = [line.strip() for line in reason.splitlines() if "src/optrial" in line]
                    kind = f"{where[-1] if where else ''} {last}"
                    failures[name] += 1
                    if sum(failures.values()) < 200:
                        report(f"{name} {number}: {kind}\n    {content[:300]!r}")
            seconds = time.process_time() - started
            report(f"{name}: {count:,} inputs, {failures[name]} failures, {seconds:.0f} s")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
