"""Models of one's own from a file: a run's folder names the file and its SHA-256."""

import json
import pathlib

import chex
import numpy as np
import own_table
import pytest

import aiwae_jax
from aiwae_jax import methods, models, types
from aiwae_jax.runs import files

CODE = """
import dataclasses

import own_table


@dataclasses.dataclass
class Sizes:
    columns: int


def build(data_size):
    return own_table.factor_analysis(Sizes(data_size).columns)


def plain():
    return own_table.factor_analysis()


def by_mean(mean_image, data_size=None):
    assert mean_image.shape == (own_table.NUM_COLUMNS,)
    return own_table.factor_analysis()


def greedy(latent_size):
    pass


def nothing():
    pass
"""


@pytest.fixture
def path(tmp_path):
    written = tmp_path / "mine.py"
    written.write_text(CODE)
    return written


def test_a_model_from_a_file_is_trained_and_loaded_without_being_given(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = models.from_file("mine.py:build", data_size=own_table.NUM_COLUMNS)
    run = own_table.fit(tmp_path / "run", model=model, method=methods.iwae(model, 2), epochs=1)
    said = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert said["builder"] == "models.from_file"
    assert said["arguments"]["where"] == f"{path}:build"
    monkeypatch.chdir("/")
    loaded = aiwae_jax.load(tmp_path / "run")
    chex.assert_trees_all_equal(loaded.params, run.params)
    rows = own_table.table().test
    np.testing.assert_array_equal(loaded.encode(rows)[0], run.encode(rows)[0])
    # The same file goes on in the same folder, one that was changed does not.
    again = models.from_file(f"{path}:build", data_size=own_table.NUM_COLUMNS)
    own_table.fit(tmp_path / "run", model=again, method=methods.iwae(again, 2), epochs=1)
    path.write_text(CODE + "\n")
    with pytest.raises(files.WorkdirError, match=r"has changed, its SHA-256 begins with .*give it"):
        aiwae_jax.load(tmp_path / "run")
    changed = models.from_file(f"{path}:build", data_size=own_table.NUM_COLUMNS)
    with pytest.raises(files.WorkdirError, match="`model` was built otherwise"):
        own_table.fit(tmp_path / "run", model=changed, method=methods.iwae(changed, 2), epochs=1)
    path.unlink()
    with pytest.raises(files.WorkdirError, match=r"mine.py cannot be read \(No such file.*give it"):
        aiwae_jax.load(tmp_path / "run")
    given = aiwae_jax.load(tmp_path / "run", own_table.factor_analysis())
    chex.assert_trees_all_equal(given.params, run.params)


def test_a_function_is_given_what_it_asks_for(path):
    mean = np.zeros(own_table.NUM_COLUMNS)
    offered = {"data_size": own_table.NUM_COLUMNS, "mean_image": mean}
    for name, wanted in (("plain", set()), ("build", {"data_size"}), ("by_mean", set(offered))):
        model = models.from_file(f"{path}:{name}", **offered)
        assert isinstance(model, types.Model)
        arguments = model.built_by.arguments
        assert {key for key in offered if arguments[key] is not None} == wanted


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "greedy",
            "greedy in .* asks for `latent_size`; it may ask for data_size and mean_image only",
        ),
        ("by_mean", "`mean_image` must be given, for by_mean"),
        ("absent", "has no function absent"),
        ("a b", r"`where` must be FILE.py:FUNCTION, got"),
    ],
)
def test_functions_that_cannot_be_called_are_refused(path, name, message):
    with pytest.raises(ValueError, match=message):
        models.from_file(f"{path}:{name}", data_size=5)


def test_files_that_cannot_be_run_are_refused(path):
    with pytest.raises(TypeError, match=r"nothing in .* must return a `types.Model`, got NoneType"):
        models.from_file(f"{path}:nothing")
    path.write_text("import nowhere_to_be_found\n")
    with pytest.raises(ValueError, match=r"cannot be run .ModuleNotFoundError: No module named"):
        models.from_file(f"{path}:plain")
    with pytest.raises(ValueError, match=r"`where` must be FILE.py:FUNCTION, got 'mine.txt:build'"):
        models.from_file("mine.txt:build")
    with pytest.raises(ValueError, match="cannot be read"):
        models.from_file(f"{pathlib.Path('nowhere.py')}:build")
