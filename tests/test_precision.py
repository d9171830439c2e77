"""Checkpoints that were saved with JAX_ENABLE_X64 in the other position."""

import contextlib
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_run import METHODS, ROOT, TINY, main

from aiwae_jax.runs import checkpoint

VALUES = np.array([0.1, -2.5, 1e-30])


@contextlib.contextmanager
def x64(is_on):
    """Globally, because Orbax reads in threads of its own."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", is_on)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def tree(scale=1.0):
    """Parameters as this process makes them, a counter, and a key that is 32 bits anywhere."""
    return {
        "w": jnp.asarray(scale * VALUES, float),
        "count": jnp.asarray(7, int),
        "key": jnp.arange(2, dtype=jnp.uint32),
    }


def save(folder, is_on, step=1, *, is_of_an_earlier_version=False):
    with x64(is_on):
        checkpoints = checkpoint.Checkpoints(folder)
        checkpoints.save(step, tree(), {"note": "x"})
        checkpoints.close()
    if is_of_an_earlier_version:
        path = folder / str(step) / "content" / "metadata"
        content = json.loads(path.read_text())
        del content["arrays"]
        path.write_text(json.dumps(content))
        (folder / f".{step}.sha256.json").unlink()


@pytest.mark.parametrize("is_of_an_earlier_version", [False, True])
@pytest.mark.parametrize("saved_with", [False, True])
def test_what_was_saved_with_the_other_width_is_cast_and_said(
    saved_with, is_of_an_earlier_version, tmp_path
):
    save(tmp_path, saved_with, is_of_an_earlier_version=is_of_an_earlier_version)
    position = "off" if saved_with else "on"
    with x64(not saved_with):
        checkpoints = checkpoint.Checkpoints(tmp_path, is_owner=True)
        with pytest.warns(UserWarning, match=f"X64 is {position}; 2 of its arrays are cast"):
            restored, facts = checkpoints.restore(tree(9.0))
        assert facts == {"note": "x"}
        assert {name: leaf.dtype for name, leaf in restored.items()} == {
            name: leaf.dtype for name, leaf in tree().items()
        }
        np.testing.assert_array_equal(restored["w"], VALUES.astype(np.float32))
        assert restored["count"] == 7
        advice = f"start it with JAX_ENABLE_X64={int(saved_with)}"
        with pytest.raises(checkpoint.CheckpointError, match=advice):
            checkpoints.restore(tree(), is_exact=True)
    names = [path.name for path in tmp_path.iterdir() if path.is_dir()]
    assert names == ["1"]  # nothing was moved aside
    with x64(saved_with):
        restored, _ = checkpoint.Checkpoints(tmp_path).restore(tree(9.0), is_exact=True)
        np.testing.assert_array_equal(restored["w"], tree()["w"])


@pytest.mark.parametrize("is_of_an_earlier_version", [False, True])
def test_damage_is_damage_in_either_width(is_of_an_earlier_version, tmp_path):
    for step in (1, 2):
        save(tmp_path, False, step, is_of_an_earlier_version=is_of_an_earlier_version)
    path = tmp_path / "2" / "content" / "metadata"
    content = json.loads(path.read_text())
    content["sha256"]["w"] = "0" * 64
    path.write_text(json.dumps(content))
    (tmp_path / ".2.sha256.json").unlink(missing_ok=True)  # it would say so first
    for is_on in (False, True):
        with x64(is_on), pytest.warns(UserWarning, match="checkpoint") as caught:
            restored, _ = checkpoint.Checkpoints(tmp_path).restore(tree(9.0))
        texts = [str(each.message) for each in caught]
        assert "/2 is damaged (w: not what was written)" in texts[0]
        assert ("/1 was saved with" in texts[-1]) == is_on
        np.testing.assert_array_equal(restored["w"], VALUES.astype(np.float32))


def test_a_checkpoint_of_other_shapes_is_of_another_model_and_not_damaged(tmp_path):
    save(tmp_path, False)
    other = tree() | {"w": jnp.zeros(4)}
    with pytest.raises(checkpoint.CheckpointError, match="another method, model or version"):
        checkpoint.Checkpoints(tmp_path).restore(other)


def test_a_dtype_that_no_switch_makes_is_named(tmp_path):
    save(tmp_path, False)
    half = tree() | {"w": jnp.zeros(3, jnp.bfloat16)}
    with pytest.warns(UserWarning, match="with w in float32, which is bfloat16 in this process; 1"):
        restored, _ = checkpoint.Checkpoints(tmp_path).restore(half)
    np.testing.assert_array_equal(restored["w"], jnp.asarray(VALUES, jnp.bfloat16))
    with pytest.raises(checkpoint.CheckpointError, match="the dtype that it was trained in"):
        checkpoint.Checkpoints(tmp_path).restore(half, is_exact=True)


@pytest.mark.slow
@pytest.mark.by_hand
def test_a_run_is_measured_in_the_other_width_and_trained_in_its_own(tmp_path):
    folder = tmp_path / "run"
    assert main(*TINY, *METHODS["aiwae"], f"--workdir={folder}") == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def with_x64(module, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", f"experiments.{module}", *arguments, f"--workdir={folder}"],
            env=os.environ | {"JAX_ENABLE_X64": "1"},
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert "Traceback" not in done.stderr
        assert "damaged" not in done.stderr
        return done

    tiny = [flag for flag in TINY if not flag.startswith("--stages")]
    done = with_x64("run", *tiny, *METHODS["aiwae"], "--stages=2")
    assert done.returncode == 1
    assert "because JAX_ENABLE_X64 is on. Training continues to the very bit" in done.stderr
    assert {path: path.read_bytes() for path in before if path.name != "config.json"} == {
        path: content for path, content in before.items() if path.name != "config.json"
    }
    evaluation = [flag for flag in TINY if flag.startswith("--eval")]
    done = with_x64("evaluate", *evaluation, "--eval_seed=1")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: ") == 1
    assert "because JAX_ENABLE_X64 is on; " in done.stderr
    assert np.isfinite(json.loads((folder / "report.json").read_text())["nll_test"])
