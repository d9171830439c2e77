"""Validation: rows held out, early stopping by them, and the bits of a run that was cut."""

import json

import chex
import interrupting
import jax
import jax.numpy as jnp
import numpy as np
import own_table
import pytest

import aiwae_jax
from aiwae_jax import data, evaluate, methods, models, report, train
from aiwae_jax.train import program, validation
from aiwae_jax.train.stopping import Stopping
from experiments import run as command

MODEL = own_table.factor_analysis(12)
METHOD = methods.vae(MODEL)
# Rows without a structure, so that whatever is learned of some is wrong of others.
NOISE = np.random.default_rng(0).normal(size=(50, 12))
OVERFITTING = {
    **{"validation_share": 0.4, "validation_every": 1, "patience": 4, "epochs": 60},
    **{"batch_size": 8, "learning_rate": 0.03, "lr_schedule": "constant"},
}


def dataset(rows=NOISE):
    return data.from_arrays(rows[:40], rows[40:], name="noise")


def fit(folder, rows=NOISE, **changed):
    return train.fit(METHOD, MODEL, dataset(rows), folder, **OVERFITTING | changed)


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """(folder, run) of one that overfits, and stops early."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    return folder, fit(folder)


def test_a_split_is_disjoint_complete_and_grows():
    most = validation.split(50, 0.9).held_out
    for share in (0.0, 0.1, 0.37, 0.9):
        training, held_out = validation.split(50, share)
        np.testing.assert_array_equal(np.sort([*training, *held_out]), np.arange(50))
        assert len(held_out) == round(50 * share)
        np.testing.assert_array_equal(held_out, most[: len(held_out)])
    # As of the first version: a folder of another one would be continued on other rows.
    assert validation.split(12, 0.5).held_out.tolist() == [9, 1, 5, 8, 6, 7]


def test_patience_counts_what_is_no_better():
    values = [-5.0, -4.0, -4.0, -4.5, float("nan"), -3.0, -3.5, -3.1, -3.2, 9.0]
    at, waited = Stopping(), []
    for step, value in enumerate(values):
        at = at.after(value, step, float(step), patience=3)
        waited.append(at.num_waited)
    assert at == Stopping(-4.0, 1, 1.0, 3, 4.0)
    assert waited == [0, 0, 1, 2, 3, 3, 3, 3, 3, 3]  # nothing changes once it has stopped
    first = Stopping().after(float("-inf"), 2, 1.0, patience=1)
    assert first == Stopping(None, 2, 1.0)  # some weights must be the best
    assert first.after(-1e9, 4, 2.0, patience=1).step == 4
    warm = first.after(float("nan"), 4, 2.0, patience=1, is_warming_up=True)
    assert (warm.num_waited, warm.stopped_at) == (0, None)


def test_the_bound_is_that_of_importance_bound():
    settings = train.Settings(epochs=1, batch_size=8, validation_share=0.4, validation_particles=7)
    built = program.build(METHOD, MODEL, dataset(), settings)
    weights = built.init().train.weights
    target = evaluate.Target.of(MODEL, weights)
    held_out = validation.split(40, 0.4).held_out
    np.testing.assert_array_equal(built.validation.rows, dataset().train[held_out])
    key = jax.random.fold_in(jax.random.key(validation._TAG), 1)
    expected = evaluate.importance_bound(
        key, target, built.validation.rows, num_samples=7, block_size=7
    )
    found = built.validation.bounds(weights)
    np.testing.assert_allclose(found, expected.bound, rtol=1e-5)
    (looked,) = built.validation.look(weights, with_nll=False)
    expected = evaluate.mean_and_standard_error(found)
    np.testing.assert_allclose((looked.bound, looked.bound_se), expected)
    assert looked.nll is None


@pytest.mark.slow
def test_bound_and_nll_are_near_what_is_exact():
    settings = train.Settings(
        epochs=1, batch_size=8, validation_share=0.4, validation_particles=1000
    )
    built = program.build(METHOD, MODEL, dataset(), settings)
    weights = built.init().train.weights
    (looked,) = built.validation.look(weights, with_nll=True)
    exact = own_table.exact_nll(weights.theta, built.validation.rows)
    assert abs(looked.nll - exact.mean()) < 0.05
    assert looked.nll_se == pytest.approx(exact.std(ddof=1) / 4, rel=0.1)
    assert abs(looked.bound + exact.mean()) < 0.05


def test_how_often_is_a_matter_of_arithmetic():
    assert validation.epochs_between(lambda: 1.0, lambda: 100.0) == 1
    assert validation.epochs_between(lambda: 1.0, lambda: 4.0) == 3  # a tenth of 12 is enough
    assert validation.epochs_between(lambda: 1.0, lambda: 0.0) == 1

    def unknown():
        raise ValueError

    assert validation.epochs_between(lambda: 1.0, unknown) == 1
    assert validation.epochs_between(unknown, lambda: 1.0) == 1
    settings = train.Settings(epochs=1, batch_size=8, validation_share=0.4)
    built = program.build(METHOD, MODEL, dataset(), settings)
    weights = built.init().train.weights
    encode = decode = 2 * 12 * 2  # a product of a row and a matrix
    cost = built.validation.operations(weights)
    assert cost == 16 * (encode + 10 * decode)
    # Of a row the encoder and the decoder, forward, and back to the weights; and to z.
    of_row = 2 * encode + 3 * decode
    assert built.validation_every == (int(np.ceil(10 * cost / (24 * of_row))),)
    annealed = program.build(methods.aiwae(MODEL, 5, 8, 5), MODEL, dataset(), settings)
    assert annealed.validation_every == (1,)


def test_training_stops_where_patience_ends_and_keeps_the_best_weights(stopped, tmp_path):
    folder, run = stopped
    bounds = [record["validation/bound"] for record in records(folder)]
    best = int(np.argmax(bounds)) + 1  # the epoch
    assert 1 < best < 50
    at = run.stopping
    assert (at.epoch, at.step, at.value) == (best, 3 * best, max(bounds))
    assert (at.stopped_at, run.epochs, len(bounds)) == (best + 4, best + 4, best + 4)
    assert run.is_finished
    only_that_long = fit(tmp_path / "run", epochs=best, patience=None)
    chex.assert_trees_all_equal(run.params, only_that_long.params)
    loaded = aiwae_jax.load(folder, MODEL)
    chex.assert_trees_all_equal(loaded.params, run.params)
    assert (loaded.stopping, loaded.is_finished) == (at, True)
    again = fit(folder)
    chex.assert_trees_all_equal(again.params, run.params)
    assert again.num_steps == run.num_steps


@pytest.mark.slow
@pytest.mark.parametrize(
    "num_chunks",
    [2, 22, 12],
)
def test_a_run_that_is_cut_is_continued_to_the_same_bits(num_chunks, stopped, tmp_path):
    folder, run = stopped
    with interrupting.after_chunks(num_chunks):
        fit(tmp_path / "run")
    half = aiwae_jax.load(tmp_path / "run", MODEL)
    assert not half.is_finished
    whole = fit(tmp_path / "run")
    chex.assert_trees_all_equal(whole.params, run.params)
    assert (whole.stopping, whole.num_steps) == (run.stopping, run.num_steps)
    assert records(tmp_path / "run") == records(folder)


@pytest.mark.slow
def test_a_run_that_is_killed_after_its_best_epoch_is_continued_to_the_same_bits(
    stopped, tmp_path, monkeypatch
):
    folder, run = stopped
    advance, best = train.trainer.Trainer._advance, run.stopping.epoch

    def killed(self, num_steps):
        epoch = self.step / 3
        if epoch == best:
            self.save()  # as if it were time to
        if epoch == best + 2:
            raise RuntimeError("killed")
        return advance(self, num_steps)

    with monkeypatch.context() as patch:
        patch.setattr(train.trainer.Trainer, "_advance", killed)
        with pytest.raises(RuntimeError, match="killed"):
            fit(tmp_path / "run")
    half = aiwae_jax.load(tmp_path / "run", MODEL)
    assert half.stopping.step == run.stopping.step <= half.num_steps < 3 * (best + 2)
    assert len(records(tmp_path / "run")) == best + 2  # which its checkpoint knows nothing of
    whole = fit(tmp_path / "run")
    chex.assert_trees_all_equal(whole.params, run.params)
    assert (whole.stopping, whole.num_steps) == (run.stopping, run.num_steps)
    assert records(tmp_path / "run") == records(folder)


@pytest.mark.slow
def test_neither_what_is_held_out_nor_the_test_rows_are_trained_on(tmp_path):
    options = {"epochs": 2, "patience": None}
    first = fit(tmp_path / "first", **options)
    held_out = validation.split(40, 0.4).held_out
    others = {"held_out": held_out, "test": np.arange(40, 50), "trained": [0, 1, 2, 3, 4, 5]}
    found = {}
    for name, rows in others.items():
        changed = NOISE.copy()
        changed[rows] *= 2.0
        run = fit(tmp_path / name, changed, **options)
        is_same = jax.tree.map(np.array_equal, run.params, first.params)
        bounds = [[r["validation/bound"] for r in records(each.folder)] for each in (run, first)]
        found[name] = all(jax.tree.leaves(is_same)), bounds[0] == bounds[1]
    assert found == {"held_out": (True, False), "test": (True, True), "trained": (False, False)}


@pytest.mark.slow
def test_two_seeds_are_validated_on_the_same_rows_and_bits():
    levels = np.random.default_rng(0).integers(0, 256, (40, 12)).astype(np.uint8)
    grey = data.from_arrays(levels[:30], levels[30:], max_level=255)
    model = models.bernoulli_vae(12, 2, hidden_sizes=(3, 3), initialization="torch")
    rows = [
        program.build(
            methods.vae(model),
            model,
            grey,
            train.Settings(epochs=1, batch_size=8, validation_share=0.2, seed=seed),
        ).validation.rows
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(*rows)
    assert set(np.unique(rows[0])) == {0.0, 1.0}
    chance = levels[:30][validation.split(30, 0.2).held_out] / 255
    error = np.sqrt(np.sum(chance * (1 - chance))) / chance.size
    assert abs(rows[0].mean() - chance.mean()) < 4 * error


@pytest.mark.slow
@pytest.mark.by_hand
def test_patience_can_go_by_the_annealed_nll_of_averaged_weights_over_legs(tmp_path):
    legs = [train.Leg(METHOD, share=0.3), train.Leg(methods.aiwae(MODEL, 2, 3, 1), share=0.7)]
    options = {"patience_by": "nll", "validation_nll_every": 2, "validation_every": 5, "ema": 0.9}
    options |= OVERFITTING | {"epochs": 10, "learning_rate": 0.01, "patience": 2} | options
    run = train.fit(legs, MODEL, dataset(), tmp_path / "run", **options)
    nlls = {r["epoch"]: r["validation/nll"] for r in records(run.folder) if "validation/nll" in r}
    assert list(nlls)[:3] == [2.0, 3.0, 4.0]  # each second epoch, and the end of a leg
    assert run.stopping.value == -min(nlls.values())
    assert nlls[run.stopping.epoch] == min(nlls.values())
    chex.assert_trees_all_equal(aiwae_jax.load(run.folder, MODEL).params, run.params)


@pytest.mark.slow
@pytest.mark.by_hand
def test_each_repeat_stops_by_itself_and_has_its_own_best_weights(tmp_path):
    flags = [
        *("--dataset=digits", "--method=vae", "--epochs=12", "--batch_size=200", "--eval=none"),
        *("--latent_dim=2", "--hidden_dim=8", "--validation_share=0.2", "--validation_every=1"),
        *("--patience=1", "--learning_rate=0.2", "--lr_schedule=constant"),
    ]
    both = tmp_path / "both"
    assert command.main(["run", *flags, "--repeats=2", f"--workdir={both}"]) == 0
    for i in (0, 1):
        alone = tmp_path / f"seed{i}"
        assert command.main(["run", *flags, f"--seed={i}", f"--workdir={alone}"]) == 0
        run, expected = aiwae_jax.load(both, repeat=i), aiwae_jax.load(alone)
        bounds = [record["validation/bound"] for record in records(both / f"repeat_{i}")]
        at = run.stopping
        assert bounds[int(at.epoch) - 1] == at.value == max(bounds[: int(at.epoch) + 1])
        if at.stopped_at is not None:
            assert at.stopped_at == at.epoch + 1
        assert len(bounds) == run.epochs  # until both have stopped
        # Rounding parts the two programs, but not by much in the first epochs.
        np.testing.assert_allclose(at.value, expected.stopping.value, rtol=0.02)


@pytest.mark.slow
def test_a_report_is_of_the_best_weights_and_of_rows_that_were_trained_on(stopped):
    folder, run = stopped
    settings = evaluate.Settings(num_temperatures=20, num_chains=4)
    options = {"num_simulated": 4, "num_bound_samples": 50}
    content = report.write(run, dataset(), settings, **options)
    assert content["stopping"]["epoch"] == run.stopping.epoch
    with np.load(folder / "evaluation.npz") as arrays:
        assert not set(arrays["index_train"]) & set(validation.split(40, 0.4).held_out)
    page = (folder / "report.html").read_text()
    said = f"The weights are those of epoch {run.stopping.epoch:g}, the best by bound L_10"
    assert said in page
    assert f"stopped early, at epoch {run.epochs:g}" in page
    exact = own_table.exact_nll(run.params.theta, dataset().test)
    assert abs(content["nll_test"] - exact.mean()) < 0.1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"validation_share": 1.0}, "`validation_share` must be below 1, got 1.0"),
        ({"validation_share": 0.001}, "`validation_share`=0.001 holds out none of the 40 training"),
        ({"validation_share": 0.999}, "`validation_share`=0.999 leaves none of the 40 training"),
        ({"validation_share": 0.9}, "`batch_size`=8 is larger than the 4 training .* that `valida"),
        ({"validation_share": 0.0, "validation_every": None}, "`patience`=4 needs rows to look at"),
        ({"patience": 0}, "`patience` must be at least 1, got 0"),
        ({"patience": 400}, "`patience`=400 could not end this training: .* looked at"),
        ({"patience_by": "loss"}, "`patience_by` must be one of bound, nll"),
        ({"patience_by": "nll"}, "`patience_by`='nll' needs `validation_nll_every`"),
        (
            {"patience_by": "nll", "patience": None, "validation_nll_every": 1},
            "`patience_by`='nll' has no effect without `patience`",
        ),
    ],
)
def test_what_cannot_be_is_one_line_before_any_work(changed, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fit(tmp_path / "run", **changed)
    assert not (tmp_path / "run").exists()


def test_a_bound_that_is_not_finite_is_said_once(tmp_path):
    def log_joint(theta, x, z):
        return jnp.where(x[0] > 50, -jnp.inf, MODEL.log_joint(theta, x, z))

    broken = MODEL._replace(log_joint=log_joint)
    rows = NOISE.copy()
    rows[validation.split(40, 0.4).held_out[0]] = 100.0
    with pytest.warns(UserWarning, match="validation bound is not finite") as said:
        run = train.fit(methods.vae(broken), broken, dataset(rows), tmp_path / "run", **OVERFITTING)
    assert len(said) == 1
    assert run.stopping == Stopping(None, 3, 1.0, 4, 5.0)
