"""Particles on their way from a normal to a ring: `PYTHONPATH=. python results/gallery/ring.py`.

Writes ring.png beside it. The densities are those of examples/own_density.py; each panel has chains
of its own that were annealed so far, 50 temperatures a panel, and are drawn by their weights.
"""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aiwae_jax import ais, weights

_HERE = pathlib.Path(__file__).parent
_NUM_CHAINS = 1500
_BETAS = (0.0, 0.03, 0.2, 1.0)
# ∫ exp(-(r-3)²/(2·0.3²)) 2πr dr, as in the example
_EXACT = math.log(2.0 * math.pi * 3.0 * 0.3 * math.sqrt(2.0 * math.pi))


def log_wide(z):
    """A normal of standard deviation 3, normalized."""
    return jnp.sum(-0.5 * (z / 3.0) ** 2 - math.log(3.0 * math.sqrt(2.0 * math.pi)))


def log_ring(z):
    """An unnormalized ring of radius 3 and width 0.3."""
    return -0.5 * ((jnp.linalg.norm(z) - 3.0) / 0.3) ** 2


@jax.jit
def annealed(key, beta):
    """Positions `[N, 2]` and log weights `[N]` of chains that end at `beta` of the path."""

    def log_between(z):
        return (1.0 - beta) * log_wide(z) + beta * log_ring(z)

    def chain(key):
        start_key, chain_key = jax.random.split(key)
        start = 3.0 * jax.random.normal(start_key, (2,))
        betas = ais.linear_schedule(50)
        z, log_weight, _ = ais.run_chain(chain_key, start, log_wide, log_between, betas, 0.2)
        return z, log_weight

    return jax.vmap(chain)(jax.random.split(key, _NUM_CHAINS))


def main() -> None:
    """Entry point."""
    figure = Figure(figsize=(9, 2.7), layout="constrained")
    for axes, beta in zip(figure.subplots(1, len(_BETAS), sharey=True), _BETAS, strict=True):
        z, log_weights = annealed(jax.random.key(0), beta)
        share = np.asarray(weights.normalize(log_weights))
        axes.scatter(*np.asarray(z).T, s=4 * share * _NUM_CHAINS, color="#4361ee", alpha=0.5, lw=0)
        axes.set(xlim=(-9, 9), ylim=(-9, 9), aspect="equal", title=f"β = {beta:g}")
    estimate = float(weights.log_mean_exp(log_weights))
    figure.suptitle(f"log Z of the ring: {estimate:.3f} by these weights, exactly {_EXACT:.3f}")
    print(f"log Z {estimate:.3f}, exactly {_EXACT:.3f}")
    FigureCanvasAgg(figure)
    figure.savefig(_HERE / "ring.png", dpi=110)


if __name__ == "__main__":
    main()
