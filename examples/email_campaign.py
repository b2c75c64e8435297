"""A contextual bandit: learn from a campaign's log which e-mail to send to whom, and what that policy is worth.

    python examples/email_campaign.py                              Docker if an engine answers, else processes
    LAUNCHER_RUNTIME=process python examples/email_campaign.py

Every user is an episode of one step: the features are the user, the action is the mail, the reward is what came of it.
The campaign is simulated, so the truth is known and stands beside the estimates. Run it from a checkout, in the
environment that "make demo" or "make setup" made. It takes about 15 seconds.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import launcher

sys.path.append(str(Path(__file__).resolve().parents[1] / "entrypoints"))  # for batch_rl, which jobs bring along

from batch_rl import ope
from batch_rl.learning.checkpoint import load_policy

MAILS = ["none", "newsletter", "discount", "reminder"]
FEATURES = ["opened_share", "days_since_visit", "basket_value", "is_member"]
COSTS = np.array([0.0, 0.01, 0.15, 0.02])  # of a mail, in the unit of the reward: the margin of an order
USERS = 20_000


def users(count: int, generator: np.random.Generator) -> np.ndarray:
    """Draw users, (count, 4)."""
    opened, days = generator.beta(2, 3, count), generator.exponential(20, count)
    basket, member = generator.gamma(2, 15, count), generator.random(count) < 0.3
    return np.column_stack([opened, days, basket, member]).astype(np.float32)


def order_probabilities(people: np.ndarray) -> np.ndarray:
    """Return the probability of an order after each mail, (users, mails): what nobody knows outside a simulation."""
    opened, days, basket, member = people.astype(np.float64).T
    base = -2.2 + 0.8 * member - 0.02 * days
    effects = [
        np.zeros_like(base),
        1.6 * opened - 0.4,  # a newsletter annoys those who never read
        0.9 + 0.03 * np.minimum(days, 40) - 0.9 * member,  # a discount brings back those who stayed away
        1.5 * (basket > 40) - 0.3,  # a reminder helps where something waits in the basket
    ]
    return 1 / (1 + np.exp(-(base[:, None] + np.column_stack(effects))))


def expected_rewards(people: np.ndarray) -> np.ndarray:
    """Return the expected reward of each mail, (users, mails)."""
    return order_probabilities(people) - COSTS


def todays_policy(people: np.ndarray) -> np.ndarray:
    """Return the probabilities by which mails are sent today: newsletters mostly, discounts to non-members."""
    member = people[:, 3:] > 0
    return np.where(member, [0.15, 0.6, 0.05, 0.2], [0.15, 0.4, 0.3, 0.15])


def campaign(count: int, seed: int) -> pd.DataFrame:
    """Run the campaign on ``count`` users and log it: a row each, with the probability of every mail."""
    generator = np.random.default_rng(seed)
    people = users(count, generator)
    probabilities = todays_policy(people)
    mails = (generator.random((count, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    ordered = generator.random(count) < order_probabilities(people)[np.arange(count), mails]
    log = pd.DataFrame(
        {
            "episode_id": np.arange(count),
            "action": mails,
            "all_action_probabilities": [str(row) for row in probabilities.tolist()],
            "reward": ordered - COSTS[mails],
            "terminated": 1,
            "truncated": 0,
        }
    )
    return log.join(pd.DataFrame(people, columns=[f"state_feature_{i}" for i in range(len(FEATURES))]))


def rows(log: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the log as off-policy evaluation wants it."""
    mails = log["action"].to_numpy()
    propensities = todays_policy(people_of(log))[np.arange(len(log)), mails]
    zeros = np.zeros(len(log), dtype=int)
    return {
        "episode": log["episode_id"].to_numpy(),
        "t": zeros,
        "action": mails,
        "reward": log["reward"].to_numpy(),
        "propensity": propensities,
        "terminated": zeros == 0,
        "truncated": zeros == 1,
    }


def people_of(log: pd.DataFrame) -> np.ndarray:
    """Return the users of a log, (rows, 4)."""
    return log[[f"state_feature_{i}" for i in range(len(FEATURES))]].to_numpy(dtype=np.float32, copy=True)


def probabilities(policy, people):
    """Return what the policy sends to whom, (users, mails): a mail that the log does not support has value -inf."""
    values = policy.q_array(people)
    weights = np.exp((values - values.max(axis=1, keepdims=True)) / policy.temperature)
    return weights / weights.sum(axis=1, keepdims=True)


def main(seed: int = 0) -> pd.DataFrame:
    # 1. Two campaigns: one to learn from, and another, of other users, to judge by what was learned.
    log, fresh = campaign(USERS, 2 * seed), campaign(USERS, 2 * seed + 1)
    with tempfile.TemporaryDirectory() as folder:
        log.to_csv(Path(folder) / "campaign.csv", index=False)
        # 2. Training, on the log alone.
        job = launcher.fit("preset-email-campaign", {"train": folder}, hyperparameters={"seed": seed}, logs=False)
    policy = load_policy(
        job.outputs.data_path / "checkpoint", "latest", observation_size=len(FEATURES), n_actions=len(MAILS)
    )

    # 3. The policy's value by the fresh log. Its own Q is the reward model: with one step and no discount they are one.
    people = people_of(fresh)
    q_hat = policy.values_array(people)
    target = probabilities(policy, people)
    result = ope.evaluate(rows(fresh), target, q_hat, discount=1.0, policy=f"softmax(Q / {policy.temperature:g})")

    # 4. The truth, by a hundred thousand users whose expected rewards are known.
    everyone = users(100_000, np.random.default_rng(10**6 + seed))
    expected, chosen = expected_rewards(everyone), probabilities(policy, everyone)
    truth = float((chosen * expected).sum(axis=1).mean())
    table = result.table().loc[["IPS", "WIS", "DM", "sequential DR"], ["value", "lower", "upper"]]
    table = table.rename(index={"sequential DR": "DR"}).assign(truth=truth)
    table["holds"] = (table["lower"] <= truth) & (truth <= table["upper"])

    today = float((todays_policy(everyone) * expected).sum(axis=1).mean())
    print(f"Reward per user, of {len(everyone)} users whose expected rewards are known:")
    print(f"  today's policy {today:.4f}, learned {truth:.4f}, best possible {expected.max(axis=1).mean():.4f}")
    print(f"  the best single mail ({MAILS[expected.mean(axis=0).argmax()]}) {expected.mean(axis=0).max():.4f}")
    print(f"Estimates of the learned policy from {len(fresh)} users of another campaign, with 95 % intervals:")
    print(table.round(4).to_string())
    print("DM is what the model of the rewards promises; its interval does not know how wrong the model is.")
    table.attrs |= {"today": today, "truth": truth, "best": float(expected.max(axis=1).mean())}
    return table


if __name__ == "__main__":
    main()
