"""Positions that are pytrees, which chains see as vectors `[D]`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree

from aiwae_jax.types import ForceFn, LogDensityFn


def is_tree(position: Any) -> bool:
    """Whether a position is a pytree of arrays, and not one array or what no chain can move."""
    leaves, structure = jax.tree.flatten(position)
    is_leaf = jax.tree_util.treedef_is_leaf(structure)
    return bool(leaves) and not is_leaf and all(hasattr(leaf, "dtype") for leaf in leaves)


def of_positions(run_chain: Callable) -> Callable:
    """Makes `run_chain` take pytrees; vectors go to it as they are."""

    @functools.wraps(run_chain)
    def call(key, z, log_initial_fn, log_target_fn, *args, force_fns=None, **options):
        if not is_tree(z):
            ends = log_initial_fn, log_target_fn
            return run_chain(key, z, *ends, *args, force_fns=force_fns, **options)
        vector, unravel = ravel_pytree(z)

        def of_vector(fn: LogDensityFn) -> LogDensityFn:
            return lambda vector: fn(unravel(vector))

        def force_of_vector(fn: ForceFn) -> ForceFn:
            return lambda vector: ravel_pytree(fn(unravel(vector)))[0]

        ends = of_vector(log_initial_fn), of_vector(log_target_fn)
        if force_fns is not None:
            force_fns = tuple(map(force_of_vector, force_fns))
        end, *found = run_chain(key, vector, *ends, *args, force_fns=force_fns, **options)
        return unravel(end), *found

    return call
