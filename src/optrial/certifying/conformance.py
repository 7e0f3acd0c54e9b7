"""`certify`: a conformance test and differential fuzzer for optimizers."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from optrial.certifying.certificate import certificate_of
from optrial.certifying.findings import Certificate
from optrial.certifying.rule_certificate import certificate_of_rule
from optrial.certifying.step_comparison import DRAWS
from optrial.code import Trust, as_trust, is_code, load_code, register
from optrial.errors import Problem, StudyError, shown, suggest
from optrial.replay.target import Target
from optrial.rules import RULES, Rule
from optrial.supervision import imported, supervised

__all__ = ["certify"]

_SOURCE = "the certificate"
_ADAPTED = {"optax": "optrial.certifying.with_optax", "keras": "optrial.certifying.with_keras"}
"""Library -> the module that adapts its optimizers to PyTorch's tensors."""
_OTHER_LIBRARIES = "tensorflow", "jax", "flax"

TargetValue = str | Rule | Callable[..., torch.optim.Optimizer]


def certify(
    target: TargetValue,
    against: TargetValue | None = None,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    compiled: bool = False,
    arguments: dict[str, Any] | None = None,
    trust: Iterable[str | Path] | Trust = (),
) -> Certificate:
    """Check an optimizer against the rule that it should compute.

    Short trainings with randomly drawn hyperparameters, shapes and gradients run side by side with
    the rule in float64. Further checks test what every optimizer promises: groups, ``state_dict``,
    closures, variants, types.

        certificate = optrial.certify("torch.optim:Adam")
        print(certificate.verdict, certificate.findings)

    Args:
        target: a class of optimizers, a function that makes one from parameters, a function that
            makes a transformation of optax, a class of Keras, the name of one of these as
            ``module:name``, a rule, or the name of a rule.
        against: what it should compute: a rule or its name, or a class or its name. Without it,
            the rule of the target's name; for a rule, the class of `torch.optim` that computes it.
        seed: seed of all draws, from 0 to 2**32 - 1.
        draws: number of drawn trainings per rule, at least 1.
        compiled: whether to compare a step under `torch.compile` too, which takes seconds.
        arguments: arguments that are always passed to the target, whose values are not drawn.
        trust: folders, files and modules whose code may run; see docs/security.md.

    Returns:
        The certificate; its `verdict` is "conforms", "conforms with conventions", "differs" or
        "not comparable".

    Raises:
        StudyError: target or reference cannot be found, or may not run; or another argument has a
            value that is not allowed.
    """
    if draws < 1:
        _fail("draws", f"{draws}: must be a whole number ≥ 1.")
    if not 0 <= seed < 2**32:
        _fail("seed", f"{seed}: must be a whole number from 0 to {2**32 - 1}.")
    trusted = as_trust(trust)
    subject = _resolved(target, "target", trusted)
    reference = None if against is None else _resolved(against, "against", trusted)
    if isinstance(subject, Rule) and arguments:
        _fail("arguments", f"apply to a class; {subject.name} is a rule.")
    with supervised(f"certifying {subject.name}"):
        if isinstance(subject, Rule):
            return certificate_of_rule(subject, reference, seed=seed, draws=draws)
        return certificate_of(
            subject.with_arguments(**(arguments or {})),
            reference,
            seed=seed,
            draws=draws,
            compiled=compiled,
            source=_source(subject.make),
        )


def _resolved(value: TargetValue, key: str, trust: Trust) -> Rule | Target:
    """Return the rule or class that a value stands for.

    Raises:
        StudyError: there is none, or it may not run.
    """
    if isinstance(value, Rule):
        return value
    if not isinstance(value, str):
        if not callable(value):
            _fail(key, f"{shown(value)}: must be a class of optimizers, a rule, or a name.")
        return _target(_name(value), value)
    if value in RULES:
        return RULES[value]
    if not is_code(value):
        way_out = "write a class as module:Class, such as torch.optim:Adam."
        _fail(key, f"'{value}' is not a rule; {way_out} {suggest(value, RULES)}")
    if value.partition(":")[0].partition(".")[0] in _OTHER_LIBRARIES:
        _fail(
            key,
            f"'{value}': only classes with the interface of torch.optim.Optimizer and rules of "
            "optrial are certified.",
        )
    library, _, attribute = value.partition(":")
    if library in _ADAPTED:
        _require(library, key, value)
        value = f"keras.optimizers:{attribute}" if library == "keras" else value
    refusals = {} if library in _ADAPTED else imported([value], trust)
    if refusals:
        _fail(key, refusals[value])
    try:
        thing = load_code(value)
    except ImportError as error:
        _fail(key, f"{error}.")
    if isinstance(thing, Rule):
        return thing
    if not callable(thing):
        _fail(key, f"'{value}' is {shown(thing)}: must be a class of optimizers or a rule.")
    return _target(value, thing)


def _require(library: str, key: str, value: str) -> None:
    """Import the adapter of a library.

    Raises:
        StudyError: the library is not installed.
    """
    try:
        import_module(_ADAPTED[library])
    except ImportError as error:
        way_out = f"install it: pip install 'optrial[{library}]'"
        _fail(key, f"'{value}' needs {library}, which cannot be imported ({error}); {way_out}.")


def _target(name: str, thing: Callable[..., Any]) -> Target:
    """Return what makes an optimizer, adapted if it is one of optax or Keras."""
    if "optax" in sys.modules:
        optax = import_module(_ADAPTED["optax"])
        if optax.is_factory(thing):
            adapter = _ADAPTED["optax"]
            return Target(name, optax.adapted(thing), {}, adapter, takes_missing=False)
    if "keras" in sys.modules:
        keras = import_module(_ADAPTED["keras"])
        if keras.is_class(thing):
            return Target(name, keras.adapted(thing), {}, _ADAPTED["keras"])
    return Target(name, thing, {})


def _name(thing: Callable[..., object]) -> str:
    module, name = getattr(thing, "__module__", ""), getattr(thing, "__qualname__", "")
    path = f"{module}:{name}"
    return path if is_code(path) else register(thing)


def _fail(key: str, message: str) -> Any:
    raise StudyError([Problem(key, message)], _SOURCE)


def _source(make: Callable[..., object]) -> str:
    """Return the file in which a class is defined, with its hash; empty without a file."""
    try:
        file = Path(inspect.getfile(make))
    except (TypeError, OSError):
        return ""
    if not file.is_file():
        return ""
    return f"{file.name} (sha256 {sha256(file.read_bytes()).hexdigest()[:12]})"
