"""Every method with every posterior: those that combine run, the others say why not."""

import json

import numpy as np
import pytest
from test_run import TINY, main

from experiments import flags
from experiments.flags.methods import METHODS, POSTERIORS, WITHOUT_DENSITY

# Small sizes, of the flags that a method takes.
SMALL = {
    "num_particles": "--K=2",
    "num_temperatures": "--T=3",
    "num_leapfrog_steps": "--L=2",
    "num_moves": "--moves=2",
}
FAMILIES = {
    **{name: [f"--posterior={name}"] for name in POSTERIORS},
    "two_layer": ["--model=two_layer"],
}
VARIANTS = {
    **{name: [f"--method={name}"] for name in METHODS},
    "rws sleep": ["--method=rws", "--rws_phi=sleep"],
    "rws both": ["--method=rws", "--rws_phi=both"],
    "hvae learned": ["--method=hvae", "--tempering=learned"],
    "uha remat": ["--method=uha", "--remat"],
}


def arguments(variant, family):
    method = VARIANTS[variant][0].removeprefix("--method=")
    small = [flag for field, flag in SMALL.items() if field in METHODS[method].defaults]
    return [*TINY, *VARIANTS[variant], *FAMILIES[family], *small]


def is_admissible(variant, family):
    method = VARIANTS[variant][0].removeprefix("--method=")
    return not (family in WITHOUT_DENSITY and METHODS[method].needs_density)


GRID = [
    *((v, f) for v in METHODS for f in FAMILIES if is_admissible(v, f)),
    *((v, "normal") for v in VARIANTS if v not in METHODS),
]
# Each method and each family at least once; `vae` to `aiwae` with a normal are in test_run.
DIAGONAL = [
    *[("aiwae_wake", "full"), ("rws", "two_layer"), ("hoffman", "planar"), ("dreg", "iaf")],
    *[("stl", "full"), ("hvae", "normal"), ("hvi", "normal"), ("uha", "normal")],
]


@pytest.mark.parametrize(("variant", "family"), DIAGONAL)
def test_methods_and_posteriors_combine(variant, family, tmp_path, capsys):
    given = [*arguments(variant, family), f"--workdir={tmp_path}", "--eval=none", "--epochs=0.2"]
    assert main(*given) == 0
    assert main(*given) == 0  # finds its end: psi and all optimizers are restored
    assert "trained; --eval=none" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "family"), [pair for pair in GRID if pair not in DIAGONAL])
def test_every_admissible_pair_runs(variant, family, tmp_path):
    given = [*arguments(variant, family), f"--workdir={tmp_path}", "--eval=none", "--epochs=0.2"]
    assert main(*given) == 0


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_posterior_is_evaluated(family, tmp_path):
    """Which knows no method."""
    assert main(*arguments("dreg", family), f"--workdir={tmp_path}") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    for key in ("nll_test", "nvlb_test", "bidirectional_gap"):
        assert np.isfinite(report[key])


@pytest.mark.parametrize("family", WITHOUT_DENSITY)
@pytest.mark.parametrize("variant", ["rws", "rws sleep", "rws both", "aiwae_wake"])
def test_inadmissible_pairs_are_refused_with_the_reason(variant, family, tmp_path, capsys):
    assert not is_admissible(variant, family)
    assert main(*arguments(variant, family), f"--workdir={tmp_path}") == 2
    error = capsys.readouterr().err
    assert "needs log q at samples that q did not draw" in error
    assert "use --posterior=normal or full" in error
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--posterior=iaf", "--chain_space=latent"], "--chain_space=latent needs log q"),
        (["--posterior=iaf", "--eval_chain_space=latent"], "use --eval_chain_space=base"),
        (["--posterior=planar", "--eval=paper"], "use --eval_chain_space=base"),
        (["--model=two_layer", "--posterior=full"], "has a posterior of its own"),
        (["--flow_layers=2"], "--flow_layers belongs to --posterior=planar or iaf"),
        (["--moves=3"], "--moves does not belong to --method=aiwae"),
        (["--method=hoffman", "--K=2"], "hoffman uses one sample"),
        (["--method=dreg", "--T=5"], "--T does not belong to --method=dreg"),
        (["--method=iwae", "--chain_space=base"], "use one of aiwae, aiwae_wake, uha"),
        (["--epochs=0"], "--epochs must be positive"),
    ],
)
def test_flags_that_do_not_combine_are_refused(given, message):
    with pytest.raises(flags.UsageError, match=message):
        flags.parse_run(["run", "--dataset=digits", *given])


def test_flows_are_annealed_in_base_space_without_being_asked():
    config = flags.parse_run(["run", "--dataset=digits", "--posterior=iaf"])
    assert config.training.chain_space == "base"
    assert config.training.num_flow_layers == 2
    assert config.evaluation.chain_space == "base"


def test_epochs_stretch_the_stages(tmp_path):
    given = [*TINY, "--method=vae", "--epochs=1.5", "--eval=none", f"--workdir={tmp_path}"]
    assert main(*given) == 0
    assert (tmp_path / "checkpoints" / "33").exists()  # 1.5 epochs of 22 steps
    assert main(*given, "--stages=2") == 2  # would be another schedule
