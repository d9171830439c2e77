"""Hamiltonian Monte Carlo (Neal 2011) of one particle, unit mass matrix.

A move maps `(key, state)` to `(new_state, info)`: the state carries what the next move needs (the
log density and the force at the current point, and the momentum where it persists), the info is
diagnostics.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import checks
from aiwae_jax.types import ForceFn, LogDensityFn, PyTree


class HMCState(NamedTuple):
    """A point and what is known there.

    Attributes:
      position: `[D]`.
      log_density: `[]` log f(position), nats; f need not be normalized.
      force: `[D]` gradient of log f at `position`.
      momentum: `[D]` where it persists from move to move; empty where each move draws a new one.
      aux: whatever an `evaluate_fn` wants to carry along with the point.
    """

    position: chex.Array
    log_density: chex.Array
    force: chex.Array
    momentum: PyTree = ()
    aux: PyTree = ()


class HMCInfo(NamedTuple):
    """Diagnostics of one move.

    Attributes:
      acceptance: `[]` probability min(1, exp(-ΔH)) with which the proposal is accepted; 0 if its
        energy is not finite.
      is_accepted: `[]` bool.
      is_nonfinite: `[]` bool, whether the proposal was rejected because an energy was not finite.
    """

    acceptance: chex.Array
    is_accepted: chex.Array
    is_nonfinite: chex.Array


def init(position: chex.Array, log_density_fn: LogDensityFn, *, momentum: PyTree = ()) -> HMCState:
    """Evaluates the log density and the force at `position` `[D]`.

    A `momentum` `[D]`, drawn from N(0, I), is only needed where it is to persist.
    """
    chex.assert_rank(position, 1)
    log_density, force = jax.value_and_grad(log_density_fn)(position)
    # All of a chain's state is in the dtype of its position, whatever else the density mixes in.
    return HMCState(position, jnp.asarray(log_density, position.dtype), force, momentum)


def leapfrog(
    state: HMCState,
    momentum: chex.Array,
    evaluate_fn: Callable[[chex.Array], HMCState],
    force_fn: ForceFn,
    step_size: chex.Numeric,
    *,
    num_leapfrog_steps: int,
) -> tuple[HMCState, chex.Array]:
    """Integrates Hamilton's equations over `num_leapfrog_steps` leapfrog steps.

    The map (position, momentum) -> (position', -momentum') is its own inverse and preserves volume,
    for any deterministic force. It costs exactly L force evaluations, because the force at the
    start comes with `state`; the log density is evaluated at the end only.

    Args:
      state: where the trajectory starts.
      momentum: `[D]` at the start.
      evaluate_fn: position -> HMCState, used at the end point.
      force_fn: position -> `[D]`, used at the inner points; must agree with the force of
        `evaluate_fn`.
      step_size: `[]` ε.
      num_leapfrog_steps: L >= 1.

    Returns:
      The state at the end and the momentum `[D]` there, not negated.
    """

    def inner_step(_, carry):
        position, momentum = carry
        position = position + step_size * momentum
        return position, momentum + step_size * force_fn(position)

    momentum = momentum + 0.5 * step_size * state.force
    position, momentum = jax.lax.fori_loop(
        0, num_leapfrog_steps - 1, inner_step, (state.position, momentum)
    )
    end = evaluate_fn(position + step_size * momentum)
    return end, momentum + 0.5 * step_size * end.force


def accept(log_uniform: chex.Array, log_ratio: chex.Array) -> chex.Array:
    """The Metropolis decision: True with probability min(1, exp(log_ratio)), `[]` bool."""
    return log_uniform < log_ratio


def draw_noise(key: chex.PRNGKey, size: int, dtype) -> tuple[chex.Array, chex.Array]:
    """A standard normal momentum `[size]` and the logarithm of a uniform `[]`, by one random draw.

    The momentum is what `jax.random.normal` would make of the same uniforms. Taking the acceptance
    uniform along spares two further rounds of the generator per move.
    """
    smallest = jnp.nextafter(jnp.asarray(-1.0, dtype), jnp.asarray(0.0, dtype))
    uniform = jax.random.uniform(key, (size + 1,), dtype, smallest, 1.0)  # in (-1, 1)
    momentum = math.sqrt(2.0) * jax.lax.erf_inv(uniform[:-1])
    return momentum, jnp.log1p(-uniform[-1]) - math.log(2.0)


def refresh(momentum: PyTree, noise: chex.Array, persistence: chex.Numeric) -> chex.Array:
    """Partial refreshment α·p + sqrt(1-α²)·noise, which leaves N(0, I) invariant (Horowitz 1991).

    Without a momentum to persist, the noise itself.
    """
    if isinstance(momentum, tuple):
        return noise
    return persistence * momentum + (1.0 - persistence**2) ** 0.5 * noise


def transition(
    key: chex.PRNGKey,
    state: HMCState,
    evaluate_fn: Callable[[chex.Array], HMCState],
    force_fn: ForceFn,
    step_size: chex.Numeric,
    *,
    num_leapfrog_steps: int,
    momentum_persistence: chex.Numeric = 0.0,
) -> tuple[HMCState, HMCInfo]:
    """One move that leaves the density of `evaluate_fn`, times N(0, I) of the momentum, invariant.

    `step` is this for a plain log density; annealing calls it with states that carry both ends of
    its path. Arguments as in `leapfrog` and `step`.
    """
    noise, log_uniform = draw_noise(key, state.position.shape[0], state.position.dtype)
    momentum = refresh(state.momentum, noise, momentum_persistence)
    proposal, new_momentum = leapfrog(
        state, momentum, evaluate_fn, force_fn, step_size, num_leapfrog_steps=num_leapfrog_steps
    )
    total = state.log_density - 0.5 * jnp.sum(jnp.square(momentum))
    new_total = proposal.log_density - 0.5 * jnp.sum(jnp.square(new_momentum))

    # Leaving a point of density zero is always accepted; a NaN on either side never is.
    is_nonfinite = ~jnp.isfinite(new_total) | jnp.isnan(total)
    log_ratio = jnp.where(is_nonfinite, -jnp.inf, new_total - total)
    is_accepted = accept(log_uniform, log_ratio)
    if not isinstance(state.momentum, tuple):
        # The proposal of the reversible map is (position', -momentum'). Turning the momentum round
        # once more after every move leaves N(0, I) alone, makes accepted moves go on in their
        # direction, and sends rejected ones back.
        proposal = proposal._replace(momentum=new_momentum)
        state = state._replace(momentum=-momentum)
    new_state = jax.tree.map(lambda a, b: jnp.where(is_accepted, a, b), proposal, state)
    return new_state, HMCInfo(jnp.exp(jnp.minimum(log_ratio, 0.0)), is_accepted, is_nonfinite)


def step(
    key: chex.PRNGKey,
    state: HMCState,
    log_density_fn: LogDensityFn,
    step_size: chex.Numeric,
    *,
    num_leapfrog_steps: int = 5,
    momentum_persistence: chex.Numeric = 0.0,
) -> tuple[HMCState, HMCInfo]:
    """One HMC move on `log_density_fn`, which it leaves invariant.

    Args:
      key: consumed.
      state: from `init` or an earlier `step` on the same density.
      log_density_fn: `[D] -> []`, nats, differentiable, need not be normalized. Its gradient may
        be a stand-in (`forces.with_force`); the invariant density stays that of its value.
      step_size: `[]` ε; 0 makes the move the identity.
      num_leapfrog_steps: L.
      momentum_persistence: α in [0, 1), the share of the momentum that the move keeps (Horowitz
        1991); needs a state with a momentum. With few leapfrog steps it makes moves go on in one
        direction where fresh momenta would walk randomly.

    Raises:
      ValueError: if `num_leapfrog_steps` < 1, or a persistence is impossible.
    """
    check_num_leapfrog_steps(num_leapfrog_steps)
    check_momentum(state.momentum, momentum_persistence)
    return transition(
        key,
        state,
        lambda position: init(position, log_density_fn),
        jax.grad(log_density_fn),
        step_size,
        num_leapfrog_steps=num_leapfrog_steps,
        momentum_persistence=momentum_persistence,
    )


def check_num_leapfrog_steps(num_leapfrog_steps: int) -> None:
    """Raises ValueError unless L >= 1, TypeError unless it is an integer."""
    checks.integer("num_leapfrog_steps", num_leapfrog_steps)
    if num_leapfrog_steps < 1:
        raise ValueError(
            f"`num_leapfrog_steps` must be at least 1, got {num_leapfrog_steps}; for a move that "
            "does nothing use a step size of 0."
        )


def check_momentum_persistence(momentum_persistence: float) -> None:
    """Raises ValueError unless α lies in [0, 1), TypeError unless it is a number."""
    checks.real("momentum_persistence", momentum_persistence)
    if not 0.0 <= momentum_persistence < 1.0:
        raise ValueError(
            "`momentum_persistence` must be at least 0 (fresh momenta) and below 1, got "
            f"{momentum_persistence}."
        )


def check_momentum(momentum: PyTree, momentum_persistence: chex.Numeric) -> None:
    """Raises ValueError where a momentum is to persist but the state holds none."""
    if isinstance(momentum_persistence, int | float):
        check_momentum_persistence(momentum_persistence)
        if momentum_persistence and isinstance(momentum, tuple):
            raise ValueError(
                f"`momentum_persistence`={momentum_persistence} needs a state with a momentum; "
                "give `init` one drawn from N(0, I)."
            )


def adapt_step_size(
    step_size: chex.Array,
    acceptance: chex.Array,
    *,
    target: float = 0.6,
    increase: float = 1.002,
    decrease: float = 0.998,
    smallest: float = 0.001,
    largest: float = 0.3,
) -> chex.Array:
    """The authors' training rule: a little larger where acceptance >= target, else smaller.

    Args:
      step_size: any shape, current step sizes.
      acceptance: the same shape, mean acceptance probabilities.
      target: the acceptance to steer to.
      increase: factor where acceptance >= target.
      decrease: factor elsewhere.
      smallest: lower clip.
      largest: upper clip.
    """
    factor = jnp.where(acceptance >= target, increase, decrease)
    return jnp.clip(step_size * factor, smallest, largest)
