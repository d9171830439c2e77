"""The command line: every method in one process, interruption of a real one, bad input."""

import dataclasses
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest

from aiwae_jax import data
from aiwae_jax.data import dataset, omniglot
from aiwae_jax.report import images
from aiwae_jax.report.text import METRICS
from aiwae_jax.runs import checkpoint, files, store
from experiments import build, evaluate, flags, run, workdir

ROOT = pathlib.Path(__file__).parent.parent
TINY = [
    "--dataset=digits",
    "--stages=1",
    "--latent_dim=2",
    "--hidden_dim=4",
    "--batch_size=64",
    "--eval_examples=4",
    "--eval_temperatures=3",
    "--eval_chains=2",
    "--eval_leapfrog_steps=1",
    "--eval_bound_samples=50",
    "--eval_simulated=2",
]
METHODS = {
    "aiwae": ["--method=aiwae", "--K=2", "--T=3", "--L=2"],
    "vae": ["--method=vae"],
    "iwae": ["--method=iwae", "--K=2"],
}


def main(*arguments):
    """The command; of a flag that is given twice, which it refuses, the last counts."""
    return run.main(["run", *{flag.partition("=")[0]: flag for flag in arguments}.values()])


def copy_of(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished and evaluated VAE run; tests that write work on a copy."""
    folder = tmp_path_factory.mktemp("finished")
    assert main(*TINY, *METHODS["vae"], f"--workdir={folder}") == 0
    return folder


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_to_a_report(method, tmp_path, capsys, request):
    if method == "vae":
        folder = request.getfixturevalue("finished")
    else:
        folder = tmp_path
        assert main(*TINY, *METHODS[method], f"--workdir={folder}") == 0
        printed = capsys.readouterr().out
        assert "NLL (test)" in printed
        assert str(folder) in printed
        assert "num_stages=1" in printed
    report = json.loads((folder / "report.json").read_text())
    for key, (_, with_error) in METRICS.items():
        assert np.isfinite(report[key])
        assert not with_error or report[f"{key}_se"] >= 0
    assert 0 <= report["active_units"] <= 2
    assert abs(report["variational_gap"] - (report["nvlb_test"] - report["nll_test"])) < 1e-4
    assert abs(report["generalization_gap"] - (report["nll_test"] - report["nll_train"])) < 1e-4
    assert report["config"]["training"]["method"] == method
    assert report["environment"]["versions"]["jax"]
    assert report["wall_time"]["training_seconds"] > 0
    assert "paper" not in report
    for name in report["pictures"]:
        assert (folder / name).read_bytes()[:4] == b"\x89PNG"
    assert {"samples.png", "reconstructions.png", "learning_curves.png"} < set(report["pictures"])
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_same_command_again_shows_the_report_and_more_stages_continue(finished, tmp_path, capsys):
    folder = copy_of(finished, tmp_path)
    arguments = [*TINY, *METHODS["vae"], f"--workdir={folder}"]
    made = (folder / "report.json").stat().st_mtime_ns
    assert main(*arguments) == 0
    assert "NLL (test)" in capsys.readouterr().out
    assert (folder / "report.json").stat().st_mtime_ns == made
    assert main(*arguments, "--stages=2", "--eval=none") == 0
    assert "continuing at step 22 of 88" in capsys.readouterr().out
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 4


@pytest.mark.by_hand
@pytest.mark.slow
def test_evaluate_measures_a_run_again_and_compares_two(finished, tmp_path, capsys):
    folder = copy_of(finished, tmp_path)
    assert evaluate.main(["evaluate", f"--workdir={folder}", f"--against={finished}"]) == 0
    assert "paired difference +0.00 ± 0.00" in capsys.readouterr().out
    again = [flag for flag in TINY if flag.startswith("--eval") and "examples" not in flag]
    assert evaluate.main(["evaluate", f"--workdir={folder}", "--eval_examples=5", *again]) == 0
    assert json.loads((folder / "report.json").read_text())["num_examples"] == 5
    assert json.loads((folder / "report-1.json").read_text())["num_examples"] == 4
    capsys.readouterr()
    assert evaluate.main(["evaluate", f"--workdir={folder}", f"--against={finished}"]) == 2
    assert "num_examples=5 here, 4 there" in capsys.readouterr().err


@pytest.mark.slow
def test_interrupted_evaluation_continues_and_ends_with_the_same_numbers(
    finished, tmp_path, capsys, monkeypatch
):
    folder = copy_of(finished, tmp_path)
    (folder / "report.json").unlink()  # else it would be found and shown
    again = [f"--workdir={folder}", *(flag for flag in TINY if flag.startswith("--eval"))]
    real, written = store.FolderStore.__setitem__, []

    def write(self, name, arrays):
        real(self, name, arrays)
        written.append(name)
        if len(written) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(store.FolderStore, "__setitem__", write)
    assert evaluate.main(["evaluate", *again]) == 128 + signal.SIGINT
    assert "finished chunks are kept" in capsys.readouterr().err
    kept = folder / "evaluation-float32"
    assert len(list(kept.glob("*.npz"))) >= 3
    assert evaluate.main(["evaluate", *again]) == 0
    assert len(written) == len(set(written))  # nothing was made twice
    assert not kept.exists()
    for name, value in files.read_arrays(finished / "evaluation.npz").items():
        found = files.read_arrays(folder / "evaluation.npz")[name]
        np.testing.assert_array_equal(found, value, err_msg=name)


@pytest.mark.slow
@pytest.mark.by_hand
def test_report_states_the_gap_and_searches_for_one(finished, tmp_path, capsys):
    report = json.loads((finished / "report.json").read_text())
    assert report["bidirectional"]["num_simulated"] == 2
    assert "simulated" in report["bidirectional"]["note"]
    assert report["evaluation"]["gradients_per_image"] == 2 * 1 * 1
    assert report["evaluation"]["gradients_per_image_paper"] == 16 * 9998 * 10
    folder = copy_of(finished, tmp_path)
    again = [flag for flag in TINY if flag.startswith("--eval") and "simulated" not in flag]
    search = [f"--workdir={folder}", "--target_gap=30", "--eval_simulated=20"]
    assert evaluate.main(["evaluate", *again, *search]) == 0
    assert "target 30 reached" in capsys.readouterr().out
    report = json.loads((folder / "report.json").read_text())
    assert report["bidirectional"]["is_reached"]
    assert report["bidirectional"]["search"][0][0] == 3
    biased = ["--eval_adapt=paper", "--eval_schedule=linear", f"--workdir={folder}"]
    assert evaluate.main(["evaluate", *again, *biased]) == 0
    assert "it is biased" in capsys.readouterr().out
    report = json.loads((folder / "report.json").read_text())
    assert not report["evaluation"]["is_unbiased"]
    assert "bidirectional_gap" not in report


@pytest.mark.slow
@pytest.mark.by_hand
def test_training_batches_are_binary_and_new_at_every_use(monkeypatch):
    seen = []
    real = data.binarize

    def recording(key, levels, max_level):
        batch = real(key, levels, max_level)
        jax.debug.callback(lambda b: seen.append(np.asarray(b)), batch)
        return batch

    monkeypatch.setattr(dataset, "binarize", recording)
    digits = data.load("digits")
    one_batch = digits._replace(train=digits.train[:64], train_labels=None)
    built = build.build(flags.parse_run(["run", *TINY, *METHODS["vae"]]).training, one_batch)
    state = built.init()
    for _ in range(2):  # two epochs of one batch: the same 64 images
        state = built.run_steps(state, 1)
    jax.block_until_ready(state)
    jax.effects_barrier()
    first, second = seen
    assert set(np.unique(seen)) == {0.0, 1.0}
    assert abs(first.mean() - digits.mean_image().mean()) < 0.05
    assert first.sum(axis=0).tolist() != second.sum(axis=0).tolist()


def test_keys_of_training_and_evaluation_differ_though_the_seeds_are_equal():
    settings = flags.parse_run(["run"]).evaluation
    root = jax.random.key(0)
    training = jax.random.split(root)
    everything = [*images.keys_of(settings), *training, *jax.random.split(training[1]), root]
    data_of_keys = {tuple(np.asarray(jax.random.key_data(key))) for key in everything}
    assert len(data_of_keys) == len(everything)


@pytest.mark.slow
def test_evaluated_images_depend_on_the_evaluation_seed_alone():
    digits = data.load("digits")
    settings = flags.parse_run(["run", "--eval_examples=20"]).evaluation
    first = images.choose_images(digits, settings)
    chex.assert_trees_all_equal(first, images.choose_images(digits, settings))
    more = flags.parse_run(["run", "--eval_examples=30"]).evaluation
    np.testing.assert_array_equal(images.choose_images(digits, more)[0][:20], first[0])
    other = flags.parse_run(["run", "--eval_examples=20", "--eval_seed=1"]).evaluation
    assert not np.array_equal(images.choose_images(digits, other)[0], first[0])


# --------------------------------------------------------------------------------- interruption

RESUMABLE = [
    "--dataset=digits",
    "--method=aiwae",
    "--K=2",
    "--T=3",
    "--L=2",
    "--latent_dim=4",
    "--hidden_dim=16",
    "--batch_size=8",
    "--stages=3",
    "--eval=none",
]


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "experiments.run", *arguments, f"--workdir={folder}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def final_state(folder):
    """The last checkpoint as a tree."""
    stored = workdir.open_run(str(folder))[1]
    template = build.build(stored, data.load("digits")).init()
    return checkpoint.Checkpoints(folder / "checkpoints").restore(template)


def wait_for_checkpoint(folder, process, newer_than=-1):
    """Waits until the run has a whole checkpoint newer than a step; returns that step."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        names = [path.name for path in (folder / "checkpoints").glob("*") if path.name.isdigit()]
        steps = [int(name) for name in names if int(name) > newer_than]
        if steps:
            return max(steps)
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint newer than {newer_than}: {process.communicate()}")


@pytest.mark.slow
@pytest.mark.by_hand
def test_run_killed_and_then_stopped_by_sigterm_resumes_bit_for_bit(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    often = "--checkpoint_minutes=0.005"
    process = start(cut, *RESUMABLE, often)
    step = wait_for_checkpoint(cut, process)
    process.kill()
    process.communicate()

    process = start(cut, *RESUMABLE, often)
    wait_for_checkpoint(cut, process, newer_than=step)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "saved at step" in errors
    assert "continuing at step" in output

    assert main(*RESUMABLE, f"--workdir={cut}") == 0
    assert main(*RESUMABLE, f"--workdir={whole}") == 0
    state, facts = final_state(cut)
    expected, _ = final_state(whole)
    assert facts["is_finished"]
    chex.assert_trees_all_equal(state, expected)
    assert int(state.train.step) == 13 * 179
    assert (cut / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_a_second_process_on_the_same_folder_is_refused(tmp_path):
    digits = data.load("digits")
    config = flags.parse_run(["run", *RESUMABLE, f"--workdir={tmp_path}"])
    with workdir.claim(config, digits):
        assert main(*RESUMABLE, f"--workdir={tmp_path}") == 2


def poison(monkeypatch, from_step, *, only_once=False):
    """Makes a bias NaN in the step that ends at `from_step`, as a hardware fault would."""
    real, times = build.build, []

    def poisoned(*arguments):
        built = real(*arguments)

        def run_steps(state, num_steps):
            is_due = state.num_steps < from_step <= state.num_steps + num_steps
            state = built.run_steps(state, num_steps)
            if is_due and not (only_once and times):
                times.append(from_step)
                theta = state.train.params.theta
                theta["heads"][0]["bias"] = theta["heads"][0]["bias"] * np.nan
            return state

        return built._replace(run_steps=run_steps)

    monkeypatch.setattr(build, "build", poisoned)


@pytest.mark.slow
def test_parameters_that_become_nan_stop_the_run_and_are_named(tmp_path, monkeypatch, capsys):
    poison(monkeypatch, from_step=9)
    assert main(*TINY, *METHODS["vae"], f"--workdir={tmp_path}") == 1
    error = capsys.readouterr().err
    assert "became NaN or infinite" in error
    assert "first at step 9: params.theta.heads.0.bias (64 of 64 values)" in error
    assert "No checkpoint had been saved yet" in error
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


def test_a_fault_that_does_not_come_again_is_laid_to_the_device(
    finished, tmp_path, monkeypatch, capsys
):
    poison(monkeypatch, from_step=30, only_once=True)
    folder = copy_of(finished, tmp_path)
    longer = [*(flag for flag in TINY if "stages" not in flag), "--stages=2"]
    assert main(*longer, *METHODS["vae"], f"--workdir={folder}") == 1
    error = capsys.readouterr().err
    assert "taken again: the device or its memory may be faulty" in error
    assert "The last good checkpoint is of step 22" in error
    assert sorted(p.name for p in (folder / "checkpoints").glob("[0-9]*")) == ["22"]


# ------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=cifar"], "--dataset must be one of digits, mnist, omniglot"),
        (["--method=gan"], "--method must be one of vae, iwae, stl, dreg, aiwae"),
        (["--K=0"], "--K must be at least 1, got 0"),
        (["--T=1"], "--T must be at least 2, got 1"),
        (["--L=0"], "--L must be at least 1, got 0"),
        (["--K=five"], "--K"),
        (["--stages=0"], "--stages must be at least 1"),
        (["--stages=13"], "--stages must be at most 12"),
        (["--method=vae", "--K=5"], "vae uses one sample"),
        (["--method=iwae", "--T=5"], "--T does not belong to --method=iwae"),
        (["--eval_temperatures=1"], "--eval_temperatures must be at least 2"),
        (["--eval_bound_samples=30"], "--eval_bound_samples must be at least 50, got 30"),
        (["--eval_examples=1"], "--eval_examples must be 0 (all) or at least 2"),
        (["--batch_size=5000"], "larger than the 1438 training rows"),
        (["--data_dir=/nowhere/at/all"], "is not a folder"),
        (["--temperature=5"], "Unknown command line flag 'temperature'"),
        (["digits"], "Unexpected argument 'digits'"),
        (["--adam_eps=0"], "--adam_eps must be positive"),
        (["--repeats=0"], "--repeats must be at least 1, got 0"),
        (["--K=6", "--particle_chunk=4"], "--particle_chunk must divide --K=6, got 4"),
        (
            ["--method=iwae", "--force_precision=bfloat16"],
            "--force_precision does not belong to --method=iwae",
        ),
    ],
)
def test_bad_flags_are_one_clear_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(*arguments, f"--workdir={folder}") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert not folder.exists()


def test_folder_of_another_configuration_is_refused_and_untouched(tmp_path, capsys):
    assert main(*TINY, *METHODS["vae"], f"--workdir={tmp_path}", "--eval=none") == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert main(*TINY, *METHODS["iwae"], f"--workdir={tmp_path}") == 2
    error = capsys.readouterr().err
    assert "--method=vae there, iwae here" in error
    assert len(error.splitlines()) == 1
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_folder_with_other_things_in_it_is_refused_and_untouched(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("important")
    assert main(*TINY, *METHODS["vae"], f"--workdir={tmp_path}") == 2
    assert "holds no run of this program" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_workdir_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(*TINY, *METHODS["vae"], f"--workdir={tmp_path / 'file'}") == 2
    assert "cannot be used" in capsys.readouterr().err


def test_missing_data_without_network_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIWAE_CACHE_DIR", str(tmp_path / "cache"))

    monkeypatch.setattr(omniglot, "_URL", "http://127.0.0.1:9/chardata.mat")
    assert main("--dataset=omniglot", f"--workdir={tmp_path / 'run'}") == 2
    error = capsys.readouterr().err
    assert "Connection refused" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_truncated_data_are_one_line(tmp_path, capsys):
    (tmp_path / "chardata.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    folder = tmp_path / "run"
    assert main("--dataset=omniglot", f"--data_dir={tmp_path}", f"--workdir={folder}") == 2
    error = capsys.readouterr().err
    assert "truncated or corrupt" in error
    assert len(error.splitlines()) == 1
    assert not folder.exists()


def test_evaluate_refuses_what_is_no_run(tmp_path, capsys):
    assert evaluate.main(["evaluate", f"--workdir={tmp_path}"]) == 2
    assert "holds no run of this program" in capsys.readouterr().err
    assert evaluate.main(["evaluate"]) == 2
    assert "--workdir is needed" in capsys.readouterr().err


def test_the_page_is_one_file_with_everything_in_it(finished):
    content = (finished / "report.html").read_text()
    report = json.loads((finished / "report.json").read_text())
    assert f"{report['nll_test']:.2f} ± {report['nll_test_se']:.2f}" in content
    assert content.count('src="data:image/png;base64,') == len(report["pictures"]) > 4
    assert "http" not in content.replace("http-equiv", "")
    assert "--method=vae" in content
    assert "Bidirectional gap" in content


@pytest.mark.parametrize(
    "given",
    [
        *([], ["--method=iwae", "--K=7"], ["--method=vae", "--preset=best"]),
        ["--method=uha", "--remat", "--T=5"],
        ["--method=uha", "--noremat"],
        ["--posterior=iaf", "--flow_layers=1", "--epochs=2.5", "--repeats=3"],
        ["--method=rws", "--rws_phi=both", "--model=two_layer"],
        ["--method=hoffman", "--moves=3", "--eval=paper", "--eval_adapt=paper"],
        ["--method=persistent", "--restart_every=3"],
        ["--target_gap=0.1", "--eval_force_precision=bfloat16", "--K=6", "--particle_chunk=2"],
    ],
)
def test_the_command_of_a_report_makes_its_configuration(given):
    config = flags.parse_run(["run", "--dataset=digits", *given])
    described = {
        "training": dataclasses.asdict(config.training),
        "evaluation": dataclasses.asdict(config.evaluation),
    }
    again = flags.parse_run(["run", *flags.arguments_of(described)])
    assert again.training == config.training
    assert again.evaluation == config.evaluation


@pytest.mark.slow
@pytest.mark.by_hand
def test_dry_run_says_what_it_would_take_and_writes_nothing(tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(*TINY, *METHODS["aiwae"], f"--workdir={folder}", "--dry_run") == 0
    out = capsys.readouterr().out
    assert "training    22 of 22 steps" in out
    assert "evaluation  8 images and 2 simulated, 2 chains x 3 temperatures: about" in out
    assert "MiB while a step runs" in out
    assert "nothing was started or written" in out
    assert not folder.exists()


def test_help_explains_the_papers_letters(capsys):
    with pytest.raises(SystemExit) as stopped:
        main("--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for word in ("--K", "--T", "--L", "inverse temperatures", "leapfrog", "--workdir", "--stages"):
        assert word in text


def test_defaults_are_the_papers():
    config = flags.parse_run(["run", "--dataset=omniglot", "--K=5", "--T=8"])
    expected = flags.Training(
        dataset="omniglot",
        method="aiwae",
        num_particles=5,
        num_temperatures=8,
        num_leapfrog_steps=5,
        latent_size=50,
        hidden_size=200,
        posterior="normal",
        batch_size=128,
        num_stages=8,
        adam_eps=1e-4,
        loss_reduction="mean",
        initialization="torch_mean_bias",
        seed=0,
    )
    assert config.training == expected
    assert config.evaluation.num_temperatures == 1000
    assert config.evaluation.num_examples == 200
    paper = flags.parse_run(["run", "--dataset=mnist", "--eval=paper"]).evaluation
    assert (paper.num_temperatures, paper.num_examples, paper.num_chains) == (10_000, 0, 16)
    mixed = flags.parse_run(["run", "--eval=paper", "--eval_examples=10"]).evaluation
    assert mixed.num_examples == 10
    assert flags.parse_run(["run", "--dataset=mnist", "--method=iwae"]).training.batch_size == 20


def test_presets_are_defaults_that_other_flags_override():
    def training(*arguments):
        return flags.parse_run(["run", "--dataset=digits", *arguments]).training

    paper = training("--preset=paper")
    assert (paper.initialization, paper.batch_size, paper.num_stages) == ("torch", 128, 8)
    assert training("--preset=paper", "--method=iwae").batch_size == 20
    best = training("--preset=best")
    assert (best.optimizer, best.learning_rate, best.lr_schedule) == ("muon", 0.04, "linear")
    assert best.curriculum == "vae:0.83,aiwae+K=1+T=5+chain_space=base:0.17"
    assert (best.epochs, best.batch_size) == (90.0, 32)
    assert training("--preset=best", "--method=aiwae") == best
    assert training("--preset=best", "--batch_size=7").batch_size == 7
    assert training("--preset=best", "--stages=3").epochs == 13.0
    assert training("--preset=best", "--chain_space=latent").chain_space == "latent"
    wide = training("--preset=best", "--K=5", "--T=8")
    assert wide.curriculum == "vae:0.83,aiwae+chain_space=base:0.17"
    iwae = training("--preset=best", "--method=iwae", "--stages=2")
    assert (iwae.curriculum, iwae.optimizer, iwae.epochs) == (None, "muon", None)
    assert flags.parse_run(["run", "--preset=best", "--dataset=mnist"]).training.batch_size == 512
    assert training("--preset=default") == training()


def test_a_report_whose_pictures_a_kill_has_cost_is_made_whole(finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    arguments = [*TINY, *METHODS["vae"], f"--workdir={folder}"]
    report = json.loads((folder / "report.json").read_text())
    del report["pictures"]
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "report.html").unlink()
    assert main(*arguments) == 0
    assert (folder / "report.html").exists()
    assert not (folder / "report-1.json").exists()
    assert json.loads((folder / "report.json").read_text())["nll_test"] == report["nll_test"]


@pytest.mark.slow
@pytest.mark.by_hand
def test_two_temperatures_leave_nothing_to_draw_and_that_is_fine(finished, tmp_path):
    again = [flag for flag in TINY if flag.startswith("--eval") and "temperatures" not in flag]
    folder = copy_of(finished, tmp_path)
    assert evaluate.main(["e", f"--workdir={folder}", *again, "--eval_temperatures=2"]) == 0
    assert (folder / "acceptance.png").exists()
