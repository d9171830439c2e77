"""Settings of a report's measurements: those of its chains, and what they are run on."""

import dataclasses
from typing import Any

from aiwae_jax import evaluate, networks, options
from aiwae_jax.evaluate.target import STARTS

_NONE = {"num_examples": "all", "num_simulated": "none", "num_classified": "none"}  # what 0 is


@dataclasses.dataclass(frozen=True)
class Evaluation(evaluate.Settings):
    """Settings of the chains that measure a model, and what they are run on.

    Raises:
      ValueError: for what cannot be run.
      TypeError: for numbers of another kind.
    """

    num_examples: int = options.option(
        200,
        flag="eval_examples",
        help="Rows or images evaluated from the test set, and as many from the training set, drawn "
        "by the evaluation seed; 0 means all of the test set. Default 200.",
        at_least=0,
    )
    num_simulated: int = options.option(
        50,
        flag="eval_simulated",
        help="Data simulated from the model, on which the NLL's settings are checked in both "
        "directions; the gap between the two bounds is reported. 0 leaves it out.",
        at_least=0,
    )
    target_gap: float | None = options.option(
        None,
        flag="target_gap",
        help="Raises the number of temperatures until the bidirectional gap, upper end of its 95% "
        "interval, is at most this many nats; measures it again on fresh simulated data; and "
        "evaluates the real ones at that setting.",
        above=0,
    )
    num_bound_samples: int = options.option(
        5000,
        flag="eval_bound_samples",
        help="K of the variational bound L_K: NVLB = -L_5000 in the paper. A multiple of 50.",
        at_least=50,
        multiple_of=50,
    )
    num_classified: int = options.option(
        50,
        flag="eval_classified",
        help="Test data whose class is found by Bayes' rule, of a model that is given one: each is "
        "annealed in every class. 0 leaves it out. Default 50.",
        at_least=0,
    )
    seed: int = options.option(
        0,
        flag="eval_seed",
        help="Seed that chooses and binarizes the evaluated data, once, and drives the chains.",
        at_least=0,
        below=2**32,
    )
    start: str | None = options.option(
        None,
        flag="eval_start",
        help="What the NLL's chains start from: q(z|x), the default where it is trained, or the "
        "prior, which is the better one where data lie far out in q. A report says when the other "
        "one is tighter on data simulated from the model.",
        choices=STARTS,
    )
    force_precision: str = options.option(
        "float32",
        flag="eval_force_precision",
        help="Precision of the gradients inside HMC; energies and weights stay fp32, so that the "
        "estimate stays unbiased.",
        choices=tuple(networks.PRECISIONS),
    )

    def __post_init__(self):
        super().__post_init__()
        for name, none in _NONE.items():
            if getattr(self, name) == 1:
                raise ValueError(
                    f"`{name}` must be 0 ({none}) or at least 2, got 1: one has no error."
                )
        if self.adapt == "paper" and self.num_simulated:
            raise ValueError(
                "`num_simulated` must be 0 with `adapt`='paper', whose chains have no frozen plan "
                f"to be run backwards; got {self.num_simulated}."
            )
        if self.target_gap is not None and not (self.num_simulated and self.adapt == "pilot"):
            raise ValueError(
                "`target_gap` needs `num_simulated` > 0 and `adapt`='pilot', got "
                f"{self.num_simulated} and {self.adapt!r}."
            )

    def settings(self) -> evaluate.Settings:
        """Those of the chains alone."""
        names = [field.name for field in dataclasses.fields(evaluate.Settings)]
        return evaluate.Settings(**{name: getattr(self, name) for name in names})

    @classmethod
    def of(cls, settings: evaluate.Settings, **more: Any) -> "Evaluation":
        """From the settings of chains, and what else is to be said by name.

        Raises:
          ValueError: for a number that cannot be.
        """
        if settings.adapt == "paper":
            more.setdefault("num_simulated", 0)
        return cls(**vars(settings) | more)
