"""Hamiltonian flows without an accept step, to be differentiated through.

Each takes z_0 ~ q through leapfrog moves, z_0, v_0' -> z_1, v_1 and so on, where v_m' is the
momentum that enters move m and v_m the one that leaves it. A leapfrog move preserves volume, so
that

    log w = log p(x, z_M) - log q(z_0|x) + Σ_m [log r_m(v_m) - log s_m(v_m')]

is properly weighted for any densities s of the momenta drawn and r of those left behind. The three
methods differ in what they choose for them:

- HVAE draws one momentum and cools it on the way: the terms between the moves cancel;
- HVI draws a new one for each move and learns r;
- UHA (DAIS) refreshes it partially, anneals the force, and has r = s = N(0, I).

Unlike `ais`, whose accept step and stopped gradients keep the memory constant, everything here
is kept for the way back: memory grows with the number of moves.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import ais, distributions
from aiwae_jax.moves import hamiltonian as hmc
from aiwae_jax.types import LogDensityFn


def _log_normal(value: chex.Array) -> chex.Array:
    """Log N(value; 0, I), `[]`."""
    return distributions.standard_normal(value.shape[0], value.dtype).log_prob(value)


def _move(
    state: hmc.HMCState,
    momentum: chex.Array,
    log_density_fn: LogDensityFn,
    step_size: chex.Numeric,
    num_leapfrog_steps: int,
) -> tuple[hmc.HMCState, chex.Array]:
    """One leapfrog move on a plain density."""
    return hmc.leapfrog(
        state,
        momentum,
        lambda position: hmc.init(position, log_density_fn),
        jax.grad(log_density_fn),
        step_size,
        num_leapfrog_steps=num_leapfrog_steps,
    )


def quadratic_cooling(num_steps: int, initial_temperature: float) -> chex.Array:
    """Factors `[M]` of the momentum after each step (Caterini et al. 2018, section 3.3).

    1/√β_m falls with m² from 1/√β_0 to 1, where 1/β_0 is the initial temperature; a factor is
    √(β_{m-1} / β_m), and their product is √β_0.
    """
    hot = initial_temperature**0.5
    fraction = jnp.linspace(0.0, 1.0, num_steps + 1) ** 2
    inverse_root_beta = hot + (1.0 - hot) * fraction
    return inverse_root_beta[1:] / inverse_root_beta[:-1]


def tempered_flow(
    key: chex.PRNGKey,
    z: chex.Array,
    log_density_fn: LogDensityFn,
    step_size: chex.Numeric,
    coolings: chex.Array,
) -> tuple[chex.Array, chex.Array]:
    """Leapfrog steps with one momentum that starts hot and is cooled after every step.

    Caterini et al. 2018, Algorithm 1: v_0 = γ/√β_0 with γ ~ N(0, I); each step is followed by
    v <- √(β_{m-1}/β_m)·v. The map's log |det| is (D/2) log β_0, which cancels against the density
    of v_0, so that log s is that of γ.

    Args:
      key: consumed.
      z: `[D]` a draw from q.
      log_density_fn: log p(x, ·), nats.
      step_size: `[]` or `[D]`.
      coolings: `[M]` in (0, 1], √(β_{m-1}/β_m); the product is √β_0.

    Returns:
      z: `[D]`.
      log_weight: `[]` log p(x, z_M) + log N(v_M) - log N(γ), nats; take log q(z_0) off it.
    """
    noise = jax.random.normal(key, z.shape, z.dtype)

    def body(carry, cooling):
        state, momentum = _move(*carry, log_density_fn, step_size, 1)
        return (state, cooling * momentum), None

    start = hmc.init(z, log_density_fn), noise / jnp.prod(coolings)
    (state, momentum), _ = jax.lax.scan(body, start, coolings)
    return state.position, state.log_density + _log_normal(momentum) - _log_normal(noise)


def auxiliary_flow(
    key: chex.PRNGKey,
    z: chex.Array,
    log_density_fn: LogDensityFn,
    step_size: chex.Numeric,
    reverse_fn: Callable[..., distributions.DiagNormal],
    *,
    num_moves: int,
    num_leapfrog_steps: int,
) -> tuple[chex.Array, chex.Array]:
    """Leapfrog moves with fresh momenta, scored by a reverse model (Salimans et al. 2015, Eq. 11).

    Args:
      key: consumed.
      z: `[D]` a draw from q.
      log_density_fn: log p(x, ·), nats.
      step_size: `[]` or `[D]`.
      reverse_fn: gives r(v_m|x, z_m), a distribution, from m/M `[]`, z_m `[D]` and the force `[D]`
        there.
      num_moves: M.
      num_leapfrog_steps: L of each.

    Returns:
      z: `[D]`.
      log_weight: `[]`, log p(x, z_M) + Σ_m (log r(v_m|x, z_m) - log N(v_m')), nats; take log q(z_0)
        off it.
    """

    def body(carry, m):
        state, log_ratio = carry
        fresh = jax.random.normal(jax.random.fold_in(key, m), z.shape, z.dtype)
        state, momentum = _move(state, fresh, log_density_fn, step_size, num_leapfrog_steps)
        reverse = reverse_fn((m / num_moves).astype(z.dtype), state.position, state.force)
        return (state, log_ratio + reverse.log_prob(momentum) - _log_normal(fresh)), None

    start = hmc.init(z, log_density_fn), jnp.zeros((), z.dtype)
    (state, log_ratio), _ = jax.lax.scan(body, start, jnp.arange(1, num_moves + 1))
    return state.position, state.log_density + log_ratio


def unadjusted_chain(
    key: chex.PRNGKey,
    z: chex.Array,
    log_initial_fn: LogDensityFn,
    log_target_fn: LogDensityFn,
    betas: chex.Array,
    step_sizes: chex.Array,
    *,
    momentum_persistence: chex.Numeric,
    num_leapfrog_steps: int = 1,
    with_rematerialization: bool = False,
) -> tuple[chex.Array, chex.Array]:
    """Annealing by leapfrog moves that nobody accepts or rejects, hence differentiable.

    Uncorrected Hamiltonian annealing (Geffner & Domke 2021, Algorithm 2), also called
    differentiable AIS (Zhang et al. 2021). As in `ais.run_chain`, exp(log_weight) is unbiased for
    Z_target / Z_initial; unlike there, it is not tight as T grows at a fixed step size.

    Args:
      key: consumed.
      z: `[D]` a draw from f_0.
      log_initial_fn: log f_0, normalized, nats.
      log_target_fn: log f_n, nats.
      betas: `[T]` from 0 to 1.
      step_sizes: `[T-1]` or `[T-1, D]`.
      momentum_persistence: α of the partial refreshment before each move.
      num_leapfrog_steps: L.
      with_rematerialization: keeps only the state between moves for the way back and computes each
        move's inside again.

    Returns:
      z: `[D]`.
      log_weight: `[]` nats.
    """

    def body(carry, inputs):
        state, momentum, log_ratio = carry
        t, beta, step_size = inputs
        state = state._replace(beta=beta)
        noise = jax.random.normal(jax.random.fold_in(key, t), z.shape, z.dtype)
        entering = hmc.refresh(momentum, noise, momentum_persistence)
        moved, momentum = ais.leapfrog(
            state,
            entering,
            log_initial_fn,
            log_target_fn,
            step_size,
            num_leapfrog_steps=num_leapfrog_steps,
        )
        return (moved, momentum, log_ratio + _log_normal(momentum) - _log_normal(entering)), None

    if with_rematerialization:
        body = jax.checkpoint(body)
    num_moves = betas.shape[0] - 1
    start = ais.init(z, log_initial_fn, log_target_fn)
    momentum = jax.random.normal(jax.random.fold_in(key, 0), z.shape, z.dtype)
    inputs = jnp.arange(1, num_moves + 1), betas[1:].astype(z.dtype), step_sizes
    (state, _, log_ratio), _ = jax.lax.scan(body, (start, momentum, jnp.zeros((), z.dtype)), inputs)
    return state.position, state.target.log_density - start.initial.log_density + log_ratio
