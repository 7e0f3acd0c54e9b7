"""E, second third: whether each optimizer takes the steps that its name promises."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.families import label_words, rule_words
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.contenders import hyperparameters
from optrial.records import Record
from optrial.spec import Status

__all__ = ["UPDATE_RULES"]

PILING = 0.98  # correlation of gradient norm and step above which gradients pile up


@audit_rule("E04", Severity.ERROR, "an optimizer is not what its name says")
def mislabelled(context: Context) -> Iterator[Observation]:
    """A table is read by its labels: RMSProp labelled Nesterov, or an Adam whose steps differ from
    the published ones, makes every conclusion about the wrong rule. Names of rules in a label are
    compared with the rule. After a training of two minutes, or a compiled one, each rule takes 20
    steps beside the class of torch.optim that computes the same, and the difference is recorded.

    Source: Keras #17391; PyTorch #23796; optax #532.
    Example: "RMSProp (Nesterov)" has the rule rmsprop, which has no Nesterov step.
    Fix: give the entry the rule that it is named after, or another name.
    """
    for optimizer in context.optimizers:
        promised, kept = label_words(optimizer.name), rule_words(optimizer)
        hidden = "nesterov" in optimizer.rule.lower() and not promised & {
            "nesterov",
            "nag",
            "nadam",
        }
        if promised and kept and (promised - kept or hidden):
            wrong = sorted(promised - kept) or ["nesterov"]
            does = "does not say that the rule is" if hidden else "promises"
            yield Observation(
                f"'{optimizer.name}' {does} {names(wrong)}; its rule is {optimizer.rule} "
                f"({_settings(optimizer.reported[0])})",
                {"label": optimizer.name, "rule": optimizer.rule, "promised": wrong},
                optimizer.trials,
                _rename(context, optimizer.name, optimizer.rule),
            )
    failing = [(r, p) for r in context.ended if (p := r.facts.parity) and p.fails]
    if failing:
        bad = [record for record, _ in failing]
        yield Observation(
            f"steps of {names(r.rule for r in bad)} differ from those of "
            f"{names(str(parity.against) for _, parity in failing)} by up to "
            f"{max(parity.difference or math.inf for _, parity in failing):.2g}",
            {"differences": {record.rule: parity.difference for record, parity in failing}},
            bad,
            context.rerun("correct the rule and train again", bad),
        )


def _settings(record: Record) -> str:
    shown = {k: v for k, v in record.hyperparameters.items() if k in ("momentum", "nesterov")}
    return names(f"{name} {value}" for name, value in shown.items()) or "without momentum"


def _rename(context: Context, optimizer: str, rule: str) -> Remedy:
    path, _ = context.entry(optimizer)
    plain = rule.rpartition(":")[2]
    taken = {record.optimizer for record in context.records}
    name = plain if plain not in taken else f"{plain} as written"
    runs = [record for record in context.records if record.optimizer == optimizer]
    return context.remedy(
        "name the entry after its rule, or give it the rule that its name promises",
        {f"{path}.name": name} if path else {},
        len(runs),
        runs,
    )


@audit_rule("E09", Severity.WARNING, "gradients are clipped for some optimizers only")
def unequal_clipping(context: Context) -> Iterator[Observation]:
    """Clipping makes a step independent of the gradient's size where it acts: it is part of the
    optimizer. It has to be the same for all, or tuned for each.

    Source: Zhang et al. 2020; AlgoPerf.
    Example: adam is clipped to norm 1, sgd is not clipped.
    Fix: the same `clip` for all, or a list as a grid axis.
    """
    for problem in context.problems:
        clips = {
            o.name: sorted({f"{r.spec.clip_norm} {r.spec.clip_value}" for r in o.trials})
            for o in problem.optimizers
        }
        if len({tuple(found) for found in clips.values()}) > 1:
            clipped = [o for o in problem.optimizers if clips[o.name] != ["None None"]]
            common = context.entry(clipped[0].name)[1].get("clip")
            others = [o for o in problem.optimizers if clips[o.name] == ["None None"]]
            paths = [context.entry(o.name)[0] for o in others]
            given = {k: v for k, v in (common or {}).items() if v is not None}
            yield Observation(
                f"gradients of {names(o.name for o in clipped)} are clipped ({given or clips})"
                + (f", those of {names(o.name for o in others)} are not" if others else ""),
                {"clip": clips},
                problem.compared,
                context.remedy(
                    "clip the gradients of all alike",
                    {f"{path}.clip": given for path in paths if path and given},
                    sum(len(o.trials) for o in others),
                ),
            )


def _decays(context: Context) -> bool:
    return any(hyperparameters(record).get("weight_decay") for record in context.records)


@audit_rule(
    "E10",
    Severity.WARNING,
    "weight decay acts on different parameters",
    facts=("decayed_share",),
    concerns=_decays,
)
def decayed_parameters_differ(context: Context) -> Iterator[Observation]:
    """Leaving biases and the scales of normalisation out of the decay is common practice, and
    another regulariser than decaying all. It has to be the same for all optimizers.

    Source: PyTorch documentation of parameter groups; Loshchilov & Hutter 2019.
    Example: sgd decays all parameters, my_adamw 98 % of them.
    Fix: the same groups for all; rules of optrial decay every parameter.
    """
    for problem in context.problems:
        shares = {c.name: c.records[0].facts.decayed_share for c in problem.contenders}
        decayed = {name: share for name, share in shares.items() if share}
        if len(set(decayed.values())) > 1:
            said = names(
                f"{n} decays {share:.3%} of its parameters" for n, share in decayed.items()
            )
            yield Observation(
                said,
                {"decayed_share": decayed},
                problem.compared,
                context.rerun("decay the same parameters in all and train again", problem.compared),
            )


@audit_rule("E18", Severity.ERROR, "an optimizer did not train", root=True)
def did_not_train(context: Context) -> Iterator[Observation]:
    """Parameters that never move, a learning rate of zero, or gradients that pile up from step to
    step because nobody set them to zero: such runs measure a mistake.

    Source: PyTorch documentation of `Optimizer.zero_grad`; standard practice.
    Example: the parameters of 3 runs of sgd are those they started with.
    Fix: find the missing step; `zero_grad: true`.
    """
    still = context.where(
        lambda r: (
            r.status is Status.DONE
            and r.step > 0
            and r.facts.parameters_sha256 is not None
            and r.facts.parameters_sha256 == r.facts.initial_parameters_sha256
        ),
    )
    if still:
        yield Observation(
            f"the parameters of {len(still)} runs of {names(r.optimizer for r in still)} are those "
            "they started with",
            {"runs": len(still)},
            still,
            context.rerun("find out why no step was taken, and train again", still),
        )
    norms = context.curves("gradient_norm")
    piled = context.where(
        lambda r: (
            not r.spec.zero_grad
            or (
                r.run_id in norms and _grows_linearly(norms[r.run_id].steps, norms[r.run_id].values)
            )
        ),
    )
    if piled:
        yield Observation(
            f"gradients of {len(piled)} runs pile up from step to step",
            {"runs": len(piled)},
            piled,
            context.remedy(
                "begin each step with a gradient of zero", {"zero_grad": True}, len(piled)
            ),
        )


def _grows_linearly(steps: np.ndarray, values: np.ndarray) -> bool:
    """Whether a gradient norm rises in proportion to the step, tenfold or more."""
    if len(steps) < 10 or not np.isfinite(values).all() or values.std() == 0:
        return False
    grown = values[-1] > 10 * abs(values[0])
    return bool(grown and np.corrcoef(steps, values)[0, 1] > PILING)


UPDATE_RULES = (mislabelled, unequal_clipping, decayed_parameters_differ, did_not_train)
