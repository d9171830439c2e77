"""Finds what became NaN or infinite first, and when, by taking the steps once more."""

import jax
import numpy as np

from aiwae_jax.parallel import processes
from aiwae_jax.train.loop import LoopState
from aiwae_jax.train.program import Program
from aiwae_jax.types import PyTree

_NUM_NAMED = 3


def nonfinite_leaves(tree: PyTree) -> list[str]:
    """Names of a tree's leaves that are not finite everywhere, with how much of each is not."""
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        values = processes.fetch(leaf)
        if np.issubdtype(values.dtype, np.inexact) and not np.isfinite(values).all():
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            found.append(f"{name} ({np.sum(~np.isfinite(values))} of {values.size} values)")
    return found


def first_nonfinite(program: Program, before: LoopState, num_steps: int) -> str:
    """Repeats up to `num_steps` steps from `before`, one by one, until something is not finite.

    Steps are deterministic, so that they go wrong again where they did; unless it was the device.
    """
    state = before
    for _ in range(num_steps + 1):
        broken = nonfinite_leaves(state.train)
        if broken:
            more = len(broken) - _NUM_NAMED
            names = ", ".join(broken[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")
            return f"first at step {state.num_steps}: {names}"
        state = program.run_steps(state, 1)
    return (
        f"but not when the {num_steps} steps up to step {state.num_steps - 1} were taken again: "
        "the device or its memory may be faulty"
    )
