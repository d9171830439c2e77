"""Reads the files of a run: config.json, report.json, evaluation.npz.

Whatever reads one of them reads it here, so that a file of the right syntax and the wrong content
is one clear line, which names the file, the place in it and what is there.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np

from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.report.text import METRICS
from aiwae_jax.runs import config, files
from aiwae_jax.runs.files import WorkdirError
from aiwae_jax.runs.schema import Measured

_ERRORS = [f"{name}_se" for name, (_, with_error) in METRICS.items() if with_error]
_REPORT_ADVICE = "move it away to go on"
_ARRAYS_ADVICE = "move it and report.json away, and evaluate again"


class _Settings(TypedDict):
    """The configuration that a report states."""

    training: dict
    evaluation: Evaluation
    model: NotRequired[dict | None]
    method: NotRequired[dict | None]


class _Versions(TypedDict):
    jax: str


class _Environment(TypedDict):
    device: str
    machine: str
    versions: _Versions


class _WallTime(TypedDict):
    training_seconds: float
    evaluation_seconds: NotRequired[float]


class _Number(TypedDict):
    """Of the paper."""

    mean: float
    std: float | None


class _Stopping(TypedDict):
    epoch: float
    stopped_at: float | None


class _Repeat(TypedDict):
    number: int
    num_repeats: int


class _Facts(TypedDict):
    """How the numbers of a report came about."""

    num_temperatures: int
    num_nonfinite_energies: int
    num_zero_weight_chains: int
    is_unbiased: bool
    nll: str


class _OtherStart(TypedDict):
    """A trial of what chains could start from instead."""

    start: str
    num_simulated: int
    num_temperatures: int
    difference: Measured
    difference_se: Measured
    is_tighter: bool


class _Check(TypedDict):
    """What a look at the target has found before it was measured."""

    passed: bool
    faults: list[str]


class _Baseline(TypedDict):
    """A density without latents, on the same test data."""

    name: str
    nll_test: Measured
    nll_test_se: Measured
    difference: Measured
    difference_se: Measured


class _Bidirectional(TypedDict):
    num_simulated: int
    target_gap: NotRequired[float]
    is_reached: NotRequired[bool]
    other_start: NotRequired[_OtherStart]


_Paper = TypedDict("_Paper", dict.fromkeys(METRICS, _Number))
_Means = TypedDict("_Means", dict.fromkeys(METRICS, Measured))


class _Report(_Means):
    """The part of a report.json that every reader needs."""

    num_examples: int
    epochs: float
    is_finished: bool
    config: _Settings
    data: config.Data
    environment: _Environment
    wall_time: _WallTime
    paper: NotRequired[_Paper]
    repeat: NotRequired[_Repeat]
    stopping: NotRequired[_Stopping]
    differs: NotRequired[list[str]]
    pictures: NotRequired[list[str]]
    data_dir: NotRequired[str | None]
    command: NotRequired[str]
    evaluation: NotRequired[_Facts]
    check: NotRequired[_Check]
    bidirectional: NotRequired[_Bidirectional]
    bidirectional_gap: NotRequired[Measured]
    bidirectional_gap_se: NotRequired[Measured]
    bidirectional_gap_upper_end: NotRequired[Measured]
    baselines: NotRequired[list[_Baseline]]
    bits_per_dim: NotRequired[Measured]
    bits_per_dim_se: NotRequired[Measured]
    num_levels: NotRequired[int]
    num_dims: NotRequired[int]
    effective_rows: NotRequired[dict[str, float]]
    nll_at_most: NotRequired[float | None]
    nll_at_most_delta: NotRequired[float]
    nll_at_most_reason: NotRequired[str | None]


_Shown = TypedDict("_Shown", {"evaluation": _Facts} | dict.fromkeys(_ERRORS, Measured))


class _Gap(TypedDict):
    """Of a report that states a bidirectional gap."""

    bidirectional: _Bidirectional
    bidirectional_gap_se: Measured
    bidirectional_gap_upper_end: Measured


class _Bits(TypedDict):
    """Of a report that states bits per dimension."""

    bits_per_dim_se: Measured
    num_levels: int
    num_dims: int


def read_report(
    path: pathlib.Path, *, training: Any = dict, is_shown: bool = False
) -> dict[str, Any]:
    """Reads a report.json; those of earlier versions come out as if written by this one.

    Args:
      path: of the file.
      training: as in `read_config`.
      is_shown: whether all of it is to be there, not only what a table of several needs.

    Raises:
      WorkdirError: if it is missing or damaged.
    """
    report = config.check(path, files.read_json(path, _REPORT_ADVICE), _Report, _REPORT_ADVICE)
    config.check_training(path, report["config"], training, "config.training", _REPORT_ADVICE)
    if is_shown:
        report = config.check(path, report, _Shown, _REPORT_ADVICE)
        if "bidirectional_gap" in report:
            report = config.check(path, report, _Gap, _REPORT_ADVICE)
        if "bits_per_dim" in report:
            report = config.check(path, report, _Bits, _REPORT_ADVICE)
    return report


def read_evaluation(
    folder: pathlib.Path, report: dict[str, Any], needs: Sequence[str]
) -> dict[str, np.ndarray]:
    """Reads the evaluation.npz that belongs to a report: numbers for each image and temperature.

    Args:
      folder: of both.
      report: what report.json says.
      needs: arrays that must be there; earlier versions wrote fewer.

    Raises:
      WorkdirError: if it is missing or damaged, or belongs to another report.
    """
    path = folder / "evaluation.npz"
    arrays = files.read_arrays(path, _ARRAYS_ADVICE)
    for name in needs:
        if name not in arrays:
            raise WorkdirError(f"{path} has no `{name}`; {_ARRAYS_ADVICE}.")
    for name, length in _lengths(report, arrays).items():
        found = arrays.get(name)
        if found is not None and (found.dtype.kind not in "biuf" or found.shape != (length,)):
            raise WorkdirError(
                f"{path}: `{name}` must be {length} numbers, by {folder / 'report.json'}, and is "
                f"{found.dtype} of shape {list(found.shape)}; {_ARRAYS_ADVICE}."
            )
    for name in ("index_test", "index_train"):
        index = arrays.get(name, np.arange(0))
        if index.dtype.kind not in "iu" or len(np.unique(index)) < len(index):
            raise WorkdirError(
                f"{path}: `{name}` must be {len(index)} different integers; {_ARRAYS_ADVICE}."
            )
    _check_names(path, arrays)
    return arrays


def _check_names(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Refuses labels that are no codes of the names beside them."""
    if "label_names" not in arrays:
        return
    names = arrays["label_names"]
    if names.dtype.kind != "U" or names.ndim != 1:
        raise WorkdirError(f"{path}: `label_names` must be words; {_ARRAYS_ADVICE}.")
    for name in ("label_test", "label_train"):
        codes = arrays.get(name, np.arange(0))
        if codes.dtype.kind not in "iu" or not np.isin(codes, np.arange(len(names))).all():
            raise WorkdirError(
                f"{path}: `{name}` must be codes of the {len(names)} `label_names`; "
                f"{_ARRAYS_ADVICE}."
            )


def _lengths(report: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, int]:
    """Of the arrays of an evaluation.npz."""
    of_images = ("nll", "nvlb", "index", "label", "log_weight_variance", "effective_sample_size")
    of_images += ("is_broken", "standard_error", "is_reliable", "weight")
    names = [f"{name}_{part}" for name in of_images for part in ("test", "train")]
    lengths = dict.fromkeys(names, report["num_examples"])
    if "betas" in arrays:
        num = arrays["betas"].size
        lengths |= {"betas": num}
        lengths |= dict.fromkeys(("step_sizes", "acceptance", "path_sample_size"), num - 2)
    return lengths
