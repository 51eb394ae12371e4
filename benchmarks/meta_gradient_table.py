"""Networks trained by meta-gradients, where they were trained and elsewhere, beside what they beat.

Each was trained at 1,000 images and 20 updates on the data set named; "on the same data" is the
zoo's network of each column. "In such lives" is the zoo's network that was trained at 10,000 images
and 50 updates. Everything is tuned as in table 1, with which the results are shared.
"""

import sys

from benchmarks.common.classifiers import (
    DATASETS,
    EVOLVED,
    SQUARED,
    START,
    Block,
    Row,
    columns_of_datasets,
    main,
)

NAME = "meta_gradient_table"
TAUGHT = {"MNIST": "mnist-mlp", "Fashion-MNIST": "fashion-mlp", "CIFAR-10": "cifar10-mlp"}
IN_LONGER_LIVES = {"MNIST": "mnist-mlp-10000", "Fashion-MNIST": "fashion-mlp-10000"}


def block(num_samples: int, num_updates: int) -> Block:
    """A column for each data set, at one size."""
    columns = columns_of_datasets(num_samples, num_updates)
    if num_samples > 1000:
        columns = {name: setting for name, setting in columns.items() if "CIFAR" not in name}
    of = dict(zip(columns, DATASETS, strict=False))
    rules = (
        *("Kaiming BP", SQUARED, "zero BP", "FA", "DFA", "DRTP"),
        *("DeepAGREL", "DeepAGREL, ε = 1"),
    )
    rows = [
        *(Row(name, name) for name in rules),
        Row("TDCA, start of both outer loops", START),
        Row("TDCA, by PGPE on the same data", {c: EVOLVED[of[c]] for c in columns}),
        Row(
            "TDCA, by meta-gradients on the same data",
            {c: TAUGHT[of[c]] for c in columns},
        ),
        *(
            [Row("TDCA, the same in such lives", {c: IN_LONGER_LIVES[of[c]] for c in columns})]
            if num_samples > 1000
            else []
        ),
        *(
            Row(
                f"TDCA, by meta-gradients on {data}",
                {c: network for c in columns if of[c] != data},
            )
            for data, network in TAUGHT.items()
        ),
    ]
    return Block(f"{num_samples:,} images, {num_updates} updates", columns, rows)


BLOCKS = [block(1000, 20), block(10_000, 50)]

if __name__ == "__main__":
    sys.exit(main(NAME, __doc__, BLOCKS, quick=list(BLOCKS[0].columns)))
