"""The pictures of a report: whatever is missing is drawn from the model and what was measured."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import data, moves
from aiwae_jax.report import conditions, plots
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.runs import files, metrics
from aiwae_jax.samplers import TARGET_ACCEPTANCE
from aiwae_jax.train.of_rows import beside_what_is_given
from aiwae_jax.types import Model, PyTree

_SEED = 0
_NUM = 10  # columns, and rows of samples
_PNG = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"  # its first and its last bytes


class Shown(NamedTuple):
    """Material of the pictures.

    Attributes:
      folder: of the pictures.
      dataset: its data.
      model: its model.
      theta: of one model.
      start: x -> what its evaluation started from.
      test_images: `[N, X]`, binarized, of which the first are shown.
      records: of the training's metrics.
      arrays: of evaluation.npz; without them the evaluation's moves are left out.
      move: how its training moved chains.
      evaluation: its settings.
      best_epoch: of the weights that validation chose, or None.
    """

    folder: pathlib.Path
    dataset: data.Dataset
    model: Model
    theta: PyTree
    start: Partial
    test_images: np.ndarray
    records: list[dict[str, Any]]
    arrays: dict[str, np.ndarray]
    move: str
    evaluation: Evaluation
    best_epoch: float | None = None

    @property
    def has_images(self) -> bool:
        """Whether there is anything to draw a datum as."""
        return self.dataset.image_shape is not None and self.model.likelihood is not None

    def shades(self, images) -> np.ndarray:
        """Shades in [0, 1]: of levels that a model sees as they are, the share of white."""
        images = np.asarray(images)[..., : self.dataset.num_modelled]
        if self.dataset.max_level is not None:
            return images
        train = self.dataset.modelled.train
        low, high = min(float(train.min()), 0.0), max(float(train.max()), 1.0)
        return np.clip((images - low) / (high - low), 0.0, 1.0)

    @property
    def is_ink(self) -> bool:
        """Whether 1 is ink on paper, as in the named sets; in images of one's own it is light."""
        return self.dataset.name in data.NAMES

    def mean_image(self, z, x):
        """The mean of what is modelled of x, beside the part of x that is given."""
        return beside_what_is_given(self.model.likelihood(self.theta, z), x)


def _samples(shown: Shown, path: pathlib.Path) -> bool:
    if not shown.has_images:
        return False
    keys = jax.random.split(jax.random.key(_SEED), (_NUM, _NUM))
    model, theta = shown.model, shown.theta

    @jax.jit
    @jax.vmap
    def samples(keys, x):
        def draw(key):
            return shown.mean_image(model.prior(theta, x).sample(key), x)

        return jax.vmap(draw)(keys)

    images = shown.test_images[:_NUM]
    # Each of a conditional model's columns is of one test image.
    contexts = np.resize(images, (_NUM, images.shape[1]))
    of_what = "conditions" if model.num_given else "upper halves"
    given = f" for the {of_what} of test images" if model.is_conditional else ""
    plots.image_grid(
        path,
        shown.shades(np.swapaxes(samples(keys, contexts), 0, 1).reshape(_NUM * _NUM, -1)),
        shown.dataset.image_shape,
        num_columns=_NUM,
        is_ink=shown.is_ink,
        title=f"{shown.dataset.title}: mean images of prior samples{given}",
    )
    return True


def _reconstructions(shown: Shown, path: pathlib.Path) -> bool:
    if not shown.has_images:
        return False
    keys = jax.random.split(jax.random.key(_SEED), (_NUM, _NUM))
    images = shown.test_images[:_NUM]

    @jax.jit
    @jax.vmap
    def reconstruct(key, x):
        q = shown.start(x)
        z = q.sample(key) if shown.model.latents == "binary" else q.mean()
        return shown.mean_image(z, x)

    plots.image_grid(
        path,
        shown.shades(np.concatenate([images, reconstruct(keys[0, : len(images)], images)])),
        shown.dataset.image_shape,
        num_columns=len(images),
        is_ink=shown.is_ink,
        title=f"{shown.dataset.title}: test images and their reconstructions",
        row_labels=("binarized" if shown.dataset.max_level else "data", "mean of p(x|z)"),
    )
    return True


def _learning_curves(shown: Shown, path: pathlib.Path) -> bool:
    records = [record for record in shown.records if "epoch" in record]
    if not records:
        return False
    curves = {
        key.replace("/", " ").replace("_", " "): _floats([record.get(key) for record in records])
        for key in dict.fromkeys(key for record in records for key in record)
        if key.endswith(("/objective", "/log_likelihood_bound"))
    }
    if curves:
        epochs = _floats([record["epoch"] for record in records])
        validation = {
            f"validation, {name}": sign * _floats([record.get(key) for record in records])
            for key, sign, name in (
                ("validation/bound", 1, "bound"),
                ("validation/nll", -1, "- annealed NLL"),
            )
            if any(record.get(key) is not None for record in records)
        }
        title = f"{shown.dataset.title}: training, epoch averages"
        plots.learning_curves(path, epochs, curves, title, validation, shown.best_epoch)
    return bool(curves)


def _acceptance(shown: Shown, path: pathlib.Path) -> bool:
    columns = {}
    chains = metrics.chains((shown.records or [{}])[-1])
    for name, chain in chains.items():
        which = f": {name}" if len(chains) > 1 else ""
        columns[f"training, last epoch{which}"] = plots.Moves(
            chain.betas,
            _floats(chain.acceptance),
            _step_sizes_of(shown.move, chain.step_sizes),
            TARGET_ACCEPTANCE,
        )
    arrays = shown.arrays
    if arrays:
        columns["evaluation"] = plots.Moves(
            arrays["betas"][1:-1],
            arrays["acceptance"],
            _step_sizes_of(shown.evaluation.move, arrays["step_sizes"]),
            shown.evaluation.target_acceptance,
            arrays["path_sample_size"],
        )
    if columns:
        title = f"{shown.dataset.title}: acceptance of the moves"
        plots.acceptance(path, columns, title)
    return bool(columns)


def _floats(values: Any) -> np.ndarray:
    """Numbers of a JSON file, whose null is NaN."""
    return np.asarray(values, np.float64)


def _step_sizes_of(move: str, step_sizes: Sequence[float] | None) -> np.ndarray | None:
    """The step sizes, of a move that has some."""
    if step_sizes is None or moves.MOVES[move].step_sizes is None:
        return None
    return _floats(step_sizes)


# Each draws to a path, or says that there is nothing to draw it from.
_DRAW: dict[str, Callable[[Shown, pathlib.Path], bool]] = {
    "samples.png": _samples,
    "reconstructions.png": _reconstructions,
    "learning_curves.png": _learning_curves,
    "acceptance.png": _acceptance,
    **conditions.DRAW,
}
NAMES = tuple(_DRAW)
# Arrays of evaluation.npz that are drawn.
ARRAYS = ("betas", "step_sizes", "acceptance", "path_sample_size")


def captions(
    dataset: data.Dataset,
    model: Model,
    start: str,
    records: Sequence[dict[str, Any]],
    *,
    with_best: bool,
) -> dict[str, str]:
    """What the pictures show, of this run alone, by their names, in their order on a page.

    Args:
      dataset: its data.
      model: its model.
      start: what its evaluation starts from, "posterior" or "prior".
      records: of the training's metrics.
      with_best: whether validation chose its weights.
    """
    noun = "rows" if dataset.image_shape is None else "images"
    learning = "Training: averages over each epoch"
    if any(name.startswith("validation/") for record in records for name in record):
        learning += f"; and the validation of training {noun} that were held out"
    if with_best:
        learning += ". Dashed: the epoch of the best weights"
    of_what = "condition" if model.num_given else "upper half"
    given = f", given the {of_what} of one test image in each column"
    of_z = "q(z|x)" if start == "posterior" else "the prior"
    how = "a sample" if model.latents == "binary" else "the mean"
    seen = "Test images, drawn as bits once," if dataset.max_level is not None else "Test images"
    return {
        "learning_curves.png": f"{learning}.",
        "acceptance.png": "Acceptance and step size of the chains' moves, and the effective sample "
        "size of their weights. Dashed: the acceptance that they are steered to.",
        "samples.png": "Mean images of p(x|z) for z from the prior"
        f"{given if model.is_conditional else ''}.",
        "reconstructions.png": f"{seen} and the mean of p(x|z) at {how} of {of_z}.",
        **conditions.captions(),
    }


def _is_whole(path: pathlib.Path) -> bool:
    if not path.is_file():
        return False
    content = path.read_bytes()
    return content.startswith(_PNG[0]) and content.endswith(_PNG[1])


def present(folder: pathlib.Path) -> list[str]:
    """Names of the pictures that are there."""
    return [name for name in NAMES if _is_whole(folder / name)]


def forget(folder: pathlib.Path) -> None:
    """Removes pictures of what is measured anew."""
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)


def draw_missing(shown: Shown) -> list[str]:
    """Draws what is not there and can be drawn; returns the names of what it drew."""
    drawn = []
    for name, draw in _DRAW.items():
        path = shown.folder / name
        if _is_whole(path):
            continue
        with files.whole(path) as temporary:
            is_drawn = draw(shown, temporary)
        if is_drawn:
            drawn.append(name)
    return drawn
