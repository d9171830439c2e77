"""Which start of the chains is tighter: both tried on a few data simulated from the model."""

import dataclasses
from collections.abc import Callable, MutableMapping
from typing import Any

import jax
import numpy as np

from aiwae_jax import evaluate
from aiwae_jax.evaluate import doors

LARGE_GAP = 0.1  # nats: below it no other start is worth a trial
_NUM_DATA = 16
_MOST_TEMPERATURES = 100
_STANDARD_ERRORS = 2.0


def can_start(target: evaluate.Target, datum: Any, settings: evaluate.Settings) -> bool:
    """Whether chains of these settings can live in the space that a target's start spans."""
    return (
        settings.chain_space == "latent"
        or "transport" in doors.look_at_start(target.start, datum).methods
    )


def try_other(
    key: jax.Array,
    target_fn: Callable[..., evaluate.Target],
    start: str | None,
    other: str,
    settings: evaluate.Settings,
    *,
    store: MutableMapping,
    progress_fn: Callable[[int, int], None],
) -> dict[str, Any]:
    """Compares two starts on the same simulated data, at 100 temperatures or fewer.

    Both give lower bounds of log p(x) in expectation, so that the higher one is the tighter.

    Args:
      key: consumed.
      target_fn: `target_fn(start=...)`, what is measured.
      start: the one that a report is made with; None for the run's own.
      other: the other one.
      settings: of its chains.
      store: of finished pieces.
      progress_fn: as `evaluate.log_likelihood` calls it.

    Returns:
      For report.json: by how much the other one is higher, its standard error over the data, and
      `is_tighter`: by more than twice that, and 0.1 nats.
    """
    data_key, run_key = jax.random.split(key)
    few = min(settings.num_temperatures, _MOST_TEMPERATURES)
    settings = dataclasses.replace(settings, num_temperatures=few)
    x, _ = evaluate.simulate(data_key, target_fn(start=start), _NUM_DATA)
    found = [
        evaluate.log_likelihood(
            *(run_key, target_fn(start=each), x, settings), store=store, progress_fn=progress_fn
        ).log_likelihood
        for each in (start, other)
    ]
    with np.errstate(invalid="ignore"):  # of a datum that no chain of either explains
        difference, error = evaluate.mean_and_standard_error(found[1] - found[0])
    return {
        "start": other,
        "num_simulated": _NUM_DATA,
        "num_temperatures": few,
        "difference": difference,
        "difference_se": error,
        "is_tighter": bool(difference > LARGE_GAP and not difference <= _STANDARD_ERRORS * error),
    }
