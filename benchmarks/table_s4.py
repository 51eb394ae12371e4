"""Table S4: parameters and FLOPs of each form of credit.

Counted as in `credit_envs.complexity`, which says how, and where a figure of the paper does not add
up. Nothing is measured: the table is there in an instant.
"""

from collections.abc import Callable

from benchmarks.common.results import markdown
from credit_envs.complexity import (
    Complexity,
    CreditForm,
    backprop_complexity,
    top_down_complexity,
)
from meta.command_line import Parser

INPUTS = {"MNIST / Fashion-MNIST": (784, 60_000), "CIFAR-10": (3072, 50_000)}
"""Inputs of a bottom-up network, and training images."""


def backprop(hidden: int) -> Callable[[int], Complexity]:
    """Of networks with so many hidden neurons."""
    return lambda inputs: backprop_complexity((inputs, hidden, 10))


def credit(form: CreditForm, hidden: int = 100, groups: int = 10) -> Callable[[int], Complexity]:
    """Of the top-down network for such networks."""
    return lambda inputs: top_down_complexity((inputs, hidden, 10), form, credit_groups=groups)


ROWS = {
    "BP (100 hidden)": (backprop(100), ("1000", "240", "1000", "200")),
    "Credit parameters": (credit("parameters"), ("4892794", "-", "18807870", "-")),
    "Credit neurons": (credit("neurons"), ("4970", "576", "4970", "480")),
    "Credit groups (10)": (credit("groups"), ("2180", "252", "2180", "210")),
    "BP (900 hidden)": (backprop(900), ("9000", "2160", "9000", "1800")),
    "Credit groups (36)": (credit("groups", 900, 36), ("2986", "345.6", "2986", "288")),
}
"""By name: how it is counted, and what the paper has."""


def main() -> None:
    """Print the table."""
    parser = Parser("table_s4", prog="python -m benchmarks.table_s4", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="as it is: nothing takes long")
    parser.parse_args()
    print(render())


def render() -> str:
    """The table in Markdown."""
    header = ["", *(f"{name}, {unit}" for name in INPUTS for unit in ("parameters", "MFLOPs"))]
    lines = []
    for name, (count, paper) in ROWS.items():
        ours: list[str] = []
        for inputs, images in INPUTS.values():
            complexity = count(inputs)
            mflops = complexity.flops * images / 1e6
            counted = name != "Credit parameters"
            ours += [f"{complexity.parameters:,}", f"{mflops:,.5g}" if counted else "–"]
        cells = (f"{mine} *({theirs})*" for mine, theirs in zip(ours, paper, strict=True))
        lines.append([name, *cells])
    return f"{markdown(header, lines)}\n\nIn italics what the paper has."


if __name__ == "__main__":
    main()
