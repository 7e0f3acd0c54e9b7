"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import count, takewhile
from pathlib import Path

__all__ = ["flush", "make_folder", "replacing", "why_not_written", "write_whole"]

_STALE_SECONDS = 3600.0
"""Age at which the temporary file of a process that was killed is removed."""

_numbers = count()


def why_not_written(path: Path) -> str:
    """Return why a file cannot be written where a path says; "" if nothing is known against it.

    It is asked before something long is computed; `replacing` still raises its errors.
    """
    if path.is_dir():
        return f"'{path}' is a folder; name a file."
    if path.exists() and not path.is_file():  # a device or pipe
        return ""
    if not path.parent.is_dir():
        return f"'{path.parent}' is not a folder; create it first."
    if not os.access(path.parent, os.W_OK):
        return f"'{path.parent}' cannot be written to; name a file in another folder."
    return ""


@contextmanager
def replacing(path: Path, *, new: bool = False) -> Iterator[Path]:
    """Yield the path of a temporary file that takes the place of `path` when the block ends.

    The temporary file lies in the same folder and has the same suffix. It is flushed to the disk
    before it takes the place, so that a crash or a full disk leaves the earlier file as it was. If
    the block raises an error, the temporary file is removed. A replaced file keeps its permissions,
    a new one gets those of the umask. Links are followed; a device or pipe is written directly.

    Args:
        path: file to write.
        new: refuse to replace an existing file.

    Raises:
        FileExistsError: `new`, and the file exists.
        OSError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    mode = _mode_of(target)
    if mode is not None and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        yield target
        return
    if mode is not None and new:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if mode is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    _remove_stale(target)
    partial = target.with_name(f"{_prefix(target)}{os.getpid()}-{next(_numbers)}{target.suffix}")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        permissions = stat.S_IMODE(partial.stat().st_mode if mode is None else mode)
        yield partial
        partial.chmod(permissions)  # some libraries replace the file by a new one
        flush(partial)
        _move(partial, target, new=new)
    except OSError as error:
        if error.filename in (None, str(partial)):  # name the file that the caller knows
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with suppress(OSError):  # a later process removes it
            partial.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Create a folder, with those that it lies in, unless it exists.

    `Path.mkdir` calls itself for each of those, and so fails where there are thousands.

    Raises:
        OSError: it cannot be created, or a file has its name.
    """
    missing = takewhile(lambda place: not place.exists(), [folder, *folder.parents])
    for place in [*missing][::-1] or [folder]:
        place.mkdir(exist_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text in UTF-8, whole or not at all; see `replacing`."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def _mode_of(target: Path) -> int | None:
    """Return type and permissions of a file; None if there is none."""
    try:
        return target.stat().st_mode
    except FileNotFoundError:
        return None


def _prefix(target: Path) -> str:
    """Return the start of the names of a file's temporary files; short for any name."""
    return f".optrial-{sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


def _remove_stale(target: Path) -> None:
    """Remove temporary files of the same file that a killed process left behind."""
    with suppress(OSError):
        for left in target.parent.glob(f"{_prefix(target)}*"):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()


def _move(partial: Path, target: Path, *, new: bool) -> None:
    if new:
        try:
            os.link(partial, target)  # unlike a rename, fails if the file exists by now
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            partial.replace(target)
    else:
        partial.replace(target)
    with suppress(OSError):  # folders cannot be flushed everywhere
        flush(target.parent)


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
