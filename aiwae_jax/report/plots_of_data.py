"""Pictures of what single data have: their NLL, and where they lie among the latents."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aiwae_jax.report.style import BLUE, COLOURS, INK, ORANGE, figure, save, styled

_MOST_NAMES = 12  # classes that a legend can name


@styled
def histogram(
    path: str | os.PathLike,
    values: Mapping[str, np.ndarray],
    title: str,
    *,
    means: Mapping[str, float],
    unit: str,
) -> None:
    """Draws how often values occur, each set's mean as a dashed line.

    Args:
      path: where the PNG goes.
      values: label -> `[N]`, finite; the first is filled, others are outlines.
      title: above the figure.
      means: label -> what to call their mean.
      unit: of the axis.
    """
    drawn = figure(5.6, 4.0)
    axes = drawn.subplots()
    joined = np.concatenate(list(values.values()))
    edges = np.histogram_bin_edges(joined, bins=min(40, max(5, round(len(joined) ** 0.5))))
    for i, ((label, each), colour) in enumerate(zip(values.items(), (BLUE, ORANGE), strict=False)):
        style = {"color": colour, "label": f"{label}, mean {means[label]:.2f}"}
        kind = {"histtype": "stepfilled", "alpha": 0.55} if not i else {"histtype": "step"}
        axes.hist(each, bins=edges, linewidth=1.4, **kind, **style)
        axes.axvline(means[label], linestyle="--", color=colour, linewidth=1)
    axes.set(xlabel=unit, ylabel="how many", title=title)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y")
    axes.legend()
    save(drawn, path)


@styled
def scatter(
    path: str | os.PathLike,
    points: np.ndarray,
    title: str,
    *,
    axis_labels: tuple[str, str],
    labels: np.ndarray | None = None,
    names: Sequence[Any] | None = None,
) -> None:
    """Draws points `[N, 2]`, coloured by their labels.

    Args:
      path: where the PNG goes.
      points: `[N, 2]`.
      title: above the figure.
      axis_labels: of both axes.
      labels: `[N]` codes or numbers; a few different ones are named, many numbers are a scale.
      names: of the codes.
    """
    drawn = figure(5.6, 4.0)
    axes = drawn.subplots()
    style = {"s": 260 / len(points) ** 0.5, "linewidths": 0, "alpha": 0.8}
    found = None if labels is None else np.unique(labels)
    if found is None:
        axes.scatter(*points.T, color=BLUE, **style)
    elif len(found) <= _MOST_NAMES:
        for i, label in enumerate(found):
            name = label if names is None else names[int(label)]
            if isinstance(name, float | np.floating):
                name = f"{name:g}"
            place = {"marker": "os^D"[i // len(COLOURS) % 4], "color": COLOURS[i % len(COLOURS)]}
            axes.scatter(*points[labels == label].T, label=str(name), **place, **style)
        legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2)
        for handle in legend.legend_handles:
            handle.set_sizes([28])
            handle.set_alpha(1.0)
    else:
        values = labels if labels.dtype.kind in "biuf" else np.searchsorted(found, labels)
        drawn.colorbar(axes.scatter(*points.T, c=values, cmap="viridis", **style), label="label")
    axes.axhline(0.0, color=INK, linewidth=0.6, alpha=0.5)
    axes.axvline(0.0, color=INK, linewidth=0.6, alpha=0.5)
    axes.set(xlabel=axis_labels[0], ylabel=axis_labels[1], title=title)
    save(drawn, path)


@styled
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
    drawn = figure(size, size)
    axes = drawn.subplots()
    axes.imshow(counts, cmap="Blues", vmin=0)
    places = np.arange(len(names))
    axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(places, names)
    for row, column in np.argwhere(counts):
        is_dark = counts[row, column] > 0.6 * np.max(counts)
        style = {"ha": "center", "va": "center", "color": "white" if is_dark else "black"}
        axes.text(column, row, f"{counts[row, column]}", fontsize=8, **style)
    axes.set(xlabel="taken for", ylabel="class", title=title)
    save(drawn, path)
