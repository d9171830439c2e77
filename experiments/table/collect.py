"""Finds reports and averages those, and only those, that differ in nothing but their seed."""

import collections
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from aiwae_jax.cli.settings import OF_METHODS, OF_MODELS, method_options, model_options
from aiwae_jax.report.text import METRICS
from aiwae_jax.runs.files import WorkdirError
from experiments import contents, repeats

# What changes no distribution: where the random numbers begin, and how the work is laid out.
_IRRELEVANT = ("seed", "num_repeats", "particle_chunk", "with_rematerialization")
_SIZES = ("latent_size", "hidden_size")  # of a table
_FIRST = ("num_particles", "method", "num_temperatures", "num_leapfrog_steps", "batch_size")
# What tells the columns of a table apart; all else, but the seed, is the table's setting. The
# options of methods and models are among them, for IWAE is to stand beside any AIWAE.
COLUMN_KEYS = (
    *_FIRST,
    "model",
    *(name for name in (*OF_MODELS, *OF_METHODS) if name not in (*_FIRST, *_SIZES, *_IRRELEVANT)),
)


class Column(collections.namedtuple("Column", COLUMN_KEYS)):
    """The head of a column."""

    def order(self) -> tuple:
        """As in the paper: by K; IWAE before AIWAE; by T."""
        return (
            self.num_particles,
            self.method != "iwae",
            self.method,
            self.num_temperatures or 0,
            self.num_leapfrog_steps or 0,
            *((value is not None, value or 0) for value in self[len(_FIRST) - 1 :]),
        )

    def unusual(self) -> dict[str, Any]:
        """The options that are not as method and model have them by themselves."""
        usual = model_options(self.model) | method_options(self.method) | {"move": "langevin"}
        return {
            name: value
            for name, value in self._asdict().items()
            if name in usual and name not in _FIRST and value not in (None, usual[name])
        }


class Value(NamedTuple):
    """A metric over repeats."""

    mean: float
    std: float | None
    num_repeats: int


class Average(NamedTuple):
    """All repeats of one column at one setting.

    Attributes:
      values: by key of `METRICS`; also the bidirectional gap, where it was measured.
      paper: the paper's mean and standard deviation, by key of `METRICS`; or None.
      seeds: of the repeats.
      minutes: of training, for all repeats together.
    """

    values: dict[str, Value]
    paper: dict[str, dict[str, float | None]] | None
    seeds: tuple[int, ...]
    minutes: float


class Table(NamedTuple):
    """Cells that were made at one setting on one data set.

    Attributes:
      title: the data set, named as a stand-in where it is one.
      setting: all that the cells have in common, in words.
      machines: that made them, in words.
      cells: by column, in the paper's order.
    """

    title: str
    setting: str
    machines: str
    cells: dict[Column, Average]


def read_reports(root: pathlib.Path) -> list[dict[str, Any]]:
    """All newest reports below a folder; those that were moved aside are not among them.

    Raises:
      WorkdirError: if there is none, or one is damaged.
    """
    paths = sorted(root.rglob("report.json"))
    if not paths:
        raise WorkdirError(f"There is no report.json below {root} yet.")
    return [contents.read_report(path) for path in paths]


def _words(content: dict[str, Any], leave_out: Iterable[str]) -> str:
    return ", ".join(
        f"{name.removeprefix('num_').replace('_', ' ')} {value}"
        for name, value in sorted(content.items())
        if name not in leave_out and value is not None
    )


def _setting(report: dict[str, Any]) -> str:
    training, evaluation = report["config"]["training"], report["config"]["evaluation"]
    missed = "" if report.get("bidirectional", {}).get("is_reached", True) else " (target MISSED)"
    unfinished = "" if report["is_finished"] else " (unfinished)"
    return (
        f"{report['epochs']:g} epochs{unfinished}; training: "
        + _words(training, (*COLUMN_KEYS, *_IRRELEVANT, "dataset"))
        + "; evaluation: "
        + _words(evaluation, ())
        + f"{missed}; data sha256 {report['data']['sha256'][:8]}"
    )


def _machine(report: dict[str, Any]) -> str:
    environment = report["environment"]
    return (
        f"{environment['device']} on {environment['machine']}, jax {environment['versions']['jax']}"
    )


def _cell(reports: list[dict[str, Any]]) -> Average:
    keys = [*METRICS]
    if all(report.get("bidirectional_gap") is not None for report in reports):
        keys.append("bidirectional_gap")
    seconds = sum(  # several seeds in one program share their time
        report["wall_time"]["training_seconds"]
        / max(report.get("repeat", {}).get("num_repeats", 1), 1)
        for report in reports
    )
    return Average(
        values={
            key: Value(*repeats.mean_and_std([report[key] for report in reports]), len(reports))
            for key in keys
        },
        paper=reports[0].get("paper"),
        seeds=tuple(report["config"]["training"]["seed"] for report in reports),
        minutes=seconds / 60,
    )


def tables(reports: Iterable[dict[str, Any]]) -> list[Table]:
    """Groups reports by data set and setting, and averages over seeds within a column.

    A seed that was run twice counts once: two runs of one seed are no two repeats.
    """
    groups: dict[tuple[str, str], dict[Column, dict[int, dict[str, Any]]]] = {}
    for report in reports:
        training = report["config"]["training"]
        column = Column(*(training[name] for name in COLUMN_KEYS))
        group = groups.setdefault((report["data"]["title"], _setting(report)), {})
        group.setdefault(column, {})[training["seed"]] = report
    found = []
    for (title, setting), columns in sorted(groups.items()):
        ordered = sorted(columns.items(), key=lambda item: item[0].order())
        cells = {
            column: _cell([by_seed[seed] for seed in sorted(by_seed)])
            for column, by_seed in ordered
        }
        machines = {_machine(report) for by_seed in columns.values() for report in by_seed.values()}
        found.append(Table(title, setting, "; ".join(sorted(machines)), cells))
    return found


def differences(cell: Average) -> dict[str, float]:
    """(our mean - the paper's) in the paper's standard deviations, where it gives one."""
    if cell.paper is None:
        return {}
    return {
        key: (cell.values[key].mean - cell.paper[key]["mean"]) / cell.paper[key]["std"]
        for key in METRICS
        if cell.paper[key]["std"]
    }


def long_rows(found: Iterable[Table]) -> list[dict[str, Any]]:
    """One row for each metric of each cell, for CSV."""
    rows = []
    for table in found:
        for column, cell in table.cells.items():
            in_stds = differences(cell)
            for key, value in cell.values.items():
                theirs = (cell.paper or {}).get(key, {})
                rows.append(
                    {
                        "data": table.title,
                        **column._asdict(),
                        "metric": key,
                        **value._asdict(),
                        "paper_mean": theirs.get("mean"),
                        "paper_std": theirs.get("std"),
                        "difference_in_paper_stds": in_stds.get(key),
                        "training_minutes": round(cell.minutes, 2),
                        "setting": table.setting,
                        "machines": table.machines,
                    }
                )
    return rows
