"""Several devices give what one gives, up to floating-point order. Runs in processes of its own."""

import os
import pathlib
import subprocess
import sys

import linear_gaussian as lg
import numpy as np
import pytest

from aiwae_jax import samplers
from aiwae_jax.parallel import sharding

ROOT = pathlib.Path(__file__).parent.parent
SAMPLER = samplers.importance(lg.model(), 3)
# Trains over meshes "DATAxPARTICLE", evaluates over all devices, and writes what came out.
CODE = """
import sys
import jax, linear_gaussian as lg, numpy as np, optax
from jax.tree_util import Partial
from aiwae_jax import evaluate, methods, train, types
from aiwae_jax.parallel import sharding

draw = jax.vmap(lambda key: lg.sample(key, lg.params().theta)[0])
batch = np.asarray(draw(jax.random.split(jax.random.key(0), 40)))
found = {}
for name in sys.argv[2:]:
    # Adam would hide a gradient of the wrong length, which is what a "!" asks for.
    factor = 8.0 if name.endswith("!") else 1.0
    optimizers = types.Params(*[optax.chain(optax.scale(factor), optax.sgd(0.01))] * 3)
    mesh = sharding.make_mesh(*map(int, name.rstrip("!").split("x")))
    method = tuple(
        phase._replace(sampler=sharding.over_particles(phase.sampler, mesh))
        for phase in methods.aiwae(lg.model(), 4, 4, 2, particle_chunk=2)
    )
    step = train.make_train_step(method, optimizers)
    run = train.make_run_steps(
        step, lambda k, x: x, num_examples=40, batch_size=8, sharding=sharding.over_data(mesh))
    each = sharding.replicated(mesh)
    key, data = jax.device_put((jax.random.key(1), batch), each)
    for num_steps in (1, 5):
        state = train.init_state(jax.random.key(0), lg.model(), method, optimizers)
        state = train.init_loop_state(step, state, lambda k, x: x, batch, 8)
        state = jax.device_put(state, each)
        if num_steps == 1:
            program = run.lower(key, state, data, 1).compile()
            found[f"{name} flops"] = program.cost_analysis()["flops"]
        state = run(key, state, data, num_steps)
        assert state.train.step.sharding.is_fully_replicated
        leaves = jax.tree.leaves(state)  # parameters, step sizes, and all diagnostics
        found[f"{name} {num_steps}"] = np.concatenate([np.ravel(a) for a in leaves])
target = evaluate.Target.of(lg.model(), lg.params())
found["log_likelihood"] = evaluate.log_likelihood(
    jax.random.key(2), target, batch,
    evaluate.Settings(num_temperatures=8, num_chains=2),
    plan=evaluate.Plan(np.linspace(0, 1, 8), np.full(6, 0.3), 0), chunk_size=8).log_likelihood
found["bound"] = evaluate.importance_bound(
    jax.random.key(3), target, batch, num_samples=50, chunk_size=8).bound
np.savez(sys.argv[1], **found)
"""
MESHES = ["8x1", "4x2", "4x1", "1x2"]


def results(num_devices, meshes, folder):
    path = folder / f"{num_devices}.npz"
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(num_devices),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    subprocess.run([sys.executable, "-c", CODE, str(path), *meshes], env=environment, check=True)
    return np.load(path)


@pytest.fixture(scope="module")
def one_and_eight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    return results(1, ["1x1"], folder), results(8, [*MESHES, "8x1!"], folder)


@pytest.mark.grid
@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize(("num_steps", "tolerance"), [(1, 1e-5), (5, 1e-4)])
def test_training_on_a_mesh_agrees_with_one_device(mesh, num_steps, tolerance, one_and_eight):
    one, eight = one_and_eight
    np.testing.assert_allclose(
        eight[f"{mesh} {num_steps}"], one[f"1x1 {num_steps}"], rtol=tolerance, atol=tolerance
    )


@pytest.mark.slow
def test_the_comparison_sees_a_gradient_that_the_devices_have_summed_too_often(one_and_eight):
    one, eight = one_and_eight
    assert not np.allclose(eight["8x1! 1"], one["1x1 1"], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_evaluation_on_eight_devices_agrees_with_one(one_and_eight):
    one, eight = one_and_eight
    for name in ("log_likelihood", "bound"):
        np.testing.assert_allclose(eight[name], one[name], rtol=1e-4)


@pytest.mark.slow
def test_data_and_particles_really_share_the_work(one_and_eight):
    """What one device computes, as the compiler counts it; the parameters' part is on each."""
    one, eight = one_and_eight
    whole = float(one["1x1 flops"])
    assert float(eight["1x2 flops"]) < 0.7 * whole
    assert float(eight["8x1 flops"]) < 0.3 * whole
    assert float(eight["4x2 flops"]) < 0.3 * whole


def test_meshes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="needs 1000000 devices"):
        sharding.make_mesh(1000, 1000)
    assert dict(sharding.largest_mesh(7).shape)["particle"] == 1


def test_one_device_along_the_particles_changes_nothing():
    assert sharding.over_particles(SAMPLER, sharding.make_mesh(1)) is SAMPLER


@pytest.mark.slow
@pytest.mark.by_hand
def test_the_command_line_runs_on_two_devices(tmp_path):
    """As a real process with a device per core, which is what users have."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
    flags = ["--dataset=digits", "--K=2", "--T=3", "--L=1", "--stages=1", "--latent_dim=2"]
    flags += ["--hidden_dim=4", "--batch_size=64", "--eval_examples=6", "--eval_temperatures=4"]
    flags += ["--eval_chains=2", "--eval_bound_samples=50", "--eval_simulated=4"]
    found = subprocess.run(
        [sys.executable, "-m", "experiments.run", *flags, f"--workdir={tmp_path}"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "over a mesh data:2 of 2 x cpu" in found.stdout
    assert "bidirectional gap" in found.stdout


@pytest.mark.slow
def test_one_device_for_each_core_that_may_be_used():
    """Under `taskset` two devices on one core would only wait for each other."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("the system pins no processes")
    script = (
        "import os\nos.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])\n"
        "from aiwae_jax.cli import devices\ndevices.configure()\n"
        "import jax\nprint(jax.device_count())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    out = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "1"
