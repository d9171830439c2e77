"""Tests of learning rates, optimizers and the average of the weights, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aiwae_jax import train
from aiwae_jax.train import learning_rates
from aiwae_jax.types import Params

ENDS = [100, 400, 1000]


@pytest.fixture(autouse=True)
def promotion():
    """As the train step calls optax, whose arithmetic mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def rates(name, peak=0.5, warmup_share=None):
    schedule = learning_rates.make_schedule(name, peak, ENDS, warmup_share)
    return np.asarray(jax.vmap(schedule)(jnp.arange(1001)))


def test_the_papers_rate_falls_at_the_end_of_every_stage():
    found = rates("paper", peak=1e-3)
    expected = np.repeat(1e-3 * 10 ** (-np.arange(3) / 7), [100, 300, 600])
    np.testing.assert_allclose(found[:1000], expected, rtol=1e-6)


@pytest.mark.parametrize("warmup_share", [0.0, 0.1])
@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "wsd"])
def test_rates_rise_to_the_peak_and_go_on_by_their_closed_form(name, warmup_share):
    num_warmup = round(1000 * warmup_share)
    steps = np.arange(1001)
    after = (steps - num_warmup) / (1000 - num_warmup)
    closed = {
        "constant": np.ones(1001),
        "cosine": 0.5 * (1.0 + np.cos(np.pi * after)),
        "linear": 1.0 - after,
        "wsd": np.minimum(1.0, (1.0 - after) / 0.2),
    }[name]
    expected = 0.5 * closed
    if num_warmup:
        expected[:num_warmup] = 0.5 * (steps[:num_warmup] + 1) / num_warmup
        expected[num_warmup - 1] = 0.5
    # The rise goes from peak / W at the first step to the peak at step W - 1.
    np.testing.assert_allclose(rates(name, warmup_share=warmup_share), expected, atol=2e-6)


def test_schedules_that_fall_warm_up_by_themselves():
    assert rates("linear")[0] == pytest.approx(0.5 / 50)
    assert rates("constant")[0] == 0.5


def test_the_average_follows_its_recursion_and_leaves_the_updates_alone():
    tx = optax.chain(optax.sgd(0.1), train.average_weights(0.9))
    plain = optax.sgd(0.1)
    weights = {"w": jnp.array([1.0, -2.0])}
    state, plain_state = tx.init(weights), plain.init(weights)
    average, chance = np.array([1.0, -2.0]), np.random.default_rng(0)
    for step in range(30):
        gradient = {"w": jnp.asarray(chance.normal(size=2), jnp.float32)}
        updates, state = tx.update(gradient, state, weights)
        expected, plain_state = plain.update(gradient, plain_state, weights)
        np.testing.assert_array_equal(updates["w"], expected["w"])
        weights = optax.apply_updates(weights, updates)
        decay = min(0.9, step / (step + 9))
        average = decay * average + (1 - decay) * np.asarray(weights["w"])
    found = train.averaged(Params(weights, (), ()), Params(state, (), ()))
    np.testing.assert_allclose(found.theta["w"], average, rtol=1e-5)
    assert not np.allclose(found.theta["w"], weights["w"])


def test_without_an_average_the_weights_are_the_parameters():
    params = Params({"w": jnp.ones(2)}, {"v": jnp.zeros(3)}, ())
    optimizers = train.make_optimizers("adam", 1e-3, clip_norm=1.0)
    states = Params(*(tx.init(p) for tx, p in zip(optimizers, params, strict=True)))
    assert train.averaged(params, states) is not None
    np.testing.assert_array_equal(train.averaged(params, states).theta["w"], params.theta["w"])


def test_a_long_gradient_is_shortened_and_a_short_one_left():
    optimizers = train.make_optimizers("adam", 1.0, eps=1e3, clip_norm=5.0)  # nearly linear
    weights = {"w": jnp.zeros(2)}

    def step(gradient):
        tx = optimizers.theta
        return tx.update({"w": jnp.asarray(gradient)}, tx.init(weights), weights)[0]["w"]

    np.testing.assert_allclose(step([30.0, 40.0]), step([3.0, 4.0]), rtol=1e-5)
    assert not np.allclose(step([3.0, 4.0]), step([0.3, 0.4]))


def test_muon_makes_matrices_orthogonal_and_leaves_vectors_to_adam():
    optimizers = train.make_optimizers("muon", 0.1)
    weights = {"w": jnp.ones((20, 30)), "b": jnp.zeros(30)}
    chance = np.random.default_rng(0)
    gradient = {
        "w": jnp.asarray(chance.normal(size=(20, 30)), jnp.float32),
        "b": jnp.asarray(chance.normal(size=30), jnp.float32),
    }
    tx = optimizers.theta
    updates, _ = tx.update(gradient, tx.init(weights), weights)
    singular = np.linalg.svd(np.asarray(updates["w"]), compute_uv=False)
    assert singular.max() / singular.min() < 2.0  # of the gradient it is about ten
    first = 0.1 * (0.9 * 0.1 / (1 - 0.9**2) + 1.0)  # of Adam with Nesterov's momentum
    np.testing.assert_allclose(updates["b"], -first * np.sign(gradient["b"]), rtol=1e-4)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"optimizer": "sgd"}, "`optimizer` must be one of adam, adamw, muon; got 'sgd'"),
        ({"learning_rate": 0.0}, "`learning_rate` must be positive, got 0.0"),
        ({"lr_schedule": "step"}, "`lr_schedule` must be one of paper, constant, cosine, linear"),
        ({"ema": 1.0}, "`ema` must be below 1, got 1.0"),
        ({"warmup_share": 0.1}, "`warmup_share` needs another `lr_schedule` than 'paper'"),
        ({"clip_norm": -1.0}, "`clip_norm` must be positive"),
    ],
)
def test_what_cannot_be_is_refused(said, message):
    with pytest.raises(ValueError, match=message):
        train.Settings(**said)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train.make_optimizers("sgd", 0.1), "`name` must be one of adam, adamw, muon"),
        (lambda: train.make_optimizers("adam", -1.0), "`learning_rate` must be positive"),
        (lambda: train.average_weights(1.5), "`decay` must be at least 0 and below 1, got 1.5"),
        (lambda: train.make_schedule("nope", 1.0, [10]), "`name` must be one of paper, constant"),
        (lambda: train.make_schedule("paper", 1.0, [10], 0.5), "another schedule than 'paper'"),
    ],
)
def test_builders_of_the_library_refuse_too(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_only_rates_that_know_no_end_can_go_on():
    assert train.Settings(lr_schedule="constant").is_open_ended
    assert not train.Settings(lr_schedule="constant", warmup_share=0.1).is_open_ended
    assert not train.Settings(lr_schedule="linear").is_open_ended
    assert not train.Settings(epochs=3.0).is_open_ended


def test_the_papers_settings_are_the_papers_optimizer():
    """Bit for bit: the same updates as `train.adam` with the paper's rate."""
    settings = train.Settings()
    rate = settings.make_learning_rate(ENDS)
    ours, theirs = settings.make_optimizers(rate), train.adam(train.paper_learning_rate(ENDS))
    weights = {"w": jnp.ones(3)}
    assert jax.tree.structure(ours.theta.init(weights)) == jax.tree.structure(
        theirs.theta.init(weights)
    )
    gradient = {"w": jnp.array([1e-3, -0.2, 5.0])}
    states = ours.theta.init(weights), theirs.theta.init(weights)
    for _ in range(3):
        mine, first = ours.theta.update(gradient, states[0], weights)
        expected, second = theirs.theta.update(gradient, states[1], weights)
        states = first, second
        np.testing.assert_array_equal(mine["w"], expected["w"])
