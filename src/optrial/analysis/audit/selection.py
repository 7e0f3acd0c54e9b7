"""B: whether what was chosen was chosen without looking at the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Severity
from optrial.analysis.audit.remedies import new_seeds, tune_apart, validation_remedy
from optrial.analysis.audit.rule import audit_rule
from optrial.records import Record
from optrial.spec import FINAL, Directions, Status

__all__ = ["SELECTION_RULES"]

FEW_SEEDS = 3
PROTOCOL = ("problem", "budget", "evaluate", "batch_size", "precision", "sampling")


@audit_rule("B01", Severity.ERROR, "the test set chose the settings")
def chosen_on_test(context: Context) -> Iterator[Observation]:
    """The best of several settings by test result is the one whose errors on the test set happened
    to be few: its test result is too good, and more so for who tried more settings.

    Source: standard practice; Dahl et al. 2023 (AlgoPerf); Deep Learning Tuning Playbook.
    Example: 18 settings were tried and no validation split was evaluated.
    Fix: `evaluate: {on: [validation, test]}`; optrial then chooses on validation.
    """
    several = [o for o in context.optimizers if len(o.tried) > 1]
    on_test = context.select is None or context.select.startswith("test")
    if several and on_test and context.ended:
        settings = sum(len(o.tried) for o in several)
        how = f"by {context.select}" if context.select else "and no validation split was evaluated"
        yield Observation(
            f"{settings} settings of {names(o.name for o in several)} were compared {how}",
            {"settings": settings, "selects_on": context.select},
            [r for o in several for r in o.trials],
            validation_remedy(context),
        )


@audit_rule("B03", Severity.ADVICE, "optimizers were evaluated unequally often")
def unequal_evaluations(context: Context) -> Iterator[Observation]:
    """A curve with more evaluations shows more peaks and dips, and who looks for the best point of
    it finds a better one by chance. What is compared is the value after the last step.

    Source: Dahl et al. 2023 (AlgoPerf, rules of evaluation).
    Example: adam was evaluated 30 times, sgd 10 times.
    Fix: evaluate all at the same steps.
    """
    for problem in context.problems:
        counts = {c.name: _evaluations(c.records[0]) for c in problem.contenders}
        if len(set(counts.values())) > 1:
            yield Observation(
                names(f"{name} was evaluated {count} times" for name, count in counts.items()),
                {"evaluations": counts},
                problem.compared,
                context.remedy("evaluate all at the same steps", {}, len(problem.compared)),
            )


def _evaluations(record: Record) -> int:
    return -(-record.steps // record.spec.evaluate_every)


@audit_rule("B04", Severity.WARNING, "settings were chosen by another metric than is reported")
def another_metric(context: Context) -> Iterator[Observation]:
    """The setting with the best loss is often not that with the best accuracy: choosing by one and
    reporting the other shows an optimizer below its best.

    Source: Deep Learning Tuning Playbook.
    Example: settings were chosen by validation_loss, the claims are on test_accuracy.
    Fix: `tune: {select: validation_accuracy}`, or claim what was chosen.
    """
    chosen, reported = context.select, context.report_metric
    several = [o for o in context.optimizers if len(o.tried) > 1]
    same_kind = chosen and chosen.partition("_")[2] == reported.partition("_")[2]
    wanted = f"validation_{reported.partition('_')[2]}"
    if several and chosen and not same_kind and reported.startswith(("test", "validation")):
        yield Observation(
            f"settings were chosen by {chosen}, {reported} is reported",
            {"chosen": chosen, "reported": reported},
            [r for o in several for r in o.trials],
            context.remedy(
                f"choose by {wanted}",
                {"tune.select": wanted} if context.study.get("tune") else {},
                sum(len(o.reported) for o in several),
            ),
        )


@audit_rule("B05", Severity.WARNING, "the seeds that chose are those that are reported")
def seeds_reused(context: Context) -> Iterator[Observation]:
    """The chosen setting is the one that these seeds favoured, so that their mean is too good (the
    winner's curse), more so for who tried more settings. An error with fewer than three seeds.

    Source: Bouthillier et al. 2021; Dahl et al. 2023 (AlgoPerf).
    Example: adam chose among 9 settings with the 3 seeds that are also reported.
    Fix: `tune: {seeds: 3}`: tuning then has seeds of its own, and the chosen setting is run anew.
    """
    reused = [
        o for o in context.optimizers if len(o.tried) > 1 and {r.seed for r in o.trials} & o.seeds
    ]
    if reused:
        fewest = min(len(o.seeds) for o in reused)
        yield Observation(
            f"{names(o.name for o in reused)} chose among up to "
            f"{max(len(o.tried) for o in reused)} settings with seeds that are reported too",
            {"settings": {o.name: len(o.tried) for o in reused}, "seeds": fewest},
            [r for o in reused for r in o.reported],
            tune_apart(context, reused, "tune with seeds that the report does not use"),
            Severity.ERROR if fewest < FEW_SEEDS else None,
        )


@audit_rule("B06", Severity.ERROR, "planned seeds are missing")
def seeds_missing(context: Context) -> Iterator[Observation]:
    """A mean over the seeds that happen to be there is a mean over a choice, whoever made it.

    Source: Henderson et al. 2018 (Deep Reinforcement Learning that Matters).
    Example: 2 of 30 planned runs have no result; seed 4 was trained and then left out of the study.
    Fix: run the study to its end, with every seed that was ever planned.
    """
    lost = [r for r in context.records if r.status not in FINAL]
    if lost and context.ended:
        states = {str(s): sum(r.status is s for r in lost) for s in Status if s not in FINAL}
        shown = names(f"{count} {state}" for state, count in states.items() if count)
        yield Observation(
            f"{len(lost)} of {len(context.records)} planned runs have no result ({shown})",
            {"missing": len(lost), "planned": len(context.records)},
            lost,
            context.remedy("run the study again: it trains what is missing", {}, len(lost)),
        )
    left_out = _left_out(context)
    if left_out:
        seeds = sorted({record.seed for record in left_out})
        planned = sorted({*seeds, *(r.seed for r in context.compared)})
        yield Observation(
            f"seeds {names(map(str, seeds))} were trained and then left out of the study",
            {"left_out": seeds},
            left_out,
            context.remedy("put every seed back that was planned", {"seeds": planned}),
        )


def _left_out(context: Context) -> list[Record]:
    """Return ended runs of settings that are still planned, with seeds that no longer are."""
    planned: dict[str, set[int]] = {}
    for record in context.records:
        planned.setdefault(record.spec.without_seed, set()).add(record.seed)
    return [
        r
        for r in context.former
        if r.status is Status.DONE and r.seed not in planned.get(r.spec.without_seed, {r.seed})
    ]


@audit_rule(
    "B07", Severity.ERROR, "the test data leaked into training", facts=("split_overlap",), root=True
)
def leakage(context: Context) -> Iterator[Observation]:
    """A sample whose inputs are in two splits lets training see what it is to be tested on.

    Source: standard practice; Kapoor & Narayanan 2023 (leakage and the reproducibility crisis).
    Example: 12 samples of the test split are in the training split too.
    Fix: drop_duplicates: true of the dataset leaves out what is twice.
    """
    for record in context.ended:
        overlap = {k: n for k, n in (record.facts.split_overlap or {}).items() if n}
        if overlap:
            said = [f"{count} samples are in both of {pair}" for pair, count in overlap.items()]
            yield Observation(
                "; ".join(said),
                {"overlap": overlap},
                context.records,
                context.remedy(
                    "leave out the repeated samples, by drop_duplicates: true of the dataset, "
                    "and train again",
                    {"problem.dataset.drop_duplicates": True},
                    len(context.records),
                ),
            )
            return


@audit_rule("B08", Severity.WARNING, "the protocol was changed after results were there")
def protocol_changed(context: Context) -> Iterator[Observation]:
    """Who changes budget, data or evaluation after seeing results can keep the change that suits.
    Adding settings or seeds is not a change.

    Source: pre-registration; Bouthillier et al. 2021.
    Example: budget was changed after 12 runs had ended; optimizer lion was removed.
    Fix: say so, with the results before the change; or run the final study in a new folder.
    """
    for before, after in zip(context.plans, context.plans[1:], strict=False):
        changed = [key for key in PROTOCOL if _differ(before.study, after.study, key)]
        removed = [n for n in _optimizers(before.study) if n not in _optimizers(after.study)]
        if after.ended and (changed or removed):
            said = [f"{names(changed)} changed"] * bool(changed)
            said += [f"optimizer {names(removed)} removed"] * bool(removed)
            yield Observation(
                f"{' and '.join(said)} after {after.ended} runs had ended",
                {"changed": changed, "removed": removed, "ended": after.ended},
                context.records,
                context.remedy(
                    "run the study as it is now into a new folder", {}, len(context.records)
                ),
            )


def _differ(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> bool:
    """Whether a key was changed; declaring the direction of a metric changes no number."""
    one, other = before.get(key), after.get(key)
    if key == "problem" and one and other:
        directions = Directions.of(before).own
        kept = {label: better for label, better in directions.items() if better}
        if kept.items() <= Directions.of(after).own.items():
            one, other = _undirected(one), _undirected(other)
    return bool(one != other)


def _undirected(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Return a problem without the declared directions of its metrics."""
    metrics = [
        {**entry, "better": None} if isinstance(entry, Mapping) else entry
        for entry in problem.get("metrics") or ()
    ]
    return {**problem, "metrics": metrics}


def _optimizers(study: Mapping[str, Any]) -> list[str]:
    return [str(e.get("name") or e.get("rule") or e) for e in study.get("optimizers") or ()]


@audit_rule("B09", Severity.WARNING, "a claim was made after results were there")
def late_claim(context: Context) -> Iterator[Observation]:
    """A claim found in the data is always supported by it. It has to be made before, or tested with
    new seeds.

    Source: Dahl et al. 2023 (targets are set before); pre-registration.
    Example: "adam > sgd on test_accuracy" was added after 30 runs had ended.
    Fix: test the claim with as many new seeds, in a new folder.
    """
    late = context.late_claims
    if late:
        yield Observation(
            names(
                f'"{text}" was added after {ended} runs had ended' for text, ended in late.items()
            ),
            {"claims": late},
            context.compared,
            new_seeds(context, "test the claim with new seeds, in a new folder"),
        )


SELECTION_RULES = (
    chosen_on_test,
    unequal_evaluations,
    another_metric,
    seeds_reused,
    seeds_missing,
    leakage,
    protocol_changed,
    late_claim,
)
