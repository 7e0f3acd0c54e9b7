"""A web server that serves what a test puts into it, and misbehaves where it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Mirror:
    """One server on this machine.

    Attributes:
        address: ends in ``/``.
        content: file name -> body; all others are 404.
        cut: file names whose connection closes halfway through the announced length.
        asked: file names asked for, in order.
    """

    address: str = ""
    content: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


def serve(mirror: Mirror) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            mirror.asked.append(name)
            if name not in mirror.content:
                self.send_error(404)
                return
            body = mirror.content[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if name in mirror.cut else body)

        def log_message(self, *arguments: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    mirror.address = f"http://127.0.0.1:{server.server_address[1]}/"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Mirror, Mirror]]:
    """Two servers; nothing is on them."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pair = (Mirror(), Mirror())
    servers = [serve(mirror) for mirror in pair]
    yield pair
    for server in servers:
        server.shutdown()
        server.server_close()
