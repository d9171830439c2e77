"""What `--ordered_blocks` costs: `python -m experiments.ordered` prints a table.

Seconds of a step by default and in blocks, on as many CPU devices as are asked for, each in a
process of its own; and whether all of them end with the same bits. On a machine that does nothing
else.
"""

import hashlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
from absl import app
from absl import flags as absl_flags

_DEVICES = absl_flags.DEFINE_list("devices", ["1", "2"], "Numbers of CPU devices.")
_BLOCKS = absl_flags.DEFINE_integer("blocks", 8, "Blocks of a batch.")
_BATCH = absl_flags.DEFINE_integer("batch", 128, "Data per step.")
_METHODS = absl_flags.DEFINE_list("methods", ["vae", "aiwae"], "Methods.")
_SECONDS = absl_flags.DEFINE_float("seconds", 20.0, "Of steps that are timed, in each process.")
_ONE = absl_flags.DEFINE_string("one", None, "METHOD:BLOCKS, of this process alone.")
_NUM_ROWS = 2048


def measure(method: str, num_blocks: int) -> tuple[float, str]:
    """Seconds of a step of the paper's model, and the SHA-256 of what two epochs have made."""
    import jax

    from aiwae_jax import data, methods, models, train
    from aiwae_jax.train import program

    rows = np.random.default_rng(0).integers(0, 256, (_NUM_ROWS + 10, 784)).astype(np.uint8)
    dataset = data.from_arrays(rows[:-10], rows[-10:], max_level=255)
    model = models.bernoulli_vae(784, 50, hidden_sizes=(200, 200), initialization="torch")
    options = {"aiwae": {"num_particles": 5, "num_temperatures": 5}}.get(method, {})
    settings = train.Settings(epochs=2, batch_size=_BATCH.value, ordered_blocks=num_blocks or None)
    built = program.build(methods.BUILDERS[method](model, **options), model, dataset, settings)
    state, per_epoch = built.init(), built.legs[0].steps_per_epoch
    for _ in range(2):
        state = built.run_steps(state, per_epoch)
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(state.train.params):
        digest.update(np.asarray(leaf).tobytes())
    seconds, began = [], time.monotonic()
    while time.monotonic() - began < _SECONDS.value:
        start = time.monotonic()
        state = jax.block_until_ready(built.run_steps(state, per_epoch))
        seconds.append((time.monotonic() - start) / per_epoch)
    return float(np.median(seconds)), digest.hexdigest()[:12]


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    del argv
    if _ONE.value:
        method, _, num_blocks = _ONE.value.partition(":")
        print(*measure(method, int(num_blocks)))
        return
    print("| method | devices | blocks | seconds a step | of the default | parameters |")
    print("|---|---|---|---|---|---|")
    for method, devices in itertools.product(_METHODS.value, _DEVICES.value):
        usual = None
        for num_blocks in (0, _BLOCKS.value):
            options = [f"--batch={_BATCH.value}", f"--seconds={_SECONDS.value}"]
            found = subprocess.run(
                [
                    *(sys.executable, "-m", "experiments.ordered", *options),
                    f"--one={method}:{num_blocks}",
                ],
                env=os.environ | {"JAX_NUM_CPU_DEVICES": devices},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            seconds, digest = found.stdout.split()
            usual = usual or float(seconds)
            print(
                f"| {method} | {devices} | {num_blocks or 'none'} | {float(seconds):.4f} | "
                f"{float(seconds) / usual:.2f} | {digest} |",
                flush=True,
            )


if __name__ == "__main__":
    app.run(main)
