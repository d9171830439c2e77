"""Posterior families: log-determinants, inverses, proper weights, what they refuse."""

import itertools

import chex
import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest
from jax.tree_util import Partial

from aiwae_jax import distributions, evaluate, models, networks, objectives, samplers
from aiwae_jax.models import flows

D = 4
X = jnp.asarray(lg.DATUM)
FAMILIES = {name: build(D) for name, build in flows.FAMILIES.items()}


def posterior_of(family, key=0, scale=0.7):
    """One with random outputs of the encoder, well away from a normal."""

    @jax.jit
    def encoder(key):
        keys = jax.random.split(key, len(family.head_sizes) + 1)
        heads = [
            scale * jax.random.normal(k, (size,))
            for k, size in zip(keys, family.head_sizes, strict=False)
        ]
        return jax.tree.map(lambda a: 2.0 * a, family.init(keys[-1])), heads

    params, heads = encoder(jax.random.key(key))
    return family.build(params, *heads)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", FAMILIES)
def test_products_of_a_posterior_are_asked_for_in_real_fp32(name):
    """By default a GPU rounds factors to tf32, and the map is no longer the determinant's."""
    posterior = posterior_of(FAMILIES[name])

    def moved(noise):
        z, log_det = posterior.transport(noise)
        return z, log_det, posterior.inverse_transport(z)

    text = jax.jit(jax.vmap(moved)).lower(jnp.ones((20, D))).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert all("[HIGHEST, HIGHEST]" in line for line in products)
    assert products or name == "normal"


@pytest.mark.few(2)
@pytest.mark.parametrize("name", FAMILIES)
def test_log_determinant_is_that_of_the_jacobian(name):
    posterior = posterior_of(FAMILIES[name])

    def difference(noise):
        jacobian = jax.jacfwd(lambda e: posterior.transport(e)[0])(noise)
        return posterior.transport(noise)[1] - jnp.linalg.slogdet(jacobian)[1]

    noise = 2.0 * jax.random.normal(jax.random.key(1), (20, D))
    np.testing.assert_allclose(jax.jit(jax.vmap(difference))(noise), 0.0, atol=2e-5)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", FAMILIES)
def test_inverse_brings_the_noise_back(name):
    posterior = posterior_of(FAMILIES[name])
    noise = 2.0 * jax.random.normal(jax.random.key(1), (20, D))
    z = jax.jit(jax.vmap(lambda e: posterior.transport(e)[0]))(noise)
    back = jax.jit(jax.vmap(posterior.inverse_transport))(z)
    np.testing.assert_allclose(back, noise, atol=2e-4)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", FAMILIES)
def test_moments_are_those_of_the_samples(name):
    posterior = posterior_of(FAMILIES[name])
    z = np.asarray(jax.jit(jax.vmap(posterior.sample))(jax.random.split(jax.random.key(2), 20_000)))
    spread = z.std(axis=0)
    # Flows take their moments from 128 draws.
    mean, stddev = jax.jit(lambda: (posterior.mean(), posterior.stddev()))()
    assert np.all(np.abs(mean - z.mean(axis=0)) < 4 * spread / 128**0.5)
    assert np.all(np.abs(stddev / spread - 1.0) < 4 / 128**0.5)


@pytest.mark.parametrize("name", flows.FLOWS)
def test_flow_of_length_zero_is_the_normal(name):
    family = flows.FAMILIES[name](D, num_layers=0)
    loc, log_scale = jnp.arange(4.0), jnp.array([0.1, -0.2, 0.3, 0.0])
    rest = [jnp.zeros(size) for size in family.head_sizes[2:]]
    flow = family.build(family.init(jax.random.key(0)), loc, log_scale, *rest)
    normal = distributions.DiagNormal(loc, jnp.exp(log_scale))
    keys = jax.random.split(jax.random.key(1), 3)
    of_flow, of_normal = (
        jax.jit(jax.vmap(each.sample_and_log_prob))(keys) for each in (flow, normal)
    )
    chex.assert_trees_all_close(of_flow, of_normal, rtol=1e-5)


def test_planar_layers_stay_invertible_whatever_the_encoder_says():
    family = flows.planar(D, num_layers=1)
    w = jnp.array([3.0, 0.0, 0.0, 0.0])
    heads = jnp.zeros(D), jnp.zeros(D), -5.0 * w, w, jnp.zeros(1)
    posterior = family.build({}, *heads)
    noise = jnp.zeros((101, D)).at[:, 0].set(jnp.linspace(-3, 3, 101))
    z, log_det = jax.jit(jax.vmap(posterior.transport))(noise)
    assert np.all(np.diff(z[:, 0]) > 0)
    assert np.all(np.isfinite(log_det))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_planar_log_determinants_stay_finite_for_extreme_outputs(scale):
    """Rounding brings a product computed from û below -1 there."""
    heads = jnp.zeros(D), jnp.zeros(D), jnp.array([-1e5, 0.0, 0.0, 0.0])
    w = scale * jnp.array([3.0, 1.0, 0.0, 0.0])
    posterior = flows.planar(D, num_layers=1).build({}, *heads, w, jnp.zeros(1))
    assert np.isfinite(jax.jit(posterior.transport)(jnp.zeros(D))[1])


@pytest.mark.parametrize("size", [1, D])
def test_every_output_of_an_autoregressive_network_sees_the_context(size):
    network = networks.autoregressive(size, 5, 8)
    params = jax.jit(network.init)(jax.random.key(0))
    jacobian = jax.jit(jax.jacfwd(lambda c: network.apply(params, jnp.ones(size), c)))
    by_context = jacobian(jnp.zeros(5))
    for head in by_context:
        assert np.all(np.linalg.norm(head, axis=1) > 0)


def test_autoregressive_layers_are_triangular():
    family = flows.iaf(D, num_layers=1)
    posterior = posterior_of(family)
    jacobian = jax.jit(jax.jacfwd(lambda e: posterior.transport(e)[0]))(jnp.ones(D))[::-1]
    np.testing.assert_array_equal(np.triu(jacobian, 1), 0.0)
    assert np.all(np.abs(np.tril(jacobian)[np.tril_indices(D)]) > 0)


def test_full_covariance_density_and_kl_are_the_textbooks():
    posterior = posterior_of(FAMILIES["full"])
    covariance = np.asarray(posterior.factor @ posterior.factor.T, np.float64)
    z = np.asarray(jax.random.normal(jax.random.key(3), (D,)), np.float64)
    residual = z - np.asarray(posterior.loc, np.float64)
    log_det = np.linalg.slogdet(covariance)[1]
    quadratic = residual @ np.linalg.solve(covariance, residual)
    np.testing.assert_allclose(
        posterior.log_prob(jnp.asarray(z, jnp.float32)),
        -0.5 * (quadratic + log_det + D * np.log(2 * np.pi)),
        rtol=1e-5,
    )
    loc = np.asarray(posterior.loc, np.float64)
    kl = 0.5 * (np.trace(covariance) + loc @ loc - D - log_det)
    np.testing.assert_allclose(
        distributions.kl_divergence(posterior, distributions.standard_normal(D)), kl, rtol=1e-5
    )


def linear_gaussian_with(name):
    """The linear-Gaussian model with another posterior, off the exact one."""
    family = flows.FAMILIES[name](lg.D)
    posterior = posterior_of(family, key=7, scale=0.4)  # no heavy tails of weights
    return lg.model()._replace(
        posterior=lambda phi, x: posterior, has_posterior_density=family.has_density
    )


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *itertools.product(["full", "planar"], ["importance", "annealed"]),
        ("iaf", "importance"),
        pytest.param("iaf", "annealed", marks=pytest.mark.slow),
    ],
)
def test_mean_weight_is_the_evidence(name, kind):
    model = linear_gaussian_with(name)
    sampler = {
        "importance": lambda: samplers.importance(model, 5),
        "annealed": lambda: samplers.annealed(model, 5, 4, 3, chain_space="base"),
    }[kind]()
    keys = jax.random.split(jax.random.key(0), 20_000)

    def draw(key):
        return sampler.draw(key, lg.params(), X, sampler.init())[0].log_weights

    exact = float(jax.jit(lg.exact_log_likelihood)(lg.params().theta, X))
    means = np.exp(np.asarray(jax.jit(jax.vmap(draw))(keys), np.float64) - exact).mean(axis=1)
    assert abs(means.mean() - 1.0) < 4.0 * means.std(ddof=1) / means.size**0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["planar", pytest.param("iaf", marks=pytest.mark.by_hand)])
def test_likelihood_from_a_flow_has_both_its_bounds(name):
    model, theta = linear_gaussian_with(name), lg.params().theta
    target = evaluate.Target(
        Partial(model.log_joint, theta),
        lambda x: model.posterior(None, x),
        Partial(model.sample, theta=theta),
    )
    settings = evaluate.Settings(num_temperatures=1000, num_chains=32)
    data = np.stack([lg.DATUM, -lg.DATUM])
    found = evaluate.log_likelihood(jax.random.key(1), target, data, settings)
    exact = [lg.exact_log_likelihood(theta, x) for x in data]
    np.testing.assert_allclose(found.log_likelihood, exact, atol=0.05)
    found = evaluate.bidirectional(jax.random.key(2), target, settings, num_data=10)
    assert abs(found.gap) < 0.05


def test_score_from_the_transport_is_that_of_the_density():
    """On a family that has both."""
    model = lg.model()._replace(
        posterior=lambda phi, x: distributions.FullNormal(phi["loc"] * x[0], phi["factor"])
    )
    phi = {"loc": jnp.array([0.3, -0.2]), "factor": jnp.array([[0.8, 0.0], [0.3, 0.6]])}

    def gradient(has_density):
        sampler = samplers.importance(
            model._replace(has_posterior_density=has_density), 4, with_score=False
        )

        def value(phi):
            params = lg.params()._replace(phi=phi)
            particles, _ = sampler.draw(jax.random.key(0), params, X, ())
            return objectives.dreg().value(params, particles)

        return jax.jit(jax.value_and_grad(value))(phi)

    chex.assert_trees_all_close(gradient(True), gradient(False), rtol=1e-4, atol=1e-5)


def test_density_at_foreign_points_is_refused_where_it_has_no_gradient():
    with pytest.raises(TypeError, match="density of its own samples only"):
        posterior_of(FAMILIES["planar"]).log_prob(jnp.zeros(D))
    model = linear_gaussian_with("iaf")
    with pytest.raises(ValueError, match="`log_posterior` needs log q at points"):
        objectives.log_posterior(model)
    with pytest.raises(ValueError, match="`chain_space`='latent' needs log q"):
        samplers.annealed(model, 2, 3)


def test_negative_lengths_and_unknown_families_are_refused():
    with pytest.raises(ValueError, match="`num_layers` must be at least 0, got -1"):
        flows.planar(D, num_layers=-1)
    with pytest.raises(ValueError, match=r"`posterior` must be one of .*got 'spline'"):
        models.bernoulli_vae(6, 2, initialization="torch", posterior="spline")


TWO_LAYERS = models.two_layer_vae(6, 2, hidden_sizes=(8, 8), initialization="torch")


@pytest.mark.slow
@pytest.mark.by_hand
def test_two_layer_densities_factorize():
    """Prior p(h2) p(h1|h2) and posterior q(h1|x) q(h2|h1), against their log-determinants."""
    params = jax.jit(TWO_LAYERS.init)(jax.random.key(0))
    x = jnp.array([1.0, 0, 1, 1, 0, 0])
    for distribution in (TWO_LAYERS.posterior(params.phi, x), TWO_LAYERS.prior(params.theta)):
        noise = jax.random.normal(jax.random.key(1), (6,))
        log_prob, transport = jax.jit(distribution.log_prob), jax.jit(distribution.transport)
        z, log_det = transport(noise)
        jacobian = jax.jit(jax.jacfwd(lambda e, d=distribution: d.transport(e)[0]))(noise)
        np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], atol=1e-5)
        back = jax.jit(distribution.inverse_transport)(z)
        np.testing.assert_allclose(back, noise, atol=1e-5)
        expected = distributions.standard_normal(6).log_prob(noise) - log_det
        np.testing.assert_allclose(log_prob(z), expected, rtol=1e-5)
        again, log_q = jax.jit(distribution.sample_and_log_prob)(jax.random.key(3))
        np.testing.assert_allclose(log_prob(again), log_q, rtol=1e-5)
    assert TWO_LAYERS.sample(jax.random.key(2), params.theta)[1].shape == (6,)


@pytest.mark.slow
def test_two_layer_latent_depends_on_both_conditionals():
    """The upper posterior sees h1, the lower prior h2."""
    params = jax.jit(TWO_LAYERS.init)(jax.random.key(0))
    prior = TWO_LAYERS.prior(params.theta)
    jacobian = jax.jit(jax.jacfwd(lambda e: prior.transport(e)[0]))(jnp.zeros(6))
    assert np.abs(jacobian[:4, 4:]).max() > 0  # h1 moves with h2's noise
    np.testing.assert_array_equal(jacobian[4:, :4], 0.0)
    posterior = TWO_LAYERS.posterior(params.phi, jnp.ones(6))
    jacobian = jax.jit(jax.jacfwd(lambda e: posterior.transport(e)[0]))(jnp.zeros(6))
    assert np.abs(jacobian[4:, :4]).max() > 1e-3  # h2 moves with h1's noise
    np.testing.assert_array_equal(jacobian[:4, 4:], 0.0)
    z = jnp.linspace(-1.0, 1.0, 6)
    gradient = jax.jit(jax.grad(posterior.log_prob))
    by_lower, moved = gradient(z), gradient(z.at[5].add(0.5))
    assert np.abs(by_lower - moved)[:4].max() > 1e-3  # log q(h2|h1) has a slope in h1


@pytest.mark.parametrize("size", [0.0, 1e-25, 1e-18, 1e-12, 1.0])
def test_planar_log_determinants_are_those_of_the_jacobian_next_to_no_direction(size):
    """At w = 0 a layer moves all points alike, and its determinant is 1."""
    heads = jnp.zeros(D), jnp.zeros(D), jnp.arange(1.0, 1.0 + D)
    w = size * jnp.array([3.0, 1.0, -1.0, 0.5])
    posterior = flows.planar(D, num_layers=1).build({}, *heads, w, jnp.zeros(1))
    noise = jnp.array([0.3, -0.2, 0.1, 0.4])
    jacobian = jax.jit(jax.jacobian(lambda n: posterior.transport(n)[0]))(noise)
    _, expected = np.linalg.slogdet(jacobian)
    np.testing.assert_allclose(jax.jit(posterior.transport)(noise)[1], expected, atol=1e-4)
