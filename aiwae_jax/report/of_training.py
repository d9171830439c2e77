"""Pictures of a training and its chains: what was learned epoch by epoch, how moves went."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aiwae_jax import moves
from aiwae_jax.report import plots
from aiwae_jax.report.shown import Shown
from aiwae_jax.runs import metrics
from aiwae_jax.samplers import TARGET_ACCEPTANCE

_BOUND = "/log_likelihood_bound"
_OBJECTIVE = "/objective"
# Column of a record -> (sign, label).
_VALIDATION = {
    "validation/bound": (1, "validation"),
    "validation/nll": (-1, "validation, annealed estimate"),
}


def curves_of(records: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, list[plots.Curve], bool]:
    """The epochs `[N]`, what the model was worth at them, and whether these are bounds of log p(x).

    Of a training whose samples have no proper weights it is what it climbs, which is no bound.
    """
    records = [record for record in records if "epoch" in record]
    has_bound = any(name.endswith(_BOUND) for record in records for name in record)
    end = _BOUND if has_bound else _OBJECTIVE
    training = _floats([_first(record, end) for record in records])
    label = "training" if has_bound else "training, what it climbs"
    curves = [plots.Curve(label, training)]
    for column, (sign, label) in _VALIDATION.items():
        values = sign * _floats([record.get(column) for record in records])
        curves.append(plots.Curve(label, values))
    epochs = _floats([record["epoch"] for record in records])
    return epochs, [curve for curve in curves if np.isfinite(curve.values).any()], has_bound


def columns(records: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray] | None:
    """The same as a table, a row for each epoch that was recorded; None where none was."""
    epochs, curves, _ = curves_of(records)
    return {"epoch": epochs} | {c.label: c.values for c in curves} if curves else None


def _first(record: Mapping[str, Any], end: str) -> float | None:
    """Of the first phase that has such a column: the one that trains the model, where two have."""
    found = [value for name, value in record.items() if name.endswith(end)]
    return next((value for value in found if value is not None), None)


def learning_curves(shown: Shown, path: pathlib.Path) -> bool:
    """Draws them; False where nothing was recorded."""
    epochs, curves, is_bound = curves_of(shown.records)
    if not curves:
        return False
    one = shown.noun.removesuffix("s")
    what = f"{'bound of log p(x), ' if is_bound else ''}nats for each {one}"
    plots.learning_curves(
        path,
        epochs,
        curves,
        f"{shown.dataset.title}: learning curves",
        unit=what,
        best_epoch=shown.best_epoch,
        parts=beginnings(shown.records, shown.parts),
    )
    return True


def beginnings(records: Sequence[Mapping[str, Any]], parts: Sequence[str]) -> dict[str, float]:
    """Parts of a curriculum, numbered, and the epochs at which each began; of one part nothing."""
    found: dict[int, float] = {}
    epoch = 0.0
    for record in records:
        leg = record.get("leg")
        if leg is not None and leg not in found and leg < len(parts):
            found[leg] = epoch
        epoch = record.get("epoch", epoch)
    if len(found) < 2:
        return {}
    return {f"{leg + 1}: {parts[leg]}": began for leg, began in sorted(found.items())}


def acceptance(shown: Shown, path: pathlib.Path) -> bool:
    """Draws how the moves of chains went; False where there were none."""
    rows = {}
    chains = metrics.chains((shown.records or [{}])[-1])
    for name, chain in chains.items():
        which = f"\n({name.replace('/', ' ')})" if len(chains) > 1 else ""
        rows[f"training, last epoch{which}"] = plots.Moves(
            chain.betas,
            _floats(chain.acceptance),
            _step_sizes_of(shown.move, chain.step_sizes),
            TARGET_ACCEPTANCE,
        )
    arrays = shown.arrays
    if "betas" in arrays:
        rows["evaluation"] = plots.Moves(
            arrays["betas"][1:-1],
            arrays["acceptance"],
            _step_sizes_of(shown.evaluation.move, arrays["step_sizes"]),
            shown.evaluation.target_acceptance,
            arrays["path_sample_size"],
        )
    if rows:
        plots.acceptance(path, rows, f"{shown.dataset.title}: moves of the chains")
    return bool(rows)


def _floats(values: Any) -> np.ndarray:
    """Numbers of a JSON file, whose null is NaN."""
    return np.asarray([math.nan if value is None else value for value in values], np.float64)


def _step_sizes_of(move: str, step_sizes: Sequence[float] | None) -> np.ndarray | None:
    """The step sizes, of a move that has some."""
    if step_sizes is None or moves.MOVES[move].step_sizes is None:
        return None
    return _floats(step_sizes)
