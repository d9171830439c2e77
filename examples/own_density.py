"""Anneals from a wide normal to a ring, and estimates the ring's normalizing constant."""

import math

import jax
import jax.numpy as jnp

from aiwae_jax import ais, weights

NUM_CHAINS = 2000


def log_wide(z):
    """A normal of standard deviation 3 in the plane: normalized, and easy to draw from."""
    return jnp.sum(-0.5 * (z / 3.0) ** 2 - math.log(3.0 * math.sqrt(2.0 * math.pi)))


def log_ring(z):
    """An unnormalized ring of radius 3 and width 0.3."""
    return -0.5 * ((jnp.linalg.norm(z) - 3.0) / 0.3) ** 2


def main():
    """Prints the estimate beside the exact value."""

    def chain(key):
        start_key, chain_key = jax.random.split(key)
        start = 3.0 * jax.random.normal(start_key, (2,))
        betas = ais.linear_schedule(100)
        return ais.run_chain(chain_key, start, log_wide, log_ring, betas, step_sizes=0.2)

    keys = jax.random.split(jax.random.key(0), NUM_CHAINS)
    z, log_weights, info = jax.jit(jax.vmap(chain))(keys)
    # ∫ exp(-(r-3)²/(2·0.3²)) 2πr dr, where the cut at r = 0 is ten standard deviations away
    exact = math.log(2.0 * math.pi * 3.0 * 0.3 * math.sqrt(2.0 * math.pi))
    print(f"log Z: {weights.log_mean_exp(log_weights):.3f}, exactly {exact:.3f}")
    print(f"effective sample size {weights.effective_sample_size(log_weights):.0f} of {NUM_CHAINS}")
    print(f"acceptance {info.acceptance.mean():.2f}, mean radius {jnp.hypot(*z.T).mean():.2f}")


if __name__ == "__main__":
    main()
