"""Several likelihoods, each of some columns of a datum."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import distributions
from aiwae_jax.likelihoods.base import Likelihood, of_likelihood


@functools.partial(jax.tree_util.register_dataclass, data_fields=["parts"], meta_fields=["places"])
@dataclasses.dataclass(frozen=True, eq=False)
class Columns:
    """Independent distributions, each of some columns.

    Attributes:
      parts: the distributions.
      places: of each, the numbers of its columns; each of the X columns once.
    """

    parts: tuple[Any, ...]
    places: tuple[tuple[int, ...], ...]

    def _join(self, values: Sequence[chex.Array]) -> chex.Array:
        order = np.argsort(np.concatenate(self.places))
        return jnp.concatenate(values)[order]

    def log_prob(self, x: chex.Array) -> chex.Array:
        """Log density `[]` at `x` `[X]`, nats."""
        distributions.check_shape(x, jnp.zeros(sum(map(len, self.places))))
        pairs = zip(self.parts, self.places, strict=True)
        return sum(part.log_prob(x[np.asarray(place)]) for part, place in pairs)

    def log_probs(self, x: chex.Array) -> chex.Array:
        """Log density of each column, `[X]`."""
        pairs = zip(self.parts, self.places, strict=True)
        return self._join([part.log_probs(x[np.asarray(place)]) for part, place in pairs])

    @property
    def classes_of_columns(self) -> tuple[int, ...]:
        """How many classes each column has, 0 where it holds numbers."""
        found = [0] * sum(map(len, self.places))
        for part, place in zip(self.parts, self.places, strict=True):
            if classes := getattr(part, "classes_of_columns", None):
                for i, number in zip(place, classes, strict=True):
                    found[i] = number
        return tuple(found)

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[X]`."""
        keys = jax.random.split(key, len(self.parts))
        return self._join([p.sample(k) for p, k in zip(self.parts, keys, strict=True)])

    def mean(self) -> chex.Array:
        """What each part calls its mean, `[X]`."""
        return self._join([part.mean() for part in self.parts])


def places_of(wanted: Sequence[str], names: Sequence[str], argument: str) -> tuple[int, ...]:
    """Where some columns are among all.

    Raises:
      ValueError: for one that is not there, of `argument`.
    """
    for name in wanted:
        if name not in names:
            raise ValueError(
                f"`{argument}` names a column {name!r}, and there is none; the columns are "
                f"{', '.join(names)}."
            )
    return tuple(names.index(name) for name in wanted)


@of_likelihood
def columns(parts: Mapping[str, Likelihood], names: Sequence[str]) -> Likelihood:
    """A likelihood for each of some columns: `columns({"age,income": normal(), ...}, names)`.

    The decoder puts out the outputs of the parts, one part after the other.

    Args:
      parts: names of columns, with commas between them, -> their likelihood.
      names: of all X columns, such as `dataset.columns`.

    Raises:
      ValueError: for a column that is none of `names`, that has two likelihoods or none; and for a
        part whose decoder cannot be made for it, or that is given a part of the datum.
      TypeError: for what is no likelihood.
    """
    names, of_part = tuple(names), []
    taken: list[str] = []
    for key, part in parts.items():
        if not isinstance(part, Likelihood):
            raise TypeError(f"`parts[{key!r}]` must be a `likelihoods.Likelihood`, got {part!r}.")
        if part.head_sizes is None:
            raise ValueError(
                f"`parts[{key!r}]` must say its `head_sizes`, so that the outputs can be divided."
            )
        if part.is_conditional:
            raise ValueError(
                f"`parts[{key!r}]` must be of all its columns; one that is given a library size "
                "stands alone."
            )
        wanted = [name.strip() for name in key.split(",")]
        of_part.append((part, places_of(wanted, names, "parts")))
        for name in wanted:
            if name in taken:
                raise ValueError(f"`parts` names the column {name!r} twice.")
            taken.append(name)
    if rest := [name for name in names if name not in taken]:
        raise ValueError(
            f"`parts` must give every column a likelihood, got none for {', '.join(rest)}."
        )

    num_heads = [len(part.head_sizes(len(place))) for part, place in of_part]
    places = tuple(place for _, place in of_part)
    is_learning = [
        bool(jax.tree.leaves(jax.eval_shape(functools.partial(part.init, len(place)))))
        for part, place in of_part
    ]

    def own(params, number: int):
        return params[f"part_{number}"] if is_learning[number] else {}

    def build(params, *outputs):
        ends = np.cumsum(num_heads)
        distributions_ = [
            part.build(own(params, i), *outputs[end - num : end])
            for i, ((part, _), num, end) in enumerate(zip(of_part, num_heads, ends, strict=True))
        ]
        return Columns(tuple(distributions_), places)

    def init(num_columns: int | None = None):
        del num_columns
        return {
            f"part_{i}": part.init(len(place))
            for i, (part, place) in enumerate(of_part)
            if is_learning[i]
        }

    def check_data(x: Any, *, name: str, columns: Sequence[str] | None = None) -> None:
        if np.ndim(x) != 2 or np.shape(x)[1] != len(names):
            raise ValueError(
                f"`{name}` must have shape [rows, {len(names)}], got {list(np.shape(x))}."
            )
        called = names if columns is None else columns
        for part, place in of_part:
            part.check(x[:, np.asarray(place)], name=name, columns=[called[i] for i in place])

    def inputs(x: chex.Array) -> chex.Array:
        values = [(part, x[np.asarray(place)]) for part, place in of_part]
        return jnp.concatenate([v if p.inputs is None else p.inputs(v) for p, v in values])

    def first_outputs(mean: chex.Array):
        found: list[chex.Array | None] = []
        for (part, place), num in zip(of_part, num_heads, strict=True):
            known = part.first_outputs is not None
            found += part.first_outputs(mean[np.asarray(place)]) if known else [None] * num
        return found

    return Likelihood(
        build,
        init,
        check_data,
        head_sizes=lambda num_columns: tuple(
            size for part, place in of_part for size in part.head_sizes(len(place))
        ),
        inputs=inputs,
        first_outputs=first_outputs,
        takes_missing=any(part.takes_missing for part, _ in of_part),
    )
