"""Estimates, tests and intervals: pure functions of arrays and a random generator."""

from optrial.analysis.statistics.comparison import (
    Comparison,
    Comparisons,
    Statistic,
    Values,
    Verdict,
    compare,
    compare_all,
    known_values,
)
from optrial.analysis.statistics.finite_test_set import mcnemar_bound
from optrial.analysis.statistics.folds import FoldValues, corrected_t_tests, fold_intervals
from optrial.analysis.statistics.groups import tie_groups
from optrial.analysis.statistics.intervals import Interval, mean_interval, median_interval
from optrial.analysis.statistics.paired import (
    minimum_pairs,
    probability_of_improvement,
    sign_flip_p_value,
)
from optrial.analysis.statistics.power import detectable_effect, seeds_needed, sign_flip_power
from optrial.analysis.statistics.profiles import performance_profile
from optrial.analysis.statistics.ranks import (
    Friedman,
    RankComparison,
    compare_ranks,
    critical_difference,
    friedman_test,
    rank_stability,
    ranks,
)
from optrial.analysis.statistics.targets import (
    Arrival,
    Survival,
    TargetComparison,
    compare_arrivals,
    first_step_reaching,
    kaplan_meier,
    median_time,
)
from optrial.analysis.statistics.tuning import (
    BestOfK,
    RateRange,
    best_of_k,
    crossings,
    learning_rate_range,
)
from optrial.analysis.statistics.wording import (
    best_sentence,
    p_text,
    ranks_sentence,
    sentence,
    target_sentence,
    time_text,
    two_digits,
    value_text,
    without_value,
)

__all__ = [
    "Arrival",
    "BestOfK",
    "Comparison",
    "Comparisons",
    "FoldValues",
    "Friedman",
    "Interval",
    "RankComparison",
    "RateRange",
    "Statistic",
    "Survival",
    "TargetComparison",
    "Values",
    "Verdict",
    "best_of_k",
    "best_sentence",
    "compare",
    "compare_all",
    "compare_arrivals",
    "compare_ranks",
    "corrected_t_tests",
    "critical_difference",
    "crossings",
    "detectable_effect",
    "first_step_reaching",
    "fold_intervals",
    "friedman_test",
    "kaplan_meier",
    "known_values",
    "learning_rate_range",
    "mcnemar_bound",
    "mean_interval",
    "median_interval",
    "median_time",
    "minimum_pairs",
    "p_text",
    "performance_profile",
    "probability_of_improvement",
    "rank_stability",
    "ranks",
    "ranks_sentence",
    "seeds_needed",
    "sentence",
    "sign_flip_p_value",
    "sign_flip_power",
    "target_sentence",
    "tie_groups",
    "time_text",
    "two_digits",
    "value_text",
    "without_value",
]
