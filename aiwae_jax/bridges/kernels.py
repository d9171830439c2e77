"""BlackJAX's kernels as moves of `ais.run_chain`, and our moves as BlackJAX's algorithms."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from aiwae_jax import checks, forces, moves
from aiwae_jax.moves import HMCInfo, HMCState
from aiwae_jax.runs import extras
from aiwae_jax.types import ForceFn, LogDensityFn, Move, PyTree


def blackjax(algorithm: Callable[..., Any], **parameters: Any) -> Move:
    """A kernel of BlackJAX as a move: `run_chain(..., move=blackjax(blackjax.nuts, ...))`.

    The kernel begins each move anew, by its own `init`, at a density that changes from temperature
    to temperature; what it would carry from one move to the next (a momentum) is drawn again. Of
    its step sizes those of `run_chain` are the ones it gets. A move costs two more gradients of
    each end than BlackJAX counts, at the point where it begins and at the one where it ends.

    Args:
      algorithm: `blackjax.nuts`, `blackjax.hmc`, `blackjax.mala` or any other that is called as
        `algorithm(logdensity_fn, step_size=..., **parameters)` and leaves the density invariant;
        those that do not (`blackjax.mclmc`, and any without a Metropolis step) make weights wrong.
      **parameters: such as `inverse_mass_matrix=jnp.ones(D)`, fixed in advance.

    Raises:
      TypeError: for what is no function.
      ValueError: for a `step_size` among the parameters.
    """
    checks.function("algorithm", algorithm, "such as `blackjax.nuts`")
    if "step_size" in parameters:
        raise ValueError("`step_size` is of the chain: give it to `run_chain`, as `step_sizes`.")

    def transition(
        key: chex.PRNGKey,
        state: HMCState,
        evaluate_fn: Callable[[chex.Array], HMCState],
        force_fn: ForceFn,
        step_size: chex.Numeric,
    ) -> tuple[HMCState, HMCInfo]:
        init_key, step_key = jax.random.split(key)
        log_density_fn = forces.with_force(lambda z: evaluate_fn(z).log_density, force_fn)
        kernel = algorithm(log_density_fn, step_size=step_size, **parameters)
        theirs, info = kernel.step(step_key, kernel.init(state.position, init_key))
        end = evaluate_fn(theirs.position)._replace(momentum=state.momentum)
        # No kernel that leaves the density invariant goes where there is none.
        is_nonfinite = ~jnp.isfinite(end.log_density)
        acceptance = jnp.asarray(getattr(info, "acceptance_rate", 1.0), end.log_density.dtype)
        acceptance = jnp.where(is_nonfinite | jnp.isnan(acceptance), 0.0, acceptance)
        has_moved = jnp.any(theirs.position != state.position) & ~is_nonfinite
        new_state = jax.tree.map(lambda a, b: jnp.where(is_nonfinite, b, a), end, state)
        return new_state, HMCInfo(acceptance, has_moved, is_nonfinite)

    return Move(transition)


class KernelState(NamedTuple):
    """The state of a chain, as BlackJAX's own.

    Attributes:
      position: any pytree.
      logdensity: `[]` at `position`, nats.
      logdensity_grad: its gradient, of the shape of `position`.
      momentum: `[D]` where it persists from move to move, else empty.
    """

    position: PyTree
    logdensity: chex.Array
    logdensity_grad: PyTree
    momentum: PyTree = ()


class KernelInfo(NamedTuple):
    """Diagnostics of a move, by BlackJAX's names; see `moves.HMCInfo`.

    Attributes:
      acceptance_rate: `[]` probability.
      is_accepted: `[]` bool.
      is_divergent: `[]` bool, whether the proposal was rejected for a non-finite energy.
    """

    acceptance_rate: chex.Array
    is_accepted: chex.Array
    is_divergent: chex.Array


def to_blackjax(logdensity_fn: LogDensityFn, step_size: chex.Numeric, *, move: Move) -> Any:
    """A move of ours as a `blackjax.SamplingAlgorithm`: `init(position)`, `step(key, state)`.

    Args:
      logdensity_fn: of a position, any pytree, nats; differentiable.
      step_size: `[]`.
      move: from `moves`. One that keeps a momentum needs `init(position, rng_key)`.

    Raises:
      ImportError: if BlackJAX is missing.
      ValueError: from `init`, without the key that draws the momentum.
    """
    extras.require("`bridges.to_blackjax`", ["blackjax"], extra="blackjax")
    from blackjax.base import SamplingAlgorithm

    def flat(position: PyTree) -> tuple[chex.Array, Callable, LogDensityFn]:
        z, unravel = ravel_pytree(position)
        return z, unravel, lambda z: logdensity_fn(unravel(z))

    def as_theirs(state: HMCState, unravel: Callable) -> KernelState:
        return KernelState(
            unravel(state.position), state.log_density, unravel(state.force), state.momentum
        )

    def init(position: PyTree, rng_key: chex.PRNGKey | None = None) -> KernelState:
        z, unravel, log_density_fn = flat(position)
        momentum = ()
        if move.momentum_persistence:
            checks.given("rng_key", rng_key, "it draws the momentum that `move` keeps")
            momentum = jax.random.normal(rng_key, z.shape, z.dtype)
        state = moves.init(z, log_density_fn)
        return as_theirs(state._replace(momentum=momentum), unravel)

    def step(rng_key: chex.PRNGKey, state: KernelState) -> tuple[KernelState, KernelInfo]:
        z, unravel, log_density_fn = flat(state.position)
        force = ravel_pytree(state.logdensity_grad)[0]
        ours = HMCState(z, state.logdensity, force, state.momentum)
        ours, info = moves.step(rng_key, ours, log_density_fn, step_size, move=move)
        return as_theirs(ours, unravel), KernelInfo(*info)

    return SamplingAlgorithm(init, step)
