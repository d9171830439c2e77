"""Builders of `Model`s: one or two stochastic layers under Bernoulli pixels."""

import functools
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import checks, distributions, networks, support
from aiwae_jax.models import flows
from aiwae_jax.recipe import of_model
from aiwae_jax.types import LogJointFn, Model, Params, Posterior, PyTree

# name -> (initialization of the linear layers, whether the decoder's output bias starts at the
# logit of the mean training image)
INITIALIZATIONS = {
    "torch_mean_bias": ("torch", True),
    "torch": ("torch", False),
    "glorot_mean_bias": ("glorot", True),
}


_FLOW_TAG = 0x666C6F77  # networks fold small counts into their key


def mean_image_logits(mean_image: chex.Array) -> chex.Array:
    """Logits `[X]` of the mean training image, clipped to [0.001, 0.999] as in the IWAE code."""
    probabilities = jnp.clip(jnp.asarray(mean_image, float), 0.001, 0.999)
    return jnp.log(probabilities) - jnp.log1p(-probabilities)


def output_bias(
    initialization: str, mean_image: chex.Array | None, data_size: int
) -> tuple[str, chex.Array | None]:
    """How linear layers are initialized, and the bias that the decoder's output starts with."""
    if initialization not in INITIALIZATIONS:
        raise ValueError(
            f"`initialization` must be one of {sorted(INITIALIZATIONS)}, got {initialization!r}."
        )
    linear, with_mean_bias = INITIALIZATIONS[initialization]
    if not with_mean_bias:
        return linear, None
    if mean_image is None:
        raise ValueError(f"`initialization` {initialization!r} needs `mean_image`, got None.")
    if np.shape(mean_image) != (data_size,):
        raise ValueError(
            f"`mean_image` must have shape [{data_size}], got {list(np.shape(mean_image))}."
        )
    if support.is_concrete(mean_image):
        low, high = np.min(mean_image), np.max(mean_image)
        if not 0.0 <= low <= high <= 1.0:  # nor NaN
            raise ValueError(
                f"`mean_image` must lie within [0, 1], got values from {low:.4g} to {high:.4g}; it "
                "is the mean of the training images divided by their level of white."
            )
    return linear, mean_image_logits(mean_image)


def _check_sizes(data_size: int, latent_size: int, hidden_sizes: Sequence[int]) -> None:
    sizes = {"data_size": data_size, "latent_size": latent_size}
    if not isinstance(hidden_sizes, Sequence):
        raise TypeError(
            "`hidden_sizes` must list the units of each layer, as (200, 200); got "
            f"{hidden_sizes!r}."
        )
    sizes |= {f"hidden_sizes[{i}]": size for i, size in enumerate(hidden_sizes)}
    for name, size in sizes.items():
        checks.integer(name, size, least=1)


@of_model
def bernoulli_vae(
    data_size: int,
    latent_size: int,
    *,
    hidden_sizes: Sequence[int] = (200, 200),
    mean_image: chex.Array | None = None,
    initialization: str = "torch_mean_bias",
    posterior: str = "normal",
    **flow_options: Any,
) -> Model:
    """The model of the paper (supplement A): z ~ N(0, I), p(x|z) Bernoulli, q(z|x) diagonal normal.

    Both networks have tanh hidden layers; σ(x) = exp(linear).

    Args:
      data_size: X, the number of pixels.
      latent_size: D.
      hidden_sizes: hidden layers of the decoder; the encoder has the same in reverse order.
      mean_image: `[X]` mean of the training images in [0, 1]; needed by the `*_mean_bias`
        initializations.
      initialization: a key of `INITIALIZATIONS`.
      posterior: the family of q, a key of `flows.FAMILIES`.
      **flow_options: `num_layers` of a flow.

    Raises:
      ValueError: for an unknown initialization or family, a layer without units, or a `mean_image`
        that is missing, of another shape, or not within [0, 1].
    """
    _check_sizes(data_size, latent_size, hidden_sizes)
    linear, bias = output_bias(initialization, mean_image, data_size)
    if posterior not in flows.FAMILIES:
        raise ValueError(f"`posterior` must be one of {sorted(flows.FAMILIES)}, got {posterior!r}.")
    family = flows.FAMILIES[posterior](latent_size, **flow_options)
    decoder = networks.mlp(latent_size, hidden_sizes, [data_size], linear=linear, output_bias=bias)
    encoder = networks.mlp(
        data_size, tuple(reversed(hidden_sizes)), family.head_sizes, linear=linear
    )

    def init(key: chex.PRNGKey) -> Params:
        theta_key, phi_key = jax.random.split(key)
        encoder_params = encoder.init(phi_key)
        flow_params = family.init(jax.random.fold_in(phi_key, _FLOW_TAG))
        phi = {"encoder": encoder_params, "flow": flow_params} if flow_params else encoder_params
        return Params(theta=decoder.init(theta_key), phi=phi)

    def prior(theta: PyTree, x: PyTree = None) -> distributions.DiagNormal:
        del theta, x
        return distributions.standard_normal(latent_size)

    def likelihood(theta: PyTree, z: chex.Array, precision: str = "float32"):
        return distributions.Bernoulli(*decoder.apply(theta, z, precision))

    def encode(phi: PyTree, x: chex.Array) -> Posterior:
        chex.assert_rank(x, 1)
        encoder_params = phi["encoder"] if "flow" in phi else phi
        return family.build(phi.get("flow", {}), *encoder.apply(encoder_params, x))

    return _model(
        init, prior, likelihood, encode, data_size=data_size, has_density=family.has_density
    )


@of_model
def two_layer_vae(
    data_size: int,
    latent_size: int,
    *,
    hidden_sizes: Sequence[int] = (200, 200),
    mean_image: chex.Array | None = None,
    initialization: str = "torch_mean_bias",
) -> Model:
    """The IWAE paper's model of two stochastic layers (Burda et al. 2015, section 5 and Figure 3).

    h2 ~ N(0, I) `[D]`, p(h1|h2) diagonal normal `[2D]`, p(x|h1) Bernoulli; q(h1|x) q(h2|h1), both
    diagonal normal. The networks between h1 and h2 have half the hidden units. There D = 50 and the
    hidden layers are 200 and 100 wide. The latent is z = (h1, h2) `[3D]`.

    Args:
      data_size: X.
      latent_size: D, of the upper layer.
      hidden_sizes: of the networks between x and h1.
      mean_image: as in `bernoulli_vae`.
      initialization: as in `bernoulli_vae`.

    Raises:
      ValueError: as `bernoulli_vae`.
    """
    _check_sizes(data_size, latent_size, hidden_sizes)
    linear, bias = output_bias(initialization, mean_image, data_size)
    lower, upper = 2 * latent_size, latent_size
    upper_hidden = [max(size // 2, 1) for size in hidden_sizes]
    mlp = functools.partial(networks.mlp, linear=linear)
    decoder = mlp(lower, hidden_sizes, [data_size], output_bias=bias)
    lower_prior = mlp(upper, upper_hidden, [lower, lower])
    lower_encoder = mlp(data_size, tuple(reversed(hidden_sizes)), [lower, lower])
    upper_encoder = mlp(lower, tuple(reversed(upper_hidden)), [upper, upper])

    def init(key: chex.PRNGKey) -> Params:
        keys = jax.random.split(key, 4)
        return Params(
            theta={"decoder": decoder.init(keys[0]), "h1": lower_prior.init(keys[1])},
            phi={"h1": lower_encoder.init(keys[2]), "h2": upper_encoder.init(keys[3])},
        )

    def diag_normal(network, params, inputs):
        loc, log_scale = network.apply(params, inputs)
        return distributions.DiagNormal(loc, jnp.exp(log_scale))

    lower_given = functools.partial(diag_normal, lower_prior)
    upper_given = functools.partial(diag_normal, upper_encoder)

    def prior(theta: PyTree, x: PyTree = None) -> flows.Chained:
        """h2 first, then h1, of which it is the condition."""
        del x
        return flows.Chained(
            distributions.standard_normal(upper),
            Partial(lower_given, theta["h1"]),
            sizes=(upper, lower),
            is_reversed=True,
        )

    def likelihood(theta: PyTree, z: chex.Array, precision: str = "float32"):
        return distributions.Bernoulli(*decoder.apply(theta["decoder"], z[:lower], precision))

    def encode(phi: PyTree, x: chex.Array) -> flows.Chained:
        chex.assert_rank(x, 1)
        q1 = diag_normal(lower_encoder, phi["h1"], x)  # once per datum
        return flows.Chained(q1, Partial(upper_given, phi["h2"]), sizes=(lower, upper))

    return _model(init, prior, likelihood, encode, data_size=data_size, has_density=True)


def _model(init, prior, likelihood, posterior, *, data_size: int, has_density: bool) -> Model:
    """A model from its prior, its likelihood (in any precision) and its posterior."""

    def log_joint(
        theta: PyTree, x: chex.Array, z: chex.Array, precision: str = "float32"
    ) -> chex.Array:
        chex.assert_rank([x, z], 1)
        return likelihood(theta, z, precision).log_prob(x) + prior(theta).log_prob(z)

    def sample(key: chex.PRNGKey, theta: PyTree, x: PyTree = None) -> tuple[chex.Array, chex.Array]:
        del x
        z_key, x_key = jax.random.split(key)
        z = prior(theta).sample(z_key)
        return likelihood(theta, z).sample(x_key), z

    def log_joint_in(precision: str) -> LogJointFn:
        return functools.partial(log_joint, precision=precision)

    return Model(
        init,
        log_joint,
        posterior,
        prior,
        sample,
        likelihood,
        log_joint_in,
        has_posterior_density=has_density,
        check_data=functools.partial(support.check_pixels, num_pixels=data_size),
    )
