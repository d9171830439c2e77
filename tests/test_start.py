"""What a command says of a bad environment, of signals, and of launchers that die."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import pytest
from test_run import METHODS, TINY, final_state, main

from aiwae_jax.report import plots
from aiwae_jax.runs import metrics
from aiwae_jax.runs.interruption import Interruption
from experiments import flags, launch, run

ROOT = pathlib.Path(__file__).parent.parent


def start_process(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def with_environment(*arguments, **variables):
    """(exit code, stderr) of a command under other environment variables."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    process = start_process(*arguments, env=environment | variables)
    _, err = process.communicate(timeout=100)
    return process.returncode, err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("JAX_ENABLE_X64", "maybe", "invalid truth value 'maybe'"),
        ("JAX_NUM_CPU_DEVICES", "x", 'Invalid value "x"'),
        ("XLA_FLAGS", "--xla_nonsense=3", "Unknown flag in XLA_FLAGS: --xla_nonsense=3"),
        ("JAX_PLATFORMS", "nonsense", "JAX finds no device with JAX_PLATFORMS=nonsense"),
        ("JAX_PLATFORMS", "cuda", "JAX finds no device"),
        ("JAX_NUM_CPU_DEVICES", "0", "JAX finds no device"),
    ],
)
def test_an_environment_that_jax_refuses_is_one_line(name, value, message, tmp_path):
    if value == "cuda" and any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("there is one")
    arguments = ["-m", "experiments.run", "--dataset=digits", f"--workdir={tmp_path / 'run'}"]
    code, err = with_environment(*arguments, **{name: value})
    assert code == 2, err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert f"{name}={value}" in err
    assert message in err
    assert not (tmp_path / "run").exists()


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(run.sources, "load", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(*TINY)


def test_a_package_that_is_missing_is_named_before_the_work(monkeypatch, tmp_path, capsys):
    def fail():
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr(plots, "load", fail)
    assert main(*TINY, f"--workdir={tmp_path / 'run'}") == 2
    assert "matplotlib is not installed; pip install" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["nonsense", "TkAgg", ""])
def test_pictures_ask_for_no_window(backend, tmp_path):
    code = (
        "import os, numpy as np\nfrom aiwae_jax.report import plots\n"
        f"plots.image_grid({str(tmp_path / 'x.png')!r}, np.zeros((1, 4)), (2, 2), num_columns=1, "
        "title='≥')\n"
        f"assert os.environ['MPLBACKEND'] == {backend!r}\n"
    )
    assert with_environment("-c", code, MPLBACKEND=backend) == (0, "")
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"


# ---------------------------------------------------------------------------------------- signals


@pytest.fixture
def slow_to_load(tmp_path):
    """An environment in which importing jax says so, and then takes a minute."""
    text = "import sys, time\nprint('loading', flush=True)\ntime.sleep(60)\n"
    (tmp_path / "jax.py").write_text(text, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return environment | {"PYTHONPATH": str(tmp_path)}


@pytest.mark.parametrize(
    "module", ["run", "evaluate", "compare", "posteriors", "scale", "table", "benchmark"]
)
def test_ctrl_c_while_libraries_load_is_one_word(module, slow_to_load):
    process = start_process("-m", f"experiments.{module}", env=slow_to_load)
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (128 + signal.SIGINT, "Interrupted.\n")


def test_a_cell_ends_with_its_launcher_even_while_it_loads(slow_to_load):
    arguments = ["-m", "experiments.cell", "--dataset=digits"]
    process = start_process(*arguments, env=slow_to_load, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "loading\n"
    process.communicate(timeout=30)  # closes its stdin, as the death of a launcher does
    assert process.returncode == -signal.SIGTERM


def test_a_program_that_imports_the_experiments_keeps_its_signals():
    code = (
        "import signal, sys\nfrom aiwae_jax.cli import start\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "assert sys.excepthook is sys.__excepthook__\n"
        "with start.at_work():\n"
        "    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    )
    assert with_environment("-c", code) == (0, "")


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_signals_save_and_exit_with_their_code(number, tmp_path, monkeypatch, capsys):
    real, before, steps = metrics.JsonLines.on_epoch, signal.getsignal(number), []

    def write(self, moment):
        real(self, moment)
        if not steps:  # a second signal acts at once
            signal.raise_signal(number)
        steps.append(moment.step)

    monkeypatch.setattr(metrics.JsonLines, "on_epoch", write)
    arguments = [*TINY, *METHODS["vae"], "--stages=2", "--eval=none", f"--workdir={tmp_path}"]
    assert main(*arguments) == 128 + number
    saved = final_state(tmp_path)[0].num_steps
    assert 22 < saved < 88
    assert f"saved at step {saved} of 88" in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored():
    """SIGHUP under nohup."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert interruption.signal_number is None
            signal.raise_signal(signal.SIGTERM)
            assert interruption.signal_number == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


@pytest.mark.slow
def test_a_cell_saves_itself_when_its_launcher_is_killed(tmp_path):
    """Launched as a script, from another folder."""
    process = subprocess.Popen(
        [
            *(sys.executable, ROOT / "experiments" / "table", f"--workdir={tmp_path}", "--launch"),
            *("--dataset=digits", "--methods=aiwae", "--K=2", "--T=5", "--stages=7", "--eval=none"),
        ],
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    folder = tmp_path / "digits-aiwae-K2-T5-b32-seed0"
    deadline = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists() or not (folder / "metrics.jsonl").stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    output = process.stdout.read()  # to the end of the cell, which has the same stdout
    assert "saved at step" in output
    assert list((folder / "checkpoints").glob("[0-9]*"))


# ------------------------------------------------------------------------------------------ flags


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--K=1", "--K=2"], "--K is given twice, as 1 and as 2"),
        (["--method=uha", "--remat", "--noremat"], "--remat is given twice, as True and as False"),
        (["--layers=2", "--model=sbn", "--layers=3,4"], "--layers is given twice, as 2 and as 3,4"),
        (["--K=two"], "--K must be a whole number, got 'two'"),
        (["--seed=1.5"], "--seed must be a whole number, got '1.5'"),
        (["--ema=x"], "--ema must be a number, got 'x'"),
        (["--method=uha", "--remat=maybe"], "--remat must be true or false, got 'maybe'"),
        (["--target_gap=inf"], "--target_gap must be a finite number, got inf"),
        (["--target_gap=nan", "--target_gap=nan"], "--target_gap must be a finite number, got nan"),
        (["--checkpoint_minutes=inf"], "--checkpoint_minutes must be a finite number"),
        (["--adam_eps=nan"], "--adam_eps must be a finite number, got nan"),
        (["--epochs=-inf"], "--epochs must be a finite number, got -inf"),
        (["--eval_persistence=nan"], "--eval_persistence must be a finite number"),
        (["--repeats=10001"], "--repeats must be at most 10,000, got 10001"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, message):
    with pytest.raises(flags.UsageError) as caught:
        flags.parse_run(["run", *arguments])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("parse", [flags.parse_run, flags.parse_evaluate])
def test_a_folder_that_checkpoints_cannot_have_is_refused_before_the_work(parse):
    folder = os.fsdecode(b"runs/a\xff")
    with pytest.raises(flags.UsageError, match="checkpoints need a folder whose name is UTF-8"):
        parse(["run", f"--workdir={folder}"])
    assert parse(["run", "--workdir=runs/α"]).workdir == "runs/α"


def test_the_same_value_twice_is_no_contradiction():
    assert flags.parse_run(["run", "--K=3", "--K=3"]).training.num_particles == 3


def test_what_a_cell_has_for_itself_replaces_what_all_have():
    shared = ["--K=5", "--seed=1"]
    assert launch.replacing(shared, ["--K=7"]) == ["--seed=1", "--K=7"]
    assert launch.replacing(shared, []) == shared
