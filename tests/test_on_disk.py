"""Rows that stay on disk: what is read, what is refused, and that a run of them is the same run."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from aiwae_jax import data, methods, models, train
from aiwae_jax.data import on_disk
from aiwae_jax.train import feed, program

ROOT = pathlib.Path(__file__).parent.parent


def numbers(num=90, kind="bits"):
    chance = np.random.default_rng(0)
    return {
        "bits": chance.integers(0, 2, (num, 8)),  # of int64, which become bytes
        "levels": chance.integers(0, 256, (num, 4, 2)).astype(np.uint8),
        "real": chance.normal(size=(num, 8)),
        "gaps": np.where(chance.random((num, 8)) < 0.1, np.nan, chance.normal(size=(num, 8))),
    }[kind]


def save(folder, rows, num_files=1):
    """One file, or a folder of shards."""
    if num_files == 1:
        np.save(folder / "rows.npy", rows)
        return folder / "rows.npy"
    (folder / "shards").mkdir()
    for i, part in enumerate(np.array_split(rows, num_files)):
        np.save(folder / "shards" / f"{i}.npy", part)
    return folder / "shards"


@pytest.mark.parametrize("num_files", [1, 3])
@pytest.mark.parametrize("kind", ["bits", "levels", "real", "gaps"])
def test_rows_on_disk_are_those_in_memory_and_so_is_all_that_is_said_of_them(
    kind, num_files, tmp_path, monkeypatch
):
    monkeypatch.setattr(on_disk, "_CHUNK_BYTES", 300)  # some rows at once
    path = save(tmp_path, numbers(kind=kind), num_files)
    missing = "at_random" if kind == "gaps" else None
    loaded = data.from_file(path, missing=missing, in_memory=True)
    left = data.from_file(path, missing=missing, in_memory=False)
    for part in ("train", "test"):
        rows, whole = getattr(left, part), getattr(loaded, part)
        assert isinstance(rows, on_disk.Rows)
        assert (rows.shape, rows.dtype, rows.nbytes) == (whole.shape, whole.dtype, whole.nbytes)
        np.testing.assert_array_equal(rows[:], whole)
        np.testing.assert_array_equal(rows[-1], whole[-1])
        np.testing.assert_array_equal(rows[[5, 0, 5, 2]], whole[[5, 0, 5, 2]])
        np.testing.assert_array_equal(rows.take(np.array([7, 3, 9]))[1:], whole[[3, 9]])
    np.testing.assert_allclose(left.mean_image(), loaded.mean_image(), rtol=1e-6)
    rows = np.asarray(loaded.train, np.float64)
    np.testing.assert_allclose(left.train.moments[1], np.nanstd(rows, axis=0), rtol=1e-5)
    there, here = (dataset.describe() for dataset in (loaded, left))
    differ = {name for name in there if there[name] != here[name]}
    assert differ == {"source", "origin"}
    assert "left on disk" in left.source
    assert not data.reload(here).differences(there)
    assert isinstance(data.reload(here).train, on_disk.Rows)


def test_what_is_larger_than_a_share_of_the_memory_is_left_on_disk(tmp_path, monkeypatch):
    path = save(tmp_path, numbers())
    assert isinstance(data.from_file(path).train, np.ndarray)
    monkeypatch.setattr(on_disk, "memory", lambda: 4 * path.stat().st_size - 4)
    assert isinstance(data.from_file(path).train, on_disk.Rows)
    assert isinstance(data.from_file(path, in_memory=True).train, np.ndarray)


def refusal(path, **options):
    with pytest.raises(data.DataError) as caught:
        data.from_file(path, in_memory=False, **options)
    return str(caught.value)


def test_what_cannot_be_read_row_by_row_is_refused_by_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "_CHUNK_BYTES", 300)
    rows = numbers(kind="real")
    rows[71, 3] = np.nan
    path = save(tmp_path, rows)
    assert "row 71, column 3: the value is missing, and missing or infinite" in refusal(path)
    np.save(path, np.asfortranarray(numbers(kind="real")))
    assert "column by column" in refusal(path)
    np.save(path, numbers(kind="real") * 1e9)
    assert "save as float32" in refusal(path)
    np.save(path, np.zeros((20, 3)))
    assert "must not be blank" in refusal(path)
    assert "`label`='y'" in refusal(path, label="y")
    np.save(path, numbers())
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    assert "it is truncated or corrupt" in refusal(path)
    path.write_bytes(b"no array")
    assert "cannot be read" in refusal(path)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n3,4\n")
    assert "is of .npy files" in refusal(tmp_path / "table.csv")
    shards = save(tmp_path, numbers(), 2)
    np.save(shards / "9.npy", numbers(kind="real"))
    assert "must hold rows like those of" in refusal(shards)


def test_what_wants_all_rows_at_once_is_refused_and_a_file_must_stay_as_it_is(tmp_path):
    path = save(tmp_path, numbers())
    rows = data.from_file(path, in_memory=False).train
    with pytest.raises(data.DataError, match=r"All 72 rows of .* Take some of them, rows\[:1000\]"):
        np.asarray(rows)
    with pytest.raises(IndexError, match=r"0 \.\. 71"):
        rows[[72]]
    os.truncate(path, 200)
    with pytest.raises(data.DataError, match="has become shorter"):
        rows[:]


def fit(folder, path, *, in_memory, method=None, **options):
    dataset = data.from_file(path, in_memory=in_memory)
    model = models.bernoulli_vae(8, 2, hidden_sizes=(4,), initialization="torch")
    method = (method or methods.vae)(model)
    options = {"epochs": 3, "batch_size": 10, "validation_share": 0.2} | options
    return train.fit(method, model, dataset, folder, **options)


def assert_same(run, other):
    for one, two in zip(jax.tree.leaves(run.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_array_equal(one, two)


def assert_same_up_to_rounding(run, other):
    """After 15 steps: the programs are two, and XLA may fuse them otherwise."""
    for one, two in zip(jax.tree.leaves(run.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_run_on_rows_on_disk_takes_the_steps_of_one_in_memory_and_resumes_to_the_bit(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(feed, "_BUFFER_BYTES", 3 * 80)  # of 5 steps of an epoch the first three
    path = save(tmp_path, numbers(), 2)
    loaded = fit(tmp_path / "loaded", path, in_memory=True)
    left = fit(tmp_path / "left", path, in_memory=False)
    assert_same_up_to_rounding(left, loaded)
    other = fit(tmp_path / "other", path, in_memory=False, seed=1)
    with pytest.raises(AssertionError):  # or rows in any order would do
        assert_same_up_to_rounding(other, left)

    class Stop(train.Callback):
        def on_chunk(self, moment):
            if moment.step >= 2:
                raise KeyError("stop")

    with pytest.raises(KeyError):
        fit(tmp_path / "run", path, in_memory=False, callbacks=[Stop()])
    assert_same(fit(tmp_path / "run", path, in_memory=False), left)
    # Where the rows are is no part of what a run is.
    assert fit(tmp_path / "left", path, in_memory=True).num_steps == left.num_steps


@pytest.mark.slow
def test_what_a_persistent_chain_keeps_of_a_row_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "_BUFFER_BYTES", 2 * 80)
    path = save(tmp_path, numbers())

    def method(model):
        return methods.persistent(model, num_leapfrog_steps=2, restart_every=2)

    loaded = fit(tmp_path / "loaded", path, in_memory=True, method=method)
    assert_same_up_to_rounding(fit(tmp_path / "left", path, in_memory=False, method=method), loaded)


def test_seeds_side_by_side_are_refused(tmp_path):
    path = save(tmp_path, numbers())
    dataset = data.from_file(path, in_memory=False)
    model = models.bernoulli_vae(8, 2, hidden_sizes=(4,), initialization="torch")
    settings = train.Settings(epochs=1, batch_size=10, num_repeats=2)
    with pytest.raises(ValueError, match="each seed goes through them in its own order"):
        program.build(methods.vae(model), model, dataset, settings)


# Trains once, limits its own address space to what it then has and three quarters of a file's size,
# and trains on the rows of the file.
LIMITED = """
import os, resource, sys
import jax, numpy as np
from aiwae_jax import data, methods, models, train

path, folder, is_in_memory = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
model = models.bernoulli_vae(1024, 2, hidden_sizes=(4,), initialization="torch")

small = data.from_arrays(np.eye(64, 1024, dtype=np.uint8), np.eye(8, 1024, dtype=np.uint8))
options = {"epochs": 1, "batch_size": 32}
train.fit(methods.vae(model), model, small, folder + "-small", **options)
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
limit = now + os.path.getsize(path) * 3 // 4
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
options["batch_size"] = 4096
dataset = data.from_file(path, in_memory=is_in_memory, test_share=0.01)
run = train.fit(methods.vae(model), model, dataset, folder, **options)
print(run.num_steps, all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.params)))
"""


@pytest.mark.slow
@pytest.mark.by_hand
def test_data_larger_than_the_address_space_that_is_left_are_trained_on(tmp_path):
    """A file of 0.5 GB, and three quarters of that to be had beside what the program has."""
    num, path = 2**19, tmp_path / "large.npy"
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(num, 1024))
    rows[:, :8] = 1  # the rest is a hole in the file
    rows[::3, 8:16] = 1
    rows.flush()
    del rows

    def trained(in_memory):
        return subprocess.run(
            [sys.executable, "-c", LIMITED, path, tmp_path / f"run-{in_memory}", str(in_memory)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "2"},
            check=False,
        )

    try:
        found = trained(in_memory=False)
        assert found.returncode == 0, found.stderr
        assert found.stdout.splitlines()[-1] == f"{round(0.99 * num) // 4096} True"
        assert trained(in_memory=True).returncode != 0  # or the limit would be none
    finally:
        path.unlink()
