"""What enters training is checked where it enters, and what goes wrong inside is said once."""

import warnings

import chex
import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import optax
import pytest

from aiwae_jax import data, methods, models, train
from aiwae_jax.types import ChainInfo, Info, Params

MODEL = lg.model()
VAE = methods.vae(MODEL)
OPTIMIZERS = train.adam(0.01)
# What nothing is to be said of.
PIXELS = np.random.default_rng(0).integers(0, 2, (12, 6)).astype(np.float32)


def batch(num=8):
    keys = jax.random.split(jax.random.key(5), num)
    return jax.vmap(lambda key: lg.sample(key, lg.params().theta)[0])(keys)


def start(method=VAE, model=MODEL):
    return train.init_state(jax.random.key(0), model, method, OPTIMIZERS)


def bernoulli(method=methods.vae, **options):
    """(method, model) of a small Bernoulli VAE that stores its output bias."""
    mean_image = np.full(6, 0.3, np.float32)
    model = models.bernoulli_vae(6, 2, hidden_sizes=(4,), mean_image=mean_image, **options)
    return method(model), model


# ------------------------------------------------------------------------------ whose memory it is


@pytest.mark.slow
def test_a_model_can_start_twice_though_its_state_is_donated():
    method, model = bernoulli()
    step = train.make_train_step(method, OPTIMIZERS)
    ends = [step(jax.random.key(1), start(method, model), PIXELS)[0] for _ in range(2)]
    chex.assert_trees_all_equal(*ends)


def test_arrays_that_a_models_init_hands_out_stay_its_callers():
    mine = jax.tree.map(jnp.asarray, lg.params())
    model = MODEL._replace(init=lambda key: mine)
    step = train.make_train_step(VAE, OPTIMIZERS)
    step(jax.random.key(1), start(model=model), batch())
    chex.assert_trees_all_equal(mine, lg.params())  # an array that was deleted would raise


def test_two_leaves_that_are_one_array_are_two_in_the_state():
    shared = jnp.ones(3)
    model = MODEL._replace(init=lambda key: Params({"a": shared, "b": shared}, {}))
    leaves = jax.tree.leaves(train.init_state(jax.random.key(0), model, VAE, OPTIMIZERS).params)
    assert len({leaf.unsafe_buffer_pointer() for leaf in (*leaves, shared)}) == 3


def test_copies_keep_a_warm_start_and_the_best_parameters():
    """The two lines of the documentation of `make_train_step`."""
    pretrained = jax.tree.map(jnp.asarray, lg.params())
    step = train.make_train_step(VAE, OPTIMIZERS)
    state = start()._replace(params=jax.tree.map(jnp.copy, pretrained))
    best = jax.tree.map(jnp.copy, state.params)
    state, _ = step(jax.random.key(1), state, batch())
    chex.assert_trees_all_equal(best, pretrained)
    assert not np.allclose(state.params.phi["bias"], best.phi["bias"])


@pytest.mark.parametrize(
    ("leaf", "dtype"), [(0.5, jnp.float32), (np.float64(0.5), jnp.float32), (3, jnp.int32)]
)
def test_numbers_among_parameters_become_arrays(leaf, dtype):
    model = MODEL._replace(init=lambda key: Params({"a": leaf}, {}))
    found = train.init_state(jax.random.key(0), model, VAE, OPTIMIZERS).params.theta["a"]
    assert found.dtype == dtype
    assert not found.weak_type


@pytest.mark.parametrize("leaf", [jnp.tanh, "tanh", object()])
def test_what_is_no_parameter_is_named(leaf):
    model = MODEL._replace(init=lambda key: Params({"act": leaf}, {}))
    with pytest.raises(TypeError, match=r"must be arrays only, but theta\.act"):
        train.init_state(jax.random.key(0), model, VAE, OPTIMIZERS)


@pytest.mark.parametrize(
    ("method", "optimizers", "message"),
    [
        (VAE[0], OPTIMIZERS, "`method` must be a tuple of phases"),
        (list(VAE), OPTIMIZERS, "`method` must be a tuple of phases.*got list"),
        (VAE, optax.adam(1e-3), "`optimizers` must be `types.Params` of three"),
        (VAE, Params(1e-3, 1e-3, 1e-3), "`optimizers` must be `types.Params` of three"),
    ],
)
def test_parts_of_another_kind_are_refused(method, optimizers, message):
    with pytest.raises(TypeError, match=message):
        train.make_train_step(method, optimizers)
    with pytest.raises(TypeError, match=message):
        train.init_state(jax.random.key(0), MODEL, method, optimizers)


def test_a_model_that_returns_a_bare_pair_is_told_what_to_return():
    model = MODEL._replace(init=lambda key: tuple(lg.params())[:2])
    with pytest.raises(TypeError, match=r"must return `types\.Params\(theta, phi\)`, got tuple"):
        start(model=model)


@pytest.mark.parametrize("rate", [-1.0, 0.0, np.nan, np.inf, jnp.asarray(-0.1)])
def test_learning_rates_that_do_not_climb_are_refused(rate):
    with pytest.raises(ValueError, match="`learning_rate` must be positive and finite"):
        train.adam(rate)


def test_schedules_and_scalars_of_any_kind_are_rates():
    for rate in (1e-3, np.float32(1e-3), jnp.asarray(1e-3), optax.constant_schedule(1e-3)):
        train.adam(rate)
    jax.jit(lambda rate: train.adam(rate).theta.init(jnp.zeros(2)))(1e-3)
    with pytest.raises(TypeError, match="`learning_rate` must be a number or a schedule"):
        train.adam("1e-3")
    with pytest.raises(ValueError, match="`eps` must be at least 0"):
        train.adam(1e-3, eps=-1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps_per_epoch": 0}, "`steps_per_epoch` must be at least 1, got 0"),
        ({"steps_per_epoch": 3, "num_stages": 0}, "`num_stages` must be at least 1"),
        ({"steps_per_epoch": 3, "epochs": np.nan}, "`epochs` must be positive and finite"),
    ],
)
def test_stages_of_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        train.stage_ends(**arguments)


# ------------------------------------------------------------------------------------ their lengths


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((0, lg.X), np.float32), "`batch` must hold at least one datum"),
        ((np.zeros((6, lg.X)), np.zeros(4)), r"`batch\[0\]` 6, `batch\[1\]` 4"),
        ({"x": np.zeros((6, lg.X)), "n": 6}, r"`batch\['n'\]` must be an array whose leading axis"),
        ([0.0, 1.0], r"make one by `np\.asarray\(batch\)`"),
        ((), "`batch` must be an array whose leading axis"),
    ],
)
def test_batches_of_no_or_unequal_length_are_refused_at_every_door(wrong, message):
    step = train.make_train_step(VAE, OPTIMIZERS)
    with pytest.raises((TypeError, ValueError), match=message):
        step(jax.random.key(1), start(), wrong)
    with pytest.raises(
        (TypeError, ValueError), match=message
    ):  # inside a user's own transformation
        jax.eval_shape(step, jax.random.key(1), start(), wrong)


def loop(num_examples, batch_size, batch_fn=lambda key, raw: raw, method=VAE, model=MODEL):
    step = train.make_train_step(method, OPTIMIZERS)
    run = train.make_run_steps(step, batch_fn, num_examples=num_examples, batch_size=batch_size)
    return run, lambda data: train.init_loop_state(
        step, start(method, model), batch_fn, data, batch_size
    )


def test_data_of_another_length_than_was_said_are_refused():
    """JAX clamps: row 59 of 60 would stand for rows 60 to 99 as well."""
    run, init = loop(100, 10)
    x = batch(60)
    with pytest.raises(ValueError, match=r"`num_examples`=100 rows, got 60"):
        run(jax.random.key(0), init(x), x, 1)
    with pytest.raises(ValueError, match=r"`num_examples`=100 rows, got 60"):
        run.lower(jax.random.key(0), init(x), x, 1)


def test_labels_of_another_length_than_the_data_are_refused():
    run, init = loop(60, 10, lambda key, raw: raw[0])
    wrong = batch(60), jnp.zeros(40, jnp.int32)
    message = r"`data\[0\]` 60, `data\[1\]` 40"
    with pytest.raises(ValueError, match=message):
        init(wrong)
    with pytest.raises(ValueError, match=message):
        run(jax.random.key(0), init((batch(60), jnp.zeros(60, jnp.int32))), wrong, 1)


def test_a_loop_state_needs_a_whole_batch():
    _, init = loop(60, 10)
    with pytest.raises(ValueError, match="between 1 and the 4 training examples, got 10"):
        init(batch(4))


@pytest.mark.parametrize("num_steps", [4, 3, -1])
def test_steps_beyond_the_end_of_an_epoch_are_refused(num_steps):
    """They would go through the old permutation once more."""
    run, init = loop(6, 2)
    x = batch(6)
    state = run(jax.random.key(0), init(x), x, 1)
    with pytest.raises(ValueError, match="must not cross the end of the epoch, which is 2 steps"):
        run(jax.random.key(0), state, x, num_steps)
    state = run(jax.random.key(0), state, x, 2)
    assert state.num_steps == 3


# ------------------------------------------------------------------------------------ their support


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (16 * PIXELS, r"data\.binarize\(key, x, 16\.0\)"),
        (255 * PIXELS, r"data\.binarize\(key, x, 255\.0\)"),
        (0.3 + 0.4 * PIXELS, "binarized anew"),
        ((PIXELS - 0.4) / 0.2, "Gaussian likelihood"),
    ],
)
def test_a_bernoulli_model_is_not_trained_on_other_data(x, message):
    method, model = bernoulli()
    with pytest.raises(ValueError, match=f"`batch` must be 0s and 1s.*{message}"):
        train.make_train_step(method, OPTIMIZERS)(jax.random.key(1), start(method, model), x)
    run, init = loop(12, 4, method=method, model=model)
    with pytest.raises(ValueError, match=f"`batch` must be 0s and 1s.*{message}"):
        run(jax.random.key(0), init(x), x, 1)


@pytest.mark.parametrize(
    "build",
    [
        lambda: (models.two_layer_vae(6, 2, initialization="torch"), methods.vae),
        lambda: (models.sigmoid_belief_network(6, (3,), initialization="torch"), methods.nvil),
        lambda: (models.bernoulli_vae(6, 2, initialization="torch"), methods.uha),
        lambda: (
            models.bernoulli_vae(6, 2, initialization="torch"),
            lambda model: methods.rws(model, 2, "both"),
        ),
        lambda: (
            models.bernoulli_vae(6, 2, initialization="torch"),
            lambda m: methods.hoffman(m, 1),
        ),
    ],
)
def test_every_model_of_bits_and_every_sampler_knows(build):
    model, build_method = build()
    step = train.make_train_step(build_method(model), OPTIMIZERS)
    assert step.has_check
    with pytest.raises(ValueError, match="`batch` must be 0s and 1s"):
        step.check_batch(255 * PIXELS)
    step.check_batch(PIXELS)


def test_a_half_predictor_asks_bits_only_of_the_half_it_predicts():
    model = models.half_predictor(6, (3,), initialization="torch")
    step = train.make_train_step(methods.tang(model, 2), OPTIMIZERS)
    step.check_batch(np.concatenate([0.5 * PIXELS[:, :3], PIXELS[:, 3:]], axis=1))
    with pytest.raises(ValueError, match="`batch` must be 0s and 1s"):
        step.check_batch(0.5 * PIXELS)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (PIXELS[0], r"shape \[images, 6\], one flat image a row; got \[6\]"),
        (PIXELS.reshape(12, 2, 3), r"got \[12, 2, 3\]"),
        (PIXELS[:, :4], r"got \[12, 4\]"),
        (np.full_like(PIXELS, np.nan), "`batch` must be finite, got NaN or infinity in 72 of 72"),
    ],
)
def test_what_are_no_rows_of_pixels_is_refused(x, message):
    method, model = bernoulli()
    with pytest.raises(ValueError, match=message):
        train.make_train_step(method, OPTIMIZERS).check_batch(x)
    assert start(method, model).params.theta


@pytest.mark.parametrize("mean_image", [np.full(6, 5.0), np.full(6, np.nan), np.full(6, -0.1)])
def test_a_mean_image_is_one_of_probabilities(mean_image):
    with pytest.raises(ValueError, match=r"`mean_image` must lie within \[0, 1\]"):
        models.bernoulli_vae(6, 2, mean_image=mean_image)


@pytest.mark.parametrize(
    ("error", "sizes", "message"),
    [
        (ValueError, {"latent_size": 0}, "`latent_size` must be at least 1, got 0"),
        (TypeError, {"latent_size": 2.0}, r"`latent_size` must be an integer, got 2\.0"),
        (TypeError, {"hidden_sizes": 8}, "`hidden_sizes` must list the units of each layer"),
        (ValueError, {"hidden_sizes": (8, 0)}, r"`hidden_sizes\[1\]` must be at least 1"),
    ],
)
def test_layers_without_units_are_refused(error, sizes, message):
    sizes = {"data_size": 6, "latent_size": 2, "initialization": "torch"} | sizes
    for build in (models.bernoulli_vae, models.two_layer_vae):
        with pytest.raises(error, match=message):
            build(**sizes)


@pytest.mark.parametrize("key", [0, jax.random.PRNGKey(0), jax.random.split(jax.random.key(0))])
def test_a_step_takes_one_typed_key(key):
    with pytest.raises(TypeError, match="`key` must be one random key"):
        train.make_train_step(VAE, OPTIMIZERS)(key, start(), batch())


def test_arguments_in_another_order_and_a_state_of_before_are_named():
    step, state = train.make_train_step(VAE, OPTIMIZERS), start()
    with pytest.raises(TypeError, match=r"called with \(key, state, batch\).*got Params"):
        step(jax.random.key(0), state.params, batch())
    step(jax.random.key(0), state, batch())
    with pytest.raises(ValueError, match="`state` has been given to a step before"):
        step(jax.random.key(0), state, batch())
    run, init = loop(8, 4)
    loop_state = init(batch())
    run(jax.random.key(0), loop_state, batch(), 1)
    with pytest.raises(ValueError, match="`state` has been given to a step before"):
        run(jax.random.key(0), loop_state, batch(), 1)
    with pytest.raises(TypeError, match=r"`loop_state` from `train\.init_loop_state`; got TrainS"):
        run(jax.random.key(0), start(), batch(), 1)


@pytest.mark.parametrize("number", [2.0, "2", None])
def test_counts_are_whole_numbers(number):
    with pytest.raises(TypeError, match="`batch_size` must be an integer"):
        loop(8, number)
    run, init = loop(8, 2)
    with pytest.raises(TypeError, match="`num_steps` must be an integer"):
        run(jax.random.key(0), init(batch()), batch(), number)


def test_a_batch_without_a_usable_datum_moves_nothing():
    """An optimizer with momentum would go on by itself."""
    step = train.make_train_step(VAE, OPTIMIZERS)
    state, _ = step(jax.random.key(0), start(), batch())
    before = jax.tree.map(np.asarray, jax.tree.map(jnp.copy, (state.params, state.opt_states)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        state, info = step(jax.random.key(1), state, jnp.full_like(batch(), jnp.nan))
        jax.block_until_ready(info)
        chex.assert_trees_all_equal((state.params, state.opt_states), before)
        step(jax.random.key(2), state, batch())
    assert int(info["theta+phi"]["num_skipped_updates"]) == 1
    assert len(said) == 2  # the data, and the update


def test_a_step_can_be_mapped_over_repeats():
    keys = jax.random.split(jax.random.key(0), 3)
    step = jax.vmap(train.make_train_step(VAE, OPTIMIZERS), in_axes=(0, None, None))
    state, _ = jax.eval_shape(step, keys, start(), batch())
    assert state.step.shape == (3,)


def test_grey_levels_are_welcome_where_they_are_binarized():
    method, model = bernoulli()
    levels = jnp.asarray(255 * PIXELS, jnp.uint8)
    run, init = loop(12, 4, lambda key, raw: data.binarize(key, raw, 255.0), method, model)
    assert run(jax.random.key(0), init(levels), levels, 3).num_steps == 3


def test_a_likelihood_of_ones_own_takes_what_it_likes():
    step = train.make_train_step(VAE, OPTIMIZERS)
    assert not step.has_check
    step(jax.random.key(1), start(), 5.0 + batch())


# ------------------------------------------------------------------------------------- what breaks


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["vae", "iwae", "aiwae"])
def test_one_broken_datum_leaves_the_others_training(name, value):
    """The step is that of the others, of a datum beside them that says nothing."""
    method = {
        "vae": lambda: VAE,
        "iwae": lambda: methods.iwae(MODEL, 3),
        "aiwae": lambda: methods.aiwae(MODEL, 3, 4, 2),
    }[name]()
    sgd = Params(*(optax.sgd(0.1) for _ in range(3)))
    step = train.make_train_step(method, sgd, loss_reduction="sum")

    def moved(x):
        state = train.init_state(jax.random.key(0), MODEL, method, sgd)
        return step(jax.random.key(1), state, x)

    x = batch()
    with pytest.warns(UserWarning, match="1 data were left out of the updates of"):
        state, info = moved(x.at[2, 1].set(value))
    for diagnostics in info.values():
        assert int(diagnostics["num_nonfinite_objective"]) == 1
        assert int(diagnostics["num_skipped_updates"]) == 0
        assert np.isfinite(diagnostics["objective"])
        assert np.isfinite(diagnostics["log_likelihood_bound"])
    # What is left of the step when the broken datum's own share is taken from that of a good one.
    if name == "vae":
        without, _ = moved_without(x, 2)
        chex.assert_trees_all_close(state.params, without.params, rtol=1e-5, atol=1e-6)


def moved_without(x, row):
    """A step of SGD on the sum over all data but one, with the keys that each has in the batch."""
    phase, state = VAE[0], start()
    keys = jax.random.split(jax.random.key(1), (1, len(x)))[0]
    kept = np.arange(len(x)) != row

    def total(params):
        draw = lambda key, x: phase.sampler.draw(key, params, x, ())[0]  # noqa: E731
        particles = jax.vmap(draw)(keys[kept], x[kept])
        return jnp.sum(jax.vmap(lambda p: phase.objective.value(params, p))(particles))

    params = state.params._replace(psi=())
    gradient = jax.grad(total)(params)
    return state._replace(params=jax.tree.map(lambda p, g: p + 0.1 * g, params, gradient)), None


def test_a_full_batch_with_one_nan_trains_and_says_so_once():
    x = batch(32).at[7, 0].set(jnp.nan)
    step, state = train.make_train_step(VAE, OPTIMIZERS), start()
    before = np.asarray(state.params.theta["bias"])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for i in range(100):
            state, info = step(jax.random.key(i), state, x)
    assert len(said) == 1
    assert said[0].filename == __file__
    assert int(info["theta+phi"]["num_skipped_updates"]) == 0
    assert np.abs(np.asarray(state.params.theta["bias"]) - before).max() > 0.1


def test_a_loop_on_the_device_says_it_as_well_and_sums_the_counts():
    x = batch(6).at[1, 0].set(jnp.nan)
    run, init = loop(6, 2)
    with pytest.warns(UserWarning, match=r"1 data were left out of the updates of theta\+phi in 3"):
        state = run(jax.random.key(0), init(x), x, 3)
    assert int(state.totals["theta+phi"]["num_nonfinite_objective"]) == 1
    assert int(state.totals["theta+phi"]["num_skipped_updates"]) == 0


def test_a_broken_level_is_no_black_pixel():
    levels = jnp.array([[0.0, 0.5, 1.0], [jnp.nan, 0.2, 0.3], [2.0, -1.0, jnp.inf]])
    draws = np.asarray(data.binarize(jax.random.key(0), levels, 1.0))
    assert np.isin(draws[0], (0.0, 1.0)).all()
    np.testing.assert_array_equal(np.isnan(draws), [[False] * 3, [True, False, False], [True] * 3])
    with pytest.raises(ValueError, match="`levels` must be finite"):
        data.binarize(jax.random.key(0), np.asarray(levels), 1.0)
    with pytest.raises(ValueError, match=r"from 0 to 255; is `max_level` 255\?"):
        data.binarize(jax.random.key(0), np.array([[0, 255]], np.uint8), 1.0)
    with pytest.raises(ValueError, match="`max_level` must be positive"):
        data.binarize(jax.random.key(0), levels, 0.0)


def _of_observed(theta, x, z):
    """Missing values as NaN, hidden before the arithmetic, so that derivatives are finite."""
    is_seen = ~jnp.isnan(x)
    mean = theta["weight"] @ z + theta["bias"]
    residual = jnp.where(is_seen, jnp.where(is_seen, x, 0.0) - mean, 0.0)
    return -0.5 * jnp.vdot(residual, residual) - 0.5 * jnp.vdot(z, z)


def test_nan_for_what_is_missing_reaches_a_model_that_asks_for_it():
    model = MODEL._replace(
        log_joint=_of_observed, posterior=lambda phi, x: MODEL.posterior(phi, jnp.nan_to_num(x))
    )
    method = methods.vae(model)
    x = batch().at[:3, 0].set(jnp.nan)
    step = train.make_train_step(method, OPTIMIZERS, with_nonfinite_data=True)
    state, info = step(jax.random.key(1), start(method, model), x)
    assert int(info["theta+phi"]["num_nonfinite_objective"]) == 0
    assert int(info["theta+phi"]["num_skipped_updates"]) == 0
    chex.assert_tree_all_finite(state.params)
    step = train.make_train_step(method, OPTIMIZERS)
    with pytest.warns(UserWarning, match=r"3 data were left out.*`with_nonfinite_data=True`"):
        step(jax.random.key(1), start(method, model), x)


def test_moves_that_are_all_rejected_are_said_once():
    """NaN for the derivative in z, where the value is finite: no trajectory can be accepted."""

    def log_joint(theta, x, z):
        return lg.log_joint(theta, x, z) + jnp.sum(jnp.where(z > 1e9, jnp.sqrt(z - 1e9), 0.0))

    model = MODEL._replace(log_joint=log_joint)
    method = methods.aiwae(model, 3, 4, 2)
    step, state = train.make_train_step(method, OPTIMIZERS), start(method, model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for i in range(8):  # of 8 data, 3 particles and 3 moves
            state, info = step(jax.random.key(i), state, batch())
        jax.block_until_ready(state)
        step(jax.random.key(9), state, batch())
    assert np.all(np.asarray(info["theta"]["acceptance"]) == 0.0)
    rejected = [str(w.message) for w in said if "moves of theta were rejected" in str(w.message)]
    assert len(rejected) == 1


def test_a_few_rejected_moves_are_chance():
    info = {"theta": Info(chain=ChainInfo(np.zeros(2)))}
    found = train.Watch()
    found.look(info, num_data=10)
    found.look({"theta": Info(chain=ChainInfo(np.array([0.0, 0.1])))}, num_data=10)
    found.look(info, num_data=40)
    with pytest.warns(UserWarning, match="All moves of theta were rejected"):
        found.look(info, num_data=10)


def test_a_later_step_is_looked_at_without_being_waited_for():
    """The step that goes wrong is told of by that call or the next; only the first one waits."""
    step, state = train.make_train_step(VAE, OPTIMIZERS), start()
    state, _ = step(jax.random.key(0), state, batch())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        state, _ = step(jax.random.key(1), state, batch().at[0, 0].set(jnp.nan))
        jax.block_until_ready(state)
        step(jax.random.key(2), state, batch())
    assert len(said) == 1


def test_what_is_not_finished_is_looked_at_when_it_is():
    class Flag:
        is_done = False

        def is_ready(self):
            return self.is_done

        def __array__(self, dtype=None, copy=None):
            assert self.is_done, "waited for"
            return np.array(True)

    found, flag = train.Watch(), Flag()
    good, bad = ({"theta": Info(counts={"num_skipped_updates": np.array(num)})} for num in (0, 1))
    found.follow(np_flag(False), good)
    found.follow(flag, bad)
    found.follow(np_flag(False), good)
    flag.is_done = True
    with pytest.warns(UserWarning, match="1 updates of theta were skipped"):
        found.follow(np_flag(False), good)


def np_flag(value):
    return jax.block_until_ready(jnp.asarray(value))


def test_a_step_within_a_users_own_jit_says_nothing_and_counts():
    step = train.make_train_step(VAE, OPTIMIZERS)
    broken = batch().at[0, 0].set(jnp.nan)
    _, info = jax.jit(step)(jax.random.key(0), start(), broken)
    assert int(info["theta+phi"]["num_nonfinite_objective"]) == 1
    assert step.lower(jax.random.key(0), start(), broken).as_text()
