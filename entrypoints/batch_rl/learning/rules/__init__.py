"""Learning rules, a module each; docs/adding-a-learning-rule.md shows how to add one."""

import importlib

from batch_rl.learning.rules.base import Rule
from batch_rl.presets.schema import Agent

RULES = {
    "ddqn_bcq": "batch_rl.learning.rules.ddqn_bcq:DoubleDqnBcq",
    "dqn": "batch_rl.learning.rules.dqn:Dqn",
    "ddqn": "batch_rl.learning.rules.ddqn:DoubleDqn",
    "dueling": "batch_rl.learning.rules.dueling:Dueling",
    "quantile": "batch_rl.learning.rules.quantile:Quantile",
    "cql": "batch_rl.learning.rules.cql:Cql",
    "iql": "batch_rl.learning.rules.iql:Iql",
    "one_step": "batch_rl.learning.rules.one_step:OneStep",
    "bc": "batch_rl.learning.rules.bc:BehaviorCloning",
}


def make_rule(agent: Agent, n_actions: int) -> Rule:
    """Return the rule that ``agent.algorithm`` names, for so many actions."""
    module, _, name = RULES[agent.algorithm].partition(":")
    rule: Rule = getattr(importlib.import_module(module), name)(agent, n_actions)
    return rule
