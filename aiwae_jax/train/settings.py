"""How long, in what batches, and from which seed a run is trained."""

import dataclasses

from aiwae_jax.options import check, option


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is trained by, whatever its method, its model and its data.

    Raises:
      ValueError: for a value that cannot be.
      TypeError: for one of another kind.
    """

    epochs: float | None = option(
        None,
        above=0,
        at_most=10**6,
        help="Passes over the data in all, instead of the stages' own number: each of the stages "
        "is stretched alike. Such a run cannot be extended.",
    )
    num_stages: int = option(
        8,
        flag="stages",
        at_least=1,
        at_most=12,
        help="Runs stages i = 0 .. N-1 of 3^i epochs at learning rate 0.001 * 10^(-i/7): 1, 4, 13, "
        "40, 121, 364, 1093, 3280 epochs in all for N = 1 .. 8. A finished run continues when "
        "started again with more stages.",
    )
    batch_size: int = option(64, at_least=1, help="Data per step.")
    seed: int = option(
        0, at_least=0, below=2**32, help="Seed of parameters, order, bits and chains."
    )
    num_repeats: int = option(
        1,
        flag="repeats",
        at_least=1,
        at_most=10**4,
        help="Trains N seeds, from the given one on, side by side in one program. Each writes its "
        "own report to repeat_<i>/, the run a summary.json with mean and standard deviation.",
    )
    adam_eps: float = option(1e-4, above=0, below=1e30, help="Adam's ε (β1 = 0.9, β2 = 0.999).")
    loss_reduction: str = option(
        "mean",
        choices=("mean", "sum"),
        help="Over the batch. The AIWAE authors take the mean, the IWAE authors the sum; beside a "
        "sum Adam's ε weighs far less.",
    )

    def __post_init__(self):
        check(self)
        if self.seed + self.num_repeats > 2**32:
            raise ValueError("`seed` and `num_repeats`: the last seed must be below 2**32.")
