"""The moves that chains can make: HMC for continuous latents, others for binary ones.

`ais.run_chain(..., move=moves.hmc(5))` takes one, or your own function of the same signature. On a
single density all are used alike: `state = moves.init(position, log_density_fn)`, then
`state, info = moves.step(key, state, log_density_fn, step_size, move=moves.hmc(5))`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax

from aiwae_jax import checks
from aiwae_jax.moves import hamiltonian
from aiwae_jax.moves.discrete import gibbs, informed, langevin
from aiwae_jax.moves.hamiltonian import HMCInfo, HMCState, init
from aiwae_jax.types import LogDensityFn, Move

__all__ = [
    "DEFAULTS",
    "MOVES",
    "Family",
    "HMCInfo",
    "HMCState",
    "build",
    "check",
    "gibbs",
    "hmc",
    "informed",
    "init",
    "langevin",
    "names",
    "step",
]


def step(
    key: chex.PRNGKey,
    state: HMCState,
    log_density_fn: LogDensityFn,
    step_size: chex.Numeric,
    *,
    move: Move,
) -> tuple[HMCState, HMCInfo]:
    """Makes one move on `log_density_fn`, which it leaves invariant.

    Args:
      key: consumed.
      state: from `init` or an earlier `step` on the same density; with a momentum `[D]`, drawn from
        N(0, I), where the move keeps some of it.
      log_density_fn: `[D] -> []`, nats, differentiable, need not be normalized.
      step_size: `[]`, of a move that has one.
      move: of this package.

    Raises:
      ValueError: for a move that keeps a momentum, and a state without one.
    """
    hamiltonian.check_momentum(state.momentum, move.momentum_persistence)
    return move(
        key,
        state,
        lambda position: init(position, log_density_fn),
        jax.grad(log_density_fn),
        step_size,
    )


def hmc(num_leapfrog_steps: int = 5, momentum_persistence: float = 0.0) -> Move:
    """Hamiltonian Monte Carlo (Neal 2011), unit mass matrix: `hamiltonian.transition` as a move.

    Args:
      num_leapfrog_steps: L, each a gradient of either end of the path.
      momentum_persistence: α in [0, 1): each move keeps α of the last one's momentum, negated
        where that was rejected (Horowitz 1991); 0 draws it anew.

    Raises:
      ValueError: if L < 1, or for a persistence outside [0, 1).
    """
    hamiltonian.check_num_leapfrog_steps(num_leapfrog_steps)
    if not checks.is_traced(momentum_persistence):
        hamiltonian.check_momentum_persistence(momentum_persistence)
    transition = functools.partial(
        hamiltonian.transition,
        num_leapfrog_steps=num_leapfrog_steps,
        momentum_persistence=momentum_persistence,
    )
    return Move(transition, momentum_persistence)


class Family(NamedTuple):
    """Moves that differ in the number of their steps.

    Attributes:
      build: `build(num_steps) -> Move`: leapfrog steps, sweeps, or proposals; of a family with
        momenta also `build(num_steps, momentum_persistence)`.
      latents: of what kind they move, one of `types.LATENTS`.
      step_sizes: where a step size starts in training, and its upper limit; None for moves that
        have none.
    """

    build: Callable[..., Move]
    latents: str
    step_sizes: tuple[float, float] | None = None


MOVES = {
    "hmc": Family(hmc, latents="continuous", step_sizes=(0.1, 0.3)),  # the authors'
    "langevin": Family(langevin, latents="binary", step_sizes=(0.2, 10.0)),
    "informed": Family(informed, latents="binary"),
    "gibbs": Family(gibbs, latents="binary"),
}
DEFAULTS = {"continuous": "hmc", "binary": "langevin"}  # latents -> move
# Why a move of other latents is none for them.
_REASONS = {
    "continuous": "it flips bits",
    "binary": "there is no path between 0 and 1 for it to follow",
}


def names(latents: str) -> list[str]:
    """The moves for latents of a kind."""
    return [name for name, family in MOVES.items() if family.latents == latents]


def build(name: str, num_steps: int, momentum_persistence: float = 0.0) -> Move:
    """A move by the name of its family; only momenta can persist."""
    kept = {"momentum_persistence": momentum_persistence} if momentum_persistence else {}
    return MOVES[name].build(num_steps, **kept)


def check(name: str, latents: str) -> None:
    """Raises ValueError for an unknown move, or one that cannot move such latents."""
    if name not in MOVES:
        raise ValueError(f"`move` must be one of {', '.join(MOVES)}; got {name!r}.")
    if latents not in DEFAULTS:
        raise ValueError(f"`latents` must be one of {', '.join(DEFAULTS)}; got {latents!r}.")
    if MOVES[name].latents != latents:
        raise ValueError(
            f"`move`={name!r} cannot move {latents} latents, for {_REASONS[latents]}; use "
            f"{' or '.join(map(repr, names(latents)))}."
        )
