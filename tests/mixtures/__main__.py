"""Compare the engines on random studies: ``python -m tests.mixtures --studies 1000``."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections import Counter

from tests.mixtures.compare import RefusedError, differences
from tests.mixtures.studies import described, study


def main() -> int:
    """Train the studies; print those that differ, and counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="seed of the first study")
    parser.add_argument("--refused", action="store_true", help="print why studies are refused")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    started = time.process_time()
    for seed in range(options.first, options.first + options.studies):
        keys = study(seed)
        try:
            lines = differences(keys)
        except RefusedError as error:
            counts["refused"] += 1
            lines = [f"refused: {error}"] if options.refused else []
        except Exception:  # noqa: BLE001
            counts["failed"] += 1
            lines = [traceback.format_exc(limit=-6)]
        else:
            counts["differ" if lines else "equal"] += 1
        if lines:
            sys.stdout.write(f"{seed}: {described(keys)}\n")
            sys.stdout.writelines(f"    {line}\n" for line in lines[:4])
            sys.stdout.flush()
    sys.stdout.write(f"{dict(counts)}, {time.process_time() - started:.0f} s of CPU\n")
    return int(counts["differ"] + counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
