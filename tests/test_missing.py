"""Missing values: the likelihood of what was observed, against a model that is known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aiwae_jax import data, likelihoods, methods, models, train

GAP = np.nan
CASES = {
    "normal": (likelihoods.normal("per_datum"), [0.5, GAP, -1.0]),
    "student_t": (likelihoods.student_t(), [GAP, 2.0, -1.0]),
    "bernoulli": (likelihoods.bernoulli(), [1.0, GAP, 0.0]),
    "poisson": (likelihoods.poisson(), [3.0, 0.0, GAP]),
    "zinb": (likelihoods.zero_inflated_negative_binomial(), [GAP, 4.0, 0.0]),
    "categorical": (likelihoods.categorical((2, 3, 4)), [1.0, GAP, 3.0]),
    "levels": (likelihoods.discretized_logistic(16), [GAP, 15.0, 7.0]),
    "standardized": (
        likelihoods.standardized(likelihoods.normal(0.5), [1e4, -3.0, 0.0], [0.1, 2.0, 5.0]),
        [GAP, GAP, 1.0],
    ),
    "columns": (
        likelihoods.columns(
            {"a,c": likelihoods.normal(), "b": likelihoods.categorical(3)}, ("a", "b", "c")
        ),
        [0.4, GAP, GAP],
    ),
}


@pytest.mark.few(3)
@pytest.mark.parametrize("name", CASES)
def test_what_is_missing_counts_for_nothing_and_leaves_derivatives_finite(name):
    """Of three columns the sum over those observed, whatever the others' outputs are."""
    base, row = CASES[name]
    x = jnp.asarray(row)
    likelihood = likelihoods.masked(base)
    sizes = base.head_sizes(3)
    keys = jax.random.split(jax.random.key(0), len(sizes))
    heads = [0.5 * jax.random.normal(k, (n,)) for k, n in zip(keys, sizes, strict=True)]
    params = base.init(3)

    value, gradients = jax.value_and_grad(lambda h: likelihood.build(params, *h).log_prob(x))(heads)
    full = jnp.where(jnp.isnan(x), 1.0, x)
    each = base.build(params, *heads).log_probs(full)
    np.testing.assert_allclose(jnp.sum(each), base.build(params, *heads).log_prob(full), rtol=1e-5)
    np.testing.assert_allclose(value, np.asarray(each)[~np.isnan(row)].sum(), rtol=1e-5)
    assert all(np.isfinite(g).all() for g in gradients)
    if len(sizes) == 1 and sizes[0] == 3:
        np.testing.assert_array_equal(np.asarray(gradients[0])[np.isnan(row)], 0.0)

    shown = likelihood.inputs(x)
    np.testing.assert_array_equal(shown[-3:], ~np.isnan(row))
    assert np.isfinite(shown).all()
    likelihood.check(np.asarray([row], np.float32), name="x")
    with pytest.raises(ValueError, match="`x` must be"):
        likelihood.check(np.asarray([[*row[:-1], np.inf]], np.float32), name="x")


def test_an_encoder_sees_the_mean_or_no_class_where_a_value_is_missing():
    base = likelihoods.columns(
        {
            "a": likelihoods.standardized(likelihoods.normal(), [5.0], [2.0]),
            "b": likelihoods.categorical(3),
        },
        ("a", "b"),
    )
    inputs = likelihoods.masked(base).inputs
    np.testing.assert_array_equal(inputs(jnp.asarray([GAP, 2.0])), [0.0, 0, 0, 1, 0, 1])
    np.testing.assert_array_equal(inputs(jnp.asarray([7.0, GAP])), [1.0, 0, 0, 0, 1, 0])


def test_what_cannot_be_masked_says_why():
    with pytest.raises(ValueError, match="a library size is the total of all counts"):
        likelihoods.masked(likelihoods.poisson(library=True))
    masked = likelihoods.masked(likelihoods.normal())
    with pytest.raises(ValueError, match="masked already"):
        likelihoods.masked(masked)
    with pytest.raises(ValueError, match="standardize first"):
        likelihoods.standardized(masked, [0.0], [1.0])
    with pytest.raises(TypeError, match=r"`base` must be a `likelihoods.Likelihood`"):
        likelihoods.masked("normal")

    class Own:
        def log_prob(self, x):
            return jnp.sum(x)

    own = likelihoods.masked(likelihoods.Likelihood(lambda params, mean: Own()))
    with pytest.raises(TypeError, match=r"`log_probs.*got Own"):
        own.build({}, jnp.zeros(2))


def test_standardizing_goes_by_what_is_there():
    rows = np.array([[1.0, GAP], [3.0, 5.0], [GAP, 9.0]], np.float32)
    likelihood = likelihoods.masked(likelihoods.standardize(likelihoods.normal(1.0), rows))
    found = likelihood.build({}, jnp.zeros(2))
    np.testing.assert_allclose(found.mean(), [2.0, 7.0])
    np.testing.assert_allclose(found.base.scale, [1.0, 2.0])
    with pytest.raises(ValueError, match="a value in every column, got none in column 1"):
        likelihoods.standardize(likelihoods.normal(), np.array([[1.0, GAP], [2.0, GAP]]))
    text = likelihoods.from_text("normal:a;categorical:b", rows, names="ab", with_missing=True)
    assert text.takes_missing
    with pytest.raises(ValueError, match="row 0, column 'b'"):  # 5.5 is no class
        text.check(np.array([[1.0, 5.5]], np.float32), name="x")


def test_gaps_are_refused_unless_they_are_said_to_be_some(tmp_path):
    rows = np.array([[1.0, GAP], [0.5, 2.0], [GAP, 4.0]], np.float32)
    with pytest.raises(data.DataError, match="`missing`='at_random'"):
        data.from_arrays(rows, rows)
    dataset = data.from_arrays(rows, rows, missing="at_random")
    assert dataset.missing == dataset.describe()["missing"] == "at_random"
    assert "2 of them missing" in data.from_arrays(rows, rows[1:2], missing="at_random").in_words()
    np.testing.assert_allclose(dataset.mean_image(), [0.75, 3.0])
    with pytest.raises(ValueError, match="`missing` must be one of at_random"):
        data.from_arrays(rows, rows, missing="mcar")
    with pytest.raises(data.DataError, match="infinite"):
        data.from_arrays(rows, np.where(rows == 4.0, np.inf, rows), missing="at_random")
    with pytest.raises(data.DataError, match="a value in every column, got none in column 0"):
        data.from_arrays(rows[2:], rows, missing="at_random")
    model = models.mlp_vae(2, 1, likelihood=likelihoods.normal())
    with pytest.raises(ValueError, match=r"takes no missing values.*`likelihoods.masked"):
        train.fit(methods.vae(model), model, dataset, tmp_path / "run", batch_size=2)
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,x\n,y\n3,\n4,x\n5,y\n")
    found = data.from_file(path, missing="at_random")
    assert np.isnan(found.train).sum() + np.isnan(found.test).sum() == 2
    assert data.reload(found.describe()).missing == "at_random"
    new = data.read_rows(
        path, columns=found.columns, categories=found.categories, missing="at_random"
    )
    assert np.isnan(new.rows).sum() == 2
