"""The preloaded library of `shim.c`: compile it, start a process with it, arm it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from enum import IntEnum, IntFlag
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
VARIABLE = "LD_PRELOAD"


class Operation(IntFlag):
    """Operations that are counted."""

    OPEN = 1
    WRITE = 2
    SYNC = 4
    TRUNCATE = 8
    RENAME = 16
    UNLINK = 32
    MKDIR = 64
    READ = 128
    SOCKET = 256


CHANGES = Operation(127)
"""Every operation that changes a file or a folder."""


class Action(IntEnum):
    """Faults of an operation."""

    NOTHING = 0
    SIGNAL_BEFORE = 1
    SIGNAL_AFTER = 2
    SIGNAL_HALFWAY = 3
    FAIL = 4
    SHORT = 5
    CUT = 6


class Control(ctypes.Structure):
    """The control block, shared by this process and its children; see `shim.c`."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("armed", "kinds", "action", "value")),
        *((name, ctypes.c_int32) for name in ("forever", "port", "journal", "fired")),
        *((name, ctypes.c_int64) for name in ("at", "count", "clock_at", "clock_offset")),
        ("calls", ctypes.c_int64 * 4),
        ("counts", ctypes.c_int64 * 16),
        ("prefix", ctypes.c_char * 4096),
    ]


def counted(counts: Sequence[int], operations: Operation) -> int:
    """Return how many of some operations there were, of the counts of a control block."""
    return sum(count for bit, count in enumerate(counts) if operations >> bit & 1)


def compiler() -> str | None:
    """Return the C compiler of this machine, if it has one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def preloaded(folder: Path) -> Mapping[str, str]:
    """Compile the library into `folder`; return the environment of a process that loads it."""
    library = folder / "faults.so"
    command = [compiler() or "cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run([*command, "-ldl"], check=True)
    return {**os.environ, VARIABLE: str(library)}


def control() -> Control:
    """Return the control block of this process, which has the library preloaded."""
    library = ctypes.CDLL(os.environ[VARIABLE])
    library.faults_control.restype = ctypes.POINTER(Control)
    block: Control = library.faults_control().contents
    return block


def forget() -> None:
    """Count nothing more in this process, whatever the control block says."""
    ctypes.CDLL(os.environ[VARIABLE]).faults_forget()
