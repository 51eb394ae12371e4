#!/usr/bin/env python
"""Train bottom-up networks by credits: meta-train a top-down network, or run a known rule."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from errno import ENOSPC
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure as LoggedFigure
from stable_baselines3.common.logger import configure

from credit_envs.files import atomic_path
from credit_envs.memory import keep_freed_memory
from credit_envs.workers import WorkerError
from meta import trials
from meta.arguments import (
    Misuse,
    new_run,
    parse_arguments,
    rule_policy,
    trial_plan,
)
from meta.command_line import DONE, FAILED, INTERRUPTED, MISUSED
from meta.configuration import (
    environments,
    fewer_samples,
    new_outer_loop,
    scored_kwargs,
    split,
    total_timesteps,
)
from meta.figures import outer_loop as outer_loop_figure
from meta.outer_loop import OuterLoop
from meta.recipes import (
    AGENTS,
    BANDITS,
    CONTROL,
    SURFACES,
    Outer,
    Recipe,
    outer_loop,
)
from meta.report import (
    OwnSubsets,
    Report,
    control_report,
    image_report,
    joined,
    surface_report,
    trial_report,
)
from meta.runs import Checkpoint, Run

console = Console()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    torch.set_num_threads(1)
    keep_freed_memory()
    arguments = parse_arguments(__doc__, argv)
    try:
        if arguments.list:
            list_agents()
            return DONE
        run = Run.open(arguments.resume) if arguments.resume else new_run(arguments)
        if run.config["env"] in BANDITS:
            return learn_from_trials(run)
        agent = AGENTS[run.config["agent"]]
        return evolve(run, arguments) if agent.learns else apply_rule(run)
    except Misuse as misuse:
        print(f"train.py: {misuse}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        print("train.py: interrupted", file=sys.stderr)
        return INTERRUPTED
    except MemoryError as error:
        print(f"train.py: {error}; ask for smaller sizes", file=sys.stderr)
        return FAILED
    except (ValueError, OSError, FloatingPointError, WorkerError) as error:
        print(f"train.py: {error}{_fix(error)}", file=sys.stderr)
        return FAILED


def _fix(error: Exception) -> str:
    """What to do about an error that does not say so: that of TensorBoard on a full disk."""
    if isinstance(error, OSError) and error.errno == ENOSPC:
        return "; free space, and go on with --resume and the run folder"
    return ""


# ---------------------------------------------------------------------- learning


def evolve(run: Run, arguments: argparse.Namespace) -> int:
    """Meta-train a top-down network and report what it has learned."""
    outer = outer_loop(run.config)
    recipe = outer.recipes[environments(run.config)[0]]
    given: dict[str, Any] = {}
    if outer.shares_work:
        workers = number_of_workers(arguments, recipe, run.config["device"])
        given = {"n_workers": workers, "ray": arguments.ray}
    make = load_model if run.checkpoint.exists() else make_model
    model = make(run, outer, recipe, given)
    for line in fewer_samples(run.config):
        console.print(line, soft_wrap=True)
    total = total_timesteps(run.config, recipe, model)
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
    report = report_on(model, run, outer)
    learned = {"learning_seconds": round(model.seconds, 1)}
    conclude(run, report, {"outer_loop.png": outer_loop_figure(model.history)}, model, learned)
    return DONE


def number_of_workers(arguments: argparse.Namespace, recipe: Recipe, device: str) -> int:
    """As asked for, or as pays; on Ray 0 is all that the cluster has."""
    if arguments.workers is not None or arguments.ray is not None:
        return arguments.workers or 0
    # On a GPU the whole population is one chunk.
    pays = recipe.all_cores and torch.device(device).type == "cpu"
    return os.cpu_count() or 1 if pays else 0


def make_model(run: Run, outer: Outer, recipe: Recipe, given: Mapping[str, Any]) -> OuterLoop:
    """The outer loop as the recipe has it, for what was asked for."""
    model = new_outer_loop(run.config, **given)
    if recipe.anneal and "anneal_over" not in run.config["learner_kwargs"]:
        total = total_timesteps(run.config, recipe, model)
        model.anneal_over = -(-total // model.timesteps_per_generation)
    return model


def load_model(run: Run, outer: Outer, recipe: Recipe, given: Mapping[str, Any]) -> OuterLoop:
    """The run's latest checkpoint."""
    device = run.config["env_kwargs"].get("device", "cpu")
    model = outer.loop_class.load(run.checkpoint, device=device, **given)
    if list(model.env_ids) != environments(run.config):
        raise ValueError(
            f"{run.checkpoint} is a checkpoint of {'+'.join(model.env_ids)}, the run is in "
            f"{run.config['env']}; put the right model.zip back, or start a new run"
        )
    return model


class Interruption(BaseCallback):
    """Ends learning after the step in which Ctrl-C is pressed; a second time, at once."""

    came = False

    def _on_training_start(self) -> None:
        self._former = signal.signal(signal.SIGINT, self._note)

    def _note(self, *_: Any) -> None:
        self.came = True
        signal.signal(signal.SIGINT, self._former)
        print("\ntrain.py: stopping after a checkpoint (again: at once)", file=sys.stderr)

    def _on_step(self) -> bool:
        return not self.came

    def _on_training_end(self) -> None:
        signal.signal(signal.SIGINT, self._former)


def learn_from_trials(run: Run) -> int:
    """Let a network learn from trials, epoch by epoch, and report how it answers."""
    plan, device = trial_plan(run.config), run.config["device"]
    is_begun = run.checkpoint.exists()
    model = plan.go_on(run.checkpoint, device) if is_begun else plan.begin(device)
    console.print(f"run folder: {run.folder}", soft_wrap=True)
    model.set_logger(configure(str(run.folder / "tensorboard"), ["tensorboard"]))
    interruption = Interruption()
    trials.learn(model, plan, run.checkpoint, [interruption], progress_bar=True)
    if interruption.came:
        print(
            f"train.py: interrupted after {model.num_timesteps} trials; "
            f"go on with: python train.py --resume {run.folder}",
            file=sys.stderr,
        )
        return INTERRUPTED
    conclude(run, trial_report(model, run.config["agent"], plan.env_id), {}, model)
    return DONE


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
            split(run.config, recipe, env_id),
            meta_trained=False,
            on_step=status.update,
        )
    conclude(run, report, {})
    return DONE


# ---------------------------------------------------------------------- results


def report_on(model: OuterLoop, run: Run, outer: Outer) -> Report:
    """What the meta-trained network does on lives and images it has never met."""
    with console.status("evaluating on fresh lives") as status:
        reports = {
            env_id: report_in(env_id, model, run, outer.recipes[env_id], status.update)
            for env_id in environments(run.config)
        }
    return next(iter(reports.values())) if len(reports) == 1 else joined(reports)


def report_in(
    env_id: str, model: OuterLoop, run: Run, recipe: Recipe, on_step: Callable[[str], None]
) -> Report:
    """The report of one environment."""
    kwargs = scored_kwargs(run.config, recipe)
    if env_id in CONTROL:
        return control_report(model.policy, env_id, kwargs, recipe.num_lives)
    if env_id in SURFACES:
        return surface_report(model.policy, env_id, kwargs)
    own = None
    if not model.resample_lives:
        own = OwnSubsets(model.meta_training[env_id], model.life_seeds)
    return image_report(
        model.policy,
        "TDCA",
        env_id,
        kwargs,
        split(run.config, recipe, env_id),
        meta_trained=True,
        on_step=on_step,
        own=own,
        # The recipe's arguments suit the top-down network. Runs of earlier versions do not say.
        baseline_kwargs=run.config["env_kwargs"] if run.config.get("baselines", True) else None,
    )


def conclude(
    run: Run,
    report: Report,
    figures: Mapping[str, Any],
    model: BaseAlgorithm | None = None,
    learned: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Print the table; keep numbers and figures, in TensorBoard too."""
    for name, figure in {**report.figures, **figures}.items():
        with atomic_path(run.figures / name) as unfinished:
            figure.savefig(unfinished, dpi=120)
        if model is not None:
            model.logger.record(f"figures/{Path(name).stem}", LoggedFigure(figure, close=False))
    if model is not None:
        model.logger.dump(model.num_timesteps)
        model.logger.close()
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
