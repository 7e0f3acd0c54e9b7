"""G: whether a reader learns what was done."""

from __future__ import annotations

from collections.abc import Iterator

from optrial.analysis.audit.context import ENDED, Context, fact, names
from optrial.analysis.audit.finding import Observation, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.claims import ClaimVerdict

__all__ = ["REPORTING_RULES"]


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
        if r.status in ENDED
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

    Source: modded-nanogpt, rules of the track; Bouthillier et al. 2021.
    Example: 6 runs have no checksum of their data.
    Fix: train with optrial, which records all of it; commit before training.
    """
    bare = [r for r in context.ended if not (fact(r, "versions") and r.spec.get("dataset_sha256"))]
    if bare and any(fact(r, "versions") for r in context.ended):
        yield Observation(
            f"{len(bare)} of {len(context.ended)} runs have no versions or no checksum of the data",
            {"runs": len(bare)},
            bare,
            context.remedy("train these runs again", {}, len(bare), bare),
        )
    dirty = [r for r in context.ended if fact(r, "git_dirty") and r.spec.get("code")]
    if dirty:
        yield Observation(
            f"{len(dirty)} runs were trained with code of your own that is in no commit",
            {"runs": len(dirty)},
            dirty,
            context.remedy("commit before training"),
            Severity.ADVICE,
        )


@audit_rule("G04", Severity.ERROR, "a claim that cannot be tested")
def untestable_claim(context: Context) -> Iterator[Observation]:
    """A claim without a test is an opinion: it names an optimizer or a metric that the study does
    not have, or optimizers without a common seed.

    Source: modded-nanogpt, rules of the track (a claim links its statistics).
    Example: "adam > sgd on test_f1": no run recorded test_f1.
    Fix: correct the claim.
    """
    claims = [str(text) for text in context.study.get("claims") or ()]
    reasons = {claims[int(p.path[7:-1])]: p.message.rstrip(".") for p in context.claim_problems}
    for result in context.results:
        claim = result.claim
        if claim.metric not in context.recorded:
            known = names(sorted(context.recorded))
            reasons[claim.text] = f'"{claim.text}": no run recorded {claim.metric}, but {known}'
        elif not any(pair.pairs for pair in result.comparisons):
            reasons[claim.text] = f"{result.sentence}"
    if not context.ended:
        return
    for text, reason in reasons.items():
        yield Observation(
            reason,
            {"claim": text, "verdict": str(ClaimVerdict.UNDECIDED)},
            (),
            context.remedy("correct the claim", {"claims": [c for c in claims if c != text]}),
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
        sizes = {c.optimizer: c.spec("batch_size") for c in problem.contenders}
        if len(set(sizes.values())) > 1:
            yield Observation(
                names(f"{name} is reported with batch size {s}" for name, s in sizes.items()),
                {"batch_sizes": sizes},
                problem.reported,
                context.remedy("draw curves over steps as well as over epochs"),
            )


REPORTING_RULES = (hidden_trials, unknown_provenance, untestable_claim, epochs_of_batch_sizes)
