"""Run the command line and time its parts: timed_parts.py JSON_FILE ARGUMENTS OF optrial"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()

from optrial import cli  # noqa: E402  imports are one of the parts
from optrial.engine import Engines  # noqa: E402
from optrial.engine.training import Training  # noqa: E402
from optrial.executors import trainer  # noqa: E402
from optrial.records.store import Store  # noqa: E402
from optrial.results import Results  # noqa: E402
from optrial.study import Study  # noqa: E402

PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "data": ((Study, "load_data"),),
    "choosing": ((Engines, "choose"), (Engines, "build")),  # also builds the stacks that train
    "training": ((Training, "_train"),),  # with the compiling
    "evaluation": ((Training, "_evaluate"),),
    "store": ((Store, "commit"), (Store, "save_plan"), (Training, "checkpoint")),
    "checks": ((trainer, "certificates"),),
    "report": ((Results, "report"), (Results, "audit")),
}


def clocked(
    function: Callable[..., Any], part: str, seconds: dict[str, float]
) -> Callable[..., Any]:
    """Add the time of a function to its part, and subtract it from the calling part."""

    @functools.wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:
        before, started = sum(seconds.values()), time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            inner = sum(seconds.values()) - before
            seconds[part] += time.perf_counter() - started - inner

    return timed


def main() -> None:
    """Run the command line; write the seconds of its parts."""
    file, *arguments = sys.argv[1:]
    seconds = defaultdict[str, float](float, imports=time.perf_counter() - STARTED)
    for part, functions in PARTS.items():
        for owner, name in functions:
            setattr(owner, name, clocked(getattr(owner, name), part, seconds))
    sys.argv = ["optrial", *arguments]
    try:
        cli.main()
    finally:
        Path(file).write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
