"""Known conventions in which implementations of a rule differ, and slips that are often made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from optrial.certifying.findings import Kind
from optrial.replay.equations import (
    DECAY_LINES,
    Assignment,
    Condition,
    Expression,
    Program,
    name,
    number,
)

__all__ = ["CONVENTIONS", "Change", "Convention", "capped", "constant", "slips"]

Change = Callable[[Program], Program | None]

ONE = number(1)
EPS, TIME, LR, DECAY, MOMENTUM = map(name, ("eps", "t", "lr", "weight_decay", "momentum"))
TINY = Expression("number", "1e-15")
PARAMETER, GRADIENT = name("θ"), name("g")


@dataclass(frozen=True)
class Convention:
    """A way to compute a rule that differs from its equations here.

    Attributes:
        name: what it concerns.
        sentence: what an implementation that follows it does, after its name.
        change: returns the changed program; None, or the same one, where it does not apply.
        kind: whether implementations may follow it.
        is_kind_of_decay: whether it is another kind of weight decay than the rule's.
    """

    name: str
    sentence: str
    change: Change
    kind: Kind = Kind.CONVENTION
    is_kind_of_decay: bool = False


def _sum(left: Expression, right: Expression) -> Expression:
    return Expression("+", parts=(left, right))


def _difference(left: Expression, right: Expression) -> Expression:
    return Expression("−", parts=(left, right))


def _product(left: Expression, right: Expression) -> Expression:
    return Expression("·", parts=(left, right))


def _quotient(left: Expression, right: Expression) -> Expression:
    return Expression("/", parts=(left, right))


def _root(part: Expression) -> Expression:
    return Expression("√", parts=(part,))


def _rooted(part: Expression) -> Expression | None:
    """Return A of a part √A + eps."""
    if part.operator != "+" or part.parts[1] != EPS or part.parts[0].operator != "√":
        return None
    return part.parts[0].parts[0]


def _of_root(new: Callable[[Expression], Expression | None]) -> Change:
    """Return a change that replaces every √A + eps by what `new` makes of A."""

    def change_part(part: Expression) -> Expression | None:
        inner = _rooted(part)
        return None if inner is None else new(inner)

    return lambda program: program.mapped(change_part)


def _uncorrected(inner: Expression, least: Expression | None = None) -> Expression | None:
    """Return (√(v + least) + eps) / √c for A = v / c."""
    if inner.operator != "/":
        return None
    average, correction = inner.parts
    square = _sum(average, least) if least else average
    return _quotient(_sum(_root(square), EPS), _root(correction))


def _correction_outside(inner: Expression) -> Expression | None:
    """Return √v / c + eps for A = v / c."""
    if inner.operator != "/":
        return None
    average, correction = inner.parts
    return _sum(_quotient(_root(average), correction), EPS)


def _eps_outside(program: Program) -> Program:
    """Move eps out of every √(A + eps)."""

    def change_part(part: Expression) -> Expression | None:
        if part.operator != "√" or part.parts[0].operator != "+" or part.parts[0].parts[1] != EPS:
            return None
        return _sum(_root(part.parts[0].parts[0]), EPS)

    return program.mapped(change_part)


def _eps_after_maximum(program: Program) -> Program | None:
    """Add eps to every n of n ← max(A, B + eps) where it is read, in place of B."""
    for index, line in enumerate(program.lines):
        if line.value.operator != "max":
            continue
        kept, new = line.value.parts
        if new.operator == "+" and new.parts[1] == EPS:
            bare = replace(line, value=Expression("max", parts=(kept, new.parts[0])))
            damped = {name(line.symbol): _sum(name(line.symbol), EPS)}
            return _read_otherwise(program, index, bare, damped)
    return None


def _read_otherwise(
    program: Program, index: int, line: Assignment, instead: Mapping[Expression, Expression]
) -> Program:
    """Return a program with another line, after which parts are read as others."""
    later = (
        replace(each, value=each.value.mapped(instead.get)) for each in program.lines[index + 1 :]
    )
    return replace(program, lines=(*program.lines[:index], line, *later))


def _is_correction(part: Expression, beta: str = "") -> bool:
    """Return whether a part is 1 − beta^t."""
    if part.operator != "−" or part.parts[0] != ONE or part.parts[1].operator != "^":
        return False
    base, exponent = part.parts[1].parts
    return exponent == TIME and (not beta or base == name(beta))


def _without_correction(beta: str = "") -> Change:
    return lambda program: program.mapped(lambda part: ONE if _is_correction(part, beta) else None)


def _decay_line(program: Program) -> int | None:
    """Return the index of the line of l2 or decoupled weight decay that precedes the rule."""
    texts = [str(line) for line in program.lines[:1]]
    return 0 if texts and texts[0] in _DECAYS else None


_L2 = Assignment("g", _sum(GRADIENT, _product(DECAY, PARAMETER)))
_DECOUPLED = Assignment("θ", _difference(PARAMETER, _product(_product(LR, DECAY), PARAMETER)))
_UNSCALED = Assignment("θ", _difference(PARAMETER, _product(DECAY, PARAMETER)))
_DIVIDED = Assignment("θ", _quotient(PARAMETER, _sum(ONE, _product(LR, DECAY))))
_DECAYS = {str(_L2), str(_DECOUPLED), *DECAY_LINES.values()}


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
        if of_l2 and str(program.lines[0]) != str(_L2):
            return None
        rest = program.lines[1:]
        lines = (*rest, line) if last else (line, *rest)
        return replace(program, lines=lines)

    return change


def _averaged(program: Program) -> Program:
    """Add (1 − momentum)·X to the velocity in place of X."""

    def change_line(line: Assignment) -> Assignment:
        value = line.value
        kept = _product(MOMENTUM, name(line.symbol))
        if value.operator == "+" and value.parts[0] == kept:
            share = _product(_difference(ONE, MOMENTUM), value.parts[1])
            return replace(line, value=_sum(kept, share))
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
        if is_average and value.parts[0] == _product(share.parts[1], name(line.symbol)):
            summed = _sum(value.parts[0], rest)
            return line if rest.operator == "^" else replace(line, value=summed)
        return line

    return replace(program, lines=tuple(map(change_line, program.lines)))


def _rate_inside(program: Program) -> Program | None:
    """Put lr into the velocity: u ← momentum·u + lr·X, θ ← θ − u."""
    for index, line in enumerate(program.lines):
        value = line.value
        kept = _product(MOMENTUM, name(line.symbol))
        if value.operator == "+" and value.parts[0] == kept:
            inside = replace(line, value=_sum(kept, _product(LR, value.parts[1])))
            lines = [*program.lines[:index], inside]
            for later in program.lines[index + 1 :]:
                outside = later.value.mapped(lambda part: ONE if part == LR else None)
                lines.append(replace(later, value=outside) if later.symbol == "θ" else later)
            return replace(program, lines=tuple(lines))
    return None


def _corrected_maximum(program: Program, *, twice: bool = False) -> Program | None:
    """Take the maximum of corrected averages, and correct it once more if `twice`."""
    if "w" not in {line.symbol for line in program.lines}:
        return None
    correction = _difference(ONE, Expression("^", parts=(name("beta2"), TIME)))
    corrected = _quotient(name("v"), correction)

    def change_part(part: Expression) -> Expression | None:
        is_corrected = not twice and part == _quotient(name("w"), correction)
        return name("w") if is_corrected else None

    lines = [
        replace(line, value=Expression("max", parts=(name("w"), corrected)))
        if line.symbol == "w"
        else replace(line, value=line.value.mapped(change_part))
        for line in program.lines
    ]
    return replace(program, lines=tuple(lines))


def _bound_one_ahead(program: Program) -> Program:
    """Bound by t^0.25 in place of (t − 1)^0.25."""
    behind = Expression("^", parts=(_difference(TIME, ONE), Expression("number", "0.25")))
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
        _of_root(lambda inner: _root(_sum(inner, EPS))),
    ),
    Convention(
        "epsilon",
        "adds the square of eps inside the root",
        _of_root(lambda inner: _root(_sum(inner, Expression("^", parts=(EPS, number(2)))))),
    ),
    Convention(
        "epsilon",
        "adds eps inside the root, and again outside",
        _of_root(lambda inner: _sum(_root(_sum(inner, EPS)), EPS)),
    ),
    Convention("epsilon", "adds eps outside the root", _eps_outside),
    Convention("epsilon", "adds eps to the maximum, not inside it", _eps_after_maximum),
    Convention(
        "epsilon",
        "adds eps to the root before its bias correction",
        _of_root(_uncorrected),
    ),
    Convention(
        "epsilon",
        "adds 1e-15 inside the root, and eps outside",
        _of_root(lambda inner: _sum(_root(_sum(inner, TINY)), EPS)),
    ),
    Convention(
        "epsilon",
        "adds 1e-15 inside the root, and eps to the root before its bias correction",
        _of_root(lambda inner: _uncorrected(inner, TINY)),
    ),
    Convention(
        "epsilon",
        "takes the maximum of the root and eps in place of their sum",
        _of_root(lambda inner: Expression("max", parts=(_root(inner), EPS))),
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
        _decay(_L2),
        is_kind_of_decay=True,
    ),
    Convention(
        "weight decay",
        "shrinks the weights by lr·weight_decay (decoupled), where the rule adds it to the "
        "gradient",
        _decay(_DECOUPLED),
        is_kind_of_decay=True,
    ),
    Convention(
        "weight decay",
        "shrinks the weights by weight_decay, not by lr·weight_decay",
        _decay(_UNSCALED),
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
        _decay(_DECOUPLED, last=True),
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
        _corrected_maximum,
    ),
    Convention(
        "clipping",
        "bounds the scaled gradient by t^0.25, one step ahead of (t − 1)^0.25",
        _bound_one_ahead,
    ),
)


def slips(program: Program, defaults: Mapping[str, float]) -> Iterator[Convention]:
    """Yield the slips that are often made in an implementation of a program.

    Args:
        program: the equations of the rule.
        defaults: hyperparameter -> its default.
    """

    def fault(topic: str, sentence: str, change: Change) -> Convention:
        return Convention(topic, sentence, change, Kind.FAULT)

    yield fault("weight decay", "ignores weight_decay", constant("weight_decay", 0.0))
    yield fault(
        "weight decay",
        "reverses the sign of weight_decay",
        lambda p: _renamed(p, "weight_decay", Expression("neg", parts=(DECAY,))),
    )
    yield fault(
        "bias correction",
        "divides the root of an average by its correction, not by the root of it",
        _of_root(_correction_outside),
    )
    for text, factor in (("doubles", 2.0), ("halves", 0.5)):
        yield fault(
            "weight decay",
            f"{text} weight_decay",
            lambda p, f=factor: _renamed(p, "weight_decay", _product(number(f), DECAY)),  # type: ignore[misc]
        )
    for text, share in _shares_of_decay(program):
        yield fault(
            "weight decay",
            f"multiplies weight_decay by {text}",
            lambda p, f=share: _renamed(p, "weight_decay", _product(f, DECAY)),  # type: ignore[misc]
        )
    yield fault(
        "direction",
        "steps uphill: the sign of the step is reversed",
        _renamed_gradient,
    )
    for label, default in defaults.items():
        if label in program.names():
            topic = "learning rate" if label == "lr" else label
            yield fault(
                topic, f"ignores {label}, which stays at {default:g}", constant(label, default)
            )
            if default != 0:
                yield fault(topic, f"computes with {label} = 0", constant(label, 0.0))
            complement = _difference(ONE, name(label))
            yield fault(
                topic,
                f"uses 1 − {label} in place of {label}",
                lambda p, label=label, new=complement: _renamed(p, label, new),  # type: ignore[misc]
            )
    yield fault(
        "amsgrad",
        "corrects the average for its bias before the maximum is taken, and the maximum again",
        lambda p: _corrected_maximum(p, twice=True),
    )
    for sentence, line in _clips():
        yield fault(
            "clipping",
            sentence,
            lambda p, line=line: replace(p, lines=(line, *p.lines)),  # type: ignore[misc]
        )
    for topic, sentence, change in _modified(program):
        yield fault(topic, sentence, change)
    switches = {
        label for line in program.lines for side in line.condition or () for label in side.names()
    }
    for label in sorted(switches & defaults.keys()):
        for value, text in enumerate(("off", "on")):
            yield fault(
                label,
                f"ignores {label}, which stays {text}",
                lambda p, label=label, value=value: _switched(p, label, number(value)),  # type: ignore[misc]
            )
    yield fault("equations", "takes 1 for the sign of 0", lambda p: p.mapped(_positive_sign))
    yield fault("equations", "does not move coordinates whose gradient is 0", _at_rest)
    yield from _starts(program)
    yield from _kept_otherwise(program)
    yield fault("equations", "does not scale the step by the shape of the matrix", _without_shape)
    yield fault(
        "momentum", "multiplies the velocity by the scale, not the gradient in it", _scaled_velocity
    )
    for line in program.lines:
        if line.symbol in line.value.names() and line.symbol not in ("θ", "g"):
            yield fault(
                "momentum",
                f"looks a step ahead (Nesterov): `{line.value}` stands in place of {line.symbol}",
                lambda p, s=line.symbol: _looking_ahead(p, s),  # type: ignore[misc]
            )
            yield fault(
                "state",
                f"does not carry {line.symbol} from step to step: it starts from 0 every time",
                lambda p, s=line.symbol: _forgetful(p, s),  # type: ignore[misc]
            )


def _shares_of_decay(program: Program) -> Iterator[tuple[str, Expression]]:
    """Yield factors that a coefficient of weight decay may get, with their texts."""
    for label in sorted(_RATES & program.names()):
        yield f"1 − {label}", _difference(ONE, name(label))
    yield "1 / t, t the number of the step", _quotient(ONE, TIME)


def _looking_ahead(program: Program, symbol: str) -> Program | None:
    """Read A·s + B in place of s, after the line s ← A·s + B."""
    for index, line in enumerate(program.lines):
        if line.symbol == symbol and line.value.operator == "+" and not line.condition:
            kept = line.value.parts[0]
            if kept.operator == "·" and name(symbol) in kept.parts:
                return _read_otherwise(program, index, line, {name(symbol): line.value})
    return None


def constant(label: str, value: float) -> Change:
    """Return a change that puts a number in place of a hyperparameter."""
    return lambda program: _renamed(program, label, Expression("number", repr(float(value))))


def capped(label: str, value: float, *, is_upper: bool) -> Convention:
    """Return a bound on a hyperparameter as a slip."""
    operator = "min" if is_upper else "max"
    bound = Expression(operator, parts=(name(label), Expression("number", repr(value))))
    topic = _TOPICS.get(label, label)
    sentence = f"{operator}({label}, {value:g}) stands in place of {label}"
    return Convention(topic, sentence, lambda p: _renamed(p, label, bound), Kind.FAULT)


_TOPICS = {
    "lr": "learning rate",
    "eps": "epsilon",
    "weight_decay": "weight decay",
    "t": "bias correction",
}
_RATES = {"beta1", "beta2", "beta3", "momentum", "dampening", "rho"}
_CLIPS = 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0, 1000.0


def _clips() -> Iterator[tuple[str, Assignment]]:
    """Yield the usual clippings of a gradient, as sentences and lines."""
    for bound in _CLIPS:
        most = Expression("number", repr(bound))
        clipped = Assignment("g", _between(GRADIENT, most))
        yield f"clips each coordinate of the gradient at {bound:g}", clipped
        size = _quotient(Expression("‖", parts=(GRADIENT,)), most)
        scaled = _quotient(GRADIENT, Expression("max", parts=(ONE, size)))
        yield (
            f"scales the gradient of a tensor to a norm of at most {bound:g}",
            Assignment("g", scaled),
        )


def _modified(program: Program) -> Iterator[tuple[str, str, Change]]:
    """Yield modifications that are often added to a rule, as topics, sentences and changes."""
    mean, size = (Expression(operator, parts=(GRADIENT,)) for operator in ("mean", "‖"))
    for sentence, value in (
        ("subtracts the mean from the gradient of a tensor", _difference(GRADIENT, mean)),
        ("divides the gradient of a tensor by its norm", _quotient(GRADIENT, _positive(size))),
    ):
        line = Assignment("g", value)
        yield "gradient", sentence, lambda p, line=line: replace(p, lines=(line, *p.lines))  # type: ignore[misc]
    for topic, sentence, step in (
        (
            "direction",
            "moves only coordinates whose step goes along the gradient (cautious)",
            lambda step: _product(step, _along(step)),
        ),
        (
            "direction",
            "moves only coordinates whose step goes along the gradient, by more for each that "
            "does not (cautious)",
            lambda step: _product(
                step, _quotient(_along(step), _positive(Expression("mean", parts=(_along(step),))))
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
            lambda step: _quotient(
                step,
                Expression("max", parts=(ONE, _quotient(Expression("rms", parts=(step,)), LR))),
            ),
        ),
        (
            "learning rate",
            "scales the step of a tensor to lr times the norm of its weights (trust ratio)",
            lambda step: _product(
                _quotient(step, _positive(Expression("‖", parts=(step,)))),
                _product(LR, Expression("‖", parts=(PARAMETER,))),
            ),
        ),
    ):
        yield topic, sentence, lambda p, step=step: _with_step(p, step)  # type: ignore[misc]
    for index, line in enumerate(program.lines):
        if (rate := _decay_rate(line)) is not None:
            correction = _difference(ONE, Expression("^", parts=(rate, TIME)))
            corrected = {name(line.symbol): _quotient(name(line.symbol), correction)}
            yield (
                "bias correction",
                f"corrects {line.symbol} for its bias, which the rule does not",
                lambda p, i=index, new=corrected: _read_otherwise(p, i, p.lines[i], new),  # type: ignore[misc]
            )


def _positive(part: Expression) -> Expression:
    """Return a part that is not 0, as a divisor."""
    return Expression("max", parts=(part, Expression("number", "1e-30")))


def _along(step: Expression) -> Expression:
    """Return 1 where a step has the sign of the gradient, 0 elsewhere."""
    agreement = Expression("sign", parts=(_product(step, GRADIENT),))
    return Expression("max", parts=(agreement, number(0)))


def _between(part: Expression, most: Expression) -> Expression:
    least = Expression("neg", parts=(most,))
    return Expression("max", parts=(Expression("min", parts=(part, most)), least))


def _with_step(program: Program, new: Callable[[Expression], Expression]) -> Program | None:
    """Return a program that takes a changed step in its last line, θ ← θ − step."""
    line = program.lines[-1]
    if line.symbol != "θ" or line.value.operator != "−" or line.value.parts[0] != PARAMETER:
        return None
    changed = replace(line, value=_difference(PARAMETER, new(line.value.parts[1])))
    return replace(program, lines=(*program.lines[:-1], changed))


def _decay_rate(line: Assignment) -> Expression | None:
    """Return b of X ← b·X + (1 − b)·Y; None for other lines."""
    value = line.value
    if value.operator != "+" or value.parts[0].operator != "·" or value.parts[1].operator != "·":
        return None
    (rate, kept), (share, _) = (part.parts for part in value.parts)
    is_average = kept == name(line.symbol) and share == _difference(ONE, rate)
    return rate if is_average else None


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
    return Expression("sign", parts=(_sum(part, Expression("number", "0.5")),))


def _at_rest(program: Program) -> Program:
    """Leave coordinates alone whose gradient is 0."""
    moves = Expression("|", parts=(Expression("sign", parts=(name("g₀"),)),))
    lines = [Assignment("g₀", GRADIENT)]
    for line in program.lines:
        value = line.value
        if line.symbol == "θ" and value.operator in ("−", "+") and value.parts[0] == PARAMETER:
            step = Expression(value.operator, parts=(PARAMETER, _product(moves, value.parts[1])))
            lines.append(replace(line, value=step))
        else:
            lines.append(line)
    return replace(program, lines=tuple(lines))


def _starts(program: Program) -> Iterator[Convention]:
    """Yield other values of averages before the first step."""
    for line in program.lines:
        if line.symbol not in line.value.names() or line.symbol in ("θ", "g"):
            continue
        for text, value in (("1", ONE), ("eps", EPS)):
            start = {**program.starts, line.symbol: value}
            yield Convention(
                "start",
                f"starts {line.symbol} at {text}",
                lambda p, start=start: replace(p, starts=start),  # type: ignore[misc]
            )
        parts = line.value.parts
        if line.value.operator == "+" and parts[1].operator == "·" and line.condition is None:
            first = parts[1].parts[1]
            begun = replace(line, condition=Condition(TIME, ONE), otherwise=first)
            yield Convention(
                "start",
                f"starts {line.symbol} at its first value, {first}",
                lambda p, old=line, new=begun: replace(  # type: ignore[misc]
                    p, lines=tuple(new if one == old else one for one in p.lines)
                ),
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
                lambda p, kept=kept: replace(p, lines=(*p.lines, kept)),  # type: ignore[misc]
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
        if value.operator != "+" or value.parts[0] != _product(MOMENTUM, name(line.symbol)):
            continue
        if value.parts[1].operator != "/":
            return None
        added, scale = value.parts[1].parts
        summed = replace(line, value=_sum(value.parts[0], added))
        scaled = {name(line.symbol): _quotient(name(line.symbol), scale)}
        return _read_otherwise(program, index, summed, scaled)
    return None


def _renamed(program: Program, label: str, new: Expression) -> Program:
    return program.mapped(lambda part: new if part == name(label) else None)


def _renamed_gradient(program: Program) -> Program:
    reverse = Assignment("g", Expression("neg", parts=(GRADIENT,)))
    return replace(program, lines=(reverse, *program.lines))


def _forgetful(program: Program, symbol: str) -> Program:
    reset = Assignment(symbol, number(0))
    return replace(program, lines=(reset, *program.lines))
