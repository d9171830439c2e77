"""A report of a model that is given a condition: its words, its classifier, and its pictures."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import evaluate
from aiwae_jax.data import Dataset, conditions
from aiwae_jax.report import of_images, plots_of_data
from aiwae_jax.report.shown import Shown
from aiwae_jax.train import classes

_SEED = 0
_NUM = 10  # columns of images
_MOST_ROWS = 12
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of a condition that is a number
_FURTHEST = 2.5  # standard deviations of the prior
ENTRY = "bayes"  # of report.json


def _class_of(dataset: Dataset) -> tuple[str, tuple[str, ...]] | None:
    """The first condition that is a class, and the names of its classes; None without any."""
    found = dataset.classes_given.items()
    return next(((name, words) for name, words in found if words), None)


def num_in_classes(rows: np.ndarray, dataset: Dataset) -> int:
    """How many data `classify` anneals for rows `[N, X]`: each in every class."""
    found = _class_of(dataset)
    return 0 if found is None else len(rows) * len(found[1])


def classify(
    key: jax.Array,
    target: evaluate.Target,
    rows: np.ndarray,
    dataset: Dataset,
    settings: evaluate.Settings,
    **options: Any,
) -> classes.Classified | None:
    """What Bayes' rule makes of rows, each annealed in every class of the condition.

    Args:
      key: consumed.
      target: of log p(x|c).
      rows: `[N, X]`, as the model sees them; there may be none.
      dataset: that they are of; its first condition that is a class is the one that is asked for.
      settings: of the chains.
      **options: of `evaluate.log_likelihood`: the frozen plan, and others.

    Returns:
      The estimates, with the shares of the training rows for prior; None without class or rows.
    """
    if not num_in_classes(rows, dataset):
        return None
    column, names = _class_of(dataset)
    place = dataset.condition.index(column) - dataset.num_given
    of_all = classes.of_all_classes(rows, place, len(names))
    found = evaluate.log_likelihood(key, target, of_all, settings, **options)
    prior = conditions.shares(dataset, column)
    return classes.Classified.of(found, column, names, classes.log_prior_of(prior, names))


def of_report(
    found: classes.Classified | None,
    rows: np.ndarray,
    index: np.ndarray,
    dataset: Dataset,
    weights: np.ndarray | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What report.json and evaluation.npz say of it; nothing of None.

    Args:
      found: by `classify`.
      rows: `[N, X]` that it is of.
      index: `[N]`, their rows in the test set.
      dataset: that these are of.
      weights: `[N]` of the rows in means, or None.
    """
    if found is None:
        return {}, {}
    codes = rows[:, dataset.condition.index(found.column) - dataset.num_given].astype(int)
    accuracy, error = found.accuracy(codes, weights)
    nll, nll_error = evaluate.mean_and_standard_error(-found.log_evidence, weights)
    confusion = found.confusion(codes)
    entries = {
        "column": found.column,
        "names": list(found.names),
        "num_rows": len(codes),
        "prior": "shares of the training rows",
        "accuracy": accuracy,
        "accuracy_se": error,
        "num_sure": int(found.is_sure.sum()),
        "confusion": confusion.tolist(),
        "nll_of_all": nll,
        "nll_of_all_se": nll_error,
    }
    arrays = {
        "class_index": index,
        "class_log_likelihood": found.log_likelihood,
        "class_standard_error": found.standard_errors,
        "class_confusion": confusion,
    }
    return {ENTRY: entries}, arrays


def notes(report: Mapping[str, Any]) -> list[str]:
    """What a reader of the numbers must know of the condition, a sentence each."""
    names = " and ".join(report["data"].get("condition") or ())
    if not names:
        return []
    found = [
        f"the model is given {names}: log p(x), NLL and NVLB are of p(x|{names}), conditional, and "
        f"not comparable with those of a model that models {names} or does without"
    ]
    if bayes := report.get(ENTRY):
        column, num = bayes["column"], bayes["num_rows"]
        found.append(
            f"Bayes accuracy of {column} {bayes['accuracy']:.3f} ± {bayes['accuracy_se']:.3f} on "
            f"{num} test data: of {len(bayes['names'])} classes that of the largest p(c) p(x|c), "
            "by annealed estimates, with the shares of the training rows for p(c); "
            f"{num - bayes['num_sure']} of them are decided by less than two standard errors, or "
            "by estimates that cannot be relied on"
        )
        found.append(
            f"NLL of the same data without their {column}, -log Σ p(c) p(x|c): "
            f"{bayes['nll_of_all']:.2f} ± {bayes['nll_of_all_se']:.2f}, which is comparable with "
            "that of a model without it"
        )
    return found


def _shown_conditions(dataset: Dataset) -> list[tuple[str, np.ndarray]]:
    """Conditions `[C]` to be shown and their names: the first column's values, one after another.

    The others stay at what they are most often, or at their median.
    """
    given = np.asarray(dataset.train)[:, -dataset.num_given :].astype(np.float32)
    usual = np.median(given, axis=0)
    for at, name in enumerate(dataset.condition):
        if name in (dataset.categories or {}):
            usual[at] = np.argmax(conditions.shares(dataset, name))
    first = dataset.condition[0]
    if words := (dataset.categories or {}).get(first):
        values = [(word, code) for code, word in enumerate(words)][:_MOST_ROWS]
    else:
        values = [(f"{v:.4g}", v) for v in np.quantile(given[:, 0], _QUANTILES)]
    return [(f"{first} {word}", np.array([v, *usual[1:]], np.float32)) for word, v in values]


def _images(shown: Shown, z: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Mean images at latents `[N, D]` under each condition, `[rows N, X]`, and the rows' names."""
    named = _shown_conditions(shown.dataset)
    zeros = np.zeros(shown.dataset.num_modelled, np.float32)
    rows = jnp.asarray([np.concatenate([zeros, c]) for _, c in named])

    @jax.jit
    def means(z, rows):
        return jax.vmap(lambda x: jax.vmap(lambda each: shown.mean_image(each, x))(z))(rows)

    found = np.asarray(means(jnp.asarray(z), rows))
    return found.reshape(-1, found.shape[-1]), [name for name, _ in named]


def _draw(shown: Shown, path: pathlib.Path, z: np.ndarray, what: str) -> bool:
    images, names = _images(shown, z)
    options = {"num_columns": len(z), "row_labels": names}
    return of_images.draw(shown, path, shown.shades(images), what, **options)


def _is_drawn(shown: Shown) -> bool:
    return shown.has_means and shown.model.num_given > 0 and shown.model.prior is not None


def _prior_samples(shown: Shown, num: int) -> np.ndarray:
    """Latents `[num, D]` of a prior that no condition changes."""
    x = jnp.asarray(shown.test_images[0])
    prior = shown.model.prior(shown.theta, x)
    return np.asarray(jax.vmap(prior.sample)(jax.random.split(jax.random.key(_SEED), num)))


def samples(shown: Shown, path: pathlib.Path) -> bool:
    """Draws mean images of the same draws from the prior under each condition."""
    if not _is_drawn(shown):
        return False
    z = _prior_samples(shown, _NUM)
    return _draw(shown, path, z, "mean images of prior samples, given each condition")


def traversals(shown: Shown, path: pathlib.Path) -> bool:
    """Draws what the most active unit changes under each condition."""
    if not _is_drawn(shown) or shown.model.latents != "continuous":
        return False
    size = _prior_samples(shown, 1).shape[1]
    activity = shown.arrays.get("activity", np.zeros(size))
    z = np.zeros((_NUM, size), np.float32)
    z[:, int(np.argmax(activity))] = np.linspace(-_FURTHEST, _FURTHEST, _NUM)
    return _draw(shown, path, z, "along the most active latent, given each condition")


def confusion(shown: Shown, path: pathlib.Path) -> bool:
    """Draws what Bayes' rule takes each class for."""
    counts = shown.arrays.get("class_confusion")
    if counts is None:
        return False
    column, names = _class_of(shown.dataset)
    plots_of_data.confusion(
        path, counts, names, title=f"{shown.dataset.title}: {column} by Bayes' rule"
    )
    return True


def captions() -> dict[str, str]:
    """What the pictures show, by their names."""
    return {
        "condition_samples.png": "Mean images of p(x|z, c), a row for each condition; in a column "
        "z is the same draw from the prior.",
        "condition_traversals.png": "The same along the latent of the most activity, from -2.5 to "
        "2.5 standard deviations of the prior, the other latents at 0.",
        "confusion.png": "Test data of each class, one below the other, by the class that Bayes' "
        "rule takes them for, by annealed estimates of log p(x|c).",
    }
