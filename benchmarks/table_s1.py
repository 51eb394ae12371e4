"""Table S1: three data sets.

The paper trains with all training images and 150 updates. Our networks were evolved at 1,000 images
and 20 updates, and lead training at both sizes. CIFAR-10 is scored on the test images at hand; the
results file says how many they are.
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
    "Kaiming BP": ("98.20 / 96.16 ± 0.14", "91.26 / 87.19 ± 0.41", "52.21 / 38.99 ± 0.51"),
    "Zero BP": ("99.04 / 96.35 ± 0.15", "92.33 / 87.48 ± 0.12", "60.83 / 40.42 ± 0.41"),
    "TDCA": ("99.08 / 96.82", "93.36 / 87.59", "60.11 / 42.03"),
}


def block(num_samples: int, num_updates: int, paper: bool) -> Block:
    """A column for each data set, at one size."""
    columns = columns_of_datasets(num_samples, num_updates)
    printed = {name: by_column(columns, cells) for name, cells in PAPER.items() if paper}
    evolved = dict(zip(columns, EVOLVED.values(), strict=True))
    rows = [
        Row("Kaiming BP", "Kaiming BP", printed.get("Kaiming BP", {})),
        Row("Zero BP", "zero BP", printed.get("Zero BP", {})),
        Row("TDCA, start", START),
        Row("TDCA, evolved at 1,000 / 20", evolved, printed.get("TDCA", {})),
        Row("DFA", "DFA"),
    ]
    return Block(f"{num_samples:,} images, {num_updates} updates", columns, rows)


BLOCKS = [block(60_000, 150, paper=True), block(1000, 20, paper=False)]

if __name__ == "__main__":
    sys.exit(main("table_s1", __doc__, BLOCKS, quick=list(BLOCKS[1].columns)))
