"""Batches in ordered blocks: the same bits on 2, 4 and 8 devices. In processes of its own."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest

from aiwae_jax import data, methods, train
from aiwae_jax.parallel import sharding
from aiwae_jax.train import blocks, program

ROOT = pathlib.Path(__file__).parent.parent
# Trains in 8 blocks, or in as many parts as there are devices ("none"), and writes what came out.
CODE = """
import sys
import jax, linear_gaussian as lg, numpy as np
from aiwae_jax import data, methods, train
from aiwae_jax.train import program

path, num_blocks, name = sys.argv[1:]
draw = jax.vmap(lambda key: lg.sample(key, lg.params().theta)[0])
rows = np.array(draw(jax.random.split(jax.random.key(0), 100)))
rows[7] = 1e30  # a datum whose objective is not finite, in one of the blocks
dataset = data.from_arrays(rows[:90], rows[90:])
build = {"aiwae": lambda model: methods.aiwae(model, 4, 4, 2), "persistent": methods.persistent}
settings = train.Settings(
    epochs=3, batch_size=16, ordered_blocks=None if num_blocks == "none" else int(num_blocks)
)
built = program.build(build[name](lg.model()), lg.model(), dataset, settings)
state = built.init()
for _ in range(3):
    state = built.run_steps(state, built.legs[0].steps_per_epoch)
leaves = jax.tree_util.tree_flatten_with_path(state)[0]
found = {jax.tree_util.keystr(k, simple=True, separator="."): np.asarray(v) for k, v in leaves}
np.savez(path, mesh=built.mesh, **found)
"""


def trained(folder, num_devices, num_blocks=8, name="aiwae"):
    path = folder / f"{num_devices}.npz"
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(num_devices),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    subprocess.run(
        [sys.executable, "-c", CODE, str(path), str(num_blocks), name], env=environment, check=True
    )
    return dict(np.load(path))


def different(one, other):
    return {n for n in one if n != "mesh" and not np.array_equal(one[n], other[n], equal_nan=True)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aiwae", "persistent"])
def test_two_four_and_eight_devices_give_the_same_bits(name, tmp_path):
    """Parameters, optimizers, step sizes, latents that are kept, and all diagnostics."""
    two = trained(tmp_path, 2, name=name)
    assert two["totals.theta.num_nonfinite_objective"] > 0
    for num_devices in (4, 8):
        found = trained(tmp_path, num_devices, name=name)
        assert str(found["mesh"]) == f"data:{num_devices}"
        assert not different(found, two)


@pytest.mark.slow
def test_without_blocks_they_differ(tmp_path):
    """Or the test above could not fail: parameters, or the averages that they are moved by."""
    two, eight = (trained(tmp_path, number, num_blocks="none") for number in (2, 8))
    assert any(name.startswith("train.") for name in different(eight, two))


@pytest.mark.slow
def test_the_command_gives_the_same_bits_on_a_single_device(tmp_path):
    """Which it makes two."""

    def parameters_on(num_devices):
        folder = tmp_path / str(num_devices)
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(num_devices)}
        options = ["--dataset=digits", "--method=aiwae", "--K=2", "--T=3", "--L=2", "--epochs=0.2"]
        options += ["--latent_dim=2", "--hidden_dim=4", "--eval=none", "--batch_size=64"]
        options += ["--ordered_blocks=8", f"--workdir={folder}"]
        subprocess.run(
            [sys.executable, "-m", "experiments.run", *options],
            env=environment,
            cwd=ROOT,
            check=True,
        )
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(train.load(folder).params)]

    assert parameters_on(1) == parameters_on(4)


def gradient_and_info(num_blocks, batch_size=16):
    method = methods.aiwae(lg.model(), 4, 4, 2)
    optimizers = train.adam(1e-2)
    cut = num_blocks and train.Blocks(num_blocks, sharding.make_mesh(1))
    step = train.make_train_step(method, optimizers, blocks=cut)
    draw = jax.vmap(lambda key: lg.sample(key, lg.params().theta)[0])
    batch = draw(jax.random.split(jax.random.key(0), batch_size))
    state = train.init_state(jax.random.key(0), lg.model(), method, optimizers)
    return step(jax.random.key(1), state, batch)


@pytest.mark.slow
def test_blocks_are_the_same_step_up_to_the_order_of_sums():
    whole, cut = gradient_and_info(None), gradient_and_info(4)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(cut), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("number", [1, 2, 3, 5, 8, 12])
def test_a_tree_adds_all_parts_and_a_mean_is_of_the_blocks_that_have_one(number):
    parts = jnp.arange(1.0, number + 1.0)
    assert float(blocks._sum(parts)) == number * (number + 1) / 2
    gaps = parts.at[0].set(jnp.nan)
    mean = float(blocks._mean(gaps))
    expected = np.mean(np.arange(2, number + 1)) if number > 1 else np.nan
    np.testing.assert_allclose(mean, expected, rtol=1e-6)


def test_what_is_not_cut_evenly_is_refused():
    with pytest.raises(ValueError, match="`ordered_blocks`=8 must divide `batch_size`=20"):
        train.Settings(batch_size=20, ordered_blocks=8)
    with pytest.raises(ValueError, match="`ordered_blocks` is of one seed by itself"):
        train.Settings(batch_size=16, ordered_blocks=8, num_repeats=2)
    cut = train.Blocks(8, jax.sharding.AbstractMesh((3, 1), sharding.AXES))
    with pytest.raises(ValueError, match="The 3 devices over the data must divide"):
        cut.check(24)
    cut = train.Blocks(8, jax.sharding.AbstractMesh((2, 2), sharding.AXES))
    with pytest.raises(ValueError, match="a mesh over particles would split"):
        cut.check(24)
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    dataset = data.from_arrays(rows[:32], rows[32:])
    legs = [train.Leg(methods.vae(lg.model()), 1.0, 20)]
    with pytest.raises(ValueError, match=r"needs two devices or more, got 1: .*NUM_CPU_DEVICES=2"):
        program.build(
            methods.vae(lg.model()),
            lg.model(),
            dataset,
            train.Settings(epochs=1, batch_size=16, ordered_blocks=8),
        )
    with pytest.raises(ValueError, match="`ordered_blocks`=8 must divide `batch_size`=20"):
        program.build(legs, lg.model(), dataset, train.Settings(epochs=1, ordered_blocks=8))
