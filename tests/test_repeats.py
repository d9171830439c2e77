"""`--repeats`: several seeds in one program are the runs that they would be on their own."""

import json

import chex
import jax
import numpy as np
import pytest

from aiwae_jax import data
from experiments import build, evaluate, flags, launch, repeats, run

TINY = [
    *("--dataset=digits", "--stages=1", "--latent_dim=2", "--hidden_dim=4", "--batch_size=64"),
    *("--method=aiwae", "--K=2", "--T=3", "--L=2"),
]
EVALUATION = [
    *("--eval_examples=4", "--eval_temperatures=3", "--eval_chains=2", "--eval_simulated=0"),
    *("--eval_leapfrog_steps=1", "--eval_bound_samples=50"),
]


def state_after(num_steps, *arguments):
    training = flags.parse_run(["run", *TINY, *arguments]).training
    built = build.build(training, data.load("digits", None))
    return built.run_steps(built.init(), num_steps)


@pytest.mark.slow
def test_each_repeat_is_the_run_of_its_own_seed():
    together = state_after(3, "--seed=7", "--repeats=2")
    assert together.num_steps == 3
    for number in range(2):
        alone = state_after(3, f"--seed={7 + number}")
        repeat = jax.tree.map(lambda a, i=number: a[i], together)
        chex.assert_trees_all_close(repeat, alone, rtol=1e-4, atol=1e-5)
    first, second = jax.tree.map(lambda a: a[0], together), jax.tree.map(lambda a: a[1], together)
    assert not np.allclose(*(s.train.params.theta["hidden"][0]["kernel"] for s in (first, second)))


def test_summary_is_the_mean_and_the_sample_standard_deviation():
    summary = repeats.summarize(
        [{"nll_test": 1.0}, {"nll_test": 2.0}, {"nll_test": 6.0}], ["nll_test"]
    )
    assert summary["nll_test"]["mean"] == 3.0
    np.testing.assert_allclose(summary["nll_test"]["std"], np.sqrt(7.0))
    assert repeats.summarize([{"nll_test": 1.0}], ["nll_test"])["nll_test"]["std"] is None


@pytest.mark.slow
def test_repeats_write_their_own_reports_and_a_summary_and_continue(tmp_path, capsys):
    arguments = ["run", *TINY, *EVALUATION, "--repeats=2", f"--workdir={tmp_path}"]
    assert run.main(arguments) == 0
    assert "mean (std over 2 seeds)" in capsys.readouterr().out
    reports = [json.loads((tmp_path / f"repeat_{i}/report.json").read_text()) for i in range(2)]
    assert [report["config"]["training"]["seed"] for report in reports] == [0, 1]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["nll_test"]["values"] == [report["nll_test"] for report in reports]
    assert reports[0]["nll_test"] != reports[1]["nll_test"]
    for i in range(2):
        assert len((tmp_path / f"repeat_{i}/metrics.jsonl").read_text().splitlines()) == 1
        assert (tmp_path / f"repeat_{i}/learning_curves.png").exists()

    assert run.main(launch.replacing(arguments, ["--stages=2", "--eval=none"])) == 0
    assert "continuing at step 22 of 88" in capsys.readouterr().out
    assert len((tmp_path / "repeat_1/metrics.jsonl").read_text().splitlines()) == 4

    first, second = tmp_path / "repeat_0", tmp_path / "repeat_1"
    assert evaluate.main(["evaluate", f"--workdir={first}", f"--against={second}"]) == 0
    assert "paired difference" in capsys.readouterr().out
    assert evaluate.main(["evaluate", f"--workdir={first}"]) == 2
    assert "it is part of the one in" in capsys.readouterr().err
    assert evaluate.main(["evaluate", f"--workdir={tmp_path}", f"--against={second}"]) == 2
    assert "name one of them, such as" in capsys.readouterr().err
