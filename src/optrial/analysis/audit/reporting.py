"""G: whether a reader learns what was done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Severity
from optrial.analysis.audit.remedies import validation_remedy
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.bands import points_shown
from optrial.analysis.claims import ClaimVerdict
from optrial.analysis.contenders import OptimizerRuns, finished, hyperparameters
from optrial.errors import counted, quoted
from optrial.records import Record
from optrial.spec import FINAL, TRAINING_SECONDS, metric_title

SMALL_PART = 0.01  # of the scale of an accuracy


@audit_rule("G01", Severity.WARNING, "trained settings were removed from the study")
def hidden_trials(context: Context) -> Iterator[Observation]:
    """Settings that were tried and removed are part of the tuning. Readers who see three settings,
    but not the thirty before them, mistake luck for merit. A search over ranges replaces an earlier
    search that lies within them and has no more settings; a list of learning rates does not,
    because the results may have suggested it. B08 covers runs under another protocol.

    Source: Dodge et al. 2019 (Show Your Work); Sivaprasad et al. 2020.
    Example: 27 runs of adam, with 9 settings, were trained and then removed from the study.
    Fix: restore the settings, or report their number beside the result.
    """
    settings_planned = {r.setting_id for r in context.records}
    protocols = {(r.optimizer, r.spec.protocol_id) for r in context.records}
    removed = [
        r
        for r in context.former
        if r.status in FINAL
        and r.setting_id not in settings_planned
        and (r.optimizer, r.spec.protocol_id) in protocols
    ]
    replaced = _replaced(context, removed)
    removed = [r for r in removed if r.run_id not in replaced]
    if removed:
        settings = len({r.setting_id for r in removed})
        yield Observation(
            f"{counted(len(removed), 'run')} of {names(r.optimizer for r in removed)}, with "
            f"{counted(settings, 'setting')}, {'was' if len(removed) == 1 else 'were'} trained and "
            "then removed from the study",
            {"runs": len(removed), "settings": settings},
            removed,
            context.remedy("report their number beside the result"),
        )


def _replaced(context: Context, removed: Sequence[Record]) -> set[str]:
    """Return the ids of removed runs that a search of a range, with as many trials, replaces."""
    replaced: set[str] = set()
    for optimizer in context.optimizers:
        protocols = {r.spec.protocol_id for r in optimizer.trials}
        former = [
            r for r in removed if r.optimizer == optimizer.name and r.spec.protocol_id in protocols
        ]
        enough = len(optimizer.tried) >= len({r.setting_id for r in former})
        if enough and all(_is_searched(context, optimizer, r) for r in former):
            replaced |= {r.run_id for r in former}
    return replaced


def _is_searched(context: Context, optimizer: OptimizerRuns, former: Record) -> bool:
    """Return whether every value of a former run is in a range that is searched, or tried again.

    The learning rate has to be in a range: rates of a list may be chosen by the results.
    """
    known = [hyperparameters(r) for r in optimizer.one_of_each]
    values = hyperparameters(former)
    for name in {"lr", *values, *(name for each in known for name in each)}:
        value, written = values.get(name), context.written(optimizer, name)
        ends = written.get("log") or written.get("lin") if isinstance(written, Mapping) else None
        if ends and isinstance(value, int | float):
            if not min(ends) <= value <= max(ends):
                return False
        elif (name == "lr" and not ends) or value not in [each.get(name) for each in known]:
            return False
    return True


@audit_rule("G02", Severity.WARNING, "the provenance of runs is incomplete", facts=("versions",))
def unknown_provenance(context: Context) -> Iterator[Observation]:
    """Without versions and a checksum of the data, a run cannot be repeated. Uncommitted changes
    are advice only, because the plan holds a hash of user code.

    Source: Pineau et al. 2021 (Improving Reproducibility in Machine Learning Research).
    Example: 6 of 30 runs have no versions or no checksum of the data.
    Fix: train with optrial, which records both; commit before training.
    """
    bare = [r for r in context.ended if not (r.facts.versions and r.spec.dataset_sha256)]
    if bare and any(r.facts.versions for r in context.ended):
        yield Observation(
            f"{len(bare)} of {counted(len(context.ended), 'run')} have no versions or no checksum "
            "of the data",
            {"runs": len(bare)},
            bare,
            context.rerun("train these runs again", bare),
        )
    dirty = [r for r in context.ended if r.facts.git_dirty and r.spec.code]
    if dirty:
        yield Observation(
            f"the code of {counted(len(dirty), 'run')} was not committed",
            {"runs": len(dirty)},
            dirty,
            context.remedy("commit before training"),
            Severity.ADVICE,
        )


@audit_rule("G03", Severity.ADVICE, "curves are smoothed")
def smoothed_curves(context: Context) -> Iterator[Observation]:
    """Curves with more evaluations than fit into the figure are drawn as means over windows. This
    hides peaks and makes every optimizer look steady. Captions must say so, as those of the report
    do.

    Source: standard practice.
    Example: test accuracy was evaluated 900 times and is drawn as means of 5 evaluations.
    Fix: evaluate less often, or export single values with `optrial curves`.
    """
    metric = context.report_metric
    points = points_shown(len(context.records), len(context.metrics))
    counts = {r.run_id: r.step // r.spec.evaluate_every for r in context.compared}
    most = max(counts.values(), default=0)
    if metric and most > points:
        longest = max(context.compared, key=lambda r: counts[r.run_id])
        window = -(-most // points)
        yield Observation(
            f"{metric_title(metric)} was evaluated {most} times and is drawn as means of {window} "
            "evaluations",
            {"evaluations": most, "window": window},
            [r for r in context.compared if counts[r.run_id] > points],
            context.remedy(
                "evaluate less often, or say in the caption that curves are smoothed",
                {"evaluate.every.steps": -(-longest.steps // points)},
                len(context.records),
            ),
        )


@audit_rule("G04", Severity.ERROR, "a claim cannot be tested")
def untestable_claim(context: Context) -> Iterator[Observation]:
    """A claim that cannot be tested is an opinion. It names an optimizer or metric that the study
    does not have, or optimizers without a common seed.

    Source: modded-nanogpt, submission rules (run logs that reach a level of significance).
    Example: "adam > sgd on test_f1": no run recorded test_f1, only test_accuracy, test_loss.
    Fix: correct the claim.
    """
    claims = [str(text) for text in context.study.get("claims") or ()]
    reasons = {claims[int(p.path[7:-1])]: p.message.rstrip(".") for p in context.claim_problems}
    for result in context.results:
        claim = result.claim
        if claim.metric not in {*context.metrics, TRAINING_SECONDS}:
            recorded = names(sorted(context.metrics))
            reasons[claim.text] = (
                f"{quoted(claim.text)}: no run recorded {claim.metric}, only {recorded}"
            )
        elif not result.pairs:
            reasons[claim.text] = result.sentence
    unchosen = {optimizer.name for optimizer in context.optimizers if not optimizer.chosen}
    optimizers = {claim.text: claim.optimizers for claim in context.claims}
    for text, reason in reasons.items() if context.ended else ():
        kept = {"claims": [claim for claim in claims if claim != text]}
        yield Observation(
            reason,
            {"claim": text, "verdict": str(ClaimVerdict.UNDECIDED)},
            (),
            validation_remedy(context)
            if unchosen & {*optimizers.get(text, ())}
            else context.remedy("correct or remove the claim", kept),
        )


@audit_rule("G05", Severity.ADVICE, "an axis shows only a small part of its scale")
def truncated_axis(context: Context) -> Iterator[Observation]:
    """If all values lie within one point, an axis fitted to them fills the figure with a hundredth
    of the scale. Nearly equal results then look far apart.

    Source: standard practice (Tufte 1983, The Visual Display of Quantitative Information).
    Example: the mean test accuracy of 3 optimizers lies within 0.4 points.
    Fix: state the range of the axis, or draw differences with their intervals.
    """
    metric = context.report_metric
    for problem in context.problems if context.directions.percent(metric) else ():
        finals = [finished(c.records, metric) for c in problem.contenders]
        means = [fmean(values) for values in finals if values]
        if len(means) > 1 and max(means) - min(means) < SMALL_PART:
            spread = 100 * (max(means) - min(means))
            kind = "optimizers" if problem.chooses else "settings"
            extent = f"lies within {spread:.2g} points" if spread else "is the same"
            yield Observation(
                f"the mean {metric_title(metric)} of {len(means)} {kind} {extent}",
                {"lowest": min(means), "highest": max(means)},
                problem.compared,
                context.remedy("draw differences with their intervals, as optrial figures does"),
            )


@audit_rule("G06", Severity.WARNING, "curves over epochs compare different batch sizes")
def epochs_of_batch_sizes(context: Context) -> Iterator[Observation]:
    """An epoch with batches of 32 has four times as many updates as one with batches of 128. Over
    epochs the small batch looks fast, over steps the large one does.

    Source: Semenov et al. 2025; Shallue et al. 2019.
    Example: adam is reported with batch size 32, sgd is reported with batch size 128.
    Fix: draw curves over steps and over samples, and label them.
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
