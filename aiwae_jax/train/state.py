"""The state that training carries from step to step, and how it begins."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax.train.optimizers import Optimizers, averaged
from aiwae_jax.types import Method, Model, Params, Phase, PyTree


class Kept(NamedTuple):
    """What a persistent sampler has of a datum from visit to visit.

    Attributes:
      z: `[K, D]` latents, as the last visit left them.
      is_begun: `[]` bool, whether they are of the datum as it is now; where they are not, the
        sampler begins anew.
    """

    z: chex.Array
    is_begun: chex.Array


class TrainState(NamedTuple):
    """Everything that training carries from step to step.

    Random keys are not part of it: each step folds its number into one root key.

    Attributes:
      step: `[]` int, steps done.
      params: the model's parameters.
      opt_states: `Params` of optimizer states.
      sampler_states: one state per phase (step sizes, say).
      kept: of phases with a persistent sampler, by name, what they have of each datum: a `Kept`
        with a leading axis. In a `LoopState` that is all N of the data, in the state that a step by
        itself takes the B of its batch; in a run of several legs there is one for each leg. Empty
        where nothing is kept.
    """

    step: chex.Array
    params: Params
    opt_states: Params
    sampler_states: tuple[PyTree, ...]
    kept: dict[str, Kept] | tuple = ()

    @property
    def weights(self) -> Params:
        """The parameters to be measured and shown: their average, where one is kept."""
        return averaged(self.params, self.opt_states)


def init_state(
    key: chex.PRNGKey, model: Model, method: Method, optimizers: Optimizers
) -> TrainState:
    """Fresh parameters, optimizer states and sampler states.

    All of it is copied: the state shares no memory with what `model.init` returns, so that a step
    may take the state's memory for the next one.

    Raises:
      TypeError: if `method`, `optimizers` or what `model.init` returns is something else.
    """
    check_parts(method, optimizers)
    model_key, psi_key = jax.random.split(key)
    params = model.init(model_key)
    if not isinstance(params, Params):
        raise TypeError(
            f"`model.init` must return `types.Params(theta, phi)`, got {type(params).__name__}."
        )
    psi = {}
    for i, phase in enumerate(method):
        psi |= phase.init_params(jax.random.fold_in(psi_key, i))
    if psi:
        params = params._replace(psi=psi)
    params = jax.tree_util.tree_map_with_path(_owned, params)
    opt_states = Params(*(tx.init(p) for tx, p in zip(optimizers, params, strict=True)))
    sampler_states = tuple(phase.sampler.init() for phase in method)
    opt_states, sampler_states = jax.tree_util.tree_map_with_path(
        _owned, (opt_states, sampler_states)
    )
    return TrainState(jnp.zeros((), jnp.int32), params, opt_states, sampler_states)


def _owned(path, leaf: Any) -> chex.Array:
    """A copy of its own: a stored bias, or a buffer of two leaves, could be donated only once.

    Strongly typed: a weakly typed leaf would become strong in the first step, and compile the
    second anew.
    """
    if jnp.issubdtype(getattr(leaf, "dtype", np.dtype(object)), jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            jnp.array(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf)
        )
    try:
        return jnp.array(leaf, jax.dtypes.canonicalize_dtype(jax.dtypes.result_type(leaf)))
    except TypeError as error:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        raise TypeError(
            f"Parameters and states must be arrays only, but {name} is {leaf!r:.60} "
            f"({type(leaf).__name__}); keep what is no parameter in the model's functions."
        ) from error


def check_method(method: Method) -> None:
    """Raises TypeError or ValueError unless it is a tuple of phases, at least one."""
    if not isinstance(method, tuple) or not all(isinstance(part, Phase) for part in method):
        raise TypeError(
            f"`method` must be a tuple of phases, as `methods.aiwae(...)` or "
            f"`(types.phase(...),)` makes one; got {type(method).__name__}."
        )
    if not method:
        raise ValueError("`method` must have at least one phase, got an empty tuple.")


def check_parts(method: Method, optimizers: Optimizers) -> None:
    """Refuses what is no method, and what are no optimizers."""
    check_method(method)
    if not isinstance(optimizers, Params) or not all(
        hasattr(tx, "init") and hasattr(tx, "update") for tx in optimizers
    ):
        raise TypeError(
            "`optimizers` must be `types.Params` of three optax transformations, as "
            f"`train.adam(1e-3)` or `Params(tx, tx, tx)` makes them; got "
            f"{type(optimizers).__name__}."
        )


def phase_names(method: Method) -> list[str]:
    """Names phases in their order, by what they move; by number too where two move the same."""
    names = ["+".join(phase.updates) for phase in method]
    return [f"{i}:{name}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def check_not_taken(state: TrainState) -> None:
    """Refuses a state whose memory an earlier step has taken."""
    if isinstance(state.step, jax.Array) and state.step.is_deleted():
        raise ValueError(
            "`state` has been given to a step before, which took its memory; go on with the state "
            "that it returned, or keep a copy, `jax.tree.map(jnp.copy, state)`."
        )
