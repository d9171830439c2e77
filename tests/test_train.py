"""The train step: what moves, what does not, memory, tracing, epochs."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import optax
import pytest

from aiwae_jax import methods, models, train
from aiwae_jax.types import Info, Params

MODEL = lg.model()
METHODS = {
    "vae": methods.vae(MODEL),
    "iwae": methods.iwae(MODEL, 3),
    "aiwae": methods.aiwae(MODEL, 3, 4, 2),
}


@pytest.mark.slow
def test_a_train_step_with_coarse_forces_learns_as_the_exact_one():
    """Rounded forces move the particles a little, and the θ-gradient with them."""
    model = models.bernoulli_vae(12, 3, hidden_sizes=(8, 8), initialization="torch")
    optimizers = train.adam(1e-3)
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2, (16, 12)), jnp.float32)
    found = {}
    for precision in ("float32", "bfloat16"):
        method = methods.aiwae(model, 2, 4, 3, force_precision=precision)
        state = train.init_state(jax.random.key(0), model, method, optimizers)
        step = train.make_train_step(method, optimizers)
        found[precision] = step(jax.random.key(1), state, x)
    (exact, exact_info), (coarse, coarse_info) = found.values()
    chex.assert_trees_all_close(exact.params, coarse.params, atol=2e-3)  # twice the step of Adam
    objectives = [info["theta"]["objective"] for info in (exact_info, coarse_info)]
    np.testing.assert_allclose(*objectives, rtol=0.01)
    assert objectives[0] != objectives[1]


def sgd(theta_rate=0.1, phi_rate=0.1):
    return Params(optax.sgd(theta_rate), optax.sgd(phi_rate), optax.sgd(0.0))


def batch(num=8, seed=0):
    keys = jax.random.split(jax.random.key(seed), num)
    return jax.vmap(lambda key: lg.sample(key, lg.params().theta)[0])(keys)


def one_step(method, optimizers, key=1, **options):
    state = train.init_state(jax.random.key(0), MODEL, method, optimizers)
    step = train.make_train_step(method, optimizers, **options)
    return step(jax.random.key(key), state, batch())


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_raises_its_objective(name):
    """200 steps of Adam from a poor start raise the exact log p(x) by more than a nat."""
    method, optimizers = METHODS[name], train.adam(0.01)
    poor = lg.params()._replace(theta=jax.tree.map(lambda a: 0.1 * a, lg.params().theta))
    state = train.init_state(
        jax.random.key(0), MODEL._replace(init=lambda key: poor), method, optimizers
    )
    step = train.make_train_step(method, optimizers)
    data = 2.0 + batch(64)
    before = jax.vmap(partial(lg.exact_log_likelihood, state.params.theta))(data).mean()
    for i in range(200):
        state, _ = step(jax.random.key(i), state, data)
    after = jax.vmap(partial(lg.exact_log_likelihood, state.params.theta))(data).mean()
    assert after > before + 1.0
    assert int(state.step) == 200


@pytest.mark.slow
@pytest.mark.by_hand
def test_aiwae_moves_theta_by_its_own_optimizer_only():
    with_phi, _ = one_step(METHODS["aiwae"], sgd(0.1, 0.5))
    without_phi, _ = one_step(METHODS["aiwae"], sgd(0.1, 0.0))
    chex.assert_trees_all_equal(with_phi.params.theta, without_phi.params.theta)
    theta_phase_alone, _ = one_step(METHODS["aiwae"][:1], sgd(0.1, 0.5))
    chex.assert_trees_all_equal(theta_phase_alone.params.phi, lg.params().phi)


def test_aiwae_theta_step_is_the_log_joint_gradient_and_phi_step_sees_the_new_theta():
    method = METHODS["aiwae"]
    state, _ = one_step(method, sgd(0.3, 0.1))
    theta_phase, phi_phase = method
    key, x = jax.random.key(1), batch()

    def mean_objective(phase, index, params, moving, name):
        params = params._replace(**{name: moving})
        keys = jax.random.split(key, (len(method), len(x)))[index]
        particles, _ = jax.vmap(
            lambda k, xi: phase.sampler.draw(k, params, xi, phase.sampler.init())
        )(keys, x)
        return jax.vmap(partial(phase.objective.value, params))(particles).mean()

    old = lg.params()
    theta_gradient = jax.jit(
        jax.grad(lambda theta: mean_objective(theta_phase, 0, old, theta, "theta"))
    )(old.theta)
    new_theta = jax.tree.map(lambda p, g: p + 0.3 * g, old.theta, theta_gradient)
    chex.assert_trees_all_close(state.params.theta, new_theta, rtol=1e-4, atol=1e-6)

    def phi_step(theta):
        params = old._replace(theta=theta)
        gradient = jax.jit(jax.grad(lambda phi: mean_objective(phi_phase, 1, params, phi, "phi")))(
            old.phi
        )
        return jax.tree.map(lambda p, g: p + 0.1 * g, old.phi, gradient)

    chex.assert_trees_all_close(state.params.phi, phi_step(new_theta), rtol=1e-4, atol=1e-6)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(state.params.phi, phi_step(old.theta), rtol=1e-4, atol=1e-6)


def test_sum_reduction_is_the_mean_times_the_batch():
    mean, _ = one_step(METHODS["iwae"], sgd(0.8, 0.8))
    total, _ = one_step(METHODS["iwae"], sgd(0.1, 0.1), loss_reduction="sum")
    chex.assert_trees_all_close(mean.params, total.params, rtol=1e-4, atol=1e-6)


def test_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="`loss_reduction` must be 'mean' or 'sum'"):
        train.make_train_step(METHODS["vae"], sgd(), loss_reduction="median")


def test_step_sizes_are_adapted_per_temperature():
    state, info = one_step(METHODS["aiwae"], sgd())
    step_sizes = np.asarray(state.sampler_states[0])
    expected = np.where(info["theta"]["acceptance"] >= 0.6, 0.1002, 0.0998)
    np.testing.assert_allclose(step_sizes, expected, rtol=1e-5)


def test_datum_without_finite_objective_is_counted_and_gives_no_gradient():
    def log_joint(theta, x, z):
        return jnp.where(x[0] > 100.0, -jnp.inf, lg.log_joint(theta, x, z))

    model = MODEL._replace(log_joint=log_joint)
    method = methods.aiwae(model, 3, 4, 2)
    x = batch()
    broken = x.at[0].set(1e4)

    def grads_of(data):
        optimizers = sgd(0.1, 0.0)
        state = train.init_state(jax.random.key(0), model, method, optimizers)
        return train.make_train_step(method, optimizers)(jax.random.key(1), state, data)

    with pytest.warns(UserWarning, match="1 data were left out|had a weight of zero"):
        state, info = grads_of(broken)
    chex.assert_tree_all_finite(state.params)
    assert int(info["theta"]["num_nonfinite_objective"]) == 1
    assert int(info["theta"]["num_zero_weight"]) == 3
    assert np.isfinite(info["theta"]["objective"])


def _broken_with_infinite_derivative(theta, x, z):
    """-inf for the broken datum through log(0): reverse mode makes 0 * inf of it."""
    distance = jnp.maximum(100.0 - x[0], 0.0) * jnp.exp(theta["bias"][0] + z[0])
    return lg.log_joint(theta, x, z) + jnp.where(x[0] > 100.0, jnp.log(distance), 0.0)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", METHODS)
def test_update_with_a_nonfinite_gradient_is_skipped_and_counted(name):
    model = MODEL._replace(log_joint=_broken_with_infinite_derivative)
    method = {
        "vae": lambda: methods.vae(model),
        "iwae": lambda: methods.iwae(model, 3),
        "aiwae": lambda: methods.aiwae(model, 3, 4, 2),
    }[name]()
    optimizers = train.adam(0.1)
    state = train.init_state(jax.random.key(0), model, method, optimizers)
    step = train.make_train_step(method, optimizers)
    with pytest.warns(UserWarning, match="left out|were skipped|weight of zero"):
        state, info = step(jax.random.key(1), state, batch().at[0, 0].set(1e4))
    chex.assert_tree_all_finite((state.params, state.opt_states))
    assert sum(int(phase["num_skipped_updates"]) for phase in info.values()) >= 1
    assert all(int(phase["num_nonfinite_objective"]) == 1 for phase in info.values())
    _, info = step(jax.random.key(2), state, batch())
    assert sum(int(phase["num_skipped_updates"]) for phase in info.values()) == 0


# ---------------------------------------------------------------------------------------- compiled


def temporary_memory(num_temperatures, num_particles=5, **options):
    model = models.bernoulli_vae(784, 50, mean_image=np.full(784, 0.13))
    method = methods.aiwae(model, num_particles, num_temperatures, **options)
    optimizers = train.adam(1e-3)
    state = train.init_state(jax.random.key(0), model, method, optimizers)
    step = train.make_train_step(method, optimizers)
    x = jax.ShapeDtypeStruct((32, 784), jnp.float32)
    compiled = step.lower(jax.random.key(0), state, x).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_temporary_memory_does_not_grow_with_the_number_of_temperatures():
    sizes = [temporary_memory(num) for num in (5, 80, 1000)]
    assert max(sizes) <= 1.05 * min(sizes), sizes


@pytest.mark.slow
def test_a_chunk_of_particles_bounds_the_temporary_memory():
    few, many = temporary_memory(5, 10), temporary_memory(5, 200, particle_chunk=10)
    assert many < 2.0 * few  # what is left to grow is the particles themselves
    assert temporary_memory(5, 200) > 10.0 * few


@pytest.mark.slow
def test_memory_test_catches_a_forgotten_stop_gradient(monkeypatch):
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda tree: tree)
    sizes = [temporary_memory(num) for num in (5, 80)]
    assert sizes[1] > 1.5 * sizes[0], sizes


def run_loop(chunks):
    """Trains in the given chunks, tracing the step once; returns the loop state."""
    chex.clear_trace_counter()
    data = np.asarray(batch(22))
    method, optimizers = METHODS["aiwae"], train.adam(0.01)

    @chex.assert_max_traces(n=2)  # one of them for the shapes of the totals
    def batch_fn(key, raw):
        return raw + 0.01 * jax.random.normal(key, raw.shape)

    step = train.make_train_step(method, optimizers)
    run = train.make_run_steps(step, batch_fn, num_examples=22, batch_size=4)
    state = train.init_state(jax.random.key(0), MODEL, method, optimizers)
    loop_state = train.init_loop_state(step, state, batch_fn, jnp.asarray(data), 4)
    for num_steps in chunks:
        loop_state = run(jax.random.key(9), loop_state, jnp.asarray(data), num_steps)
    return loop_state


@pytest.mark.slow
@pytest.mark.by_hand
def test_cutting_an_epoch_into_chunks_changes_no_bit_and_traces_once():
    whole = run_loop([5, 5])
    cut = run_loop([1, 2, 2, 3, 1, 1])
    chex.assert_trees_all_equal(whole, cut)
    assert int(whole.train.step) == 10


@pytest.mark.few(3)
@pytest.mark.parametrize("name", [*METHODS, "hvae", "hvi", "uha"])
def test_a_step_keeps_every_type(name):
    """A weak type that a step makes strong would compile the next step anew."""
    settings = {"tempering": "learned"} if name == "hvae" else {}
    method = METHODS.get(name) or getattr(methods, name)(MODEL, **settings)
    optimizers, key = train.adam(1e-3), jax.random.key(0)
    before = jax.eval_shape(lambda key: train.init_state(key, MODEL, method, optimizers), key)
    after, _ = jax.eval_shape(train.make_train_step(method, optimizers), key, before, batch(2))
    chex.assert_trees_all_equal_structs(before, after)
    types = [[(a.shape, a.dtype, a.weak_type) for a in jax.tree.leaves(t)] for t in (before, after)]
    assert types[0] == types[1]


@pytest.mark.slow
def test_totals_start_anew_with_each_epoch():
    loop_state = run_loop([5, 3])
    averages = train.epoch_averages(loop_state.totals, 3)
    assert abs(float(averages["theta"]["step_sizes"].mean()) - 0.1) < 0.01
    assert float(loop_state.totals["theta"]["effective_sample_size"]) <= 3 * 3.0


def test_every_epoch_is_a_fresh_permutation_without_its_remainder():
    seen = []

    def batch_fn(key, raw):
        jax.debug.callback(lambda r: seen.append(np.asarray(r)[:, 0]), raw)
        return raw

    data = jnp.tile(jnp.arange(10.0)[:, None], (1, lg.X))
    method, optimizers = METHODS["vae"], sgd(0.0, 0.0)
    step = train.make_train_step(method, optimizers)
    run = train.make_run_steps(step, batch_fn, num_examples=10, batch_size=3)
    state = train.init_state(jax.random.key(0), MODEL, method, optimizers)
    loop_state = train.init_loop_state(step, state, lambda key, raw: raw, data, 3)
    for _ in range(2):
        loop_state = run(jax.random.key(0), loop_state, data, 3)
    jax.block_until_ready(loop_state)
    jax.effects_barrier()
    epochs = [np.concatenate(seen[:3]), np.concatenate(seen[3:])]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert not np.array_equal(*epochs)


def test_every_step_has_new_randomness():
    """The keys of the batch function and of the train step differ at every step and epoch."""
    seen = []

    def note(key):
        jax.debug.callback(lambda k: seen.append(tuple(np.asarray(k))), jax.random.key_data(key))

    def batch_fn(key, raw):
        note(key)
        return raw

    def train_step(key, state, batch):
        note(key)
        return state._replace(step=state.step + 1), {"phase": Info(rates={"n": jnp.zeros(())})}

    data = jnp.zeros((10, lg.X))
    run = train.make_run_steps(train_step, batch_fn, num_examples=10, batch_size=3)
    state = train.TrainState(jnp.zeros((), jnp.int32), lg.params(), (), ())
    loop_state = train.LoopState(state, {"phase": Info(rates={"n": jnp.zeros(())})})
    for _ in range(3):
        loop_state = run(jax.random.key(0), loop_state, data, 3)
    jax.block_until_ready(loop_state)
    jax.effects_barrier()
    assert len(seen) == len(set(seen)) == 18


def test_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="between 1 and the 10 training examples, got 11"):
        train.make_run_steps(None, None, num_examples=10, batch_size=11)


def test_learning_rate_and_epochs_are_the_papers():
    assert [train.paper_epochs(n) for n in (1, 2, 4, 8)] == [1, 4, 40, 3280]
    schedule = train.paper_learning_rate(train.stage_ends(10))
    ends = [(0, 0), (9, 0), (10, 1), (39, 1), (40, 2), (400, 4), (32799, 7)]
    for step, stage in ends:
        np.testing.assert_allclose(schedule(step), 0.001 * 10 ** (-stage / 7), rtol=1e-6)


def test_more_stages_do_not_change_the_earlier_ones():
    short, long = (train.paper_learning_rate(train.stage_ends(10, n)) for n in (2, 8))
    assert all(short(step) == long(step) for step in range(0, 40, 3))


def test_stages_are_stretched_alike():
    assert train.stage_ends(10, 3) == [10, 40, 130]
    assert train.stage_ends(10, 3, epochs=26) == [20, 80, 260]
    assert train.stage_ends(10, 3, epochs=1.3) == [1, 4, 13]
