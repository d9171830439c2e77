"""The variational auto-encoder of any two networks, likelihood, prior and family of q."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, distributions
from aiwae_jax.likelihoods import Likelihood
from aiwae_jax.models import flows
from aiwae_jax.models.conditions import Condition, Conditional
from aiwae_jax.models.priors import Prior
from aiwae_jax.types import Distribution, LogJointFn, Model, Params, Posterior, PyTree

_FLOW_TAG = 0x666C6F77  # networks fold small counts into their key
_PRIOR_TAG = 0x7072696F


class Network(Protocol):
    """A network as two pure functions: one of `networks`, or a pair of your own."""

    def init(self, key: chex.PRNGKey) -> PyTree:
        """Makes the parameters, a pytree of arrays."""

    def apply(self, params: PyTree, inputs: chex.Array) -> chex.Array | tuple[chex.Array, ...]:
        """Applies them to one input; may take a `precision` too, for forces."""


def vae(
    encoder: Network,
    decoder: Network,
    *,
    likelihood: Likelihood,
    prior: Distribution | Callable[[PyTree, PyTree], Distribution] | Prior | None = None,
    posterior: str | Callable[..., Posterior] = "normal",
    latent_size: int | None = None,
    data_size: int | None = None,
    check_data: Callable[..., None] | None = None,
    condition: Likelihood | Sequence[Likelihood] | None = None,
    **flow_options: Any,
) -> Model:
    """Builds a variational auto-encoder: p(z) p(x|z) by a decoder, q(z|x) by an encoder.

    A module of Flax Linen is `networks.Network(lambda key: module.init(key, jnp.zeros(D)),
    module.apply)`; of Equinox, whose modules are their parameters, `networks.Network(build,
    lambda module, z: module(z))`.

    Args:
      encoder: x `[X]` -> what `posterior` is made of: a tuple of heads, μ `[D]` and log σ `[D]` for
        "normal", or one array `[2D]` of them side by side.
      decoder: z `[D]` -> what `likelihood` is made of.
      likelihood: from `likelihoods`, or of your own.
      prior: a distribution over z; or a `models.priors` one, which may learn; or a function of
        (theta, x), whose parameters are among the decoder's. By default N(0, I).
      posterior: the family of q, a key of `flows.FAMILIES`; or a function of phi and the outputs of
        the encoder.
      latent_size: D; networks of `networks` say it.
      data_size: X, where the likelihood learns something for each column; networks of `networks`
        say it.
      check_data: in the place of the likelihood's, which raises for data that it is not of.
      condition: what the last columns of x are, which are given and not modelled, a likelihood for
        each: of a category `likelihoods.categorical(3)`. The decoder is applied to z and, behind
        it, their `inputs`; the encoder to all of x.
      **flow_options: `num_layers` of a flow.

    Returns:
      The model. θ is the decoder's parameters, or {"decoder", "likelihood", "prior"} where the
      likelihood or the prior learns, too; φ the encoder's, or {"encoder", "flow"}.

    Raises:
      ValueError: for an unknown family, or a latent size that nothing says.
      TypeError: for networks without `init` and `apply`, or what is no likelihood.
    """
    for name, network in (("encoder", encoder), ("decoder", decoder)):
        if not (hasattr(network, "init") and hasattr(network, "apply")):
            raise TypeError(
                f"`{name}` must have `init(key)` and `apply(params, inputs)`, got "
                f"{checks.describe(network)}; use `networks.Network(init, apply)`."
            )
    if not isinstance(likelihood, Likelihood):
        raise TypeError(
            "`likelihood` must be a `likelihoods.Likelihood`, such as `likelihoods.normal()`, got "
            f"{checks.describe(likelihood)}."
        )
    # What is not given is standard.
    given = Condition.of(condition)
    size, num_columns = latent_size, data_size
    if size is None and getattr(decoder, "size_in", None) is not None:
        size = decoder.size_in - given.num_inputs
    if num_columns is None:
        num_columns = getattr(encoder, "size_in", None)
    if num_columns is not None:
        num_columns -= given.num_given
    if size is None and (prior is None or isinstance(posterior, str)):
        raise ValueError("`latent_size` must be given: this `decoder` has no `size_in` to say it.")
    own_prior = prior if isinstance(prior, Prior) else None
    if prior is None:
        prior = _ignoring_x(lambda: distributions.standard_normal(size))
    elif own_prior is not None:
        prior = _learned(own_prior)
    elif not callable(prior):
        prior = _ignoring_x(lambda given=prior: given)
    if isinstance(posterior, str):
        q = family(posterior, size, flow_options)
    else:
        q = flows.Family((), lambda key: {}, posterior, has_density=True)
        if flow_options:
            raise ValueError(f"`{next(iter(flow_options))}` is of a flow, and `posterior` is none.")
    # Without arrays, for building a model asks for no device.
    key_like = jax.eval_shape(lambda: jax.random.key(0))
    has_flow = bool(jax.tree.leaves(jax.eval_shape(q.init, key_like)))
    is_learned = bool(jax.tree.leaves(jax.eval_shape(lambda: likelihood.init(num_columns))))
    has_prior = own_prior is not None
    has_precision = "precision" in inspect.signature(decoder.apply).parameters

    def init(key: chex.PRNGKey) -> Params:
        theta_key, phi_key = jax.random.split(key)
        theta, phi = decoder.init(theta_key), encoder.init(phi_key)
        if is_learned or has_prior:
            theta = {"decoder": theta}
        if is_learned:
            theta["likelihood"] = likelihood.init(num_columns)
        if has_prior:
            theta["prior"] = own_prior.init(jax.random.fold_in(theta_key, _PRIOR_TAG))
        if has_flow:
            phi = {"encoder": phi, "flow": q.init(jax.random.fold_in(phi_key, _FLOW_TAG))}
        return Params(theta, phi)

    def data_given(theta: PyTree, z: chex.Array, precision: str = "float32") -> Any:
        params = theta["decoder"] if is_learned or has_prior else theta
        learned = theta["likelihood"] if is_learned else {}
        options = {"precision": precision} if has_precision else {}

        def of(*seen: chex.Array) -> Any:
            shown = jnp.concatenate(seen) if seen[1:] else z
            return likelihood.build(learned, *_as_tuple(decoder.apply(params, shown, **options)))

        if given.columns:
            return Conditional(lambda c: of(z, given.inputs(c)), given.num_given)
        return of(z)

    def posterior_of(phi: PyTree, x: chex.Array) -> Posterior:
        chex.assert_rank(x, 1)
        params, shared = (phi["encoder"], phi["flow"]) if has_flow else (phi, {})
        heads = _split(_as_tuple(encoder.apply(params, x)), q.head_sizes)
        return q.build(phi if callable(posterior) else shared, *heads)

    def log_joint(
        theta: PyTree, x: chex.Array, z: chex.Array, precision: str = "float32"
    ) -> chex.Array:
        chex.assert_rank([x, z], 1)
        return data_given(theta, z, precision).log_prob(x) + prior(theta, x).log_prob(z)

    def sample(key: chex.PRNGKey, theta: PyTree, x: PyTree = None) -> tuple[chex.Array, chex.Array]:
        z_key, x_key = jax.random.split(key)
        z = prior(theta, x).sample(z_key)
        found = data_given(theta, z)
        if likelihood.is_conditional or given.columns:
            checks.given("x", x, "a part of it is given, and the rest is drawn")
            found = found.given(x)
        drawn = found.sample(x_key)
        if likelihood.takes_missing and x is not None:
            drawn = jnp.where(jnp.isnan(x), jnp.nan, drawn)
        return drawn, z

    def log_joint_in(precision: str) -> LogJointFn:
        return functools.partial(log_joint, precision=precision)

    def check_rows(x: Any, *, name: str) -> None:
        likelihood.check(x[:, : -given.num_given], name=name)
        given.check(x, name=name)

    if check_data is None:
        check_data = check_rows if given.columns else likelihood.check_data
    return Model(
        init=init,
        log_joint=log_joint,
        posterior=posterior_of,
        prior=prior,
        sample=sample,
        likelihood=data_given,
        log_joint_in=log_joint_in if has_precision else None,
        has_posterior_density=q.has_density,
        check_data=check_data,
        takes_missing=likelihood.takes_missing,
        num_given=given.num_given,
    )


def _ignoring_x(build: Callable[[], Distribution]) -> Callable[[PyTree, PyTree], Distribution]:
    """A prior that learns nothing, of data of any kind."""

    def prior(theta: PyTree, x: PyTree = None) -> Distribution:
        del theta, x
        return build()

    return prior


def _learned(own: Prior) -> Callable[[PyTree, PyTree], Distribution]:
    """A prior of what it has learned."""

    def prior(theta: PyTree, x: PyTree = None) -> Distribution:
        del x
        return own.build(theta["prior"])

    return prior


def family(name: str, latent_size: int, options: dict[str, Any]) -> flows.Family:
    """A family of posteriors by its name.

    Raises:
      ValueError: for an unknown one.
    """
    if name not in flows.FAMILIES:
        raise ValueError(f"`posterior` must be one of {sorted(flows.FAMILIES)}, got {name!r}.")
    return flows.FAMILIES[name](latent_size, **options)


def _as_tuple(outputs: chex.Array | tuple[chex.Array, ...]) -> tuple[chex.Array, ...]:
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)


def _split(outputs: tuple[chex.Array, ...], sizes: tuple[int, ...]) -> tuple[chex.Array, ...]:
    """Heads of these sizes: the outputs, or what one output has of them side by side.

    Raises:
      ValueError: for outputs that are neither; NumPy would broadcast them.
    """
    if not sizes:
        return outputs
    if len(outputs) == 1 and outputs[0].shape == (sum(sizes),):
        return tuple(jnp.split(outputs[0], np.cumsum(sizes)[:-1]))
    found = [list(head.shape) for head in outputs]
    if found != [[size] for size in sizes]:
        raise ValueError(
            f"`encoder` must return heads of sizes {list(sizes)}, or one array [{sum(sizes)}] of "
            f"them side by side, got shapes {found}."
        )
    return outputs
