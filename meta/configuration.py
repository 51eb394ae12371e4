"""What a run's configuration amounts to: environments, which images serve what, the outer loop."""

from collections.abc import Mapping
from typing import Any

from credit_envs.tasks.classification import TrainingSettings
from meta import zoo
from meta.baselines import image_split, image_task
from meta.meta_gradient import MetaGradient
from meta.outer_loop import OuterLoop
from meta.pgpe import PGPE
from meta.recipes import AGENTS, IMAGES, Recipe, outer_loop
from meta.tuning import Split

Config = Mapping[str, Any]
"""What was asked for, as in a run's `config.json`."""


def environments(config: Config) -> list[str]:
    """Ids of the run's environments."""
    ids: list[str] = config["env"].split("+")
    return ids


def scored_kwargs(config: Config, recipe: Recipe) -> dict[str, Any]:
    """Environment arguments in scoring."""
    return {**recipe.scored_kwargs, **config["env_kwargs"]}


def split(config: Config, recipe: Recipe, env_id: str) -> Split:
    """Which images the outer loop draws from, and which are kept fresh.

    Raises:
        ValueError: too few are left to be fresh.
    """
    # What the network of --init-from has met is fresh no more. Runs of earlier versions do not say.
    met = config.get("met", {}).get(env_id, 0.0)
    return image_split(env_id, scored_kwargs(config, recipe), met)


def meta_kwargs(config: Config, recipe: Recipe, env_id: str) -> dict[str, Any]:
    """Environment arguments in meta-training, with its share of the images.

    Raises:
        ValueError: too few images are left to be fresh.
    """
    kwargs = recipe.env_kwargs(config["env_kwargs"])
    if env_id in IMAGES:
        kwargs |= {
            "train_range": split(config, recipe, env_id).meta_range,
            "evaluate_test": False,
        }
        if "num_samples" not in config["env_kwargs"] and "num_samples" in kwargs:
            kwargs["num_samples"] = min(kwargs["num_samples"], _room(env_id, kwargs))
    return kwargs


def _room(env_id: str, kwargs: Mapping[str, Any]) -> int:
    """Images that a life can train on beside those it holds out; at least one."""
    total = len(image_task(env_id, {**kwargs, "num_samples": 1}).dataset.x_train)
    first, last = (round(fraction * total) for fraction in kwargs["train_range"])
    holds_out = kwargs.get("loss_on") == "held-out"
    held_out = kwargs.get("num_held_out", TrainingSettings.num_held_out) if holds_out else 0
    room: int = last - first - held_out
    return max(room, 1)


def fewer_samples(config: Config) -> list[str]:
    """A sentence for each environment whose data are too few for the lives of the recipe."""
    sentences = []
    for env_id, recipe in _recipes(config).items():
        wanted = recipe.env_kwargs(config["env_kwargs"]).get("num_samples")
        had = meta_kwargs(config, recipe, env_id).get("num_samples")
        if wanted != had:
            sentences.append(f"{env_id}: lives of {had} images, for there are none for {wanted}")
    return sentences


def fresh_kwargs(config: Config, recipe: Recipe, env_id: str) -> dict[str, Any]:
    """Arguments of an image environment in scoring on fresh subsets.

    Raises:
        ValueError: too few images are left to be fresh.
    """
    images = split(config, recipe, env_id).fresh_range
    return {**scored_kwargs(config, recipe), "train_range": images}


def new_outer_loop(config: Config, **given: Any) -> PGPE | MetaGradient:
    """The outer loop at its beginning, or at the network of `--init-from`.

    Args:
        config: of the run.
        given: further arguments of the outer loop.

    Raises:
        ValueError: arguments that do not fit.
    """
    former = zoo.find(config["init_from"]) if config.get("init_from") else None
    recipes = _recipes(config)
    recipe = next(iter(recipes.values()))
    learner_kwargs = dict(recipe.learner_kwargs)
    if former is not None:
        # The others would be random.
        learner_kwargs.pop("starts", None)
    model = outer_loop(config).loop_class(
        AGENTS[config["agent"]].policy_class,  # type: ignore[arg-type]
        list(recipes),
        [meta_kwargs(config, recipe, env_id) for env_id, recipe in recipes.items()],
        {**(former or recipe).policy_kwargs, **config["policy_kwargs"]},
        seed=config["seed"],
        device=config["env_kwargs"].get("device", "cpu"),
        **{**learner_kwargs, **config["learner_kwargs"], **given},
    )
    if former is not None:
        former.give_to(model.policy)
    return model


def total_timesteps(config: Config, recipe: Recipe, model: OuterLoop) -> int:
    """How long a run learns: as asked for, or as the recipe has it."""
    generations: int = config["generations"] or recipe.generations
    timesteps: int = config["timesteps"] or generations * model.timesteps_per_generation
    return timesteps


def _recipes(config: Config) -> dict[str, Recipe]:
    """By environment."""
    recipes = outer_loop(config).recipes
    return {env_id: recipes[env_id] for env_id in environments(config)}
