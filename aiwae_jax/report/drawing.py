"""What a report shows: tables, pictures and page, made of what was measured."""

import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aiwae_jax.report import (
    contents,
    extremes,
    images,
    of_training,
    page,
    per_datum,
    pictures,
    text,
)
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.report.measurable import Measurable
from aiwae_jax.runs import files, metrics
from aiwae_jax.runs.repeats import Repeat


def drawn(
    repeat: Repeat,
    measurable: Measurable,
    evaluation: Evaluation,
    content: dict[str, Any],
    describe_fn: Callable[[dict[str, Any]], text.Description] = text.describe,
    *,
    with_parquet: bool = False,
) -> None:
    """Makes whatever is missing of a report's tables, pictures and page, from what is there."""
    where = repeat.folder
    if tables := per_datum.missing(where, with_parquet=with_parquet):
        what = "The numbers of each datum cannot be written"
        if arrays := _read_arrays(where, content, per_datum.NEEDS, what):
            per_datum.write(where, tables, arrays, measurable.dataset)
    if content.get("pictures") == pictures.present(where) and (where / "report.html").exists():
        return
    description = describe_fn(content)
    shown = _shown(where, measurable, evaluation, content, description)
    pictures.draw_missing(shown)
    there = pictures.present(where)
    if content.get("pictures") != there:
        content["pictures"] = there
        files.write_json(where / "report.json", content)
    content.setdefault("data_dir", measurable.data_dir)
    captions = pictures.captions(
        *(measurable.dataset, measurable.model, measurable.start, shown.records),
        with_best=shown.best_epoch is not None,
        num_latents=shown.latent_size,
    )
    page_text = page.render(
        *(where, content, describe_fn(content), captions),
        rows=extremes.table(shown),
        curves=of_training.columns(shown.records),
    )
    files.write_text(where / "report.html", page_text)


def _shown(
    where: pathlib.Path,
    measurable: Measurable,
    evaluation: Evaluation,
    content: dict[str, Any],
    description: text.Description,
) -> pictures.Shown:
    """What the pictures and the page are made of."""
    dataset, share = measurable.dataset, measurable.validation_share
    what = "The moves of the evaluation cannot be drawn"
    return pictures.Shown(
        where,
        dataset,
        measurable.model,
        measurable.params.theta,
        measurable.target().start,
        images.choose_images(dataset, evaluation, share),
        metrics.read(where),
        _read_arrays(where, content, pictures.ARRAYS, what),
        measurable.move,
        evaluation,
        measurable.stopping and measurable.stopping.epoch,
        description.parts,
    )


def _read_arrays(
    where: pathlib.Path, content: dict[str, Any], needs: Sequence[str], what: str
) -> dict[str, np.ndarray]:
    """Those of evaluation.npz; none, with a warning of `what`, where it cannot be read."""
    try:
        return contents.read_evaluation(where, content, needs)
    except files.WorkdirError as error:
        warnings.warn(f"{what}: {error}", stacklevel=3)
        return {}
