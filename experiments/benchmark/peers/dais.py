"""NumPyro's `AutoSemiDAIS` on an amortized auto-encoder: one SVI update at a time.

DAIS anneals a latent of each datum by uncorrected Hamiltonian steps and differentiates through
them, so that its ELBO trains model, base distribution and step sizes together. Amortized it is by
`local_guide`: the base distribution of each image's latent is the encoder's normal, its weights
parameters of the guide; step size, damping, mass matrix and temperatures are shared by all images
(`use_global_dais_params`). A batch is a plate of its own. All else are NumPyro's defaults.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import optax

from aiwae_jax import networks
from aiwae_jax.types import Params

NUM_STEPS = 8  # Hamiltonian steps, a gradient of log p(x, z) each, which are differentiated again


def decoder_of(theta: dict, latent_size: int) -> Callable[[dict, chex.Array], chex.Array]:
    """The paper's decoder as a function: its parameters and z `[D]` to logits `[X]`."""
    hidden = [theta["hidden"][i]["bias"].shape[0] for i in sorted(theta["hidden"])]
    data_size = theta["heads"][0]["bias"].shape[0]
    apply = networks.mlp(latent_size, hidden, [data_size]).apply
    return lambda theta, z: jnp.ravel(jnp.asarray(apply(theta, z)))


def program(
    params: Params,
    posterior: Callable[[dict, chex.Array], object],
    optimizer: optax.GradientTransformation,
    batch_size: int,
    latent_size: int,
    num_steps: int = NUM_STEPS,
):
    """NumPyro's SVI of a model that begins at `params`; its `update(state, x)` makes a step.

    Args:
      params: theta, phi.
      posterior: `(phi, x) -> q(z|x)`, a normal with independent coordinates.
      optimizer: of all parameters.
      batch_size: B.
      latent_size: D.
      num_steps: of each chain.

    Returns:
      The `SVI`, whose loss is minus the sum of the batch's bounds.
    """
    import numpyro
    from numpyro import distributions as dist
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoSemiDAIS

    decode = decoder_of(params.theta, latent_size)

    def model(x):
        theta = numpyro.param("theta", params.theta)
        with numpyro.plate("images", batch_size):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(latent_size), 1.0).to_event(1))
            logits = jax.vmap(decode, (None, 0))(theta, z)
            numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def local_guide(x):
        phi = numpyro.param("phi", params.phi)
        with numpyro.plate("images", batch_size):
            q = jax.vmap(lambda x: posterior(phi, x))(x)
            loc, scale = jax.vmap(lambda q: (q.mean(), q.stddev()))(q)
            numpyro.sample("z", dist.Normal(loc, scale).to_event(1))

    guide = AutoSemiDAIS(
        *(model, model, None, local_guide), K=num_steps, use_global_dais_params=True
    )
    return SVI(model, guide, optimizer, Trace_ELBO())


def params_of(svi, state) -> Params:
    """The parameters of a state of `program`."""
    found = svi.get_params(state)
    return Params(found["theta"], found["phi"])
