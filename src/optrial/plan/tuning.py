"""The tuning protocol: what each optimizer tries, wave after wave, and which setting is chosen.

Everything here is a function of the study and the scores so far, so that an interrupted study makes
the same decisions when it is resumed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from optrial.config import StudyFile, Tuning
from optrial.errors import all_listed, counted
from optrial.plan.halving import RungPlan, rungs_of, usual_rungs
from optrial.plan.samplers import drawn, new_points, suggested
from optrial.plan.space import Point, Space, space_of
from optrial.spec import SettingScore

__all__ = [
    "Outline",
    "Trial",
    "Wave",
    "choose",
    "halved",
    "outline",
    "planned_rungs",
    "trial_count",
    "tuning_seeds",
    "waves",
]

_MOST_EXTENSIONS = 6
"""Largest number of times that grids grow. In steps of ten, this reaches a learning rate a million
times the first guess, and ends the tuning of a metric that keeps improving."""

_DEFAULT_TRIALS = 16
_DEFAULT_ETA = 3
_TPE_WAVES = 4  # each is trained as stacks, so few and wide
_FIRST_TUNING_SEED = 1_000_000  # far from what people write


@dataclass(frozen=True, eq=False)
class Trial:
    """One setting that an optimizer tries, with every tuning seed.

    Attributes:
        optimizer: name of the study's entry.
        point: the setting.
        rung: the rung of successive halving that shortens it; None for the whole budget.
    """

    optimizer: str
    point: Point
    rung: RungPlan | None = None


class Wave(NamedTuple):
    """Trials between two decisions.

    Attributes:
        trials: as many for each optimizer.
        why: the reason in one line, for the user.
    """

    trials: list[Trial]
    why: str


Scores = Callable[[Trial], SettingScore]


def tuning_seeds(study: StudyFile) -> tuple[int, ...]:
    """Return the seeds of the trials: none of those that the report uses."""
    count = study.tune.seeds if study.tune else 0
    unused = (s for s in itertools.count(_FIRST_TUNING_SEED) if s not in study.seeds)
    return tuple(itertools.islice(unused, count))


def trial_count(tuning: Tuning, spaces: Sequence[Space]) -> int:
    """Return how many settings each optimizer tries, before any grid grows."""
    return int(spaces[0].size()) if tuning.sampler == "grid" else tuning.trials or _DEFAULT_TRIALS


def planned_rungs(tuning: Tuning) -> tuple[RungPlan, ...]:
    """Return the rungs of successive halving; none for the other samplers."""
    if tuning.sampler != "halving":
        return ()
    trials, eta = halved(tuning)
    return rungs_of(trials, eta, tuning.rungs or usual_rungs(trials, eta))


def halved(tuning: Tuning) -> tuple[int, int]:
    """Return the trials of the first rung of successive halving, and the factor between rungs."""
    return tuning.trials or _DEFAULT_TRIALS, tuning.eta or _DEFAULT_ETA


@dataclass(frozen=True)
class Outline:
    """Amount of tuning that is known in advance.

    Attributes:
        select: the metric that selects.
        trials: settings that each optimizer tries, before any grid grows.
        tuning_runs: the runs of these.
        report_runs: the runs of the chosen settings.
        waves: largest number of waves.
        rungs: the waves of successive halving; empty for other samplers.
    """

    select: str
    trials: int
    tuning_runs: int
    report_runs: int
    waves: int
    rungs: tuple[RungPlan, ...] = ()

    def seconds(self, runs: int, training: float, tuning: float, report: float) -> float:
        """Return the expected time of all waves and the report.

        Args:
            runs: number of runs of the first wave.
            training: seconds of their training.
            tuning: seconds of their evaluation.
            report: seconds of their evaluation, if they evaluated the splits of the report.
        """
        waves, divisor = self.tuning_runs / runs, 1
        if self.rungs:
            divisor = self.rungs[0].divisor
            whole = sum(rung.trials / rung.divisor for rung in self.rungs)
            waves = whole * divisor / self.rungs[0].trials
        reports = self.report_runs * divisor / runs
        return waves * (training + tuning) + reports * (training + report)


def outline(study: StudyFile) -> Outline | None:
    """Return how much a checked study tunes, or None if it does not."""
    if study.tune is None or study.selection is None:
        return None
    optimizers = len(study.optimizers)
    trials = trial_count(study.tune, [space_of(study, study.optimizers[0])])
    rungs = planned_rungs(study.tune)
    tried = sum(rung.trials for rung in rungs) if rungs else trials
    return Outline(
        select=study.selection.metric,
        trials=trials,
        tuning_runs=optimizers * tried * study.tune.seeds,
        report_runs=optimizers * len(study.seeds),
        waves=len(rungs) or _most_waves(study.tune),
        rungs=rungs,
    )


def _most_waves(tuning: Tuning) -> int:
    if tuning.sampler == "tpe":
        return _TPE_WAVES
    return 1 + _MOST_EXTENSIONS if tuning.extends else 1


def waves(tuning: Tuning, spaces: Sequence[Space], score: Scores) -> Iterator[Wave]:
    """Yield wave after wave of trials until the settings can be chosen.

    Args:
        tuning: the protocol.
        spaces: one per optimizer.
        score: score of a trial; called for those of a wave before the next one.
    """
    searches = [_Search(space) for space in spaces]
    match tuning.sampler:
        case "grid":
            return _grid_waves(tuning, searches, score)
        case "halving":
            return _halving_waves(tuning, searches, score)
        case _:
            return _sampled_waves(tuning, searches, score)


def choose(space: Space, trials: Iterable[Trial], score: Scores) -> Trial:
    """Return the best of the trials of one optimizer, those of the last rung of halving.

    Of equal ones it is the one with the fewest values at an end of what was tried, then the first.
    If no run of any was trained to its end, it is the one with the least values.
    """
    return _best_first(space, trials, score)[0]


def _best_first(space: Space, trials: Iterable[Trial], score: Scores) -> list[Trial]:
    """Return the trials of one optimizer in the order in which `choose` prefers them."""
    trials = list(trials)
    values = {name: [trial.point[name] for trial in trials] for name in space.growth}
    ends = {name: (min(tried), max(tried)) for name, tried in values.items()}

    def goodness(trial: Trial) -> tuple[SettingScore, int]:
        return score(trial), -sum(trial.point[name] in ends[name] for name in ends)

    failed = [trial for trial in trials if not score(trial).succeeded]
    rest = [trial for trial in trials if score(trial).succeeded]
    # Those that diverged come last, the least values first: smaller steps are safer.
    return [
        *sorted(rest, key=goodness, reverse=True),
        *sorted(failed, key=lambda trial: [trial.point[name] for name in ends]),
    ]


class _Search:
    """The space of one optimizer and its trials so far."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.trials: list[Trial] = []

    @property
    def points(self) -> list[Point]:
        return [trial.point for trial in self.trials]

    def add(self, points: Iterable[Point], count: int | None = None) -> list[Trial]:
        """Try the first `count` points that are new, or all."""
        new = new_points(points, self.points, count)
        trials = [Trial(self.space.optimizer, point) for point in new]
        self.trials += trials
        return trials


def _grid_waves(tuning: Tuning, searches: Sequence[_Search], score: Scores) -> Iterator[Wave]:
    """Try whole grids; if the best value is at the edge of a grid, extend it and refine the others.

    A grid grows by one value per axis, with all combinations. The other optimizers try as many
    further settings between their best value and its neighbours, so that all budgets stay equal.
    """
    trials = [trial for search in searches for trial in search.add(search.space.grid())]
    yield Wave(trials, f"the grid of each optimizer, {counted(len(searches[0].trials), 'trial')}")
    for _ in range(_MOST_EXTENSIONS if tuning.extends else 0):
        best = [choose(search.space, search.trials, score).point for search in searches]
        extra, edges, trials = 0, [], []
        for search, point in zip(searches, best, strict=True):
            before, search.space = search.space, search.space.grown(point)
            extra = max(extra, int(search.space.size() - before.size()))
            names = [n for n, axis in search.space.axes.items() if axis != before.axes[n]]
            edges += [f"the best {before.label(name)} of {before.optimizer}" for name in names]
        if not edges:
            return
        for search, point in zip(searches, best, strict=True):
            further = itertools.chain(search.space.grid(), search.space.refinements(point))
            trials += search.add(further, extra)
        one = len(edges) == 1
        at_edges = "lies at the edge of its grid" if one else "lie at the edges of their grids"
        more = f"{counted(extra, 'more trial')} of each optimizer"
        yield Wave(trials, f"{more}, because {all_listed(edges)} {at_edges}")


def _sampled_waves(tuning: Tuning, searches: Sequence[_Search], score: Scores) -> Iterator[Wave]:
    """Draw settings: all at once, or for TPE in a few waves, each knowing those before."""
    sampler: Literal["random", "sobol"] = "random" if tuning.sampler == "random" else "sobol"
    total = tuning.trials or _DEFAULT_TRIALS
    parts = min(_most_waves(tuning), total)
    for part in range(parts):
        count = (total + parts - 1 - part) // parts  # the first ones have what is left over
        trials = []
        for search in searches:
            if part == 0:
                points = drawn(search.space, sampler, tuning.seed)
            else:
                scores = [score(trial) for trial in search.trials]
                ranks = [sorted(set(scores)).index(trial_score) for trial_score in scores]
                seed = (tuning.seed + part) % 2**32
                points = suggested(search.space, search.points, ranks, count, seed)
            trials += search.add(points, count)
        more = f"{count} of " if parts > 1 else ""
        yield Wave(trials, f"{more}{total} trials of each optimizer by {tuning.sampler}")


def _halving_waves(tuning: Tuning, searches: Sequence[_Search], score: Scores) -> Iterator[Wave]:
    """Train random settings for a part of the budget, and the best of them for longer.

    All rungs have their planned number of trials, whatever diverged, so that budgets stay equal.
    """
    tried: list[list[Trial]] = []
    for rung in planned_rungs(tuning):
        if rung.place == 0:
            for search in searches:
                search.add(drawn(search.space, "random", tuning.seed), rung.trials)
            ordered = [search.trials for search in searches]
            what = counted(rung.trials, "trial")
        else:
            ordered = [
                _best_first(search.space, trials, score)[: rung.trials]
                for search, trials in zip(searches, tried, strict=True)
            ]
            what = f"the best {rung.trials}" if rung.trials > 1 else "the best trial"
        part = None if rung.is_last else rung
        tried = [[replace(trial, rung=part) for trial in trials] for trials in ordered]
        why = f"rung {rung.place + 1} of {rung.total}, {what} of each optimizer with {rung.share}"
        yield Wave([trial for trials in tried for trial in trials], why)
