"""G: whether a reader learns what was done."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Severity
from optrial.analysis.audit.remedies import validation_remedy
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.bands import points_shown
from optrial.analysis.claims import ClaimVerdict
from optrial.analysis.contenders import finished
from optrial.spec import FINAL, TRAINING_SECONDS

__all__ = ["REPORTING_RULES"]

SMALL_PART = 0.01  # of the scale of an accuracy


@audit_rule("G01", Severity.WARNING, "settings were tried that the study no longer names")
def hidden_trials(context: Context) -> Iterator[Observation]:
    """What was tried and left out is part of the tuning: who reads three settings and not the
    thirty before them takes luck for merit.

    Source: Dodge et al. 2019 (Show Your Work); Sivaprasad et al. 2020.
    Example: 27 runs of 9 settings of adam were trained that the study no longer names.
    Fix: put the settings back, or name their number beside the result.
    """
    planned = {(r.optimizer, r.setting) for r in context.records}
    optimizers = {r.optimizer for r in context.records}
    hidden = [
        r
        for r in context.former
        if r.status in FINAL
        and r.optimizer in optimizers
        and (r.optimizer, r.setting) not in planned
    ]
    if hidden:
        settings = {(r.optimizer, r.setting) for r in hidden}
        yield Observation(
            f"{len(hidden)} runs of {len(settings)} settings of "
            f"{names(r.optimizer for r in hidden)} were trained that the study no longer names",
            {"runs": len(hidden), "settings": len(settings)},
            hidden,
            context.remedy("name their number beside the result"),
        )


@audit_rule("G02", Severity.WARNING, "it is not known what was run", facts=("versions",))
def unknown_provenance(context: Context) -> Iterator[Observation]:
    """Without versions and a checksum of the data nobody can repeat a run. Changes that are in no
    commit are advice only: a run's own code is hashed with its plan.

    Source: Pineau et al. 2021 (Improving Reproducibility in Machine Learning Research).
    Example: 6 runs have no checksum of their data.
    Fix: train with optrial, which records all of it; commit before training.
    """
    bare = [r for r in context.ended if not (r.facts.versions and r.spec.dataset_sha256)]
    if bare and any(r.facts.versions for r in context.ended):
        yield Observation(
            f"{len(bare)} of {len(context.ended)} runs have no versions or no checksum of the data",
            {"runs": len(bare)},
            bare,
            context.remedy("train these runs again", {}, len(bare), bare),
        )
    dirty = [r for r in context.ended if r.facts.git_dirty and r.spec.code]
    if dirty:
        yield Observation(
            f"{len(dirty)} runs were trained with code of your own that is in no commit",
            {"runs": len(dirty)},
            dirty,
            context.remedy("commit before training"),
            Severity.ADVICE,
        )


@audit_rule("G03", Severity.ADVICE, "curves are smoothed")
def smoothed_curves(context: Context) -> Iterator[Observation]:
    """Curves with more evaluations than fit are drawn as means of windows, which hides peaks and
    makes every optimizer look steady. A caption has to say so, as the report's own do.

    Source: standard practice.
    Example: test_accuracy was evaluated 900 times and is drawn as means of 5 evaluations.
    Fix: evaluate less often, or export single values with `optrial curves`.
    """
    metric = context.report_metric
    points = points_shown(len(context.records), len(context.metrics))
    counts = {r.run_id: r.step // r.spec.evaluate_every for r in context.compared}
    most = max(counts.values(), default=0)
    if metric and most > points:
        longest = max(context.compared, key=lambda r: counts[r.run_id])
        seldom = -(-longest.steps // points)
        yield Observation(
            f"{metric} was evaluated {most} times and is drawn as means of {-(-most // points)} "
            "evaluations",
            {"evaluations": most, "window": -(-most // points)},
            [r for r in context.compared if counts[r.run_id] > points],
            context.remedy(
                "evaluate less often, or say in the caption that curves are smoothed",
                {"evaluate.every.steps": seldom},
                len(context.records),
            ),
        )


@audit_rule("G04", Severity.ERROR, "a claim that cannot be tested")
def untestable_claim(context: Context) -> Iterator[Observation]:
    """A claim without a test is an opinion: it names an optimizer or a metric that the study does
    not have, or optimizers without a common seed.

    Source: modded-nanogpt, submission rules (run logs that reach a level of significance).
    Example: "adam > sgd on test_f1": no run recorded test_f1.
    Fix: correct the claim.
    """
    claims = [str(text) for text in context.study.get("claims") or ()]
    reasons = {claims[int(p.path[7:-1])]: p.message.rstrip(".") for p in context.claim_problems}
    for result in context.results:
        claim = result.claim
        if claim.metric not in {*context.metrics, TRAINING_SECONDS}:
            known = names(sorted(context.metrics))
            reasons[claim.text] = f'"{claim.text}": no run recorded {claim.metric}, but {known}'
        elif not result.pairs:
            reasons[claim.text] = f"{result.sentence}"
    unchosen = {optimizer.name for optimizer in context.optimizers if not optimizer.chosen}
    named = {claim.text: claim.optimizers for claim in context.claims}
    for text, reason in reasons.items() if context.ended else ():
        correction = {"claims": [c for c in claims if c != text]}
        yield Observation(
            reason,
            {"claim": text, "verdict": str(ClaimVerdict.UNDECIDED)},
            (),
            validation_remedy(context)
            if unchosen & {*named.get(text, ())}
            else context.remedy("correct the claim", correction),
        )


@audit_rule("G05", Severity.ADVICE, "an axis shows a small part of its scale")
def truncated_axis(context: Context) -> Iterator[Observation]:
    """An axis that is fitted to values which lie within a point of each other fills the figure with
    a hundredth of the scale: what is nearly equal looks far apart.

    Source: standard practice (Tufte 1983, The Visual Display of Quantitative Information).
    Example: test_accuracy of 3 optimizers lies within 0.4 points.
    Fix: say what the axis shows, or draw differences with their intervals.
    """
    metric = context.report_metric
    for problem in context.problems if context.directions.percent(metric) else ():
        found = [finished(c.records, metric) for c in problem.contenders]
        means = [fmean(values) for values in found if values]
        if len(means) > 1 and max(means) - min(means) < SMALL_PART:
            spread = 100 * (max(means) - min(means))
            yield Observation(
                f"{metric} of {len(means)} optimizers lies within {spread:.2g} points",
                {"lowest": min(means), "highest": max(means)},
                problem.compared,
                context.remedy("draw differences with their intervals: optrial figures has them"),
            )


@audit_rule("G06", Severity.WARNING, "curves over epochs compare different batch sizes")
def epochs_of_batch_sizes(context: Context) -> Iterator[Observation]:
    """An epoch with batches of 32 has four times as many updates as one with batches of 128: over
    epochs the small batch looks fast, over steps the large one.

    Source: Semenov et al. 2025; Shallue et al. 2019.
    Example: adam is reported with batch size 32 and sgd with 128.
    Fix: draw curves over steps and over samples, and say which.
    """
    for problem in context.problems:
        sizes = {c.name: c.spec.batch_size for c in problem.contenders}
        if len(set(sizes.values())) > 1:
            yield Observation(
                names(f"{name} is reported with batch size {s}" for name, s in sizes.items()),
                {"batch_sizes": sizes},
                problem.compared,
                context.remedy("draw curves over steps as well as over epochs"),
            )


REPORTING_RULES = (
    hidden_trials,
    unknown_provenance,
    smoothed_curves,
    untestable_claim,
    truncated_axis,
    epochs_of_batch_sizes,
)
