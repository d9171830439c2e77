"""NLL against cost: `python results/recipe/picture.py`.

Writes results/recipe/nll_against_cost.png from test.csv beside it (means over seeds), the trainings
by the paper's settings in results/, and the paper's own numbers.
"""

import csv
import itertools
import json
import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_HERE = pathlib.Path(__file__).parent
_RESULTS = _HERE.parent
# Of the rows of test.csv whose names begin so: label, colour, marker.
_SERIES = {
    "recipe": ("AIWAE by the recipe: VAE first, annealed at the end", "#b5179e", "o"),
    "longer": ("the same, lower rate, T=11 at the end (one seed)", "#7209b7", "D"),
    "plain": ("VAE by the recipe's optimizer, never annealed", "#4361ee", "s"),
}
# Gradients of log p(x, z) for an image and epoch, by the paper's settings.
_COST = {"aiwae": 24.669, "iwae": 2.693}
_PAPER_EPOCHS = 3280
# The paper's Table 3 of MNIST in nats.
_PAPER = {86.07: "paper, IWAE K=1", 84.55: "paper, AIWAE K=1 T=5", 83.68: "paper's best (K=50)"}
# What `make long` needed for 988 gradients an image: results/long/recipe-40.csv.
_GRADIENTS_PER_HOUR = 988 / 1610 * 3600


def points(begin: str) -> np.ndarray:
    """[gradients an image, mean NLL, its deviation over seeds] of a series, by cost."""
    with (_HERE / "test.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["name"].startswith(begin)]
    cost = lambda row: float(row["gradients_per_image"])  # noqa: E731
    found = []
    for gradients, group in itertools.groupby(sorted(rows, key=cost), key=cost):
        values = [float(row["nll_test"]) for row in group]
        found.append(
            (gradients, np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0)
        )
    return np.array(found)


def by_the_papers_settings(method: str) -> list[float]:
    """[gradients an image, NLL] of `method`, K=1, after 40 epochs as the paper trains it."""
    with (_RESULTS / "mnist-40-epochs.csv").open(encoding="utf-8") as file:
        (nll,) = {
            float(row["mean"])
            for row in csv.DictReader(file)
            if (row["method"], row["num_particles"], row["metric"]) == (method, "1", "nll_test")
            and row["batch_size"] == {"iwae": "20", "aiwae": "128"}[method]
        }
    return [40 * _COST[method], nll]


def main() -> None:
    """Entry point."""
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for begin, (label, colour, marker) in _SERIES.items():
        gradients, nll, spread = points(begin).T
        look = {"color": colour, "marker": marker, "label": label, "lw": 2.5, "ms": 8}
        axis.errorbar(gradients, nll, yerr=spread, **look)
    folder = _RESULTS / "gpu" / "mnist-aiwae-K1-T5-1050-epochs"
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    annealed = [by_the_papers_settings("aiwae"), [1050 * _COST["aiwae"], report["nll_test"]]]
    look = {"color": "#e07a1f", "marker": "^", "lw": 2.5, "ms": 8}
    axis.plot(*np.array(annealed).T, label="AIWAE (K=1, T=5) as the paper trains it", **look)
    look = {"color": "#6c757d", "marker": "v", "ls": "", "ms": 8}
    axis.plot(
        *by_the_papers_settings("iwae"), label="VAE (IWAE, K=1) as the paper trains it", **look
    )
    published = [(_COST["iwae"] * _PAPER_EPOCHS, 86.07), (_COST["aiwae"] * _PAPER_EPOCHS, 84.55)]
    axis.plot(*np.array(published).T, "k*", ms=13, label="the paper's numbers at its own cost")
    for value, name in _PAPER.items():
        axis.axhline(value, color="black", lw=0.8, ls="--", zorder=0)
        axis.annotate(
            f"{name}: {value}",
            (0.008, value),
            xycoords=("axes fraction", "data"),
            va="bottom",
            fontsize=9,
        )
    axis.set_xscale("log")
    axis.set_xlim(80, 130_000)
    axis.set_xlabel(
        "gradients of log p(x, z) for each training image (the optimizer's work counted)"
    )
    axis.set_ylabel("test NLL (nats); lower is better")
    axis.set_title("MNIST, the paper's model: likelihood against the cost of training")
    hours = axis.secondary_xaxis(
        "top", functions=(lambda x: x / _GRADIENTS_PER_HOUR, lambda x: x * _GRADIENTS_PER_HOUR)
    )
    hours.set_xlabel("about as many hours on one CPU core, by the recipe (988 gradients: 1,610 s)")
    axis.grid(alpha=0.25, which="both")
    axis.legend(fontsize=9.5, loc="upper right")
    figure.savefig(_HERE / "nll_against_cost.png", dpi=120)


if __name__ == "__main__":
    main()
