"""Off-policy evaluation: what a policy is worth, judged from episodes that another policy logged.

``evaluate`` takes a table of logged steps and a policy's probabilities, and returns every estimate. The
estimators themselves take ``WeightedSteps``: arrays of ratios, rewards and model values.

Conventions: a ratio is pi_e(a|s) / propensity; rewards are discounted from the first row of each episode;
means are over episodes, and an ended episode stays in them with its last weight and with reward and values
0. Nothing is divided by the horizon.
"""

from batch_rl.ope.blending import Blend, magic
from batch_rl.ope.bounds import possible_returns
from batch_rl.ope.comparison import Comparison, compare, rank_correlation
from batch_rl.ope.direct_method import dm, fit_reward_model, one_step_direct_method
from batch_rl.ope.doubly_robust import one_step_doubly_robust, sequential_dr, wdr
from batch_rl.ope.evaluation import (
    ESTIMATORS,
    FQE,
    EstimatedValue,
    FewEpisodesWarning,
    PolicyEvaluation,
    TruncationWarning,
    evaluate,
)
from batch_rl.ope.fitted_q import FittedQ, LoggedSteps, fit_linear_q, fit_network_q, fit_tabular_q
from batch_rl.ope.importance_sampling import (
    UndefinedEstimateWarning,
    WeightDiagnostics,
    describe_weights,
    ips,
    one_step_importance_sampling,
    pdis,
    weighted_pdis,
    wis,
)
from batch_rl.ope.intervals import (
    Interval,
    KnownBounds,
    betting_interval,
    bootstrap,
    empirical_bernstein_interval,
    hoeffding_interval,
    percentile_interval,
    student_t_interval,
)
from batch_rl.ope.ratios import importance_ratios
from batch_rl.ope.refitting import Refits, refit_logged_value, refit_values, refitted_interval, resampled_means
from batch_rl.ope.rows import LoggedRows, read_rows, weigh
from batch_rl.ope.steps import Layout, WeightedSteps
from batch_rl.ope.support import Support, measure_support

__all__ = [
    "ESTIMATORS",
    "FQE",
    "Blend",
    "Comparison",
    "EstimatedValue",
    "FewEpisodesWarning",
    "FittedQ",
    "Interval",
    "KnownBounds",
    "Layout",
    "LoggedRows",
    "LoggedSteps",
    "PolicyEvaluation",
    "Refits",
    "Support",
    "TruncationWarning",
    "UndefinedEstimateWarning",
    "WeightDiagnostics",
    "WeightedSteps",
    "betting_interval",
    "bootstrap",
    "compare",
    "describe_weights",
    "dm",
    "empirical_bernstein_interval",
    "evaluate",
    "fit_linear_q",
    "fit_network_q",
    "fit_reward_model",
    "fit_tabular_q",
    "hoeffding_interval",
    "importance_ratios",
    "ips",
    "magic",
    "measure_support",
    "one_step_direct_method",
    "one_step_doubly_robust",
    "one_step_importance_sampling",
    "pdis",
    "percentile_interval",
    "possible_returns",
    "rank_correlation",
    "read_rows",
    "refit_logged_value",
    "refit_values",
    "refitted_interval",
    "resampled_means",
    "sequential_dr",
    "student_t_interval",
    "wdr",
    "weigh",
    "weighted_pdis",
    "wis",
]
