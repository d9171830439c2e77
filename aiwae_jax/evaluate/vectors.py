"""Targets whose latents are pytrees, as targets of vectors `[D]`, which chains move."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from aiwae_jax import checks, trees
from aiwae_jax.evaluate.target import Target
from aiwae_jax.types import Distribution, PyTree


class _OfVectors(NamedTuple):
    """A distribution over pytrees, over their vectors.

    Attributes:
      base: with `sample` and `log_prob`.
      unravel: a vector to its pytree.
    """

    base: Distribution
    unravel: Callable[[chex.Array], PyTree]

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[D]`."""
        return ravel_pytree(self.base.sample(key))[0]

    def log_prob(self, z: chex.Array) -> chex.Array:
        """Log density `[]` at `[D]`, nats: the leaves are laid end to end, which changes none."""
        return self.base.log_prob(self.unravel(z))


def of_trees(target: Target, like: PyTree) -> Target:
    """A target of vectors `[D]`, of one whose functions take and draw latents that are pytrees.

    Chains move the vectors in latent space.

    Args:
      target: `log_joint(x, z)`, what `start` returns, and `sample`, of pytrees z.
      like: one such z; its shapes and dtypes are looked at.

    Raises:
      TypeError: for what is no pytree of arrays.
    """
    if not trees.is_tree(like):
        raise TypeError(f"`like` must be a pytree of arrays, got {checks.describe(like)}.")
    leaves, structure = jax.tree.flatten(like)
    joint, start, sample = _functions(structure, tuple((a.shape, a.dtype) for a in leaves))
    return dataclasses.replace(
        target,
        log_joint=Partial(joint, target.log_joint),
        start=Partial(start, target.start),
        sample=None if target.sample is None else Partial(sample, target.sample),
    )


@functools.lru_cache(maxsize=64)
def _functions(structure: Any, shapes: tuple) -> tuple[Callable, Callable, Callable]:
    """The same functions for latents of the same shapes: the next target is compiled already."""

    def unravel(z: chex.Array) -> PyTree:
        zeros = [jnp.zeros(shape, dtype) for shape, dtype in shapes]
        return ravel_pytree(jax.tree.unflatten(structure, zeros))[1](z)

    def joint(log_joint: Partial, x: PyTree, z: chex.Array) -> chex.Array:
        return log_joint(x, unravel(z))

    def start(of_tree: Partial, x: PyTree) -> _OfVectors:
        return _OfVectors(of_tree(x), unravel)

    def sample(of_tree: Partial, key: chex.PRNGKey) -> tuple[PyTree, chex.Array]:
        x, z = of_tree(key)
        return x, ravel_pytree(z)[0]

    return joint, start, sample
