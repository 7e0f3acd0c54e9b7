"""Place in user code that a thread has reached."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from traceback import walk_tb
from types import FrameType

from optrial.code.libraries import is_installed

__all__ = [
    "is_library_file",
    "name_of_user_code",
    "place_in_user_code",
    "place_of_error",
    "short_path",
    "user_frame",
]

_GENERATED = ("<frozen", "<eval_with_key", "<__array")
"""Names of files of code that Python, PyTorch and NumPy generate."""
_OPTRIAL = f"{Path(__file__).parents[1]}{os.sep}"


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


def place_of_error(error: BaseException) -> str:
    """Return where user code raised an error, as `place_in_user_code`; "" if other code did."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    innermost = frames[-1] if frames else None
    return place_in_user_code(innermost) if user_frame(innermost) else ""


def user_frame(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of user code that optrial has called; None if there is none."""
    return next(filter(_is_of_user, _called(frame)), None)


def name_of_user_code(frame: FrameType | None) -> str:
    """Return the name of the user code that optrial has called, such as ``models:Net``.

    Without user code, it is the name of the library that optrial has called; "" without either.
    """
    frames = [frame for frame in _called(frame) if not _is_of_optrial(frame)]
    if not frames:
        return ""
    of_user = list(filter(_is_of_user, frames))
    outermost = (of_user or frames)[-1]
    module = str(outermost.f_globals.get("__name__"))
    if not of_user:
        return module.partition(".")[0]
    name = outermost.f_code.co_qualname.rpartition("<locals>.")[2].partition(".")[0]
    return module if name == "<module>" else f"{module}:{name}"


def is_library_file(file: str) -> bool:
    """Return whether a source file is generated, or of Python, a package or optrial."""
    return file.startswith((*_GENERATED, _OPTRIAL)) or _is_installed(file)


def short_path(file: str) -> str:
    """Return the path of a source file, relative to the current folder if it lies there."""
    try:
        relative = os.path.relpath(file)
    except (OSError, ValueError):  # the folder is gone, or on another drive
        return file
    return file if relative.startswith("..") else relative


def _called(frame: FrameType | None) -> list[FrameType]:
    """Return the frames within the outermost call of optrial, innermost first.

    Those further out are of the script that called optrial. In a thread of user code, all frames
    are returned.
    """
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    outermost = max((i for i, frame in enumerate(frames) if _is_of_optrial(frame)), default=None)
    return frames if outermost is None else frames[: outermost + 1]


def _is_of_user(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    if file == "<string>":  # of `python -c`, or of a library that executes what it generated
        return frame.f_globals.get("__name__") == "__main__"
    return not is_library_file(file)


def _is_of_optrial(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "optrial"


_is_installed = cache(is_installed)
