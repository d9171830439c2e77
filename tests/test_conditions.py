"""Models that are given a condition: against a linear-Gaussian one, whose p(x|c) is exact."""

import interrupting
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import aiwae_jax
from aiwae_jax import data, evaluate, likelihoods, methods, models, recipe, train
from aiwae_jax.runs.callbacks import Callback
from aiwae_jax.train.suitability import check_support

NUM_CLASSES, D, NUM_MODELLED, NOISE = 3, 2, 4, 0.7
NAMES = {"class": ("a", "b", "c")}
SETTINGS = evaluate.Settings(num_temperatures=40, num_chains=32, num_pilot_data=8)


def linear_model():
    """Without hidden layers the decoder is linear: x | z, c ~ N(W z + V c + b, s² I)."""
    condition = likelihoods.categorical(NUM_CLASSES)
    likelihood = likelihoods.normal(NOISE)
    sizes = NUM_MODELLED + 1, D
    return models.mlp_vae(*sizes, likelihood=likelihood, hidden_sizes=(), condition=condition)


def weights(theta):
    head = theta["heads"][0]
    kernel = np.asarray(head["kernel"], np.float64)
    return kernel[:D], kernel[D:], np.asarray(head["bias"], np.float64)


def exact(theta, rows):
    """Log p(x|c) `[N]` of rows `[N, X]` at their own class."""
    of_z, of_class, bias = weights(theta)
    covariance = of_z.T @ of_z + NOISE**2 * np.eye(NUM_MODELLED)
    means = of_class[rows[:, -1].astype(int)] + bias
    centred = rows[:, :-1].astype(np.float64) - means
    return scipy.stats.multivariate_normal(np.zeros(NUM_MODELLED), covariance).logpdf(centred)


def of_class(rows, number):
    return np.column_stack([rows[:, :-1], np.full(len(rows), number)]).astype(np.float32)


@pytest.fixture(scope="module")
def run():
    """A model whose classes overlap, and whose q(z|x) is near the prior."""
    model = linear_model()
    params = model.init(jax.random.key(3))
    theta = jax.tree.map(lambda leaf: 2.0 * leaf, params.theta)
    return train.Trained(model, params._replace(theta=theta), condition=NAMES)


@pytest.fixture(scope="module")
def rows(run):
    """Five of each class, drawn from the model."""
    drawn = [run.sample(jax.random.key(i), 5, condition=n)[0] for i, n in enumerate("abc")]
    return np.concatenate(drawn)


def classified(run, rows):
    return run.classify(rows, SETTINGS, key=jax.random.key(1), prior=[0.5, 0.3, 0.2])


def ignoring(params):
    """The same parameters of a decoder that does not look at the class."""
    head = params.theta["heads"][0]
    kernel = head["kernel"].at[D:].set(0.0)
    return params._replace(theta={**params.theta, "heads": {0: {**head, "kernel": kernel}}})


@pytest.mark.slow
def test_estimates_of_every_class_are_the_exact_ones_and_so_is_bayes_rule(run, rows):
    found = classified(run, rows)
    wanted = np.stack([exact(run.params.theta, of_class(rows, c)) for c in range(3)], axis=1)
    assert found.log_likelihood.shape == (15, 3)
    deviations = (found.log_likelihood - wanted) / found.standard_errors
    assert np.abs(deviations).max() < 4.5  # of 45
    joint = wanted + np.log([0.5, 0.3, 0.2])
    evidence = scipy.special.logsumexp(joint, axis=1)
    errors = found.log_evidence_errors
    assert (np.abs(found.log_evidence - evidence) < 4.0 * errors).all()
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0)
    # A probability's error is its own times (1 - p), and that of the others.
    p, s = found.probabilities, found.standard_errors
    own = p * np.sqrt(((1 - p) * s) ** 2 + ((p * s) ** 2).sum(1, keepdims=True) - (p * s) ** 2)
    assert (np.abs(p - np.exp(joint - evidence[:, None])) < 4.5 * own + 1e-6).all()
    is_clear = found.margins > 2.0 * found.margin_errors
    np.testing.assert_array_equal(found.codes[is_clear], joint.argmax(axis=1)[is_clear])
    assert is_clear.sum() > 10
    best = found.is_reliable[np.arange(15), found.codes]
    assert not (found.is_sure & ~(is_clear & best)).any()


@pytest.mark.parametrize("fault", ["decoder", "shuffled"])
def test_a_decoder_that_ignores_the_class_and_shuffled_classes_are_seen(run, rows, fault):
    """The planted faults: what the test above asserts does not hold of them."""
    params, shown = run.params, rows
    if fault == "decoder":
        params = ignoring(params)
    faulty = train.Trained(run.model, params, condition=NAMES)
    found = classified(faulty, shown)
    order = [1, 2, 0] if fault == "shuffled" else [0, 1, 2]
    wanted = np.stack([exact(run.params.theta, of_class(rows, c)) for c in order], axis=1)
    assert np.abs((found.log_likelihood - wanted) / found.standard_errors).max() > 20.0


def test_the_encoder_sees_the_class_and_the_prior_does_not(run, rows):
    means = [run.encode(of_class(rows, c))[0] for c in range(3)]
    kernel = np.asarray(run.params.phi["heads"][0]["kernel"])[NUM_MODELLED:]
    np.testing.assert_allclose(
        means[1] - means[0], np.broadcast_to(kernel[1] - kernel[0], (15, D)), atol=1e-5
    )
    assert np.abs(kernel[1] - kernel[0]).max() > 0.1
    prior = run.model.prior(run.params.theta, jnp.asarray(rows[0]))
    z = jnp.ones(D)
    assert prior.log_prob(z) == scipy.stats.norm.logpdf(np.ones(D)).sum().astype(np.float32)


def test_draws_given_a_class_have_its_mean_and_carry_it(run):
    _, of_classes, bias = weights(run.params.theta)
    for number, name in enumerate("abc"):
        x, z = run.sample(jax.random.key(number), 400, condition=name)
        assert (x[:, -1] == number).all()
        of_z, _, _ = weights(run.params.theta)
        residual = x[:, :-1] - z @ of_z
        error = NOISE / np.sqrt(len(x))
        assert np.abs(residual.mean(axis=0) - of_classes[number] - bias).max() < 4.5 * error
        # And that of another class is not.
        other = of_classes[(number + 1) % 3] + bias
        assert np.abs(residual.mean(axis=0) - other).max() > 10 * error
    same = run.sample(jax.random.key(0), 2, condition={"class": "b"})[0]
    np.testing.assert_array_equal(same, run.sample(jax.random.key(0), 2, condition="b")[0])
    mean = run.decode(np.zeros((1, D)), condition="b")
    np.testing.assert_allclose(mean[0], of_classes[1] + bias, atol=1e-5)


def test_what_cannot_be_is_said(run, rows):
    draw, gaps = (jax.random.key(0), 1), np.zeros((2, 5), bool)
    gaps[1, 4] = True
    with pytest.raises(ValueError, match="must be one of 'a', 'b', 'c' for 'class', got 'd'"):
        run.sample(*draw, condition="d")
    with pytest.raises(ValueError, match="a value for each of class, got 2"):
        run.sample(*draw, condition=["a", "b"])
    with pytest.raises(ValueError, match=r"run.sample\(key, num, condition=...\)"):
        run.sample(*draw)
    with pytest.raises(ValueError, match="`condition` must be given"):
        run.decode(np.zeros((1, D)))
    with pytest.raises(ValueError, match="3 probabilities that sum to 1"):
        run.classify(rows, prior=[0.5, 0.4, 0.2])
    with pytest.raises(ValueError, match="`column` must be one of class; got 'colour'"):
        run.classify(rows, column="colour")
    with pytest.raises(ValueError, match="4 of row 1 is missing"):
        run.encode(np.where(gaps, np.nan, rows[:2]))
    with pytest.raises(ValueError, match="classes, whole numbers from 0 on below 3, got 3"):
        run.encode(of_class(rows, 3))
    plain = models.mlp_vae(4, D, likelihood=likelihoods.normal(), hidden_sizes=())
    without = train.Trained(plain, plain.init(jax.random.key(0)))
    with pytest.raises(ValueError, match="needs a model that is given a class"):
        without.classify(rows[:, :-1])
    with pytest.raises(ValueError, match="above the 1 columns of the `condition`"):
        models.mlp_vae(1, 2, likelihood=likelihoods.normal(), condition=likelihoods.categorical(2))
    with pytest.raises(TypeError, match=r"`condition` must have a `likelihoods\.Likelihood`"):
        models.mlp_vae(5, 2, likelihood=likelihoods.normal(), condition=[3])


def test_a_model_is_built_again_from_its_recipe_with_numbers_and_classes():
    ages = np.random.default_rng(0).normal(40.0, 9.0, (30, 1)).astype(np.float32)
    age = likelihoods.standardize(likelihoods.normal(), ages)
    model = models.conv_vae(
        (4, 4),
        2,
        likelihood=likelihoods.masked(likelihoods.bernoulli()),
        channels=(2,),
        hidden_size=3,
        mean=np.full(18, 0.5),
        condition=(likelihoods.categorical(3), age),
    )
    assert (model.data_size, model.num_given, model.is_conditional) == (18, 2, True)
    written = recipe.from_json(model.built_by.to_json())
    again = recipe.rebuilt(written, {"models": models, "likelihoods": likelihoods})
    params, z = model.init(jax.random.key(0)), jnp.ones(2)
    x = jnp.concatenate([jnp.ones(16), jnp.asarray([2.0, 50.0])])
    assert model.log_joint(params.theta, x, z) == again.log_joint(params.theta, x, z)
    # Both networks look at the age, and a pixel that was not observed changes no condition.
    older = x.at[-1].set(70.0)
    assert model.log_joint(params.theta, x, z) != model.log_joint(params.theta, older, z)
    of_x = model.posterior(params.phi, x).mean()
    assert (of_x != model.posterior(params.phi, older).mean()).all()
    drawn, _ = model.sample(jax.random.key(1), params.theta, x.at[3].set(jnp.nan))
    assert jnp.isnan(drawn[3])
    np.testing.assert_array_equal(drawn[-2:], x[-2:])
    arrays = model.built_by.arrays()
    assert arrays["condition.1.loc"] == pytest.approx(ages.mean())


def two_groups(seed=0, *, is_shuffled=False):
    """Rows near -1 and near 1, by their class, beside a number that says nothing."""
    chance = np.random.default_rng(seed)
    codes = chance.integers(2, size=80)
    noise = chance.normal(size=(80, 2)) * 0.3
    rows = np.column_stack([2.0 * codes[:, None] - 1.0 + noise, codes])
    if is_shuffled:
        rows[:, -1] = chance.permutation(codes)
    options = {"columns": ["u", "v", "group"], "categories": {"group": ["low", "high"]}}
    return data.from_arrays(rows[:64], rows[64:], condition="group", **options)


def model_of(dataset):
    likelihood = likelihoods.normal(0.3)
    condition = data.condition_of(dataset)
    return models.mlp_vae(3, 1, likelihood=likelihood, hidden_sizes=(4,), condition=condition)


def test_classes_behind_grey_levels_are_those_of_the_model(tmp_path):
    levels = np.random.default_rng(0).integers(0, 17, (20, 6)).astype(np.uint8)
    codes = np.arange(20) % 10
    codes[:10] %= 5  # the training rows alone are of five classes
    options = {"columns": [*"uvwxyz", "c"], "categories": {"c": list("0123456789")}}
    rows = np.column_stack([levels, codes]).astype(np.uint8)
    dataset = data.from_arrays(rows[:10], rows[10:], condition="c", **options)
    dataset = dataset._replace(max_level=16.0)

    def check(num_classes):
        given = likelihoods.categorical(num_classes)
        likelihood = likelihoods.bernoulli()
        model = models.mlp_vae(7, 1, likelihood=likelihood, hidden_sizes=(2,), condition=given)
        check_support(model, methods.vae(model), dataset)

    check(10)
    with pytest.raises(ValueError, match=r"`test`.* from 0 on below 5, got 5"):
        check(5)


class DrawsAtTheEnd(Callback):
    """Of one class, by the model of the last epoch."""

    def on_epoch(self, moment):
        if moment.step == moment.total_steps:
            self.draws = moment.run().sample(jax.random.key(5), 300, condition="high")[0]


@pytest.mark.slow
@pytest.mark.parametrize("is_shuffled", [False, True])
def test_a_training_learns_what_a_class_is_like(tmp_path, is_shuffled):
    """And of classes that were shuffled, the planted fault, it learns nothing."""
    dataset = two_groups(is_shuffled=is_shuffled)
    model = model_of(dataset)
    options = {"epochs": 20, "batch_size": 32, "learning_rate": 0.03, "lr_schedule": "constant"}
    drawn = DrawsAtTheEnd()
    options["callbacks"] = [drawn]
    train.fit(methods.vae(model), model, dataset, tmp_path / "run", **options)
    run = aiwae_jax.load(tmp_path / "run")
    draws = run.sample(jax.random.key(5), 300, condition="high")[0]
    np.testing.assert_array_equal(drawn.draws, draws)
    assert run.condition == {"group": ("low", "high")}
    low, high = (
        run.sample(jax.random.key(5), 300, condition=word)[0][:, :2].mean(axis=0)
        for word in ("low", "high")
    )
    assert (high - low > 1.0).all() != is_shuffled
    plain = data.from_arrays(dataset.train, dataset.test)
    with pytest.raises(ValueError, match="must be given the 0 columns"):
        train.fit(methods.vae(model), model, plain, tmp_path / "other", epochs=1, batch_size=8)


@pytest.mark.slow
def test_training_that_is_interrupted_ends_as_if_it_had_not_been(tmp_path):
    dataset = two_groups()
    model = model_of(dataset)

    def fit(name):
        method = methods.aiwae(model, num_particles=2, num_temperatures=3)
        return train.fit(method, model, dataset, tmp_path / name, batch_size=16, epochs=5)

    at_once = fit("at_once")
    with interrupting.after_chunks(1, "saved at step 1 of 20"):
        fit("in_two")
    in_two = fit("in_two")
    for one, other in zip(*(jax.tree.leaves(r.params) for r in (at_once, in_two)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_missing_values_are_filled_in_given_the_condition():
    """Of a linear model with a condition, whose exact conditional means are known."""
    base = likelihoods.masked(likelihoods.normal(NOISE))
    given = likelihoods.categorical(NUM_CLASSES)
    sizes = NUM_MODELLED + 1, D
    model = models.mlp_vae(*sizes, likelihood=base, hidden_sizes=(), condition=given)
    params = model.init(jax.random.key(3))
    params = params._replace(theta=jax.tree.map(lambda leaf: 2.0 * leaf, params.theta))
    run = train.Trained(model, params, condition=NAMES)
    drawn = [run.sample(jax.random.key(i), 3, condition=n)[0] for i, n in enumerate("abc")]
    whole = np.concatenate(drawn)
    shown = whole.copy()
    shown[:, 1] = np.nan
    settings = evaluate.Settings(num_temperatures=60, num_chains=200)
    found = run.impute(shown, jax.random.key(0), settings, num_draws=2)
    of_z, of_class_, bias = weights(params.theta)
    covariance = of_z.T @ of_z + NOISE**2 * np.eye(NUM_MODELLED)
    seen = [0, 2, 3]
    gains = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[seen, 1])
    means = of_class_[whole[:, -1].astype(int)] + bias
    wanted = means[:, 1] + (whole[:, seen] - means[:, seen]) @ gains
    spread = np.sqrt(covariance[1, 1] - covariance[1, seen] @ gains - NOISE**2)
    error = spread / np.sqrt(found.effective_sample_size)
    assert (np.abs(found.mean[:, 1] - wanted) < 4.5 * error).all()
    np.testing.assert_array_equal(found.mean[:, [0, 2, 3, 4]], shown[:, [0, 2, 3, 4]])
    assert found.draws.shape == (9, 2, 5)
