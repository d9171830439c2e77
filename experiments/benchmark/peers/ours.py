"""Our side, by its public calls and defaults; its pilots are part of its time."""

import warnings
from collections.abc import Callable

from aiwae_jax import evaluate
from experiments.benchmark.peers.bounds import Bounds
from experiments.benchmark.peers.problem import Problem


def settings_of(num_gradients: int, num_chains: int) -> evaluate.Settings:
    """Our defaults, with as many temperatures as a chain's gradients are enough for."""
    num_moves = max(num_gradients // evaluate.Settings().num_leapfrog_steps, 1)
    return evaluate.Settings(num_temperatures=num_moves + 2, num_chains=num_chains)


def side(
    problem: Problem, num_gradients: int, *, start: str, with_reverse: bool
) -> Callable[[], Bounds]:
    """A call of `evaluate.bidirectional`, or without reverse chains of `log_likelihood`.

    Args:
      problem: what is measured.
      num_gradients: of a chain in each direction, beside those of the pilots.
      start: "prior" or "posterior".
      with_reverse: whether there are upper bounds.
    """
    target = problem.target(start)
    settings = settings_of(num_gradients, problem.num_chains)

    def call() -> Bounds:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of estimates that so few temperatures leave unreliable
            if with_reverse:
                both = evaluate.bidirectional(
                    problem.key, target, settings, num_data=len(problem.x)
                )
                return Bounds(both.forward.log_likelihood, both.reverse.log_likelihood)
            found = evaluate.log_likelihood(problem.key, target, problem.x, settings)
            return Bounds(found.log_likelihood)

    return call
