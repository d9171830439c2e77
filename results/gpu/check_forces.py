"""Are weights still proper when the forces are coarse? E[w] against p(x) by quadrature.

    python results/gpu/check_forces.py

A Bernoulli decoder of the paper's widths (2 -> 200 -> 200 -> 784), weights twice their usual
size, two latents, so that p(x) is a sum over a grid, in float64 on the CPU.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import models, samplers

NUM_CHAINS, NUM_ROUNDS = 20_000, 50
GRID = np.linspace(-7.0, 7.0, 561)


def exact_log_evidence(theta, x):
    """Log of the sum over a grid, in float64."""
    z = np.stack(np.meshgrid(GRID, GRID, indexing="ij"), -1).reshape(-1, 2)
    values = []
    for part in np.array_split(z, 40):
        h = part
        for layer in (theta["hidden"][0], theta["hidden"][1]):
            h = np.tanh(h @ np.float64(layer["kernel"]) + np.float64(layer["bias"]))
        head = theta["heads"][0]
        logits = h @ np.float64(head["kernel"]) + np.float64(head["bias"])
        log_likelihood = (x * logits - np.logaddexp(0.0, logits)).sum(1)
        values.append(log_likelihood - 0.5 * (part**2 + np.log(2 * np.pi)).sum(1))
    values = np.concatenate(values) + 2 * np.log(GRID[1] - GRID[0])
    return values.max() + np.log(np.exp(values - values.max()).sum())


def main():
    """Prints a line for each precision and chain space."""
    model = models.bernoulli_vae(
        784, 2, hidden_sizes=(200, 200), mean_image=np.full(784, 0.13, np.float32)
    )
    params = model.init(jax.random.key(3))
    theta = jax.tree.map(lambda a: 2.0 * a if a.ndim == 2 else a, params.theta)
    params = params._replace(theta=theta)
    x, _ = model.sample(jax.random.key(4), theta)
    exact = exact_log_evidence(jax.device_get(theta), np.float64(x))
    print(f"exact log p(x) {exact:.4f}", flush=True)
    rows = []
    for space in ("latent", "base"):
        for precision in ("float32", "tensorfloat32", "bfloat16"):
            began = time.time()
            sampler = samplers.annealed(
                *(model, 1, 12, 5),
                chain_space=space,
                force_precision=precision,
                initial_step_size=0.1 if space == "latent" else 0.3,
            )

            @jax.jit
            def draw(key, sampler=sampler):
                keys = jax.random.split(key, NUM_CHAINS)
                return jax.vmap(
                    lambda key: [
                        part._replace(posterior=None) if i == 0 else part
                        for i, part in enumerate(sampler.draw(key, params, x, sampler.init()))
                    ]
                )(keys)

            log_weights, acceptance = [], []
            for round_number in range(NUM_ROUNDS):
                particles, info = draw(jax.random.fold_in(jax.random.key(5), round_number))
                log_weights.append(np.asarray(particles.log_weights, np.float64).ravel())
                acceptance.append(float(jnp.mean(info["acceptance"])))
            weights = np.exp(np.concatenate(log_weights) - exact)
            error = weights.std(ddof=1) / len(weights) ** 0.5
            rows.append(
                {
                    "chain_space": space,
                    "force_precision": precision,
                    "mean_weight_over_evidence": weights.mean(),
                    "standard_error": error,
                    "z_score": (weights.mean() - 1.0) / error,
                    "acceptance": float(np.mean(acceptance)),
                    "effective_share": float(
                        weights.sum() ** 2 / (weights**2).sum() / len(weights)
                    ),
                }
            )
            print(json.dumps(rows[-1]), f"{time.time() - began:.1f} s", flush=True)
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
