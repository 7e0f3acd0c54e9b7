"""Estimates, tests and intervals: pure functions of arrays; the generator is passed in."""

from optrial.analysis.statistics.comparison import (
    Comparison,
    Comparisons,
    Statistic,
    Values,
    Verdict,
    as_family,
    compare,
    compare_all,
    known_values,
)
from optrial.analysis.statistics.finite_test_set import accuracy_standard_error, mcnemar_bound
from optrial.analysis.statistics.groups import tie_groups
from optrial.analysis.statistics.intervals import (
    Interval,
    iqm,
    iqm_interval,
    mean_interval,
    median_interval,
)
from optrial.analysis.statistics.paired import (
    holm,
    minimum_pairs,
    probability_of_improvement,
    sign_flip_p_value,
)
from optrial.analysis.statistics.power import detectable_effect, seeds_needed, sign_flip_power
from optrial.analysis.statistics.profiles import ScoreProfile, performance_profile, score_profile
from optrial.analysis.statistics.ranks import (
    Friedman,
    RankComparison,
    compare_ranks,
    critical_difference,
    friedman_test,
    rank_stability,
    ranks,
)
from optrial.analysis.statistics.sample import SampleSummary, summarize_sample
from optrial.analysis.statistics.targets import (
    Survival,
    area_under_curve,
    first_step_reaching,
    kaplan_meier,
    median_steps,
)
from optrial.analysis.statistics.tuning import (
    BestOfK,
    RateRange,
    best_of_k,
    crossings,
    learning_rate_range,
)
from optrial.analysis.statistics.wording import best_sentence, sentence, without_value

__all__ = [
    "BestOfK",
    "Comparison",
    "Comparisons",
    "Friedman",
    "Interval",
    "RankComparison",
    "RateRange",
    "SampleSummary",
    "ScoreProfile",
    "Statistic",
    "Survival",
    "Values",
    "Verdict",
    "accuracy_standard_error",
    "area_under_curve",
    "as_family",
    "best_of_k",
    "best_sentence",
    "compare",
    "compare_all",
    "compare_ranks",
    "critical_difference",
    "crossings",
    "detectable_effect",
    "first_step_reaching",
    "friedman_test",
    "holm",
    "iqm",
    "iqm_interval",
    "kaplan_meier",
    "known_values",
    "learning_rate_range",
    "mcnemar_bound",
    "mean_interval",
    "median_interval",
    "median_steps",
    "minimum_pairs",
    "performance_profile",
    "probability_of_improvement",
    "rank_stability",
    "ranks",
    "score_profile",
    "seeds_needed",
    "sentence",
    "sign_flip_p_value",
    "sign_flip_power",
    "summarize_sample",
    "tie_groups",
    "without_value",
]
