"""Text of a user module and of the modules it imports, in place of unreadable state."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

from optrial.code.bytecode import imports
from optrial.code.errors import Unidentifiable
from optrial.code.libraries import has_text, is_extension

_STARTED = time.time()


def text_of(module: ModuleType) -> str:
    """Return the hash of the files of a module and of the user modules it imports.

    Raises:
        Unidentifiable: a file cannot be read, or was written after this process had started, so it
            may differ from the imported code.
    """
    texts: dict[str, str] = {}
    try:
        _collect(module, texts)
    except _NotImportedError as error:
        raise Unidentifiable(f"value made by module {module.__name__}", str(error)) from error
    return sha256(repr(sorted(texts.items())).encode()).hexdigest()


class _NotImportedError(Exception):
    """The file of a module may differ from the imported code, or cannot be read."""


def _collect(module: ModuleType, texts: dict[str, str]) -> None:
    if module.__name__ in texts:
        return
    text = _read(Path(str(module.__file__)))
    texts[module.__name__] = sha256(text).hexdigest()
    if not is_extension(module):
        for imported in _imported(module, text):
            _collect(imported, texts)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_mtime > _STARTED:
            raise _NotImportedError(f"{path.name} was written after Python started; restart Python")
        return path.read_bytes()
    except OSError as error:
        raise _NotImportedError(f"{path} cannot be read") from error


def _imported(module: ModuleType, text: bytes) -> Iterator[ModuleType]:
    """Yield the loaded user modules that a text imports."""
    package = str(getattr(module, "__package__", None) or "")
    for statement in imports(compile(text, str(module.__file__), "exec")):
        try:
            name = resolve_name("." * statement.level + statement.module, package or None)
        except ImportError:
            continue
        for part in (name, name.partition(".")[0], *(f"{name}.{n}" for n in statement.names)):
            loaded = sys.modules.get(part)
            if loaded is not None and has_text(loaded):
                yield loaded
