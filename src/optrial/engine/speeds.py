"""Measured speeds, kept for the machine, so that the same question is timed once.

They lie in the user's cache folder, or in OPTRIAL_CACHE. A speed is measured again after thirty
days, on another processor and with another version of PyTorch or optrial. One that was taken while
other programs used the processor is not kept. A file that cannot be read or written only means that
speeds are measured again.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Self

import pooch
import torch

__all__ = ["Measured", "Speed", "Speeds", "clear_speeds", "kept_speeds", "speeds_file"]

LIFETIME = timedelta(days=30)

LEAST_CPU_SHARE = 0.8
"""Share of the time that this process must have had the processor for its speed to be kept."""


class Measured(NamedTuple):
    """What was measured of some candidates.

    Attributes:
        seconds: of each candidate seconds per run and step, then those of the first step.
        cpu_share: CPU time by wall time of the thread that took the steps, near 1 on a machine that
            does nothing else; 1 where another device does the work.
    """

    seconds: list[float]
    cpu_share: float = 1.0


@dataclass(frozen=True)
class Speed:
    """Speeds as they are kept: of candidates that were timed in turns.

    Attributes:
        candidates: what was timed: engine, model, batch size, ...
        seconds: see `Measured`.
        cpu_share: see `Measured`.
        taken: when.
        machine: where, and with which versions.
    """

    candidates: list[dict[str, Any]]
    seconds: list[float]
    cpu_share: float
    taken: datetime
    machine: dict[str, Any]

    @classmethod
    def from_json(cls, entry: Any) -> Self | None:
        """Return what is kept under a key, or None if it is damaged or has expired."""
        try:
            seconds = [float(value) for value in entry["seconds"]]
            candidates = [dict(each) for each in entry["candidates"]]
            taken = datetime.fromisoformat(entry["taken"])
            age = datetime.now(UTC) - taken
            share, machine = float(entry["cpu_share"]), dict(entry["machine"])
        except (KeyError, TypeError, ValueError):
            return None
        sound = all(math.isfinite(value) and value >= 0 for value in seconds)
        if not sound or len(seconds) != 2 * len(candidates) or not timedelta(0) <= age <= LIFETIME:
            return None
        return cls(candidates, seconds, share, taken, machine)

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "candidates": self.candidates,
            "seconds": self.seconds,
            "cpu_share": self.cpu_share,
            "taken": self.taken.isoformat(timespec="seconds"),
            "machine": self.machine,
        }


class Speeds:
    """Seconds by what was timed, on this machine, by these versions of PyTorch and optrial."""

    def __init__(self, device: torch.device) -> None:
        on_cuda = device.type == "cuda"
        self._machine = {
            "host": platform.node(),
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "optrial": version("optrial"),
            "device": torch.cuda.get_device_name(device) if on_cuda else "cpu",
        }
        self._measured: dict[str, list[float]] = {}  # in this session, on a busy machine too

    def measured(
        self, candidates: Sequence[Mapping[str, Any]], measure: Callable[[], Measured]
    ) -> list[float]:
        """Return the seconds of candidates that were timed in turns, measured now unless kept.

        Args:
            candidates: all that the time of a step depends on, JSON-able.
            measure: takes the times; see `Measured`.
        """
        # As JSON has them, so that what is kept and what is asked for are written alike.
        plain = json.loads(json.dumps(list(candidates), sort_keys=True, default=str))
        text = json.dumps([self._machine, plain], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:24]
        if key not in self._measured:
            kept = _read().get(key)
            self._measured[key] = kept.seconds if kept else self._measure(key, plain, measure)
        return self._measured[key]

    def _measure(
        self, key: str, candidates: list[dict[str, Any]], measure: Callable[[], Measured]
    ) -> list[float]:
        seconds, cpu_share = measure()
        if cpu_share >= LEAST_CPU_SHARE:
            taken = datetime.now(UTC).replace(microsecond=0)
            speed = Speed(candidates, seconds, round(cpu_share, 3), taken, self._machine)
            _write(_read() | {key: speed})
        return seconds


def speeds_file() -> Path:
    """Return the file in which speeds are kept."""
    folder = Path(os.environ.get("OPTRIAL_CACHE") or pooch.os_cache("optrial"))
    return folder.expanduser() / "speeds.json"


def kept_speeds() -> Iterator[Speed]:
    """Yield the speeds that are kept, oldest first; those that have expired are left out."""
    yield from sorted(_read().values(), key=lambda speed: speed.taken)


def clear_speeds() -> int:
    """Forget every speed, so that all are measured again; return how many were kept.

    Raises:
        OSError: the file cannot be removed.
    """
    count = len(_read())
    speeds_file().unlink(missing_ok=True)
    return count


def _read() -> dict[str, Speed]:
    """Return the speeds by key; what is damaged or has expired is left out."""
    try:
        content = json.loads(speeds_file().read_text(encoding="utf-8"))
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
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
        partial.replace(file)
