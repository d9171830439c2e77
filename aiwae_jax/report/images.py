"""Images and keys of an evaluation, both from its seed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import data
from aiwae_jax.data import on_disk
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.train.validation import split

_MOST_SEEN = 10_000  # rows of a test set on disk that are read beside those that are measured
_KEY_TAG = 0x65766C  # fold_in(key, i) equals split(key)[i] for small i; this is none
_STARTS_TAG = 0x737461
_CLASSES_TAG = 0x636C61
_CLASS_ORDER_TAG = 0x636C6F


class Keys(NamedTuple):
    """The keys of an evaluation.

    A report's NLL has a key of its own, which follows from what is measured
    (`certificate.Subject.key`); `nll` is that of other measurements by the same seed.
    """

    test_order: jax.Array
    train_order: jax.Array
    test_pixels: jax.Array
    train_pixels: jax.Array
    tuning: jax.Array
    nll: jax.Array
    gap: jax.Array
    bound: jax.Array
    starts: jax.Array
    classes: jax.Array
    class_order: jax.Array


def keys_of(evaluation: Evaluation) -> Keys:
    """All keys, from the evaluation's seed.

    The tag keeps them apart from a training's keys, whose seed may be the same number.
    """
    root = jax.random.fold_in(jax.random.key(evaluation.seed), _KEY_TAG)
    tags = _STARTS_TAG, _CLASSES_TAG, _CLASS_ORDER_TAG
    num = len(Keys._fields) - len(tags)  # of which no key depends on how many came later
    later = (jax.random.fold_in(root, tag) for tag in tags)
    return Keys(*jax.random.split(root, num), *later)


class Images(NamedTuple):
    """The images of an evaluation, binarized.

    Attributes:
      test: `[N, X]`.
      train: `[N, X]`.
      test_index: `[N]`, their rows in the test set.
      train_index: `[N]`, in the training set.
      all_test: the whole test set, for the active units; of one that was left on disk, and is
        larger, 10,000 of its rows, the first of which are `test`.
      all_index: `[M]`, the rows in the test set that `all_test` are.
    """

    test: np.ndarray
    train: np.ndarray
    test_index: np.ndarray
    train_index: np.ndarray
    all_test: np.ndarray
    all_index: np.ndarray

    @property
    def places(self) -> np.ndarray:
        """Places `[N]` of `test` among `all_test`."""
        order = np.argsort(self.all_index, kind="stable")
        return order[np.searchsorted(self.all_index, self.test_index, sorter=order)]

    @property
    def both(self) -> np.ndarray:
        """`[2 N, X]`: those of the test set, and then those of the training set."""
        return np.concatenate([self.test, self.train])

    def identity(self, dataset: data.Dataset) -> dict[str, np.ndarray]:
        """Says which image each number of evaluation.npz is of, its label and weight if it has any.

        Of labels that are codes it has the names, too, so that the file needs no other.
        """
        found = {}
        for part, index in (("test", self.test_index), ("train", self.train_index)):
            found[f"index_{part}"] = index
            labels = getattr(dataset, f"{part}_labels")
            if labels is not None:
                found[f"label_{part}"] = np.asarray(labels)[index]
        if dataset.label_names is not None:
            found["label_names"] = np.array(dataset.label_names)
        return found | self.weights_of(dataset)

    def weights_of(self, dataset: data.Dataset) -> dict[str, np.ndarray]:
        """What each image counts for in means, of parts whose images do not count alike."""
        weights = {"test": dataset.test_weights, "train": dataset.train_weights}
        indices = {"test": self.test_index, "train": self.train_index}
        return {f"weight_{p}": w[indices[p]] for p, w in weights.items() if w is not None}


def _choose(key: jax.Array, num_there: int, num: int) -> np.ndarray:
    """Rows of a data set: all in their own order, or some by a permutation of all.

    So that a larger number of images contains the smaller.
    """
    if num == num_there:
        return np.arange(num)
    return np.asarray(jax.random.permutation(key, num_there))[:num]


def choose_classified(keys: Keys, num_there: int, num: int) -> np.ndarray:
    """Places of the measured rows whose class is asked for, by a permutation of all of them.

    Also where all test rows are measured, in the order of their file, which may be sorted by class.
    """
    return np.asarray(jax.random.permutation(keys.class_order, num_there))[:num]


def choose_images(
    dataset: data.Dataset, evaluation: Evaluation, validation_share: float = 0.0
) -> Images:
    """Chooses and binarizes the evaluated images once, from the evaluation seed alone.

    Every run on the same data and seed sees the same images and the same pixels.

    Args:
      dataset: the whole of it.
      evaluation: how many, and the seed.
      validation_share: of the training data, which was not trained on and is not among them.
    """
    trained = split(len(dataset.train), validation_share).training
    num = min(evaluation.num_examples or len(dataset.test), len(dataset.test), len(trained))
    keys = keys_of(evaluation)
    draw = dataset.batch_fn
    test_index = places = _choose(keys.test_order, len(dataset.test), num)
    seen, index = slice(None), np.arange(len(dataset.test))
    if isinstance(dataset.test, on_disk.Rows) and (most := max(num, _MOST_SEEN)) < len(
        dataset.test
    ):
        seen = index = _choose(keys.test_order, len(dataset.test), most)
        places = np.arange(num)
    all_test = np.asarray(draw(keys.test_pixels, jnp.asarray(dataset.test[seen])))
    train_index = trained[_choose(keys.train_order, len(trained), num)]
    train = np.asarray(draw(keys.train_pixels, jnp.asarray(dataset.train[train_index])))
    return Images(all_test[places], train, test_index, train_index, all_test, index)
