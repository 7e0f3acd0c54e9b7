"""Errors of objects that a study must not call, or that a content hash cannot cover."""

from __future__ import annotations


class RefusedError(ImportError):
    """A name leads to code that a study must not call."""


class Unidentifiable(ValueError):  # noqa: N818  names a property of an object
    """An object holds state that cannot be read, so it cannot be told apart from others like it.

    Attributes:
        kind: type of the object.
        path: names that lead to the object, outermost first.
        reason: why its state cannot be read.
    """

    def __init__(self, kind: str, reason: str = "") -> None:
        self.kind = kind
        self.path: list[str] = []
        self.reason = reason or "its state cannot be read"

    def __str__(self) -> str:
        path = " > ".join(self.path)
        return f"{path + ' is ' if path else ''}a {self.kind}, and {self.reason}"
