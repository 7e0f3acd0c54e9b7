"""A PostgreSQL server of the scenarios' own, which may be restarted and its connections ended."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sql

SCRIPT = Path(__file__).parents[2] / "scripts" / "postgresql"


class Server:
    """A running server.

    Args:
        folder: where its data is.
        url: URL of its database.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.port = sql.make_url(url).port or 0

    def schema(self) -> str:
        """Make an empty schema; return the URL of a store in it."""
        name = f"faults_{uuid.uuid4().hex}"
        self._execute(f"create schema {name}")
        return f"{self.url}?options=-csearch_path%3D{name}"

    def end_connections(self) -> None:
        """End every connection from the server's side."""
        self._execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where pid <> pg_backend_pid() and backend_type = 'client backend'"
        )

    def wait_for_end_of_connections(self) -> None:
        """Wait until the server has noticed that its clients are gone, for five seconds."""
        others = (
            "select count(*) from pg_stat_activity "
            "where pid <> pg_backend_pid() and backend_type = 'client backend'"
        )
        end = time.monotonic() + 5
        while self._execute(others) and time.monotonic() < end:
            time.sleep(0.05)

    def restart(self) -> None:
        """End the server without a farewell, and start it again."""
        subprocess.run([SCRIPT, "restart", self.folder], check=True)

    def _execute(self, statement: str) -> object:
        """Execute a statement; return the first value of its result, if it has one."""
        url = sql.make_url(self.url).set(drivername="postgresql+psycopg")
        engine = sql.create_engine(url, poolclass=sql.NullPool)
        with engine.begin() as connection:
            result = connection.execute(sql.text(statement))
            return result.scalar() if result.returns_rows else None


@contextmanager
def started(folder: Path) -> Iterator[Server | None]:
    """Start a server in a new folder; yield None where PostgreSQL is not installed."""
    starting = subprocess.run(
        [SCRIPT, "start", folder], capture_output=True, text=True, check=False
    )
    if starting.returncode:
        yield None
        return
    try:
        yield Server(folder, starting.stdout.strip())
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=False)
