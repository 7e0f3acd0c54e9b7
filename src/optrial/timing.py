"""How long a step of each optimizer takes, and how much memory: what `optrial timing` measures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from optrial.analysis.reported import SECONDS
from optrial.analysis.timing import SettingTiming, StudyTiming
from optrial.data import Dataset
from optrial.engine import Engines, provenance
from optrial.engine.memory import MEMORY_STEPS, memory_meter
from optrial.engine.timing import StepTimes, time_steps
from optrial.errors import USER_CODE_ERRORS, EngineError, OptrialError, one_line
from optrial.plan import Plan
from optrial.spec import RunSpec

__all__ = ["LEAST_ROUNDS", "ROUNDS", "Told", "time_study", "write_timing"]

ROUNDS = 15
LEAST_ROUNDS = 3  # fewer have no middle half
_BUSY = 0.5  # load per processor from which a machine is called busy

Told = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class _Contender:
    """A run that stands for all whose steps take as long.

    Attributes:
        spec: of those runs, the one with the smallest learning rate, which is least likely to
            diverge.
        setting: see `SettingTiming`.
        engine: see `SettingTiming`.
        stands_for: see `SettingTiming`.
        note: what is to be known about the choice of the engine; or "".
    """

    spec: RunSpec
    setting: str
    engine: str
    stands_for: tuple[str, ...]
    note: str


def time_study(
    plan: Plan,
    dataset: Dataset,
    *,
    device: str = "auto",
    rounds: int = ROUNDS,
    turn_seconds: float = 0.1,
    memory: bool = True,
    told: Told = lambda doing, done, total: None,  # noqa: ARG005
) -> StudyTiming:
    """Time a training step of every optimizer at every batch size and model of a plan, alone.

    Learning rates, seeds and other sizes of numbers are left out: they do not change how long a
    step takes. Which engine is timed is the study's key `engine`; auto means reference.

    Args:
        plan: whose runs are timed.
        dataset: what they train on.
        device: "auto", "cpu" or "cuda".
        rounds: how often each setting has its turn, from 3.
        turn_seconds: least length of a turn.
        memory: whether to measure the peak of memory too, on the CPU in a process for each setting.
        told: is told of progress.

    Raises:
        EngineError: there are too few rounds, the device is not there, or nothing could be timed.
    """
    if rounds < LEAST_ROUNDS:
        raise EngineError(f"rounds: {rounds}: must be {LEAST_ROUNDS} or more to show a spread.")
    load = os.getloadavg()[0]
    engines = Engines(dataset, plan.runs[0].precision, device)
    contenders = _contenders(plan, engines, told)
    times = time_steps(
        [partial(engines.build, each.engine, [each.spec]) for each in contenders],
        rounds,
        turn_seconds=turn_seconds,
        told=partial(told, "timing"),
    )
    pairs = list(zip(contenders, times, strict=True))
    timed = [pair for pair in pairs if not pair[1].error]
    failures = [f"{_label(each)} could not be timed: {t.error}" for each, t in pairs if t.error]
    if not timed:
        raise EngineError(f"nothing could be timed: {'; '.join(dict.fromkeys(failures))}.")
    peaks: list[int | None] = [None] * len(timed)
    notes = [*(each.note for each in contenders), _load_note(load), *map(_diverged_note, pairs)]
    if memory:
        peaks, unknown = _peaks([each for each, _ in timed], dataset, device, told)
        notes += unknown
    first, place = plan.runs[0], timed[0][1].device
    return StudyTiming(
        study=plan.study.name,
        engine="reference" if first.engine == "auto" else first.engine,
        device=place,
        precision=first.precision,
        rounds=rounds,
        machine=_machine(load),
        memory=_memory_meaning(place) if any(peaks) else "",
        settings=tuple(_timing(*pair, peak) for pair, peak in zip(timed, peaks, strict=True)),
        notes=tuple(dict.fromkeys(filter(None, notes))),
        failures=tuple(dict.fromkeys(failures)),
        reported_seconds=plan.study.reported.get(SECONDS, {}),
    )


def write_timing(timing: StudyTiming, path: Path) -> None:
    """Write a timing as JSON, over one that is there.

    Raises:
        OptrialError: the file cannot be written.
    """
    partial_file = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial_file.write_text(timing.as_json(), encoding="utf-8")
        partial_file.replace(path)
    except OSError as error:
        raise OptrialError(f"'{path}' cannot be written: {error.strerror}.") from error


def _contenders(plan: Plan, engines: Engines, told: Told) -> list[_Contender]:
    """Return one run for each group of runs whose steps take as long."""
    groups: dict[str, list[RunSpec]] = {}
    for run in sorted(plan.runs, key=_place(plan.runs)):
        what = json.dumps([run.optimizer, _conditions(run), _traits(run)], sort_keys=True)
        groups.setdefault(what, []).append(run)
    chosen = [min(runs, key=_learning_rate) for runs in groups.values()]
    found = []
    for index, (run, runs) in enumerate(zip(chosen, groups.values(), strict=True)):
        told("choosing how to train", index, len(chosen))
        (choice,) = engines.choose([run])
        own = [_traits(other) for other in chosen if other.optimizer == run.optimizer]
        varying = [name for name in own[0] if any(t.get(name) != own[0][name] for t in own)]
        setting = " ".join(f"{name}={_value(run, name)}" for name in varying)
        stands_for = tuple(dict.fromkeys(plan.settings[other.run_id] for other in runs))
        found.append(_Contender(_bare(run), setting, choice.engine, stands_for, choice.note))
    return found


def _bare(run: RunSpec) -> RunSpec:
    """Return a run without what optrial does for it in a step and no optimizer is to blame for.

    That is probes, and seeding the draws of the user's own code anew, which only runs with such
    code pay for.
    """
    return replace(run, code={}, probes=None)


def _place(runs: Sequence[RunSpec]) -> Callable[[RunSpec], int]:
    """Return the place of a run's batch size and model, in the order in which they first come."""
    order: dict[str, int] = {}
    for run in runs:
        order.setdefault(json.dumps(_conditions(run)), len(order))
    return lambda run: order[json.dumps(_conditions(run))]


def _conditions(run: RunSpec) -> dict[str, Any]:
    """What optimizers share when they are compared."""
    return {"batch_size": run.batch_size, **run.model_arguments}


def _traits(run: RunSpec) -> dict[str, Any]:
    """What of an optimizer's setting can change the time of a step.

    Of a real number that is whether it is zero: an optimizer without momentum keeps no velocity.
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
    }


def _value(run: RunSpec, trait: str) -> Any:
    """Return a trait as the study gives it."""
    if trait == "schedule":
        return run.schedule and run.schedule["kind"]
    own = run.hyperparameters.get(trait, getattr(run, trait, None))
    return f"{own:g}" if isinstance(own, float) else own


def _learning_rate(run: RunSpec) -> float:
    rate = run.hyperparameters.get("lr", 0.0)
    return float(rate) if isinstance(rate, int | float) else 0.0


def _peaks(
    contenders: Sequence[_Contender], dataset: Dataset, device: str, told: Told
) -> tuple[list[int | None], list[str]]:
    """Return the peak of memory of each, None where it cannot be measured, and why it cannot."""
    peaks: list[int | None] = []
    notes = []
    with memory_meter(dataset, device) as measure:
        for index, each in enumerate(contenders):
            told("measuring memory", index, len(contenders))
            try:
                peaks.append(measure(each.engine, each.spec))
            except USER_CODE_ERRORS as error:  # times are worth having without it
                peaks.append(None)
                reason = one_line(error)
                notes.append(f"memory of {_label(each)} is not known: {reason}")
    return peaks, notes


def _diverged_note(pair: tuple[_Contender, StepTimes]) -> str:
    contender, times = pair
    if not times.diverged:
        return ""
    return f"{_label(contender)} diverged and was begun anew while it was timed"


def _label(contender: _Contender) -> str:
    return f"{contender.spec.optimizer} {contender.setting}".strip()


def _timing(contender: _Contender, times: StepTimes, memory: int | None) -> SettingTiming:
    return SettingTiming(
        optimizer=contender.spec.optimizer,
        setting=contender.setting,
        conditions=_conditions(contender.spec),
        steps=contender.spec.steps,
        engine=contender.engine,
        implementation=times.implementation,
        threads=times.threads,
        first_step_seconds=times.first_step,
        step_seconds=times.seconds,
        memory_bytes=memory,
        stands_for=contender.stands_for,
    )


def _memory_meaning(device: str) -> str:
    where = (
        "GPU memory that PyTorch allocated"
        if device.startswith("cuda")
        else "resident memory of a process of its own"
    )
    return f"peak {where} during {MEMORY_STEPS} training steps, beyond program and data"


def _machine(load: float) -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    return {
        **{name: provenance()[name] for name in ("host", "machine", "system", "versions")},
        "processors": os.cpu_count(),
        "load": round(load, 2),
        "gpu": torch.cuda.get_device_name() if cuda else None,
    }


def _load_note(load: float) -> str:
    processors = os.cpu_count() or 1
    if load < _BUSY * processors:
        return ""
    return (
        f"the machine was busy when timing began (load {load:.1f} on {processors} processors); "
        "time small differences again when it is idle"
    )
