"""The evidence of a NumPyro model, measured from its prior in unconstrained space.

Latent sites are mapped to all of R^D by NumPyro's own bijections, and their log Jacobians belong to
the prior: log p(z) = Σ log p(site) + log|det ∂site/∂z|, the same in the joint. So the prior stays
normalized, draws of it are the model's own, and the evidence is that of the constrained model.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from aiwae_jax import checks, evaluate
from aiwae_jax.bridges.sites import (
    bijection,
    is_drawn_as_it_is,
    is_factor,
    is_latent,
    is_observed,
    refuse,
)
from aiwae_jax.runs import extras
from aiwae_jax.types import PyTree

_KEPT_MODELS = 16
_WITHOUT_DATA = {"nothing": np.zeros((), np.float32)}  # the datum of a model of factors alone


@dataclasses.dataclass(frozen=True, eq=False)
class NumPyroTarget(evaluate.Target):
    """What `evaluate` measures, of a NumPyro model, with its data.

    Attributes:
      x: the values of the observed sites by their names, one datum: `[1, ...]` each. Others of the
        same shapes may be stacked, and each has an evidence of its own.
      sites: `z -> {name: value}`, the latent sites as the model has them, at a position `[D]`.
    """

    x: PyTree = None
    sites: Callable[[chex.Array], dict[str, chex.Array]] | None = None


class Prior(NamedTuple):
    """A model's prior, in unconstrained space.

    Attributes:
      draw: `key -> [D]`.
      log_density: `[D] -> []`, nats, normalized.
    """

    draw: Callable[[chex.PRNGKey], chex.Array]
    log_density: Callable[[chex.Array], chex.Array]

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws z `[D]`: latent sites by the model, mapped to all of R^D."""
        return self.draw(key)

    def log_prob(self, z: chex.Array) -> chex.Array:
        """Log density `[]` at z `[D]`, nats."""
        return self.log_density(z)


def numpyro(model: Callable[..., Any], *args: Any, **kwargs: Any) -> NumPyroTarget:
    """Makes the target of a model's log evidence: `log_likelihood(key, target, target.x)`.

    Chains start from the prior. `target.sample` draws data and latents by the model, for bounds
    from both sides; it is None where that is not all that was observed: with factors, scaled or
    masked data, `scan`, and data of another shape than their distribution's.

    Args:
      model: a function of NumPyro's primitives, whose observed sites hold the data.
      *args: its arguments. Arrays become arguments of the compiled program, and the model cannot
        look at their values; anything else it can.
      **kwargs: likewise.

    Raises:
      ImportError: if NumPyro is missing.
      TypeError: if `model` is no function, or looks at the values of arrays.
      ValueError: for what has no evidence, or none that continuous chains can find: discrete or
        deterministic latents, improper priors, masked or scaled ones, parameters without a prior,
        plates that are subsampled, and models without latents.
    """
    checks.function("model", model, "of NumPyro's primitives")
    extras.require("`bridges.numpyro`", ["numpyro"], extra="numpyro")
    leaves, structure = jax.tree.flatten((args, kwargs))
    is_array = tuple(isinstance(leaf, np.ndarray | jax.Array) for leaf in leaves)
    arrays = [leaf for leaf, is_one in zip(leaves, is_array, strict=True) if is_one]
    others = tuple(leaf for leaf, is_one in zip(leaves, is_array, strict=True) if not is_one)
    try:
        program = _kept_program(model, structure, is_array, others)
    except TypeError:  # what cannot be hashed is compiled anew
        program = _program(model, structure, is_array, others)

    found = program.trace(arrays, jax.random.key(0)).values()
    if not any(map(is_latent, found)):
        raise ValueError("`model` must have latent sites, over which to integrate; got none.")
    observed = [site for site in found if is_observed(site)]
    data = {
        site["name"]: jnp.asarray(site["value"]) for site in observed if not is_factor(site)
    } or _WITHOUT_DATA
    has_sample = bool(observed) and all(map(is_drawn_as_it_is, observed))
    target = NumPyroTarget(
        Partial(program.log_joint, arrays),
        Partial(program.prior, arrays),
        Partial(program.sample, arrays) if has_sample else None,
        x=jax.tree.map(lambda value: np.asarray(value)[None], data),
        sites=Partial(program.sites, arrays, data),
    )
    given = "the arrays among its arguments traced, at whose values it cannot look"
    checks.shape_of(
        "model",
        lambda arrays, data, key: program.prior(arrays, data).sample(key),
        *(arrays, data, jax.random.key(0)),
        given=given,
    )
    return target


class _Program(NamedTuple):
    """Functions of a model and the arrays among its arguments.

    Attributes:
      trace: `(arrays, key) -> {name: site}`.
      log_joint: `(arrays, x, z) -> []`.
      prior: `(arrays, x) -> Prior`.
      sample: `(arrays, key) -> (x, z)`.
      sites: `(arrays, x, z) -> {name: value}`.
    """

    trace: Callable[..., Any]
    log_joint: Callable[..., Any]
    prior: Callable[..., Any]
    sample: Callable[..., Any]
    sites: Callable[..., Any]


def _program(model: Callable, structure: Any, is_array: tuple, others: tuple) -> _Program:
    """The functions of a model with these arguments, of which `others` are no arrays."""
    from numpyro import handlers
    from numpyro.infer import util

    def arguments(arrays):
        ours, theirs = iter(arrays), iter(others)
        leaves = [next(ours) if is_one else next(theirs) for is_one in is_array]
        return jax.tree.unflatten(structure, leaves)

    def of_data(x):
        return handlers.condition(model, data=jax.tree.map(jnp.asarray, x))  # for `scan` to index

    def trace(arrays, key, model=model):
        args, kwargs = arguments(arrays)
        looked_at = handlers.substitute(handlers.seed(model, key), substitute_fn=refuse)
        return handlers.trace(looked_at).get_trace(*args, **kwargs)

    def unconstrained(sites):
        latent = {name: site for name, site in sites.items() if is_latent(site)}
        return {name: bijection(site).inv(site["value"]) for name, site in latent.items()}

    def both(arrays, x, z):
        like = jax.eval_shape(lambda: unconstrained(trace(arrays, jax.random.key(0))))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
        position = ravel_pytree(zeros)[1](z)
        return position, util.constrain_fn(of_data(x), *arguments(arrays), position)

    def log_probs(arrays, x, z):
        position, values = both(arrays, x, z)
        found, sites = util.compute_log_probs(of_data(x), *arguments(arrays), values)
        log_dets = [
            jnp.sum(bijection(sites[name]).log_abs_det_jacobian(position[name], value))
            for name, value in values.items()
        ]
        log_prior = sum(log_dets) + sum(found[name] for name in values)
        return log_prior, sum(found[name] for name in found if name not in values)

    def log_joint(arrays, x, z):
        return sum(log_probs(arrays, x, z))

    def prior(arrays, x):
        return Prior(
            lambda key: ravel_pytree(unconstrained(trace(arrays, key, of_data(x))))[0],
            lambda z: log_probs(arrays, x, z)[0],
        )

    def sample(arrays, key):
        key, latent_key = jax.random.split(key)
        drawn = {}

        def draw(site):
            if not is_observed(site):
                return None
            value = site["fn"].sample(jax.random.fold_in(key, len(drawn)))
            drawn[site["name"]] = value.astype(jnp.result_type(site["value"]))
            return drawn[site["name"]]

        sites = trace(arrays, latent_key, handlers.condition(model, condition_fn=draw))
        return drawn, ravel_pytree(unconstrained(sites))[0]

    return _Program(trace, log_joint, prior, sample, lambda *given: both(*given)[1])


# The same functions for the same model: its next data need no new compilation.
_kept_program = functools.lru_cache(maxsize=_KEPT_MODELS)(_program)
