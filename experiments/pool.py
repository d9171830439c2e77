"""Runs planned cells in processes of their own, several at once, or writes a Slurm array of them.

A cell belongs to whoever locked it first, so several launchers may share a folder. One that died,
by whatever cause, is found and continued by the next launch.
"""

import contextlib
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO

from absl import flags as absl_flags

from aiwae_jax.cli import command
from aiwae_jax.runs import files, folder
from aiwae_jax.runs.interruption import Interruption
from experiments import workdir
from experiments.launch import Planned, look

_SECONDS_BETWEEN_LOOKS = 0.2
_CHECKOUT = str(pathlib.Path(__file__).parents[1])
_LATER = "; start the same command again when it has ended"
_SLURM = """#!/bin/bash
#SBATCH --job-name="{name}"
#SBATCH --array=0-{last}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output="{folder}/slurm-%a.log"
#SBATCH --signal=B:TERM@120
# Add what your cluster wants: --partition, --time, --gres=gpu:1.
# Each task is one cell. Stopped or requeued, it continues where it was.
cells=(
{cells}
)
cd {here}
export PYTHONPATH={checkout}${{PYTHONPATH:+:$PYTHONPATH}}
eval exec {python} -m experiments.run "${{cells[$SLURM_ARRAY_TASK_ID]}}"
"""


class _TakenError(Exception):
    """Another launcher is at the cell."""


@contextlib.contextmanager
def _locked(root: pathlib.Path, name: str) -> Iterator[None]:
    with (root / f".{name}.lock").open("w", encoding="utf-8") as lock:
        if not folder.take_lock(lock):
            raise _TakenError
        yield


def child(
    arguments: Sequence[str], cores: set[int], log: IO | None, checkout: str | None = None
) -> subprocess.Popen:
    """Starts `experiments.run` as a process that does not outlive this one.

    Args:
      arguments: of the run.
      cores: that it may use; all where there are none.
      log: for what it prints; None for where this process prints.
      checkout: whose code it is, by default this one.
    """
    others = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([checkout or _CHECKOUT, *filter(None, [others])])
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.cell", *arguments],
        start_new_session=True,  # a terminal's Ctrl-C reaches it once, through the launcher
        stdin=subprocess.PIPE,  # ends with this process
        stdout=log,
        stderr=log,
        cwd=checkout,  # which Python looks at first
        env=os.environ | {"PYTHONPATH": path},
    )
    if cores:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(process.pid, cores)
    return process


class _Job:
    """A cell at work in a process of its own; `resources` are let go when it has ended."""

    def __init__(
        self, cell: Planned, cores: set[int], log: IO | None, resources: contextlib.ExitStack
    ):
        self.cell, self.cores, self._resources = cell, cores, resources
        self.process = child(cell.arguments, cores, log)

    def has_ended(self) -> bool:
        """Whether it has, and then lets the lock go."""
        if self.process.poll() is None:
            return False
        self.process.stdin.close()
        self._resources.close()
        return True


def _start(
    root: pathlib.Path, cell: Planned, num_examples: int, cores: set[int], is_alone: bool
) -> _Job | None:
    """Starts a cell, or says why there is nothing to start."""
    with contextlib.ExitStack() as resources:
        try:
            resources.enter_context(_locked(root, cell.name))
        except _TakenError:
            print(f"\n{cell.name}: another launcher is at it{_LATER}")
            return None
        if folder.is_in_use(root / cell.name):
            print(f"\n{cell.name}: another process is at it{_LATER}")
            return None
        if look(root / cell.name, cell.config, num_examples).is_finished:
            print(f"\n{cell.name}: finished by another launcher")
            return None
        print(f"\n{cell.name}: python -m experiments.run {shlex.join(cell.arguments)}", flush=True)
        log = None
        if not is_alone:  # their lines would get mixed up
            log = resources.enter_context((root / f"{cell.name}.log").open("a", encoding="utf-8"))
        return _Job(cell, cores, log, resources.pop_all())


def _shares(num_jobs: int) -> list[set[int]]:
    """The cores of each job: all of them evenly; empty where it is not to be told any."""
    if num_jobs == 1 or not hasattr(os, "sched_getaffinity"):
        return [set() for _ in range(num_jobs)]
    cores = sorted(os.sched_getaffinity(0))
    if num_jobs > len(cores):
        return [{cores[i % len(cores)]} for i in range(num_jobs)]
    return [set(cores[i::num_jobs]) for i in range(num_jobs)]


def run(
    root: pathlib.Path, planned: Sequence[Planned], num_examples: int, num_jobs: int = 1
) -> list[str]:
    """Runs what is missing, in the order given; returns the names of cells that failed.

    Args:
      root: of all cells' folders.
      planned: from `launch.plan`.
      num_examples: of the training set.
      num_jobs: cells at once; each has its share of the CPU's cores, and writes to <cell>.log where
        it is not alone.

    Raises:
      command.Interrupted: on SIGINT, SIGTERM or SIGHUP, after the cells at work have saved
        themselves.
    """
    root.mkdir(parents=True, exist_ok=True)
    waiting = [cell for cell in planned if not cell.found.is_finished]
    free, jobs, failed = _shares(num_jobs), [], []
    with Interruption() as interruption, _stopping(jobs):
        while waiting or jobs:
            while waiting and free:
                job = _start(root, waiting.pop(0), num_examples, free[-1], num_jobs == 1)
                if job is not None:
                    jobs.append(job)
                    free.pop()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            if interruption.signal_number is not None:
                _interrupt(jobs, interruption.signal_number)
            for job in [job for job in jobs if job.has_ended()]:
                jobs.remove(job)
                free.append(job.cores)
                if job.process.returncode:
                    failed.append(job.cell.name)
                if num_jobs > 1:
                    print(f"{job.cell.name}: ended with code {job.process.returncode}", flush=True)
    return failed


@contextlib.contextmanager
def _stopping(jobs: Sequence[_Job]) -> Iterator[None]:
    """Leaves no cell behind at work, whatever ends the launcher; cells save themselves first.

    An interruption's own signal is handed on.
    """
    try:
        yield
    except BaseException as error:
        for job in jobs:
            job.process.send_signal(getattr(error, "signal_number", signal.SIGTERM))
        for job in jobs:
            job.process.wait()
            job.has_ended()
        raise


def _interrupt(jobs: Sequence[_Job], number: int) -> None:
    names = ", ".join(job.cell.name for job in jobs) or "no cell"
    raise command.Interrupted(
        f"Interrupted at {names}; what was at work has saved itself. Start the same command again "
        "to continue.",
        number,
    )


def write_slurm_array(path: pathlib.Path, root: pathlib.Path, planned: Sequence[Planned]) -> int:
    """Writes a batch script with a task for each cell that is not finished; returns their number.

    Raises:
      workdir.WorkdirError: if there is none.
    """
    missing = [cell for cell in planned if not cell.found.is_finished]
    if not missing:
        raise workdir.WorkdirError("--slurm: all cells are finished, there is nothing to submit.")
    root.mkdir(parents=True, exist_ok=True)
    files.write_text(
        path,
        _SLURM.format(
            name=root.name,
            last=len(missing) - 1,
            folder=root,
            cells="\n".join(f"  {shlex.quote(shlex.join(cell.arguments))}" for cell in missing),
            checkout=shlex.quote(_CHECKOUT),
            here=shlex.quote(os.getcwd()),
            python=shlex.quote(shlex.quote(sys.executable)),  # once for `eval`
        ),
    )
    return len(missing)


def carry_out(
    fv: absl_flags.FlagValues, root: pathlib.Path, planned: Sequence[Planned], num_examples: int
) -> list[str] | None:
    """Does with a plan what the flags of `launch.define` say.

    Returns:
      The names of cells that failed; None where nothing was to be run.

    Raises:
      command.Interrupted: as `run`.
    """
    if fv.dry_run:
        return None
    if fv.slurm is not None:
        path = pathlib.Path(fv.slurm).expanduser()
        num = write_slurm_array(path, root, planned)
        print(f"{num} tasks: sbatch {path}; then the same command without --slurm")
        return None
    return run(root, planned, num_examples, fv.jobs)
