"""Densities whose value is exact and whose gradient is a stand-in: coarser, and cheaper.

Leapfrog with *any* deterministic force field is reversible and preserves volume. So a Metropolis
step on exact energies keeps the exact density invariant, and an annealed weight of exact densities
stays proper, however the gradients inside are rounded; only the acceptance can suffer.
"""

import chex
import jax
import jax.numpy as jnp

from aiwae_jax.types import ForceFn, LogDensityFn, LogJointFn, Model


def with_force(log_density_fn: LogDensityFn, force_fn: ForceFn) -> LogDensityFn:
    """`log_density_fn` with `force_fn` as its gradient, for HMC and annealing.

    Args:
      log_density_fn: `[D] -> []`, nats.
      force_fn: `[D] -> [D]`, a deterministic function of the position.

    Returns:
      `[D] -> []`, equal to `log_density_fn` bit for bit. It can be differentiated in z alone, not
      in parameters that the two functions close over.
    """

    @jax.custom_jvp
    def log_density(z: chex.Array) -> chex.Array:
        return log_density_fn(z)

    @log_density.defjvp
    def _(primals, tangents):
        (z,), (direction,) = primals, tangents
        value, force = log_density(z), force_fn(z)
        if jnp.shape(force) != z.shape:
            raise ValueError(
                f"`force_fn` must return the gradient, of shape {list(z.shape)} as the position, "
                f"got shape {list(jnp.shape(force))}."
            )
        return value, jnp.vdot(force, direction).astype(value.dtype)

    return log_density


def log_joint_fn(model: Model, precision: str) -> LogJointFn:
    """Makes log p_θ(x, z), in fp32, whose gradient in z is computed in `precision`.

    Args:
      model: the model.
      precision: "float32" for the exact gradient, or one that `model.log_joint_in` knows.

    Returns:
      `(theta, x, z) -> []`, nats; other gradients than that in z are zero unless `precision` is
      "float32".

    Raises:
      ValueError: if the model has no other precision.
    """
    if precision == "float32":
        return model.log_joint
    if model.log_joint_in is None:
        raise ValueError(
            f"`force_precision`={precision!r} needs a model with `log_joint_in`; use 'float32'."
        )
    coarse = model.log_joint_in(precision)

    def log_joint(theta, x, z):
        log_density = with_force(
            lambda z: model.log_joint(theta, x, z), jax.grad(lambda z: coarse(theta, x, z))
        )
        return log_density(z)

    return log_joint
