"""E, first third: whether models were trained and evaluated as their users believe."""

from __future__ import annotations

from collections.abc import Iterator

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.records import Record

__all__ = ["IMPLEMENTATION_RULES"]

_ROUNDING = 1e-6  # of a loss, where a GPU adds in another order


def _modules_in_training(record: Record) -> tuple[str, ...]:
    """Return the modules that were in training mode during an evaluation."""
    return record.facts.evaluation.training_modules if record.facts.evaluation else ()


def _modules_in_evaluation(record: Record) -> tuple[str, ...]:
    """Return the modules that were in evaluation mode during the training."""
    return record.facts.training.evaluation_modules if record.facts.training else ()


def _repeats_batches(record: Record) -> bool:
    """Whether two epochs begin with the same batches."""
    batches = record.facts.epoch_batches_sha256 or ()
    return len(set(batches)) < len(batches)


@audit_rule(
    "E01",
    Severity.ERROR,
    "the model was evaluated in training mode",
    facts=("evaluation",),
    root=True,
)
def evaluated_in_training_mode(context: Context) -> Iterator[Observation]:
    """With dropout on, or batch statistics of the test batch, the result is that of another model:
    too low, random, and dependent on the evaluation's batch size. The reverse, training in
    evaluation mode, switches the regulariser off. With code of the user's, the same weights are
    evaluated twice with different draws, which also finds dropout that was called as a function and
    knows no mode.

    Source: Lightning #20177 and #20216 (modes that nobody switches back).
    Example: dropout1 was in training mode during the evaluation of 6 runs.
    Fix: `model.eval()` before evaluation and `model.train()` after it; as a function,
    `dropout(x, p, training=self.training)`.
    """
    bad = context.where(
        lambda r: (
            _modules_in_training(r)
            or _modules_in_evaluation(r)
            or (r.facts.evaluation_difference or 0.0) > _ROUNDING
        ),
    )
    if bad:
        modules = sorted({m or "the model" for r in bad for m in _modules_in_training(r)})
        asleep = sorted({m or "the model" for r in bad for m in _modules_in_evaluation(r)})
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
    facts=("evaluation",),
    root=True,
)
def evaluation_changes_buffers(context: Context) -> Iterator[Observation]:
    """Running averages of batch normalisation that are updated by an evaluation have seen the test
    data, and training goes on from another model for every choice of when to evaluate.

    Source: AlgoPerf #783 and #798 (batch norm statistics in evaluation).
    Example: buffers of 4 runs differ before and after an evaluation.
    Fix: evaluate in evaluation mode, under `torch.no_grad()`.
    """
    bad = context.where(
        lambda r: r.facts.evaluation is not None and r.facts.evaluation.changes_buffers
    )
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
    facts=("evaluation",),
)
def evaluation_uses_generator(context: Context) -> Iterator[Observation]:
    """If an evaluation draws from the generator that deals batches and masks, the trajectory
    depends on how often is evaluated, and runs with one seed are no longer paired.

    Source: Lightning #16827; PyTorch #80119.
    Example: the generators of 4 runs differ before and after an evaluation.
    Fix: give evaluation a generator of its own; `rng: streams` does. A study with `rng: script`
    imitates a script that has this flaw: it is to be waived there.
    """
    bad = context.where(
        lambda r: r.facts.evaluation is not None and r.facts.evaluation.uses_generators
    )
    if bad:
        script = any(record.spec.rng == "script" for record in bad)
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


@audit_rule(
    "E08",
    Severity.WARNING,
    "the training data was not shuffled",
    facts=("epoch_batches_sha256",),
)
def not_shuffled(context: Context) -> Iterator[Observation]:
    """Data in the same order each epoch biases every step, and hurts some optimizers more than
    others. Batch gradient descent has no order.

    Source: Bottou 2009 (random order against a fixed one).
    Example: successive epochs of 9 runs begin with the same batches.
    Fix: `shuffle: true`.
    """
    bad = context.where(
        lambda r: r.steps_per_epoch > 1 and (not r.spec.shuffle or _repeats_batches(r))
    )
    if bad:
        yield Observation(
            f"successive epochs of {len(bad)} runs begin with the same batches",
            {"runs": len(bad)},
            bad,
            context.remedy("shuffle each epoch", {"shuffle": True}, len(bad), bad),
        )


@audit_rule("E12", Severity.WARNING, "a claim is on batches of training")
def running_average(context: Context) -> Iterator[Observation]:
    """`train_loss` and `train_accuracy` are of the last batch alone: a small sample, unless it is
    all of the training split. `train_loss_epoch` and `train_accuracy_epoch`, which are advice only,
    are means over an epoch in which the weights changed. Dropout was on in both: they are not
    comparable with evaluations of the final weights.

    Source: Keras FAQ (why is my training loss much higher than my testing loss).
    Example: "adam > sgd on train_accuracy_epoch".
    Fix: evaluate on the training split, and claim on train_eval_accuracy.
    """
    running = {claim.text: claim for claim in context.claims if _of_batches(claim.metric)}
    if running:
        splits = list(dict.fromkeys([*_splits(context), "train"]))
        moved = [
            text.replace(claim.metric, _evaluated(claim.metric))
            if (claim := running.get(str(text)))
            else text
            for text in context.study.get("claims") or ()
        ]
        of_a_part = any(
            record.steps_per_epoch > 1
            for claim in running.values()
            if not claim.metric.endswith("_epoch")
            for record in context.claimed_runs(claim)
        )
        yield Observation(
            names(f'"{text}"' for text in running),
            {"claims": list(running)},
            [r for claim in running.values() for r in context.claimed_runs(claim)],
            context.remedy(
                "evaluate on the training split",
                {"evaluate.on": splits, "claims": moved},
                len(context.records),
            ),
            Severity.WARNING if of_a_part else Severity.ADVICE,
        )


def _of_batches(metric: str) -> bool:
    """Whether a metric was measured on batches as they were trained on."""
    return metric.startswith("train_") and not metric.startswith("train_eval_")


def _evaluated(metric: str) -> str:
    """The metric that is the same on the whole training split."""
    return metric.removesuffix("_epoch").replace("train_", "train_eval_", 1)


def _splits(context: Context) -> list[str]:
    return [split for record in context.records for split in record.spec.evaluate_on]


IMPLEMENTATION_RULES = (
    evaluated_in_training_mode,
    evaluation_changes_buffers,
    evaluation_uses_generator,
    not_shuffled,
    running_average,
)
