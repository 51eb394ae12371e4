"""Top-down networks, of control above all, meta-trained by `train.py` as its recipes have it.

Each comes from a run of its own, whose folder stays. A run that is there is not run again, and one
that was interrupted goes on.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium
import torch

from agents import CreditPolicy
from benchmarks.common.figures import rounded
from benchmarks.common.results import Cell, ResultsFile
from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks import ControlTask
from meta.pgpe import PGPE
from meta.recipes import CONTROL, RECIPES, Recipe
from meta.report import fresh_lives
from meta.runs import Run

FILE = "control"
"""Results file of all that is said about control."""
LOGDIR = Path("runs/control")
TRAIN = Path(__file__).parents[2] / "train.py"
_LIVES = 64


@dataclass(frozen=True)
class Variant:
    """A departure from the recipe, as options of `train.py`.

    Attributes:
        name: in tables.
        generations: how long.
        policy_kwargs: of the top-down network.
        env_kwargs: of the environment, in meta-training and scoring.
        learner_kwargs: of the outer loop.
    """

    name: str
    generations: int
    policy_kwargs: Mapping[str, Any] = field(default_factory=dict)
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    learner_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> list[str]:
        """For the command line."""
        options = []
        for name in ("policy_kwargs", "env_kwargs", "learner_kwargs"):
            pairs = [f"{key}={value}" for key, value in getattr(self, name).items()]
            options += ["--" + name.replace("_", "-"), *pairs] if pairs else []
        return options


@dataclass(frozen=True)
class Network:
    """A network of the outer loop.

    Attributes:
        env_id: of the environment it is meta-trained in.
        seed: of the outer loop.
        generations: how long; None: as the recipe has it, or the variant.
        variant: of the recipe; None: the recipe itself.
    """

    env_id: str
    seed: int
    generations: int | None = None
    variant: Variant | None = None

    @property
    def agent(self) -> str:
        """For the command line."""
        return "tdca-rnn" if self.env_id in CONTROL else "tdca-mlp"

    @property
    def key(self) -> str:
        """Its place among the results."""
        name = f", {self.variant.name}" if self.variant else ""
        return f"{self.env_id}, TDCA{name}, seed {self.seed}"

    @property
    def env_kwargs(self) -> Mapping[str, Any]:
        """Of the environment in scoring."""
        changes = self.variant.env_kwargs if self.variant else {}
        return {**RECIPES[self.env_id].scored_kwargs, **changes}

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that it depends on; of the recipe, what it says."""
        recipe = RECIPES[self.env_id]
        defaults = vars(Recipe(generations=0))
        return {
            "env_id": self.env_id,
            "seed": self.seed,
            "generations": self.generations,
            "recipe": {
                name: value for name, value in vars(recipe).items() if value != defaults[name]
            },
            **({"variant": asdict(self.variant)} if self.variant else {}),
        }

    def learn(self, file: ResultsFile, logdir: Path) -> Cell:
        """Its cell of the results, for which its run is begun or resumed if need be."""
        return file.cell(self.key, self.settings, lambda: summary(self, self.run(logdir)))

    def find(self, file: ResultsFile) -> Cell | None:
        """Its cell, if it has been computed and nothing has changed since."""
        return file.find(self.key, self.settings)

    def run(self, logdir: Path) -> Run:
        """Its finished run, begun or resumed if need be.

        Raises:
            OSError: train.py failed.
        """
        folder = self._folder(logdir)
        if self.finished(logdir) is None:
            begun = list(folder.glob("*/config.json"))
            self._train(["--resume", str(begun[0].parent)] if begun else self._anew(folder))
        run = self.finished(logdir)
        assert run is not None
        return run

    def finished(self, logdir: Path) -> Run | None:
        """Its run, if that is there and has results."""
        results = next(self._folder(logdir).glob("*/results.json"), None)
        return None if results is None else Run.open(results.parent)

    def _anew(self, folder: Path) -> list[str]:
        variant = self.variant
        if self.generations is not None:
            # A run that is cut short has no time for several starts.
            given = variant.learner_kwargs if variant else {}
            variant = replace(
                variant or Variant("", self.generations),
                generations=self.generations,
                learner_kwargs={**given, "starts": 1},
            )
        length = ["--generations", str(variant.generations), *variant.options] if variant else []
        where = ["--env", self.env_id, "--seed", str(self.seed), "--logdir", str(folder)]
        return ["--agent", self.agent, *where, *length]

    def _train(self, options: Sequence[str]) -> None:
        print(f"train.py {' '.join(options)}", flush=True)
        command = [sys.executable, str(TRAIN), *options]
        code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
        if code != 0:
            raise OSError(f"train.py {' '.join(options)} ended with exit code {code}")

    def _folder(self, logdir: Path) -> Path:
        digest = hashlib.sha1(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()
        return logdir / f"{self.env_id}_seed{self.seed}_{digest[:8]}"


@dataclass(frozen=True)
class Life:
    """The size of a life in an environment.

    Attributes:
        episodes: in it.
        horizon: most steps in each.
        reward_scale: of the rewards that the outer loop sees.
    """

    episodes: int
    horizon: int
    reward_scale: float

    @property
    def steps(self) -> int:
        """Most environment steps in it."""
        return self.episodes * self.horizon


def life_of(env_id: str) -> Life:
    """The size of a life, as its recipe has it."""
    env = gymnasium.make_vec(env_id, num_envs=1, **RECIPES[env_id].scored_kwargs)
    assert isinstance(env, CreditAssignVectorEnv)
    assert isinstance(env.task, ControlTask)
    return Life(env.num_updates + 1, env.task.horizon, env.task.reward_scale)


def summary(network: Network, run: Run) -> dict[str, Any]:
    """What a finished run says.

    Returns:
        conditions: mean and standard deviation over fresh lives of each metric by update, under
            the four conditions.
        history: by generation, mean fitness of the candidates, as a return.
        meta_episodes: in meta-training.
        meta_steps: most environment steps in meta-training.
        life_steps: environment steps that a life really has, mean over some of these lives.
        network_made_by: versions, hardware and commit of the run.
    """
    results = json.loads((run.folder / "results.json").read_text())
    model = PGPE.load(run.checkpoint)
    life = life_of(network.env_id)
    episodes = model.num_timesteps // (life.episodes - 1) * life.episodes
    return {
        "lives": results["lives"],
        "conditions": results["conditions"],
        "history": rounded([mean / life.reward_scale for mean, *_ in model.history]),
        "generations_done": model.generation,
        "life_episodes": life.episodes,
        "horizon": life.horizon,
        "meta_episodes": episodes,
        "meta_steps": episodes * life.horizon,
        "life_steps": steps_lived(network, model.policy),
        "learning_seconds": results["learning_seconds"],
        "network_made_by": results["made_by"],
    }


@torch.no_grad()
def steps_lived(network: Network, policy: CreditPolicy) -> float:
    """Environment steps in a life that the network leads, mean over fresh lives."""
    env = gymnasium.make_vec(network.env_id, num_envs=_LIVES, **network.env_kwargs)
    assert isinstance(env, CreditAssignVectorEnv)
    observation = env.reset_tensors(fresh_lives(_LIVES))
    # The last column of an episode's record is 1 for each step there was.
    steps = observation[:, :, -1].sum().item()
    for _ in range(env.num_updates):
        observation = env.step_tensors(policy.act(observation)).observation
        steps += observation[:, :, -1].sum().item()
    return round(steps / _LIVES, 1)
