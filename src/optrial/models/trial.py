"""One batch through models, losses and metrics, to report problems once and before any run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from optrial.code import Unidentifiable, code_sha256, is_code, load_code
from optrial.errors import USER_CODE_ERRORS, Problem, StudyError, listed, one_line
from optrial.models.broadcasting import BroadcastError, refuse_broadcasting
from optrial.models.catalogue import build_model
from optrial.models.dropout import key_dropout
from optrial.models.objective import build_objective, class_axes
from optrial.models.precision import foreign_types, place_model
from optrial.models.settings import kept_settings
from optrial.models.trained import trained_parameters

__all__ = ["try_batch", "try_code"]

Named: TypeAlias = tuple[str, Mapping[str, Any]]
"""A name and arguments."""

Batch: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Inputs, (batch, *input_shape), in the type that models are trained in, and targets."""

_UNSTORABLE = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)  # unknown to NumPy
_ONE_SAMPLE = "Expected more than 1 value per channel"
_REMEMBERS = (
    "changes what it holds when it is called, so that its values would depend on the runs before; "
    "compute them from outputs and targets alone"
)
_WAY_OUT = (
    "a model returns one tensor: return one of them or join them, or compute the loss in the model "
    "and use loss: mean_output"
)


def try_code(
    model: Named,
    loss: Named,
    metrics: Sequence[str],
    batch: Batch,
    classes: int,
    *,
    keyed: bool = True,
) -> list[Problem]:
    """Return what keeps a model, a loss and metrics from being trained on a dataset.

    Args:
        model: its name and arguments.
        loss: likewise.
        metrics: names.
        batch: some samples; their number should be no other dimension's.
        classes: number of outputs that the data needs; see `optrial.data.Dataset`.
        keyed: whether runs draw keyed dropout masks, as all but those of `rng: script` do.
    """
    with kept_settings() as wrong:
        problems = _on_any_device(
            lambda device: list(
                chain(
                    _impure_losses(loss[0]),
                    _problems(model, loss, metrics, _tensors(batch, device), classes, keyed=keyed),
                )
            )
        )
    if wrong:  # which may be why it failed
        own = [name for name in (model[0], loss[0], *metrics) if is_code(name)]
        return [Problem("", f"{' or '.join(map(repr, own))} {wrong[0]}.")]
    return problems


def try_batch(model: Named, loss: Named, batch: Batch, classes: int) -> str:
    """Say why a model that passed `try_code` cannot train on a smaller batch."""
    (reason, *_) = _on_any_device(
        lambda device: _why_not(model, loss, _tensors(batch, device), classes)
    ) or [""]
    return reason


_Found = TypeVar("_Found")


def _on_any_device(attempt: Callable[[str], list[_Found]]) -> list[_Found]:
    """Return what is wrong on the CPU and on a GPU, if there is one; nothing if either works."""
    wrong: list[_Found] = []
    for device in ("cpu", "cuda")[: 1 + torch.cuda.is_available()]:
        with torch.random.fork_rng(devices=[]):
            wrong = attempt(device)
        if not wrong:
            break
    return wrong


def _tensors(batch: Batch, device: str) -> tuple[Tensor, Tensor]:
    inputs, targets = (torch.from_numpy(array).to(device) for array in batch)
    return inputs, targets


def _why_not(model: Named, loss: Named, batch: tuple[Tensor, Tensor], classes: int) -> list[str]:
    """Return the end of a sentence about the batch, if it cannot be trained on."""
    inputs, targets = batch
    built = _built(model, inputs, classes)
    try:
        outputs = built(inputs)
        if reason := _wrong_outputs(outputs, targets, loss, classes):
            return [f"for which '{model[0]}' returns {reason}"]
        build_objective(*loss, []).loss(outputs, targets).backward()  # type: ignore[no-untyped-call]
    except USER_CODE_ERRORS as error:  # whatever the user's code raises
        if _ONE_SAMPLE in str(error):
            return ["which batch norm cannot normalise"]
        return [f"on which '{model[0]}' raised {_named(error)}"]
    return []


def _built(model: Named, inputs: Tensor, classes: int) -> nn.Module:
    kind, arguments = model
    shape = tuple(inputs.shape[1:])
    built = build_model(kind, arguments, input_shape=shape, classes=classes, seed=0)
    return place_model(built, inputs.device, inputs.dtype)


def _problems(
    model: Named,
    loss: Named,
    metrics: Sequence[str],
    batch: tuple[Tensor, Tensor],
    classes: int,
    *,
    keyed: bool,
) -> Iterator[Problem]:
    inputs, targets = batch
    place = "model.factory" if is_code(model[0]) else "model"
    try:
        built = _built(model, inputs, classes)
    except StudyError as error:
        yield from (problem.under("model") for problem in error.problems)
        return
    if keyed:
        key_dropout(built)
    if reason := _unfit_model(built, model, inputs, classes):
        yield Problem(place, f"'{model[0]}' {reason}.")
        return
    parameters = dict(built.named_parameters())
    outputs, reason = _outputs(built, batch, loss, classes)
    if reason := reason or _made_in_forward(built, parameters):
        yield Problem(place, f"'{model[0]}' {reason}.")
        return
    # Before evaluation mode: a model may change what its gradient needs.
    yield from _function_problems(model[0], loss, metrics, outputs, targets, classes)
    built.eval()
    _, reason = _outputs(built, batch, loss, classes)
    built.train()
    if reason:
        yield Problem(place, f"'{model[0]}' in evaluation mode {reason}.")


def _unfit_model(built: nn.Module, model: Named, inputs: Tensor, classes: int) -> str:
    """Say why a model cannot be trained as it was built; or ""."""
    if reason := _unstorable(built):
        return reason
    if is_code(model[0]) and (names := _shared(built, _built(model, inputs, classes))):
        return (
            f"returns the same {listed(names)} in every call, so that a run would start where "
            "another one ended; build all of it in the function, or use copy.deepcopy there"
        )
    return ""


def _outputs(
    built: nn.Module, batch: tuple[Tensor, Tensor], loss: Named, classes: int
) -> tuple[Any, str]:
    """Return the outputs for a batch, and what is wrong with them, or ""."""
    inputs, targets = batch
    try:
        outputs = built(inputs)
    except USER_CODE_ERRORS as error:  #  whatever the user's code raises
        shown = f"on inputs of shape {tuple(inputs.shape)}, {_short(inputs.dtype)}"
        return None, f"raised {_named(error)} {shown}{_type_hint(built, inputs.dtype)}"
    reason = _wrong_outputs(outputs, targets, loss, classes)
    return outputs, reason and f"returned {reason}"


def _function_problems(
    model: str,
    loss: Named,
    metrics: Sequence[str],
    outputs: Tensor,
    targets: Tensor,
    classes: int,
) -> Iterator[Problem]:
    """Return what is wrong with the loss and the metrics."""
    functions = [("loss", loss[0]), *((f"metrics[{i}]", n) for i, n in enumerate(metrics))]
    before = {name: _fingerprint(name) for _, name in functions if is_code(name)}
    yield from _loss_problems(model, loss, outputs, targets)
    yield from _metric_problems(loss, metrics, outputs.detach(), targets, classes)
    for path, name in functions:
        if is_code(name) and _fingerprint(name) != before[name]:
            yield Problem(path, f"'{name}' {_REMEMBERS}.")


def _loss_problems(model: str, loss: Named, outputs: Tensor, targets: Tensor) -> Iterator[Problem]:
    place = "model.factory" if is_code(model) else "model"
    path, name = ("loss", loss[0]) if is_code(loss[0]) else (place, model)
    wanted = "; a loss returns the mean over the batch, one number" if path == "loss" else ""
    try:
        with refuse_broadcasting(outputs, targets), _refuse_changes(outputs, targets):
            value = build_objective(*loss, []).loss(outputs, targets)
        if not isinstance(value, Tensor):
            yield Problem(path, f"'{name}' returned {_described(value)}{wanted}, as a tensor.")
        elif value.ndim:
            yield Problem(path, f"'{name}' returned {_described(value)}{wanted}.")
        else:
            value.backward()  # type: ignore[no-untyped-call]
    except BroadcastError as error:
        yield Problem(path, f"'{name}' {error}{_shapes(outputs, targets)}.")
    except _ChangedError as error:
        yield Problem(path, f"'{name}' {error}.")
    except USER_CODE_ERRORS as error:
        yield Problem(path, f"'{name}' raised {_named(error)}{wanted}.")


class _ChangedError(Exception):
    """A loss or metric wrote into what it was given."""


@contextmanager
def _refuse_changes(outputs: Tensor, targets: Tensor) -> Iterator[None]:
    """Raise where outputs or targets, which others read too, are changed in place.

    Raises:
        _ChangedError: with which of them it is.
    """
    given = {"outputs": outputs.detach(), "targets": targets}
    before = {name: value.clone() for name, value in given.items()}
    yield
    for name, value in given.items():
        if not torch.equal(value.nan_to_num(), before[name].nan_to_num()):
            raise _ChangedError(f"changes {name} in place; write to a copy: {name}.clone()")


def _metric_problems(
    loss: Named, metrics: Sequence[str], outputs: Tensor, targets: Tensor, classes: int
) -> Iterator[Problem]:
    own_outputs = is_code(loss[0]) or loss[0] == "mean_output"
    for index, name in enumerate(metrics):
        path = f"metrics[{index}]"
        if own_outputs and not is_code(name) and (reason := _unfit(outputs, targets, classes)):
            own = "leave it out, or write a metric of these outputs"
            yield Problem(path, f"'{name}' does not fit {reason}; {own}.")
            continue
        try:
            with refuse_broadcasting(outputs, targets), _refuse_changes(outputs, targets):
                value = _metric_value(name, loss, outputs, targets)
        except BroadcastError as error:
            yield Problem(path, f"'{name}' {error}{_shapes(outputs, targets)}.")
        except _ChangedError as error:
            yield Problem(path, f"'{name}' {error}.")
        except USER_CODE_ERRORS as error:
            yield Problem(path, f"'{name}' raised {_named(error)}.")
        else:
            if not _is_metric(value, len(targets)):
                yield Problem(
                    path,
                    f"'{name}' returned {_described(value)} for {len(targets)} samples; a metric "
                    "returns one real number per sample, or their mean.",
                )


def _unfit(outputs: Tensor, targets: Tensor, classes: int) -> str:
    """Say why metrics of the catalogue cannot be computed from outputs for the user's loss."""
    if not targets.is_floating_point():
        one = classes <= 2 and outputs.numel() == len(targets) == targets.numel()
        return "" if one else _wrong_outputs(outputs, targets, ("cross_entropy", {}), classes)
    return "" if outputs.shape == targets.shape else f"values{_shapes(outputs, targets)}"


def _impure_losses(name: str) -> Iterator[Problem]:
    """Yield a problem where a loss has parameters of its own, which no optimizer would train."""
    function = load_code(name) if is_code(name) else None
    if isinstance(function, nn.Module) and trained_parameters(function):
        first = next(iter(trained_parameters(function)))
        reason = f"has parameters ('{first}'), which no optimizer trains; move them to the model"
        yield Problem("loss", f"'{name}' {reason}, and return the loss there: loss: mean_output.")


def _fingerprint(name: str) -> str:
    """Return the hash of what a function of the user's is and holds; "" if it has none."""
    try:
        return code_sha256(name)
    except Unidentifiable:
        return ""


def _is_metric(value: Any, samples: int) -> bool:
    """Return whether what a metric returned is one real number, or one per sample."""
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return not tensor.is_complex() and tensor.numel() in (1, samples)


def _metric_value(name: str, loss: Named, outputs: Tensor, targets: Tensor) -> Any:
    """Return what a metric returns for a batch."""
    if is_code(name):
        return load_code(name)(outputs, targets)
    objective = build_objective(*loss, [name])
    for metric in objective.metrics:
        return metric(outputs, targets)
    (whole,) = objective.split_metrics.values()
    return torch.tensor(whole(outputs, targets).value)


def _shared(model: nn.Module, other: nn.Module) -> list[str]:
    """Return the names of layers and trained parameters that two models have in common.

    Layers without anything that training changes, such as an `nn.ReLU`, may be shared.
    """
    theirs = set(other.modules())
    layers: list[str] = []
    for name, module in model.named_modules():
        within = any(not outer or f"{name}.".startswith(f"{outer}.") for outer in layers)
        has_state = next(chain(module.children(), module.parameters(), module.buffers()), None)
        if module in theirs and has_state is not None and not within:
            layers.append(name)
    if "" in layers:
        return ["model"]
    used = set(map(_memory, trained_parameters(other).values())) - {0}  # of no memory
    named = trained_parameters(model).items()
    return layers or [name for name, value in named if _memory(value) in used]


def _memory(value: Tensor) -> int:
    return value.untyped_storage().data_ptr() if value.layout == torch.strided else 0


def _unstorable(model: nn.Module) -> str:
    """Say which numbers of a model no checkpoint could hold; or ""."""
    for name, value in chain(model.named_parameters(), model.named_buffers()):
        if value.dtype in _UNSTORABLE:
            return (
                f"has '{name}' in {_short(value.dtype)}, which cannot be stored; build it in "
                "float32, and use precision: bfloat16 for faster products"
            )
    own = [name for name in model.state_dict() if name.endswith("_extra_state")]
    if own:
        return f"has extra state '{own[0]}', which is not stored; register it as a buffer"
    return ""


def _made_in_forward(model: nn.Module, before: Mapping[str, nn.Parameter]) -> str:
    """Say which parameters a forward pass added or replaced, so that none trains them; or ""."""
    new = [name for name, value in model.named_parameters() if value is not before.get(name)]
    if not new:
        return ""
    shown = ", ".join(new[:3]) + (", ..." if len(new) > 3 else "")
    return (
        f"makes parameters in its forward pass ({shown}), which no optimizer would train; make "
        "them in __init__, where lazy layers such as nn.LazyLinear take sizes from the data"
    )


def _type_hint(model: nn.Module, dtype: torch.dtype) -> str:
    """Say what to do where a model's own types may be why it does not take the inputs."""
    types = foreign_types(model, dtype)
    if not types:
        return ""
    return (
        f"; its parameters are {' and '.join(map(_short, types))}: leave them in float32, which "
        "'precision' changes for all of a study, or convert within forward"
    )


def _wrong_outputs(  # noqa: PLR0911  one a kind
    outputs: Any, targets: Tensor, loss: Named, classes: int
) -> str:
    """Say what is wrong with a model's outputs for a loss of the catalogue; or ""."""
    if not isinstance(outputs, Tensor):
        return f"{_described(outputs)}; {_WAY_OUT}"
    if is_code(loss[0]) and outputs.ndim and len(outputs) != len(targets):
        return (
            f"outputs of shape {tuple(outputs.shape)} for {len(targets)} samples; their first "
            "dimension must be the batch: return them so, and transpose them within the loss"
        )
    if is_code(loss[0]) or loss[0] == "mean_output":
        return ""
    if outputs.is_complex():
        way_out = "take .abs() or .real, or torch.view_as_real"
        return f"{_short(outputs.dtype)} outputs; {loss[0]} takes real numbers: {way_out}"
    shape, wanted = tuple(outputs.shape), tuple(targets.shape)
    if loss[0] == "bce" and targets.numel() == len(targets):
        needed = [wanted[:1], (*wanted[:1], 1)]
    elif targets.is_floating_point():
        needed = [wanted]
    elif targets.ndim > 1:
        return _wrong_logits(shape, wanted, classes, loss[1].get("class_axis"))
    else:
        enough = len(shape) == 2 and shape[0] == wanted[0] and shape[1] >= classes
        needed = [shape if enough else (*wanted, classes)]
    if shape in needed:
        return ""
    rule = f"{classes} classes need" if wanted == needed[0][:-1] else "they must be"
    return f"outputs of shape {shape}; {rule} {' or '.join(map(str, needed))}"


def _wrong_logits(
    shape: tuple[int, ...], labels: tuple[int, ...], classes: int, class_axis: int | None
) -> str:
    """Say what is wrong with the shape of logits of labels per position; or ""."""
    axes = [axis for axis in class_axes(shape, labels) if class_axis in (None, axis)]
    batch, *positions = labels
    layouts = {-1: (batch, *positions, classes), 1: (batch, classes, *positions)}
    needed = " or ".join(str(layouts[a]) for a in (-1, 1) if class_axis in (None, a))
    if not axes or shape[axes[0]] < classes:
        return (
            f"outputs of shape {shape}; {classes} classes at each position of labels of shape "
            f"{labels} need {needed}"
        )
    if len(axes) > 1:
        return (
            f"outputs of shape {shape} for labels of shape {labels}, in which the classes may lie "
            "on axis 1 or on the last one; say which: loss: {name: cross_entropy, class_axis: -1}"
        )
    return ""


def _described(value: Any) -> str:
    """Say what came instead of a tensor or a number of the right shape."""
    match value:
        case Tensor():
            return f"values of shape {tuple(value.shape)}, {_short(value.dtype)}"
        case Mapping():
            return f"a {type(value).__name__} with the keys {', '.join(map(repr, value))}"
        case tuple() | list():
            parts = ", ".join(map(_described, value))
            return f"a {type(value).__name__} of {len(value)} ({parts})"
    return f"{value!r}" if value is None else f"a {type(value).__name__}"


def _shapes(outputs: Tensor, targets: Tensor) -> str:
    return f" (outputs {tuple(outputs.shape)}, targets {tuple(targets.shape)})"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _named(error: BaseException) -> str:
    return one_line(error).rstrip(".")
