"""Programs of an evaluation are compiled quickly on a CPU, and are programs of JAX all the same."""

import copy
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aiwae_jax.evaluate import compiling

ROOT = pathlib.Path(__file__).parent.parent
TRAINS_AND_SCORES = """
import jax, linear_gaussian as lg, numpy as np
from aiwae_jax import data, evaluate, methods, train
from aiwae_jax.train import program

rows = np.random.default_rng(0).normal(size=(60, lg.X)).astype(np.float32)
dataset = data.from_arrays(rows[:50], rows[50:])
settings = {"epochs": 2, "batch_size": 10, "validation_share": 0.2}
run = train.fit(methods.vae(lg.model()), lg.model(), dataset, "run", **settings)
found = run.log_likelihood(rows[50:], evaluate.Settings(num_temperatures=10, num_chains=4))
assert np.isfinite(found.log_likelihood).all()
"""


@pytest.mark.slow
def test_what_an_evaluation_compiles_serves_trainings_too(tmp_path):
    """Without the XLA flags of the tests, which choose a level of their own."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [ROOT, ROOT / "tests"]))
    command = [sys.executable, "-W", "ignore", "-c", TRAINS_AND_SCORES]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True)


def test_a_program_of_an_evaluation_is_one_of_jax_wherever_it_is_called(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    double = compiling.jit(static_argnames="times")(lambda x, times=2: times * x)
    assert float(double(3.0)) == 6.0
    assert float(double(3.0, times=3)) == 9.0
    x = jnp.arange(3.0)
    np.testing.assert_array_equal(jax.jit(lambda x: jax.lax.map(double, x))(x), 2.0 * x)
    np.testing.assert_array_equal(jax.vmap(double)(x), 2.0 * x)
    assert float(jax.grad(double)(1.0)) == 2.0
    assert jax.eval_shape(double, x).shape == (3,)
    assert copy.deepcopy(double)(1.0) == 2.0
    assert not hasattr(double, "anything_else")


ONCE = """
import jax, linear_gaussian as lg, numpy as np
from aiwae_jax import evaluate
from aiwae_jax.evaluate import programs

target = evaluate.Target.of(lg.model(), lg.params())
settings = evaluate.Settings(num_temperatures=30, num_chains=4)
evaluate.log_likelihood(jax.random.key(0), target, np.ones((8, lg.X), np.float32), settings)
assert len(jax.devices()) == 2
assert programs.anneal._cache_size() == 1
"""


@pytest.mark.slow
def test_segments_on_two_devices_are_one_program(tmp_path):
    """What the first one leaves on the devices is described as what it was given."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [ROOT, ROOT / "tests"]))
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ONCE], env=environment, cwd=tmp_path, check=True
    )
