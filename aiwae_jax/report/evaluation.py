"""How a report measures a run: the settings of its chains, and what they are run on."""

import dataclasses

from aiwae_jax import checks, evaluate


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How a model is measured.

    Attributes:
      num_temperatures: T of the NLL, or where the search for `target_gap` begins.
      num_chains: K per image.
      num_leapfrog_steps: L.
      schedule: see `aiwae_jax.evaluate.Settings`, as the next four.
      chain_space: where the chains live.
      momentum_persistence: share of the momentum that a move keeps.
      target_acceptance: what the step sizes are steered to.
      adapt: how step sizes are found.
      num_examples: of the test data, and as many of the training data; 0 means all.
      num_simulated: data simulated for the bidirectional gap; 0 leaves it out.
      target_gap: nats, or None for no search.
      num_bound_samples: K of L_K.
      seed: of images, pixels and chains.
      force_precision: of the gradients inside HMC.
      move: see `aiwae_jax.evaluate.Settings`, as the last two.
      num_pilot_data: what the settings are tuned on.
      num_pilot_chains: for each of these.
    """

    num_temperatures: int = 1000
    num_chains: int = 16
    num_leapfrog_steps: int = 3
    schedule: str = "adaptive"
    chain_space: str | None = None
    momentum_persistence: float = 0.8
    target_acceptance: float = 0.8
    adapt: str = "pilot"
    num_examples: int = 200
    num_simulated: int = 50
    target_gap: float | None = None
    num_bound_samples: int = 5000
    seed: int = 0
    force_precision: str = "float32"
    move: str = "hmc"
    num_pilot_data: int = evaluate.Settings.num_pilot_data
    num_pilot_chains: int = evaluate.Settings.num_pilot_chains

    def settings(self) -> evaluate.Settings:
        """The library's settings of the chains."""
        shared = {field.name for field in dataclasses.fields(evaluate.Settings)}
        values = dataclasses.asdict(self)
        return evaluate.Settings(**{name: values[name] for name in shared & values.keys()})

    @classmethod
    def of(cls, settings: evaluate.Settings, **options) -> "Evaluation":
        """From the settings of chains, and what else is to be said by name.

        Raises:
          ValueError: for a number that cannot be.
        """
        shared = {field.name for field in dataclasses.fields(cls)}
        chains = {k: v for k, v in dataclasses.asdict(settings).items() if k in shared}
        made = cls(**chains | options)
        for name in ("num_examples", "num_simulated"):
            if checks.integer(name, getattr(made, name), least=0) == 1:
                raise ValueError(f"`{name}` must be 0 or at least 2, got 1: one has no error.")
        if made.num_bound_samples < 50 or made.num_bound_samples % 50:
            raise ValueError(
                "`num_bound_samples` must be a positive multiple of 50, got "
                f"{made.num_bound_samples}."
            )
        checks.integer("seed", made.seed, least=0)
        if made.target_gap is not None and not (made.target_gap > 0.0 and made.num_simulated):
            raise ValueError(
                "`target_gap` must be positive, and needs `num_simulated`, got "
                f"{made.target_gap} and {made.num_simulated}."
            )
        return made
