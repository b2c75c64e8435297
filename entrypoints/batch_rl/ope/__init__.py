"""Off-policy evaluation: what a policy is worth, judged from episodes that another policy logged.

Conventions: a ratio is pi_e(a|s) / propensity; rewards are discounted from the first row of each episode;
means are over episodes, and an ended episode stays in them with reward and values 0. Nothing is divided
by the horizon.
"""

from batch_rl.ope.direct_method import fit_reward_model, one_step_direct_method
from batch_rl.ope.doubly_robust import one_step_doubly_robust, sequential_doubly_robust
from batch_rl.ope.importance_sampling import (
    Estimate,
    UndefinedEstimateWarning,
    WeightDiagnostics,
    importance_ratios,
    one_step_importance_sampling,
    weight_diagnostics,
    weighted_importance_sampling,
)

__all__ = [
    "Estimate",
    "UndefinedEstimateWarning",
    "WeightDiagnostics",
    "fit_reward_model",
    "importance_ratios",
    "one_step_direct_method",
    "one_step_doubly_robust",
    "one_step_importance_sampling",
    "sequential_doubly_robust",
    "weight_diagnostics",
    "weighted_importance_sampling",
]
