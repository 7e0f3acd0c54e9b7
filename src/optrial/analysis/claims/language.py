"""The language of claims, as a study file has them.

    A > B on METRIC               A is better than B: lower for a loss, as declared for a metric
    A > B on METRIC by AMOUNT     better by more than that
    A is best on METRIC           better than every other optimizer of the study
    A ~ B on METRIC within AMOUNT they differ by less than that
    A reaches METRIC VALUE in fewer steps than B
    A reaches METRIC VALUE in less time than B
    A reaches METRIC VALUE sooner than B          the same as in fewer steps

Each may end with ``in PROBLEM``. Without, it is about every problem of the study, each by itself.
A name with spaces or one of ``> ~ ' "`` in it is put in quotes. An amount is a number in the unit
of the metric, ``0.01``; for an accuracy ``0.5 points`` or ``0.5%`` is 0.005; for any other metric
``0.5%`` is that share of B's mean. A value is a number in the unit of the metric; for an accuracy
``95%`` is 0.95.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from optrial.analysis.statistics import Values, known_values
from optrial.analysis.targets import Target, Unit, target_metric_problem
from optrial.errors import Problem, quoted, suggest
from optrial.spec import TRAINING_SECONDS, Direction, Directions, undeclared

__all__ = ["Amount", "Claim", "ClaimKind", "parse_claims", "parse_target"]


class ClaimKind(StrEnum):
    """The relation that a claim states."""

    BETTER = ">"
    BEST = "is best"
    EQUIVALENT = "~"
    REACHES = "reaches"


@dataclass(frozen=True)
class Amount:
    """A difference: a number in the unit of the metric, or a share of the second's mean."""

    value: float
    relative: bool = False

    def of(self, values: Values) -> float:
        """Return the difference in the unit of the metric; NaN if no value is finite."""
        if not self.relative:
            return self.value
        finite = [value for value in known_values(values).values() if math.isfinite(value)]
        return self.value * abs(math.fsum(finite) / len(finite)) if finite else math.nan


@dataclass(frozen=True)
class Claim:
    """One claim of a study.

    Attributes:
        text: the claim as written.
        kind: the relation that it states.
        first: name of an optimizer.
        second: name of the other one; empty for "is best".
        metric: name of the metric.
        amount: the least difference of ``by``, the margin of ``within``; otherwise 0.
        better: direction of the metric; may be None only for "~", which needs none.
        percent: whether the metric is a fraction, shown in percentage points.
        target: the target of "reaches"; None for every other kind.
        unit: of the time to the target.
        problem: name of the problem that the claim is about; empty for every problem.
    """

    text: str
    kind: ClaimKind
    first: str
    second: str
    metric: str
    amount: Amount = Amount(0.0)
    better: Direction | None = None
    percent: bool = False
    target: Target | None = None
    unit: Unit = "steps"
    problem: str = ""

    @property
    def optimizers(self) -> tuple[str, ...]:
        """The optimizers that the claim names."""
        return (self.first, self.second) if self.second else (self.first,)

    @property
    def about_seconds(self) -> bool:
        """True if the claim is about the time that training takes."""
        return self.metric == TRAINING_SECONDS or self.unit == "seconds"


class _Token(NamedTuple):
    text: str
    column: int  # 1 for the first character
    quoted: bool


_TOKEN = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([>~"'])|([^\s"'>~]+))""")
_NUMBER = r"\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?"
_AMOUNT = re.compile(rf"({_NUMBER})\s*(points?|%)?", re.IGNORECASE)
_VALUE = re.compile(rf"([+-]?(?:{_NUMBER}))(%)?", re.IGNORECASE)


class _ClaimError(ValueError):
    """The first thing that is wrong with a claim."""


class _Reader:
    """Reads a claim word by word."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [
            _Token(
                next(group for group in match.groups() if group is not None),
                match.end() - len(match[0].lstrip()) + 1,
                match.lastindex in (1, 2),
            )
            for match in _TOKEN.finditer(text)
        ]

    def next(self, expected: str) -> _Token:
        """Read the next word; `expected` describes it in an error."""
        if not self.tokens:
            raise _ClaimError(f"ends at column {len(self.text.rstrip()) + 1}, expected {expected}.")
        return self.tokens.pop(0)

    def word(self, *allowed: str) -> str:
        """Read the next word, which must be one of those allowed."""
        expected = " or ".join(f"'{word}'" for word in allowed)
        token = self.next(expected)
        if token.quoted or token.text not in allowed:
            raise _ClaimError(f"column {token.column}: '{token.text}', expected {expected}.")
        return token.text

    def name(self, kind: str, known: Sequence[str]) -> str:
        """Read the name of an optimizer or a metric; an empty `known` allows every name."""
        token = self.next(f"the name of {kind}")
        if not token.quoted and token.text in (">", "~", '"', "'"):
            raise _ClaimError(f"column {token.column}: '{token.text}', expected {kind}'s name.")
        if known and token.text not in known:
            is_not = f"'{token.text}' is not {kind} of this study"
            way_out = " To leave out all claims: claims: []." * (kind == "an optimizer")
            raise _ClaimError(
                f"column {token.column}: {is_not}. {suggest(token.text, known)}{way_out}"
            )
        return token.text

    def value(self, percent: bool) -> float:
        """Read a value of a metric; one of a `percent` metric may be in percent."""
        expected = "a value, such as 0.95 or 95%" if percent else "a value, such as 0.1"
        token = self.next(expected)
        match = _VALUE.fullmatch(token.text)
        if not match or (match[2] and not percent):
            raise _ClaimError(f"column {token.column}: '{token.text}', expected {expected}.")
        return float(match[1]) / 100 if match[2] else float(match[1])

    def end(self) -> None:
        """Refuse further words."""
        if self.tokens:
            extra = self.tokens[0]
            raise _ClaimError(f"column {extra.column}: '{extra.text}', expected the end.")

    def problem(self, known: Sequence[str]) -> str:
        """Take ``in PROBLEM`` off the end; return the name, or "" if the claim names none."""
        if len(self.tokens) < 2 or self.tokens[-2].quoted or self.tokens[-2].text != "in":
            return ""
        token = self.tokens[-1]
        if known and token.text not in known:
            is_not = f"'{token.text}' is not a problem of this study"
            raise _ClaimError(f"column {token.column}: {is_not}. {suggest(token.text, known)}")
        del self.tokens[-2:]
        return token.text

    def amount(self, metric: str, percent: bool) -> Amount:
        """Read the rest, which must be an amount; only a `percent` metric has points."""
        column = self.tokens[0].column if self.tokens else len(self.text.rstrip()) + 1
        rest = " ".join(token.text for token in self.tokens)
        self.tokens = []
        match = _AMOUNT.fullmatch(rest)
        if not match or not float(match[1]) > 0:
            expected = "an amount above 0, such as 0.01, 0.5 points or 0.5%"
            raise _ClaimError(f"column {column}: '{rest}', expected {expected}.")
        value, unit = float(match[1]), (match[2] or "").lower()
        if unit.startswith("point") and not percent:
            way_out = "write a number in its unit, or a share such as 5%"
            raise _ClaimError(f"column {column}: '{metric}' has no points; {way_out}.")
        return Amount(value / 100 if unit else value, unit == "%" and not percent)


@dataclass(frozen=True)
class _Grammar:
    """The names that claims may use; no names allow every name."""

    optimizers: Sequence[str]
    metrics: Sequence[str]
    directions: Directions
    problems: Sequence[str] = ()

    def read(self, text: str) -> Claim:
        """Return the claim of a text."""
        reader = _Reader(text)
        problem = reader.problem(self.problems)
        first = reader.name("an optimizer", self.optimizers)
        relation = reader.word(*_READERS)
        claim = _READERS[relation](self, reader, text, first)
        reader.end()
        if claim.second == claim.first:
            raise _ClaimError(f"compares '{first}' with itself; name two optimizers.")
        return replace(claim, problem=problem)

    def better(self, reader: _Reader, text: str, first: str) -> Claim:
        """Read ``> B on METRIC by AMOUNT`` from the second name on."""
        second, metric = reader.name("an optimizer", self.optimizers), self._metric(reader)
        percent, amount = self.directions.percent(metric), Amount(0.0)
        if reader.tokens:
            reader.word("by")
            amount = reader.amount(metric, percent)
        better = self._direction(metric)
        return Claim(text, ClaimKind.BETTER, first, second, metric, amount, better, percent)

    def equivalent(self, reader: _Reader, text: str, first: str) -> Claim:
        """Read ``~ B on METRIC within AMOUNT`` from the second name on."""
        second, metric = reader.name("an optimizer", self.optimizers), self._metric(reader)
        better, percent = self.directions.better(metric), self.directions.percent(metric)
        reader.word("within")
        amount = reader.amount(metric, percent)
        return Claim(text, ClaimKind.EQUIVALENT, first, second, metric, amount, better, percent)

    def best(self, reader: _Reader, text: str, first: str) -> Claim:
        """Read ``is best on METRIC`` from "best" on."""
        reader.word("best")
        metric = self._metric(reader)
        better, percent = self._direction(metric), self.directions.percent(metric)
        return Claim(text, ClaimKind.BEST, first, "", metric, better=better, percent=percent)

    def reaches(self, reader: _Reader, text: str, first: str) -> Claim:
        """Read ``reaches METRIC VALUE in fewer steps than B`` from the metric on."""
        metric = reader.name("a metric", self.metrics)
        if problem := target_metric_problem(metric, self.metrics, self.directions):
            raise _ClaimError(problem)
        percent = self.directions.percent(metric)
        target, unit = Target(metric, reader.value(percent), percent), self._unit(reader)
        reader.word("than")
        second = reader.name("an optimizer", self.optimizers)
        better = self.directions.better(metric)
        return Claim(
            text,
            ClaimKind.REACHES,
            first,
            second,
            metric,
            better=better,
            percent=percent,
            target=target,
            unit=unit,
        )

    def _unit(self, reader: _Reader) -> Unit:
        if reader.word("in", "sooner") == "sooner":
            return "steps"
        if reader.word("fewer", "less") == "fewer":
            reader.word("steps")
            return "steps"
        reader.word("time")
        return "seconds"

    def _metric(self, reader: _Reader) -> str:
        reader.word("on")
        return reader.name("a metric", self.metrics)

    def _direction(self, metric: str) -> Direction:
        better = self.directions.better(metric)
        if better is None:
            way_out = "declare it under problem.metrics: {name: module:function, better: lower}"
            raise _ClaimError(f"{undeclared(metric)}; {way_out}, or higher.")
        return better


_READERS = {
    ">": _Grammar.better,
    "~": _Grammar.equivalent,
    "is": _Grammar.best,
    "reaches": _Grammar.reaches,
}

CATALOGUE = Directions()
"""Directions of a study without user-defined metrics."""


def parse_claims(
    texts: Sequence[str],
    optimizers: Sequence[str] = (),
    metrics: Sequence[str] = (),
    directions: Directions = CATALOGUE,
    problems: Sequence[str] = (),
) -> tuple[list[Claim], list[Problem]]:
    """Read the claims of a study; return the valid ones, and a problem for each other.

    Args:
        texts: claims as the module describes them.
        optimizers: names of the optimizers; none allows every name.
        metrics: names of the metrics; none allows every name.
        directions: directions of the metrics.
        problems: names of the problems; none allows every name.
    """
    grammar = _Grammar(optimizers, metrics, directions, problems)
    claims, invalid = [], []
    for index, text in enumerate(texts):
        try:
            claims.append(grammar.read(str(text)))
        except _ClaimError as error:
            invalid.append(Problem(f"claims[{index}]", f"{quoted(str(text))}: {error}"))
    return claims, invalid


def parse_target(text: str, directions: Directions = CATALOGUE) -> tuple[str, float | None]:
    """Read ``METRIC VALUE``, or ``METRIC``, as in claims; the value is None if it is missing.

    Args:
        text: such as "validation_accuracy 95%".
        directions: directions of the metrics.

    Raises:
        ValueError: the text is neither, and says what was expected.
    """
    reader = _Reader(text)
    metric = reader.name("a metric", ())
    value = reader.value(directions.percent(metric)) if reader.tokens else None
    reader.end()
    return metric, value
