"""The fault harness: slow, because every test has real processes that train."""

import pathlib

import harness
import pytest

FOLDER = pathlib.Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """The folder of a run that nothing happened to; tests that write work on a copy."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    code, _, err = harness.finish(folder)
    assert code == 0, err
    return folder
