"""The general builder: any networks, likelihoods, priors; the built-in models are calls of it."""

import chex
import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import own_table
import pytest
import test_own_decoder as own
from scipy import stats

from aiwae_jax import distributions, evaluate, likelihoods, methods, models, networks
from aiwae_jax.models import flows
from aiwae_jax.types import Params

KEY = jax.random.key(0)


def affine(size_in, size_out):
    """Inputs @ w + b, as two pure functions of one's own."""

    def init(key):
        return {"w": 0.3 * jax.random.normal(key, (size_in, size_out)), "b": jnp.zeros(size_out)}

    return networks.Network(init, lambda params, inputs: inputs @ params["w"] + params["b"])


def linear_vae(likelihood, **options):
    """Of μ and log σ linear in x, in one array."""
    size = own_table.LATENT_SIZE
    networks_ = affine(own_table.NUM_COLUMNS, 2 * size), affine(size, own_table.NUM_COLUMNS)
    return models.vae(*networks_, likelihood=likelihood, latent_size=size, **options)


def factor_analysis(likelihood):
    """Of μ linear in x and one σ for all data."""
    size, loc = own_table.LATENT_SIZE, affine(own_table.NUM_COLUMNS, own_table.LATENT_SIZE)
    encoder = networks.Network(
        lambda key: {"loc": loc.init(key), "log_scale": jnp.zeros(size)},
        lambda phi, x: (loc.apply(phi["loc"], x), phi["log_scale"]),
    )
    decoder = affine(size, own_table.NUM_COLUMNS)
    return models.vae(encoder, decoder, likelihood=likelihood, latent_size=size)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scale", [pytest.param(0.6, marks=[pytest.mark.slow, pytest.mark.by_hand]), None]
)
def test_a_gaussian_vae_of_a_table_has_the_likelihood_in_closed_form(scale, tmp_path):
    """log N(x; b, WᵀW + σ²I), of a linear decoder."""
    model, dataset = factor_analysis(likelihoods.normal(scale)), own_table.table()
    run = own_table.fit(
        tmp_path / "run", model=model, dataset=dataset, method=methods.iwae(model, 3)
    )
    theta = run.params.theta
    decoder = theta if scale else theta["decoder"]
    assert set(decoder) == {"w", "b"}
    log_scale = np.log(scale) if scale else theta["likelihood"]["log_scale"]
    exact = own_table.exact_nll(
        {"loadings": decoder["w"], "log_scale": log_scale}, dataset.test - np.asarray(decoder["b"])
    )
    settings = evaluate.Settings(num_temperatures=60, num_chains=16)
    found = run.log_likelihood(dataset.test, settings)
    np.testing.assert_allclose(found.log_likelihood, -exact, atol=0.1)
    if not scale:
        assert log_scale != 0.0  # it has learned
    x, z = run.sample(jax.random.key(2), 3)
    assert (x.shape, z.shape) == ((3, own_table.NUM_COLUMNS), (3, own_table.LATENT_SIZE))
    np.testing.assert_allclose(
        run.decode(z), z @ np.asarray(decoder["w"]) + np.asarray(decoder["b"]), rtol=1e-4
    )


def test_the_likelihood_is_that_of_the_analytic_model():
    decoder = networks.Network(
        None, lambda theta, z: lg.product(theta["weight"], z) + theta["bias"]
    )
    encoder = networks.Network(
        None, lambda phi, x: (lg.product(phi["weight"], x) + phi["bias"], phi["log_scale"])
    )
    model = models.vae(encoder, decoder, likelihood=likelihoods.normal(lg.NOISE), latent_size=lg.D)
    params, x, z = lg.params(), jnp.asarray(lg.DATUM), jnp.array([0.2, -0.4])
    np.testing.assert_allclose(
        model.log_joint(params.theta, x, z), lg.log_joint(params.theta, x, z), rtol=1e-6
    )
    chex.assert_trees_all_close(model.posterior(params.phi, x), lg.posterior(params.phi, x))
    assert model.log_joint_in is None  # these networks know no other precision


@pytest.mark.parametrize("family", flows.FAMILIES)
@pytest.mark.slow
@pytest.mark.by_hand
def test_the_built_in_model_is_a_call(family):
    sizes = flows.FAMILIES[family](3).head_sizes
    built = models.bernoulli_vae(
        12, 3, hidden_sizes=(7, 5), initialization="torch", posterior=family
    )
    called = models.vae(
        networks.mlp(12, (5, 7), sizes),
        networks.mlp(3, (7, 5), [12]),
        likelihood=likelihoods.bernoulli(),
        posterior=family,
    )
    chex.assert_trees_all_equal(built.init(KEY), called.init(KEY))
    params, x = built.init(KEY), (jnp.arange(12) % 2).astype(float)
    for model in (built, called):
        assert model.log_joint_in is not None
    chex.assert_trees_all_equal(built.sample(KEY, params.theta), called.sample(KEY, params.theta))
    chex.assert_trees_all_equal(
        *(model.posterior(params.phi, x).sample_and_log_prob(KEY) for model in (built, called))
    )
    with pytest.raises(ValueError, match="`x` must be 0s and 1s"):
        called.check_data(np.full((2, 12), 0.5), name="x")


def test_bare_jax_linen_and_equinox_plug_in():
    x, z = jnp.asarray(own.IMAGES[0]), jnp.array([0.5, -1.0, 0.2])
    encoder = networks.mlp(own.X, (4,), (own.D, own.D))
    values = []
    for weights, logits_fn in own.decoders():
        decoder = networks.Network(lambda key, weights=weights: weights, logits_fn)
        model = models.vae(encoder, decoder, likelihood=likelihoods.bernoulli(), latent_size=own.D)
        params = model.init(KEY)
        assert isinstance(params, Params)
        values.append(model.log_joint(params.theta, x, z))
        np.testing.assert_allclose(
            values[-1], own.log_joint_of(logits_fn)(weights, x, z), rtol=1e-6
        )
    np.testing.assert_allclose(values, values[0], rtol=1e-5)


def test_priors_are_distributions_or_functions():
    wide = distributions.DiagNormal(jnp.zeros(2), jnp.full(2, 3.0))
    for prior in (wide, lambda theta, x: wide):
        model = linear_vae(likelihoods.normal(1.0), prior=prior)
        standard = linear_vae(likelihoods.normal(1.0))
        theta, x, z = model.init(KEY).theta, jnp.ones(5), jnp.array([1.0, 2.0])
        difference = model.log_joint(theta, x, z) - standard.log_joint(theta, x, z)
        expected = wide.log_prob(z) - distributions.standard_normal(2).log_prob(z)
        np.testing.assert_allclose(difference, expected, rtol=1e-5)


class Poisson:
    def __init__(self, log_rates):
        self._log_rates = log_rates

    def log_prob(self, x):
        terms = x * self._log_rates - jnp.exp(self._log_rates) - jax.lax.lgamma(x + 1.0)
        return jnp.sum(terms)

    def sample(self, key):
        return jax.random.poisson(key, jnp.exp(self._log_rates)).astype(float)

    def mean(self):
        return jnp.exp(self._log_rates)


def test_a_likelihood_of_your_own():
    model = linear_vae(likelihoods.Likelihood(lambda params, log_rates: Poisson(log_rates)))
    theta, x, z = model.init(KEY).theta, jnp.array([0.0, 1, 2, 5, 3]), jnp.array([1.0, -1.0])
    rates = np.exp(np.asarray(z @ theta["w"] + theta["b"], np.float64))
    expected = stats.poisson.logpmf(x, rates).sum() + stats.norm.logpdf(z).sum()
    np.testing.assert_allclose(model.log_joint(theta, x, z), expected, rtol=1e-5)
    assert model.sample(KEY, theta)[0].shape == (5,)


def test_what_cannot_be_built_is_refused():
    net, bits = affine(2, 5), likelihoods.bernoulli()
    with pytest.raises(
        TypeError, match=r"`decoder` must have `init\(key\)` and .*networks.Network"
    ):
        models.vae(net, lambda params, z: z, likelihood=bits)
    with pytest.raises(
        TypeError, match=r"`likelihood` must be .*`likelihoods.normal\(\)`, got func"
    ):
        models.vae(net, net, likelihood=likelihoods.normal)
    with pytest.raises(ValueError, match="`latent_size` must be given"):
        models.vae(net, net, likelihood=bits)
    with pytest.raises(ValueError, match=r"`posterior` must be one of .*got 'spline'"):
        models.vae(net, net, likelihood=bits, latent_size=2, posterior="spline")
    with pytest.raises(ValueError, match="`num_layers` is of a flow"):
        models.vae(net, net, likelihood=bits, latent_size=2, posterior=lambda p: None, num_layers=2)
    with pytest.raises(ValueError, match="`scale` must be positive, got 0"):
        likelihoods.normal(0.0)
    model = models.vae(affine(5, 3), affine(2, 5), likelihood=bits, latent_size=2)
    with pytest.raises(ValueError, match=r"`encoder` must return heads of sizes \[2, 2\], or one"):
        model.posterior(model.init(KEY).phi, jnp.ones(5))
