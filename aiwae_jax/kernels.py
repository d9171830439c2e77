"""The moves that chains can make, by name: HMC for continuous latents, others for binary ones."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from aiwae_jax import discrete, hmc
from aiwae_jax.types import Kernel


class Move(NamedTuple):
    """A family of kernels.

    Attributes:
      build: `build(num_steps) -> Kernel`: leapfrog steps, sweeps, or proposals.
      is_for_binary: whether it moves binary latents, or continuous ones.
      step_sizes: where a step size starts in training, and its upper limit; None for moves that
        have none.
    """

    build: Callable[[int], Kernel]
    is_for_binary: bool
    step_sizes: tuple[float, float] | None = None


def _hamiltonian(num_steps: int) -> Kernel:
    hmc.check_num_leapfrog_steps(num_steps)
    return functools.partial(hmc.transition, num_leapfrog_steps=num_steps)


MOVES = {
    "hmc": Move(_hamiltonian, is_for_binary=False, step_sizes=(0.1, 0.3)),  # the authors'
    "langevin": Move(discrete.langevin, is_for_binary=True, step_sizes=(0.2, 10.0)),
    "informed": Move(discrete.informed, is_for_binary=True),
    "gibbs": Move(discrete.gibbs, is_for_binary=True),
}
DEFAULTS = {False: "hmc", True: "langevin"}  # whether latents are binary -> move


def names(*, is_for_binary: bool) -> list[str]:
    """The moves for binary or for continuous latents."""
    return [name for name, move in MOVES.items() if move.is_for_binary == is_for_binary]


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
