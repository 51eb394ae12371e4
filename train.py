#!/usr/bin/env python
"""Train bottom-up networks by credits: meta-train a top-down network, or run a known rule."""

import argparse
import ast
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import gymnasium
import torch
from rich.console import Console
from rich.table import Column, Table
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure as LoggedFigure
from stable_baselines3.common.logger import configure

import credit_envs
from agents import CreditPolicy
from agents.rules import RulePolicy
from credit_envs.checks import nearest
from credit_envs.datasets import CorruptDataError
from meta.baselines import image_split, spaces
from meta.command_line import DONE, FAILED, INTERRUPTED, MISUSED, Parser, natural, positive
from meta.figures import outer_loop
from meta.pgpe import PGPE
from meta.recipes import AGENTS, CONTROL, IMAGES, RECIPES, SURFACES, Agent, Recipe
from meta.report import OwnSubsets, Report, control_report, image_report, joined, surface_report
from meta.runs import Checkpoint, Run
from meta.tuning import Split
from meta.workers import WorkerError

EXAMPLES = """\
examples:
  python train.py --agent tdca-rnn
      evolve a recurrent top-down network until CartPole agents learn within five episodes
  python train.py --agent tdca-mlp
      the same for image classifiers (MNIST), with the tuned baselines beside it
  python train.py --agent tdca-rnn --env CreditAssign-ReversedCartPole-v0 --seed 1
  python train.py --agent tdca-mlp --env CreditAssign-MNIST-v0 CreditAssign-FashionMNIST-v0
      one network for both
  python train.py --agent dfa --env CreditAssign-Digits-v0
  python train.py --agent tdca-mlp --env-kwargs num_samples=500 hidden_sizes=(50,)
  python train.py --resume runs/tdca-rnn_CreditAssign-CartPole-v0_seed0_20260131-120000
  tensorboard --logdir runs

exit codes: 0 done, 1 failed, 2 misuse, 130 interrupted after a checkpoint
"""

console = Console()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    torch.set_num_threads(1)
    arguments = parse_arguments(argv)
    try:
        if arguments.list:
            list_agents()
            return DONE
        run = Run.open(arguments.resume) if arguments.resume else new_run(arguments)
        agent = AGENTS[run.config["agent"]]
        return evolve(run, arguments) if agent.learns else apply_rule(run)
    except Misuse as misuse:
        print(f"train.py: {misuse}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        print("train.py: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, WorkerError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return FAILED


# ---------------------------------------------------------------------- what was asked for


class Misuse(Exception):
    """Arguments that do not fit; the message names the fix."""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments as given; what was not given is None, so that --resume can tell."""
    parser = Parser("train.py", description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--agent", metavar="AGENT", help=f"who chooses the credits: {', '.join(AGENTS)}")
    add(
        "--env",
        nargs="+",
        metavar="ID",
        help="environment id (default: the agent's own, see --list); several: one network for all",
    )
    add(
        "--env-kwargs",
        nargs="+",
        metavar="K=V",
        help="keyword arguments of the environment, as in its docstring",
    )
    add(
        "--policy-kwargs",
        nargs="+",
        metavar="K=V",
        help="of the top-down network, as in the docstrings of agents.TDCAPolicy and "
        "TDCARNNPolicy: hidden_sizes=(64,64) start=xavier (default: recipe's)",
    )
    add(
        "--pgpe-kwargs",
        nargs="+",
        metavar="K=V",
        help="of the outer loop, as in the docstring of meta.PGPE: population_size=128 "
        "resample_lives=False (default: recipe's)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--generations", type=positive, metavar="N", help="generations of PGPE (default: recipe's)"
    )
    length.add_argument(
        "--timesteps",
        type=positive,
        metavar="N",
        help="the same in updates of bottom-up networks, of all candidates together",
    )
    add("--seed", type=natural, metavar="N", help="of everything drawn (default: 0)")
    add(
        "--workers",
        type=natural,
        metavar="N",
        help="processes; 0: this one alone. Results do not depend on it (default: one per core "
        "where it pays)",
    )
    add("--device", metavar="D", help="cpu or cuda (default: cpu)")
    add("--logdir", type=Path, metavar="DIR", help="where run folders go (default: runs)")
    add(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with the run in this folder, exactly as if it had not stopped",
    )
    add("--list", action="store_true", help="list agents and the environments they fit, and exit")
    arguments = parser.parse_args(argv)
    if arguments.resume:
        given = [name for name in FIXED_BY_RUN if getattr(arguments, name) is not None]
        if given:
            options = ", ".join("--" + name.replace("_", "-") for name in given)
            parser.error(f"--resume takes {options} from the run; leave it out, or start a new run")
    elif not arguments.list and arguments.agent is None:
        parser.error("say who chooses the credits, as in --agent tdca-rnn; --list shows all")
    return arguments


FIXED_BY_RUN = (
    "agent",
    "env",
    "env_kwargs",
    "policy_kwargs",
    "pgpe_kwargs",
    "generations",
    "timesteps",
    "seed",
    "device",
    "logdir",
)


GIVEN = (
    "policy",
    "env",
    "observation_space",
    "action_space",
    "env_kwargs",
    "policy_kwargs",
    "n_workers",
    "seed",
    "device",
    "tensorboard_log",
    "verbose",
    "_init_setup_model",
)
"""Arguments that have an option of their own, or none."""


def new_run(arguments: argparse.Namespace) -> Run:
    """A run folder for these arguments, once they have been found to fit each other."""
    if arguments.agent not in AGENTS:
        hint = nearest(arguments.agent, AGENTS)
        raise Misuse(f"unknown agent {arguments.agent!r}{hint} --list shows all")
    agent = AGENTS[arguments.agent]
    env_ids = arguments.env or [agent.default_env]
    for env_id in env_ids:
        if env_id not in agent.envs:
            raise Misuse(refusal(arguments.agent, env_id))
    if len(set(env_ids)) < len(env_ids):
        raise Misuse(f"--env names an environment more than once: {', '.join(env_ids)}")
    if len(env_ids) > 1 and not agent.learns:
        raise Misuse(f"{arguments.agent} has nothing to learn from several environments; name one")
    env_kwargs = keywords("--env-kwargs", arguments.env_kwargs)
    if arguments.device:
        env_kwargs["device"] = arguments.device
    for env_id in env_ids:
        check_environment(env_id, env_kwargs)
    policy_kwargs = keywords("--policy-kwargs", arguments.policy_kwargs)
    pgpe_kwargs = keywords("--pgpe-kwargs", arguments.pgpe_kwargs)
    check_learner(agent, env_ids[0], env_kwargs, policy_kwargs, pgpe_kwargs)
    config = {
        "agent": arguments.agent,
        "env": "+".join(env_ids),
        "env_kwargs": env_kwargs,
        "policy_kwargs": policy_kwargs,
        "pgpe_kwargs": pgpe_kwargs,
        "generations": arguments.generations,
        "timesteps": arguments.timesteps,
        "seed": arguments.seed or 0,
        "version": credit_envs.__version__,
    }
    return Run.create(arguments.logdir or Path("runs"), config)


def refusal(agent: str, env_id: str) -> str:
    """Why this agent cannot go there, and what would fit."""
    if env_id not in credit_envs.environment_ids():
        known = credit_envs.environment_ids()
        return f"unknown environment {env_id!r}{nearest(env_id, known)} --list shows all"
    fitting = [name for name, other in AGENTS.items() if env_id in other.envs]
    advice = f"there use --agent {' or '.join(fitting)}" if fitting else "use it from Python"
    return f"{agent} does not fit {env_id}; {advice}; {agent} fits {', '.join(AGENTS[agent].envs)}"


def keywords(option: str, texts: Sequence[str] | None) -> dict[str, Any]:
    """`name=value` pairs with values as Python writes them, or words."""
    pairs: dict[str, Any] = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not separator or not name.isidentifier():
            raise Misuse(f"{option} takes name=value, as in num_samples=500, not {text!r}")
        try:
            pairs[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            pairs[name] = value
    return pairs


def check_environment(env_id: str, env_kwargs: Mapping[str, Any]) -> None:
    """Make the environment once, to refuse bad arguments before anything is written."""
    try:
        gymnasium.make(env_id, disable_env_checker=True, **env_kwargs)
    except CorruptDataError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise Misuse(f"--env-kwargs: {error}") from error


def check_learner(
    agent: Agent,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    policy_kwargs: Mapping[str, Any],
    pgpe_kwargs: Mapping[str, Any],
) -> None:
    """Refuse arguments of policy and outer loop before anything is written."""
    chosen = {"--policy-kwargs": policy_kwargs, "--pgpe-kwargs": pgpe_kwargs}
    if not agent.learns:
        for option in (option for option, kwargs in chosen.items() if kwargs):
            raise Misuse(f"{option} is for agents that learn; leave it out")
        rule_policy(agent, env_id, env_kwargs)
        return
    known = {"--policy-kwargs": agent.policy_class, "--pgpe-kwargs": PGPE}
    for option, kwargs in chosen.items():
        names = [name for name in signature(known[option]).parameters if name not in GIVEN]
        for name in kwargs:
            if name not in names:
                raise Misuse(f"{option}: there is no {name!r}{nearest(name, names)}")
    try:
        agent.policy_class(*spaces(env_id, env_kwargs), **policy_kwargs)
        PGPE(agent.policy_class, env_id, _init_setup_model=False, **pgpe_kwargs)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise Misuse(str(error)) from error


# ---------------------------------------------------------------------- learning


def evolve(run: Run, arguments: argparse.Namespace) -> int:
    """Meta-train a top-down network and report what it has learned."""
    recipe = RECIPES[environments(run)[0]]
    workers = arguments.workers
    if workers is None:
        workers = os.cpu_count() or 1 if recipe.all_cores else 0
    make = load_model if run.checkpoint.exists() else make_model
    model = make(run, recipe, workers)
    total = total_timesteps(run, recipe, model)
    console.print(f"run folder: {run.folder}", soft_wrap=True)
    logger = configure(str(run.folder / "tensorboard"), ["tensorboard"])
    model.set_logger(logger)

    if model.num_timesteps < total:
        checkpoint, interruption = Checkpoint(run.checkpoint), Interruption()
        model.learn(
            total - model.num_timesteps,
            callback=[checkpoint, interruption],
            reset_num_timesteps=False,
            progress_bar=True,
        )
        if interruption.came:
            print(
                f"train.py: interrupted after generation {model.generation}; "
                f"go on with: python train.py --resume {run.folder}",
                file=sys.stderr,
            )
            return INTERRUPTED
    report = report_on(model, run, recipe)
    conclude(run, report, {"outer_loop.png": outer_loop(model.history)}, model)
    return DONE


def make_model(run: Run, recipe: Recipe, workers: int) -> PGPE:
    """PGPE as the recipe has it, for what was asked for."""
    model = PGPE(
        AGENTS[run.config["agent"]].policy_class,  # type: ignore[arg-type]
        environments(run),
        env_kwargs=[meta_kwargs(run, recipe, env_id) for env_id in environments(run)],
        policy_kwargs={**recipe.policy_kwargs, **run.config["policy_kwargs"]},
        n_workers=workers,
        seed=run.config["seed"],
        device=run.config["env_kwargs"].get("device", "cpu"),
        **{**recipe.pgpe_kwargs, **run.config["pgpe_kwargs"]},
    )
    if recipe.anneal and "anneal_over" not in run.config["pgpe_kwargs"]:
        total = total_timesteps(run, recipe, model)
        model.anneal_over = -(-total // model.timesteps_per_generation)
    return model


def total_timesteps(run: Run, recipe: Recipe, model: PGPE) -> int:
    """How long to learn: as asked for, or as the recipe has it."""
    generations: int = run.config["generations"] or recipe.generations
    timesteps: int = run.config["timesteps"] or generations * model.timesteps_per_generation
    return timesteps


def load_model(run: Run, recipe: Recipe, workers: int) -> PGPE:
    """The run's latest checkpoint."""
    device = run.config["env_kwargs"].get("device", "cpu")
    model = PGPE.load(run.checkpoint, device=device, n_workers=workers)
    if list(model.env_ids) != environments(run):
        raise ValueError(
            f"{run.checkpoint} is a checkpoint of {'+'.join(model.env_ids)}, the run is in "
            f"{run.config['env']}; put the right model.zip back, or start a new run"
        )
    return model


def environments(run: Run) -> list[str]:
    """Ids of the run's environments."""
    ids: list[str] = run.config["env"].split("+")
    return ids


def meta_kwargs(run: Run, recipe: Recipe, env_id: str) -> dict[str, Any]:
    """Environment arguments in meta-training: the recipe's, but the user's word counts."""
    kwargs = {**recipe.scored_kwargs, **recipe.meta_kwargs, **run.config["env_kwargs"]}
    if env_id in IMAGES:
        kwargs |= {"train_range": split(run, recipe, env_id).meta_range, "evaluate_test": False}
    return kwargs


def split(run: Run, recipe: Recipe, env_id: str) -> Split:
    """Which images the outer loop draws from, and which are kept fresh."""
    return image_split(env_id, scored_kwargs(run, recipe))


def scored_kwargs(run: Run, recipe: Recipe) -> dict[str, Any]:
    """Environment arguments in scoring."""
    return {**recipe.scored_kwargs, **run.config["env_kwargs"]}


class Interruption(BaseCallback):
    """Ends learning after the generation in which Ctrl-C is pressed; a second time, at once."""

    came = False

    def _on_training_start(self) -> None:
        self._former = signal.signal(signal.SIGINT, self._note)

    def _note(self, *_: Any) -> None:
        self.came = True
        signal.signal(signal.SIGINT, self._former)
        print("\ntrain.py: stopping after this generation (again: at once)", file=sys.stderr)

    def _on_step(self) -> bool:
        return not self.came

    def _on_training_end(self) -> None:
        signal.signal(signal.SIGINT, self._former)


def rule_policy(agent: Agent, env_id: str, env_kwargs: Mapping[str, Any]) -> CreditPolicy:
    """A known rule for this environment."""
    scale = env_kwargs.get("credit_scale", 10.0)
    assert issubclass(agent.policy_class, RulePolicy)
    try:
        return agent.policy_class(*spaces(env_id, env_kwargs), credit_scale=scale)
    except ValueError as error:
        raise Misuse(str(error)) from error


def apply_rule(run: Run) -> int:
    """Let a known rule train networks, at its best learning rate."""
    agent, env_id = AGENTS[run.config["agent"]], run.config["env"]
    recipe = Recipe(generations=0)
    kwargs = dict(run.config["env_kwargs"])
    kwargs.setdefault("init", agent.init)
    policy = rule_policy(agent, env_id, kwargs)
    with console.status("") as status:
        report = image_report(
            policy,
            run.config["agent"],
            env_id,
            kwargs,
            split(run, recipe, env_id),
            meta_trained=False,
            on_step=status.update,
        )
    conclude(run, report, {}, None)
    return DONE


# ---------------------------------------------------------------------- results


def report_on(model: PGPE, run: Run, recipe: Recipe) -> Report:
    """What the evolved network does on lives and images it has never met."""
    with console.status("evaluating on fresh lives") as status:
        reports = {
            env_id: report_in(env_id, model, run, recipe, status.update)
            for env_id in environments(run)
        }
    return next(iter(reports.values())) if len(reports) == 1 else joined(reports)


def report_in(
    env_id: str, model: PGPE, run: Run, recipe: Recipe, on_step: Callable[[str], None]
) -> Report:
    """The report of one environment."""
    kwargs = scored_kwargs(run, recipe)
    if env_id in CONTROL:
        return control_report(model.policy, env_id, kwargs)
    if env_id in SURFACES:
        return surface_report(model.policy, env_id)
    own = None
    if not model.resample_lives:
        own = OwnSubsets(meta_kwargs(run, recipe, env_id), model.life_seeds)
    return image_report(
        model.policy,
        "TDCA",
        env_id,
        kwargs,
        split(run, recipe, env_id),
        meta_trained=True,
        on_step=on_step,
        own=own,
    )


def conclude(run: Run, report: Report, figures: Mapping[str, Any], model: PGPE | None) -> None:
    """Print the table; keep numbers and figures, in TensorBoard too."""
    run.figures.mkdir(exist_ok=True)
    for name, figure in {**report.figures, **figures}.items():
        figure.savefig(run.figures / name, dpi=120)
        if model is not None:
            model.logger.record(f"figures/{Path(name).stem}", LoggedFigure(figure, close=False))
    if model is not None:
        model.logger.dump(model.num_timesteps)
        model.logger.close()
    learned = {"learning_seconds": round(model.seconds, 1)} if model is not None else {}
    results = run.write_results({**report.results, **learned})
    console.print(report.table)
    for line in (
        f"results: {results}",
        f"figures: {run.figures}",
        f"TensorBoard: tensorboard --logdir {run.folder.parent}",
    ):
        console.print(line, soft_wrap=True)


def list_agents() -> None:
    """Agents and the environments they fit."""
    table = Table("agent", "what it is", Column("environments (default first)", no_wrap=True))
    for name, agent in AGENTS.items():
        others = [env for env in agent.envs if env != agent.default_env]
        table.add_row(name, agent.summary, "\n".join([agent.default_env, *others]))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
