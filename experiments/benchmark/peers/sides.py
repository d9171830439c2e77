"""Who takes part: what must be installed, budgets, settings to choose from."""

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmark.peers import blackjax_smc, ours, script, tfp_side
from experiments.benchmark.peers.bounds import Bounds, Moves
from experiments.benchmark.peers.problem import Problem

NUM_GRADIENTS = (60, 200, 600)  # of a chain, in each direction
NUM_MOVES = (1, 2, 5)  # of SMC at a temperature, of three steps
QUICK_GRADIENTS, QUICK_MOVES = (20,), (1,)
STARTS = {"posterior": "q", "prior": "prior"}
_NUM_PILOT_DATA, _PILOT_GRADIENTS = 8, 150
_LEAPFROG_STEPS = (3, 10)
_STEPS = (0.05, 0.1, 0.2, 0.4)
# The script's own, and larger ones, from which few temperatures are enough to adapt it.
_SCRIPT_MOVES = [Moves(step, script.NUM_LEAPFROG_STEPS) for step in (0.01, *_STEPS)]
_MOVES = [Moves(step, num) for num in _LEAPFROG_STEPS for step in _STEPS]
_QUICK_MOVES = {"script": _SCRIPT_MOVES[2:3], "others": [Moves(0.1, 3)]}


class Side(NamedTuple):
    """One that takes part.

    Attributes:
      name: as people know it, with where its chains start.
      program: the name alone.
      package: what it needs, None of ours.
      build: `(problem, budget, moves, **options) -> call`; ours takes no moves.
      budgets: numbers that its time grows with.
      unit: what they count.
      moves: to choose from on pilots; empty where it finds its own.
      pilot_budget: of these.
      has_reverse: whether it can bound log p(x) from above, too.
    """

    name: str
    program: str
    package: str | None
    build: Callable[..., Callable[[], Bounds]]
    budgets: Sequence[int]
    unit: str
    moves: Sequence[Moves]
    pilot_budget: int
    has_reverse: bool

    @property
    def is_there(self) -> bool:
        """Whether what it needs is installed."""
        return self.package is None or importlib.util.find_spec(self.package) is not None

    def call(self, problem: Problem, budget: int, moves: Moves | None, **options: Any):
        """A call that returns `Bounds` at a budget."""
        chosen = () if moves is None else (moves,)
        return self.build(problem, budget, *chosen, **options)

    def choose(self, problem: Problem) -> Moves | None:
        """The moves that serve it best on pilots of other images.

        Those of the highest mean estimate, or of a side that adapts its chains, whose estimates
        need not be below log p(x), of the smallest distance between its bounds.
        """
        if len(self.moves) < 2:
            return next(iter(self.moves), None)
        pilots = problem.of_pilots(_NUM_PILOT_DATA)
        options = {"with_reverse": True} if self.has_reverse else {}

        def loss(moves: Moves) -> float:
            found = self.call(pilots, self.pilot_budget, moves, **options)()
            value = np.mean(
                found.lower if found.upper is None else -np.abs(found.upper - found.lower)
            )
            return float(-value) if np.isfinite(value) else np.inf

        return min(self.moves, key=loss)


def all_sides(*, is_quick: bool) -> list[Side]:
    """Everybody, ours first; from the prior too where there is time to compile that."""
    num_gradients = QUICK_GRADIENTS if is_quick else NUM_GRADIENTS
    num_moves = QUICK_MOVES if is_quick else NUM_MOVES
    starts = ("posterior",) if is_quick else tuple(STARTS)
    of_script = _QUICK_MOVES["script"] if is_quick else _SCRIPT_MOVES
    of_others = _QUICK_MOVES["others"] if is_quick else _MOVES
    # Of SMC pilots cannot weigh longer trajectories, for they cost more at as many moves.
    of_smc = [moves for moves in of_others if moves.num_leapfrog_steps == _LEAPFROG_STEPS[0]]
    per_chain = "gradients a chain"

    def started(name: str, start: str, build: Callable, *rest) -> Side:
        build = functools.partial(build, start=start)
        return Side(f"{name}, from {STARTS[start]}", name, rest[0], build, *rest[1:])

    found = []
    for start in starts:
        found.append(
            started(
                *("aiwae_jax", start, ours.side, None),
                *(num_gradients, per_chain, (), _PILOT_GRADIENTS, True),
            )
        )
    found.append(
        Side(
            *("BDMC script, from prior", "BDMC script", "torch", script.side),
            *(num_gradients, per_chain, of_script, _PILOT_GRADIENTS, True),
        )
    )
    for start in starts:
        found.append(
            started(
                *("TFP", start, tfp_side.side, "tensorflow_probability"),
                *(num_gradients, per_chain, of_others, _PILOT_GRADIENTS, False),
            )
        )
    for start in starts:
        found.append(
            started(
                *("BlackJAX SMC", start, blackjax_smc.side, "blackjax"),
                *(num_moves, "moves a temperature", of_smc, num_moves[0], False),
            )
        )
    return found
