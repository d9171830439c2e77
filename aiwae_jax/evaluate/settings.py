"""Settings of annealed chains, and the `Plan` that pilots find for them."""

import dataclasses
from typing import NamedTuple

import numpy as np

from aiwae_jax import moves, options, paths, schedules
from aiwae_jax.evaluate import population

SCHEDULES = (*schedules.SCHEDULES, "adaptive")
ADAPT = {"pilot": population.FROZEN, "paper": population.PAPER}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of annealed chains. Everything here can change an estimate's spread, and its cost.

    The defaults gave the smallest spread for their cost on an AIWAE-trained MNIST model: short
    moves that keep most of their momentum do the work of long trajectories at more temperatures,
    and since a rejection turns them back, they want a high acceptance. The paper's own setting is
    `PAPER_SETTINGS`; binary latents have `BINARY_SETTINGS`.

    A `chain_space` of "base" anneals the noise that q's `transport` maps to z, so that the chain
    sees q's scales; "latent" anneals z itself, with identity mass matrix, as the paper does. None
    is "base" where what chains start from has a `transport`, and "latent" elsewhere. "sigmoid" is
    the schedule of Wu et al. (2016); `momentum_persistence` is α of `moves.hmc`, 0 for moves
    without a momentum. The number of leapfrog steps is, of other moves than HMC, that of the
    proposals (a gradient each) or sweeps of one move.

    Raises:
      ValueError: for what cannot be run.
      TypeError: for numbers of another kind.
    """

    num_temperatures: int = options.option(
        1000,
        flag="eval_temperatures",
        help="Number of inverse temperatures for the NLL, counting 0 and 1. Default 1000; 100 on "
        "digits. With a target gap the search begins here, by default at 100.",
        at_least=2,
    )
    num_chains: int = options.option(
        16,
        flag="eval_chains",
        help="Independent AIS chains per image for the NLL. Default 16.",
        at_least=1,
    )
    num_leapfrog_steps: int = options.option(
        3,
        flag="eval_leapfrog_steps",
        help="Leapfrog steps per HMC move for the NLL. Default 3; the paper's 10. Of binary "
        "latents the proposals or sweeps of each move, by default 1.",
        at_least=1,
    )
    schedule: str = options.option(
        "adaptive",
        flag="eval_schedule",
        help="Temperatures: evenly spaced; dense at both ends; or placed on pilot chains so that "
        "every weight increment has the same variance. Default adaptive.",
        choices=SCHEDULES,
    )
    chain_space: str | None = options.option(
        None,
        flag="eval_chain_space",
        help="Where the chains move: `latent` moves z, as the paper; `base` moves the noise that "
        "q turns into z, so that q's standard deviations become the mass matrix. Default base; "
        "latent for binary latents.",
        choices=tuple(paths.SPACES),
    )
    momentum_persistence: float = options.option(
        0.8,
        flag="eval_persistence",
        help="Share in [0, 1) of its momentum that an HMC move keeps from the last one. Default "
        "0.8, which lets few leapfrog steps do the work of many; the paper's 0 draws it anew.",
        at_least=0,
        below=1,
    )
    adapt: str = options.option(
        "pilot",
        flag="eval_adapt",
        help="Step sizes: tuned on pilot chains and frozen; or `paper`, the authors' rule, one "
        "step size adapted on the very chains that are reported, which biases them (needs a "
        "schedule that is not adaptive).",
        choices=tuple(ADAPT),
    )
    target_acceptance: float = options.option(
        0.8,
        flag="eval_acceptance",
        help="Acceptance that the step sizes are steered to. Default 0.8; the paper's 0.6, also "
        "of binary latents.",
        above=0,
        below=1,
    )
    num_pilot_data: int = options.option(
        32,
        flag="eval_pilot_data",
        help="Images that the pilot chains use, spread evenly over those evaluated.",
        at_least=1,
    )
    num_pilot_chains: int = options.option(
        4,
        flag="eval_pilot_chains",
        help="Pilot chains per image; at least 2, for their variance places the temperatures.",
        at_least=2,
    )
    move: str = options.option(
        "hmc",
        flag="eval_move",
        help="How chains move: hmc for continuous latents, for binary ones langevin (the default "
        "there), informed or gibbs.",
        choices=tuple(moves.MOVES),
    )

    def __post_init__(self):
        options.check(self)
        is_still = self.momentum_persistence == 0.0 and self.chain_space != "base"
        if moves.MOVES[self.move].latents == "binary" and not is_still:
            raise ValueError(
                f"`move`={self.move!r} flips bits of z: it needs `chain_space='latent'` and "
                f"`momentum_persistence=0.0`, got {self.chain_space!r} and "
                f"{self.momentum_persistence}; start from `BINARY_SETTINGS`."
            )
        if self.adapt == "paper" and self.schedule == "adaptive":
            raise ValueError(
                "`adapt='paper'` runs no pilot chains that could place the temperatures; use "
                "`schedule='linear'`, as the paper does."
            )

    def program(self, num_chains: int | None = None) -> population.Program:
        """The compiled program of these chains; without a space to live in, that of base space."""
        return population.Program(
            num_chains=num_chains or self.num_chains,
            num_leapfrog_steps=self.num_leapfrog_steps,
            chain_space=self.chain_space or "base",
            momentum_persistence=self.momentum_persistence,
            move=self.move,
        )


DEFAULT_SETTINGS = Settings()
PAPER_SETTINGS = Settings(
    num_temperatures=10_000,
    num_chains=16,
    num_leapfrog_steps=10,
    schedule="linear",
    chain_space="latent",
    momentum_persistence=0.0,
    target_acceptance=0.6,
)
BINARY_SETTINGS = Settings(
    num_leapfrog_steps=1,
    chain_space="latent",
    momentum_persistence=0.0,
    target_acceptance=0.6,
    move="langevin",
)


class Plan(NamedTuple):
    """Temperatures and step sizes, fixed before the chains that are reported begin.

    Attributes:
      betas: `[T]` schedule.
      step_sizes: `[T-2]` of the moves at betas[1:-1] (`adapt="paper"` starts from the first).
      num_gradients: gradient evaluations of log p(x, z) that the pilots took.
    """

    betas: np.ndarray
    step_sizes: np.ndarray
    num_gradients: int
