"""A trained model in use: against the linear-Gaussian model's closed forms, and at its doors."""

import dataclasses
import re
import time

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest

from aiwae_jax import distributions, evaluate, likelihoods, models, support, train
from aiwae_jax.runs import progress
from aiwae_jax.train import of_rows as uses
from aiwae_jax.types import Params

PARAMS = lg.params()
X = np.random.default_rng(0).normal(size=(11, lg.X)).astype(np.float32)
SETTINGS = evaluate.Settings(num_temperatures=50, num_chains=16)
BITS = np.random.default_rng(1).integers(0, 2, (5, 6))


def gaussian() -> train.Trained:
    def likelihood(theta, z):
        loc = lg.product(theta["weight"], z) + theta["bias"]
        return distributions.DiagNormal(loc, jnp.full(lg.X, lg.NOISE))

    model = lg.model()._replace(likelihood=likelihood, check_data=support.check_finite)
    return train.Trained(model, PARAMS)


@pytest.fixture(scope="module")
def bernoulli() -> train.Trained:
    model = models.bernoulli_vae(6, 2, hidden_sizes=(4,), initialization="torch")
    return train.Trained(model, model.init(jax.random.key(0)), max_level=255.0)


def decoded(z):
    return z @ lg.WEIGHT.T + lg.BIAS


def encoded(x):
    phi = jax.tree.map(np.asarray, PARAMS.phi)
    return x @ phi["weight"].T + phi["bias"]


def test_means_are_those_of_the_model(monkeypatch):
    monkeypatch.setattr(uses, "_ROWS_AT_ONCE", 4)  # 4, 4 and 3 rows
    run = gaussian()
    assert (run.data_size, run.latent_size) == (lg.X, lg.D)
    mean, stddev = run.encode(X)
    np.testing.assert_allclose(mean, encoded(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stddev, np.tile([0.8, 0.7], (11, 1)), rtol=1e-6)
    np.testing.assert_allclose(run.decode(mean), decoded(mean), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run.reconstruct(X), decoded(encoded(X)), rtol=1e-5, atol=1e-6)


def test_draws_have_the_moments_of_the_model():
    run, num = gaussian(), 4000
    z = run.sample_latents(jax.random.key(0), X[:2], num)
    assert z.shape == (2, num, lg.D)
    error = np.array([0.8, 0.7]) / num**0.5
    assert (np.abs(z.mean(axis=1) - encoded(X[:2])) < 4 * error).all()
    x, z = run.sample(jax.random.key(1), num)
    covariance = lg.WEIGHT @ lg.WEIGHT.T + lg.NOISE**2 * np.eye(lg.X)
    assert (np.abs(x.mean(axis=0) - lg.BIAS) < 4 * np.sqrt(np.diag(covariance) / num)).all()
    np.testing.assert_allclose((x - decoded(z)).std(axis=0), lg.NOISE, rtol=4 / (2 * num) ** 0.5)


@pytest.mark.slow
def test_the_likelihood_is_the_exact_one_within_its_errors():
    found = gaussian().log_likelihood(X, SETTINGS)
    exact = jax.vmap(lambda x: lg.exact_log_likelihood(PARAMS.theta, x))(jnp.asarray(X))
    assert found.is_reliable.all()
    scores = (found.log_likelihood - np.asarray(exact)) / found.standard_errors
    assert np.abs(scores).max() < 4.5
    assert 0.3 < np.sqrt(np.mean(scores**2)) < 2.0
    again = gaussian().log_likelihood(X, SETTINGS)
    np.testing.assert_array_equal(again.log_likelihood, found.log_likelihood)
    from_prior = gaussian().log_likelihood(X, SETTINGS, start="prior")
    assert (from_prior.log_likelihood != found.log_likelihood).all()
    np.testing.assert_allclose(from_prior.log_likelihood, exact, atol=0.3)


def test_grey_levels_are_drawn_as_bits_once_by_the_key(bernoulli):
    levels = np.where(BITS == 1, 255, 0)
    np.testing.assert_array_equal(bernoulli.rows(levels), BITS)  # white and black are certain
    np.testing.assert_array_equal(bernoulli.rows(BITS), BITS)  # bits are bits already
    grey = np.full((2000, 6), 51)
    bits = bernoulli.rows(grey, jax.random.key(3))
    assert set(np.unique(bits)) == {0.0, 1.0}
    assert abs(bits.mean() - 0.2) < 4 * np.sqrt(0.16 / grey.size)
    np.testing.assert_array_equal(bernoulli.rows(grey, jax.random.key(3)), bits)
    assert (bernoulli.rows(grey, jax.random.key(4)) != bits).any()


def test_levels_of_another_scale_are_refused_and_not_read_as_blank(bernoulli):
    trained = dataclasses.replace(bernoulli, max_level=255.0)
    size = trained.data_size
    fractions = np.linspace(0.0, 1.0, 2 * size, dtype=np.float32).reshape(2, size)
    bits = (fractions > 0.5).astype(np.uint8)
    with pytest.raises(ValueError, match="holds fractions up to 1, and the model was trained on"):
        trained.rows(fractions)
    with pytest.warns(UserWarning, match="levels 0 and 1 of 255 alone, which are nearly black"):
        trained.rows(bits)
    np.testing.assert_array_equal(trained.rows(bits.astype(bool)), bits)
    assert not trained.rows(np.zeros((1, size), np.uint8)).any()


def test_a_row_is_bits_or_levels_whatever_stands_beside_it(bernoulli):
    levels = dataclasses.replace(bernoulli, max_level=255.0)
    width = levels.data_size
    dark, light = np.zeros((1, width)), np.full((1, width), 255.0)
    dark[0, 0] = 1.0
    both = levels.rows(np.concatenate([dark, light]))
    np.testing.assert_array_equal(both[:1], levels.rows(dark))  # floats of 0 and 1 are bits
    np.testing.assert_array_equal(both[0], dark[0])
    with pytest.warns(UserWarning, match="nearly black"):
        drawn = levels.rows(dark.astype(np.uint8))  # a level of 1 of 255 is nearly always 0
    np.testing.assert_array_equal(drawn, np.zeros((1, width)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: run.encode(BITS[0]), r"`x` must be rows, of shape \[N, 6\]; got \[6\]"),
        (lambda run: run.encode(BITS[:0]), r"`x` must be rows, of shape \[N, 6\]; got \[0, 6\]"),
        (lambda run: run.encode(BITS[:, :5]), "`x` must be rows of the 6 numbers .* got 5"),
        (lambda run: run.decode(np.zeros((2, 3))), "`z` must be rows of the 2 numbers .* got 3"),
        (lambda run: run.encode(2 * BITS - 1), r"bits, or grey levels in \[0, 255\].*got -1 in"),
        (lambda run: run.encode(BITS * np.nan), "`x` must be bits, or grey levels .* got nan"),
        (lambda run: run.sample(jax.random.key(0), 0), "`num` must be at least 1, got 0"),
        (lambda run: run.log_likelihood(BITS, start="q"), "`start` must be one of posterior, pr"),
        (lambda run: run.export("model.pkl"), r"`path` must end in \.npz, got 'model\.pkl'"),
    ],
)
def test_wrong_rows_are_one_line(bernoulli, call, message):
    with pytest.raises(ValueError, match=message):
        call(bernoulli)


def test_wrong_kinds_are_one_line(bernoulli):
    with pytest.raises(TypeError, match="`x` must be of numbers"):
        bernoulli.encode(np.full((2, 6), "a"))
    with pytest.raises(TypeError, match=r"got a key: log_likelihood\(x, settings, key=key\)"):
        bernoulli.log_likelihood(jax.random.key(0), BITS)
    with pytest.raises(ValueError, match="`x` must be finite"):
        gaussian().encode(X * np.inf)
    with pytest.raises(ValueError, match="must be 0s and 1s for a Bernoulli likelihood"):
        train.Trained(bernoulli.model, bernoulli.params).encode(0.5 * BITS)


def test_what_was_not_trained_is_not_used():
    run = train.Trained(lg.model(), PARAMS, has_posterior=False)
    assert run.start == "prior"
    for call in (run.encode, run.reconstruct, lambda x: run.sample_latents(jax.random.key(0), x)):
        with pytest.raises(ValueError, match=r"needs q\(z\|x\), which this run's method does not"):
            call(X)
    with pytest.raises(ValueError, match="`decode` needs a model with a `likelihood`"):
        train.Trained(lg.model(), PARAMS).decode(np.zeros((1, lg.D)))
    with pytest.raises(ValueError, match=r"q\(z\|x\), which this run's method does not train"):
        run.log_likelihood(X, SETTINGS, start="posterior")


def test_binary_and_conditional_models_are_reconstructed():
    model = models.half_predictor(6, layer_sizes=(3,), initialization="torch")
    run = train.Trained(model, model.init(jax.random.key(0)))
    found = run.reconstruct(BITS)
    assert found.shape == BITS.shape
    np.testing.assert_array_equal(found[:, :3], BITS[:, :3])  # what is given
    assert ((found[:, 3:] > 0) & (found[:, 3:] < 1)).all()


def test_counts_given_their_total_are_reconstructed_to_it():
    counts = np.random.default_rng(2).poisson(3.0, (5, 4)) + 1
    rows = likelihoods.with_library(counts)
    likelihood = likelihoods.poisson(library=True)
    model = models.mlp_vae(5, 2, likelihood=likelihood, hidden_sizes=(4,), initialization="torch")
    run = train.Trained(model, model.init(jax.random.key(0)))
    found = run.reconstruct(rows)
    np.testing.assert_array_equal(found[:, 4], rows[:, 4])
    np.testing.assert_allclose(found[:, :4].sum(axis=1), rows[:, 4], rtol=1e-5)
    shares = run.decode(run.encode(rows)[0])
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-5)


def test_progress_of_short_work_is_not_shown(capsys, monkeypatch):
    gaussian().encode(X)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(uses, "SECONDS_UNSEEN", 0.0)
    gaussian().encode(X)
    assert "encoding 100%" in capsys.readouterr().err


def test_a_new_stage_begins_a_new_bar(capsys):
    with progress.Stages() as shown:
        for done in (5, 10, 2, 10):
            shown.update("work", done, 10)
    assert capsys.readouterr().err.count("work 100%") == 2


def test_a_bar_begins_before_the_work_has_done_anything(capsys, monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with progress.Stages() as shown:
        shown.titled("work")
        assert re.search(r"work.*compiling", capsys.readouterr().err)
    capsys.readouterr()
    with progress.Stages(0.3) as shown:  # unseen at first
        shown.titled("work")
        assert capsys.readouterr().err == ""
        time.sleep(1.0)
        assert "compiling" in capsys.readouterr().err
    capsys.readouterr()
    with progress.silent(), progress.Stages(0.3) as shown:
        shown.titled("work")
        time.sleep(0.6)
    with progress.Stages(0.3) as shown:
        shown.titled("work")
    time.sleep(0.6)
    assert "compiling" not in capsys.readouterr().err


@pytest.mark.slow
def test_pilots_have_a_bar_of_their_own(capsys):
    shown = progress.Stages()
    settings = evaluate.Settings(num_temperatures=10, num_chains=4)
    gaussian().log_likelihood(X, settings, progress_fn=shown.titled("log p(x)"))
    shown.close()
    lines = [line.split("%")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["tuning 100", "log p(x) 100"]


def test_params_are_an_argument_of_the_compiled_program():
    run = gaussian()
    run.encode(X)
    size = uses.moments._cache_size()
    other = Params(PARAMS.theta, jax.tree.map(lambda a: 2 * a, PARAMS.phi))
    mean, _ = train.Trained(run.model, other).encode(X)
    np.testing.assert_allclose(mean, 2 * encoded(X), rtol=1e-5, atol=1e-6)
    assert uses.moments._cache_size() == size
