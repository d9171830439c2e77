"""What parts log p(x) from the ELBO: the encoder that serves all data, and q's family.

Cremer, Li & Duvenaud, *Inference Suboptimality in Variational Autoencoders* (2018).
"""

import math
import warnings
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from aiwae_jax import checks, weights
from aiwae_jax.distributions import DiagNormal
from aiwae_jax.evaluate import calls, chunks, doors, verdicts
from aiwae_jax.evaluate.calls import ProgressFn
from aiwae_jax.evaluate.likelihood import Likelihood, log_likelihood
from aiwae_jax.evaluate.settings import DEFAULT_SETTINGS, Settings
from aiwae_jax.evaluate.target import Target
from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree

_CHUNK_SIZE = 100  # data whose Gaussians are fitted at once
_BLOCK_SIZE = 50  # samples of a datum at once, which bounds the memory
_SURE = 4.0  # standard errors, beyond which q is said to be the better one


class Audit(NamedTuple):
    """The gap between log p(x) and the ELBO of N data, in two parts; all in nats.

    Standard errors are of the samples and chains of each datum.

    Attributes:
      log_likelihood: `[N]` annealed estimates of log p(x).
      elbo: `[N]` of q(z|x).
      best_elbo: `[N]` of the Gaussian with independent coordinates that was optimized for the
        datum; of q itself where that has the larger one, see `is_optimized`.
      amortization_gap: `[N]` best_elbo - elbo, what an encoder of its own would gain the datum.
      family_gap: `[N]` log_likelihood - best_elbo, what remains of a Gaussian: KL from the true
        posterior. (The paper's approximation gap.)
      log_likelihood_se: `[N]`.
      elbo_se: `[N]`.
      best_elbo_se: `[N]`.
      amortization_gap_se: `[N]`.
      family_gap_se: `[N]`.
      is_optimized: `[N]` whether `best_elbo` is that of the optimized Gaussian.
      is_reliable: `[N]` whether all three numbers are finite, and their errors small enough
        (`Likelihood.is_reliable`, and 0.5 nats of both ELBOs).
      num_skipped: `[N]` steps left out for a gradient that was not finite.
    """

    log_likelihood: np.ndarray
    elbo: np.ndarray
    best_elbo: np.ndarray
    amortization_gap: np.ndarray
    family_gap: np.ndarray
    log_likelihood_se: np.ndarray
    elbo_se: np.ndarray
    best_elbo_se: np.ndarray
    amortization_gap_se: np.ndarray
    family_gap_se: np.ndarray
    is_optimized: np.ndarray
    is_reliable: np.ndarray
    num_skipped: np.ndarray

    @property
    def summary(self) -> str:
        """One line of means over the data."""
        line = (
            f"log p(x) {self.log_likelihood.mean():.2f} = ELBO {self.elbo.mean():.2f} + "
            f"amortization gap {self.amortization_gap.mean():.2f} + family gap "
            f"{self.family_gap.mean():.2f} nats, of {len(self.elbo)} data"
        )
        if not self.is_optimized.all():
            line += f"; q is better than the optimized Gaussian at {(~self.is_optimized).sum()}"
        if not self.is_reliable.all():
            line += f"; not to be relied on: {verdicts.rows(~self.is_reliable)}"
        return line

    def __repr__(self) -> str:
        return f"Audit({self.summary})"


@calls.of_target
def audit(
    key: chex.PRNGKey,
    target: Target,
    x: PyTree,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    num_steps: int = 1000,
    num_step_samples: int = 16,
    num_samples: int = 5000,
    learning_rate: float = 0.05,
    likelihood: Likelihood | None = None,
    progress_fn: ProgressFn | None = None,
) -> Audit:
    """Splits log p(x) - ELBO into amortization gap and family gap (Cremer et al. 2018, section 3).

    log p(x) - L[q] = (log p(x) - L[q*]) + (L[q*] - L[q]), where q* is the best Gaussian with
    independent coordinates for this very datum. It is searched by gradient: Adam on mean and log
    scale, which start from the mean and the standard deviation of q(z|x) and are counted in units
    of the latter, along E[log p(x, z) - log q*(z)] at fresh z every step, without the score, which
    has the mean zero (Roeder et al. 2017), at a rate that falls to zero as a cosine. Half of the
    last samples choose between q* and q, and the others measure what was chosen, so that no choice
    shows in the result. The ELBOs are unbiased but for the search: where that falls short,
    `best_elbo` is too low, the amortization gap too small and the family gap too large.

    Args:
      key: consumed.
      target: log p(x, z), and in `start` q(z|x), which needs `mean()` and `stddev()`.
      x: pytree of data with leading axis N.
      settings: of the chains that estimate log p(x).
      num_steps: of Adam.
      num_step_samples: z of each step.
      num_samples: z of q and of the Gaussian for each datum, a multiple of 50: one half chooses
        between the two, the other is reported.
      learning_rate: of the first step, in standard deviations of q.
      likelihood: that `log_likelihood` has found for the same data; by default it is called here.
      progress_fn: called with (done, in all): first by `log_likelihood`, then with the data.

    Returns:
      An `Audit`. A warning names data at which q is surely better than the Gaussian: q is then of a
      richer family (a flow), or the search was too short.

    Raises:
      ValueError: for binary latents, which have no Gaussian; for numbers that cannot be; as
        `log_likelihood`.
      TypeError: as `log_likelihood`; for a `start` without `mean` and `stddev`.
    """
    num_steps = checks.integer("num_steps", num_steps, least=1)
    counts = {
        "num_step_samples": checks.integer("num_step_samples", num_step_samples, least=1),
        "num_blocks": _num_blocks(num_samples),
    }
    learning_rate = checks.positive("learning_rate", learning_rate)
    doors.enter_bound(key, target, x, progress_fn)
    _check_start(target, x)
    run_key, fit_key = jax.random.split(key)
    num_data = checks.num_rows("x", x)
    if likelihood is None:
        likelihood = log_likelihood(run_key, target, x, settings, progress_fn=progress_fn)
    elif not isinstance(likelihood, Likelihood) or len(likelihood.log_likelihood) != num_data:
        raise ValueError(
            f"`likelihood` must be what `log_likelihood` found for these {num_data} data, got "
            f"{checks.describe(likelihood)}."
        )

    # Log weights of q and of the Gaussian, datum by datum.
    chunk_size = min(_CHUNK_SIZE, num_data)
    place = chunks.Placement(chunk_size)
    search = np.int32(num_steps), np.asarray(learning_rate)
    fit_key, functions, search = place.replicate((fit_key, target.functions, search))
    results = []
    with jax.default_matmul_precision("highest"):
        for indices, num_kept in chunks.of(num_data, chunk_size):
            rows = place.split((indices, chunks.select(x, indices)))
            found = processes.fetch(_fit_rows(fit_key, *rows, functions, search, **counts))
            results.append([a[:num_kept] for a in found])
            if progress_fn is not None:
                progress_fn(int(indices[num_kept - 1]) + 1, num_data)
    of_q, of_gaussian, num_skipped = map(np.concatenate, zip(*results, strict=True))
    return _joined(likelihood, of_q, of_gaussian, num_skipped)


def _joined(
    likelihood: Likelihood, of_q: np.ndarray, of_gaussian: np.ndarray, num_skipped: np.ndarray
) -> Audit:
    """Of log weights `[N, num_samples]` under q and under the Gaussian."""
    half = of_gaussian.shape[1] // 2
    seen, seen_se = _mean_of_each(of_q[:, :half])
    tried, tried_se = _mean_of_each(of_gaussian[:, :half])
    elbo, elbo_se = _mean_of_each(of_q[:, half:])
    fresh, fresh_se = _mean_of_each(of_gaussian[:, half:])
    is_optimized = tried >= seen
    with np.errstate(invalid="ignore"):
        is_surely_worse = seen - tried > _SURE * np.hypot(seen_se, tried_se)
    if is_surely_worse.any():
        warnings.warn(
            f"At {verdicts.rows(is_surely_worse)} q is better than the Gaussian that was "
            "optimized, and is kept as the best: q is of a richer family, a flow, or the search "
            "was too short (`num_steps`, `learning_rate`).",
            stacklevel=4,
        )

    # Where q is kept, the gap is zero by definition, and so is its error.
    best, best_se = np.where(is_optimized, (fresh, fresh_se), (elbo, elbo_se))
    amortization_se = np.where(is_optimized, np.hypot(elbo_se, fresh_se), 0.0)
    log_p, log_p_se = likelihood.log_likelihood, likelihood.standard_errors
    with np.errstate(invalid="ignore"):  # of a datum that nothing explains
        gaps = np.where(is_optimized, best - elbo, 0.0), log_p - best
    is_exact = np.maximum(elbo_se, best_se) <= verdicts.LARGEST_ERROR  # not where it is NaN
    return Audit(
        *(log_p, elbo, best, *gaps),
        *(log_p_se, elbo_se, best_se, amortization_se, np.hypot(log_p_se, best_se)),
        is_optimized,
        likelihood.is_reliable & is_exact & np.isfinite(gaps[1]),
        num_skipped,
    )


def _mean_of_each(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean `[N]` and its standard error, in float64, of samples `[N, S]`."""
    values = np.asarray(log_weights, np.float64)
    with np.errstate(invalid="ignore"):  # an infinite value has no spread
        return values.mean(axis=1), values.std(axis=1, ddof=1) / math.sqrt(values.shape[1])


def _num_blocks(num_samples: int) -> int:
    """Of samples that are taken at once."""
    if checks.integer("num_samples", num_samples) < 1 or num_samples % _BLOCK_SIZE:
        raise ValueError(
            f"`num_samples` must be a positive multiple of {_BLOCK_SIZE}, got {num_samples}."
        )
    return num_samples // _BLOCK_SIZE


def _check_start(target: Target, x: PyTree) -> None:
    """Raises for a q that no Gaussian can take the place of, or start from."""
    datum, methods = chunks.first(x), {}
    if doors.look_at_start(target.start, datum).latents == "binary":
        raise ValueError(
            "`start` draws binary latents, whose best Gaussian is none of theirs: `audit` is for "
            "continuous ones."
        )

    def moments(x):
        q = target.start(x)
        methods.update({name: callable(getattr(q, name, None)) for name in ("mean", "stddev")})
        return (q.mean(), q.stddev()) if all(methods.values()) else 0.0

    checks.shape_of("start", moments, datum, given="one datum, its mean and stddev asked for")
    for name, is_there in methods.items():
        if not is_there:
            raise TypeError(
                f"`start` must return a posterior with `mean()` and `stddev()`, from which the "
                f"Gaussian starts; what it returns has no `{name}`."
            )


@partial(jax.jit, static_argnames=("num_step_samples", "num_blocks"))
def _fit_rows(key, indices, x, functions, search, *, num_step_samples, num_blocks):
    """Log weights `[N, S]` of samples of q and of the Gaussian fitted to each datum, and skips.

    Args:
      key: parent of every datum's keys.
      indices: `[N]` numbers of the data, which choose them.
      x: the data.
      functions: of a `Target`.
      search: number of steps and learning rate of Adam.
      num_step_samples: z of each step.
      num_blocks: of samples, in the end.
    """
    (log_joint, start), (num_steps, learning_rate) = functions, search
    optimizer = optax.scale_by_adam()

    def fit_datum(index, x):
        q = start(x)
        origin = DiagNormal(*jax.lax.stop_gradient((q.mean(), q.stddev())))
        step_key, q_key, gaussian_key = jax.random.split(jax.random.fold_in(key, index), 3)

        def gaussian(moved):
            """In units of q: mean and log scale."""
            shift, log_factor = moved
            return DiagNormal(origin.loc + origin.scale * shift, origin.scale * jnp.exp(log_factor))

        def loss(moved, key):
            own, frozen = gaussian(moved), gaussian(jax.lax.stop_gradient(moved))
            z = jax.vmap(own.sample)(jax.random.split(key, num_step_samples))
            return -jnp.mean(jax.vmap(lambda z: log_joint(x, z) - frozen.log_prob(z))(z))

        def step(i, carry):
            moved, state, num_skipped = carry
            gradient = jax.grad(loss)(moved, jax.random.fold_in(step_key, i))
            is_finite = jnp.all(jnp.isfinite(jnp.stack(gradient)))
            with jax.numpy_dtype_promotion("standard"):  # optax mixes its count into floats
                updates, stepped = optimizer.update(gradient, state)
            share = i.astype(origin.loc.dtype) / num_steps.astype(origin.loc.dtype)
            rate = 0.5 * (1.0 + jnp.cos(jnp.pi * share)) * learning_rate.astype(share.dtype)
            new = jax.tree.map(lambda a, b: a - rate * b, moved, updates), stepped
            kept = jax.tree.map(lambda a, b: jnp.where(is_finite, a, b), new, (moved, state))
            return (*kept, num_skipped + jnp.where(is_finite, 0, 1))

        zeros = jnp.zeros_like(origin.loc), jnp.zeros_like(origin.loc)
        carry = zeros, optimizer.init(zeros), jnp.zeros((), jnp.int32)
        moved, _, num_skipped = jax.lax.fori_loop(0, num_steps, step, carry)

        def log_weights(key, distribution):
            def block(key):
                keys = jax.random.split(key, _BLOCK_SIZE)
                z, log_q = jax.vmap(partial(doors.sample_and_log_prob, distribution))(keys)
                return jax.vmap(lambda z_k: log_joint(x, z_k))(z) - log_q

            found = jax.lax.map(block, jax.random.split(key, num_blocks))
            return weights.zero_if_broken(found.reshape(-1))

        return log_weights(q_key, q), log_weights(gaussian_key, gaussian(moved)), num_skipped

    return jax.vmap(fit_datum)(indices, x)
