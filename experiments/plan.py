"""Estimates of a run: its first steps are compiled and timed, and nothing is written."""

import pathlib
import time

import jax
import jax.numpy as jnp

from aiwae_jax import data, evaluate
from aiwae_jax.report import images
from aiwae_jax.runs import progress
from aiwae_jax.train.legs import Stretch
from aiwae_jax.train.loop import LoopState
from aiwae_jax.train.program import Program
from experiments import launch
from experiments.config import Config

_NUM_TIMED = 3  # times that a few steps are taken; the fastest counts
_NUM_STEPS = 11


def describe(config: Config, dataset: data.Dataset, run: Program) -> str:
    """The plan in words: steps, estimated time and memory."""
    state = run.init()
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    programs = [run.lower(state, leg).compile() for leg in range(len(run.legs))]
    step_bytes = max(each.memory_analysis().temp_size_in_bytes for each in programs)
    state = run.run_steps(state, 1)
    params = jax.device_get(state.train.params)
    if config.training.num_repeats > 1:
        params = jax.tree.map(lambda a: a[0], params)
    total, per_step = run.stage_ends[-1], []
    for leg in run.legs:
        state, seconds = _time_steps(run, state, leg)
        per_step.append(seconds)
    folder = pathlib.Path(config.workdir).expanduser().absolute()
    done = round(total * launch.look(folder, config, len(dataset.train)).share_done)
    left = sum(
        max(leg.end - max(leg.start, done), 0) * each
        for leg, each in zip(run.legs, per_step, strict=True)
    )
    arrays = dataset.train.nbytes + 2 * num_bytes  # a chunk keeps the state that it started from
    lines = [
        f"plan of {folder}",
        f"  training    {total - done:,} of {total:,} steps, "
        f"{' then '.join(f'{1e3 * each:.1f}' for each in per_step)} ms each: about "
        f"{progress.format_seconds(left)}",
        *_of_evaluation(config, dataset, run, params),
        f"  memory      {_mib(arrays)} of data and training state on each device, and "
        f"{_mib(step_bytes)} while a step runs",
        f"  disk        {_mib(2 * num_bytes)} of checkpoints",
        "--dry_run: nothing was started or written",
    ]
    return "\n".join(lines)


def _time_steps(run: Program, state: LoopState, leg: Stretch) -> tuple[LoopState, float]:
    """Seconds of a leg's step, and the state after some of them."""

    def at_start(state):  # whatever was timed before, the next steps are this leg's
        step = jnp.full_like(state.train.step, leg.start)
        return state._replace(train=state.train._replace(step=step))

    state = run.run_steps(at_start(state), 1)
    # What a call takes beside its steps, the epoch's permutation say, is there once in a second.
    seconds = {1: [], _NUM_STEPS: []}
    for _ in range(_NUM_TIMED):
        for num_steps, measured in seconds.items():
            began = time.monotonic()
            state = jax.block_until_ready(run.run_steps(at_start(state), num_steps))
            measured.append(time.monotonic() - began)
    once, several = map(min, seconds.values())
    return state, max((several - once) / (_NUM_STEPS - 1), 1e-6)


def _of_evaluation(config, dataset, run, params) -> list[str]:
    """A line on the evaluation; an untrained model costs what a trained one does."""
    evaluation = config.evaluation
    if evaluation is None:
        return ["  evaluation  none"]
    both = images.choose_images(dataset, evaluation, config.training.validation_share).both
    seconds = evaluate.estimate_seconds(
        evaluate.Target.of(
            run.model, params, start=run.start, force_precision=evaluation.force_precision
        ),
        both,
        evaluation.settings(),
        num_data=len(both) + 2 * evaluation.num_simulated,
    )
    search = " at the first setting of the search" if evaluation.target_gap else ""
    num = config.training.num_repeats
    return [
        f"  evaluation  {len(both)} images and {evaluation.num_simulated} simulated, "
        f"{evaluation.num_chains} chains x {evaluation.num_temperatures} temperatures"
        + (f", {num} seeds" if num > 1 else "")
        + f": about {progress.format_seconds(num * seconds)}{search}, and L_"
        f"{evaluation.num_bound_samples}"
    ]


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB"
