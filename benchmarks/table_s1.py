"""Table S1: all training images and 150 updates on three data sets.

Our CIFAR-10 test accuracy is of the test images at hand; the results file says how many they are.
"""

import sys

from benchmarks.common.classifiers import DATASETS, START, Block, Row, Setting, by_column, main

COLUMNS = {name: Setting(dataset, 60_000, 150) for name, dataset in DATASETS.items()}
EVOLVED = {"MNIST": "mnist-pgpe", "Fashion-MNIST": "fashion-pgpe", "CIFAR-10": "cifar10-pgpe"}


BLOCKS = [
    Block(
        "60,000 / 150",
        COLUMNS,
        [
            Row(
                "Kaiming BP",
                "Kaiming BP",
                by_column(
                    COLUMNS,
                    ("98.20 / 96.16 ± 0.14", "91.26 / 87.19 ± 0.41", "52.21 / 38.99 ± 0.51"),
                ),
            ),
            Row(
                "Zero BP",
                "zero BP",
                by_column(
                    COLUMNS,
                    ("99.04 / 96.35 ± 0.15", "92.33 / 87.48 ± 0.12", "60.83 / 40.42 ± 0.41"),
                ),
            ),
            Row("TDCA, start", START),
            Row(
                "TDCA, evolved at 1,000 / 20",
                EVOLVED,
                by_column(COLUMNS, ("99.08 / 96.82", "93.36 / 87.59", "60.11 / 42.03")),
            ),
            Row("DFA", "DFA"),
        ],
    )
]

if __name__ == "__main__":
    sys.exit(main("table_s1", __doc__, BLOCKS, quick=[]))
