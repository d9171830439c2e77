"""Real values: normal and Student's t, and values that are standardized within the model."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, distributions, support
from aiwae_jax.likelihoods import scales
from aiwae_jax.likelihoods.base import Likelihood, of_likelihood
from aiwae_jax.likelihoods.gamma import log_gamma_ratio

_LOG_DF = (math.log(0.1), math.log(1e6))  # between which a learned number of degrees is kept


def check_real(x: Any, *, name: str, columns: Sequence[str] | None = None) -> None:
    """Raises ValueError for values that are not finite, with the first one's column and row."""
    support.check_values(x, np.isfinite, name=name, columns=columns, rule="finite")


@of_likelihood
def normal(
    scale: float | str | None = None, *, initial_scale: float = 1.0, min_scale: float = 0.0
) -> Likelihood:
    """Independent normals; the decoder puts out their means `[X]`.

    Args:
      scale: the standard deviation, a number; or how it is learned: "shared" (also None), one for
        all columns and data, as `{"log_scale": []}`; "per_column", as `{"log_scale": [X]}`;
        "per_datum", for which the decoder has a second output `[X]`, through a softplus.
      initial_scale: where a learned one starts.
      min_scale: below a learned one. A column that a model can say exactly, a constant one for
        example, sends the density to infinity as its scale falls to 0.

    Raises:
      ValueError: for a word or number that cannot be.
      TypeError: for what is neither.
    """
    rule = scales.make(scale, initial_scale, min_scale)

    def build(params, loc, *heads):
        return distributions.DiagNormal(loc, rule.of(params, *heads))

    return _of_location(build, rule)


class StudentT(NamedTuple):
    """Independent Student's t.

    Attributes:
      loc: `[X]`, the median; the mean where there are more than one degree of freedom.
      scale: `[X]` or `[]`, positive.
      df: `[]` degrees of freedom, positive.
    """

    loc: chex.Array
    scale: chex.Array
    df: chex.Array

    def log_prob(self, x: chex.Array) -> chex.Array:
        """Log density `[]` at `x` `[X]`, nats."""
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x: chex.Array) -> chex.Array:
        """Log density of each column, `[X]`."""
        distributions.check_shape(x, self.loc, self.scale)
        df = jnp.asarray(self.df, self.loc.dtype)
        half = jnp.asarray(0.5, self.loc.dtype)
        constant = log_gamma_ratio(df / 2.0, half) - 0.5 * jnp.log(jnp.pi * df)
        noise = (x - self.loc) / self.scale
        log_kernel = -0.5 * (df + 1.0) * jnp.log1p(jnp.square(noise) / df)
        log_scale = jnp.broadcast_to(jnp.log(self.scale), self.loc.shape)
        return log_kernel - log_scale + constant

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[X]`."""
        return self.loc + self.scale * jax.random.t(key, self.df, self.loc.shape, self.loc.dtype)

    def mean(self) -> chex.Array:
        """Its centre `[X]`."""
        return self.loc


@of_likelihood
def student_t(
    df: float | None = None,
    scale: float | str | None = None,
    *,
    initial_df: float = 4.0,
    initial_scale: float = 1.0,
    min_scale: float = 0.0,
) -> Likelihood:
    """Independent Student's t, for real values with outliers; the decoder puts out medians `[X]`.

    Args:
      df: degrees of freedom; None for a number that is learned, shared by all columns, as
        `{"log_df": []}`, and kept within [0.1, 1e6].
      scale: as of `normal`.
      initial_df: where a learned number starts.
      initial_scale: as of `normal`.
      min_scale: as of `normal`.

    Raises:
      ValueError: for a word or number that cannot be.
      TypeError: for what is neither.
    """
    rule = scales.make(scale, initial_scale, min_scale)
    if df is not None:
        checks.positive("df", df)
    checks.positive("initial_df", initial_df)

    def build(params, loc, *heads):
        degrees = jnp.exp(jnp.clip(params["log_df"], *_LOG_DF)) if df is None else df
        return StudentT(loc, rule.of(params, *heads), degrees)

    def init(num_columns: int | None = None):
        own = {"log_df": jnp.asarray(math.log(initial_df), float)} if df is None else {}
        return own | rule.init(num_columns)

    return _of_location(build, rule)._replace(init=init)


def _of_location(build, rule: scales.Scale) -> Likelihood:
    """A likelihood whose first output is where the values lie."""
    return Likelihood(
        build,
        rule.init,
        check_real,
        head_sizes=lambda num_columns: (num_columns,) * (1 + rule.num_heads),
        first_outputs=lambda mean: (jnp.asarray(mean, float), *[None] * rule.num_heads),
    )


class Standardized(NamedTuple):
    """The distribution of loc + scale·y, y being of another one.

    Attributes:
      base: the distribution of y.
      loc: `[X]`.
      scale: `[X]`, positive.
    """

    base: Any
    loc: chex.Array
    scale: chex.Array

    def log_prob(self, x: chex.Array) -> chex.Array:
        """Log density `[]` at `x` `[X]`, in nats of x's own units: with the log-determinant."""
        return self.base.log_prob((x - self.loc) / self.scale) - jnp.sum(jnp.log(self.scale))

    def log_probs(self, x: chex.Array) -> chex.Array:
        """Log density of each column in x's own units, `[X]`."""
        return self.base.log_probs((x - self.loc) / self.scale) - jnp.log(self.scale)

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[X]`."""
        return self.loc + self.scale * self.base.sample(key)

    def mean(self) -> chex.Array:
        """Mean `[X]`."""
        return self.loc + self.scale * self.base.mean()


@of_likelihood
def standardized(base: Likelihood, loc: chex.Array, scale: chex.Array) -> Likelihood:
    """A likelihood of (x - loc) / scale, told in x's own units.

    An encoder that is made for it sees the standardized values. `standardize` finds `loc` and
    `scale` of training data.

    Args:
      base: of real values.
      loc: `[X]`.
      scale: `[X]`, positive.

    Raises:
      ValueError: for arrays of unequal length, a scale that is not positive and finite, or a base
        that is masked.
    """
    loc, scale = np.asarray(loc, np.float64), np.asarray(scale, np.float64)
    if loc.ndim != 1 or loc.shape != scale.shape:
        raise ValueError(
            f"`loc` and `scale` must have one number for each column, got {list(loc.shape)} and "
            f"{list(scale.shape)}."
        )
    if base.takes_missing:
        raise ValueError(
            "`base` must not be masked: standardize first, `masked(standardized(base, ...))`."
        )
    if not (np.isfinite(loc).all() and np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError("`loc` must be finite, and `scale` positive and finite, in every column.")

    def as_floats():
        return jnp.asarray(loc, float), jnp.asarray(scale, float)

    def build(params, *outputs):
        return Standardized(base.build(params, *outputs), *as_floats())

    def inputs(x: chex.Array) -> chex.Array:
        center, width = as_floats()
        values = (x - center) / width
        return values if base.inputs is None else base.inputs(values)

    def first_outputs(mean: chex.Array):
        return base.first_outputs((np.asarray(mean) - loc) / scale)

    return base._replace(
        build=build, inputs=inputs, first_outputs=base.first_outputs and first_outputs, recipe=None
    )


def moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the columns of `rows` `[N, X]`, each `[X]`, without NaN."""
    if not np.isnan(rows).any():  # NumPy adds in another order where there might be some
        return np.mean(rows, axis=0, dtype=np.float64), np.std(rows, axis=0, dtype=np.float64)
    return np.nanmean(rows, axis=0, dtype=np.float64), np.nanstd(rows, axis=0, dtype=np.float64)


def standardize(
    base: Likelihood, train: np.ndarray, *, columns: Sequence[str] | None = None
) -> Likelihood:
    """A likelihood of values with the training data's mean taken off, and of variance 1.

    NLLs stay in the data's own units, by the log-determinant. A constant column has nothing but its
    mean taken off.

    Args:
      base: of real values, such as `normal("per_column", min_scale=1e-3)`.
      train: `[N, X]` training data; of test data nothing may be known here.
        NaN says nothing; the likelihood must then be `masked`.
      columns: X names, for what is said.

    Warns:
      of constant columns: a learned scale falls there to its floor, and the density, which is a
      number without meaning, grows as it does.

    Raises:
      ValueError: for infinite values, or a column without any.
    """
    is_missing = np.isnan(train)
    base.check(np.where(is_missing, 0.0, train), name="train", columns=columns)
    support.check_known_columns(train, name="train", columns=columns)
    loc, spread = moments(train)
    is_constant = np.nanmax(train, axis=0) == np.nanmin(train, axis=0)
    if is_constant.any():
        first = int(np.flatnonzero(is_constant)[0])
        more = f" and {is_constant.sum() - 1} more" if is_constant.sum() > 1 else ""
        warnings.warn(
            f"`train` is constant in {support.name_of_column(first, columns)}{more}: where a scale "
            "is learned its density grows without end, or to what `min_scale` allows, and the "
            "NLL says nothing; leave constant columns out.",
            stacklevel=2,
        )
    return standardized(base, loc, np.where(is_constant, 1.0, spread))
