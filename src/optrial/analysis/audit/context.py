"""The view of a study that audit rules read, with verdicts on its claims and with remedies."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from optrial.analysis.audit.finding import Remedy
from optrial.analysis.audit.grids import grid_values
from optrial.analysis.claims import (
    Arrivals,
    Claim,
    ClaimCase,
    ClaimKind,
    ClaimResult,
    evaluate_cases,
)
from optrial.analysis.contenders import Contender, OptimizerRuns, hyperparameters
from optrial.analysis.statistics import minimum_pairs
from optrial.analysis.targets import Target, Unit, shared_seconds, target_times
from optrial.analysis.view import ProblemView, StudyView
from optrial.errors import quoted
from optrial.records import Record
from optrial.spec import Selection, Status

__all__ = ["PROTOCOL", "Context", "names", "optimizer_name"]

PROTOCOL = ("problem", "budget", "evaluate", "batch_size", "precision", "sampling", "folds")
"""Keys of a study that must not change once results are known."""

_OF_EVERY_RUN = ("schedule", "decay")
"""Keys of an optimizer whose change replaces every run of it, which is then a hidden trial."""


def names(texts: Iterable[str]) -> str:
    """Join different names for a sentence, shortened beyond four."""
    different = list(dict.fromkeys(texts))
    more = f" and {len(different) - 4} more" * (len(different) > 4)
    return ", ".join(different[:4]) + more


@dataclass(frozen=True, eq=False)
class Context(StudyView):
    """A view of a study with the verdicts on its claims, and with remedies."""

    @classmethod
    def of(cls, view: StudyView) -> Context:
        """Return the context of a view, with everything that the view has computed."""
        if isinstance(view, cls):
            return view
        context = cls(**{field.name: getattr(view, field.name) for field in fields(StudyView)})
        vars(context).update(vars(view))  # properties that were computed
        return context

    def generator(self, *purpose: str) -> np.random.Generator:
        """Return a random generator for one purpose, independent of all other draws.

        Args:
            purpose: id of a rule, and names of what it resamples.
        """
        return np.random.default_rng([self.seed, zlib.crc32("\0".join(purpose).encode())])

    @cached_property
    def ranked_by(self) -> Selection | None:
        """The metric that orders the trials of an optimizer: the selecting or the reported one."""
        better = self.directions.better(self.report_metric)
        return self.selection or (Selection(self.report_metric, better) if better else None)

    @property
    def results(self) -> tuple[ClaimResult, ...]:
        """The verdict on every claim, on each problem that it is about."""
        return tuple(result for _, result in self.decided)

    @cached_property
    def decided(self) -> tuple[tuple[ProblemView, ClaimResult], ...]:
        """The results with their problems."""
        cases = [case for problem in self.problems for case in self._cases(problem)]
        results = evaluate_cases([case for _, case in cases], seed=self.seed)
        return tuple(
            (problem, _with_reason(problem, result))
            for (problem, _), result in zip(cases, results, strict=True)
        )

    def _cases(self, problem: ProblemView) -> Iterator[tuple[ProblemView, ClaimCase]]:
        """Yield the claims about a problem, with the values to decide them."""
        arrivals = self._arrivals(problem)
        name = problem.name if len(self.problems) > 1 else ""
        for claim in self.claims:
            if claim.problem in ("", problem.name):
                values = {c.name: c.values(claim.metric) for c in problem.contenders}
                yield problem, ClaimCase(claim, {claim.metric: values}, arrivals, name)

    def _arrivals(self, problem: ProblemView) -> dict[tuple[Target, Unit], Arrivals]:
        """Return when runs reached the targets of claims; seconds that are shared are no times."""
        arrivals: dict[tuple[Target, Unit], Arrivals] = {}
        for claim in self.claims:
            target, unit, better = claim.target, claim.unit, claim.better
            if target and better and not (unit == "seconds" and shared_seconds(problem.compared)):
                curves = self.curves(target.metric)
                times = target_times(problem.contenders, curves, target, better, unit)
                arrivals[target, unit] = {t.contender.name: t.arrivals for t in times}
        return arrivals

    @cached_property
    def late_claims(self) -> dict[str, int]:
        """Claims added after runs had ended, with the number of runs that had."""
        late: dict[str, int] = {}
        known: set[str] = set()
        for plan in self.plans:
            claims = {str(claim) for claim in plan.study.get("claims") or ()}
            late |= dict.fromkeys(sorted(claims - known) if plan.ended else (), plan.ended)
            known |= claims
        return {text: n for text, n in late.items() if text in (self.study.get("claims") or ())}

    @cached_property
    def dropped_claims(self) -> list[str]:
        """Claims that were dropped after runs had ended."""
        now = self.study.get("claims") or ()
        claims = [
            str(claim)
            for before, after in pairwise(self.plans)
            for claim in before.study.get("claims") or ()
            if after.ended
        ]
        return [claim for claim in dict.fromkeys(claims) if claim not in now]

    @cached_property
    def time_claims(self) -> list[Claim]:
        """The claims about speed."""
        return [claim for claim in self.claims if claim.about_seconds]

    def claimed(self, claim: Claim) -> list[Contender]:
        """Return the contenders that a claim is about: for "is best", all."""
        everyone = claim.kind is ClaimKind.BEST
        return [
            contender
            for problem in self._claimed_problems(claim)
            for contender in problem.contenders
            if everyone or contender.optimizer in claim.optimizers
        ]

    def _claimed_problems(self, claim: Claim) -> list[ProblemView]:
        return [problem for problem in self.problems if claim.problem in ("", problem.name)]

    def claimed_optimizers(self, claim: Claim) -> list[OptimizerRuns]:
        """Return the optimizers that a claim is about: for "is best", all."""
        claimed = {contender.optimizer for contender in self.claimed(claim)}
        return [
            optimizer
            for problem in self._claimed_problems(claim)
            for optimizer in problem.optimizers
            if optimizer.name in claimed
        ]

    def claimed_runs(self, claim: Claim) -> list[Record]:
        """Return the runs that a claim is about."""
        return [record for contender in self.claimed(claim) for record in contender.records]

    def path(self, optimizer: str) -> str:
        """Return where an optimizer is in the study, as ``--set`` takes it; empty if unknown."""
        names = [optimizer_name(entry) for entry in self.study.get("optimizers") or ()]
        if optimizer not in names:
            return ""
        plain = re.fullmatch(r"[A-Za-z][\w-]*", optimizer)
        return f"optimizers.{optimizer}" if plain else f"optimizers[{names.index(optimizer)}]"

    def entry(self, optimizer: OptimizerRuns) -> Mapping[str, Any]:
        """Return the keys of an optimizer in the study, with those that its problem replaces."""
        entries = self.study.get("optimizers") or ()
        shared: Mapping[str, Any]
        shared = next((e for e in entries if optimizer_name(e) == optimizer.name), {})
        problem = self.study.get("problem", {}).get(optimizer.problem)
        replaced = problem.get("optimizers") if isinstance(problem, Mapping) else None
        keys = {**shared, **(replaced or {}).get(optimizer.name, {})}
        return {key: value for key, value in keys.items() if value is not None}

    def _place(self, optimizer: OptimizerRuns, name: str) -> tuple[str, Any]:
        """Return where a hyperparameter is within its entry, and its value in the study."""
        entry = self.entry(optimizer)
        for index, group in enumerate(entry.get("groups") or ()):
            label = f"{group_name(group)}."
            if name.startswith(label):
                key, _, times = name.removeprefix(label).partition(".")
                value = group.get(key)
                if times and isinstance(value, Mapping):
                    value = value.get(times)
                return f"groups[{index}].{name.removeprefix(label)}", value
        return name, entry.get(name)

    def written(self, optimizer: OptimizerRuns, name: str) -> Any:
        """Return the value of a hyperparameter, "head.lr" of a group, in the study, or None."""
        return self._place(optimizer, name)[1]

    def value_path(self, optimizer: OptimizerRuns, name: str) -> str:
        """Return where a hyperparameter is in the study, as ``--set`` takes it."""
        return f"{self.path(optimizer.name)}.{self._place(optimizer, name)[0]}"

    def drawn_from(self, optimizer: OptimizerRuns, name: str) -> Mapping[str, Any] | None:
        """Return the range from which values of a hyperparameter are drawn; None for a grid."""
        written = self.written(optimizer, name)
        return written if isinstance(written, Mapping) and "points" not in written else None

    def rates(self, optimizer: OptimizerRuns, name: str = "lr") -> list[float]:
        """Return the tried learning rates within the range of the study file, and its ends."""
        written, tried = self.written(optimizer, name), optimizer.tuned[name]
        if isinstance(written, Mapping):
            written = written.get("log") or written.get("lin")
        elif not self.study.get("tune"):
            written = None
        ends = list(map(float, written)) if isinstance(written, list | tuple) else tried
        return sorted({*ends, *(rate for rate in tried if min(ends) <= rate <= max(ends))})

    def seconds(self, runs: int, like: Iterable[Record]) -> float | None:
        """Return about how long `runs` runs take, from what similar ones took."""
        took = [
            record.facts.seconds.total / record.width
            for record in like
            if record.status is Status.DONE and record.facts.seconds
        ]
        return runs * median(took) if took else None

    def remedy(
        self,
        action: str,
        settings: Mapping[str, Any] | None = None,
        runs: int = 0,
        like: Iterable[Record] = (),
    ) -> Remedy:
        """Return a remedy with its cost; `like` are runs that take as long as its own.

        One that changes the protocol, or a key that every run of an optimizer has, is for a new
        folder, in which every run is trained. So is one after which grids would grow elsewhere:
        trials that are not repeated would be hidden ones (G01).
        """
        settings = dict(settings or {})
        if self.study.get("folds") and any(path.startswith("tune") for path in settings):
            settings["folds"] = None  # a setting that is tuned on all folds has seen their tests
        keys = [re.split(r"[.\[]", path) for path in settings]
        anew = any(key[0] in PROTOCOL or key[-1] in _OF_EVERY_RUN for key in keys)
        elsewhere = "tune.select" in settings or any(map(_has_points, settings.values()))
        anew |= bool(elsewhere and self._grown_runs)
        if anew and "tune" not in settings:
            runs = len(self.records) - self._grown_runs
        folder = f"studies/{self.name}-2" if anew else ""
        chooses_first = any(optimizer.chosen is None for optimizer in self.optimizers)
        if self.claims and chooses_first and "validation" in settings.get("evaluate.on", ()):
            action += "; this also tests the claims, which may add findings"
        seconds = self.seconds(runs, like or self.records) if runs else 0.0
        chooses = self.study.get("tune") and settings and "tune" not in settings
        at_least = bool(runs and chooses and set(settings) != {"seeds"})
        return Remedy(action, settings, runs, seconds, at_least=at_least, folder=folder)

    @property
    def _grown_runs(self) -> int:
        """The number of runs of a tuning beyond the grids of the study file."""
        tune = self.study.get("tune")
        if not tune or tune.get("sampler", "grid") != "grid" or tune.get("extend") is False:
            return 0
        grids = {
            (o.problem, o.name, name): grid_values(self.written(o, name))
            for o in self.optimizers
            for name in o.tuned
        }
        return sum(
            any(
                hyperparameters(record).get(name) not in grids[o.problem, o.name, name]
                for name in o.tuned
            )
            for o in self.optimizers
            for record in o.trials
        )

    def rerun(self, action: str, records: Sequence[Record]) -> Remedy:
        """Return the remedy of training these runs again."""
        return self.remedy(action, {}, len(records), records)

    def where(self, condition: Callable[[Record], Any]) -> list[Record]:
        """Return the runs that ended and meet a condition."""
        return [record for record in self.ended if condition(record)]

    def removed_seeds(self, status: Status) -> list[Record]:
        """Return former runs of settings that are still planned, but with other seeds."""
        if not self.former:
            return []
        planned: dict[str, set[int]] = {}
        for record in self.records:
            planned.setdefault(record.spec.without_seed, set()).add(record.seed)
        return [
            r
            for r in self.former
            if r.status is status and r.seed not in planned.get(r.spec.without_seed, {r.seed})
        ]

    def seeds_needed(self, problem: ProblemView) -> int:
        """Return the fewest seeds with which a claim, or a comparison of all, can be decided."""
        compared = problem.finishing if len(problem.finishing) > 1 else problem.contenders
        return self._seeds_needed(len(compared))

    def _seeds_needed(self, compared: int) -> int:
        pairs = math.comb(compared, 2)
        return minimum_pairs(comparisons=len(self.results) or max(1, pairs))

    def with_enough_seeds(self, remedy: Remedy, problem: ProblemView) -> Remedy:
        """Return a remedy that adds settings, or with which more of them finish, with more seeds.

        They are as many as the comparison of all then needs (D02). Where there are too few already,
        or the study chooses one setting of each optimizer, the remedy stays as it is.
        """
        seeds = min(len(contender.pairs) for contender in problem.contenders)
        new = 0 if remedy.folder else remedy.runs // seeds
        needed = self._seeds_needed(len(problem.contenders) + new)
        if problem.chooses or not self.seeds_needed(problem) <= seeds < needed:
            return remedy
        more = self.more_seeds(needed, f"{remedy.action}, with {needed} seeds")
        added = (needed - seeds) * new + more.runs
        return replace(
            remedy,
            action=more.action,
            settings={**remedy.settings, **more.settings},
            runs=remedy.runs + added,
            seconds=self.seconds(remedy.runs + added, problem.records),
        )

    def more_seeds(self, count: int, action: str) -> Remedy:
        """Return the remedy of reporting `count` seeds: new ones, the old ones kept."""
        planned = self.study.get("seeds") or sorted({r.seed for r in self.compared})
        seeds = list(range(planned)) if isinstance(planned, int) else list(planned)
        fresh = (seed for seed in range(count + max(seeds, default=0) + 1) if seed not in seeds)
        added = [next(fresh) for _ in range(max(0, count - len(seeds)))]
        return self.on_seeds(seeds + added, added, action)

    def on_seeds(self, seeds: Sequence[int], added: Sequence[int], action: str) -> Remedy:
        """Return the remedy of reporting `seeds`, those of `added` being new."""
        reported = [r for r in self.records if r.phase == "report"] or list(self.records)
        settings = len({(r.problem, r.setting_id) for r in reported})
        listed, count = list(seeds), len(seeds)
        choice = count if listed == list(range(count)) else listed
        return self.remedy(action, {"seeds": choice}, len(added) * settings, reported)


def _has_points(value: Any) -> bool:
    return isinstance(value, Mapping) and "points" in value


def group_name(group: Mapping[str, Any]) -> str:
    """Return the name of a group of parameters in the study."""
    match = group.get("match", "")
    selectors = [match] if isinstance(match, str) else match
    return str(group.get("name") or "+".join(selectors))


def optimizer_name(entry: Mapping[str, Any]) -> str:
    """Return the name of an entry of the key `optimizers`."""
    code = entry.get("rule") or entry.get("torch") or entry.get("rule_factory") or ""
    return str(entry.get("name") or code.rpartition(":")[2])


def _with_reason(problem: ProblemView, result: ClaimResult) -> ClaimResult:
    """Return the result, with the reason if the runs cannot decide its claim."""
    several = [optimizer.name for optimizer in problem.optimizers if optimizer.chosen is None]
    unchosen = [name for name in result.claim.optimizers if name in several]
    why = _without_choice(unchosen) or _without_seconds(problem, result.claim)
    return _undecided(result, why) if why else result


def _undecided(result: ClaimResult, why: str) -> ClaimResult:
    """Return a result that says why its claim is not decided."""
    return replace(result, sentence=f"{quoted(result.claim.text)} is {result.verdict}: {why}")


def _without_choice(optimizers: Sequence[str]) -> str:
    """Say that a claim is about no setting in particular; empty where settings were chosen."""
    if not optimizers:
        return ""
    have = "has" if len(optimizers) == 1 else "have"
    return f"{names(optimizers)} {have} several settings, and no validation split chose one"


def _without_seconds(problem: ProblemView, claim: Claim) -> str:
    """Say why seconds to a target cannot be compared; empty where they can, or no claim asks."""
    return shared_seconds(problem.compared) if claim.target and claim.about_seconds else ""
