"""The system of checks itself: lower bounds as versions, samples of grids."""

import pathlib
import re
import runpy

ROOT = pathlib.Path(__file__).parent.parent
pytest_plugins = "pytester"


def test_lower_bounds_are_those_of_setup():
    setup = (ROOT / "setup.py").read_text()
    found = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["lower_bounds"](setup)
    names = {requirement.split("==")[0] for requirement in found}
    assert names >= {"jax", "flax", "orbax-checkpoint", "pytest"}
    assert not names & {"torch", "sphinx", "tensorflow"}  # of extras that no test needs
    for requirement in found:
        name, version = requirement.split("==")
        assert re.search(rf'"{re.escape(name)}[>~]={re.escape(version)}"', setup)
        assert re.fullmatch(r"[\d.]+", version)


GRID = """
import pytest

@pytest.mark.grid
@pytest.mark.parametrize("i", range(10))
def test_grid(i): pass

@pytest.mark.grid
@pytest.mark.parametrize("i", range(3))
def test_other_grid(i): pass

@pytest.mark.parametrize("i", range(5))
def test_no_grid(i): pass
"""


def test_a_sample_takes_every_nth_of_each_grid_and_all_else(pytester):
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = grid")
    pytester.makepyfile(GRID)
    for every, count in ((1, 18), (4, 3 + 1 + 5)):
        result = pytester.inline_run(f"--sample={every}", "-p", "no:cacheprovider")
        passed, skipped, failed = result.listoutcomes()
        assert (len(passed), len(skipped), len(failed)) == (count, 0, 0)
        assert sum("test_no_grid" in report.nodeid for report in passed) == 5
