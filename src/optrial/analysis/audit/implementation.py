"""E, first half: whether the software did what its users believe it did."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from optrial.analysis.audit.context import Context, beyond_tolerance, fact, names
from optrial.analysis.audit.families import label_words, rule_words
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.records import Record, Status

__all__ = ["IMPLEMENTATION_RULES"]

PILING = 0.98  # correlation of gradient norm and step above which gradients pile up


def _changed(record: Record, path: str) -> bool:
    """Whether a [before, after] pair of hashes differs."""
    pair = fact(record, path)
    return bool(pair) and pair[0] != pair[1]


@audit_rule(
    "E01",
    Severity.ERROR,
    "the model was evaluated in training mode",
    facts=("evaluation.training_modules",),
)
def evaluated_in_training_mode(context: Context) -> Iterator[Observation]:
    """With dropout on, or batch statistics of the test batch, the result is that of another model:
    too low, random, and dependent on the evaluation's batch size. The reverse, training in
    evaluation mode, switches the regulariser off.

    Source: Lightning #18813 and #20216; AlgoPerf #783 and #798.
    Example: dropout1 was in training mode during the evaluation of 6 runs.
    Fix: `model.eval()` before evaluation and `model.train()` after it.
    """
    bad = context.where(
        lambda r: (
            fact(r, "evaluation.training_modules")
            or fact(r, "training.evaluation_modules")
            or fact(r, "evaluation.repeat_difference")
        ),
    )
    if bad:
        found = [fact(r, "evaluation.training_modules") or () for r in bad]
        modules = sorted({module for each in found for module in each})
        asleep = sorted({m for r in bad for m in fact(r, "training.evaluation_modules") or ()})
        said = [f"{names(modules)} in training mode during the evaluation"] * bool(modules)
        said += [f"{names(asleep)} in evaluation mode during the training"] * bool(asleep)
        yield Observation(
            f"{' and '.join(said) or 'two evaluations of the same weights differ'} of {len(bad)} "
            "runs",
            {"training_modules": modules, "evaluation_modules": asleep, "runs": len(bad)},
            bad,
            context.rerun("switch modes around every evaluation and train again", bad),
        )


@audit_rule(
    "E02",
    Severity.ERROR,
    "evaluation changed the model",
    facts=("evaluation.buffers_sha256",),
)
def evaluation_changes_buffers(context: Context) -> Iterator[Observation]:
    """Running averages of batch normalisation that are updated by an evaluation have seen the test
    data, and training goes on from another model for every choice of when to evaluate.

    Source: AlgoPerf #783 and #798; Lightning #18813.
    Example: buffers of 4 runs differ before and after an evaluation.
    Fix: evaluate in evaluation mode, under `torch.no_grad()`.
    """
    bad = context.where(lambda r: _changed(r, "evaluation.buffers_sha256"))
    if bad:
        yield Observation(
            f"buffers of {len(bad)} runs differ before and after an evaluation",
            {"runs": len(bad)},
            bad,
            context.rerun("evaluate without updating buffers and train again", bad),
        )


@audit_rule(
    "E03",
    Severity.ERROR,
    "evaluation consumed the training's random numbers",
    facts=("evaluation.generators_sha256",),
)
def evaluation_uses_generator(context: Context) -> Iterator[Observation]:
    """If an evaluation draws from the generator that deals batches and masks, the trajectory
    depends on how often is evaluated, and runs with one seed are no longer paired.

    Source: Lightning #16827.
    Example: the generators of 4 runs differ before and after an evaluation.
    Fix: give evaluation a generator of its own; `rng: streams` does. A study with `rng: script`
    imitates a script that has this flaw: it is to be waived there.
    """
    bad = context.where(lambda r: _changed(r, "evaluation.generators_sha256"))
    if bad:
        script = any(record.spec.get("rng") == "script" for record in bad)
        yield Observation(
            f"the random generators of {len(bad)} runs differ before and after an evaluation",
            {"runs": len(bad)},
            bad,
            context.remedy(
                "key random numbers by seed and step",
                {"rng": "streams"} if script else {},
                len(bad),
                bad,
            ),
        )


@audit_rule("E04", Severity.ERROR, "an optimizer is not what its name says")
def mislabelled(context: Context) -> Iterator[Observation]:
    """A table is read by its labels: RMSProp labelled Nesterov, or an Adam whose steps differ from
    the published ones, makes every conclusion about the wrong rule. Names of rules in a label are
    compared with the rule; where a replay against a reference is recorded, its difference too.

    Source: Keras #17391; PyTorch #23796; optax #532.
    Example: "RMSProp (Nesterov)" has the rule rmsprop, which has no Nesterov step.
    Fix: give the entry the rule that it is named after, or another name.
    """
    for contender in context.contenders:
        promised, kept = label_words(contender.optimizer), rule_words(contender)
        hidden = "nesterov" in contender.rule.lower() and not promised & {
            "nesterov",
            "nag",
            "nadam",
        }
        if promised and kept and (promised - kept or hidden):
            wrong = sorted(promised - kept) or ["nesterov"]
            does = "does not say that the rule is" if hidden else "promises"
            yield Observation(
                f"'{contender.optimizer}' {does} {names(wrong)}; its rule is {contender.rule} "
                f"({_settings(contender.reported[0])})",
                {"label": contender.optimizer, "rule": contender.rule, "promised": wrong},
                contender.trials,
                _rename(context, contender.optimizer, contender.rule),
            )
    bad = context.where(lambda r: beyond_tolerance(r, "parity"))
    if bad:
        yield Observation(
            f"steps of {names(r.rule for r in bad)} differ from those of "
            f"{names(str(fact(r, 'parity.against')) for r in bad)} by up to "
            f"{max(fact(r, 'parity.difference') or np.inf for r in bad):.2g}",
            {"differences": {r.rule: fact(r, "parity.difference") for r in bad}},
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


@audit_rule(
    "E08",
    Severity.WARNING,
    "the training data was not shuffled",
    facts=("epoch_batches_sha256",),
)
def not_shuffled(context: Context) -> Iterator[Observation]:
    """Data in the same order each epoch biases every step, and hurts some optimizers more than
    others. Batch gradient descent has no order.

    Source: LightBench, MNIST example; Bottou 2009.
    Example: successive epochs of 9 runs begin with the same batches.
    Fix: `shuffle: true`.
    """
    bad = context.where(
        lambda r: (
            r.steps_per_epoch > 1
            and (
                r.spec.get("shuffle") is False
                or len(set(fact(r, "epoch_batches_sha256") or "ab"))
                < len(fact(r, "epoch_batches_sha256") or "ab")
            )
        ),
    )
    if bad:
        yield Observation(
            f"successive epochs of {len(bad)} runs begin with the same batches",
            {"runs": len(bad)},
            bad,
            context.remedy("shuffle each epoch", {"shuffle": True}, len(bad), bad),
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
            c.optimizer: sorted(
                {f"{r.spec.get('clip_norm')} {r.spec.get('clip_value')}" for r in c.trials}
            )
            for c in problem.contenders
        }
        if len({tuple(found) for found in clips.values()}) > 1:
            clipped = [c for c in problem.contenders if clips[c.optimizer] != ["None None"]]
            common = context.entry(clipped[0].optimizer)[1].get("clip")
            others = [c for c in problem.contenders if clips[c.optimizer] == ["None None"]]
            paths = [context.entry(c.optimizer)[0] for c in others]
            given = {k: v for k, v in (common or {}).items() if v is not None}
            yield Observation(
                f"gradients of {names(c.optimizer for c in clipped)} are clipped ({given or clips})"
                + (f", those of {names(c.optimizer for c in others)} are not" if others else ""),
                {"clip": clips},
                problem.reported,
                context.remedy(
                    "clip the gradients of all alike",
                    {f"{path}.clip": given for path in paths if path and given},
                    sum(len(c.trials) for c in others),
                ),
            )


@audit_rule(
    "E11",
    Severity.WARNING,
    "a mean of batch means was reported",
    facts=("evaluation.weighted_by",),
)
def mean_of_means(context: Context) -> Iterator[Observation]:
    """The last batch of a split is often smaller; averaging the means of batches gives its samples
    more weight, and the result depends on the batch size of the evaluation.

    Source: standard practice.
    Example: evaluations of 9 runs weight batches, not samples.
    Fix: sum over samples and divide by their number.
    """
    bad = context.where(lambda r: fact(r, "evaluation.weighted_by") == "batches")
    if bad:
        yield Observation(
            f"evaluations of {len(bad)} runs weight batches, not samples",
            {"runs": len(bad)},
            bad,
            context.rerun("weight by samples and evaluate again", bad),
        )


@audit_rule("E12", Severity.ADVICE, "a claim is on a running average of training")
def running_average(context: Context) -> Iterator[Observation]:
    """`train_loss_epoch` and `train_accuracy_epoch` are means over an epoch in which the weights
    changed and dropout was on. They are not comparable with evaluations of the final weights.

    Source: Keras FAQ (why is my training loss much higher than my testing loss).
    Example: "adam > sgd on train_accuracy_epoch".
    Fix: evaluate on the training split, and claim on train_eval_accuracy.
    """
    running = [claim for claim in context.claims if claim.metric.endswith("_epoch")]
    if running:
        splits = list(dict.fromkeys([*_splits(context), "train"]))
        moved = [
            str(text).replace("train_", "train_eval_").replace("_epoch", "")
            if str(text) in {claim.text for claim in running}
            else text
            for text in context.study.get("claims") or ()
        ]
        yield Observation(
            names(f'"{claim.text}"' for claim in running),
            {"claims": [claim.text for claim in running]},
            [r for claim in running for c in context.claimed(claim) for r in c.reported],
            context.remedy(
                "evaluate on the training split",
                {"evaluate.on": splits, "claims": moved},
                len(context.records),
            ),
        )


def _splits(context: Context) -> list[str]:
    return [split for record in context.records for split in record.spec.get("evaluate_on") or ()]


@audit_rule("E18", Severity.ERROR, "an optimizer did not train")
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
            and fact(r, "parameters_sha256") is not None
            and fact(r, "parameters_sha256") == fact(r, "initial_parameters_sha256")
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
            r.spec.get("zero_grad") is False
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


IMPLEMENTATION_RULES = (
    evaluated_in_training_mode,
    evaluation_changes_buffers,
    evaluation_uses_generator,
    mislabelled,
    not_shuffled,
    unequal_clipping,
    mean_of_means,
    running_average,
    did_not_train,
)
