"""Numbers, pictures and page of a run. `write` makes them all, and resumes."""

from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.report.writer import write

__all__ = ["Evaluation", "write"]
