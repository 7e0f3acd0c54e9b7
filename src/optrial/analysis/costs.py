"""Cost of the runs of a contender: seconds, width of the stack, device."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from optrial.analysis.contenders import Contender, finished
from optrial.spec import TRAINING_SECONDS, Status

__all__ = ["Cost", "cost_of"]


@dataclass(frozen=True)
class Cost:
    """Cost of the finished runs of a contender.

    Attributes:
        name: name of the contender.
        seconds: training seconds per run, without evaluation; runs of a stack share its seconds
            equally.
        evaluation: median seconds of evaluation.
        step_milliseconds: median over the runs.
        widths: numbers of runs that were trained together, increasing.
        trained_by: engines and devices.
    """

    name: str
    seconds: tuple[float, ...]
    evaluation: float
    step_milliseconds: float
    widths: tuple[int, ...]
    trained_by: tuple[str, ...]

    @property
    def median(self) -> float:
        """Median seconds of training."""
        return median(self.seconds)

    @property
    def alone(self) -> bool:
        """True if every run was trained alone, so that its seconds are not shared."""
        return self.widths == (1,)


def cost_of(contender: Contender) -> Cost | None:
    """Return the recorded cost of the finished runs; None without any."""
    done = [r for r in contender.records if r.status is Status.DONE and r.facts.seconds]
    if not done:
        return None
    widths = [record.width for record in done]
    training = finished(done, TRAINING_SECONDS)
    evaluation = [r.facts.seconds.evaluation / r.width for r in done if r.facts.seconds]
    steps = [max(1, record.step) for record in done]
    trained_by = (f"{r.facts.engine or '?'}, {r.facts.device_name or '?'}" for r in done)
    return Cost(
        name=contender.name,
        seconds=tuple(training),
        evaluation=median(evaluation),
        step_milliseconds=median(1e3 * t / n for t, n in zip(training, steps, strict=True)),
        widths=tuple(sorted(set(widths))),
        trained_by=tuple(dict.fromkeys(trained_by)),
    )
