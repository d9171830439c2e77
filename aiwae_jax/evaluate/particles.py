"""Weighted samples of p(z|x): where the chains of an annealed estimate end."""

from functools import partial
from typing import NamedTuple

import chex
import jax
import numpy as np

from aiwae_jax import paths
from aiwae_jax.evaluate import calls, doors
from aiwae_jax.evaluate.calls import ProgressFn
from aiwae_jax.evaluate.likelihood import Likelihood, anneal
from aiwae_jax.evaluate.settings import DEFAULT_SETTINGS, Plan, Settings
from aiwae_jax.evaluate.target import Target
from aiwae_jax.evaluate.tuning import find_plan
from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree


class WeightedLatents(NamedTuple):
    """K weighted samples of p(z|x) of each of N data.

    A mean under the self-normalized weights is consistent in K, and its bias falls as 1/K; the
    effective sample size says how many samples they are worth.

    Attributes:
      z: `[N, K, D]`.
      log_weights: `[N, K]` nats, up to a constant of each datum; -inf of a chain that counts for
        nothing.
      likelihood: the estimates of log p(x) by these very chains, with their verdicts.
    """

    z: np.ndarray
    log_weights: np.ndarray
    likelihood: Likelihood


@partial(jax.jit, static_argnames="space")
def _latents(states, x, functions, *, space):
    """Z `[N, K, D]` and log weights `[N, K]` of chains as they end."""

    def of_datum(states, x):
        path = paths.SPACES[space](*functions, x)
        return jax.vmap(path.to_latent)(states.position), states.log_weight_sum.split()[1]

    return jax.vmap(of_datum)(states, x)


@calls.of_target
def weighted_latents(
    key: chex.PRNGKey,
    target: Target,
    x: PyTree,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    plan: Plan | None = None,
    chunk_size: int | None = None,
    progress_fn: ProgressFn | None = None,
) -> WeightedLatents:
    """Draws weighted samples of p(z|x) by annealing, for each datum `settings.num_chains`.

    Args:
      key: consumed.
      target: log p(x, z), and where chains begin.
      x: pytree of data with leading axis N.
      settings: of the chains.
      plan: as in `log_likelihood`.
      chunk_size: as in `log_likelihood`.
      progress_fn: as in `log_likelihood`.

    Raises:
      ValueError, TypeError: as `log_likelihood`.
    """
    work = doors.enter(
        *(target, x, settings),
        key=key,
        is_first=True,
        progress_fn=progress_fn,
        chunk_size=chunk_size,
    )
    pilot_key, run_key = jax.random.split(key)
    if plan is None:
        plan = find_plan(pilot_key, work, x)
    found = []

    def keep(states, own, num_kept):
        ends = _latents(states, own, work.target.functions, space=work.settings.chain_space)
        found.append([a[:num_kept] for a in processes.fetch(ends)])

    likelihood = anneal(run_key, work, plan, x, last_fn=keep)
    return WeightedLatents(*map(np.concatenate, zip(*found, strict=True)), likelihood)
