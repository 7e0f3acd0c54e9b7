"""Names that compiled code looks up: globals, attributes of modules, imports."""

from __future__ import annotations

import dis
import importlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from types import CodeType, ModuleType
from typing import NamedTuple

from optrial.errors import USER_CODE_ERRORS

_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD"}


class Import(NamedTuple):
    """An import statement inside a function.

    Attributes:
        level: number of leading dots; 0 for an absolute import.
        module: name of the module after the dots.
        names: names after ``from module import``; empty for ``import module``.
    """

    level: int
    module: str
    names: tuple[str, ...]


def global_names(code: CodeType) -> list[tuple[str, ...]]:
    """Return the globals that code and its nested functions load, in order, each once.

    Each is a name with the chain of attributes read from it: ``("np", "random", "rand")``.
    """
    chains: dict[tuple[str, ...], None] = {}
    for part in _nested(code):
        instructions = _instructions(part)
        for index, instruction in enumerate(instructions):
            if instruction.opname in _GLOBAL:
                chains[(instruction.argval, *_attributes(instructions[index + 1 :]))] = None
    return list(chains)


def imports(code: CodeType) -> list[Import]:
    """Return the import statements of code and its nested functions, in order, each once."""
    statements: dict[Import, None] = {}
    for part in _nested(code):
        instructions = _instructions(part)
        for index, instruction in enumerate(instructions):
            if instruction.opname == "IMPORT_NAME":
                level, names = (before.argval for before in instructions[index - 2 : index])
                statements[Import(level, instruction.argval, names or ())] = None
    return list(statements)


def imported(name: str, names: Iterable[str]) -> list[tuple[ModuleType, str]]:
    """Return the modules that an import statement reads, with the name read from each."""
    try:
        module = importlib.import_module(name)
    except USER_CODE_ERRORS:  # user code may raise anything
        return []
    listed = [attribute for attribute in names if attribute != "*"]
    if listed:
        return [(_submodule(module, attribute), attribute) for attribute in listed]
    top = sys.modules[name.partition(".")[0]]
    return [(entry, "") for entry in dict.fromkeys((top, module))]


def _submodule(module: ModuleType, attribute: str) -> ModuleType:
    """Import the submodule that a name of an import statement may stand for."""
    if not hasattr(module, attribute):
        with suppress(Exception):
            importlib.import_module(f"{module.__name__}.{attribute}")
    return module


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _instructions(code: CodeType) -> list[dis.Instruction]:
    return [i for i in dis.get_instructions(code) if i.opname != "EXTENDED_ARG"]


def _attributes(instructions: Sequence[dis.Instruction]) -> Iterator[str]:
    for instruction in instructions:
        if instruction.opname not in _ATTRIBUTE:
            return
        yield instruction.argval
