"""`aiwae sample --workdir=RUN --num=100`: rows that are drawn from the model."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from aiwae_jax import train
from aiwae_jax.cli import command, flags, using
from aiwae_jax.options import option


@dataclasses.dataclass(frozen=True)
class _Sampling:
    """What is drawn."""

    num: int = option(100, at_least=1, help="Rows to draw.")
    condition: str | None = option(
        None,
        help="Of a model that is given a condition its value, the name of a class or a number, of "
        "several columns with commas between them. By default all classes in turn.",
    )
    with_latents: bool = option(
        False, flag="latents", help="Adds the latents that the rows were drawn from, as z_0, z_1."
    )


@command.exit_codes(names=using.NAMES | {"num": "num", "condition": "condition"})
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    fv = using.begin(argv, "Draws from the model: aiwae sample --workdir=RUN --num=100", _Sampling)
    asked, sampling = flags.make(fv, using.Using), flags.make(fv, _Sampling)
    run = asked.load()
    is_of_context = run.model.is_conditional and not run.model.num_given
    flags.require(
        run.model.sample is not None and not is_of_context,
        f"--workdir={asked.workdir}: its model draws no rows by itself; `run.sample` in Python "
        "takes the datum to go on from.",
    )
    x, z = _drawn(run, asked.key, sampling)
    columns = using.named(np.asarray(x), run.config["data"])
    if sampling.with_latents:
        columns |= using.numbered("z", z)
    asked.write(columns, f"{sampling.num} rows drawn from the model")


def _drawn(run: train.Run, key: jax.Array, sampling: _Sampling) -> tuple[np.ndarray, np.ndarray]:
    """Rows and their latents, of all conditions in turn where none is asked for."""
    conditions = _conditions(run, sampling.condition)[: sampling.num]
    if len(conditions) == 1:
        return run.sample(key, sampling.num, condition=conditions[0])
    each = -(-sampling.num // len(conditions))
    drawn = [
        run.sample(jax.random.fold_in(key, i), each, condition=condition)
        for i, condition in enumerate(conditions)
    ]
    return tuple(
        np.stack(arrays, axis=1).reshape(-1, arrays[0].shape[-1])[: sampling.num]
        for arrays in zip(*drawn, strict=True)
    )


def _conditions(run: train.Run, text: str | None) -> list[Any]:
    """The conditions to be drawn for; None for a model that is given none.

    Raises:
      UsageError: for one that has numbers, of which nobody knows which are meant.
    """
    if text is not None:
        return [[word.strip() for word in text.split(",")]]
    if not run.model.num_given:
        return [None]
    numbers = [name for name, classes in run.condition.items() if not classes]
    flags.require(
        not numbers and bool(run.condition),
        f"--condition is needed: {', '.join(run.condition)} are what the model is given, and of "
        "numbers nobody knows which are meant.",
    )
    return [list(each) for each in itertools.product(*run.condition.values())]
