"""Pictures of a run, written as PNG through matplotlib."""

import contextlib
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np


def load() -> None:
    """Imports matplotlib, which tells before any work whether there can be pictures after it.

    Whatever MPLBACKEND says, also of a backend that does not exist: no window is opened here.

    Raises:
      ImportError: if it is not installed.
      OSError: if it has no folder for its own files.
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend  # for pyplot in the same process


def _figure(width: float, height: float):
    load()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def image_grid(
    path: str | os.PathLike,
    images: np.ndarray,
    image_shape: tuple[int, ...],
    *,
    num_columns: int,
    title: str,
    row_labels: Sequence[str] = (),
    is_ink: bool = True,
) -> None:
    """Draws `[N, X]` images of values in [0, 1], row by row.

    Args:
      path: where the PNG goes.
      images: `[N, X]`.
      image_shape: (height, width), or (height, width, 3) of colours, which are drawn as they are.
      num_columns: images per row.
      title: above the grid.
      row_labels: beside the rows, if given.
      is_ink: whether 1 is ink, and drawn dark, rather than light.
    """
    height, width, *colours = image_shape
    num_rows = -(-len(images) // num_columns)
    gap = max(1, height // 14)
    size = num_rows * (height + gap) + gap, num_columns * (width + gap) + gap
    canvas = np.full((*size, *colours), 0.35)
    for i, image in enumerate(np.asarray(images)):
        top = gap + (i // num_columns) * (height + gap)
        left = gap + (i % num_columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image.reshape(image_shape)
    figure = _figure(0.6 * num_columns + (1.2 if row_labels else 0.2), 0.6 * num_rows + 0.4)
    axes = figure.subplots()
    axes.imshow(
        canvas, cmap="gray_r" if is_ink else "gray", vmin=0.0, vmax=1.0, interpolation="nearest"
    )
    axes.set_xticks([])
    if row_labels:
        axes.set_yticks([gap + (i + 0.5) * (height + gap) - gap / 2 for i in range(num_rows)])
        axes.set_yticklabels(row_labels)
    else:
        axes.set_yticks([])
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=150)


def learning_curves(
    path: str | os.PathLike,
    epochs: Sequence[float],
    curves: dict[str, Sequence[float]],
    title: str,
    validation: Mapping[str, Sequence[float]] = MappingProxyType({}),
    best_epoch: float | None = None,
) -> None:
    """Draws each objective against the epoch, one panel each.

    Args:
      path: where the PNG goes.
      epochs: `[N]`.
      curves: `[N]` each, by their names.
      title: above the panels.
      validation: `[N]` each, NaN where there was none; they join every panel of a bound, or the
        first panel where there is none.
      best_epoch: marked by a line.
    """
    figure = _figure(7.0, 1.9 * len(curves) + 0.6)
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    bounds = [name for name in curves if name.endswith("bound")] or list(curves)[:1]
    beside = bounds if validation else []
    for axes, (name, values) in zip(panels, curves.items(), strict=True):
        axes.plot(
            epochs,
            np.asarray(values, float),
            marker="." if len(values) < 60 else None,
            color="tab:blue",
            label="training",
        )
        axes.set_ylabel(f"{name}\n(nats)", fontsize=8)
        axes.grid(alpha=0.3)
        together = [np.asarray(values, float)]
        if name in beside:
            for (label, found), color in zip(validation.items(), ("orange", "green"), strict=False):
                found = np.asarray(found, float)
                is_there = np.isfinite(found)
                together.append(found)
                style = {"marker": ".", "markersize": 4, "linewidth": 1, "color": f"tab:{color}"}
                axes.plot(np.asarray(epochs)[is_there], found[is_there], label=label, **style)
            axes.legend(fontsize=7, loc="lower right")
        if best_epoch is not None:
            axes.axvline(best_epoch, linestyle="--", color="gray", linewidth=1)
        late = np.concatenate([each[len(values) // 5 :] for each in together])
        late = late[np.isfinite(late)]
        if len(late) > 1 and np.ptp(late) > 0:  # the first epochs would flatten all the rest
            axes.set_ylim(late.min() - 0.3 * np.ptp(late), late.max() + 0.15 * np.ptp(late))
    panels[0].set_title(title, fontsize=10)
    panels[-1].set_xlabel("epoch")
    if np.ptp(epochs) >= 2:  # no ticks between epochs, unless there is nothing else
        panels[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.align_ylabels(panels)
    figure.savefig(path, dpi=120)


class Moves(NamedTuple):
    """Diagnostics of the moves of a chain, one for each.

    Attributes:
      betas: the inverse temperatures where they were made; None draws them by their numbers.
      acceptance: their mean acceptance.
      step_sizes: their step sizes, or None for moves that have none.
      target: the acceptance that they were steered to.
      sample_sizes: effective sample size of the weights there, or None.
    """

    betas: Sequence[float] | None
    acceptance: Sequence[float]
    step_sizes: Sequence[float] | None
    target: float
    sample_sizes: Sequence[float] | None = None


def acceptance(path: str | os.PathLike, columns: dict[str, Moves], title: str) -> None:
    """Draws acceptance, step size and effective sample size of moves, each at its β or number.

    Args:
      path: where the PNG goes.
      columns: by their titles; the target acceptance is a dashed line.
      title: above the figure.
    """
    figure = _figure(4.2 * len(columns) + 0.6, 6.6)
    panels = figure.subplots(3, len(columns), sharex="col", squeeze=False)
    for column, (name, moves) in enumerate(columns.items()):
        num_moves, axis = len(moves.acceptance), "inverse temperature β"
        places = moves.betas
        if places is None:
            places, axis = np.arange(1, num_moves + 1), "number of the move"
        style = {"marker": "o" if num_moves < 40 else None, "markersize": 3, "linewidth": 1}
        panels[0, column].plot(places, moves.acceptance, **style)
        panels[0, column].axhline(moves.target, linestyle="--", color="gray", linewidth=1)
        panels[0, column].set(title=name, ylim=(0, 1.04))
        if moves.step_sizes is None:
            _say(panels[1, column], "these moves have none")
        else:
            panels[1, column].plot(places, moves.step_sizes, color="tab:orange", **style)
            largest = np.nanmax([*moves.step_sizes, 1e-12])
            panels[1, column].set(ylim=(0, 1.1 * largest))
        panels[2, column].set(xlabel=axis)
        if moves.sample_sizes is None:
            _say(panels[2, column], "not recorded")
        else:
            panels[2, column].plot(places, moves.sample_sizes, color="tab:green", **style)
            panels[2, column].set(ylim=(0, 1.1 * max([*moves.sample_sizes, 1.0])))
    panels[0, 0].set_ylabel("acceptance")
    panels[1, 0].set_ylabel("step size")
    panels[2, 0].set_ylabel("effective sample size\nof the chains so far")
    for axes in panels.ravel():
        axes.grid(alpha=0.3)
    figure.align_ylabels(panels)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=120)


def confusion(
    path: str | os.PathLike, counts: np.ndarray, names: Sequence[str], *, title: str
) -> None:
    """Draws how many of each class (rows) were taken for which (columns).

    Args:
      path: where the PNG goes.
      counts: `[K, K]`.
      names: of the K classes.
      title: above the figure.
    """
    size = 1.6 + 0.4 * len(names)
    figure = _figure(size, size)
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues", vmin=0)
    places = np.arange(len(names))
    axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(places, names)
    for row, column in np.argwhere(counts):
        is_dark = counts[row, column] > 0.6 * np.max(counts)
        style = {"ha": "center", "va": "center", "color": "white" if is_dark else "black"}
        axes.text(column, row, f"{counts[row, column]}", fontsize=8, **style)
    axes.set(xlabel="taken for", ylabel="class")
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=120)


def _say(axes, words: str) -> None:
    """Words in the place of a curve, without a scale that would be of nothing."""
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color="gray")
    axes.set_yticks([])


def posteriors(
    path: str | os.PathLike,
    panels: dict[tuple[str, str], dict],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
) -> None:
    """Draws posteriors of two latents, a panel for each model.

    Args:
      path: where the PNG goes.
      panels: (row, column) -> `posterior` (a `grid.GridPosterior`), `q_mean` and `q_stddev` `[2]`,
        `particles` `[N, 2]`.
      rows: labels from top to bottom.
      columns: labels from left to right.
      title: above the figure.
    """
    figure = _figure(2.6 * len(columns) + 0.5, 2.75 * len(rows) + 0.6)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    angles = np.linspace(0.0, 2 * np.pi, 100)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            axes, panel = grid[i, j], panels[row, column]
            posterior = panel["posterior"]
            axes.pcolormesh(*posterior.axes, posterior.density.T, cmap="Blues", rasterized=True)
            shown = np.argwhere(posterior.density > 1e-3 * posterior.density.max())
            ends = zip(posterior.axes, shown.min(axis=0), shown.max(axis=0), strict=True)
            (left, right), (bottom, top) = ((axis[low], axis[high]) for axis, low, high in ends)
            axes.set(xlim=(left, right), ylim=(bottom, top))
            axes.plot(*panel["particles"].T, ".", color="tab:orange", markersize=2.5)
            ellipse = panel["q_mean"] + panel["q_stddev"] * circle
            axes.plot(*ellipse.T, color="tab:red", linewidth=1)
            divergence = posterior.divergence_from_gaussian()
            axes.set_xlabel(f"KL from a Gaussian {divergence:.3f} nats", fontsize=8)
            axes.tick_params(labelsize=6)
            if i == 0:
                axes.set_title(column, fontsize=9)
            if j == 0:
                axes.set_ylabel(row, fontsize=9)
    key = "blue p(z|x) on a grid, red one sigma of q(z|x), orange annealed particles"
    lines = [textwrap.fill(text, 16 + 30 * len(columns)) for text in (title, key)]
    figure.suptitle("\n".join(lines), fontsize=9)
    figure.savefig(path, dpi=110)


def cost_curves(
    path: str | os.PathLike,
    curves: dict[str, Sequence[tuple[float, float, float]]],
    title: str,
    *,
    axis_labels: tuple[str, str],
) -> None:
    """Draws a few points (cost, value, its standard deviation) for each name, the costs in log."""
    figure = _figure(8.5, 5.5)
    axes = figure.subplots()
    markers = "osD^v<>P"
    for i, (name, points) in enumerate(curves.items()):
        x, y, error = np.array(sorted(points)).T
        axes.errorbar(
            *(x, y, error),
            marker=markers[i // 10 % len(markers)],
            linewidth=1,
            capsize=2,
            label=name,
            color=f"C{i % 10}",
        )
    axes.set(xscale="log", xlabel=axis_labels[0], ylabel=axis_labels[1])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(textwrap.fill(title, 100), fontsize=9)
    figure.savefig(path, dpi=120)
