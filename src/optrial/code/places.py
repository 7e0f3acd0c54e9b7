"""Place in user code that a thread has reached."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import FrameType

from optrial.code.libraries import is_installed

__all__ = ["place_in_user_code", "short_path", "user_frame"]

_CALLERS = {"optrial.study", "optrial.sweep", "optrial.executors.worker"}
"""Modules that are called by the script of the user, whose frames lie further out."""
_GENERATED = ("<frozen", "<eval_with_key", "<__array")
"""Names of files of code that Python, PyTorch and NumPy generate."""


def place_in_user_code(frame: FrameType | None) -> str:
    """Return file, line and function of the innermost frame of user code.

    Args:
        frame: innermost frame of a thread.

    Returns:
        such as ``models.py:14 (Net.forward)``, relative to the current folder where possible; the
        innermost frame if none is of user code, "" if there is no frame.
    """
    chosen = user_frame(frame) or frame
    if chosen is None:
        return ""
    code = chosen.f_code
    return f"{short_path(code.co_filename)}:{chosen.f_lineno} ({code.co_qualname})"


def user_frame(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of user code that optrial has called; None if there is none."""
    for outer in _outwards(frame):
        if not _is_library(outer):
            return outer
    return None


def short_path(file: str) -> str:
    """Return the path of a source file, relative to the current folder if it lies there."""
    try:
        relative = os.path.relpath(file)
    except (OSError, ValueError):  # the folder is gone, or on another drive
        return file
    return file if relative.startswith("..") else relative


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None and frame.f_globals.get("__name__") not in _CALLERS:
        yield frame
        frame = frame.f_back


def _is_library(frame: FrameType) -> bool:
    name, file = str(frame.f_globals.get("__name__")), frame.f_code.co_filename
    return name.partition(".")[0] == "optrial" or file.startswith(_GENERATED) or is_installed(file)
