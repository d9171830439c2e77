"""A trained model: what one does with it, wherever it is kept."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import checks, evaluate
from aiwae_jax.data.dataset import as_floats
from aiwae_jax.evaluate.of_missing import check_removed
from aiwae_jax.runs import progress
from aiwae_jax.train import classes, entering, export, imputation, of_rows
from aiwae_jax.types import Model, Params, PyTree

_OF_IMPUTATION = {"num_temperatures": 200, "num_chains": 100}  # many latents of each row
_SEED = 0  # of what is drawn where no key is given


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model and its parameters.

    Rows are data as the model sees them. Those of a model of grey levels may be bits or levels;
    levels are drawn as bits once, by `key`.

    Attributes:
      model: the model.
      params: its parameters.
      max_level: the grey level that stands for 1, of a model of grey levels.
      has_posterior: whether q(z|x) was trained.
      condition: names of the columns that the model is given -> names of their classes' codes, None
        of numbers.
    """

    model: Model
    params: Params
    max_level: float | None = None
    has_posterior: bool = True
    condition: Mapping[str, Sequence[str] | None] = dataclasses.field(default_factory=dict)

    @property
    def start(self) -> str:
        """Names the start of evaluation: "posterior", or where q is not trained "prior"."""
        return "posterior" if self.has_posterior else "prior"

    @functools.cached_property
    def data_size(self) -> int | None:
        """X, as far as the model can tell."""
        if self.model.data_size is not None:
            return self.model.data_size
        if self.model.sample is None or self.model.is_conditional:
            return None
        key = jax.eval_shape(lambda: jax.random.key(0))
        x, _ = jax.eval_shape(self.model.sample, key, self.params.theta, None)
        return x.shape[0] if hasattr(x, "shape") and len(x.shape) == 1 else None

    @functools.cached_property
    def latent_size(self) -> int:
        """D."""
        key = jax.eval_shape(lambda: jax.random.key(0))
        x = jax.ShapeDtypeStruct((self.data_size or 1,), jax.dtypes.canonicalize_dtype(float))
        prior = self.model.prior
        return jax.eval_shape(lambda k, x: prior(self.params.theta, x).sample(k), key, x).shape[0]

    @property
    def settings(self) -> evaluate.Settings:
        """Of chains, by default: those for its kind of latents."""
        is_binary = self.model.latents == "binary"
        return evaluate.BINARY_SETTINGS if is_binary else evaluate.Settings()

    def target(self, **options: Any) -> evaluate.Target:
        """Makes the target of `evaluate`, the model at these parameters; see `Target.of`."""
        options = {"start": self.start} | options
        return evaluate.Target.of(self.model, self.params, **options)

    def rows(self, x: chex.Array, key: chex.PRNGKey | None = None) -> np.ndarray:
        """Rows `[N, X]` as the model sees them, checked: shape, finiteness, support.

        Args:
          x: `[N, X]`; 0s and 1s may be integers. Of a model of grey levels uint8 are levels in
            [0, `max_level`], as in a data set; so are rows of other numbers in which any is neither
            0 nor 1, and rows of 0s and 1s are bits. Where levels go beyond 1, fractions
            alone are refused, and uint8 up to 1 warned of.
          key: that draws levels as bits, each row with a key of its own.

        Raises:
          ValueError: for another shape, or what the model's likelihood is not of.
          TypeError: for what are no numbers.
        """
        key = _or_default(key)
        found = entering.as_rows("x", x, self.data_size)
        return entering.as_seen(found, x, self.model, self.max_level, key)

    def encode(
        self, x: chex.Array, *, key: chex.PRNGKey | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of q(z|x), each `[N, D]`, for rows `x` `[N, X]`.

        Args:
          x: see `rows`.
          key: likewise.

        Raises:
          ValueError: as `rows`; where q was not trained.
        """
        return of_rows.in_pieces(
            "encoding", of_rows.moments, self._posterior("encode"), self.rows(x, key)
        )

    def sample_latents(self, key: chex.PRNGKey, x: chex.Array, num_samples: int = 1) -> np.ndarray:
        """Draws z `[N, num_samples, D]` from q(z|x), for rows `x` `[N, X]`.

        Raises:
          ValueError: as `encode`.
        """
        checks.key(key)
        checks.integer("num_samples", num_samples, least=1)
        posterior = self._posterior("sample_latents")
        pixel_key, key = jax.random.split(key)
        rows = self.rows(x, pixel_key)
        keys = jax.random.split(key, (len(rows), num_samples))
        return of_rows.in_pieces("encoding", of_rows.draws, posterior, (rows, keys))

    def decode(self, z: chex.Array, *, condition: Any = None) -> np.ndarray:
        """Mean of p(x|z) `[N, X]` for latents `z` `[N, D]`; of counts given their total, shares.

        Args:
          z: the latents.
          condition: as in `sample`, of a model that is given one, for all rows.

        Raises:
          ValueError: for a model without a `likelihood`, or other latents than its.
        """
        likelihood = self._likelihood("decode")
        if self.model.num_given:
            x = None if condition is None else self._given(condition)
            likelihood = Partial(classes.likelihood_given, likelihood, x)
        rows = entering.as_rows("z", z, self.latent_size if self.model.prior is not None else None)
        return of_rows.in_pieces("decoding", of_rows.means, likelihood, rows)

    def reconstruct(self, x: chex.Array, *, key: chex.PRNGKey | None = None) -> np.ndarray:
        """Mean of p(x|z) `[N, X]` at q's mean of z; of binary latents at a draw of it.

        Of a conditional model what it predicts of x, beside the part that is given.

        Args:
          x: see `rows`.
          key: likewise; it also draws binary latents.

        Raises:
          ValueError: as `encode` and `decode`.
        """
        functions = self._posterior("reconstruct"), self._likelihood("reconstruct")
        pixel_key, key = jax.random.split(_or_default(key))
        rows = self.rows(x, pixel_key)
        keys = jax.random.split(key, len(rows))
        function = of_rows.redrawn if self.model.latents == "binary" else of_rows.again
        return of_rows.in_pieces("reconstructing", function, functions, (rows, keys))

    def sample(
        self, key: chex.PRNGKey, num: int, x: PyTree = None, *, condition: Any = None
    ) -> tuple[PyTree, np.ndarray]:
        """Draws (x `[num, X]`, z `[num, D]`) from the model.

        Args:
          key: consumed.
          num: how many.
          x: the datum `[X]` whose given part a conditional model goes on from.
          condition: in its place the values of the columns that a model is given: the name of a
            class or a number, of several a sequence of them, or a mapping by columns.

        Raises:
          ValueError: for a model without a `sample`, or a conditional one without an `x`.
        """
        checks.key(key)
        keys = jax.random.split(key, checks.integer("num", num, least=1))
        checks.given("model.sample", self.model.sample, "it makes exact draws (x', z)")
        if condition is not None:
            x = self._given(condition)
        if x is None and self.model.is_conditional:
            raise ValueError(
                "`x` must be a datum: this model is of a part of it given the rest; use "
                f"run.sample(key, num, {'condition=...' if self.model.num_given else 'x'})."
            )
        functions = Partial(self.model.sample), self.params.theta, x
        return of_rows.in_pieces("sampling", of_rows.samples, functions, keys)

    def log_likelihood(
        self,
        x: chex.Array,
        settings: evaluate.Settings | None = None,
        *,
        key: chex.PRNGKey | None = None,
        start: str | None = None,
        **options: Any,
    ) -> evaluate.Likelihood:
        """Annealed estimates of log p(x), nats, a row each, with their errors and verdicts.

        `run.log_likelihood(x).log_likelihood` are the estimates, `.standard_errors` those of each,
        `.is_reliable` whether to believe it. Of grey levels it is log p of the bits that `key`
        draws of them, once.

        Args:
          x: see `rows`.
          settings: of the chains, by default `Trained.settings`.
          key: of bits and chains; by default one and the same.
          start: what chains start from, "posterior" or "prior"; by default q(z|x), where it was
            trained.
          **options: `plan`, `numbers`, `chunk_size`, `store`, `progress_fn`, `check` of
            `evaluate.log_likelihood`; by default a call of more than seconds shows its progress.

        Raises:
          ValueError: as `rows` and `evaluate.log_likelihood`.
        """
        if checks.is_key(x):
            raise TypeError("`x` must be rows, got a key: log_likelihood(x, settings, key=key).")
        pixel_key, key = jax.random.split(_or_default(key))
        rows = self.rows(x, pixel_key)
        settings = self.settings if settings is None else settings
        target = self._target_from(start)
        if "progress_fn" in options:
            return evaluate.log_likelihood(key, target, rows, settings, **options)
        with progress.Stages(of_rows.SECONDS_UNSEEN) as shown:
            return evaluate.log_likelihood(
                key, target, rows, settings, progress_fn=shown.titled("log p(x)"), **options
            )

    def classify(
        self,
        x: chex.Array,
        settings: evaluate.Settings | None = None,
        *,
        column: str | None = None,
        prior: Sequence[float] | None = None,
        key: chex.PRNGKey | None = None,
        start: str | None = None,
        **options: Any,
    ) -> classes.Classified:
        """Which class of the condition each row is of, by annealed log p(x|c) of every class.

        Args:
          x: see `rows`; what its column of the class holds does not matter, if it is a class.
          settings: as in `log_likelihood`.
          column: of the class; by default the only one of the condition that holds classes.
          prior: `[K]` probabilities of the classes; by default all alike.
          key: as in `log_likelihood`.
          start: likewise.
          **options: likewise.

        Raises:
          ValueError: as `log_likelihood`; for a model that is given no class.
        """
        name, names, place = classes.column_of(column, self.condition, self.model)
        log_prior = classes.log_prior_of(prior, names)
        pixel_key, key = jax.random.split(_or_default(key))
        rows = classes.of_all_classes(self.rows(x, pixel_key), place, len(names))
        found = self.log_likelihood(rows, settings, key=key, start=start, **options)
        return classes.Classified.of(found, name, names, log_prior)

    def impute(
        self,
        x: chex.Array,
        key: chex.PRNGKey | None = None,
        settings: evaluate.Settings | None = None,
        *,
        num_draws: int = 10,
        level: float = 0.9,
        start: str | None = None,
    ) -> imputation.Imputed:
        """Fills in the missing values of rows: their mean, draws, and an interval for each.

        By latents that explain what was observed: annealed chains with their self-normalized
        weights, consistent as the chains become many.

        Args:
          x: see `rows`; NaN is missing.
          key: of bits, chains and draws; by default one and the same.
          settings: of the chains, by default 100 of 200 temperatures.
          num_draws: S, of whole rows.
          level: of the intervals, in (0, 1).
          start: as in `log_likelihood`.

        Raises:
          ValueError: as `rows` and `log_likelihood`; for a model that takes no missing values.
        """
        checks.integer("num_draws", num_draws, least=1)
        if not 0.0 < checks.real("level", level) < 1.0:
            raise ValueError(f"`level` must lie between 0 and 1, got {level}.")
        likelihood = self._of_gaps("impute")
        pixel_key, chain_key, draw_key = jax.random.split(_or_default(key), 3)
        rows = self.rows(x, pixel_key)
        is_missing = np.isnan(rows)
        latents = None
        if (has_gaps := is_missing.any(axis=1)).any():
            if settings is None:
                settings = dataclasses.replace(self.settings, **_OF_IMPUTATION)
            with progress.Stages(of_rows.SECONDS_UNSEEN) as shown:
                latents = evaluate.weighted_latents(
                    *(chain_key, self._target_from(start), rows[has_gaps], settings),
                    progress_fn=shown.titled("p(z|x)"),
                )
        options = {"num_draws": num_draws, "level": level}
        return imputation.impute(draw_key, rows, is_missing, latents, likelihood, **options)

    def log_likelihood_of_missing(
        self,
        x: chex.Array,
        x_observed: chex.Array,
        settings: evaluate.Settings | None = None,
        *,
        key: chex.PRNGKey | None = None,
        start: str | None = None,
        **options: Any,
    ) -> evaluate.OfMissing:
        """Log p(x_missing | x_observed) of each row, see `evaluate.log_likelihood_of_missing`.

        Args:
          x: see `rows`; with the values that are asked for.
          x_observed: the same rows, NaN where these are.
          settings: as in `log_likelihood`.
          key: likewise.
          start: likewise.
          **options: likewise.

        Raises:
          ValueError: as `log_likelihood`; for a model that takes no missing values, and rows that
            are not the same.
        """
        self._of_gaps("log_likelihood_of_missing")
        pixel_key, key = jax.random.split(_or_default(key))
        rows = self.rows(x, pixel_key)
        is_removed = check_removed(*(as_floats(a) for a in (x, x_observed)))
        of_both = rows, np.where(is_removed, np.nan, rows)
        settings = self.settings if settings is None else settings
        with progress.Stages(of_rows.SECONDS_UNSEEN) as shown:
            options = {"progress_fn": shown.titled("log p(missing|observed)")} | options
            return evaluate.log_likelihood_of_missing(
                key, self._target_from(start), *of_both, settings, **options
            )

    def _given(self, condition: Any) -> np.ndarray:
        return classes.row_of(condition, self.model, self.condition)

    def _of_gaps(self, name: str) -> Partial:
        """The likelihood of a model that takes missing values."""
        if not self.model.takes_missing:
            raise ValueError(
                f"`{name}` needs a model of rows with missing values: build it with "
                "`likelihoods.masked(...)`, or train it by aiwae fit --missing=at_random."
            )
        return self._likelihood(name)

    def _target_from(self, start: str | None) -> evaluate.Target:
        if start == "posterior":
            self._posterior("start")
        return self.target(**({} if start is None else {"start": start}))

    def export(self, path: str | os.PathLike) -> None:
        """Writes weights and settings as an .npz file that NumPy alone can read; see `export`.

        Raises:
          WorkdirError: for a path that cannot be written.
        """
        export.write(path, self.model, self.params, self._facts())

    def _facts(self) -> dict[str, Any]:
        """What an exported file says of it, as JSON."""
        return {"max_level": self.max_level, "data_size": self.data_size}

    def _posterior(self, name: str) -> Partial:
        if not self.has_posterior:
            raise ValueError(
                f"`{name}` needs q(z|x), which this run's method does not train; use "
                "`log_likelihood`, `sample` and `decode`, or a method that trains it."
            )
        return Partial(self.model.posterior, self.params.phi)

    def _likelihood(self, name: str) -> Partial:
        if self.model.likelihood is None:
            raise ValueError(
                f"`{name}` needs a model with a `likelihood`: Model(..., likelihood=lambda theta, "
                "z: a distribution over x with a `mean()`)."
            )
        return Partial(self.model.likelihood, self.params.theta)


def _or_default(key: chex.PRNGKey | None) -> chex.PRNGKey:
    if key is None:
        return jax.random.key(_SEED)
    checks.key(key)
    return key
