"""Text of a user module and of the modules that it imports: identifies unreadable state."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

from optrial.identity.bytecode import imports
from optrial.identity.libraries import has_text, is_extension

__all__ = ["NotImportedText", "text_sha256"]

_STARTED = time.time()


class NotImportedText(ValueError):  # noqa: N818  names what is wrong with a file
    """The file of a module may differ from what was imported, or cannot be read."""


def text_sha256(module: ModuleType) -> str:
    """Return the hash of the files of a module and of the user modules that it imports.

    Raises:
        NotImportedText: a file was written after this process had started.
    """
    texts: dict[str, str] = {}
    _collect(module, texts)
    return sha256(repr(sorted(texts.items())).encode()).hexdigest()


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
            raise NotImportedText(f"{path.name} was written after Python started; restart Python")
        return path.read_bytes()
    except OSError as error:
        raise NotImportedText(f"{path} cannot be read") from error


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
