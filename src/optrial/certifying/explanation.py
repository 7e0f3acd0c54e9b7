"""The conventions and slips that explain how an optimizer departs from its rule."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from optrial.certifying.conditions import Case, Condition, Item, divided, first_late_step
from optrial.certifying.findings import Kind
from optrial.certifying.hypotheses import NOTHING, Hypothesis, Reason, Search, other_counts
from optrial.certifying.libraries import ROUNDING, Library, libraries_of
from optrial.errors import USER_CODE_ERRORS
from optrial.replay.binding import Binding
from optrial.replay.comparison import departures
from optrial.replay.draws import Draw, perturbed
from optrial.replay.reference import Clock
from optrial.replay.target import Path, Target, float64_scalars, no_rounding, train

__all__ = ["Explanation", "TrainingError", "can_train", "disproved", "explain"]

Context = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Known behaviour of an optimizer: its rule, with changes.

    Attributes:
        reasons: each change to the rule; none if it conforms.
        contexts: contexts in which the target is trained, so that it does not round.
        predict: draw -> the weights after each step.
        knows_decay: whether it predicts steps with weight decay.
        is_complete: whether it predicts all steps.
        is_joint: whether the steps of a tensor depend on all gradients.
    """

    reasons: tuple[Reason, ...]
    contexts: tuple[Context, ...]
    predict: Callable[[Draw], Path]
    knows_decay: bool = True
    is_complete: bool = True
    is_joint: bool = False

    def case(self, target: Target, binding: Binding, draw: Draw) -> Case:
        """Return a training of the target beside the weights that are predicted."""
        with _all_of(self.contexts):
            actual = train(target, binding, draw)
        return Case(draw, actual, self.predict(draw))


_ROUNDINGS = 100
"""Most times that rounding within a few steps exceeds the effect of one bit of the gradients."""

_PRECISIONS: Sequence[tuple[str, str, tuple[Context, ...]]] = (
    ("", "", ()),
    (
        "precision",
        "keeps a number of its state in the default type, float32, whatever the type of the "
        "parameters",
        (float64_scalars,),
    ),
    (
        "precision",
        "rounds to a narrower type within the step, whatever the type of the parameters",
        (no_rounding,),
    ),
)


def explain(
    target: Target, binding: Binding, reference: Callable[[Draw], Path], draws: Sequence[Draw]
) -> tuple[list[Case], Explanation | None]:
    """Return the trainings beside the reference, and what explains their departures.

    Args:
        target: the optimizer.
        binding: the rule and the arguments.
        reference: draw -> the expected weights.
        draws: the drawn trainings.

    Returns:
        The cases, and the explanation; None if the departures are not explained. Then rounding is
        left out of the cases if more of them agree without it. Trainings whose departures the last
        bit of the gradients explains are no cases.

    Raises:
        TrainingError: the optimizer raises an error.
    """
    given = [(draw, reference(draw)) for draw in draws]
    tried: list[tuple[tuple[Reason, ...], tuple[Context, ...], list[Case]]] = []
    for name, sentence, contexts in _PRECISIONS:
        with _all_of(contexts):
            cases = [Case(draw, _trained(target, binding, draw), path) for draw, path in given]
        if not tried:
            cases = [case for case in cases if not _is_rounding(case, reference)]
            given = [(case.draw, case.expected) for case in cases]
        if tried and not _any_moved(tried[0][2], cases):
            continue
        reasons: tuple[Reason, ...] = ((name, Kind.CONVENTION, sentence),) if contexts else ()
        tried.append((reasons, contexts, cases))
        if not any(case.departing() for case in cases):
            return tried[0][2], Explanation(reasons, contexts, reference)
    is_late = any(first_late_step(*divided(cases)) for _, _, cases in tried)
    further = () if is_late else (_as_libraries, _in_stages, _in_pairs)
    for way in (_at_once, *further):
        for reasons, contexts, cases in tried:
            items = [Item(case, label) for case in cases for label in case.draw.start]

            def agrees(draw: Draw, contexts: tuple[Context, ...] = contexts) -> bool:
                with _all_of(contexts):
                    actual = _trained(target, binding, draw)
                return not departures(draw, actual, reference(draw))

            if result := way(binding, items, reference, agrees):
                everything = (*reasons, *result.reasons)
                return tried[0][2], replace(result, reasons=everything, contexts=contexts)
    return min((cases for _, _, cases in tried), key=_departing_count), None


def _is_rounding(case: Case, reference: Callable[[Draw], Path]) -> bool:
    """Return whether the last bit of the gradients moves each departing tensor about as far.

    This happens where an equation subtracts nearly equal numbers, as the variance of centered
    RMSProp does for gradients that hardly change.
    """
    found = departures(case.draw, case.actual, case.expected)
    if not found:
        return False
    moved = reference(perturbed(case.draw))
    for label, departure in found.items():
        tolerance = min(departure.difference, 1.0) / _ROUNDINGS
        response = departures(case.draw, moved, case.expected, tolerance).get(label)
        if response is None or response.step > departure.step:
            return False
    return True


def disproved(
    target: Target, binding: Binding, explanation: Explanation, draws: Sequence[Draw]
) -> list[Draw]:
    """Return the draws that an explanation does not predict, which others have found.

    An optimizer that raises an error in one of them tells nothing.
    """
    found = []
    for draw in draws:
        try:
            case = explanation.case(target, binding, draw)
        except USER_CODE_ERRORS:
            continue
        if case.departing() and not _is_rounding(case, explanation.predict):
            found.append(draw)
    return found


def _departing_count(cases: Sequence[Case]) -> int:
    return sum(len(case.departing()) for case in cases)


class TrainingError(Exception):
    """An optimizer raised an error.

    Attributes:
        raised: that error.
    """

    def __init__(self, raised: BaseException) -> None:
        super().__init__(str(raised))
        self.raised = raised


def can_train(target: Target, binding: Binding, draw: Draw) -> bool:
    """Return whether the optimizer raises no error in a training."""
    try:
        _trained(target, binding, draw)
    except TrainingError:
        return False
    return True


def _trained(target: Target, binding: Binding, draw: Draw) -> Path:
    try:
        return train(target, binding, draw)
    except USER_CODE_ERRORS as error:
        raise TrainingError(error) from error


@contextmanager
def _all_of(contexts: Sequence[Context]) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context())
        yield


def _any_moved(cases: Sequence[Case], precise: Sequence[Case]) -> bool:
    return any(
        departures(case.draw, case.actual, other.actual, 0.0)
        for case, other in zip(cases, precise, strict=True)
    )


def _at_once(
    binding: Binding,
    items: Sequence[Item],
    reference: Callable[[Draw], Path],
    _agrees: Callable[[Draw], bool],
) -> Explanation | None:
    """Return a single change that explains everything."""
    search = Search(binding, items)
    result = search.result(thorough=False)
    return _explanation(search, reference, lambda _draw: result[0], result[1]) if result else None


def _as_libraries(
    binding: Binding,
    items: Sequence[Item],
    reference: Callable[[Draw], Path],
    _agrees: Callable[[Draw], bool],
) -> Explanation | None:
    """Return known deviations of libraries that explain everything."""
    del reference
    cases = {id(item.case): item.case for item in items}.values()
    for library in libraries_of(binding.rule):
        for count in (NOTHING, *other_counts()):
            predict = partial(_path_of, library, count.clock)
            if not any(departures(c.draw, c.actual, predict(c.draw), ROUNDING) for c in cases):
                reasons = tuple((d.name, d.kind, d.sentence) for d in library.deviations)
                return Explanation((*reasons, *count.reasons), (), predict)
    return None


def _path_of(library: Library, clock: Clock, draw: Draw) -> Path:
    return library.path(draw, clock)


def _in_pairs(
    binding: Binding,
    items: Sequence[Item],
    reference: Callable[[Draw], Path],
    _agrees: Callable[[Draw], bool],
) -> Explanation | None:
    """Return a pair of changes that explains everything."""
    search = Search(binding, items)
    result = search.result(thorough=True)
    return _explanation(search, reference, lambda _draw: result[0], result[1]) if result else None


def _in_stages(
    binding: Binding,
    items: Sequence[Item],
    reference: Callable[[Draw], Path],
    agrees: Callable[[Draw], bool],
) -> Explanation | None:
    """Return changes found one after another: without weight decay, with each kind, step counts.

    Args:
        binding: the rule.
        items: the tensors to explain.
        reference: draw -> the weights by the rule.
        agrees: draw -> whether the target takes the steps of the rule.
    """

    def of(kind: str, *, is_missing: bool = False) -> list[Item]:
        return [
            item
            for item in items
            if _kind(item.case.draw) == kind and _lacks_gradients(item) == is_missing
        ]

    core = _found_among(binding, of(""), NOTHING)
    if core is None:
        return None
    changes, unknown = {"": core}, set[str]()
    for kind in ("l2", "decoupled"):
        found = _found_among(binding, of(kind), core)
        if found is None:
            if not core.reasons and not all(map(agrees, _undecayed(of(kind)))):
                return None  # it departs without weight decay, too
            unknown.add(kind)
            text = f"takes different steps from the rule with {kind} weight decay"
            changes[kind] = _unknown(core, "weight decay", Kind.FAULT, text)
        else:
            changes[kind] = _with_kind(found, core, kind) if len(binding.decays) > 1 else found
    missing = [i for kind in changes if kind not in unknown for i in of(kind, is_missing=True)]
    search = Search(binding, items)
    is_complete = not unknown
    for count in (NOTHING, *other_counts()):
        if all(
            search.predicts(count.after(changes[_kind(item.case.draw)]), item) for item in missing
        ):
            break
    else:
        is_complete = False
        count = _unknown(
            NOTHING,
            "missing gradients",
            Kind.CONVENTION,
            "takes different steps from the rule after a step in which a parameter had no gradient",
        )
    whole = {kind: count.after(change) for kind, change in changes.items()}
    explanation = _explanation(search, reference, _by_kind(whole))
    return replace(explanation, knows_decay=not unknown, is_complete=is_complete)


def _undecayed(items: Sequence[Item]) -> list[Draw]:
    """Return the draws of tensors, without weight decay."""
    draws = {id(item.case.draw): item.case.draw for item in items}.values()
    return [replace(d, setting=replace(d.setting, weight_decay=0.0)) for d in draws]


def _with_kind(change: Hypothesis, core: Hypothesis, kind: str) -> Hypothesis:
    """Return a hypothesis whose reasons say with which kind of weight decay they show."""
    known = len(core.reasons)
    reasons = ((n, k, f"{text}, with {kind} weight decay") for n, k, text in change.reasons[known:])
    return replace(change, reasons=(*core.reasons, *reasons))


def _unknown(base: Hypothesis, name: str, kind: Kind, sentence: str) -> Hypothesis:
    """Return a hypothesis that names a difference and does not predict it."""
    return replace(base, reasons=(*base.reasons, (name, kind, sentence)))


def _found_among(binding: Binding, items: Sequence[Item], base: Hypothesis) -> Hypothesis | None:
    """Return the changes that predict some tensors without exception, on top of others."""
    if not items:
        return base
    search = Search(binding, items, base)
    for thorough in (False, True):
        result = search.result(thorough=thorough)
        if result is not None and result[1] is None:
            return result[0]
    return None


def _kind(draw: Draw) -> str:
    return draw.setting.decay if draw.setting.weight_decay else ""


def _by_kind(changes: Mapping[str, Hypothesis]) -> Callable[[Draw], Hypothesis]:
    return lambda draw: changes[_kind(draw)]


def _lacks_gradients(item: Item) -> bool:
    return any(gradients[item.label] is None for gradients in item.case.draw.gradients)


def _explanation(
    search: Search,
    reference: Callable[[Draw], Path],
    hypothesis_of: Callable[[Draw], Hypothesis],
    condition: Condition | None = None,
) -> Explanation:
    """Return hypotheses as an explanation.

    Args:
        search: the search that found them.
        reference: draw -> the weights by the rule.
        hypothesis_of: draw -> the hypothesis that holds for it.
        condition: the tensors for which it holds; None for all.
    """

    def predict(draw: Draw) -> Path:
        path = [dict(weights) for weights in reference(draw)]
        for label in draw.start:
            if condition is not None and not condition.holds(draw, label):
                continue
            with np.errstate(all="ignore"):
                result = search.path(hypothesis_of(draw), draw, label)
                values = list(itertools.islice(result, draw.steps))
            for weights, value in zip(path, values, strict=True):
                weights[label] = torch.tensor(value, dtype=torch.float64)
        return path

    items = [*search.departing, *search.conforming]
    reasons = dict.fromkeys(
        reason for item in items for reason in hypothesis_of(item.case.draw).reasons
    )
    if condition is not None:
        reasons = dict.fromkeys((n, k, f"{text}, {condition.text}") for n, k, text in reasons)
    is_joint = any(hypothesis_of(item.case.draw).supply is not None for item in items)
    return Explanation(tuple(reasons), (), predict, is_joint=is_joint)
