"""B: whether settings and claims were chosen without looking at the reported results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from optrial.analysis.audit.context import PROTOCOL, Context, names, optimizer_name
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.remedies import (
    chooses_alike,
    new_seeds,
    tune_apart,
    validation_remedy,
)
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.contenders import best_setting
from optrial.errors import counted, quoted
from optrial.records import Record
from optrial.spec import FINAL, Directions, MetricName, Selection, Status

FEW_SEEDS = 3

FEW_WINDOWS = 0.01
"""Share of the windows of a text that may be in another split, because phrases repeat."""


@audit_rule("B01", Severity.ERROR, "settings were chosen on the test set")
def chosen_on_test(context: Context) -> Iterator[Observation]:
    """The setting with the best test result is the one that happened to make few errors on the test
    set. Its test result is too good, and more so the more settings were tried.

    Source: standard practice; Dahl et al. 2023 (AlgoPerf); Deep Learning Tuning Playbook.
    Example: 18 settings of adam, sgd were compared and no validation split was evaluated.
    Fix: `evaluate: {on: [validation, test]}`; optrial then chooses on validation.
    """
    several = [o for o in context.optimizers if len(o.tried) > 1]
    selects_on = context.select
    on_test = selects_on is None or MetricName.parse(selects_on).split == "test"
    if several and on_test and context.ended:
        settings = sum(len(o.tried) for o in several)
        how = f"by {selects_on}" if selects_on else "and no validation split was evaluated"
        yield Observation(
            f"{settings} settings of {names(o.name for o in several)} were compared {how}",
            {"settings": settings, "selects_on": selects_on},
            [r for o in several for r in o.trials],
            validation_remedy(context),
        )


@audit_rule("B03", Severity.ADVICE, "evaluation frequencies differ between optimizers")
def unequal_evaluations(context: Context) -> Iterator[Observation]:
    """A curve with more evaluations shows more peaks and dips, so its best point is better by
    chance. Compare the values after the last step instead.

    Source: Dahl et al. 2023 (AlgoPerf, rules of evaluation).
    Example: adam was evaluated 30 times, sgd was evaluated 10 times.
    Fix: evaluate all optimizers at the same steps.
    """
    for problem in context.problems:
        counts = {c.name: _evaluations(c.records[0]) for c in problem.contenders}
        if len(set(counts.values())) > 1:
            yield Observation(
                names(f"{n} was evaluated {counted(count, 'time')}" for n, count in counts.items()),
                {"evaluations": counts},
                problem.compared,
                context.rerun("evaluate all optimizers at the same steps", problem.compared),
            )


def _evaluations(record: Record) -> int:
    return -(-record.steps // record.spec.evaluate_every)


@audit_rule("B04", Severity.WARNING, "settings were chosen by a metric other than the reported one")
def another_metric(context: Context) -> Iterator[Observation]:
    """The setting with the best loss is often not the one with the best accuracy. Choosing by one
    and reporting the other shows an optimizer below its best. Metrics that increase with each
    other, such as cross entropy and bits per byte, choose the same.

    Source: Deep Learning Tuning Playbook.
    Example: settings were chosen by validation loss, but test accuracy is reported.
    Fix: `tune: {select: validation_accuracy}`, or claim on the metric that chose.
    """
    chosen, reported = context.select, context.report_metric
    several = [o for o in context.optimizers if len(o.tried) > 1]
    name = MetricName.parse(reported)
    if not several or chosen is None or name.split not in ("test", "validation"):
        return
    title = context.directions.title
    wanted = str(MetricName(name.label, "validation"))
    action = f"choose by {title(wanted)}"
    if not chooses_alike(context, chosen, reported):
        yield Observation(
            f"settings were chosen by {title(chosen)}, but {title(reported)} is reported",
            {"chosen": chosen, "reported": reported},
            [r for o in several for r in o.trials],
            context.remedy(action, {"tune.select": wanted}, _runs_of_choice(context, wanted))
            if context.study.get("tune")
            else tune_apart(context, action),
        )


def _runs_of_choice(context: Context, metric: str) -> int:
    """Return how many runs report the settings that a metric chooses, where others are chosen now.

    All are counted where the metric has no direction.
    """
    better = context.directions.better(metric)
    others = [
        o
        for o in context.optimizers
        if not (better and o.chosen)
        or o.chosen.setting_id != best_setting(o.finalists, Selection(metric, better))
    ]
    return sum(len(o.reported) for o in others if len(o.tried) > 1)


@audit_rule("B05", Severity.WARNING, "the reported seeds were also used for tuning")
def seeds_reused(context: Context) -> Iterator[Observation]:
    """The chosen setting is the one that these seeds favoured, so its mean over them is too good
    (the winner's curse), and more so the more settings were tried. An error with fewer than three
    seeds.

    Source: Bouthillier et al. 2021; Dahl et al. 2023 (AlgoPerf).
    Example: the best of 9 settings of adam was chosen on seeds that are also reported.
    Fix: `tune: {seeds: 3}` tunes on separate seeds and then runs the chosen setting on new ones.
    """
    reused = [
        o for o in context.optimizers if len(o.tried) > 1 and {r.seed for r in o.trials} & o.seeds
    ]
    if reused:
        fewest = min(len(o.seeds) for o in reused)
        most = max(len(o.tried) for o in reused)
        count = f"up to {most}" if len(reused) > 1 else str(most)
        yield Observation(
            f"the best of {count} settings of {names(o.name for o in reused)} was chosen on seeds "
            "that are also reported",
            {"settings": {o.name: len(o.tried) for o in reused}, "seeds": fewest},
            [r for o in reused for r in o.reported],
            tune_apart(context, "tune on seeds that are not reported"),
            Severity.ERROR if fewest < FEW_SEEDS else None,
        )


@audit_rule("B06", Severity.ERROR, "planned runs or seeds are missing")
def seeds_missing(context: Context) -> Iterator[Observation]:
    """A mean over the seeds that happen to be there is a mean over a selection, intended or not.

    Source: Henderson et al. 2018 (Deep Reinforcement Learning that Matters).
    Example: 2 of 30 planned runs have no result; runs with seed 4 were trained and then removed
    from the study.
    Fix: run the study to its end, with every seed that was ever planned.
    """
    lost = [r for r in context.records if r.status not in FINAL]
    if lost and context.ended:
        states = {str(s): sum(r.status is s for r in lost) for s in Status if s not in FINAL}
        shown = names(f"{count} {state}" for state, count in states.items() if count)
        yield Observation(
            f"{len(lost)} of {counted(len(context.records), 'planned run')} have no result "
            f"({shown})",
            {"missing": len(lost), "planned": len(context.records)},
            lost,
            context.remedy("run the study again; it trains only the missing runs", {}, len(lost)),
        )
    removed = context.removed_seeds(Status.DONE)
    if removed:
        seeds = sorted({record.seed for record in removed})
        planned = sorted({*seeds, *(r.seed for r in context.compared)})
        yield Observation(
            f"runs with seed {names(map(str, seeds))} were trained and then removed from the study",
            {"left_out": seeds},
            removed,
            context.remedy("restore every planned seed", {"seeds": planned}),
        )


@audit_rule(
    "B07", Severity.ERROR, "test data leaked into training", facts=("split_overlap",), root=True
)
def leakage(context: Context) -> Iterator[Observation]:
    """If a sample is in two splits, training sees data that it is tested on. Short windows of a
    text repeat because phrases do: below 1 % of a split they are advice.

    Source: standard practice; Kapoor & Narayanan 2023 (leakage and the reproducibility crisis).
    Example: train and test share 12 samples.
    Fix: `drop_duplicates: true` in the dataset removes repeated samples.
    """
    for record in context.ended:
        overlap = {k: n for k, n in (record.facts.split_overlap or {}).items() if n}
        if overlap:
            yield Observation(
                names(
                    f"{pair.replace('/', ' and ')} share {counted(count, 'sample')}"
                    for pair, count in overlap.items()
                ),
                {"overlap": overlap},
                context.records,
                _remove_overlap(context, record),
                Severity.ADVICE if _are_phrases(record, overlap) else None,
            )
            return


def _are_phrases(record: Record, overlap: Mapping[str, int]) -> bool:
    """Return whether what splits share are few windows of a text."""
    sizes = record.facts.split_sizes or {}
    shares = [count / sizes.get(pair.split()[-1], 1) for pair, count in overlap.items()]
    return _is_text(record) and max(shares) < FEW_WINDOWS


def _is_text(record: Record) -> bool:
    return "context" in record.spec.dataset_arguments


def _remove_overlap(context: Context, record: Record) -> Remedy:
    if _is_text(record):
        return context.remedy("use a longer context, so that no window repeats, and train again")
    return context.remedy(
        "remove repeated samples with drop_duplicates: true in the dataset, and train again",
        {"problem.dataset.drop_duplicates": True},
        len(context.records),
    )


@audit_rule("B08", Severity.WARNING, "the protocol changed after results were known")
def protocol_changed(context: Context) -> Iterator[Observation]:
    """Changing budget, data or evaluation after seeing results makes it possible to keep the change
    that suits. Adding settings or seeds is not a change.

    Source: pre-registration; Bouthillier et al. 2021.
    Example: budget changed and optimizer lion removed after 12 runs had ended.
    Fix: disclose it together with the earlier results, or run the final study in a new folder.
    """
    for before, after in pairwise(context.plans):
        changed = [key for key in PROTOCOL if _differ(before.study, after.study, key)]
        removed = [n for n in _optimizers(before.study) if n not in _optimizers(after.study)]
        if after.ended and (changed or removed):
            changes = [f"{names(changed)} changed"] * bool(changed)
            changes += [f"optimizer {names(removed)} removed"] * bool(removed)
            yield Observation(
                f"{' and '.join(changes)} after {counted(after.ended, 'run')} had ended",
                {"changed": changed, "removed": removed, "ended": after.ended},
                context.records,
                context.remedy("run the current study in a new folder", {}, len(context.records)),
            )


def _differ(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> bool:
    """Return True if a key changed, other than by declaring the direction of a metric.

    The settings of optimizers on one of several problems are not part of its protocol.
    """
    first, second = before.get(key), after.get(key)
    if key == "problem" and first and second:
        first, second = _without_optimizers(first), _without_optimizers(second)
        directions = Directions.of(before).user_metrics
        declared = {label: better for label, better in directions.items() if better}
        if declared.items() <= Directions.of(after).user_metrics.items():
            first, second = _undirected(first), _undirected(second)
    return bool(first != second)


def _without_optimizers(problems: Mapping[str, Any]) -> dict[str, Any]:
    """Return the problems of a study without their own settings of optimizers."""
    return {
        name: {key: value for key, value in entry.items() if key != "optimizers"}
        if isinstance(entry, Mapping)
        else entry
        for name, entry in problems.items()
    }


def _undirected(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Return a problem without the declared directions of its metrics."""
    metrics = [
        {**entry, "better": None} if isinstance(entry, Mapping) else entry
        for entry in problem.get("metrics") or ()
    ]
    return {**problem, "metrics": metrics}


def _optimizers(study: Mapping[str, Any]) -> list[str]:
    return [optimizer_name(entry) for entry in study.get("optimizers") or ()]


@audit_rule("B09", Severity.WARNING, "a claim was added after results were known")
def late_claim(context: Context) -> Iterator[Observation]:
    """The data in which a claim was found always support it. State claims before the first run, or
    test them on new seeds.

    Source: Dahl et al. 2023 (targets are set in advance); pre-registration.
    Example: "adam > sgd on test_accuracy" was added after 30 runs had ended.
    Fix: test the claim on as many new seeds, in a new folder.
    """
    late = context.late_claims
    if late:
        yield Observation(
            names(
                f"{quoted(text)} was added after {counted(ended, 'run')} had ended"
                for text, ended in late.items()
            ),
            {"claims": late},
            context.compared,
            new_seeds(context, "test the claim on new seeds, in a new folder"),
        )
