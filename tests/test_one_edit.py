"""A new option is one field and its use, a new method one function: shown by adding one of each."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from test_run import TINY

ROOT = pathlib.Path(__file__).parents[1]
FIELD = """    damping: float | None = option(None, above=0, help="Damps the bound of a method.")
"""
METHOD = '''

@_method
def damped(model: Model, num_particles: int = 2, damping: float = 0.5) -> Method:
    """IWAE whose bound counts for less."""
    bound = objectives.bound()
    less = bound._replace(value=lambda params, drawn: damping * bound.value(params, drawn))
    return (phase(("theta", "phi"), samplers.importance(model, num_particles), less),)
'''


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the sources with the two edits."""
    copy = tmp_path_factory.mktemp("tree")
    for package in ("aiwae_jax", "experiments"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, copy / package, ignore=skip)
    settings, methods = copy / "aiwae_jax/cli/settings.py", copy / "aiwae_jax/methods.py"
    before, head, after = settings.read_text().partition(
        '    """A method, a model, and how they are trained."""\n'
    )
    assert head
    settings.write_text(before + head + FIELD + after)
    methods.write_text(methods.read_text() + METHOD)
    return copy


def run(tree, *arguments):
    environment = os.environ | {"PYTHONPATH": str(tree), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.by_hand
@pytest.mark.slow
def test_both_are_in_the_help_the_report_and_the_table(tree):
    said = " ".join(run(tree, "experiments.run", "--help").split())
    assert "--damping Damps the bound of a method. Default 0.5 for damped." in said
    assert "tang_annealed, raiko, damped" in said
    assert "--damping" in run(tree, "aiwae_jax.cli.main", "fit", "--help")

    given = [flag for flag in TINY if not flag.startswith("--eval_simulated")]
    given += ["--eval_simulated=0", "--method=damped", "--damping=0.25", "--epochs=0.1"]
    out = run(tree, "experiments.run", *given)
    assert "damping=0.25" in out
    (folder,) = (tree / "runs").iterdir()
    assert "damped-K2-" in folder.name
    assert "damping0.25" in folder.name
    report = json.loads((folder / "report.json").read_text())
    assert report["config"]["training"]["damping"] == 0.25
    page = (folder / "report.html").read_text()
    assert "--damping=0.25" in page

    table = run(tree, "experiments.table", "--workdir=runs")
    assert "K=2 DAMPED damping=0.25 b64" in " ".join(table.split())
