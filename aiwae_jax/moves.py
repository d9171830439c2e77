"""The moves that chains can make: HMC for continuous latents, others for binary ones.

`ais.run_chain(..., move=moves.hmc(5))` takes one, or your own function of the same signature.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from aiwae_jax import checks
from aiwae_jax import hmc as hamiltonian
from aiwae_jax.discrete import gibbs, informed, langevin
from aiwae_jax.types import Move

__all__ = [
    "DEFAULTS",
    "MOVES",
    "Family",
    "build",
    "check",
    "gibbs",
    "hmc",
    "informed",
    "langevin",
    "names",
]


def hmc(num_leapfrog_steps: int = 5, momentum_persistence: float = 0.0) -> Move:
    """Hamiltonian Monte Carlo (Neal 2011), unit mass matrix: `hmc.transition` as a move.

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
      is_for_binary: whether they move binary latents, or continuous ones.
      step_sizes: where a step size starts in training, and its upper limit; None for moves that
        have none.
    """

    build: Callable[..., Move]
    is_for_binary: bool
    step_sizes: tuple[float, float] | None = None


MOVES = {
    "hmc": Family(hmc, is_for_binary=False, step_sizes=(0.1, 0.3)),  # the authors'
    "langevin": Family(langevin, is_for_binary=True, step_sizes=(0.2, 10.0)),
    "informed": Family(informed, is_for_binary=True),
    "gibbs": Family(gibbs, is_for_binary=True),
}
DEFAULTS = {False: "hmc", True: "langevin"}  # whether latents are binary -> move


def names(*, is_for_binary: bool) -> list[str]:
    """The moves for binary or for continuous latents."""
    return [name for name, family in MOVES.items() if family.is_for_binary == is_for_binary]


def build(name: str, num_steps: int, momentum_persistence: float = 0.0) -> Move:
    """A move by the name of its family; only momenta can persist."""
    kept = {"momentum_persistence": momentum_persistence} if momentum_persistence else {}
    return MOVES[name].build(num_steps, **kept)


def check(name: str, *, has_binary_latents: bool) -> None:
    """Raises ValueError for an unknown move, or one that cannot move such latents."""
    if name not in MOVES:
        raise ValueError(f"`move` must be one of {', '.join(MOVES)}; got {name!r}.")
    if MOVES[name].is_for_binary != has_binary_latents:
        kind = "binary" if has_binary_latents else "continuous"
        reason = (
            "there is no path between 0 and 1 for it to follow"
            if has_binary_latents
            else "it flips bits"
        )
        raise ValueError(
            f"`move`={name!r} cannot move {kind} latents, for {reason}; use "
            f"{' or '.join(repr(n) for n in names(is_for_binary=has_binary_latents))}."
        )
