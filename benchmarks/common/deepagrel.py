"""The networks of the DeepAGREL paper and how each is trained; what its table and figure share.

A network learns until the accuracy on 1,000 held-out training images has not risen for 20 epochs;
its best weights count. First weights are the paper's, or larger ones. DeepAGREL learns at the
paper's rate. The rules that are told the labels, and "DeepAGREL, tuned", learn at the rate of a
grid with which another seed has the highest held-out accuracy within a few epochs. Every network
has a folder under runs/deepagrel, with TensorBoard events and the checkpoint that it goes on from.
"""

import hashlib
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.common.results import Cell, Job, ResultsFile
from credit_envs.datasets.catalogue import CIFAR10_PARTIAL_TEST
from meta import trials
from meta.command_line import positive
from meta.trials import Plan

FILE = "deepagrel"
CHECKPOINTS = Path("runs/deepagrel")
POLICIES = {"Full": "MlpPolicy", "Conv": "CnnPolicy", "LocCon": "LocConPolicy"}
TUNED = "DeepAGREL, tuned"
LARGER = "DeepAGREL, first weights ±0.05"
TUNED_LARGER = "DeepAGREL, tuned, first weights ±0.05"
LARGER_TWIN = "Error-BP, first weights ±0.05"
_LARGER = {"init_range": 0.05}


@dataclass(frozen=True)
class Method:
    """A line of the table.

    Attributes:
        rule: of `meta.trials`.
        tuned: whether its rate is chosen from a grid; else it is the paper's.
        policy_kwargs: of its networks.
    """

    rule: str
    tuned: bool = True
    policy_kwargs: Mapping[str, Any] = field(default_factory=dict)


METHODS: Mapping[str, Method] = {
    "DeepAGREL": Method("DeepAGREL", tuned=False),
    TUNED: Method("DeepAGREL"),
    # At the paper's ±0.02 next to nothing comes through the layers of a convolutional network at
    # first, and guessing goes on for many epochs; at ±0.1 it diverges.
    LARGER: Method("DeepAGREL", tuned=False, policy_kwargs=_LARGER),
    TUNED_LARGER: Method("DeepAGREL", policy_kwargs=_LARGER),
    "Error-BP": Method("Error-BP"),
    LARGER_TWIN: Method("Error-BP", policy_kwargs=_LARGER),
    "FA": Method("FA"),
    "DFA": Method("DFA"),
}
"""Lines of the table by name."""
DEFAULT_METHODS = ("DeepAGREL", "Error-BP")
"""Those of the paper; the others on demand."""
_TUNING_SEED = 1000


@dataclass(frozen=True)
class Extent:
    """How much is computed.

    Attributes:
        seeds: networks per rule.
        epochs: at most.
        grid: rates that are tried for rules that are told the labels.
        reward_grid: rates that are tried for DeepAGREL.
        tuning_epochs: of each of them.
    """

    seeds: int = 3
    epochs: int = 300
    grid: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    reward_grid: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 1.0, 1.4)
    tuning_epochs: int = 5


QUICK = Extent(seeds=2, epochs=2, grid=(0.1, 0.3), reward_grid=(0.5, 1.0), tuning_epochs=1)


@dataclass(frozen=True)
class Network:
    """A line of the table: data, first layer, and what the paper has of it.

    Attributes:
        dataset: as in environment ids.
        first_layer: of `POLICIES`.
        augmented: whether training images are zoomed, shifted and reflected.
        paper: by method α, epochs and accuracy in %.
        size: in words, where it is not the paper's.
        policy_kwargs: that make it so.
    """

    dataset: str
    first_layer: str
    augmented: bool = False
    paper: Mapping[str, Sequence[str]] = field(default_factory=dict, compare=False)
    size: str = ""
    policy_kwargs: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """To be read by people."""
        augmented = "augmented" if self.augmented else ""
        kind = f"{self.dataset} {self.first_layer}"
        return ", ".join(filter(None, (kind, self.size, augmented)))

    def plan(self, method: Method, rate: float, seed: int, epochs: int) -> Plan:
        """How it is trained."""
        return Plan(
            method.rule,
            f"ClassificationBandit-{self.dataset}-v0",
            POLICIES[self.first_layer],
            epochs=epochs,
            seed=seed,
            env_kwargs={"augment": True} if self.augmented else {},
            policy_kwargs={**self.policy_kwargs, **method.policy_kwargs},
            learner_kwargs={"learning_rate": rate},
        )


_PAPER: Mapping[str, tuple[str, ...]] = {
    "MNIST Full": ("0.5", "130 (54)", "98.33 (0.09)", "0.1", "92 (11)", "98.32 (0.04)"),
    "MNIST Conv": ("1", "59 (21)", "99.16 (0.16)", "0.01", "33 (12)", "99.21 (0.17)"),
    "MNIST LocCon": ("1", "66 (15)", "98.30 (0.22)", "0.01", "24 (13)", "98.73 (0.41)"),
    "CIFAR10 Conv": ("1", "115 (23)", "73.54 (1.35)", "0.001", "83 (21)", "71.25 (1.08)"),
    "CIFAR10 LocCon": ("1", "173 (36)", "64.37 (2.41)", "0.001", "145 (16)", "64.65 (1.16)"),
    "CIFAR10 Conv, augmented": ("1", "64 (18)", "79.97 (1.09)", "0.001", "47 (23)", "78.39 (0.67)"),
    "CIFAR10 LocCon, augmented": (
        "1",
        "78 (25)",
        "70.87 (0.70)",
        "0.001",
        "56 (8)",
        "72.07 (0.46)",
    ),
    "CIFAR100 Conv": ("1", "230 (30)", "34.90 (1.49)", "0.001", "104 (24)", "36.79 (1.78)"),
    "CIFAR100 LocCon": ("1", "343 (68)", "29.39 (2.38)", "0.001", "156 (13)", "32.73 (0.78)"),
    "CIFAR100 Conv, augmented": (
        "1",
        "93 (18)",
        "42.98 (1.78)",
        "0.001",
        "52 (16)",
        "41.30 (0.61)",
    ),
    "CIFAR100 LocCon, augmented": (
        "1",
        "123 (25)",
        "37.32 (0.76)",
        "0.001",
        "46 (12)",
        "38.66 (0.49)",
    ),
}
"""α, epochs and accuracy of DeepAGREL, then of error backpropagation."""


def _network(name: str, paper: tuple[str, ...]) -> Network:
    dataset, first_layer = name.removesuffix(", augmented").split()
    by_method = {"DeepAGREL": paper[:3], "Error-BP": paper[3:]}
    return Network(dataset, first_layer, name.endswith(", augmented"), by_method)


QUARTER = Network(
    "CIFAR10",
    "Conv",
    size="a quarter as wide",
    policy_kwargs={"num_filters": 8, "hidden_sizes": (250, 125)},
)
NETWORKS = [*(_network(name, paper) for name, paper in _PAPER.items()), QUARTER]
"""The lines of Table 1, in its order, and one that needs a tenth of the time."""


# ---------------------------------------------------------------------- jobs


def job(network: Network, method: str, rate: float, seed: int, epochs: int) -> Job:
    """One network that learns."""
    plan = network.plan(METHODS[method], rate, seed, epochs)
    # Without "tuned": at the same rate it is the same network.
    name = f"{plan.rule}, first weights ±0.05" if METHODS[method].policy_kwargs else plan.rule
    key = f"{network.name}, {name}, α {rate:g}, seed {seed}, at most {epochs} epochs"
    return Job(key, learned, asdict(plan))


def tuning_jobs(network: Network, method: str, extent: Extent) -> list[Job]:
    """What chooses the rate; none where it is the paper's."""
    rates = _rates(method, extent)
    return [job(network, method, rate, _TUNING_SEED, extent.tuning_epochs) for rate in rates]


def tuned_rate(file: ResultsFile, network: Network, method: str, extent: Extent) -> float | None:
    """The rate that a method learns at; None before it has been tuned."""
    if not METHODS[method].tuned:
        return trials.RULES[METHODS[method].rule].rates[POLICIES[network.first_layer]]
    tried = tuning_jobs(network, method, extent)
    cells = file.find_all(tried)
    if len(cells) < len(tried):
        return None
    accuracies = [max(cell["held_out"]) for cell in cells]
    return _rates(method, extent)[accuracies.index(max(accuracies))]


def _rates(method: str, extent: Extent) -> tuple[float, ...]:
    """To choose from."""
    if not METHODS[method].tuned:
        return ()
    return extent.reward_grid if METHODS[method].rule == "DeepAGREL" else extent.grid


def jobs(file: ResultsFile, network: Network, method: str, extent: Extent) -> list[Job]:
    """Its networks, a seed each; none before the rate has been tuned."""
    rate = tuned_rate(file, network, method, extent)
    seeds = range(extent.seeds if rate is not None else 0)
    return [job(network, method, rate or 0.0, seed, extent.epochs) for seed in seeds]


def fill(
    file: ResultsFile,
    networks: Sequence[Network],
    methods: Sequence[str],
    extent: Extent,
    workers: int | None,
) -> None:
    """Compute what is missing: first the rates, then the networks."""
    pairs = [(network, method) for network in networks for method in methods]
    file.fill([each for pair in pairs for each in tuning_jobs(*pair, extent)], workers)
    file.fill([each for pair in pairs for each in jobs(file, *pair, extent)], workers)


def cells(file: ResultsFile, network: Network, method: str, extent: Extent) -> list[Cell]:
    """Those of its networks that have been computed, by seed."""
    found = file.find_all(jobs(file, network, method, extent))
    return [cell for cell in found if not cell.get("diverged")]


def learned(**plan: Any) -> dict[str, Any]:
    """Let one network learn; what has diverged has the accuracy of guessing.

    Raises:
        ValueError: the images are not those of the paper.
    """
    training = Plan(**plan)
    folder = CHECKPOINTS / _slug(plan)
    checkpoint = folder / "model.zip"
    is_begun = checkpoint.exists()
    model = training.go_on(checkpoint) if is_begun else training.begin(tensorboard_log=str(folder))
    dataset = model.make_env().get_attr("dataset")[0]
    # Where test images alone are missing, networks learn what the paper's do.
    learns_from = "CIFAR10" if dataset.name == CIFAR10_PARTIAL_TEST else dataset.name
    if learns_from not in training.env_id:
        raise ValueError(
            f"{training.env_id} has {dataset.name} here, which is not what the paper has; "
            "see credit_envs.datasets.load on where the whole lies"
        )
    try:
        trials.learn(model, training, checkpoint)
    except FloatingPointError:
        return {"diverged": True, "held_out": [1 / dataset.num_classes]}
    return {**trials.scores(model), "test_images": len(dataset.x_test)}


def _slug(plan: Mapping[str, Any]) -> str:
    """A name for a folder, other for every plan."""
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:12]
    return f"{plan['rule']}-{plan['env_id']}-{plan['policy']}-seed{plan['seed']}-{digest}"


# ---------------------------------------------------------------------- the command line


def add_options(parser: ArgumentParser, default: Sequence[str]) -> None:
    """What to compute, for table and figure.

    Args:
        parser: that has `--quick` already.
        default: names of networks.
    """
    add = parser.add_argument
    names = [network.name for network in NETWORKS]
    add(
        "--only",
        nargs="+",
        choices=names,
        default=list(default),
        metavar="NETWORK",
        help=f"of {'; '.join(names)} (default: {'; '.join(default)})",
    )
    add(
        "--methods",
        nargs="+",
        choices=list(METHODS),
        default=list(DEFAULT_METHODS),
        metavar="METHOD",
        help=f"of {'; '.join(METHODS)} (default: {'; '.join(DEFAULT_METHODS)})",
    )
    add("--seeds", type=positive, metavar="N", help="networks per rule (default: 3; quick: 2)")
    add("--epochs", type=positive, metavar="N", help="at most (default: 300; quick: 2)")
    add("--workers", type=positive, metavar="N", help="processes (default: one per core)")


def extent_of(arguments: Namespace) -> Extent:
    """What `--quick`, `--seeds` and `--epochs` say."""
    extent = QUICK if arguments.quick else Extent()
    return replace(
        extent,
        seeds=arguments.seeds or extent.seeds,
        epochs=arguments.epochs or extent.epochs,
    )


def networks_of(arguments: Namespace) -> list[Network]:
    """What `--only` says; with `--quick` the first network alone."""
    if arguments.quick:
        return NETWORKS[:1]
    return [network for network in NETWORKS if network.name in arguments.only]
