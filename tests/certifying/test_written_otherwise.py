"""Certificates of correct optimizers that are written in unusual ways."""

import pytest

import optrial
from optrial.certifying import Kind, Verdict
from tests.certifying import written_otherwise as written


@pytest.mark.parametrize(
    ("optimizer", "rule", "conventions"),
    [
        (written.NumpyAdam, "adam", set()),
        (
            written.ProductAdam,
            "adam",
            {"complex weights", "changing beta1", "changing beta2"},
        ),
        (written.Nesterov, "nesterov", {"changing lr"}),
        (written.HypotAdagrad, "adagrad", set()),
    ],
)
def test_a_correct_optimizer_has_no_fault(
    optimizer: type, rule: str, conventions: set[str]
) -> None:
    certificate = optrial.certify(optimizer, rule, draws=8)
    assert certificate.against == (rule,)
    assert certificate.faults == []
    assert {f.name for f in certificate.of_kind(Kind.CONVENTION)} == conventions


def test_products_of_decay_rates_are_named() -> None:
    certificate = optrial.certify(written.ProductAdam, "adam", draws=2)
    (sentence,) = (f.sentence for f in certificate.findings if f.name == "changing beta1")
    assert "corrects averages by the product of their decay rates" in sentence


def test_hidden_arguments_are_explained() -> None:
    certificate = optrial.certify(written.HiddenAdam, "adam")
    assert certificate.verdict is Verdict.NOT_COMPARABLE
    assert "it takes **kwargs, which hide its arguments" in certificate.reason
