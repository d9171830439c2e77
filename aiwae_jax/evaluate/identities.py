"""Score identities: what gradients of a log density must average to over its own draws.

For z ~ p, smooth and positive on all of R^D (Stein's identity, for h = 1, h = z_i - c_i and
h = u·(z - c)), and Bartlett's second identity along a direction v:

    E[∂_i log p] = 0,   E[(z_i - c_i) ∂_i log p] = -1,   E[u·(z - c) v·∇log p] = -u·v,
    E[(v·∇log p)² + vᵀ(∇² log p)v] = 0.

The first sees a mean, the second a scale, the third how coordinates depend on each other, and of
p(x, z) the fourth sees the scale of x given z.
None sees a constant factor. A density with an edge or a jump need not obey them.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from aiwae_jax.evaluate import smoothness
from aiwae_jax.evaluate.findings import Finding
from aiwae_jax.evaluate.smoothness import Witnesses
from aiwae_jax.parallel import processes

MOST_STANDARD_ERRORS = 5.0
_CONFIRMED_BY = 4.0  # standard errors, of fresh draws, to the same side
_LEAST_EFFECT = 0.02  # of the natural scale: what is smaller is rounding, or does not matter
_LEAST_EFFECTIVE = 50.0  # draws that decide a mean; fewer are a tail that nobody has seen
_FEWEST_BATCHES = 4
_NORMAL_IQR = 1.349
_NUM_PROBED = 4  # coordinates whose edges are looked for
_NUM_PAIRS = 4  # of directions u and v


class Draws(NamedTuple):
    """Draws of R densities, S of each.

    Attributes:
      z: `[R, S, D]`.
      score: `[R, S, D]` gradients of the log density there.
      curvature: `[R, S, 2]` (v·∇log p)² and vᵀ(∇² log p)v for a random v; None where not asked for.
    """

    z: np.ndarray
    score: np.ndarray
    curvature: np.ndarray | None = None


class Words(NamedTuple):
    """Of the densities that are looked at.

    Attributes:
      name: of the density and of its draws.
      shift: what is wrong where the first identity fails.
      scale: where the second does.
      shear: where the third does.
      curvature: where the fourth does.
    """

    name: str
    shift: str
    scale: str
    shear: str
    curvature: str = ""


def gather(
    key: jax.Array, draw_fn: Callable[[jax.Array], Draws], num_draws: int, seconds: float
) -> Draws:
    """Calls `draw_fn(key)` until there are `num_draws` of each density, or time is up."""
    batches = []
    began = time.monotonic()
    while True:
        batches.append(processes.fetch(draw_fn(jax.random.fold_in(key, len(batches)))))
        if len(batches) == 1:
            began = time.monotonic()  # compiling does not count
        num = len(batches) * batches[0].z.shape[1]
        is_late = len(batches) >= _FEWEST_BATCHES and time.monotonic() - began > seconds
        if num >= num_draws or processes.of_primary(np.asarray(is_late)):
            break
    joined = [
        None if parts[0] is None else np.concatenate(parts, axis=1).astype(np.float64)
        for parts in zip(*batches, strict=True)
    ]
    return Draws(*joined)


def _natural(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and scale `[R, 1, D]` that exist for any tails."""
    low, centre, high = np.quantile(z, [0.25, 0.5, 0.75], axis=1, keepdims=True)
    return centre, (high - low) / _NORMAL_IQR


def _terms(draws: Draws) -> dict[str, np.ndarray]:
    """What has the mean 0, `[R, S, ...]`, of the order of 1 where it has not.

    The last of the scales is the mean over coordinates, which sees what all of them share.
    """
    centre, scale = _natural(draws.z)
    scales = (draws.z - centre) * draws.score + 1.0
    total = scales.mean(axis=2, keepdims=True)
    found = {"shift": draws.score * scale, "scale": np.concatenate([scales, total], axis=2)}
    if draws.z.shape[2] > 1:
        u, v = _directions(draws.z.shape[2])
        along, scores = (draws.z - centre) / scale, draws.score * scale
        found["shear"] = (along @ u) * (scores @ v) + (u * v).sum(axis=0)
    if draws.curvature is not None:
        squares, curvatures = draws.curvature[..., :1], draws.curvature[..., 1:]
        unit = squares.mean(axis=1, keepdims=True) + 1e-30
        found["curvature"] = (squares + curvatures) / unit
    return found


def _directions(num: int) -> np.ndarray:
    """Pairs of unit vectors, `[2, D, _NUM_PAIRS]`, the same ones always."""
    found = np.random.default_rng(0).normal(size=(2, num, _NUM_PAIRS))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


class _Means(NamedTuple):
    """Means over draws, `[R, ...]`, with their errors and how many draws decide them."""

    mean: np.ndarray
    error: np.ndarray
    effective: np.ndarray

    @classmethod
    def of(cls, terms: np.ndarray) -> "_Means":
        is_finite = np.isfinite(terms)
        num = np.maximum(is_finite.sum(axis=1), 2)
        mean = np.where(is_finite, terms, 0.0).sum(axis=1) / num
        squares = np.where(is_finite, terms - mean[:, None], 0.0) ** 2
        error = np.sqrt(squares.sum(axis=1) / (num - 1) / num)
        fourth = (squares**2).sum(axis=1)
        effective = np.where(fourth > 0, squares.sum(axis=1) ** 2 / np.maximum(fourth, 1e-300), num)
        return cls(mean, error, effective)

    @property
    def deviation(self) -> np.ndarray:
        """In standard errors; infinite of what is off and does not vary."""
        floor = np.where(np.abs(self.mean) > 0, 1e-12, 1.0)
        return self.mean / np.maximum(self.error, floor)


def examine(
    key: jax.Array,
    draw_fn: Callable[[jax.Array], Draws],
    witnesses_fn: Callable[[int], Witnesses],
    words: Words,
    *,
    num_draws: int,
    seconds: float,
) -> tuple[list[Finding], Draws]:
    """Measures all identities of some densities.

    What is off by more than 5 standard errors is measured again with fresh draws, so that chance
    and a tail that one draw decides need two accidents.

    Args:
      key: consumed.
      draw_fn: `key -> Draws`, a batch.
      witnesses_fn: of density number r some draws, to look for edges and jumps.
      words: of the densities.
      num_draws: of each density.
      seconds: after which fewer must do.

    Returns:
      A finding of each identity, and the draws.
    """
    first_key, second_key = jax.random.split(key)
    draws = gather(first_key, draw_fn, num_draws, seconds)
    found, again = [], None
    for name, terms in _terms(draws).items():
        means = _Means.of(terms)
        is_off = (np.abs(means.deviation) > MOST_STANDARD_ERRORS) & (
            np.abs(means.mean) > _LEAST_EFFECT
        )
        if is_off.any():
            if again is None:
                again = _terms(gather(second_key, draw_fn, num_draws, seconds))
            fresh = _Means.of(again[name])
            is_off &= fresh.deviation * np.sign(means.mean) > _CONFIRMED_BY
        found.append(_verdict(name, means, is_off, witnesses_fn, words))
    return found, draws


def _verdict(
    name: str,
    means: _Means,
    is_off: np.ndarray,
    witnesses_fn: Callable[[int], Witnesses],
    words: Words,
) -> Finding:
    """Says of one identity whether it holds, must hold, or cannot be measured."""
    of_name = {
        "shift": f"mean of the score of {words.name}",
        "scale": f"scale of {words.name}",
        "shear": f"dependence between coordinates of {words.name}",
        "curvature": f"curvature of {words.name}",
    }[name]
    # Of what is off the largest, else of all the one that is off by most of its errors.
    ranked = np.where(is_off, np.abs(means.mean), -1.0) if is_off.any() else abs(means.deviation)
    row, place = np.unravel_index(ranked.argmax(), ranked.shape)
    statistic, error = float(means.mean[row, place]), float(means.error[row, place])
    if not is_off.any():
        return Finding(of_name, statistic, error, True)
    measured = f"{statistic:+.3g} ± {error:.2g} where 0 is expected"
    if (means.effective[is_off] < _LEAST_EFFECTIVE).all():
        why = "a few draws of its tail decide it"
        text = f"the {of_name} cannot be told ({measured}): {why}."
        return Finding(of_name, statistic, error, None, text)
    has_coordinates = name in ("shift", "scale")
    num_coordinates = means.mean.shape[1] - (name == "scale")
    witnesses, coordinates = witnesses_fn(int(row)), []
    if has_coordinates:
        order = np.argsort(-np.abs(means.deviation[row, :num_coordinates]))
        coordinates = [int(i) for i in order[:_NUM_PROBED]]
    elif name == "shear":
        coordinates = list(range(min(witnesses.z.shape[-1], 4 * _NUM_PROBED)))
    roughness = smoothness.roughness(witnesses, coordinates, with_kinks=name == "curvature")
    if roughness:
        text = (
            f"The {of_name} is {measured}, which need not hold here, for {roughness}: whether its "
            "draws fit its density cannot be told."
        )
        # A kink is common, in priors and in networks, and the other two have seen the scale of z.
        return Finding(of_name, statistic, error, None, text, is_doubtful=name != "curvature")
    where = _place(int(place), num_coordinates, is_off) if has_coordinates else ""
    reason = getattr(words, name)
    return Finding(of_name, statistic, error, False, f"{reason} ({measured}{where}).")


def _place(place: int, num_coordinates: int, is_off: np.ndarray) -> str:
    """Says which coordinates are off."""
    num_off = int(is_off[:, :num_coordinates].any(axis=0).sum())
    if place == num_coordinates:
        return ", the mean over the coordinates of z"
    return f", z[{place}]; {num_off} of {num_coordinates} coordinates"
