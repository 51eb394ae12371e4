"""Control: agents led by credits, beside learners that start from nothing (TDCA, Table S5).

TDCA rows: agents' mean return in the first episode of a life and in the last, over 256 lives that
the outer loop never met, mean ± standard deviation over seeds of the outer loop. "Constant credits"
is the control in which every agent gets the mean of all agents' credits: what it reaches takes no
adaptation, only a drift that is good for all. Where the motor may be reversed, the network of the
recipe sees the products of action and change of state too; "state, action and reward alone" is one
that sees no more than the paper's. It is the best of eight starts and meta-trained for longer, in
smaller steps, where credits are twice as large and parameters lose 0.3 of themselves with every
update.

Learners are Stable-Baselines3's, scored without exploration over 100 episodes. In "a life" they
have as many environment steps as a life has at most, with the best of some settings, chosen by
other seeds; in brackets the steps that there were. "With more" they have the RL Zoo's settings, and
end where little is left to be gained, or after 20,000 to 100,000 steps. They are as good as TDCA
where they come within a hundredth of its gain. To a learner that starts from nothing a reversed
motor is another name for its actions, so that it does in the reversed tasks as in the plain ones,
and is scored there.

A top-down network has met its task before, as no learner has: the steps of meta-training, if all
episodes last as long as they may, stand beside it. For the paper, whose agents have 200 episodes,
"policy gradient" is named where ours is PPO; its pendulum is v0, whose starts it does not say.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.command import add_choice, exit_code
from benchmarks.common.control_learners import Algorithm, learned
from benchmarks.common.control_networks import FILE, LOGDIR, Network, Variant, life_of
from benchmarks.common.results import Cell, Job, ResultsFile, makers, markdown, spread
from meta import zoo
from meta.command_line import Parser, positive
from meta.evaluation import evaluate
from meta.report import fresh_lives

NAME = "table_s5"
EXAMPLES = """\
examples:
  python -m benchmarks.table_s5 --quick                  # a minute: hardly any learning
  python -m benchmarks.table_s5 --only CartPole Pendulum # half an hour on two cores
  python -m benchmarks.table_s5                          # hours, most of them the walker's
"""
WALKER = "bipedal-walker"
_WALKED = 150
"""Half of the return at which Gymnasium calls its environment solved."""
_TUNING_SEED = 1000
_FORGIVEN = 0.01
Settings = Mapping[str, Any]
Values = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Learner:
    """A learner's settings.

    Attributes:
        algorithm: what learns.
        zoo: its settings in the RL Zoo.
        in_a_life: changes to them of which the best is taken for a single life's steps.
        cap: steps after which it is given up; 0: it is scored after a life alone.
        paper: its return in the paper.
    """

    algorithm: Algorithm
    zoo: Settings
    in_a_life: Sequence[Settings]
    cap: int
    paper: str = ""


@dataclass(frozen=True)
class Task:
    """One block of the table.

    Attributes:
        plain: the task in which the learners are scored; None: this one.
        gymnasium_id: of the environment that they learn in.
        learners: those scored here.
        enough: a return at which they may end before their caps.
        paper: TDCA's return in the paper.
        variant: of the recipe, to stand beside it.
    """

    plain: str | None = None
    gymnasium_id: str = ""
    learners: Sequence[Learner] = ()
    enough: float = 0.0
    paper: str = ""
    variant: Variant | None = None


# hyperparams/{ppo,dqn,td3,sac}.yml of https://github.com/DLR-RM/rl-baselines3-zoo, commit 22e3ff2.
_CARTPOLE = [
    Learner(
        "PPO",
        {
            "n_envs": 8,
            "n_steps": 32,
            "batch_size": 256,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "n_epochs": 20,
            "ent_coef": 0.0,
            "learning_rate": "lin_0.001",
            "clip_range": "lin_0.2",
        },
        [{}, {"batch_size": 64, "learning_rate": "lin_0.003"}, {"learning_rate": "lin_0.01"}],
        100_000,
        paper="199",
    ),
    Learner(
        "DQN",
        {
            "learning_rate": 2.3e-3,
            "batch_size": 64,
            "buffer_size": 100_000,
            "learning_starts": 1000,
            "gamma": 0.99,
            "target_update_interval": 10,
            "train_freq": 256,
            "gradient_steps": 128,
            "exploration_fraction": 0.16,
            "exploration_final_eps": 0.04,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
        # The Zoo's begins to learn with the last steps of a life.
        [
            {
                "learning_starts": 100,
                "train_freq": 64,
                "gradient_steps": 64,
                "exploration_fraction": 0.3,
                "learning_rate": 1e-3,
            },
            {"learning_starts": 100, "train_freq": 64, "exploration_fraction": 0.3},
        ],
        50_000,
    ),
]
_TD3 = {
    "gamma": 0.98,
    "buffer_size": 200_000,
    "learning_starts": 10_000,
    "noise_std": 0.1,
    "gradient_steps": 1,
    "train_freq": 1,
    "learning_rate": 1e-3,
    "policy_kwargs": {"net_arch": [400, 300]},
}
"""The Zoo's settings, the same for Pendulum and BipedalWalker."""
_PENDULUM = [
    Learner(
        "PPO",
        {
            "n_envs": 4,
            "n_steps": 1024,
            "gae_lambda": 0.95,
            "gamma": 0.9,
            "n_epochs": 10,
            "ent_coef": 0.0,
            "learning_rate": 1e-3,
            "clip_range": 0.2,
            "use_sde": True,
            "sde_sample_freq": 4,
        },
        # The Zoo's first rollout is longer than a life.
        [
            {"n_steps": 50, "batch_size": 50},
            {"n_steps": 50, "batch_size": 50, "learning_rate": 3e-3},
        ],
        100_000,
    ),
    Learner(
        "TD3",
        _TD3,
        [
            {"learning_starts": 100, "gradient_steps": 2},
            {"learning_starts": 100, "gradient_steps": 4},
        ],
        20_000,
        paper="−647",
    ),
    Learner(
        "SAC",
        {"learning_rate": 1e-3},
        [{"gradient_steps": 2}, {"gradient_steps": 4}],
        20_000,
    ),
]
_BIPEDAL_WALKER = [
    Learner(
        "PPO",
        {
            "normalize": True,
            "n_envs": 32,
            "n_steps": 2048,
            "batch_size": 64,
            "gae_lambda": 0.95,
            "gamma": 0.999,
            "n_epochs": 10,
            "ent_coef": 0.0,
            "learning_rate": 3e-4,
            "clip_range": 0.18,
        },
        # The Zoo's first rollout is longer than a life.
        [
            {"n_envs": 4, "n_steps": 50, "batch_size": 50},
            {"n_envs": 4, "n_steps": 50, "batch_size": 50, "learning_rate": 1e-3},
        ],
        0,
    ),
    Learner(
        "TD3",
        _TD3,
        [{"learning_starts": 400}],
        0,
        paper="−88",
    ),
]
# The recipe's network sees action × change of state, too. Without, credits tell less well when to
# stop, and parameters that fade keep what still comes from growing. Many a start ends in lives
# where every second update undoes the one before; some do not.
_PLAIN_INPUTS = Variant(
    "state, action and reward alone",
    generations=1480,
    policy_kwargs={"state_size": None, "hidden_size": 16, "readout": "last"},
    env_kwargs={"credit_scale": 1.0, "weight_decay": 0.3},
    learner_kwargs={"anneal_over": 1480, "starts": 8, "center_learning_rate": 0.05},
)
TASKS: Mapping[str, Task] = {
    "CartPole": Task(None, "CartPole-v1", _CARTPOLE, 200.0, "200"),
    "ReversedCartPole": Task("CartPole", variant=_PLAIN_INPUTS),
    "Pendulum": Task(None, "Pendulum-v1", _PENDULUM, -150.0, "−119"),
    "ReversedPendulum": Task("Pendulum"),
    "BipedalWalker": Task(None, "BipedalWalker-v3", _BIPEDAL_WALKER, 300.0, "288.4"),
}


@dataclass(frozen=True)
class Extent:
    """How much is computed.

    Attributes:
        seeds: of the outer loop and of each learner.
        tuning_seeds: learners per setting that is tried for a life; 0: the first is taken.
        generations: of the outer loop; None: as the recipes have them.
        marks: steps after which learners with more than a life are scored, up to their caps.
    """

    seeds: int = 3
    tuning_seeds: int = 1
    generations: int | None = None
    marks: Sequence[int] = (1_000, 2_000, 3_000, 5_000, 7_000, *range(10_000, 100_001, 10_000))


_QUICK_TASKS = ("CartPole", "ReversedCartPole")
QUICK = Extent(seeds=2, tuning_seeds=0, generations=3, marks=(2_000,))


def main(argv: Sequence[str] | None = None) -> int:
    """Compute what is missing, then print the table; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--quick", action="store_true", help="a minute; kept in a file of its own")
    add_choice(parser, "--only", "TASK", TASKS, f"all; quick: {', '.join(_QUICK_TASKS)}")
    add("--seeds", type=positive, metavar="N", help="per line (default: 3; quick: 2)")
    add("--logdir", type=Path, metavar="DIR", help=f"runs of train.py (default: {LOGDIR})")
    add("--workers", type=positive, metavar="N", help="processes (default: one per core)")
    arguments = parser.parse_args(argv)
    extent = QUICK if arguments.quick else Extent()
    extent = replace(extent, seeds=arguments.seeds or extent.seeds)

    def work() -> None:
        file = ResultsFile(FILE, arguments.quick)
        tasks = arguments.only or (_QUICK_TASKS if arguments.quick else list(TASKS))
        fill(file, tasks, extent, arguments.logdir or LOGDIR, arguments.workers)
        print(render(file, extent))

    return exit_code(NAME, work)


def fill(
    file: ResultsFile, tasks: Sequence[str], extent: Extent, logdir: Path, workers: int | None
) -> None:
    """Compute what is missing: networks, then what learners' settings are chosen by, then those."""
    for task in tasks:
        for variant in _variants(task):
            for network in networks(task, extent, variant):
                network.learn(file, logdir)
    lines = [(TASKS[task].plain or task, index) for task in tasks for index in _lines(task)]
    lines = list(dict.fromkeys(lines))
    file.fill(
        [job for line in lines for jobs in tuning_jobs(*line, extent) for job in jobs], workers
    )
    file.fill([job for line in lines for job in life_jobs(file, *line, extent)], workers)
    file.fill([job for line in lines for job in long_jobs(*line, extent)], workers)
    if "BipedalWalker" in tasks:
        file.fill([walk_job()], workers)


def networks(task: str, extent: Extent, variant: Variant | None = None) -> list[Network]:
    """The top-down networks of a task, by the recipe or a variant of it."""
    env_id = f"CreditAssign-{task}-v0"
    return [Network(env_id, seed, extent.generations, variant) for seed in range(extent.seeds)]


def _variants(task: str) -> list[Variant | None]:
    """The recipe, and what stands beside it."""
    variant = TASKS[task].variant
    return [None, variant] if variant else [None]


def _lines(task: str) -> range:
    return range(len(_learners(task)))


def _learners(task: str) -> Sequence[Learner]:
    return TASKS[TASKS[task].plain or task].learners


def tuning_jobs(task: str, index: int, extent: Extent) -> list[list[Job]]:
    """Of a learner with the steps of a life, by setting, if there is a choice."""
    seeds = range(_TUNING_SEED, _TUNING_SEED + extent.tuning_seeds)
    learner = _learners(task)[index]
    if len(learner.in_a_life) == 1:
        return []
    return [[life_job(task, learner, each, seed) for seed in seeds] for each in learner.in_a_life]


def chosen(file: ResultsFile, task: str, index: int, extent: Extent) -> Settings | None:
    """The setting with the highest mean score after a life; None if not all are there."""
    learner = _learners(task)[index]
    choice = tuning_jobs(task, index, extent)
    if extent.tuning_seeds == 0 or not choice:
        return learner.in_a_life[0]
    scores = []
    for jobs in choice:
        if any(job.key not in file.cells for job in jobs):
            return None
        scores.append(np.mean([file.cells[job.key]["scores"][-1] for job in jobs]))
    return learner.in_a_life[int(np.argmax(scores))]


def life_jobs(file: ResultsFile, task: str, index: int, extent: Extent) -> list[Job]:
    """Of a learner with the steps of a life, by seed; none before its setting is chosen."""
    setting = chosen(file, task, index, extent)
    if setting is None:
        return []
    learner = _learners(task)[index]
    return [life_job(task, learner, setting, seed) for seed in range(extent.seeds)]


def life_job(task: str, learner: Learner, setting: Settings, seed: int) -> Job:
    """A learner with the steps of a life."""
    life = life_of(f"CreditAssign-{task}-v0")
    said = ", ".join(f"{name} {value}" for name, value in setting.items()) or "the Zoo's settings"
    settings = {
        "gymnasium_id": TASKS[task].gymnasium_id,
        "horizon": life.horizon,
        "algorithm": learner.algorithm,
        "settings": {**learner.zoo, **setting},
        "seed": seed,
        "marks": [life.steps],
    }
    return Job(f"{task}, {learner.algorithm}, a life, {said}, seed {seed}", learned, settings)


def long_jobs(task: str, index: int, extent: Extent) -> list[Job]:
    """Of a learner with the Zoo's settings, by seed."""
    learner = _learners(task)[index]
    settings = {
        "gymnasium_id": TASKS[task].gymnasium_id,
        "horizon": life_of(f"CreditAssign-{task}-v0").horizon,
        "algorithm": learner.algorithm,
        "settings": learner.zoo,
        "marks": [mark for mark in extent.marks if mark <= learner.cap],
        "enough": TASKS[task].enough,
    }
    return [
        Job(f"{task}, {learner.algorithm}, seed {seed}", learned, {**settings, "seed": seed})
        for seed in range(extent.seeds)
        if settings["marks"]
    ]


def walk_job() -> Job:
    """The zoo's walker in episodes as long as Gymnasium's own."""
    settings = {"network": zoo.digest(WALKER), "horizon": 1600, "lives": 32}
    return Job(f"{WALKER} of the zoo, long episodes", walk, settings)


def walk(network: str, horizon: int, lives: int) -> dict[str, Any]:
    """Returns of the last episode in each life, by condition.

    `network` only names the file of the top-down network, so that results tell.
    """
    evaluation = evaluate(
        zoo.load(WALKER),
        "CreditAssign-BipedalWalker-v0",
        fresh_lives(lives),
        {"horizon": horizon},
        ["normal", "constant"],
    )
    return {
        condition: of_condition.per_update["episode_return"][:, -1].round(2).tolist()
        for condition, of_condition in evaluation.conditions.items()
    }


def target(file: ResultsFile, task: str, extent: Extent) -> float | None:
    """The return that is as good as TDCA's; None before it is known."""
    returns = [episode_returns(cell) for cell in _cells(file, networks(task, extent))]
    if not returns:
        return None
    start, *_, end = np.mean(returns, axis=0)
    return round(float(end - _FORGIVEN * (end - start)), 1)


def episode_returns(cell: Cell, condition: str = "normal") -> list[float]:
    """Of a network's lives by update, mean over lives."""
    returns: list[float] = cell["conditions"][condition]["episode_return"]["mean"]
    return returns


# ---------------------------------------------------------------------- the table


def render(file: ResultsFile, extent: Extent) -> str:
    """The table in Markdown, with what made it."""
    header = [
        "first",
        "after a life",
        "with more",
        "steps until as good",
        "meta-training, steps",
        "paper",
    ]
    parts: list[str] = []
    used: list[Cell] = []
    for task in TASKS:
        lines, cells = block(file, task, extent)
        if lines:
            parts.append(markdown([task, *header], lines) + "\n")
            walkers = [cell["learning_seconds"] for cell in cells if "learning_seconds" in cell]
            if task == "BipedalWalker" and walkers:
                parts.append(f"{_longer(walkers)} {_farther(file)}\n")
            used += cells
    if not used:
        return "Nothing has been computed yet."
    networks_made = [{"made_by": c["network_made_by"]} for c in used if "network_made_by" in c]
    return "\n".join(
        [
            *parts,
            f"Return of an episode, mean ± standard deviation over {extent.seeds} seeds. Networks "
            f"made by {makers(networks_made)}; the rest by commit "
            f"{', '.join(sorted({cell['made_by']['commit'] for cell in used}))}.",
        ]
    )


def _longer(seconds: Sequence[float]) -> str:
    """How much further the zoo's walker came than those that learned for so long."""
    card = zoo.card(WALKER)
    results = card["results"]

    def last(condition: str) -> str:
        returns = results["conditions"][condition]["episode_return"]
        return f"{returns['mean'][-1]:.1f} ± {returns['std'][-1]:.1f}".replace("-", "−")

    return (
        f"These walkers were meta-trained for {min(seconds):.0f} to {max(seconds):.0f} s. The "
        f"zoo's `{WALKER}`, of one seed, with {card['population_size']} candidates of one life "
        f"each, without annealing, {card['generations']} generations and "
        f"{results['learning_seconds']:,.0f} s on a busy machine, gets to {last('normal')} over "
        f"{results['lives']} lives, and to {last('constant')} with constant credits (commit "
        f"{results['made_by']['commit']}): agents walk, and by a drift that is good for all."
    )


def _farther(file: ResultsFile) -> str:
    """How far the zoo's walker gets where episodes are long."""
    job = walk_job()
    cell = file.find(job.key, job.settings)
    if not cell:
        return ""

    def said(condition: str) -> str:
        returns = np.array(cell[condition])
        mean = spread(returns, factor=1.0, digits=1)
        return f"{mean}, {(returns > _WALKED).mean():.0%} of lives above {_WALKED}".replace(
            "%", " %"
        )

    return (
        f"In episodes of {job.settings['horizon']:,} steps, Gymnasium's own, four times as long "
        f"as any that it has met: {said('normal')}; with constant credits {said('constant')}."
    )


def block(file: ResultsFile, task: str, extent: Extent) -> tuple[list[list[str]], list[Cell]]:
    """The lines of a task and the cells they are made of."""
    lines: list[list[str]] = []
    used: list[Cell] = []
    for variant in _variants(task):
        cells = _cells(file, networks(task, extent, variant))
        lines += network_lines(cells, task, variant, extent) if cells else []
        used += cells
    plain = TASKS[task].plain or task
    enough = target(file, task, extent)
    for index, learner in enumerate(_learners(task)):
        short = file.find_all(life_jobs(file, plain, index, extent))
        long = file.find_all(long_jobs(plain, index, extent))
        if not short:
            continue
        first = spread([cell["scores"][0] for cell in short], factor=1.0, digits=1)
        life, more = (
            with_steps([c["scores"][-1] for c in cells], [c["steps"][-1] for c in cells])
            for cells in (short, long)
        )
        seeds = [cell["settings"]["seed"] for cell in short]
        runs = [[c for c in short + long if c["settings"]["seed"] == seed] for seed in seeds]
        until = needed(runs, enough) if enough is not None else ""
        paper = learner.paper if plain == task else ""
        lines.append([learner.algorithm, first, life, more, until, "none", paper])
        used += short + long
    return lines, used


def network_lines(
    cells: Sequence[Cell], task: str, variant: Variant | None, extent: Extent
) -> list[list[str]]:
    """The lines of a task's top-down networks: with their own credits, and with constant ones."""
    lines = []
    steps = f"{cells[0]['meta_steps'] / 1e6:,.0f} million"
    whose = f"TDCA, {variant.name}" if variant else "TDCA"
    for name, condition, paper in (
        (whose, "normal", "" if variant else TASKS[task].paper),
        (f"{whose}, constant credits", "constant", ""),
    ):
        returns = np.array([episode_returns(cell, condition) for cell in cells])
        steps_lived = [cell["life_steps"] for cell in cells] if condition == "normal" else []
        life = with_steps(returns[:, -1], steps_lived)
        name += "" if len(cells) == extent.seeds else f", {len(cells)} of the seeds"
        lines.append(
            [name, spread(returns[:, 0], factor=1.0, digits=1), life, "", "", steps, paper]
        )
    return lines


def _cells(file: ResultsFile, networks: Sequence[Network]) -> list[Cell]:
    return [cell for cell in (network.find(file) for network in networks) if cell]


def needed(runs: Sequence[Sequence[Cell]], enough: float) -> str:
    """Steps after which learners were first as good as that.

    Args:
        runs: of each seed.
        enough: the return.
    """
    reached = []
    for cells in runs:
        scored = [pair for c in cells for pair in zip(c["steps"][1:], c["scores"][1:], strict=True)]
        reached += sorted(step for step, score in scored if score >= enough)[:1]
    if not reached:
        return f"not within {max(cell['steps'][-1] for cells in runs for cell in cells):,}"
    said = " to ".join(f"{steps:,}" for steps in sorted({min(reached), max(reached)}))
    return said if len(reached) == len(runs) else f"{said} ({len(reached)} of {len(runs)})"


def with_steps(returns: Values, steps: Sequence[float]) -> str:
    """Returns and, in brackets, after how many environment steps, as far as there are any."""
    said = spread(returns, factor=1.0, digits=1) if len(returns) else ""
    return f"{said} ({np.mean(steps):,.0f})" if steps else said


if __name__ == "__main__":
    sys.exit(main())
