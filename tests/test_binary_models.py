"""Models of binary latents: probabilities that sum to one, and draws that follow them."""

import chex
import eight_units as eu
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aiwae_jax import models, networks

MODELS = {"network": eu.NETWORK, "predictor": eu.PREDICTOR}
DATA = jnp.stack([eu.DATUM, 1.0 - eu.DATUM])


@pytest.mark.parametrize("name", MODELS)
def test_priors_and_posteriors_sum_to_one(name):
    model, params = MODELS[name], eu.params(MODELS[name])
    for x in DATA:
        for distribution in (model.prior(params.theta, x), model.posterior(params.phi, x)):
            log_probs = jax.jit(lambda d=distribution: eu.log_probs(d))()
            np.testing.assert_allclose(np.exp(log_probs).sum(), 1.0, rtol=1e-5)


def test_the_likelihoods_of_a_network_sum_to_one():
    theta = eu.params().theta
    totals = jax.jit(jax.vmap(lambda x: eu.exact_log_likelihood(eu.NETWORK, theta, x)))(eu.DATA)
    np.testing.assert_allclose(jnp.exp(totals).sum(), 1.0, rtol=1e-5)


def test_the_likelihoods_of_a_predictor_sum_to_one_over_what_it_predicts():
    theta = eu.params(eu.PREDICTOR).theta
    totals = jax.jit(jax.vmap(lambda x: eu.exact_log_likelihood(eu.PREDICTOR, theta, x)))(eu.DATA)
    # The first half of a datum is the slow index of `DATA`.
    by_context = jnp.exp(totals).reshape(2 ** (eu.X // 2), -1).sum(axis=1)
    np.testing.assert_allclose(by_context, np.ones(4), rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_draws_follow_their_probabilities(name):
    model, params = MODELS[name], eu.params(MODELS[name])
    keys = jax.random.split(jax.random.key(1), 20_000)
    for distribution in (
        model.prior(params.theta, eu.DATUM),
        model.posterior(params.phi, eu.DATUM),
    ):
        numbers = jax.jit(jax.vmap(lambda k, d=distribution: eu.number_of(d.sample(k))))(keys)
        counts = np.bincount(numbers, minlength=256)
        log_probs = jax.jit(lambda d=distribution: eu.log_probs(d))()
        assert eu.chi_square_p_value(counts, np.exp(log_probs)) > 1e-4
        z, log_q = jax.jit(distribution.sample_and_log_prob)(keys[0])
        np.testing.assert_allclose(log_q, log_probs[eu.number_of(z)], rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_ancestral_draws_follow_the_joint(name):
    """Of x and of the latents' sum, which depends on both layers."""
    model, theta = MODELS[name], eu.params(MODELS[name]).theta
    keys = jax.random.split(jax.random.key(2), 20_000)
    draws = jax.jit(jax.vmap(lambda k: model.sample(k, theta, eu.DATUM)))(keys)
    x, z = map(np.asarray, draws)
    if name == "predictor":
        assert np.all(x[:, : eu.X // 2] == np.asarray(eu.DATUM)[: eu.X // 2])
    log_joints = jax.jit(jax.vmap(lambda x: eu.log_joints(model, theta, x)))(eu.DATA)  # [16, 256]
    joint = np.array(jnp.exp(log_joints))
    if name == "predictor":
        data, half = np.asarray(eu.DATA), eu.X // 2
        joint[np.any(data[:, :half] != np.asarray(eu.DATUM)[:half], axis=1)] = 0.0
    number_of_x = (x @ 2.0 ** np.arange(eu.X - 1, -1, -1)).astype(int)
    sums = np.asarray(eu.STATES.sum(axis=1), int)
    expected = np.stack([joint[:, sums == s].sum(axis=1) for s in range(eu.D + 1)], 1)
    counts = np.zeros_like(expected)
    np.add.at(counts, (number_of_x, np.asarray(z.sum(axis=1), int)), 1)
    is_possible = expected.ravel() > 0
    assert counts.ravel()[~is_possible].sum() == 0
    p_value = eu.chi_square_p_value(counts.ravel()[is_possible], expected.ravel()[is_possible])
    assert p_value > 1e-4


def test_the_mean_of_the_first_layer_is_exact():
    q = eu.NETWORK.posterior(eu.params().phi, eu.DATUM)
    exact = jax.jit(lambda: jnp.exp(eu.log_probs(q)) @ eu.STATES)()
    np.testing.assert_allclose(q.mean()[: eu.SIZES[0]], exact[: eu.SIZES[0]], rtol=1e-5)
    np.testing.assert_allclose(
        q.stddev()[: eu.SIZES[0]], np.sqrt(exact * (1 - exact))[: eu.SIZES[0]], rtol=1e-4
    )


def test_log_joint_is_the_model_written_out_in_numpy():
    theta = eu.params().theta
    z = np.array([1, 0, 0, 1, 1, 0, 1, 1.0])

    def log_bernoulli(bits, logits):
        return np.sum(bits * logits - np.logaddexp(0.0, logits))

    def linear(layer, inputs):
        head = layer["heads"][0]
        return inputs @ np.asarray(head["kernel"], np.float64) + np.asarray(head["bias"])

    h1, h2 = z[:5], z[5:]
    expected = log_bernoulli(h2, np.asarray(theta["top"], np.float64))
    expected += log_bernoulli(h1, linear(theta["layers"][0], h2))
    expected += log_bernoulli(np.asarray(eu.DATUM), linear(theta["pixels"], h1))
    found = eu.NETWORK.log_joint(theta, eu.DATUM, jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("precision", networks.PRECISIONS)
def test_log_joint_has_its_gradient_in_every_precision(name, precision):
    model, theta = MODELS[name], eu.params(MODELS[name]).theta
    z = eu.STATES[100]
    exact = jax.grad(model.log_joint, argnums=2)(theta, eu.DATUM, z)
    found = jax.grad(model.log_joint_in(precision), argnums=2)(theta, eu.DATUM, z)
    tolerance = 0.0 if precision == "float32" else 0.05
    np.testing.assert_allclose(found, exact, rtol=tolerance, atol=tolerance)


def test_one_layer_and_the_mean_image():
    mean = np.linspace(0.1, 0.9, 12)
    for build in (models.sigmoid_belief_network, models.half_predictor):
        model = build(12, mean_image=mean)
        params = model.init(jax.random.key(0))
        x = jnp.ones(12)
        z = model.prior(params.theta, x).sample(jax.random.key(1))
        chex.assert_shape(z, (200,))
        logits = np.log(mean / (1 - mean))
        head = params.theta["pixels" if build is models.sigmoid_belief_network else "target"]
        bias = head["heads"][0]["bias"]
        np.testing.assert_allclose(bias, logits[-len(bias) :], rtol=1e-4)


def test_impossible_models_are_refused_and_a_conditional_one_has_no_prior_without_a_datum():
    with pytest.raises(ValueError, match="at least one layer"):
        models.sigmoid_belief_network(4, ())
    with pytest.raises(ValueError, match="at least one layer"):
        models.half_predictor(4, (3, 0))
    with pytest.raises(ValueError, match="two halves"):
        models.half_predictor(1, (3,))
    assert eu.PREDICTOR.is_conditional
    assert not eu.NETWORK.is_conditional
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        eu.PREDICTOR.prior(eu.params(eu.PREDICTOR).theta)
