"""Every method with every posterior: those that combine run, the others say why not."""

import json

import numpy as np
import pytest
from test_run import TINY, main

from aiwae_jax import methods
from aiwae_jax.cli import completion
from aiwae_jax.cli.settings import BINARY, method_options
from aiwae_jax.models import flows
from experiments import flags

# Small sizes, of the flags that a method takes.
SMALL = {
    "num_particles": "--K=2",
    "num_temperatures": "--T=3",
    "num_leapfrog_steps": "--L=2",
    "num_moves": "--moves=2",
}
FAMILIES = {
    **{name: [f"--posterior={name}"] for name in flows.FAMILIES},
    "two_layer": ["--model=two_layer"],
}
OF_CONTINUOUS = completion.able_to_train({"model": "one_layer"})
VARIANTS = {
    **{name: [f"--method={name}"] for name in OF_CONTINUOUS},
    "rws sleep": ["--method=rws", "--rws_phi=sleep"],
    "rws both": ["--method=rws", "--rws_phi=both"],
    "hvae learned": ["--method=hvae", "--tempering=learned"],
    "uha remat": ["--method=uha", "--remat"],
}


def arguments(variant, family):
    method = VARIANTS[variant][0].removeprefix("--method=")
    small = [flag for field, flag in SMALL.items() if field in method_options(method)]
    return [*TINY, *VARIANTS[variant], *FAMILIES[family], *small]


def is_admissible(variant, family):
    method = VARIANTS[variant][0].removeprefix("--method=")
    return not (family in flows.FLOWS and method in ("rws", "aiwae_wake"))


GRID = [
    *((v, f) for v in OF_CONTINUOUS for f in FAMILIES if is_admissible(v, f)),
    *((v, "normal") for v in VARIANTS if v not in methods.BUILDERS),
]
# Each method and each family at least once; `vae` to `aiwae` with a normal are in test_run.
DIAGONAL = [
    *[("aiwae_wake", "full"), ("rws", "two_layer"), ("hoffman", "planar"), ("dreg", "iaf")],
    *[("persistent", "full")],
    *[("stl", "full"), ("hvae", "normal"), ("hvi", "normal"), ("uha", "normal")],
]


@pytest.mark.grid
@pytest.mark.slow
@pytest.mark.parametrize(("variant", "family"), DIAGONAL)
def test_methods_and_posteriors_combine(variant, family, tmp_path, capsys):
    given = [*arguments(variant, family), f"--workdir={tmp_path}", "--eval=none", "--epochs=0.2"]
    assert main(*given) == 0
    assert main(*given) == 0  # finds its end: psi and all optimizers are restored
    assert "trained; --eval=none" in capsys.readouterr().out


@pytest.mark.grid
@pytest.mark.slow
@pytest.mark.parametrize(("variant", "family"), [pair for pair in GRID if pair not in DIAGONAL])
def test_every_admissible_pair_runs(variant, family, tmp_path):
    given = [*arguments(variant, family), f"--workdir={tmp_path}", "--eval=none", "--epochs=0.2"]
    assert main(*given) == 0


@pytest.mark.grid
@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_posterior_is_evaluated(family, tmp_path):
    """Which knows no method."""
    assert main(*arguments("dreg", family), f"--workdir={tmp_path}") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    for key in ("nll_test", "nvlb_test", "bidirectional_gap"):
        assert np.isfinite(report[key])


@pytest.mark.slow
@pytest.mark.parametrize("family", flows.FLOWS)
@pytest.mark.parametrize("variant", ["rws", "rws sleep", "rws both", "aiwae_wake"])
def test_inadmissible_pairs_are_refused_with_the_reason(variant, family, tmp_path, capsys):
    assert not is_admissible(variant, family)
    assert main(*arguments(variant, family), f"--workdir={tmp_path}") == 2
    error = capsys.readouterr().err
    assert "needs log q at points that q did not draw" in error
    assert f"--posterior={family}" in error
    assert "; use one of vae, iwae, stl, dreg, aiwae, hoffman, persistent, hvae, hvi, uha." in error
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--posterior=iaf", "--chain_space=latent"], "--chain_space=latent needs log q"),
        (["--posterior=iaf", "--eval_chain_space=latent"], "--eval_chain_space=latent needs log q"),
        (["--posterior=planar", "--eval=paper"], "--eval_chain_space=latent needs log q"),
        (["--model=two_layer", "--posterior=full"], "has a posterior of its own"),
        (["--flow_layers=2"], "--flow_layers belongs to --posterior=planar or iaf"),
        (["--moves=3"], "--moves does not belong to --method=aiwae"),
        (["--method=hoffman", "--K=2"], "hoffman uses one sample"),
        (["--method=dreg", "--T=5"], "--T does not belong to --method=dreg"),
        (["--method=iwae", "--chain_space=base"], "use one of aiwae, aiwae_wake, persistent, uha"),
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


@pytest.mark.slow
@pytest.mark.by_hand
def test_epochs_stretch_the_stages(tmp_path):
    given = [*TINY, "--method=vae", "--epochs=1.5", "--eval=none", f"--workdir={tmp_path}"]
    assert main(*given) == 0
    assert (tmp_path / "checkpoints" / "33").exists()  # 1.5 epochs of 22 steps
    assert main(*given, "--stages=2") == 2  # would be another schedule


OF_BINARY = [
    (name, model) for model in BINARY for name in completion.able_to_train({"model": model})
]
BINARY_TINY = [flag for flag in TINY if not flag.startswith(("--latent_dim", "--hidden_dim"))] + [
    "--layers=6,4"
]


def binary_arguments(method, model):
    small = [flag for field, flag in SMALL.items() if field in method_options(method)]
    return [*BINARY_TINY, f"--method={method}", f"--model={model}", *small]


@pytest.mark.parametrize(
    ("method", "model"),
    [
        pytest.param("aiwae", "sbn", marks=pytest.mark.slow),
        pytest.param("vimco", "sbn", marks=[pytest.mark.slow, pytest.mark.by_hand]),
        pytest.param("tang_annealed", "conditional", marks=[pytest.mark.slow, pytest.mark.by_hand]),
    ],
)
def test_methods_of_binary_latents_run_to_a_report(method, model, tmp_path, capsys):
    given = [*binary_arguments(method, model), f"--workdir={tmp_path}"]
    assert main(*given) == 0
    out = capsys.readouterr().out
    assert ("lower half" in out) == (model == "conditional")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["evaluation"]["move"] == "langevin"
    assert np.isfinite(report["nll_test"])
    page = (tmp_path / "report.html").read_text()
    assert f"{model} 6,4 {method}" in page
    assert ("are of the lower half" in page) == (model == "conditional")
    found = flags.parse_run(["run", *flags.arguments_of(report["config"])])
    assert found.training == flags.parse_run(["run", *given]).training
    assert found.evaluation == flags.parse_run(["run", *given]).evaluation


@pytest.mark.grid
@pytest.mark.slow
@pytest.mark.parametrize(("method", "model"), OF_BINARY)
def test_every_method_of_binary_latents_trains(method, model, tmp_path):
    given = [*binary_arguments(method, model), f"--workdir={tmp_path}", "--eval=none"]
    assert main(*given, "--epochs=0.2") == 0
    assert main(*given, "--epochs=0.2") == 0


REFUSALS = {
    "its latents are binary and have none; use one of aiwae": ["--model=sbn", "--method=iwae"],
    "--method=hvae cannot train --model=sbn": ["--model=sbn", "--method=hvae"],
    "; use one of aiwae, aiwae_wake, rws, vimco, nvil.": ["--model=sbn", "--method=hvae"],
    "--method=vimco cannot train --model=one_layer": ["--method=vimco"],
    "needs --model=conditional": ["--model=sbn", "--method=tang"],
    "--K must be at least 2 for VIMCO, got 1; with one use `nvil`": [
        *("--model=sbn", "--method=vimco", "--K=1"),
    ],
    "--K must be at least 2 for 'G5'": ["--model=conditional", "--method=raiko", "--K=1"],
    "--latent_dim does not belong to --model=sbn; leave it out, or use one of one_layer, two": [
        *("--model=sbn", "--method=vimco", "--latent_dim=50"),
    ],
    "--layers does not belong to --model=one_layer": ["--method=iwae", "--layers=200"],
    "--layers must be positive numbers": ["--model=sbn", "--method=vimco", "--layers=a"],
    "--move=gibbs cannot move continuous latents": ["--method=aiwae", "--move=gibbs"],
    "--move does not belong to --method=vimco": [
        *("--model=sbn", "--method=vimco", "--move=gibbs"),
    ],
    "--chain_space=base moves the noise": ["--model=sbn", "--method=aiwae", "--chain_space=base"],
    "--eval_move=hmc cannot move binary latents": [
        *("--model=sbn", "--method=vimco", "--eval_move=hmc"),
    ],
    "--eval_move=gibbs cannot move continuous latents": [
        *("--method=vae", "--eval_move=gibbs"),
    ],
    "--eval=paper is HMC": ["--model=sbn", "--method=vimco", "--eval=paper"],
    "it needs --eval_chain_space=latent and --eval_persistence=0.0": [
        "--model=sbn",
        "--method=vimco",
        "--eval_persistence=0.5",
    ],
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_what_binary_or_continuous_latents_cannot_do_is_one_clear_line(reason, capsys):
    assert main(*REFUSALS[reason]) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert len(err.splitlines()) == 1


@pytest.mark.by_hand
@pytest.mark.slow
def test_moves_without_a_step_size_run_to_a_report(tmp_path):
    given = [*binary_arguments("aiwae", "sbn"), "--move=gibbs", "--eval_move=informed"]
    assert main(*given, f"--workdir={tmp_path}", "--epochs=0.5", "--layers=4") == 0
    assert (tmp_path / "acceptance.png").exists()


def test_a_preset_of_base_space_leaves_binary_latents_where_they_are():
    found = flags.parse_run(["run", "--model=sbn", "--method=aiwae", "--preset=best"]).training
    assert (found.chain_space, found.move, found.batch_size) == ("latent", "langevin", 32)
