"""Tests of `--curriculum`: what is read, what is written, and what is refused in one line."""

import dataclasses
import json

import pytest
from test_run import TINY, main

from experiments import build, flags

GIVEN = [flag for flag in TINY if not flag.startswith("--stages")]


def parse(*arguments):
    return flags.parse_run(["run", "--dataset=digits", *arguments]).training


@pytest.mark.parametrize(
    "given",
    [
        ["--curriculum=vae:0.3,aiwae+K=1+T=5:0.5,aiwae+K=5+T=11:0.2", "--epochs=10"],
        [
            "--curriculum=vae+batch_size=64:0.5,aiwae+K=1+T=5:0.5",
            "--epochs=3",
            "--chain_space=base",
        ],
        [
            "--curriculum=vae:0.333333333,iwae+K=2:0.333333333,aiwae+K=1+T=5:0.333333334",
            "--epochs=3",
        ],
        ["--curriculum=uha+remat=true:1.0", "--epochs=3"],
        ["--curriculum=vae:0.8,persistent+restart_every=4:0.2", "--epochs=10"],
        ["--curriculum=vae:0.5, aiwae:0.5", "--epochs=3"],
        ["--curriculum=vimco:.5,aiwae:.5", "--model=sbn", "--epochs=2"],
    ],
)
@pytest.mark.slow
@pytest.mark.by_hand
def test_a_curriculum_is_the_same_when_it_is_read_again(given):
    training = parse(*given)
    again = flags.arguments_of({"training": dataclasses.asdict(training)})
    assert parse(*again) == training


def test_each_leg_has_its_own_options_and_those_that_it_takes_of_all():
    training = parse(
        *("--curriculum=vae+batch_size=64:0.5,aiwae+K=1+T=5:0.25,iwae:0.25", "--epochs=8"),
        *("--chain_space=base", "--K=3"),
    )
    legs = [
        (own.method, own.num_particles, own.num_temperatures, own.chain_space, own.batch_size)
        for own, _ in build.legs_of(training)
    ]
    assert legs == [
        ("vae", 1, None, "latent", 64),
        ("aiwae", 1, 5, "base", 32),
        ("iwae", 3, None, "latent", 32),
    ]
    assert build.total_steps(training, 1438) == 4 * 22 + 2 * 44 + 2 * 44


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--curriculum=vae:0.3,aiwae:0.5", "--epochs=2"], "the shares must sum to 1, got 0.8"),
        (["--curriculum=vae:1"], "--curriculum shares the --epochs of the run"),
        (["--curriculum=vae,aiwae:1", "--epochs=2"], "must be like vae:0.3,aiwae+K=1+T=5:0.7"),
        (["--curriculum=gan:1", "--epochs=2"], "the method must be one of vae, iwae"),
        (["--curriculum=vae+T=4:1", "--epochs=2"], "--T does not belong to --method=vae"),
        (["--curriculum=vae+Q=4:1", "--epochs=2"], "a flag of vae must be one of K, T, L"),
        (["--curriculum=aiwae+T=x:1", "--epochs=2"], "'x' is no value of --T"),
        (["--curriculum=uha+remat=yes:1", "--epochs=2"], "'yes' is no value of --remat"),
        (["--curriculum=aiwae+K=1+K=2:1", "--epochs=2"], "K is given twice in 'aiwae+K=1+K=2:1'"),
        (["--curriculum=aiwae+K:1", "--epochs=2"], "K of 'aiwae+K:1' must be like K=1"),
        (["--curriculum=xyz"], "must be like vae:0.3,aiwae+K=1+T=5:0.7"),
        (["--curriculum=aiwae+T=1:1", "--epochs=2"], "--T must be at least 2, got 1"),
        (["--curriculum=vae:1", "--epochs=2", "--T=5"], "--T belongs to no method of --curriculum"),
        (["--curriculum=vae:1", "--epochs=2", "--method=vae"], "leave --method out"),
        (
            ["--curriculum=vae:.5,aiwae+batch_size=30:.5", "--epochs=2", "--mesh=data:4"],
            "data:4 must",
        ),
    ],
)
def test_what_is_none_is_one_line(given, message):
    with pytest.raises(flags.UsageError) as caught:
        parse(*given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.by_hand
@pytest.mark.slow
def test_a_curriculum_runs_to_a_report_that_says_so(tmp_path, capsys):
    legs = "vae:0.5,aiwae+K=1+T=3+L=1:0.5"
    given = [*GIVEN, f"--curriculum={legs}", "--epochs=1", f"--workdir={tmp_path}", "--ema=0.9"]
    assert main(*given, "--optimizer=muon", "--lr_schedule=linear") == 0
    out = capsys.readouterr().out
    assert "cost: " in out
    assert "vae 0.5 x " in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert [leg["method"] for leg in report["cost"]["legs"]] == ["vae", "aiwae"]
    page = (tmp_path / "report.html").read_text()
    assert legs in page
    assert "exponential average (decay 0.9)" in page
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["leg"] for record in records] == [0, 1]
