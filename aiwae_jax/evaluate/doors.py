"""What evaluation asks of its arguments, once and on the host, before any chain begins.

JAX broadcasts shapes and clamps indices, so that a wrong length is a wrong number, and its own
errors name no argument of ours. Shapes are compared by `jax.eval_shape`; a few values are looked at
by a few draws and evaluations.
"""

import dataclasses
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, moves, schedules
from aiwae_jax.evaluate import population, trial
from aiwae_jax.evaluate.population import InitialFn, LogJointFn
from aiwae_jax.evaluate.settings import Settings
from aiwae_jax.evaluate.tuning import Plan
from aiwae_jax.types import Posterior, PyTree

_MOST_LEAVES = 4  # of a datum, to be described one by one


def on_host(*arguments: PyTree) -> None:
    """Raises TypeError under a caller's jit, vmap or grad."""
    is_jitted = isinstance(jnp.zeros(()), jax.core.Tracer)
    if is_jitted or checks.is_traced(arguments):
        raise TypeError(
            "Evaluation runs on the host, which tunes, advances and watches the chains: it cannot "
            "be called under `jax.jit`, `vmap` or `grad`; call it outside, or use `ais.run_chain`, "
            "which can."
        )


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


class Initial(NamedTuple):
    """What `initial` says of the distributions that it returns.

    Attributes:
      latent: shape and dtype of one draw.
      latents: of what kind it says that they are.
      methods: those that it has.
    """

    latent: jax.ShapeDtypeStruct
    latents: str
    methods: frozenset[str]


_METHODS = ("sample", "log_prob", "sample_and_log_prob", "transport", "inverse_transport")


def sample_and_log_prob(initial: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One draw and its log density, of a `Posterior` or of any `Distribution`."""
    if hasattr(initial, "sample_and_log_prob"):
        return initial.sample_and_log_prob(key)
    z = initial.sample(key)
    return z, initial.log_prob(z)


def _has(q: Any, name: str) -> bool:
    """Whether `q` has a method of its own, and not the stub that it inherits from the protocol."""
    method = getattr(type(q), name, None) or getattr(q, name, None)
    return callable(method) and method is not getattr(Posterior, name, None)


def look_at_initial(initial: InitialFn, datum: PyTree, origin: str = "") -> Initial:
    """Shapes and methods of `initial(datum)`, by abstract evaluation.

    Raises:
      TypeError: for no function, or one that returns no distribution over vectors of floats.
      ValueError: for latents that are no vectors, or an error inside.
    """
    checks.function("initial", initial, "`x -> Posterior`")
    found: dict[str, Any] = {}

    def draw(x, key):
        q = initial(x)
        found["type"] = type(q).__name__
        found["latents"] = getattr(q, "latents", "continuous")
        found["methods"] = frozenset(name for name in _METHODS if _has(q, name))
        return q.sample(key) if "sample" in found["methods"] else 0.0

    given = _describe_datum(datum, origin)
    latent = checks.shape_of("initial", draw, datum, jax.random.key(0), given=given)
    if "sample" not in found["methods"]:
        raise TypeError(
            "`initial` must return a distribution with the methods `sample(key)` and "
            f"`log_prob(z)`, for {given}; got {found['type']} without `sample`."
        )
    checks.position(latent, f"z, drawn from what `initial` returns ({found['type']}),")
    return Initial(latent, found["latents"], found["methods"])


def _needs(initial: Initial, method: str, why: str) -> None:
    if method not in initial.methods:
        raise ValueError(f"What `initial` returns has no `{method}`, which {why}.")


def choose_space(
    settings: Settings, initial: Initial, *, is_reversed: bool = False, with_warning: bool = True
) -> Settings:
    """`settings` with a `chain_space`, and refused where `initial` cannot serve it.

    Raises:
      ValueError: naming what is missing, and what to use.
    """
    move = moves.MOVES[settings.move]
    if (move.latents, initial.latents) == ("binary", "continuous"):
        raise ValueError(
            f"`move`={settings.move!r} flips bits, and what `initial` returns does not say that it "
            "draws binary latents; give it the attribute `latents = 'binary'`, or use 'hmc'."
        )
    moves.check(settings.move, initial.latents)
    if settings.chain_space is None:
        needed = {"transport", "inverse_transport"} if is_reversed else {"transport"}
        has_transport = needed <= initial.methods and move.latents == "continuous"
        settings = dataclasses.replace(settings, chain_space="base" if has_transport else "latent")
        if with_warning and not has_transport and move.latents == "continuous":
            warnings.warn(
                f"What `initial` returns has no `{min(needed - initial.methods, key=len)}`, so the "
                "chains move z itself "
                "(`chain_space='latent'` in the settings asks for it without this warning): fine "
                "where all latents have scales near 1, slow where these differ.",
                stacklevel=4,
            )
    if settings.chain_space == "base":
        fix = "; give it one, or use `chain_space='latent'`"
        _needs(initial, "transport", "`chain_space='base'` anneals the noise of" + fix)
        if is_reversed:
            _needs(initial, "inverse_transport", "reverse chains in base space start from" + fix)
    else:
        _needs(initial, "log_prob", "chains in latent space ask for at every point")
    return settings


def _check_densities(log_joint_fn, initial_fn, datum, initial, how, origin="") -> None:
    """Raises for functions that do not map one datum and one latent to a number.

    Args:
      log_joint_fn: see `log_likelihood`.
      initial_fn: see `log_likelihood`.
      datum: one.
      initial: what `look_at_initial` found.
      how: a chain space, or "bound" for importance samples.
      origin: of the datum, in words.
    """
    checks.function("log_joint_fn", log_joint_fn, "`(x, z) -> []`")
    latent, key = initial.latent, jax.random.key(0)
    given = _describe_datum(datum, origin)
    drawn = f"{given} and z of shape {list(latent.shape)}, a draw of `initial`"
    name, fn, argument = {
        "base": ("transport(noise)", lambda x, noise: initial_fn(x).transport(noise), latent),
        "latent": ("log_prob(z)", lambda x, z: (z, initial_fn(x).log_prob(z)), latent),
        "bound": ("log_prob(z)", lambda x, key: sample_and_log_prob(initial_fn(x), key), key),
    }[how]
    found = checks.shape_of("initial", fn, datum, argument, given=f"`{name}` for {drawn}")
    if not (isinstance(found, tuple | list) and len(found) == 2):
        raise TypeError(f"`initial(x).{name}` must return a pair, got {checks.describe(found)}.")
    checks.scalar(f"initial(x).{name}" + ("[1]" if how == "base" else ""), found[1])
    if found[0].shape != latent.shape:
        raise ValueError(
            f"`initial(x).{name}` must return z of the shape {list(latent.shape)} of its draws, "
            f"got {list(found[0].shape)}."
        )
    found = checks.shape_of("log_joint_fn", log_joint_fn, datum, latent, given=drawn)
    checks.scalar("log_joint_fn(x, z)", found)
    if how != "bound":
        gradient = jax.grad(lambda z, x: log_joint_fn(x, z))
        given = f"its gradient in z asked for, {drawn}"
        checks.shape_of("log_joint_fn", gradient, latent, datum, given=given)


def _check_axis(log_joint_fn, initial_fn, x) -> None:
    """Warns of `x[0]` where x may be meant: one estimate per pixel."""
    leaves = jax.tree.leaves(x)
    if len(leaves) != 1 or leaves[0].ndim != 1 or len(leaves[0]) < 2:
        return
    try:
        z = jax.eval_shape(lambda x: initial_fn(x).sample(jax.random.key(0)), x)
        found = jax.eval_shape(lambda x, z: log_joint_fn(x, z), x, z)
    except Exception:
        return  # not to be read as one datum
    if found.shape == ():
        warnings.warn(
            f"`x` of shape {list(leaves[0].shape)} is read as {len(leaves[0])} data of a single "
            "number each, and could be one datum; give one datum a leading axis, `x[None]`.",
            stacklevel=4,
        )


def check_settings(settings: Any) -> None:
    """Raises TypeError for what are no settings."""
    if not isinstance(settings, Settings):
        raise TypeError(
            f"`settings` must be of `evaluate.Settings`, got {checks.describe(settings)}."
        )


def check_functions(*, log_joint_fn: Any = None, initial: Any = None, sample_fn: Any = None):
    """Raises TypeError for what a `Partial` binds and no compiled program can take."""
    named = {"log_joint_fn": log_joint_fn, "initial": initial, "sample_fn": sample_fn}
    for name, fn in named.items():
        if not isinstance(fn, jax.tree_util.Partial):
            continue
        for path, leaf in jax.tree_util.tree_flatten_with_path(fn)[0]:
            if not (hasattr(leaf, "dtype") or isinstance(leaf, int | float | complex)):
                raise TypeError(
                    f"`{name}` is a `Partial` of {checks.describe(leaf)} at "
                    f"{jax.tree_util.keystr(path)}, and may bind arrays only; bind the rest by a "
                    "`lambda` or `functools.partial` inside."
                )


def check_call(*, store: Any = None, progress_fn: Any = None, chunk_size: Any = None) -> None:
    """Raises for options of a call that cannot be what they are for."""
    if store is not None and not all(
        hasattr(store, name) for name in ("__getitem__", "__setitem__", "__contains__")
    ):
        raise TypeError(f"`store` must be like a dict, got {checks.describe(store)}.")
    if progress_fn is not None:
        checks.function("progress_fn", progress_fn, "`(done, total)`")
    if chunk_size is not None:
        checks.integer("chunk_size", chunk_size, least=1)


def enter(
    log_joint_fn: LogJointFn,
    initial: InitialFn,
    x: PyTree,
    settings: Settings,
    *,
    keys: tuple = (),
    origin: str = "",
    is_reversed: bool = False,
    is_first: bool = False,
    **options: Any,
) -> Settings:
    """Checks the arguments that all of evaluation shares; returns the settings with a space.

    Args:
      log_joint_fn: see `log_likelihood`.
      initial: see `log_likelihood`.
      x: data, of which the first datum is looked at.
      settings: whose `chain_space` may be None.
      keys: random keys.
      origin: of the data, in words.
      is_reversed: whether chains will start from exact latents.
      is_first: whether to look at values too, and not at shapes alone.
      **options: see `check_call`.

    Raises:
      TypeError: for what is not of the kind asked for.
      ValueError: for what cannot be run.
    """
    on_host(keys, x, log_joint_fn, initial)
    for key in keys:
        checks.key(key)
    check_functions(log_joint_fn=log_joint_fn, initial=initial)
    check_settings(settings)
    check_call(**options)
    checks.num_rows("x", x)
    datum = population.first(x)
    found = look_at_initial(initial, datum, origin)
    settings = choose_space(settings, found, is_reversed=is_reversed, with_warning=is_first)
    _check_densities(log_joint_fn, initial, datum, found, settings.chain_space, origin)
    if not origin:  # what `sample_fn` draws has the shape that it says
        _check_axis(log_joint_fn, initial, x)
    if is_first:
        trial.check_support(log_joint_fn, x, found.latent)
        trial.check_draws(log_joint_fn, initial, x, settings)
    return settings


def check_plan(plan: Plan, settings: Settings) -> None:
    """Raises for a plan of other settings: its slots would be read past their end."""
    if not isinstance(plan, Plan):
        raise TypeError(
            f"`plan` must be an `evaluate.Plan`, as `tune` makes, got {checks.describe(plan)}."
        )
    num = settings.num_temperatures
    schedules.check_schedule(np.asarray(plan.betas))
    if np.shape(plan.betas) != (num,) or np.shape(plan.step_sizes) != (num - 2,):
        raise ValueError(
            f"`plan` has {np.size(plan.betas)} betas and {np.size(plan.step_sizes)} step sizes, "
            f"but `settings.num_temperatures`={num} needs {num} and {num - 2}; use `tune` with the "
            "same settings."
        )
    checks.step_sizes(plan.step_sizes, "plan.step_sizes")


def enter_bound(key, log_joint_fn, initial, x, progress_fn) -> jax.ShapeDtypeStruct:
    """The door of importance samples, as `enter`; returns the shape of a latent."""
    on_host(key, x, log_joint_fn, initial)
    checks.key(key)
    check_functions(log_joint_fn=log_joint_fn, initial=initial)
    check_call(progress_fn=progress_fn)
    checks.num_rows("x", x)
    datum = population.first(x)
    found = look_at_initial(initial, datum)
    if not {"log_prob", "sample_and_log_prob"} & found.methods:
        raise ValueError("What `initial` returns has no `log_prob`, which the weights ask for.")
    _check_densities(log_joint_fn, initial, datum, found, "bound")
    _check_axis(log_joint_fn, initial, x)
    return found.latent


def enter_means(initial: InitialFn, x: PyTree) -> None:
    """The door of posterior means, as `enter`."""
    on_host(initial, x)
    checks.function("initial", initial, "`x -> Posterior`")
    check_functions(initial=initial)
    checks.num_rows("x", x)
    datum = population.first(x)
    found: dict[str, Any] = {}

    def mean(x):
        q = initial(x)
        found["type"], found["is_method"] = type(q).__name__, callable(getattr(q, "mean", None))
        return q.mean() if found["is_method"] else 0.0

    given = _describe_datum(datum)
    shape = checks.shape_of("initial", mean, datum, given=given)
    if not found["is_method"]:
        raise TypeError(
            f"`initial` must return a posterior with a method `mean()`, for {given}; got "
            f"{found['type']}."
        )
    checks.position(shape, f"the mean of what `initial` returns ({found['type']})")
