"""Runs of weighted rows: their bits, validation, report, certificate, command and estimator."""

import csv
import json
import math

import chex
import interrupting
import jax
import numpy as np
import own_table
import pytest
from test_certificate import likelihood

import aiwae_jax
from aiwae_jax import data, evaluate, methods, report, train
from aiwae_jax.cli import main as cli
from aiwae_jax.data import conditions, on_disk
from aiwae_jax.evaluate.certificate import numbers_of
from aiwae_jax.report import nll, text, verification
from aiwae_jax.report.conditions import of_report as of_classes_report
from aiwae_jax.runs import files
from aiwae_jax.train import classes, feed, program

pytestmark = pytest.mark.slow

MODEL = own_table.factor_analysis()
PLAIN = own_table.table()
WEIGHTS = {
    "train": np.random.default_rng(2).gamma(0.8, size=60),
    "test": np.random.default_rng(3).gamma(0.8, size=20),
}
WEIGHTED = data.with_weights(PLAIN, **WEIGHTS)
SETTINGS = evaluate.Settings(num_temperatures=4, num_chains=2, num_pilot_data=4)
QUICK = {"num_examples": 6, "num_simulated": 0, "num_bound_samples": 50}
OPTIONS = {"method": methods.vae(MODEL), "model": MODEL, "epochs": 4, "batch_size": 16}
VALIDATED = {"validation_share": 0.2, "validation_every": 1, "patience": 3}


def fit(folder, dataset=WEIGHTED, **changed):
    return own_table.fit(folder, dataset=dataset, **OPTIONS | VALIDATED | changed)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(run, what report.json says, the arrays of its evaluation.npz)."""
    run = fit(tmp_path_factory.mktemp("weighted") / "run")
    content = report.write(run, WEIGHTED, SETTINGS, **QUICK)
    return run, content, files.read_arrays(run.folder / "evaluation.npz", "")


def error_of(values, weights):
    mean, num = np.average(values, weights=weights), len(values)
    squares = np.sum(weights**2 * (values - mean) ** 2) * num / (num - 1)
    return np.sqrt(squares) / weights.sum()


def test_the_means_of_a_report_are_weighted(measured):
    _, content, arrays = measured
    for name in ("nll_test", "nll_train", "nvlb_test", "nvlb_train"):
        part = name.rpartition("_")[2]
        weights = WEIGHTS[part][arrays[f"index_{part}"]]
        np.testing.assert_array_equal(arrays[f"weight_{part}"], weights)
        assert content[name] == pytest.approx(np.average(arrays[name], weights=weights))
        assert content[f"{name}_se"] == pytest.approx(error_of(arrays[name], weights))
        number = weights.sum() ** 2 / np.square(weights).sum()
        assert content["effective_rows"][part] == pytest.approx(number)
    gap = np.average(arrays["variational_gap"], weights=arrays["weight_test"])
    assert content["variational_gap"] == pytest.approx(gap)


def test_a_report_says_that_it_is_weighted(measured):
    run, content, arrays = measured
    number = content["effective_rows"]["test"]
    words = f"eans are weighted: the 6 rows count as {number:.1f} (test) and"
    assert words in text.table(content, text.describe(content))
    assert words in (run.folder / "report.html").read_text()
    with (run.folder / "per_datum.csv").open() as file:
        rows = list(csv.DictReader(file))
    weights = np.concatenate([arrays["weight_test"], arrays["weight_train"]])
    np.testing.assert_allclose([float(row["weight"]) for row in rows], weights)
    assert run.config["data"]["weights"]["effective_rows"].keys() == {"train", "test"}


def test_a_certificate_of_weighted_rows_is_verified_and_bound_to_the_weights(measured):
    run, content, arrays = measured
    weights = arrays["weight_test"]
    slack = content["nll_at_most"] - content["nll_test"]
    look = content["nll_at_most_look"]
    spent = content["nll_at_most_delta"] / (look * (look + 1))
    assert slack == pytest.approx(math.log(1 / spent) * weights.max() / weights.sum())
    assert "6 data, weighted)" in text.bound_sentence(content, "data")
    path = run.folder / "certificate.json"
    assert verification.verify(path, run, WEIGHTED).num_recomputed == 1
    others = data.with_weights(PLAIN, train=WEIGHTS["train"], test=1.0 + WEIGHTS["test"])
    with pytest.raises(files.RefusedError, match="other weights of rows there, other here"):
        verification.verify(path, run, others)
    with pytest.raises(data.DataError, match="other weights of rows there, no here"):
        report.write(run, PLAIN, SETTINGS, **QUICK)


def test_an_evaluation_by_itself_is_weighted_as_the_report_is(measured, tmp_path, monkeypatch):
    run, _, _ = measured
    rows, weights = PLAIN.test[:6], WEIGHTS["test"][:6]
    estimates, log_likelihood = [], evaluate.log_likelihood

    def noted(*args, **options):
        estimates.append(log_likelihood(*args, **options))
        return estimates[-1]

    monkeypatch.setattr(evaluate, "log_likelihood", noted)
    arguments = (tmp_path / "evaluation.json", run, rows, SETTINGS)
    options = {"key": jax.random.key(0), "facts": {"data": "these"}}
    content = nll.write(*arguments, weights=weights, **options)
    of_rows = -estimates[-1].log_likelihood.astype(np.float64)
    assert content["nll"] == pytest.approx(np.average(of_rows, weights=weights))
    assert content["nll"] != pytest.approx(of_rows.mean())
    assert content["nll_se"] == pytest.approx(error_of(of_rows, weights))
    bound = evaluate.certificate(
        estimates[-1], delta=DELTA, look=content["nll_at_most_look"], weights=weights
    )
    assert content["nll_at_most"] == pytest.approx(bound.nll_at_most)
    number = weights.sum() ** 2 / np.square(weights).sum()
    assert content["effective_rows"] == {"test": pytest.approx(number)}
    words = nll.sentences(content, "rows")
    assert f"6 rows, weighted mean: they count as {number:.1f} of one weight" in words
    assert "6 rows, weighted)" in words
    assert nll.write(*arguments, weights=weights, **options)["nll"] == content["nll"]
    for others in (None, weights[::-1]):
        with pytest.raises(files.WorkdirError, match="an evaluation of other weights;"):
            nll.write(*arguments, weights=others, **options)


def test_validation_is_weighted_and_names_the_held_out_rows(measured):
    run, _, _ = measured
    settings = train.Settings(epochs=4, batch_size=16, **VALIDATED)
    built = program.build(OPTIONS["method"], MODEL, WEIGHTED, settings).validation
    held_out = train.split(60, 0.2).held_out
    np.testing.assert_array_equal(built.weights, WEIGHTS["train"][held_out])
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    best = next(r for r in map(json.loads, lines) if r["epoch"] == run.stopping.epoch)
    bounds = np.asarray(built.bounds(run.params), np.float64)
    mean = np.average(bounds, weights=built.weights)
    assert best["validation/bound"] == pytest.approx(mean, rel=1e-5)
    assert best["validation/bound_se"] == pytest.approx(error_of(bounds, built.weights), rel=1e-4)
    assert abs(bounds.mean() - mean) > 1e-3  # which a plain mean would be


def test_a_weighted_run_that_is_cut_is_continued_to_the_same_bits(measured, tmp_path):
    run, _, _ = measured
    with interrupting.after_chunks(2):
        fit(tmp_path / "run")
    others = data.with_weights(PLAIN, train=WEIGHTS["train"][::-1], test=WEIGHTS["test"])
    with pytest.raises(files.WorkdirError, match="data: other weights of rows there, other here"):
        fit(tmp_path / "run", others)
    whole = fit(tmp_path / "run")
    chex.assert_trees_all_equal(whole.params, run.params)


def test_rows_of_weight_zero_are_as_if_they_were_not_there(measured, tmp_path):
    run, _, _ = measured
    at = np.arange(5, 65)  # with five rows before them, and some more behind
    rows = np.full((70, 5), 99.0)
    rows[at] = PLAIN.train
    weights = np.zeros(70)
    weights[at] = 3.0 * WEIGHTS["train"]
    more = data.from_arrays(rows, PLAIN.test, train_weights=weights, test_weights=WEIGHTS["test"])
    found = fit(tmp_path / "run", more)
    chex.assert_trees_all_close(found.params, run.params, rtol=1e-5)
    plain = fit(tmp_path / "plain", PLAIN)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(plain.params, run.params, rtol=1e-2)


def test_legs_and_repeats_are_weighted_as_one_run_is():
    legs = [
        train.Leg(methods.vae(MODEL), 0.5, 20),
        train.Leg(methods.persistent(MODEL, num_leapfrog_steps=2), 0.5),
    ]
    found = {}
    for num_repeats, seed in ((2, 0), (1, 1)):
        settings = train.Settings(
            **{"epochs": 4, "batch_size": 16, "seed": seed, "num_repeats": num_repeats},
            lr_schedule="constant",
        )
        for dataset in (WEIGHTED, PLAIN):
            built = program.build(legs, MODEL, dataset, settings)
            state = built.init()
            for leg in built.legs:
                while state.num_steps < leg.end:
                    state = built.run_steps(state, min(leg.left(state.num_steps), 3))
            found[num_repeats, dataset is WEIGHTED] = state.train.params
    of_second = jax.tree.map(lambda leaf: leaf[1], found[2, True])
    chex.assert_trees_all_close(of_second, found[1, True], rtol=1e-3, atol=1e-5)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(found[1, True], found[1, False], rtol=1e-2)


def after_an_epoch(dataset, **changed):
    """Parameters after the steps of an epoch, from the program alone."""
    settings = train.Settings(**{"epochs": 2, "batch_size": 12} | changed)
    built = program.build(OPTIONS["method"], MODEL, dataset, settings)
    return built.run_steps(built.init(), built.legs[0].steps_per_epoch).train.params


def test_rows_on_disk_are_weighted_as_those_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "_BUFFER_BYTES", 500)  # of two steps
    np.save(tmp_path / "rows.npy", np.concatenate([PLAIN.train, PLAIN.test]))
    weights = np.where(np.arange(64) % 7, 1.0 + np.arange(64), 0.0)  # a tenth of them are none
    loaded, left = (
        data.with_weights(data.from_file(tmp_path / "rows.npy", in_memory=is_loaded), train=weights)
        for is_loaded in (True, False)
    )
    assert isinstance(left.train, on_disk.Rows)
    assert len(left.train) == len(left.train_weights) == 54
    assert left.differences(loaded.describe()) == []
    params = after_an_epoch(loaded)
    chex.assert_trees_all_close(after_an_epoch(left), params, rtol=1e-5, atol=1e-8)
    plain = after_an_epoch(loaded._replace(train_weights=None))
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(plain, params, rtol=1e-5, atol=1e-8)


# ----------------------------------------------------------------------------- the certificate

DELTA = 0.05


def share_missed(bound_fn, weights, chance, num_repeats=4000):
    """How often a bound is below the true NLL, 0, of estimates that explode once in `1 / chance`.

    p̂ / p is 1 / chance with the probability `chance`, else nearly 0, of the heaviest datum, and 1
    of the others: what makes Markov's inequality an equality.
    """
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(num_repeats):
        estimates = np.zeros(len(weights))
        is_large = rng.random() < chance
        estimates[np.argmax(weights)] = -math.log(chance) if is_large else -50.0
        missed += bound_fn(likelihood(estimates), weights) < 0.0
    return missed / num_repeats


def of_certificate(found, weights):
    return evaluate.certificate(found, delta=DELTA, look=None, weights=weights).nll_at_most


def as_if_all_counted_alike(found, weights):
    """A plain bound's slack, which is that of weights relative to their mean."""
    return np.average(-found.log_likelihood, weights=weights) + math.log(1 / DELTA) / len(weights)


def test_a_weighted_bound_misses_no_more_often_than_it_says():
    weights = np.array([5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5])
    error = math.sqrt(DELTA * (1 - DELTA) / 4000)
    missed = share_missed(of_certificate, weights, 0.99 * DELTA)
    assert 0.5 * DELTA < missed < DELTA + 4 * error  # no looser than it must be
    assert share_missed(of_certificate, weights, 0.2) == 0.0
    missed = share_missed(as_if_all_counted_alike, weights, 0.2)
    assert missed > DELTA + 4 * error


def test_equal_weights_give_the_plain_bound_and_zeros_leave_data_out():
    estimates = np.array([-3.0, -5.0, -4.0])
    plain = evaluate.certificate(likelihood(estimates))
    same = evaluate.certificate(likelihood(estimates), weights=np.full(3, 0.2))
    assert same.nll_at_most == pytest.approx(plain.nll_at_most)
    more = likelihood([*estimates, -np.inf, np.nan], rounding=np.array([0, 0, 0, np.inf, 0]))
    more = more._replace(is_reliable=np.array([True, True, True, False, False]))
    found = evaluate.certificate(more, weights=[1, 1, 1, 0, 0])
    assert found.nll_at_most == pytest.approx(plain.nll_at_most)
    assert (found.num_data, found.num_unreliable, found.reason) == (3, 0, None)
    by_verification = numbers_of(more.is_reliable, np.array([1, 1, 1, 0, 0]))
    assert by_verification == (found.num_data, found.num_unreliable)
    assert numbers_of(more.is_reliable) == (5, 2)
    assert evaluate.certificate(more).nll_at_most is None
    infinite = evaluate.certificate(likelihood([-1.0, -np.inf]), weights=[1, 2])
    assert infinite.nll_at_most == math.inf
    assert "(row 1) has a positive weight" in infinite.reason
    with pytest.raises(ValueError, match="`weights` must be finite and at least 0"):
        evaluate.certificate(likelihood(estimates), weights=[1, -1, 1])


# ---------------------------------------------------------------- the command and the estimator


def test_a_command_takes_a_column_of_weights(tmp_path, capsys):
    path, folder = tmp_path / "rows.csv", tmp_path / "run"
    rows = np.concatenate([PLAIN.train, PLAIN.test])
    weights = np.concatenate([WEIGHTS["train"], WEIGHTS["test"]])
    lines = [",".join(map(str, [*row, w])) for row, w in zip(rows, weights, strict=True)]
    path.write_text("\n".join(["a,b,c,d,e,weight", *lines]))
    options = ["--weights=weight", "--method=vae", "--latent_dim=2", "--hidden_dim=4"]
    command = ["fit", str(path), f"--folder={folder}", "--epochs=2", *options]
    assert cli.main(command) == 0
    assert "weights: the 64 train rows count as" in capsys.readouterr().out
    run = aiwae_jax.load(folder)
    assert run.data_size == 5
    command = ["report", str(folder), "--examples=6", "--simulated=0", "--temperatures=4"]
    assert cli.main([*command, "--chains=2"]) == 0
    assert "means are weighted: the 6 rows count as" in capsys.readouterr().out
    command = ["evaluate", str(folder), "--temperatures=4", "--chains=2"]
    assert cli.main([*command, "--examples=6"]) == 0
    assert "over 6 rows, weighted mean: they count as" in capsys.readouterr().out
    assert cli.main([*command, f"--rows={path}", f"--out={tmp_path / 'new.json'}"]) == 0
    printed = capsys.readouterr().out
    assert "rows.csv is read without weights: means are plain" in printed
    assert "weighted" not in printed


@pytest.mark.by_hand
def test_the_estimator_weighs_samples():
    few = evaluate.Settings(
        **{"num_temperatures": 3, "num_chains": 2, "num_leapfrog_steps": 1, "num_pilot_data": 2},
        num_pilot_chains=2,
    )
    estimator = aiwae_jax.AIWAE(
        **{"method": "vae", "epochs": 2, "hidden_sizes": (4,), "start": "posterior"}, evaluation=few
    )
    weights = np.where(np.arange(60) % 5, WEIGHTS["train"], 0.0)
    kept = weights > 0
    rows = PLAIN.train.astype(np.float64)
    rows[~kept] = 77.0
    found = estimator.fit(rows, sample_weight=weights).score_samples(PLAIN.test)
    score = estimator.score(PLAIN.test, sample_weight=WEIGHTS["test"])
    assert score == pytest.approx(np.average(found, weights=WEIGHTS["test"]))
    alone = estimator.fit(rows[kept], sample_weight=2 * weights[kept])
    np.testing.assert_allclose(alone.score_samples(PLAIN.test), found, rtol=1e-4)
    without = estimator.fit(rows[kept]).score_samples(PLAIN.test)
    assert np.abs(without - found).max() > 1e-3
    for wrong, words in ((np.zeros(60), "zeros alone"), (np.ones(3), r"got \[3\]")):
        with pytest.raises(ValueError, match=f"`sample_weight` must .*{words}"):
            estimator.fit(rows, sample_weight=wrong)


def test_bayes_rule_and_its_accuracy_are_of_weighted_rows():
    """Shares of classes, accuracy and log p(x) of all classes, as of repeated rows."""
    codes, counts = np.array([0, 1, 1, 0, 1]), np.array([3, 1, 2, 1, 2])
    rows = np.random.default_rng(0).normal(size=(5, 2))

    def of_classes(*repeats, weights=None):
        repeated = [np.repeat(each, *repeats, axis=0) for each in (rows, codes)]
        dataset = data.from_arrays(
            *(repeated[0], rows),
            **{"train_labels": repeated[1], "test_labels": codes, "label_names": ("a", "b")},
            **{"condition": "label", "train_weights": weights},
        )
        return dataset, conditions.shares(dataset, dataset.condition[0])

    dataset, shares = of_classes(1, weights=counts)
    np.testing.assert_allclose(shares, of_classes(counts)[1])
    assert np.abs(shares - of_classes(1)[1]).max() > 0.01
    estimates = np.random.default_rng(1).normal(size=(5, 2))

    def of_report(repeats, weights=None):
        found = likelihood(np.repeat(estimates, repeats, axis=0).ravel())
        classified = classes.Classified.of(found, dataset.condition[0], ("a", "b"), np.log(shares))
        test = np.repeat(np.asarray(dataset.test), repeats, axis=0)
        return of_classes_report(classified, test, np.arange(len(test)), dataset, weights)[0][
            "bayes"
        ]

    own, repeated, plain = of_report(1, counts), of_report(counts), of_report(1)
    for name in ("accuracy", "nll_of_all"):
        assert own[name] == pytest.approx(repeated[name])
        assert own[name] != pytest.approx(plain[name], rel=1e-3)
