"""Run scenarios of faults, and print how they ended.

python -m tests.faults --faults 200            scenarios 0 to 199
python -m tests.faults --faults 1 --first 17   scenario 17 alone
python -m tests.faults --faults 50 --kind killed
python -m tests.faults --faults 50 --executors  workers, Ray, and two clients of a server
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.faults import shim


def main() -> int:
    arguments = _arguments()
    if shim.VARIABLE not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="faults-"))
        command = [sys.executable, "-m", "tests.faults", *sys.argv[1:]]
        os.execve(sys.executable, command, dict(shim.preloaded(folder)))
    from tests.faults.executors import EXECUTOR_KINDS
    from tests.faults.scenarios import Tally, bench_in, scenario, warm_up

    kinds = sorted(EXECUTOR_KINDS) if arguments.executors else arguments.kind

    warnings.simplefilter("ignore")
    end = time.monotonic() + arguments.seconds
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # nothing waits for a disk
    with bench_in(Path(tempfile.mkdtemp(prefix="faults-", dir=in_memory))) as bench:
        warm_up(bench)
        tally = Tally()
        for seed in range(arguments.first, arguments.first + arguments.faults):
            if time.monotonic() > end:
                break
            tally.add(seed, *scenario(bench, seed, kinds))
            if arguments.verbose or tally.last_is_wrong:
                _write(tally.last)
            if arguments.printed:
                _write(tally.last_printed)
    _write(tally.table())
    return int(tally.wrong > 0)


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=200, help="number of scenarios")
    parser.add_argument("--first", type=int, default=0, help="seed of the first scenario")
    parser.add_argument("--kind", action="append", help="kind of fault; may be repeated")
    parser.add_argument("--executors", action="store_true", help="the kinds of several processes")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after these")
    parser.add_argument("--verbose", action="store_true", help="print every scenario")
    parser.add_argument("--printed", action="store_true", help="print their standard error")
    return parser.parse_args()


if __name__ == "__main__":
    gc.disable()
    sys.exit(main())
