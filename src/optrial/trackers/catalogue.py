"""The trackers by name, and everything that can be wrong with a study's key `trackers`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from optrial.config import Component
from optrial.errors import Problem, suggest
from optrial.trackers.mlflow import MLflow
from optrial.trackers.tensorboard import TensorBoard
from optrial.trackers.tracker import Tracker
from optrial.trackers.wandb import MODES, WeightsAndBiases

__all__ = ["TRACKERS", "TrackerKind", "check_trackers", "missing_libraries"]


@dataclass(frozen=True)
class TrackerKind:
    """A service that runs can be sent to.

    Attributes:
        make: takes the study's name, its folder and the arguments.
        libraries: modules that have to be installed; the extra of optrial is called like it.
        arguments: names, each with the values that are allowed; none for any text.
    """

    make: Callable[..., Tracker]
    libraries: Sequence[str]
    arguments: Mapping[str, Sequence[str]]


TRACKERS: Mapping[str, TrackerKind] = {
    "tensorboard": TrackerKind(TensorBoard, ["tensorboard"], {"log_dir": ()}),
    "wandb": TrackerKind(WeightsAndBiases, ["wandb"], {"project": (), "entity": (), "mode": MODES}),
    "mlflow": TrackerKind(MLflow, ["mlflow", "alembic"], {"tracking_uri": (), "experiment": ()}),
}


def check_trackers(entries: Sequence[Component]) -> list[Problem]:
    """Return what is wrong with the names and arguments of a study's trackers."""
    return [
        problem.under(f"trackers[{index}]")
        for index, entry in enumerate(entries)
        for problem in _problems(entry)
    ]


def _problems(entry: Component) -> Iterator[Problem]:
    if entry.name not in TRACKERS:
        yield Problem("", f"'{entry.name}' is no tracker. {suggest(entry.name, TRACKERS)}")
        return
    known = TRACKERS[entry.name].arguments
    for name, value in entry.arguments.items():
        if name not in known:
            yield Problem(name, f"is no argument of {entry.name}. {suggest(name, known)}")
        elif not isinstance(value, str) or not value:
            yield Problem(name, f"{value!r}: must be a text.")
        elif known[name] and value not in known[name]:
            yield Problem(name, f"{value!r} is not allowed. {suggest(value, known[name])}")
        elif "://" in value and "@" in value:
            way_out = "it would be stored with the study; use the environment variables of"
            yield Problem(name, f"must not hold a password: {way_out} {entry.name}.")


def missing_libraries(entries: Sequence[Component]) -> list[Problem]:
    """Return which trackers cannot be used for want of a library, with what installs it."""
    return [
        Problem(
            f"trackers[{index}]",
            f"{entry.name} is not installed. Run: pip install 'optrial[{entry.name}]'",
        )
        for index, entry in enumerate(entries)
        if not all(map(find_spec, TRACKERS[entry.name].libraries))
    ]
