"""Checks the arguments of evaluation, once and on the host, before any chain begins.

JAX broadcasts shapes and clamps indices, so that a wrong length is a wrong number, and its own
errors name no argument of ours. Shapes are compared by `jax.eval_shape`; a few values are looked at
by a few draws and evaluations.
"""

import dataclasses
import warnings
from typing import Any, NamedTuple

import jax
import numpy as np

from aiwae_jax import checks, moves, schedules
from aiwae_jax.evaluate import chunks, trial
from aiwae_jax.evaluate.calls import Work, check_progress
from aiwae_jax.evaluate.settings import Plan, Settings
from aiwae_jax.evaluate.target import StartFn, Target
from aiwae_jax.types import Posterior, PyTree

_MOST_LEAVES = 4  # of a datum, to be described one by one


def _describe_datum(x: PyTree, origin: str = "") -> str:
    shapes = [list(np.shape(leaf)) for leaf in jax.tree.leaves(x)]
    if isinstance(x, list) and len(shapes) > _MOST_LEAVES:
        return (
            f"one datum x of {len(shapes)} leaves (a list is a pytree; if it is one of data, use "
            "`np.stack(x)`)"
        )
    if len(shapes) == 1:
        hint = " (if `x` was one datum, give it a leading axis, `x[None]`)" if not shapes[0] else ""
        return f"one datum x of shape {shapes[0]}{origin}{hint}"
    return f"one datum x of shapes {jax.tree.map(lambda a: list(np.shape(a)), x)}{origin}"


class Start(NamedTuple):
    """Facts of the distributions that `start` returns.

    Attributes:
      latent: shape and dtype of one draw.
      latents: of what kind it says that they are.
      methods: those that it has.
    """

    latent: jax.ShapeDtypeStruct
    latents: str
    methods: frozenset[str]


_METHODS = ("sample", "log_prob", "sample_and_log_prob", "transport", "inverse_transport")


def sample_and_log_prob(q: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Takes one draw and its log density, of a `Posterior` or of any `Distribution`."""
    if hasattr(q, "sample_and_log_prob"):
        return q.sample_and_log_prob(key)
    z = q.sample(key)
    return z, q.log_prob(z)


def _has(q: Any, name: str) -> bool:
    """Tells whether `q` has a method of its own, not the stub that the protocol leaves it."""
    method = getattr(type(q), name, None) or getattr(q, name, None)
    return callable(method) and method is not getattr(Posterior, name, None)


def look_at_start(start: StartFn, datum: PyTree, origin: str = "") -> Start:
    """Finds shapes and methods of `start(datum)`, by abstract evaluation.

    Raises:
      TypeError: for one that returns no distribution over vectors of floats.
      ValueError: for latents that are no vectors, or an error inside.
    """
    found: dict[str, Any] = {}

    def draw(x, key):
        q = start(x)
        found["type"] = type(q).__name__
        found["latents"] = getattr(q, "latents", "continuous")
        found["methods"] = frozenset(name for name in _METHODS if _has(q, name))
        return q.sample(key) if "sample" in found["methods"] else 0.0

    given = _describe_datum(datum, origin)
    latent = checks.shape_of("start", draw, datum, jax.random.key(0), given=given)
    if "sample" not in found["methods"]:
        raise TypeError(
            "`start` must return a distribution with the methods `sample(key)` and "
            f"`log_prob(z)`, for {given}; got {found['type']} without `sample`."
        )
    checks.position(latent, f"z, drawn from what `start` returns ({found['type']}),")
    return Start(latent, found["latents"], found["methods"])


def _needs(start: Start, method: str, why: str) -> None:
    if method not in start.methods:
        raise ValueError(f"What `start` returns has no `{method}`, which {why}.")


def _choose_space(
    settings: Settings, start: Start, *, is_reversed: bool, with_warning: bool
) -> Settings:
    """Gives `settings` a `chain_space`, and refuses those where `start` cannot serve it.

    Raises:
      ValueError: naming what is missing, and what to use.
    """
    move = moves.MOVES[settings.move]
    if (move.latents, start.latents) == ("binary", "continuous"):
        raise ValueError(
            f"`move`={settings.move!r} flips bits, and what `start` returns does not say that it "
            "draws binary latents; give it the attribute `latents = 'binary'`, or use 'hmc'."
        )
    moves.check(settings.move, start.latents)
    if settings.chain_space is None:
        needed = {"transport", "inverse_transport"} if is_reversed else {"transport"}
        has_transport = needed <= start.methods and move.latents == "continuous"
        settings = dataclasses.replace(settings, chain_space="base" if has_transport else "latent")
        if with_warning and not has_transport and move.latents == "continuous":
            warnings.warn(
                f"What `start` returns has no `{min(needed - start.methods, key=len)}`, so the "
                "chains move z itself "
                "(`chain_space='latent'` in the settings asks for it without this warning): fine "
                "where all latents have scales near 1, slow where these differ.",
                stacklevel=5,
            )
    if settings.chain_space == "base":
        fix = "; give it one, or use `chain_space='latent'`"
        _needs(start, "transport", "`chain_space='base'` anneals the noise of" + fix)
        if is_reversed:
            _needs(start, "inverse_transport", "reverse chains in base space start from" + fix)
    else:
        _needs(start, "log_prob", "chains in latent space ask for at every point")
    return settings


def _check_densities(
    target: Target, datum: PyTree, start: Start, how: str, origin: str = ""
) -> None:
    """Raises for functions that do not map one datum and one latent to a number.

    Args:
      target: of these functions.
      datum: one.
      start: what `look_at_start` found.
      how: a chain space, or "bound" for importance samples.
      origin: of the datum, in words.
    """
    latent, key = start.latent, jax.random.key(0)
    given = _describe_datum(datum, origin)
    drawn = f"{given} and z of shape {list(latent.shape)}, a draw of `start`"

    # The density of what chains start from.
    name, fn, argument = {
        "base": ("transport(noise)", lambda x, noise: target.start(x).transport(noise), latent),
        "latent": ("log_prob(z)", lambda x, z: (z, target.start(x).log_prob(z)), latent),
        "bound": ("log_prob(z)", lambda x, key: sample_and_log_prob(target.start(x), key), key),
    }[how]
    found = checks.shape_of("start", fn, datum, argument, given=f"`{name}` for {drawn}")
    if not (isinstance(found, tuple | list) and len(found) == 2):
        raise TypeError(f"`start(x).{name}` must return a pair, got {checks.describe(found)}.")
    checks.scalar(f"start(x).{name}" + ("[1]" if how == "base" else ""), found[1])
    if found[0].shape != latent.shape:
        raise ValueError(
            f"`start(x).{name}` must return z of the shape {list(latent.shape)} of its draws, "
            f"got {list(found[0].shape)}."
        )

    # That of the joint, and where chains move its gradient.
    found = checks.shape_of("log_joint", target.log_joint, datum, latent, given=drawn)
    checks.scalar("log_joint(x, z)", found)
    if how != "bound":
        gradient = jax.grad(lambda z, x: target.log_joint(x, z))
        given = f"its gradient in z asked for, {drawn}"
        checks.shape_of("log_joint", gradient, latent, datum, given=given)


def _check_axis(target: Target, x: PyTree) -> None:
    """Warns of `x[0]` where x may be meant: one estimate per pixel."""
    leaves = jax.tree.leaves(x)
    if len(leaves) != 1 or leaves[0].ndim != 1 or len(leaves[0]) < 2:
        return
    try:
        z = jax.eval_shape(lambda x: target.start(x).sample(jax.random.key(0)), x)
        found = jax.eval_shape(lambda x, z: target.log_joint(x, z), x, z)
    except Exception:
        return  # not to be read as one datum
    if found.shape == ():
        warnings.warn(
            f"`x` of shape {list(leaves[0].shape)} is read as {len(leaves[0])} data of a single "
            "number each, and could be one datum; give one datum a leading axis, `x[None]`.",
            stacklevel=5,
        )


def enter(
    target: Target,
    x: PyTree,
    settings: Settings,
    *,
    key: Any = None,
    origin: str = "",
    is_reversed: bool = False,
    is_first: bool = False,
    **options: Any,
) -> Work:
    """Checks the arguments that all of evaluation shares.

    Args:
      target: what is measured.
      x: data, of which the first datum is looked at.
      settings: whose `chain_space` may be None.
      key: random key, of a call that is the first to look at its functions.
      origin: of the data, in words.
      is_reversed: whether chains will start from exact latents.
      is_first: whether it is, so that values are looked at too, and not shapes alone.
      **options: other fields of `Work`.

    Raises:
      TypeError: for what is not of the kind asked for.
      ValueError: for what cannot be run.
    """
    if is_first:
        checks.key(key)
    work = Work(target, settings, **options)
    checks.num_rows("x", x)
    datum = chunks.first(x)
    start = look_at_start(target.start, datum, origin)
    settings = _choose_space(settings, start, is_reversed=is_reversed, with_warning=is_first)
    _check_densities(target, datum, start, settings.chain_space, origin)
    if not origin:  # what `sample` draws has the shape that it says
        _check_axis(target, x)
    if is_first:
        trial.check_support(target, x, start.latent)
        trial.check_draws(target, x, settings)
    return dataclasses.replace(work, settings=settings)


def settings_of_plan(plan: Plan, settings: Settings) -> Settings:
    """The settings with as many temperatures as the plan has, where it was to choose them.

    Raises:
      TypeError: for what is no plan.
      ValueError: for a plan of other settings: its slots would be read past their end.
    """
    if not isinstance(plan, Plan):
        raise TypeError(
            f"`plan` must be an `evaluate.Plan`, as `tune` makes, got {checks.describe(plan)}."
        )
    schedules.check_schedule(np.asarray(plan.betas))
    if settings.conditional_sample_size is not None and len(plan.betas) < settings.num_temperatures:
        settings = dataclasses.replace(settings, num_temperatures=len(plan.betas))
    num = settings.num_temperatures
    is_of_moves = np.shape(plan.step_sizes)[:1] == (num - 2,) and np.ndim(plan.step_sizes) <= 2
    if np.shape(plan.betas) != (num,) or not is_of_moves:
        raise ValueError(
            f"`plan` has {np.size(plan.betas)} betas and {np.size(plan.step_sizes)} step sizes, "
            f"but `settings.num_temperatures`={num} needs {num} and {num - 2}; use `tune` with the "
            "same settings."
        )
    checks.step_sizes(plan.step_sizes, "plan.step_sizes")
    _check_persistences(plan, settings)
    return settings


def _check_persistences(plan: Plan, settings: Settings) -> None:
    """Raises ValueError for momenta that persist in a plan, of moves that were not asked for."""
    if not np.size(plan.persistences):
        return
    if settings.move != "hmc" or not settings.momentum_persistence:
        raise ValueError(
            "`plan` says how much of each momentum persists, and the moves of `settings` have none "
            f"that does (move {settings.move!r}, momentum_persistence="
            f"{settings.momentum_persistence:g}); use `tune` with the same settings."
        )
    found = np.asarray(plan.persistences)
    if found.shape != (settings.num_temperatures - 2,) or not ((found >= 0) & (found < 1)).all():
        raise ValueError(
            f"`plan.persistences` must be {settings.num_temperatures - 2} numbers in [0, 1), one "
            f"for each move, got shape {list(found.shape)}."
        )


def check_free(settings: Settings) -> None:
    """Raises ValueError where pilots are to choose the number of temperatures, as the caller is."""
    if settings.conditional_sample_size is not None:
        raise ValueError(
            "`conditional_sample_size` lets pilots choose the number of temperatures, which this "
            f"search is for; leave it None, got {settings.conditional_sample_size}."
        )


def check_numbers(numbers: Any, num_data: int) -> np.ndarray:
    """The numbers of data, `[N]`, as keys take them.

    Raises:
      ValueError: for another length, or what is none of 32 bits.
      TypeError: for what are no whole numbers.
    """
    found = np.asarray(numbers)
    if found.dtype.kind not in "iu":
        raise TypeError(f"`numbers` must be integers, got {checks.describe(found)}.")
    if found.shape != (num_data,):
        raise ValueError(
            f"`numbers` must be one for each of the {num_data} data, got shape {list(found.shape)}."
        )
    if found.min() < 0 or found.max() >= 2**32:
        raise ValueError(
            f"`numbers` must lie in 0 .. 2**32 - 1, got {found.min()} to {found.max()}."
        )
    return found.astype(np.uint32)


def enter_bound(key: Any, target: Target, x: PyTree, progress_fn: Any) -> None:
    """Checks the arguments of importance samples, as `enter`."""
    checks.key(key)
    check_progress(progress_fn)
    checks.num_rows("x", x)
    datum = chunks.first(x)
    start = look_at_start(target.start, datum)
    if not {"log_prob", "sample_and_log_prob"} & start.methods:
        raise ValueError("What `start` returns has no `log_prob`, which the weights ask for.")
    _check_densities(target, datum, start, "bound")
    _check_axis(target, x)
    trial.check_support(target, x, start.latent)


def enter_means(start: StartFn, x: PyTree) -> None:
    """Checks the arguments of posterior means, as `enter`."""
    checks.num_rows("x", x)
    datum = chunks.first(x)
    found: dict[str, Any] = {}

    def mean(x):
        q = start(x)
        found["type"], found["is_method"] = type(q).__name__, callable(getattr(q, "mean", None))
        return q.mean() if found["is_method"] else 0.0

    given = _describe_datum(datum)
    shape = checks.shape_of("start", mean, datum, given=given)
    if not found["is_method"]:
        raise TypeError(
            f"`start` must return a posterior with a method `mean()`, for {given}; got "
            f"{found['type']}."
        )
    checks.position(shape, f"the mean of what `start` returns ({found['type']})")
