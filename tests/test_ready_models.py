"""Auto-encoders for data of any kind: networks, priors, what a likelihood needs, and recipes."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special, stats

from aiwae_jax import (
    convolutions,
    data,
    distributions,
    evaluate,
    likelihoods,
    methods,
    models,
    networks,
    recipe,
    train,
)
from aiwae_jax.models import priors

KEY = jax.random.key(0)
ROOMS = {"models": models, "likelihoods": likelihoods}


def built_again(model):
    """By what a run's folder would say of it."""
    written = json.loads(json.dumps(model.built_by.to_json()))
    json.dumps(recipe.from_json(written).summary())
    return recipe.rebuilt(recipe.from_json(written), ROOMS)


def mixed_likelihood():
    rows = np.random.default_rng(0).normal(size=(20, 2)) * [3.0, 0.1] + 5.0
    return likelihoods.columns(
        {
            "a,c": likelihoods.standardize(likelihoods.normal("per_datum"), rows),
            "b": likelihoods.categorical(4),
            "d": likelihoods.zero_inflated_negative_binomial(),
        },
        ("a", "b", "c", "d"),
    )


X = np.array([4.0, 3.0, 5.05, 2.0], np.float32)
MODELS = {
    "mixed": lambda: models.mlp_vae(
        4,
        2,
        likelihood=mixed_likelihood(),
        hidden_sizes=(6, 5),
        activation="silu",
        prior="mixture",
        num_components=3,
        mean=X,
        columns=("a", "b", "c", "d"),
    ),
    "library": lambda: models.mlp_vae(
        4, 2, likelihood=likelihoods.negative_binomial(library=True), hidden_sizes=(5,), mean=X
    ),
    "conv": lambda: models.conv_vae(
        (2, 2),
        2,
        likelihood=likelihoods.discretized_logistic(),
        channels=(3,),
        hidden_size=4,
        mean=X,
    ),
}


@pytest.mark.few(1)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_draws_what_it_has_a_density_of_and_is_built_again(name):
    model = MODELS[name]()

    def draw(of):
        params = of.init(KEY)
        x, z = of.sample(KEY, params.theta, jnp.asarray(X))
        return params, x, of.log_joint(params.theta, x, z), of.posterior(params.phi, x).mean()

    found = jax.jit(lambda: draw(model))()
    _, x, log_joint, mean = found
    model.check_data(np.asarray(x)[None], name="x")
    assert np.isfinite(log_joint)
    assert mean.shape == (2,)
    again = built_again(model)
    chex.assert_trees_all_equal(jax.jit(lambda: draw(again))(), found)
    assert again.is_conditional == (name == "library")
    assert again.data_size == 4


def test_the_general_model_with_bernoulli_pixels_is_the_papers():
    mean = np.array([0.2, 0.7, 0.5], np.float32)
    paper = models.bernoulli_vae(3, 2, hidden_sizes=(5, 4), mean_image=mean)
    general = models.mlp_vae(
        3, 2, likelihood=likelihoods.bernoulli(), hidden_sizes=(5, 4), mean=mean
    )
    params = paper.init(KEY)
    chex.assert_trees_all_equal(general.init(KEY), params)
    arguments = params.theta, jnp.array([1.0, 0.0, 1.0]), jnp.array([0.3, -2.0])
    np.testing.assert_array_equal(general.log_joint(*arguments), paper.log_joint(*arguments))


def test_an_untrained_decoder_starts_at_the_mean_of_the_data():
    mean = np.array([3.0, 20.0, 0.0], np.float32)
    model = models.mlp_vae(3, 2, likelihood=likelihoods.poisson(), mean=mean, hidden_sizes=(4,))
    theta = jax.tree.map(jnp.zeros_like, model.init(KEY).theta)
    bias = model.init(KEY).theta["heads"][0]["bias"]
    theta["heads"][0]["bias"] = bias
    np.testing.assert_allclose(
        model.likelihood(theta, jnp.zeros(2)).mean(), [3.0, 20.0, 1e-3], rtol=1e-5
    )


def test_a_mixture_is_a_sum_of_densities():
    chance = np.random.default_rng(0)
    logits, loc, log_scale = (
        chance.normal(size=4),
        chance.normal(size=(4, 3)),
        chance.normal(size=(4, 3)),
    )
    params = {"logits": logits, "loc": loc, "log_scale": log_scale}
    prior = priors.mixture(3, 4).build({n: jnp.asarray(v, jnp.float32) for n, v in params.items()})
    z = chance.normal(size=3)
    parts = stats.norm(loc, np.exp(log_scale)).logpdf(z).sum(axis=1)
    expected = special.logsumexp(special.log_softmax(logits) + parts)
    np.testing.assert_allclose(prior.log_prob(jnp.asarray(z, jnp.float32)), expected, rtol=1e-5)

    draws = np.asarray(jax.vmap(prior.sample)(jax.random.split(KEY, 20_000)), float)
    weights = special.softmax(logits)[:, None]
    mean = (weights * loc).sum(axis=0)
    second = (weights * (loc**2 + np.exp(2 * log_scale))).sum(axis=0)
    np.testing.assert_allclose(prior.mean(), mean, rtol=1e-4)
    for values, exact in ((draws, mean), (draws**2, second)):
        error = values.std(axis=0) / np.sqrt(len(values))
        assert np.all(np.abs(values.mean(axis=0) - exact) < 4 * error)


@pytest.mark.by_hand
@pytest.mark.slow
def test_a_learned_prior_finds_two_modes_that_a_linear_decoder_cannot_make():
    """Data at ±3 with noise: with N(0, I) and a linear decoder p(x) has one mode."""
    chance = np.random.default_rng(0)
    rows = chance.choice([-3.0, 3.0], (200, 1)) + 0.5 * chance.normal(size=(200, 1))
    exact = np.log(0.5 * (stats.norm(-3, 0.5).pdf(rows) + stats.norm(3, 0.5).pdf(rows))).mean()
    one_mode = stats.norm(rows.mean(), rows.std()).logpdf(rows).mean()
    rows = jnp.asarray(rows, jnp.float32)
    model = models.mlp_vae(
        1,
        1,
        likelihood=likelihoods.normal(0.4),
        hidden_sizes=(),
        prior="mixture",
        num_components=2,
    )
    method = methods.iwae(model, 10)
    optimizers = train.Optimizers(*[optax.adam(0.03)] * 3)
    step = train.make_train_step(method, optimizers)
    state = train.init_state(KEY, model, method, optimizers)
    for i in range(600):
        state, _ = step(jax.random.fold_in(KEY, i), state, rows)

    # p(x) of a linear decoder is a mixture, too.
    theta = jax.tree.map(lambda leaf: np.asarray(leaf, float), state.params.theta)
    (head,), prior = theta["decoder"]["heads"].values(), theta["prior"]
    weight = head["kernel"][0, 0]
    loc = weight * prior["loc"][:, 0] + head["bias"]
    scale = np.hypot(weight * np.exp(prior["log_scale"][:, 0]), 0.4)
    parts = stats.norm(loc, scale).logpdf(np.asarray(rows))
    closed = special.logsumexp(special.log_softmax(prior["logits"]) + parts, axis=1)
    assert closed.mean() > one_mode + 0.8
    assert closed.mean() > exact - 0.1

    target = evaluate.Target.of(model, state.params)
    settings = evaluate.Settings(num_temperatures=100)
    found = evaluate.log_likelihood(KEY, target, rows[:50], settings)
    differences = found.log_likelihood - closed[:50]
    assert abs(differences.mean()) < 4 * differences.std() / np.sqrt(50)
    assert np.abs(differences).max() < 0.3
    bounds = evaluate.bidirectional(KEY, target, settings, plan=found.plan, num_data=50)
    assert abs(bounds.gap) < max(4 * bounds.gap_standard_error, 0.02)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(5, 7), (4, 4, 3)])
def test_convolutions_are_of_images_of_any_size(shape):
    height, width, colours = convolutions.as_shape(shape)
    size = height * width * colours
    encoder = convolutions.encoder(shape, (2, 3), 4, (2, 2))
    decoder = convolutions.decoder(
        2, shape, (3, 2), 4, (size, size), output_bias=[np.full(size, 0.5), None]
    )
    heads = jax.jit(lambda key, x: encoder.apply(encoder.init(key), x))(KEY, jnp.ones(size))
    assert [head.shape for head in heads] == [(2,), (2,)]
    params = decoder.init(KEY)
    heads = jax.jit(decoder.apply)(params, jnp.ones(2))
    assert [head.shape for head in heads] == [(size,), (size,)]
    np.testing.assert_array_equal(params["heads"][0]["bias"], np.full(colours, 0.5))


def test_a_convolution_sees_neighbours_in_rows_and_columns():
    """What x at one pixel changes behind the first layer lies around it, and nowhere else."""
    encoder = convolutions.encoder((8, 8), (1,), 3, (16,))
    params = encoder.init(KEY)
    kernel = np.asarray(params["layers"][0]["kernel"])[:, :, 0, 0]
    image = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    padded = np.pad(image, ((0, 1), (0, 1)))  # SAME, of stride 2 and even sizes
    expected = [
        np.tanh((padded[i : i + 3, j : j + 3] * kernel).sum() + params["layers"][0]["bias"][0])
        for i in range(0, 8, 2)
        for j in range(0, 8, 2)
    ]
    dense = networks.mlp(16, (3,), (16,))
    np.testing.assert_allclose(
        encoder.apply(params, jnp.asarray(image.ravel()))[0],
        dense.apply(params["dense"], jnp.asarray(expected))[0],
        rtol=2e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("activation", networks.ACTIVATIONS)
def test_activations(activation):
    network = networks.mlp(2, (3,), (2,), activation=activation)
    params, x = network.init(KEY), jnp.array([0.5, -2.0])
    first, head = params["hidden"][0], params["heads"][0]
    hidden = networks.ACTIVATIONS[activation](x @ first["kernel"] + first["bias"])
    np.testing.assert_allclose(
        network.apply(params, x)[0], hidden @ head["kernel"] + head["bias"], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: models.mlp_vae(3, 2, likelihood=likelihoods.normal(), prior="flat"),
            "`prior` mus",
        ),
        (
            lambda: models.mlp_vae(3, 2, likelihood=likelihoods.normal(), num_components=3),
            "`num_components` is of `prior`='mixture'",
        ),
        (
            lambda: models.mlp_vae(3, 2, likelihood=likelihoods.normal(), activation="sine"),
            "`activation` must be one of tanh, relu, .*'sine'",
        ),
        (
            lambda: models.mlp_vae(3, 2, likelihood=likelihoods.normal(), mean=np.zeros(2)),
            r"`mean` must be \[3\] finite numbers",
        ),
        (
            lambda: models.mlp_vae(3, 2, likelihood=likelihoods.Likelihood(lambda *a: None)),
            "`likelihood` must say its `head_sizes`",
        ),
        (
            lambda: models.mlp_vae(3, 2, likelihood=likelihoods.categorical([2, 2])),
            "`num_classes` must have a number for each of the 3 columns, got 2",
        ),
        (
            lambda: models.conv_vae((4,), 2, likelihood=likelihoods.normal()),
            "`image_shape` must be",
        ),
        (
            lambda: models.conv_vae((2, 2), 2, likelihood=likelihoods.categorical(3)),
            "`likelihood` must show an encoder one number for each of the 4 pixels, got 12",
        ),
        (
            lambda: models.vae(
                networks.Network(None, lambda phi, x: x),
                networks.mlp(2, (3,), (3,)),
                likelihood=likelihoods.normal("per_column"),
            ),
            "`data_size` must be given",
        ),
    ],
)
def test_what_cannot_be_built(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_data_of_another_width_or_support_are_named_by_their_columns():
    model = MODELS["mixed"]()
    with pytest.raises(ValueError, match=r"`x` must have shape \[rows, 4\], got \[1, 3\]"):
        model.check_data(X[None, :3], name="x")
    rows = np.stack([X, X])
    rows[1, 1] = 7.0
    with pytest.raises(ValueError, match="got 7 in row 1, column 'b'"):
        model.check_data(rows, name="x")


def test_a_draw_for_a_library_needs_its_datum():
    model = MODELS["library"]()
    theta = model.init(KEY).theta
    with pytest.raises(ValueError, match="`x` must be given"):
        model.sample(KEY, theta, None)
    x, _ = jax.jit(model.sample)(KEY, theta, jnp.array([0.0, 0.0, 0.0, 1000.0]))
    assert x[-1] == 1000.0
    assert abs(float(x[:3].sum()) - 1000.0) < 4 * np.sqrt(1000 + 1000.0**2)


@pytest.mark.by_hand
@pytest.mark.slow
def test_counts_of_a_library_have_bounds_that_enclose(tmp_path):
    """On exact draws, given their libraries."""
    chance = np.random.default_rng(0)
    counts = likelihoods.with_library(chance.poisson(chance.gamma(1, 4, (120, 5))) + 1)
    model = models.mlp_vae(
        6, 2, likelihood=likelihoods.negative_binomial(library=True), mean=counts.mean(axis=0)
    )
    dataset = data.from_arrays(counts[:100], counts[100:])
    run = train.fit(methods.aiwae(model, 2, 4), model, dataset, tmp_path, epochs=5, batch_size=20)
    target = run.target(contexts=counts)
    found = evaluate.bidirectional(KEY, target, evaluate.Settings(num_temperatures=200))
    assert found.is_possible
    assert abs(found.gap) < 0.2


def test_a_mixture_starts_as_a_standard_normal_in_expectation():
    params = jax.vmap(priors.mixture(2, 5).init)(jax.random.split(KEY, 2000))
    loc, scale = np.asarray(params["loc"], float), np.exp(np.asarray(params["log_scale"], float))
    variance = (loc**2 + scale**2).reshape(-1)
    assert abs(variance.mean() - 1.0) < 4 * variance.std() / np.sqrt(variance.size)


def test_normal_distributions_have_a_mixture_of_one():
    one = distributions.Mixture(jnp.zeros(1), jnp.array([[1.0, 2.0]]), jnp.array([[0.5, 3.0]]))
    same = distributions.DiagNormal(one.loc[0], one.scale[0])
    np.testing.assert_allclose(one.log_prob(jnp.ones(2)), same.log_prob(jnp.ones(2)), rtol=1e-6)
