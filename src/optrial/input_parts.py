"""Several inputs of a model, packed into one array: their names, shapes and places."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

__all__ = ["InputPart", "PackedShape", "parts_of"]


class InputPart(NamedTuple):
    """One of several inputs.

    Attributes:
        name: as the model finds it.
        shape: of one sample.
        whole: whether models get whole numbers.
    """

    name: str
    shape: tuple[int, ...]
    whole: bool

    @property
    def size(self) -> int:
        """Number of values of a sample."""
        return math.prod(self.shape)


class PackedShape(tuple[int, ...]):
    """Shape (values,) of samples that hold several inputs side by side, which it knows.

    It differs from every shape of one input.
    """

    parts: tuple[InputPart, ...]

    def __new__(cls, parts: Iterable[InputPart]) -> Self:
        """Return the shape of samples with some inputs."""
        parts = tuple(parts)
        shape = super().__new__(cls, (sum(part.size for part in parts),))
        shape.parts = parts
        return shape

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the shape that `as_dict` describes."""
        return cls(
            InputPart(name, tuple(part["shape"]), part["whole"]) for name, part in values.items()
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the inputs by name, as JSON values."""
        return {part.name: {"shape": list(part.shape), "whole": part.whole} for part in self.parts}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PackedShape) and self.parts == other.parts

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.parts)

    def __repr__(self) -> str:
        return ", ".join(f"{part.name} {part.shape}" for part in self.parts)

    @property
    def as_received(self) -> str:
        """Names, shapes and types of the inputs of a model, for messages."""
        types = ("int64" if part.whole else "floating point" for part in self.parts)
        shapes = (", ".join(map(str, ("batch", *part.shape))) for part in self.parts)
        names = (part.name for part in self.parts)
        shown = (f"{n} ({s}), {t}" for n, s, t in zip(names, shapes, types, strict=True))
        return f"a mapping with {'; '.join(shown)}"


def parts_of(shape: tuple[int, ...]) -> tuple[InputPart, ...]:
    """Return the inputs that a shape holds; none for the shape of one input."""
    return shape.parts if isinstance(shape, PackedShape) else ()
