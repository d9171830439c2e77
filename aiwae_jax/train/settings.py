"""How long, in what batches, and from which seed a run is trained."""

import dataclasses
from collections.abc import Callable, Sequence

import chex
import jax.numpy as jnp
import optax

from aiwae_jax.options import check, option
from aiwae_jax.train import learning_rates
from aiwae_jax.train.optimizers import OPTIMIZERS, Optimizers, make_optimizers

_OF_VALIDATION = (
    *("validation_particles", "validation_every", "validation_nll_every", "patience"),
    "patience_by",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a training, whatever its method, its model and its data.

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
        help="Runs stages i = 0 .. N-1 of 3^i epochs: 1, 4, 13, 40, 121, 364, 1093, 3280 epochs in "
        "all for N = 1 .. 8. The paper's learning rate is 0.001 * 10^(-i/7) in stage i; with it, "
        "and with a constant one, a finished run continues when started again with more stages.",
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
    optimizer: str = option(
        "adam",
        choices=tuple(OPTIMIZERS),
        help="Optimizer of all parameters. Muon makes the momentum of matrices orthogonal, and "
        "leaves the rest to Adam.",
    )
    learning_rate: float | None = option(
        None, above=0, help="The highest learning rate. Default 0.001; 0.02 for muon."
    )
    lr_schedule: str = option(
        "paper",
        choices=learning_rates.SCHEDULES,
        help="How the learning rate goes: by the paper's stages, constant, or from a warm-up down "
        "to 0 along a cosine, a line, or over the last fifth of the rest only (wsd).",
    )
    warmup_share: float | None = option(
        None,
        at_least=0,
        below=1,
        help="Share of all steps in which the learning rate rises; not with the paper's schedule. "
        "Default 0.05 for schedules that fall to 0.",
    )
    clip_norm: float | None = option(
        None, above=0, help="Norm to which the gradient of θ, of φ and of ψ is shortened."
    )
    ema: float = option(
        0.0,
        at_least=0,
        below=1,
        help="Above 0 an exponential average of the weights with this decay is kept beside them, "
        "and is what is measured, shown and loaded.",
    )
    adam_eps: float = option(
        1e-4,
        above=0,
        below=1e30,
        help="ε of Adam and AdamW (β1 = 0.9, β2 = 0.999); Muon has its own.",
    )
    loss_reduction: str = option(
        "mean",
        choices=("mean", "sum"),
        help="Over the batch. The AIWAE authors take the mean, the IWAE authors the sum; beside a "
        "sum Adam's ε weighs far less.",
    )
    ordered_blocks: int | None = option(
        None,
        at_least=1,
        at_most=1024,
        help="Cuts every batch into so many blocks, each of which goes through the same program, "
        "and adds what they give in one order: with 8 blocks 2, 4 and 8 devices give the same "
        "bits. By default a batch is cut by the devices that there are, which is faster.",
    )
    kl_warmup_share: float = option(
        0.0,
        at_least=0,
        at_most=1,
        help="Share of all steps over which KL(q || p(z)) comes into the ELBO, its weight rising "
        "linearly from 0 to 1. Of methods that climb an ELBO.",
    )
    validation_share: float = option(
        0.0,
        at_least=0,
        below=1,
        help="Share of the training data that is held out of training, the same rows for every "
        "seed; the model's bound of them is in the metrics, the progress and the learning curves.",
    )
    validation_particles: int = option(
        10,
        at_least=1,
        at_most=10**6,
        help="Importance samples K of the validation bound L_K of each row, whatever the method.",
    )
    validation_every: int | None = option(
        None,
        at_least=1,
        help="Epochs from one validation bound to the next. By default as few as keep its products "
        "below a tenth of the training's.",
    )
    validation_nll_every: int | None = option(
        None,
        at_least=1,
        help="Epochs from one annealed NLL of up to 200 validation rows to the next; by default "
        "there is none.",
    )
    patience: int | None = option(
        None,
        at_least=1,
        help="Stops when so many validations in a row were no better than the best one, whose "
        "weights are kept, and are what is measured, shown and loaded.",
    )
    patience_by: str = option(
        "bound",
        choices=("bound", "nll"),
        help="What patience goes by: the validation bound, or the annealed NLL.",
    )

    def __post_init__(self):
        check(self)
        self._check_validation()
        if self.lr_schedule == "paper" and self.warmup_share:
            raise ValueError(
                "`warmup_share` needs another `lr_schedule` than 'paper', whose first stage has "
                "the highest rate from the first step on."
            )
        if self.ordered_blocks:
            if self.batch_size % self.ordered_blocks:
                raise ValueError(
                    f"`ordered_blocks`={self.ordered_blocks} must divide `batch_size`="
                    f"{self.batch_size}."
                )
            if self.num_repeats > 1:
                raise ValueError(
                    "`ordered_blocks` is of one seed by itself, got `num_repeats`="
                    f"{self.num_repeats}; train the seeds one after the other."
                )
        if self.seed + self.num_repeats > 2**32:
            raise ValueError("`seed` and `num_repeats`: the last seed must be below 2**32.")

    def _check_validation(self):
        """Refuses what would be idle, or have nothing to go by."""
        if not self.validation_share:
            for name in _OF_VALIDATION:
                if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                    raise ValueError(
                        f"`{name}`={getattr(self, name)} needs rows to look at: hold out a "
                        "`validation_share` of the training data, 0.1 say."
                    )
        if self.patience_by != "bound" and not self.patience:
            raise ValueError(
                f"`patience_by`={self.patience_by!r} has no effect without `patience`."
            )
        if self.patience_by == "nll" and not self.validation_nll_every:
            raise ValueError(
                "`patience_by`='nll' needs `validation_nll_every`: epochs from one NLL to the next."
            )

    @classmethod
    def of(cls, settings: "Settings") -> "Settings":
        """Takes these fields alone of settings that say more."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: getattr(settings, name) for name in names})

    def make_learning_rate(self, ends: Sequence[int]) -> optax.Schedule:
        """The learning rate by the step, for stages that end at these steps."""
        peak = self.learning_rate
        if peak is None:
            peak = OPTIMIZERS[self.optimizer].learning_rate
        return learning_rates.make_schedule(self.lr_schedule, peak, ends, self.warmup_share)

    def make_kl_weight(self, num_steps: int) -> Callable[[chex.Array], chex.Array] | None:
        """The weight of the KL by the step, of so many in all; None without a warm-up."""
        num_warmup = self.num_kl_warmup(num_steps)
        if not num_warmup:
            return None
        return lambda step: jnp.minimum(step / num_warmup, 1.0)

    def num_kl_warmup(self, num_steps: int) -> int:
        """Steps of the KL's warm-up, of so many in all."""
        return max(round(self.kl_warmup_share * num_steps), 1) if self.kl_warmup_share else 0

    def make_optimizers(self, learning_rate: optax.ScalarOrSchedule) -> Optimizers:
        """The optimizers of θ, φ and ψ."""
        return make_optimizers(
            self.optimizer,
            learning_rate,
            eps=self.adam_eps,
            clip_norm=self.clip_norm,
            ema=self.ema,
        )

    @property
    def is_open_ended(self) -> bool:
        """Whether a finished run can go on for more stages as if it had never ended."""
        has_shares = bool(self.warmup_share or self.kl_warmup_share or self.patience)
        is_open = self.lr_schedule in learning_rates.OPEN_ENDED and not has_shares
        return is_open and self.epochs is None
