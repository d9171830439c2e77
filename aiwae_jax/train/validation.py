"""Rows held out of training, and what a model is worth on them while it is trained."""

import dataclasses
import math
from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aiwae_jax import data, evaluate
from aiwae_jax.data import on_disk
from aiwae_jax.evaluate.posterior import bound_of_rows
from aiwae_jax.operations import operations
from aiwae_jax.parallel import processes, sharding
from aiwae_jax.train.settings import Settings
from aiwae_jax.types import Model, Params, PyTree

_TAG = 0x76616C  # of keys and of the split: nothing here follows the seed of a training
_MOST_SHARE = 0.1  # of the training's products that its validation may cost
_CHUNK = 128  # rows at once, which bounds the memory
_NUM_NLL = 200  # rows of an annealed NLL
_NLL_SIZES = {"num_temperatures": 100, "num_chains": 8}


class Split(NamedTuple):
    """Training data in two.

    Attributes:
      training: `[N - V]`, the numbers of the rows that are trained on, in their order.
      held_out: `[V]`, those of the others, in the order in which a growing share takes them.
    """

    training: np.ndarray
    held_out: np.ndarray


def split(num_rows: int, share: float) -> Split:
    """Chooses rows to be held out, by their numbers alone: the same for every seed and model.

    A larger share holds out the same rows and more, and the first few are as good as any others.
    """
    # Raw numbers of a bit generator are the same in every version of NumPy.
    order = np.argsort(np.random.PCG64(_TAG).random_raw(num_rows), kind="stable")
    num = round(share * num_rows)
    return Split(np.sort(order[num:]), order[:num])


def training_part(dataset: data.Dataset, share: float) -> data.Dataset:
    """The data set without what is held out of its training rows, see `split`.

    Raises:
      DataError: where the share leaves nothing on either side.
    """
    if not share:
        return dataset
    rows = split(len(dataset.train), share)
    for name, part in zip(("holds out none", "leaves none"), rows[::-1], strict=True):
        if not len(part):
            raise data.DataError(
                f"`validation_share`={share:g} {name} of the {len(dataset.train)} training rows of "
                f"{dataset.title}; it must be at least one, and not all."
            )
    names = ("train", "train_labels", "train_index", "train_weights")
    of_rows = {name: getattr(dataset, name) for name in names}
    return dataset._replace(
        **{n: a if a is None else on_disk.some(a, rows.training) for n, a in of_rows.items()}
    )


class Found(NamedTuple):
    """What a model is worth on the rows that were held out, nats.

    Attributes:
      bound: mean of L_K.
      bound_se: its standard error, over the rows.
      nll: mean of the annealed NLL, or None where it was not its turn.
      nll_se: its standard error, over the rows.
    """

    bound: float
    bound_se: float
    nll: float | None = None
    nll_se: float | None = None

    def columns(self) -> dict[str, float]:
        """Columns of a record of metrics."""
        found = {f"validation/{name}": value for name, value in self._asdict().items()}
        return {name: value for name, value in found.items() if value is not None}


class Validation:
    """The rows that are held out, as a model sees them, and the programs that look at them.

    Bits of grey levels and importance samples are drawn from one fixed key, so that two epochs, or
    two seeds, differ by their weights alone.

    Attributes:
      rows: `[V, X]`.
      weights: `[V]`, of their means; None where the data have none.
      num_particles: K of the bound L_K.
    """

    def __init__(
        self, model: Model, dataset: data.Dataset, settings: Settings, start: str, mesh: Mesh
    ):
        """Draws the rows; nothing is compiled before it is called.

        Args:
          model: what is trained.
          dataset: the whole of it.
          settings: of the training.
          start: as in `evaluate.Target.of`.
          mesh: of devices, over which the rows are laid.
        """
        held_out = split(len(dataset.train), settings.validation_share).held_out
        raw = jnp.asarray(on_disk.some(dataset.train, held_out)[:])
        self.rows = np.asarray(dataset.batch_fn(_key(0), raw))
        self.weights = None if (all_ := dataset.train_weights) is None else all_[held_out]
        self.num_particles = settings.validation_particles
        self._target = lambda weights: evaluate.Target.of(model, weights, start=start)
        self._nll_settings = _nll_settings(model)

        # Rows in chunks, each laid over the devices; what fills the last one up is dropped.
        num_rows, width = len(self.rows), mesh.shape[sharding.DATA]
        size = math.ceil(min(_CHUNK, num_rows) / width) * width
        numbers = np.arange(math.ceil(num_rows / size) * size, dtype=np.int32).reshape(-1, size)
        numbers = np.minimum(numbers, num_rows - 1)
        over_chunks = NamedSharding(mesh, PartitionSpec(None, sharding.DATA))
        self._chunks = sharding.put((numbers, self.rows[numbers]), over_chunks)

        def bounds(chunks: PyTree, weights: Params) -> jax.Array:
            functions = self._target(weights).functions
            # As of `evaluate.importance_bound`, sample by sample.
            sizes = {"num_blocks": 1, "block_size": self.num_particles}
            found, _ = jax.lax.map(
                lambda chunk: bound_of_rows(_key(1), *chunk, functions, **sizes), chunks
            )
            return found.reshape(-1)[:num_rows]

        fn = jax.vmap(bounds, in_axes=(None, 0)) if settings.num_repeats > 1 else bounds
        self._of_one = bounds
        self._bounds = jax.jit(fn, out_shardings=sharding.replicated(mesh))

    def bounds(self, weights: Params) -> np.ndarray:
        """L_K of each row, of each repeat."""
        with jax.default_matmul_precision("highest"):
            return processes.fetch(self._bounds(self._chunks, weights))

    def operations(self, weights: Params) -> float:
        """Operations of the products of one bound of all rows, whatever the devices."""
        numbers = np.arange(len(self.rows), dtype=np.int32)  # as one chunk that nothing fills up
        return operations(self._of_one, (numbers[None], self.rows[None]), weights)

    def look(self, weights: Params, *, with_nll: bool) -> list[Found]:
        """Measures the weights: of each repeat, or of the only one there is."""
        found = [
            Found(*evaluate.mean_and_standard_error(bounds, self.weights))
            for bounds in np.atleast_2d(self.bounds(weights))
        ]
        if with_nll:
            each = [weights := processes.fetch(weights)]
            if len(found) > 1:
                each = [jax.tree.map(itemgetter(i), weights) for i in range(len(found))]
            found = [f._replace(**self._nll(w)) for f, w in zip(found, each, strict=True)]
        return found

    def _nll(self, weights: Params) -> dict[str, float]:
        rows = self.rows[:_NUM_NLL]
        found = evaluate.log_likelihood(
            _key(2), self._target(weights), rows, self._nll_settings, chunk_size=len(rows)
        )
        weights = None if self.weights is None else self.weights[: len(rows)]
        mean, error = evaluate.mean_and_standard_error(found.log_likelihood, weights)
        return {"nll": -mean, "nll_se": error}


def _key(number: int) -> jax.Array:
    """A key for the bits, for the importance samples, for the chains."""
    return jax.random.fold_in(jax.random.key(_TAG), number)


def _nll_settings(model: Model) -> evaluate.Settings:
    usual = evaluate.BINARY_SETTINGS if model.latents == "binary" else evaluate.Settings()
    return dataclasses.replace(usual, **_NLL_SIZES)


def epochs_between(cost_fn: Callable[[], float], cost_of_epoch_fn: Callable[[], float]) -> int:
    """Epochs from look to look, so that their products are a tenth of the training's at most.

    By count, and not by the clock: a run that is continued elsewhere is validated at the same
    steps.

    Args:
      cost_fn: operations of a look.
      cost_of_epoch_fn: those of an epoch. Where either raises ValueError, because it cannot be
        counted, there is a look after every epoch.
    """
    try:
        cost, of_epoch = cost_fn(), cost_of_epoch_fn()
    except ValueError:
        return 1
    return max(math.ceil(cost / (_MOST_SHARE * of_epoch)), 1) if of_epoch else 1
