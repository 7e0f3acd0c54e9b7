"""Specs and facts as JSON in lines; a line that many runs share is written and read once.

A spec is a line of all values but the seed, and a line of the seed. Facts are three lines: those
that the runs of a stack share, those of a seed and those of one run. Text within JSON contains no
line breaks, so that lines need no parsing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from functools import partial
from operator import attrgetter

from optrial.records.encoding import decode_fields, encode_values, from_json, strict
from optrial.records.forms import fields_fit
from optrial.spec import RunFacts, RunSpec, StackId

__all__ = ["FactsWriter", "TextReader", "spec_text"]

_BREAK = ",\n"
_SEED = f'{_BREAK}"seed": '
_END = "\n}"

_OF_A_SEED = (
    *("initial_parameters_sha256", "first_batches_sha256"),
    *("epoch_batches_sha256", "first_masks_sha256"),
)
_OF_A_RUN = (
    *("parameters_sha256", "weights_sha256", "saved_step", "not_finite", "timeout"),
    *("evaluation_difference", "replicate_difference"),
    *("stack_certificate", "stack_neighbour", "parity"),
)
_NAMES = [field.name for field in fields(RunFacts)]
_LINES = [
    [name for name in _NAMES if name not in (*_OF_A_SEED, *_OF_A_RUN)],
    [name for name in _NAMES if name in _OF_A_SEED],
    [name for name in _NAMES if name in _OF_A_RUN],
]


def spec_text(spec: RunSpec) -> str:
    """Return a spec as JSON."""
    return _object([spec.json_without_seed[1:-1], f'"seed": {spec.seed}'])


class FactsWriter:
    """Writes the facts of many runs as JSON."""

    def __init__(self) -> None:
        self._texts: dict[tuple[int, ...], str] = {}
        self._written: list[RunFacts] = []  # as long as they live, their ids are those of values

    def text(self, facts: RunFacts) -> str:
        """Return facts as JSON, without those that are None."""
        self._written.append(facts)
        lines = [self._line(n, names, values(facts)) for n, (names, values) in enumerate(_GROUPS)]
        return _object([line for line in lines if line])

    def _line(self, number: int, names: Sequence[str], values: Sequence[object]) -> str:
        key = (number, *map(id, values))
        if key not in self._texts:
            plain = encode_values(zip(names, values, strict=True))
            self._texts[key] = json.dumps(strict(plain), allow_nan=False)[1:-1]
        return self._texts[key]


_GROUPS = [(names, attrgetter(*names)) for names in _LINES]


class TextReader:
    """Reads the specs and facts of many runs; equal values are one object.

    Most runs follow one of the same setting and stack. Their texts begin alike, which is compared
    faster than a line is looked up.

    Args:
        decoding: makes a context, from the id of a run, that explains why its facts cannot be
            decoded.
    """

    def __init__(
        self, decoding: Callable[[str], AbstractContextManager[object]] = nullcontext
    ) -> None:
        self._decoding = decoding
        self._specs: dict[str, RunSpec] = {}
        self._facts: dict[str, RunFacts] = {}
        self._values: dict[str, dict[str, object]] = {}
        self._stacks: dict[str, StackId] = {}
        self._last_spec: tuple[str, RunSpec | None] = "", None
        self._last_facts: tuple[str, RunFacts | None] = "", None

    def spec(self, text: str) -> RunSpec:
        """Return a spec.

        Raises:
            ValueError, TypeError: the text is no spec.
        """
        start, spec = self._last_spec
        if spec is None or not text.startswith(start):
            setting, seed_follows, _ = text.partition(_SEED)
            if not seed_follows:
                return _spec_of(text)
            spec = self._specs.get(setting)
            if spec is None:
                spec = self._specs[setting] = _spec_of(text)
            start = setting + seed_follows
            self._last_spec = start, spec
        return spec.with_seed(int(text[len(start) :].removesuffix(_END)))

    def stack(self, text: str) -> StackId:
        """Return the id of a stack.

        Raises:
            ValueError: the text is no id.
        """
        if text not in self._stacks:
            self._stacks[text] = StackId.parse(text)
        return self._stacks[text]

    def facts(self, run_id: str, text: str) -> RunFacts:
        """Return the facts of a run, which are decoded when they are first used."""
        start, shared = self._last_facts
        if shared is None or not text.startswith(start):
            line, others_follow, _ = text.partition(_BREAK)
            start = line + others_follow
            shared = self._facts.get(start)
            if shared is None:
                first = line[1:] if others_follow else line[1:-1]
                shared = RunFacts().deferred(partial(self._decoded, run_id, first))
                self._facts[start] = shared
            self._last_facts = start, shared
        return shared.deferred(partial(self._decoded, run_id, text[len(start) :]))

    def _decoded(self, run_id: str, text: str) -> dict[str, object]:
        try:
            return self._values_of_lines(text)
        except Exception:
            with self._decoding(run_id):  # entering it each time would take longer than decoding
                raise

    def _values_of_lines(self, text: str) -> dict[str, object]:
        *shared, last = text.removesuffix(_END).split(_BREAK)
        values = _values_of(last)
        for line in shared:
            if line not in self._values:
                self._values[line] = _values_of(line)
            values |= self._values[line]
        return values


def _spec_of(text: str) -> RunSpec:
    values = json.loads(text)
    if not fields_fit(RunSpec, values):
        raise ValueError("a value of the spec has another type")
    spec = RunSpec.from_dict(values)
    if min(spec.steps, spec.batch_size - 1, spec.steps_per_epoch - 1, spec.evaluate_every - 1) < 0:
        raise ValueError("a count of the spec is too small")
    return spec


def _object(lines: Sequence[str]) -> str:
    return "{\n" + _BREAK.join(lines) + _END


def _values_of(line: str) -> dict[str, object]:
    return decode_fields(RunFacts, from_json("{" + line.strip("\n") + "}"))
