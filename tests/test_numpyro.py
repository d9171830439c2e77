"""A NumPyro model's evidence: its density, its prior, its data, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.infer.util import potential_energy, unconstrain_fn

from aiwae_jax import bridges, evaluate

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], np.float32)
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], np.float32)
SCHOOLS_EVIDENCE = -31.311  # by quadrature of tau, all else in closed form


def schools(effects, errors, is_centred=True):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", len(effects)):
        if is_centred:
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
        else:
            theta = mu + tau * numpyro.sample("noise", dist.Normal(0.0, 1.0))
        numpyro.sample("effects", dist.Normal(theta, errors), obs=effects)


def many_supports(y):
    upper = numpyro.sample("upper", dist.Gamma(2.0, 1.0))
    numpyro.sample("below", dist.Uniform(-1.0, upper))  # a support that another latent moves
    shares = numpyro.sample("shares", dist.Dirichlet(jnp.ones(3)))
    factor = numpyro.sample("factor", dist.LKJCholesky(3, 1.5))
    numpyro.factor("bonus", jnp.log(shares[0]))
    numpyro.sample("y", dist.MultivariateNormal(shares, scale_tril=upper * factor), obs=y)


def walk(y):
    scale = numpyro.sample("scale", dist.HalfNormal())

    def step(place, y):
        place = numpyro.sample("place", dist.Normal(place, scale))
        numpyro.sample("width", dist.LogNormal(0.0, scale))
        numpyro.sample("y", dist.Normal(place, 1.0), obs=y)
        return place, None

    scan(step, 0.0, y)


@pytest.fixture(autouse=True)
def _shapes_and_types_as_numpyro_promotes_them():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def first(x):
    return jax.tree.map(lambda leaf: leaf[0], x)


@pytest.mark.slow
@pytest.mark.parametrize("model", [many_supports, walk])
def test_density_is_numpyros_own_also_of_other_data(model):
    y = jnp.array([0.3, -0.2, 0.5])
    target = bridges.numpyro(model, y)
    z = target.start(first(target.x)).sample(jax.random.key(0))
    for data in (y, y + 1.0):
        params = unconstrain_fn(model, (data,), {}, target.sites(z))
        expected = -potential_energy(model, (data,), {}, params)
        np.testing.assert_allclose(target.log_joint({"y": data}, z), expected, rtol=1e-5)
    assert target.sample is None  # a factor, and a scan


def positive_and_share(y=0.4):
    positive = numpyro.sample("positive", dist.Gamma(3.0, 1.0))
    numpyro.sample("share", dist.Beta(2.0, 1.0 + positive))
    numpyro.sample("y", dist.Normal(positive, 1.0), obs=y)


def grid_of_prior():
    """Points `[M, D]` of a grid, and the prior's mass at each."""
    target = bridges.numpyro(positive_and_share)
    axis, step = np.linspace(-14.0, 14.0, 561, retstep=True, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    start = target.start(first(target.x))
    mass = np.exp(jax.jit(jax.vmap(start.log_prob))(points)) * step**2
    return start, points, mass.astype(np.float64)


def test_prior_is_normalized_and_its_draws_are_of_it():
    start, points, mass = grid_of_prior()
    assert abs(mass.sum() - 1.0) < 2e-3
    z = np.asarray(jax.jit(jax.vmap(start.sample))(jax.random.split(jax.random.key(0), 20_000)))
    for statistic in (lambda z: z, np.square, np.tanh):
        draws = statistic(z)
        expected = (statistic(points) * mass[:, None]).sum(axis=0)
        standard_error = draws.std(axis=0) / np.sqrt(len(draws))
        assert (np.abs(draws.mean(axis=0) - expected) < 4.0 * standard_error + 2e-3).all()


def test_a_prior_without_its_jacobian_is_not_normalized(monkeypatch):
    """The planted fault."""
    monkeypatch.setattr(
        dist.transforms.ExpTransform,
        "log_abs_det_jacobian",
        lambda self, x, y, intermediates=None: jnp.zeros_like(x),
    )
    assert abs(grid_of_prior()[-1].sum() - 1.0) > 0.1


def conjugate(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def test_weights_of_prior_draws_average_to_the_exact_evidence_of_each_datum():
    y = np.array([0.5, -0.3, 1.1], np.float32)
    target = bridges.numpyro(conjugate, y)
    data = {"y": np.stack([y, y + 1.0])}
    keys = jax.random.split(jax.random.key(0), 20_000)

    @jax.jit
    @jax.vmap
    def weights(x):
        start = target.start(x)
        z = jax.vmap(start.sample)(keys)
        return jnp.exp(jax.vmap(target.log_joint, (None, 0))(x, z) - jax.vmap(start.log_prob)(z))

    found = np.asarray(weights(data), np.float64)
    covariance = np.eye(3) + np.ones((3, 3))
    exact = np.exp(dist.MultivariateNormal(jnp.zeros(3), covariance).log_prob(data["y"]))
    error = found.std(axis=1) / np.sqrt(len(keys))
    assert (np.abs(found.mean(axis=1) - exact) < 4.0 * error).all()


def test_model_draws_its_own_data():
    target = bridges.numpyro(conjugate, np.zeros(2, np.float32))
    x, z = jax.jit(jax.vmap(target.sample))(jax.random.split(jax.random.key(1), 20_000))
    assert x["y"].shape == (20_000, 2)
    noise = np.asarray(x["y"] - z)
    assert np.abs(np.cov(noise.T) - np.eye(2)).max() < 0.05  # five standard errors
    assert abs(np.corrcoef(noise[:, 0], z[:, 0])[0, 1]) < 0.03


def test_next_data_of_a_model_have_its_functions_again():
    one, other = (bridges.numpyro(conjugate, np.full(3, v, np.float32)) for v in (0.0, 1.0))
    same = jax.tree.structure(one.functions), jax.tree.structure(other.functions)
    assert same[0] == same[1]


def discrete(y):
    numpyro.sample("mean", dist.Normal())
    numpyro.sample("which", dist.Bernoulli(0.5))


def improper(y):
    numpyro.sample("mean", dist.ImproperUniform(dist.constraints.real, (), ()).expand([2]))


def deterministic(y):
    numpyro.sample("mean", dist.Delta(1.0))


def masked(y):
    numpyro.sample("mean", dist.Normal().mask(False))


def scaled(y):
    with handlers.scale(scale=2.0):
        numpyro.sample("mean", dist.Normal())


def subsampled(y):
    numpyro.sample("mean", dist.Normal())
    with numpyro.plate("rows", 3, subsample_size=2) as rows:
        numpyro.sample("y", dist.Normal(), obs=y[rows])


def parameter(y):
    numpyro.param("mean", 0.0)


def nothing_latent(y):
    numpyro.sample("y", dist.Normal(), obs=y)


def looking(y):
    numpyro.sample("mean", dist.Normal())
    numpyro.sample("y", dist.Normal(scale=float(y.max())), obs=y)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (discrete, "'which' \\(Bernoulli.*is discrete"),
        (improper, "'mean' is ImproperUniform"),
        (deterministic, "'mean' is Delta"),
        (masked, "'mean' is masked or scaled"),
        (scaled, "'mean' is masked or scaled"),
        (subsampled, "plate 'rows' sees 2 of its 3 rows"),
        (parameter, "parameter 'mean' has none"),
        (nothing_latent, "must have latent sites"),
        (looking, "`model` fails with the arrays among its arguments traced"),
    ],
)
def test_what_has_no_evidence_is_refused(model, said):
    with pytest.raises((ValueError, TypeError), match=said):
        bridges.numpyro(model, np.ones(3, np.float32))


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="`model` must be a function of NumPyro's primitives"):
        bridges.numpyro(np.ones(3))


@pytest.mark.slow
@pytest.mark.parametrize("is_centred", [True, False])
def test_eight_schools_from_their_source(is_centred):
    target = bridges.numpyro(schools, EFFECTS, ERRORS, is_centred)
    settings = evaluate.Settings(num_chains=32, chain_space="latent")
    found = evaluate.log_likelihood(jax.random.key(0), target, target.x, settings)
    error = found.standard_errors[0]
    assert error < 0.25
    assert abs(found.log_likelihood[0] - SCHOOLS_EVIDENCE) < 3.0 * error
