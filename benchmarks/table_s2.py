"""Table S2: top-down networks evolved on one data set, or on all, lead training on each.

The paper evolves and transfers with all images and 150 updates. Our networks were evolved at 1,000
images and 20 updates, and lead training at both sizes.
"""

import sys

from benchmarks.common.classifiers import (
    EVOLVED,
    START,
    Block,
    Row,
    by_column,
    columns_of_datasets,
    main,
)

PAPER = {
    "MNIST": ("99.08 / 96.82", "85.94 / 83.91", "41.48 / 36.27"),
    "Fashion-MNIST": ("94.00 / 93.21", "93.37 / 87.56", "40.85 / 35.67"),
    "CIFAR-10": ("90.48 / 89.78", "84.47 / 82.8", "60.12 / 42.23"),
    "All": ("96.22 / 94.92", "89.14 / 86.39", "59.35 / 42.25"),
}
NETWORKS = {**EVOLVED, "All": "all-mlp"}


def block(num_samples: int, num_updates: int, paper: bool) -> Block:
    """A line for each network, a column for each data set."""
    columns = columns_of_datasets(num_samples, num_updates)
    rows = [
        Row(
            f"evolved on {name}",
            network,
            by_column(columns, PAPER[name]) if paper else {},
        )
        for name, network in NETWORKS.items()
    ]
    return Block(
        f"{num_samples:,} images, {num_updates} updates",
        columns,
        [Row("the start of evolution", START), *rows],
    )


BLOCKS = [block(60_000, 150, paper=True), block(1000, 20, paper=False)]

if __name__ == "__main__":
    sys.exit(main("table_s2", __doc__, BLOCKS, quick=list(BLOCKS[1].columns)))
