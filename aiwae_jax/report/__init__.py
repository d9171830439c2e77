"""Numbers, pictures and page of a run: `write` makes them, `verify` checks their certificate."""

from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.report.verification import verify
from aiwae_jax.report.writer import write

__all__ = ["Evaluation", "verify", "write"]
