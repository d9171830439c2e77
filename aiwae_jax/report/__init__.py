"""What a run came to: its numbers, its pictures, its page. `write` does it all, and resumes."""

from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.report.writer import write

__all__ = ["Evaluation", "write"]
