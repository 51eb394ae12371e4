"""What the command line of `train.py` asks for: parsed, found to fit, and kept with the run."""

import argparse
import ast
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import gymnasium

import credit_envs
from agents import CreditPolicy
from agents.deepagrel import TrialLearner
from agents.rules import RulePolicy
from credit_envs.checks import nearest
from credit_envs.datasets import CorruptDataError
from meta import zoo
from meta.baselines import image_split, spaces
from meta.command_line import Parser, natural, positive
from meta.configuration import fresh_kwargs, new_outer_loop, total_timesteps
from meta.outer_loop import OuterLoop
from meta.pgpe import PGPE, ray_workers
from meta.recipes import (
    AGENTS,
    BANDITS,
    DEFAULT_OUTER,
    IMAGES,
    OUTER_LOOPS,
    Agent,
    Recipe,
    outer_loop,
)
from meta.runs import Run
from meta.trials import Plan

EXAMPLES = """\
examples:
  python train.py --agent tdca-rnn
      evolve a recurrent top-down network until CartPole agents learn within five episodes
  python train.py --agent tdca-mlp
      the same for image classifiers (MNIST), with the tuned baselines beside it
  python train.py --agent tdca-mlp --outer meta-gradient
      by the gradient through the inner loop instead of evolution
  python train.py --agent tdca-rnn --env CreditAssign-ReversedCartPole-v0 --seed 1
  python train.py --agent tdca-mlp --env CreditAssign-MNIST-v0 CreditAssign-FashionMNIST-v0
      one network for both
  python train.py --agent tdca-mlp --ray auto --workers 8 --learner-kwargs chunk_size=8
      the same on a Ray cluster
  python train.py --agent dfa --env CreditAssign-Digits-v0
  python train.py --agent deepagrel
      learn to classify MNIST from reward alone
  python train.py --agent deepagrel --policy CnnPolicy --learner-kwargs learning_rate=1.0
  python train.py --agent tdca-mlp --env-kwargs num_samples=500 hidden_sizes=(50,)
  python train.py --resume runs/tdca-rnn_CreditAssign-CartPole-v0_seed0_20260131-120000
  tensorboard --logdir runs

exit codes: 0 done, 1 failed, 2 misuse, 130 interrupted after a checkpoint
"""


class Misuse(Exception):
    """Arguments that do not fit; the message names the fix."""


def parse_arguments(description: str | None, argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments as given; what was not given is None, so that --resume can tell."""
    parser = Parser("train.py", description=description, epilog=EXAMPLES)
    add = parser.add_argument
    add(
        "--agent",
        metavar="AGENT",
        help=f"who chooses the credits, or learns by its own: {', '.join(AGENTS)}",
    )
    add(
        "--outer",
        choices=list(OUTER_LOOPS),
        help=f"how a top-down network is meta-trained (default: {DEFAULT_OUTER})",
    )
    add(
        "--init-from",
        metavar="RUN|NAME",
        help="top-down network to go on from: a run's folder, or a name of the zoo",
    )
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
        help="keyword arguments of the environment, as in its docstring; Meta-World's starts, as "
        "in starts=validation, are those it is scored in: meta-training has starts=train",
    )
    add(
        "--policy",
        choices=list(TrialLearner.policy_aliases),
        help="network that learns from trials (default: MlpPolicy)",
    )
    add(
        "--policy-kwargs",
        nargs="+",
        metavar="K=V",
        help="of the top-down network, as in the docstrings of agents.TDCAPolicy and "
        "TDCARNNPolicy: hidden_sizes=(64,64) start=xavier (default: recipe's); of the network that "
        "learns from trials, as in that of agents.DeepAGRELPolicy",
    )
    add(
        "--learner-kwargs",
        nargs="+",
        metavar="K=V",
        help="of the outer loop, as in the docstrings of meta.PGPE and meta.MetaGradient: "
        "population_size=128 resample_lives=False (default: recipe's); of what learns from trials, "
        "as in that of agents.deepagrel.TrialLearner: learning_rate=1.0 batch_size=50",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--generations", type=positive, metavar="N", help="of the outer loop (default: recipe's)"
    )
    length.add_argument(
        "--timesteps",
        type=positive,
        metavar="N",
        help="the same in updates of bottom-up networks, of all candidates together",
    )
    length.add_argument(
        "--epochs",
        type=positive,
        metavar="N",
        help=f"of learning from trials, unless held-out accuracy has not risen for {PATIENCE} "
        f"(default: {EPOCHS}; {DIGITS_EPOCHS} for Digits)",
    )
    add(
        "--no-baselines",
        action="store_const",
        const=True,
        help="score image classifiers without the known rules beside them, each of which is tuned: "
        "where lives are long that takes hours",
    )
    add("--seed", type=natural, metavar="N", help="of everything drawn (default: 0)")
    add(
        "--workers",
        type=natural,
        metavar="N",
        help="processes; 0: this one alone. Results do not depend on it (default: one per core "
        "where it pays)",
    )
    add(
        "--ray",
        metavar="auto|ADDRESS",
        help="share the work over a Ray cluster instead, by --workers actors (default: one per CPU "
        "of it); auto: one that is running, or one that is started here",
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
    if arguments.ray is not None:
        try:
            ray_workers()
        except ImportError as error:
            parser.error(f"--ray: {error}")
    if arguments.resume:
        given = [name for name in FIXED_BY_RUN if getattr(arguments, name) is not None]
        if given:
            options = ", ".join("--" + name.replace("_", "-") for name in given)
            parser.error(f"--resume takes {options} from the run; leave it out, or start a new run")
    elif not arguments.list and arguments.agent is None:
        parser.error("say who chooses the credits, as in --agent tdca-rnn; --list shows all")
    return arguments


EPOCHS, DIGITS_EPOCHS, PATIENCE = 20, 60, 20
"""Of learning from trials; Digits are few."""

FIXED_BY_RUN = (
    "agent",
    "outer",
    "init_from",
    "env",
    "env_kwargs",
    "policy",
    "policy_kwargs",
    "learner_kwargs",
    "generations",
    "timesteps",
    "epochs",
    "no_baselines",
    "seed",
    "device",
    "logdir",
)


OF_LEARNING = (
    "policy_kwargs",
    "learner_kwargs",
    "outer",
    "init_from",
    "generations",
    "timesteps",
)
"""Options of what a top-down network learns by."""

SET_BY_SPLIT = ("train_range", "score_on", "evaluate_test")
"""Arguments of image environments that follow from which images serve what."""

GIVEN = (
    "policy",
    "env",
    "observation_space",
    "action_space",
    "env_kwargs",
    "policy_kwargs",
    "n_workers",
    "ray",
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
        raise Misuse(f"unknown agent {arguments.agent!r}; --list shows all{hint}")
    agent = AGENTS[arguments.agent]
    env_ids = arguments.env or [agent.default_env]
    for env_id in env_ids:
        if env_id not in agent.envs:
            raise Misuse(refusal(arguments.agent, env_id))
    if len(set(env_ids)) < len(env_ids):
        raise Misuse(f"--env names an environment more than once: {', '.join(env_ids)}")
    if len(env_ids) > 1 and (not agent.learns or env_ids[0] in BANDITS):
        raise Misuse(f"{arguments.agent} has nothing to learn from several environments; name one")
    config = {
        "agent": arguments.agent,
        "outer": arguments.outer,
        "init_from": arguments.init_from,
        "env": "+".join(env_ids),
        "env_kwargs": keywords("--env-kwargs", arguments.env_kwargs),
        "policy": arguments.policy,
        "policy_kwargs": keywords("--policy-kwargs", arguments.policy_kwargs),
        "learner_kwargs": keywords("--learner-kwargs", arguments.learner_kwargs),
        "generations": arguments.generations,
        "timesteps": arguments.timesteps,
        "epochs": arguments.epochs,
        "baselines": not arguments.no_baselines,
        "seed": arguments.seed or 0,
        "device": arguments.device or "cpu",
        "version": credit_envs.__version__,
    }
    if arguments.no_baselines and not (agent.learns and set(env_ids) <= set(IMAGES)):
        raise Misuse(
            "--no-baselines is for top-down networks that teach image classifiers; leave it out"
        )
    if env_ids[0] in BANDITS:
        check_trials(arguments, config)
    else:
        check_lives(agent, arguments, env_ids, config)
    return Run.create(arguments.logdir or Path("runs"), config)


def refusal(agent: str, env_id: str) -> str:
    """Why this agent cannot go there, and what would fit."""
    if env_id not in credit_envs.environment_ids():
        known = credit_envs.environment_ids()
        return f"unknown environment {env_id!r}; --list shows all{nearest(env_id, known)}"
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
        # As networks live in it: scalar ones take arguments of Gymnasium's wrappers besides.
        gymnasium.make_vec(env_id, num_envs=1, **env_kwargs)
    except CorruptDataError:
        raise
    except (TypeError, ValueError, RuntimeError, MemoryError) as error:
        raise Misuse(f"--env-kwargs: {error}") from error


def check_images(agent: Agent, env_id: str, env_kwargs: Mapping[str, Any]) -> None:
    """Refuse what would be overridden, and subsets that leave no fresh images."""
    for name in SET_BY_SPLIT:
        if name in env_kwargs:
            raise Misuse(
                f"--env-kwargs: {name} is not to be chosen, so that no image both selects and "
                "scores; leave it out"
            )
    if not agent.learns and "learning_rate" in env_kwargs:
        raise Misuse("--env-kwargs: rules run at their best learning_rate; leave it out")
    try:
        image_split(env_id, env_kwargs)
    except ValueError as error:
        raise Misuse(f"--env-kwargs: {error}") from error


def check_lives(
    agent: Agent, arguments: argparse.Namespace, env_ids: Sequence[str], config: dict[str, Any]
) -> None:
    """Refuse what does not fit bottom-up networks that live in environments."""
    for option in ("policy", "epochs"):
        if config[option] is not None:
            raise Misuse(f"--{option} is for learning from trials, in {', '.join(BANDITS)}")
    env_kwargs = config["env_kwargs"]
    if arguments.device:
        env_kwargs["device"] = arguments.device
    for env_id in env_ids:
        check_environment(env_id, env_kwargs)
        if env_id in IMAGES:
            check_images(agent, env_id, env_kwargs)
    if not agent.learns:
        # Every rule is scored in the same lives as what learns.
        for option in (*OF_LEARNING, "seed", "workers", "ray"):
            if getattr(arguments, option) is not None:
                name = option.replace("_", "-")
                raise Misuse(f"--{name} is for agents that learn; leave it out")
        rule_policy(agent, env_ids[0], env_kwargs)
        return
    check_outer_loop(agent, arguments, env_ids, config)


def check_outer_loop(
    agent: Agent, arguments: argparse.Namespace, env_ids: Sequence[str], config: dict[str, Any]
) -> None:
    """Refuse what does not fit the outer loop."""
    if agent.outer is not None and config["outer"] not in (None, agent.outer):
        raise Misuse(
            f"--outer {config['outer']} does not fit {config['agent']}, which takes "
            f"{agent.outer}; leave it out"
        )
    outer = outer_loop(config)
    for env_id in env_ids:
        if env_id not in outer.recipes:
            raise Misuse(
                f"--outer {config['outer']} does not fit {env_id}; it fits "
                f"{', '.join(outer.recipes)}; leave it out for {DEFAULT_OUTER}"
            )
    for option in ("workers", "ray"):
        if getattr(arguments, option) is not None and not outer.shares_work:
            raise Misuse(f"--{option} is for {DEFAULT_OUTER}; {config['outer']} takes one process")
    check_names("--policy-kwargs", config["policy_kwargs"], agent.policy_class)
    check_names("--learner-kwargs", config["learner_kwargs"], outer.loop_class)
    try:
        if config["init_from"]:
            config["met"] = check_former(agent, config)
        model = new_outer_loop(config)
        check_length(model, config, outer.recipes[env_ids[0]])
    except (TypeError, ValueError) as error:
        raise Misuse(str(error)) from error
    except (RuntimeError, MemoryError) as error:
        raise Misuse(f"{error}; if memory is short, ask for smaller sizes") from error
    for env_id in env_ids:
        if env_id in IMAGES:
            check_environment(env_id, fresh_kwargs(config, outer.recipes[env_id], env_id))


def check_former(agent: Agent, config: Mapping[str, Any]) -> dict[str, float]:
    """Refuse a network to go on from that is of another kind, and starts in its place.

    Returns:
        By image environment, the fraction of the training images up to the last that it has met.
    """
    source, starts = config["init_from"], config["learner_kwargs"].get("starts", 1)
    if config["policy_kwargs"]:
        raise Misuse("--policy-kwargs come with the network of --init-from; leave them out")
    if starts != 1:
        raise Misuse(
            f"--learner-kwargs: starts={starts} are random ones, and with --init-from there is one "
            "already; leave it out"
        )
    former = zoo.find(source)
    if type(former.policy) is not agent.policy_class:
        raise Misuse(
            f"--init-from {source} is a {type(former.policy).__name__}, and {config['agent']} goes "
            f"on from a {agent.policy_class.__name__}"
        )
    return {
        env_id: float(kwargs.get("train_range", (0.0, 1.0))[1])
        for env_id, kwargs in former.meta_training.items()
        if env_id in IMAGES
    }


def check_length(model: OuterLoop, config: Mapping[str, Any], recipe: Recipe) -> None:
    """Refuse a run that ends before it goes on from the best of several starts."""
    if not isinstance(model, PGPE):
        return
    generations = -(-total_timesteps(config, recipe, model) // model.timesteps_per_generation)
    if generations < model.fewest_generations:
        raise Misuse(
            f"learning would end after generation {generations}, before it goes on from the best "
            f"of {model.starts} starts: ask for --generations {model.fewest_generations} or more, "
            "or for fewer starts, as in --learner-kwargs starts=1"
        )


def check_trials(arguments: argparse.Namespace, config: Mapping[str, Any]) -> None:
    """Refuse what does not fit a network that learns from trials."""
    for option in ("generations", "timesteps"):
        if config[option] is not None:
            raise Misuse(f"--{option} is for the outer loop; with {config['env']} say --epochs")
    for option in ("outer", "init_from"):
        if config[option] is not None:
            name = option.replace("_", "-")
            raise Misuse(f"--{name} is for top-down networks; with {config['env']} leave it out")
    for option in ("workers", "ray"):
        if getattr(arguments, option) is not None:
            raise Misuse(f"--{option} is for the outer loop; {config['env']} takes one process")
    if "split" in config["env_kwargs"]:
        raise Misuse(
            "--env-kwargs: split is not to be chosen, so that no image both teaches and scores: "
            "networks learn from training images and are scored on test images; leave it out"
        )
    check_environment(config["env"], config["env_kwargs"])
    # Without held-out images there is no stopping point.
    check_environment(config["env"], {**config["env_kwargs"], "split": "validation"})
    check_names("--learner-kwargs", config["learner_kwargs"], TrialLearner)
    try:
        model = trial_plan(config).begin(config["device"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise Misuse(str(error)) from error
    num_images = model.make_env(1).get_attr("num_images")[0]
    if model.batch_size > num_images:
        raise Misuse(
            f"--learner-kwargs: batch_size={model.batch_size} is more than the {num_images} "
            f"training images; make it at most {num_images}"
        )


def check_names(option: str, kwargs: Mapping[str, Any], callable_class: type) -> None:
    """Refuse arguments that there are not."""
    names = [name for name in signature(callable_class).parameters if name not in GIVEN]
    for name in kwargs:
        if name not in names:
            raise Misuse(f"{option}: there is no {name!r}{nearest(name, names)}")


def trial_plan(config: Mapping[str, Any]) -> Plan:
    """How the network of a run learns from trials."""
    rule = AGENTS[config["agent"]].trial_rule
    assert rule is not None
    return Plan(
        rule,
        config["env"],
        config["policy"] or "MlpPolicy",
        epochs=config["epochs"] or (DIGITS_EPOCHS if "Digits" in config["env"] else EPOCHS),
        patience=PATIENCE,
        seed=config["seed"],
        env_kwargs=config["env_kwargs"],
        policy_kwargs=config["policy_kwargs"],
        learner_kwargs=config["learner_kwargs"],
    )


def rule_policy(agent: Agent, env_id: str, env_kwargs: Mapping[str, Any]) -> CreditPolicy:
    """A known rule for this environment."""
    scale = env_kwargs.get("credit_scale", 10.0)
    assert issubclass(agent.policy_class, RulePolicy)
    try:
        return agent.policy_class(*spaces(env_id, env_kwargs), credit_scale=scale)
    except ValueError as error:
        raise Misuse(str(error)) from error
