"""One run of the command line, in the settings of its parts."""

import dataclasses
from typing import Any

from aiwae_jax.cli.layout import Layout
from aiwae_jax.report.evaluation import Evaluation
from experiments.settings import Training


@dataclasses.dataclass(frozen=True)
class Config:
    """A request to `python -m experiments.run`."""

    training: Training
    evaluation: Evaluation | None
    data_dir: str | None
    workdir: str
    checkpoint_minutes: float
    layout: Layout
    is_dry_run: bool

    def describe(self) -> str:
        """Every setting on a line, so that no default stays hidden."""

        def line(title: str, values: Any) -> str:
            items = dataclasses.asdict(values).items()
            return f"{title}: " + " ".join(f"{k}={v}" for k, v in items if v is not None)

        lines = [line("training", self.training)]
        if self.evaluation is not None:
            lines.append(line("evaluation", self.evaluation))
        return "\n".join(lines)
