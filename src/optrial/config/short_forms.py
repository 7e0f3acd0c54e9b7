"""Short forms of values: ``dataset: moons`` stands for ``dataset: {name: moons}``.

The annotation of a field holds its short form. Validation expands it, and so does ``--set`` before
it sets a part of the value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

__all__ = ["ShortForm", "each_named", "keyed", "one_or_several"]


@dataclass(frozen=True)
class ShortForm:
    """Annotation of a field that may be written in a short form.

    `expand` returns the long form of a plain value and leaves any other value unchanged. It may
    raise ValueError for a value in neither form.
    """

    expand: Callable[[Any], Any]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Expand before all other validation."""
        return core_schema.no_info_before_validator_function(self.expand, handler(source))


def keyed(key: str) -> ShortForm:
    """Short form of ``{key: name}``: the name alone."""
    return ShortForm(partial(_keyed, key))


def each_named(key: str) -> ShortForm:
    """Short form of ``[{key: name}, ...]``: one entry without its list, and names alone."""
    return ShortForm(partial(_each_keyed, key))


def one_or_several(key: str) -> ShortForm:
    """Short form of ``{key: name}``, or of a list of these: the names alone."""
    return ShortForm(partial(_one_or_each_keyed, key))


def _keyed(key: str, value: Any) -> Any:
    return {key: value} if isinstance(value, str) else value


def _each_keyed(key: str, value: Any) -> Any:
    entries = [value] if isinstance(value, str | dict) else value
    return _one_or_each_keyed(key, entries)


def _one_or_each_keyed(key: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_keyed(key, entry) for entry in value]
    return _keyed(key, value)
