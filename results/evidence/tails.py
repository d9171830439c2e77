"""The tail index of plans, and errors: `PYTHONPATH=. python results/evidence/tails.py`.

All targets have 20 latents and log evidence 0, and start from N(0, I); one compiled program serves
all. It prints a table: the tail index of the plans, errors and stated ones of 16 chains, and
how many estimates would be called reliable without the index, and are with it.
"""

import argparse
import dataclasses
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import targets

from aiwae_jax import evaluate

SIZE = 20


def padded(log_density, size: int):
    """A density of the first latents, and N(0, 1) of the rest."""
    return lambda z: (
        log_density(z[:size]) + targets._log_normal(z[size:], 0.0, jnp.ones(SIZE - size))
    )


def cauchy(z):
    """Independent Cauchy variables."""
    return -jnp.sum(jnp.log1p(jnp.square(z)) + math.log(math.pi))


def rotated(z):
    """A normal of deviations 0.03 to 1 along directions that are no coordinates."""
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))
    axes = jnp.asarray(axes, jnp.float32)
    return targets._log_normal(axes @ z, 0.0, jnp.geomspace(0.03, 1.0, SIZE, dtype=z.dtype))


DENSITIES = {
    "20 Cauchy densities": cauchy,
    "funnel, D=10": padded(targets._funnel, 10),
    "Student t of 3 degrees, as wide as the start, D=5": padded(
        lambda z: targets._student(z, 3.0, 1.0), 5
    ),
    "Student t of 3 degrees, ten times narrower, D=5": padded(targets._student, 5),
    "banana, D=2": padded(targets._banana, 2),
    "normal, deviations 0.03 to 1, rotated, D=20": rotated,
    "normal, one direction twice as wide, D=20": lambda z: targets._log_normal(
        z, 0.0, jnp.ones(SIZE).at[0].set(2.0)
    ),
    "normal, deviation 0.3, D=20": lambda z: targets._log_normal(z, 0.5, jnp.full(SIZE, 0.3)),
}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num_keys", type=int, default=5)
    num_keys = parser.parse_args().num_keys
    branches = list(DENSITIES.values())
    target = evaluate.Target(lambda x, z: jax.lax.switch(x, branches, z), targets.unit_normal(SIZE))
    settings = evaluate.Settings(chain_space="latent")
    blind = dataclasses.replace(settings, largest_tail_index=1e9)
    warnings.simplefilter("ignore")  # what the verdicts say
    print("| | tail index | error, nats (stated) | reliable without it | reliable |")
    print("| --- | --- | --- | --- | --- |")
    for number, name in enumerate(DENSITIES):
        x, store = np.full(1, number, np.int32), {}
        found = [
            [
                evaluate.log_likelihood(jax.random.key(seed), target, x, each, store=store)
                for each in (settings, blind)
            ]
            for seed in range(num_keys)
        ]
        indices = [pair[0].plan.tail_index for pair in found]
        errors, stated = (
            np.array([getattr(pair[0], field)[0] for pair in found])
            for field in ("log_likelihood", "standard_errors")
        )
        counts = [sum(int(pair[which].is_reliable[0]) for pair in found) for which in (1, 0)]
        print(
            f"| {name} | {min(indices):.2f} to {max(indices):.2f} | {errors.mean():+.2f} "
            f"({np.sqrt(np.mean(stated**2)):.2f}) | {counts[0]} of {num_keys} | "
            f"{counts[1]} of {num_keys} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
