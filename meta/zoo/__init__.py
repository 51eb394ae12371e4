"""Trained top-down networks that come with the package.

Each is a small file of parameters with a card beside it that says how and on what it was
meta-trained, with which seeds and versions, and what it scores. A new one is made from a finished
run: `python -m meta.zoo RUN NAME`.
"""

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from safetensors.torch import load_file, save

from agents import TopDownPolicy
from credit_envs.checks import nearest
from credit_envs.files import atomic_path
from meta.command_line import DONE, FAILED, Parser
from meta.outer_loop import OuterLoop
from meta.pgpe import PGPE
from meta.recipes import AGENTS, outer_loop
from meta.runs import Run

FOLDER = Path(__file__).parent
_NAME = re.compile(r"\w[\w-]*")
_OF_THE_NETWORK = (
    "architecture",
    "credit",
    "credit_groups",
    "credit_scale",
    "diffusion_sigma",
    "hidden_sizes",
    "init",
    "max_grad_norm",
    "optimizer",
    "weight_decay",
)


def names() -> list[str]:
    """What `load` knows."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def card(name: str) -> dict[str, Any]:
    """How a network was made and what it scores.

    Raises:
        ValueError: there is no such network; the nearest name is suggested.
    """
    if name not in names():
        known = ", ".join(names())
        raise ValueError(
            f"no network {name!r} in the zoo, which has {known}{nearest(name, names())}"
        )
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return content


def digest(name: str) -> str:
    """What tells a network's parameters from others of its name, twelve hexadecimal digits.

    Raises:
        ValueError: there is no such network; the nearest name is suggested.
    """
    card(name)
    return hashlib.sha256((FOLDER / f"{name}.safetensors").read_bytes()).hexdigest()[:12]


def network_kwargs(name: str, env_id: str) -> dict[str, Any]:
    """Environment arguments that make the bottom-up networks a network was meta-trained on.

    What they are, how they start and how credits reach and move them; not the images, the number of
    updates or the learning rate, which a top-down network may meet others of.

    Args:
        name: of the top-down network.
        env_id: of an environment that it was meta-trained in.

    Raises:
        ValueError: there is no such network, or it was not meta-trained there.
    """
    trained = card(name)["meta_training"]
    if env_id not in trained:
        raise ValueError(f"{name} was not meta-trained in {env_id}, but in {', '.join(trained)}")
    return {key: value for key, value in trained[env_id].items() if key in _OF_THE_NETWORK}


def load(name: str) -> TopDownPolicy:
    """A trained top-down network as a policy, ready for `predict` and `evaluate`.

    On classification tasks it serves any number of samples, for it looks at one at a time.

    Raises:
        ValueError: there is no such network; the nearest name is suggested.
    """
    description = card(name)
    observation, action = (
        Box(space["low"], space["high"], tuple(space["shape"]), np.float32)
        for space in (description["observation_space"], description["action_space"])
    )
    policy_class = OuterLoop.policy_aliases[description["policy"]]
    assert issubclass(policy_class, TopDownPolicy)
    policy = policy_class(observation, action, **description["policy_kwargs"])
    policy.load_state_dict(load_file(FOLDER / f"{name}.safetensors"))
    return policy


def add(run: Run, name: str, folder: Path = FOLDER) -> None:
    """Put a finished run's network into the zoo.

    Args:
        run: with a checkpoint and results.
        name: under which it will be known.
        folder: of the zoo.

    Raises:
        ValueError: the run has no results yet or no top-down network, or the name is not a single
            word.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: take letters, digits and hyphens, as in mnist-mlp")
    results = run.folder / "results.json"
    if not results.exists():
        raise ValueError(
            f"{run.folder} has no results yet; finish it with python train.py --resume {run.folder}"
        )
    keep(name, _checkpoint(run), json.loads(results.read_text()), folder)


def keep(name: str, model: OuterLoop, results: Mapping[str, Any], folder: Path = FOLDER) -> None:
    """Put an outer loop's network into the zoo.

    Args:
        name: under which it will be known.
        model: that has trained it.
        results: what it scores, as in a run's `results.json`.
        folder: of the zoo.
    """
    description = {
        "outer_loop": type(model).__name__,
        "policy": type(model.policy).__name__,
        "policy_kwargs": model.policy_kwargs,
        "observation_space": _space(model.observation_space),
        "action_space": _space(model.action_space),
        "parameters": len(model.policy.beta),
        "generations": model.generation,
        **({"population_size": model.population_size} if isinstance(model, PGPE) else {}),
        "meta_training": model.meta_training,
        "results": results,
    }
    with atomic_path(folder / f"{name}.safetensors") as unfinished:
        # `save_file` would make a file that only its owner may read.
        unfinished.write_bytes(save(model.policy.state_dict()))
    with atomic_path(folder / f"{name}.json") as unfinished:
        unfinished.write_text(json.dumps(description, indent=2) + "\n")


@dataclass(frozen=True)
class Found:
    """A trained network.

    Attributes:
        policy: ready for `predict` and `evaluate`.
        policy_kwargs: with which it was made.
        meta_training: keyword arguments with which networks were trained, by environment id.
    """

    policy: TopDownPolicy
    policy_kwargs: Mapping[str, Any]
    meta_training: Mapping[str, Mapping[str, Any]]

    def give_to(self, policy: TopDownPolicy) -> None:
        """Copy the parameters to a policy that goes on from them.

        Raises:
            ValueError: the policy has others.
        """
        try:
            policy.load_state_dict(self.policy.state_dict())
        except RuntimeError as error:
            raise ValueError(
                "the network to go on from was made for other observations or credits: name one "
                f"of the same environment ({str(error).splitlines()[-1].strip()})"
            ) from error


def find(source: str) -> Found:
    """The network of a run, by its folder, or of the zoo, by its name.

    Raises:
        ValueError: there is none, or the run is one of an agent without top-down network.
    """
    if (Path(source) / "config.json").exists():
        model = _checkpoint(Run.open(Path(source)))
        return Found(model.policy, model.policy_kwargs, model.meta_training)
    description = card(source)
    return Found(load(source), description["policy_kwargs"], description["meta_training"])


def _checkpoint(run: Run) -> OuterLoop:
    """A run's latest checkpoint.

    Raises:
        ValueError: what it holds is no top-down network.
    """
    name = run.config["agent"]
    if not AGENTS[name].learns:
        learners = ", ".join(other for other, agent in AGENTS.items() if agent.learns)
        raise ValueError(
            f"{run.folder} is a run of {name} in {run.config['env']}, which has no top-down "
            f"network; name a run of {learners}"
        )
    return outer_loop(run.config).loop_class.load(run.checkpoint)


def _space(space: Any) -> dict[str, Any]:
    """A Box whose bounds are the same everywhere."""
    low, high = float(space.low.min()), float(space.high.max())
    return {"low": low, "high": high, "shape": list(space.shape)}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(
        "zoo", prog="python -m meta.zoo", description="Put a finished run's network into the zoo."
    )
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("name", help="under which it will be known")
    arguments = parser.parse_args(argv)
    try:
        add(Run.open(arguments.run), arguments.name)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"zoo: {error}\n")
        return FAILED
    return DONE
