import chex
import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest

from aiwae_jax import models, samplers, weights
from aiwae_jax.types import ChainInfo, Info

MODEL = lg.model()


def draw_many(sampler, num, key=0):
    params = lg.params()
    keys = jax.random.split(jax.random.key(key), num)

    def draw(key):
        particles, _ = sampler.draw(key, params, jnp.asarray(lg.DATUM), sampler.init())
        return particles._replace(posterior=None)  # which one's own need not be a pytree

    return jax.jit(jax.vmap(draw))(keys)


KINDS = {
    "importance": lambda model: samplers.importance(model, 5),
    "annealed": lambda model: samplers.annealed(model, 5, 4, 3, initial_step_size=0.5),
    "base": lambda model: samplers.annealed(
        model, 5, 4, 3, initial_step_size=0.8, chain_space="base", schedule="sigmoid"
    ),
}


def weighting_z_score(model, kind, num=40_000):
    """(mean weight / p(x) - 1) in standard errors."""
    sampler = KINDS[kind](model)
    assert "proper_weights" in sampler.gives
    log_weights = np.asarray(draw_many(sampler, num).log_weights, np.float64)
    exact = float(lg.exact_log_likelihood(lg.params().theta, lg.DATUM))
    means = np.exp(log_weights - exact).mean(axis=1)
    return abs(means.mean() - 1.0) / (means.std(ddof=1) / num**0.5)


def independence_z_score(kind):
    """Correlation of two particles of one set, over sets, in standard errors; inf if they equal."""
    sampler = (
        samplers.importance(MODEL, 2)
        if kind == "importance"
        else samplers.annealed(MODEL, 2, 3, 2, initial_step_size=0.3)
    )
    particles = draw_many(sampler, 10_000, key=2)
    z = np.asarray(particles.z, np.float64)
    if np.any(np.all(z[:, 0] == z[:, 1], axis=1)):
        return np.inf
    pairs = [z[..., 0], z[..., 1], np.asarray(particles.log_weights, np.float64)]
    correlations = [np.corrcoef(pair[:, 0], pair[:, 1])[0, 1] for pair in pairs]
    return float(np.max(np.abs(correlations))) * 10_000**0.5


@pytest.mark.parametrize("kind", ["importance", "annealed"])
def test_particles_of_a_set_are_independent(kind):
    assert independence_z_score(kind) < 4.0


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0, 1])
def test_independence_test_catches_shared_keys(monkeypatch, shared):
    """All starts alike (0), or all chains driven by the same noise (1)."""
    real_split = jax.random.split

    def split(key, num=2):
        keys = real_split(key, num)
        if num == (2, 2):
            same = jnp.broadcast_to(keys[shared, 0], (2,))
            keys = jnp.stack([same, keys[1]] if shared == 0 else [keys[0], same])
        return keys

    monkeypatch.setattr(jax.random, "split", split)
    assert independence_z_score("annealed") > 6.0


class _ForgetsItsScale:
    """A posterior whose log density leaves out the Jacobian -Σ log σ."""

    def __init__(self, q):
        self._q = q

    def __getattr__(self, name):
        return getattr(self._q, name)

    def log_prob(self, z):
        return self._q.log_prob(z) + jnp.sum(jnp.log(self._q.scale))

    def sample_and_log_prob(self, key):
        z = self._q.sample(key)
        return z, self.log_prob(z)

    def transport(self, noise):
        return self._q.transport(noise)[0], jnp.zeros(())


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", KINDS)
def test_mean_weight_is_the_evidence(kind):
    assert weighting_z_score(MODEL, kind) < 4.0


def test_base_space_returns_latents_that_the_last_move_brought_to_the_posterior():
    """Weighted moments of z, not of the noise, are the exact posterior's."""
    sampler = samplers.annealed(MODEL, 40_000, 8, 3, initial_step_size=0.8, chain_space="base")
    particles = jax.tree.map(lambda a: a[0], draw_many(sampler, 1))
    w = np.asarray(weights.normalize(particles.log_weights), np.float64)
    precision = np.eye(lg.D) + lg.WEIGHT.T @ lg.WEIGHT / lg.NOISE**2
    exact = np.linalg.solve(precision, lg.WEIGHT.T @ (lg.DATUM - lg.BIAS) / lg.NOISE**2)
    z = np.asarray(particles.z, np.float64)
    standard_error = np.sqrt((w[:, None] ** 2 * (z - exact) ** 2).sum(0))
    assert np.all(np.abs(w @ z - exact) < 4.0 * standard_error)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_weighting_test_catches_a_forgotten_jacobian(kind):
    faulty = MODEL._replace(posterior=lambda phi, x: _ForgetsItsScale(lg.posterior(phi, x)))
    assert weighting_z_score(MODEL, kind) < 4.0
    assert weighting_z_score(faulty, kind) > 6.0


def gradient_bias(num_temperatures):
    """(bias of the K=5 θ-gradient, its standard error) of the worst coordinate."""
    sampler = samplers.annealed(MODEL, 5, num_temperatures, 3, initial_step_size=0.5)
    params = lg.params()
    x = jnp.asarray(lg.DATUM)

    def estimate(particles):
        normalized = weights.normalize(particles.log_weights)
        gradient = jax.vmap(jax.grad(lg.log_joint), (None, None, 0))(params.theta, x, particles.z)
        return jnp.sum(normalized[:, None] * gradient["bias"], axis=0)

    estimates = np.asarray(jax.vmap(estimate)(draw_many(sampler, 20_000, key=1)), np.float64)
    exact = np.asarray(jax.grad(lg.exact_log_likelihood)(params.theta, x)["bias"])
    error = estimates.std(axis=0, ddof=1) / len(estimates) ** 0.5
    bias = np.abs(estimates.mean(axis=0) - exact)
    worst = np.argmax(bias / error)
    return bias[worst], error[worst]


@pytest.mark.slow
@pytest.mark.by_hand
def test_self_normalized_gradient_bias_at_k5_is_visible_and_shrinks_with_temperatures():
    (few, few_error), (many, many_error) = gradient_bias(2), gradient_bias(20)
    assert few > 6 * few_error
    assert many < 4 * many_error
    assert many < 0.3 * few


def test_annealed_with_two_temperatures_and_no_step_is_importance_sampling():
    sampler = samplers.annealed(MODEL, 6, 2, initial_step_size=0.0)
    particles = draw_many(sampler, 3)
    params = lg.params()
    q = lg.posterior(params.phi, lg.DATUM)
    flat = particles.z.reshape(-1, lg.D)
    expected = jax.vmap(lambda z: lg.log_joint(params.theta, lg.DATUM, z) - q.log_prob(z))(flat)
    np.testing.assert_allclose(particles.log_weights.ravel(), expected, rtol=1e-4, atol=1e-5)


def _gradient_through(sampler):
    def total(params):
        particles, _ = sampler.draw(
            jax.random.key(0), params, jnp.asarray(lg.DATUM), sampler.init()
        )
        return jnp.sum(particles.z) + jnp.sum(particles.log_weights)

    return jax.jit(jax.grad(total))(lg.params())


def test_declared_reparameterization_holds():
    stopped = _gradient_through(samplers.annealed(MODEL, 3, 4))
    chex.assert_trees_all_equal(stopped, jax.tree.map(jnp.zeros_like, stopped))
    flowing = _gradient_through(samplers.importance(MODEL, 3))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(flowing))


def test_particles_have_the_documented_shapes():
    for sampler in (samplers.importance(MODEL, 4), samplers.annealed(MODEL, 4, 6)):
        particles = draw_many(sampler, 2)
        chex.assert_shape(particles.z, (2, 4, lg.D))
        chex.assert_shape(particles.log_weights, (2, 4))


def test_diagnostics_are_reduced_over_particles_and_the_callers_batch():
    sampler = samplers.annealed(MODEL, 4, 6, initial_step_size=0.6)
    x = jnp.stack([jnp.asarray(lg.DATUM), -jnp.asarray(lg.DATUM)])
    keys = jax.random.split(jax.random.key(0), 2)

    def info(key, x, axis_name=None):
        return sampler.draw(key, lg.params(), x, sampler.init(), axis_name=axis_name)[1]

    each = jax.jit(jax.vmap(info))(keys, x)
    together = jax.jit(
        jax.vmap(lambda k, xi: info(k, xi, "batch"), out_axes=None, axis_name="batch")
    )(keys, x)
    chex.assert_shape(together["acceptance"], (5,))
    np.testing.assert_allclose(together["acceptance"], each["acceptance"].mean(0), rtol=1e-4)


def test_adaptation_moves_each_temperature_its_own_way():
    sampler = samplers.annealed(MODEL, 1, 4)
    adapted = sampler.adapt(sampler.init(), Info(chain=ChainInfo(jnp.array([0.9, 0.1, 0.7]))))
    np.testing.assert_allclose(adapted, [0.1002, 0.0998, 0.1002], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5, 5), "`num_particles` must be at least 1, got 0"),
        ((1, 1, 5), "`num_temperatures` counts both"),
        ((1, 5, 0), "`num_leapfrog_steps` must be at least 1, got 0"),
    ],
)
def test_impossible_counts_are_refused_when_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        samplers.annealed(MODEL, *arguments)


def test_particles_in_chunks_are_the_same_particles():
    whole = samplers.annealed(MODEL, 6, 4, 3)
    chunked = samplers.annealed(MODEL, 6, 4, 3, particle_chunk=2)
    draws = [draw_many(sampler, 5) for sampler in (whole, chunked)]
    chex.assert_trees_all_close(*draws, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="`particle_chunk` must divide `num_particles`=6, got 4"):
        samplers.annealed(MODEL, 6, 4, 3, particle_chunk=4)


@pytest.mark.slow
def test_bfloat16_forces_are_rounded_but_weights_and_energies_are_not():
    """Two temperatures: the weight is the importance weight of the start, to the last bit."""
    model = models.bernoulli_vae(12, 3, hidden_sizes=(8, 8), initialization="torch")
    params = model.init(jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2, 12), jnp.float32)
    found = {}
    for precision in ("float32", "bfloat16"):
        sampler = samplers.annealed(model, 4, 2, 3, force_precision=precision)
        found[precision] = sampler.draw(jax.random.key(1), params, x, sampler.init())[0]
    chex.assert_trees_all_equal(found["float32"].log_weights, found["bfloat16"].log_weights)
    difference = np.abs(np.asarray(found["float32"].z - found["bfloat16"].z)).max()
    assert 0 < difference < 0.05


def test_forces_in_lower_precision_need_a_model_that_has_them():
    with pytest.raises(ValueError, match="needs a model with `log_joint_in`"):
        samplers.annealed(MODEL, 2, 4, 3, force_precision="bfloat16")


@pytest.mark.parametrize("option", ["schedule", "chain_space"])
def test_unknown_choices_list_the_known_ones(option):
    with pytest.raises(ValueError, match=f"`{option}` must be one of l.*got 'other'"):
        samplers.annealed(MODEL, 2, 4, 3, **{option: "other"})
