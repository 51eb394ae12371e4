"""Table 2: deeper bottom-up networks.

"Deep FC" has four hidden layers of 100 neurons. "Deep CNN", on 10,000 images, has a convolution of
16 filters (5 × 5, stride 2) and three dense layers, the last being the output; the paper does not
say how many filters. At 1,000 images and 20 updates, which the paper has not, there are also
backpropagation of the squared error, FA, here another rule than DFA, and DeepAGREL, which learns
from reward alone. Top-down networks are meta-trained by gradients, at 1,000 images and 20 updates
(`train.py --agent tdca-mlp --outer meta-gradient --env-kwargs architecture=cnn
"hidden_sizes=(16,100,100)"`); for "Deep CNN" a run takes fifty minutes. On Fashion-MNIST it had
`--generations 300`, on CIFAR-10 150, and `learning_rate=0.005 weight_decay=10`, which suit the
start.
"""

import sys
from typing import Any

from benchmarks.common.classifiers import (
    SQUARED,
    START,
    Block,
    Row,
    by_column,
    columns_of_datasets,
    main,
)

PAPER = {
    "Deep FC": {
        "Kaiming BP": ("99.83 / 96.78 ± 0.20", "91.98 / 86.75 ± 0.49", "58.17 / 38.07 ± 0.63"),
        "Zero BP": ("98.97 / 95.96 ± 0.21", "90.51 / 86.00 ± 0.39", "48.34 / 38.19 ± 0.57"),
        "TDCA": ("99.06 / 96.71", "93.27 / 87.71", "58.76 / 41.70"),
    },
    "Deep CNN": {
        "Kaiming BP": ("99.98 / 95.86 ± 0.28", "93.90 / 84.87 ± 0.09", "75.13 / 44.13 ± 1.29"),
        "Zero BP": ("95.79 / 94.34 ± 0.33", "87.09 / 83.54 ± 0.72", "34.97 / 36.20 ± 2.82"),
        "TDCA": ("99.97 / 95.61", "98.45 / 82.54", "90.66 / 34.98"),
    },
}


def block(
    model: str, short: str, num_samples: int, num_updates: int, paper: bool, **env_kwargs: Any
) -> Block:
    """One architecture at one size."""
    columns = columns_of_datasets(num_samples, num_updates, env_kwargs)
    taught = {
        column: f"{name}-{short}"
        for column, name in zip(columns, ("mnist", "fashion", "cifar10"), strict=True)
    }

    def row(name: str, methods: str | dict[str, str], in_paper: str = "") -> Row:
        printed = PAPER[model].get(in_paper) if paper else None
        return Row(name, methods, by_column(columns, printed) if printed else {})

    return Block(
        model,
        columns,
        [
            row("Kaiming BP", "Kaiming BP", "Kaiming BP"),
            *([] if paper else [row(SQUARED, SQUARED)]),
            row("Zero BP", "zero BP", "Zero BP"),
            *([] if paper else [row("FA", "FA")]),
            row("DFA", "DFA"),
            *([] if paper else [row("DeepAGREL", "DeepAGREL")]),
            row("TDCA, start", START),
            row("TDCA, by meta-gradients at 1,000 / 20", taught, "TDCA"),
        ],
    )


DEEP = {"hidden_sizes": (100, 100, 100, 100)}
CNN = {"architecture": "cnn", "hidden_sizes": (16, 100, 100)}
BLOCKS = [
    block("Deep FC", "deep", 60_000, 150, paper=True, **DEEP),
    block("Deep CNN", "cnn", 10_000, 150, paper=True, **CNN),
    block("Deep FC", "deep", 1000, 20, paper=False, **DEEP),
    block("Deep CNN", "cnn", 1000, 20, paper=False, **CNN),
]

if __name__ == "__main__":
    sys.exit(main("table_2", __doc__, BLOCKS, quick=[*BLOCKS[2].columns, *BLOCKS[3].columns]))
