"""A trained model as a report takes it: what is measured, and the facts that are stated of it."""

from typing import Any, NamedTuple

from aiwae_jax import data, evaluate
from aiwae_jax.train.stopping import Stopping
from aiwae_jax.types import Model, Params


class Measurable(NamedTuple):
    """One trained model, and the facts that a report states of it.

    Attributes:
      config: how it was trained, as report.json has it beside the evaluation.
      dataset: its data.
      model: the model.
      start: what its evaluation starts from, "posterior" or "prior".
      params: of this model alone.
      epochs: passes over the data.
      is_finished: whether its training has come to its end.
      wall_time: of the training.
      data_dir: where its data were found, if it was said.
      move: how its training moved chains.
      num_repeats: how many were trained beside it.
      stopping: how far its early stopping is, which chose the `params`; None without patience.
    """

    config: dict[str, Any]
    dataset: data.Dataset
    model: Model
    start: str
    params: Params
    epochs: float
    is_finished: bool
    wall_time: dict[str, float]
    data_dir: str | None = None
    move: str = "hmc"
    num_repeats: int = 1
    stopping: Stopping | None = None

    @property
    def validation_share(self) -> float:
        """Share of its training data that it was not trained on."""
        return self.config["training"].get("validation_share", 0.0)

    def target(self, *, start: str | None = None, **options: Any) -> evaluate.Target:
        """As `evaluate` takes it, see `evaluate.Target.of`; without a `start` from its own."""
        check_start(start, self.start)
        return evaluate.Target.of(self.model, self.params, start=start or self.start, **options)

    def other_start(self, start: str | None) -> str | None:
        """What chains could start from beside `start`, or its own, if there is anything."""
        if self.start == "prior" or self.model.prior is None:
            return None
        return "posterior" if start == "prior" else "prior"


def check_start(start: str | None, own: str) -> None:
    """Refuses a start from a q that was not trained.

    Raises:
      ValueError: for that.
    """
    if (start, own) == ("posterior", "prior"):
        raise ValueError(
            "`start`='posterior' needs q(z|x), which this run's method does not train; leave it "
            "out."
        )
