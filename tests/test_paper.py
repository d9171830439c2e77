import pytest

from experiments import flags, paper, report


def test_all_168_numbers_are_there():
    tables = paper.tables()
    assert len(tables) == 24
    assert sum(len(metrics) for metrics in tables.values()) == 168


@pytest.mark.parametrize(
    ("cell", "metric", "mean"),
    [
        (paper.Cell("mnist", 1, "aiwae", 5), "nll_test", 84.55),
        (paper.Cell("mnist", 50, "aiwae", 11), "nll_test", 83.68),
        (paper.Cell("omniglot", 1, "iwae", None), "nvlb_test", 108.19),
        (paper.Cell("omniglot", 5, "aiwae", 8), "active_units", 50),
    ],
)
def test_numbers_are_the_papers(cell, metric, mean):
    assert paper.tables()[cell][metric][0] == mean


def training(*arguments):
    return flags.parse_run(["run", *arguments]).training


def test_report_finds_its_cell_and_only_its_own():
    found = report.paper_cell(training("--dataset=mnist", "--K=1", "--T=5"), False)
    assert found["nll_test"] == {"mean": 84.55, "std": 0.07}
    assert set(found) == set(report.METRICS)
    iwae = report.paper_cell(training("--dataset=mnist", "--method=iwae"), False)
    assert iwae["nll_test"]["mean"] == 85.17
    for arguments in (["--T=6"], ["--K=2"], ["--latent_dim=20"], ["--method=vae"]):
        assert report.paper_cell(training("--dataset=mnist", *arguments), False) is None
    assert report.paper_cell(training("--dataset=digits"), False) is None


def test_stand_in_gets_no_paper_numbers():
    assert report.paper_cell(training("--dataset=omniglot"), True) is None


def test_differences_name_what_differs():
    config = flags.parse_run(["run", "--dataset=mnist", "--batch_size=64", "--stages=2"])
    found = report.differences_from_paper(config.training, config.evaluation, 4.0, 10_000)
    text = "; ".join(found)
    assert "epochs: 4.0, paper 3280" in text
    assert "batch size: 64, paper 128" in text
    assert "evaluation temperatures: 1000, paper 10000" in text
    assert "leapfrog steps: 5" not in text
    full = flags.parse_run(["run", "--dataset=mnist", "--eval=paper", "--init=torch"])
    found = report.differences_from_paper(full.training, full.evaluation, 3280.0, 10_000)
    assert not any("temperatures" in line or "epochs" in line for line in found)
