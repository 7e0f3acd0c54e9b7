"""Chooses how to train runs that could be one stack: which engine, and how many at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import torch
from torch import nn

from optrial.data import Dataset
from optrial.engine.backends.compiling import can_compile
from optrial.engine.backends.products import has_onednn, is_large
from optrial.engine.backends.stacked import stackable_model
from optrial.engine.process import device_limit
from optrial.engine.select.busy import BUSY
from optrial.engine.select.measure import (
    Candidate,
    NotKeptError,
    Times,
    least_seconds,
    most_seconds,
)
from optrial.errors import USER_CODE_ERRORS, EngineError, reason_of
from optrial.memory import MemoryLimit, needs_memory, out_of_memory, shortage
from optrial.models import call_count, input_dtype, linear_rows
from optrial.plan import Estimate, estimate, grids_of, stacks_of
from optrial.spec import RunSpec

__all__ = ["Choice", "Chooser"]

_WORTH_MEASURING = 6.0
"""Seconds of training one by one below which measuring takes longer than it saves."""
_STACK_SECONDS = 0.02
"""Seconds of a stack besides its steps, for data, hashes, commits and messages: 13 ms in this
process and 25 ms in a worker, on two Zen 5 cores (`benchmarks/executors.py`)."""
_WIDTHS = (4, 16, 64, 256)
_CLOSE = 1.5  # ratio by which a machine's pace may change between two measurements
_SHARE_OF_MEMORY = 0.5  # of the free memory; what is needed is an estimate
_COMPILE_SECONDS = (6.0, 0.4, 1.3)
"""Compile time on two 2.5 GHz cores: a constant, per kernel that a stack's forward pass calls, and
per update of a parameter tensor by a rule. It is 13 s for an MLP of one hidden layer with one rule,
about 55 s with nine rules, 90 s for a transformer of two layers."""
_FASTER = 0.97  # share of the time below which a width or a library of products is chosen
_COMPILED_SHARE = 0.5  # of the time of an eager step, on MLPs; a guess until it is measured
_COMPILED_ALONE = 0.9  # the same for a run by itself, whose update alone is compiled
_NO_COMPILER = (
    "no C++ compiler (c++) is on the PATH, so steps are not compiled: slower, but correct"
)


@dataclass(frozen=True)
class Choice:
    """Choice of how new runs that could be one stack are trained.

    Attributes:
        engine: "reference", "stacked", "compiled" (stacked, with a compiled step) or "numpy";
            "stacked+onednn" and "compiled+onednn" compute large products by oneDNN.
        stacks: the runs, grouped as they are trained together.
        seconds: expected training time, without evaluation.
        note: remark for the user; or "".
        modelled: True if `seconds` comes from a model of the cost, not from timed steps.
        busy: True if another program used the processor when steps were timed.
    """

    engine: str
    stacks: tuple[tuple[RunSpec, ...], ...]
    seconds: float
    note: str = ""
    modelled: bool = False
    busy: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user."""
        return tuple(filter(None, (self.note, BUSY if self.busy else "")))

    @property
    def is_stacked(self) -> bool:
        """True if the stacked engine trains the runs."""
        return self.engine.startswith(("stacked", "compiled"))

    @property
    def width(self) -> int:
        """Number of runs in the largest stack."""
        return max(map(len, self.stacks))


class _Paced(NamedTuple):
    """Stacks, and the speed of their steps.

    Attributes:
        stacks: the stacks.
        seconds: seconds per run and step.
    """

    stacks: tuple[tuple[RunSpec, ...], ...]
    seconds: float


def _total(paced: _Paced) -> float:
    """Return the training time of stacks, without evaluation and compilation."""
    runs = chain.from_iterable(paced.stacks)
    training = sum(run.budget_seconds or paced.seconds * run.steps for run in runs)
    return training + _STACK_SECONDS * len(paced.stacks)


def _choice(engine: str, paced: _Paced, compiling: float = 0.0) -> Choice:
    return Choice(engine, paced.stacks, _total(paced) + compiling)


def _candidate(choice: Choice) -> Candidate:
    return choice.engine, choice.stacks[0]


def _seconds_of(choice: Choice) -> float:
    return choice.seconds


class Chooser:
    """Chooses the fastest engine and width of stacks by the speed of steps.

    Timing takes at most `most_seconds`; what would take longer is not tried. Compiling is tried if
    it is expected to save more than twice its time.

    Args:
        dataset: training data of all runs.
        place: device on which they are trained.
        timer: returns speeds.
        why_not_stacked: returns the reason why runs cannot be one stack, or "".
        most: most runs in a stack; None for the choice of optrial.
    """

    def __init__(
        self,
        dataset: Dataset,
        place: torch.device,
        timer: Times,
        why_not_stacked: Callable[[Sequence[RunSpec]], str],
        most: int | None = None,
    ) -> None:
        self._dataset = dataset
        self._place = place
        self._timer = timer
        self._why_not_stacked = why_not_stacked
        self._most = min(most or _WIDTHS[-1], _WIDTHS[-1])
        self._known_kernels: dict[tuple[str, str], int] = {}
        self._known_tensors: dict[str, int] = {}
        self._spent_before = 0.0

    def choose(self, runs: Sequence[RunSpec]) -> Choice:
        """Choose for runs that could be one stack: as their study says, else the fastest way."""
        try:
            plain = self._estimate(runs).seconds
            plain += _STACK_SECONDS * len(runs)
            self._spent_before = self._timer.spent
            choice = self._choose(runs, plain)
            note = choice.note or self._memory_note(runs, choice)
            modelled = choice.modelled or self._timer.modelled
            return replace(choice, note=note, modelled=modelled, busy=self._timer.busy)
        except (EngineError, NotKeptError):
            raise
        except USER_CODE_ERRORS as error:  # training fails likewise, and records the failure
            return self.one_by_one(runs, self._untried(error))

    def _choose(self, runs: Sequence[RunSpec], plain: float) -> Choice:
        first, alone = runs[0], tuple((run,) for run in runs)
        if first.engine == "numpy" and not first.uses_torch:
            return Choice("numpy", alone, plain, modelled=True)
        reference = Choice("reference", alone, plain, modelled=True)
        if first.engine == "reference" or first.rng == "script" or first.uses_torch:
            return reference
        guess = _Paced(alone, plain / max(1, sum(run.steps for run in runs)))
        if first.engine == "auto" and (
            len(runs) == 1
            or plain < _WORTH_MEASURING
            or not self._is_worth(guess, ("stacked", runs[: _WIDTHS[0]]))
        ):
            return reference
        if reason := self._why_not_stacked(runs):
            return replace(reference, note=f"trained one by one: {reason}")
        return self._fastest(runs, guess)

    def _is_worth(self, best: _Paced, *candidates: Candidate) -> bool:
        """Return whether candidates may be timed, by the fastest stacks that are known."""
        least = least_seconds(best.seconds, sum(len(runs) for _, runs in candidates))
        return self._timer.are_known(*candidates) or least <= self._left(best)

    def _left(self, best: _Paced) -> float:
        """Return the seconds that timing may still take, by the fastest stacks that are known."""
        return most_seconds(_total(best)) - (self._timer.spent - self._spent_before)

    def _memory_note(self, runs: Sequence[RunSpec], choice: Choice) -> str:
        """Return what memory forbids: one run, or a stack of all runs; else ""."""
        limit = self._limit
        needed = self._estimate(runs[:1]).stack_bytes
        if needed > limit.free:
            return needs_memory("one run", needed, limit)
        most = min(len(runs), self._most)
        if choice.is_stacked and not self._fit(runs[:most]):
            needed = self._estimate(runs[:most], most).stack_bytes
            number = f"{choice.width} run{'s' * (choice.width != 1)} at a time"
            return f"{number}: a stack of {most} {shortage(needed, limit)}"
        return ""

    def one_by_one(self, runs: Sequence[RunSpec], reason: str) -> Choice:
        """Choose to train runs one by one, for a reason."""
        first = runs[0]
        engine = "numpy" if first.engine == "numpy" and not first.uses_torch else ""
        stacks = tuple((run,) for run in runs)
        return Choice(engine or "reference", stacks, 0.0, f"trained one by one: {reason}")

    def _untried(self, error: BaseException) -> str:
        """Return why runs could not be tried."""
        if out_of_memory(error):
            return f"memory ran out when a few steps were tried; {self._limit}"
        return reason_of(error)

    def _fastest(self, runs: Sequence[RunSpec], guess: _Paced) -> Choice:
        by_width = self._by_width(runs, guess)
        best = min(by_width, key=_total)
        library, share = self._library(best)
        best = _Paced(best.stacks, share * best.seconds)
        eager = [_choice(f"stacked{library}", best)]
        compiled = [self._compiled(_Paced(s, share * one), library) for s, one in by_width]
        guesses = [min(compiled, key=_seconds_of)]
        if runs[0].engine == "auto":
            ((seconds, _),) = self._timer.times(("reference", runs[:1]), within=self._left(best))
            alone = _Paced(tuple((run,) for run in runs), seconds)
            eager.append(_choice("reference", alone))
            close = 1 / _CLOSE < eager[1].seconds / eager[0].seconds < _CLOSE
            if close and self._is_worth(best, *map(_candidate, eager)):
                eager = self._in_turns(eager, best)
            guesses.append(self._compiled(alone))
        fastest = min(eager, key=_seconds_of)
        if runs[0].compile == "always":
            return min(guesses, key=_seconds_of)
        tried = [
            guess
            for guess in guesses
            if runs[0].compile == "auto"
            and guess.seconds + self._compile_seconds(guess.stacks[0]) < fastest.seconds
        ]
        if not tried:
            return fastest
        if not can_compile():
            return replace(fastest, note=_NO_COMPILER)
        return min(self._in_turns([fastest, *tried], best), key=_seconds_of)

    def _library(self, best: _Paced) -> tuple[str, float]:
        """Return the faster library of large products, as a suffix of the engine's name.

        Also returns the time of a step, as a share of the time with PyTorch's default. oneDNN is
        tried if the model has large products, memory holds two stacks, and there is time.
        """
        stack = best.stacks[0]
        run, default = stack[0], ("", 1.0)
        if self._timer.modelled or self._place.type != "cpu" or run.precision == "float64":
            return default
        if len(stack) == 1 or not has_onednn():
            return default
        model, samples = stackable_model(run, self._dataset), len(stack) * run.batch_size
        dtype = input_dtype(self._dataset.vocabulary)
        rows = linear_rows(model, self._dataset.input_shape, dtype)
        layers = ((m, rows[n]) for n, m in model.named_modules() if type(m) is nn.Linear)
        large = any(is_large(layer, samples * count) for layer, count in layers)
        pair: tuple[Candidate, Candidate] = ("stacked", stack), ("stacked+onednn", stack)
        if not large or not self._fit(stack, stack) or not self._is_worth(best, *pair):
            return default
        known, tried = self._timer.times(*pair, within=self._left(best))
        share = tried.seconds / known.seconds
        return ("+onednn", share) if share < _FASTER else default

    def _in_turns(self, choices: Sequence[Choice], best: _Paced) -> list[Choice]:
        """Time choices side by side, because the machine's pace changes between measurements.

        If memory does not hold all of them at once, or nothing is timed, return them as they are.
        """
        if self._timer.modelled or not self._fit(*(choice.stacks[0] for choice in choices)):
            return list(choices)
        try:
            times = self._timer.times(*map(_candidate, choices), within=self._left(best))
        except Exception as error:
            if not out_of_memory(error):
                raise
            return list(choices)
        timed = []
        for choice, (seconds, first_step) in zip(choices, times, strict=True):
            compiles = choice.engine.startswith("compiled")
            compiling = first_step * len(choice.stacks) if compiles else 0.0
            timed.append(_choice(choice.engine, _Paced(choice.stacks, seconds), compiling))
        return timed

    def _compiled(self, paced: _Paced, library: str = "") -> Choice:
        """Guess the time of compiled stacks, each compiled by itself, from uncompiled steps."""
        stacks, seconds = paced
        is_alone = len(stacks[0]) == 1
        share = _COMPILED_ALONE if is_alone else _COMPILED_SHARE
        engine = "compiled" if is_alone else f"compiled{library}"
        compiling = sum(map(self._compile_seconds, stacks))
        return _choice(engine, _Paced(stacks, share * seconds), compiling)

    def _compile_seconds(self, runs: Sequence[RunSpec]) -> float:
        """Guess the time to compile a stack."""
        constant, kernel, update = _COMPILE_SECONDS
        rules = {(run.rule, run.decay, run.structure) for run in runs}
        updates = len(rules) * self._tensors(runs[0])
        kernels = self._kernels(runs[0]) if len(runs) > 1 else 0  # gradient of one: not compiled
        return constant + kernel * kernels + update * updates

    def _tensors(self, run: RunSpec) -> int:
        """Return the number of parameter tensors of a run."""
        if run.without_seed not in self._known_tensors:
            tensors = estimate([run], self._dataset).tensors
            self._known_tensors[run.without_seed] = tensors
        return self._known_tensors[run.without_seed]

    def _kernels(self, run: RunSpec) -> int:
        """Return the number of kernels that the forward pass of a run in a stack calls."""
        model = run.model, repr(run.model_arguments)
        if model not in self._known_kernels:
            built = stackable_model(run, self._dataset)
            dtype = input_dtype(self._dataset.vocabulary)
            kernels = call_count(built, self._dataset.input_shape, dtype)
            self._known_kernels[model] = kernels
        return self._known_kernels[model]

    def _by_width(self, runs: Sequence[RunSpec], guess: _Paced) -> list[_Paced]:
        """Return stacks of increasing width and their speed, until training takes longer again.

        A width that seems no faster is timed beside the best one, because the machine's pace
        changes.
        """
        grids = grids_of(runs)
        measured: list[_Paced] = []
        for width in self._widths(runs):
            stacks = tuple(stacks_of(grids, width))
            best = min(measured, key=_total, default=None)
            if best is not None and not self._is_worth(best, ("stacked", stacks[0])):
                break
            try:
                ((seconds, _),) = self._timer.times(
                    ("stacked", stacks[0]), within=self._left(best or guess)
                )
                paced = _Paced(stacks, seconds)
                if best is not None and _total(paced) > _FASTER * _total(best):
                    paced = self._beside(best, paced)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                break
            measured.append(paced)
            if best is not None and _total(paced) > _FASTER * _total(best):
                break
        if not measured:
            ((seconds, _),) = self._timer.times(("stacked", runs[:1]), within=self._left(guess))
            measured.append(_Paced(tuple(stacks_of(grids, 1)), seconds))
        return measured

    def _beside(self, best: _Paced, paced: _Paced) -> _Paced:
        """Return stacks with the speed that they have beside the best ones.

        They are infinitely slow if memory does not hold both, or nothing is timed; if there is no
        time, their speed stays.
        """
        known, stack = best.stacks[0], paced.stacks[0]
        if self._timer.modelled or not self._fit(known, stack):
            return _Paced(paced.stacks, math.inf)
        pair: tuple[Candidate, Candidate] = ("stacked", known), ("stacked", stack)
        if not self._is_worth(best, *pair):
            return paced
        before, now = self._timer.times(*pair, within=self._left(best))
        return _Paced(paced.stacks, best.seconds * now.seconds / before.seconds)

    def _widths(self, runs: Sequence[RunSpec]) -> list[int]:
        """Return the widths of stacks to try: those that fit into memory, in ascending order."""
        count = min(len(runs), self._most)
        widths = [*(width for width in _WIDTHS if width < count), count]
        fitting = [width for width in widths if self._fit(runs[:width])]
        return fitting or ([2] if count > 2 and self._fit(runs[:2]) else [])

    def _fit(self, *stacks: Sequence[RunSpec]) -> bool:
        """Return whether stacks fit into memory, all at once, with room to spare."""
        needed = sum(self._estimate(runs, len(runs)).stack_bytes for runs in stacks)
        return needed <= _SHARE_OF_MEMORY * self._limit.free

    def _estimate(self, runs: Sequence[RunSpec], width: int = 1) -> Estimate:
        return estimate(runs, self._dataset, width, on_cuda=self._place.type == "cuda")

    @property
    def _limit(self) -> MemoryLimit:
        return device_limit(self._place)
