"""Two runs on the same images: the paired difference of their NLLs, from their reports."""

import pathlib
from typing import Any

import numpy as np

from aiwae_jax import evaluate
from aiwae_jax.report.text import noun
from aiwae_jax.runs.files import WorkdirError
from experiments import contents


def paired_difference(folder: pathlib.Path, other: pathlib.Path) -> str:
    """The difference of two runs' test NLLs on the same images, with its paired standard error.

    Raises:
      WorkdirError: if one has no report, or they were not evaluated alike.
    """
    for path in (folder, other):
        if (path / "summary.json").exists():
            raise WorkdirError(
                f"{path} holds several seeds: name one of them, such as {path / 'repeat_0'}."
            )
        if not (path / "report.json").exists():
            raise WorkdirError(f"{path} has no report.json: it is no run, or was not evaluated.")
    reports = [contents.read_report(path / "report.json") for path in (folder, other)]
    _check_alike(*reports)
    found = [
        contents.read_evaluation(path, report, ("nll_test",))
        for path, report in zip((folder, other), reports, strict=True)
    ]
    pairs = _paired(*found, *reports)
    compared = _compare(*pairs)
    weights = pairs[0].get("weight_test")
    mean, error = _mean_difference(compared, weights)
    ours, theirs = reports
    weighted = "" if weights is None else "weighted means, "
    line = (
        f"{ours['data']['title']}, {ours['num_examples']} test {noun(ours['data'], 'images')}: "
        f"{weighted}NLL {ours['nll_test']:.2f} here, {theirs['nll_test']:.2f} there; "
        f"paired difference {mean:+.2f} ± {error:.2f} nats"
    )
    if compared.num_unreliable:
        line += f"; {compared.num_unreliable} of these cannot be relied on"
    return line


def _compare(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> evaluate.Comparison:
    """Pairs what two evaluations found; a difference of NLLs is one of log p(x) the other way."""
    pair = theirs, ours
    unknown = {"standard_error_test": np.nan, "is_reliable_test": False}  # of earlier versions
    errors, is_reliable = (
        [each.get(name, np.full(len(each["nll_test"]), value)) for each in pair]
        for name, value in unknown.items()
    )
    return evaluate.Comparison.of([-each["nll_test"] for each in pair], errors, is_reliable)


def _mean_difference(
    compared: evaluate.Comparison, weights: np.ndarray | None
) -> tuple[float, float]:
    """Mean and standard error, nats, of the images that one explains; weighted as the NLLs are."""
    if weights is None or not compared.is_explained.any():
        return compared.mean, compared.standard_error
    return evaluate.mean_and_standard_error(compared.explained, weights[compared.is_explained])


def _check_alike(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raises WorkdirError for reports whose numbers are of different things."""
    if ours["data"]["sha256"] != theirs["data"]["sha256"]:
        raise WorkdirError("The two reports were not made on the same data.")
    weights = [(each["data"].get("weights") or {}).get("sha256") for each in (ours, theirs)]
    if weights[0] != weights[1]:
        raise WorkdirError(
            "The two reports weigh the rows of the same data otherwise; their means are of "
            "different things."
        )
    conditions = [each["data"].get("condition") or [] for each in (ours, theirs)]
    if conditions[0] != conditions[1]:
        here, there = (" and ".join(each) or "nothing" for each in conditions)
        raise WorkdirError(
            f"The two reports are of p(x) given different things, {here} here and {there} there; "
            "these are different quantities."
        )
    models = [report["config"]["training"]["model"] for report in (ours, theirs)]
    if (models[0] == "conditional") != (models[1] == "conditional"):
        raise WorkdirError(
            "One of the two is of whole images, the other of lower halves given upper ones; these "
            "are different quantities."
        )
    here, there = (report["config"]["evaluation"] for report in (ours, theirs))
    differing = [
        f"{name}={value} here, {there.get(name)} there"
        for name, value in here.items()
        if there.get(name) != value
    ]
    if differing:
        raise WorkdirError(f"The two reports were not evaluated alike ({'; '.join(differing)}).")


_PER_IMAGE = ("nll_test", "standard_error_test", "is_reliable_test", "weight_test")


def _paired(
    ours: dict[str, np.ndarray],
    theirs: dict[str, np.ndarray],
    our_report: dict[str, Any],
    their_report: dict[str, Any],
) -> list[dict[str, np.ndarray]]:
    """What both found of test images, image by image.

    Raises:
      WorkdirError: if they are of different images, or it cannot be known.
    """
    indices = [each.get("index_test") for each in (ours, theirs)]
    values = [{name: each[name] for name in _PER_IMAGE if name in each} for each in (ours, theirs)]
    num_alone = sum(index is None for index in indices)
    if num_alone == 0:
        orders = [np.argsort(index) for index in indices]
        sorted_indices = [index[order] for index, order in zip(indices, orders, strict=True)]
        if not np.array_equal(*sorted_indices):
            raise WorkdirError(
                "The two reports are of different test images: `index_test` of their "
                "evaluation.npz differ."
            )
        return [
            {name: array[order] for name, array in value.items()}
            for value, order in zip(values, orders, strict=True)
        ]
    # Earlier versions kept no index. Their order was that of today, except for a whole test set.
    is_whole = our_report["num_examples"] == our_report["data"].get("test_images")
    if (num_alone == 1 and is_whole) or len(ours["nll_test"]) != len(theirs["nll_test"]):
        raise WorkdirError(
            "One of the two evaluation.npz does not say which images it is of, and is of all of "
            "them, whose order was another then; evaluate that run again."
        )
    return values
