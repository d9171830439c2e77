"""Runs that take hours, one after the other: `python -m experiments.long`, or `make long`.

The queue is a file, results/long/queue.toml. Its runs are made by the code of one commit, on one
core, so that other work goes on beside them. Stopped at any moment, the same command continues.
What has been found is in results/long/: a table of each run's reports, which is also what says that
a run is done, and the curve of each training so far.
"""

import csv
import json
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags as absl_flags

from aiwae_jax.cli import command
from aiwae_jax.cli import flags as cli
from aiwae_jax.cli.flags import UsageError, require
from aiwae_jax.runs import files, tables
from aiwae_jax.runs.interruption import Interruption
from experiments import pool

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_BETWEEN_CURVES = 300.0
_POINTS_OF_A_CURVE = 200
_ADVICE = "remove it, and start the same command again"
# Of a report, what a table keeps of it.
_KEPT = (
    *("nll_test", "nll_test_se", "nvlb_test", "nvlb_test_se", "nll_train"),
    *("bidirectional_gap", "bidirectional_gap_se", "active_units", "num_examples"),
)


class Entry(NamedTuple):
    """A run of the queue.

    Attributes:
      name: of its table.
      seed: of this one.
      stages: of the paper's schedule that are trained before its report; None for the run's own
        end.
      arguments: of `experiments.run`.
    """

    name: str
    seed: int
    stages: int | None
    arguments: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Of its run; later stages continue in it."""
        return f"{self.name}-seed{self.seed}"


class Queue(NamedTuple):
    """What queue.toml says.

    Attributes:
      commit: of the code that trains and measures.
      core: that it has; None for whichever are free.
      entries: in their order.
    """

    commit: str
    core: int | None
    entries: list[Entry]


def read_queue(path: pathlib.Path) -> Queue:
    """Reads a queue.

    Raises:
      UsageError: for a file that is none.
    """
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--queue={path}: {error}") from None
    require(bool(said.get("commit")), f"--queue={path} must say the `commit` of its code.")
    entries = []
    for run in said.get("runs", []):
        require(
            {"name", "flags"} <= run.keys() <= {"name", "flags", "seeds", "stages"},
            f"--queue={path}: each of `runs` has `name`, `flags`, and perhaps `seeds` and "
            f"`stages`; got {', '.join(run)}.",
        )
        for stages in run.get("stages", [None]):
            for seed in run.get("seeds", [0]):
                own = [f"--seed={seed}", *([f"--stages={stages}"] if stages else [])]
                arguments = (*shlex.split(run["flags"]), *own)
                entries.append(Entry(run["name"], seed, stages, arguments))
    return Queue(said["commit"], said.get("core"), entries)


def _git(*arguments: str) -> str:
    """What git says, in the checkout of this file."""
    here = pathlib.Path(__file__).parent
    made = subprocess.run(
        ["git", *arguments], cwd=here, capture_output=True, text=True, check=False
    )
    require(made.returncode == 0, f"the queue's `commit`: {made.stderr.strip()}")
    return made.stdout.strip()


def checkout(commit: str, root: pathlib.Path) -> pathlib.Path:
    """The code of a commit, in a folder of its own.

    Raises:
      UsageError: if git does not know it.
    """
    commit = _git("rev-parse", "--verify", f"{commit}^{{commit}}")
    folder = root / f"code-{commit[:12]}"
    if not folder.is_dir():
        part = folder.absolute().with_suffix(".part")  # of a stop in between
        shutil.rmtree(part, ignore_errors=True)
        _git("worktree", "prune")
        _git("worktree", "add", "--force", "--detach", str(part), commit)
        _git("worktree", "move", str(part), str(folder.absolute()))
    return folder.absolute()


def rows_of(table: pathlib.Path) -> list[dict[str, str]]:
    """What a run's table has already."""
    if not table.exists():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def is_done(entry: Entry, rows: Sequence[dict[str, str]]) -> bool:
    """Tells whether a table has this entry's report, of whichever commit."""
    wanted = {"seed": str(entry.seed), "stages": str(entry.stages or "")}
    return any(wanted.items() <= row.items() for row in rows)


def row_of(entry: Entry, report: dict[str, Any], commit: str) -> dict[str, Any]:
    """A report's line in the table."""
    evaluation, environment = report["evaluation"], report["environment"]
    return {
        "seed": entry.seed,
        "stages": entry.stages or "",
        "epochs": report["epochs"],
        "gradients_per_image": (report.get("cost") or {}).get("gradients_per_image", ""),
        "training_seconds": round(report["wall_time"]["training_seconds"]),
        **{name: report.get(name, "") for name in _KEPT},
        "evaluation": f"T={evaluation['num_temperatures']}",
        "machine": f"{environment['device']}, {environment['machine']}",
        "commit": commit,
    }


def write_table(path: pathlib.Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows of the same names as CSV, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tables.write(path, {name: [row[name] for row in rows] for name in rows[0]})


def curve_of(metrics: pathlib.Path) -> list[dict[str, Any]]:
    """Epochs and what a training said of them, thinned evenly."""
    with metrics.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.endswith("\n")]
    every = max(1, -(-len(lines) // _POINTS_OF_A_CURVE))
    kept = [*lines[every - 1 :: every], *(lines[-1:] if len(lines) % every else [])]
    names = ("step", "epoch", "leg", "learning_rate", "log_likelihood_bound", "acceptance")

    def value_of(line: dict[str, Any], name: str) -> Any:
        found = [line[key] for key in line if key.rpartition("/")[2] == name]
        return float(np.mean(found[0])) if found else ""

    return [{name: value_of(line, name) for name in names} for line in kept]


def write_curve(folder: pathlib.Path, path: pathlib.Path) -> None:
    """Writes the curve of a training so far, if it has one."""
    metrics = folder / "metrics.jsonl"
    if metrics.exists() and (curve := curve_of(metrics)):
        write_table(path, curve)


def _watched(process: subprocess.Popen, interruption: Interruption) -> Iterator[None]:
    """Yields every few minutes until a process has ended; a signal is handed on to it."""
    looked_at = time.monotonic()
    is_told = False
    while process.poll() is None:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        if interruption.signal_number is not None and not is_told:
            process.send_signal(signal.SIGTERM)
            is_told = True
        if time.monotonic() - looked_at > _SECONDS_BETWEEN_CURVES:
            looked_at = time.monotonic()
            yield
    yield


def carry_out(
    queue: Queue,
    root: pathlib.Path,
    out: pathlib.Path,
    more: Sequence[str],
    interruption: Interruption,
) -> None:
    """Runs what the tables do not have yet.

    Args:
      queue: from `read_queue`.
      root: of all runs' folders.
      out: of tables and curves.
      more: arguments of all runs.
      interruption: the user's.

    Raises:
      command.Interrupted: on SIGINT, SIGTERM or SIGHUP, after the run has saved itself.
      files.WorkdirError: if a run fails.
    """
    code = checkout(queue.commit, root)
    commit = _git("rev-parse", queue.commit)
    cores = set() if queue.core is None else {queue.core}
    for entry in queue.entries:
        table = out / f"{entry.name}.csv"
        if is_done(entry, rows_of(table)):
            continue
        folder = (root / entry.folder).absolute()
        arguments = [*entry.arguments, *more, f"--workdir={folder}"]
        print(f"{entry.folder}: python -m experiments.run {shlex.join(arguments)}", flush=True)
        with (root / f"{entry.folder}.log").open("a", encoding="utf-8") as log:
            process = pool.child(arguments, cores, log, str(code))
            for _ in _watched(process, interruption):
                write_curve(folder, out / f"{entry.folder}-training.csv")
            process.stdin.close()
        if interruption.signal_number is not None:
            raise command.Interrupted(
                f"Interrupted at {entry.folder}, which has saved itself. Start the same command "
                "again to continue.",
                interruption.signal_number,
            )
        if process.returncode:
            raise files.WorkdirError(f"{entry.folder} failed; see {root / entry.folder}.log.")
        report = files.read_json(folder / "report.json", _ADVICE)
        rows = [*rows_of(table), row_of(entry, report, commit)]
        write_table(table, rows)
        print(f"{entry.folder}: NLL {report['nll_test']:.2f} ± {report['nll_test_se']:.2f}")


def _define(fv: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_string("queue", "results/long/queue.toml", "The queue.", flag_values=fv)
    absl_flags.DEFINE_string("workdir", "runs/long", "Folder of all runs.", flag_values=fv)
    absl_flags.DEFINE_string("out", "results/long", "Folder of tables and curves.", flag_values=fv)
    cli.define(fv)


@command.exit_codes
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    fv = absl_flags.FlagValues()
    _define(fv)
    cli.parse(fv, argv, __doc__)
    queue = read_queue(pathlib.Path(fv.queue))
    root = pathlib.Path(fv.workdir)
    root.mkdir(parents=True, exist_ok=True)
    more = [] if fv.data_dir is None else [f"--data_dir={pathlib.Path(fv.data_dir).absolute()}"]
    with Interruption() as interruption:
        carry_out(queue, root, pathlib.Path(fv.out), more, interruption)
    print("the queue is done")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
