"""Makes the pages of evidence in docs/ from the results files.

The papers' are docs/tdca.md and docs/deepagrel.md, that of meta-gradients docs/meta-gradients.md.
"""

from pathlib import Path
from types import ModuleType

from benchmarks import (
    cluster,
    cluster_cost,
    credit_angles,
    deepagrel_figure_3,
    deepagrel_skipping,
    deepagrel_table_1,
    delayed_reward,
    figure_2,
    figure_3,
    figure_s1,
    figure_s2,
    figure_s3,
    learned_backprop,
    meta_gradient_table,
    outer_loops,
    own_subset,
    recovery,
    table_1,
    table_2,
    table_s1,
    table_s2,
    table_s3,
    table_s4,
    table_s5,
    table_s6,
    traveller,
)
from benchmarks.common import control_networks, deepagrel
from benchmarks.common.classifiers import FILE, render
from benchmarks.common.results import ResultsFile
from credit_envs.files import atomic_path
from meta.command_line import Parser

DOCS = Path(__file__).parent.parent / "docs"
TABLES = {
    "Table 1: settings and transfer": table_1,
    "Table 2: deeper networks": table_2,
    "Table S1: three data sets": table_s1,
    "Table S2: transfer between data sets": table_s2,
    "Table S3: credit diffusion": table_s3,
}
FIGURES = {
    "Figure 2: a point on a surface, led by gradients and by credits": (figure_2, ""),
    "Figure 3: agents that learn to act": (figure_3, ""),
    "Figure S1: convergence of the outer loop": (figure_s1, " --data MNIST Digits"),
    "Figure S2: convergence of the bottom-up network": (figure_s2, ""),
    "Figure S3: the loss in the plane of two trajectories": (figure_s3, ""),
    "Adaptation: the motor turns round in mid-life": (recovery, ""),
}
"""Modules, and options with which the committed pictures were made."""
DEEPAGREL_HEAD = """\
# The evidence of the DeepAGREL paper, as found here

DeepAGREL learns to classify from reward alone, by a local rule; its twins have the same networks
and see the same images, but are told the labels. Tables and figures come from commands that go on
where they were interrupted; this page is made from their results files by
`python -m benchmarks.page`. A dash is a cell that has not been computed. What the paper leaves open
is decided so: δ = r − q_s; post_j of Eq. 1 is the gate g_j; ε = 0.02 (max-Boltzmann); hidden layers
of 1,000 and 500 after convolutions, as in its table (its text has others); the convolution with
stride 2 pads its input; no biases; pixels in [0, 1].

Augmentation is an option of the environments: `augment=True` zooms training images by up to a
tenth, shifts them by up to a tenth along each axis and mirrors one in two left to right, at random
and anew whenever they are shown. The paper's words are "10x standard data augmentation (zooming,
shifting, vertical reflections)", without ranges. Only the rows called "augmented" have it, none of
which has been computed.
"""
META_GRADIENTS = {
    "Backpropagation with the same advantage": learned_backprop,
    "Cost, beside PGPE": outer_loops,
    "What the credits look like": credit_angles,
}
"""Sections after the table: modules with a `NAME`, a `render` of their results, maybe a picture."""
META_GRADIENTS_HEAD = """\
# Meta-gradients: top-down networks trained through what they teach

`train.py --outer meta-gradient` differentiates whole lives of bottom-up networks: the top-down
network's parameters follow the gradient of the loss on held-out images after the last update.
This page is made from results files by `python -m benchmarks.page`. A dash is a cell that has not
been computed.

It is learned generalisation, no better way to fit. While it was trained, the top-down network saw
labelled images of its data set by the ten thousand, as none of the rules beside it has. What it
took from them is a way to give credit that makes networks do better on *new* images of that data
set, in lives like those it was trained in: of 1,000 images and 20 updates. That generalises to
images and subsets that it never met; to another data set, more images or longer lives it does not,
where the rules that it started from do as well or better. It needs a loss on held-out images, an
inner learning rate at which gradients through a life are not chaotic, and data: on CIFAR-10 the
gain over backpropagation lies within the spread, and with the few hundred images of Digits
backpropagation stays ahead.

Who wants longer lives meta-trains in longer lives. Gradients through all of 50 updates with 10,000
images explode at the rate of the recipe; through the last ten alone, at a fifth of the rate
(Fashion-MNIST: a third; `--learner-kwargs learning_rate=0.001 last_updates=10`), they do not, and
in twelve to twenty-five minutes of one core lead to `mnist-mlp-10000` and `fashion-mlp-10000`, each
of one run, which are 0.3 points above the best known rule there. From the former, forty-three
minutes at 20,000 images and 150 updates lead to `mnist-mlp-20000`: with all of MNIST and 150
updates it reaches 96.84 %, where Kaiming BP has 96.69 ± 0.06, that of the squared error 97.01 ±
0.03, the start 96.35 and the paper 96.82 ([Table 1](tdca.md#table-1-settings-and-transfer)): at
that size it is not above the best of the rules. (One life of one run, scored on 10,000 images, of
which fifteen make the difference to Kaiming BP.) On all of Fashion-MNIST, longer than what
`fashion-mlp-10000` was trained for, it is level with its start, 88.23 %, both within the spread of
backpropagation of the squared error, 87.94 ± 0.47, and above Kaiming BP's 87.52 ± 0.31.

At 1,000 images and 20 updates it holds in depth, too, on MNIST and Fashion-MNIST; with all images
and 150 updates, networks that are taught so stay below backpropagation from Kaiming's weights. Four
hidden layers from weights of exactly zero are more than backpropagation can train, for no credit
comes through zero weights (near zero it needs more than 20 updates), and direct feedback alignment
trains them in part. Taught by `mnist-deep` they are two points above backpropagation from Kaiming's
weights, by `fashion-deep` one and a half; by `cifar10-deep` they stay three points below.
Convolutional networks, from zero weights, too, come level with it when they are taught by
`mnist-cnn`, two points above what it started from; taught by `fashion-cnn` they stay two points
below, five above its start, and by `cifar10-cnn` they come two points above every rule, one above
its start. In 150 updates with 10,000 images of MNIST `mnist-cnn` stays 1.6 points below
backpropagation ([Table 2](tdca.md#table-2-deeper-networks)).

Backpropagation from learned initial weights gains about half as much over Kaiming's start, with six
times as many parameters, and loses more on Fashion-MNIST. The credits are not those of
backpropagation: on MNIST they part further from its updates than feedback alignment does, from
which they began.
"""
HEAD = """\
# The evidence of the TDCA paper, as found here

Every table and figure comes from a command, which goes on where it was interrupted; this page is
made from their results files by `python -m benchmarks.page`. A dash is a cell that has not been
computed.

In classification all methods train the same bottom-up networks with Adam and a clip of the
gradient's norm at 1, each with the learning rate and weight decay (rules that learn from labels:
label smoothing, too) that do best on validation images: of six decays and four smoothings, or of
three and two where lives take minutes (more than 10,000 images, or as many in a convolutional
network; the largest decay is then 1, and in newer cells more where 1 is best). Up to 10,000 images,
networks are trained on fresh subsets: images that no outer loop has seen. Of MNIST and
Fashion-MNIST these are 10,000, so that at this size there is one subset: what starts from zero
weights leads one life, without a spread, and the spread of the others is that of their initial
weights. "TDCA, start" is the network that evolution starts from, which does feedback alignment;
what evolution adds is the difference to it. The networks were evolved at 1,000 images and 20
updates by `train.py`; their cards in `meta/zoo` say how. CIFAR-10 is scored on the first 1,000 of
its test images.
"""


def main() -> None:
    """Write the pages."""
    Parser("page", prog="python -m benchmarks.page", description=__doc__).parse_args()
    for name, page in PAGES.items():
        path = DOCS / f"{name}.md"
        with atomic_path(path) as unfinished:
            unfinished.write_text(page())
        print(path)


def tdca() -> str:
    """The page on TDCA, in Markdown."""
    file = ResultsFile(FILE)
    parts = [HEAD]
    for title, table in TABLES.items():
        parts += section(title, table.__name__.rsplit(".", 1)[-1], table.__doc__)
        parts.append(f"{render(file, table.BLOCKS)}\n")
    parts += section("Evolved for one subset", own_subset.NAME, own_subset.__doc__)
    parts.append(f"{own_subset.render(ResultsFile(own_subset.NAME))}\n")
    parts += section("Table S4: complexity", "table_s4", None)
    parts.append(f"{table_s4.render()}\n")
    control = ResultsFile(control_networks.FILE)
    title = "Table S5: control, beside learners that start from nothing"
    parts += section(title, table_s5.NAME, table_s5.__doc__)
    parts.append(f"{table_s5.render(control, table_s5.Extent())}\n")
    title = "Table S6: three tasks of a robot arm, one network"
    parts += section(title, table_s6.NAME, table_s6.__doc__)
    parts.append(f"{table_s6.render(control)}\n")
    for title, (module, options) in FIGURES.items():
        # Its networks are those of Tables S5 and S6.
        file = control if module is figure_3 else ResultsFile(module.NAME)
        parts += figure(title, module, file, options)
    measured = ResultsFile(cluster.NAME)
    parts += section("Workers: local processes and Ray", cluster.NAME, cluster.__doc__)
    parts.append(f"{cluster.render(measured)}\n")
    costs = ResultsFile(cluster_cost.NAME)
    parts += section(
        "What the paper's settings would cost", cluster_cost.NAME, cluster_cost.__doc__
    )
    parts.append(f"{cluster_cost.render(costs, measured)}\n")
    return "\n".join(parts)


def deep_agrel() -> str:
    """The page on DeepAGREL, in Markdown."""
    table, file = deepagrel_table_1, ResultsFile(deepagrel.FILE)
    parts = [DEEPAGREL_HEAD, *section("Table 1: accuracy and epochs", table.NAME, table.__doc__)]
    parts.append(f"{table.render(file, deepagrel.Extent())}\n")
    parts += figure("Figure 3: right answers in learning", deepagrel_figure_3, file)
    skipping, delayed = deepagrel_skipping, delayed_reward
    parts += section("Learning only from surprise", skipping.NAME, skipping.__doc__)
    parts.append(f"{skipping.render(ResultsFile(skipping.NAME))}\n")
    parts += section("Rewards that arrive after several actions", delayed.NAME, delayed.__doc__)
    parts.append(f"{delayed.render(ResultsFile(delayed.NAME), delayed.Extent())}\n")
    return "\n".join(parts)


def meta_gradients() -> str:
    """The page on meta-gradients, in Markdown."""
    table = meta_gradient_table
    parts = [META_GRADIENTS_HEAD]
    parts += section("Where they were trained, and elsewhere", table.NAME, table.__doc__)
    file = ResultsFile(FILE)
    parts.append(f"{render(file, table.BLOCKS)}\n")
    for title, module in META_GRADIENTS.items():
        parts += figure(title, module, ResultsFile(module.NAME))
    parts += section("A network that travels", traveller.NAME, traveller.__doc__)
    parts.append(f"{traveller.render(ResultsFile(traveller.NAME), file)}\n")
    return "\n".join(parts)


def section(title: str, name: str, documentation: str | None) -> list[str]:
    """How a section begins: its command, and what the module says of it below its first line."""
    about = (documentation or "").partition("\n\n")[2].strip()
    heading = [f"## {title}\n", f"`python -m benchmarks.{name}`\n"]
    return [*heading, f"{about}\n"] if about else heading


def figure(title: str, module: ModuleType, file: ResultsFile, options: str = "") -> list[str]:
    """A section with a picture, if there is one, and what its module says of the numbers."""
    parts = section(title, f"{module.NAME}{options}", module.__doc__)
    if (DOCS / "figures" / f"{module.NAME}.png").exists():
        parts.append(f"![{title}](figures/{module.NAME}.png)\n")
    return [*parts, f"{module.render(file)}\n"]


PAGES = {"tdca": tdca, "deepagrel": deep_agrel, "meta-gradients": meta_gradients}
"""What makes each page, by its name."""

if __name__ == "__main__":
    main()
