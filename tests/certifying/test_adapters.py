"""Certificates of optimizers of optax and Keras; scripts/adapters installs both."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import Any

import pytest

import optrial
from optrial.certifying import Certificate, Verdict
from optrial.errors import StudyError


def needs(library: str) -> pytest.MarkDecorator:
    """Skip a test without a library, which is not imported to find out."""
    is_missing = importlib.util.find_spec(library) is None
    return pytest.mark.skipif(is_missing, reason=f"{library} is not installed: scripts/adapters")


def lines(certificate: Certificate) -> str:
    return "\n".join(f"{f.kind} {f.name}: {f.sentence}" for f in certificate.findings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rules", "conventions"),
    [
        pytest.param("optax:lion", ("lion",), set(), marks=needs("optax")),
        pytest.param("optax:adamw", ("adamw",), set(), marks=needs("optax")),
        pytest.param("keras:Lion", ("lion",), {"precision", "NaN gradients"}, marks=needs("keras")),
        pytest.param(
            "keras:Adamax",
            ("adamax",),
            {"precision", "epsilon", "weight decay", "step count"},
            marks=needs("keras"),
        ),
        pytest.param(
            "keras:Adafactor",
            ("adafactor",),
            {"precision", "weight decay", "step count"},
            marks=needs("keras"),
        ),
        pytest.param(
            "keras:Muon",
            ("muon",),
            {"precision", "kernels", "epsilon", "weight decay", "step count"},
            marks=needs("keras"),
        ),
        pytest.param("optax:nadam", ("nadam",), {"momentum"}, marks=needs("optax")),
        pytest.param(
            "optax:adafactor",
            ("adafactor",),
            {"learning rate", "matrices"},
            marks=needs("optax"),
        ),
        pytest.param(
            "keras:SGD",
            ("sgd", "momentum", "nesterov"),
            {"precision", "weight decay"},
            marks=needs("keras"),
        ),
    ],
)
def test_optimizers_of_other_libraries(
    name: str, rules: tuple[str, ...], conventions: set[str]
) -> None:
    certificate = optrial.certify(name, draws=4)  # of two, none has a rate above 1 / √t
    assert certificate.against == rules
    assert {f.name for f in certificate.findings if f.kind == "convention"} == conventions
    assert not certificate.faults, lines(certificate)


@pytest.mark.slow
@needs("optax")
def test_a_fault_of_a_transformation_is_named() -> None:
    import optax

    def exchanged(learning_rate: float, b1: float = 0.9, b2: float = 0.999) -> Any:
        return optax.adam(learning_rate, b1=b2, b2=b1)

    certificate = optrial.certify(exchanged, against="adam", draws=2)
    assert certificate.verdict is Verdict.DIFFERS
    assert "beta1 and beta2 are exchanged" in lines(certificate)


@pytest.mark.slow
@needs("keras")
def test_a_fault_of_a_class_of_keras_is_named() -> None:
    import keras

    import optrial.certifying.with_keras  # chooses PyTorch for Keras

    class Undamped(keras.optimizers.SGD):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(2 * gradient, variable, learning_rate)

    certificate = optrial.certify(Undamped, against="sgd", draws=2)
    assert certificate.verdict is Verdict.DIFFERS
    assert "2" in lines(certificate)


@pytest.mark.slow
@needs("keras")
@needs("optax")  # which brings JAX
@pytest.mark.parametrize("target", ["keras:Lion", "torch.optim:SGD"])
def test_keras_must_compute_with_pytorch(target: str) -> None:
    code = f"import keras, optrial; print(optrial.certify('{target}', draws=1).verdict)"
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if target == "keras:Lion":
        assert "set the environment variable KERAS_BACKEND=torch" in done.stderr
    else:
        assert done.stdout == "conforms\n", done.stderr


@pytest.mark.parametrize("library", ["optax", "keras"])
def test_a_library_that_is_not_installed(library: str) -> None:
    if importlib.util.find_spec(library) is not None:
        pytest.skip(f"{library} is installed")
    with pytest.raises(StudyError, match=f"optrial\\[{library}\\]"):
        optrial.certify(f"{library}:Adam")
