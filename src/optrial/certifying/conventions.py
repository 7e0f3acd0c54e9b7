"""Known conventions in which implementations of a rule differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from optrial.certifying.changes import (
    DECAY,
    DECAY_OF_GRADIENT,
    DECAY_OF_WEIGHTS,
    EPS,
    GRADIENT,
    LR,
    MOMENTUM,
    ONE,
    PARAMETER,
    TIME,
    Change,
    Convention,
    corrected_maximum,
    difference,
    of_root,
    product,
    quotient,
    read_otherwise,
    root,
    total,
)
from optrial.replay.equations import (
    DECAY_LINES,
    Assignment,
    Condition,
    Expression,
    Program,
    name,
    number,
)

__all__ = ["CONVENTIONS", "running_products"]

TINY = Expression("number", "1e-15")


def _uncorrected(inner: Expression, least: Expression | None = None) -> Expression | None:
    """Return (√(v + least) + eps) / √c for A = v / c."""
    if inner.operator != "/":
        return None
    average, correction = inner.parts
    square = total(average, least) if least else average
    return quotient(total(root(square), EPS), root(correction))


def _eps_outside(program: Program) -> Program:
    """Move eps out of every √(A + eps)."""

    def change_part(part: Expression) -> Expression | None:
        if part.operator != "√" or part.parts[0].operator != "+" or part.parts[0].parts[1] != EPS:
            return None
        return total(root(part.parts[0].parts[0]), EPS)

    return program.mapped(change_part)


def _eps_after_maximum(program: Program) -> Program | None:
    """Add eps to every n of n ← max(A, B + eps) where it is read, in place of B."""
    for index, line in enumerate(program.lines):
        if line.value.operator != "max":
            continue
        kept, new = line.value.parts
        if new.operator == "+" and new.parts[1] == EPS:
            bare = replace(line, value=Expression("max", parts=(kept, new.parts[0])))
            damped = {name(line.symbol): total(name(line.symbol), EPS)}
            return read_otherwise(program, index, bare, damped)
    return None


def _is_correction(part: Expression, beta: str = "") -> bool:
    """Return whether a part is 1 − beta^t."""
    if part.operator != "−" or part.parts[0] != ONE or part.parts[1].operator != "^":
        return False
    base, exponent = part.parts[1].parts
    return exponent == TIME and (not beta or base == name(beta))


def _without_correction(beta: str = "") -> Change:
    return lambda program: program.mapped(lambda part: ONE if _is_correction(part, beta) else None)


def running_products(program: Program) -> Program:
    """Correct averages by the products of decay rates, which differ from powers if rates change."""
    rates: dict[str, Expression] = {}

    def change_part(part: Expression) -> Expression | None:
        if not _is_correction(part):
            return None
        rate = part.parts[1].parts[0]
        rates[f"{rate}_product"] = rate
        return difference(ONE, name(f"{rate}_product"))

    corrected = program.mapped(change_part)
    lines = [Assignment(symbol, product(name(symbol), rate)) for symbol, rate in rates.items()]
    starts = {**dict.fromkeys(rates, ONE), **program.starts}
    first, *rest = corrected.lines
    return replace(corrected, lines=(first, *lines, *rest), starts=starts)


def _decay_line(program: Program) -> int | None:
    """Return the index of the line of l2 or decoupled weight decay that precedes the rule."""
    texts = [str(line) for line in program.lines[:1]]
    return 0 if texts and texts[0] in _DECAYS else None


_UNSCALED = Assignment("θ", difference(PARAMETER, product(DECAY, PARAMETER)))

_DIVIDED = Assignment("θ", quotient(PARAMETER, total(ONE, product(LR, DECAY))))

_DECAYS = {str(DECAY_OF_GRADIENT), str(DECAY_OF_WEIGHTS), *DECAY_LINES.values()}


def _decay(line: Assignment, *, last: bool = False, of_l2: bool = False) -> Change:
    """Return a change that puts a line of decay in place of the one that precedes the rule.

    Args:
        line: the new line.
        last: whether it comes last.
        of_l2: whether only l2 decay is replaced.
    """

    def change(program: Program) -> Program | None:
        if _decay_line(program) is None or (str(program.lines[0]) == str(line) and not last):
            return None
        if of_l2 and str(program.lines[0]) != str(DECAY_OF_GRADIENT):
            return None
        rest = program.lines[1:]
        lines = (*rest, line) if last else (line, *rest)
        return replace(program, lines=lines)

    return change


def _decayed_average(*, is_corrected: bool) -> Change:
    """Return a change that adds weight decay to the average of gradients where a step reads it.

    Args:
        is_corrected: whether the average is corrected for its bias before.
    """

    def change(program: Program) -> Program | None:
        averages = {line.symbol for line in program.lines if _is_average(line)}
        if _decay_line(program) is None:
            return None

        def change_part(part: Expression) -> Expression | None:
            average = part.parts[0] if is_corrected and part.operator == "/" else part
            is_whole = not is_corrected or (average != part and _is_correction(part.parts[1]))
            if average.operator != "name" or average.text not in averages or not is_whole:
                return None
            return total(part, product(DECAY, PARAMETER))

        rest = program.lines[1:]
        lines = tuple(
            replace(line, value=line.value.mapped(change_part)) if line.symbol == "θ" else line
            for line in rest
        )
        return replace(program, lines=lines) if lines != rest else None

    return change


def _is_average(line: Assignment) -> bool:
    """Return whether a line is s ← b·s + (1 − b)·g."""
    value = line.value
    return (
        value.operator == "+"
        and value.parts[0].operator == value.parts[1].operator == "·"
        and value.parts[0].parts[1] == name(line.symbol)
        and value.parts[1].parts[1] == GRADIENT
    )


def _averaged(program: Program) -> Program:
    """Add (1 − momentum)·X to the velocity in place of X."""

    def change_line(line: Assignment) -> Assignment:
        value = line.value
        kept = product(MOMENTUM, name(line.symbol))
        if value.operator == "+" and value.parts[0] == kept:
            share = product(difference(ONE, MOMENTUM), value.parts[1])
            return replace(line, value=total(kept, share))
        return line

    return replace(program, lines=tuple(map(change_line, program.lines)))


def _averaged_from_first(program: Program) -> Program:
    """Average gradients in the velocity, which starts at the first gradient."""
    averaged = _averaged(program)
    lines = [
        replace(new, condition=Condition(TIME, ONE), otherwise=old.value.parts[1])
        if new != old
        else new
        for old, new in zip(program.lines, averaged.lines, strict=True)
    ]
    return replace(program, lines=tuple(lines))


def _summed(program: Program) -> Program:
    """Add g to an average in place of (1 − beta)·g, for the average that is no square."""

    def change_line(line: Assignment) -> Assignment:
        value = line.value
        if value.operator != "+" or value.parts[1].operator != "·":
            return line
        share, rest = value.parts[1].parts
        is_average = share.operator == "−" and share.parts[0] == ONE
        if is_average and value.parts[0] == product(share.parts[1], name(line.symbol)):
            summed = total(value.parts[0], rest)
            return line if rest.operator == "^" else replace(line, value=summed)
        return line

    return replace(program, lines=tuple(map(change_line, program.lines)))


def _rate_inside(program: Program) -> Program | None:
    """Put lr into the velocity: u ← momentum·u + lr·X, θ ← θ − u."""
    for index, line in enumerate(program.lines):
        value = line.value
        kept = product(MOMENTUM, name(line.symbol))
        if value.operator == "+" and value.parts[0] == kept:
            inside = replace(line, value=total(kept, product(LR, value.parts[1])))
            lines = [*program.lines[:index], inside]
            for later in program.lines[index + 1 :]:
                outside = later.value.mapped(lambda part: ONE if part == LR else None)
                lines.append(replace(later, value=outside) if later.symbol == "θ" else later)
            return replace(program, lines=tuple(lines))
    return None


def _bound_one_ahead(program: Program) -> Program:
    """Bound by t^0.25 in place of (t − 1)^0.25."""
    behind = Expression("^", parts=(difference(TIME, ONE), Expression("number", "0.25")))
    ahead = Expression("^", parts=(TIME, Expression("number", "0.25")))
    return program.mapped(lambda part: ahead if part == behind else None)


def _constant_momentum(program: Program) -> Program:
    """Put beta1 in place of beta1·(1 − A) where A has momentum_decay."""
    beta1 = name("beta1")

    def change_part(part: Expression) -> Expression | None:
        is_scheduled = "momentum_decay" in part.names() and part.operator == "·"
        return beta1 if is_scheduled and part.parts[0] == beta1 else None

    return program.mapped(change_part)


CONVENTIONS: Sequence[Convention] = (
    Convention(
        "epsilon",
        "adds eps inside the root",
        of_root(lambda inner: root(total(inner, EPS))),
    ),
    Convention(
        "epsilon",
        "adds the square of eps inside the root",
        of_root(lambda inner: root(total(inner, Expression("^", parts=(EPS, number(2)))))),
    ),
    Convention(
        "epsilon",
        "adds eps inside the root, and again outside",
        of_root(lambda inner: total(root(total(inner, EPS)), EPS)),
    ),
    Convention("epsilon", "adds eps outside the root", _eps_outside),
    Convention("epsilon", "adds eps to the maximum, not inside it", _eps_after_maximum),
    Convention(
        "epsilon",
        "adds eps to the root before its bias correction",
        of_root(_uncorrected),
    ),
    Convention(
        "epsilon",
        "adds 1e-15 inside the root, and eps outside",
        of_root(lambda inner: total(root(total(inner, TINY)), EPS)),
    ),
    Convention(
        "epsilon",
        "adds 1e-15 inside the root, and eps to the root before its bias correction",
        of_root(lambda inner: _uncorrected(inner, TINY)),
    ),
    Convention(
        "epsilon",
        "takes the maximum of the root and eps in place of their sum",
        of_root(lambda inner: Expression("max", parts=(root(inner), EPS))),
    ),
    Convention("bias correction", "corrects no average for its bias", _without_correction()),
    Convention(
        "bias correction",
        "does not correct the average of the gradient for its bias",
        _without_correction("beta1"),
    ),
    Convention(
        "bias correction",
        "does not correct the average of squares for its bias",
        _without_correction("beta2"),
    ),
    Convention(
        "weight decay",
        "adds weight decay to the gradient (coupled, l2), which is decoupled in the rule",
        _decay(DECAY_OF_GRADIENT),
        is_kind_of_decay=True,
    ),
    Convention(
        "weight decay",
        "shrinks the weights by lr·weight_decay (decoupled), where the rule adds it to the "
        "gradient",
        _decay(DECAY_OF_WEIGHTS),
        is_kind_of_decay=True,
    ),
    Convention(
        "weight decay",
        "shrinks the weights by weight_decay, not by lr·weight_decay",
        _decay(_UNSCALED),
    ),
    Convention(
        "weight decay",
        "adds weight_decay·θ to the average of gradients, not to the gradient",
        _decayed_average(is_corrected=False),
        is_kind_of_decay=True,
    ),
    Convention(
        "weight decay",
        "adds weight_decay·θ to the corrected average of gradients, not to the gradient",
        _decayed_average(is_corrected=True),
        is_kind_of_decay=True,
    ),
    Convention(
        "weight decay",
        "divides the weights by 1 + lr·weight_decay after the step",
        _decay(_DIVIDED, last=True),
    ),
    Convention(
        "weight decay",
        "divides the weights by 1 + lr·weight_decay after the step, where l2 decay was asked for",
        _decay(_DIVIDED, last=True, of_l2=True),
    ),
    Convention(
        "weight decay",
        "divides the weights by 1 + lr·weight_decay before the step",
        _decay(_DIVIDED),
    ),
    Convention(
        "weight decay",
        "shrinks the weights after the step, not before it",
        _decay(DECAY_OF_WEIGHTS, last=True),
    ),
    Convention(
        "momentum",
        "averages gradients in the velocity, where the rule sums them",
        _averaged,
    ),
    Convention(
        "momentum",
        "averages gradients in the velocity, which starts at the first gradient (dampening), where "
        "the rule sums them",
        _averaged_from_first,
    ),
    Convention("momentum", "sums gradients, where the rule averages them", _summed),
    Convention(
        "momentum",
        "computes with beta1 at all steps, where the rule begins with a smaller momentum",
        _constant_momentum,
    ),
    Convention("learning rate", "puts lr inside the velocity", _rate_inside),
    Convention(
        "amsgrad",
        "takes the maximum of corrected averages, not of uncorrected ones",
        corrected_maximum,
    ),
    Convention(
        "clipping",
        "bounds the scaled gradient by t^0.25, one step ahead of (t − 1)^0.25",
        _bound_one_ahead,
    ),
)
