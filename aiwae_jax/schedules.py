"""Temperatures: inverse temperatures β from 0 to 1 along which a chain anneals."""

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import checks


def linear_schedule(num_temperatures: int) -> chex.Array:
    """β_t = t / (T - 1) for t = 0, ..., T - 1 (section 5.1), `[T]`.

    Raises:
      ValueError: if `num_temperatures` < 2; both 0 and 1 count.

    >>> linear_schedule(5).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    check_num_temperatures(num_temperatures)
    return jnp.linspace(0.0, 1.0, num_temperatures)


def sigmoid_schedule(num_temperatures: int, *, radius: float = 4.0) -> chex.Array:
    """Logistic function of a grid on [-radius, radius], scaled to [0, 1] (Wu et al. 2016), `[T]`.

    Raises:
      ValueError: if `num_temperatures` < 2, or `radius` is not positive.
    """
    checks.positive("radius", radius)
    values = jax.nn.sigmoid(radius * (2.0 * linear_schedule(num_temperatures) - 1.0))
    return jnp.clip((values - values[0]) / (values[-1] - values[0]), 0.0, 1.0)


# Temperatures that depend on their number alone.
SCHEDULES = {"linear": linear_schedule, "sigmoid": sigmoid_schedule}


def make_schedule(schedule: str, num_temperatures: int) -> chex.Array:
    """The schedule of a name in `SCHEDULES`, `[T]`.

    Raises:
      ValueError: for an unknown name, or fewer than two temperatures.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"`schedule` must be one of {', '.join(SCHEDULES)}; got {schedule!r}.")
    return SCHEDULES[schedule](num_temperatures)


def numbers(schedule: str, num_temperatures: int) -> tuple[float, ...]:
    """The same as T plain numbers, also where a caller's `jit` builds what asks for them."""
    with jax.ensure_compile_time_eval():
        return tuple(make_schedule(schedule, num_temperatures).tolist())


def check_num_temperatures(num_temperatures: int) -> None:
    """Raises ValueError unless T >= 2, TypeError unless it is an integer."""
    checks.integer("num_temperatures", num_temperatures)
    if num_temperatures < 2:
        raise ValueError(
            f"`num_temperatures` counts both β=0 and β=1, so it must be at least 2, "
            f"got {num_temperatures}."
        )


def check_schedule(betas: chex.Array) -> chex.Array:
    """Returns `betas` as an array, or raises ValueError if they cannot be a schedule."""
    checks.numbers("betas", betas)
    if not isinstance(betas, jax.core.Tracer):
        with jax.ensure_compile_time_eval():
            betas = jnp.asarray(betas)
            is_valid = (
                betas.ndim == 1
                and betas.shape[0] >= 2
                and bool(betas[0] == 0.0)
                and bool(betas[-1] == 1.0)
                and bool(jnp.all(jnp.diff(betas) >= 0.0))
            )
        if not is_valid:
            raise ValueError(
                "`betas` must be a vector that increases from exactly 0 to exactly 1, such as "
                f"`ais.linear_schedule(8)`, got {betas}."
            )
    return betas
