"""Meta-World: one network leads agents in three tasks, from unseen starts too (TDCA, Table S6).

Return of an episode and, in brackets, the share of episodes in which the task was done, before the
first update of a life and after the last; of each network the mean over its lives, and of those
mean ± standard deviation over seeds of the outer loop. The outer loop met three initial states of
each task, and ten others are unseen. Agents differ in their first parameters, and an agent that has
learned nothing may do a task by chance: so the first episode is shown. "Constant credits" is the
control in which every agent gets the mean of the credits of all agents in its task. The paper has
episodes of 500 steps and 200 updates: its returns are of more steps than ours, and its tasks are of
Meta-World's version 2, ours of version 3.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.command import add_choice, exit_code
from benchmarks.common.control_networks import FILE, LOGDIR, Network
from benchmarks.common.results import Cell, ResultsFile, makers, markdown, spread
from credit_envs.tasks.metaworld import STARTS, TASKS, Starts
from meta.command_line import Parser, positive
from meta.evaluation import Condition, evaluate
from meta.pgpe import PGPE
from meta.report import fresh_lives

NAME = "table_s6"
EXAMPLES = """\
examples:
  python -m benchmarks.table_s6 --quick                  # one generation, few lives
  python -m benchmarks.table_s6 --only unseen            # an hour on two cores
  python -m benchmarks.table_s6 --seeds 1 --only unseen
"""
ENV_ID = "CreditAssign-MetaWorld-v0"
PAPER: dict[str, tuple[str, str, str]] = {
    "train": ("2581.9 (0 %)", "1497.5 (100 %)", "3451.2 (100 %)"),
    "unseen": ("1932.2 (0 %)", "1493.2 (80 %)", "3385.5 (90 %)"),
}
SHOWN: tuple[Starts, ...] = ("train", "unseen")
LIVES = 90
"""Of a network in either of them: thirty of each task."""
_SAID = {"train": "training", "unseen": "unseen"}
_CONDITIONS: tuple[Condition, ...] = ("normal", "constant")


def main(argv: Sequence[str] | None = None) -> int:
    """Compute what is missing, then print the table; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--quick", action="store_true", help="a minute; kept in a file of its own")
    add_choice(parser, "--only", "STARTS", SHOWN)
    add("--seeds", type=positive, metavar="N", help="of the outer loop (default: 3; quick: 2)")
    add("--logdir", type=Path, metavar="DIR", help=f"runs of train.py (default: {LOGDIR})")
    arguments = parser.parse_args(argv)

    def work() -> None:
        quick = arguments.quick
        file = ResultsFile(FILE, quick)
        for seed in range(arguments.seeds or (2 if quick else 3)):
            for starts in arguments.only or SHOWN:
                score(file, seed, starts, arguments.logdir or LOGDIR, quick)
        print(render(file, quick))

    return exit_code(NAME, work)


def score(
    file: ResultsFile, seed: int, starts: Starts, logdir: Path = LOGDIR, quick: bool = False
) -> Cell:
    """The cell of a network in these initial states; the network is meta-trained if need be.

    Args:
        file: of the results.
        seed: of the outer loop.
        starts: "train" or "unseen".
        logdir: of the runs of `train.py`.
        quick: one generation, and two lives of each task.

    Raises:
        OSError: train.py failed.
    """
    settings = settings_of(seed, starts, quick)

    def compute() -> dict[str, Any]:
        run = _network(seed, quick).run(logdir)
        policy = PGPE.load(run.checkpoint).policy
        lives = fresh_lives(settings["lives"])
        evaluation = evaluate(policy, ENV_ID, lives, settings["env_kwargs"], _CONDITIONS)
        return {"tasks": {name: evaluation.of_task(i).to_json() for i, name in enumerate(TASKS)}}

    return file.cell(_key(seed, starts), settings, compute)


def settings_of(seed: int, starts: Starts, quick: bool = False) -> Mapping[str, Any]:
    """All that a cell depends on."""
    network = _network(seed, quick)
    return {
        "network": network.settings,
        "env_kwargs": {**network.env_kwargs, "starts": starts},
        "lives": 2 * len(TASKS) if quick else LIVES,
    }


def _network(seed: int, quick: bool) -> Network:
    return Network(ENV_ID, seed, 1 if quick else None)


def _key(seed: int, starts: Starts) -> str:
    return f"{ENV_ID}, Table S6, {starts}, seed {seed}"


def found(file: ResultsFile, starts: Starts, quick: bool) -> list[Cell]:
    """The cells of all seeds in these initial states, of networks as the recipe has them now."""
    stem = _key(0, starts).removesuffix("0")
    seeds = sorted(int(key.removeprefix(stem)) for key in file.cells if key.startswith(stem))
    cells = [file.find(_key(seed, starts), settings_of(seed, starts, quick)) for seed in seeds]
    return [cell for cell in cells if cell is not None]


def render(file: ResultsFile, quick: bool = False) -> str:
    """The table in Markdown, with what made it."""
    lines, used = [], []
    for starts in SHOWN:
        cells = found(file, starts, quick)
        if not cells:
            continue
        used += cells
        count = f"{_SAID[starts]} ({len(STARTS[starts])} initial states)"
        for name, condition, update in (
            ("first episode", "normal", 0),
            ("after the last update", "normal", -1),
            ("after the last update, constant credits", "constant", -1),
        ):
            texts = [said([cell["tasks"][t][condition] for cell in cells], update) for t in TASKS]
            if (condition, update) == ("normal", -1):
                texts = [f"{t} *({p})*" for t, p in zip(texts, PAPER[starts], strict=True)]
            lines.append([f"{count}: {name}", *texts])
    if not used:
        return "Nothing has been computed yet."
    seeds = len({cell["settings"]["network"]["seed"] for cell in used})
    # Table S5 has the networks themselves.
    networks = {
        cell["network_made_by"]["commit"]
        for cell in file.cells.values()
        if "network_made_by" in cell and cell["settings"]["env_id"] == ENV_ID
    }
    lives = used[0]["settings"]["lives"]
    return (
        f"{markdown(['', *TASKS], lines)}\n\nSeeds of the outer loop: {seeds}, {lives} lives each. "
        f"In italics what the paper has. Made by {makers(used)}"
        + (f"; networks by commit {', '.join(sorted(networks))}." if networks else ".")
    )


def said(metrics: Sequence[Any], update: int) -> str:
    """Return and success after an update, of networks by seed."""
    returns = [of_seed["episode_return"]["mean"][update] for of_seed in metrics]
    success = [100 * of_seed["success"]["mean"][update] for of_seed in metrics]
    return f"{spread(returns, factor=1.0, digits=0)} ({spread(success, factor=1.0, digits=0)} %)"


if __name__ == "__main__":
    sys.exit(main())
