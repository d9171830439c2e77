"""A batch in blocks, so that another number of devices gives the same bits.

Floating-point sums depend on their order, and XLA chooses the order, and what is fused into one
kernel, by the shape of what a device is given. Here every block of a batch goes through one program
of one shape, in a loop that the compiler can neither unroll nor fuse with what is around it, and
the blocks' sums are added along one tree, by every device alike.

A program of one device alone is no such program: XLA's passes over it are others than over one
that is partitioned, and rewrite the same arithmetic otherwise (seen in chains, not in a VAE). Two
devices can share a core.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aiwae_jax.info import Info
from aiwae_jax.parallel import sharding
from aiwae_jax.types import PyTree

# of_rows(given, rows) -> (sums, (info, of_each_row))
OfRows = Callable[[PyTree, PyTree], tuple[PyTree, tuple[Info, PyTree]]]


class Blocks(NamedTuple):
    """How a batch is cut: see `make_train_step`, whose `blocks` it is.

    Attributes:
      number: of blocks in a batch.
      mesh: of the devices that share them.
    """

    number: int
    mesh: Mesh

    def check(self, batch_size: int) -> None:
        """Refuses a batch that is not cut evenly, and devices that do not share the blocks evenly.

        Raises:
          ValueError: naming the numbers.
        """
        if self.number < 1 or batch_size % self.number:
            raise ValueError(
                f"`ordered_blocks`={self.number} must divide `batch_size`={batch_size}; choose a "
                f"multiple of {self.number}."
            )
        num_devices = self.mesh.shape[sharding.DATA]
        if self.number % num_devices:
            raise ValueError(
                f"The {num_devices} devices over the data must divide `ordered_blocks`="
                f"{self.number}; give as many as do (--mesh=data:1, say)."
            )
        if (num_particle := self.mesh.shape[sharding.PARTICLE]) > 1:
            raise ValueError(
                "`ordered_blocks` orders sums over data, and a mesh over particles would split "
                f"others; got {num_particle} devices over them."
            )

    def check_devices(self) -> None:
        """Refuses a single device, whose program XLA treats otherwise.

        Raises:
          ValueError: with what to do.
        """
        if (num_devices := self.mesh.size) < 2:
            raise ValueError(
                f"`ordered_blocks`={self.number} needs two devices or more, got {num_devices}: XLA "
                "compiles a program of one device otherwise, to other bits. On a CPU "
                "JAX_NUM_CPU_DEVICES=2 makes two, which may share a core."
            )

    def in_order(self, of_rows: OfRows, step: chex.Array) -> OfRows:
        """The same function of rows, block by block.

        Args:
          of_rows: sums over rows, diagnostics of them, and what is of each row.
          step: `[]` steps done.

        Returns:
          `of_rows` of all rows: sums of the blocks' sums and counts; of rates the mean over those
          blocks that have one, which is not NaN.
        """
        num_here = self.number // self.mesh.shape[sharding.DATA]
        over_data, on_all = PartitionSpec(sharding.DATA), PartitionSpec()
        split = partial(_split, num_blocks=num_here)
        # One more than there are, which no step takes: of an axis of one XLA makes another program.
        num_there = num_here + 1

        def of_device(step, given, rows):
            blocks = jax.tree.map(split, rows)

            def of_block(i):
                own = jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, 0, False), blocks)
                return jax.lax.optimization_barrier(
                    of_rows(*jax.lax.optimization_barrier((given, own)))
                )

            def body(i, found):
                return jax.tree.map(
                    lambda all_, one: jax.lax.dynamic_update_index_in_dim(all_, one, i, 0),
                    found,
                    of_block(i),
                )

            empty = jax.tree.map(
                lambda leaf: jnp.zeros((num_there, *leaf.shape), leaf.dtype),
                jax.eval_shape(of_block, jnp.zeros((), jnp.int32)),
            )
            # A length that is known at run time only: a loop of one block would be no loop.
            length = jnp.where(step < 0, 0, num_here)
            found = jax.lax.fori_loop(0, length, body, empty)
            sums, (info, of_each) = jax.tree.map(lambda a: a[:num_here], found)
            return sums, (info, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), of_each))

        mapped = jax.shard_map(
            of_device,
            mesh=self.mesh,
            in_specs=(on_all, on_all, over_data),
            out_specs=over_data,
            check_vma=False,
        )

        def of_all(given, rows):
            sums, (info, of_each) = mapped(step, given, rows)
            everywhere = NamedSharding(self.mesh, on_all)
            sums, info = jax.lax.with_sharding_constraint((sums, info), everywhere)
            sums, info = jax.lax.optimization_barrier((sums, info))
            found = jax.tree.map(_sum, sums), info.reduced(_mean, _sum)
            sums, info = jax.lax.optimization_barrier(found)
            return sums, (info, of_each)

        return of_all


def _split(rows: chex.Array, num_blocks: int) -> chex.Array:
    """Blocks of rows, and the first one once more."""
    blocks = rows.reshape(num_blocks, -1, *rows.shape[1:])
    return jnp.concatenate([blocks, blocks[:1]])


def _sum(parts: chex.Array) -> chex.Array:
    """Sum of `[N, ...]` along one tree: neighbours, then neighbouring pairs, and so on."""
    while len(parts) > 1:
        pairs = parts[: len(parts) // 2 * 2]
        parts = jnp.concatenate([pairs[0::2] + pairs[1::2], parts[len(pairs) :]])
    return parts[0]


def _mean(parts: chex.Array) -> chex.Array:
    """Mean of `[N, ...]` over what is not NaN."""
    is_there = ~jnp.isnan(parts)
    return _sum(jnp.where(is_there, parts, 0.0)) / _sum(is_there.astype(parts.dtype))
