"""Persistent chains: the exact posterior stays, each datum has its own state, to the bit."""

import dataclasses
import functools
import os
import pathlib
import subprocess
import sys

import chex
import interrupting
import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import optax
import own_table
import pytest

from aiwae_jax import data, methods, models, objectives, samplers, train
from aiwae_jax.runs import checkpoint
from aiwae_jax.train import Kept, persistence, program
from aiwae_jax.types import Info, Params, Particles, Sampler, phase

ROOT = pathlib.Path(__file__).parent.parent
MODEL = lg.model()
THETA = lg.params().theta
X = jnp.asarray(lg.DATUM)
OTHER = jnp.asarray([-1.5, 1.0, 0.2], jnp.float32)
STILL = Params(*[optax.set_to_zero()] * 3)


# One visit of one datum, by very many chains.
NUM = 50_000
SPACES = {"latent": 0.9, "base": 1.15}  # and step sizes with rejections


def exact_draws(x, key=0):
    keys = jax.random.split(jax.random.key(key), NUM)
    return jax.vmap(lg.exact_posterior(THETA, x).sample)(keys)


def visit_z_score(space, num_moves=1, before=None):
    """(largest mean change of a statistic of z in standard errors, acceptance)."""
    before = exact_draws(X) if before is None else before
    sampler = samplers.persistent(MODEL, num_moves, 3, chain_space=space)

    @jax.jit
    @functools.partial(jax.vmap, out_axes=(0, None), axis_name="chains")
    def move(key, z):
        kept = Kept(z[None], jnp.ones((), bool))
        state = jnp.full(num_moves, SPACES[space])
        drawn, info = sampler.draw(key, lg.params(), X, state, axis_name="chains", kept=kept)
        return drawn.z[0], info.chain.acceptance

    after, acceptance = move(jax.random.split(jax.random.key(1), NUM), before)

    def statistics(z):
        z = np.asarray(z, np.float64)
        return np.stack([*z.T, *np.square(z).T, z[:, 0] * z[:, 1], np.exp(0.5 * z[:, 0])])

    change = statistics(after) - statistics(before)
    return np.max(np.abs(change.mean(1)) / change.std(1, ddof=1)) * NUM**0.5, acceptance


@pytest.mark.few(2)
@pytest.mark.parametrize("num_moves", [1, 5])
@pytest.mark.parametrize("space", SPACES)
def test_a_visit_leaves_the_exact_posterior_invariant(space, num_moves):
    z_score, acceptance = visit_z_score(space, num_moves)
    assert z_score < 4.0
    assert np.all((acceptance > 0.4) & (acceptance < 0.85)), acceptance


@pytest.mark.parametrize("space", SPACES)
def test_the_invariance_test_sees_the_state_of_another_datum(space):
    assert visit_z_score(space, before=exact_draws(OTHER))[0] > 20.0


def test_latents_that_are_kept_as_noise_would_not_stay():
    """Noise of yesterday's q is another z today."""
    yesterday = lg.params()._replace(phi=lg.params().phi | {"bias": jnp.asarray([0.5, 0.1])})
    noise = jax.vmap(lg.posterior(yesterday.phi, X).inverse_transport)(exact_draws(X))
    moved = jax.vmap(lambda e: lg.posterior(lg.params().phi, X).transport(e)[0])(noise)
    assert visit_z_score("base", before=moved)[0] > 20.0


# All visits of data sets, in the training loop: at fixed θ the pairs (x, z) are draws of the model.
def joint_z_scores(num_passes=6, restart_every=3, space="base"):
    """How far the mean of log p(x, z) is from its exact value after each pass, standard errors.

    q is the exact posterior, so that begun anew and gone on are alike; x is drawn from the model.
    """
    num, per_batch = 8_000, 2_000
    exact = MODEL._replace(posterior=lambda phi, x: lg.exact_posterior(THETA, x))

    def batch_fn(key, raw):
        keys = jax.random.split(key, len(raw))
        return jax.vmap(lambda k: lg.sample(k, THETA)[0])(keys)

    chains = samplers.persistent(exact, 1, 2, restart_every=restart_every, chain_space=space)
    step_size = {"latent": 0.9, "base": 1.6}[space]
    chains = chains._replace(init=lambda: jnp.full(1, step_size), adapt=lambda state, info: state)
    method = (phase(("theta",), chains, objectives.log_joint(exact)),)
    step = train.make_train_step(method, STILL)
    run = train.make_run_steps(step, batch_fn, num_examples=num, batch_size=per_batch)
    state = train.init_state(jax.random.key(0), exact, method, STILL)
    state = train.init_loop_state(step, state, batch_fn, np.zeros((num, lg.X)), per_batch)
    size, found = lg.D + lg.X, []
    log_det = 2 * lg.X * np.log(lg.NOISE)  # of the covariance of (x, z)
    expected = -0.5 * (size * (1 + np.log(2 * np.pi)) + log_det)
    for _ in range(num_passes):
        state = run(jax.random.key(2), state, np.zeros((num, lg.X)), num // per_batch)
        info = train.epoch_averages(state.totals, num // per_batch)["theta"]
        assert 0.4 < info["acceptance"] < 0.9, info["acceptance"]
        found.append((info["objective"] - expected) / (0.5 * size / num) ** 0.5)
    return np.abs(found)


@pytest.mark.slow
@pytest.mark.parametrize("space", ["latent", "base"])
def test_training_leaves_the_exact_posterior_of_every_datum_invariant(space):
    assert np.all(joint_z_scores(space=space) < 4.0)


def test_the_loop_test_sees_the_state_of_another_datum(monkeypatch):
    real = persistence.visit

    def visit(train_step, key, state, batch, indices, sharding):
        return real(train_step, key, state, batch, jnp.roll(indices, 1), sharding)

    monkeypatch.setattr(persistence, "visit", visit)
    found = joint_z_scores()
    assert np.all(found[[0, 3]] < 4.0)  # begun anew
    assert np.all(found[[1, 2, 4, 5]] > 20.0)


@pytest.mark.slow
def test_the_loop_test_sees_data_drawn_anew_between_visits(monkeypatch):
    real = persistence.period_of

    def period_of(key, step, **of_leg):
        return real(key, step, **of_leg)._replace(key=jax.random.fold_in(key, step))

    monkeypatch.setattr(persistence, "period_of", period_of)
    found = joint_z_scores()
    assert np.all(found[[0, 3]] < 4.0)
    assert np.all(found[[1, 2, 4, 5]] > 20.0)


@pytest.mark.slow
def test_the_loop_test_sees_latents_that_outlive_their_data(monkeypatch):
    monkeypatch.setattr(persistence, "forget", lambda state, is_now: state)
    found = joint_z_scores()
    assert np.all(found[:3] < 4.0)
    assert found[3] > 20.0


# What is kept, exactly: a sampler whose z is its x.
def witness(restart_every):
    def draw(key, params, x, state, *, axis_name=None, kept=None):
        del key, params, state
        is_begun, differs = jnp.zeros((), bool), jnp.zeros((), bool)
        if kept is not None:
            is_begun, differs = kept.is_begun, kept.is_begun & jnp.any(kept.z[0] != x)
        counts = {"num_begun": is_begun.astype(jnp.int32), "num_other": differs.astype(jnp.int32)}
        if axis_name is not None:
            counts = jax.lax.psum(counts, axis_name)
        return Particles(x, x[None], jnp.zeros(1)), Info(counts=counts)

    return Sampler(draw, frozenset(), restart_every=restart_every)


def witnessed(restart_every, num_passes, *, batch_size=3, start=0, first_epoch=0):
    """The latents kept after each pass over 10 rows `[N, X]`, who has any, and the counts."""
    objective = objectives.log_joint(MODEL)._replace(
        value=lambda params, drawn: jnp.sum(params.theta["bias"])
    )
    method = (phase(("theta",), witness(restart_every), objective),)
    step = train.make_train_step(method, STILL)
    batch_fn = lambda key, raw: raw + jax.random.normal(key, raw.shape)  # noqa: E731
    options = {"start": start, "first_epoch": first_epoch}
    run = train.make_run_steps(step, batch_fn, num_examples=10, batch_size=batch_size, **options)
    state = train.init_state(jax.random.key(0), MODEL, method, STILL)
    state = state._replace(step=jnp.full((), start, jnp.int32))
    data = 10.0 * np.arange(10, dtype=np.float32)[:, None] + np.zeros((10, lg.X), np.float32)
    state, found = train.init_loop_state(step, state, batch_fn, data, batch_size), []
    for _ in range(num_passes):
        state = run(jax.random.key(4), state, data, 10 // batch_size)
        kept, info = state.train.kept["theta"], state.totals["theta"]
        found.append(
            (
                *(np.asarray(kept.z[:, 0]), np.asarray(kept.is_begun)),
                *(int(info["num_begun"]), int(info["num_other"])),
            )
        )
    return found


def test_every_row_finds_its_own_latent_of_its_own_bits_until_the_period_ends():
    found = witnessed(restart_every=3, num_passes=9)
    for i, (z, is_begun, num_begun, num_other) in enumerate(found):
        assert num_other == 0
        if i % 3 == 0:  # nine rows begin; the tenth was left out
            assert num_begun == 0
            assert is_begun.sum() == 9
        else:
            before = found[i - 1]
            assert 8 <= num_begun <= 9
            assert is_begun.sum() >= 9
            np.testing.assert_array_equal(z[before[1]], before[0][before[1]])
        rows = np.rint(z[is_begun].mean(1) / 10.0)
        np.testing.assert_array_equal(rows, np.flatnonzero(is_begun))  # each its own
    both = found[0][1] & found[3][1]
    assert np.all(found[0][0][both] != found[3][0][both])  # bits of another period


def test_a_leg_that_begins_later_has_periods_and_bits_of_its_own():
    first = witnessed(restart_every=2, num_passes=2, batch_size=5)
    later = witnessed(restart_every=2, num_passes=3, batch_size=5, start=7, first_epoch=3)
    assert [num for *_, num, _ in later] == [0, 10, 0]  # of its own first pass
    assert np.all(first[0][0] != later[0][0])


def loop(chunks, restart_every=2):
    """Trains 22 rows in batches of 4; returns the loop state."""
    rows = np.asarray(jax.random.normal(jax.random.key(3), (22, lg.X)))
    batch_fn = lambda key, raw: raw + 0.1 * jax.random.normal(key, raw.shape)  # noqa: E731
    method, optimizers = methods.persistent(MODEL, restart_every=restart_every), train.adam(0.01)
    step = train.make_train_step(method, optimizers)
    run = train.make_run_steps(step, batch_fn, num_examples=22, batch_size=4)
    state = train.init_state(jax.random.key(0), MODEL, method, optimizers)
    state = train.init_loop_state(step, state, batch_fn, rows, 4)
    for num_steps in chunks:
        state = run(jax.random.key(9), state, rows, num_steps)
    return state


@pytest.mark.slow
def test_cutting_into_chunks_changes_no_bit_over_the_ends_of_epochs_and_periods():
    chex.assert_trees_all_equal(loop([5] * 5), loop([1, 4, 3, 2, 5, 1, 1, 3, 2, 2, 1]))


@pytest.mark.slow
def test_a_step_by_itself_takes_and_leaves_what_is_kept_of_its_batch():
    method, optimizers = methods.persistent(MODEL), train.adam(0.01)
    step = train.make_train_step(method, optimizers)
    state = train.init_state(jax.random.key(0), MODEL, method, optimizers)
    batch = jax.random.normal(jax.random.key(3), (6, lg.X)).at[2].set(jnp.nan)
    with pytest.raises(ValueError, match=r"of theta goes on from latents .* `state.kept` has none"):
        step(jax.random.key(1), state, batch)
    state = state._replace(kept=step.init_kept(state, batch))
    with pytest.raises(ValueError, match="latents of the 5 data of the batch, got those of 6"):
        step(jax.random.key(1), state, batch[:5])
    with pytest.warns(UserWarning, match="1 data were left out"):
        state, _ = step(jax.random.key(1), state, batch)
    kept = jax.device_get(state.kept["theta"])
    # Another datum has stood in for the broken one, and its chain is not its own.
    np.testing.assert_array_equal(kept.is_begun, np.arange(6) != 2)
    np.testing.assert_array_equal(np.any(kept.z != 0.0, axis=(1, 2)), np.arange(6) != 2)


def test_latents_that_are_not_finite_are_begun_anew():
    kept = Kept(jnp.ones((2, 1, 3)), jnp.zeros(2, bool))
    found = persistence.updated(
        kept, jnp.ones((2, 1, 3)).at[0, 0, 1].set(jnp.inf), kept.is_begun | True
    )
    np.testing.assert_array_equal(found.is_begun, [False, True])
    assert np.all(np.isfinite(found.z))


def test_what_is_kept_of_other_data_is_refused():
    state = loop([1])
    data = np.zeros((30, lg.X), np.float32)
    method, optimizers = methods.persistent(MODEL), train.adam(0.01)
    step = train.make_train_step(method, optimizers)
    run = train.make_run_steps(step, lambda key, raw: raw, num_examples=30, batch_size=4)
    with pytest.raises(ValueError, match="latents of all 30 rows of the data, got 22"):
        run(jax.random.key(0), state, data, 1)


def test_what_cannot_persist_is_refused_when_it_is_built():
    chains = samplers.persistent(MODEL)
    with pytest.raises(ValueError, match="`a` is persistent, and latents are kept of a phase's"):
        samplers.joined(a=chains, b=samplers.importance(MODEL, 1))
    for name in ("num_moves", "num_leapfrog_steps", "restart_every"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1"):
            samplers.persistent(MODEL, **{name: 0})
    with pytest.raises(ValueError, match="`chain_space` must be one of latent, base"):
        samplers.persistent(MODEL, chain_space="noise")
    with pytest.raises(ValueError, match="does not weight properly"):
        phase(("theta",), chains, objectives.bound()._replace(needs=frozenset({"proper_weights"})))
    other = samplers.persistent(MODEL, restart_every=3)
    method = tuple(phase(("theta",), s, objectives.log_joint(MODEL)) for s in (chains, other))
    with pytest.raises(ValueError, match=r"one `restart_every` for all .* got 3, 8"):
        train.make_train_step(method, train.adam(0.01))


def test_a_posterior_without_an_inverse_is_told_what_it_can_do():
    class OneWay:
        def __init__(self, q):
            self.sample, self.log_prob, self.transport = q.sample, q.log_prob, q.transport

    one_way = MODEL._replace(posterior=lambda phi, x: OneWay(lg.posterior(phi, x)))
    kept = Kept(jnp.zeros((1, lg.D)), jnp.ones((), bool))
    for space in ("latent", "base"):
        sampler = samplers.persistent(one_way, chain_space=space)
        arguments = (jax.random.key(0), lg.params(), X, sampler.init())
        if space == "latent":
            assert sampler.draw(*arguments, kept=kept)[0].z.shape == (1, lg.D)
        else:
            with pytest.raises(ValueError, match="has no `inverse_transport`; use 'latent'"):
                sampler.draw(*arguments, kept=kept)


# Whole runs.
TABLE = own_table.factor_analysis()
LEGS = [
    train.Leg(methods.persistent(TABLE, restart_every=2), 0.25),
    train.Leg(methods.persistent(TABLE, restart_every=3), 0.75, batch_size=30),
]


@pytest.mark.slow
@pytest.mark.by_hand
def test_every_leg_begins_with_states_of_its_own():
    settings = train.Settings(epochs=8.0, batch_size=20)
    built = program.build(LEGS, TABLE, own_table.table(), settings)
    assert built.legs[1].start == 6
    state, num_begun = built.init(), []
    while state.num_steps < 9:
        state = built.run_steps(state, 1)
        num_begun.append([int(kept["theta"].is_begun.sum()) for kept in state.train.kept])
    # Of 60 rows, in batches of 20 and then of 30.
    assert [before for before, _ in num_begun] == [20, 40, 60, 60, 60, 60, 60, 60, 60]
    assert [after for _, after in num_begun] == [0, 0, 0, 0, 0, 0, 30, 60, 60]


@pytest.mark.slow
@pytest.mark.parametrize("with_legs", [False, pytest.param(True, marks=pytest.mark.by_hand)])
def test_a_run_is_resumed_to_the_bit_wherever_it_is_cut(with_legs, tmp_path):
    """Within an epoch; at the end of a period, or of a leg."""
    levels = np.asarray(jax.random.randint(jax.random.key(0), (80, 5), 0, 256), np.uint8)
    dataset = data.from_arrays(levels[:60], levels[60:], max_level=255)
    model = models.bernoulli_vae(5, 2, hidden_sizes=(4,), initialization="torch")
    method = methods.persistent(model, restart_every=2)
    if with_legs:
        method = [train.Leg(methods.vae(model), 0.25), train.Leg(method, 0.75)]
    said = {"method": method, "model": model, "dataset": dataset, "epochs": 8}
    own_table.fit(tmp_path / "whole", **said)
    for cut in (5, 6):
        folder = tmp_path / str(cut)
        with interrupting.at_step(cut):
            own_table.fit(folder, **said)
        own_table.fit(folder, **said)
        chex.assert_trees_all_equal(_newest(folder), _newest(tmp_path / "whole"))


def _newest(folder):
    """All arrays of the newest checkpoint, what is kept of each datum among them."""
    found = checkpoint.Checkpoints(folder / "checkpoints").read()[1]
    assert any(".kept." in name for name in found)
    return found


@pytest.mark.slow
@pytest.mark.by_hand
def test_repeats_are_the_runs_that_each_would_be_alone():
    settings = train.Settings(epochs=4.0, batch_size=20, seed=3)
    method = methods.persistent(TABLE, restart_every=2)

    def kept(**changed):
        changed = dataclasses.replace(settings, **changed)
        built = program.build(method, TABLE, own_table.table(), changed)
        state = built.init()
        for _ in range(7):
            state = built.run_steps(state, 1)
        return jax.device_get(state.train.kept["theta"])

    both = kept(num_repeats=2)
    for i in range(2):
        alone = kept(seed=3 + i)
        np.testing.assert_array_equal(both.is_begun[i], alone.is_begun)
        np.testing.assert_allclose(both.z[i], alone.z, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.by_hand
def test_training_reaches_the_likelihood_of_the_best_factor_analysis(tmp_path):
    """To which a tight bound climbs, too."""
    dataset = own_table.table(num_train=600)
    found = {}
    for name, method in (
        ("persistent", methods.persistent(TABLE)),
        ("iwae", methods.iwae(TABLE, 50)),
    ):
        run = own_table.fit(
            tmp_path / name,
            **{"method": method, "model": TABLE, "dataset": dataset, "epochs": 60},
            **{"learning_rate": 0.02, "lr_schedule": "linear"},
        )
        found[name] = own_table.exact_nll(run.params.theta, dataset.train).mean()
    assert abs(found["persistent"] - found["iwae"]) < 0.01, found


CODE = """
import sys
import jax, linear_gaussian as lg, numpy as np, optax
from aiwae_jax import methods, train, types
from aiwae_jax.parallel import sharding

draw = jax.vmap(lambda key: lg.sample(key, lg.params().theta)[0])
rows = np.asarray(draw(jax.random.split(jax.random.key(0), 20)))
mesh = sharding.make_mesh(*map(int, sys.argv[2:]))
method = methods.persistent(lg.model(), restart_every=2)
method = tuple(p._replace(sampler=sharding.over_particles(p.sampler, mesh)) for p in method)
optimizers = types.Params(*[optax.sgd(0.01)] * 3)
batch_fn = lambda key, raw: raw + 0.1 * jax.random.normal(key, raw.shape)
step = train.make_train_step(method, optimizers)
run = train.make_run_steps(
    step, batch_fn, num_examples=20, batch_size=8, sharding=sharding.over_data(mesh))
state = train.init_state(jax.random.key(0), lg.model(), method, optimizers)
state = train.init_loop_state(step, state, batch_fn, rows, 8)
key, data, state = jax.device_put((jax.random.key(1), rows, state), sharding.replicated(mesh))
found = {}
for i in range(1, 6):
    state = run(key, state, data, 1)
    kept = state.train.kept["theta"]
    assert kept.z.sharding.is_fully_replicated
    found[str(i)] = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state)])
assert np.asarray(kept.is_begun).sum() == 8  # of a new period
np.savez(sys.argv[1], **found)
"""


@pytest.mark.slow
@pytest.mark.by_hand
def test_two_devices_agree_with_one(tmp_path):
    found = {}
    for mesh in ("1 1", "2 1", "1 2"):
        path = tmp_path / f"{mesh}.npz"
        environment = os.environ | {
            "JAX_NUM_CPU_DEVICES": "2",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        subprocess.run(
            [sys.executable, "-c", CODE, str(path), *mesh.split()], env=environment, check=True
        )
        found[mesh] = np.load(path)
    for mesh in ("2 1", "1 2"):
        for step, tolerance in (("1", 1e-5), ("5", 1e-4)):
            np.testing.assert_allclose(
                found[mesh][step], found["1 1"][step], rtol=tolerance, atol=tolerance
            )


@pytest.mark.slow
@pytest.mark.by_hand
def test_persistent_chains_are_validated_too(tmp_path):
    rows = np.random.default_rng(0).integers(0, 2, (200, 8))
    dataset = data.from_arrays(rows[:150], rows[150:])
    model = models.bernoulli_vae(8, 2, hidden_sizes=(4,), initialization="torch")
    legs = [train.Leg(methods.vae(model), 0.5), train.Leg(methods.persistent(model), 0.5)]
    for number, method in enumerate((methods.persistent(model), legs)):
        folder = tmp_path / str(number)
        run = train.fit(
            method, model, dataset, folder, epochs=2, batch_size=30, validation_share=0.2
        )
        assert run.epochs == 2
        assert "validation/bound" in (folder / "metrics.jsonl").read_text()
