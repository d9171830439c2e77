"""Densities with a stand-in for their gradient: exact values, forces as given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aiwae_jax import ais, forces, models

MODEL = models.bernoulli_vae(12, 3, hidden_sizes=(8, 8), initialization="torch")
THETA = jax.jit(MODEL.init)(jax.random.key(0)).theta
X = jnp.asarray(np.random.default_rng(0).integers(0, 2, 12), jnp.float32)
Z = jax.random.normal(jax.random.key(1), (100, 3))


@pytest.mark.parametrize("precision", ["tensorfloat32", "bfloat16"])
def test_energies_are_those_of_fp32_to_the_last_bit_and_forces_are_not(precision):
    def energy_and_force(log_joint):
        return jax.jit(jax.vmap(jax.value_and_grad(lambda z: log_joint(THETA, X, z))))(Z)

    exact, exact_force = energy_and_force(MODEL.log_joint)
    energy, force = energy_and_force(forces.log_joint_fn(MODEL, precision))
    np.testing.assert_array_equal(energy, exact)
    difference = np.abs(np.asarray(force - exact_force)).max()
    assert difference < 0.02
    if precision == "bfloat16":  # tf32 is plain fp32 where the hardware has none
        assert difference > 0.0


def test_energies_agree_with_float64():
    """fp32 in earnest: 12 pixels, 100 latents, log-joints of about -10 nats."""
    energies = jax.jit(jax.vmap(lambda z: forces.log_joint_fn(MODEL, "bfloat16")(THETA, X, z)))(Z)

    def dense(layer, h):
        return h @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)

    h = np.asarray(Z, np.float64)
    for i in range(2):
        h = np.tanh(dense(THETA["hidden"][i], h))
    logits = dense(THETA["heads"][0], h)
    log_likelihood = (np.asarray(X) * logits - np.logaddexp(0.0, logits)).sum(1)
    log_prior = -0.5 * (np.asarray(Z, np.float64) ** 2 + np.log(2 * np.pi)).sum(1)
    np.testing.assert_allclose(energies, log_likelihood + log_prior, atol=1e-5)


def test_softplus_is_gone_from_a_force():
    """A gradient needs the sigmoid only; the logarithm is for energies."""
    for precision in ("float32", "bfloat16"):
        log_joint = forces.log_joint_fn(MODEL, precision)
        force = jax.jit(jax.vmap(jax.grad(lambda z, f=log_joint: f(THETA, X, z))))
        assert "log-plus-one" not in force.lower(Z).compile().as_text()
    energy = jax.jit(jax.vmap(lambda z: MODEL.log_joint(THETA, X, z)))
    assert "log-plus-one" in energy.lower(Z).compile().as_text()


def test_a_force_that_is_not_finite_changes_no_weight():
    """From N(0, 1) to N(1, 1), with a force that is infinite on half of the way."""

    def log_target(z):
        return jnp.sum(-0.5 * (z - 1.0) ** 2 - 0.5 * jnp.log(2 * jnp.pi))

    def log_initial(z):
        return log_target(z + 1.0)

    def force(z):
        return jnp.where(z > 1.0, jnp.inf, jax.grad(log_target)(z))

    def weight(key):
        start_key, chain_key = jax.random.split(key)
        z = jax.random.normal(start_key, (1,))
        fns = (jax.grad(log_initial), force)
        betas = ais.linear_schedule(5)
        return jnp.exp(
            ais.run_chain(chain_key, z, log_initial, log_target, betas, 0.5, force_fns=fns)[1]
        )

    w = np.asarray(jax.jit(jax.vmap(weight))(jax.random.split(jax.random.key(0), 20_000)))
    assert abs(w.mean() - 1.0) < 4.0 * w.std(ddof=1) / len(w) ** 0.5


def test_a_value_alone_does_not_pay_for_the_force():
    log_joint = forces.log_joint_fn(MODEL, "bfloat16")

    def num_products(fn):
        return jax.jit(fn).lower(Z[0]).compile().as_text().count("dot(")

    assert num_products(lambda z: log_joint(THETA, X, z)) == num_products(
        lambda z: MODEL.log_joint(THETA, X, z)
    )


def test_an_exact_force_leaves_the_model_alone():
    assert forces.log_joint_fn(MODEL, "float32") is MODEL.log_joint


def test_a_force_of_another_shape_is_refused():
    log_density = forces.with_force(lambda z: -jnp.sum(z**2), lambda z: -jnp.sum(z**2))
    with pytest.raises(ValueError, match=r"shape \[2\] as the position, got shape \[\]"):
        jax.grad(log_density)(jnp.ones(2))


def test_parameters_under_a_force_get_no_silent_zero():
    def evidence(t):
        log_density = forces.with_force(lambda z: -t * jnp.sum(z**2), lambda z: -2.0 * t * z)
        return log_density(jnp.ones(2))

    with pytest.raises(jax.errors.UnexpectedTracerError):
        jax.grad(evidence)(1.0)
