"""Explanations of modifiers: their place in a step, and their pages in Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from optrial.rules import Modifier

__all__ = ["place_of"]

_PLACES: Mapping[str, str] = {
    "gradient": (
        "Acts on the gradient of the mini-batch: after clip, before l2 weight decay and the rule."
    ),
    "change": (
        "Acts on the change that the rule computes, before decoupled weight decay and the addition "
        "to the parameter."
    ),
    "decay": "Takes the place of decoupled weight decay.",
    "parameter": "Acts on the new parameter: after the rule and weight decay, the last of a step.",
}


def place_of(modifier: Modifier) -> str:
    """Return a sentence about the place of a modifier in a step."""
    return _PLACES[modifier.stage]
