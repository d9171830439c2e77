"""How the learning rate goes over a training: by the paper's stages, or from a warm-up to zero."""

from collections.abc import Callable, Sequence

import jax
import optax

_DECAY_SHARE = 0.2  # of the steps after the warm-up, at the end of "wsd"
_WARMUP_SHARE = 0.05  # of schedules that decay, where nothing is said


def paper_learning_rate(ends: Sequence[int], *, peak: float = 0.001) -> optax.Schedule:
    """Learning rate 0.001 * 10^(-i/7) during stage i (supplement A).

    A stage's rate does not depend on the number of stages, so that a run can be extended.

    Args:
      ends: of the stages, in steps; from `stage_ends`.
      peak: what stands for 0.001.
    """
    rates = [peak * 10 ** (-i / 7) for i in range(len(ends))]
    return optax.join_schedules([optax.constant_schedule(rate) for rate in rates], ends[:-1])


def _constant(peak: float, num_steps: int) -> optax.Schedule:
    del num_steps
    return optax.constant_schedule(peak)


def _linear(peak: float, num_steps: int) -> optax.Schedule:
    return optax.linear_schedule(peak, 0.0, num_steps)


def _wsd(peak: float, num_steps: int) -> optax.Schedule:
    """Stable, then a linear decay (Hu et al. 2024); the warm-up comes before."""
    num_decay = max(round(_DECAY_SHARE * num_steps), 1)
    decay = optax.linear_schedule(peak, 0.0, num_decay)
    return optax.join_schedules([optax.constant_schedule(peak), decay], [num_steps - num_decay])


# From the peak to the end, after the warm-up; all but the paper's and the constant end at 0.
_AFTER_WARMUP: dict[str, Callable[[float, int], optax.Schedule]] = {
    "constant": _constant,
    "cosine": optax.cosine_decay_schedule,
    "linear": _linear,
    "wsd": _wsd,
}
SCHEDULES = ("paper", *_AFTER_WARMUP)
# Their rates at a step do not depend on how many steps there will be.
OPEN_ENDED = ("paper", "constant")


def make_schedule(
    name: str, peak: float, ends: Sequence[int], warmup_share: float | None = None
) -> optax.Schedule:
    """A learning rate by its name.

    Args:
      name: one of `SCHEDULES`: "paper" falls from stage to stage; "constant", "cosine", "linear"
        and "wsd" (stable, then a linear decay over the last fifth) rise linearly to the peak first.
      peak: the highest rate.
      ends: of the stages, in steps; all schedules but the paper's look at the last one only.
      warmup_share: of all steps, over which the rate rises from 0 to the peak; by default 0.05 for
        schedules that fall to 0, and none for the others.

    Raises:
      ValueError: for an unknown name, or a warm-up of the paper's.
    """
    if name not in SCHEDULES:
        raise ValueError(f"`name` must be one of {', '.join(SCHEDULES)}; got {name!r}.")
    if name == "paper" and warmup_share:
        raise ValueError("`warmup_share` needs another schedule than 'paper'.")
    if name == "paper":
        return paper_learning_rate(ends, peak=peak)
    found = _with_warmup(name, peak, ends[-1], warmup_share)

    def schedule(step):
        # optax's own arithmetic mixes dtypes, which a caller may have forbidden globally.
        with jax.numpy_dtype_promotion("standard"):
            return found(step)

    return schedule


def _with_warmup(
    name: str, peak: float, num_steps: int, warmup_share: float | None
) -> optax.Schedule:
    if warmup_share is None:
        warmup_share = 0.0 if name in OPEN_ENDED else _WARMUP_SHARE
    num_warmup = round(warmup_share * num_steps)
    after = _AFTER_WARMUP[name](peak, max(num_steps - num_warmup, 1))
    if not num_warmup:
        return after
    # The first step already moves.
    rise = optax.linear_schedule(peak / num_warmup, peak, max(num_warmup - 1, 1))
    return optax.join_schedules([rise, after], [num_warmup])
