"""Traversal of an object and of everything that it uses, written into one hash."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from types import CodeType, ModuleType
from typing import Any

from optrial.code.errors import Unidentifiable
from optrial.code.libraries import home_of, library_version, without_hooks
from optrial.code.texts import text_of
from optrial.errors import USER_CODE_ERRORS, one_line

_ATOMS = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray),
    *(range, slice, type(...), type(NotImplemented)),
)


class Walk(ABC):
    """One traversal, breadth first over functions, classes and modules of the user.

    Args:
        home: user module whose text stands for state that cannot be read.
        seen: objects of an enclosing traversal: id -> number of the visit, and the object, which
            keeps the id in use.
    """

    def __init__(
        self, home: ModuleType | None, seen: Mapping[int, tuple[int, object]] | None = None
    ) -> None:
        self._home = home
        self._seen = dict(seen or {})
        self._hash = sha256()
        self._queue: list[tuple[object, ModuleType | None]] = []

    @abstractmethod
    def by_name(self, thing: object) -> bool:
        """Write an object of a library by its name; return False for any other object."""

    @abstractmethod
    def contents(self, thing: object) -> None:
        """Write an object by its type, on its first visit."""

    @abstractmethod
    def expand(self, node: object) -> None:
        """Write a queued function, class or module."""

    def digest(self, thing: object) -> str:
        """Return the hash of an object; called once per walk."""
        self._or_text(self._home, functools.partial(self.value, thing))
        for node, home in self._queue:  # grows meanwhile
            self._home = home
            expand = functools.partial(self._expand, node)
            self._or_text(home, functools.partial(self.named, _label(node), expand))
        return self._hash.hexdigest()

    def digest_of(self, thing: object) -> str:
        """Return the hash of an object by itself, given all earlier visits."""
        return type(self)(self._home, self._seen).digest(thing)

    def write(self, *parts: str | bytes) -> None:
        """Write texts and bytes with their lengths."""
        for part in parts:
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            self._hash.update(b"%d:" % len(data))
            self._hash.update(data)

    def value(self, thing: object) -> None:
        """Write any object."""
        value: Any = without_hooks(thing)
        kind = type(value)
        if kind in _ATOMS:
            self.write(kind.__name__, hex(value) if kind is int else repr(value))
        elif kind is tuple:
            self.items("tuple", value)
        elif kind in (set, frozenset):
            self.write("set", *sorted(map(self.digest_of, value)))
        elif isinstance(value, CodeType):
            self.code(value)
        elif not (self.by_name(value) or self._visited(value)):
            self._once(value)

    def named(self, step: str, action: Callable[[], None]) -> None:
        """Run an action; prepend a step to the path of an `Unidentifiable` that it raises."""
        try:
            action()
        except Unidentifiable as error:
            error.path.insert(0, step)
            raise

    def named_value(self, step: str, thing: object) -> None:
        """Write an object that errors call `step`."""
        self.named(step, functools.partial(self.value, thing))

    def items(self, kind: str, items: Iterable[object]) -> None:
        """Write the items of a sequence and their number."""
        items = list(items)
        self.write(kind, str(len(items)))
        for index, item in enumerate(items):
            self.named_value(_step(index, item), item)

    def mapping(self, kind: str, items: Mapping[str, object]) -> None:
        """Write the names and values of a mapping and their number."""
        self.write(kind, str(len(items)))
        for name, item in items.items():
            self.write(str(name))
            self.named_value(f".{name}", item)

    def code(self, code: CodeType) -> None:
        """Write compiled code, without file names and line numbers."""
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        self.write("code", code.co_name, *map(str, counts), code.co_code, code.co_exceptiontable)
        for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
            self.write(str(len(names)), *names)
        self.items("constants", code.co_consts)

    def library(self, module: str, *names: str) -> None:
        """Write names of a library with its version."""
        self.write("library", module, library_version(module), *names)

    def later(self, node: object) -> None:
        """Queue a function, class or module."""
        self.write("later", str(self._seen[id(node)][0]))
        self._queue.append((node, home_of(node) or self._home))

    def within(self, home: ModuleType | None, name: str, value: object) -> None:
        """Write a global of a module, or the text of the module if the global cannot be read."""
        before, self._home = self._home, home
        try:
            self._or_text(home, functools.partial(self.named_value, name, value))
        finally:
            self._home = before

    def _expand(self, node: object) -> None:
        self.write("node", str(self._seen[id(node)][0]))
        self.expand(node)

    def _visited(self, thing: object) -> bool:
        """Write the number of an earlier visit and return True, or count this visit."""
        if id(thing) in self._seen:
            self.write("again", str(self._seen[id(thing)][0]))
            return True
        self._seen[id(thing)] = len(self._seen), thing
        return False

    def _once(self, thing: object) -> None:
        """Write an object on its first visit; user-defined classes may raise anything."""
        try:
            self.contents(thing)
        except (Unidentifiable, RecursionError):
            raise
        except USER_CODE_ERRORS as error:
            reason = f"reading it raised {one_line(error)}"
            raise Unidentifiable(type(thing).__name__, reason) from error

    def _or_text(self, home: ModuleType | None, action: Callable[[], None]) -> None:
        """Run an action; on unreadable state, write the text of the home module instead."""
        state, visited, queued = self._hash.copy(), len(self._seen), len(self._queue)
        try:
            action()
        except Unidentifiable:
            if home is None:
                raise
            self._hash = state
            for _ in range(len(self._seen) - visited):
                self._seen.popitem()
            del self._queue[queued:]
            self.write("text", text_of(home))


def _label(node: object) -> str:
    return str(getattr(node, "__name__", type(node).__name__))


def _step(index: int, item: object) -> str:
    """Name an item of a collection in an error: its key, or its index."""
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
        return f"['{item[0]}']"
    return f"[{index}]"
