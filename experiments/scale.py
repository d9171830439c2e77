"""Throughput over more and more local devices, and what it says of many hosts.

Times a training step of one batch over meshes of more and more devices, in turn, and sets what the
devices must exchange in a step against what they compute.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

if not __package__:  # a script, from whatever folder: `python experiments/scale.py`
    sys.path[0] += "/.."

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags

from aiwae_jax import data
from aiwae_jax.cli import command
from aiwae_jax.cli import flags as cli
from aiwae_jax.parallel import sharding
from aiwae_jax.runs import files
from experiments import build, flags, report
from experiments.benchmark import timing
from experiments.settings import Training

# Links between hosts: name -> (bytes per second, seconds for the smallest message to all).
LINKS = {"10 Gbit/s Ethernet": (1.25e9, 50e-6), "100 Gbit/s InfiniBand": (12.5e9, 10e-6)}


def _define(fv: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_integer(
        "rounds", 5, "Interleaved timings of each mesh.", lower_bound=1, flag_values=fv
    )
    absl_flags.DEFINE_string("json", None, "File for all numbers.", flag_values=fv)
    cli.define(fv)


class _Stepping:
    """Calls of a train step over a mesh, each with the state that the last one left."""

    def __init__(self, training: Training, dataset: data.Dataset, num_devices: int):
        mesh = sharding.make_mesh(num_devices)
        built = build.build_step(training, dataset)
        batch = jnp.asarray(dataset.train[: training.batch_size] > 0, jnp.float32)
        state = built.init(jax.random.key(0), batch)
        self.num_parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        self._state = sharding.put(state, sharding.replicated(mesh))
        self._key = sharding.put(jax.random.key(1), sharding.replicated(mesh))
        self._batch = sharding.put(batch, sharding.over_data(mesh))
        self._step = built.step

    def __call__(self):
        self._state, _ = self._step(self._key, self._state, self._batch)
        jax.block_until_ready(self._state)


def hosts_at_balance(
    seconds: float, num_bytes: float, num_exchanges: int, link: tuple[float, float]
) -> float:
    """Hosts at which the exchange of a step takes as long as its computation.

    One batch is split over N hosts: each computes `seconds`/N, and exchanges gradients in a ring,
    2·(N-1)/N·bytes, beside `num_exchanges` messages that only latency counts for. Compute equals
    exchange near N = seconds / (2·bytes/bandwidth + num_exchanges·latency).
    """
    bandwidth, latency = link
    return seconds / (2.0 * num_bytes / bandwidth + num_exchanges * latency)


def measure(training: Training, dataset: data.Dataset, num_rounds: int) -> dict[str, Any]:
    """Times all meshes in turn, and does the sums."""
    sizes = [
        n
        for n in range(1, jax.device_count() + 1)
        if training.batch_size % n == 0 and n & n - 1 == 0
    ]
    calls = {f"data:{n}": _Stepping(training, dataset, n) for n in sizes}
    medians = timing.interleaved(calls, num_rounds)
    one, num_parameters = medians["data:1"], calls["data:1"].num_parameters
    num_bytes = 4.0 * num_parameters
    # Acceptance is reduced at every temperature; gradients of θ and of φ once each.
    num_exchanges = (training.num_temperatures or 1) - 1 + 2
    return {
        "meshes": {
            name: {
                "milliseconds": 1e3 * value,
                "images_per_second": training.batch_size / value,
                "speedup": one / value,
            }
            for name, value in medians.items()
        },
        "parameters": num_parameters,
        "bytes_exchanged_per_step": num_bytes,
        "exchanges_per_step": num_exchanges,
        "hosts_at_which_exchange_equals_compute": {
            name: hosts_at_balance(one, num_bytes, num_exchanges, link)
            for name, link in LINKS.items()
        },
        "environment": report.environment(),
    }


def describe(found: dict[str, Any], title: str) -> str:
    """The numbers as Markdown."""
    environment = found["environment"]
    lines = [
        f"### {title}",
        "",
        f"{environment['device']} on {environment['machine']}, jax "
        f"{environment['versions']['jax']}; medians of interleaved rounds",
        "",
        "| mesh | ms per step | images per second | times one device |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {row['milliseconds']:.1f} | {row['images_per_second']:,.0f} | "
            f"{row['speedup']:.2f} |"
            for name, row in found["meshes"].items()
        ),
        "",
        f"A step exchanges the gradients of {found['parameters']:,} parameters, "
        f"{found['bytes_exchanged_per_step'] / 1e6:.1f} MB, and {found['exchanges_per_step']} "
        "messages. With hosts like this device sharing one batch, the exchange takes as long as "
        "the computation at about "
        + ", ".join(
            f"{np.floor(num):.0f} hosts over {name}"
            for name, num in found["hosts_at_which_exchange_equals_compute"].items()
        )
        + ".",
        "",
    ]
    return "\n".join(lines)


@command.exit_codes
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    fv = absl_flags.FlagValues()
    _define(fv)
    usage = (
        "Times a training step over more and more devices: python -m experiments.scale "
        "--dataset=digits. Any other flag is one of experiments.run."
    )
    for_run = cli.parse(fv, argv, usage, known_only=True)
    if fv.json:
        files.prepare(pathlib.Path(fv.json).expanduser(), "--json")
    training = flags.parse_run(["run", *for_run]).training
    dataset = data.load(training.dataset, fv.data_dir)
    found = measure(training, dataset, fv.rounds)
    title = f"{dataset.title}: {' '.join(flag for flag in for_run if 'workdir' not in flag)}"
    print(describe(found, title))
    if fv.json:
        files.write_json(pathlib.Path(fv.json).expanduser(), {"flags": for_run, **found})


if __name__ == "__main__":
    sys.exit(main(sys.argv))
