"""Categories: each column is the number of a class, 0, 1, ..., its classes less one."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, distributions, support
from aiwae_jax.likelihoods.base import Likelihood, of_likelihood


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["logits"], meta_fields=["num_classes"]
)
@dataclasses.dataclass(frozen=True, eq=False)
class Categorical:
    """Independent categories, each of as many classes as it has.

    Attributes:
      logits: `[sum of num_classes]`, unnormalized log probabilities, column after column.
      num_classes: of the X columns, a tuple.
    """

    logits: chex.Array
    num_classes: tuple[int, ...]

    def _log_probs(self) -> chex.Array:
        """Log probabilities `[X, C]`, C being the most classes; as good as -inf for no class."""
        first = np.cumsum([0, *self.num_classes[:-1]])[:, None]
        classes = np.arange(max(self.num_classes))[None, :]
        is_class = classes < np.asarray(self.num_classes)[:, None]
        places = np.where(is_class, first + classes, 0)
        lowest = jnp.finfo(self.logits.dtype).min
        return jax.nn.log_softmax(jnp.where(is_class, self.logits[places], lowest), axis=1)

    def log_prob(self, x: chex.Array) -> chex.Array:
        """Log probability `[]` of the classes `x` `[X]`, nats."""
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x: chex.Array) -> chex.Array:
        """Log probability of each column's class, `[X]`."""
        distributions.check_shape(x, jnp.zeros(len(self.num_classes)))
        found = jnp.take_along_axis(self._log_probs(), x.astype(jnp.int32)[:, None], axis=1)
        return found[:, 0]

    @property
    def classes_of_columns(self) -> tuple[int, ...]:
        """How many classes each column has."""
        return self.num_classes

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws classes `[X]`, as floats."""
        return jax.random.categorical(key, self._log_probs(), axis=1).astype(self.logits.dtype)

    def probabilities(self) -> chex.Array:
        """Probabilities of the classes, `[X, C]`; 0 for what is none."""
        return jnp.exp(self._log_probs())

    def mean(self) -> chex.Array:
        """The most probable classes `[X]`: the mean of their numbers would mean nothing."""
        return jnp.argmax(self._log_probs(), axis=1).astype(self.logits.dtype)


@of_likelihood
def categorical(num_classes: int | Sequence[int]) -> Likelihood:
    """Independent categories; the decoder puts out all classes' unnormalized log probabilities.

    Args:
      num_classes: of every column, or of each.

    Raises:
      ValueError: for a column of fewer than two classes.
      TypeError: for what are no whole numbers.
    """
    if isinstance(num_classes, Sequence):
        for i, number in enumerate(num_classes):
            checks.integer(f"num_classes[{i}]", number, least=2)
    else:
        checks.integer("num_classes", num_classes, least=2)

    def of_columns(num_columns: int) -> tuple[int, ...]:
        if not isinstance(num_classes, Sequence):
            return (num_classes,) * num_columns
        if len(num_classes) != num_columns:
            raise ValueError(
                f"`num_classes` must have a number for each of the {num_columns} columns, got "
                f"{len(num_classes)}."
            )
        return tuple(num_classes)

    def build(params, logits):
        del params
        if isinstance(num_classes, Sequence):
            return Categorical(logits, tuple(num_classes))
        return Categorical(logits, (num_classes,) * (logits.size // num_classes))

    def check_data(x: Any, *, name: str, columns: Sequence[str] | None = None) -> None:
        numbers = np.asarray(of_columns(np.shape(x)[1]))
        most = f"{numbers[0]}" if len(set(numbers.tolist())) == 1 else "as many classes as it has"
        support.check_values(
            x,
            support.whole_below(numbers),
            name=name,
            columns=columns,
            rule=f"classes, whole numbers from 0 on below {most}",
        )

    def inputs(x: chex.Array) -> chex.Array:
        """One bit for each class."""
        numbers = of_columns(x.shape[0])
        columns = np.repeat(np.arange(len(numbers)), numbers)
        classes = np.concatenate([np.arange(number) for number in numbers])
        return (x[columns] == jnp.asarray(classes, x.dtype)).astype(x.dtype)

    return Likelihood(
        build,
        check_data=check_data,
        head_sizes=lambda num_columns: (sum(of_columns(num_columns)),),
        inputs=inputs,
    )
