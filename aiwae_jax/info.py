"""Diagnostics of samplers and training steps: what is averaged, what is counted, what moved."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import chex
import jax


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("acceptance", "step_sizes"),
    meta_fields=("betas", "kind"),
)
@dataclasses.dataclass(frozen=True)
class ChainInfo:
    """Averages for each of the M moves of a chain.

    Attributes:
      acceptance: `[M]` acceptance probability.
      step_sizes: `[M]`; None where they are not told.
      betas: the inverse temperatures of the moves, M numbers; None where they leave one density
        invariant. Constants, not arrays: nothing sums them, and no checkpoint holds them.
      kind: of the chain, in words: where it starts, in which space it lives, how it moves. Step
        sizes of one kind can stand for those of another chain of that kind.
    """

    acceptance: chex.Array
    step_sizes: chex.Array | None = None
    betas: tuple[float, ...] | None = None
    kind: str | None = None


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False)
class Info(Mapping):
    """Diagnostics of particles and phases, of one step or summed over several.

    As a mapping it has a column for each array, `info["acceptance"]`. Metrics and checkpoints call
    them by the same names.

    Attributes:
      rates: what is averaged over particles, data and steps, by name.
      counts: what is summed over them, by name; the names start with `num_`.
      chain: of the moves, averaged as rates are.
      parts: of samplers that were joined, by name, in which the names of their columns end.
    """

    rates: Mapping[str, chex.Array] = dataclasses.field(default_factory=dict)
    counts: Mapping[str, chex.Array] = dataclasses.field(default_factory=dict)
    chain: ChainInfo | None = None
    parts: Mapping[str, "Info"] = dataclasses.field(default_factory=dict)

    def reduced(self, mean_fn: Callable, sum_fn: Callable) -> "Info":
        """Applies `mean_fn` to what is averaged and `sum_fn` to what is summed."""
        return Info(
            rates=jax.tree.map(mean_fn, self.rates),
            counts=jax.tree.map(sum_fn, self.counts),
            chain=jax.tree.map(mean_fn, self.chain),
            parts={name: part.reduced(mean_fn, sum_fn) for name, part in self.parts.items()},
        )

    def with_more(self, rates: Mapping, counts: Mapping) -> "Info":
        """Adds rates and counts, by name."""
        return dataclasses.replace(
            self, rates={**self.rates, **rates}, counts={**self.counts, **counts}
        )

    def chains(self) -> dict[str, ChainInfo]:
        """Of its own moves and of its parts', by the ends of their columns' names."""
        found = {} if self.chain is None else {"": self.chain}
        for name, part in self.parts.items():
            found |= {f"{end}_{name}": chain for end, chain in part.chains().items()}
        return found

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple]:
        """Gives the arrays by their columns' names, in the order of these.

        A name is what a path reads backwards, its field left out.
        """
        fields = (self.rates, self.counts, self.chain, self.parts)
        leaves, structure = jax.tree_util.tree_flatten_with_path(fields)
        paths = [[jax.tree_util.keystr((key,), simple=True) for key in path] for path, _ in leaves]
        names = ["_".join(reversed(path[1:])) for path in paths]
        order = sorted(range(len(names)), key=names.__getitem__)
        return [(jax.tree_util.DictKey(names[i]), leaves[i][1]) for i in order], (structure, *order)

    @classmethod
    def tree_unflatten(cls, structure_and_order, leaves):
        """Inverts `tree_flatten_with_keys`."""
        structure, *order = structure_and_order
        by_place = dict(zip(order, leaves, strict=True))
        return cls(*jax.tree.unflatten(structure, map(by_place.get, range(len(order)))))

    def _columns(self) -> dict[str, chex.Array]:
        return {key.key: leaf for key, leaf in self.tree_flatten_with_keys()[0]}

    def __getitem__(self, name: str) -> chex.Array:
        return self._columns()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns())

    def __len__(self) -> int:
        return len(self._columns())
