"""Places of a study file where keys belong that were written elsewhere."""

from __future__ import annotations

from pydantic import BaseModel

from optrial.config.optimizers import OptimizerEntry
from optrial.config.study import Evaluation, ProblemEntry, StudyFile, Tuning

__all__ = ["belongs"]

_AMBIGUOUS = ("name", "seed")
"""Keys that several places have."""

_PLACES: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("study", StudyFile, "is a key of the study; write it beside optimizers"),
    ("problem", ProblemEntry, "is a key of problem, as in problem: {{{key}: ...}}"),
    (
        "optimizers",
        OptimizerEntry,
        "is a key of an optimizer, as in optimizers: [{{rule: adam, {key}: ...}}]",
    ),
    ("evaluate", Evaluation, "is a key of evaluate, as in evaluate: {{{key}: ...}}"),
    ("tune", Tuning, "is a key of tune, as in tune: {{{key}: ...}}"),
)


def belongs(key: object, place: str) -> str:
    """Return where a key belongs, as a sentence; empty if it is none of another place.

    Args:
        key: the key.
        place: where it stands: "study", "problem", "optimizers", "evaluate" or "tune".
    """
    for name, model, sentence in _PLACES:
        names = model.model_fields.keys() | ({"lr"} if model is OptimizerEntry else set())
        if name != place and key in names and key not in _AMBIGUOUS:
            return f"{sentence.format(key=key)}."
    return ""
