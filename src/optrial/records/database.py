"""Databases that hold a store: an SQLite file in a study folder, or a PostgreSQL server.

They differ in how to connect, how one writer excludes the others, and how they fail.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sql
from filelock import FileLock, Timeout
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError

from optrial.errors import StoreDamagedError, StoreError, StoreUnreachableError
from optrial.files import make_folder
from optrial.passwords import MASK, without_passwords
from optrial.records.rows import DamagedError

__all__ = [
    "DATABASE_ERRORS",
    "LOCK_SPACE",
    "ConflictError",
    "Database",
    "FileInPlace",
    "find_database",
    "folder_lock",
    "lossless_text",
    "place_of",
    "shown_location",
    "sqlite_engine",
]

Result = TypeVar("Result")

LOCK_SPACE = 0x6F70_7472  # "optr": separates optrial's advisory locks from those of other programs

DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error, UnicodeDecodeError)
"""Errors of a database; the messages of SQLite about damaged names cannot be decoded."""

_PAGE_BYTES = 8 * 2**10  # an outcome takes 2 kB and leaves almost half of the default 4 kB empty
_CACHE_KIB = 32 * 2**10  # holds the indexes of 100,000 runs, which are read in random order
_FREE_PAGES = 128  # 1 MB, more than which is returned when training ends

_CONFLICT_STATES = ("40001", "40P01", "23505")
"""PostgreSQL's codes of a serialization failure, a deadlock and an equal row of another process."""

_UNREACHABLE_STATES = ("08", "57P", "25P03")
"""Starts of PostgreSQL's codes of failed connections, shutdowns and ended idle connections."""

_CONFLICTS = 10  # in a row, after which something else is wrong
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds between two attempts

_SESSION = "; ".join(
    f"SET {name} = {value}"
    for name, value in {
        "tcp_keepalives_idle": 15,
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 3,
        "tcp_user_timeout": "'30s'",
        "idle_in_transaction_session_timeout": "'5min'",
    }.items()
)
"""Settings with which a server soon notices a dead client, and unlocks its rows."""

_CLIENT = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}
"""Settings with which a client soon notices a dead server or a cut network."""

_FULL = (
    "the server has no connection left",
    "Each process needs up to three: start fewer, or raise max_connections of the server.",
)

_WRONG_OPTION = "the server cannot be reached", "Correct the port or the option in the URL."

BUSY_SECONDS = 30.0  # longest wait for another writer to finish its transaction

CONTINUE = "Nothing stored so far is lost: make room and run again to continue."
CHECK = "optrial verify '{location}'"
REPAIR = f"Find all damage: {CHECK}; add --repair to train only what is damaged again."

# (text in the database's message, in lower case; meaning; remedy); the first match counts.
EXPLANATIONS = [
    ("disk is full", "the disk is full", CONTINUE),
    ("no space left on device", "the disk is full", CONTINUE),
    (
        "disk i/o error",
        "the disk could not be read or written (full, failing or gone)",
        f"Check it and run again to continue; check what is stored: {CHECK}",
    ),
    (
        "readonly",
        "there is no permission to write there",
        "Ask for permission or choose another folder.",
    ),
    ("database is locked", "another program holds it", "Close that and run again to continue."),
    (
        "not a database",
        "study.db is not a database",
        "Start over with --restart, which keeps it, or choose another folder.",
    ),
    (
        "connection to server on socket",
        "no server answers on this machine",
        "Name its host in the URL, postgresql://USER@HOST/DATABASE, or start it.",
    ),
    ("malformed", "study.db is damaged", REPAIR),
    ("no such ", "study.db is damaged", REPAIR),
    ("could not decode", "study.db is damaged", REPAIR),
    ("can't decode", "study.db is damaged", REPAIR),
    ("unable to open", "study.db cannot be opened", "Check the permissions of the folder."),
    ("connection refused", "no server answers there", "Check host and port, and start the server."),
    ("failed to resolve host", "there is no such host", "Check the host in the URL."),
    ("timeout expired", "the server does not answer", "Check host, port and network."),
    (
        "password authentication failed",
        "the server refuses this user or password",
        "Check both, and the server's pg_hba.conf.",
    ),
    (
        'fatal:  database "',
        "the server has no such database",
        "Create it with createdb, or name another one.",
    ),
    (
        'fatal:  role "',
        "the server has no such user",
        "Name the user in the URL: postgresql://USER@HOST/DATABASE.",
    ),
    ("connection is bad: invalid", *_WRONG_OPTION),
    ("connection option", *_WRONG_OPTION),
    (
        "no schema has been selected",
        "there is no schema of that name, or this user may not use it",
        "Create it with CREATE SCHEMA, name another one, or ask for GRANT USAGE, CREATE ON SCHEMA.",
    ),
    (
        "permission denied for",
        "this user lacks the permission",
        "Ask for GRANT USAGE, CREATE ON SCHEMA, or name another user, schema or database.",
    ),
    ("too many clients", *_FULL),
    ("too many connections", *_FULL),
    ("remaining connection slots", *_FULL),
    ("unique constraint", "another process stored these steps first", "Stop it and run again."),
]


@dataclass(frozen=True)
class Database:
    """A database.

    Attributes:
        shown: location to show in messages; see `shown_location`.
        engine: source of connections; the execution option ``writing`` starts a write transaction.
        writer_lock: context manager that yields whether this process became the only writer. The
            lock ends with the process, even if it is killed.
        location: folder or URL, as `find_database` takes it.
        folder: folder of the study; None on a server.
        password: of a server, masked where messages of the driver repeat it.
    """

    shown: str
    engine: sql.Engine
    writer_lock: Callable[[], AbstractContextManager[bool]]
    location: str = field(repr=False)
    folder: Path | None = None
    password: str = field(default="", repr=False)

    def move_journal(self) -> None:
        """Move the commits of the write-ahead log of SQLite into the database."""
        if self.folder is not None:
            with self.errors(), closing(self.engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")

    def shrink(self) -> None:
        """Return pages that no row needs any more to the file system: a checkpoint may be large."""
        if self.folder is None:
            return
        with self.errors(), closing(self.engine.raw_connection()) as connection:
            cursor = connection.cursor()
            (free,) = cursor.execute("PRAGMA freelist_count").fetchone()
            if free > _FREE_PAGES:
                cursor.executescript("PRAGMA incremental_vacuum")  # `execute` returns one page only
        self.move_journal()

    @contextmanager
    def creation(self) -> Iterator[sql.Connection]:
        """Open a transaction that creates the tables; other processes wait for its end."""
        # On a server, a statement must see the tables that others made while this one waited.
        options = {"writing": True} if self.folder else {"isolation_level": "READ COMMITTED"}
        with self.engine.execution_options(**options).begin() as connection:
            if self.folder is None:
                key = (LOCK_SPACE + 2, sql.func.hashtext(sql.func.current_schema()))
                connection.execute(sql.select(sql.func.pg_advisory_xact_lock(*key)))
            yield connection

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn every failure of the database into a `StoreError` with a message of one line."""
        try:
            yield
        except (*DATABASE_ERRORS, OSError) as error:
            message = self._explain(error)
            masked = self._masked(message)
            kind = StoreDamagedError if self._repair in message else _kind_of(error)
            raise kind(f"{self.shown}: {masked}") from error if masked == message else None
        except DamagedError as error:
            finding = " ".join(str(error).split())  # a damaged name may hold line breaks
            raise StoreDamagedError(f"{self.shown}: {finding}. {self._repair}") from error

    def persist(
        self,
        work: Callable[[], Result],
        seconds: float,
        tell: Callable[[str], object],
        stopping: Callable[[], bool],
    ) -> Result:
        """Do work that may be done twice; do it again if the server does not answer.

        Args:
            work: transactions that leave nothing behind if they fail.
            seconds: time for which to try again.
            tell: called with one line when the server does not answer.
            stopping: asked at times; if it returns True, the work is not tried again.

        Raises:
            StoreUnreachableError: the server did not answer within that time.
            StoreError: the work failed for another reason.
        """
        end, told, conflicts, pauses = time.monotonic() + seconds, False, 0, _pauses()
        while True:
            try:
                with self.errors():
                    return work()
            except ConflictError:
                conflicts += 1
                if conflicts > _CONFLICTS:
                    raise
            except StoreUnreachableError as error:
                if time.monotonic() > end or stopping():
                    raise
                if not told:
                    tell(f"{str(error).split('. ')[0]}; trying again for {seconds:.0f} s")
                told = True
                self.engine.dispose()
            time.sleep(next(pauses))

    @property
    def _repair(self) -> str:
        return REPAIR.format(location=self.shown)

    def _masked(self, message: str) -> str:
        """Mask the password, as it is and as it is written in a URL."""
        for written in {self.password, quote(self.password, safe="")} - {""}:
            message = message.replace(written, MASK)
        return message

    def _explain(self, error: Exception) -> str:
        cause = error.orig if isinstance(error, DBAPIError) else error
        message = (str(cause).strip() or type(cause).__name__).splitlines()[0].strip().rstrip(".")
        for pattern, meaning, remedy in EXPLANATIONS:
            if pattern in message.lower():
                return f"{meaning} ({message}). {remedy.format(location=self.shown)}"
        check = CHECK.format(location=self.shown)
        return f"{message}. Run again to continue; check what is stored: {check}"


class FileInPlace:
    """The file of a database that this process writes to, which must stay where it is.

    SQLite does not notice that its file is deleted: what it writes then ends with the process.

    Args:
        folder: the folder of the study; None on a server.
        shown: location to show in messages.
    """

    def __init__(self, folder: Path | None, shown: str) -> None:
        self._file = folder and (folder / "study.db").absolute()  # the current folder may change
        self._shown = shown
        self._identity = self._current()

    def check(self) -> None:
        """Check that the file is still there.

        Raises:
            StoreError: it was deleted, moved or replaced.
        """
        if self._current() != self._identity:
            raise StoreError(
                f"{self._shown}: study.db was deleted, moved or replaced while this process wrote "
                "to it. If it was moved, move it back, then run again to continue; if it was "
                "deleted, running again trains all its runs."
            )

    def _current(self) -> tuple[int, int] | None:
        with suppress(FileNotFoundError, NotADirectoryError):
            if self._file:
                status = self._file.stat()
                return status.st_dev, status.st_ino
        return None


class ConflictError(StoreError):
    """Two transactions were in each other's way; either succeeds when it is done again."""


def _pauses() -> Iterator[float]:
    """Yield the seconds between two attempts, which double up to a limit."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)


lossless_text = methodcaller("decode", "utf-8", "surrogateescape")
"""Decodes text without failing, so that the checksum tells which row is damaged."""


def _kind_of(error: Exception) -> type[StoreError]:
    """Return the kind of a failure of a server; failures of files are of one kind."""
    if not isinstance(error, DBAPIError):
        return StoreError
    state = getattr(error.orig, "sqlstate", None)
    if state in _CONFLICT_STATES:
        return ConflictError
    driver = type(error.orig).__module__.partition(".")[0]
    lost = state is None and driver == "psycopg" and isinstance(error, OperationalError)
    if error.connection_invalidated or lost or (state or "").startswith(_UNREACHABLE_STATES):
        return StoreUnreachableError
    return StoreError


def find_database(location: str | Path, *, create: bool) -> Database:
    """Return the database at a study folder or a ``postgresql://`` URL, without connecting.

    Args:
        location: folder or URL.
        create: create the folder if it does not exist.

    Raises:
        StoreError: the folder does not exist, the URL is malformed, or the PostgreSQL driver is not
            installed.
    """
    scheme, separator, _ = str(location).partition("://")
    if not separator and scheme.startswith(("postgresql:", "postgres:")):
        raise StoreError("a URL begins with two slashes: postgresql://USER@HOST/DATABASE.")
    if not separator:
        return _folder(Path(location), create=create)
    if scheme in {"postgresql", "postgres", "postgresql+psycopg"}:
        return _server(str(location))
    raise StoreError(
        f"a store cannot be at {scheme}://. Allowed: a folder, or postgresql://USER@HOST/DATABASE."
    )


def _folder(folder: Path, *, create: bool) -> Database:
    file = folder / "study.db"
    try:
        if folder.is_file():
            raise StoreError(f"'{folder}' is a file. Name the folder of a study.")
        if create:
            make_folder(folder)
            _check_own_file(file)
        if not create and not file.exists():
            raise StoreError(
                f"no study is stored in '{folder}'. Check the path, or create one with: "
                f"optrial run STUDY --out '{folder}'"
            )
    except OSError as error:
        raise StoreError(
            f"'{folder}' cannot be a study folder: {error.strerror}. Choose another folder."
        ) from error
    lock = partial(_writer_lock, folder)
    return Database(
        str(folder), sqlite_engine(file, create=create), lock, location=str(folder), folder=folder
    )


def _check_own_file(file: Path) -> None:
    """Refuse to write to a file that has another name.

    SQLite keeps a journal for each name of a file, so that writing through one damages the database
    for those who use another: "How To Corrupt An SQLite Database File", section 2.5.
    """
    if file.exists() and file.stat().st_nlink > 1:
        copy = file.with_name("copy.db")
        raise StoreError(
            f"'{file}' has another name (a hard link, as some backups are), and writing would "
            f"damage what that shows. Replace it by a copy: cp '{file}' '{copy}' && "
            f"mv '{copy}' '{file}'"
        )


@contextmanager
def _writer_lock(folder: Path) -> Iterator[bool]:
    _check_own_file(folder / "study.db")
    with folder_lock(folder) as locked:
        yield locked


def folder_lock(folder: Path) -> AbstractContextManager[bool]:
    """Try to lock the store of a folder, where its file is if that is a symbolic link.

    See `file_lock`.
    """
    return file_lock(Path(os.path.realpath(folder / "study.db")).with_name("study.lock"))


def sqlite_engine(file: Path, *, create: bool) -> sql.Engine:
    """Return the engine of an SQLite file, in the journal mode that allows concurrent readers."""
    query = {"uri": "true", "mode": "rwc" if create else "rw"}
    if not os.access(file.parent, os.W_OK) and not Path(f"{file}-wal").exists():
        # Readers of a WAL database share memory through a file beside it. If that file cannot be
        # created, no process can write either, so SQLite may treat the database as immutable.
        query = {"uri": "true", "mode": "ro", "immutable": "1"}
    url = sql.URL.create("sqlite", database=file.absolute().as_uri(), query=query)
    engine = sql.create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @sql.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.text_factory = lossless_text
        connection.isolation_level = None  # the driver would leave schema changes unprotected
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        if create:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # of a new file
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file
            connection.execute("PRAGMA journal_mode = WAL")
        else:  # while runs are trained, the memory is theirs
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")

    @sql.event.listens_for(engine, "begin")
    def begin(connection: sql.Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


@contextmanager
def file_lock(file: Path) -> Iterator[bool]:
    """Try to lock a file; yield whether this process holds the lock."""
    lock = FileLock(file)
    with suppress(Timeout):
        lock.acquire(blocking=False)
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _server(location: str) -> Database:
    url = _url(location)
    if url is None:  # do not show the URL: it may contain a password
        raise StoreError(
            "the PostgreSQL URL cannot be read. Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            ", with %40 for @, %3A for : and %2F for / in the password."
        )
    # The representation of an engine shows the arguments of its URL, but not those of the driver.
    hosts = {name: url.query[name] for name in ("host", "port") if name in url.query}
    arguments = {name: value for name, value in url.query.items() if name not in hosts}
    password = str(arguments.get("password", url.password or ""))
    url = url.set(drivername="postgresql+psycopg", query=hosts)
    try:
        engine = sql.create_engine(
            url,
            isolation_level="REPEATABLE READ",
            pool_pre_ping=True,
            connect_args={**_CLIENT, **arguments},
        )
    except ImportError as error:
        raise StoreError(
            f"PostgreSQL needs its driver ({error}). Install it: pip install 'optrial[postgresql]'"
        ) from error

    @sql.event.listens_for(engine, "connect")
    def configure(connection: sql.engine.interfaces.DBAPIConnection, _: object) -> None:
        connection.cursor().execute(_SESSION)
        connection.commit()

    lock = partial(_advisory_lock, engine)
    return Database(shown_location(location), engine, lock, location=location, password=password)


def _url(location: str) -> sql.URL | None:
    """Return a URL that can be read, or None."""
    try:
        url = sql.make_url(location)
    except (ArgumentError, ValueError):
        return None
    return None if "@" in (url.host or "") else url


def study_folder(name: str) -> Path:
    """Return the folder of a study by default: ``studies/NAME``.

    The name is reduced to letters, digits, dots and dashes.
    """
    slug = re.sub(r"[^\w.-]+", "-", name).strip("-.")
    return Path("studies", slug or "study")


def place_of(location: str | Path) -> str:
    """Return a location; of the name of a folder in ``studies``, its path."""
    text = str(location)
    named = Path("studies", text)
    is_name = "://" not in text and not Path(text).exists() and named.exists()
    return str(named) if is_name else text


def shown_location(location: str | Path) -> str:
    """Return a folder as it is, and of a URL the server and the database alone.

    User, password and options of the connection are left out; PostgreSQL also reads them from the
    environment (PGUSER, PGPASSWORD) and from its password file.
    """
    scheme, separator, _ = str(location).partition("://")
    if not separator:
        return without_passwords(str(location))
    url = _url(str(location))
    if url is None:
        return f"{scheme}://"
    kind = "postgresql" if scheme.startswith("postgres") else scheme
    shown = sql.URL.create(kind, host=url.host, port=url.port, database=url.database)
    return shown.render_as_string()


@contextmanager
def _advisory_lock(engine: sql.Engine) -> Iterator[bool]:
    """Hold an advisory lock of the server on the schema for as long as the connection lives."""
    key: Any = (LOCK_SPACE, sql.func.hashtext(sql.func.current_schema()))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        locked = bool(connection.scalar(sql.select(sql.func.pg_try_advisory_lock(*key))))
        try:
            yield locked
        finally:
            if locked:
                with suppress(DBAPIError):  # a lost connection has lost its lock too
                    connection.execute(sql.select(sql.func.pg_advisory_unlock(*key)))
