"""Networks, double Q targets, the BCQ restriction and the learner."""

import dataclasses
import io
import math

import pytest
import torch

from batch_rl.learning.learner import Learner, Transitions
from batch_rl.learning.losses import double_q_targets, expectile_loss, negative_log_likelihood, quantile_loss
from batch_rl.learning.rules import RULES, make_rule
from batch_rl.learning.support import (
    allowed_actions,
    fit_behavior_model,
    fit_neighbor_support,
    nearest_distances,
)
from batch_rl.networks import Adam, PolicyNetwork, forward, initial_parameters, joined, seeded_generator
from batch_rl.presets.schema import ALGORITHMS, Agent


def test_every_member_of_a_stack_is_an_ordinary_network():
    parameters = initial_parameters((3, 5, 2), 4, seeded_generator(0, 0))
    inputs = torch.randn(4, 7, 3)
    outputs = forward(parameters, inputs)
    w0, b0, w1, b1 = parameters
    for member in range(4):
        expected = torch.relu(inputs[member] @ w0[member] + b0[member]) @ w1[member] + b1[member]
        torch.testing.assert_close(outputs[member], expected)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_adam_steps_as_torch_does(weight_decay):
    generator = seeded_generator(0, 0)
    ours = torch.randn(7, generator=generator)
    theirs = ours.clone().requires_grad_()
    adam = Adam(ours, beta1=0.8, beta2=0.95, epsilon=1e-6, weight_decay=weight_decay)
    reference = torch.optim.AdamW([theirs], lr=0.1, betas=(0.8, 0.95), eps=1e-6, weight_decay=weight_decay)
    for _ in range(5):
        theirs.grad = torch.randn(7, generator=generator)
        adam.step(theirs.grad, learning_rate=0.1)
        reference.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_a_target_takes_the_online_choice_at_the_target_networks_value():
    """By hand, discount 0.5: 1 + 0.5 * 20; with action 1 forbidden 1 + 0.5 * 10; at the end 1."""
    targets = double_q_targets(
        online=torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]),
        target=torch.tensor([[10.0, 20.0], [10.0, 20.0], [10.0, 20.0]]),
        forbidden=torch.tensor([[False, False], [False, True], [False, False]]),
        rewards=torch.ones(3),
        going_on=torch.tensor([0.5, 0.5, 0.0]),
    )
    assert targets.tolist() == [11.0, 6.0, 1.0]


def test_a_target_above_temperature_0_is_the_mean_by_the_softmax_of_the_allowed_actions():
    """By hand: 2 ln 3 and 0 at temperature 2 weigh 3/4 and 1/4, 0.75 * 10 + 0.25 * 20; only one is left; the end."""
    targets = double_q_targets(
        online=torch.tensor([[2 * math.log(3), 0.0, 9.0]] * 3),
        target=torch.tensor([[10.0, 20.0, 99.0]] * 3),
        forbidden=torch.tensor([[False, False, True], [True, False, True], [False, False, True]]),
        rewards=torch.ones(3),
        going_on=torch.tensor([0.5, 0.5, 0.0]),
        temperature=2.0,
    )
    torch.testing.assert_close(targets, torch.tensor([7.25, 11.0, 1.0]))


def test_an_action_is_allowed_by_its_probability_relative_to_the_likeliest():
    """By hand: 0.3 of 0.6 is 0.18, and of 0.9 is 0.27."""
    probabilities = torch.tensor([[0.6, 0.21, 0.19], [0.9, 0.1, 0.0]])
    assert allowed_actions(probabilities, 0.3).tolist() == [[True, True, True], [True, False, False]]
    assert allowed_actions(probabilities, 0.0).all()


def test_an_action_can_be_asked_for_an_absolute_probability_too_and_the_likeliest_stays():
    """Coach's threshold of 0.35 drops what is less likely than that; where all are, the likeliest is left."""
    probabilities = torch.tensor([[0.6, 0.4, 0.0], [0.66, 0.34, 0.0], [0.34, 0.33, 0.33]])
    assert allowed_actions(probabilities, 0.0, 0.35).tolist() == [
        [True, True, False],
        [True, False, False],
        [True, False, False],
    ]


def test_the_nearest_reference_is_found_in_chunks_of_any_size(monkeypatch):
    points, references = torch.tensor([[0.0, 0.0], [3.0, 4.0], [9.0, 0.0]]), torch.tensor([[0.0, 0.0], [6.0, 0.0]])
    for at_once in (1, 100):
        monkeypatch.setattr("batch_rl.learning.support.MAX_DISTANCES_AT_ONCE", at_once)
        assert nearest_distances(points, references).tolist() == pytest.approx([0, 5, 3], abs=1e-7)
    assert nearest_distances(points, references[:0]).tolist() == [torch.inf] * 3


@pytest.mark.parametrize(
    ("coefficient", "neighbors_per_action", "dropped"),
    [
        (1.0, 100, [(3, 0)]),  # to actions 0 and 1: (0, 1), (0, 1), (1, 0), (8, 0); their sum, 11, over 4 rows is 2.75
        (0.0, 100, [(0, 1), (1, 1), (2, 0), (3, 0)]),  # the logged action alone
        # From 2 and 10 alone: (2, 10), (0, 8), (1, 9), (8, 0), each farther by 8 than the other; 38 over 4 rows is 9.5.
        (1.0, 1, []),
        (0.8, 1, [(0, 1), (1, 1), (2, 1), (3, 0)]),
    ],
)
def test_an_action_is_dropped_where_it_was_logged_only_far_away(coefficient, neighbors_per_action, dropped):
    """By hand, on a line: action 0 was logged at 0 and 2, action 1 at 1 and 10."""
    points = torch.tensor([[0.0], [2.0], [1.0], [10.0]])
    support = fit_neighbor_support(
        points, torch.tensor([0, 0, 1, 1]), 2, coefficient=coefficient, neighbors_per_action=neighbors_per_action
    )
    assert (~support(points)).nonzero().tolist() == [list(place) for place in dropped]


def test_an_action_that_was_never_logged_is_dropped_everywhere():
    points, actions = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 0])
    support = fit_neighbor_support(points, actions, 2, coefficient=1.0, neighbors_per_action=10)
    assert support(points).tolist() == [[True, False], [True, False]]


def test_the_penalty_of_cql_is_the_surprise_at_the_logged_action():
    """By hand: e^0 and e^(ln 3) add up to 4, so the actions have probabilities 1/4 and 3/4."""
    values = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    losses, _ = negative_log_likelihood(values, torch.tensor([0, 1]))
    assert losses.tolist() == pytest.approx([math.log(4), math.log(4 / 3)])


def test_an_expectile_weighs_errors_by_their_sign():
    losses, _ = expectile_loss(torch.tensor([2.0, -2.0]), 0.75)
    assert losses.tolist() == [3.0, 1.0]


def test_imitation_finds_the_behavior_policy_of_each_state():
    """State 0 takes action 0 nine times in ten, state 1 always takes action 1."""
    inputs = torch.tensor([[-1.0], [1.0]]).repeat(1000, 1)
    actions = torch.tensor([1 if row % 2 else int(row % 20 == 0) for row in range(2000)])
    model = fit_behavior_model(inputs, actions, 2, hidden_sizes=(64,), updates=1000, generator=seeded_generator(0, 1))
    torch.testing.assert_close(model(inputs[:2]), torch.tensor([[0.9, 0.1], [0.0, 1.0]]), atol=0.03, rtol=0)


def test_imitation_ends_where_held_out_rows_get_no_likelier():
    """Actions that nothing foretells: more updates only learn the fitted rows by heart."""
    generator = seeded_generator(0, 2)
    inputs, actions = torch.randn(400, 4, generator=generator), torch.randint(2, (400,), generator=generator)
    model = fit_behavior_model(inputs, actions, 2, hidden_sizes=(64,), updates=5000, generator=generator)
    assert model.updates < 2000
    assert model.log_likelihood > math.log(0.5) - 0.05


def test_few_rows_are_imitated_by_updates_and_not_by_passes():
    """1,000 rows; the log never takes action 2, and takes action 0 where the feature is positive, nine times in ten."""
    generator = seeded_generator(0, 3)
    inputs = torch.randn(1000, 1, generator=generator)
    likely = torch.where(inputs[:, 0] > 0, 0, 1)
    actions = torch.where(torch.rand(1000, generator=generator) < 0.9, likely, 1 - likely)
    model = fit_behavior_model(inputs, actions, 3, hidden_sizes=(64, 64), updates=3000, generator=generator)
    assert model.updates >= 300
    assert not allowed_actions(model(inputs), 0.3)[:, 2].any()


def chain(agent, epochs=3, logged_only=False):
    """Two actions in a chain of three states; action 0 earns 1, action 1 nothing; the third step ends it.

    One episode logged action 0 throughout, the other one action 1.
    """
    states, actions = torch.arange(3).repeat(2), torch.tensor([0, 0, 0, 1, 1, 1])
    transitions = Transitions(
        inputs=torch.eye(3)[states],
        actions=actions,
        rewards=1.0 - actions.float(),
        terminated=(states == 2).float(),
        next_rows=torch.tensor([1, 2, 2, 4, 5, 5]),
        allowed=torch.eye(2)[actions].bool() if logged_only else torch.ones(6, 2, dtype=torch.bool),
    )
    return Learner(transitions, agent, n_actions=2, epochs=epochs, generator=seeded_generator(0, 3))


AGENT = Agent(batch_size=4, members=2, hidden_sizes=(16,), target_copy_updates=3, snapshot_updates=2)


def logged_rows(generator, rows=50, features=3, n_actions=3):
    return Transitions(
        inputs=torch.randn(rows, features, generator=generator),
        actions=torch.randint(n_actions, (rows,), generator=generator),
        rewards=3 * torch.randn(rows, generator=generator),
        terminated=(torch.rand(rows, generator=generator) < 0.2).float(),
        next_rows=torch.randint(rows, (rows,), generator=generator),
        allowed=torch.rand(rows, n_actions, generator=generator).index_fill(1, torch.tensor([0]), 0) < 0.6,
    )


def loss_by_autograd(agent, data, online, target, rows):
    """The rules once more, as the papers write them, for torch to differentiate."""
    actions = data.actions[rows]
    if agent.algorithm == "quantile":
        return quantile_loss_by_autograd(agent, data, online, target, rows)

    def read(parameters, inputs):
        """Q of three actions; of dueling networks V + A - mean(A)."""
        outputs = forward(parameters, inputs)
        if agent.algorithm == "dueling":
            return outputs[..., 3:] + outputs[..., :3] - outputs[..., :3].mean(dim=2, keepdim=True)
        return outputs

    outputs = read(online, data.inputs[rows])
    surprise = torch.nn.functional.cross_entropy(outputs[..., :3].transpose(1, 2), actions, reduction="none")
    if agent.algorithm == "bc":
        return surprise.mean(dim=1).sum()
    with torch.no_grad():
        next_inputs = data.inputs[data.next_rows[rows]]
        next_online, next_target = read(online, next_inputs), read(target, next_inputs)
        double = agent.double_q and agent.algorithm in ("ddqn", "ddqn_bcq", "cql", "dueling")
        choosing = (next_online if double else next_target)[..., :3]
        choosing = torch.where(data.allowed[data.next_rows[rows]], choosing, -torch.inf)
        following = next_target.take_along_dim(choosing.argmax(dim=2, keepdim=True), dim=2)[..., 0]
        if agent.target_temperature:
            following = (torch.softmax(choosing / agent.target_temperature, dim=2) * next_target[..., :3]).sum(dim=2)
        if agent.algorithm == "iql":
            following = next_online[..., 3]
        targets = data.rewards[rows] + agent.discount * (1 - data.terminated[rows]) * following
        advantages = forward(target, data.inputs[rows]).take_along_dim(actions[..., None], dim=2)[..., 0]
    loss = torch.nn.functional.smooth_l1_loss if agent.huber_loss else torch.nn.functional.mse_loss
    losses = loss(outputs.take_along_dim(actions[..., None], dim=2)[..., 0], targets, reduction="none")
    if agent.loss_over_all_actions:
        losses = losses / 3
    if agent.algorithm == "cql":
        losses = losses + agent.cql_alpha * surprise
    if agent.algorithm == "iql":
        errors = advantages - outputs[..., 3]
        losses = losses + torch.where(errors > 0, agent.iql_expectile, 1 - agent.iql_expectile) * errors.square()
        if agent.iql_policy == "regression":
            weights = (errors.detach() / agent.iql_temperature).exp().clamp_max(100)
            logits = outputs[..., 4:].transpose(1, 2)
            losses = losses + weights * torch.nn.functional.cross_entropy(logits, actions, reduction="none")
    return losses.mean(dim=1).sum()


def quantile_loss_by_autograd(agent, data, online, target, rows):
    """Loop over every pair of a quantile and a sample, as the paper's equation 10 has it."""
    count = agent.quantiles

    def quantiles(parameters, inputs):
        return forward(parameters, inputs).unflatten(2, (3, count))

    actions = data.actions[rows]
    with torch.no_grad():
        next_rows = data.next_rows[rows]
        choosing = quantiles(online, data.inputs[next_rows]).mean(dim=3)
        best = torch.where(data.allowed[next_rows], choosing, -torch.inf).argmax(dim=2)
        samples = quantiles(target, data.inputs[next_rows]).take_along_dim(best[..., None, None], dim=2)[:, :, 0]
        going_on = agent.discount * (1 - data.terminated[rows])
        samples = data.rewards[rows][..., None] + going_on[..., None] * samples
    own = quantiles(online, data.inputs[rows]).take_along_dim(actions[..., None, None], dim=2)[:, :, 0]
    losses = 0
    for i in range(count):
        for j in range(count):
            error = samples[..., j] - own[..., i]
            weight = torch.where(error < 0, 1 - (i + 0.5) / count, (i + 0.5) / count)
            huber = torch.nn.functional.smooth_l1_loss(own[..., i], samples[..., j], reduction="none")
            losses = losses + weight * huber / count
    return losses.mean(dim=1).sum()


@pytest.mark.parametrize(
    "rule",
    [
        {"algorithm": "dqn"},
        {"algorithm": "dueling"},
        {"algorithm": "dueling", "target_temperature": 1.5, "huber_loss": True},
        {"algorithm": "quantile", "quantiles": 4},
        {"algorithm": "iql", "iql_policy": "values"},
        {"algorithm": "iql", "iql_temperature": 2.0},
        {"algorithm": "ddqn", "double_q": False},
        {"algorithm": "ddqn_bcq"},
        {"algorithm": "ddqn_bcq", "target_temperature": 1.5},
        {"algorithm": "ddqn_bcq", "huber_loss": True, "loss_over_all_actions": True},
        {"algorithm": "one_step"},
        {"algorithm": "cql", "cql_alpha": 0.7, "weight_decay": 0.5},
        {"algorithm": "iql", "iql_expectile": 0.8},
        {"algorithm": "bc"},
    ],
    ids=lambda rule: "-".join(str(value) for value in rule.values()),
)
@pytest.mark.parametrize("members", [1, 3])
def test_the_gradients_by_hand_are_those_of_autograd(rule, members):
    """One pass in three batches, the last one smaller, with a target network that lags behind."""
    agent = Agent(batch_size=20, members=members, hidden_sizes=(16, 8), target_copy_updates=2, **rule)
    data = logged_rows(seeded_generator(1, 0))
    learner = Learner(data, agent, n_actions=3, epochs=2, generator=seeded_generator(0, 0))
    _, online = joined(learner.online)
    target = [p.clone() for p in online]
    generator = seeded_generator(0, 0)
    Learner(data, agent, n_actions=3, epochs=2, generator=generator)  # draws the first weights
    orders = torch.stack([torch.randperm(50, generator=generator) for _ in range(members)])
    for parameter in online:
        parameter.requires_grad_(True)
    adam = torch.optim.AdamW(
        online,
        lr=agent.learning_rate,
        betas=(0.9, 0.999),
        eps=agent.adam_epsilon,
        weight_decay=agent.weight_decay,
    )
    losses = []
    for number in range(3):
        loss = loss_by_autograd(agent, data, online, target, orders[:, 20 * number : 20 * (number + 1)])
        losses.append(loss.item() / members)
        for parameter, gradient in zip(online, torch.autograd.grad(loss, online), strict=True):
            parameter.grad = gradient
        adam.param_groups[0]["lr"] = agent.learning_rate * (1 - number / 6)
        adam.step()
        if number == 1:
            target = [p.detach().clone() for p in online]
    statistics = learner.run_epoch()
    torch.testing.assert_close(statistics[:, 0], torch.tensor(losses))
    for ours, theirs in zip(learner.online, online, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-4, atol=1e-6)


def test_learning_finds_the_values_of_a_chain():
    """By hand, discount 0.5: Q(s, 0) = 1.75, 1.5, 1; Q(s, 1) is 1 less, as only the reward differs."""
    agent = Agent(
        batch_size=6, discount=0.5, learning_rate=0.01, hidden_sizes=(32,), target_copy_updates=20, snapshot_updates=0
    )
    learner = chain(agent, epochs=400)
    for _ in range(400):
        learner.run_epoch()
    policy = PolicyNetwork(learner.deciding_parameters(), torch.zeros(3), torch.ones(3), 1.0)
    expected = torch.tensor([[1.75, 0.75], [1.5, 0.5], [1.0, 0.0]])
    torch.testing.assert_close(policy.q_values(torch.eye(3)), expected, atol=0.02, rtol=0)


def test_an_action_that_the_log_lacks_does_not_enter_a_target():
    """Without action 0 in the later states nothing can be earned there: Q(s_0, 0) is its reward alone."""
    agent = Agent(batch_size=6, discount=0.5, learning_rate=0.01, hidden_sizes=(32,), target_copy_updates=20)
    free = chain(agent, epochs=300)
    only_action_1 = torch.tensor([[False, True]]).expand(6, 2)
    bound = Learner(
        Transitions(**(free._transitions.__dict__ | {"allowed": only_action_1})),
        agent,
        n_actions=2,
        epochs=300,
        generator=seeded_generator(0, 3),
    )
    for _ in range(300):
        bound.run_epoch()
    assert forward(bound.online, torch.eye(3).expand(4, 3, 3)).mean(dim=0)[0, 0].item() == pytest.approx(1, abs=0.05)


def test_the_step_size_falls_linearly_and_an_epoch_reports_every_update():
    """Six rows in batches of four make two updates per epoch, six in all: 1e-3 * (1, 5/6), (4/6, 3/6), ..."""
    learner = chain(AGENT)
    rates = [learner.run_epoch()[:, 3].tolist() for _ in range(3)]
    assert rates == [pytest.approx([1e-3 * k / 6, 1e-3 * (k - 1) / 6]) for k in (6, 4, 2)]


def test_snapshots_join_the_members_that_decide_and_the_end_is_not_counted_twice():
    """Six updates, a snapshot every 2 from update 0.4 * 6 on, none after the last one: at update 4."""
    learner = chain(AGENT)
    for _ in range(3):
        learner.run_epoch()
    assert len(learner.deciding_parameters()[0]) == 2 * 2


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"algorithm": "dqn"}, [[1.75, 0.75], [1.5, 0.5], [1.0, 0.0]]),
        ({"algorithm": "dqn", "loss_over_all_actions": True}, [[1.75, 0.75], [1.5, 0.5], [1.0, 0.0]]),
        ({"algorithm": "ddqn"}, [[1.75, 0.75], [1.5, 0.5], [1.0, 0.0]]),
        ({"algorithm": "dueling"}, [[1.75, 0.75], [1.5, 0.5], [1.0, 0.0]]),
        ({"algorithm": "quantile"}, [[1.75, 0.75], [1.5, 0.5], [1.0, 0.0]]),
        ({"algorithm": "cql", "cql_alpha": 0.0}, [[1.75, 0.75], [1.5, 0.5], [1.0, 0.0]]),
        ({"algorithm": "one_step"}, [[1.75, 0.0], [1.5, 0.0], [1.0, 0.0]]),
        (
            {"algorithm": "iql", "iql_expectile": 0.5, "iql_policy": "values"},
            [[1.375, 0.375], [1.25, 0.25], [1.0, 0.0]],
        ),
    ],
    ids=lambda value: "-".join(str(v) for v in value.values()) if isinstance(value, dict) else "",
)
def test_every_rule_finds_the_values_that_it_defines(rule, expected):
    """By hand, discount 0.5. one_step: an episode goes on as it was logged. iql at 0.5: by the mean of both."""
    agent = Agent(
        batch_size=6,
        discount=0.5,
        learning_rate=0.01,
        hidden_sizes=(32,),
        target_copy_updates=20,
        snapshot_updates=0,
        members=2,
        **rule,
    )
    learner = chain(agent, epochs=200, logged_only=agent.algorithm == "one_step")
    for _ in range(200):
        learner.run_epoch()
    policy = PolicyNetwork(learner.deciding_parameters(), torch.zeros(3), torch.ones(3), 1.0)
    torch.testing.assert_close(policy.q_values(torch.eye(3)), torch.tensor(expected), atol=0.03, rtol=0)


def test_a_rule_stands_in_one_module_under_its_name():
    assert set(RULES) == set(ALGORITHMS)
    for name in ALGORITHMS:
        assert make_rule(Agent(algorithm=name), 2).__module__ == f"batch_rl.learning.rules.{name}"


def test_the_quantiles_of_a_coin_are_its_two_sides():
    """A return of 0 or 1, equally likely: of four quantiles two lie at 0 and two at 1, wherever they begin."""
    quantiles = torch.tensor([0.3, 0.4, 0.5, 0.6])
    for _ in range(4000):
        quantiles -= 0.01 * quantile_loss(quantiles, torch.tensor([0.0, 1.0]))[1]
    # The Huber loss's square part pulls them towards each other: a quarter, as in an expectile.
    assert quantiles[0] < quantiles[1] < 0.5 < quantiles[2] < quantiles[3]
    torch.testing.assert_close(quantiles + quantiles.flip(0), torch.ones(4), atol=1e-3, rtol=0)


def test_iql_plays_the_logged_action_of_higher_advantage_and_never_one_that_was_not_logged():
    """Both logged actions lose, so the third action's untrained value is the highest; its logit only ever falls."""
    states, actions = torch.arange(2).repeat(50), torch.arange(100) // 50
    transitions = Transitions(
        inputs=torch.eye(2)[states],
        actions=actions,
        rewards=-3.0 - 2 * actions.float(),
        terminated=torch.ones(100),
        next_rows=torch.arange(100),
        allowed=torch.ones(100, 3, dtype=torch.bool),
    )
    agent = Agent(
        algorithm="iql",
        batch_size=20,
        learning_rate=0.01,
        hidden_sizes=(16,),
        snapshot_updates=0,
        target_copy_updates=20,
        iql_temperature=0.5,
    )
    learner = Learner(transitions, agent, n_actions=3, epochs=100, generator=seeded_generator(0, 3))
    for _ in range(100):
        learner.run_epoch()
    policy = PolicyNetwork(learner.deciding_parameters(), torch.zeros(2), torch.ones(2), agent.iql_temperature)
    probabilities = policy(torch.eye(2))
    assert (probabilities[:, 0] > 0.9).all()
    assert (probabilities[:, 2] < 0.01).all()


def test_cql_leaves_the_better_action_best_and_lowers_the_other():
    """The log has both actions equally often, so the penalty pulls their values together but not past each other."""
    agent = Agent(
        algorithm="cql", batch_size=6, discount=0.5, learning_rate=0.01, hidden_sizes=(32,), target_copy_updates=20
    )
    learner = chain(agent, epochs=300)
    for _ in range(300):
        learner.run_epoch()
    values = PolicyNetwork(learner.deciding_parameters(), torch.zeros(3), torch.ones(3), 1.0).q_values(torch.eye(3))
    assert (values[:, 0] > values[:, 1]).all()
    assert (values[:, 0] - values[:, 1] < 0.9).all()


def test_behavior_cloning_learns_how_often_each_action_was_logged():
    """Action 1 once in four, whatever the state."""
    agent = Agent(algorithm="bc", batch_size=8, learning_rate=0.01, hidden_sizes=(16,), snapshot_updates=0)
    transitions = Transitions(
        inputs=torch.eye(2).repeat_interleave(4, dim=0),
        actions=torch.tensor([0, 0, 0, 1] * 2),
        rewards=torch.zeros(8),
        terminated=torch.zeros(8),
        next_rows=torch.arange(8),
        allowed=torch.ones(8, 2, dtype=torch.bool),
    )
    learner = Learner(transitions, agent, n_actions=2, epochs=300, generator=seeded_generator(0, 3))
    for _ in range(300):
        learner.run_epoch()
    policy = PolicyNetwork(learner.deciding_parameters(), torch.zeros(2), torch.ones(2), 1.0)
    torch.testing.assert_close(policy(torch.eye(2)), torch.tensor([[0.75, 0.25]] * 2), atol=0.01, rtol=0)


@pytest.mark.parametrize("algorithm", ["ddqn_bcq", "iql", "bc", "dueling", "quantile"])
def test_an_interrupted_run_goes_on_from_its_saved_state_bit_for_bit(algorithm):
    """Stopped in the middle of epoch 2, saved as a checkpoint is, restored in a new learner."""
    agent = dataclasses.replace(AGENT, algorithm=algorithm)
    through = chain(agent)
    expected = [through.run_epoch() for _ in range(3)]
    first = chain(agent)
    first.run_epoch()
    calls = iter([False, True])
    assert first.run_epoch(lambda: next(calls)) is None
    assert first.updates == 3
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    second = chain(agent)
    second.restore(torch.load(file, weights_only=True))
    assert torch.equal(second.run_epoch(), expected[1])
    assert torch.equal(second.run_epoch(), expected[2])
    for ours, theirs in zip(second.deciding_parameters(), through.deciding_parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_policy_takes_raw_features_and_averages_q_before_the_softmax():
    """By hand: members 2x and 4x of the standardised input (5 - 3) / 2 = 1, so Q = (3, 0); temperature 3."""
    weight = torch.tensor([[[2.0, 0.0]], [[4.0, 0.0]]])
    policy = PolicyNetwork([weight, torch.zeros(2, 1, 2)], torch.tensor([3.0]), torch.tensor([2.0]), 3.0)
    observation = torch.tensor([[5.0]])
    assert policy.q_values(observation).tolist() == [[3.0, 0.0]]
    torch.testing.assert_close(policy(observation), torch.softmax(torch.tensor([[1.0, 0.0]]), dim=1))


def test_an_action_is_dropped_where_another_was_logged_nearer_by_far():
    """So it is beside the log too: where all are about as far away, it says nothing of them."""
    inputs = torch.tensor([[0.0], [0.1], [1.0], [1.1]])
    support = fit_neighbor_support(inputs, torch.tensor([0, 1, 0, 0]), 3, coefficient=0.5, neighbors_per_action=10)
    # The mean over the four points of the distances to both actions: (0.1 + 0.1 + 0.9 + 1.0) / 4, of which the half.
    assert support.farthest == pytest.approx(0.2625)
    allowed = support(torch.tensor([[0.0], [1.1], [-50.0], [50.0]]))
    assert allowed.tolist() == [[True, True, False], [True, False, False], [True, True, False], [True, False, False]]
