"""Certificates over many seeds: python -m tests.certifying [--faults] [--seeds 200] [--first 0]

Without --faults, unchanged copies are certified: none may have a fault that the class of PyTorch
does not have. With it, copies with a planted fault: each must be named. Complaints are printed; the
exit status is 1 if there are any.
--first continues an earlier run; --only takes parts of the names of classes and faults.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import optrial
from tests.certifying.faults import FAULTS, OF_PYTORCH, SOURCES, planted


def complaints_about_copies(seeds: range, folder: Path, only: Sequence[str]) -> Iterator[str]:
    """Yield the faults that certificates of unchanged code report."""
    copies = {name: planted(name, folder)[1] for name in SOURCES if _is_chosen(name, only)}
    for seed in seeds:
        for name, optimizer in copies.items():
            for fault in optrial.certify(optimizer, seed=seed).faults:
                if (name, fault.name) not in OF_PYTORCH:
                    yield f"seed {seed}: {name}, {fault.name}: {fault.sentence}"
        _report(seed)


def faults_without_a_name(seeds: range, folder: Path, only: Sequence[str]) -> Iterator[str]:
    """Yield the planted faults that a certificate does not name."""
    chosen = [f for f in FAULTS if _is_chosen(f"{f.class_name}: {f.label}", only)]
    classes = [(fault, planted(fault, folder)[1]) for fault in chosen]
    for seed in seeds:
        for fault, optimizer in classes:
            findings = optrial.certify(optimizer, seed=seed).findings
            if not any(fault.is_named(finding) for finding in findings):
                sentences = "; ".join(f"{f.name}: {f.sentence}" for f in findings)
                yield f"seed {seed}: {fault.class_name}, {fault.label}: {sentences}"
        _report(seed)


def _is_chosen(name: str, only: Sequence[str]) -> bool:
    return not only or any(part in name for part in only)


def _report(seed: int) -> None:
    sys.stdout.write(f"seed {seed} done after {time.process_time():.0f} s of CPU\n")
    sys.stdout.flush()


def main() -> None:
    """Print complaints."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--only", nargs="*", default=())
    options = parser.parse_args()
    check = faults_without_a_name if options.faults else complaints_about_copies
    seeds, count = range(options.first, options.first + options.seeds), 0
    with tempfile.TemporaryDirectory() as folder:
        for complaint in check(seeds, Path(folder), options.only):
            count += 1
            sys.stdout.write(f"{complaint}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{count} complaints in {options.seeds} seeds\n")
    sys.exit(min(count, 1))


if __name__ == "__main__":
    main()
