"""Certificates over many seeds: python -m tests.certifying [--seeds 200] [--faults]

Without --faults, unchanged copies are certified: none may have a fault. With it, copies with a
planted fault: each must be named. Complaints are printed; the exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optrial
from tests.certifying.faults import FAULTS, SOURCES, planted


def complaints_about_copies(seeds: int, folder: Path) -> Iterator[str]:
    """Faults that certificates of unchanged code report."""
    copies = {name: planted(name, folder)[1] for name in SOURCES}
    for seed in range(seeds):
        for name, optimizer in copies.items():
            for fault in optrial.certify(optimizer, seed=seed).faults:
                yield f"seed {seed}: {name} {fault.sentence}"


def faults_without_a_name(seeds: int, folder: Path) -> Iterator[str]:
    """Planted faults that a certificate does not name."""
    for fault in FAULTS:
        optimizer = planted(fault, folder)[1]
        for seed in range(seeds):
            findings = optrial.certify(optimizer, seed=seed).findings
            if not any(f.name == fault.name and fault.phrase in f.sentence for f in findings):
                sentences = "; ".join(f.sentence for f in findings)
                yield f"seed {seed}: {fault.class_name}, {fault.label}: {sentences}"


def main() -> None:
    """Print complaints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    check = faults_without_a_name if options.faults else complaints_about_copies
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for complaint in check(options.seeds, Path(folder)):
            count += 1
            sys.stdout.write(f"{complaint}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{count} complaints in {options.seeds} seeds\n")
    sys.exit(min(count, 1))


if __name__ == "__main__":
    main()
