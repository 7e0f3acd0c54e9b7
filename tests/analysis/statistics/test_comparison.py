"""Verdicts, tie groups and sentences."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from optrial.analysis.statistics import (
    Comparison,
    Comparisons,
    Statistic,
    Values,
    Verdict,
    best_sentence,
    compare,
    compare_all,
    sentence,
    tie_groups,
)
from optrial.analysis.statistics.wording import difference_numbers, number_text, p_text, value_text
from optrial.errors import counted
from tests.tolerance import SIMULATION_SIGMAS, STATISTIC_FLOAT64

NAN = math.nan


def by_seed(values: Sequence[float]) -> dict[int, float]:
    return dict(enumerate(values))


def accuracy(first: Sequence[float], second: Sequence[float]) -> Comparison:
    return compare(
        by_seed(first),
        by_seed(second),
        names=("adam", "sgd"),
        metric="test_accuracy",
        higher_is_better=True,
        percent=True,
    )


def shifted(shifts: dict[str, float], seeds: int, noise: float = 0.001) -> dict[str, dict]:
    """Accuracies that share what the seed does and differ by a shift and a little noise."""
    generator = np.random.default_rng(seeds)
    base = generator.normal(0.95, 0.01, size=seeds)
    return {
        name: by_seed((base + shift + generator.normal(0, noise, size=seeds)).tolist())
        for name, shift in shifts.items()
    }


def compared(values: dict[str, dict], **options: object) -> Comparisons:
    settings = {"metric": "test_accuracy", "higher_is_better": True, "percent": True, **options}
    return compare_all(values, **settings)


BETTER = [0.951, 0.962, 0.943, 0.974, 0.955, 0.966, 0.957, 0.948]
WORSE = [0.941, 0.953, 0.935, 0.964, 0.947, 0.956, 0.947, 0.940]


def test_better_worse_and_the_direction_of_the_metric() -> None:
    assert accuracy(BETTER, WORSE).verdict == Verdict.BETTER
    assert accuracy(WORSE, BETTER).verdict == Verdict.WORSE
    loss = compare(
        by_seed(BETTER),
        by_seed(WORSE),
        metric="test_loss",
        higher_is_better=False,
    )
    assert loss.verdict == Verdict.WORSE
    assert (loss.wins, loss.losses, loss.probability) == (0, 8, 0)


def test_a_pair_whose_runs_all_diverged_has_no_interval() -> None:
    lost = [NAN] * len(BETTER)
    for first, second in [(lost, BETTER), (BETTER, lost), (lost, lost)]:
        assert all(map(math.isnan, accuracy(first, second).interval))
    comparison = accuracy(BETTER, WORSE)
    assert comparison.interval[0] == comparison.difference.estimate


def test_numbers_are_those_of_the_paired_differences() -> None:
    comparison = accuracy(BETTER, WORSE)
    differences = np.subtract(BETTER, WORSE)
    np.testing.assert_allclose(comparison.differences, differences, rtol=STATISTIC_FLOAT64)
    assert comparison.difference.estimate == pytest.approx(differences.mean())
    assert comparison.difference.low < differences.mean() < comparison.difference.high
    assert comparison.p_value == 2 / 2**8
    assert comparison.statistic == Statistic.MEAN


def test_five_seeds_are_too_few_however_clear_they_look() -> None:
    comparison = accuracy(BETTER[:5], WORSE[:5])
    assert comparison.verdict == Verdict.UNDECIDED_TOO_FEW
    assert not comparison.difference.known
    assert accuracy(BETTER[:6], WORSE[:6]).verdict == Verdict.BETTER


def test_noise_is_undecided() -> None:
    generator = np.random.default_rng(3)
    first, second = generator.normal(0.9, 0.01, size=(2, 10)).tolist()
    assert accuracy(first, second).verdict == Verdict.UNDECIDED
    assert accuracy(first, first).verdict == Verdict.UNDECIDED


def test_only_common_seeds_are_paired() -> None:
    first, second = by_seed(BETTER), {seed + 2: v for seed, v in enumerate(WORSE)}
    comparison = compare(first, second, metric="test_accuracy", higher_is_better=True)
    assert (comparison.pairs, comparison.unpaired) == (6, 4)
    assert comparison.differences[0] == BETTER[2] - WORSE[0]


def test_no_common_seed_and_a_single_one_decide_nothing() -> None:
    for second, pairs in (({9: 0.5}, 0), ({0: 0.5}, 1)):
        comparison = compare({0: 0.9}, second, metric="loss", higher_is_better=False)
        assert comparison.pairs == pairs
        assert comparison.verdict == Verdict.UNDECIDED_TOO_FEW
        assert not comparison.difference.known
        assert comparison.seeds_needed(0.1) is None
        assert comparison.detectable_effect() is None


def test_a_run_that_diverged_is_worse_than_any_other() -> None:
    lost = [*WORSE[:6], NAN, math.inf]
    comparison = accuracy(BETTER, lost)
    assert comparison.statistic == Statistic.SIGN
    assert comparison.diverged == (0, 2)
    assert comparison.differences[6:] == (math.inf, math.inf)
    assert (comparison.wins, comparison.losses) == (8, 0)
    assert (comparison.finished, comparison.finished_wins, comparison.finished_losses) == (6, 6, 0)
    assert comparison.p_value == stats.binomtest(6, 6).pvalue
    assert comparison.verdict == Verdict.BETTER
    assert comparison.difference.high == math.inf
    assert math.isfinite(comparison.difference.estimate)


def test_runs_without_a_value_are_left_out_and_counted() -> None:
    first: dict[int, float | None] = {**by_seed(BETTER), 2: None}
    comparison = compare(first, by_seed(WORSE), metric="test_auc", higher_is_better=True)
    assert comparison.without_value == ((1, 8), (0, 8))
    assert comparison.swapped().without_value == ((0, 8), (1, 8))
    assert (comparison.pairs, comparison.unpaired, comparison.diverged) == (7, 1, (0, 0))
    assert "1 of 8 runs of first has no value of test auc" in sentence(comparison)
    nothing = compare(
        dict.fromkeys(range(8), None),
        by_seed(WORSE),
        metric="test_auc",
        higher_is_better=True,
    )
    assert "8 of 8 runs of first have no value of test auc" in sentence(nothing)


def test_no_difference_has_no_sign() -> None:
    level = accuracy([0.9, 0.8], [0.9, 0.8]).swapped()
    assert difference_numbers(level) == ("0", "", "")
    assert value_text([-0.0]) == "0"


def test_divergence_of_a_loss_has_the_other_sign() -> None:
    comparison = compare(
        by_seed([0.1, NAN]),
        by_seed([0.2, 0.2]),
        metric="test_loss",
        higher_is_better=False,
    )
    assert comparison.differences[1] == math.inf
    assert (comparison.wins, comparison.losses) == (1, 1)


def test_two_runs_that_diverged_are_equal() -> None:
    comparison = accuracy([*BETTER, NAN], [*WORSE, NAN])
    assert comparison.differences[-1] == 0
    assert comparison.probability == 8.5 / 9
    assert comparison.p_value == stats.binomtest(8, 8).pvalue


@pytest.mark.parametrize("seeds", [1, 6, 30])
@pytest.mark.parametrize("higher", [True, False])
def test_no_optimizer_is_better_because_the_other_one_diverged(seeds: int, higher: bool) -> None:
    lost, fine = [NAN] * seeds, [0.9 + 0.001 * seed for seed in range(seeds)]
    family = compared({"adam": by_seed(fine), "sgd": by_seed(lost)}, higher_is_better=higher)
    (pair,) = family.pairs
    assert (pair.p_value, pair.verdict) == (1, Verdict.UNDECIDED_DIVERGED)
    assert sentence(pair) == (
        f"adam and sgd cannot be compared on test accuracy: "
        f"{seeds} of {counted(seeds, 'run')} of sgd diverged"
    )
    assert best_sentence(family) == (
        f"No best optimizer: only adam finished, with {value_text(fine, percent=True)} "
        + "test accuracy"
        + " (lower is better)" * (not higher)
        + f"; {seeds} of {counted(seeds, 'run')} of sgd diverged"
    )
    assert family.order == ("adam", "sgd")
    assert family.groups == (("adam",),)


def test_the_best_names_runs_that_are_done_without_a_value() -> None:
    none: dict[int, float | None] = dict.fromkeys(range(8))
    family = compared({"adam": by_seed([0.9] * 8), "sgd": none})
    assert best_sentence(family) == (
        "No best optimizer: only adam has a value, with 90 % test accuracy; "
        "no run of sgd has a value"
    )


def test_nothing_is_said_where_both_diverged() -> None:
    family = compared({name: by_seed([NAN] * 8) for name in ("adam", "sgd")})
    assert family.pairs[0].verdict == Verdict.UNDECIDED_DIVERGED
    assert sentence(family.pairs[0]) == (
        "adam and sgd cannot be compared on test accuracy: "
        "8 of 8 runs of adam and 8 of 8 runs of sgd diverged"
    )
    assert best_sentence(family) == "No best optimizer on test accuracy: 16 of 16 runs diverged"


def test_seeds_on_which_both_finished_must_say_the_same() -> None:
    """The leader of all seeds must lead where both finished: p is the larger of two sign tests."""
    seeds = 16
    for lost in range(seeds + 1):
        comparison = accuracy([0.9] * seeds, [NAN] * lost + [0.8] * (seeds - lost))
        finished = stats.binomtest(seeds - lost, seeds - lost).pvalue if lost < seeds else 1
        assert comparison.p_value == pytest.approx(finished, rel=STATISTIC_FLOAT64)
        assert (comparison.verdict == Verdict.BETTER) == (seeds - lost >= 6)
    # Where both finished the other one is ahead: no test is on the side of either.
    split = accuracy([0.9] * 20, [NAN] * 13 + [0.95] * 7)
    assert (split.p_value, split.verdict) == (1, Verdict.UNDECIDED)
    assert "better on 0, worse on 7 of 7 seeds on which both finished" in sentence(split)


def test_failures_of_the_leader_count_against_it() -> None:
    """Better on the 12 seeds that finished, but 8 did not."""
    comparison = accuracy([0.95] * 12 + [NAN] * 8, [0.9] * 20)
    assert comparison.p_value == pytest.approx(stats.binomtest(12, 20).pvalue)
    assert comparison.verdict == Verdict.UNDECIDED


def test_too_few_seeds_on_which_both_finished() -> None:
    comparison = accuracy([0.9] * 6, [NAN] + [0.8] * 5)
    assert comparison.verdict == Verdict.UNDECIDED_DIVERGED
    assert sentence(comparison) == (
        "adam and sgd cannot be compared on test accuracy (better on 5, worse on 0 of 5 seeds on "
        "which both finished, 1 of 6 runs of sgd diverged, sign test, p = 0.062; 6 paired seeds); "
        "at least 6 seeds are needed on which both finish"
    )


def test_the_best_of_those_that_finished_names_those_that_did_not() -> None:
    values = shifted({"sgd": -0.02, "adam": 0.0, "lion": 0.0}, 12)
    values["lion"] = dict.fromkeys(values["lion"], NAN)
    text = "adam is best of 2: 95.2 % test accuracy; 12 of 12 runs of lion diverged"
    assert best_sentence(compared(values)) == text
    values["sgd"][0] = NAN
    assert best_sentence(compared(values)) == f"{text}; 1 of 12 runs of sgd diverged"
    values["muon"], values["sgd"] = values["lion"], values["adam"]
    first, second = compared(values).order[:2]
    assert best_sentence(compared(values)) == (
        f"No clear winner: {first} and {second} are level at 95.2 % test accuracy; "
        "12 of 12 runs of lion and 12 of 12 runs of muon diverged"
    )


def test_optimizers_without_a_value_are_named_as_such() -> None:
    values: dict[str, Values] = shifted({"sgd": -0.02, "adam": 0.0}, 12)
    values["rest"] = dict.fromkeys(range(12))
    assert best_sentence(compared(values)) == (
        "adam is best of 2: 95.2 % test accuracy; no run of rest has a value"
    )
    assert best_sentence(compared({"a": {0: None}, "b": {0: NAN}})) == (
        "No best optimizer on test accuracy: no run has a value"
    )


def test_optimizers_that_cannot_be_compared_are_not_counted_in_the_family() -> None:
    """Of six optimizers one diverged: the other five are corrected for their 10 pairs."""
    offsets = {"a": 0.05, "b": 0.04, "c": 0.03, "d": 0.02, "e": 0.0}
    five = compared(shifted(offsets, 9))
    six = compared({**shifted(offsets, 9), "lost": by_seed([NAN] * 9)})
    assert best_sentence(five).startswith("a is best of 5: ")  # 2^-8 * 10 <= 0.05
    assert best_sentence(six).startswith(best_sentence(five))
    kept = [pair for pair in six.pairs if "lost" not in (pair.first, pair.second)]
    raw = [pair.p_value for pair in five.pairs]
    adjusted = multipletests(raw, method="bonferroni")[1]
    assert [pair.adjusted_p_value for pair in kept] == pytest.approx(
        adjusted, rel=STATISTIC_FLOAT64
    )
    for pair in six.pairs:
        assert pair.comparisons == 10
        if pair not in kept:
            assert (pair.adjusted_p_value, pair.verdict) == (1, Verdict.UNDECIDED_DIVERGED)


def test_a_family_of_those_that_finished_keeps_its_chance_of_errors() -> None:
    """Of three optimizers that are alike, any may diverge everywhere: still 5 % at most."""
    generator = np.random.default_rng(0)
    trials, errors = 1_000, 0
    for _ in range(trials):
        table = generator.normal(size=(3, 6))
        lost = generator.random(3) < 0.3
        table[lost] = NAN
        table[generator.random(table.shape) < 0.02] = NAN
        family = compared({name: by_seed(row) for name, row in zip("abc", table, strict=True)})
        errors += any(pair.verdict in (Verdict.BETTER, Verdict.WORSE) for pair in family.pairs)
    assert errors / trials <= 0.05


@pytest.mark.parametrize("seeds", [12, 30])
def test_a_pair_has_one_p_value_whatever_it_is_compared_beside(seeds: int) -> None:
    values = shifted({"a": 0.001, "b": 0.0, "c": 0.0005}, seeds, noise=0.003)
    values["d"] = {seed: value for seed, value in values["c"].items() if seed > 3}
    family = {(pair.first, pair.second): pair for pair in compared(values).pairs}
    for (first, second), pair in family.items():
        alone = compare(
            values[second],
            values[first],
            names=(second, first),
            metric="test_accuracy",
            higher_is_better=True,
            comparisons=len(family),
        )
        assert alone.p_value == pair.p_value
        assert alone.difference.low == pytest.approx(-pair.difference.high, rel=STATISTIC_FLOAT64)


def test_swapping_changes_the_side_only() -> None:
    comparison = accuracy([*BETTER, NAN], [*WORSE, 0.9])
    swapped = comparison.swapped()
    again = accuracy([*WORSE, 0.9], [*BETTER, NAN])
    assert swapped.differences == again.differences
    assert swapped.diverged == again.diverged
    assert swapped.probability == again.probability
    assert (swapped.difference.low, swapped.difference.high) == (
        again.difference.low,
        again.difference.high,
    )
    assert swapped.swapped() == comparison


def test_all_pairs_are_one_family() -> None:
    family = compared(shifted({"a": 0.01, "b": 0.0, "c": 0.0, "d": -0.01}, seeds=12))
    assert len(family.pairs) == 6
    expected = multipletests([c.p_value for c in family.pairs], method="bonferroni")[1]
    adjusted = [c.adjusted_p_value for c in family.pairs]
    np.testing.assert_allclose(adjusted, expected, rtol=STATISTIC_FLOAT64)
    assert {c.comparisons for c in family.pairs} == {6}


def in_a_family(size: int, seeds: int = 8) -> Comparison:
    return compare(
        by_seed(BETTER[:seeds]),
        by_seed(WORSE[:seeds]),
        names=("adam", "sgd"),
        metric="test_accuracy",
        higher_is_better=True,
        percent=True,
        comparisons=size,
    )


def test_a_pair_is_corrected_for_the_family_that_it_is_said_to_be_of() -> None:
    assert in_a_family(4).adjusted_p_value == 4 * 2 / 2**8
    assert in_a_family(4).verdict == Verdict.BETTER
    assert in_a_family(8).verdict == Verdict.UNDECIDED_TOO_FEW
    wider = in_a_family(6).difference
    alone = in_a_family(1).difference
    assert wider.low < alone.low < alone.high <= wider.high


@pytest.mark.parametrize("seeds", [4, 8, 12, 20])
def test_the_interval_of_a_pair_never_contradicts_its_verdict(seeds: int) -> None:
    generator, seen = np.random.default_rng(seeds), set()
    for _ in range(40):
        values = shifted({"a": 0.0, "b": 0.0008, "c": 0.002, "d": -0.002}, seeds)
        noise = generator.normal(0, 0.001, size=(len(values), seeds))
        for by_name, row in zip(values.values(), noise, strict=True):
            for seed in by_name:
                by_name[seed] += row[seed]
            by_name.update({seed: NAN for seed in by_name if generator.random() < 0.03})
        for pair in compared(values).pairs:
            _, low, high = pair.interval
            shown = {Verdict.BETTER: low > 0, Verdict.WORSE: high < 0}
            assert shown.get(pair.verdict, not (low > 0 or high < 0)), pair
            assert (pair.adjusted_p_value <= pair.alpha) == (pair.verdict in shown)
            seen.add(pair.verdict)
    assert len(seen) > (seeds > 4) * 2


def test_groups_start_with_those_that_cannot_be_told_from_the_best() -> None:
    family = compared(shifted({"sgd": -0.02, "adam": 0.0, "nadam": 0.0, "lion": -0.01}, 12))
    assert set(family.groups[0]) == {"adam", "nadam"}
    assert family.groups[1:] == (("lion",), ("sgd",))
    assert set(family.order[:2]) == {"adam", "nadam"}
    assert family.order[2:] == ("lion", "sgd")


def test_order_follows_the_direction_of_the_metric() -> None:
    values = shifted({"low": -0.02, "high": 0.0}, 12)
    assert compared(values).order == ("high", "low")
    loss = compared(values, metric="test_loss", higher_is_better=False)
    assert loss.order == ("low", "high")


def test_an_optimizer_that_diverged_comes_last_unless_it_wins_nevertheless() -> None:
    values = shifted({"safe": 0.0, "wild": 0.0, "lost": 0.0}, 20)
    values["wild"][3] = values["lost"][3] = values["lost"][4] = NAN
    assert compared(values).order == ("safe", "wild", "lost")
    values = shifted({"safe": 0.0, "wild": 0.02}, 20)
    values["wild"][3] = NAN
    assert compared(values).order == ("wild", "safe")


def test_ties_are_not_transitive() -> None:
    far = {("a", "c"), ("a", "d"), ("b", "d")}
    groups = tie_groups("abcd", lambda one, other: (one, other) in far)
    assert groups == (("a", "b"), ("b", "c"), ("c", "d"))


def test_identical_optimizers_are_seldom_told_apart() -> None:
    generator, studies = np.random.default_rng(8), 400
    draws = generator.normal(size=(studies, 3, 10)).tolist()
    false = 0
    for study in draws:
        values = {name: by_seed(row) for name, row in zip("abc", study, strict=True)}
        false += len(compared(values).groups[0]) < 3
    bound = 0.05 + SIMULATION_SIGMAS * math.sqrt(0.05 * 0.95 / studies)
    assert false / studies <= bound


def test_a_thousand_runs_of_nine_optimizers_take_well_under_a_second() -> None:
    values = shifted({f"optimizer {i}": i / 1000 for i in range(9)}, seeds=111)
    start = time.process_time()
    family = compared(values)
    assert len([sentence(pair) for pair in family.pairs]) == 36
    assert time.process_time() - start < 1


def numbers_replaced(text: str) -> str:
    return re.sub(r"-?\d+(\.\d+)?", "#", text)


def test_sentence_of_a_difference_names_the_winner_first() -> None:
    expected = (
        r"adam beats sgd on test accuracy by 0\.9\d* points \(95 % interval 0\.8\d* to 1\.0\d*, "
        r"p = 0\.0078; 8 paired seeds\)"
    )
    comparison = accuracy(BETTER, WORSE)
    assert re.fullmatch(expected, sentence(comparison))
    assert sentence(comparison.swapped()) == sentence(comparison)
    assert sentence(accuracy(WORSE, BETTER)).startswith("sgd beats adam on test accuracy by 0.9")


def test_a_limit_that_excludes_zero_is_not_rounded_to_it() -> None:
    text = sentence(accuracy([0.96] * 5 + [0.7604], [0.91] * 5 + [0.76]))
    assert "95 % interval 0.04 to " in text, text
    assert "interval 0.00 to" not in text


def test_sentence_of_a_loss_is_in_its_own_unit_and_positive() -> None:
    comparison = compare(
        by_seed([0.10, 0.11, 0.12, 0.10, 0.13, 0.12]),
        by_seed([0.20, 0.22, 0.25, 0.19, 0.24, 0.21]),
        names=("adam", "sgd"),
        metric="test_loss",
        higher_is_better=False,
    )
    text = sentence(comparison)
    assert text.startswith("adam beats sgd on test loss (lower is better) by 0.10")
    assert numbers_replaced(text) == (
        "adam beats sgd on test loss (lower is better) by # "
        "(# % interval # to #, p = #; # paired seeds)"
    )


def tie() -> Comparison:
    noise = np.random.default_rng(5).normal(0, 0.002, size=(2, 12))
    first, second = (0.97 + noise).tolist()
    return accuracy(first, second)


def test_sentence_of_a_tie_says_how_many_more_seeds_are_needed() -> None:
    comparison = tie()
    text = sentence(comparison, effect=0.001)
    assert numbers_replaced(text) == (
        "adam and sgd are undecided on test accuracy: adam is ahead by # points (# % interval # to "
        "#, p = #; # paired seeds); about # more seeds would be needed to detect # points"
    )
    needed = comparison.seeds_needed(0.001)
    more = int(re.search(r"about (\d+) more", text)[1])
    assert f"{more:.2g}" == f"{needed - 12:.2g}"
    assert text.endswith("to detect 0.1 points")
    assert sentence(comparison, effect=0.02).endswith("these seeds suffice to detect 2 points")


def test_sentence_of_a_tie_else_says_what_these_seeds_could_show() -> None:
    comparison = tie()
    shown = f"{100 * comparison.detectable_effect():.2g} points"
    ending = f"; a difference of {shown} would have been found with 80 % power"
    assert sentence(comparison).endswith(ending)


def test_sentence_of_too_few_seeds_says_how_many_are_enough() -> None:
    assert sentence(accuracy(BETTER[:5], WORSE[:5])).endswith("; at least 6 seeds are needed")
    text = sentence(in_a_family(3, seeds=5))
    assert text.endswith(
        "p = 0.19, adjusted for 3 comparisons; 5 paired seeds); "
        "at least 7 seeds are needed for 3 comparisons"
    )
    single = sentence(accuracy(BETTER[:1], WORSE[:1]))
    assert "ahead by 1 point (no interval, p > 0.99; 1 paired seed)" in single


def test_sentence_with_runs_that_diverged_counts_them() -> None:
    assert sentence(accuracy([*WORSE[:6], NAN, NAN], BETTER)) == (
        "sgd beats adam on test accuracy (better on 6, worse on 0 of 6 seeds on which both "
        "finished, 2 of 8 runs of adam diverged, sign test, p = 0.031; 8 paired seeds)"
    )


def test_sentence_of_equal_values_promises_nothing() -> None:
    assert sentence(accuracy(BETTER, BETTER), effect=0.001) == (
        "adam and sgd are undecided on test accuracy: equal on every seed (p > 0.99; "
        "8 paired seeds)"
    )


def test_sentence_of_the_best() -> None:
    family = compared(shifted({"sgd": -0.02, "adam": 0.0}, 12))
    assert best_sentence(family) == "adam is best of 2: 95.2 % test accuracy"
    family = compared(shifted({"sgd": -0.02, "adam": 0.0, "nadam": 0.0}, 12))
    first, second = family.order[:2]
    assert best_sentence(family) == (
        f"{first} leads: 95.2 % test accuracy; {second} is undecided against it"
    )
    family = compared(shifted({"a": 0.0, "b": 0.0, "c": 0.0}, 12))
    assert best_sentence(family) == (
        f"No clear winner: {family.order[0]} is ahead with 95.2 % test accuracy, "
        "undecided against both others"
    )
    family = compared(shifted({name: 0.01 * i - 0.05 for i, name in enumerate("abcdef")}, 3))
    assert best_sentence(family) == (
        "No clear winner yet: f is ahead with 95.0 % test accuracy, "
        "but 3 seeds cannot separate 6 optimizers; 10 can"
    )


@pytest.mark.parametrize(
    ("p_value", "text"),
    [
        (0.000999, "p < 0.001"),
        (0.001, "p = 0.0010"),
        (0.0498, "p = 0.050"),
        (0.56, "p = 0.56"),
        (0.99, "p = 0.99"),
        (0.994, "p > 0.99"),
        (1.0, "p > 0.99"),
    ],
)
def test_p_values_are_never_zero_or_one(p_value: float, text: str) -> None:
    assert p_text(p_value) == text


@pytest.mark.parametrize(
    ("half_width", "decimals"),
    [(0.3, 1), (0.125, 2), (0.029, 3), (0.5, 1), (12.0, 0), (7.0, 0), (0.0004, 4), (NAN, 4)],
)
def test_digits_follow_the_interval(half_width: float, decimals: int) -> None:
    assert number_text(0.123456, half_width) == f"{0.123456:.{decimals}f}"


@pytest.mark.parametrize(
    ("value", "text"),
    [(-999_999.0, "-999999"), (1e6, "1e+06"), (-1.0167508e16, "-1.017e+16"), (1e38, "1e+38")],
)
def test_large_values_have_four_digits(value: float, text: str) -> None:
    assert number_text(value, 1e4) == text
