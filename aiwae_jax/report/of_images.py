"""Pictures that are images: of data, and of what the model makes of them and of its latents."""

import pathlib
from typing import NamedTuple

import jax
import numpy as np

from aiwae_jax.report import extremes, plots
from aiwae_jax.report.shown import Shown, draw_latents
from aiwae_jax.types import Model

_SEED = 0
NUM = 10  # columns, and rows of samples
NUM_AGAIN = 4  # rows of reconstructions
NUM_UNITS = 6  # of which each is a row
NUM_PAIRS = 6
_SHARE = 0.02  # of the data that a unit's extremes leave out at either end


class Grid(NamedTuple):
    """Images of a picture, row by row.

    Attributes:
      z: `[N, D]` their latents.
      x: `[N, X]` the data whose given part they have, where one is given.
      num_columns: in a row.
      rows: words beside the rows.
    """

    z: np.ndarray
    x: np.ndarray
    num_columns: int = NUM
    rows: tuple[str, ...] = ()


def given_of(model: Model) -> str:
    """What a conditional model is given of an image."""
    return "condition" if model.num_given else "upper half"


def _prior_samples(shown: Shown) -> Grid:
    keys = jax.random.split(jax.random.key(_SEED), (NUM, NUM))
    model, theta = shown.model, shown.theta

    @jax.jit
    @jax.vmap
    def latents(keys, x):
        return jax.vmap(lambda key: model.prior(theta, x).sample(key))(keys)

    images = shown.images.test[:NUM]
    contexts = np.resize(images, (NUM, images.shape[1]))  # a column for each test image
    z = np.swapaxes(np.asarray(latents(keys, contexts)), 0, 1)
    return Grid(z.reshape(NUM * NUM, -1), np.tile(contexts, (NUM, 1)))


def _latents_of_test(shown: Shown, num: int) -> np.ndarray:
    """Latents `[num, D]` of the first evaluated images: q's means, of bits draws."""
    if shown.is_binary:
        return draw_latents(shown.start, jax.random.key(_SEED), shown.images.test)[:num]
    return shown.latent_means[shown.images.places[:num]].astype(shown.images.test.dtype)


def _again(shown: Shown) -> Grid:
    """Of as many test images as fill rows."""
    num_columns = min(NUM, len(shown.images.test))
    num = num_columns * min(NUM_AGAIN, len(shown.images.test) // num_columns)
    images = shown.images.test[:num]
    return Grid(_latents_of_test(shown, num), images, num_columns)


def _traversals(shown: Shown) -> Grid | None:
    """One unit in each row, from where few data have less to where few have more; bits flipped."""
    units = shown.most_active[: NUM if shown.is_binary else NUM_UNITS]
    if not len(units):
        return None
    (base,), x = _latents_of_test(shown, 1), shown.images.test[:1]
    if shown.is_binary:
        positions = np.repeat([[0.0], [1.0]], len(units), axis=1)
    else:
        means = shown.latent_means[np.isfinite(shown.latent_means).all(axis=1)][:, units]
        positions = np.linspace(*np.quantile(means, [_SHARE, 1.0 - _SHARE], axis=0), NUM)
    z = np.tile(base, (*positions.shape, 1))  # `[positions, units, D]`
    for i, unit in enumerate(units):
        z[:, i, unit] = positions[:, i]
    names = tuple(f"unit {unit}" for unit in units)
    if shown.is_binary:
        rows, num_columns = ("off", "on"), len(units)
    else:
        z, rows, num_columns = np.swapaxes(z, 0, 1), names, NUM
    flat = z.reshape(-1, z.shape[-1])
    return Grid(flat, np.repeat(x, len(flat), axis=0), num_columns, rows)


def _interpolations(shown: Shown) -> Grid | None:
    """On the line between the latent means of two test images, a pair in each row."""
    images = shown.images.test[: 2 * NUM_PAIRS]
    num = len(images) // 2
    if shown.is_binary or not num or not len(shown.most_active):
        return None
    z = _latents_of_test(shown, 2 * num)
    first, last = z[0::2, None], z[1::2, None]
    shares = np.linspace(0.0, 1.0, NUM - 2, dtype=z.dtype)[None, :, None]
    line = first + shares * (last - first)
    context = np.repeat(images[0 : 2 * num : 2], NUM - 2, axis=0)
    return Grid(line.reshape(-1, z.shape[1]), context, NUM - 2)


_GRIDS = {
    "samples": _prior_samples,
    "again": _again,
    "traversals": _traversals,
    "interpolations": _interpolations,
}


class Drawn(NamedTuple):
    """Grids and their images."""

    grids: dict[str, Grid]
    images: dict[str, np.ndarray]


def _all(shown: Shown) -> Drawn:
    """Images of all pictures, decoded in one go by one program."""
    found = {name: make(shown) for name, make in _GRIDS.items()}
    grids = {name: grid for name, grid in found.items() if grid is not None}
    z, x = (np.concatenate([getattr(grid, name) for grid in grids.values()]) for name in "zx")
    ends = np.cumsum([len(grid.z) for grid in grids.values()])[:-1]
    parts = np.split(shown.shades(shown.means_of(z, x)), ends)
    return Drawn(grids, dict(zip(grids, parts, strict=True)))


def draw(shown: Shown, path: pathlib.Path, images: np.ndarray, title: str, **options) -> bool:
    """Draws shades `[N, X]` as images of the data set, under its title."""
    plots.image_grid(
        path,
        images,
        shown.dataset.image_shape,
        is_ink=shown.is_ink,
        title=f"{shown.dataset.title}: {title}",
        **options,
    )
    return True


def samples(shown: Shown, path: pathlib.Path) -> bool:
    """Draws mean images of latents from the prior."""
    if not shown.has_means:
        return False
    is_given = shown.model.is_conditional
    given = f", given the {given_of(shown.model)} of a test image" if is_given else ""
    title = f"mean images of prior samples{given}"
    return draw(shown, path, shown.once(_all).images["samples"], title, num_columns=NUM)


def reconstructions(shown: Shown, path: pathlib.Path) -> bool:
    """Draws test images above what the model makes of their latents."""
    if not shown.has_means:
        return False
    found = shown.once(_all)
    again, num_columns = found.images["again"], found.grids["again"].num_columns
    first = shown.shades(shown.images.test[: len(again)])
    rows = [each.reshape(-1, num_columns, each.shape[1]) for each in (first, again)]
    pairs = np.stack(rows, axis=1).reshape(-1, again.shape[1])  # a row, and below it its own
    title = "test images, and below each its reconstruction"
    return draw(shown, path, pairs, title, num_columns=num_columns)


def traversals(shown: Shown, path: pathlib.Path) -> bool:
    """Draws what the most active units change; False where none is active."""
    if not shown.has_means or "traversals" not in (found := shown.once(_all)).grids:
        return False
    grid = found.grids["traversals"]
    title = "units switched off and on" if shown.is_binary else "the most active units"
    options = {"num_columns": grid.num_columns, "row_labels": grid.rows}
    return draw(shown, path, found.images["traversals"], title, **options)


def interpolations(shown: Shown, path: pathlib.Path) -> bool:
    """Draws lines between the latents of test images, which stand at both ends."""
    if not shown.has_means or "interpolations" not in (found := shown.once(_all)).grids:
        return False
    between = found.images["interpolations"]
    between = between.reshape(-1, NUM - 2, between.shape[1])
    ends = shown.shades(shown.images.test[: 2 * len(between)]).reshape(len(between), 2, -1)
    rows = np.concatenate([ends[:, :1], between, ends[:, 1:]], axis=1)
    flat = rows.reshape(-1, rows.shape[-1])
    return draw(shown, path, flat, "between two test images", num_columns=NUM)


def best_and_worst(shown: Shown, path: pathlib.Path) -> bool:
    """Draws the test images of the highest and of the lowest NLL."""
    chosen = extremes.choose(shown)
    if not shown.has_images or chosen is None:
        return False
    places = np.concatenate([chosen.worst, chosen.best])
    return draw(
        shown,
        path,
        shown.shades(shown.images.test[places]),
        "the least and the most likely test images",
        num_columns=len(chosen.worst),
        row_labels=("highest NLL", "lowest NLL"),
        under=[f"{chosen.nll[place]:.1f}" for place in places],
    )
