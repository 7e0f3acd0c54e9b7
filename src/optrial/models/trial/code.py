"""Trial of a model, a loss and metrics on one batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from optrial.code import is_code
from optrial.errors import USER_CODE_ERRORS, Problem, StudyError, listed, one_line
from optrial.input_parts import PackedShape
from optrial.models.curvature import twice_differentiable
from optrial.models.layers.dropout import key_dropout
from optrial.models.parameters import as_real, foreign_types, trained_parameters
from optrial.models.trial.functions import function_problems, loss_with_parameters, model_path
from optrial.models.trial.outputs import type_name, wrong_outputs
from optrial.models.trial.problem import TrialProblem, error_text, on_any_device
from optrial.models.trial.settings import kept_settings

__all__ = ["second_derivative_problem", "try_batch", "try_code", "varying"]

_UNSTORABLE = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)  # unknown to NumPy
_ONE_SAMPLE = "Expected more than 1 value per channel"


def try_code(
    problem: TrialProblem, metrics: Sequence[str] = (), *, keyed: bool = True
) -> list[Problem]:
    """Return the reasons why a model, a loss and metrics cannot be trained on samples.

    Args:
        problem: model, loss and samples. Their number should differ from every other dimension, so
            that shapes with a wrong order of dimensions are recognised.
        metrics: names.
        keyed: whether runs draw keyed dropout masks, as all do except those of `rng: script`.
    """
    problems, changes = list[Problem](), list[str]()
    try:
        with kept_settings() as changes:
            problems = on_any_device(
                lambda device: [
                    *loss_with_parameters(problem.loss[0]),
                    *_problems(problem, metrics, device, keyed=keyed),
                ],
                failed=bool,
            )
    except USER_CODE_ERRORS:
        if not changes:
            raise
    if changes:  # they may be the cause of the other problems
        names = filter(is_code, (problem.model[0], problem.loss[0], *metrics))
        return [Problem("", f"{' or '.join(map(repr, names))} {changes[0]}.")]
    return problems


def try_batch(problem: TrialProblem) -> str:
    """Return why a model that passed `try_code` cannot be trained on a smaller batch, or "".

    The reason is the end of a sentence about the batch.
    """
    return on_any_device(lambda device: _wrong_batch(problem, device), failed=bool)


def _wrong_batch(problem: TrialProblem, device: str) -> str:
    name = problem.model[0]
    inputs, targets = problem.tensors(device)
    model = problem.build_model(device)
    try:
        outputs = problem.outputs(model, inputs)
        if reason := _wrong(outputs, targets, problem):
            return f"for which '{name}' returns {reason}"
        problem.objective().loss(outputs, targets).backward()  # type: ignore[no-untyped-call]
    except USER_CODE_ERRORS as error:
        if _ONE_SAMPLE in one_line(error):
            return "which batch norm cannot normalise"
        return f"on which '{name}' raised {error_text(error)}"
    return ""


def second_derivative_problem(problem: TrialProblem) -> str:
    """Return why a model and a loss that can be trained have no second derivatives, or ""."""
    return on_any_device(lambda device: _not_twice(problem, device), failed=bool)


def varying(problem: TrialProblem) -> str:
    """Return in what a model differs between two passes over the same samples, or "".

    That is dropout, or whatever else user code draws.
    """

    def difference(device: str) -> str:
        inputs, _ = problem.tensors(device)
        model = problem.build_model(device)
        with torch.no_grad():
            first, second = (as_real(problem.outputs(model, inputs)) for _ in range(2))
        if torch.equal(first, second):
            return ""
        name = problem.model[0]
        return f"'{name}' changes from pass to pass, as by dropout or a buffer in training mode"

    return on_any_device(difference, failed=bool)


def _not_twice(problem: TrialProblem, device: str) -> str:
    inputs, targets = problem.tensors(device)
    model = problem.build_model(device)
    parameters = list(trained_parameters(model).values())
    try:
        with twice_differentiable(model):
            loss = problem.objective().loss(problem.outputs(model, inputs), targets)
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        squares = [as_real(g).square().sum() for g in gradients if g is not None]
        # All of the graph, for PyTorch is silent about a part of it that leads to no parameter.
        sum(squares).backward()  # type: ignore[union-attr]
    except USER_CODE_ERRORS as error:
        names = f"'{problem.model[0]}' with '{problem.loss[0]}'"
        return f"the gradient of {names} cannot be differentiated ({error_text(error)})"
    return ""


def _problems(
    problem: TrialProblem, metrics: Sequence[str], device: str, *, keyed: bool
) -> Iterator[Problem]:
    """Yield the problems of the model or, if it has none, those of the loss and the metrics."""
    name = problem.model[0]
    path = model_path(name)
    inputs, targets = problem.tensors(device)
    try:
        model = problem.build_model(device)
    except StudyError as error:
        yield from (reason.under("model") for reason in error.problems)
        return
    if keyed:
        key_dropout(model)
    if reason := _unstorable(model) or _not_built_anew(model, problem, device):
        yield Problem(path, f"'{name}' {reason}.")
        return
    parameters = dict(model.named_parameters())
    outputs, reason = _outputs(model, inputs, targets, problem)
    if reason := reason or _made_in_forward(model, parameters):
        yield Problem(path, f"'{name}' {reason}.")
        return
    assert isinstance(outputs, Tensor)
    # Before evaluation mode: a model may change what its gradient needs.
    yield from function_problems(problem, metrics, outputs, targets)
    model.eval()
    _, reason = _outputs(model, inputs, targets, problem)
    model.train()
    if reason:
        yield Problem(path, f"'{name}' in evaluation mode {reason}.")


def _outputs(
    model: nn.Module, inputs: Tensor, targets: Tensor, problem: TrialProblem
) -> tuple[object, str]:
    """Return the outputs for a batch and, if they cannot be used, the reason."""
    try:
        outputs = problem.outputs(model, inputs)
    except USER_CODE_ERRORS as error:
        shown = f"on inputs of shape {tuple(inputs.shape)}, {type_name(inputs.dtype)}"
        if isinstance(problem.input_shape, PackedShape):
            shown = f"on {problem.input_shape.as_received}"
        hint = _type_hint(model, problem, inputs.dtype)
        if problem.precision == "bfloat16" and "bfloat16" in str(error).lower():
            hint = (
                "; with precision: bfloat16, products are bfloat16: convert them by .float() where "
                "another type is needed, or leave precision out"
            )
        return None, f"raised {error_text(error)} {shown}{hint}"
    reason = _wrong(outputs, targets, problem)
    return outputs, reason and f"returned {reason}"


def _wrong(outputs: object, targets: Tensor, problem: TrialProblem) -> str:
    """Describe outputs that do not fit the loss; models of the catalogue have classes last."""
    last = problem.vocabulary is not None and not is_code(problem.model[0]) and targets.ndim > 1
    return wrong_outputs(outputs, targets, problem.loss, problem.classes, classes_last=last)


def _type_hint(model: nn.Module, problem: TrialProblem, dtype: torch.dtype) -> str:
    """Return the way out if types may be why a model refuses its inputs."""
    tables = any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in model.modules())
    if tables and dtype.is_floating_point and not isinstance(problem.input_shape, PackedShape):
        return "; if they are token numbers, add inputs: tokens to the dataset, for int64"
    types = foreign_types(model, dtype) if dtype.is_floating_point else []
    if not types:
        return ""
    return (
        f"; its parameters are {' and '.join(map(type_name, types))}: leave them in float32, which "
        "'precision' converts for the whole study, or convert the inputs within forward"
    )


def _unstorable(model: nn.Module) -> str:
    """Return why a checkpoint could not hold the state of a model, or ""."""
    for name, value in chain(model.named_parameters(), model.named_buffers()):
        if value.dtype in _UNSTORABLE:
            return (
                f"has '{name}' in {type_name(value.dtype)}, which cannot be stored; build it in "
                "float32, and use precision: bfloat16 for faster products"
            )
    extra = [name for name in model.state_dict() if name.endswith("_extra_state")]
    if extra:
        return f"has extra state '{extra[0]}', which is not stored; register it as a buffer"
    return ""


def _not_built_anew(model: nn.Module, problem: TrialProblem, device: str) -> str:
    """Return why a factory does not build a new model in every call, or ""."""
    if not is_code(problem.model[0]):
        return ""
    names = _shared(model, problem.build_model(device))
    return names and (
        f"returns the same {names} in every call, so a run would start where another one "
        "ended; build everything within the function, or use copy.deepcopy there"
    )


def _shared(model: nn.Module, other: nn.Module) -> str:
    """List the layers, or else the trained parameters, that two models have in common.

    Layers without state, such as `nn.ReLU`, may be shared.
    """
    others = set(other.modules())
    layers: list[str] = []
    for name, module in model.named_modules():
        within = any(not outer or f"{name}.".startswith(f"{outer}.") for outer in layers)
        has_state = next(chain(module.children(), module.parameters(), module.buffers()), None)
        if module in others and has_state is not None and not within:
            layers.append(name)
    if "" in layers:
        return "model"
    used = set(map(_memory, trained_parameters(other).values())) - {0}  # parameters without memory
    named = trained_parameters(model).items()
    return listed(layers or [name for name, value in named if _memory(value) in used])


def _memory(value: Tensor) -> int:
    return value.untyped_storage().data_ptr() if value.layout == torch.strided else 0


def _made_in_forward(model: nn.Module, before: Mapping[str, nn.Parameter]) -> str:
    """Return which parameters a forward pass added or replaced, or ""."""
    made = [name for name, value in model.named_parameters() if value is not before.get(name)]
    if not made:
        return ""
    shown = ", ".join(made[:3]) + (", ..." if len(made) > 3 else "")
    return (
        f"creates parameters in its forward pass ({shown}), which no optimizer would train; create "
        "them in __init__, where lazy layers such as nn.LazyLinear infer sizes from the data"
    )
