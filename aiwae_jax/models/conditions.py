"""Conditions: models of the first columns of a datum, given its last ones.

A datum is x = (y, c). The encoder of q(z|x) sees both, the decoder of p(y|z, c) sees c beside z,
and the prior p(z) is what it is without (Sohn, Lee & Yan 2015, with a prior that ignores c). What
is log p(x) elsewhere is log p(y|c) here.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, support
from aiwae_jax.likelihoods import Likelihood


class Conditional(NamedTuple):
    """p(y|z, c) at one z, of data x = (y, c).

    Attributes:
      build: `build(c [C])` -> distribution over y.
      num_given: C.
      x: a datum, of which c is given; None before `given`.
    """

    build: Callable[[chex.Array], Any]
    num_given: int
    x: chex.Array | None = None

    def given(self, x: chex.Array) -> "Conditional":
        """The same for the condition of a datum `[X]`."""
        return self._replace(x=x)

    def _of(self, x: chex.Array | None) -> Any:
        """The distribution over y."""
        checks.given("x", x, "its last columns are the condition, which the decoder sees")
        found = self.build(x[-self.num_given :])
        return found.given(x[: -self.num_given]) if hasattr(found, "given") else found

    def log_prob(self, x: chex.Array) -> chex.Array:
        """Log density `[]` of y given c, for `x` `[X]`, nats."""
        return self._of(x).log_prob(x[: -self.num_given])

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws y; the last columns of `[X]` are c.

        Raises:
          ValueError: before `given`.
        """
        y = self._of(self.x).sample(key)
        return jnp.concatenate([y, self.x[-self.num_given :]])

    def mean(self) -> chex.Array:
        """Mean of y `[X - C]`.

        Raises:
          ValueError: before `given`.
        """
        return self._of(self.x).mean()

    @property
    def base(self) -> Any:
        """The distribution over y, of a datum that is `given`."""
        return self._of(self.x)

    @property
    def classes_of_columns(self) -> tuple[int, ...] | None:
        """How many classes each of the X columns has, 0 where it holds numbers or is given."""
        found = getattr(self._of(self.x), "classes_of_columns", None)
        return None if found is None else (*found, *[0] * self.num_given)


class Condition(NamedTuple):
    """What the last columns of a datum are.

    Attributes:
      columns: for each a likelihood of it, which says what networks see of it (`inputs`) and what
        it may be (`check_data`); nothing is modelled by it.
    """

    columns: tuple[Likelihood, ...]

    @classmethod
    def of(cls, condition: Likelihood | Sequence[Likelihood] | None) -> "Condition":
        """From the argument of a builder.

        Raises:
          TypeError: for what are no likelihoods.
        """
        if condition is None or isinstance(condition, Likelihood):
            condition = () if condition is None else (condition,)
        if not all(isinstance(column, Likelihood) for column in condition):
            raise TypeError(
                "`condition` must have a `likelihoods.Likelihood` for each of the last columns, "
                "`likelihoods.categorical(10)` of ten classes say, as `data.condition_of` makes "
                f"them; got {condition!r:.80}."
            )
        return cls(tuple(condition))

    @property
    def num_given(self) -> int:
        """C."""
        return len(self.columns)

    @property
    def num_inputs(self) -> int:
        """F, numbers that networks see of it."""
        c = jax.ShapeDtypeStruct((self.num_given,), jnp.result_type(float))
        return jax.eval_shape(self.inputs, c).shape[0] if self.columns else 0

    def inputs(self, c: chex.Array) -> chex.Array:
        """What networks see of `c` `[C]`: a bit for each class, standardized numbers; `[F]`."""
        pairs = [(column.inputs, c[i : i + 1]) for i, column in enumerate(self.columns)]
        return jnp.concatenate([v if inputs is None else inputs(v) for inputs, v in pairs])

    def beside(self, inputs: Callable[[chex.Array], chex.Array] | None) -> Callable | None:
        """`inputs` of y, and what is seen of c behind them; of a whole datum `[X]`."""
        if not self.columns:
            return inputs

        def of_both(x: chex.Array) -> chex.Array:
            y, c = x[: -self.num_given], x[-self.num_given :]
            return jnp.concatenate([y if inputs is None else inputs(y), self.inputs(c)])

        return of_both

    def check(self, rows: Any, *, name: str, columns: Sequence[str] | None = None) -> None:
        """Refuses rows `[N, X]` whose last columns are no such condition.

        Raises:
          ValueError: naming the column and the row.
        """
        if not self.columns or not support.is_concrete(rows):
            return
        given = np.asarray(rows)[:, -self.num_given :]
        first = np.shape(rows)[1] - self.num_given
        names = range(first, np.shape(rows)[1]) if columns is None else columns[first:]
        check_there(given, name=name, columns=names)
        for i, column in enumerate(self.columns):
            column.check(given[:, i : i + 1], name=name, columns=names[i : i + 1])


def check_there(given: np.ndarray, *, name: str, columns: Sequence[str | int]) -> None:
    """Refuses conditions `[N, C]` that are missing; `columns` are their C names or numbers.

    Raises:
      ValueError: naming the column and the row.
    """
    if given.dtype.kind != "f" or not np.isnan(given).any():
        return
    row, at = map(int, np.argwhere(np.isnan(given))[0])
    raise ValueError(
        f"`{name}` must say the condition of every row, and {columns[at]!r} of row {row} is "
        "missing; fill it in, or leave out its row."
    )
