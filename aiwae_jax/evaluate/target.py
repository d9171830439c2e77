"""The target of an evaluation: log p(x, z), where chains begin, and exact draws."""

import dataclasses
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from aiwae_jax import checks, forces
from aiwae_jax.types import Model, Params, PyTree

TargetFn = Callable[[PyTree, chex.Array], chex.Array]
StartFn = Callable[[PyTree], Any]
STARTS = ("posterior", "prior")
_MOST_COPIES = 3
_copies: dict[types.CodeType, weakref.WeakSet] = {}
SampleFn = Callable[[chex.PRNGKey], tuple[PyTree, chex.Array]]


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """A model to be measured, as functions of one datum and one latent.

    Functions that close over large parameters are passed as `jax.tree_util.Partial(fn, params)`:
    their arrays are then arguments of the compiled program, and the next model of the same shape
    needs no new compilation. Others become `Partial`s here.

    Attributes:
      log_joint: `(x, z) -> []`, log p(x, z), nats, for one datum and one latent `[D]`;
        differentiable in z. Plans look at it far out, too, where it may be NaN or infinite.
      start: `x -> Posterior` (or any `Distribution`, such as the prior) to anneal from, and to draw
        importance samples from. For `chain_space="base"` it needs `transport`, and for bounds from
        above `inverse_transport` too.
      sample: `key -> (x, z)`, one exact draw from p(x, z); for bounds from above, and None
        elsewhere.

    Raises:
      TypeError: for what is no function, or binds what no compiled program can take.
    """

    log_joint: TargetFn
    start: StartFn
    sample: SampleFn | None = None

    def __post_init__(self):
        for name, signature in (
            ("log_joint", "`(x, z) -> []`"),
            ("start", "`x -> Posterior`"),
            ("sample", "`key -> (x, z)`"),
        ):
            fn = getattr(self, name)
            if name == "sample" and fn is None:
                continue
            checks.function(name, fn, signature)
            object.__setattr__(self, name, _as_partial(name, fn))

    @property
    def functions(self) -> tuple[Partial, Partial]:
        """`log_joint` and `start`, as compiled programs take them."""
        return self.log_joint, self.start

    @classmethod
    def of(
        cls,
        model: Model,
        params: Params,
        *,
        start: str = "posterior",
        force_precision: str = "float32",
        contexts: PyTree | None = None,
    ) -> "Target":
        """Makes one of a model at its parameters.

        Args:
          model: the model.
          params: its parameters.
          start: "posterior" or, where that is not trained, "prior".
          force_precision: of the gradients of log p(x, z), see `forces.log_joint_fn`.
          contexts: `[N, ...]` data; of a conditional model `sample` draws the part that it
            predicts, for one of them, and without them it has no `sample`. Of a model that takes
            missing values its draws lack what one of them lacks, and without them nothing.

        Raises:
          ValueError: for another start, or a precision that the model has not.
        """
        if start not in STARTS:
            raise ValueError(f"`start` must be one of {', '.join(STARTS)}; got {start!r}.")
        if start == "posterior":
            start_fn = Partial(model.posterior, params.phi)
        else:
            checks.given("model.prior", model.prior, "chains are to start from it")
            start_fn = Partial(model.prior, params.theta)
        log_joint = Partial(forces.log_joint_fn(model, force_precision), params.theta)
        return cls(log_joint, start_fn, _sample_of(model, params.theta, contexts))


def _as_partial(name: str, fn: Callable) -> Partial:
    """`fn` as a pytree; raises TypeError for one that binds anything but numbers."""
    if not isinstance(fn, Partial):
        _warn_of_copies(name, fn)
        return Partial(fn)
    for path, leaf in jax.tree_util.tree_flatten_with_path(fn)[0]:
        if not (hasattr(leaf, "dtype") or isinstance(leaf, int | float | complex)):
            raise TypeError(
                f"`{name}` is a `Partial` of {checks.describe(leaf)} at "
                f"{jax.tree_util.keystr(path)}, and may bind arrays only; bind the rest by a "
                "`lambda` or `functools.partial` inside."
            )
    return fn


def _warn_of_copies(name: str, fn: Callable) -> None:
    """Warns at the third function of one code: each is compiled anew, and kept."""
    code = getattr(fn, "__code__", None)
    if code is None or not getattr(fn, "__closure__", None):
        return
    seen = _copies.setdefault(code, weakref.WeakSet())
    is_new = fn not in seen
    seen.add(fn)
    if is_new and len(seen) == _MOST_COPIES:
        warnings.warn(
            f"`{name}` ({fn.__qualname__}) is the third function of the same code: each takes "
            "seconds to compile and its program stays in memory. Make one function of what "
            f"changes too, and bind that: `jax.tree_util.Partial({name}, arrays)`.",
            stacklevel=5,
        )


def _sample_of(model: Model, theta: PyTree, contexts: PyTree | None) -> Partial | None:
    """Exact draws of a model; None of one that has none."""
    if model.sample is None:
        return None
    # Functions that are one and the same for a model: its next target is compiled already.
    if not model.is_conditional and (contexts is None or not model.takes_missing):
        return Partial(_sample, Partial(model.sample), theta)
    if contexts is None:
        return None
    return Partial(_sample_of_one, Partial(model.sample), theta, jnp.asarray(contexts))


def _sample(sample: Partial, theta: PyTree, key: chex.PRNGKey) -> tuple[PyTree, chex.Array]:
    return sample(key, theta, None)


def _sample_of_one(
    sample: Partial, theta: PyTree, contexts: chex.Array, key: chex.PRNGKey
) -> tuple[PyTree, chex.Array]:
    """Draws for one of the contexts: what a conditional model predicts, or with its gaps."""
    which_key, sample_key = jax.random.split(key)
    x = contexts[jax.random.randint(which_key, (), 0, len(contexts))]
    return sample(sample_key, theta, x)
