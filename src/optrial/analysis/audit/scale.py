"""E, the data: whether inputs and targets have the scale that optimizers expect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from optrial.analysis.audit.context import Context
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.records import Record
from optrial.spec import Scale, Scales, Status

__all__ = ["SCALE_RULES", "scaling_remedy"]

LARGE_FEATURES = 10.0  # mean or standard deviation; curvature grows with its square
LARGE_TARGETS = 100.0
SMALL_TARGETS = 0.01  # standard deviation
NOT_OF_VALUES = ("cross_entropy", "mean_output")  # losses for which the targets' scale is nothing


@audit_rule("E19", Severity.WARNING, "the data is not on a unit scale", facts=("scale",), root=True)
def unscaled_data(context: Context) -> Iterator[Observation]:
    """Gradients grow with the scale of targets and features. With targets around 100,000 the usual
    learning rates of SGD diverge, and Adam, whose steps do not grow, takes thousands of steps to
    get there: what is compared is how well a range of rates happens to fit the unit of measurement.
    An error where runs diverged. Targets are judged under losses of optrial, for another loss may
    expect their scale, unless runs diverged.

    Source: LeCun et al. 1998 (Efficient BackProp, normalizing the inputs); Bishop 1995, chapter 8.
    Example: the targets have an absolute mean of up to 184000 under mse.
    Fix: `standardize_targets: true` and `scale: standardize` in the dataset.
    """
    for problem in context.problems:
        unscaled = _unscaled(problem.records)
        if unscaled:
            diverged = [r for r in problem.records if r.status is Status.DIVERGED]
            lost = f"; {len(diverged)} of {len(problem.records)} runs diverged" if diverged else ""
            loss = problem.records[0].spec.loss
            yield Observation(
                " and ".join(
                    f"the {part} have an absolute mean of up to {scale.mean:.3g} and a standard "
                    f"deviation of up to {scale.std:.3g}" + f" under {loss}" * (part == "targets")
                    for part, scale in unscaled.items()
                )
                + lost,
                {
                    "scale": {part: asdict(scale) for part, scale in unscaled.items()},
                    "diverged": len(diverged),
                },
                problem.records,
                _remedy(context, problem.records, unscaled),
                Severity.ERROR if diverged else None,
            )


def scaling_remedy(context: Context, records: Sequence[Record]) -> Remedy | None:
    """Return the remedy of scaling the data of these runs; None where its scale is usual."""
    unscaled = _unscaled(records)
    return _remedy(context, records, unscaled) if unscaled else None


def _unscaled(records: Sequence[Record]) -> dict[str, Scale]:
    """Return the scales of features and targets of one problem that are not near 1."""
    scales = next((r.facts.scale for r in records if r.facts.scale), Scales())
    inputs, targets = scales.inputs, scales.targets
    spec, unscaled = records[0].spec, {}
    tokens = inputs and inputs.whole and ":" in spec.model
    if inputs and not tokens and max(inputs.mean, inputs.std) > LARGE_FEATURES:
        unscaled["features"] = inputs
    if targets and _judges_values(records) and _is_unscaled(targets):
        unscaled["targets"] = targets
    return unscaled


def _is_unscaled(scale: Scale) -> bool:
    return max(scale.mean, scale.std) > LARGE_TARGETS or 0 < scale.std < SMALL_TARGETS


def _judges_values(records: Sequence[Record]) -> bool:
    """Whether the scale of targets matters to the loss, as far as is known."""
    loss = records[0].spec.loss
    if ":" in loss:
        return any(record.status is Status.DIVERGED for record in records)
    return loss not in NOT_OF_VALUES


def _remedy(context: Context, records: Sequence[Record], unscaled: Mapping[str, Scale]) -> Remedy:
    settings: dict[str, Any] = {}
    if "targets" in unscaled:
        settings["problem.dataset.standardize_targets"] = True
    if "features" in unscaled:
        arguments = records[0].spec.dataset_arguments
        given = {key: None for key in ("mean", "std") if arguments.get(key) is not None}
        settings |= {f"problem.dataset.{key}": None for key in given}
        settings["problem.dataset.scale"] = "standardize"
    unit = "; losses and metrics are then in standard deviations of the targets"
    return context.remedy(
        f"standardize the {' and the '.join(unscaled)}{unit * ('targets' in unscaled)}",
        settings,
        len(records),
        records,
    )


SCALE_RULES = (unscaled_data,)
