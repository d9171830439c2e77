"""What does not fit into the memory is refused before any of it is taken."""

import pathlib

import pytest
from test_run import METHODS, TINY, main

from aiwae_jax import data
from experiments import build, flags, memory

ROOM = 6 * 2**20  # enough for the state and too little for the particles below


@pytest.mark.slow
@pytest.mark.by_hand
def test_too_many_particles_are_refused_with_what_needs_less(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "available", lambda: ROOM)
    arguments = [*TINY, *METHODS["aiwae"], "--K=600", f"--workdir={tmp_path / 'run'}"]
    assert main(*arguments, "--dry_run") == 2
    error = capsys.readouterr().err
    assert "--K=600 at batch 64: a training step needs" in error
    assert "--particle_chunk=" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()
    chunk = int(error.partition("--particle_chunk=")[2].split()[0])
    assert 1 <= chunk < 600
    assert 600 % chunk == 0
    last = {flag.partition("=")[0]: flag for flag in [*arguments, f"--particle_chunk={chunk}"]}
    config, digits = flags.parse_run(["run", *last.values()]), data.load("digits")
    memory.check(config, digits, build.build(config.training, digits))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden_dim=1000000"], "Parameters, optimizers and data take"),
        (["--model=sbn", "--layers=1000000,1000000"], "Parameters, optimizers and data take"),
        (["--eval_chains=1000000000"], "--eval_chains=1000000000: the chains of one image"),
    ],
)
def test_networks_and_chains_that_fit_nowhere_are_refused(arguments, message, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main("--dataset=digits", *arguments, f"--workdir={folder}") == 2
    error = capsys.readouterr().err
    assert message in error
    assert "GiB can be had" in error
    assert not folder.exists()


def test_a_container_has_what_its_limit_says(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_LIMITS", (str(limit), "/nowhere/at/all"))
    limit.write_text("max\n", encoding="utf-8")
    free = memory.available()
    total = pathlib.Path("/proc/meminfo")
    if total.exists():
        kib = int(total.read_text(encoding="ascii").split()[1])
        assert 2**20 < free <= 2**10 * kib + 2**40
    limit.write_text("1000000\n", encoding="utf-8")
    assert memory.available() == 1_000_000
