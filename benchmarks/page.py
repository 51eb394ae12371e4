"""Makes docs/paper.md, the paper's tables and figures as found here, from the results files."""

import argparse
from pathlib import Path

from benchmarks import table_1, table_2, table_s1, table_s2, table_s3, table_s4
from benchmarks.classifiers import FILE, render
from benchmarks.results import ResultsFile
from credit_envs.files import atomic_path

PAGE = Path(__file__).parent.parent / "docs" / "paper.md"
TABLES = {
    "Table 1: settings and transfer": table_1,
    "Table 2: deeper networks": table_2,
    "Table S1: three data sets": table_s1,
    "Table S2: transfer between data sets": table_s2,
    "Table S3: credit diffusion": table_s3,
}
FIGURES = {
    "figure_2": "Figure 2: a point on a surface, led by gradients and by credits",
    "figure_s1": "Figure S1: convergence of the outer loop",
    "figure_s2": "Figure S2: convergence of the bottom-up network",
    "figure_s3": "Figure S3: the loss in the plane of two trajectories",
}
HEAD = """\
# The evidence of the TDCA paper, as found here

Every table and figure comes from a command, which goes on where it was interrupted; this page is
made from their results files by `python -m benchmarks.page`. A dash is a cell that has not been
computed.

All methods train the same bottom-up networks with Adam and a clip of the gradient's norm at 1, each
with the learning rate and weight decay (rules that learn from labels: label smoothing, too) that
do best on validation images. Up to 10,000 images, networks are trained on fresh subsets: images
that no outer loop has seen. "TDCA, start" is the network that evolution starts from, which does
feedback alignment; what evolution adds is the difference to it. The networks were evolved at 1,000
images and 20 updates by `train.py`; their cards in `meta/zoo` say how. CIFAR-10 is scored on the
first 1,000 of its test images.
"""


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__).parse_args()
    with atomic_path(PAGE) as unfinished:
        unfinished.write_text(page())
    print(PAGE)


def page() -> str:
    """The page, in Markdown."""
    file = ResultsFile(FILE)
    parts = [HEAD]
    for title, table in TABLES.items():
        name = table.__name__.rsplit(".", 1)[-1]
        about = (table.__doc__ or "").partition("\n\n")[2].strip()
        parts += [f"## {title}\n", f"`python -m benchmarks.{name}`\n"]
        parts += [f"{about}\n"] if about else []
        parts.append(f"{render(file, table.BLOCKS)}\n")
    parts.append(
        f"## Table S4: complexity\n\n`python -m benchmarks.table_s4`\n\n{table_s4.render()}\n"
    )
    for name, title in FIGURES.items():
        if (PAGE.parent / "figures" / f"{name}.png").exists():
            parts.append(f"## {title}\n\n`python -m benchmarks.{name}`\n")
            parts.append(f"![{title}](figures/{name}.png)\n")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
