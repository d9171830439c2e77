"""Values and gradients at a few draws: whether they are finite, and whether they belong together.

Chains ask for gradients by `jax.grad`; a function with a rule of its own (`jax.custom_vjp`), or a
`stop_gradient` inside, may give others than the slopes of its values.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax.evaluate import compiling
from aiwae_jax.evaluate.findings import Finding
from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree

_NUM_DRAWS = 4  # of each datum
_MOST_COORDINATES = 16
_STEP = 0.1  # of the scale of `start`, and half of it
_TOLERANCE = 0.1  # of a slope; coarse forces are no fault
_OF_ALL = 0.05  # of all slopes at the same place
_FEWEST = 4  # slopes that decide
_ROUNDING = 8.0  # units in the last place
_NORMAL_IQR = 1.349


@compiling.jit()
def _slopes(density, x, z, moves):
    """Of draws z `[R, S, D]` values, whether gradients are finite, gradients, values after moves.

    Args:
      density: `(x, z) -> []`, its logarithm.
      x: R data.
      z: `[R, S, D]`.
      moves: `[R, K, D]`.
    """

    def of_datum(x, z, moves):
        def one(z):
            value, gradient = jax.value_and_grad(lambda z: density(x, z))(z)
            return value, jnp.isfinite(gradient).all(), gradient

        moved = (z[:, None] + moves[None]).reshape(-1, z.shape[-1])
        values = jax.vmap(lambda z: density(x, z))(moved)
        return *jax.vmap(one)(z), values.reshape(z.shape[0], moves.shape[0])

    return jax.vmap(of_datum)(x, z, moves)


def examine(name: str, density: Partial, x: PyTree, z: np.ndarray) -> list[Finding]:
    """Compares gradients of a log density with differences of its values, at a few draws.

    Args:
      name: of the density.
      density: `(x, z) -> []`.
      x: R data.
      z: `[R, S, D]` draws of `start` for each of them, some hundred, which give the scales.
    """
    size = z.shape[-1]
    num = min(size, _MOST_COORDINATES)
    coordinates = np.unique(np.linspace(0, size - 1, num).round().astype(np.int32))
    low, high = np.quantile(z, [0.25, 0.75], axis=1)
    scale = ((high - low) / _NORMAL_IQR)[:, coordinates]
    steps = np.zeros((len(z), 4, len(coordinates), size), z.dtype)
    for number, step in enumerate((_STEP, -_STEP, _STEP / 2, -_STEP / 2)):
        steps[:, number, range(len(coordinates)), coordinates] = step * scale
    steps = steps.reshape(len(z), -1, size)
    looked = processes.fetch(_slopes(density, x, z[:, :_NUM_DRAWS], steps))
    value, is_finite, gradient, moved = (np.asarray(a) for a in looked)
    rounding = _ROUNDING * np.finfo(z.dtype).eps * np.abs(value.astype(np.float64)) / _STEP
    up, down, half_up, half_down = np.moveaxis(
        moved.astype(np.float64).reshape(*value.shape, 4, len(coordinates)), 2, 0
    )
    with np.errstate(invalid="ignore", over="ignore"):
        wide, narrow = (up - down) / (2.0 * _STEP), (half_up - half_down) / _STEP
        along = gradient[..., coordinates].astype(np.float64) * scale[:, None]
    return [
        _finiteness(name, value, is_finite),
        _gradient(name, along, wide, narrow, rounding[..., None], coordinates),
    ]


def _finiteness(name: str, value: np.ndarray, is_finite: np.ndarray) -> Finding:
    """Of values and of flags of gradients, each `[R, S]`."""
    is_bad = np.isnan(value) | (value == np.inf)
    if name != "log_joint":
        is_bad = ~np.isfinite(value)
    is_broken = np.isfinite(value) & ~is_finite
    text = ""
    if is_bad.any():
        text = f"{_called(name)} is {_values(value[is_bad])} at {is_bad.sum()} of {is_bad.size} "
        text += "draws of `start`."
    elif is_broken.any():
        text = f"The gradient of {_called(name)} in z is not finite at {is_broken.sum()} of "
        text += f"{is_broken.size} draws of `start`, where its value is."
    num_bad = float((is_bad | is_broken).mean())
    return Finding(f"finiteness of {name}", num_bad, 0.0, not text, text)


def _called(name: str) -> str:
    return "`log_joint`" if name == "log_joint" else "`log_prob` of what `start` returns"


def _values(bad: np.ndarray) -> str:
    return ", ".join(sorted({f"{v:g}" for v in bad.ravel()}))


def _gradient(
    name: str,
    gradient: np.ndarray,
    wide: np.ndarray,
    narrow: np.ndarray,
    rounding: np.ndarray,
    coordinates: np.ndarray,
) -> Finding:
    """Whether most of a coordinate's gradients `[R, S, C]` are far from the differences there.

    A difference is believed as far as one of half its step agrees and rounding lets it.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        doubt = np.abs(wide - narrow) + rounding
        larger = np.maximum(np.abs(gradient), np.abs(narrow))
        all_of_it = np.sqrt((narrow**2).mean(axis=-1, keepdims=True))
        tolerance = _TOLERANCE * larger + _OF_ALL * all_of_it
        distance = np.abs(gradient - narrow)
        can_tell = np.isfinite(distance) & (doubt < tolerance) & (larger > 0)
        is_off = can_tell & (distance > tolerance + 3.0 * doubt)
    axes = (0, 1)
    share = is_off.sum(axis=axes) / np.maximum(can_tell.sum(axis=axes), 1)
    share = np.where(can_tell.sum(axis=axes) >= _FEWEST, share, 0.0)
    title, worst = f"gradient of {name}", int(share.argmax())
    if not can_tell.any():
        why = "no difference of its values is exact enough"
        return Finding(title, np.nan, np.nan, None, f"the {title} was not looked at: {why}.")
    if share[worst] <= 0.5:
        return Finding(title, float(share[worst]), 0.0, True)
    row, draw = np.argwhere(is_off[..., worst])[0]
    here = row, draw, worst
    text = (
        f"The {title} in z is not the slope of its values: along z[{coordinates[worst]}] it is "
        f"{gradient[here]:.3g} where a difference gives {narrow[here]:.3g}, per scale of "
        f"`start`; {int((share > 0.5).sum())} of {len(coordinates)} coordinates."
    )
    return Finding(title, float(share[worst]), 0.0, False, text)
