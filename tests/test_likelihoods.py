"""Likelihoods: each against scipy.stats, its own draws, and what float32 could do to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import widths
from scipy import special, stats

from aiwae_jax import likelihoods, networks
from aiwae_jax.likelihoods import gamma

KEY = jax.random.key(0)
NUM_DRAWS = 20_000
LOC = np.array([0.3, -1.2, 2.0], np.float32)


def built(likelihood, *outputs, num_columns=3, **learned):
    """The distribution at some outputs; `learned` in the place of what it starts from."""
    params = likelihood.init(num_columns) | {n: jnp.asarray(v) for n, v in learned.items()}
    return likelihood.build(params, *(jnp.asarray(o, jnp.float32) for o in outputs))


LOG_MEAN = np.array([0.5, 2.0, -1.0], np.float32)
LOG_R = np.array([-0.7, 1.0, 3.0], np.float32)
ZERO = np.array([-1.0, 0.5, 2.0], np.float32)


def nbinom(mean, r):
    return stats.nbinom(r, r / (r + mean))


def zinb_logpmf(x, mean, r, logits):
    base = nbinom(mean, r).pmf(x)
    share = special.expit(logits)
    return np.log(np.where(x == 0, share, 0.0) + (1 - share) * base)


LIBRARY = 40.0
OF_LIBRARY = LIBRARY * special.softmax(LOG_MEAN.astype(float))
COUNTS = np.array([2.0, 0.0, 5.0])
REAL = np.array([0.1, 0.0, 4.0])
# name -> the distribution, a datum, its log probability by scipy, and mean and variance of draws
CASES = {
    "normal fixed": (
        built(likelihoods.normal(0.7), LOC),
        REAL,
        stats.norm(LOC, 0.7).logpdf(REAL),
        (LOC, 0.49),
    ),
    "normal shared": (
        built(likelihoods.normal(), LOC, log_scale=-0.4),
        REAL,
        stats.norm(LOC, np.exp(-0.4)).logpdf(REAL),
        (LOC, np.exp(-0.8)),
    ),
    "normal per column": (
        built(likelihoods.normal("per_column", min_scale=0.1), LOC, log_scale=LOC),
        REAL,
        stats.norm(LOC, 0.1 + np.exp(LOC)).logpdf(REAL),
        (LOC, (0.1 + np.exp(LOC)) ** 2),
    ),
    "normal per datum": (
        built(likelihoods.normal("per_datum", initial_scale=0.6, min_scale=0.1), LOC, LOC),
        REAL,
        stats.norm(LOC, 0.1 + np.log1p(np.expm1(0.5) * np.exp(LOC))).logpdf(REAL),
        (LOC, (0.1 + np.log1p(np.expm1(0.5) * np.exp(LOC))) ** 2),
    ),
    "student_t": (
        built(likelihoods.student_t(6.0, 0.5), LOC),
        REAL,
        stats.t(6.0, LOC, 0.5).logpdf(REAL),
        (LOC, 0.25 * 6 / 4),
    ),
    "student_t learned": (
        built(likelihoods.student_t(scale="per_column"), LOC, log_df=np.log(9.0), log_scale=LOC),
        REAL,
        stats.t(9.0, LOC, np.exp(LOC)).logpdf(REAL),
        (LOC, np.exp(2 * LOC) * 9 / 7),
    ),
    "poisson": (
        built(likelihoods.poisson(), LOG_MEAN),
        COUNTS,
        stats.poisson(np.exp(LOG_MEAN)).logpmf(COUNTS),
        (np.exp(LOG_MEAN), np.exp(LOG_MEAN)),
    ),
    "poisson of a library": (
        built(likelihoods.poisson(library=True), LOG_MEAN).given(np.array([LIBRARY])),
        np.array([*COUNTS, LIBRARY]),
        stats.poisson(OF_LIBRARY).logpmf(COUNTS),
        (OF_LIBRARY, OF_LIBRARY),
    ),
    "negative_binomial": (
        built(likelihoods.negative_binomial(), LOG_MEAN, log_dispersion=LOG_R),
        COUNTS,
        nbinom(np.exp(LOG_MEAN), np.exp(LOG_R)).logpmf(COUNTS),
        (np.exp(LOG_MEAN), np.exp(LOG_MEAN) + np.exp(2 * LOG_MEAN - LOG_R)),
    ),
    "negative_binomial of a library": (
        built(
            likelihoods.negative_binomial(library=True),
            LOG_MEAN,
            log_dispersion=LOG_R,
            num_columns=4,
        ).given(np.array([LIBRARY])),
        np.array([*COUNTS, LIBRARY]),
        nbinom(OF_LIBRARY, np.exp(LOG_R)).logpmf(COUNTS),
        (OF_LIBRARY, OF_LIBRARY + OF_LIBRARY**2 / np.exp(LOG_R)),
    ),
    "zero_inflated_negative_binomial": (
        built(likelihoods.zero_inflated_negative_binomial(), LOG_MEAN, ZERO, log_dispersion=LOG_R),
        COUNTS,
        zinb_logpmf(COUNTS, np.exp(LOG_MEAN), np.exp(LOG_R), ZERO),
        None,
    ),
    "categorical": (
        built(likelihoods.categorical([2, 3, 2]), [0.1, 1.0, 0.3, -1.0, 2.0, 0.0, 0.4]),
        np.array([1.0, 2.0, 0.0]),
        [
            special.log_softmax([0.1, 1.0])[1],
            special.log_softmax([0.3, -1.0, 2.0])[2],
            special.log_softmax([0.0, 0.4])[0],
        ],
        None,
    ),
    "bernoulli": (
        built(likelihoods.bernoulli(), LOC),
        np.array([1.0, 0.0, 1.0]),
        stats.bernoulli(special.expit(LOC)).logpmf([1, 0, 1]),
        (special.expit(LOC), special.expit(LOC) * special.expit(-LOC)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_log_probabilities_are_scipys(case):
    distribution, x, expected, _ = CASES[case]
    found = distribution.log_prob(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, np.sum(expected), rtol=1e-5)


@pytest.mark.few(4)
@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case[3]])
def test_draws_have_the_mean_and_the_variance(case):
    distribution, x, _, (mean, variance) = CASES[case]
    draws = np.asarray(jax.vmap(distribution.sample)(jax.random.split(KEY, NUM_DRAWS)), float)
    assert draws.shape == (NUM_DRAWS, len(x))
    draws = draws[:, :3]
    error = draws.std(axis=0) / np.sqrt(NUM_DRAWS)
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 4 * error)
    squares = (draws - mean) ** 2
    error = squares.std(axis=0) / np.sqrt(NUM_DRAWS)
    assert np.all(np.abs(squares.mean(axis=0) - variance) < 4 * error)
    np.testing.assert_allclose(distribution.mean(), mean, rtol=1e-5)


def test_draws_of_zero_inflated_counts_and_of_classes_have_their_probabilities():
    distribution, _, _, _ = CASES["zero_inflated_negative_binomial"]
    draws = np.asarray(jax.vmap(distribution.sample)(jax.random.split(KEY, NUM_DRAWS)))
    for value in (0.0, 1.0, 2.0):
        share = np.exp(zinb_logpmf(np.full(3, value), np.exp(LOG_MEAN), np.exp(LOG_R), ZERO))
        error = np.sqrt(share * (1 - share) / NUM_DRAWS)
        assert np.all(np.abs((draws == value).mean(axis=0) - share) < 4 * error)
    np.testing.assert_allclose(
        distribution.mean(), np.exp(LOG_MEAN) * special.expit(-ZERO), rtol=1e-5
    )

    classes, _, _, _ = CASES["categorical"]
    draws = np.asarray(jax.vmap(classes.sample)(jax.random.split(KEY, NUM_DRAWS)))
    for value in (0, 1, 2):
        share = np.asarray(classes.probabilities())[:, value]
        error = np.sqrt(share * (1 - share) / NUM_DRAWS)
        assert np.all(np.abs((draws == value).mean(axis=0) - share) <= 4 * error)
    np.testing.assert_array_equal(classes.mean(), [1.0, 2.0, 1.0])


@pytest.mark.parametrize("loc", [-3.0, -1.0, 0.02, 1.0, 50.0])
@pytest.mark.parametrize("raw", [-30.0, 0.0, 5.0])
def test_levels_sum_to_one_wherever_the_logistic_lies(loc, raw):
    likelihood = likelihoods.discretized_logistic()

    def log_prob(level):
        return built(likelihood, [loc], [raw], num_columns=1).log_prob(level[None])

    levels = jnp.arange(256.0)
    log_probs = jax.vmap(log_prob)(levels)
    np.testing.assert_allclose(np.exp(np.asarray(log_probs, float)).sum(), 1.0, rtol=1e-4)
    mean = built(likelihood, [loc], [raw], num_columns=1).mean()
    expected = (np.exp(np.asarray(log_probs, float)) * np.arange(256)).sum()
    np.testing.assert_allclose(mean, [expected], rtol=1e-4, atol=1e-3)


def test_levels_are_the_logistics_own_shares():
    distribution = built(likelihoods.discretized_logistic(scale=0.2), LOC / 4)
    for level in (0.0, 100.0, 130.0, 255.0):
        logistic = stats.logistic(LOC.astype(float) / 4, 0.2)
        ends = (np.array([level, level + 1]) - 0.5) / 127.5 - 1
        low = 0.0 if level == 0 else logistic.cdf(ends[0])
        high = 1.0 if level == 255 else logistic.cdf(ends[1])
        np.testing.assert_allclose(
            distribution.log_prob(jnp.full(3, level)), np.log(high - low).sum(), rtol=1e-4
        )
    draws = np.asarray(jax.vmap(distribution.sample)(jax.random.split(KEY, NUM_DRAWS)))
    error = draws.std(axis=0) / np.sqrt(NUM_DRAWS)
    assert np.all(np.abs(draws.mean(axis=0) - distribution.mean()) < 4 * error)


@pytest.mark.parametrize(
    "name", ["poisson", "negative_binomial", "zero_inflated_negative_binomial", "categorical"]
)
def test_counts_and_classes_sum_to_one(name):
    options = {"num_classes": 3} if name == "categorical" else {}
    likelihood, values = (
        getattr(likelihoods, name)(**options),
        jnp.arange(3.0 if options else 400.0),
    )
    sizes = likelihood.head_sizes(1)
    outputs = [jnp.linspace(1.2, 0.3, size) for size in sizes]
    found = jax.vmap(lambda x: built(likelihood, *outputs, num_columns=1).log_prob(x[None]))(values)
    np.testing.assert_allclose(np.exp(np.asarray(found, float)).sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("mean", [1e-3, 3.0, 1e3, 1e6])
@pytest.mark.parametrize("r", [1e-4, 0.5, 40.0, 1e5, 1e8])
def test_large_counts_keep_their_digits_in_float32(mean, r):
    """What log Γ of them would lose: tenths of a nat and more."""
    spread = np.sqrt(mean + mean**2 / r)
    for x in np.unique(np.round(np.maximum(mean + spread * np.array([-2, -0.3, 0.0, 0.3, 3]), 0))):
        log_mean, log_r = np.float32(np.log(mean)), np.float32(np.log(r))
        found = built(likelihoods.negative_binomial(), [log_mean], log_dispersion=log_r[None])
        # of the very numbers that float32 has
        m, size = np.exp(float(log_mean)), np.exp(float(log_r))
        expected = stats.nbinom(size, size / (size + m)).logpmf(x)
        moves = 4e-7 * (abs(np.log(mean)) + 1) * mean * abs(x - mean) / (mean + mean**2 / r)
        tolerance = 2e-5 * (1 + abs(expected)) + moves
        assert abs(found.log_prob(jnp.array([x], jnp.float32)) - expected) < tolerance, x
    if r == 1e8:
        found = built(likelihoods.poisson(), [log_mean]).log_prob(jnp.array([x], jnp.float32))
        assert abs(found - stats.poisson(m).logpmf(x)) < tolerance


def test_gamma_functions():
    n = np.array([1e-3, 0.5, 3.0, 7.9, 8.1, 1e3, 1e6])
    stirling = (n + 0.5) * np.log(n) - n + 0.5 * np.log(2 * np.pi)
    exact = special.gammaln(n + 1) - stirling
    found = gamma.stirling_error(jnp.asarray(n, jnp.float32))
    np.testing.assert_allclose(found[:-1], exact[:-1], rtol=1e-4, atol=2e-7)
    np.testing.assert_allclose(found[-1], 1 / 12e6, rtol=1e-4)
    a = np.array([0.05, 1.0, 7.0, 9.0, 400.0])
    np.testing.assert_allclose(
        gamma.log_gamma_ratio(jnp.asarray(a, jnp.float32), jnp.float32(0.5)),
        special.gammaln(a + 0.5) - special.gammaln(a),
        rtol=1e-5,
        atol=1e-6,
    )


EXTREME = [-1e6, -300.0, -88.0, 0.0, 14.9, 15.1, 88.0, 300.0, 1e6]
BUILDERS = {
    "normal": lambda: likelihoods.normal("per_datum", min_scale=1e-3),
    "student_t": lambda: likelihoods.student_t(scale="per_datum", min_scale=1e-3),
    "discretized_logistic": likelihoods.discretized_logistic,
    "categorical": lambda: likelihoods.categorical(3),
    "poisson": likelihoods.poisson,
    "poisson, library": lambda: likelihoods.poisson(library=True),
    "negative_binomial": likelihoods.negative_binomial,
    "negative_binomial, library": lambda: likelihoods.negative_binomial(library=True),
    "zero_inflated_negative_binomial": likelihoods.zero_inflated_negative_binomial,
    "bernoulli": likelihoods.bernoulli,
}


@pytest.mark.few(4)
@pytest.mark.parametrize("name", BUILDERS)
def test_extreme_outputs_have_finite_gradients(name):
    likelihood = BUILDERS[name]()
    num_columns = 3
    sizes, params = likelihood.head_sizes(num_columns), likelihood.init(num_columns)

    @jax.jit
    def value_and_grads(outputs, x):
        return jax.value_and_grad(
            lambda outputs, params: likelihood.build(params, *outputs).log_prob(x), argnums=(0, 1)
        )(outputs, params)

    for x in ([0.0, 1.0, 1.0], [1.0, 0.0, 1.0]):
        for first in EXTREME:
            for second in EXTREME if len(sizes) > 1 else [0.0]:
                outputs = [
                    jnp.asarray(np.resize([value, -value, 0.5], size), jnp.float32)
                    for value, size in zip((first, second), sizes, strict=False)
                ]
                found = value_and_grads(outputs, jnp.array(x))
                assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found)), (
                    first,
                    second,
                    found,
                )


def test_where_the_dispersion_is_extreme_gradients_are_finite():
    likelihood = likelihoods.negative_binomial()

    @jax.jit
    @jax.grad
    def slope(log_r, x):
        params = {"log_dispersion": log_r[None]}
        return likelihood.build(params, jnp.array([1.0])).log_prob(x[None])

    for log_r in (-100.0, -20.0, 20.0, 100.0):
        for x in (0.0, 3.0, 1e6):
            assert np.isfinite(slope(jnp.array(log_r), jnp.array(x)))


def test_standardizing_changes_no_likelihood():
    """An equivalent model of the values as they are, in float64."""
    rows = np.random.default_rng(0).normal([5.0, -200.0, 1e-3], [0.1, 40.0, 1e-4], (50, 3))
    base = likelihoods.normal("per_column")
    inside = likelihoods.standardize(base, rows)
    loc, scale = rows.mean(axis=0), rows.std(axis=0)
    with widths.x64():
        outputs, log_scale = jnp.asarray(LOC, float), jnp.asarray(LOG_R, float)
        x = jnp.asarray(rows[0])
        found = inside.build({"log_scale": log_scale}, outputs)
        plain = base.build({"log_scale": log_scale + np.log(scale)}, loc + scale * outputs)
        np.testing.assert_allclose(found.log_prob(x), plain.log_prob(x), rtol=1e-12)
        np.testing.assert_allclose(found.mean(), plain.mean(), rtol=1e-12)
        np.testing.assert_allclose(found.sample(KEY), plain.sample(KEY), rtol=1e-12)
        np.testing.assert_allclose(inside.inputs(x), (rows[0] - loc) / scale, rtol=1e-12)
    np.testing.assert_allclose(inside.first_outputs(loc + scale)[0], np.ones(3), rtol=1e-5)


def test_a_constant_column_is_said_and_only_shifted():
    rows = np.stack([np.arange(5.0), np.full(5, 7.0)], axis=1)
    with pytest.warns(UserWarning, match=r"`train` is constant in column 'flat'.*without end"):
        found = likelihoods.standardize(likelihoods.normal(1.0), rows, columns=["x", "flat"])
    np.testing.assert_allclose(found.inputs(jnp.array([2.0, 8.0])), [0.0, 1.0])


def test_columns_have_each_their_likelihood():
    names = ("age", "colour", "income", "visits")
    likelihood = likelihoods.columns(
        {
            "age,income": likelihoods.normal("per_datum"),
            "colour": likelihoods.categorical(3),
            "visits": likelihoods.negative_binomial(),
        },
        names,
    )
    assert likelihood.head_sizes(4) == (2, 2, 3, 1)
    logits = jnp.array([0.1, 0.5, -1.0])
    params = likelihood.init(4)
    found = likelihood.build(params, LOC[:2], LOC[:2], logits, jnp.array([0.4]))
    x = jnp.array([1.0, 2.0, -3.0, 4.0])
    normal = likelihoods.normal("per_datum").build({}, jnp.asarray(LOC[:2]), jnp.asarray(LOC[:2]))
    expected = normal.log_prob(x[jnp.array([0, 2])])
    expected += special.log_softmax(logits)[2] + nbinom(np.exp(0.4), 1.0).logpmf(4)
    np.testing.assert_allclose(found.log_prob(x), expected, rtol=1e-5)
    np.testing.assert_allclose(found.mean(), [LOC[0], 1.0, LOC[1], np.exp(0.4)], rtol=1e-6)
    assert found.sample(KEY).shape == (4,)
    np.testing.assert_allclose(
        likelihood.inputs(x), [1.0, -3.0, 0.0, 0.0, 1.0, np.log(5.0)], rtol=1e-6
    )
    first = likelihood.first_outputs(np.array([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(first[0], [1.0, 3.0])
    assert first[1] is None
    assert first[2] is None

    rows = np.array([[1.0, 2, 3, 4], [1.0, 3, 3, 4]])
    with pytest.raises(ValueError, match=r"`rows` must be classes.*3, got 3 in row 1, column 'col"):
        likelihood.check_data(rows, name="rows")
    rows[1] = [1.0, 1, 3, 0.5]
    with pytest.raises(ValueError, match=r"whole numbers from 0 on for a negative.*column 'visits"):
        likelihood.check_data(rows, name="rows")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"age": likelihoods.normal()}, "a likelihood, got none for colour"),
        ({"age,size": likelihoods.normal()}, "a column 'size', and there is none; .*age, colour"),
        ({"age,colour": likelihoods.normal(), "age": likelihoods.normal()}, "'age' twice"),
        ({"age,colour": likelihoods.poisson(library=True)}, "library size stands alone"),
        ({"age,colour": likelihoods.Likelihood(lambda *a: None)}, "must say its `head_sizes`"),
    ],
)
def test_columns_that_cannot_be(parts, message):
    with pytest.raises(ValueError, match=message):
        likelihoods.columns(parts, ("age", "colour"))


@pytest.mark.parametrize(
    ("likelihood", "value", "message"),
    [
        (likelihoods.poisson(), 1.5, "whole numbers from 0 on for a Poisson.*1.5 in row 2, .* 1 "),
        (likelihoods.negative_binomial(), -1.0, "got -1 in row 2, column 1 .1 of 6 values"),
        (likelihoods.normal(), np.inf, "must be finite, got inf in row 2, column 1"),
        (likelihoods.discretized_logistic(), 256.0, r"whole levels in \[0, 255\]"),
        (likelihoods.categorical(2), 2.0, "classes, whole numbers from 0 on below 2, got 2"),
        (likelihoods.poisson(library=True), 0.0, "positive library size, .* in row 2"),
    ],
)
def test_data_that_it_is_not_of(likelihood, value, message):
    rows = np.ones((3, 2))
    likelihood.check_data(rows, name="rows")
    rows[2, 1] = value
    with pytest.raises(ValueError, match=message):
        likelihood.check_data(rows, name="rows")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: likelihoods.normal("each"), "`scale` must be a number, or one of shared, per_col"),
        (lambda: likelihoods.normal(min_scale=2.0), r"`min_scale` must lie in \[0, `initial_scale"),
        (lambda: likelihoods.student_t(0.0), "`df` must be positive, got 0"),
        (lambda: likelihoods.categorical(1), "`num_classes` must be at least 2, got 1"),
        (lambda: likelihoods.normal("per_column").init(None), "`data_size` must be given"),
        (lambda: likelihoods.negative_binomial(initial_dispersion=-1.0), "must be positive"),
        (lambda: likelihoods.standardized(likelihoods.normal(), [0.0], [0.0]), "positive and fin"),
        (lambda: likelihoods.with_library(np.zeros((2, 2))), "positive total each, got 0 in row 0"),
    ],
)
def test_what_no_likelihood_can_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_any_distribution_of_numpyro_plugs_in():
    dist = pytest.importorskip("numpyro.distributions")
    likelihood = likelihoods.numpyro(
        lambda a, b: dist.Gamma(jax.nn.softplus(a), jax.nn.softplus(b)),
        head_sizes=lambda num_columns: (num_columns, num_columns),
    )
    a, b, x = LOC, LOC + 1, np.array([0.5, 1.5, 2.0], np.float32)
    found = likelihood.build({}, jnp.asarray(a), jnp.asarray(b))
    shape, rate = np.log1p(np.exp(a.astype(float))), np.log1p(np.exp(b.astype(float)))
    np.testing.assert_allclose(
        found.log_prob(jnp.asarray(x)),
        stats.gamma(shape, scale=1 / rate).logpdf(x).sum(),
        rtol=1e-5,
    )
    np.testing.assert_allclose(found.mean(), shape / rate, rtol=1e-5)
    assert found.sample(KEY).shape == (3,)
    with pytest.raises(ValueError, match="got -1 in row 1, column 0"):
        likelihood.check_data(np.array([[1.0, 2.0], [-1.0, 2.0]]), name="x")
    with pytest.raises(TypeError, match=r"`make` must return a `numpyro.distributions.Distributio"):
        likelihoods.numpyro(lambda a: a).build({}, jnp.ones(2))
    with pytest.raises(ValueError, match="`log_prob` must be asked of a value of shape"):
        found.log_prob(jnp.ones(2))


TABLE = np.array([[20.0, 0, 1.5], [35.0, 2, 0.5], [28.0, 1, 2.5]])
NAMES = ("age", "colour", "income")


def test_a_likelihood_is_read_from_text():
    found = likelihoods.from_text("normal:age,income;categorical:colour", TABLE, names=NAMES)
    assert found.head_sizes(3) == (2, 3)
    np.testing.assert_allclose(
        found.inputs(jnp.asarray(TABLE[0], jnp.float32))[:2],
        (TABLE[0, [0, 2]] - TABLE[:, [0, 2]].mean(0)) / TABLE[:, [0, 2]].std(0),
        rtol=1e-5,
    )
    rest = likelihoods.from_text("categorical:colour;normal+scale=per_datum", TABLE, names=NAMES)
    assert rest.head_sizes(3) == (3, 2, 2)
    alone = likelihoods.from_text("student_t+df=3", TABLE)
    assert alone.head_sizes(3) == (3,)
    plain = likelihoods.from_text("normal", TABLE, with_standardizing=False)
    assert plain.inputs is None
    assert likelihoods.from_text("categorical+num_classes=4:1;normal", TABLE).head_sizes(3)[0] == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gauss", "`likelihood` must be one of bernoulli, normal, .*got 'gauss'"),
        ("normal:age;gauss:colour", "got 'gauss' in 'normal:age;gauss:colour'"),
        ("normal;poisson", "must name the columns of all parts but one"),
        ("normal+size=3", r"'size=3' in .* is no option of normal; it has scale=..., "),
        ("normal:", "names no column after its colon"),
        ("normal:age,size;poisson", "a column 'size', and there is none"),
        ("normal:age;categorical:colour", "got none for income"),
        ("normal:age,colour,income;poisson", "no column is left for poisson"),
        ("categorical", "`train` must be classes, .*got 1.5 in row 0, column 'income'"),
    ],
)
def test_texts_that_are_no_likelihood(text, message):
    with pytest.raises(ValueError, match=message):
        likelihoods.from_text(text, TABLE, names=NAMES)


def test_an_mlp_may_start_each_output_somewhere():
    network = networks.mlp(2, (4,), (3, 2), output_bias=[None, jnp.array([1.0, 2.0])])
    params = network.init(KEY)
    np.testing.assert_array_equal(params["heads"][1]["bias"], [1.0, 2.0])
    assert not np.any(np.asarray(params["heads"][0]["bias"]) == 0.0)


@pytest.mark.parametrize("of", [likelihoods.normal, likelihoods.student_t])
def test_a_scale_that_a_network_puts_out_stays_positive(of):
    likelihood = of(scale="per_datum")
    params = likelihood.init(2) if of is likelihoods.student_t else {}
    value, slope = jax.value_and_grad(
        lambda raw: likelihood.build(params, jnp.zeros(2), raw).log_prob(jnp.ones(2))
    )(jnp.full(2, -200.0))
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
