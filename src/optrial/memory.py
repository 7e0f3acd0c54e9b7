"""Memory that this process may still use, and errors that say that it ran out.

The machine is rarely the tightest limit: containers are limited by control groups (version 1 or 2,
each with its ancestors), and processes by ``ulimit -v`` and ``ulimit -d``.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "MemoryLimit",
    "gigabytes",
    "libraries_problem",
    "limits_address_space",
    "memory_limit",
    "needs_memory",
    "oom_kills",
    "out_of_memory",
    "resident_memory",
    "shortage",
]

_ULIMITS = (
    (resource.RLIMIT_AS, "VmSize", "this process, ulimit -v"),
    (resource.RLIMIT_DATA, "VmData", "this process, ulimit -d"),
)
_LIBRARIES = {"this process, ulimit -v": 960e6, "this process, ulimit -d": 380e6}
"""Bytes that PyTorch, SciPy and scikit-learn need, by the name of the limit."""
_UNLIMITED = 2**60  # bytes; control groups of version 1 write a number near 2**63


@dataclass(frozen=True)
class MemoryLimit:
    """A limit on memory.

    Attributes:
        name: what sets it, as a user would look for it.
        total: bytes that may be used at most.
        used: bytes in use that cannot be reclaimed, by all that share the limit.
    """

    name: str
    total: int
    used: int

    @property
    def free(self) -> int:
        """Bytes that this process may still use."""
        return max(0, self.total - self.used)

    def __str__(self) -> str:
        return f"{gigabytes(self.free)} of {gigabytes(self.total)} ({self.name}) are free"


def memory_limit(root: Path = Path("/")) -> MemoryLimit:
    """Return the limit with the least free memory: of the machine, a container or this process.

    Args:
        root: folder that holds ``proc`` and ``sys``.
    """
    limits = [_of_machine(root), *_of_groups(root), *_of_process(root)]
    return min(limits, key=lambda limit: limit.free)


def resident_memory(root: Path = Path("/")) -> int:
    """Return the bytes of this process that lie in memory; 0 where the system does not say."""
    return _kilobytes(root / "proc/self/status").get("VmRSS", 0)


def limits_address_space() -> bool:
    """Return whether ``ulimit -v`` or ``ulimit -d`` limits this process."""
    return any(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind, *_ in _ULIMITS)


def libraries_problem(root: Path = Path("/")) -> str:
    """Return why PyTorch and SciPy cannot be loaded within ``ulimit``; "" if they can.

    Without memory, libraries abort the process or try again forever, which no program can catch.
    """
    short = (limit for limit in _of_process(root) if limit.free < _LIBRARIES[limit.name])
    return next(
        (f"loading PyTorch {shortage(_LIBRARIES[x.name], x)}; raise the limit" for x in short), ""
    )


def gigabytes(count: float) -> str:
    """Return a number of bytes as text: ``"1.2 GB"``, or ``"35 MB"`` below 0.1 GB."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.0f} MB"


def shortage(needed: float, limit: MemoryLimit) -> str:
    """Return how much memory is needed and how much is free, as the end of a sentence."""
    return f"needs about {gigabytes(needed)} of memory, and {limit}"


def needs_memory(subject: str, needed: float, limit: MemoryLimit) -> str:
    """Return a sentence with the memory that a run needs, what is free, and the way out."""
    return (
        f"{subject} {shortage(needed, limit)}; use a smaller batch_size or model, another rule, or "
        "a machine with more memory"
    )


def _of_machine(root: Path) -> MemoryLimit:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    sizes = _kilobytes(root / "proc/meminfo")
    # Elsewhere the system does not say what is free; what this process holds is not.
    used = (
        sizes["MemTotal"] - sizes["MemAvailable"] if "MemAvailable" in sizes else _peak_resident()
    )
    return MemoryLimit("this machine", sizes.get("MemTotal", total), used)


def _peak_resident() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _of_process(root: Path) -> Iterator[MemoryLimit]:
    """Yield the limits of this process, where the system tells what counts towards them."""
    sizes = _kilobytes(root / "proc/self/status")
    for kind, size, name in _ULIMITS:
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY and size in sizes:
            yield MemoryLimit(name, soft, sizes[size])


def _of_groups(root: Path) -> Iterator[MemoryLimit]:
    """Yield the limits of the control groups of this process and of their ancestors."""
    for group, files in _groups(root):
        used = _number(group / files.used)
        if used is None:
            continue
        cache = _statistics(group / "memory.stat").get(files.cache, 0)
        for name in files.limits:
            total = _number(group / name)
            if total is not None and total < _UNLIMITED:
                yield MemoryLimit(f"this container, {name}", total, max(0, used - cache))


@dataclass(frozen=True)
class _GroupFiles:
    """Names of the files of a control group.

    Attributes:
        limits: its limits.
        used: memory in use.
        cache: entry of ``memory.stat`` with the page cache that can be reclaimed.
        kills: file that counts the processes killed for want of memory.
    """

    limits: tuple[str, ...]
    used: str
    cache: str
    kills: str


_VERSION_1 = _GroupFiles(
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    "total_inactive_file",
    "memory.oom_control",
)
_VERSION_2 = _GroupFiles(
    ("memory.max", "memory.high"), "memory.current", "inactive_file", "memory.events"
)


def _groups(root: Path) -> Iterator[tuple[Path, _GroupFiles]]:
    """Yield the folders of this process's control groups for memory, innermost first."""
    mounts = dict(_mounts(root))
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        version = "2" if not controllers else "1" if "memory" in controllers.split(",") else ""
        if version not in mounts:
            continue
        mount, mounted = mounts[version]
        folder = _inside(mount, mounted, path)
        files = _VERSION_2 if version == "2" else _VERSION_1
        for group in (folder, *folder.parents):
            yield group, files
            if group == mount:
                break


def _mounts(root: Path) -> Iterator[tuple[str, tuple[Path, str]]]:
    """Yield where the control groups for memory of each version are mounted, and which folder."""
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        place = root / fields[4].lstrip("/")
        if kind[0] == "cgroup2":
            yield "2", (place, fields[3])
        elif kind[0] == "cgroup" and "memory" in kind[-1].split(","):
            yield "1", (place, fields[3])


def _inside(mount: Path, mounted: str, path: str) -> Path:
    """Return the folder of a control group below its mount; the mount if it is not visible."""
    relative = path.removeprefix(mounted.rstrip("/")).strip("/")
    folder = mount / relative
    visible = ".." not in Path(relative).parts and folder.is_dir()
    return folder if visible else mount


def oom_kills(root: Path = Path("/")) -> int | None:
    """Return the number of processes that the system killed because memory ran out.

    Counted in the control group of this process if it has one, else on the machine; None if it
    cannot be read.
    """
    for group, files in _groups(root):
        counts = _statistics(group / files.kills)
        if "oom_kill" in counts:
            return counts["oom_kill"]
    return _statistics(root / "proc/vmstat").get("oom_kill")


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    return []


def _number(path: Path) -> int | None:
    """Return the number in a file; None if there is none, or for ``max``."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() else None


def _statistics(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _kilobytes(path: Path) -> dict[str, int]:
    """Return the sizes in a file of lines such as ``VmSize: 12 kB``, in bytes."""
    matches = (re.match(r"(\w+):\s+(\d+) kB$", line) for line in _lines(path))
    return {match[1]: 1024 * int(match[2]) for match in matches if match}


_SIGNS = re.compile(
    r"out of memory|not enough memory|can(?:'t|not) allocate memory|unable to allocate|bad_alloc"
    r"|memory allocation failed|failed to allocate|alloc_failed|virtual memory exhausted"
    r"|array is too big|storage size calculation overflowed"
    r"|can't start new thread|failed to map segment",
    re.IGNORECASE,
)
"""Words of PyTorch, NumPy, CUDA libraries, compilers and the loader of libraries."""


_TYPES = (RuntimeError, OSError, ImportError, ValueError)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one that caused it, says that memory ran out.

    Recognised are `MemoryError` and NumPy's and PyTorch's own errors on the host and on a GPU,
    errors of a compiler, and threads that could not be started.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, MemoryError) or getattr(cause, "errno", None) == errno.ENOMEM:
            return True
        with suppress(Exception):  # of a class of the user, which may have no text
            if isinstance(cause, _TYPES) and _SIGNS.search(str(cause)):
                return True
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return False
