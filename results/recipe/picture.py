"""NLL against cost, from the tables of `make long`: `python results/recipe/picture.py`.

Writes results/recipe/nll_against_cost.png from results/long/*.csv, each of which is one training at
one length, or one whose reports were made at several; the mean over its seeds at each length.
"""

import csv
import itertools
import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_HERE = pathlib.Path(__file__).parent
_TABLES = _HERE.parent / "long"
# Of the tables whose names begin so: label, colour, marker.
_SERIES = {
    "recipe": ("AIWAE by the recipe: VAE first, annealed at the end", "#b5179e", "o"),
    "plain": ("VAE by the recipe's optimizer, never annealed", "#4361ee", "s"),
    "paper-aiwae": ("AIWAE (K=1, T=5) as the paper trains it", "#e07a1f", "^"),
    "paper-iwae": ("IWAE (K=1, a VAE) as the paper trains it", "#6c757d", "v"),
}
# The paper's Table 3 of MNIST after 3,280 epochs (K=1; K=50, T=11) in nats.
_PAPER = {86.07: "paper, IWAE K=1", 84.55: "paper, AIWAE K=1 T=5", 83.68: "paper's best"}


def points(begin: str) -> list[tuple[float, float, float, float]]:
    """(gradients an image, seconds, mean NLL, its deviation over seeds) of a series, by cost."""
    rows = []
    for path in sorted(_TABLES.glob(f"{begin}*.csv")):
        if not path.stem.endswith("-training"):
            with path.open(encoding="utf-8") as file:
                rows += list(csv.DictReader(file))
    cost = lambda row: round(float(row["gradients_per_image"]))  # noqa: E731
    found = []
    for gradients, group in itertools.groupby(sorted(rows, key=cost), key=cost):
        values = [(float(row["training_seconds"]), float(row["nll_test"])) for row in group]
        seconds, nll = np.mean(values, axis=0)
        found.append((gradients, seconds, nll, np.std(values, axis=0)[1]))
    return found


def main() -> None:
    """Entry point."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for begin, (label, colour, marker) in _SERIES.items():
        found = np.array(points(begin)).reshape(-1, 4)
        for axis, x in ((left, found[:, 0]), (right, found[:, 1] / 60)):
            axis.errorbar(
                x, found[:, 2], yerr=found[:, 3], color=colour, marker=marker, label=label, lw=2
            )
    for axis, title in (
        (left, "gradients of log p(x, z) for each training image"),
        (right, "minutes of training on one CPU core"),
    ):
        axis.set_xscale("log")
        axis.set_xlabel(title)
        axis.grid(alpha=0.3, which="both")
        for value in _PAPER:
            axis.axhline(value, color="black", lw=1, ls="--")
    for value, name in _PAPER.items():
        left.annotate(
            f"{name} {value}",
            (0.01, value),
            xycoords=("axes fraction", "data"),
            va="bottom",
            fontsize=8,
        )
    left.set_ylabel("NLL of MNIST's test images (nats); lower is better")
    right.legend(fontsize=9)
    figure.savefig(_HERE / "nll_against_cost.png", dpi=130)


if __name__ == "__main__":
    main()
