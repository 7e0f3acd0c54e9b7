"""Claims are read with one clear error, and decided as paired tests decide them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from optrial.analysis.claims import (
    Amount,
    Claim,
    ClaimVerdict,
    parse_claims,
)
from optrial.analysis.statistics import Arrival, compare_all
from optrial.errors import StudyError
from optrial.spec import Directions
from optrial.study import Study
from tests.analysis.claims import evaluate_claims
from tests.tolerance import STATISTIC_FLOAT64


def parse_claim(text: str, *names: Sequence[str], **options: Directions) -> Claim:
    (claim,), problems = parse_claims([text], *names, **options)
    assert not problems
    return claim


NAMES = ["adam", "sgd", "sgd with momentum"]
METRICS = ["test_accuracy", "test_loss"]


@pytest.mark.parametrize(
    ("text", "kind", "second", "metric", "amount"),
    [
        ("adam > sgd on test_accuracy", ">", "sgd", "test_accuracy", 0.0),
        ("adam>sgd on test_loss", ">", "sgd", "test_loss", 0.0),
        ('adam > "sgd with momentum" on test_loss', ">", "sgd with momentum", "test_loss", 0.0),
        ("adam > sgd on test_accuracy by 0.5 points", ">", "sgd", "test_accuracy", 0.005),
        ("adam > sgd on test_accuracy by 0.5%", ">", "sgd", "test_accuracy", 0.005),
        ("adam > sgd on test_accuracy by 1 point", ">", "sgd", "test_accuracy", 0.01),
        ("adam > sgd on test_loss by 1e-2", ">", "sgd", "test_loss", 0.01),
        ("  adam is best on test_loss ", "is best", "", "test_loss", 0.0),
        ("'adam' ~ sgd on test_loss within .01", "~", "sgd", "test_loss", 0.01),
    ],
)
def test_the_grammar(text: str, kind: str, second: str, metric: str, amount: float) -> None:
    claim = parse_claim(text, NAMES, METRICS)
    assert (claim.kind, claim.first, claim.second, claim.metric) == (kind, "adam", second, metric)
    assert claim.amount == Amount(amount)


def test_a_share_of_a_loss_is_of_the_seconds_mean() -> None:
    amount = parse_claim("adam ~ sgd on test_loss within 5%", NAMES, METRICS).amount
    assert amount.relative
    assert amount.of({0: 1.0, 1: 3.0, 2: np.nan}) == pytest.approx(0.1, rel=STATISTIC_FLOAT64)
    assert np.isnan(amount.of({0: np.nan}))
    assert Amount(0.5).of({}) == 0.5


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("adm > sgd on test_accuracy", 1, "Did you mean 'adam'"),
        ("adam > sgdd on test_accuracy", 8, "Did you mean 'sgd'"),
        ("adam > sgd on test_acuracy", 15, "Did you mean 'test_accuracy'"),
        ("adam >> sgd on test_loss", 7, "expected an optimizer's name"),
        ("adam beats sgd on test_loss", 6, "expected '>' or '~' or 'is'"),
        ("adam > sgd at test_loss", 12, "expected 'on'"),
        ("adam > sgd on", 14, "expected the name of a metric"),
        ("", 1, "expected the name of an optimizer"),
        ("adam is worst on test_loss", 9, "expected 'best'"),
        ("adam is best on test_loss by 3", 27, "expected the end"),
        ("adam > sgd on test_loss by", 27, "expected an amount above 0"),
        ("adam > sgd on test_loss by much", 28, "expected an amount above 0"),
        ("adam > sgd on test_loss by -1", 28, "expected an amount above 0"),
        ("adam > sgd on test_loss by 0", 28, "expected an amount above 0"),
        ("adam > sgd on test_loss by 1 points", 28, "has no points"),
        ("adam ~ sgd on test_loss", 24, "expected 'within'"),
        ('adam > "sgd on test_loss', 8, "expected an optimizer's name"),
        ("adam > adam on test_loss", 0, "with itself"),
        ("adam reaches test_acuracy 0.9 sooner than sgd", 0, "Did you mean 'test_accuracy'"),
        ("adam reaches test_accuracy soon", 28, "expected a value, such as 0.95 or 95%"),
        ("adam reaches test_loss 5% sooner than sgd", 24, "expected a value, such as 0.1"),
        ("adam reaches test_loss 0.1 quicker than sgd", 28, "expected 'in' or 'sooner'"),
        ("adam reaches test_loss 0.1 in less steps than sgd", 36, "expected 'time'"),
        ("adam reaches test_loss 0.1 in fewer steps", 42, "expected 'than'"),
        ("adam reaches test_loss 0.1 sooner than adam", 0, "with itself"),
    ],
)
def test_one_clear_error(text: str, column: int, message: str) -> None:
    claims, (problem,) = parse_claims([text], NAMES, METRICS)
    assert not claims
    assert message in problem.message
    assert not column or f"column {column}" in problem.message


def test_every_bad_claim_of_a_study_is_reported() -> None:
    claims, problems = parse_claims(["adam ! sgd", "adam > sgd on test_loss", "x"], NAMES, METRICS)
    assert [claim.text for claim in claims] == ["adam > sgd on test_loss"]
    assert [problem.path for problem in problems] == ["claims[0]", "claims[2]"]


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_claim_or_a_problem(text: str) -> None:
    claims, problems = parse_claims([text], NAMES, METRICS)
    assert len(claims) + len(problems) == 1


OWN = Directions({"rmse": None, "my_accuracy": "higher", "cost": "lower"})


@pytest.mark.parametrize("text", ["adam > sgd on test_rmse", "adam is best on test_rmse"])
def test_a_claim_needs_the_direction_of_its_metric(text: str) -> None:
    _, (problem,) = parse_claims([text], NAMES, ["test_rmse"], OWN)
    assert problem.path == "claims[0]"
    assert "does not declare whether lower or higher values of test_rmse" in problem.message
    assert "better: lower" in problem.message


def test_equivalence_needs_no_direction() -> None:
    (claim,), problems = parse_claims(["adam ~ sgd on test_rmse within 0.1"], directions=OWN)
    assert (claim.better, problems) == (None, [])
    a, b = seeded(0.001, -0.001, 0.002, -0.002, 0.0005, 0.0, -0.001, 0.001)
    values = {"test_rmse": {"adam": a, "sgd": b}}
    (result,) = evaluate_claims([claim], values)
    assert result.verdict == "supported"


def test_only_accuracies_of_the_catalogue_have_points() -> None:
    text = "adam > sgd on test_my_accuracy by 0.5 points"
    _, (problem,) = parse_claims([text], NAMES, directions=OWN)
    assert "has no points" in problem.message
    assert parse_claim("adam > sgd on test_my_accuracy by 0.5%", directions=OWN).amount.relative


def test_a_claim_counts_the_runs_without_a_value() -> None:
    a, b = seeded(*DIFFERENCES, 0.01)
    values = {"test_accuracy": {"a": {**a, 3: None, 5: None}, "b": b}}
    for text in ("a > b on test_accuracy", "a is best on test_accuracy"):
        (result,) = evaluate_claims([parse_claim(text)], values)
        assert result.sentence.count("2 of 9 runs of a have no value of test accuracy") == 1
        assert result.comparisons[0].pairs == 7


def seeded(*differences: float, base: float = 0.9) -> tuple[dict[int, float], dict[int, float]]:
    """Two optimizers whose paired differences are given."""
    second = {seed: base + 0.01 * seed for seed in range(len(differences))}
    return {seed: second[seed] + d for seed, d in enumerate(differences)}, second


def decided(text: str, metric: str = "test_accuracy", **values: dict[int, float]) -> ClaimVerdict:
    (result,) = evaluate_claims([parse_claim(text)], {metric: values})
    assert str(result.verdict) in result.sentence
    assert "nan" not in result.sentence
    return result.verdict


DIFFERENCES = [0.010, 0.012, 0.009, 0.011, 0.013, 0.008, 0.010, 0.011]


def test_better_and_its_opposite() -> None:
    a, b = seeded(*DIFFERENCES)
    assert decided("a > b on test_accuracy", a=a, b=b) == "supported"
    assert decided("b > a on test_accuracy", a=a, b=b) == "refuted"
    assert decided("b > a on test_loss", metric="test_loss", a=a, b=b) == "supported"


def test_a_claim_has_the_interval_that_the_pair_has_among_all_pairs() -> None:
    generator = np.random.default_rng(3)
    values = {name: dict(enumerate(generator.normal(0.9, 0.05, 10))) for name in "abc"}
    family = compare_all(values, metric="test_accuracy", higher_is_better=True)
    known = {(pair.first, pair.second): pair.difference for pair in family.pairs}
    claims = [parse_claim(f"{one} > {two} on test_accuracy") for one, two in ("ab", "ac", "bc")]
    for result in evaluate_claims(claims, {"test_accuracy": values}):
        (pair,) = result.comparisons
        expected = known[pair.first, pair.second]
        assert pair.difference.low == pytest.approx(expected.low, rel=STATISTIC_FLOAT64)
        assert pair.difference.high == pytest.approx(expected.high, rel=STATISTIC_FLOAT64)


def test_better_by_an_amount() -> None:
    a, b = seeded(*DIFFERENCES)
    assert decided("a > b on test_accuracy by 0.5 points", a=a, b=b) == "supported"
    assert decided("a > b on test_accuracy by 1 points", a=a, b=b) == "undecided"
    assert decided("a > b on test_accuracy by 2 points", a=a, b=b) == "refuted"
    assert decided("b > a on test_loss by 0.005", metric="test_loss", a=a, b=b) == "supported"


def test_equivalent_within_a_margin() -> None:
    a, b = seeded(0.001, -0.001, 0.002, -0.002, 0.0005, 0.0, -0.001, 0.001)
    assert decided("a ~ b on test_accuracy within 0.5 points", a=a, b=b) == "supported"
    assert decided("b ~ a on test_loss within 0.005", metric="test_loss", a=a, b=b) == "supported"
    assert decided("a ~ b on test_accuracy within 0.0001", a=a, b=b) == "undecided"
    far, near = seeded(*DIFFERENCES)
    assert decided("a ~ b on test_accuracy within 0.1 points", a=far, b=near) == "refuted"
    assert decided("b ~ a on test_accuracy within 0.1 points", a=far, b=near) == "refuted"


def test_best_needs_to_beat_every_rival_and_one_rival_refutes_it() -> None:
    a, b = seeded(*DIFFERENCES)
    close = {seed: value - 0.0005 * (-1) ** seed for seed, value in a.items()}
    assert decided("a is best on test_accuracy", a=a, b=b) == "supported"
    assert decided("a is best on test_accuracy", a=a, b=b, c=close) == "undecided"
    assert decided("b is best on test_accuracy", a=a, b=b, c=close) == "refuted"


def test_identical_optimizers_are_undecided() -> None:
    same, _ = seeded(*DIFFERENCES)
    assert decided("a > b on test_accuracy", a=same, b=same) == "undecided"
    assert decided("a is best on test_accuracy", a=same, b=same) == "undecided"
    assert decided("a ~ b on test_accuracy within 0.1 points", a=same, b=same) == "supported"


def test_too_few_seeds_decide_nothing() -> None:
    a, b = seeded(0.3, 0.3, 0.3)
    assert decided("a > b on test_accuracy", a=a, b=b) == "undecided"


def test_a_run_that_diverged_is_the_worst() -> None:
    a, b = seeded(*DIFFERENCES)
    lost = {seed: np.nan if seed < 4 else value for seed, value in a.items()}
    assert decided("a > b on test_accuracy", a=lost, b=b) == "undecided"


@pytest.mark.parametrize("metric", ["test_accuracy", "test_loss"])
@pytest.mark.parametrize(
    "text", ["b > a", "b > a by 0.01", "b ~ a within 5%", "b is best", "a > b", "a is best"]
)
@pytest.mark.parametrize("seeds", [6, 30])
def test_divergence_alone_decides_no_claim(text: str, metric: str, seeds: int) -> None:
    b = {seed: 0.9 + 0.001 * seed for seed in range(seeds)}
    claim, _, amount = text.partition(" within" if "within" in text else " by")
    amount = text[len(claim) :]
    values = {"a": dict.fromkeys(b, np.nan), "b": b}
    (result,) = evaluate_claims([parse_claim(f"{claim} on {metric}{amount}")], {metric: values})
    assert str(result.verdict) == "undecided"
    assert result.p_value == 1
    assert f"{seeds} of {seeds} runs of a diverged" in result.sentence


def test_a_claim_is_supported_beside_a_rival_that_diverged_only_where_no_rival_is_unknown() -> None:
    a, b = seeded(*DIFFERENCES)
    values = {"test_accuracy": {"a": a, "b": b, "c": dict.fromkeys(a, np.nan)}}
    best, better = evaluate_claims(
        [parse_claim("a is best on test_accuracy"), parse_claim("a > b on test_accuracy")], values
    )
    assert str(best.verdict) == "undecided"
    assert "ahead of b; not compared, as runs diverged, with c" in best.sentence
    assert str(better.verdict) == "supported"


def test_what_has_no_values_is_undecided() -> None:
    assert decided("a > b on test_accuracy") == "undecided"
    assert decided("a is best on test_accuracy", a={0: 1.0}) == "undecided"
    assert decided("a ~ b on test_accuracy within 0.1", a={0: 1.0}, b={1: 1.0}) == "undecided"


def test_all_claims_are_one_family() -> None:
    """Six seeds reach p = 1/32: enough for one claim, not for two."""
    a, b = seeded(*DIFFERENCES[:6])
    text = "a > b on test_accuracy"
    values = {"test_accuracy": {"a": a, "b": b}}
    claims = [parse_claim(text), parse_claim("b ~ a on test_accuracy within 0.1 points")]
    one = evaluate_claims(claims[:1], values)
    both = evaluate_claims(claims, values)
    assert [str(r.verdict) for r in one] == ["supported"]
    assert [str(r.verdict) for r in both] == ["undecided", "undecided"]
    assert both[0].adjusted_p_value == pytest.approx(2 / 32, rel=STATISTIC_FLOAT64)


@pytest.mark.parametrize("margin", [0.002, 0.004, 0.02])
def test_equivalence_agrees_with_two_one_sided_tests_of_scipy(margin: float) -> None:
    """`scipy.stats.permutation_test` flips the signs of paired samples, one-sided."""
    differences = np.random.default_rng(3).normal(0.001, 0.003, size=9)
    a, b = seeded(*differences)
    (result,) = evaluate_claims(
        [parse_claim(f"a ~ b on test_accuracy within {margin}")],
        {"test_accuracy": {"a": a, "b": b}},
    )
    one_sided = [
        stats.permutation_test(
            (shifted,), np.mean, permutation_type="samples", alternative="greater"
        ).pvalue
        for shifted in (differences + margin, margin - differences)
    ]
    expected = min(max(one_sided), 1.0)
    if expected < 0.5:
        assert result.p_value == pytest.approx(expected, rel=STATISTIC_FLOAT64)
    assert (result.verdict == "supported") == (expected <= 0.05)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("adam reaches test_accuracy 0.95 in fewer steps than sgd", 0.95, "steps"),
        ("adam reaches test_accuracy 95% sooner than sgd", 0.95, "steps"),
        ("adam reaches test_accuracy 95% in less time than sgd", 0.95, "seconds"),
        ('adam reaches test_loss -1e-2 sooner than "sgd with momentum"', -0.01, "steps"),
    ],
)
def test_targets_of_claims(text: str, value: float, unit: str) -> None:
    claim = parse_claim(text, NAMES, METRICS)
    assert claim.target is not None
    assert (claim.kind, claim.unit, claim.target.metric) == ("reaches", unit, claim.metric)
    assert claim.target.value == pytest.approx(value, rel=STATISTIC_FLOAT64)
    assert claim.about_seconds == (unit == "seconds")


def test_a_target_needs_the_direction_of_its_metric() -> None:
    _, (problem,) = parse_claims(["adam reaches test_rmse 1 sooner than sgd"], directions=OWN)
    assert "does not declare whether lower or higher values of test_rmse" in problem.message
    _, (problem,) = parse_claims(["adam reaches training_seconds 1 sooner than sgd"])
    assert "'training_seconds' has no curve that reaches a target" in problem.message


def test_claims_about_targets_are_decided_by_who_is_there_first() -> None:
    claims = [
        parse_claim(f"{one} reaches test_accuracy 0.9 in fewer steps than {other}")
        for one, other in ("ab", "ba", "ac", "ax")
    ]
    target = claims[0].target
    assert target is not None
    times = {
        "a": {seed: Arrival(100.0 + seed, True) for seed in range(9)},
        "b": {seed: Arrival(500.0, seed < 3) for seed in range(9)},
        "c": {seed: Arrival(105.0, True) for seed in range(9)},
    }
    sooner, later, tied, unknown = evaluate_claims(claims, {}, {(target, "steps"): times})
    verdicts = [str(result.verdict) for result in (sooner, later, tied, unknown)]
    assert verdicts == ["supported", "refuted", "undecided", "undecided"]
    assert sooner.adjusted_p_value == pytest.approx(4 * 2 / 2**9, rel=STATISTIC_FLOAT64)
    assert "a reaches 90 % test accuracy in fewer steps than b (first on 9" in sooner.sentence
    assert sooner.numbers["first_median"] == 104
    assert sooner.numbers["second_median"] is None
    assert (sooner.numbers["first_reached"], sooner.numbers["second_reached"]) == (9, 3)
    assert (unknown.pairs, tied.pairs) == (0, 9)


def test_a_claim_that_holds_quotes_is_quoted_once_and_may_be_left_out() -> None:
    claims, (problem,) = parse_claims(['"my adam" > sgd on test_accuracy'], ["sgd", "lion"])
    assert claims == []
    assert problem.message.startswith("""'"my adam" > sgd on test_accuracy': column 1: 'my adam'""")
    assert problem.message.endswith("To leave out all claims: claims: [].")


def test_new_optimizers_of_a_recipe_name_the_claims_to_leave_out() -> None:
    recipe, other = "cnn-cifar10-small", "optimizers=[{rule: lion, lr: 0.001}]"
    with pytest.raises(StudyError, match=r"claims\[0\].*claims: \[\]"):
        Study.from_file(recipe, [other])
    study = Study.from_file(recipe, [other, "claims=[]"])
    assert [entry.label for entry in study.config.optimizers] == ["lion"]
