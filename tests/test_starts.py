"""Where chains start: q that misses its own data is found out, and the other start is named."""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import own_table
import pytest

from aiwae_jax import evaluate, methods, report
from aiwae_jax.cli import main as cli
from aiwae_jax.cli.flags import UsageError
from aiwae_jax.report import contents, per_datum, starts, text
from aiwae_jax.report.evaluation import Evaluation
from experiments import completion
from experiments.settings import Training

SETTINGS = evaluate.Settings(num_temperatures=20, num_chains=4, num_pilot_data=4)
QUICK = {"num_examples": 8, "num_simulated": 10, "num_bound_samples": 50}
# A scale of q a hundred times too small, far off.
LOST = {"encoder": jnp.full((own_table.NUM_COLUMNS, 2), 3.0), "log_scale": jnp.full(2, -5.0)}


def trial(params, start, other):
    return starts.try_other(
        *(jax.random.key(0), lambda start: evaluate.Target.of(lg.model(), params, start=start)),
        *(start, other, SETTINGS),
        store={},
        progress_fn=None,
    )


@pytest.mark.slow
@pytest.mark.by_hand
def test_the_tighter_start_is_found_from_either_side():
    params = lg.params()
    lost = params._replace(
        phi={**params.phi, "bias": jnp.full(2, 9.0), "log_scale": jnp.full(2, -4.0)}
    )
    to_prior = trial(lost, "posterior", "prior")
    assert to_prior["is_tighter"]
    assert to_prior["difference"] > 1.0
    back = trial(lost, "prior", "posterior")
    assert not back["is_tighter"]
    assert back["difference"] == pytest.approx(-to_prior["difference"], rel=0.5)
    assert not trial(params, "posterior", "prior")["is_tighter"]  # a good q


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starts") / "run"
    return own_table.fit(folder, epochs=2, method=methods.vae(own_table.factor_analysis()))


@pytest.mark.slow
def test_a_report_says_which_start_is_tighter_and_can_have_it(run, capsys):
    lost = dataclasses.replace(run, params=run.params._replace(phi=LOST))
    content = report.write(lost, own_table.table(), SETTINGS, **QUICK)
    assert "chains from the prior are tighter" in capsys.readouterr().out
    assert content["evaluation"]["num_unreliable"] > 0
    page = (run.folder / "report.html").read_text()
    assert "Chains from the prior are tighter" in page
    assert "estimates cannot be relied on" in page
    assert text.start_sentence(contents.read_report(run.folder / "report.json")) is not None

    content = report.write(lost, own_table.table(), SETTINGS, start="prior", **QUICK)
    assert "tighter" not in capsys.readouterr().out
    exact = own_table.exact_nll(run.params.theta, own_table.table().test)
    arrays = contents.read_evaluation(run.folder, content, per_datum.NEEDS)
    np.testing.assert_allclose(arrays["nll_test"], exact[arrays["index_test"]], atol=0.5)
    assert (arrays["nvlb_test"] > exact[arrays["index_test"]] + 5).all()  # q's bound is q's still


@pytest.mark.slow
@pytest.mark.by_hand
def test_numbers_of_each_datum_stand_in_a_table_of_their_own(run):
    pytest.importorskip("pyarrow")
    content = report.write(run, own_table.table(), SETTINGS, with_parquet=True, **QUICK)
    arrays = contents.read_evaluation(run.folder, content, per_datum.NEEDS)
    with (run.folder / "per_datum.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows] == ["test"] * 8 + ["train"] * 8
    for part, of_part in (("test", rows[:8]), ("train", rows[8:])):
        index = [int(row["index"]) for row in of_part]
        np.testing.assert_array_equal(index, arrays[f"index_{part}"])
        found = [float(row["log_likelihood"]) for row in of_part]
        np.testing.assert_array_equal(found, -arrays[f"nll_{part}"])
        found = [float(row["standard_error"]) for row in of_part]
        np.testing.assert_allclose(found, arrays[f"standard_error_{part}"], rtol=1e-6)
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(run.folder / "per_datum.parquet")
    assert table.column_names == list(rows[0])
    # What belongs to another report goes away with it.
    earlier = (run.folder / "per_datum.csv").read_bytes()
    report.write(run, own_table.table(), SETTINGS, **QUICK | {"seed": 1})
    assert (run.folder / "per_datum.csv").read_bytes() != earlier
    assert earlier in [path.read_bytes() for path in run.folder.glob("per_datum-*.csv")]
    assert not (run.folder / "per_datum.parquet").exists()


@pytest.mark.slow
@pytest.mark.by_hand
def test_a_table_that_is_missing_is_made_from_what_is_there(run):
    options = QUICK | {"seed": 2}
    report.write(run, own_table.table(), SETTINGS, **options)
    whole = (run.folder / "per_datum.csv").read_bytes()
    (run.folder / "per_datum.csv").unlink()
    report.write(run, own_table.table(), SETTINGS, **options)
    assert (run.folder / "per_datum.csv").read_bytes() == whole


def test_labels_of_one_part_alone_are_unknown_in_the_other():
    arrays = {
        f"{name}_{part}": np.arange(2.0) for name in ("nll", "nvlb") for part in ("test", "train")
    }
    arrays |= {
        "index_test": np.arange(2),
        "index_train": np.arange(2),
        "label_test": np.array([7, 8]),
    }
    dataset = own_table.table(num_train=2, num_test=2)
    found = per_datum.columns(arrays, dataset)
    assert found["label"].tolist() == [7, 8, None, None]
    assert list(found) == ["part", "index", "label", "log_likelihood", "importance_bound"]
    split = dataset._replace(train_index=np.array([0, 3]), test_index=np.array([2, 1]))
    assert per_datum.columns(arrays, split)["row"].tolist() == [2, 1, 0, 3]  # test data come first


@pytest.mark.slow
def test_a_start_that_cannot_be_is_refused_before_the_work(run, capsys):
    no_q = dataclasses.replace(run, has_posterior=False)
    with pytest.raises(ValueError, match=r"`start`='posterior' needs q\(z\|x\), which this run's"):
        report.write(no_q, own_table.table(), SETTINGS, start="posterior", **QUICK)
    with pytest.raises(ValueError, match="`start` must be one of posterior, prior; got 'q'"):
        Evaluation(start="q")
    training = completion.complete({"method": "tang", "model": "conditional"})
    with pytest.raises(UsageError, match="--eval_start=posterior needs q"):
        completion.complete_evaluation({"start": "posterior"}, training)
    assert cli.main(["report", str(run.folder), "--eval_start=q"]) == 2
    assert "--start must be one of posterior, prior; got 'q'" in capsys.readouterr().err


def test_the_flag_leaves_the_space_to_the_start():
    training = completion.complete({"dataset": "digits"})
    assert isinstance(training, Training)
    assert completion.complete_evaluation({}, training).chain_space == "base"
    found = completion.complete_evaluation({"start": "prior"}, training)
    assert (found.start, found.chain_space) == ("prior", None)
