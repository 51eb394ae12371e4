"""Table S1: all training images and 150 updates on three data sets.

Our CIFAR-10 test accuracy is of the test images at hand; the results file says how many they are.
"""

from benchmarks.classifiers import START, Block, Row, Setting, main

COLUMNS = {
    "MNIST": Setting("MNIST", 60_000, 150),
    "Fashion-MNIST": Setting("FashionMNIST", 60_000, 150),
    "CIFAR-10": Setting("CIFAR10", 60_000, 150),
}
EVOLVED = {"MNIST": "mnist-mlp", "Fashion-MNIST": "fashion-mlp", "CIFAR-10": "cifar10-mlp"}


def paper(*cells: str) -> dict[str, str]:
    """By column."""
    return dict(zip(COLUMNS, cells, strict=True))


BLOCKS = [
    Block(
        "60,000 / 150",
        COLUMNS,
        [
            Row(
                "Kaiming BP",
                "Kaiming BP",
                paper("98.20 / 96.16 ± 0.14", "91.26 / 87.19 ± 0.41", "52.21 / 38.99 ± 0.51"),
            ),
            Row(
                "Zero BP",
                "zero BP",
                paper("99.04 / 96.35 ± 0.15", "92.33 / 87.48 ± 0.12", "60.83 / 40.42 ± 0.41"),
            ),
            Row("TDCA, start", START),
            Row(
                "TDCA, evolved at 1,000 / 20",
                EVOLVED,
                paper("99.08 / 96.82", "93.36 / 87.59", "60.11 / 42.03"),
            ),
            Row("DFA", {"MNIST": "DFA", "Fashion-MNIST": "DFA"}),
        ],
    )
]

if __name__ == "__main__":
    main("table_s1", __doc__, BLOCKS, quick=[])
