"""What the tables on classification share: methods, their tuning, and the layout of the paper.

Every method trains bottom-up networks with the same inner optimiser. Its learning rate, its weight
decay and, if it is a rule that learns from labels, its label smoothing are those that do best on
validation images. Where a life takes minutes, with more than 10,000 images or as many in a
convolutional network, they are fewer to choose from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from agents import BackpropPolicy, CreditPolicy, TDCAPolicy
from benchmarks.common.command import add_choice, exit_code
from benchmarks.common.results import Cell, Job, ResultsFile, makers, markdown, spread
from benchmarks.common.transferred_network import transferred_network
from meta import zoo
from meta.baselines import RULES, Rule, image_task, spaces
from meta.command_line import Parser, positive
from meta.report import fresh_lives, tuning_lives
from meta.tuning import Split, Tuned, score, split_images, tune

DATASETS = {"MNIST": "MNIST", "Fashion-MNIST": "FashionMNIST", "CIFAR-10": "CIFAR10"}
"""Our names of the paper's data sets."""
EVOLVED = {"MNIST": "mnist-pgpe", "Fashion-MNIST": "fashion-pgpe", "CIFAR-10": "cifar10-pgpe"}
"""The zoo's networks that were evolved on each, at 1,000 images and 20 updates."""
FULL_TRAIN = {"MNIST": 60_000, "FashionMNIST": 60_000, "CIFAR10": 50_000}
FILE = "classifiers"
"""Results file of all these tables: a cell that two of them show is computed once."""
START = "TDCA, start"
"""Method: the top-down network that evolution starts from, which does feedback alignment."""
SQUARED = "Kaiming BP, squared error"
"""Method: backpropagation of the loss whose credits the start of evolution has at the outputs."""
METHODS = {**RULES, SQUARED: Rule(BackpropPolicy, "kaiming", {"loss": "squared-error"})}
"""Rules of the tables."""
TRANSFERRED_NETWORK = "TrFC"
MOST_TUNED_ON = 10_000
"""Images, with all choices; above, `FEW_CHOICES`."""
FEW_CHOICES: dict[str, tuple[float, ...]] = {
    "weight_decays": (0.0, 0.1, 1.0),
    "label_smoothings": (0.0, 0.1),
}
FIRST_RATES = {20: None, 50: 0.01, 150: 0.005}
"""By number of updates, the rate to climb from; None: try all."""


@dataclass(frozen=True)
class Setting:
    """A column: data, their number, updates, and kind of bottom-up network.

    Attributes:
        dataset: "MNIST", "FashionMNIST" or "CIFAR10".
        num_samples: images; no more than there are.
        num_updates: updates.
        env_kwargs: what else the environment is told.
        tuned_on: images in the lives that settings are chosen by; None: `num_samples`.
    """

    dataset: str
    num_samples: int
    num_updates: int
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    tuned_on: int | None = None

    @property
    def env_id(self) -> str:
        """Id of the environment."""
        return f"CreditAssign-{self.dataset}-v0"

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the environment."""
        n = min(self.num_samples, FULL_TRAIN[self.dataset])
        return {"num_samples": n, "num_updates": self.num_updates, **self.env_kwargs}

    @property
    def has_long_lives(self) -> bool:
        """Whether a life takes minutes."""
        convolutional = self.env_kwargs.get("architecture") == "cnn"
        n = self.num_samples
        return n >= MOST_TUNED_ON if convolutional else n > MOST_TUNED_ON

    @property
    def is_whole_pool(self) -> bool:
        """Whether a life has all images that lives are scored on, so that there is one subset."""
        total = FULL_TRAIN[self.dataset]
        if self.num_samples > MOST_TUNED_ON:
            return self.num_samples >= total
        first, last = split_images(total, self.num_samples).fresh_range
        return self.num_samples == round((last - first) * total)

    def __str__(self) -> str:
        others = "".join(f" {key}={value}" for key, value in self.env_kwargs.items())
        return f"{self.dataset} {self.num_samples}/{self.num_updates}{others}"


def job(method: str, setting: Setting, quick: bool = False) -> Job:
    """The cell of a method in a setting; `method` is of `METHODS`, `START` or of the zoo."""
    key = f"{method} | {setting}"
    if method == TRANSFERRED_NETWORK:
        settings = {
            "env_id": setting.env_id,
            "env_kwargs": setting.kwargs,
            "num_seeds": 2 if quick else 3,
            "start": FIRST_RATES[setting.num_updates],
        }
        return Job(key, transferred_network, settings)
    many = setting.num_samples > MOST_TUNED_ON
    # From zero weights, with the same images and the same credits every life is the same.
    init = METHODS[method].init if method in METHODS else setting.env_kwargs.get("init", "zero")
    alike = setting.is_whole_pool and init == "zero"
    settings = {
        "method": method,
        "env_id": setting.env_id,
        "env_kwargs": setting.kwargs,
        "num_seeds": 1 if alike else 2 if quick else 3 if many else 5,
        "num_tuning_seeds": 1 if quick or setting.num_samples > 1000 else 3,
        "start": FIRST_RATES[setting.num_updates],
        "regularise": not quick,
    }
    if setting.has_long_lives:
        settings["few_choices"] = True
    if setting.tuned_on:
        settings["tuned_on"] = setting.tuned_on
    if method in zoo.names():
        # So that a cell is computed again when the network is another.
        settings["network"] = zoo.digest(method)
    return Job(key, accuracy, settings)


def accuracy(
    method: str,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    num_seeds: int,
    num_tuning_seeds: int,
    start: float | None,
    regularise: bool,
    few_choices: bool = False,
    tuned_on: int | None = None,
    network: str | None = None,
) -> dict[str, Any]:
    """Training and test accuracy of each seed, and the settings that were chosen.

    `tuned_on` is the number of images in the lives that settings are chosen by, unless that of the
    environment. `network` only names the file of the top-down network, so that results tell.

    Networks are trained on subsets of images that no outer loop has seen. Only where all training
    images are asked for, they are what the outer loop drew its subsets from, too.

    Raises:
        ValueError: the data set is not whole, so that nothing compares with the paper.
    """
    policy, kwargs = policy_of(method, env_id, env_kwargs)
    require_whole(env_id, kwargs)
    few = FEW_CHOICES if few_choices else {}
    arguments = {"start": start, "regularise": regularise, **few}
    tuned = tuned_for(policy, env_id, kwargs, num_tuning_seeds, num_samples=tuned_on, **arguments)
    return scores(method, policy, env_id, kwargs, num_seeds, tuned)


def require_whole(env_id: str, env_kwargs: Mapping[str, Any]) -> None:
    """Raise ValueError unless the environment's data set is whole."""
    dataset = image_task(env_id, {**env_kwargs, "num_samples": 1}).dataset
    total = len(dataset.x_train)
    if total != FULL_TRAIN[env_id.split("-")[1]]:
        raise ValueError(
            f"{dataset.name} is no whole data set, and the tables need one: "
            "set CREDIT_ENVS_DATA to a folder with it"
        )


def split_for(env_id: str, env_kwargs: Mapping[str, Any]) -> tuple[int, Split]:
    """Training images there are, and who may use which of them with so many in a life."""
    total = len(image_task(env_id, {**env_kwargs, "num_samples": 1}).dataset.x_train)
    return total, split_images(total, min(env_kwargs["num_samples"], MOST_TUNED_ON))


def tuned_for(
    policy: CreditPolicy,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    num_seeds: int,
    num_samples: int | None = None,
    **arguments: Any,
) -> Tuned:
    """The settings that do best on validation images.

    Args:
        policy: of which method.
        env_id: a classification environment.
        env_kwargs: its, `num_samples` among them.
        num_seeds: lives to choose by.
        num_samples: images in these lives; None: that of the environment.
        arguments: further ones of `tune`.
    """
    # The split of the lives that are scored, so that these learn other images than those.
    total, split = split_for(env_id, env_kwargs)
    # With images of the split's meta-training part alone, which are fewer than all.
    most = round(split.meta_range[1] * total)
    kwargs = {**env_kwargs, "num_samples": min(num_samples or env_kwargs["num_samples"], most)}
    return tune(policy, env_id, kwargs, split, tuning_lives(num_seeds), **arguments)


def scores(
    name: str,
    policy: CreditPolicy,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    num_seeds: int,
    tuned: Tuned,
) -> dict[str, Any]:
    """Training and test accuracy of each seed, and the settings they were reached with.

    Args:
        name: of the method.
        policy: it.
        env_id: a classification environment.
        env_kwargs: its, `num_samples` among them.
        num_seeds: lives to score.
        tuned: the settings.
    """
    dataset = image_task(env_id, {**env_kwargs, "num_samples": 1}).dataset
    many = env_kwargs["num_samples"] > MOST_TUNED_ON
    fresh_range = (0.0, 1.0) if many else split_for(env_id, env_kwargs)[1].fresh_range
    result = score(name, policy, env_id, env_kwargs, fresh_range, tuned, fresh_lives(num_seeds))
    return {
        "train": result.train.round(6).tolist(),
        "test": result.test.round(6).tolist(),
        "tuned": asdict(result.tuned),
        "fresh": not many,
        "dataset": dataset.name,
        "test_images": len(dataset.x_test),
    }


def policy_of(
    method: str, env_id: str, env_kwargs: Mapping[str, Any]
) -> tuple[CreditPolicy, dict[str, Any]]:
    """The policy of a method, and the environment's arguments that go with it."""
    if method in METHODS:
        rule = METHODS[method]
        kwargs = {**env_kwargs, "init": rule.init, "credit": "neurons"}
        return rule.policy(env_id, kwargs), kwargs
    kwargs = dict(env_kwargs)
    if method == START:
        observation_space, action_space = spaces(env_id, kwargs)
        policy = TDCAPolicy(
            observation_space, action_space, start="feedback-alignment", output_scale=1.0
        )
        policy.initialise(torch.Generator().manual_seed(0))
        return policy, kwargs
    return zoo.load(method), kwargs


# ---------------------------------------------------------------------- the command line


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        name: as the table has it.
        methods: by column a rule, `START` or a network of the zoo; one for all columns, or by name.
        paper: by column what the paper has, "train / test" in per cent.
    """

    name: str
    methods: str | Mapping[str, str]
    paper: Mapping[str, str] = field(default_factory=dict)

    def method(self, column: str) -> str | None:
        """The method in a column, or None where the cell stays empty."""
        return self.methods if isinstance(self.methods, str) else self.methods.get(column)


@dataclass(frozen=True)
class Block:
    """Lines that share their columns.

    Attributes:
        name: of the block.
        columns: settings by name.
        rows: the lines.
    """

    name: str
    columns: Mapping[str, Setting]
    rows: Sequence[Row]

    def jobs(self, columns: Sequence[str] | None, quick: bool) -> list[Job]:
        """What these columns need and can be had; None: all columns."""
        return [
            job(method, setting, quick)
            for column, setting in self.columns.items()
            for row in self.rows
            if (method := row.method(column)) and available(method)
            if columns is None or column in columns
        ]


def main(name: str, description: str | None, blocks: Sequence[Block], quick: Sequence[str]) -> int:
    """The command of a table: compute what is missing, then print it; returns the exit code.

    Args:
        name: of the module.
        description: for `--help`.
        blocks: the table.
        quick: columns that `--quick` computes.
    """
    arguments = parser(name, description, blocks).parse_args()
    columns = arguments.only or (quick if arguments.quick else None)
    chosen = [block for block in blocks if not arguments.block or block.name in arguments.block]

    def work() -> None:
        file = ResultsFile(FILE, arguments.quick)
        jobs = [job for block in chosen for job in block.jobs(columns, arguments.quick)]
        jobs.sort(key=lambda job: -job.settings["env_kwargs"]["num_samples"])
        file.fill(jobs, arguments.workers)
        print(render(file, blocks, arguments.quick))

    return exit_code(name, work)


def parser(name: str, description: str | None, blocks: Sequence[Block]) -> Parser:
    """Options of every table."""
    parser = Parser(
        name,
        prog=f"python -m benchmarks.{name}",
        description=f"{description}\n{__doc__}",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="minutes: the smallest setting, two seeds, learning rates tuned on one subset and "
        "nothing regularised; kept in a file of its own",
    )
    names = dict.fromkeys(block.name for block in blocks)
    add_choice(parser, "--block", "BLOCK", names)
    columns = dict.fromkeys(column for block in blocks for column in block.columns)
    add_choice(parser, "--only", "COLUMN", columns, "all; quick: those of the smallest setting")
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="processes (default: one per core)"
    )
    return parser


def by_column(columns: Iterable[str], cells: Iterable[str]) -> dict[str, str]:
    """Cells under their columns' names."""
    return dict(zip(columns, cells, strict=True))


def columns_of_datasets(
    num_samples: int, num_updates: int, env_kwargs: Mapping[str, Any] | None = None
) -> dict[str, Setting]:
    """A column for each data set, at one size."""
    return {
        f"{name}, {num_samples:,} / {num_updates}": Setting(
            dataset, num_samples, num_updates, env_kwargs or {}
        )
        for name, dataset in DATASETS.items()
    }


def available(method: str) -> bool:
    """Whether a method can be had: not a network that is not in the zoo."""
    return method in (*METHODS, START, TRANSFERRED_NETWORK, *zoo.names())


def render(file: ResultsFile, blocks: Sequence[Block], quick: bool = False) -> str:
    """The table in Markdown, with what made it; a cell of other settings is a dash."""
    parts, used = [], []
    for block in blocks:
        lines = []
        for row in block.rows:
            cells = [
                found(file, method, setting, quick) if method else None
                for column, setting in block.columns.items()
                for method in [row.method(column)]
            ]
            used += [cell for cell in cells if cell]
            papers = [row.paper.get(column) for column in block.columns]
            lines.append([row.name, *map(entry, cells, papers)])
        parts.append(markdown([block.name, *block.columns], lines))
    note = (
        "Train / test accuracy in %, mean ± standard deviation over seeds; in italics what the "
        "paper has."
    )
    return "\n\n".join([*parts, f"{note} Made by {makers(used)}."])


def found(file: ResultsFile, method: str, setting: Setting, quick: bool = False) -> Cell | None:
    """The cell of a method in a setting, if it has been computed and nothing has changed since."""
    wanted = job(method, setting, quick)
    return file.find(wanted.key, wanted.settings)


def entry(cell: Cell | None, paper: str | None) -> str:
    """Train / test, and the paper's."""
    ours = f"{spread(cell['train'])} / {spread(cell['test'])}" if cell else "–"
    return f"{ours} *({paper})*" if paper else ours
