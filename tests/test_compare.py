"""Comparisons at equal cost: budgets, what is shared, what the table says."""

import csv

import pytest
from test_run import TINY

from aiwae_jax import data
from experiments import compare, flags

DIGITS = data.load("digits")


@pytest.mark.slow
@pytest.mark.by_hand
def test_equal_gradients_stretch_every_method_to_the_most_expensive():
    variants = compare.variants_of(
        ["vae", "iwae+K=50", "aiwae", "rws+rws_phi=both"],
        ["--dataset=digits", "--stages=2", "--T=5", "--K=2"],
        DIGITS,
    )
    cells = compare.cells_of(variants, ("epochs", "gradients"))
    costs = compare.gradients_per_image(variants)
    spent = {}
    for (name, budget), arguments in cells.items():
        training = flags.parse_run(["run", *arguments]).training
        spent[name, budget] = training.total_epochs * costs[name]
        if budget == "epochs":
            assert training.total_epochs == 4.0
    most = max(costs, key=costs.get)
    assert cells[most, "epochs"] == cells[most, "gradients"]
    for name in costs:
        assert spent[name, "gradients"] == pytest.approx(spent[most, "epochs"], rel=1e-5)
    its_own = flags.parse_run(["run", *cells["iwae+K=50", "epochs"]]).training
    assert its_own.num_particles == 50
    folders = [arguments[-1] for arguments in cells.values()]
    assert len(set(folders)) == 2 * len(costs) - 1


def test_unknown_methods_and_flags_are_refused():
    for name, message in (
        ("elbo", "--methods must be one of"),
        ("vae+K=7", "vae uses one sample"),
        ("iwae+T=7", "--T does not belong to --method=iwae"),
    ):
        with pytest.raises(flags.UsageError, match=message):
            compare.variants_of([name], ["--dataset=digits"], DIGITS)
    assert compare.main(["compare", "--eval=none"]) == 2
    assert compare.main(["compare", "--budgets=time"]) == 2


@pytest.mark.by_hand
@pytest.mark.slow
def test_comparison_is_written_and_continues_without_work(tmp_path, capsys):
    shared = [flag for flag in TINY if not flag.startswith("--dataset")]
    arguments = ["compare", f"--workdir={tmp_path}", "--methods=vae,iwae+K=3", *shared]
    assert compare.main(arguments) == 0
    out = tmp_path / "comparison"
    with (out / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted((row["at equal"], row["method"]) for row in rows) == [
        (budget, name) for budget in ("epochs", "gradients") for name in ("iwae+K=3", "vae")
    ]
    for row in rows:
        assert float(row["ms per step"]) > 0
        assert float(row["gradients per image"]) > 1
    assert "flags of all: --dataset=digits --stages=1" in (out / "comparison.md").read_text()
    assert (out / "comparison.png").read_bytes()[:4] == b"\x89PNG"
    capsys.readouterr()
    assert compare.main([*arguments, "--dry_run"]) == 0
    assert "0 of" in capsys.readouterr().out
