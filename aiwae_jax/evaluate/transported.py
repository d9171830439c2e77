"""The density of what `transport` makes of noise, exactly, by the determinant of its Jacobian."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax.evaluate import doors
from aiwae_jax.evaluate.findings import Finding, skipped
from aiwae_jax.evaluate.target import StartFn
from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree

DETERMINANT = "determinant of `transport`"
_MOST_COORDINATES = 512  # whose Jacobian is taken
_NUM_DRAWS = 4  # of each datum
_TOLERANCE = 0.02  # nats, and standard deviations of noise
_ROUNDING = 16.0  # units in the last place
_LOG_TWO_PI = np.log(2.0 * np.pi)


@partial(jax.jit, static_argnames=("methods", "with_density"))
def _look(x, noise, own, start, *, methods, with_density):
    """Images of noise `[R, S, D]`, their Jacobians and densities, each `[R, S, ...]`."""

    def one(q, noise, own):
        def moved_twice(noise):
            moved, log_det = q.transport(noise)
            return moved, (moved, log_det)

        jacobian, (moved, log_det) = jax.jacfwd(moved_twice, has_aux=True)(noise)
        found = {"noise": noise, "z": moved, "log_det": log_det, "jacobian": jacobian}
        if with_density:
            found["log_prob"] = q.log_prob(moved)
        if "inverse_transport" in methods:
            found["inverse"] = q.inverse_transport(moved)
        if own is not None:
            z, found["own_log_prob"] = own
            found["own_noise"] = q.inverse_transport(z)
            found["own_log_det"] = q.transport(found["own_noise"])[1]
        return found

    def of_datum(x, noise, own):
        q = start(x)
        return jax.vmap(lambda noise, own: one(q, noise, own))(noise, own)

    return jax.vmap(of_datum)(x, noise, own)


def examine(
    start_fn: StartFn,
    x: PyTree,
    start: doors.Start,
    own: tuple[np.ndarray, np.ndarray] | None,
    *,
    with_density: bool,
) -> list[Finding]:
    """Compares `transport`'s determinant, its inverse and the density with its Jacobian.

    Where all of them agree, the density of what `transport` draws is known, with its constant.

    Args:
      start_fn: `x -> Posterior`, whose posteriors have a `transport`.
      x: R data.
      start: what is known of it.
      own: draws `[R, S, D]` and their log probabilities `[R, S]`, by `sample_and_log_prob`; None
        where there are none, or no inverse.
      with_density: whether its `log_prob` is known at any z.
    """
    title = DETERMINANT
    if start.latent.shape[0] > _MOST_COORDINATES:
        return [skipped(title, f"it is of more than {_MOST_COORDINATES} coordinates")]
    shape = jax.tree.leaves(x)[0].shape[0], _NUM_DRAWS, start.latent.shape[0]
    noise = np.random.default_rng(0).standard_normal(shape).astype(start.latent.dtype)
    own = jax.tree.map(lambda a: a[:, :_NUM_DRAWS], own)
    looked = _look(x, noise, own, start_fn, methods=start.methods, with_density=with_density)
    found = jax.tree.map(lambda a: np.asarray(a, np.float64), processes.fetch(looked))
    eps = _ROUNDING * float(jnp.finfo(start.latent.dtype).eps)
    jacobian, noise, log_det = found["jacobian"], found["noise"], found["log_det"]
    lengths = np.linalg.norm(jacobian, axis=-1)
    with np.errstate(all="ignore"):
        exact = np.linalg.slogdet(jacobian)[1]
        condition = np.linalg.cond(np.nan_to_num(jacobian / lengths[..., None]))
        # By how much rounding of z moves the noise, and what follows for the density.
        moved = eps * np.abs(found["z"]) / lengths
        size = noise.shape[-1]
        of_density = (moved * np.abs(noise)).sum(axis=-1) + eps * (np.abs(log_det) + size)
        by_transport = _normal(noise) - log_det
    findings = [
        _verdict(title, log_det - exact, eps * size * condition, _OF_DETERMINANT),
    ]
    if "log_prob" in found:
        off = found["log_prob"] - by_transport
        findings.append(_verdict("`log_prob` of `transport`", off, of_density, _OF_DENSITY))
    if "inverse" in found:
        off = np.abs(found["inverse"] - noise).max(axis=-1)
        room = eps * condition + moved.max(axis=-1)
        findings.append(_verdict("`inverse_transport`", off, room, _OF_INVERSE))
    if "own_log_prob" in found:
        off = found["own_log_prob"] - _normal(found["own_noise"]) + found["own_log_det"]
        findings.append(_verdict("`sample_and_log_prob`", off, 4.0 * of_density, _OF_OWN))
    return findings


def _normal(noise: np.ndarray) -> np.ndarray:
    return -0.5 * (noise**2 + _LOG_TWO_PI).sum(axis=-1)


_OF_DETERMINANT = (
    "The log determinant that `transport` of what `start` returns gives is off by {:+.3g} nats "
    "from that of its Jacobian; so are all bounds in base space."
)
_OF_DENSITY = (
    "`log_prob` of what `start` returns is off by {:+.3g} nats from the density of what its "
    "`transport` makes of noise: a constant is missing, or the two have other parameters."
)
_OF_INVERSE = (
    "`inverse_transport` of what `start` returns does not lead back to the noise that `transport` "
    "was given, but {:.3g} away from it."
)
_OF_OWN = (
    "`sample_and_log_prob` of what `start` returns gives a density that is off by {:+.3g} nats "
    "from that by `transport`."
)


def _verdict(title: str, off: np.ndarray, room: np.ndarray, text: str) -> Finding:
    """Of deviations `[R, S]`, the middle one of each datum, beyond what rounding explains."""
    middle = np.median(off, axis=1)
    row = int(np.abs(np.nan_to_num(middle, nan=np.inf)).argmax())
    statistic, most = float(middle[row]), _TOLERANCE + float(np.median(room[row]))
    if abs(statistic) <= most:
        return Finding(title, statistic, 0.0, True)
    if not np.isfinite(most):
        return skipped(title, "rounding leaves nothing of it")
    return Finding(title, statistic, 0.0, False, text.format(statistic))
