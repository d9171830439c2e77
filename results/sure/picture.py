"""Bounds that close in on a known log p(x): `PYTHONPATH=. python results/sure/picture.py`.

Writes closing_in.png beside it: 100 data of a linear-Gaussian model with 20 latents, 50 inputs and
noise of deviation 0.3, chains from the prior, 16 of each datum, by how many temperatures they have.
The exact log p(x) is a closed form.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aiwae_jax import distributions, evaluate

_HERE = pathlib.Path(__file__).parent
_NUM_DATA, _NUM_LATENTS, _NUM_INPUTS, _NOISE = 100, 20, 50, 0.3
_DELTA = 0.05
_TEMPERATURES = (20, 40, 80, 160, 320, 640, 1280, 2560)


def log_joint(weights, x, z):
    """Log p(z) + log p(x|z) of x = Wz + noise."""
    prior = distributions.standard_normal(_NUM_LATENTS)
    noise = jnp.full(_NUM_INPUTS, _NOISE)
    return prior.log_prob(z) + distributions.DiagNormal(weights @ z, noise).log_prob(x)


def start(x):
    """The prior."""
    return distributions.standard_normal(_NUM_LATENTS)


def sample(weights, key):
    """A datum and the latent that made it."""
    of_z, of_x = jax.random.split(key)
    z = jax.random.normal(of_z, (_NUM_LATENTS,))
    return weights @ z + _NOISE * jax.random.normal(of_x, (_NUM_INPUTS,)), z


def exact(weights: np.ndarray, x: np.ndarray) -> float:
    """Mean of log N(x; 0, W Wᵀ + σ²I), nats."""
    covariance = weights @ weights.T + _NOISE**2 * np.eye(_NUM_INPUTS)
    _, log_det = np.linalg.slogdet(2 * np.pi * covariance)
    squares = np.einsum("ni,ij,nj->n", x, np.linalg.inv(covariance), x)
    return float(-0.5 * (squares.mean() + log_det))


def main() -> None:
    """Entry point."""
    weights = 0.5 * jax.random.normal(jax.random.key(0), (_NUM_INPUTS, _NUM_LATENTS))
    target = evaluate.Target(Partial(log_joint, weights), start, Partial(sample, weights))
    key = jax.random.key(1)
    rows = []
    for num in _TEMPERATURES:
        settings = evaluate.Settings(num_temperatures=num, chain_space="latent")
        found = evaluate.bidirectional(key, target, settings, num_data=_NUM_DATA)
        unreliable = int((~found.forward.is_reliable).sum())
        rows.append((found.forward.mean, found.reverse.mean, unreliable))
        print(num, *(f"{value:.3f}" for value in rows[-1]), flush=True)

    # The very data that all these chains were about: they depend on the key alone.
    data_key = jax.random.split(key, 5)[0]
    x, _ = evaluate.simulation.draws(data_key, target.sample, _NUM_DATA)
    truth = exact(np.asarray(weights, np.float64), np.asarray(x, np.float64))
    print(f"exact {truth:.3f}")
    draw(np.array(rows), truth)


def draw(rows: np.ndarray, truth: float) -> None:
    """The picture of `[T, 3]`: lower and upper bound, and how many data are unreliable."""
    slack = np.log(1 / _DELTA) / _NUM_DATA
    estimate = f"estimate: a lower bound; certified with 95 % but for {slack:.2f} nats"
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    lower, upper, unreliable = rows.T
    axes.axhline(truth, color="black", linewidth=1, label="log p(x), exact")
    axes.plot(_TEMPERATURES, upper, "v-", color="#b5179e", label="upper bound (simulated data)")
    axes.plot(_TEMPERATURES, lower, "^-", color="#4361ee", label=estimate)
    axes.fill_between(_TEMPERATURES, lower, upper, color="#4361ee", alpha=0.12, label="the gap")
    axes.set_ylim(truth - 12, truth + 12)
    axes.set_ylabel("mean log p(x), nats")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    below.bar(_TEMPERATURES, unreliable, width=np.asarray(_TEMPERATURES) * 0.3, color="#e07a5f")
    below.set_ylim(0, _NUM_DATA)
    below.set_ylabel("unreliable\nof 100")
    below.set_xscale("log")
    below.set_xticks(_TEMPERATURES, [str(num) for num in _TEMPERATURES])
    below.minorticks_off()
    below.set_xlabel("temperatures")
    for each in (axes, below):
        each.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure)
    figure.savefig(_HERE / "closing_in.png", dpi=150)


if __name__ == "__main__":
    main()
