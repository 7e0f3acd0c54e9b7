"""A PostgreSQL server of the scenarios' own, which may be restarted and its connections ended."""

from __future__ import annotations

import subprocess
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

    def restart(self) -> None:
        """End the server without a farewell, and start it again."""
        subprocess.run([SCRIPT, "restart", self.folder], check=True)

    def _execute(self, statement: str) -> None:
        url = sql.make_url(self.url).set(drivername="postgresql+psycopg")
        engine = sql.create_engine(url, poolclass=sql.NullPool)
        with engine.begin() as connection:
            connection.execute(sql.text(statement))


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
