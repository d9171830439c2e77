"""Prints the ratios: `python -m experiments.benchmark`; `--quick` shows that every part runs.

`--peers` measures evaluation and training beside other programs instead, see `peers/`.
"""

import concurrent.futures
import functools
import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

if not __package__:  # a script, from whatever folder: `python experiments/benchmark`
    sys.path[0] += "/../.."

import jax
from absl import flags as absl_flags

from aiwae_jax.cli import command, devices
from aiwae_jax.cli import flags as cli
from aiwae_jax.runs import files
from experiments import report
from experiments.benchmark import blackjax_side, limit, ours, problem, shares, timing, torch_side
from experiments.benchmark.peers import command as peers

CELLS = (problem.Size(1, 5), problem.Size(5, 8), problem.Size(50, 11))
QUICK_CELLS = (problem.Size(1, 3),)
AGAINST = problem.Size(5, 8)
TARGETS = {"float32": 1.5, "bfloat16": 0.6}
ACCELERATOR_TARGETS = {"float32": 1.5, "tensorfloat32": None, "bfloat16": 0.6}
NUM_REPEATS = 5
# name -> (what must be installed, how to build its training step at a cell, where it is of use)
OTHERS = {
    "BlackJAX": (
        "blackjax",
        lambda cell: ours.step_of(blackjax_side.aiwae(cell), on_one_device=True),
        lambda: True,
    ),
    "BlackJAX on our devices": (
        "blackjax",
        lambda cell: ours.step_of(blackjax_side.aiwae(cell)),
        lambda: jax.local_device_count() > 1,
    ),
    "PyTorch": ("torch", torch_side.training_step, lambda: True),
    "PyTorch, CUDA graph": (
        "torch",
        torch_side.captured_training_step,
        lambda: importlib.util.find_spec("torch") and torch_side.device() == "cuda",
    ),
}
_INSTALL = "pip install '.[bench]'; for PyTorch without CUDA see its index of CPU builds"
_FIRST_STEP = (
    "import time; began = time.time()\n"
    "from aiwae_jax.cli import devices; devices.configure()\n"
    "from experiments.benchmark import ours, problem\n"
    "ours.step_of(ours.aiwae(problem.Size({}, {})))()\n"
    "print(time.time() - began)"
)


def _define(fv: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_bool(
        "quick",
        False,
        "One small cell, two repeats, no judgement of times: shows that every part runs.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "repeats", 7, "Interleaved repeats of every side.", lower_bound=1, flag_values=fv
    )
    absl_flags.DEFINE_string("json", None, "File to write all numbers to.", flag_values=fv)
    absl_flags.DEFINE_bool(
        "first_step", True, "Times the start of new processes too.", flag_values=fv
    )
    absl_flags.DEFINE_bool(
        "peers",
        False,
        "Evaluates one decoder beside a BDMC script, TFP and BlackJAX, trains beside NumPyro.",
        flag_values=fv,
    )
    absl_flags.DEFINE_string(
        "out",
        None,
        "With --peers: folder for peers.png, .md, .csv and .json. Default results/benchmark, whose "
        "numbers docs/speed.md shows; with --quick runs/peers.",
        flag_values=fv,
    )
    absl_flags.DEFINE_string(
        "run", None, "With --peers: folder of a run with the decoder.", flag_values=fv
    )
    absl_flags.DEFINE_string(
        "data_dir",
        os.environ.get("AIWAE_DATA_DIR"),
        "With --peers: folder with MNIST's files, else digits. Default $AIWAE_DATA_DIR.",
        flag_values=fv,
    )
    absl_flags.DEFINE_bool("help", False, "Shows this help.", flag_values=fv, short_name="h")


def _targets() -> dict[str, float | None]:
    """Precisions to time, and the share of the fp32 limit that each aims at."""
    return TARGETS if jax.default_backend() == "cpu" else ACCELERATOR_TARGETS


def _first_step_seconds(cell: problem.Size) -> list[float]:
    """Import, trace, compile and run the first step: with an empty cache, and once more."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        return [
            float(
                subprocess.run(
                    [sys.executable, "-c", _FIRST_STEP.format(*cell)],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
            )
            for _ in range(2)
        ]


def _all_at_once(tasks: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Results of all tasks; where compiling leaves cores idle, they share the cores.

    A task that fails with a RuntimeError has that as its result.
    """

    def run(task):
        try:
            return task()
        except RuntimeError as error:  # a CUDA graph that cannot be captured, say
            return error

    # On a CPU the devices of a mesh wait for each other, and two programs at once for ever.
    # PyTorch comes last: nobody else may use a GPU while it records a graph.
    num_workers = 1 if jax.default_backend() == "cpu" else devices.num_cores()
    names = sorted(tasks, key=lambda name: "PyTorch" in name)
    shared = [name for name in names if "PyTorch" not in name]
    with concurrent.futures.ThreadPoolExecutor(num_workers) as pool:
        done = dict(zip(shared, pool.map(run, (tasks[name] for name in shared)), strict=True))
    return done | {name: run(tasks[name]) for name in names if name not in done}


def _compiled(build: Callable[[], Callable[[], None]]) -> Callable[[], None]:
    """A side that has been called once."""
    call = build()
    call()
    return call


def _sides(cells: Sequence[problem.Size], against: problem.Size) -> tuple[dict, dict[str, str]]:
    """How to build everything that is timed, and why what is missing is missing."""
    sides, missing, targets = dict(limit.matrix_products()), {}, _targets()
    for cell in cells:
        # A few particles at once fit a CPU's cache; an accelerator wants them all.
        chunk = min(cell.num_particles, 10) if jax.default_backend() == "cpu" else None
        for precision in targets:
            method = ours.aiwae(cell, force_precision=precision, particle_chunk=chunk)
            sides[f"ours {cell} {precision}"] = functools.partial(ours.step_of, method)
    sides[f"ours {cells[0]} float32, {NUM_REPEATS} seeds"] = functools.partial(
        ours.step_of_repeats, ours.aiwae(cells[0]), NUM_REPEATS
    )
    for precision in targets:
        sides[f"evaluation {precision}"] = functools.partial(ours.evaluation_moves, precision)
    for name, (package, build, is_of_use) in OTHERS.items():
        if not is_of_use():
            continue
        if importlib.util.find_spec(package):
            sides[name] = functools.partial(build, against)
        else:
            missing[name] = f"{package} is not installed: {_INSTALL}"
    return sides, missing


def _untimed(against: problem.Size, is_quick: bool) -> dict:
    """Compiles what else is shown: diagnostics of a step, and the memory of several."""
    tasks = {
        f"diagnostics {precision}": functools.partial(
            ours.diagnostics, ours.aiwae(against, force_precision=precision)
        )
        for precision in _targets()
    }
    for t in (5, 11) if is_quick else (5, 11, 101, 1001):
        tasks[f"memory T={t}"] = functools.partial(ours.temporary_bytes, problem.Size(2, t))
    if not is_quick:
        for num_particles in (50, 500):
            cell = problem.Size(num_particles, 5)
            tasks[f"memory K={num_particles}"] = functools.partial(ours.temporary_bytes, cell)
            tasks[f"memory K={num_particles} chunk 10"] = functools.partial(
                ours.temporary_bytes, cell, particle_chunk=10
            )
    return tasks


def _row(name: str, ratio: float, text: str, target: float | None = None) -> str:
    verdict = "" if target is None else f"  (target {target:g})"
    return f"{name:40}{ratio:7.2f} x  {text}{verdict}"


@command.exit_codes
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    fv = absl_flags.FlagValues()
    _define(fv)
    cli.parse(fv, argv, "Times the sampler: python -m experiments.benchmark")
    if fv.json:
        files.prepare(pathlib.Path(fv.json).expanduser(), "--json")
    if fv.peers:
        default = "runs/peers" if fv.quick else "results/benchmark"
        folder = pathlib.Path(fv.out or default).expanduser()
        files.make_folder(folder, "--out")
        said = " ".join(["python -m experiments.benchmark", *argv[1:]])
        options = {"is_quick": fv.quick, "run_folder": fv.run, "data_dir": fv.data_dir}
        cell = QUICK_CELLS[0] if fv.quick else AGAINST
        peers.run(said, folder, cell=cell, others=OTHERS, **options)
        return
    cells = QUICK_CELLS if fv.quick else CELLS
    against = cells[0] if fv.quick else AGAINST
    num_repeats = 2 if fv.quick else fv.repeats
    began = time.time()
    environment, targets = report.environment(), _targets()
    print(f"{environment['device']}, {environment['machine']}; medians of {num_repeats} repeats")

    builders, missing = _sides(cells, against)
    tasks = {name: functools.partial(_compiled, build) for name, build in builders.items()}
    tasks |= _untimed(against, fv.quick)
    done = _all_at_once(tasks)
    for name in list(builders):
        if isinstance(done[name], RuntimeError):
            if name not in OTHERS:
                raise done[name]
            missing[name] = str(done[name]).splitlines()[0]
            del builders[name]
    sides = {name: done[name] for name in builders}
    print(f"compiled in {time.time() - began:.0f} s", flush=True)
    medians = timing.interleaved(sides, num_repeats)
    rate = limit.rate(medians)
    print(f"fp32 limit: {rate / 1e9:.0f} GFLOP/s, the best matrix product measured in this run")
    for name, value in limit.rates(medians).items():
        print(f"  {name:42}{value / 1e9:10.0f} GFLOP/s")
    print()
    ratios: dict[str, float] = {}
    for cell in cells:
        least = problem.training_operations(cell) / rate
        for precision, target in targets.items():
            name = f"training step {cell} {precision}"
            seconds = medians[f"ours {cell} {precision}"]
            ratios[name] = seconds / least
            text = f"of the fp32 limit: {seconds * 1e3:.3g} ms, limit {least * 1e3:.3g} ms"
            print(_row(name, ratios[name], text, None if fv.quick else target))
    name = f"{NUM_REPEATS} seeds / 1 seed, {cells[0]} float32"
    ratios[name] = medians[f"ours {cells[0]} float32, {NUM_REPEATS} seeds"]
    ratios[name] /= medians[f"ours {cells[0]} float32"]
    print(_row(name, ratios[name], "one program for all"))
    least = ours.evaluation_operations() / rate
    for precision, target in targets.items():
        name = f"evaluation {precision}"
        ratios[name] = medians[name] / least
        print(_row(name, ratios[name], "of the fp32 limit", None if fv.quick else target))
    for name in OTHERS:
        if name in missing:
            print(f"{name}: {missing[name]}")
            continue
        if name not in medians:
            continue
        for precision in targets:
            key = f"{name} / ours {precision}"
            ratios[key] = medians[name] / medians[f"ours {against} {precision}"]
            print(_row(key, ratios[key], f"{name} {medians[name] * 1e3:.3g} ms at {against}"))

    quality = {precision: done[f"diagnostics {precision}"] for precision in targets}
    for precision, found in quality.items():
        text = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in found.items())
        print(f"{against} {precision}: {text}")

    prefix = "memory "
    memory = {
        name.removeprefix(prefix): size for name, size in done.items() if name.startswith(prefix)
    }
    print("\ntemporary memory of the compiled step, MiB:")
    print("  " + "  ".join(f"{name}: {size / 2**20:.1f}" for name, size in memory.items()))

    starts = _first_step_seconds(against) if fv.first_step else None
    if starts:
        print(f"first step after start: {starts[0]:.1f} s, with a filled cache {starts[1]:.1f} s")
    step = ours.step_of(ours.aiwae(against))
    step()
    busy = shares.measure(step, ours.compiled_text(against))
    total = sum(busy.values())
    print(f"one profiled step of {against}, {total * 1e3:.1f} ms of all devices together:")
    for name, value in busy.items():
        print(f"  {name:42}{value / total:6.0%}")
    if fv.json:
        content = {
            "command": " ".join(["python -m experiments.benchmark", *argv[1:]]),
            "date": time.strftime("%Y-%m-%d"),
            "environment": environment,
            "ratios": ratios,
            "median_seconds": medians,
            "gflops_limit": rate / 1e9,
            "gflops": {name: value / 1e9 for name, value in limit.rates(medians).items()},
            "diagnostics": quality,
            "temporary_bytes": memory,
            "first_step_seconds": starts,
            "device_seconds": busy,
            "missing": missing,
        }
        files.write_json(pathlib.Path(fv.json).expanduser(), content)


if __name__ == "__main__":
    # Beside this process there are others on the same GPU: PyTorch in it, and new starts of JAX.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    sys.exit(main(sys.argv))
