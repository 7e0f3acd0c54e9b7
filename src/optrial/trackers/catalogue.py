"""The trackers by name, and the checks of a study's key `trackers`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from optrial.config import Component
from optrial.errors import Problem, suggest
from optrial.trackers.tracker import Tracker

__all__ = ["TRACKERS", "TrackerKind", "check_trackers", "missing_libraries"]


@dataclass(frozen=True)
class TrackerKind:
    """A service that runs can be sent to.

    Attributes:
        make: builds the tracker from the study's name, its folder and the arguments.
        libraries: modules that must be installed; the extra of optrial has the tracker's name.
        arguments: allowed values of each argument; an empty list allows any text.
    """

    make: Callable[..., Tracker]
    libraries: Sequence[str]
    arguments: Mapping[str, Sequence[str]]


def _imported(module: str, name: str) -> Callable[..., Tracker]:
    """Return a function that imports a tracker, and with it its library, when it is called."""

    def make(study: str, folder: Path, **arguments: str) -> Tracker:
        kind: Callable[..., Tracker] = getattr(import_module(f"optrial.trackers.{module}"), name)
        return kind(study, folder, **arguments)

    return make


TRACKERS: Mapping[str, TrackerKind] = {
    "tensorboard": TrackerKind(
        _imported("tensorboard", "TensorBoard"), ["tensorboard"], {"log_dir": ()}
    ),
    "wandb": TrackerKind(
        _imported("wandb", "WeightsAndBiases"),
        ["wandb"],
        {"project": (), "entity": (), "mode": ("online", "offline")},
    ),
    "mlflow": TrackerKind(
        _imported("mlflow", "MLflow"), ["mlflow", "alembic"], {"tracking_uri": (), "experiment": ()}
    ),
}


def check_trackers(entries: Sequence[Component]) -> list[Problem]:
    """Return the problems with the names and arguments of a study's trackers."""
    return [
        problem.under(f"trackers[{index}]")
        for index, entry in enumerate(entries)
        for problem in _problems(entry)
    ]


def _problems(entry: Component) -> Iterator[Problem]:
    if entry.name not in TRACKERS:
        yield Problem("", f"'{entry.name}' is not a tracker. {suggest(entry.name, TRACKERS)}")
        return
    known = TRACKERS[entry.name].arguments
    for name, value in entry.arguments.items():
        if name not in known:
            yield Problem(name, f"is not an argument of {entry.name}. {suggest(name, known)}")
        elif not isinstance(value, str) or not value:
            yield Problem(name, f"{value!r}: must be text.")
        elif known[name] and value not in known[name]:
            yield Problem(name, f"{value!r} is not allowed. {suggest(value, known[name])}")


def missing_libraries(entries: Sequence[Component]) -> list[Problem]:
    """Return a problem, with the command that solves it, for each tracker without its library."""
    return [
        Problem(
            f"trackers[{index}]",
            f"{entry.name} is not installed. Run: pip install 'optrial[{entry.name}]'",
        )
        for index, entry in enumerate(entries)
        if not all(map(find_spec, TRACKERS[entry.name].libraries))
    ]
