"""A network between a process and its server that can be cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

import sqlalchemy as sql


class Proxy:
    """Forwards connections to a server until they are cut. Use it as a context.

    Args:
        url: URL of a store on the server.

    Attributes:
        url: URL of the same store by way of the proxy.
    """

    def __init__(self, url: str) -> None:
        target = sql.make_url(url)
        self._server = (target.host or "", target.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        own = target.set(host="127.0.0.1", port=port)
        self.url = own.render_as_string(hide_password=False)
        self._sockets: set[socket.socket] = set()
        self._open = threading.Event()
        self._open.set()
        self._closed = False
        self._last_word = b""  # after which a connection ends before its answer
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._open.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.end_connections()
        for thread in self._threads:
            thread.join()
        for end in (*self._sockets, self._listener):
            end.close()

    def end_connections(self) -> None:
        """End every connection, as a server that is restarted does."""
        for end in list(self._sockets):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Let nothing pass, neither data nor the end of a connection."""
        self._open.clear()

    def mend(self) -> None:
        """Let everything pass again."""
        self._open.set()

    def end_before_answer_to(self, word: bytes) -> None:
        """End the connection that sends a word once, after the server got it, before its answer."""
        self._last_word = word

    def _accept(self) -> None:
        while not self._closed:
            with suppress(OSError):
                client, _ = self._listener.accept()
                self._open.wait()
                server = socket.create_connection(self._server)
                self._sockets |= {client, server}
                for ends in ((client, server, True), (server, client, False)):
                    self._threads.append(
                        threading.Thread(target=self._forward, args=ends, daemon=True)
                    )
                    self._threads[-1].start()

    def _forward(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                if upwards and self._last_word and self._last_word in data:
                    self._last_word = b""
                    with suppress(OSError):
                        source.shutdown(socket.SHUT_RDWR)  # the answer reaches nobody
                    sink.sendall(data)
                    sink.recv(1)  # until the server has answered
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
