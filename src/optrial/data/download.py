"""Published files: download from mirrors, check by sha256, keep in a folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Protocol

from filelock import FileLock
from platformdirs import user_cache_path

from optrial.errors import DataError, DownloadError
from optrial.files import make_folder

_CHUNK = 2**18  # bytes
_TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of an answer
_LOCK = ".download.lock"


class Progress(Protocol):
    """Receives the progress of downloads; each `on_file_start` is followed by an `on_file_end`."""

    def on_file_start(self, label: str, total_bytes: int) -> None:
        """Begin a file of `total_bytes`, or 0 if the size is unknown."""

    def on_bytes(self, count: int) -> None:
        """Add `count` bytes to the current file."""

    def on_file_end(self) -> None:
        """End the current file, complete or not."""


class FileStatus(Enum):
    """Status of a published file in the data folder."""

    OK = "ok"
    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Archive:
    """A tar.gz archive that holds the files of a dataset.

    Attributes:
        name: file name on the mirrors.
        md5: its published checksum, in hexadecimal.
        folder: folder of the files inside the archive.
        member_limit: bytes; a larger member is refused.
    """

    name: str
    md5: str
    folder: str
    member_limit: int


@dataclass(frozen=True)
class Published:
    """The published files of a dataset.

    Attributes:
        folder: folder of the files in the data directory.
        files: file name -> sha256, in hexadecimal.
        mirrors: addresses ending in ``/`` to which the name of a file or of the archive is
            appended; tried in this order.
        megabytes: size of the download, in units of 10^6 bytes.
        archive: archive that is downloaded in place of the files.
    """

    folder: str
    files: Mapping[str, str]
    mirrors: tuple[str, ...]
    megabytes: float
    archive: Archive | None = None


def data_directory(explicit: Path | None = None) -> Path:
    """Return the folder of all datasets: `explicit`, else OPTRIAL_DATA, else the user's cache."""
    chosen = explicit or os.environ.get("OPTRIAL_DATA") or user_cache_path("optrial")
    # User code may change the current folder; `Path.expanduser` raises for an unknown user.
    return Path(os.path.expanduser(chosen)).absolute()  # noqa: PTH111


def file_statuses(published: Published, data_dir: Path) -> dict[str, FileStatus]:
    """Compare each file with its published sha256.

    Raises:
        DataError: a file exists but cannot be read.
    """
    folder = data_dir / published.folder
    return {name: _status(folder / name, sha256) for name, sha256 in published.files.items()}


def require_files(published: Published, data_dir: Path, progress: Progress | None) -> Path:
    """Download missing files and return the folder that holds all of them.

    Raises:
        DataError: a file is damaged, or the folder cannot be read or written.
        DownloadError: no mirror delivered a missing file.
    """
    folder = data_dir / published.folder
    statuses = file_statuses(published, data_dir)
    for name, status in statuses.items():
        if status is FileStatus.DAMAGED:
            raise DataError(
                f"{folder / name} is damaged: its sha256 is {_sha256(folder / name)}, expected "
                f"{published.files[name]}; replace it with `optrial data fetch {published.folder}`"
            )
    if FileStatus.MISSING in statuses.values():
        fetch_files(published, data_dir, progress)
    return folder


def fetch_files(published: Published, data_dir: Path, progress: Progress | None) -> None:
    """Download every file that is missing or damaged.

    A file is downloaded beside its place, checked and then moved, so an interrupted download is
    never mistaken for the file. A lock serialises processes.

    Raises:
        DataError: the folder cannot be written.
        DownloadError: no mirror delivered a file, with each mirror's reason.
    """
    folder = data_dir / published.folder
    with _writing(folder), FileLock(folder / _LOCK):
        statuses = file_statuses(published, data_dir)
        wanted = [name for name, status in statuses.items() if status is not FileStatus.OK]
        if wanted and published.archive:
            _fetch_archive(published, published.archive, wanted, folder, progress)
            return
        for name in wanted:
            part = folder / f"{name}.part"
            checksum = f"sha256:{published.files[name]}"
            _from_mirrors(published, part, checksum, partial(part.replace, folder / name), progress)


def _fetch_archive(
    published: Published,
    archive: Archive,
    wanted: Iterable[str],
    folder: Path,
    progress: Progress | None,
) -> None:
    part = folder / f"{archive.name}.part"

    def extract() -> None:
        with tarfile.open(part, "r:gz") as opened:
            for name in wanted:
                _extract(opened, archive, folder / name, published.files[name])

    _from_mirrors(published, part, f"md5:{archive.md5}", extract, progress)


def _from_mirrors(
    published: Published,
    part: Path,
    checksum: str,
    accept: Callable[[], object],
    progress: Progress | None,
) -> None:
    """Download to `part` from the first mirror that delivers `checksum`, then call `accept`."""
    name = part.name.removesuffix(".part")
    reasons = []
    for mirror in published.mirrors:
        try:
            _download(mirror + name, part, progress)
            _expect(part, checksum)
            accept()
            return
        except (OSError, EOFError, zlib.error, tarfile.TarError, DownloadError) as error:
            # Errors of the disk have a number; those of requests, also OSErrors, have none.
            if getattr(error, "errno", None) is not None:
                raise
            reasons.append(f"\n  {mirror}{name}: {_reason(error)}")
        finally:
            part.unlink(missing_ok=True)
    raise DownloadError(
        f"no mirror delivered {name} of {published.folder}:{''.join(reasons)}\n"
        f"Check the network, or put {', '.join(published.files)} into {part.parent} by hand, or "
        "choose a folder that has them with --data-dir or OPTRIAL_DATA."
    )


def _download(url: str, part: Path, progress: Progress | None) -> None:
    import pooch  # heavy  # noqa: PLC0415

    meter = _Meter(progress, part.name.removesuffix(".part")) if progress else None
    # Without this header a server may declare a .gz file as encoded, and it arrives unpacked.
    download = pooch.HTTPDownloader(
        progressbar=meter or False,
        chunk_size=_CHUNK,
        timeout=_TIMEOUT,
        headers={"Accept-Encoding": "identity"},
    )
    try:
        download(url, part, None)
    finally:
        if meter:
            meter.end()


class _Meter:
    """Adapter from the progress bar that pooch expects to a `Progress`."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label
        self._begun = False
        self._total = self._done = 0

    @property
    def total(self) -> int:
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        self._total = total
        self._begun = True
        self._progress.on_file_start(self._label, total)

    def update(self, count: int) -> None:
        # pooch counts the last chunk as a full one, and the whole file once more at its end.
        count = min(count, self._total - self._done) if self._total else count
        self._done += count
        self._progress.on_bytes(count)

    def end(self) -> None:
        if self._begun:
            self._progress.on_file_end()

    def reset(self) -> None:
        """Do nothing: pooch resets before it counts the whole file once more."""

    def close(self) -> None:
        """Do nothing: pooch closes successful downloads only; `end` is always called."""


def _extract(opened: tarfile.TarFile, archive: Archive, target: Path, sha256: str) -> None:
    """Extract the member named like `target`; other members are never touched."""
    name = f"{archive.folder}/{target.name}"
    try:
        member = opened.getmember(name)
    except KeyError:
        raise DownloadError(f"{archive.name} has no member {name}") from None
    stream = opened.extractfile(member) if member.isfile() else None
    if stream is None:
        raise DownloadError(f"{name} in {archive.name} is not a plain file")
    if member.size > archive.member_limit:
        raise DownloadError(
            f"{name} in {archive.name} has {member.size} bytes, more than {archive.member_limit}"
        )
    part = target.with_name(f"{target.name}.part")
    try:
        with stream, part.open("wb") as file:
            shutil.copyfileobj(stream, file, _CHUNK)
        _expect(part, f"sha256:{sha256}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _expect(path: Path, checksum: str) -> None:
    algorithm, expected = checksum.split(":")
    digest = _hash(path, algorithm)
    if digest != expected:
        name = path.name.removesuffix(".part")
        raise DownloadError(f"the {algorithm} of {name} is {digest}, expected {expected}")


def _reason(error: BaseException) -> str:
    """Return in one line why a mirror failed; connection errors nest their cause."""
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", None) or error) or type(error).__name__


def _status(path: Path, sha256: str) -> FileStatus:
    digest = _sha256(path)
    if digest is None:
        return FileStatus.MISSING
    return FileStatus.OK if digest == sha256 else FileStatus.DAMAGED


def _sha256(path: Path) -> str | None:
    """Return the sha256, cached while the file is unchanged; None for no file."""
    try:
        stat = path.stat()
        return _digest(path, stat.st_size, stat.st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(
            f"cannot read {path} ({error.strerror or error}); make it readable, or choose another "
            "folder with --data-dir or OPTRIAL_DATA"
        ) from error


@cache
def _digest(path: Path, _size: int, _modified: int) -> str:
    return _hash(path, "sha256")


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn a folder that cannot be written, or a full disk, into a DataError."""
    try:
        make_folder(folder)
        yield
    except OSError as error:
        raise DataError(
            f"cannot write to the data folder {folder} ({error.strerror or error}); choose another "
            "with --data-dir or OPTRIAL_DATA"
        ) from error
