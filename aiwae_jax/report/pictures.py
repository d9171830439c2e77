"""The pictures of a report: which there are, what they are called, and those that are missing."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiwae_jax import data
from aiwae_jax.report import conditions, of_data, of_images, of_training
from aiwae_jax.report.shown import Shown as Shown
from aiwae_jax.report.shown import noun_of
from aiwae_jax.runs import files
from aiwae_jax.types import Model

_PNG = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"  # its first and its last bytes


class Picture(NamedTuple):
    """One that a report may have.

    Attributes:
      draw: `draw(shown, path)`, which says whether there is anything to draw it from.
      section: of the page, that it stands in.
      heading: above it there.
      alt: what is to be seen, for those who do not see it; {noun} is what the data are called.
    """

    draw: Callable[[Shown, pathlib.Path], bool]
    section: str
    heading: str
    alt: str


PICTURES = {
    "samples.png": Picture(
        of_images.samples,
        "model",
        "New images",
        "Ten rows of ten images that the model makes up by itself",
    ),
    "reconstructions.png": Picture(
        of_images.reconstructions,
        "model",
        "Reconstructions",
        "Rows of test images, and below each row the model's reconstructions of it",
    ),
    "learning_curves.png": Picture(
        of_training.learning_curves,
        "training",
        "Learning curves",
        "Lines of how well the model explained {noun} after each epoch of its training",
    ),
    "acceptance.png": Picture(
        of_training.acceptance,
        "chains",
        "Moves of the chains",
        "Lines of acceptance, step size and effective sample size along the temperatures",
    ),
    "nll_histogram.png": Picture(
        of_data.histogram,
        "data",
        "NLL of single {noun}",
        "Histogram of the NLL of single {noun}, of the test and of the training set",
    ),
    "latents.png": Picture(
        of_data.latents,
        "data",
        "Map of the latents",
        "Test {noun} as points in a plane of their latent means",
    ),
    "extremes.png": Picture(
        of_images.best_and_worst,
        "data",
        "Least and most likely",
        "A row of the test images of the highest NLL, and a row of those of the lowest",
    ),
    "traversals.png": Picture(
        of_images.traversals,
        "latents",
        "What the most active units do",
        "Images of one latent unit changed at a time, the others kept",
    ),
    "interpolations.png": Picture(
        of_images.interpolations,
        "latents",
        "From one image to another",
        "Rows of images that lead from one test image to another",
    ),
    "condition_samples.png": Picture(
        conditions.samples,
        "model",
        "New images of each condition",
        "A row of images that the model makes up for each condition",
    ),
    "condition_traversals.png": Picture(
        conditions.traversals,
        "latents",
        "The most active unit under each condition",
        "A row for each condition, of images of one latent unit changed",
    ),
    "confusion.png": Picture(
        conditions.confusion,
        "data",
        "Classes by Bayes' rule",
        "A square of numbers: how many test {noun} of each class were taken for which",
    ),
}
NAMES = tuple(PICTURES)
# Arrays of evaluation.npz that are drawn.
ARRAYS = ("betas", "step_sizes", "acceptance", "path_sample_size")


def captions(
    dataset: data.Dataset,
    model: Model,
    start: str,
    records: Sequence[dict[str, Any]],
    *,
    with_best: bool,
    num_latents: int | None = None,
) -> dict[str, str]:
    """What the pictures show, of this run alone, by their names, in their order on a page.

    Args:
      dataset: its data.
      model: its model.
      start: what its evaluation starts from, "posterior" or "prior".
      records: of the training's metrics.
      with_best: whether validation chose its weights.
      num_latents: D, where it is known.
    """
    noun = noun_of(dataset)
    is_binary = model.latents == "binary"
    given = f", given the {of_images.given_of(model)} of one test image in each column"
    of_z = "q(z|x)" if start == "posterior" else "the prior"
    how = "a sample" if is_binary else "the mean"
    seen = "Test images, drawn as bits once," if dataset.max_level is not None else "Test images"
    units = (
        "The most active units, off in the upper row and on in the lower one; the others are those "
        "of one test image."
        if is_binary
        else "Mean images of p(x|z): each row changes one unit, the most active first, over the "
        "range of its posterior means on test images; the others stay at those of one test image."
    )
    plane = "."
    if num_latents != 2:
        plane = ", in the plane of the two principal components (PCA) of all means."
    coloured = "" if dataset.test_labels is None else ", coloured by its label"
    return {
        "learning_curves.png": _of_learning(records, noun, with_best=with_best),
        "acceptance.png": "Acceptance and step size of the chains' moves, and the effective sample "
        "size of their weights. Dashed: the acceptance that they are steered to.",
        "samples.png": "Mean images of p(x|z) for z from the prior"
        f"{given if model.is_conditional else ''}.",
        "reconstructions.png": f"{seen} and below each row the mean of p(x|z) at {how} of {of_z}.",
        "nll_histogram.png": f"How many {noun} have which NLL; a lower one is more likely. Dashed: "
        "the means.",
        "extremes.png": "The test images that the model finds least and most likely, with the NLL "
        "of each in nats.",
        "latents.png": f"A point for each test {noun[:-1]}{coloured}, at its mean of q(z|x){plane}",
        "traversals.png": units,
        "interpolations.png": "Mean images of p(x|z) on the line between the latent means of two "
        "test images, which stand at both ends of each row.",
        **(conditions.captions() if model.num_given else {}),
    }


def _of_learning(records: Sequence[dict[str, Any]], noun: str, *, with_best: bool) -> str:
    """What the learning curves show."""
    _, curves, is_bound = of_training.curves_of(records)
    what = "The model's lower bound of log p(x); higher is better"
    if not is_bound:
        what = "What the training climbs, which is no bound of log p(x)"
    found = [f"{what}. Training: averages over each epoch"]
    if len(curves) > 1:
        found.append(f"Validation: training {noun} that were held out")
    if with_best:
        found.append("Dashed: the epoch of the best weights")
    if any(record.get("leg") for record in records):
        found.append("Dotted: where the next method of the curriculum takes over")
    return ". ".join(found) + "."


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
    for name, picture in PICTURES.items():
        path = shown.folder / name
        if _is_whole(path):
            continue
        with files.whole(path) as temporary:
            is_drawn = picture.draw(shown, temporary)
        if is_drawn:
            drawn.append(name)
    return drawn
