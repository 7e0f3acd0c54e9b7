"""E, first half: whether models were trained, updated and evaluated as intended."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.remedies import scaling_remedy, unscaled_parts
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.contenders import OptimizerRuns, hyperparameters
from optrial.errors import counted, quoted
from optrial.records import Curve, Record
from optrial.rules.learning_rates import plain_name
from optrial.spec import MetricName, Status

ROUNDING = 1e-6  # of a loss, because a GPU may add in a different order
PILING = 0.98  # correlation of gradient norm and step above which gradients accumulate


@audit_rule(
    "E01",
    Severity.ERROR,
    "the model was evaluated in training mode",
    facts=("evaluation",),
    root=True,
)
def evaluated_in_training_mode(context: Context) -> Iterator[Observation]:
    """With active dropout, or batch statistics of the test batch, the result belongs to a different
    model: too low, random, and dependent on the evaluation's batch size. Training in evaluation
    mode, the reverse, switches the regularizer off. For user code, the same weights are evaluated
    twice with different draws, which also finds functional dropout that ignores the mode.

    Source: Lightning #20177 and #20216 (modes that are not switched back).
    Example: modules in training mode during evaluation: dropout1 (6 runs).
    Fix: call `model.eval()` before evaluation and `model.train()` after it; use functional dropout
    as `dropout(x, p, training=self.training)`.
    """
    bad = context.where(
        lambda r: (
            _modules_in_training(r)
            or _modules_in_evaluation(r)
            or (r.facts.evaluation_difference or 0.0) > ROUNDING
        ),
    )
    if bad:
        training = sorted({m or "the model" for r in bad for m in _modules_in_training(r)})
        evaluation = sorted({m or "the model" for r in bad for m in _modules_in_evaluation(r)})
        modes = [f"modules in training mode during evaluation: {names(training)}"] * bool(training)
        modes += [f"modules in evaluation mode during training: {names(evaluation)}"] * bool(
            evaluation
        )
        fault = "; ".join(modes) or "two evaluations of the same weights differ"
        yield Observation(
            f"{fault} ({counted(len(bad), 'run')})",
            {"training_modules": training, "evaluation_modules": evaluation, "runs": len(bad)},
            bad,
            context.rerun("switch modes around every evaluation, and train again", bad),
        )


def _modules_in_training(record: Record) -> tuple[str, ...]:
    """Return the modules that were in training mode during an evaluation."""
    return record.facts.evaluation.training_modules if record.facts.evaluation else ()


def _modules_in_evaluation(record: Record) -> tuple[str, ...]:
    """Return the modules that were in evaluation mode during training."""
    return record.facts.training.evaluation_modules if record.facts.training else ()


@audit_rule(
    "E02",
    Severity.ERROR,
    "evaluation changed the model",
    facts=("evaluation",),
    root=True,
)
def evaluation_changes_buffers(context: Context) -> Iterator[Observation]:
    """If an evaluation updates the running averages of batch normalization, they have seen the test
    data, and training depends on when the model is evaluated.

    Source: AlgoPerf #783 and #798 (batch norm statistics in evaluation).
    Example: buffers of 4 runs differ before and after an evaluation.
    Fix: evaluate in evaluation mode, under `torch.no_grad()`.
    """
    bad = context.where(
        lambda r: r.facts.evaluation is not None and r.facts.evaluation.changes_buffers
    )
    if bad:
        yield Observation(
            f"buffers of {counted(len(bad), 'run')} differ before and after an evaluation",
            {"runs": len(bad)},
            bad,
            context.rerun("evaluate without updating buffers, and train again", bad),
        )


@audit_rule(
    "E03",
    Severity.ERROR,
    "evaluation used the random numbers of training",
    facts=("evaluation",),
)
def evaluation_uses_generator(context: Context) -> Iterator[Observation]:
    """If an evaluation draws from the generator of batches and masks, training depends on how often
    the model is evaluated, and runs with the same seed are no longer paired.

    Source: Lightning #16827; PyTorch #80119.
    Example: the random generators of 4 runs differ before and after an evaluation.
    Fix: give evaluation a separate generator, as `rng: streams` does. Waive this rule for
    `rng: script`, which reproduces a script with this flaw.
    """
    bad = context.where(
        lambda r: r.facts.evaluation is not None and r.facts.evaluation.uses_generators
    )
    if bad:
        script = any(record.spec.rng == "script" for record in bad)
        yield Observation(
            f"the random generators of {counted(len(bad), 'run')} differ before and after an "
            "evaluation",
            {"runs": len(bad)},
            bad,
            context.remedy(
                "key random numbers by seed and step",
                {"rng": "streams"} if script else {},
                len(bad),
                bad,
            ),
        )


WORDS = frozenset(
    {
        *("sgd", "momentum", "heavyball", "nesterov", "nag", "adagrad", "adadelta", "rmsprop"),
        *("adam", "adamw", "adamax", "nadam", "radam", "amsgrad", "lion", "lars", "lamb"),
        *(
            "adafactor",
            "muon",
            "prodigy",
            "shampoo",
            "sophia",
            "adahessian",
            "qhm",
            "asgd",
            "rprop",
            "signsgd",
        ),
        *("signum", "adabelief", "yogi", "adopt", "laprop", "ademamix", "adan", "normuon", "scion"),
        *("soap", "psgd", "kron", "cautious", "lookahead", "mars", "agc", "hyperball", "grafting"),
    }
)
"""Words in the name of an optimizer that promise a rule or a modifier."""
IMPLIED = {
    "momentum": {"sgd"},
    "heavyball": {"momentum", "sgd"},
    "nesterov": {"momentum", "sgd", "nag"},
    "nag": {"nesterov", "momentum", "sgd"},
    "nadam": {"adam", "nesterov"},
    "qhm": {"momentum", "sgd"},
    "asgd": {"sgd"},
    "signum": {"signsgd", "momentum"},
    "amsgrad": {"adam"},
    "muon": {"adam", "adamw"},  # of vectors, embeddings and the head
    "normuon": {"muon", "adam", "adamw"},
    "soap": {"shampoo", "adam", "adamw"},
}
"""Words that a rule may carry in addition to its own name."""


@audit_rule("E04", Severity.ERROR, "an optimizer is not what its name says")
def mislabelled(context: Context) -> Iterator[Observation]:
    """Readers trust the labels of a table. If RMSProp is labelled Nesterov, or the steps of an Adam
    differ from the published ones, every conclusion is about the wrong rule. Names of rules in a
    label are compared with the rule. After training for two minutes, or compiled, each rule also
    takes 20 steps beside the equivalent class of torch.optim, and the difference is recorded.

    Source: Keras #17391; PyTorch #23796; optax #532.
    Example: 'RMSProp (Nesterov)' promises nesterov; its rule is rmsprop (without momentum).
    Fix: use the rule that the name promises, or rename the entry.
    """
    for optimizer in context.optimizers:
        promised, kept = _label_words(optimizer.name), _rule_words(optimizer)
        nesterov = "nesterov" in optimizer.rule.lower()
        hidden = nesterov and not promised & {"nesterov", "nag", "nadam"}
        if promised and kept and (promised - kept or hidden):
            wrong = sorted(promised - kept) or ["nesterov"]
            verb = "does not mention" if hidden else "promises"
            yield Observation(
                f"'{optimizer.name}' {verb} {names(wrong)}; its rule is {optimizer.rule} "
                f"({_momentum_text(optimizer.reported[0])})",
                {"label": optimizer.name, "rule": optimizer.rule, "promised": wrong},
                optimizer.trials,
                _rename(context, optimizer.name, optimizer.rule),
            )
    failing = [(r, p) for r in context.ended if (p := r.facts.parity) and p.fails]
    if failing:
        bad = [record for record, _ in failing]
        difference = max(parity.difference or math.inf for _, parity in failing)
        yield Observation(
            f"steps of {names(r.rule for r in bad)} differ from those of "
            f"{names(str(parity.against) for _, parity in failing)} by up to {difference:.2g}",
            {"differences": {record.rule: parity.difference for record, parity in failing}},
            bad,
            context.rerun("correct the rule, and train again", bad),
        )


def _label_words(label: str) -> set[str]:
    """Return the names of rules in a label."""
    return set(re.findall(r"[a-z]+", label.lower())) & WORDS


def _rule_words(optimizer: OptimizerRuns) -> set[str]:
    """Return every name that an optimizer may rightly carry; empty for a user-defined rule."""
    words = _label_words(plain_name(optimizer.rule))
    of_groups = {group.rule for group in optimizer.spec.groups if group.rule}
    words |= {word for rule in of_groups for word in _label_words(plain_name(rule))}
    settings = optimizer.reported[0].hyperparameters
    if not words:
        return set()
    spec = optimizer.spec
    modifiers = {*spec.modify, *(name for group in spec.groups for name in group.modify or ())}
    words |= {word for name in modifiers for word in _label_words(name)}
    if settings.get("nesterov"):
        words.add("nesterov")
    if settings.get("momentum"):
        words |= {"momentum", "heavyball"}
    if words & {"adam", "adamw"}:  # they differ only in their weight decay
        decoupled = optimizer.spec.decay == "decoupled"
        decays = optimizer.spec.weight_decay > 0
        words |= {"adam", "adamw"} if not decays else {"adamw" if decoupled else "adam"}
    return words.union(*(IMPLIED.get(word, set()) for word in words))


def _momentum_text(record: Record) -> str:
    shown = {k: v for k, v in record.hyperparameters.items() if k in ("momentum", "nesterov")}
    return names(f"{name} {value}" for name, value in shown.items()) or "without momentum"


def _rename(context: Context, optimizer: str, rule: str) -> Remedy:
    path = context.path(optimizer)
    plain = rule.rpartition(":")[2]
    taken = {record.optimizer for record in context.records}
    name = plain if plain not in taken else f"{plain} as written"
    runs = [record for record in context.records if record.optimizer == optimizer]
    return context.remedy(
        "rename the entry after its rule, or give it the rule that its name promises",
        {f"{path}.name": name} if path else {},
        len(runs),
        runs,
    )


@audit_rule(
    "E08",
    Severity.WARNING,
    "training data was not shuffled",
    facts=("epoch_batches_sha256",),
)
def not_shuffled(context: Context) -> Iterator[Observation]:
    """The same data order in every epoch biases every step, and hurts some optimizers more than
    others. Full-batch training has no order.

    Source: Bottou 2009 (random and fixed order compared).
    Example: successive epochs of 9 runs begin with the same batches.
    Fix: `shuffle: true`.
    """
    bad = context.where(
        lambda r: r.steps_per_epoch > 1 and (not r.spec.shuffle or _repeats_batches(r))
    )
    if bad:
        yield Observation(
            f"successive epochs of {counted(len(bad), 'run')} begin with the same batches",
            {"runs": len(bad)},
            bad,
            context.remedy("shuffle every epoch", {"shuffle": True}, len(bad), bad),
        )


def _repeats_batches(record: Record) -> bool:
    """Return True if two epochs begin with the same batches."""
    batches = record.facts.epoch_batches_sha256 or ()
    return len(set(batches)) < len(batches)


@audit_rule("E09", Severity.WARNING, "gradient clipping differs between optimizers")
def unequal_clipping(context: Context) -> Iterator[Observation]:
    """Active clipping makes the step independent of the size of the gradient, so it is part of the
    optimizer. It must be the same for all, or tuned for each.

    Source: Zhang et al. 2020; AlgoPerf.
    Example: gradient clipping: norm 1 (adam), none (sgd).
    Fix: use the same `clip` for all, or a list as a grid axis.
    """
    for problem in context.problems:
        clips = {
            o.name: sorted({f"{r.spec.clip_norm} {r.spec.clip_value}" for r in o.one_of_each})
            for o in problem.optimizers
        }
        if len(set(map(tuple, clips.values()))) > 1:
            clipped = [o for o in problem.optimizers if clips[o.name] != ["None None"]]
            others = [o for o in problem.optimizers if clips[o.name] == ["None None"]]
            written = context.entry(clipped[0]).get("clip") or {}
            clip = {name: value for name, value in written.items() if value is not None}
            paths = [context.path(o.name) for o in others]
            kinds = {
                o.name: " or ".join(sorted({_clip_text(r) for r in o.one_of_each}))
                for o in problem.optimizers
            }
            yield Observation(
                f"gradient clipping: {names(f'{kind} ({name})' for name, kind in kinds.items())}",
                {"clip": clips},
                problem.compared,
                context.remedy(
                    "clip the gradients of all optimizers alike",
                    {f"{path}.clip": clip for path in paths if path and clip},
                    sum(len(o.trials) for o in others),
                ),
            )


def _clip_text(record: Record) -> str:
    limits = {"norm": record.spec.clip_norm, "value": record.spec.clip_value}
    texts = [f"{kind} {limit:g}" for kind, limit in limits.items() if limit is not None]
    return " and ".join(texts) or "none"


def _decays(context: Context) -> bool:
    return any(
        hyperparameters(r).get("weight_decay") for o in context.optimizers for r in o.one_of_each
    )


@audit_rule(
    "E10",
    Severity.WARNING,
    "weight decay acts on different parameters",
    facts=("decayed_share",),
    concerns=_decays,
)
def decayed_parameters_differ(context: Context) -> Iterator[Observation]:
    """Excluding biases and normalization scales from weight decay is common practice, but not the
    same regularizer as decaying all parameters. It must be the same for all optimizers.

    Source: PyTorch documentation of parameter groups; Loshchilov & Hutter 2019.
    Example: sgd decays 100 % of its parameters, my_adamw decays 98 % of its parameters.
    Fix: use the same groups of parameters for all, such as `groups: [{match: [bias, norm],
    weight_decay: 0}]`.
    """
    for problem in context.problems:
        shares = {c.name: c.records[0].facts.decayed_share for c in problem.contenders}
        decayed = {name: share for name, share in shares.items() if share}
        if len(set(decayed.values())) > 1:
            yield Observation(
                names(
                    f"{name} decays {100 * share:.4g} % of its parameters"
                    for name, share in decayed.items()
                ),
                {"decayed_share": decayed},
                problem.compared,
                context.rerun(
                    "decay the same parameters with all optimizers, and train again",
                    problem.compared,
                ),
            )


@audit_rule("E12", Severity.WARNING, "a claim uses metrics of training batches")
def running_average(context: Context) -> Iterator[Observation]:
    """`train_loss` and `train_accuracy` describe the last batch only: a small sample, unless the
    batch is the whole training split. `train_loss_epoch` and `train_accuracy_epoch`, for which this
    is advice only, are means over an epoch in which the weights changed. Dropout was active in
    both, so they are not comparable with evaluations of the final weights.

    Source: Keras FAQ (why is my training loss much higher than my testing loss).
    Example: "adam > sgd on train_accuracy_epoch" is measured on training batches.
    Fix: evaluate on the training split, and claim on train_eval_accuracy.
    """
    name_of = context.directions.parse
    running = {c.text: c for c in context.claims if name_of(c.metric).of_batches}
    if running:
        splits = [split for record in context.records for split in record.spec.evaluate_on]
        claims = [
            text.replace(claim.metric, str(MetricName(name_of(claim.metric).label, "train_eval")))
            if (claim := running.get(str(text)))
            else text
            for text in context.study.get("claims") or ()
        ]
        last_batch_only = any(
            record.steps_per_epoch > 1
            for claim in running.values()
            if not name_of(claim.metric).epoch_mean
            for record in context.claimed_runs(claim)
        )
        yield Observation(
            names(map(quoted, running))
            + f" {'is' if len(running) == 1 else 'are'} measured on training batches",
            {"claims": list(running)},
            [r for claim in running.values() for r in context.claimed_runs(claim)],
            context.remedy(
                "evaluate on the training split",
                {"evaluate.on": list(dict.fromkeys([*splits, "train"])), "claims": claims},
                len(context.records),
            ),
            Severity.WARNING if last_batch_only else Severity.ADVICE,
        )


@audit_rule("E18", Severity.ERROR, "an optimizer did not train", root=True)
def did_not_train(context: Context) -> Iterator[Observation]:
    """Parameters that never move, or gradients that accumulate because they are never set to zero,
    measure a mistake.

    Source: PyTorch documentation of `Optimizer.zero_grad`; standard practice.
    Example: the parameters of 3 runs of sgd never changed.
    Fix: find the missing step; set `zero_grad: true`.
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
            f"the parameters of {counted(len(still), 'run')} of "
            f"{names(r.optimizer for r in still)} never changed",
            {"runs": len(still)},
            still,
            context.rerun("find out why no step was taken, and train again", still),
        )
    norms = context.curves("gradient_norm")
    piled = context.where(
        lambda r: not r.spec.zero_grad or (r.run_id in norms and _grows_linearly(norms[r.run_id])),
    )
    if piled:
        yield Observation(
            f"gradients of {counted(len(piled), 'run')} accumulate from step to step",
            {"runs": len(piled)},
            piled,
            context.remedy(
                "set gradients to zero before each step", {"zero_grad": True}, len(piled)
            ),
        )


def _grows_linearly(norm: Curve) -> bool:
    """Return True if a gradient norm rises at least tenfold, in proportion to the step."""
    steps, values = norm.steps, norm.values
    if len(steps) < 10 or not np.isfinite(values).all() or values.std() == 0:
        return False
    grown = values[-1] > 10 * abs(values[0])
    return bool(grown and np.corrcoef(steps, values)[0, 1] > PILING)


@audit_rule("E19", Severity.WARNING, "the data is not on a unit scale", facts=("scale",), root=True)
def unscaled_data(context: Context) -> Iterator[Observation]:
    """Gradients grow with the scale of targets and features. With targets around 100,000, SGD
    diverges at its usual learning rates, and Adam, whose steps do not grow, needs thousands of
    steps to get there. The comparison then measures which range of rates happens to suit the unit.
    An error if runs diverged. With a user-defined loss, which may expect the scale, targets count
    only if runs diverged.

    Source: LeCun et al. 1998 (Efficient BackProp, normalizing the inputs); Bishop 1995, chapter 8.
    Example: the targets have an absolute mean of up to 184,000 and a standard deviation of up to
    43,000 under mse.
    Fix: `standardize_targets: true` and `scale: standardize` in the dataset.
    """
    for problem in context.problems:
        unscaled = unscaled_parts(problem.records)
        remedy = scaling_remedy(context, problem.records)
        if remedy:
            diverged = sum(r.status is Status.DIVERGED for r in problem.records)
            runs = f"; {diverged} of {counted(len(problem.records), 'run')} diverged"
            loss = f" under {problem.records[0].spec.loss}"
            yield Observation(
                " and ".join(
                    f"the {part} have an absolute mean of up to {_short(scale.mean)} and a "
                    f"standard deviation of up to {_short(scale.std)}{loss * (part == 'targets')}"
                    for part, scale in unscaled.items()
                )
                + runs * bool(diverged),
                {
                    "scale": {part: asdict(scale) for part, scale in unscaled.items()},
                    "diverged": diverged,
                },
                problem.records,
                remedy,
                Severity.ERROR if diverged else None,
            )


def _short(value: float) -> str:
    """Return three significant digits, without an exponent up to a million."""
    return f"{float(f'{value:.3g}'):,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
