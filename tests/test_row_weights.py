"""Weights of rows: exact means, what the doors refuse, and gradients as of repeated rows."""

import os
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import optax
import pytest

from aiwae_jax import data, evaluate, methods, models, row_weights, train
from aiwae_jax.parallel import sharding
from aiwae_jax.train import weighting
from aiwae_jax.types import Info, Params

ROOT = pathlib.Path(__file__).parent.parent
MODEL = lg.model()
ROWS = np.random.default_rng(0).normal(size=(6, lg.X)).astype(np.float32)
COUNTS = np.array([3, 1, 2, 1, 4, 1])  # 12 in all
BUILT = {
    "vae": methods.vae(MODEL),
    "iwae": methods.iwae(MODEL, 3),
    "dreg": methods.dreg(MODEL, 3),
    "aiwae": methods.aiwae(MODEL, 2, 3, 2),
    "rws": methods.rws(MODEL, 3, rws_phi="both"),
    "uha": methods.uha(MODEL, 2, 3, 1),
}
FAST = "aiwae"
NAMES = [n if n == FAST else pytest.param(n, marks=pytest.mark.slow) for n in BUILT]


# ---------------------------------------------------------------------------------------- means


def test_a_weighted_mean_and_its_error_are_these():
    values, weights = np.array([1.0, 3.0]), np.array([1.0, 3.0])
    # 2 / 1 (1² 1.5² + 3² 0.5²) / 4² = 9 / 16
    assert evaluate.mean_and_standard_error(values, weights) == pytest.approx((2.5, 0.75))
    assert row_weights.effective_number(weights) == pytest.approx(1.6)
    huge = weights * 5e307  # whose sum is infinite
    assert evaluate.mean_and_standard_error(values, huge) == pytest.approx((2.5, 0.75))


def test_equal_weights_are_none_and_a_weight_of_zero_is_no_row():
    values = np.random.default_rng(0).normal(size=9)
    plain = evaluate.mean_and_standard_error(values)
    assert evaluate.mean_and_standard_error(values, np.full(9, 0.3)) == pytest.approx(plain)
    more, weights = np.array([*values, -np.inf, np.nan]), np.array([*np.ones(9), 0, 0])
    assert evaluate.mean_and_standard_error(more, weights) == pytest.approx(plain)
    whole, _ = evaluate.mean_and_standard_error(values[:6], COUNTS)
    assert whole == pytest.approx(np.repeat(values[:6], COUNTS).mean())
    assert np.isnan(evaluate.mean_and_standard_error(values[:2], [1.0, 0.0])[1])


def spread(error_fn, num_repeats=2000):
    """Standard deviation of (mean - truth) / error over data sets, which is to be 1."""
    chance = np.random.default_rng(0)
    weights = np.where(chance.random((num_repeats, 400)) < 0.2, 2.0, 0.2)
    values = chance.normal(size=weights.shape) + weights  # heavy rows are others
    truth = (0.2 * 2.0**2 + 0.8 * 0.2**2) / (0.2 * 2.0 + 0.8 * 0.2)  # E[w v] over E[w]
    each = [error_fn(v, w) for v, w in zip(values, weights, strict=True)]
    return np.std([(mean - truth) / error for mean, error in each])


def test_the_error_of_a_weighted_mean_is_its_spread_over_data_sets():
    assert spread(evaluate.mean_and_standard_error) == pytest.approx(1.0, abs=4 / np.sqrt(2 * 2000))

    def of_plain_spread(values, weights):  # as if all rows counted alike
        mean, _ = evaluate.mean_and_standard_error(values, weights)
        return mean, values.std(ddof=1) / np.sqrt(len(values))

    assert spread(of_plain_spread) > 1.3


# ---------------------------------------------------------------------------------------- doors


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1, 1, -1, 1, 1, 1], "must be finite and at least 0, got -1.0 in row 2"),
        ([1, 1, 1, np.nan, 1, 1], "got nan in row 3"),
        ([np.inf, 1, 1, 1, 1, 1], "got inf in row 0"),
        (np.zeros(6), "must be positive for at least one row, got zeros alone"),
        (np.ones(5), r"must have shape \[6\], a weight for each row; got \[5\]"),
        (np.ones((6, 1)), r"got \[6, 1\]"),
        (["a"] * 6, "must be numbers, one for each row"),
    ],
)
def test_what_is_no_weight_is_refused_by_every_door(weights, words):
    with pytest.raises(data.DataError, match=f"`train_weights` .*{words}"):
        data.from_arrays(ROWS, ROWS, train_weights=weights)
    with pytest.raises((TypeError, ValueError), match=f"`weights` .*{words}"):
        train.weighted(ROWS, weights)
    with pytest.raises((TypeError, ValueError), match=f"`weights` .*{words}"):
        evaluate.mean_and_standard_error(ROWS[:, 0], weights)


def test_a_row_of_weight_zero_is_left_out_where_it_enters():
    weights, labels = np.array([0, 1, 2, 0, 1, 1.5]), np.arange(6)
    found = data.from_arrays(ROWS, ROWS[:2], train_labels=labels, train_weights=weights)
    np.testing.assert_array_equal(found.train, ROWS[[1, 2, 4, 5]])
    assert found.train_labels.tolist() == found.train_index.tolist() == [1, 2, 4, 5]
    assert found.train_weights.tolist() == [1.0, 2.0, 1.0, 1.5]
    assert found.test_index.tolist() == [0, 1]
    assert found.test_weights is None
    alone = data.from_arrays(ROWS[[1, 2, 4, 5]], ROWS[:2], train_weights=[1, 2, 1, 1.5])
    assert found.differences(alone.describe()) == []
    mean = np.average(ROWS, axis=0, weights=weights)
    np.testing.assert_allclose(found.mean_image(), mean, rtol=1e-6)
    with pytest.raises(data.DataError, match="`train` must not be blank"):
        data.from_arrays([[1.0, 1.0], [0.0, 2.0]], ROWS[:, :2], train_weights=[1, 0])
    with pytest.raises(data.DataError, match="`test_weights` must be positive"):
        data.check(found._replace(test_weights=np.array([0.0, 1.0])))


def test_weights_are_part_of_what_data_are():
    plain = data.from_arrays(ROWS, ROWS[:2])
    first, second = (data.with_weights(plain, train=w) for w in (COUNTS, COUNTS[::-1]))
    assert "weights" not in plain.describe()
    assert first.describe()["weights"]["effective_rows"] == {"train": pytest.approx(4.5)}
    assert first.differences(second.describe()) == ["data: other weights of rows there, other here"]
    assert first.differences(plain.describe()) == ["data: no weights of rows there, other here"]
    assert plain.differences(first.describe()) == ["data: other weights of rows there, no here"]


def test_a_column_of_a_table_and_an_array_of_a_file_are_weights(tmp_path):
    table = tmp_path / "people.csv"
    lines = [f"{20 + i},{i % 4},{1.5 * i}" for i in range(20)]
    table.write_text("\n".join(["age,weight,income", *lines]))
    found = data.from_file(table, weights="weight")
    assert found.columns == ("age", "income")
    rows = np.concatenate([found.train_index, found.test_index])
    assert sorted(rows) == [i for i in range(20) if i % 4]
    weights = np.concatenate([found.train_weights, found.test_weights])
    np.testing.assert_array_equal(weights, rows % 4)
    np.testing.assert_array_equal(found.train[:, 0], 20 + found.train_index)
    assert found.differences(data.reload(found.describe()).describe()) == []
    for text, words in (
        ("a,w\n1,2\n2,\n", "line 3: the weight is missing"),
        ("a,w\n1,x\n2,y\n3,y\n", "column 'w' holds words, and `weights` must be numbers"),
        ("a,v\n1,2\n2,1\n", "`weights`='w' must be a column of"),
        ("w\n1\n2\n", "none of the columns that are data"),
    ):
        table.write_text(text)
        with pytest.raises(data.DataError, match=words):
            data.from_file(table, weights="w")
    np.savez(tmp_path / "rows.npz", rows=ROWS, weights=COUNTS)
    found = data.from_file(tmp_path / "rows.npz")
    np.testing.assert_array_equal(found.train_weights, COUNTS[found.train_index])
    np.savez(tmp_path / "two.npz", train=ROWS, test=ROWS, test_weights=COUNTS)
    found = data.from_file(tmp_path / "two.npz")
    assert found.train_weights is None
    np.testing.assert_array_equal(found.test_weights, COUNTS)


# ---------------------------------------------------------------------------------- the gradient


def alike(method):
    """The same method, whose equal data have equal particles."""

    def draw_fn(draw):
        return lambda key, *args, **options: draw(jax.random.key(7), *args, **options)

    return tuple(
        phase._replace(sampler=phase.sampler._replace(draw=draw_fn(phase.sampler.draw)))
        for phase in method
    )


def moved(method, batches, model=MODEL, **options):
    """(change of all parameters by a step of SGD, info) of each batch."""
    optimizers = Params(*[optax.sgd(1.0)] * 3)
    step = train.make_train_step(method, optimizers, **options)
    found = []
    for batch in batches:
        state = train.init_state(jax.random.key(0), model, method, optimizers)
        before = jax.tree.map(jnp.copy, state.params)
        after, info = step(jax.random.key(1), state, batch)
        found.append((jax.tree.map(lambda a, b: np.asarray(a - b), after.params, before), info))
    return found


def assert_same(one, other, rtol=2e-4):
    chex.assert_trees_all_close(one, other, rtol=rtol, atol=2e-5)


def assert_weights_repeat(method, rows, model=MODEL):
    """Of every phase; and not where the weights are another row's."""
    method = alike(method)
    ((repeated, _),) = moved(method, [np.repeat(rows, COUNTS, axis=0)], model)
    weighted = [train.weighted(rows, w) for w in (COUNTS, COUNTS[::-1])]
    (own, own_info), (others, _) = moved(method, weighted, model)
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(own))
    assert_same(own, repeated)
    with pytest.raises(AssertionError):
        assert_same(others, repeated)
    return own_info


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_number_as_a_weight_is_as_many_rows(name):
    info = assert_weights_repeat(BUILT[name], ROWS)
    for found in info.values():
        assert found["num_skipped_updates"] == found["num_nonfinite_objective"] == 0


@pytest.mark.slow
def test_a_whole_number_as_a_weight_is_as_many_rows_for_score_functions():
    model = models.sigmoid_belief_network(lg.X, (2,), initialization="torch")
    assert_weights_repeat(methods.vimco(model, 3), (ROWS > 0).astype(np.float32), model)


@pytest.mark.slow
def test_batches_have_the_gradient_of_all_rows_in_the_mean():
    """Not so where weights are divided by the sum of their own batch."""
    method = alike(BUILT["vae"])
    whole = train.weighted(ROWS, COUNTS)
    batches = [jax.tree.map(lambda a, i=i: a[i : i + 2], whole) for i in (0, 2, 4)]
    (full, info), *parts = moved(method, [whole, *batches])
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *[grads for grads, _ in parts])
    assert_same(mean, full)
    for name in ("objective", "log_likelihood_bound"):
        values = [i["theta+phi"][name] for _, i in parts]
        np.testing.assert_allclose(np.mean(values), info["theta+phi"][name], rtol=1e-5)
    own_sums = [b._replace(weights=b.weights / b.weights.mean()) for b in batches]
    found = [grads for grads, _ in moved(method, own_sums)]
    with pytest.raises(AssertionError):
        assert_same(jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *found), full)


@pytest.mark.slow
def test_a_batch_in_blocks_has_the_gradient_of_the_whole_one():
    batch = [train.weighted(ROWS, COUNTS)]
    ((whole, info),) = moved(BUILT["aiwae"], batch)
    ((cut, cut_info),) = moved(BUILT["aiwae"], batch, blocks=train.Blocks(3, sharding.make_mesh(1)))
    assert_same(cut, whole)
    for name in info:
        np.testing.assert_allclose(cut_info[name]["objective"], info[name]["objective"], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("with_nonfinite_data", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_row_of_weight_zero_in_a_batch_is_nothing_whatever_it_holds(with_nonfinite_data):
    method = alike(BUILT["aiwae"])
    weights = np.array([0, *COUNTS[1:]])
    batches = [train.weighted(ROWS, weights), *([train.weighted(ROWS, weights)] * 2)]
    for i, value in ((1, np.nan), (2, 1e30)):
        rows = ROWS.copy()
        rows[0] = value
        batches[i] = batches[i]._replace(rows=rows)
    few = train.weighted(ROWS[1:], COUNTS[1:])
    options = {"with_nonfinite_data": with_nonfinite_data}
    found = moved(method, batches, **options)
    ((without, info_without),) = moved(method, [few], **options)
    assert_same(found[0][0], without)
    for _, info in found:  # weights have the mean 1 over all rows, those of weight zero among them
        for phase, each in info_without.items():
            for name in {"objective", "log_likelihood_bound"} & each.rates.keys():
                np.testing.assert_allclose(info[phase][name], each[name], rtol=1e-4)
    for grads, info in found[1:]:
        chex.assert_trees_all_equal(grads, found[0][0])
        assert all(each["num_nonfinite_objective"] == 0 for each in info.values())


def test_a_batch_without_weight_moves_nothing_and_a_wrong_one_is_refused():
    none = weighting.Weighted(ROWS, np.zeros(6, np.float32))
    with pytest.warns(UserWarning, match="no datum was left"):
        ((grads, info),) = moved(BUILT["vae"], [none])
    chex.assert_trees_all_equal(grads, jax.tree.map(np.zeros_like, grads))
    assert info["theta+phi"]["num_skipped_updates"] == 1
    assert info["theta+phi"]["objective"] == info["theta+phi"]["log_likelihood_bound"] == 0.0
    with pytest.raises(ValueError, match="`weights` must be finite and at least 0"):
        moved(BUILT["vae"], [weighting.Weighted(ROWS, -np.ones(6, np.float32))])


def test_weights_stay_with_their_rows_however_they_are_shuffled():
    def apart(key, state, batch):
        del key
        rows, weights = weighting.parts(batch)
        apart = jnp.max(jnp.abs(rows[:, 0] / jnp.float32(COUNTS.mean()) - weights))
        return state._replace(step=state.step + 1), {"all": Info(rates={"apart": apart}, counts={})}

    rows = np.tile(COUNTS[:, None], (1, lg.X)).astype(np.float32)
    run = train.make_run_steps(apart, lambda key, raw: raw, num_examples=6, batch_size=2)
    method = BUILT["vae"]
    state = train.init_state(jax.random.key(0), MODEL, method, train.adam(1e-3))
    for weights, is_same in ((COUNTS, True), (np.roll(COUNTS, 1), False)):
        totals = {"all": Info(rates={"apart": jnp.zeros(())}, counts={})}
        start = train.LoopState(jax.tree.map(jnp.copy, state), totals)
        loop = run(jax.random.key(1), start, train.weighted(rows, weights), 3)
        assert (loop.totals["all"]["apart"] < 1e-5) == is_same


def test_without_weights_no_array_is_added():
    plain = data.from_arrays(ROWS, ROWS[:2])
    assert weighting.of_training(plain) is plain.train
    assert weighting.parts(plain.train) == (plain.train, None)
    method = BUILT["vae"]
    state = train.init_state(jax.random.key(0), MODEL, method, train.adam(1e-3))
    step = train.make_train_step(method, train.adam(1e-3))
    num_inputs = [
        len(step.trace(jax.random.key(1), state, batch).jaxpr.jaxpr.invars)
        for batch in (ROWS, train.weighted(ROWS, COUNTS))
    ]
    assert num_inputs[1] == num_inputs[0] + 1


# ------------------------------------------------------------------------------- several devices

CODE = """
import sys
import jax, linear_gaussian as lg, numpy as np, optax
from aiwae_jax import methods, train, types
from aiwae_jax.parallel import sharding

rows = np.random.default_rng(0).normal(size=(24, lg.X)).astype(np.float32)
weights = np.random.default_rng(1).gamma(0.5, size=24)
mesh = sharding.make_mesh(int(sys.argv[2]))
optimizers = types.Params(*[optax.sgd(0.01)] * 3)
found = []
for method in (methods.aiwae(lg.model(), 2, 3, 2), methods.persistent(lg.model())):
    step = train.make_train_step(method, optimizers)
    each = sharding.replicated(mesh)
    data = sharding.put(train.weighted(rows, weights), each)
    batch_fn = lambda key, raw: raw
    run = train.make_run_steps(step, batch_fn, num_examples=24, batch_size=8,
                               sharding=sharding.over_data(mesh))
    state = train.init_state(jax.random.key(0), lg.model(), method, optimizers)
    state = sharding.put(train.init_loop_state(step, state, batch_fn, data, 8), each)
    state = run(jax.device_put(jax.random.key(1), each), state, data, 1)
    found += [np.ravel(leaf) for leaf in jax.tree.leaves(state.train.params)]
np.save(sys.argv[1], np.concatenate(found))
"""


@pytest.mark.slow
def test_several_devices_weigh_as_one_does(tmp_path):
    found = []
    for num in (1, 4):
        path = tmp_path / f"{num}.npy"
        environment = os.environ | {
            "JAX_NUM_CPU_DEVICES": "4",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        command = [sys.executable, "-c", CODE, str(path), str(num)]
        subprocess.run(command, env=environment, check=True, timeout=600)
        found.append(np.load(path))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)
