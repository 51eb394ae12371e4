"""Policies: equal to torch's own networks, alone and as populations; SB3; save and load."""

import copy
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from torch import nn

from agents import (
    BackpropPolicy,
    DeepAGRELCreditPolicy,
    DFAPolicy,
    DRTPPolicy,
    FAPolicy,
    TDCAActorCriticPolicy,
    TDCAPolicy,
    TDCARNNPolicy,
    VectorEnvAdapter,
)

ROWS, CLASSES, NEURONS = 7, 3, 5
SEEN = spaces.Box(0, 1, (ROWS, 2 * CLASSES), np.float32)
ACTED = spaces.Box(-1, 1, (ROWS, NEURONS + CLASSES), np.float32)
EPISODE = spaces.Box(-np.inf, np.inf, (12, 7), np.float32)
CREDITS = spaces.Box(-1, 1, (10,), np.float32)


def random_beta(policy, candidates, scale=0.5):
    generator = torch.Generator().manual_seed(1)
    return scale * torch.randn(candidates, policy.beta.numel(), generator=generator)


def episodes(count, lengths=None):
    """Records of episodes of different lengths, masked as control tasks mask them."""
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(count, *EPISODE.shape)).astype(np.float32)
    lengths = rng.integers(1, 11, count) if lengths is None else lengths
    mask = np.arange(EPISODE.shape[0]) < np.asarray(lengths)[:, None]
    rows[..., -1] = 1
    return torch.tensor(rows * mask[..., None]), np.asarray(lengths)


# --- The feed-forward network


@torch.no_grad()
def as_sequential(policy, beta, output_scale):
    layers, rest = [], beta
    sizes = (
        policy.observation_space.shape[-1],
        *policy.hidden_sizes,
        policy.action_space.shape[-1],
    )
    for inputs, outputs in pairwise(sizes):
        linear = nn.Linear(inputs, outputs)
        weight, bias, rest = torch.split(
            rest, [inputs * outputs, outputs, len(rest) - (inputs + 1) * outputs]
        )
        linear.weight.copy_(weight.view(outputs, inputs))
        linear.bias.copy_(bias)
        layers += [linear, nn.Tanh()]
    assert not len(rest)
    squash = {"clip": nn.Hardtanh(), "tanh": nn.Tanh()}[policy.squash]
    model = nn.Sequential(*layers[:-1])
    return lambda x: squash(output_scale * model(policy.input_scale * x))


@pytest.mark.parametrize("squash", ["clip", "tanh"])
@pytest.mark.parametrize("hidden_sizes", [(), (4,), (6, 5)])
@torch.no_grad()
def test_tdca_policy_equals_a_torch_perceptron(squash, hidden_sizes):
    policy = TDCAPolicy(
        SEEN, ACTED, hidden_sizes=hidden_sizes, squash=squash, input_scale=1.5, output_scale=0.7
    )
    observation = torch.rand(6, *SEEN.shape)
    policy.beta.copy_(random_beta(policy, 1, scale=1.0)[0])
    expected = as_sequential(policy, policy.beta, 0.7)(observation)
    torch.testing.assert_close(policy.act(observation), expected)
    assert expected.abs().max() > 0.9

    beta = random_beta(policy, 3, scale=1.0)
    alone = [
        as_sequential(policy, b, 0.7)(observation[2 * c : 2 * c + 2]) for c, b in enumerate(beta)
    ]
    torch.testing.assert_close(policy.act(observation, beta), torch.cat(alone))
    for_each = policy.act(observation[:3], beta)
    alone = [
        as_sequential(policy, b, 0.7)(o[None]) for b, o in zip(beta, observation, strict=False)
    ]
    torch.testing.assert_close(for_each, torch.cat(alone))


def test_size_of_the_papers_network():
    seen = spaces.Box(0, 1, (4, 20), np.float32)
    policy = TDCAPolicy(seen, spaces.Box(-1, 1, (4, 110), np.float32))
    assert policy.beta.numel() == 4970


@torch.no_grad()
def test_tdca_policy_on_a_single_row():
    policy = TDCAPolicy(
        spaces.Box(-1, 1, (2,), np.float32), spaces.Box(-1, 1, (2,), np.float32), hidden_sizes=(8,)
    )
    observation = torch.rand(5, 2)
    expected = as_sequential(policy, policy.beta, 0.1)(observation)
    torch.testing.assert_close(policy.act(observation), expected)
    assert policy.predict(observation[0].numpy())[0].shape == (2,)


def test_initial_networks_are_xavier():
    torch.manual_seed(0)
    policy = TDCAPolicy(SEEN, ACTED, hidden_sizes=(50, 40))
    for part in policy.network.unpack(policy.beta[None]):
        if part.dim() == 2:
            assert not part.any()
        else:
            bound = (6 / sum(part.shape[1:])) ** 0.5
            assert 0.9 * bound < part.abs().max() <= bound


@pytest.mark.parametrize("hidden_sizes", [(CLASSES,), (30, 30)])
def test_start_at_feedback_alignment(hidden_sizes):
    """Output credits follow the error y − p, hidden ones a fixed random projection of it."""
    policy = TDCAPolicy(SEEN, ACTED, hidden_sizes=hidden_sizes, start="feedback-alignment")
    p = torch.softmax(torch.randn(4, ROWS, CLASSES, generator=torch.Generator().manual_seed(0)), -1)
    y = nn.functional.one_hot(torch.arange(ROWS) % CLASSES, CLASSES).expand(4, -1, -1)
    error = y - p
    for _ in hidden_sizes:
        error = torch.tanh(error)
    actions = policy.act(torch.cat([p, y], dim=-1))
    hidden, output = torch.split(actions, [NEURONS, CLASSES], dim=-1)
    torch.testing.assert_close(output, error)
    flat = error.reshape(-1, CLASSES)
    projection = torch.linalg.lstsq(flat, hidden.reshape(-1, NEURONS)).solution
    torch.testing.assert_close(flat @ projection, hidden.reshape(-1, NEURONS))
    assert projection.abs().max() <= CLASSES**-0.5
    assert projection.std() > 0.1


def test_starts_are_reproducible_and_saved(tmp_path):
    policy = TDCAPolicy(SEEN, ACTED, start="feedback-alignment")
    policy.initialise(torch.Generator().manual_seed(1))
    policy.save(tmp_path / "policy")
    same = TDCAPolicy.load(tmp_path / "policy")
    torch.testing.assert_close(same.beta, policy.beta)
    same.initialise(torch.Generator().manual_seed(1))
    torch.testing.assert_close(same.beta, policy.beta)
    same.initialise(torch.Generator().manual_seed(2))
    assert not torch.equal(same.beta, policy.beta)


def test_starts_that_do_not_fit():
    with pytest.raises(ValueError, match="did you mean 'feedback-alignment'"):
        TDCAPolicy(SEEN, ACTED, start="feedback-alignement")
    with pytest.raises(ValueError, match="at least 3 units"):
        TDCAPolicy(SEEN, ACTED, hidden_sizes=(30, 2), start="feedback-alignment")
    with pytest.raises(ValueError, match="classification"):
        TDCAPolicy(spaces.Box(-1, 1, (4,)), spaces.Box(-1, 1, (2,)), start="feedback-alignment")


# --- The recurrent network


@torch.no_grad()
def as_torch_rnn(policy, beta, rows, length):
    """`torch.nn.RNN` on one episode without its padding, and a linear readout."""
    network = policy.network
    wx, wh, b, wo, bo = (part[0] for part in network.unpack(beta[None]))
    rnn = nn.RNN(wx.shape[1], wx.shape[0], batch_first=True)
    rnn.weight_ih_l0.copy_(wx)
    rnn.weight_hh_l0.copy_(wh)
    rnn.bias_ih_l0.copy_(b)
    rnn.bias_hh_l0.zero_()
    x = rows[:length, :-1]
    inputs = [x * torch.tensor(policy.input_scales or 1.0)]
    if network.state_size is not None:
        state, action = x[:, : network.state_size], x[:, network.state_size : -1]
        change = torch.diff(state, dim=0, append=state[-1:])
        inputs += [
            network.change_scale * action[:, i, None] * change for i in range(action.shape[1])
        ]
    states, _ = rnn(torch.cat(inputs, dim=1)[None])
    h = states[0, -1] if network.readout == "last" else states[0].mean(0)
    out = network.output_scale * (wo @ h + bo)
    return out.tanh() if network.squash == "tanh" else out.clamp(-1, 1)


@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("state_size", [None, 3, 4])
@pytest.mark.parametrize(
    ("squash", "input_scales"), [("tanh", None), ("clip", None), ("clip", (0.5, 3.0, *(1.5,) * 4))]
)
@torch.no_grad()
def test_rnn_policy_equals_torch_rnn(readout, state_size, squash, input_scales):
    policy = TDCARNNPolicy(
        EPISODE,
        CREDITS,
        hidden_size=9,
        readout=readout,
        state_size=state_size,
        change_scale=2.0,
        input_scales=input_scales,
        output_scale=0.6,
        squash=squash,
    )
    rows, lengths = episodes(6)
    beta = random_beta(policy, 3)
    for own in (policy.beta, beta[0]):
        expected = [as_torch_rnn(policy, own, r, n) for r, n in zip(rows, lengths, strict=True)]
        actions = policy.act(rows, None if own is policy.beta else own[None])
        torch.testing.assert_close(actions, torch.stack(expected), rtol=1e-5, atol=3e-6)

    population = policy.act(rows, beta)
    alone = [policy.act(rows[2 * c : 2 * c + 2], beta[c : c + 1]) for c in range(3)]
    torch.testing.assert_close(population, torch.cat(alone))


def test_rnn_policy_reads_any_memory_layout():
    policy = TDCARNNPolicy(EPISODE, CREDITS)
    rows, _ = episodes(4)
    other = rows.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    with torch.no_grad():
        torch.testing.assert_close(policy.act(rows), policy.act(other))


@pytest.mark.parametrize("readout", ["last", "mean"])
def test_rnn_policy_is_differentiable(readout):
    policy = TDCARNNPolicy(EPISODE, CREDITS, hidden_size=3, readout=readout).double()
    rows, _ = episodes(2)
    beta = random_beta(policy, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda b: policy.act(rows.double(), b), beta)


def test_empty_episodes_are_no_error():
    for readout in ("last", "mean"):
        policy = TDCARNNPolicy(EPISODE, CREDITS, readout=readout)
        rows, _ = episodes(3, lengths=[0, 0, 0])
        with torch.no_grad():
            assert not policy.act(rows).any()


# --- Predicting


POLICIES = {
    "tdca": (TDCAPolicy, SEEN, ACTED, {}),
    "rnn": (TDCARNNPolicy, EPISODE, CREDITS, {}),
    "dfa": (DFAPolicy, SEEN, ACTED, {}),
    "drtp": (DRTPPolicy, SEEN, ACTED, {}),
}
every_policy = pytest.mark.parametrize("name", POLICIES)


@every_policy
def test_predict_one_or_many(name):
    policy_class, seen, acted, _ = POLICIES[name]
    policy = policy_class(seen, acted)
    many = np.stack([episodes(3)[0][i] for i in range(3)]) if name == "rnn" else None
    if many is None:
        many = np.random.default_rng(0).uniform(0.1, 1, (3, *seen.shape)).astype(np.float32)
    actions, state = policy.predict(many, state=("kept",))
    assert state == ("kept",)
    assert actions.shape == (3, *acted.shape)
    single, state = policy.predict(many[1])
    assert state is None
    assert single.shape == acted.shape
    np.testing.assert_allclose(single, actions[1], rtol=1e-5, atol=1e-6)
    assert actions.dtype == np.float32


@every_policy
def test_save_and_load(name, tmp_path):
    policy_class, seen, acted, _ = POLICIES[name]
    settings = {
        "tdca": {"hidden_sizes": (4, 3), "input_scale": 2.0, "output_scale": 0.3, "squash": "tanh"},
        "rnn": {
            "hidden_size": 5,
            "readout": "last",
            "state_size": 4,
            "change_scale": 3.0,
            "input_scales": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
            "output_scale": 0.5,
            "squash": "clip",
        },
        "dfa": {"credit_scale": 3.0, "label_smoothing": 0.1, "seed": 7},
        "drtp": {"credit_scale": 3.0, "seed": 7},
    }[name]
    torch.manual_seed(3)
    policy = policy_class(seen, acted, **settings)
    policy.save(tmp_path / "policy.pt")
    torch.manual_seed(4)
    again = policy_class.load(tmp_path / "policy.pt", device="cpu")
    assert {key: getattr(again, key) for key in settings} == settings
    assert again.observation_space == seen
    observation = episodes(2)[0] if name == "rnn" else torch.rand(2, *seen.shape)
    with torch.no_grad():
        assert torch.equal(policy.act(observation), again.act(observation))


# --- Known rules


def test_rules_give_the_credits_they_name():
    observation = torch.rand(2, *SEEN.shape)
    outputs, labels = observation[..., :CLASSES], observation[..., CLASSES:]
    for policy_class, signal in [(DFAPolicy, labels - outputs), (DRTPPolicy, labels)]:
        policy = policy_class(SEEN, ACTED, credit_scale=4.0)
        actions = policy.act(observation)
        torch.testing.assert_close(actions[..., :NEURONS], signal @ policy.feedback / 4)
        torch.testing.assert_close(actions[..., NEURONS:], labels / outputs / 4)
        assert torch.equal(policy.feedback, policy_class(SEEN, ACTED).feedback)
        assert not torch.equal(policy.feedback, policy_class(SEEN, ACTED, seed=1).feedback)


@pytest.mark.parametrize("policy_class", [DFAPolicy, DRTPPolicy])
def test_rules_give_credits_in_the_layout_of_networks(policy_class):
    # Samples last: else 100 MB are transposed twice in every update of a large convolution.
    credits = policy_class(SEEN, ACTED).act(torch.rand(2, *SEEN.shape)).transpose(1, 2)
    assert credits.is_contiguous()


@pytest.mark.parametrize("policy_class", [DFAPolicy, DRTPPolicy])
def test_rules_take_smoothed_labels(policy_class):
    observation = torch.rand(2, *SEEN.shape)
    plain = policy_class(SEEN, ACTED, credit_scale=4.0, seed=3)
    smoothed = plain.smoothed(0.3)
    assert (smoothed.credit_scale, smoothed.seed, smoothed.label_smoothing) == (4.0, 3, 0.3)
    target = observation.clone()
    target[..., CLASSES:] = 0.7 * observation[..., CLASSES:] + 0.3 / CLASSES
    torch.testing.assert_close(smoothed.act(observation), plain.act(target))
    assert not torch.allclose(smoothed.act(observation), plain.act(observation))


@pytest.mark.parametrize(
    "policy_class", [BackpropPolicy, FAPolicy, DFAPolicy, DRTPPolicy, DeepAGRELCreditPolicy]
)
def test_rules_teach(make_vec, policy_class):
    env = make_vec("CreditAssign-Images-v0", 2, num_samples=60, num_updates=15, init="kaiming")
    policy = policy_class(env.single_observation_space, env.single_action_space)
    policy.attach(env)
    observation, info = env.reset(seed=0)
    first = info["loss"]
    for _ in range(14):
        observation, *_, info = env.step(policy.predict(observation)[0])
    assert (info["loss"] < 0.9 * first).all()


# --- Stable-Baselines3's learners


@pytest.mark.parametrize("learner", [PPO, A2C])
@pytest.mark.parametrize("env_id", ["CreditAssign-Gaussian-v0", "CreditAssign-Images-v0"])
def test_actor_critic_learns_and_becomes_a_tdca_policy(make_vec, tmp_path, learner, env_id):
    env = make_vec(env_id, 4)
    settings = {"n_steps": 4} | ({"batch_size": 8, "n_epochs": 2} if learner is PPO else {})
    model = learner(
        TDCAActorCriticPolicy,
        VectorEnvAdapter(env),
        policy_kwargs={"hidden_sizes": (6,)},
        device="cpu",
        seed=0,
        **settings,
    )
    before = model.policy.network.beta.detach().clone()
    model.learn(32)
    assert not torch.equal(before, model.policy.network.beta)

    policy = TDCAPolicy(env.single_observation_space, env.single_action_space, hidden_sizes=(6,))
    policy.network.load_state_dict(model.policy.network.state_dict())
    observation, _ = env.reset(seed=1)
    mean, _ = model.predict(observation, deterministic=True)
    assert mean.shape == env.action_space.shape
    np.testing.assert_allclose(policy.predict(observation)[0], mean, atol=1e-6)

    model.save(tmp_path / "model")
    again = learner.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(again.predict(observation, deterministic=True)[0], mean)
    model.policy.save(tmp_path / "policy")
    alone = TDCAActorCriticPolicy.load(tmp_path / "policy", device="cpu")
    assert alone.hidden_sizes == (6,)
    np.testing.assert_array_equal(alone.predict(observation, deterministic=True)[0], mean)


def test_actor_critic_distribution(make_vec):
    env = make_vec("CreditAssign-Images-v0", 1)
    policy = TDCAActorCriticPolicy(
        env.single_observation_space, env.single_action_space, lambda _: 1e-3, log_std_init=-1.0
    )
    observation = torch.rand(5, *env.single_observation_space.shape)
    actions, values, log_prob = policy(observation)
    assert actions.shape == (5, *env.single_action_space.shape)
    assert values.shape == (5, 1)
    again, log_prob_again, entropy = policy.evaluate_actions(observation, actions)
    torch.testing.assert_close(again, values)
    torch.testing.assert_close(log_prob_again, log_prob)
    normal = torch.distributions.Normal(policy.network(observation), np.exp(-1.0))
    torch.testing.assert_close(log_prob, normal.log_prob(actions).sum((1, 2)), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(entropy, normal.entropy().sum((1, 2)))


# --- Misuse


@pytest.mark.parametrize(
    ("policy_class", "seen", "acted", "message"),
    [
        (TDCAPolicy, EPISODE, CREDITS, "use TDCARNNPolicy for one credit vector per episode"),
        (TDCARNNPolicy, SEEN, ACTED, "use TDCAPolicy where every row has credits of its own"),
        (DFAPolicy, EPISODE, CREDITS, "DFAPolicy is a rule for classification tasks"),
        (BackpropPolicy, EPISODE, CREDITS, "BackpropPolicy is a rule for classification tasks"),
        (FAPolicy, EPISODE, CREDITS, "FAPolicy is a rule for classification tasks"),
        (DeepAGRELCreditPolicy, EPISODE, CREDITS, "is a rule for classification tasks"),
        (TDCAPolicy, SEEN, spaces.Discrete(3), "must be a Box, not Discrete"),
        (TDCARNNPolicy, EPISODE, spaces.Discrete(3), "must be a Box, not Discrete"),
        (DRTPPolicy, SEEN, spaces.Discrete(3), "must be a Box, not Discrete"),
        (TDCAPolicy, spaces.Discrete(2), ACTED, "observations .rows, features."),
    ],
)
def test_spaces_that_do_not_fit(policy_class, seen, acted, message):
    with pytest.raises(ValueError, match=message):
        policy_class(seen, acted)


def test_actor_critic_on_spaces_that_do_not_fit():
    with pytest.raises(ValueError, match="use TDCARNNPolicy"):
        TDCAActorCriticPolicy(EPISODE, CREDITS, lambda _: 1e-3)


def test_actor_critic_explores_in_one_way():
    with pytest.raises(ValueError, match="leave out use_sde"):
        TDCAActorCriticPolicy(SEEN, ACTED, lambda _: 1e-3, use_sde=True)


@pytest.mark.parametrize(
    ("policy_class", "settings", "message"),
    [
        (TDCAPolicy, {"hidden_sizes": (0,)}, "hidden_sizes=0 must be a whole number"),
        (TDCAPolicy, {"input_scale": 0.0}, "input_scale=0.0 must be a finite number above 0"),
        (TDCAPolicy, {"output_scale": -1}, "output_scale=-1 must be a finite number above 0"),
        (TDCAPolicy, {"squash": "tan"}, "did you mean 'tanh'"),
        (TDCARNNPolicy, {"hidden_size": 0}, "hidden_size=0 must be a whole number"),
        (TDCARNNPolicy, {"readout": "men"}, "did you mean 'mean'"),
        (TDCARNNPolicy, {"state_size": 5}, "use at most 4"),
        (TDCARNNPolicy, {"state_size": 0}, "state_size=0 must be a whole number"),
        (TDCARNNPolicy, {"input_scales": (1.0, 2.0)}, "has 2 factors, and episodes have 6 columns"),
        (TDCARNNPolicy, {"input_scales": (1.0,) * 5 + (-1.0,)}, "a finite number above 0"),
        (TDCARNNPolicy, {"change_scale": 0}, "change_scale=0 must be a finite number above 0"),
        (TDCARNNPolicy, {"output_scale": 0}, "output_scale=0 must be a finite number above 0"),
        (TDCARNNPolicy, {"squash": "clamp"}, "squash='clamp' is not one of 'clip', 'tanh'"),
        (DFAPolicy, {"credit_scale": 0}, "credit_scale=0 must be a finite number above 0"),
        (BackpropPolicy, {"label_smoothing": 1.0}, "label_smoothing=1.0 must be .* below 1"),
        (BackpropPolicy, {"loss": "hinge"}, "loss='hinge' is not one of 'cross-entropy', 'squ"),
        (BackpropPolicy, {"label_smoothing": -0.1}, "label_smoothing=-0.1 must be .* at least 0"),
        (DFAPolicy, {"label_smoothing": float("nan")}, "label_smoothing=nan must be a number"),
        (DRTPPolicy, {"seed": -1}, "seed=-1 must be a whole number of at least 0"),
        (FAPolicy, {"seed": 0.5}, "seed=0.5 must be a whole number of at least 0"),
        (FAPolicy, {"label_smoothing": 1.0}, "label_smoothing=1.0 must be .* below 1"),
        (FAPolicy, {"credit_scale": 0}, "credit_scale=0 must be a finite number above 0"),
        (DeepAGRELCreditPolicy, {"seed": -1}, "seed=-1 must be a whole number of at least 0"),
        (DeepAGRELCreditPolicy, {"epsilon": 1.1}, "epsilon=1.1 must be a number from 0 to 1"),
        (DeepAGRELCreditPolicy, {"feedback": "fixd"}, "did you mean 'fixed'"),
        (DeepAGRELCreditPolicy, {"credit_scale": 0}, "credit_scale=0 must be a finite number"),
    ],
)
def test_settings_out_of_range(policy_class, settings, message):
    seen, acted = (EPISODE, CREDITS) if policy_class is TDCARNNPolicy else (SEEN, ACTED)
    with pytest.raises(ValueError, match=message):
        policy_class(seen, acted, **settings)


def test_observation_of_another_shape():
    with pytest.raises(ValueError, match="Unexpected observation shape"):
        TDCAPolicy(SEEN, ACTED).predict(np.zeros((ROWS, 5), dtype=np.float32))


def test_deepagrel_has_no_target_to_smooth():
    with pytest.raises(TypeError, match="label_smoothing"):
        DeepAGRELCreditPolicy(SEEN, ACTED, label_smoothing=0.1)
    assert not hasattr(DeepAGRELCreditPolicy(SEEN, ACTED), "smoothed")


@pytest.mark.parametrize("policy_class", [BackpropPolicy, FAPolicy, DeepAGRELCreditPolicy])
def test_feedback_needs_an_environment_that_fits(make_vec, policy_class):
    policy = policy_class(SEEN, ACTED)
    with pytest.raises(RuntimeError, match=rf"{policy_class.__name__} .* call attach\(env\) first"):
        policy.predict(np.zeros(SEEN.shape, dtype=np.float32))
    with pytest.raises(ValueError, match="needs a classification task"):
        policy.attach(make_vec("CreditAssign-CartPole-v0", 1))
    with pytest.raises(ValueError, match="no networks to read: attach the vector environment"):
        policy.attach(gymnasium.make("CreditAssign-Gaussian-v0"))
    with pytest.raises(ValueError, match='credit="neurons"'):
        policy.attach(make_vec("CreditAssign-Images-v0", 1, credit="groups", credit_groups=2))

    env = make_vec("CreditAssign-Images-v0", 2)
    policy = policy_class(env.single_observation_space, env.single_action_space)
    policy.attach(env)
    observation, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match="1 observations for the 2 networks"):
        policy.predict(observation[0])


@pytest.mark.slow
def test_ppo_improves_the_top_down_network():
    """A few thousand steps on small MNIST subsets raise the return on lives of their own."""

    def vec_env(num_envs: int) -> VectorEnvAdapter:
        kwargs = {"num_samples": 16, "evaluate_test": False}
        return VectorEnvAdapter(gymnasium.make_vec("CreditAssign-MNIST-v0", num_envs, **kwargs))

    def mean_return(model: PPO) -> float:
        env = vec_env(64)
        env.seed(10**6)
        observation, total = env.reset(), 0.0
        for _ in range(20):
            action, _ = model.predict(observation, deterministic=True)
            observation, rewards, *_ = env.step(action)
            total += rewards.mean()
        return total

    gains = []
    for seed in range(2):
        model = PPO(
            TDCAActorCriticPolicy,
            vec_env(16),
            n_steps=20,
            batch_size=160,
            learning_rate=1e-3,
            gamma=1.0,
            policy_kwargs={"log_std_init": -3.0},
            seed=seed,
        )
        before = mean_return(model)
        model.learn(9600)
        gains.append(mean_return(model) - before)
    assert min(gains) > 0.3


def test_candidates_have_parameters_and_observations_of_their_own():
    policy = TDCAPolicy(SEEN, ACTED)
    observation = torch.zeros(3, *SEEN.shape)
    with pytest.raises(ValueError, match="3 observations cannot be shared out to 2 candidates"):
        policy.act(observation, torch.zeros(2, policy.beta.numel()))
    with pytest.raises(ValueError, match=r"beta of shape \(3, 5\) must be \(candidates, "):
        policy.act(observation, torch.zeros(3, 5))


@pytest.mark.parametrize("policy_class", [TDCAPolicy, DFAPolicy])
def test_predict_takes_numpys_usual_numbers(policy_class):
    policy = policy_class(SEEN, ACTED)
    observation = np.full(SEEN.shape, 0.5)
    single = policy.predict(observation.astype(np.float32))[0]
    np.testing.assert_array_equal(policy.predict(observation)[0], single)


def test_a_copy_of_an_attached_rule_asks_to_be_attached(make_vec):
    env = make_vec("CreditAssign-Images-v0", 2)
    policy = BackpropPolicy(env.single_observation_space, env.single_action_space)
    policy.attach(env)
    observation, _ = env.reset(seed=0)
    policy.predict(observation)
    with pytest.raises(RuntimeError, match=r"call attach\(env\) first"):
        copy.deepcopy(policy).predict(observation)


@pytest.mark.parametrize(("seen", "acted"), [((4, 7), (4, 10)), ((4, 6), (4, 2))])
def test_rules_take_spaces_of_classification_alone(seen, acted):
    with pytest.raises(ValueError, match="is a rule for classification tasks"):
        DFAPolicy(spaces.Box(0, 1, seen), spaces.Box(-1, 1, acted))
