"""Several devices give what one gives, up to floating-point order. Runs in processes of its own."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
CODE = """
import sys
import jax, linear_gaussian as lg, numpy as np, optax
from jax.tree_util import Partial
from aiwae_jax import evaluate, methods, sharding, train

method, optimizers = methods.aiwae(lg.model(), 3, 4, 2), train.adam(0.01)
over = sharding.over_data(8)
draw = jax.vmap(lambda key: lg.sample(key, lg.params().theta)[0])
batch = draw(jax.random.split(jax.random.key(0), 32))
step = train.make_train_step(method, optimizers)
run = train.make_run_steps(step, lambda k, x: x, num_examples=32, batch_size=8, sharding=over)
state = train.init_state(jax.random.key(0), lg.model(), method, optimizers)
state = train.init_loop_state(step, state, lambda k, x: x, batch, 8)
each = sharding.replicated(over)
state, batch = jax.device_put(state, each), jax.device_put(batch, each)
state = run(jax.device_put(jax.random.key(1), each), state, batch, int(sys.argv[2]))
params = np.concatenate([np.ravel(a) for a in jax.tree.leaves(state.train.params)])
found = evaluate.log_likelihood(
    jax.random.key(2), Partial(lg.log_joint, lg.params().theta),
    Partial(lg.posterior, lg.params().phi), np.asarray(batch),
    evaluate.Settings(num_temperatures=8, num_chains=2),
    plan=evaluate.Plan(np.linspace(0, 1, 8), np.full(6, 0.3), 0), chunk_size=8)
np.savez(sys.argv[1], params=params, log_likelihood=found.log_likelihood, used=over.num_devices)
"""


def results(num_devices, num_steps, folder):
    path = folder / f"{num_devices}-{num_steps}.npz"
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(num_devices),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    subprocess.run(
        [sys.executable, "-c", CODE, str(path), str(num_steps)], env=environment, check=True
    )
    return np.load(path)


@pytest.mark.slow
@pytest.mark.parametrize(("num_steps", "tolerance"), [(1, 1e-5), (4, 1e-4)])
def test_two_devices_agree_with_one(num_steps, tolerance, tmp_path):
    one, two = (results(n, num_steps, tmp_path) for n in (1, 2))
    assert one["used"] == 1
    assert two["used"] == 2
    np.testing.assert_allclose(two["params"], one["params"], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(two["log_likelihood"], one["log_likelihood"], rtol=1e-4)


@pytest.mark.slow
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
    assert "each batch over 2 of 2 x cpu" in found.stdout
    assert "bidirectional gap" in found.stdout


def test_one_device_for_each_core_that_may_be_used():
    """Under `taskset` two devices on one core would only wait for each other."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("the system pins no processes")
    script = (
        "import os\nos.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])\n"
        "from experiments import devices\ndevices.configure()\n"
        "import jax\nprint(jax.device_count())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    out = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "1"
