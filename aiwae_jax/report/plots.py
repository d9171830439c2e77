"""Pictures of a run, written as PNG through matplotlib."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from aiwae_jax.report.style import BLUE, COLOURS, GREEN, INK, ORANGE, RED, figure, save, styled
from aiwae_jax.report.style import load as load


@styled
def image_grid(
    path: str | os.PathLike,
    images: np.ndarray,
    image_shape: tuple[int, ...],
    *,
    num_columns: int,
    title: str,
    row_labels: Sequence[str] = (),
    under: Sequence[str] = (),
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
      under: words under each image, if given.
      is_ink: whether 1 is ink, and drawn dark, rather than light.
    """
    height, width, *colours = image_shape
    num_rows = -(-len(images) // num_columns)
    gap = max(1, height // 14)
    foot = gap + (height // 3 if under else 0)  # below each row
    tall, wide = height + foot, width + gap
    size = num_rows * tall + gap, num_columns * wide + gap
    canvas = np.full((*size, *colours), np.nan)
    for i, image in enumerate(np.asarray(images)):
        top, left = gap + (i // num_columns) * tall, gap + (i % num_columns) * wide
        canvas[top : top + height, left : left + width] = image.reshape(image_shape)
    inch = 0.82 if under else 0.6  # of each image, whose words need room
    beside = 0.2 + 0.09 * max(map(len, row_labels), default=0)
    drawn = figure(inch * num_columns + beside, inch * num_rows * tall / wide + 0.4)
    axes = drawn.subplots()
    if colours:  # without a colour of its own for what is no image
        is_there = np.isfinite(canvas).all(axis=-1, keepdims=True)
        canvas = np.concatenate([np.where(is_there, canvas, 0.0), is_there], axis=-1)
    style = {"cmap": "gray_r" if is_ink else "gray", "vmin": 0.0, "vmax": 1.0}
    axes.imshow(canvas, interpolation="nearest", **style)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if row_labels:
        places = [gap + (i + 0.5) * height + i * foot for i in range(num_rows)]
        axes.set_yticks(places, row_labels, fontsize=9)
        axes.tick_params(length=0)
    for i, words in enumerate(under):
        place = gap + (i % num_columns) * wide + width / 2, (i // num_columns + 1) * tall - gap / 2
        axes.text(*place, words, ha="center", va="bottom", fontsize=7)
    axes.set_title(title)
    save(drawn, path)


class Curve(NamedTuple):
    """Of what is known at some epochs.

    Attributes:
      label: what it is.
      values: `[N]` nats, NaN where there is none.
    """

    label: str
    values: np.ndarray


_NUM_EPOCHS_OF_TWO_PANELS = 8


@styled
def learning_curves(
    path: str | os.PathLike,
    epochs: Sequence[float],
    curves: Sequence[Curve],
    title: str,
    *,
    unit: str,
    best_epoch: float | None = None,
    parts: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Draws all curves on one axis: of all epochs, and where these are many of their last half.

    Args:
      path: where the PNG goes.
      epochs: `[N]`.
      curves: of `[N]` each.
      title: above the panels.
      unit: of the axis.
      best_epoch: marked by a dashed line.
      parts: words for parts of the training -> the epoch where each begins.
    """
    epochs = np.asarray(epochs, float)
    is_late = epochs >= epochs[-1] / 2
    which = [("all epochs", np.full(len(epochs), True))]
    if len(epochs) >= _NUM_EPOCHS_OF_TWO_PANELS:
        which.append(("the last half", is_late))
    drawn = figure(*((9.2, 3.3) if len(which) > 1 else (5.6, 3.6)))
    panels = drawn.subplots(1, len(which), squeeze=False)[0]
    for axes, (name, is_in) in zip(panels, which, strict=True):
        for curve, colour in zip(curves, (BLUE, ORANGE, GREEN), strict=False):
            is_there = np.isfinite(curve.values) & is_in
            marker = "." if is_there.sum() < 60 else None
            style = {"marker": marker, "markersize": 4, "linewidth": 1.4, "color": colour}
            axes.plot(epochs[is_there], curve.values[is_there], label=curve.label, **style)
        if best_epoch is not None and epochs[is_in][0] <= best_epoch:
            axes.axvline(best_epoch, linestyle="--", color=INK, linewidth=1)
        for words, began in parts.items():
            epoch = max(began, epochs[0])  # of the first part, which nothing was recorded before
            if epochs[is_in][0] <= epoch <= epochs[-1]:
                axes.axvline(epoch, linestyle=":", color=INK, linewidth=1)
                axes.annotate(
                    f" {words}",
                    (epoch, 0.01),
                    xycoords=axes.get_xaxis_transform(),
                    fontsize=7,
                    rotation=90,
                    va="bottom",
                )
        axes.grid()
        axes.set(xlabel="epoch", title=name if len(which) > 1 else None)
        if np.ptp(epochs) >= 2:  # no ticks between epochs, unless there is nothing else
            axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel(unit)
    panels[-1].legend(loc="lower right")
    drawn.suptitle(title, fontsize=10)
    save(drawn, path)


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


@styled
def acceptance(path: str | os.PathLike, columns: dict[str, Moves], title: str) -> None:
    """Draws acceptance, step size and effective sample size of moves, each at its β or number.

    Args:
      path: where the PNG goes.
      columns: by their titles; the target acceptance is a dashed line.
      title: above the figure.
    """
    drawn = figure(9.2, 2.4 * len(columns) + 0.4)
    panels = drawn.subplots(len(columns), 3, squeeze=False)
    for row, (name, moves) in zip(panels, columns.items(), strict=True):
        num_moves, axis = len(moves.acceptance), "inverse temperature β"
        places = moves.betas
        if places is None:
            places, axis = np.arange(1, num_moves + 1), "number of the move"
        style = {"marker": "o" if num_moves < 40 else None, "markersize": 3, "linewidth": 1.2}
        row[0].plot(places, moves.acceptance, color=BLUE, **style)
        row[0].axhline(moves.target, linestyle="--", color=INK, linewidth=1)
        row[0].set(title="acceptance", ylim=(0, 1.04), ylabel=name)
        if moves.step_sizes is None:
            _say(row[1], "moves without a step size")
        else:
            row[1].plot(places, moves.step_sizes, color=ORANGE, **style)
            top = 1.1 * np.nanmax([*moves.step_sizes, 1e-12])
            row[1].set(title="step size", ylim=(0, top))
        if moves.sample_sizes is None:
            _say(row[2], "no weights were recorded")
        else:
            row[2].plot(places, moves.sample_sizes, color=GREEN, **style)
            top = 1.1 * max([*moves.sample_sizes, 1.0])
            row[2].set(title="effective sample size so far", ylim=(0, top))
        for axes in row:
            axes.set_xlabel(axis)
            axes.grid()
    drawn.suptitle(title, fontsize=10)
    save(drawn, path)


def _say(axes, words: str) -> None:
    """Words in the place of a curve, without a frame that would be of nothing."""
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center")
    axes.set_axis_off()


@styled
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
    from matplotlib import colormaps

    drawn = figure(2.6 * len(columns) + 0.5, 2.75 * len(rows) + 0.6)
    grid = drawn.subplots(len(rows), len(columns), squeeze=False)
    angles = np.linspace(0.0, 2 * np.pi, 100)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    empty = colormaps["Blues"](0)  # beyond the grid, which ends where there is no mass
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            axes, panel = grid[i, j], panels[row, column]
            posterior = panel["posterior"]
            axes.pcolormesh(*posterior.axes, posterior.density.T, cmap="Blues", rasterized=True)
            shown = np.argwhere(posterior.density > 1e-3 * posterior.density.max())
            ends = zip(posterior.axes, shown.min(axis=0), shown.max(axis=0), strict=True)
            corners = np.array([(axis[low], axis[high]) for axis, low, high in ends]).T
            ellipse = panel["q_mean"] + panel["q_stddev"] * circle
            (left, bottom), (right, top) = limits(np.concatenate([corners, ellipse]))
            axes.set(xlim=(left, right), ylim=(bottom, top), facecolor=empty)
            axes.plot(*panel["particles"].T, ".", color=ORANGE, markersize=2.5)
            axes.plot(*ellipse.T, color=RED, linewidth=1.2)
            divergence = posterior.divergence_from_gaussian()
            axes.set_xlabel(f"KL from a Gaussian {divergence:.3f} nats", fontsize=8)
            axes.tick_params(labelsize=6)
            if i == 0:
                axes.set_title(column, fontsize=9)
            if j == 0:
                axes.set_ylabel(row, fontsize=9)
    key = "blue p(z|x) on a grid, red one sigma of q(z|x), orange annealed particles"
    lines = [textwrap.fill(text, 16 + 30 * len(columns)) for text in (title, key)]
    drawn.suptitle("\n".join(lines), fontsize=9)
    save(drawn, path)


def limits(points: np.ndarray, margin: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """Corners (low `[2]`, high `[2]`) of axes that contain points `[N, 2]`, with a margin."""
    low, high = points.min(axis=0), points.max(axis=0)
    return low - margin * (high - low), high + margin * (high - low)


@styled
def cost_curves(
    path: str | os.PathLike,
    curves: dict[str, Sequence[tuple[float, float, float]]],
    title: str,
    *,
    axis_labels: tuple[str, str],
) -> None:
    """Draws a few points (cost, value, its standard deviation) for each name, the costs in log."""
    drawn = figure(8.5, 5.5)
    axes = drawn.subplots()
    markers = "osD^v<>P"
    for i, (name, points) in enumerate(curves.items()):
        x, y, error = np.array(sorted(points)).T
        axes.errorbar(
            *(x, y, error),
            marker=markers[i // 10 % len(markers)],
            linewidth=1,
            capsize=2,
            label=name,
            color=COLOURS[i % 10],
        )
    axes.set(xscale="log", xlabel=axis_labels[0], ylabel=axis_labels[1])
    axes.grid()
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    drawn.suptitle(textwrap.fill(title, 100), fontsize=9)
    save(drawn, path)
