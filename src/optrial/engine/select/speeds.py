"""Cache of measured speeds, so that the same steps are timed once per machine.

The cache is a file in OPTRIAL_CACHE or the user's cache folder. Speeds expire after thirty days and
are measured again on another processor or with another version of PyTorch or optrial. A speed that
was measured while other programs used the processor is not kept. If the file cannot be read or
written, speeds are measured again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from platformdirs import user_cache_path

from optrial import __version__
from optrial.engine.select.busy import LEAST_CPU_SHARE
from optrial.files import make_folder, write_whole

__all__ = ["Measured", "Speed", "Speeds", "clear_speeds", "kept_speeds", "speeds_file"]

LIFETIME = timedelta(days=30)
_MOST_CHARACTERS = 10**7  # some thousand times what a year of measurements takes


class Measured(NamedTuple):
    """Times of some candidates.

    Attributes:
        seconds: for each candidate, seconds per run and step, then seconds of the first step.
        cpu_share: 1 if the threads in use had the processor all the time, less on a busy machine;
            1 if another device does the work.
    """

    seconds: list[float]
    cpu_share: float = 1.0


@dataclass(frozen=True)
class Speed:
    """An entry of the cache: candidates that were timed side by side.

    Attributes:
        candidates: engine, model, batch size and so on of each.
        seconds: see `Measured`.
        cpu_share: see `Measured`.
        taken: time of the measurement.
        machine: processor, device and versions.
    """

    candidates: list[dict[str, Any]]
    seconds: list[float]
    cpu_share: float
    taken: datetime
    machine: dict[str, Any]

    @classmethod
    def from_json(cls, entry: Any) -> Self | None:
        """Read an entry; return None if it is damaged or has expired."""
        try:
            seconds = [float(value) for value in entry["seconds"]]
            candidates = [dict(candidate) for candidate in entry["candidates"]]
            taken = datetime.fromisoformat(entry["taken"])
            age = datetime.now(UTC) - taken
            share, machine = float(entry["cpu_share"]), dict(entry["machine"])
            json.dumps([candidates, machine], allow_nan=False)  # it is written again
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            return None
        sound = all(math.isfinite(value) and value >= 0 for value in [*seconds, share])
        sound &= all(step > 0 for step in seconds[::2])
        sound &= all(isinstance(candidate.get("rules", []), list) for candidate in candidates)
        if not sound or len(seconds) != 2 * len(candidates) or not timedelta(0) <= age <= LIFETIME:
            return None
        return cls(candidates, seconds, share, taken, machine)

    def as_json(self) -> dict[str, Any]:
        """Return the entry as `from_json` reads it."""
        return {
            "candidates": self.candidates,
            "seconds": self.seconds,
            "cpu_share": self.cpu_share,
            "taken": self.taken.isoformat(timespec="seconds"),
            "machine": self.machine,
        }


class Speeds:
    """The cache, as far as it applies to this machine and these versions of PyTorch and optrial.

    Attributes:
        busy: True if another program used the processor during a measurement.
    """

    def __init__(self, device: torch.device) -> None:
        on_cuda = device.type == "cuda"
        self._machine = {
            "host": platform.node(),
            "processor": platform.processor() or platform.machine(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "optrial": __version__,
            "device": torch.cuda.get_device_name(device) if on_cuda else "cpu",
        }
        self.busy = False
        self._measured: dict[str, list[float]] = {}  # in this session, also on a busy machine

    def kept(self, candidates: Sequence[Mapping[str, Any]]) -> list[float] | None:
        """Return the cached seconds of candidates; None if there are none."""
        key, plain = self._entry(candidates)
        entry = _read().get(key)
        is_same = entry is not None and entry.candidates == plain
        return self._measured.get(key) or (entry.seconds if entry and is_same else None)

    def measured(
        self, candidates: Sequence[Mapping[str, Any]], measure: Callable[[], Measured]
    ) -> list[float]:
        """Return the cached seconds of candidates, measuring them on a miss.

        Args:
            candidates: everything that the time of a step depends on, JSON-able.
            measure: times the candidates side by side.
        """
        key, plain = self._entry(candidates)
        if key not in self._measured:
            self._measured[key] = self.kept(candidates) or self._measure(key, plain, measure)
        return self._measured[key]

    def _entry(self, candidates: Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
        """Return the key of candidates, and the candidates as they come back from the file."""
        plain = json.loads(json.dumps(list(candidates), sort_keys=True, default=str))
        text = json.dumps([self._machine, plain], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24], plain

    def _measure(
        self, key: str, candidates: list[dict[str, Any]], measure: Callable[[], Measured]
    ) -> list[float]:
        seconds, cpu_share = measure()
        if cpu_share < LEAST_CPU_SHARE:
            self.busy = True
        else:
            taken = datetime.now(UTC).replace(microsecond=0)
            speed = Speed(candidates, seconds, round(cpu_share, 3), taken, self._machine)
            _write(_read() | {key: speed})
        return seconds


def speeds_file() -> Path:
    """Return the path of the cache."""
    folder = os.environ.get("OPTRIAL_CACHE") or str(user_cache_path("optrial"))
    return Path(os.path.expanduser(folder), "speeds.json")  # noqa: PTH111  never raises


def kept_speeds() -> Iterator[Speed]:
    """Yield the valid entries of the cache, oldest first."""
    yield from sorted(_read().values(), key=lambda speed: speed.taken)


def clear_speeds() -> int:
    """Remove the cache and return how many valid entries it had.

    Raises:
        OSError: the file cannot be removed.
    """
    count = len(_read())
    speeds_file().unlink(missing_ok=True)
    return count


def _read() -> dict[str, Speed]:
    """Return the valid entries by key; none of a file that cannot be read or is too large."""
    try:
        with speeds_file().open(encoding="utf-8") as file:
            content = json.loads(file.read(_MOST_CHARACTERS))
    except (OSError, ValueError, RecursionError):
        return {}
    speeds = {key: Speed.from_json(entry) for key, entry in _items(content)}
    return {key: speed for key, speed in speeds.items() if speed is not None}


def _items(content: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        yield from content.items()


def _write(speeds: Mapping[str, Speed]) -> None:
    content = {key: speed.as_json() for key, speed in speeds.items()}
    file = speeds_file()
    with suppress(OSError):
        make_folder(file.parent)
        write_whole(file, json.dumps(content, indent=1, allow_nan=False))
