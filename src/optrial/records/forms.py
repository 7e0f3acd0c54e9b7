"""Checks that values read from JSON have the types of annotations.

Checksums reveal damage; a store that someone edited may hold any value behind a right checksum.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import cache, partial
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["Form", "fields_fit", "form_of", "forms_of"]

Form = Callable[[Any], bool]
"""A check that a value has some type."""

_LARGEST = 2**63


@cache
def forms_of(kind: type) -> dict[str, Form]:
    """Return the form of each field of a dataclass or a named tuple."""
    return {name: form_of(hint) for name, hint in get_type_hints(kind).items()}


def form_of(annotation: Any) -> Form:
    """Return the check of an annotation: lists are tuples, objects mappings or classes of fields.

    Whole numbers have at most 64 bits, and other numbers are finite, as optrial writes them.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return partial(_fits_any, [form_of(argument) for argument in arguments])
    if origin is tuple:
        return _tuple_form(arguments)
    if origin is Literal:
        return arguments.__contains__
    if origin is not None:
        return partial(_is_mapping, form_of(arguments[1]))
    if is_dataclass(annotation) or hasattr(annotation, "_fields"):
        return partial(fields_fit, annotation)
    return _SIMPLE.get(annotation) or partial(_is_exactly, annotation)


def fields_fit(kind: type, values: Any) -> bool:
    """Return whether values by name fit the fields of a class; unknown names are not checked."""
    if not isinstance(values, dict):
        return False
    forms = forms_of(kind)
    return all(forms[name](value) for name, value in values.items() if name in forms)


def _fits_any(forms: list[Form], value: object) -> bool:
    return any(form(value) for form in forms)


def _tuple_form(arguments: tuple[Any, ...]) -> Form:
    if arguments[-1] is Ellipsis:
        form = form_of(arguments[0])
        return lambda value: isinstance(value, list | tuple) and all(map(form, value))
    forms = [form_of(argument) for argument in arguments]
    return partial(_is_tuple, forms)


def _is_tuple(forms: list[Form], value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == len(forms)
        and all(form(part) for form, part in zip(forms, value, strict=True))
    )


def _is_mapping(form: Form, value: object) -> bool:
    return isinstance(value, dict) and all(map(form, value.values()))


def _is_whole(value: object) -> bool:
    return type(value) is int and -_LARGEST <= value < _LARGEST


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def _is_anything(value: object) -> bool:
    del value
    return True


def _is_exactly(kind: type, value: object) -> bool:
    return type(value) is kind


_SIMPLE: dict[Any, Form] = {Any: _is_anything, int: _is_whole, float: _is_number}
