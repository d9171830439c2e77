"""An estimator for scikit-learn, thin over `train.fit` and `train.Trained`.

Every row's chains have keys that follow from its own numbers, under temperatures and step sizes
that were tuned on the training data: a row's log-likelihood depends neither on the order nor on
the company of the rows that it is asked for with.
"""

import contextlib
import functools
import hashlib
import inspect
import json
import os
import pathlib
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import (
    checks,
    data,
    evaluate,
    likelihoods,
    methods,
    models,
    recipe,
    row_weights,
    train,
)
from aiwae_jax.evaluate.target import STARTS
from aiwae_jax.report import starts
from aiwae_jax.runs import extras, progress
from aiwae_jax.types import Method, Model

try:
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        DensityMixin,
        TransformerMixin,
    )
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise extras.MissingError(
        "`aiwae_jax.AIWAE` needs scikit-learn 1.6 or later: pip install 'aiwae_jax[run]'."
    ) from error

_ROWS_AT_ONCE = 64  # always so many, so that rounding is the same whatever their number
_TIGHTER = "tighter"
_KEPT_MODELS = 32  # that were built, so that their programs are compiled once


class AIWAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    """A latent-variable model of rows of numbers, whose log-likelihood can be trusted.

    An auto-encoder of two dense networks with latents from N(0, I), trained by any method of
    `aiwae_jax.methods`, and measured by annealed importance sampling.

    Args:
      method: a key of `methods.BUILDERS`.
      latent_size: D.
      hidden_sizes: layers of the decoder; the encoder has them in reverse order.
      likelihood: of a row given its latent, as text (`likelihoods.from_text`), or from
        `likelihoods`. By default "bernoulli" of X of 0s and 1s, and "normal" of any other: a scale
        is learned for each column, and columns are standardized within the model, so that
        log-likelihoods are in X's own units.
      num_particles: K, of methods that have several.
      num_temperatures: T, of methods that anneal.
      epochs: passes over the data.
      batch_size: B, or all rows where there are fewer.
      learning_rate: the highest one; by default the optimizer's.
      missing: "at_random", where NaN in X is a value that was not observed; log-likelihoods are
        then of what a row has. By default NaN is refused.
      start: what the chains of `score_samples` start from: "posterior", "prior", or "tighter", the
        one that a trial on simulated data shows to be the better.
      evaluation: settings of these chains; by default those of `evaluate.Settings` with 200
        temperatures.
      random_state: of training and chains: an integer for results that can be had again, or as
        scikit-learn has it.
      folder: where the run is kept, and the same call to `fit` continues; by default it is
        temporary.
      verbose: whether progress is shown.

    Attributes:
      params_: learned parameters, a pytree of NumPy arrays.
      model_: how the model was built, as JSON.
      plan_: temperatures and step sizes of the chains.
      start_: what they start from.
      n_features_in_: X.
    """

    def __init__(
        self,
        method: str = "aiwae",
        *,
        latent_size: int = 2,
        hidden_sizes: tuple[int, ...] = (64, 64),
        likelihood: str | likelihoods.Likelihood | None = None,
        num_particles: int = 5,
        num_temperatures: int = 8,
        epochs: float = 200.0,
        batch_size: int = 64,
        learning_rate: float | None = None,
        missing: str | None = None,
        start: str = _TIGHTER,
        evaluation: evaluate.Settings | None = None,
        random_state: Any = 0,
        folder: str | os.PathLike | None = None,
        verbose: bool = False,
    ):
        self.method = method
        self.latent_size = latent_size
        self.hidden_sizes = hidden_sizes
        self.likelihood = likelihood
        self.num_particles = num_particles
        self.num_temperatures = num_temperatures
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.missing = missing
        self.start = start
        self.evaluation = evaluation
        self.random_state = random_state
        self.folder = folder
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "AIWAE":
        """Trains the model on rows `X` `[N, X]`; `y` is not looked at.

        Args:
          X: `[N, X]`.
          y: anything.
          sample_weight: `[N]`, at least 0, what each row counts for; only ratios matter, and a row
            of weight 0 is left out.

        Raises:
          ValueError: for rows or settings that cannot be.
        """
        del y
        self._check()
        rows = self._rows(X, reset=True, ensure_min_samples=2)
        names = getattr(self, "feature_names_in_", None)
        if sample_weight is not None:
            sample_weight = row_weights.checked("sample_weight", sample_weight, len(rows))
            rows, sample_weight = (each[sample_weight > 0.0] for each in (rows, sample_weight))
        dataset = data.from_arrays(
            *(rows, rows[:1]),
            train_weights=sample_weight,
            columns=names,
            name="X",
            missing=self.missing,
        )
        written = self._describe(dataset)
        model = _rebuilt(written)
        seed = int(check_random_state(self.random_state).randint(2**31))
        with self._shown(), self._in_folder() as folder:
            run = train.fit(
                self._method(model),
                model,
                dataset,
                folder,
                epochs=self.epochs,
                batch_size=min(self.batch_size, len(rows)),
                seed=seed,
                learning_rate=self.learning_rate,
            )
            self.model_ = json.loads(written)
            self.params_ = jax.device_get(run.params)
            self.seed_ = seed
            self.has_posterior_ = run.has_posterior
            self._tune(run, dataset)
        return self

    def _check(self) -> None:
        """Refuses settings that cannot be, before any work."""
        if self.method not in methods.BUILDERS:
            raise ValueError(
                f"`method` must be one of {', '.join(methods.BUILDERS)}; got {self.method!r}."
            )
        if self.start not in (*STARTS, _TIGHTER):
            raise ValueError(
                f"`start` must be one of {', '.join((*STARTS, _TIGHTER))}; got {self.start!r}."
            )
        checks.integer("batch_size", self.batch_size, least=1)

    def _describe(self, dataset: data.Dataset) -> str:
        """How the model of these data is built, as JSON.

        Raises:
          TypeError: for a likelihood that no file can say.
        """
        likelihood, rows = self.likelihood, dataset.train
        with_missing = dataset.missing is not None
        if likelihood is None:
            is_bit = np.isin(rows, (0, 1)) | np.isnan(rows)
            likelihood = "bernoulli" if is_bit.all() else "normal"
        if isinstance(likelihood, str):
            options = {"names": dataset.columns, "with_missing": with_missing}
            likelihood = likelihoods.from_text(likelihood, rows, **options)
        elif with_missing and not likelihood.takes_missing:
            likelihood = likelihoods.masked(likelihood)
        model = models.mlp_vae(
            rows.shape[1],
            self.latent_size,
            likelihood=likelihood,
            hidden_sizes=tuple(self.hidden_sizes),
            mean=dataset.mean_image(),
            columns=dataset.columns,
        )
        return json.dumps(model.built_by.to_json())

    def _method(self, model: Model) -> Method:
        build = methods.BUILDERS[self.method]
        taken = inspect.signature(build).parameters
        options = {
            name: getattr(self, name)
            for name in ("num_particles", "num_temperatures")
            if name in taken
        }
        return build(model, **options)

    @contextlib.contextmanager
    def _shown(self):
        with contextlib.nullcontext() if self.verbose else progress.silent():
            yield

    @contextlib.contextmanager
    def _in_folder(self):
        if self.folder is not None:
            yield pathlib.Path(self.folder)
            return
        with tempfile.TemporaryDirectory(prefix="aiwae_jax-") as folder:
            yield pathlib.Path(folder) / "run"

    @property
    def _settings(self) -> evaluate.Settings:
        if self.evaluation is not None:
            return self.evaluation
        return evaluate.Settings(num_temperatures=200)

    def _keys(self) -> jax.Array:
        """Keys of the trial, of the pilots and of the chains."""
        return jax.random.split(jax.random.fold_in(jax.random.key(self.seed_), _KEY_TAG), 3)

    def _tune(self, run: train.Trained, dataset: data.Dataset) -> None:
        """Chooses the start of the chains, their temperatures and step sizes, once for all rows."""
        trial_key, pilot_key, _ = self._keys()
        target_fn = run.target
        if dataset.missing is not None:  # simulated rows lack what real ones do
            target_fn = functools.partial(run.target, contexts=dataset.train)
        self.start_ = run.start if self.start == _TIGHTER else self.start
        if self.start == _TIGHTER and run.has_posterior and not run.model.is_conditional:
            tried = starts.try_other(
                *(trial_key, target_fn, "posterior", "prior", self._settings),
                store={},
                progress_fn=None,
            )
            self.start_ = "prior" if tried["is_tighter"] else "posterior"
        self.plan_ = evaluate.tune(
            pilot_key, run.target(start=self.start_), run.rows(dataset.train), self._settings
        )

    def _trained(self) -> train.Trained:
        check_is_fitted(self)
        model = _rebuilt(json.dumps(self.model_))
        params = jax.tree.map(jnp.asarray, self.params_)
        return train.Trained(model, params, has_posterior=self.has_posterior_)

    def _rows(self, X: Any, *, reset: bool = False, **options: Any) -> np.ndarray:
        """Rows, looked at; those of a fit by `reset`."""
        if not reset:
            check_is_fitted(self)
        is_finite = True if self.missing is None else "allow-nan"
        options |= {"dtype": np.float64, "reset": reset, "ensure_all_finite": is_finite}
        return validate_data(self, X, **options).astype(np.float32)

    def log_likelihood(self, X: Any) -> evaluate.Likelihood:
        """Annealed estimates of log p(x) of each row, nats, with their errors and verdicts.

        Args:
          X: `[N, X]`.
        """
        rows = self._rows(X)
        num = len(rows)
        filled = np.minimum(np.arange(-(-num // _ROWS_AT_ONCE) * _ROWS_AT_ONCE), num - 1)
        rows = rows[filled]
        with self._shown():
            found = self._trained().log_likelihood(
                rows,
                self._settings,
                key=self._keys()[2],
                start=self.start_,
                plan=self.plan_,
                numbers=_numbers_of(rows),
                chunk_size=_ROWS_AT_ONCE,
            )
        return found.of_first(num)

    def score_samples(self, X: Any) -> np.ndarray:
        """Log p(x) of each row of `X` `[N, X]`, nats, `[N]`.

        Each is a lower bound in expectation; `log_likelihood` has the errors beside them.
        """
        return self.log_likelihood(X).log_likelihood

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log p(x) of the rows of `X` `[N, X]`, nats; `y` is not looked at.

        With `sample_weight` `[N]`, at least 0, it is the weighted mean.
        """
        del y
        scores = self.score_samples(X)
        if sample_weight is not None:
            sample_weight = row_weights.checked("sample_weight", sample_weight, len(scores))
        return evaluate.mean_and_standard_error(scores, sample_weight)[0]

    def impute(self, X: Any) -> np.ndarray:
        """Rows `X` `[N, X]` whose missing values are filled in by their means given the others.

        `train.Run.impute`, of a run in a `folder`, has draws and intervals beside them.

        Raises:
          ValueError: for an estimator without `missing`.
        """
        rows = self._rows(X)
        with self._shown():
            return self._trained().impute(rows, self._keys()[2], start=self.start_).mean

    def transform(self, X: Any) -> np.ndarray:
        """Means of q(z|x) `[N, D]` of rows `X` `[N, X]`."""
        rows = self._rows(X)
        with self._shown():
            return self._trained().encode(rows)[0]

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Means of p(x|z) `[N, X]` of latents `Z` `[N, D]`."""
        with self._shown():
            return self._trained().decode(np.asarray(Z))

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draws rows `[n_samples, X]` from the model.

        Args:
          n_samples: how many.
          random_state: as scikit-learn has it; None for the estimator's own, so that every call
            draws the same.
        """
        trained = self._trained()
        state = self.random_state if random_state is None else random_state
        key = jax.random.key(int(check_random_state(state).randint(2**31)))
        with self._shown():
            return trained.sample(key, n_samples)[0]

    @property
    def _n_features_out(self) -> int:
        return self.latent_size

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.allow_nan = self.missing is not None
        return tags


_KEY_TAG = 0x65737469  # apart from the keys of training, which have the same seed


@functools.lru_cache(maxsize=_KEPT_MODELS)
def _rebuilt(written: str) -> Model:
    """The model that JSON describes, the same object each time."""
    said = recipe.from_json(json.loads(written))
    return recipe.rebuilt(said, {"models": models, "likelihoods": likelihoods})


def _numbers_of(rows: np.ndarray) -> np.ndarray:
    """A number of 32 bits for each row of `[N, X]`, which follows from what is in it."""
    # -0.0 becomes 0.0, and NaNs are alike.
    contents = np.ascontiguousarray(np.where(np.isnan(rows), np.float32(np.nan), rows + 0.0))
    digests = (hashlib.blake2b(row.tobytes(), digest_size=4).digest() for row in contents)
    return np.array([int.from_bytes(digest, "little") for digest in digests], np.uint32)
