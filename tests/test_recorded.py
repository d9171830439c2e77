"""What was recorded stays: bits on the machine that recorded them, and a folder everywhere."""

import json
import pathlib
import shutil

import pytest
import recorded

from experiments import evaluate, run

RECORDED = json.loads(recorded.PATH.read_text(encoding="utf-8"))
# Of `experiments.run --stages=1`, as the version before the library had runs of its own wrote it.
EARLIER = pathlib.Path(__file__).parent / "earlier_run"
FLAGS = [
    *("--dataset=digits", "--batch_size=64", "--mesh=data:1", "--method=aiwae", "--K=2", "--T=3"),
    *("--L=2", "--latent_dim=2", "--hidden_dim=6", "--eval_examples=6", "--eval_temperatures=20"),
    *("--eval_chains=2", "--eval_bound_samples=50", "--eval_simulated=4"),
]


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("name", recorded.COMMANDS)
def test_a_recorded_command_gives_the_same_bits(name, tmp_path):
    if recorded.machine() != RECORDED["machine"]:
        pytest.skip("recorded on another machine, or with other versions")
    assert recorded.take(name, tmp_path) == RECORDED["hashes"][name]


@pytest.mark.slow
def test_the_run_of_an_earlier_version_is_read_measured_and_continued(tmp_path, capsys):
    folder = shutil.copytree(EARLIER, tmp_path / "run")
    where = f"--workdir={folder}"
    before = (folder / "report.json").read_bytes()
    assert run.main(["run", "--stages=1", *FLAGS, where]) == 0
    assert "already evaluated like this" in capsys.readouterr().out
    stated = json.loads(before)
    assert json.loads((folder / "report.json").read_text())["nll_test"] == stated["nll_test"]

    again = [flag for flag in FLAGS if flag.startswith("--eval")]
    assert evaluate.main(["evaluate", *again, "--eval_seed=1", where]) == 0
    measured = json.loads((folder / "report.json").read_text())
    assert abs(measured["nll_test"] - stated["nll_test"]) < 5 * measured["nll_test_se"]

    assert run.main(["run", "--stages=2", "--eval=none", *FLAGS[:-5], where]) == 0
    assert "continuing at step 22 of 88" in capsys.readouterr().out
    assert (folder / "checkpoints" / "88").is_dir()
