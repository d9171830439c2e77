"""Gradient estimators for binary latents against exact sums over states, and over pairs of them."""

from functools import partial

import chex
import eight_units as eu
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aiwae_jax import methods, objectives, samplers, scores, weights
from aiwae_jax.types import Params, Particles

NETWORK, PREDICTOR = eu.NETWORK, eu.PREDICTOR
PARAMS, CONDITIONAL_PARAMS = eu.params(), eu.params(PREDICTOR)
NUM = 20_000


def log_weights_of(model, params, proposal):
    """log w at every state, under a proposal."""
    return eu.log_joints(model, params.theta, eu.DATUM) - eu.log_probs(proposal)


def pair_mean(log_q, value):
    """E[value(i, j)] over two draws of the proposal, with gradients through both probabilities."""
    q = jnp.exp(log_q)
    return jnp.sum(q[:, None] * q[None, :] * value)


def exact_bound_of_two(params):
    """E[L_2], an exact sum over 256² pairs: its gradient is VIMCO's mean."""
    q = NETWORK.posterior(params.phi, eu.DATUM)
    log_w = log_weights_of(NETWORK, params, q)
    pairs = jnp.logaddexp(log_w[:, None], log_w[None, :]) - jnp.log(2.0)
    return pair_mean(eu.log_probs(q), pairs)


def exact_elbo(params):
    q = NETWORK.posterior(params.phi, eu.DATUM)
    return jnp.sum(jnp.exp(eu.log_probs(q)) * log_weights_of(NETWORK, params, q))


def self_normalized_of_two(model, params, proposal, log_density):
    """E[Σ_k w̃_k log f(z_k)] for K = 2, gradients stopped at the draws and the weights."""
    log_q = jax.lax.stop_gradient(eu.log_probs(proposal))
    log_w = jax.lax.stop_gradient(log_weights_of(model, params, proposal))
    first = jax.nn.sigmoid(log_w[:, None] - log_w[None, :])
    return pair_mean(log_q, first * log_density[:, None] + (1 - first) * log_density[None, :])


def exact_wake(params):
    """Both halves of a wake-wake step on two particles."""
    q = NETWORK.posterior(params.phi, eu.DATUM)
    log_p = eu.log_joints(NETWORK, params.theta, eu.DATUM)
    return self_normalized_of_two(NETWORK, params, q, log_p) + self_normalized_of_two(
        NETWORK, params, q, eu.log_probs(q)
    )


def exact_sleep(params):
    """E[log q(z|x)] over dreams, φ only."""
    theta = jax.lax.stop_gradient(params.theta)

    def of_datum(x):
        log_p = eu.log_joints(NETWORK, theta, x)
        return jnp.sum(jnp.exp(log_p) * eu.log_probs(NETWORK.posterior(params.phi, x)))

    return jnp.sum(jax.lax.map(of_datum, eu.DATA))


def exact_tang(params):
    prior = PREDICTOR.prior(params.theta, eu.DATUM)
    log_p = eu.log_joints(PREDICTOR, params.theta, eu.DATUM)
    return self_normalized_of_two(PREDICTOR, params, prior, log_p)


ESTIMATORS = {
    "vimco": (NETWORK, samplers.importance(NETWORK, 2), scores.vimco(), exact_bound_of_two),
    "rws wake": (
        NETWORK,
        samplers.importance(NETWORK, 2),
        objectives.total(objectives.log_joint(NETWORK), objectives.log_posterior(NETWORK)),
        exact_wake,
    ),
    "rws sleep": (
        NETWORK,
        samplers.ancestral(NETWORK),
        objectives.log_posterior(NETWORK),
        exact_sleep,
    ),
    "tang": (
        PREDICTOR,
        samplers.importance_from_prior(PREDICTOR, 2),
        objectives.log_joint(PREDICTOR),
        exact_tang,
    ),
    "raiko G5": (
        PREDICTOR,
        samplers.importance_from_prior(PREDICTOR, 2),
        scores.centered_log_joint(PREDICTOR),
        exact_tang,
    ),
}


def params_of(model):
    return PARAMS if model is NETWORK else CONDITIONAL_PARAMS


def gradients(sampler, objective, params, num=NUM, key=1):
    """`[num]` estimates of the gradient of everything."""

    @jax.jit
    @jax.vmap
    def one(key):
        def value(params):
            particles, _ = sampler.draw(key, params, eu.DATUM, sampler.init())
            return objective.value(params, particles)

        return jax.grad(value)(params)

    return one(jax.random.split(jax.random.key(key), num))


def assert_mean_is(found, expected):
    """Every element within 4 standard errors; what the estimator does not move must not move."""
    z = []
    for each, exact in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        each = np.asarray(each, np.float64).reshape(len(each), -1)
        error = each.std(axis=0) / len(each) ** 0.5
        difference = each.mean(axis=0) - np.asarray(exact, np.float64).ravel()
        is_still = error < 1e-9  # parameters that this estimator does not move
        assert np.all(np.abs(difference[is_still]) < 1e-5)
        z.append(difference[~is_still] / error[~is_still])
    z = np.concatenate(z)
    assert z.size > 10
    assert np.max(np.abs(z)) < 4


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_mean_of_every_estimator_is_the_exact_sum(name):
    model, sampler, objective, exact = ESTIMATORS[name]
    params = params_of(model)
    assert_mean_is(gradients(sampler, objective, params), jax.jit(jax.grad(exact))(params))


def nvil_params():
    baseline = scores.baseline(NETWORK, hidden_size=3)
    return baseline, PARAMS._replace(psi=jax.jit(baseline.init_params)(jax.random.key(2)))


def test_the_mean_of_nvil_is_the_gradient_of_the_elbo_whatever_its_baseline_says():
    baseline, params = nvil_params()
    found = gradients(samplers.importance(NETWORK, 1), scores.nvil(baseline), params)
    expected = jax.jit(jax.grad(exact_elbo))(PARAMS)
    assert_mean_is(Params(found.theta, found.phi), Params(expected.theta, expected.phi))


def test_the_baseline_of_nvil_descends_the_square_of_the_signal():
    baseline, params = nvil_params()
    found = gradients(samplers.importance(NETWORK, 1), scores.nvil(baseline), params)

    def loss(psi):
        q = NETWORK.posterior(PARAMS.phi, eu.DATUM)
        signal = log_weights_of(NETWORK, PARAMS, q) - baseline(psi, eu.DATUM)
        return -0.5 * jnp.sum(jnp.exp(eu.log_probs(q)) * jnp.square(signal))

    assert_mean_is(found.psi, jax.jit(jax.grad(loss))(params.psi))


def reinforce():
    """VIMCO without its baseline."""

    def value(params, particles):
        bound = weights.log_mean_exp(particles.log_weights)
        return bound + scores._score(
            jnp.full_like(particles.log_weights, bound), particles.log_proposal
        )

    return scores.vimco()._replace(value=value)


def total_variance(estimates):
    return sum(float(np.var(leaf, axis=0).sum()) for leaf in jax.tree.leaves(estimates))


@pytest.mark.slow
def test_vimco_is_reinforce_in_the_mean_with_less_noise():
    sampler = samplers.importance(NETWORK, 5)
    vimco = gradients(sampler, scores.vimco(), PARAMS)
    plain = gradients(sampler, reinforce(), PARAMS)
    # The same draws: the difference has a mean of zero, and little noise of its own.
    difference = jax.tree.map(lambda a, b: a - b, vimco.phi, plain.phi)
    assert_mean_is(difference, jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:]), difference))
    assert total_variance(vimco.phi) < 0.5 * total_variance(plain.phi)


@pytest.mark.slow
def test_g5_has_less_noise_than_tangs_estimator():
    """In what the score is of: the layers that the prior is made of."""
    _, sampler, centered, _ = ESTIMATORS["raiko G5"]
    tang = gradients(sampler, objectives.log_joint(PREDICTOR), CONDITIONAL_PARAMS)
    g5 = gradients(sampler, centered, CONDITIONAL_PARAMS)
    assert total_variance(g5.theta["layers"]) < 0.9 * total_variance(tang.theta["layers"])


def without_leaving_out(objective):
    """A fault: the signal of VIMCO is that of the bound, with its own sample in the baseline."""

    def value(params, particles):
        bound = weights.log_mean_exp(particles.log_weights)
        own = particles.log_weights
        return bound + scores._score(bound - 0.9 * own, particles.log_proposal)

    return objective._replace(value=value)


def test_the_mean_test_catches_a_baseline_that_knows_its_sample():
    sampler = samplers.importance(NETWORK, 2)
    faulty = gradients(sampler, without_leaving_out(scores.vimco()), PARAMS)
    expected = jax.jit(jax.grad(exact_bound_of_two))(PARAMS)
    with pytest.raises(AssertionError):
        assert_mean_is(faulty, expected)


def test_leave_one_out_is_equation_7_written_out():
    log_w = np.array([0.3, -1.2, 2.0, 0.1])
    expected = []
    for k in range(4):
        others = np.delete(log_w, k)
        expected.append(np.log((np.exp(others).sum() + np.exp(others.mean())) / 4))
    found = scores.leave_one_out(jnp.asarray(log_w, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="`nvil`"):
        scores.leave_one_out(jnp.zeros(1))


@pytest.mark.parametrize("log_weights", [[-np.inf, -np.inf], [-np.inf, 0.0], [-np.inf, 1.0, 2.0]])
def test_particles_without_weight_give_no_nan(log_weights):
    log_weights = jnp.asarray(log_weights, jnp.float32)

    def value(log_proposal):
        particles = Particles((), jnp.zeros((len(log_weights), 1)), log_weights, None, log_proposal)
        return scores.vimco().value(PARAMS, particles)

    found, gradient = jax.jit(jax.value_and_grad(value))(jnp.zeros(len(log_weights)))
    assert np.all(np.isfinite(gradient))
    assert found == weights.log_mean_exp(log_weights)


def many_particles_gradient(model, params, method):
    """θ's gradient from one set of many particles, and its delta-method errors."""
    theta_phase = method[0]
    particles, _ = jax.jit(theta_phase.sampler.draw)(
        jax.random.key(3), params, eu.DATUM, theta_phase.sampler.init()
    )
    normalized = np.asarray(weights.normalize(particles.log_weights))
    gradients_of = jax.jit(jax.vmap(jax.grad(model.log_joint), (None, None, 0)))
    each = gradients_of(params.theta, eu.DATUM, particles.z)
    mean = jax.jit(jax.grad(lambda p: theta_phase.objective.value(p, particles)))(params).theta

    def error(leaf, center):
        deviation = normalized.reshape(-1, *[1] * center.ndim) * (leaf - center[None])
        return np.sqrt(np.sum(np.square(deviation), axis=0))

    return mean, jax.tree.map(error, *jax.device_get((each, mean)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "move"),
    [
        ("aiwae", "langevin"),
        ("tang_annealed", "gibbs"),
        ("aiwae", "informed"),
        ("tang_annealed", "langevin"),
    ],
)
def test_annealed_gradients_of_theta_converge_to_that_of_the_likelihood(name, move):
    model = NETWORK if name == "aiwae" else PREDICTOR
    params = params_of(model)
    method = getattr(methods, name)(model, 20_000, 5, 2, move=move)
    found, errors = many_particles_gradient(model, params, method)
    log_likelihood = partial(eu.exact_log_likelihood, model, x=eu.DATUM)
    exact = jax.jit(jax.grad(log_likelihood))(params.theta)
    for mean, error, wanted in zip(*map(jax.tree.leaves, (found, errors, exact)), strict=True):
        assert np.all(np.abs(mean - wanted) < 4.5 * error + 1e-4)
        assert np.max(error) < 0.05


def test_g3_follows_each_bit_through_its_probability():
    """One layer, one sample: dL/da = σ'(a) dL/dh, with h the bit that was drawn."""
    model = PREDICTOR
    sampler = samplers.importance_from_prior(model, 1, with_straight_through=True)
    plain = samplers.importance_from_prior(model, 1)
    key = jax.random.key(4)
    particles, others = (
        jax.jit(each.draw)(key, CONDITIONAL_PARAMS, eu.DATUM, ())[0] for each in (sampler, plain)
    )
    chex.assert_trees_all_close(particles.z, others.z, atol=1e-6)
    chex.assert_trees_all_close(particles.log_weights, others.log_weights, rtol=1e-5, atol=1e-5)

    def value(theta):
        params = CONDITIONAL_PARAMS._replace(theta=theta)
        particles, _ = sampler.draw(key, params, eu.DATUM, ())
        return objectives.bound().value(params, particles)

    found = jax.jit(jax.grad(value))(CONDITIONAL_PARAMS.theta)["layers"][1]["heads"][0]["bias"]
    top = others.z[0, eu.SIZES[0] :]
    theta = CONDITIONAL_PARAMS.theta

    def log_likelihood(h):
        z = jnp.concatenate([others.z[0, : eu.SIZES[0]], h])
        return model.likelihood(theta, z).log_prob(eu.DATUM[eu.X // 2 :])

    below = others.z[0, : eu.SIZES[0]]
    layer = theta["layers"][1]["heads"][0]
    probabilities = jax.nn.sigmoid(below @ layer["kernel"] + layer["bias"])
    expected = jax.jit(jax.grad(log_likelihood))(top) * probabilities * (1 - probabilities)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
