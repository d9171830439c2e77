import chex
import eight_units as eu
import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest

import aiwae_jax
from aiwae_jax import methods, models, networks, samplers

MEAN_IMAGE = np.linspace(0.0, 1.0, 12)


def build(**options):
    return models.bernoulli_vae(12, 3, hidden_sizes=(7, 5), mean_image=MEAN_IMAGE, **options)


def test_log_joint_is_the_papers_model_written_out_in_numpy():
    model = build()
    theta = model.init(jax.random.key(0)).theta
    z = np.array([0.3, -1.2, 0.8])
    x = (np.arange(12) % 3 == 0).astype(float)
    h = z
    for layer in range(2):
        h = np.tanh(h @ theta["hidden"][layer]["kernel"] + theta["hidden"][layer]["bias"])
    logits = np.asarray(h @ theta["heads"][0]["kernel"] + theta["heads"][0]["bias"], np.float64)
    p = 1 / (1 + np.exp(-logits))
    expected = np.sum(x * np.log(p) + (1 - x) * np.log(1 - p))
    expected += -0.5 * np.sum(z**2) - 1.5 * np.log(2 * np.pi)
    found = model.log_joint(theta, jnp.asarray(x, jnp.float32), jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_posterior_scale_is_the_exponential_of_a_linear_head():
    model = build()
    phi = model.init(jax.random.key(0)).phi
    phi["heads"][1]["kernel"] = jnp.zeros_like(phi["heads"][1]["kernel"])
    phi["heads"][1]["bias"] = jnp.log(jnp.array([0.5, 1.0, 2.0]))
    q = model.posterior(phi, jnp.ones(12))
    np.testing.assert_allclose(q.stddev(), [0.5, 1.0, 2.0], rtol=1e-6)
    chex.assert_shape(q.mean(), (3,))


@pytest.mark.parametrize("initialization", models.INITIALIZATIONS)
def test_initialization_is_what_its_name_says(initialization):
    params = build(initialization=initialization).init(jax.random.key(0))
    output_bias = np.asarray(params.theta["heads"][0]["bias"])
    clipped = np.clip(MEAN_IMAGE, 0.001, 0.999)
    is_mean = np.allclose(output_bias, np.log(clipped / (1 - clipped)), rtol=1e-4, atol=1e-5)
    assert is_mean == initialization.endswith("mean_bias")
    kernel = np.asarray(params.phi["hidden"][0]["kernel"])
    bias = np.asarray(params.phi["hidden"][0]["bias"])
    if initialization.startswith("torch"):
        bound = 12**-0.5
        assert np.abs(bias).max() > 0
    else:
        bound = (6 / (12 + 5)) ** 0.5
        assert np.abs(bias).max() == 0
    assert 0.8 * bound < np.abs(kernel).max() <= bound


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="torch_mean_bias"):
        build(initialization="ones")
    with pytest.raises(ValueError, match=r"\['glorot', 'torch'\]"):
        networks.mlp(2, [3], [4], linear="ones")


def test_mean_bias_needs_a_mean_image():
    with pytest.raises(ValueError, match="needs `mean_image`"):
        models.bernoulli_vae(12, 3)


def test_ancestral_sample_has_the_shapes_and_values():
    model = build()
    theta = model.init(jax.random.key(0)).theta
    x, z = model.sample(jax.random.key(1), theta)
    chex.assert_shape([x, z], [(12,), (3,)])
    assert set(np.unique(x)) <= {0.0, 1.0}


def test_matrix_products_ask_for_real_fp32():
    model = build()
    theta = model.init(jax.random.key(0)).theta
    jaxpr = str(jax.make_jaxpr(model.log_joint)(theta, jnp.ones(12), jnp.ones(3)))
    assert jaxpr.count("HIGHEST") >= 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"prior": lambda theta: None},
            r"`prior` must be .* of \(theta, x\), got one of \(theta\);",
        ),
        ({"sample": lambda key, theta: None}, r"`sample` must be a function of \(key, theta, x\)"),
        ({"sample": 3}, r"`sample` must be a function of \(key, theta, x\), got int"),
    ],
)
def test_functions_that_take_no_datum_are_refused_in_one_sentence(fields, message):
    with pytest.raises(TypeError, match=message):
        lg.model()._replace(**fields)
    with pytest.raises(TypeError, match=message):
        type(lg.model())(**{**lg.model()._asdict(), **fields})


@pytest.mark.parametrize("name", ["conditional_prior", "conditional_sample", "has_binary_latents"])
def test_fields_of_earlier_versions_are_refused_with_what_they_are_now(name):
    with pytest.raises(TypeError, match=f"`{name}` is no field .*; give `"):
        type(lg.model())(**lg.model()._asdict(), **{name: None})


def test_a_model_without_prior_or_sample_does_what_needs_neither():
    model = lg.model()._replace(prior=None, sample=None)
    sampler = methods.vae(model)[0].sampler
    particles, _ = sampler.draw(jax.random.key(0), lg.params(), jnp.asarray(lg.DATUM), ())
    assert np.isfinite(methods.vae(model)[0].objective.value(lg.params(), particles))
    assert not model.is_conditional
    for build in (
        lambda: samplers.importance_from_prior(model, 2),
        lambda: samplers.annealed(model, 2, 3, start="prior"),
        lambda: samplers.ancestral(model),
        lambda: methods.hvae(model)[0].init_params(jax.random.key(0)),
    ):
        with pytest.raises(ValueError, match=r"`model.(prior|sample)` must be given, for"):
            build()


def test_latents_of_an_unknown_kind_are_refused():
    with pytest.raises(
        ValueError, match="`latents` must be one of continuous, binary; got 'spins'"
    ):
        lg.model()._replace(latents="spins")


def test_a_model_is_conditional_where_it_cannot_draw_without_a_datum():
    assert eu.PREDICTOR.is_conditional
    assert not eu.NETWORK.is_conditional
    assert not build().is_conditional


@pytest.mark.parametrize(
    ("name", "attribute"),
    [("hmc", "step"), ("discrete", "gibbs"), ("flows", "planar"), ("belief", "half_predictor")],
)
def test_modules_are_found_by_their_former_names(name, attribute):
    with pytest.warns(FutureWarning, match=f"`aiwae_jax.{name}` is `aiwae_jax.mo.* now"):
        module = getattr(aiwae_jax, name)
    assert callable(getattr(module, attribute))
    with pytest.raises(AttributeError, match="no attribute 'nuts'"):
        aiwae_jax.nuts  # noqa: B018


def test_a_model_is_put_together_of_placeholders_as_jax_does():
    leaves, structure = jax.tree.flatten(models.bernoulli_vae(6, 2, initialization="torch"))
    jax.tree.unflatten(structure, [object()] * len(leaves))
