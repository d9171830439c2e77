"""Which likelihood a command's data get, and the data as its model sees them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from aiwae_jax import likelihoods, train
from aiwae_jax.cli import build
from aiwae_jax.cli.flags import UsageError, refusals, require
from aiwae_jax.cli.settings import FLAGS, Fitting
from aiwae_jax.data import Dataset, condition_of, conditions, on_disk
from aiwae_jax.types import Model

_OF_KIND = {
    "bits": "bernoulli",
    "grey": "bernoulli",
    "counts": "negative_binomial",
    "real": "normal",
    "categories": "categorical",
}
LIBRARY = "library"  # what the column of a datum's total is called


class Chosen(NamedTuple):
    """What a model of data is built of.

    Attributes:
      dataset: as the model sees it.
      likelihood: of it; None for bits, of which every model of ours is.
      text: of it, as --likelihood has it; None where there is no choice.
      words: what it is and why, for the person at the command line.
    """

    dataset: Dataset
    likelihood: likelihoods.Likelihood | None
    text: str | None
    words: str


def choose(fitting: Fitting, dataset: Dataset) -> Chosen:
    """The likelihood that was asked for, or the one that fits the data.

    Raises:
      UsageError: for one that cannot be, or that these data are not of.
      data.DataError: for data that are no bits, of a model of bits.
    """
    if ".py:" in fitting.model:
        return Chosen(dataset, None, None, "the likelihood of a model of your own")
    if not dataset.condition:
        return _choose(fitting, dataset)
    require(
        fitting.model == "one_layer",
        f"--model={fitting.model} is given no condition; leave --condition or --model out.",
    )
    found = _choose(fitting, dataset.modelled)
    return found._replace(
        dataset=conditions.joined(found.dataset, dataset),
        likelihood=found.likelihood or likelihoods.bernoulli(),
        words=f"{found.words}; given {' and '.join(dataset.condition)}",
    )


def _choose(fitting: Fitting, dataset: Dataset) -> Chosen:
    """The same of data that are all modelled."""
    with_missing = dataset.missing is not None
    if fitting.model != "one_layer":
        require(
            not with_missing,
            f"--model={fitting.model} takes no missing values; leave --missing or --model out.",
        )
        return Chosen(
            dataset.as_bits(), None, None, f"bernoulli (--model={fitting.model} has no other)"
        )
    text, why = fitting.likelihood, ""
    if text is None:
        text = _fitting(dataset)
        why = ", which fits these values; --likelihood=... is another choice"
    require(
        fitting.standardize is None or any(p.name in likelihoods.REAL for p in _parts(text)),
        "--standardize is for columns that are normal or student_t; leave it out.",
    )
    if with_missing:
        why = f" of what was observed{why}"
    if text == "bernoulli":
        bits = likelihoods.masked(likelihoods.bernoulli()) if with_missing else None
        return Chosen(dataset.as_bits(), bits, text, text + why)
    dataset = dataset._replace(max_level=None)
    if _has_library(text):
        require(
            not with_missing,
            "--likelihood: a library size is the total of all counts, and nobody knows it where "
            "some are missing; leave library=true or --missing out.",
        )
        dataset = with_library(dataset)
    with refusals(FLAGS):
        likelihood = likelihoods.from_text(
            text,
            _rows_of(text, train.training_part(dataset, fitting.validation_share)),
            names=dataset.columns,
            num_classes={name: len(codes) for name, codes in (dataset.categories or {}).items()},
            with_standardizing=fitting.standardize is not False,
            with_missing=with_missing,
        )
        for part in ("train", "test"):
            for _, rows in on_disk.chunks_of(getattr(dataset, part)):
                likelihood.check(rows, name=part, columns=dataset.columns)
    return Chosen(dataset, likelihood, text, text + why)


def _rows_of(text: str, dataset: Dataset) -> np.ndarray:
    """The training rows that a likelihood is made for; of those on disk what stands for them.

    Raises:
      UsageError: for a likelihood that must see all of them.
    """
    rows = dataset.train
    if not isinstance(rows, on_disk.Rows):
        return np.asarray(rows)
    names = {part.name for part in _parts(text)}
    require(
        not (names & {"categorical"} or _has_library(text)),
        f"--likelihood={text} looks at all rows at once, and these are left on disk; give "
        "--in_memory, or another likelihood.",
    )
    if not names & set(likelihoods.REAL):
        return rows[:1]
    mean, spread = rows.moments  # of two rows, these are the same
    return np.stack([mean - spread, mean + spread])


def build_model(fitting: Fitting, chosen: Chosen) -> Model:
    """The configured model of these data.

    Raises:
      UsageError: for what the library refuses to build.
    """
    dataset = chosen.dataset
    trained_on = train.training_part(dataset, fitting.validation_share)
    with refusals(FLAGS):
        return build.build_model(
            fitting,
            trained_on.mean_image(),
            likelihood=chosen.likelihood,
            columns=dataset.columns,
            image_shape=dataset.image_shape,
            condition=condition_of(trained_on),
        )


def _parts(text: str) -> list[likelihoods.Part]:
    with refusals(FLAGS):
        return likelihoods.parse(text)


def _has_library(text: str) -> bool:
    return any(part.options.get("library") is True for part in _parts(text))


def _fitting(dataset: Dataset) -> str:
    """The text of the likelihood that fits, column by column where they differ in kind."""
    if dataset.max_level is not None:
        return _OF_KIND["grey"]
    kind = dataset.kind
    if kind in _OF_KIND and (kind != "real" or dataset.columns is None):
        return _OF_KIND[kind]
    kinds = dataset.kinds_of_columns
    if kind == "real":
        # A density of 0s and 1s has no bound: among real columns such ones are bits.
        kinds = ["bits" if each == "bits" else "real" for each in kinds]
    groups: dict[str, list[str]] = {}
    for name, each in zip(dataset.columns, kinds, strict=True):
        # A share of something is a real number; only an image is of shades.
        groups.setdefault("normal" if each == "grey" else _OF_KIND[each], []).append(name)
    if len(groups) == 1:
        return next(iter(groups))
    return ";".join(f"{likelihood}:{','.join(names)}" for likelihood, names in groups.items())


def with_library(dataset: Dataset) -> Dataset:
    """The same with each datum's total as a last column, which its model is given.

    Data whose last column is the total of the others are as they should be.

    Raises:
      UsageError: for a row without counts.
    """
    if dataset.condition:
        return conditions.joined(with_library(dataset.modelled), dataset)
    if isinstance(dataset.train, on_disk.Rows):
        raise UsageError(
            "--likelihood: a library size is a column more, and these rows are left on disk; give "
            "--in_memory."
        )
    if all(_has_totals(rows) for rows in (dataset.train, dataset.test)):
        return dataset
    try:
        train, test = (likelihoods.with_library(rows) for rows in (dataset.train, dataset.test))
    except ValueError as error:
        raise UsageError(f"--likelihood: {error}") from None
    columns = dataset.columns and (*dataset.columns, LIBRARY)
    return dataset._replace(train=train, test=test, columns=columns, image_shape=None)


def _has_totals(rows: np.ndarray) -> bool:
    """Whether the last column is the total of the others."""
    rows = np.asarray(rows, np.float64)
    return rows.shape[1] > 1 and np.array_equal(rows[:, -1], rows[:, :-1].sum(axis=1))


def has_library(config: Mapping[str, Any]) -> bool:
    """Whether a run's likelihood is given each datum's total, by its config.json."""
    model = config.get("model") or {}
    return likelihoods.is_given_library(model.get("arguments", {}).get("likelihood"))


def as_trained(dataset: Dataset, config: Mapping[str, Any]) -> Dataset:
    """Data as they were loaded, made what a run's model sees.

    Args:
      dataset: loaded anew.
      config: of the run, what its config.json says.
    """
    dataset = dataset._replace(max_level=config["data"].get("max_level"))
    return with_library(dataset) if has_library(config) else dataset
