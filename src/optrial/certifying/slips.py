"""Slips that are often made in an implementation of a rule."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from optrial.certifying.changes import (
    DECAY,
    DECAY_OF_GRADIENT,
    DECAY_OF_WEIGHTS,
    EPS,
    GRADIENT,
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
from optrial.certifying.findings import Kind
from optrial.certifying.modifications import clippings, modifications
from optrial.errors import all_listed
from optrial.replay.equations import (
    DECAY_LINES,
    Assignment,
    Condition,
    Expression,
    Program,
    name,
    number,
)

__all__ = ["capped", "constant", "slips"]


def _correction_outside(inner: Expression) -> Expression | None:
    """Return √v / c + eps for A = v / c."""
    if inner.operator != "/":
        return None
    average, correction = inner.parts
    return total(quotient(root(average), correction), EPS)


def _root_of_correction(inner: Expression) -> Expression | None:
    """Return v / √c + eps for A = v / c."""
    if inner.operator != "/":
        return None
    average, correction = inner.parts
    return total(quotient(average, root(correction)), EPS)


def slips(program: Program, defaults: Mapping[str, float]) -> Iterator[Convention]:
    """Yield the slips that are often made in an implementation of a program.

    Args:
        program: the equations of the rule.
        defaults: hyperparameter -> its default.
    """
    yield from _in_decay(program)
    yield _fault("direction", "steps uphill: the sign of the step is reversed", _renamed_gradient)
    for label, default in defaults.items():
        if label in program.names():
            yield from _in_hyperparameter(label, default)
    rates = sorted(_RATES & program.names())
    if len(rates) > 1:
        yield _fault(
            "betas" if set(rates) <= {"beta1", "beta2", "beta3"} else "equations",
            f"uses 1 minus each of {all_listed(rates)} in its place",
            lambda p: p.mapped(lambda part: _complement(part) if part.text in rates else None),
        )
    yield _fault(
        "amsgrad",
        "corrects the average for its bias before the maximum is taken, and the maximum again",
        partial(corrected_maximum, twice=True),
    )
    for sentence, line in clippings():
        yield _fault("clipping", sentence, partial(_with_first, line=line))
    for topic, sentence, change in modifications(program):
        yield _fault(topic, sentence, change)
    yield from _in_switches(program, defaults)
    yield _fault("equations", "takes 1 for the sign of 0", lambda p: p.mapped(_positive_sign))
    yield _fault("equations", "does not move coordinates whose gradient is 0", _at_rest)
    yield from _starts(program)
    yield from _kept_otherwise(program)
    yield from _changed_in_place(program)
    yield from _averaged_the_wrong_way(program)
    yield _fault("equations", "does not scale the step by the shape of the matrix", _without_shape)
    yield _fault(
        "momentum", "multiplies the velocity by the scale, not the gradient in it", _scaled_velocity
    )
    yield from _in_states(program)


def _fault(topic: str, sentence: str, change: Change) -> Convention:
    return Convention(topic, sentence, change, Kind.FAULT)


def _in_decay(program: Program) -> Iterator[Convention]:
    """Yield other coefficients of weight decay, and other roots of corrected averages."""
    yield _fault("weight decay", "ignores weight_decay", constant("weight_decay", 0.0))
    yield _fault(
        "weight decay",
        "reverses the sign of weight_decay",
        _instead_of("weight_decay", Expression("neg", parts=(DECAY,))),
    )
    yield _fault("weight decay", "leaves out weight decay in the first step", _late_decay)
    yield _fault(
        "weight decay",
        "decays the weights twice: adds weight_decay·θ to the gradient, and shrinks the weights by "
        "lr·weight_decay",
        _decayed_twice,
    )
    yield _fault(
        "bias correction",
        "divides the root of an average by its correction, not by the root of it",
        of_root(_correction_outside),
    )
    yield _fault(
        "equations",
        "takes the root of the correction of an average, not of the average itself",
        of_root(_root_of_correction),
    )
    for sentence, share in (
        ("doubles weight_decay", number(2.0)),
        ("halves weight_decay", number(0.5)),
        *((f"multiplies weight_decay by {text}", share) for text, share in _shares(program)),
    ):
        yield _fault("weight decay", sentence, _instead_of("weight_decay", product(share, DECAY)))


def _late_decay(program: Program) -> Program | None:
    """Decay the weights from the second step on."""
    first = program.lines[0]
    if str(first) not in DECAY_LINES.values():
        return None
    return program.with_line(0, replace(first, condition=Condition(TIME, ONE)))


def _decayed_twice(program: Program) -> Program | None:
    """Add weight decay to the gradient, and shrink the weights too."""
    if str(program.lines[0]) not in DECAY_LINES.values():
        return None
    both = (DECAY_OF_GRADIENT, DECAY_OF_WEIGHTS)
    return replace(program, lines=(*both, *program.lines[1:]))


def _in_hyperparameter(label: str, default: float) -> Iterator[Convention]:
    """Yield other values in place of a hyperparameter."""
    topic = "learning rate" if label == "lr" else label
    stays = f"ignores {label}, which stays at {default:g}"
    yield _fault(topic, stays, constant(label, default))
    if default != 0:
        yield _fault(topic, f"computes with {label} = 0", constant(label, 0.0))
    complement = _complement(name(label))
    yield _fault(topic, f"uses 1 − {label} in place of {label}", _instead_of(label, complement))


def _complement(rate: Expression) -> Expression:
    return difference(ONE, rate)


def _in_switches(program: Program, defaults: Mapping[str, float]) -> Iterator[Convention]:
    """Yield switches that stay as they are."""
    switches = {
        label for line in program.lines for side in line.condition or () for label in side.names()
    }
    for label in sorted(switches & defaults.keys()):
        for value, text in enumerate(("off", "on")):
            stays = f"ignores {label}, which stays {text}"
            yield _fault(label, stays, partial(_switched, label=label, new=number(value)))


def _in_states(program: Program) -> Iterator[Convention]:
    """Yield states that are read a step ahead, or lost."""
    for symbol in _states(program):
        yield _fault(
            "momentum",
            "looks a step ahead (Nesterov): "
            f"`{_value_of(program, symbol)}` stands in place of {symbol}",
            partial(_looking_ahead, symbol=symbol),
        )
        yield _fault(
            "state",
            f"does not carry {symbol} from step to step: it starts from 0 every time",
            partial(_forgetful, symbol=symbol),
        )
    for line in program.lines:
        if line.symbol in _states(program) and line.condition is None:
            once = replace(line, condition=Condition(number(2), TIME))
            yield _fault(
                "state",
                f"carries out `{line}` in the first step only, and keeps this {line.symbol}",
                _with_line(line, once),
            )


def _states(program: Program) -> list[str]:
    """Return the symbols that are read before they get a value in the step, beside θ and g."""
    read: set[str] = set()
    states: list[str] = []
    for line in program.lines:
        read |= line.value.names()
        if line.symbol in read - {"θ", "g", *states}:
            states.append(line.symbol)
    return states


def _value_of(program: Program, symbol: str) -> Expression:
    return next(line.value for line in program.lines if line.symbol == symbol)


def _shares(program: Program) -> Iterator[tuple[str, Expression]]:
    """Yield factors that a coefficient of weight decay may get, with their texts."""
    for label in sorted(_RATES & program.names()):
        correction = difference(ONE, Expression("^", parts=(name(label), TIME)))
        for factor in (difference(ONE, name(label)), quotient(ONE, correction)):
            yield str(factor), factor
    yield "1 / t, t the number of the step", quotient(ONE, TIME)


def _looking_ahead(program: Program, symbol: str) -> Program | None:
    """Read A·s + B in place of s, after the line s ← A·s + B."""
    for index, line in enumerate(program.lines):
        if line.symbol == symbol and line.value.operator == "+" and not line.condition:
            kept = line.value.parts[0]
            if kept.operator == "·" and name(symbol) in kept.parts:
                return read_otherwise(program, index, line, {name(symbol): line.value})
    return None


def constant(label: str, value: float) -> Change:
    """Return a change that puts a number in place of a hyperparameter."""
    return _instead_of(label, Expression("number", repr(float(value))))


def capped(label: str, value: float, *, is_upper: bool) -> Convention:
    """Return a bound on a hyperparameter as a slip."""
    operator = "min" if is_upper else "max"
    bound = Expression(operator, parts=(name(label), Expression("number", repr(value))))
    topic = _TOPICS.get(label, label)
    sentence = f"{operator}({label}, {value:g}) stands in place of {label}"
    return _fault(topic, sentence, _instead_of(label, bound))


_TOPICS = {
    "lr": "learning rate",
    "eps": "epsilon",
    "weight_decay": "weight decay",
    "t": "bias correction",
}

_RATES = {"beta1", "beta2", "beta3", "momentum", "dampening", "rho"}


def _switched(program: Program, label: str, new: Expression) -> Program:
    """Put a number in place of a switch in all conditions."""

    def changed(line: Assignment) -> Assignment:
        if line.condition is None:
            return line
        sides = (side.mapped(_instead(name(label), new)) for side in line.condition)
        return replace(line, condition=Condition(*sides))

    return replace(program, lines=tuple(map(changed, program.lines)))


def _instead(old: Expression, new: Expression) -> Callable[[Expression], Expression | None]:
    return lambda part: new if part == old else None


def _positive_sign(part: Expression) -> Expression | None:
    """Return a sign that is 1 for 0: that of the sign plus 1/2."""
    if part.operator != "sign":
        return None
    return Expression("sign", parts=(total(part, Expression("number", "0.5")),))


def _at_rest(program: Program) -> Program:
    """Leave coordinates alone whose gradient is 0."""
    moves = Expression("|", parts=(Expression("sign", parts=(name("g₀"),)),))
    lines = [Assignment("g₀", GRADIENT)]
    for line in program.lines:
        value = line.value
        if line.symbol == "θ" and value.operator in ("−", "+") and value.parts[0] == PARAMETER:
            step = Expression(value.operator, parts=(PARAMETER, product(moves, value.parts[1])))
            lines.append(replace(line, value=step))
        else:
            lines.append(line)
    return replace(program, lines=tuple(lines))


def _starts(program: Program) -> Iterator[Convention]:
    """Yield other values of averages before the first step."""
    for line in program.lines:
        if line.symbol not in line.value.names() or line.symbol in ("θ", "g"):
            continue
        if line.condition is None:
            waiting = replace(line, condition=Condition(TIME, ONE))
            yield Convention(
                "start",
                f"leaves out `{line}` in the first step",
                _with_line(line, waiting),
                Kind.FAULT,
            )
        for text, value in (("1", ONE), ("eps", EPS), ("the weights", PARAMETER)):
            start = {**program.starts, line.symbol: value}
            yield Convention(
                "start",
                f"starts {line.symbol} at {text}",
                partial(replace, starts=start),
            )
        parts = line.value.parts
        if line.value.operator == "+" and parts[1].operator == "·" and line.condition is None:
            first = parts[1].parts[1]
            begun = replace(line, condition=Condition(TIME, ONE), otherwise=first)
            yield Convention(
                "start",
                f"starts {line.symbol} at its first value, {first}",
                _with_line(line, begun),
            )


def _with_line(old: Assignment, new: Assignment) -> Change:
    """Return a change that puts another line in place of one."""
    return lambda program: replace(
        program, lines=tuple(new if line == old else line for line in program.lines)
    )


def _kept_otherwise(program: Program) -> Iterator[Convention]:
    """Yield other values of a state symbol that the next step finds: the gradient, or a part."""
    read: set[str] = set()
    for line in program.lines:
        read |= line.value.names()
        if line.symbol not in read or line.symbol in ("θ", "g"):
            continue
        for part in dict.fromkeys([GRADIENT, *line.value.parts]):
            if part.operator == "number" or line.symbol in part.names():
                continue
            kept = Assignment(line.symbol, part)
            yield Convention(
                "state",
                f"keeps {part} as {line.symbol} for the next step, in place of {line.value}",
                partial(_with_last, line=kept),
                Kind.FAULT,
            )


def _changed_in_place(program: Program) -> Iterator[Convention]:
    """Yield sums of a state symbol that are kept as that symbol where they are only read.

    They may also be averaged in place of the gradient.
    """
    states = [line for line in program.lines if line.symbol in line.value.names() - {"θ", "g"}]
    for index, line in enumerate(program.lines):
        for state, (path, part) in itertools.product(states, line.value.places()):
            symbol = state.symbol
            if line.symbol in ("θ", symbol) or part.operator != "+" or symbol not in part.names():
                continue
            kept = (Assignment(symbol, part), _with_part(line, path, name(symbol)))
            lines = (*program.lines[:index], *kept, *program.lines[index + 1 :])
            yield Convention(
                "state",
                f"changes {symbol} in place: it keeps {part} as {symbol}",
                _with_rest_of(replace(program, lines=lines)),
                Kind.FAULT,
            )
            averaged = replace(state, value=state.value.mapped(_instead(GRADIENT, part)))
            yield Convention(
                "state",
                f"averages {part} in {symbol}, not {GRADIENT}",
                _with_line(state, averaged),
                Kind.FAULT,
            )


def _with_part(line: Assignment, path: tuple[int, ...], part: Expression) -> Assignment:
    return replace(line, value=line.value.with_part(path, part))


def _with_rest_of(changed: Program) -> Change:
    """Return a change to another program that keeps the line of weight decay."""
    return lambda program: replace(changed, lines=(program.lines[0], *changed.lines[1:]))


def _averaged_the_wrong_way(program: Program) -> Iterator[Convention]:
    """Yield averages in place of sums whose two shares are exchanged."""
    for line in program.lines:
        value = line.value
        if value.operator != "+" or value.parts[0] != product(MOMENTUM, name(line.symbol)):
            continue
        kept = product(difference(ONE, MOMENTUM), name(line.symbol))
        averaged = replace(line, value=total(kept, product(MOMENTUM, value.parts[1])))
        begun = replace(averaged, condition=Condition(TIME, ONE), otherwise=value.parts[1])
        for new in (averaged, begun):
            yield Convention(
                "momentum",
                "averages gradients in the velocity with the shares exchanged: "
                f"`{averaged}`, where the rule has `{line}`",
                _with_line(line, new),
                Kind.FAULT,
            )


def _without_shape(program: Program) -> Program:
    """Leave out all factors of the numbers of rows and columns, and numbers before them."""

    def change_part(part: Expression) -> Expression | None:
        if part.operator != "·" or not {"R", "C"} & part.parts[1].names():
            return None
        rest = part.parts[0]
        is_scaled = rest.operator == "·" and rest.parts[0].operator == "number"
        return rest.parts[1] if is_scaled else rest

    return program.mapped(change_part)


def _scaled_velocity(program: Program) -> Program | None:
    """Put u ← momentum·u + A in place of u ← momentum·u + A / B, and u / B where u is read."""
    for index, line in enumerate(program.lines):
        value = line.value
        if value.operator != "+" or value.parts[0] != product(MOMENTUM, name(line.symbol)):
            continue
        if value.parts[1].operator != "/":
            return None
        added, scale = value.parts[1].parts
        summed = replace(line, value=total(value.parts[0], added))
        scaled = {name(line.symbol): quotient(name(line.symbol), scale)}
        return read_otherwise(program, index, summed, scaled)
    return None


def _instead_of(label: str, new: Expression) -> Change:
    """Return a change that puts an expression in place of a hyperparameter."""
    return lambda program: program.mapped(_instead(name(label), new))


def _with_first(program: Program, line: Assignment) -> Program:
    return replace(program, lines=(line, *program.lines))


def _with_last(program: Program, line: Assignment) -> Program:
    return replace(program, lines=(*program.lines, line))


def _renamed_gradient(program: Program) -> Program:
    return _with_first(program, Assignment("g", Expression("neg", parts=(GRADIENT,))))


def _forgetful(program: Program, symbol: str) -> Program:
    return _with_first(program, Assignment(symbol, number(0)))
