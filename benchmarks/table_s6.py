"""Meta-World: one network leads agents in three tasks, from unseen starts too (TDCA, Table S6).

Return of an episode and, in brackets, the share of episodes in which the task was done, before the
first update of a life and after the last; mean ± standard deviation over lives. The outer loop met
three initial states of each task, and ten others are unseen. Agents differ in their first
parameters, and an agent that has learned nothing may do a task by chance: so the first episode is
shown. "Constant credits" is the control in which every agent gets the mean of the credits of all
agents in its task. The paper has episodes of 500 steps and 200 updates: its returns are of more
steps than ours, and its tasks are of Meta-World's version 2, ours of version 3.
"""

import hashlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.command import exit_code
from benchmarks.control_networks import FILE
from benchmarks.results import Cell, ResultsFile, makers, markdown
from credit_envs.tasks.metaworld import STARTS, TASKS, Starts
from meta import zoo
from meta.command_line import Parser
from meta.evaluation import Condition, evaluate
from meta.recipes import RECIPES
from meta.report import fresh_lives

NAME = "table_s6"
EXAMPLES = """\
examples:
  python -m benchmarks.table_s6 --quick                  # few lives
  python -m benchmarks.table_s6                          # the zoo's network; some minutes
  python -m benchmarks.table_s6 --network runs/tdca-rnn_CreditAssign-MetaWorld-v0_seed0_…
"""
ENV_ID = "CreditAssign-MetaWorld-v0"
PAPER: dict[str, tuple[str, str, str]] = {
    "train": ("2581.9 (0 %)", "1497.5 (100 %)", "3451.2 (100 %)"),
    "unseen": ("1932.2 (0 %)", "1493.2 (80 %)", "3385.5 (90 %)"),
}
SHOWN: tuple[Starts, ...] = ("train", "unseen")
_SAID = {"train": "training", "unseen": "unseen"}
_CONDITIONS: tuple[Condition, ...] = ("normal", "constant")


def main(argv: Sequence[str] | None = None) -> int:
    """Compute what is missing, then print the table; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--quick", action="store_true", help="few lives; kept in a file of its own")
    add(
        "--network",
        metavar="RUN|NAME",
        help="a run's folder or a network of the zoo (default: the zoo's of Meta-World)",
    )
    arguments = parser.parse_args(argv)

    def work() -> None:
        file = ResultsFile(FILE, arguments.quick)
        for starts in SHOWN:
            score(file, arguments.network or in_zoo(), starts, arguments.quick)
        print(render(file))

    return exit_code(NAME, work)


def in_zoo() -> str:
    """The name of the zoo's network.

    Raises:
        ValueError: there is none.
    """
    for name in zoo.names():
        if set(zoo.card(name)["meta_training"]) == {ENV_ID}:
            return name
    raise ValueError(
        "the zoo has no network of Meta-World; meta-train one with python train.py --agent "
        f"tdca-rnn --env {ENV_ID}, and give its folder with --network"
    )


def score(file: ResultsFile, source: str, starts: Starts, quick: bool = False) -> Cell:
    """The cell of these initial states.

    Args:
        file: of the results.
        source: of the network: a run's folder or a name in the zoo.
        starts: "train" or "unseen".
        quick: one life from each initial state of each task.

    Raises:
        ValueError: there is no such network, or it is of another environment.
    """
    found = zoo.find(source)
    if set(found.meta_training) != {ENV_ID}:
        raise ValueError(
            f"{source} was meta-trained in {', '.join(found.meta_training)}; name a network of "
            f"{ENV_ID}"
        )
    kwargs = {**RECIPES[ENV_ID].scored_kwargs, "starts": starts}
    states = len(TASKS) * len(STARTS[starts])
    lives = states if quick else states * max(1, 90 // states)
    settings = {
        "network": hashlib.sha1(found.policy.beta.detach().numpy().tobytes()).hexdigest()[:12],
        "env_kwargs": kwargs,
        "lives": lives,
    }

    def compute() -> dict[str, Any]:
        evaluation = evaluate(found.policy, ENV_ID, fresh_lives(lives), kwargs, _CONDITIONS)
        return {"tasks": {name: evaluation.of_task(i).to_json() for i, name in enumerate(TASKS)}}

    return file.cell(_key(starts), settings, compute)


def _key(starts: str) -> str:
    return f"{ENV_ID}, Table S6, {starts}"


def render(file: ResultsFile) -> str:
    """The table in Markdown, with what made it."""
    lines, used = [], []
    for starts in SHOWN:
        cell = file.cells.get(_key(starts))
        if cell is None:
            continue
        used.append(cell)
        count = f"{_SAID[starts]} ({len(STARTS[starts])} initial states)"
        for name, condition, update in (
            ("first episode", "normal", 0),
            ("after the last update", "normal", -1),
            ("after the last update, constant credits", "constant", -1),
        ):
            texts = [said(cell["tasks"][task][condition], update) for task in TASKS]
            if (condition, update) == ("normal", -1):
                texts = [f"{t} *({p})*" for t, p in zip(texts, PAPER[starts], strict=True)]
            lines.append([f"{count}: {name}", *texts])
    if not used:
        return "Nothing has been computed yet."
    lives = " and ".join(str(cell["settings"]["lives"]) for cell in used)
    return (
        f"{markdown(['', *TASKS], lines)}\n\n{lives} lives. In italics what the paper has. Made by "
        f"{makers(used)}."
    )


def said(metrics: Any, update: int) -> str:
    """Return and success after an update."""
    returns, success = metrics["episode_return"], metrics["success"]
    mean, std = returns["mean"][update], returns["std"][update]
    return f"{mean:.0f} ± {std:.0f} ({np.round(100 * success['mean'][update]):.0f} %)"


if __name__ == "__main__":
    sys.exit(main())
