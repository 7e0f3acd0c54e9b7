"""The paragraph on methods: what was compared, on what, how it was tuned, tested and corrected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from optrial.analysis.audit import AuditReport
from optrial.analysis.contenders import OptimizerRuns
from optrial.analysis.statistics.paired import EXACT_UP_TO
from optrial.analysis.view import ProblemView, StudyView
from optrial.errors import all_listed, counted
from optrial.markup import Citation, Passage
from optrial.report.paper.bibliography import OWN_KEY, keys_of
from optrial.report.paper.setup import (
    batch_text,
    budget_text,
    data_text,
    model_text,
    number,
    rule_title,
    versions_of,
)
from optrial.spec import Status

__all__ = ["methods_text"]

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_SAMPLERS = {
    "random": "drawn at random",
    "sobol": "drawn from a Sobol sequence",
    "tpe": "chosen by a tree-structured Parzen estimator",
    "halving": "drawn at random",
}


def methods_text(view: StudyView, audit: AuditReport) -> Passage:
    """Return the paragraph on methods, with citations of the rules.

    Args:
        view: a study with runs.
        audit: its audit.
    """
    parts = [part for sentence in _sentences(view, audit) for part in (*sentence, " ")]
    return tuple(parts[:-1])


def _sentences(view: StudyView, audit: AuditReport) -> Iterator[Passage]:
    yield tuple(_compared(view))
    for problem in view.problems:
        yield (_training(problem),)
    yield from ((text,) for text in _pairing(view))
    for problem in _distinct_protocols(view):
        yield from ((text,) for text in _tuning(view, problem))
    yield from ((text,) for text in _statistics(view, audit))
    yield tuple(_software(view))


def _word(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else f"{count:,}"


def _compared(view: StudyView) -> Iterator[str | Citation]:
    """Yield the sentence that names the optimizers and cites the papers of their rules."""
    specs = {optimizer.name: optimizer.spec for optimizer in view.optimizers}
    count = len(specs)
    yield f"{_word(count).capitalize()} optimizer{'s were' if count != 1 else ' was'} compared: "
    for place, (name, spec) in enumerate(specs.items(), 1):
        yield name if name == spec.rule else f"{name} ({rule_title(spec)})"
        if keys := keys_of(spec):
            yield Citation(keys)
        yield "." if place == count else " and " if place == count - 1 else ", "


def _training(problem: ProblemView) -> str:
    """Return the sentence on data, model and budget."""
    specs = [record.spec for record in problem.records]
    models = all_listed(list(dict.fromkeys(map(model_text, specs))))
    batch = batch_text(specs)
    loss = specs[0].loss.replace("_", " ")
    precision = all_listed(list(dict.fromkeys(spec.precision for spec in specs)))
    return (
        f"The model {models} was trained on {data_text(problem)} with {loss}, in batches of "
        f"{batch} for {budget_text(problem.records)}, in {precision}."
    )


def _pairing(view: StudyView) -> Iterator[str]:
    """Yield what runs with the same seed share, as far as their records show it."""
    alike, seeds = view.paired_seeds
    if not seeds:
        return
    masks = any(record.facts.first_masks_sha256 for record in view.records)
    shared = (
        "initial weights, batches and dropout masks" if masks else "initial weights and batches"
    )
    folds = any(record.spec.fold for record in view.records)
    if alike == seeds:
        same = "seed and fold" if folds else "seed"
        yield f"Runs with the same {same} had the same {shared}, which recorded hashes confirm."
    else:
        starts = counted(seeds, "pair" if folds else "seed")
        yield f"Runs started alike on {alike} of {starts} only."


def _distinct_protocols(view: StudyView) -> list[ProblemView]:
    """Return the problems whose tuning and seeds differ from those of the problems before."""
    first: dict[tuple[str, ...], ProblemView] = {}
    for problem in view.problems:
        first.setdefault(tuple(_tuning(view, problem)), problem)
    return list(first.values())


def _tuning(view: StudyView, problem: ProblemView) -> Iterator[str]:
    """Yield the sentences on trials, on the metric that selects, and on the seeds."""
    seeds = len({record.seed for record in problem.reported})
    folds = len({record.fold for record in problem.reported if record.fold is not None})
    tried = {len(optimizer.tried) for optimizer in problem.optimizers}
    selects = problem.directions.title(problem.select) if problem.select else ""
    if any(record.phase == "tune" for record in problem.records):
        yield from _phases(view, problem, selects, seeds)
    elif max(tried) == 1:
        yield f"Each optimizer ran at one setting, without tuning, with {_repeated(seeds, folds)}."
    elif problem.chooses and selects:
        yield (
            f"For each optimizer, the best of {_settings(problem.optimizers)} by mean {selects} is "
            f"reported; selection and report use the same {counted(seeds, 'seed')}."
        )
    else:
        yield (
            f"Each optimizer ran at {_settings(problem.optimizers)}, and all are compared, "
            f"with {_repeated(seeds, folds)}."
        )


def _repeated(seeds: int, folds: int) -> str:
    """Return the number of seeds, on each of so many folds."""
    on_folds = f" on each of {counted(folds, 'fold')} of a cross-validation" if folds else ""
    return f"{counted(seeds, 'seed')}{on_folds}"


def _phases(view: StudyView, problem: ProblemView, selects: str, seeds: int) -> Iterator[str]:
    tune: dict[str, Any] = view.study.get("tune") or {}
    trials = [record for record in problem.records if record.phase == "tune"]
    own = len({record.seed for record in trials})
    drawn = _SAMPLERS.get(str(tune.get("sampler")))
    how = f" {drawn}" if drawn else " of a grid"
    yield (
        f"The setting of each optimizer was chosen among {_settings(problem.optimizers)}{how} by "
        f"mean {selects} over {counted(own, 'seed')} that only the tuning used "
        f"({counted(len(trials), 'run')})."
    )
    yield from _rungs(problem)
    if problem.reported and problem.reported[0].phase == "report":
        yield f"The chosen settings were trained again with {counted(seeds, 'new seed')}."


def _rungs(problem: ProblemView) -> Iterator[str]:
    """Yield the sentence on the rungs of successive halving."""
    rungs = problem.optimizers[0].rungs
    if len(rungs) < 2:
        return
    steps = [sorted({run.steps for runs in rung.values() for run in runs}) for rung in rungs]
    parts = [
        f"{len(rung)} for {all_listed([f'{count:,}' for count in counts])} steps"
        for rung, counts in zip(rungs, steps, strict=True)
    ]
    yield (
        "Successive halving (Jamieson & Talwalkar 2016) trained them in rungs, each from the "
        f"start, and kept the best of each rung: {all_listed(parts)}."
    )


def _settings(optimizers: tuple[OptimizerRuns, ...]) -> str:
    """Return how many settings each optimizer tried."""
    counts = sorted({len(optimizer.tried) for optimizer in optimizers})
    if len(counts) == 1:
        return counted(counts[0], "setting")
    return f"{counts[0]:,} to {counts[-1]:,} settings"


def _without_mean(compared: Iterable[ProblemView]) -> str:
    """Return how pairs with runs that diverged are compared."""
    folds = any(problem.pairing == "fold" for problem in compared)
    return "not tested" if folds else "compared by sign tests"


def _statistics(view: StudyView, audit: AuditReport) -> Iterator[str]:
    """Yield the sentences on tests, corrections and runs that diverged."""
    compared = [problem for problem in view.problems if problem.comparisons]
    if compared:
        pairs = [pair for problem in compared for pair in problem.pairs]
        most = max((pair.pairs for pair in pairs), default=0)
        exact = "exact " * (most <= EXACT_UP_TO)
        titles = dict.fromkeys(p.directions.title(p.metric) for p in compared)
        test = f"{exact}two-sided permutation tests that flip the signs of paired differences"
        if any(pair.unit == "fold" for pair in pairs):
            test = (
                f"two-sided corrected resampled t tests (Nadeau & Bengio 2003) over {most} folds, "
                "which allow for shared training samples"
            )
        yield (
            f"Optimizers were compared on {all_listed(list(titles))} at the end of training by "
            f"{test}."
        )
        yield from _corrections(compared)
    if count := len(audit.claims):
        were = "claims were" if count > 1 else "claim was"
        family = f" and adjusted for {count} claims" if count > 1 else ""
        they = "they are" if count > 1 else "it is"
        start = f"{_word(count).capitalize()} {were} fixed before the runs"
        yield f"{start}; {they} tested separately{family}."
    if any(record.status is Status.DIVERGED for record in view.records):
        yield (
            "A run that diverged counts as worse than every finished run, and its pair is "
            f"{_without_mean(compared)}; means leave it out."
        )
    if limits := {r.spec.loss_limit for r in view.records if r.spec.loss_limit is not None}:
        limit = all_listed([number(limit) for limit in sorted(limits)])
        yield f"A training loss above {limit} counts as divergence."


def _corrections(compared: list[ProblemView]) -> Iterator[str]:
    families = {problem.pairs[0].comparisons for problem in compared if problem.pairs}
    level = {100 * problem.pairs[0].difference.level for problem in compared if problem.pairs}
    if not families:
        return
    percent = f"{max(level):g} %"
    if max(families) == 1:
        yield f"Each {percent} interval holds the differences that the test does not reject."
        return
    counts = all_listed([str(count) for count in sorted(families)])
    within = " of a problem" * (len(compared) > 1)
    yield (
        f"P-values and {percent} intervals are adjusted for the {counts} comparisons{within} "
        "(Bonferroni), so that all intervals hold together."
    )


def _software(view: StudyView) -> Iterator[str | Citation]:
    devices = dict.fromkeys(filter(None, (r.facts.device_name for r in view.records)))
    own, *others = versions_of(view)
    yield f"The study was run with {own}"
    yield Citation((OWN_KEY,))
    yield f"{', '.join(['', *others])}{f' on {all_listed(list(devices))}' if devices else ''}."
