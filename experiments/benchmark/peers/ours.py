"""Our side, by its public calls and defaults; its pilots are part of its time."""

import warnings
from collections.abc import Callable

from aiwae_jax import evaluate
from experiments.benchmark.peers.bounds import Bounds
from experiments.benchmark.peers.problem import Problem


def side(
    problem: Problem, num_temperatures: int, *, start: str, with_reverse: bool
) -> Callable[[], Bounds]:
    """A call of `evaluate.bidirectional`, or without reverse chains of `log_likelihood`."""
    target = problem.target(start)
    settings = evaluate.Settings(num_temperatures=num_temperatures, num_chains=problem.num_chains)

    def call() -> Bounds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of estimates that so few temperatures leave unreliable
            if with_reverse:
                both = evaluate.bidirectional(
                    problem.key, target, settings, num_data=len(problem.x)
                )
                return Bounds(both.forward.log_likelihood, both.reverse.log_likelihood)
            found = evaluate.log_likelihood(problem.key, target, problem.x, settings)
            return Bounds(found.log_likelihood)

    return call
