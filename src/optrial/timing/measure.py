"""Measures step time and memory of each optimizer of a study: the work of `optrial timing`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any, Literal, cast

import torch

from optrial.analysis.reported import published_seconds
from optrial.data import Dataset
from optrial.engine import Engines, provenance
from optrial.errors import USER_CODE_ERRORS, EngineError, one_line
from optrial.plan import Plan
from optrial.spec import RunSpec
from optrial.timing.memory import MEMORY_STEPS, memory_meter
from optrial.timing.results import ENGINE, SettingTiming, StudyTiming
from optrial.timing.steps import StepTimes, time_steps

__all__ = ["Progress", "time_study"]

_LEAST_ROUNDS = 3  # fewer have no middle half
_BUSY_LOAD = 0.5  # per processor

EngineName = Literal["auto", "reference", "stacked", "numpy"]
Progress = Callable[[str, int, int], None]
"""Called with the name of the current stage, the work done in it and its total."""


@dataclass(frozen=True)
class _Contender:
    """A run to time, and the settings whose steps take the same time.

    Attributes:
        spec: the run with the smallest learning rate among them, the least likely to diverge.
        setting: see `SettingTiming`.
        engine: see `SettingTiming`.
        stands_for: see `SettingTiming`.
        note: remark about the choice of the engine; or "".
        conditions: what tells runs of several engines apart.
    """

    spec: RunSpec
    setting: str
    engine: str
    stands_for: tuple[str, ...]
    note: str
    conditions: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        name = f"{self.spec.optimizer} {self.setting}".strip()
        return " ".join([name, *(f"{key}={value}" for key, value in self.conditions.items())])


def time_study(
    plan: Plan,
    dataset: Dataset,
    *,
    device: str = "auto",
    engines: Sequence[str] = (),
    rounds: int = 15,
    turn_seconds: float = 0.1,
    memory: bool = True,
    progress: Progress = lambda stage, done, total: None,  # noqa: ARG005
) -> StudyTiming:
    """Time a training step of every optimizer at every batch size and model of a plan.

    Runs that differ only in values that cannot change the time of a step, such as learning rate
    and seed, are timed once. The study's key `engine` selects the engine; auto means reference.

    Args:
        plan: the runs.
        dataset: training data of the plan.
        device: "auto", "cpu" or "cuda".
        engines: engines to time beside each other; by default that of the study.
        rounds: number of turns of each setting, at least 3.
        turn_seconds: least length of a turn.
        memory: whether to measure peak memory too; on the CPU each setting needs a new process.
        progress: called as the measurement proceeds.

    Raises:
        EngineError: there are too few rounds, the device is missing, or nothing could be timed.
    """
    if rounds < _LEAST_ROUNDS:
        raise EngineError(f"rounds: {rounds}: must be {_LEAST_ROUNDS} or more to show a spread.")
    load = os.getloadavg()[0]
    builder = Engines(dataset, plan.runs[0].precision, device)
    plans = [_with_engine(plan, engine) for engine in engines] or [plan]
    contenders = [one for part in plans for one in _contenders(part, builder, progress)]
    if len(plans) > 1:
        contenders = _apart(contenders)
    times = time_steps(
        [partial(builder.build, one.engine, [one.spec]) for one in contenders],
        rounds,
        turn_seconds=turn_seconds,
        progress=partial(progress, "timing"),
    )
    pairs = list(zip(contenders, times, strict=True))
    timed = [pair for pair in pairs if not pair[1].error]
    failures = [f"{one.label} could not be timed: {t.error}" for one, t in pairs if t.error]
    if not timed:
        raise EngineError(f"nothing could be timed: {'; '.join(dict.fromkeys(failures))}.")
    peaks: list[int | None] = [None] * len(timed)
    notes = [*(one.note for one in contenders), _load_note(load), *map(_diverged_note, pairs)]
    if memory:
        peaks, missing = _peaks([one for one, _ in timed], dataset, device, progress)
        notes += missing
    first, place = plan.runs[0], timed[0][1].device
    return StudyTiming(
        study=plan.name,
        engine=" and ".join(engines or [first.engine]).replace("auto", "reference"),
        device=place,
        precision=first.precision,
        rounds=rounds,
        machine=_machine(load),
        memory=_memory_meaning(place) if any(peaks) else "",
        settings=tuple(_timing(*pair, peak) for pair, peak in zip(timed, peaks, strict=True)),
        notes=tuple(dict.fromkeys(filter(None, notes))),
        failures=tuple(dict.fromkeys(failures)),
        reported_seconds=published_seconds(plan.studies.shared.reported),
    )


def _with_engine(plan: Plan, engine: str) -> Plan:
    """Return the plan with all runs in another engine."""
    runs = {run.run_id: replace(run, engine=cast(EngineName, engine)) for run in plan.runs}
    settings = {run.run_id: plan.settings[before] for before, run in runs.items()}
    return replace(plan, runs=tuple(runs.values()), settings=settings)


def _apart(contenders: Sequence[_Contender]) -> list[_Contender]:
    """Return contenders of several engines, each with the one that trains it, without repetitions.

    A class of `torch.optim` is trained by the reference engine, whichever is asked for.
    """
    distinct: dict[tuple[str, str, str], _Contender] = {}
    for one in contenders:
        kind = one.engine.partition("+")[0].replace("compiled", "stacked")
        key = replace(one.spec, engine="auto").run_id, one.setting, kind
        distinct.setdefault(key, replace(one, conditions={ENGINE: kind}))
    return list(distinct.values())


def _contenders(plan: Plan, engines: Engines, progress: Progress) -> list[_Contender]:
    """Return one run for each group of runs whose steps take the same time."""
    groups: dict[str, list[RunSpec]] = {}
    for run in sorted(plan.runs, key=_place(plan.runs)):
        key = json.dumps([run.optimizer, _conditions(run), _traits(run)], sort_keys=True)
        groups.setdefault(key, []).append(run)
    chosen = [min(runs, key=_learning_rate) for runs in groups.values()]
    contenders = []
    for index, (run, runs) in enumerate(zip(chosen, groups.values(), strict=True)):
        progress("choosing how to train", index, len(chosen))
        (choice,) = engines.choose([run])
        traits = [_traits(other) for other in chosen if other.optimizer == run.optimizer]
        varying = [
            name for name in traits[0] if any(t.get(name) != traits[0][name] for t in traits)
        ]
        setting = " ".join(f"{name}={_value(run, name)}" for name in varying)
        stands_for = tuple(dict.fromkeys(plan.settings[other.run_id] for other in runs))
        contenders.append(_Contender(_bare(run), setting, choice.engine, stands_for, choice.note))
    return contenders


def _bare(run: RunSpec) -> RunSpec:
    """Return a run without the work that optrial adds to a step.

    That is probes, and seeding the draws of user code, which rules of optrial do not need.
    """
    return replace(run, code={}, probes=None)


def _place(runs: Sequence[RunSpec]) -> Callable[[RunSpec], int]:
    """Return a key that sorts runs by batch size and model, in their order of first appearance."""
    order: dict[str, int] = {}
    for run in runs:
        order.setdefault(json.dumps(_conditions(run)), len(order))
    return lambda run: order[json.dumps(_conditions(run))]


def _conditions(run: RunSpec) -> dict[str, Any]:
    """Return the values that compared optimizers share."""
    return {"batch_size": run.batch_size, **run.model_arguments}


def _traits(run: RunSpec) -> dict[str, Any]:
    """Return what can change the time of an optimizer's step.

    A real number counts only as zero or not: without momentum there is no velocity to keep.
    """
    return {
        **{
            name: value != 0 if isinstance(value, float) else value
            for name, value in run.hyperparameters.items()
            if name != "lr"
        },
        "weight_decay": run.weight_decay != 0 or run.hyperparameters.get("weight_decay", 0) != 0,
        "schedule": run.schedule and run.schedule["kind"],
        "clip_norm": run.clip_norm is not None,
        "clip_value": run.clip_value is not None,
        "modify": " ".join(run.modify),
    }


def _value(run: RunSpec, trait: str) -> Any:
    """Return a trait as the study writes it."""
    if trait == "schedule":
        return run.schedule and run.schedule["kind"]
    if trait == "modify":
        return " ".join(run.modify) or "none"
    value = run.hyperparameters.get(trait, getattr(run, trait, None))
    return f"{value:g}" if isinstance(value, float) else value


def _learning_rate(run: RunSpec) -> float:
    rate = run.hyperparameters.get("lr", 0.0)
    return float(rate) if isinstance(rate, int | float) else 0.0


def _peaks(
    contenders: Sequence[_Contender], dataset: Dataset, device: str, progress: Progress
) -> tuple[list[int | None], list[str]]:
    """Return peak memory in bytes, None where it cannot be measured, and the reasons for None."""
    peaks: list[int | None] = []
    notes = []
    with memory_meter(dataset, device) as measure:
        for index, contender in enumerate(contenders):
            progress("measuring memory", index, len(contenders))
            try:
                peaks.append(measure(contender.engine, contender.spec))
            except USER_CODE_ERRORS as error:  # times are worth having without it
                peaks.append(None)
                notes.append(f"memory of {contender.label} is unknown: {one_line(error)}")
    return peaks, notes


def _diverged_note(pair: tuple[_Contender, StepTimes]) -> str:
    contender, times = pair
    if not times.diverged:
        return ""
    return f"{contender.label} diverged and was restarted while it was timed"


def _timing(contender: _Contender, times: StepTimes, memory: int | None) -> SettingTiming:
    return SettingTiming(
        optimizer=contender.spec.optimizer,
        setting=contender.setting,
        conditions={**_conditions(contender.spec), **contender.conditions},
        steps=_steps(contender.spec, times),
        engine=contender.engine,
        implementation=times.implementation,
        threads=times.threads,
        first_step_seconds=times.first_step,
        step_seconds=times.seconds,
        memory_bytes=memory,
        stands_for=contender.stands_for,
        steps_per_epoch=contender.spec.steps_per_epoch,
    )


def _steps(spec: RunSpec, times: StepTimes) -> int:
    """Return the steps of a run; with a budget in seconds, about as many as it takes."""
    if spec.budget_seconds is None or not times.seconds:
        return spec.steps
    return max(1, round(spec.budget_seconds / median(times.seconds)))


def _memory_meaning(device: str) -> str:
    where = (
        "GPU memory that PyTorch allocated"
        if device.startswith("cuda")
        else "resident memory of a separate process"
    )
    return f"peak {where} during {MEMORY_STEPS} training steps, beyond program and data"


def _machine(load: float) -> dict[str, Any]:
    cuda, facts = torch.cuda.is_available(), provenance()
    return {
        "host": facts.host,
        "machine": facts.machine,
        "system": facts.system,
        "versions": facts.versions,
        "processors": os.cpu_count(),
        "load": round(load, 2),
        "gpu": torch.cuda.get_device_name() if cuda else None,
    }


def _load_note(load: float) -> str:
    processors = os.cpu_count() or 1
    if load < _BUSY_LOAD * processors:
        return ""
    return (
        f"the machine was busy when timing began (load {load:.1f} on {processors} processors); "
        "time small differences again when it is idle"
    )
