"""Modifications that are often added to a rule: clipping, normalizing, cautious steps, ..."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from optrial.certifying.changes import (
    GRADIENT,
    LR,
    ONE,
    PARAMETER,
    TIME,
    Change,
    difference,
    product,
    quotient,
    read_otherwise,
)
from optrial.replay.equations import Assignment, Expression, Program, name, number

__all__ = ["CLIPS", "clippings", "modifications"]

CLIPS = 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0, 1000.0
"""Usual bounds of gradients, and of their norms."""


def clippings() -> Iterator[tuple[str, Assignment]]:
    """Yield the usual clippings of a gradient, as sentences and lines."""
    for bound in CLIPS:
        most = Expression("number", repr(bound))
        clipped = Assignment("g", _between(GRADIENT, most))
        yield f"clips each coordinate of the gradient at {bound:g}", clipped
        size = quotient(Expression("‖", parts=(GRADIENT,)), most)
        scaled = quotient(GRADIENT, Expression("max", parts=(ONE, size)))
        yield (
            f"scales the gradient of a tensor to a norm of at most {bound:g}",
            Assignment("g", scaled),
        )


def modifications(program: Program) -> Iterator[tuple[str, str, Change]]:
    """Yield modifications that are often added to a rule, as topics, sentences and changes."""
    mean, size = (Expression(operator, parts=(GRADIENT,)) for operator in ("mean", "‖"))
    for sentence, value in (
        ("subtracts the mean from the gradient of a tensor", difference(GRADIENT, mean)),
        ("divides the gradient of a tensor by its norm", quotient(GRADIENT, _positive(size))),
    ):
        line = Assignment("g", value)
        yield "gradient", sentence, lambda p, line=line: replace(p, lines=(line, *p.lines))  # type: ignore[misc]
    for topic, sentence, step in (
        (
            "direction",
            "moves only coordinates whose step goes along the gradient (cautious)",
            lambda step: product(step, _along(step)),
        ),
        (
            "direction",
            "moves only coordinates whose step goes along the gradient, by more for each that "
            "does not (cautious)",
            lambda step: product(
                step, quotient(_along(step), _positive(Expression("mean", parts=(_along(step),))))
            ),
        ),
        (
            "clipping",
            "bounds the step of each coordinate by lr",
            lambda step: _between(step, LR),
        ),
        (
            "clipping",
            "scales the step of a tensor to a root mean square of at most lr",
            lambda step: quotient(
                step,
                Expression("max", parts=(ONE, quotient(Expression("rms", parts=(step,)), LR))),
            ),
        ),
        (
            "learning rate",
            "scales the step of a tensor to lr times the norm of its weights (trust ratio)",
            lambda step: product(
                quotient(step, _positive(Expression("‖", parts=(step,)))),
                product(LR, Expression("‖", parts=(PARAMETER,))),
            ),
        ),
    ):
        yield topic, sentence, lambda p, step=step: _with_step(p, step)  # type: ignore[misc]
    for index, line in enumerate(program.lines):
        if (rate := _decay_rate(line)) is not None:
            correction = difference(ONE, Expression("^", parts=(rate, TIME)))
            new = quotient(name(line.symbol), correction)
            is_corrected = any(
                part == new for other in program.lines for _, part in other.value.places()
            )
            how = " twice" if is_corrected else ", which the rule does not"
            corrected = {name(line.symbol): new}
            yield (
                "bias correction",
                f"corrects {line.symbol} for its bias{how}",
                lambda p, i=index, new=corrected: read_otherwise(p, i, p.lines[i], new),  # type: ignore[misc]
            )


def _positive(part: Expression) -> Expression:
    """Return a part that is not 0, as a divisor."""
    return Expression("max", parts=(part, Expression("number", "1e-30")))


def _along(step: Expression) -> Expression:
    """Return 1 where a step has the sign of the gradient, 0 elsewhere."""
    agreement = Expression("sign", parts=(product(step, GRADIENT),))
    return Expression("max", parts=(agreement, number(0)))


def _between(part: Expression, most: Expression) -> Expression:
    least = Expression("neg", parts=(most,))
    return Expression("max", parts=(Expression("min", parts=(part, most)), least))


def _with_step(program: Program, new: Callable[[Expression], Expression]) -> Program | None:
    """Return a program that takes a changed step in its last line, θ ← θ − step."""
    line = program.lines[-1]
    if line.symbol != "θ" or line.value.operator != "−" or line.value.parts[0] != PARAMETER:
        return None
    changed = replace(line, value=difference(PARAMETER, new(line.value.parts[1])))
    return replace(program, lines=(*program.lines[:-1], changed))


def _decay_rate(line: Assignment) -> Expression | None:
    """Return b of X ← b·X + (1 − b)·Y; None for other lines."""
    value = line.value
    if value.operator != "+" or value.parts[0].operator != "·" or value.parts[1].operator != "·":
        return None
    (rate, kept), (share, _) = (part.parts for part in value.parts)
    is_average = kept == name(line.symbol) and share == difference(ONE, rate)
    return rate if is_average else None
