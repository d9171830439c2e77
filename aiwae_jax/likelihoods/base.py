"""What a likelihood is: how the outputs of a decoder become a distribution over one datum."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex

from aiwae_jax import support
from aiwae_jax.recipe import Recipe, attach, recorded
from aiwae_jax.types import PyTree


def _learns_nothing(num_columns: int | None = None) -> dict[str, PyTree]:
    del num_columns
    return {}


class Likelihood(NamedTuple):
    """A likelihood of data of any size.

    One of your own is `Likelihood(build)`, where `build` makes a distribution with `log_prob(x)`,
    `sample(key)` and `mean()`; the other fields are for what learns, checks, or has its networks
    made for it.

    Attributes:
      build: `build(params, *outputs)` -> distribution over x `[X]`, of the decoder's outputs.
      init: `init(num_columns) -> params`, learned and shared by all data; often nothing. It is
        given None where nobody knows X.
      check_data: `check_data(x, *, name)` raises ValueError for data `[N, X]` that it is not of;
        those of this package also take `columns`, the names that they call them by.
      head_sizes: `head_sizes(num_columns)` -> sizes of the decoder's outputs; None for a likelihood
        whose decoder cannot be made for it.
      inputs: `inputs(x [X]) -> [F]`, what an encoder is best shown of a datum: logarithms of
        counts, a bit for each class. None for the datum itself.
      first_outputs: `first_outputs(mean [X])` -> one array or None for each of the decoder's
        outputs, where it may begin for data of this mean. None where nothing is known of it.
      is_conditional: whether a part of x is given, and not modelled; the distribution then has
        `given(x)`, which must come before a `sample`.
      takes_missing: whether NaN in a datum is a cell that was not observed, see `masked`.
      recipe: how a builder of ours was called for it.
    """

    build: Callable[..., Any]
    init: Callable[[int | None], dict[str, PyTree]] = _learns_nothing
    check_data: Callable[..., None] = support.check_finite
    head_sizes: Callable[[int], tuple[int, ...]] | None = None
    inputs: Callable[[chex.Array], chex.Array] | None = None
    first_outputs: Callable[[chex.Array], Sequence[chex.Array | None]] | None = None
    is_conditional: bool = False
    takes_missing: bool = False
    recipe: Recipe | None = None

    def __deepcopy__(self, memo: dict) -> "Likelihood":
        """Itself, which never changes: copies of compiled functions cannot be called."""
        return self

    @property
    def built_by(self) -> Recipe | None:
        """Its recipe, unless something of it was replaced since."""
        is_as_built = self.recipe is not None and self.recipe.is_of(self._replace(recipe=None))
        return self.recipe if is_as_built else None

    def check(self, x: Any, *, name: str, columns: Sequence[str] | None = None) -> None:
        """Calls `check_data`, with the names of the columns where it takes them."""
        takes_columns = "columns" in inspect.signature(self.check_data).parameters
        self.check_data(x, name=name, **({"columns": columns} if takes_columns else {}))


of_likelihood = recorded(attach)


def one_head(num_columns: int) -> tuple[int, ...]:
    """One output for each column."""
    return (num_columns,)


def check_counts(what: str) -> Callable[..., None]:
    """A `check_data` of whole numbers from 0 on, for a likelihood that is called `what`."""

    def check_data(x: Any, *, name: str, columns: Sequence[str] | None = None) -> None:
        support.check_values(
            x,
            support.whole_below(),
            name=name,
            columns=columns,
            rule=f"whole numbers from 0 on for {what}",
        )

    return check_data
