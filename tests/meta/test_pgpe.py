"""PGPE: its update against the equations, exact resumption, and what it refuses."""

import resource

import gymnasium
import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from stable_baselines3.common.callbacks import BaseCallback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents import SharedTDCAPolicy, TDCAPolicy
from meta.optimizers import ClipUp
from meta.pgpe import PGPE, centred_ranks, mean_ranks
from meta.population import usual_chunk_size

INNER = {"num_updates": 10, "credit_scale": 0.5}
SMALL = {"population_size": 8, "lives": 3, "policy_kwargs": {"hidden_sizes": (4,)}}


def small(**kwargs) -> PGPE:
    settings = {"seed": 3, **SMALL, **kwargs}
    return PGPE("TDCAPolicy", "CreditAssign-Gaussian-v0", INNER, **settings)


def generations(model: PGPE, count: int) -> PGPE:
    return model.learn(count * model.timesteps_per_generation, reset_num_timesteps=False)


class StopAt(BaseCallback):
    """Ends learning after a generation."""

    def __init__(self, generation: int) -> None:
        super().__init__()
        self._generation = generation

    def _on_step(self) -> bool:
        return self.model.generation < self._generation


def until(model: PGPE, generation: int) -> PGPE:
    """Interrupted there, as by Ctrl-C, on a way that is long enough for all starts."""
    enough = 1000 * model.timesteps_per_generation
    return model.learn(enough, StopAt(generation), reset_num_timesteps=False)


def test_centred_ranks_share_ties_like_scipy():
    fitness = np.array([3.0, 1.0, 2.0, 1.0, -np.inf, 3.0, 3.0])
    expected = (rankdata(fitness) - 1) / (len(fitness) - 1) - 0.5
    np.testing.assert_allclose(centred_ranks(fitness), expected)


def test_centre_and_stdev_follow_the_equations():
    model = small(optimizer="sgd", center_learning_rate=0.2, stdev_learning_rate=0.5)
    center, stdev = model.policy.beta.detach().numpy().copy(), model.stdev.numpy().copy()
    fitness = np.random.default_rng(0).normal(size=8)
    generation = model._next_generation()
    epsilon = generation.directions().numpy().astype(np.float64)
    model._update(generation, fitness)

    utility = centred_ranks(fitness)
    center_gradient, stdev_gradient = np.zeros_like(center), np.zeros_like(stdev)
    for pair in range(4):
        plus, minus = utility[pair], utility[pair + 4]
        center_gradient += epsilon[pair] * (plus - minus) / 2 / stdev / 4
        stdev_gradient += (epsilon[pair] ** 2 - 1) * stdev * (plus + minus) / 2 / 4
    np.testing.assert_allclose(
        model.policy.beta.detach().numpy(), center + 0.2 * center_gradient, rtol=1e-4, atol=1e-6
    )
    change = np.clip(0.5 * stdev_gradient, -0.2 * stdev, 0.2 * stdev)
    np.testing.assert_allclose(model.stdev.numpy(), stdev + change, rtol=1e-5)
    at_limit = np.isclose(np.abs(change), 0.2 * stdev)
    assert at_limit.any()
    assert not at_limit.all()


def test_clipup_gathers_speed_up_to_its_limit():
    place = torch.zeros(3, requires_grad=True)
    optimizer = ClipUp([place], lr=0.1)
    steps = []
    for _ in range(4):
        before = place.detach().clone()
        place.grad = torch.tensor([3.0, 0.0, -4.0])
        optimizer.step()
        steps.append((place.detach() - before).norm().item())
    assert steps == pytest.approx([0.1, 0.19, 0.2, 0.2], rel=1e-5)


def test_other_seeds_meet_other_lives():
    assert not set(small(seed=3).life_seeds) & set(small(seed=4).life_seeds)


def test_candidates_are_antithetic_around_the_centre():
    model = small(stdev_init=0.3)
    candidates = model._next_generation().candidates()
    plus, minus = candidates.chunk(2)
    torch.testing.assert_close((plus + minus) / 2, model.policy.beta.detach().expand(4, -1))
    assert 0.2 < (plus - minus).std() / 2 < 0.4


def test_fitness_is_minus_the_final_loss_of_every_candidate_alone():
    """Batched evaluation equals running each candidate by itself through the NumPy face."""
    model = small()
    generation = model._next_generation()
    losses = model._evaluator.losses(generation, 0)
    env = gymnasium.make("CreditAssign-Gaussian-v0", **INNER)
    for candidate, beta in enumerate(generation.candidates()):
        policy = TDCAPolicy(env.observation_space, env.action_space, hidden_sizes=(4,))
        policy.beta.data = beta
        for life, seed in enumerate(generation.life_seeds):
            observation, info = env.reset(seed=seed)
            for _ in range(10):
                observation, *_, info = env.step(policy.predict(observation)[0])
            assert losses[candidate, life] == pytest.approx(-info["height"], abs=1e-5)


def test_worst_task_fitness():
    model = small(task_fitness="worst")
    losses = np.array([[1.0, 5.0, 3.0], [2.0, 2.0, 2.0]])
    np.testing.assert_allclose(
        model._fitness(model._by_task(losses, [np.array([0, 1, 0])])), [-5.0, -2.0]
    )
    model.task_fitness = "mean"
    np.testing.assert_allclose(
        model._fitness(model._by_task(losses, [np.array([0, 1, 0])])), [-3.5, -2.0]
    )


def test_ranks_count_tasks_alike_whatever_their_scale():
    by_task = np.array([[1.0, 2.0, 3.0, 4.0], [4e6, 3e6, 2e6, 1e6], [0.1, 0.4, 0.3, 0.2]])
    expected = np.mean([(rankdata(task) - 1) / 3 - 0.5 for task in by_task], axis=0)
    np.testing.assert_allclose(mean_ranks(by_task), expected)
    assert mean_ranks(by_task).argmax() == 1
    assert by_task.mean(0).argmax() == 0


def test_the_centre_follows_mean_ranks():
    """With ranks, losses of one task times a thousand change nothing; with their mean, they do."""
    env_id = "CreditAssign-MultiGaussian-v0"
    for fitness, changes in (("ranks", False), ("mean", True)):
        centres = []
        for factor in (1.0, 1000.0):
            model = PGPE(
                "TDCAPolicy", env_id, INNER, seed=3, task_fitness=fitness, **{**SMALL, "lives": 4}
            )
            losses = model._evaluator.losses

            def scaled(generation, chunk, losses=losses, factor=factor):
                found = losses(generation, chunk)
                found[:, 1::2] *= factor
                return found

            model._evaluator.losses = scaled
            centres.append(generations(model, 2).policy.beta.detach().clone())
            assert model.history[-1][0] != 0.0
        assert torch.equal(*centres) != changes


def test_only_the_worst_lives_count():
    """The worst half, rounded up, of each task's."""
    model = small(worst_lives=0.5)
    losses = np.array([[1.0, 5.0, 3.0, 2.0, 1.0], [2.0, 2.0, 2.0, 9.0, 2.0]])
    tasks = [np.array([0, 0, 0, 1, 1])]
    np.testing.assert_allclose(
        model._fitness(model._by_task(losses, tasks)), [-(4.0 + 2.0) / 2, -(2.0 + 9.0) / 2]
    )
    model.task_fitness = "worst"
    np.testing.assert_allclose(model._fitness(model._by_task(losses, tasks)), [-4.0, -9.0])


IMAGES = ["CreditAssign-Digits-v0", "CreditAssign-Images-v0"]


def images_kwargs():
    """Digits of two sizes; the second environment has other images, samples and updates."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (80, 6, 6)).astype(np.uint8), np.arange(80) % 10
    sizes = {"hidden_sizes": (8,), "optimizer": "sgd"}
    return [
        {"num_samples": 30, "num_updates": 3, **sizes},
        {"num_samples": 20, "num_updates": 2, **sizes, "data": (x, y, x, y)},
    ]


def in_several(env_ids, env_kwargs, n_workers=0):
    return PGPE(
        "TDCAPolicy",
        env_ids,
        env_kwargs,
        {"hidden_sizes": (4,)},
        population_size=6,
        lives=2,
        seed=3,
        n_workers=n_workers,
    )


def test_several_environments_are_each_as_alone_and_count_alike():
    """One network for all data sets, the fitness its mean over them (TDCA, Table S2, "All")."""
    kwargs = images_kwargs()
    model = in_several(IMAGES, kwargs)
    generation = model._next_generation()
    losses = model._evaluator.losses(generation, 0)
    alone = [
        in_several(env_id, own)._evaluator.losses(generation, 0)
        for env_id, own in zip(IMAGES, kwargs, strict=True)
    ]
    np.testing.assert_allclose(losses, np.concatenate(alone, axis=1), rtol=1e-6)
    fitness = model._fitness(model._by_task(losses, model._evaluator.tasks))
    np.testing.assert_allclose(fitness, -sum(own.mean(1) for own in alone) / 2, rtol=1e-6)
    model.task_fitness = "worst"
    fitness = model._fitness(model._by_task(losses, model._evaluator.tasks))
    np.testing.assert_allclose(fitness, -np.maximum(*(own.mean(1) for own in alone)), rtol=1e-6)
    assert model.timesteps_per_generation == 6 * 2 * (3 + 2)


CONTROL = ["CreditAssign-CartPole-v0", "CreditAssign-ReversedCartPole-v0"]


@pytest.mark.parametrize("env_ids", [CONTROL, CONTROL[::-1]])
def test_each_environment_deals_its_own_tasks(env_ids):
    """Whichever comes first: half of the lives in the reversed one have a reversed motor."""
    kwargs = {"num_updates": 2, "horizon": 40, "init_stdev": 2.0}
    settings = {"population_size": 2, "lives": 4, "seed": 3, "policy_kwargs": {"hidden_size": 3}}
    model = PGPE("TDCARNNPolicy", env_ids, kwargs, **settings)
    generation = model._next_generation()
    losses = model._evaluator.losses(generation, 0)
    for env_id, found in zip(env_ids, np.split(losses, 2, axis=1), strict=True):
        env = gymnasium.make_vec(env_id, num_envs=4, **kwargs)
        tasks = np.arange(4) % len(env.task.task_names)
        for beta, expected in zip(generation.candidates(), found, strict=True):
            with torch.no_grad():
                observation = env.reset_tensors(generation.life_seeds, task=tasks)
                for _ in range(env.num_updates):
                    observation = env.step_tensors(model.policy.act(observation, beta[None]))[0]
            np.testing.assert_array_equal(env.loss.numpy(), expected)
    sizes = [len(model._evaluator.envs[i].task.task_names) for i in (0, 1)]
    assert len(model._by_task(losses, model._evaluator.tasks)) == sum(sizes) == 3


@pytest.mark.parametrize("env", [CONTROL[1], CONTROL, "CreditAssign-MultiGaussian-v0"])
def test_lives_that_are_fewer_than_tasks_are_refused(env):
    policy = "TDCAPolicy" if "Gaussian" in env else "TDCARNNPolicy"
    with pytest.raises(ValueError, match=r"some of the 2 tasks \(.*\): ask for lives=2 or more"):
        PGPE(policy, env, population_size=2)
    assert PGPE(policy, env, population_size=2, lives=2)._evaluator.tasks[-1].tolist() == [0, 1]


def test_candidates_that_read_their_networks_each_read_their_own():
    kwargs = {"num_samples": 30, "num_updates": 3, "reward": "final"}
    model = PGPE(
        SharedTDCAPolicy,
        "CreditAssign-Digits-v0",
        kwargs,
        population_size=4,
        stdev_init=1.0,
        seed=3,
    )
    generation = model._next_generation()
    losses = model._evaluator.losses(generation, 0)
    for beta, expected in zip(generation.candidates(), losses, strict=True):
        env = gymnasium.make_vec("CreditAssign-Digits-v0", num_envs=1, **kwargs)
        policy = model.policy
        policy.attach(env)
        with torch.no_grad():
            observation = env.reset_tensors(generation.life_seeds)
            for _ in range(env.num_updates):
                observation = env.step_tensors(policy.act(observation, beta[None])).observation
        np.testing.assert_allclose(env.loss.numpy(), expected, rtol=1e-3)
    assert losses.std() > 1e-3


def test_several_environments_resume_and_spread_over_workers(tmp_path):
    kwargs = images_kwargs()
    whole = generations(in_several(IMAGES, kwargs), 3)
    generations(in_several(IMAGES, kwargs, n_workers=2), 2).save(tmp_path / "half")
    resumed = generations(PGPE.load(tmp_path / "half", n_workers=0), 1)
    assert torch.equal(whole.policy.beta, resumed.policy.beta)


def test_annealing_by_generation():
    model = small(anneal_over=4, anneal_to=0.5, stdev_init=0.2, stdev_learning_rate=0.0)
    seen = []
    for _ in range(6):
        seen.append(model._next_generation().stdev[0].item())
        generations(model, 1)
    np.testing.assert_allclose(seen, [0.2, 0.175, 0.15, 0.125, 0.1, 0.1], rtol=1e-6)


def test_each_start_anneals_from_the_beginning_and_the_best_to_the_end():
    model = small(
        anneal_over=10, anneal_to=0.5, stdev_learning_rate=0.0, starts=3, generations_per_start=2
    )
    seen = []
    for done in range(11):
        model._change_starts()
        seen.append(model._annealing())
        until(model, done + 1)
    per_start = [1.0, 1.0 - 0.5 / 6]
    last = [1.0 - 0.5 * age / 6 for age in (2, 3, 4, 5, 6)]
    np.testing.assert_allclose(seen, [*per_start, *per_start, *per_start, *last])


def test_it_goes_on_from_the_best_start(tmp_path):
    starts = {"seed": 11, "starts": 3, "generations_per_start": 2, "stdev_learning_rate": 0.3}
    model = small(**starts)
    reached = []
    for tried in (1, 2, 3):
        until(model, 2 * tried)
        reached.append((model.policy.beta.detach().clone(), model.stdev.clone()))
    fitness = np.mean(np.array(model.history)[:, 0].reshape(3, 2), axis=1)
    beta, stdev = reached[fitness.argmax()]
    assert len(set(fitness)) == 3
    assert not torch.equal(beta, model.policy.beta), "or else nothing is shown here"

    straight = generations(small(**starts), 7)
    model.save(tmp_path / "model.zip")
    assert torch.equal(straight.policy.beta, generations(model, 1).policy.beta)
    for at in (1, 3, 6):
        until(small(**starts), at).save(tmp_path / "part.zip")
        resumed = generations(PGPE.load(tmp_path / "part.zip"), 7 - at)
        assert torch.equal(straight.policy.beta, resumed.policy.beta)

    chosen = PGPE.load(tmp_path / "model.zip")
    chosen._change_starts()
    assert torch.equal(chosen.policy.beta, beta)
    assert torch.equal(chosen.stdev, stdev)


@pytest.mark.parametrize("count", [1, 5, 6])
def test_learning_that_would_end_with_the_last_start_is_refused(count):
    """After 6 generations the centre is the last start's, whichever is the best."""
    model = small(starts=3, generations_per_start=2)
    with pytest.raises(ValueError, match=r"best of 3 starts in generation 7: learn for as many"):
        generations(model, count)
    assert model.generation == 0
    with pytest.raises(ValueError, match="would end after generation 6"):
        generations(until(model, 4), 2)
    assert generations(model, 3).generation == 7


def test_it_climbs():
    model = small(population_size=16, lives=8, stdev_init=0.3, center_learning_rate=0.15)
    generations(model, 30)
    first, last = model.history[0][0], model.history[-1][0]
    assert last > first + 0.2


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "clipup"])
def test_save_load_continues_bit_for_bit(optimizer, tmp_path):
    kwargs = {"optimizer": optimizer, "anneal_over": 6, "stdev_learning_rate": 0.3}
    straight = generations(generations(small(**kwargs), 3), 3)
    first = generations(small(**kwargs), 3)
    first.save(tmp_path / "model.zip")
    second = generations(PGPE.load(tmp_path / "model.zip"), 3)
    assert torch.equal(straight.policy.beta, second.policy.beta)
    assert torch.equal(straight.stdev, second.stdev)
    assert straight.history == second.history
    assert straight.num_timesteps == second.num_timesteps
    assert not torch.equal(first.policy.beta, second.policy.beta)


def test_workers_change_nothing():
    alone = generations(small(chunk_size=2), 3)
    shared = generations(small(chunk_size=2, n_workers=2), 3)
    assert torch.equal(alone.policy.beta, shared.policy.beta)
    assert alone.history == shared.history


def test_chunks_fill_up_and_cover_the_population():
    whole, parts = small(chunk_size=8), small(chunk_size=3)
    generation = whole._next_generation()
    expected = whole._evaluator.losses(generation, 0)
    chunks = [parts._evaluator.losses(generation, chunk) for chunk in range(3)]
    assert [len(chunk) for chunk in chunks] == [3, 3, 2]
    np.testing.assert_allclose(np.concatenate(chunks), expected, atol=1e-6)


@pytest.mark.parametrize(("population", "chunk"), [(8, 8), (16, 16), (32, 16), (40, 10), (64, 16)])
def test_the_usual_chunks_are_even(population, chunk):
    assert small(population_size=population)._evaluator.chunk_size == chunk


@pytest.mark.parametrize(
    ("samples", "chunk"), [(1, 16), (1000, 16), (1001, 11), (10_000, 1), (60_000, 1)]
)
def test_chunks_are_smaller_where_samples_are_many(samples, chunk):
    assert usual_chunk_size(64, samples) == chunk
    assert usual_chunk_size(64, samples, on_gpu=True) == 64


def test_workers_are_no_gpu(monkeypatch):
    # "meta" stands for any device but the CPU.
    monkeypatch.setattr("agents.checkpoints.require_device", lambda name: None)
    with pytest.raises(ValueError, match="workers are processors, and device='meta' is none"):
        PGPE("TDCAPolicy", "CreditAssign-Gaussian-v0", n_workers=2, device="meta", **SMALL)


def test_a_vector_environment_of_ones_own():
    env = gymnasium.make_vec("CreditAssign-Gaussian-v0", num_envs=12, **INNER)
    own = generations(PGPE("TDCAPolicy", env, seed=3, **SMALL), 2)
    by_id = generations(small(chunk_size=4), 2)
    assert torch.equal(own.policy.beta, by_id.policy.beta)


def test_an_environment_of_ones_own_has_to_be_given_again(tmp_path):
    env = gymnasium.make_vec("CreditAssign-Gaussian-v0", num_envs=12, **INNER)
    model = generations(PGPE("TDCAPolicy", env, seed=3, **SMALL), 1)
    model.save(tmp_path / "model")
    for load in (lambda: PGPE.load(tmp_path / "model"), lambda: PGPE("TDCAPolicy", None)):
        with pytest.raises(ValueError, match="has no environment: give one"):
            load()
    loaded = PGPE.load(tmp_path / "model", env=env)
    assert torch.equal(generations(loaded, 1).policy.beta, generations(model, 1).policy.beta)
    with pytest.raises(ValueError, match="stays in the environments it was made for"):
        model.set_env(env)
    with pytest.raises(ValueError, match=r"env_kwargs=.* are for environments made by their ids"):
        PGPE("TDCAPolicy", env, {"num_updates": 3}, **SMALL)


def test_parameters_that_are_not_finite_are_an_error():
    model = small()
    model.stdev *= 0
    with pytest.raises(FloatingPointError, match="not finite after generation 1"):
        generations(model, 1)


def test_callbacks_logs_and_counting(tmp_path):
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 4

    model = small(tensorboard_log=str(tmp_path))
    model.learn(100 * model.timesteps_per_generation, callback=Stop())
    assert model.generation == 4
    assert model.num_timesteps == 4 * 8 * 3 * 10
    (folder,) = tmp_path.iterdir()
    events = EventAccumulator(str(folder)).Reload()
    fitness = events.Scalars("fitness/mean")
    assert [event.step for event in fitness] == [240, 480, 720, 960]
    assert fitness[-1].value == pytest.approx(model.history[-1][0])


def test_predict_after_load_is_the_centres(tmp_path):
    model = generations(small(), 2)
    model.save(tmp_path / "model")
    loaded = PGPE.load(tmp_path / "model")
    observation = np.array([1.0, -2.0], np.float32)
    np.testing.assert_array_equal(model.predict(observation)[0], loaded.predict(observation)[0])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"population_size": 7}, "even"),
        ({"population_size": 0}, "population_size"),
        ({"lives": 0}, "lives"),
        ({"stdev_init": -1.0}, "stdev_init"),
        ({"stdev_learning_rate": -0.1}, "stdev_learning_rate"),
        ({"stdev_max_change": "much"}, "stdev_max_change"),
        ({"anneal_to": -0.5}, "anneal_to"),
        ({"center_learning_rate": float("nan")}, "center_learning_rate"),
        ({"optimizer": "adan"}, "did you mean 'adam'"),
        ({"task_fitness": "median"}, "task_fitness"),
        ({"stdev_max_change": 1.0}, "stdev_max_change=1.0 must be .* below 1"),
        ({"anneal_to": 0.0, "anneal_over": 5}, "anneal_to=0.0 must be a number above 0"),
        ({"worst_lives": 0.0}, "worst_lives=0.0 must be a number above 0"),
        ({"worst_lives": 1.5}, "at most 1"),
        ({"anneal_over": 0}, "anneal_over"),
        ({"starts": 0}, "starts"),
        ({"generations_per_start": 0}, "generations_per_start"),
        ({"starts": 3, "generations_per_start": 5, "anneal_over": 15}, "make it 16 or more"),
        ({"n_workers": -1}, "n_workers"),
        ({"seed": -1}, "seed=-1 must be a whole number"),
        ({"seed": 2**32}, "must be at most 2"),
        ({"resample_lives": "false"}, "resample_lives='false' is not one of True, False"),
        ({"device": "cuda:99"}, "device='cuda:99' cannot be used here"),
    ],
)
def test_refusals(kwargs, message):
    with pytest.raises(ValueError, match=message):
        small(**kwargs)


def test_refuses_unknown_policies_and_no_log_interval():
    with pytest.raises(ValueError, match="did you mean 'TDCAPolicy'"):
        PGPE("TDCAPolcy", "CreditAssign-Gaussian-v0")
    with pytest.raises(ValueError, match="log_interval=0"):
        small().learn(1, log_interval=0)


def test_refuses_vector_environments_that_do_not_fit():
    env = gymnasium.make_vec("CreditAssign-Gaussian-v0", num_envs=4)
    with pytest.raises(ValueError, match="multiple of 3"):
        PGPE("TDCAPolicy", env, **SMALL)
    with pytest.raises(ValueError, match="give an id"):
        PGPE("TDCAPolicy", env, n_workers=2, **SMALL)
    with pytest.raises(ValueError, match="make_vec"):
        PGPE("TDCAPolicy", gymnasium.make("CartPole-v1"), **SMALL)


def test_refuses_damaged_and_foreign_checkpoints(tmp_path):
    path = tmp_path / "model.zip"
    with pytest.raises(FileNotFoundError):
        PGPE.load(path)
    model = generations(small(), 1)
    model.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="incomplete"):
        PGPE.load(path)
    model.version = "0.0.1"
    model.save(path)
    with pytest.raises(ValueError, match=r"version 0\.0\.1"):
        PGPE.load(path)
    model.version = small().version
    model.save(path)
    other = gymnasium.make_vec("CreditAssign-MultiGaussian-v0", num_envs=3)
    with pytest.raises(ValueError, match="spaces do not match"):
        PGPE.load(path, env=other)


def test_a_full_disk_keeps_the_former_checkpoint(tmp_path):
    path = tmp_path / "model.zip"
    model = generations(small(), 1)
    model.save(path)
    former = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(former) // 2, hard))
    try:
        with pytest.raises(OSError, match="free space"):
            model.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == former
    assert list(tmp_path.iterdir()) == [path]
