"""Two models on the same data, datum by datum: what they share cancels, and less is chance."""

from typing import Any, NamedTuple, Protocol

import chex
import jax
import numpy as np

from aiwae_jax import checks
from aiwae_jax.evaluate import verdicts
from aiwae_jax.evaluate.likelihood import Likelihood, log_likelihood, mean_and_standard_error
from aiwae_jax.evaluate.settings import DEFAULT_SETTINGS, Settings
from aiwae_jax.evaluate.target import Target
from aiwae_jax.types import PyTree

_SEED = 0  # of what is drawn where no key is given


class Measurable(Protocol):
    """What has a target, such as a trained `Run`.

    Where it has `rows(x, key)` too, that says which rows its model sees of the data.
    """

    def target(self) -> Target:
        """The model as `evaluate` takes it."""


class Comparison(NamedTuple):
    """Paired differences of log p(x) of two models, on the same N data.

    Attributes:
      differences: `[N]` log p(x) of the first model minus that of the second, nats; NaN where both
        are -inf, which the mean leaves out and the summary names, or where one is NaN: then the
        mean is NaN, too.
      standard_errors: `[N]` of these, of both estimates, which share no noise, nats; NaN where one
        has none.
      is_reliable: `[N]` whether both estimates can be relied on, see `Likelihood.is_reliable`.
      log_likelihoods: `[2, N]` the estimates of both.
      found: all that was found of either, or None of estimates that were made elsewhere.
    """

    differences: np.ndarray
    standard_errors: np.ndarray
    is_reliable: np.ndarray
    log_likelihoods: np.ndarray
    found: tuple[Likelihood, Likelihood] | None = None

    @classmethod
    def of(
        cls,
        log_likelihoods: np.ndarray,
        standard_errors: np.ndarray,
        is_reliable: np.ndarray,
        found: tuple[Likelihood, Likelihood] | None = None,
    ) -> "Comparison":
        """Pairs estimates, their errors and their verdicts, each `[2, N]`, datum by datum.

        Raises:
          ValueError: for other shapes.
        """
        named = {
            "log_likelihoods": np.asarray(log_likelihoods, np.float64),
            "standard_errors": np.asarray(standard_errors, np.float64),
            "is_reliable": np.asarray(is_reliable, bool),
        }
        shape = named["log_likelihoods"].shape
        for name, array in named.items():
            if array.ndim != 2 or len(array) != 2 or not array.size or array.shape != shape:
                raise ValueError(
                    f"`{name}` must be two rows of the same data, [2, N], got shape "
                    f"{list(array.shape)}, beside log likelihoods of {list(shape)}."
                )
        both, errors, verdicts_of_both = named.values()
        with np.errstate(invalid="ignore"):  # of a datum that neither explains
            differences = both[0] - both[1]
        return cls(differences, np.hypot(*errors), verdicts_of_both.all(axis=0), both, found)

    @property
    def mean(self) -> float:
        """Over the data, nats."""
        return mean_and_standard_error(self.explained)[0]

    @property
    def standard_error(self) -> float:
        """Of `mean`, over the data; what single estimates err by is in it."""
        return mean_and_standard_error(self.explained)[1]

    @property
    def explained(self) -> np.ndarray:
        """`[M]` differences of the data that at least one model explains; [NaN] where none is."""
        found = self.differences[self.is_explained]
        return found if len(found) else np.array([np.nan])

    @property
    def is_explained(self) -> np.ndarray:
        """`[N]` whether at least one model gives a datum some probability, or NaN."""
        return (self.log_likelihoods != -np.inf).any(axis=0)

    @property
    def num_unreliable(self) -> int:
        """Counts data of which at least one estimate cannot be relied on."""
        return int((~self.is_reliable).sum())

    @property
    def summary(self) -> str:
        """One line: both means, the difference with its error, and which data not to rely on."""
        first, second = self.log_likelihoods.mean(axis=1)
        line = (
            f"log p(x) {first:.2f} and {second:.2f}, paired difference {self.mean:+.2f} ± "
            f"{self.standard_error:.2f} nats over {len(self.differences)} data"
        )
        if (is_neither := ~self.is_explained).any():
            line += f"; left out, for neither model explains them: {verdicts.rows(is_neither)}"
        if (is_nan := np.isnan(self.log_likelihoods).any(axis=0)).any():
            line += f"; NaN under a model: {verdicts.rows(is_nan)}"
        if self.num_unreliable:
            line += f"; not to be relied on: {verdicts.rows(~self.is_reliable)}"
        return line

    def __repr__(self) -> str:
        return f"Comparison({self.summary})"


def compare(
    run_a: Target | Measurable,
    run_b: Target | Measurable,
    x: PyTree,
    settings: Settings | None = None,
    *,
    key: chex.PRNGKey | None = None,
    **options: Any,
) -> Comparison:
    """Compares log p(x) of two models, each estimated by `log_likelihood`, datum by datum.

    Data differ among themselves by much more than two models differ on one of them: of N data the
    mean paired difference has an error of std(differences)/√N, where two means have that of all
    data. Both estimates are lower bounds in expectation, each below by about half the square of its
    own error, so that a difference may favour the model whose chains mix better: look at
    `is_reliable`, and at the bidirectional gap of both.

    Args:
      run_a: a `Target`, or what has a `target()`, as a `Run` of `train.fit` or `load` has. Data are
        what its model sees: grey levels that a run sees as bits are drawn as bits once, the same
        for both.
      run_b: likewise.
      x: pytree of data with leading axis N.
      settings: of the chains; by default each model's own, where it says which those are, as a run
        does by its kind of latents.
      key: of everything that is drawn; by default one and the same. The chains of the two share no
        noise.
      **options: `numbers`, `chunk_size`, `store` of `log_likelihood`.

    Returns:
      A `Comparison`, whose `summary` is a line, and whose arrays mark the data not to be relied on.

    Raises:
      TypeError: for what is or has no target; as `log_likelihood`.
      ValueError: where the two do not see the same data, or one is of a part of a datum given the
        rest and the other is not, which are different quantities; as `log_likelihood`.
    """
    key = jax.random.key(_SEED) if key is None else key
    checks.key(key)
    pixel_key, *keys = jax.random.split(key, 3)
    runs = {"run_a": run_a, "run_b": run_b}
    targets = [_target_of(name, run) for name, run in runs.items()]
    _check_alike(runs)
    rows = [run.rows(x, pixel_key) if hasattr(run, "rows") else x for run in runs.values()]
    _check_same(*rows)
    own = [settings or getattr(run, "settings", DEFAULT_SETTINGS) for run in runs.values()]
    found = tuple(
        log_likelihood(*arguments, **options)
        for arguments in zip(keys, targets, rows, own, strict=True)
    )
    names = ("log_likelihood", "standard_errors", "is_reliable")
    arrays = ([getattr(each, name) for each in found] for name in names)
    return Comparison.of(*arrays, found)


def _target_of(name: str, run: Any) -> Target:
    """The target that `run` is, or has."""
    if isinstance(run, Target):
        return run
    found = run.target() if callable(getattr(run, "target", None)) else None
    if not isinstance(found, Target):
        raise TypeError(
            f"`{name}` must be an `evaluate.Target`, or have a `target()` that returns one, as a "
            f"run of `train.fit` or `load` has; got {checks.describe(run)}."
        )
    return found


def _check_alike(runs: dict[str, Any]) -> None:
    """Raises ValueError where one is known to be of a part of x, and the other of all of it."""
    models = {name: getattr(run, "model", None) for name, run in runs.items()}
    known = {name: getattr(model, "is_conditional", None) for name, model in models.items()}
    if set(known.values()) == {True, False}:
        (conditional,) = (name for name, is_conditional in known.items() if is_conditional)
        raise ValueError(
            f"`{conditional}` is of a part of each datum given the rest, and the other model is of "
            "all of it: these are different quantities, whose difference says nothing."
        )
    given = {name: getattr(model, "num_given", 0) for name, model in models.items() if model}
    if len(set(given.values())) > 1:
        words = " and ".join(f"`{name}` is given {num}" for name, num in given.items())
        raise ValueError(
            f"{words} columns of each datum, and these models' log p(x) are of the others: these "
            "are different quantities, whose difference says nothing."
        )


def _check_same(a: PyTree, b: PyTree) -> None:
    """Raises ValueError where the two models do not see the same data."""
    leaves = [list(map(np.asarray, jax.tree.leaves(each))) for each in (a, b)]
    is_same = len(leaves[0]) == len(leaves[1]) and all(
        here.shape == there.shape
        and bool(np.all((here == there) | ((here != here) & (there != there))))  # NaN is missing
        for here, there in zip(*leaves, strict=True)
    )
    if not is_same:
        raise ValueError(
            "`run_a` and `run_b` do not see the same data of `x`: one draws its grey levels as "
            "bits. Give bits, or compare models of the same data."
        )
