"""Annealed importance sampling (Neal 2001; Algorithm 1 of Ding & Freedman 2019) of one particle.

The path between two densities is f_t = f_0^(1-β_t) f_n^(β_t) (Eq. 7), the moves are HMC, or other
`moves`.
`run_chain` works on any two log densities and under a caller's own jit, vmap and scan; `step` is
one weight increment and one move, for callers who reduce over a population between temperatures.
"""

from collections.abc import Hashable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import checks, forces, moves, schedules, trees, weights
from aiwae_jax.moves import hamiltonian as hmc
from aiwae_jax.schedules import linear_schedule, make_schedule, sigmoid_schedule
from aiwae_jax.types import ForceFn, LogDensityFn, Move, PyTree

__all__ = [
    "AISInfo",
    "AISState",
    "End",
    "init",
    "interpolate",
    "leapfrog",
    "linear_schedule",
    "make_schedule",
    "recenter",
    "reweight",
    "run_chain",
    "sigmoid_schedule",
    "step",
]

_FAR = 4096.0  # nats; up to there neighbours in float32 differ by less than 0.0005
AxisName = Hashable | tuple[Hashable, ...] | None


class End(NamedTuple):
    """One end of the path, f_0 or f_n, at the current position.

    The two ends are cached separately and recombined with each new β. (Handing the next move the
    *mixed* value of the previous temperature would be a silent bug.)

    Attributes:
      log_density: `[]`, nats.
      force: `[D]` its gradient.
    """

    log_density: chex.Array
    force: chex.Array


class AISState(NamedTuple):
    """One particle on its way.

    Attributes:
      position: `[D]`.
      initial: log f_0 and its force at `position`.
      target: log f_n and its force at `position`.
      beta: `[]` the inverse temperature reached.
      offset: `[]` nats, log f_n - log f_0 where the chain began, or far from there has come to;
        taken out of energies and increments, whose digits a large constant would cost.
      work: what the increments without the offset sum up to.
      momentum: `[D]` where it persists from move to move, else empty.
    """

    position: chex.Array
    initial: End
    target: End
    beta: chex.Array
    offset: chex.Array
    work: weights.RunningSum
    momentum: PyTree = ()

    @property
    def log_weight_sum(self) -> weights.RunningSum:
        """The log weight with all its digits: the work, and the offset's share β·offset."""
        return self.work.add(self.beta * self.offset)

    @property
    def log_weight(self) -> chex.Array:
        """`[]` nats; -inf once the particle met a point where f_n vanishes or is not finite."""
        return self.log_weight_sum.value


class AISInfo(NamedTuple):
    """Diagnostics, of one step or, from `run_chain`, of a chain.

    Attributes:
      acceptance: `[]` acceptance probability of the move, 1 for one that rejects nothing;
        `[num_moves]` from `run_chain`.
      num_nonfinite: `[]` int, moves rejected because their energy was not finite; from `run_chain`
        the sum over moves.
    """

    acceptance: chex.Array
    num_nonfinite: chex.Array


def interpolate(beta: chex.Array, initial: chex.Array, target: chex.Array) -> chex.Array:
    """(1-β)·initial + β·target (the logarithm of Eq. 7), without 0·inf at the two ends."""
    mixed = (1.0 - beta) * initial + beta * target
    return jnp.where(beta <= 0.0, initial, jnp.where(beta >= 1.0, target, mixed))


def _evaluate_ends(position, log_density_fns) -> tuple[End, End]:
    states = [hmc.init(position, f) for f in log_density_fns]
    return tuple(End(state.log_density, state.force) for state in states)


def init(
    z: chex.Array,
    log_initial_fn: LogDensityFn,
    log_target_fn: LogDensityFn,
    *,
    beta: chex.Numeric = 0.0,
    momentum: PyTree = (),
) -> AISState:
    """The state of a particle `z` `[D]` drawn from f_0, with log weight 0.

    A `momentum` `[D]`, drawn from N(0, I), is only needed where it is to persist.
    """
    checks.position(z)
    checks.log_density("log_initial_fn", log_initial_fn, z)
    checks.log_density("log_target_fn", log_target_fn, z)
    initial, target = _evaluate_ends(z, (log_initial_fn, log_target_fn))
    beta = jnp.asarray(beta, z.dtype)
    # Any constant would do: the weight does not depend on it.
    offset = jax.lax.stop_gradient(target.log_density - initial.log_density)
    offset = jnp.where(jnp.isfinite(offset), offset, 0.0)
    work = weights.RunningSum.of(-beta * offset)  # so that the log weight is 0 at this β
    return AISState(z, initial, target, beta, offset, work, momentum)


def reweight(state: AISState, beta: chex.Numeric) -> AISState:
    """Moves to `beta` and adds log f_β(z) - log f_β'(z), one factor of Eq. 8, to the log weight.

    The increment is (β - β')(log f_n - log f_0), of which the offset's share is kept apart; where
    it is not finite the weight becomes zero, and where β repeats it is exactly 0.
    """
    beta = jnp.asarray(beta, state.beta.dtype)
    difference = _centered(state).target.log_density - state.initial.log_density
    increment = weights.zero_if_broken((beta - state.beta) * difference)
    increment = jnp.where(beta == state.beta, 0.0, increment)  # not 0 * inf
    return state._replace(beta=beta, work=state.work.add(increment))


def recenter(state: AISState) -> AISState:
    """The same weight with an offset from where the chain is; far off, numbers are nats apart."""
    now = jax.lax.stop_gradient(state.target.log_density - state.initial.log_density)
    is_far = jnp.isfinite(now) & (jnp.abs(now - state.offset) > _FAR)
    offset = jnp.where(is_far, now, state.offset)
    work = state.work.add_product(state.beta, state.offset - offset)
    return state._replace(offset=offset, work=work)


def _centered(state: AISState) -> AISState:
    """The state with the offset taken out of log f_n: exact, for the two are close."""
    target = state.target
    return state._replace(target=target._replace(log_density=target.log_density - state.offset))


def _at_beta(state: AISState) -> hmc.HMCState:
    """The state that HMC at `state.beta` starts from, f_β but for a constant: both ends, mixed."""
    initial, target = state.initial, _centered(state).target
    return hmc.HMCState(
        position=state.position,
        log_density=interpolate(state.beta, initial.log_density, target.log_density),
        force=interpolate(state.beta, initial.force, target.force),
        momentum=state.momentum,
        aux=(initial, state.target),
    )


def _to(state: AISState, moved: hmc.HMCState) -> AISState:
    """The particle at the place that HMC brought it to."""
    initial, target = moved.aux
    return state._replace(position=moved.position, initial=initial, target=target)


def _fns_at_beta(state, log_initial_fn, log_target_fn):
    """Makes, of f_β with β = `state.beta`, position -> HMCState and position -> force."""
    log_density_fns = (log_initial_fn, log_target_fn)

    def evaluate_fn(position):
        initial, target = _evaluate_ends(position, log_density_fns)
        return _at_beta(state._replace(position=position, initial=initial, target=target))

    def force_fn(position):
        return interpolate(state.beta, *(jax.grad(f)(position) for f in log_density_fns))

    return evaluate_fn, force_fn


def step(
    key: chex.PRNGKey,
    state: AISState,
    beta: chex.Numeric,
    step_size: chex.Numeric,
    log_initial_fn: LogDensityFn,
    log_target_fn: LogDensityFn,
    *,
    move: Move | None = None,
    num_leapfrog_steps: int | None = None,
    momentum_persistence: chex.Numeric | None = None,
) -> tuple[AISState, AISInfo]:
    """One turn of Algorithm 1's inner loop: the weight increment to `beta`, then one move.

    The move leaves f_β invariant. By HMC it costs `num_leapfrog_steps` gradients of each end.

    Args:
      key: consumed.
      state: from `init` or an earlier `step`.
      beta: `[]` the next inverse temperature.
      step_size: `[]` ε; 0 makes the move the identity.
      log_initial_fn: `[D] -> []`, log f_0, nats.
      log_target_fn: `[D] -> []`, log f_n, nats.
      move: see `run_chain`; where a momentum persists it needs a state with one.
      num_leapfrog_steps: see `run_chain`.
      momentum_persistence: see `run_chain`.

    Returns:
      The new state and its `AISInfo`.
    """
    move = _chosen(move, num_leapfrog_steps, momentum_persistence)
    hmc.check_momentum(state.momentum, _persistence(move))
    state = reweight(state, beta)
    if supports := getattr(move, "supports", None):
        state = state._replace(work=state.work.zero_unless(supports(state.position)))
    moved, info = move(
        key, _at_beta(state), *_fns_at_beta(state, log_initial_fn, log_target_fn), step_size
    )
    state = _to(state, moved)._replace(momentum=moved.momentum)
    return state, AISInfo(info.acceptance, info.is_nonfinite.astype(jnp.int32))


def leapfrog(
    state: AISState,
    momentum: chex.Array,
    log_initial_fn: LogDensityFn,
    log_target_fn: LogDensityFn,
    step_size: chex.Numeric,
    *,
    num_leapfrog_steps: int,
) -> tuple[AISState, chex.Array]:
    """The integration of one move at `state.beta`, which nobody accepts: `hmc.leapfrog` on f_β.

    Returns:
      The state at the end, its weight untouched, and the momentum `[D]` there.
    """
    moved, momentum = hmc.leapfrog(
        _at_beta(state),
        momentum,
        *_fns_at_beta(state, log_initial_fn, log_target_fn),
        step_size,
        num_leapfrog_steps=num_leapfrog_steps,
    )
    return _to(state, moved), momentum


def _chosen(
    move: Move | None, num_leapfrog_steps: int | None, momentum_persistence: chex.Numeric | None
) -> Move:
    """The move that was given, or HMC of what was said of it; both at once are refused."""
    said = {
        "num_leapfrog_steps": num_leapfrog_steps,
        "momentum_persistence": momentum_persistence,
    }
    said = {name: value for name, value in said.items() if value is not None}
    if move is None:
        return moves.hmc(**said)
    checks.function("move", move, "such as `moves.hmc(5)`")
    if said:
        (name, value), *_ = said.items()
        raise ValueError(
            f"`{name}`={value} is of the move, and `move` is given too; say it there, as "
            f"`moves.hmc({name}={value})`."
        )
    return move


def _persistence(move: Move) -> chex.Numeric:
    """Of a function of one's own nothing persists."""
    return getattr(move, "momentum_persistence", 0.0)


def draw_momentum(key: chex.PRNGKey, z: chex.Array, momentum_persistence: float) -> PyTree:
    """The momentum a chain with this key starts with: `[D]`, or empty where none persists.

    The moves t = 1, 2, ... fold their number into the same key; 0 is the momentum's.
    """
    if not momentum_persistence:
        return ()
    return jax.random.normal(jax.random.fold_in(key, 0), z.shape, z.dtype)


def reduce_info(info: AISInfo, axis_name: AxisName) -> AISInfo:
    """Averages the acceptance and sums the counts over the caller's vmapped axes, if any."""
    if not axis_name:
        return info
    return AISInfo(
        acceptance=jax.lax.pmean(info.acceptance, axis_name),
        num_nonfinite=jax.lax.psum(info.num_nonfinite, axis_name),
    )


@trees.of_positions
def run_chain(
    key: chex.PRNGKey,
    z: chex.Array,
    log_initial_fn: LogDensityFn,
    log_target_fn: LogDensityFn,
    betas: chex.Array,
    step_sizes: chex.Numeric,
    *,
    move: Move | None = None,
    with_last_move: bool = True,
    with_recentering: bool = True,
    force_fns: tuple[ForceFn, ForceFn] | None = None,
    num_leapfrog_steps: int | None = None,
    momentum_persistence: float | None = None,
    axis_name: AxisName = None,
) -> tuple[chex.Array, chex.Array, AISInfo]:
    """Anneals one particle from f_0 to f_n: a `lax.scan` of `step` over temperatures (Algorithm 1).

    With z drawn exactly from the normalized f_0, exp(log_weight) is an unbiased estimate of
    Z_target / Z_initial, for any schedule, step sizes and forces fixed in advance; log_weight
    itself is a lower bound in expectation. Memory does not grow with T. Gradients are not stopped
    here: apply `stop_gradient` to parameters that the two functions close over.

    Args:
      key: consumed; each temperature folds its index in.
      z: `[D]` a draw from f_0; or a pytree, as which the log densities then take and z returns.
      log_initial_fn: `[D] -> []`, log f_0, nats.
      log_target_fn: `[D] -> []`, log f_n, nats; need not be normalized.
      betas: `[T]` inverse temperatures, increasing from exactly 0 to exactly 1.
      step_sizes: `[]` or `[num_moves]`, leapfrog step sizes of the moves at betas[1:], where
        num_moves is T-1, or T-2 without the last move.
      move: at each temperature, from `moves`, or a function of your own with their signature, which
        must leave the density of its `evaluate_fn` invariant; by default `moves.hmc(5)`.
      force_fns: optional deterministic stand-ins `[D] -> [D]` for the gradients of the two log
        densities (in lower precision, say), see `forces.with_force`. Energies and weights stay
        exact, and so does the invariant density.
      with_last_move: whether to move at β=1, which no weight needs but which brings z nearer f_n.
      with_recentering: whether to keep all digits where log f_n rises by thousands on the way.
      num_leapfrog_steps: L of HMC, for short, in the place of `move`.
      momentum_persistence: α of HMC, likewise; see `moves.hmc`.
      axis_name: name(s) of vmapped axes over which diagnostics are reduced inside the scan.

    Returns:
      z: `[D]` the particle at the end.
      log_weight: `[]` nats (Eq. 8); -inf where f_n vanished or was not finite on the way.
      info: `AISInfo` of the chain, unbatched over `axis_name`.

    Raises:
      ValueError: for a schedule that does not increase from 0 to 1 (when its values are known at
        trace time), L < 1, a persistence outside [0, 1), step sizes of another shape, or a
        `move` beside what is said of one.
    """
    checks.key(key)
    checks.position(z)
    move = _chosen(move, num_leapfrog_steps, momentum_persistence)
    checks.step_sizes(step_sizes)
    betas = schedules.check_schedule(betas).astype(z.dtype)
    num_moves = betas.shape[0] - (1 if with_last_move else 2)
    step_sizes = jnp.asarray(step_sizes, z.dtype)
    if step_sizes.shape not in ((), (num_moves,)):
        raise ValueError(
            f"`step_sizes` must be a scalar or of shape [{num_moves}], one for each move "
            f"(`with_last_move={with_last_move}`), got shape {list(step_sizes.shape)}."
        )

    def body(state, inputs):
        t, beta, step_size = inputs
        state, info = step(
            jax.random.fold_in(key, t),
            recenter(state) if with_recentering else state,
            beta,
            step_size,
            log_initial_fn,
            log_target_fn,
            move=move,
        )
        return state, reduce_info(info, axis_name)

    if force_fns is not None:
        log_initial_fn = forces.with_force(log_initial_fn, force_fns[0])
        log_target_fn = forces.with_force(log_target_fn, force_fns[1])
    momentum = draw_momentum(key, z, _persistence(move))
    state = init(z, log_initial_fn, log_target_fn, momentum=momentum)
    numbers = jnp.arange(1, num_moves + 1)
    inputs = (numbers, betas[1 : num_moves + 1], jnp.broadcast_to(step_sizes, (num_moves,)))
    state, info = jax.lax.scan(body, state, inputs)
    if not with_last_move:
        state = reweight(recenter(state) if with_recentering else state, betas[-1])
    return state.position, state.log_weight, info._replace(num_nonfinite=info.num_nonfinite.sum())
