"""Steps of a stack that several processes of one thread take at once: workers.py JSON

Each process trains its part of the runs, as workers do that optrial divides a study among.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass

from contenders import Step, started
from workloads import WORKLOADS, Precision

from optrial.engine import Engines
from optrial.executors.room import cores
from optrial.plan import pack

_READY = "ready"


@dataclass(frozen=True)
class Part:
    """The runs of one process.

    Attributes:
        workload: name of the workload.
        precision: precision of products.
        engine: engine of the stack.
        index: number of the part.
        count: number of parts.
    """

    workload: str
    precision: Precision
    engine: str
    index: int
    count: int


class Workers:
    """A process for each core, with the same number of runs each.

    Args:
        workload: name of the workload.
        precision: precision of products.
        engine: engine of the stacks.
    """

    def __init__(self, workload: str, precision: Precision, engine: str) -> None:
        count = cores()
        self.runs = WORKLOADS[workload].runs // count * count
        self._processes = [
            subprocess.Popen(
                [
                    *(sys.executable, __file__),
                    json.dumps(asdict(Part(workload, precision, engine, index, count))),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            for index in range(count)
        ]
        for process in self._processes:
            if _line(process) != _READY:
                raise SystemExit("a worker of the benchmark did not start")

    def step(self, count: int) -> float:
        """Take steps in all processes; return the seconds of the slowest."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{count}\n")
            process.stdin.flush()
        return max(float(_line(process)) for process in self._processes)

    def end(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.wait()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _steps_of(part: Part) -> Step:
    workload = WORKLOADS[part.workload]
    dataset = workload.data()
    width = workload.runs // part.count
    runs = workload.specs(dataset, part.precision)[part.index * width :][:width]
    learner = Engines(dataset, part.precision, "cpu").build(part.engine, pack(runs, width)[0])
    learner.threads = 1
    return started(learner, "cpu")


def main() -> None:
    """Compile, then take as many steps as each line of the input says."""
    step = _steps_of(Part(**json.loads(sys.argv[1])))
    step(3)  # compiles
    print(_READY, flush=True)
    for line in sys.stdin:
        print(step(int(line)), flush=True)


if __name__ == "__main__":
    main()
