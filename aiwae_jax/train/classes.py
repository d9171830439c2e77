"""Conditions of a trained model: rows of one, and which class of it explains a row best.

A model of p(x|c) for every class c is a classifier, by Bayes' rule: p(c|x) ∝ p(c) p(x|c).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from aiwae_jax import checks, evaluate
from aiwae_jax.data.conditions import value_of
from aiwae_jax.types import Model

Condition = Mapping[str, Sequence[str] | None]


class Classified(NamedTuple):
    """What K classes make of N rows, by annealed estimates with independent chains.

    Attributes:
      log_likelihood: `[N, K]` estimates of log p(x|c), nats; each a lower bound in expectation.
      standard_errors: `[N, K]` of these.
      is_reliable: `[N, K]` whether they can be relied on, see `evaluate.Likelihood`.
      log_prior: `[K]` log p(c).
      column: of the condition, that holds the class.
      names: of the K classes.
      estimates: all of it, of N·K data, row after row and in each class after class.
    """

    log_likelihood: np.ndarray
    standard_errors: np.ndarray
    is_reliable: np.ndarray
    log_prior: np.ndarray
    column: str
    names: tuple[str, ...]
    estimates: evaluate.Likelihood

    @classmethod
    def of(
        cls,
        found: evaluate.Likelihood,
        column: str,
        names: Sequence[str],
        log_prior: np.ndarray,
    ) -> "Classified":
        """From the estimates of rows in all classes, as `of_all_classes` has them."""
        fields = found.log_likelihood, found.standard_errors, found.is_reliable
        shaped = (np.asarray(each).reshape(-1, len(names)) for each in fields)
        return cls(*shaped, log_prior, column, tuple(names), found)

    @property
    def _log_joint(self) -> np.ndarray:
        return self.log_likelihood + self.log_prior

    @property
    def log_evidence(self) -> np.ndarray:
        """`[N]` log p(x) = log Σ p(c) p(x|c), nats: comparable with a model without condition.

        The mean of estimates that are unbiased before the log, and so a lower bound as they are.
        """
        return np.logaddexp.reduce(self._log_joint, axis=1)

    @property
    def log_evidence_errors(self) -> np.ndarray:
        """`[N]` standard errors of `log_evidence`, by the delta method.

        Classes of probability 0 add nothing; NaN where the error of another one is unknown.
        """
        p = self.probabilities
        weighted = np.where(p == 0.0, 0.0, p * self.standard_errors)
        return np.sqrt((weighted**2).sum(axis=1))

    @property
    def probabilities(self) -> np.ndarray:
        """p(c|x) `[N, K]`."""
        return np.exp(self._log_joint - self.log_evidence[:, None])

    @property
    def codes(self) -> np.ndarray:
        """`[N]` the most probable class."""
        return np.argmax(self._log_joint, axis=1)

    @property
    def _best_two(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self._log_joint, axis=1)
        return order[:, -1], order[:, -2]

    @property
    def margins(self) -> np.ndarray:
        """`[N]` by how much the most probable class is before the next one, nats."""
        rows, (first, second) = np.arange(len(self.log_likelihood)), self._best_two
        return self._log_joint[rows, first] - self._log_joint[rows, second]

    @property
    def margin_errors(self) -> np.ndarray:
        """`[N]` standard errors of the margins, of two independent estimates, nats."""
        rows, (first, second) = np.arange(len(self.log_likelihood)), self._best_two
        return np.hypot(self.standard_errors[rows, first], self.standard_errors[rows, second])

    @property
    def is_sure(self) -> np.ndarray:
        """`[N]` whether margins are beyond two standard errors, of estimates that are reliable."""
        rows, two = np.arange(len(self.log_likelihood)), self._best_two
        is_reliable = self.is_reliable[rows, two[0]] & self.is_reliable[rows, two[1]]
        return is_reliable & (self.margins > 2.0 * self.margin_errors)

    def accuracy(self, codes: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
        """Share of the rows whose most probable class is that of `codes` `[N]`, with its error.

        Args:
          codes: `[N]`.
          weights: `[N]` of the rows, or None.
        """
        is_right = self.codes == np.asarray(codes)
        return evaluate.mean_and_standard_error(is_right.astype(float), weights)

    def confusion(self, codes: np.ndarray) -> np.ndarray:
        """`[K, K]` how many rows of each class of `codes` `[N]` (rows) are taken for which."""
        num = len(self.names)
        pairs = np.asarray(codes).astype(int) * num + self.codes
        return np.bincount(pairs, minlength=num * num).reshape(num, num)


def likelihood_given(likelihood: Any, x: chex.Array | None, z: chex.Array) -> Any:
    """p(x|z) of a model that is given the condition in `x` `[X]`."""
    checks.given("condition", x, "the decoder sees it beside z")
    return likelihood(z).given(x)


def row_of(condition: Any, model: Model, names: Condition) -> np.ndarray:
    """A datum `[X]` with that condition, and zeros for what is modelled.

    Args:
      condition: see `Trained.sample`.
      model: the model.
      names: columns of the condition -> names of the classes.

    Raises:
      ValueError: for a model that is given nothing, another number of values, or an unknown one.
    """
    num = model.num_given
    if not num:
        raise ValueError("`condition` is for models that are given one; leave it out.")
    columns = list(names) or [f"column {i}" for i in range(num)]
    if isinstance(condition, Mapping):
        if unknown := [name for name in condition if name not in columns]:
            raise ValueError(
                f"`condition` names {unknown[0]!r}; the columns are {', '.join(columns)}."
            )
        if lacking := [name for name in columns if name not in condition]:
            raise ValueError(f"`condition` must have a value for {lacking[0]!r}, got none.")
        values = [condition[name] for name in columns]
    else:
        is_one = isinstance(condition, str) or np.ndim(condition) == 0
        values = [condition] if is_one else list(condition)
    if len(values) != num:
        raise ValueError(
            f"`condition` must have a value for each of {', '.join(columns)}, got {len(values)}."
        )
    row = np.zeros(_size_of(model), np.dtype(jax.dtypes.canonicalize_dtype(float)))
    row[-num:] = [value_of(v, n, names.get(n)) for v, n in zip(values, columns, strict=True)]
    return row


def _size_of(model: Model) -> int:
    checks.given("model.data_size", model.data_size, "a row of so many columns is made")
    return model.data_size


def column_of(
    column: str | None, names: Condition, model: Model
) -> tuple[str, tuple[str, ...], int]:
    """The column of a class: its name, the names of the classes, and its place in a row.

    Raises:
      ValueError: where there is none, or several and none is chosen.
    """
    found = {name: words for name, words in names.items() if words}
    if not model.num_given or not found:
        raise ValueError(
            "`classify` needs a model that is given a class: train it on data with "
            "`condition=...`, a column of classes or 'label'."
        )
    if column is None and len(found) == 1:
        (column,) = found
    if column not in found:
        raise ValueError(f"`column` must be one of {', '.join(found)}; got {column!r}.")
    return column, tuple(found[column]), list(names).index(column) - model.num_given


def log_prior_of(prior: Sequence[float] | None, names: Sequence[str]) -> np.ndarray:
    """Log p(c) `[K]`; all alike where nothing is said.

    Raises:
      ValueError: for what are no probabilities.
    """
    if prior is None:
        return np.full(len(names), -np.log(len(names)))
    checks.numbers("prior", prior)
    found = np.asarray(prior, np.float64)
    if found.shape != (len(names),) or not (found >= 0).all() or not np.isclose(found.sum(), 1):
        raise ValueError(
            f"`prior` must be {len(names)} probabilities that sum to 1, one for each class; got "
            f"{prior!r:.80}."
        )
    with np.errstate(divide="ignore"):
        return np.log(found)


def of_all_classes(rows: np.ndarray, place: int, num: int) -> np.ndarray:
    """Each row `[N, X]` in all classes, `[N K, X]`; `place` is that of the class in a row."""
    found = np.repeat(rows, num, axis=0)
    found[:, place] = np.tile(np.arange(num), len(rows))
    return found
