"""Settings of annealed chains, and the `Plan` that pilots find for them."""

import dataclasses
from typing import NamedTuple

import numpy as np

from aiwae_jax import moves, options, paths, schedules
from aiwae_jax.evaluate import programs, verdicts

SCHEDULES = (*schedules.SCHEDULES, "adaptive")
ADAPT = {"pilot": programs.FROZEN, "paper": programs.PAPER}


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
        help="Independent AIS chains per datum for the NLL. Default 16.",
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
        "0.8, which lets few leapfrog steps do the work of many, and which pilots lower where few "
        "turn a Gaussian; the paper's 0 draws it anew.",
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
        help="Pilot chains per datum; at least 2, for their variance places the temperatures.",
        at_least=2,
    )
    num_pilot_rounds: int = options.option(
        4,
        flag="eval_pilot_rounds",
        help="Rounds of pilots at most that check temperatures and step sizes, and mend them where "
        "they are not level. Default 4; most often the first suffices.",
        at_least=1,
    )
    conditional_sample_size: float | None = options.option(
        None,
        flag="eval_conditional_sample_size",
        help="Share of the chains in (0, 1): as many temperatures as keep each one's conditional "
        "effective sample size at this share, by the pilots, and --eval_temperatures at most. "
        "Default none: just as many as those.",
        above=0,
        below=1,
    )
    resampling: float = options.option(
        0.0,
        flag="eval_resampling",
        help="Share of a population's chains: where their effective sample size falls below it, "
        "they are drawn anew in proportion to their weights (sequential Monte Carlo). Default 0, "
        "never; 0.5 is usual.",
        at_least=0,
        at_most=1,
    )
    num_populations: int = options.option(
        4,
        flag="eval_populations",
        help="Independent populations that the chains form where they resample, and from which "
        "errors are taken then. Default 4, the fewest.",
        at_least=4,
    )
    move: str = options.option(
        "hmc",
        flag="eval_move",
        help="How chains move: hmc for continuous latents, for binary ones langevin (the default "
        "there), informed or gibbs.",
        choices=tuple(moves.MOVES),
    )

    largest_error: float = options.option(
        verdicts.LARGEST_ERROR,
        flag="eval_largest_error",
        help="Nats: an estimate with a larger standard error is marked as unreliable. Default 0.5, "
        "hence a bias of about 0.1 at most.",
        above=0,
    )
    least_sample_size: float | None = options.option(
        None,
        flag="eval_least_sample_size",
        help="One whose chains have a smaller effective sample size is marked likewise. Default an "
        "eighth of the chains, and at least 4.",
        at_least=1,
    )
    most_dead_chains: float = options.option(
        programs.MOST_LOST,
        flag="eval_most_dead_chains",
        help="One with a larger share of chains of weight zero is marked likewise. "
        f"Default {programs.MOST_LOST}.",
        at_least=0,
        at_most=1,
    )
    largest_rounding: float = options.option(
        verdicts.LARGEST_ROUNDING,
        flag="eval_largest_rounding",
        help="Nats: one whose log densities are so large, or sums of terms so large, that "
        "neighbouring numbers differ by more "
        "is marked likewise. Default 0.05.",
        above=0,
    )
    largest_tail_index: float = options.option(
        verdicts.LARGEST_TAIL_INDEX,
        flag="eval_largest_tail_index",
        help="Where log p(x, z) - log q(z) has an upper tail heavier than this index, "
        "chains hardly see what p(x) rests on, and only estimates with a tenth of the largest "
        f"error are not marked. Default {verdicts.LARGEST_TAIL_INDEX}.",
        at_least=0,
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

        if self.resampling and (
            self.num_chains % self.num_populations or self.num_chains < 2 * self.num_populations
        ):
            raise ValueError(
                f"`num_chains`={self.num_chains} must be a multiple of "
                f"`num_populations`={self.num_populations} and at least twice as many, so that "
                "each population has chains to draw from."
            )
        if self.conditional_sample_size is not None and self.schedule != "adaptive":
            raise ValueError(
                "`conditional_sample_size` asks pilots for the number of temperatures, which needs "
                f"`schedule='adaptive'`, got {self.schedule!r}."
            )

    @property
    def num_draws(self) -> int:
        """Independent draws per datum: chains, or populations where these resample."""
        return self.program().num_draws

    @property
    def of_chains(self) -> "Settings":
        """The same chains; the verdict's thresholds, which change nothing stored, at defaults."""
        return dataclasses.replace(self, **_VERDICT)

    def program(self, num_chains: int | None = None) -> programs.Program:
        """The compiled program of these chains; without a space to live in, that of base space."""
        return programs.Program(
            num_chains=num_chains or self.num_chains,
            num_leapfrog_steps=self.num_leapfrog_steps,
            chain_space=self.chain_space or "base",
            momentum_persistence=self.momentum_persistence,
            move=self.move,
            resampling=0.0 if num_chains else self.resampling,  # pilots never do
            num_populations=self.num_populations,
        )


OF_VERDICTS = ("largest_error", "least_sample_size", "most_dead_chains", "largest_rounding")
OF_VERDICTS += ("largest_tail_index",)
_VERDICT = {
    field.name: field.default for field in dataclasses.fields(Settings) if field.name in OF_VERDICTS
}
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
      step_sizes: `[T-2]` of the moves at betas[1:-1] (`adapt="paper"` starts from the first), or
        `[T-2, D]` of each coordinate where their scales differ, which is HMC with a diagonal mass
        matrix per temperature.
      num_gradients: gradient evaluations of log p(x, z) that the pilots took.
      rows: `[M]` digests of the data that have factors of their own on the step sizes, by which
        they are known again.
      log_factors: `[M, NUM_KNOTS]` logarithms of these factors, at places evenly spread over the
        moves.
      persistences: `[T-2]` of each move's momentum, where the pilots saw that chains do better with
        less of it than the settings say; else empty.
      tail_index: of log f_n - log f_0, the larger one of what pilots met on the last fifth of their
        path (`tails.index`) and of what the densities have far out (`tails.far_index`); NaN where
        nobody measured it.
      is_level: whether the pilots found all weight increments of about the same variance, and
        acceptances as wanted, before their rounds were over.
    """

    betas: np.ndarray
    step_sizes: np.ndarray
    num_gradients: int
    rows: np.ndarray = np.zeros(0, "<U16")
    log_factors: np.ndarray = np.zeros((0, programs.NUM_KNOTS))
    persistences: np.ndarray = np.zeros(0)
    tail_index: float = float("nan")
    is_level: bool = True

    @property
    def of_chains(self) -> dict[str, np.ndarray]:
        """The fields that say how chains move, and what finding them took, by name."""
        left_out = OF_PILOTS if len(self.persistences) else (*OF_PILOTS, "persistences")
        fields = self._asdict().items()
        return {name: np.asarray(value) for name, value in fields if name not in left_out}


OF_PILOTS = ("tail_index", "is_level")  # what they saw, of which no chain knows
