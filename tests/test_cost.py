"""The count of matrix products against counts by hand."""

import jax
import jax.numpy as jnp
import pytest

from aiwae_jax import data
from experiments import cost, flags

DIGITS = data.load("digits")
# Products of one decoder pass and one encoder pass at the default sizes.
DECODER = 2.0 * (50 * 200 + 200 * 200 + 200 * 64)
ENCODER = 2.0 * (64 * 200 + 200 * 200 + 200 * 100)
# All but the encoder's first layer is differentiated in its input, too.
ENCODER_STEP = 3 * ENCODER - 2.0 * 64 * 200


def cost_of(*arguments):
    return cost.of(flags.parse_run(["run", "--dataset=digits", *arguments]).training, DIGITS)


def test_products_in_loops_and_branches_are_counted():
    matrix = jnp.ones((3, 4))

    def fn(flag, x):
        x = jax.lax.fori_loop(0, 5, lambda _, y: matrix.T @ (matrix @ y), x)
        return jax.lax.cond(flag, lambda y: matrix @ y, lambda y: y[:3], x)

    assert cost.operations(jax.jit(fn), True, jnp.ones(4)) == 5 * 2 * 24.0 + 24.0
    batched = jax.vmap(fn, (None, 0))
    assert cost.operations(batched, True, jnp.ones((7, 4))) == 7 * (5 * 2 * 24.0 + 24.0)


def test_what_is_computed_twice_counts_once_and_what_is_not_used_not_at_all():
    matrix = jnp.ones((3, 4))

    def fn(x):
        unused = matrix @ (2.0 * x)
        del unused
        return jax.jit(lambda y: matrix @ y)(x) + jax.nn.relu(matrix @ x) + matrix @ (x + 1.0)

    assert cost.operations(fn, jnp.ones(4)) == 2 * 24.0


def test_sticking_the_landing_costs_what_iwae_costs():
    assert cost_of("--method=stl").step == cost_of("--method=iwae").step


def test_a_loop_of_unknown_length_is_refused():
    def fn(n, x):
        return jax.lax.fori_loop(0, n, lambda _, y: y @ y, x)

    with pytest.raises(ValueError, match="unknown length"):
        cost.operations(fn, 3, jnp.ones((2, 2)))


def test_a_gradient_is_a_pass_forward_and_one_back():
    assert cost_of("--method=vae").gradient == 2 * DECODER


@pytest.mark.parametrize("num_particles", [1, 5])
def test_iwae_differentiates_every_particle_in_weights_and_inputs(num_particles):
    found = cost_of("--method=iwae", f"--K={num_particles}")
    assert found.step == num_particles * 3 * DECODER + ENCODER_STEP


def test_aiwae_has_a_force_for_every_leapfrog_step_and_one_to_start():
    found = cost_of("--method=aiwae", "--K=2", "--T=4", "--L=3")
    forces = 2 * (3 * 3 + 1) * 2 * DECODER
    # The θ objective needs no gradient in z at its first layer.
    theta = 2 * (3 * DECODER - 2.0 * 50 * 200)
    # The decoder passes φ's gradient on and has none itself; the encoder's pass serves both phases.
    phi = 2 * DECODER + ENCODER_STEP
    assert found.step == forces + theta + phi


def test_a_persistent_chain_has_a_force_to_start_and_one_for_every_leapfrog_step():
    """The start from q, which only the first visit needs, costs no product."""
    found = cost_of("--method=persistent", "--moves=2", "--L=3")
    forces = (2 * 3 + 1) * 2 * DECODER
    theta = 3 * DECODER - 2.0 * 50 * 200
    assert found.step == forces + theta + 2 * DECODER + ENCODER_STEP


@pytest.mark.slow
def test_muons_own_products_are_counted_exactly_and_shared_by_the_batch():
    """Five Newton-Schulz iterations of 2 (m m n), 2 m^3 and 2 (m m n) for each m x n matrix."""

    def extra(batch_size):
        shared = ["--method=vae", "--latent_dim=3", "--hidden_dim=8", f"--batch_size={batch_size}"]
        return cost_of(*shared, "--optimizer=muon").step - cost_of(*shared).step

    shapes = [(8, 64), (8, 8), (3, 8), (3, 8), (3, 8), (8, 8), (8, 64)]
    expected = sum(5 * (4 * m * m * n + 2 * m**3) for m, n in shapes)
    assert extra(10) == pytest.approx(expected / 10, rel=1e-12)
    assert extra(40) == pytest.approx(expected / 40, rel=1e-12)
