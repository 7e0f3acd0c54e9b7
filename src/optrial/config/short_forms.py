"""Short forms of values: `dataset: moons` stands for ``dataset: {name: moons}``.

A field of the study carries its short forms in its annotation. Validation expands them, and so does
``--set`` before it sets a part of a value.
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
    """Annotation of a field: `expand` turns a short form into the long one.

    `expand` takes and returns plain values, returns everything else unchanged, and may raise
    ValueError for a value that is in no form.
    """

    expand: Callable[[Any], Any]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Expand before anything else is checked."""
        return core_schema.no_info_before_validator_function(self.expand, handler(source))


def keyed(key: str) -> ShortForm:
    """Return the form ``{key: name}`` of a name."""
    return ShortForm(partial(_keyed, key))


def each_named(key: str) -> ShortForm:
    """Return the form ``[{key: name}, ...]`` of a list in which some entries are names."""
    return ShortForm(partial(_each_keyed, key))


def one_or_several(key: str) -> ShortForm:
    """Return the form ``{key: name}`` of a name, alone or in a list."""
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
