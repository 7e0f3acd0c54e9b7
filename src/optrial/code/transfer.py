"""User code for another process: what has to be sent, and what is imported there."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cloudpickle

from optrial.code.names import adopt, changed_code, readable, sendable
from optrial.code.origin import importable_from_here
from optrial.errors import USER_CODE_ERRORS, EngineError, listed, one_line

__all__ = ["Transfer"]


@dataclass(frozen=True)
class Transfer:
    """The user code of a study.

    Objects of a notebook or of the main script are sent. All other code is imported by name, and
    refused if it is not the code that the study began with.

    Attributes:
        objects: pickled objects by name, which are read once `path` is set.
        passed: names of importable objects that the program passed itself.
        hashes: hash of each object that is imported, by name.
        path: where Python imports from.
        folder: the current folder.
    """

    objects: Mapping[str, bytes]
    passed: frozenset[str]
    hashes: Mapping[str, str]
    path: tuple[str, ...]
    folder: str

    @classmethod
    def of(cls, code: Mapping[str, str]) -> Self:
        """Return the transfer of named objects.

        Args:
            code: hash of each object, by name.

        Raises:
            EngineError: an object cannot be sent.
        """
        objects, passed = sendable(code)
        hashes = {name: sha256 for name, sha256 in code.items() if name not in objects}
        data = {name: _pickled(name, thing) for name, thing in objects.items()}
        return cls(data, passed, hashes, tuple(sys.path), str(Path.cwd()))

    def receive(self) -> None:
        """Make the objects known to this process.

        Raises:
            EngineError: code that is imported here is other code.
        """
        with suppress(OSError):  # another machine may not have it
            os.chdir(self.folder)
        sys.path[:] = [*self.path, *(place for place in sys.path if place not in self.path)]
        with importable_from_here():
            objects = {name: pickle.loads(data) for name, data in self.objects.items()}
        adopt(objects, self.passed)
        if changed := changed_code(self.hashes):
            raise EngineError(
                f"{listed(changed)}: a worker imports code that differs from the code the study "
                "started with; do not edit code while a study runs, and run again to train with "
                "the new code."
            )


def _pickled(name: str, thing: object) -> bytes:
    try:
        return bytes(cloudpickle.dumps(thing))
    except USER_CODE_ERRORS as error:
        raise EngineError(
            f"'{readable(name)}' cannot be sent to worker processes ({one_line(error)}); create "
            "what it holds inside the function, define it in a module, or use executor: local."
        ) from error
