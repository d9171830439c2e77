"""The compiled programs of a population: where chains start, a stretch of temperatures, the end.

Lengths and temperatures are run-time values, so that one compilation serves any T.
"""

import dataclasses
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import ais, moves, paths, weights
from aiwae_jax.evaluate import compiling, resampling
from aiwae_jax.evaluate.chunks import DATUM, mean_over_data
from aiwae_jax.types import Move, PyTree

SEGMENT_SIZE = 256  # temperatures per call at most

# What becomes of the step size after each temperature: nothing, or the authors' rule.
FROZEN, PAPER = range(2)
NUM_KNOTS = 16  # along the path, where a datum's own factor on the step sizes is given
MOST_LOST = 0.05  # of a datum's draws, that may fall as far below the others as they like
_NEGLIGIBLE = 20.0  # nats below a datum's heaviest chain: no part in its estimate
_STEP_SIZE_RANGE = (1e-8, 1e3)
_PAPER_LOG_FACTORS = (math.log(1.002), math.log(0.998))


@dataclasses.dataclass(frozen=True)
class Program:
    """Facts that a program is compiled for; its fields as in `settings.Settings`.

    A datum's chains are `num_draws` independent draws: each of its own, or populations of those
    that resample among themselves.
    """

    num_chains: int
    num_leapfrog_steps: int
    chain_space: str
    momentum_persistence: float
    move: str = "hmc"
    resampling: float = 0.0
    num_populations: int = 0

    @property
    def num_draws(self) -> int:
        """P, or K where nothing is resampled."""
        return self.num_populations if self.resampling else self.num_chains

    def build_move(self, persistence: chex.Numeric | None = None) -> Move:
        """The move of `ais.step`; with a `persistence` of its own, which may be traced."""
        if persistence is None:
            return moves.build(self.move, self.num_leapfrog_steps, self.momentum_persistence)
        return moves.hmc(self.num_leapfrog_steps, persistence)


class Segment(NamedTuple):
    """Diagnostics of a stretch of temperatures; the first `num_moves` slots count."""

    step_sizes: chex.Array  # [S] or [S, D] as used, or as adapted after the move
    acceptance: chex.Array  # [S] of chains whose weight is not zero
    work_variance: chex.Array  # [S] of log f_n - log f_0 over a datum's chains, mean over data
    path_sample_size: chex.Array  # [S] effective sample size of a datum's chains, mean over data
    num_nonfinite: chex.Array  # [B]


@compiling.jit(static_argnames="program")
def start(key, numbers, x, latents, functions, *, program):
    """Draws every chain's starting point; keys depend on a datum's number, not on its chunk.

    With `latents`, chains start at β=1 from their datum's exact latent, which they share.
    """
    path_fn = paths.SPACES[program.chain_space]

    def start_datum(number, x, latent):
        path = path_fn(*functions, x)
        start_keys, chain_keys = jax.random.split(
            jax.random.fold_in(key, number), (2, program.num_chains)
        )

        def start_chain(start_key, chain_key):
            z = path.sample(start_key) if latent is None else path.from_latent(latent)
            return ais.init(
                z,
                path.log_initial,
                path.log_target,
                beta=0.0 if latent is None else 1.0,
                momentum=ais.draw_momentum(chain_key, z, program.momentum_persistence),
            )

        return chain_keys, jax.vmap(start_chain)(start_keys, chain_keys)

    return jax.vmap(start_datum)(numbers, x, latents)


def _log_step_size_change(rule, acceptance, target_acceptance):
    """Nothing, or the authors' ×1.002 and ×0.998."""
    paper = jnp.where(acceptance >= target_acceptance, *_PAPER_LOG_FACTORS)
    return jnp.where(rule == PAPER, paper, 0.0)


def _variance(values):
    """Variance of `[K]` values over those that are finite, 0 where fewer than two are."""
    is_finite = jnp.isfinite(values)
    num = jnp.sum(is_finite).astype(values.dtype)
    mean = jnp.sum(jnp.where(is_finite, values, 0.0)) / jnp.maximum(num, 1.0)
    squares = jnp.where(is_finite, jnp.square(values - mean), 0.0)
    return jnp.sum(squares) / jnp.maximum(num - 1.0, 1.0)


def _reweight(states, beta):
    """A datum's K chains with their weight increment to `beta`."""
    return jax.vmap(lambda state: ais.reweight(ais.recenter(state), beta))(states)


class Data(NamedTuple):
    """Data of a chunk, as `anneal` takes them."""

    keys: chex.Array  # [B, K]
    x: PyTree
    is_counted: chex.Array  # [B]; what fills up the chunk is left out of diagnostics
    log_factors: chex.Array | None  # [B, NUM_KNOTS] on the step sizes, where data have their own


class Stretch(NamedTuple):
    """Temperatures of a call of `anneal`: every length is a run-time value."""

    first: chex.Numeric  # the number of its first temperature, for the keys
    num_moves: chex.Numeric
    betas: chex.Array  # [S] of which the first `num_moves` count
    step_sizes: chex.Array  # [S] or [S, D] likewise
    places: chex.Array  # [S] among the knots
    persistences: chex.Array | None  # [S] of the momentum, where they are not those of the program
    rule: chex.Numeric
    target_acceptance: chex.Numeric


@compiling.jit(static_argnames="program", donate_argnames="states")
def anneal(states, step_size, data, functions, stretch, *, program):
    """Takes a chunk's chains through a `Stretch`: (states, step size, `Segment`).

    The program is compiled once for any T, and cutting a long schedule into segments changes
    nothing. Unless the rule is FROZEN, one `step_size` follows the acceptance from temperature to
    temperature.
    """
    dtype = states.position.dtype
    betas, step_sizes = stretch.betas.astype(dtype), stretch.step_sizes.astype(dtype)
    target_acceptance = stretch.target_acceptance.astype(dtype)
    places = stretch.places.astype(dtype)
    persistences = jax.tree.map(lambda a: a.astype(dtype), stretch.persistences)

    def anneal_datum(states, keys, x, is_counted, log_factors):
        # The encoder, once per datum and call.
        path = paths.SPACES[program.chain_space](*functions, x)

        def step(key, state, i, step_size):
            return ais.step(
                jax.random.fold_in(key, stretch.first + i),
                ais.recenter(state),
                betas[i],
                step_size,
                path.log_initial,
                path.log_target,
                move=program.build_move(jax.tree.map(lambda a: a[i], persistences)),
            )

        def body(i, carry):
            states, step_size, segment = carry
            # All chains move with one step size.
            step_size = jnp.where(stretch.rule == FROZEN, segment.step_sizes[i], step_size)
            own = step_size
            if log_factors is not None:
                knots = jnp.arange(NUM_KNOTS, dtype=dtype)
                own = own * jnp.exp(jnp.interp(places[i], knots, log_factors.astype(dtype)))
            if program.resampling:
                states = _reweight(states, betas[i])
                states = resampling.resample(
                    *(keys, stretch.first + i, states),
                    *(program.num_populations, program.resampling),
                )
            states, info = jax.vmap(lambda key, state: step(key, state, i, own))(keys, states)

            # Acceptance is that of chains that still count; work has one offset for all chains,
            # whose spread it must not change.
            is_alive = jnp.isfinite(states.log_weight)
            num_alive = jnp.sum(is_alive)
            acceptance = jnp.sum(jnp.where(is_alive, info.acceptance, 0.0)) / jnp.maximum(
                num_alive, 1
            ).astype(dtype)
            work = states.target.log_density - states.offset[0] - states.initial.log_density
            sample_size = weights.effective_sample_size(states.log_weight_sum.split()[1])
            acceptance, work_variance, path_sample_size = mean_over_data(
                jnp.stack([acceptance, _variance(work), sample_size]),
                is_counted & jnp.stack([num_alive > 0, True, True]),
            )
            acceptance = jnp.nan_to_num(acceptance)

            # The step size follows it, if it may; a move that rejects nothing has no use for its
            # step size, which must stay a number.
            change = _log_step_size_change(stretch.rule, acceptance, target_acceptance)
            step_size = jnp.clip(step_size * jnp.exp(change), *_STEP_SIZE_RANGE)

            segment = Segment(
                step_sizes=segment.step_sizes.at[i].set(step_size),
                acceptance=segment.acceptance.at[i].set(acceptance),
                work_variance=segment.work_variance.at[i].set(work_variance),
                path_sample_size=segment.path_sample_size.at[i].set(path_sample_size),
                num_nonfinite=segment.num_nonfinite + jnp.sum(info.num_nonfinite, dtype=jnp.int32),
            )
            return states, step_size, segment

        zeros = jnp.zeros_like(betas)
        segment = Segment(step_sizes, zeros, zeros, zeros, jnp.zeros((), jnp.int32))
        carry = states, step_size.astype(dtype), segment
        return jax.lax.fori_loop(0, stretch.num_moves, body, carry)

    shared = Segment(None, None, None, None, num_nonfinite=0)
    return jax.vmap(anneal_datum, out_axes=(0, None, shared), axis_name=DATUM)(states, *data)


@compiling.jit()
def reweighted(states, beta):
    """All chains with their weight increment to `beta`."""
    return jax.vmap(lambda states: _reweight(states, beta))(states)


@compiling.jit(static_argnames="program")
def finish(states, beta, x, functions, *, program):
    """The last weight increment, and each datum's statistics over its independent draws.

    The log mean weight comes as two terms, for the host to add in float64.
    """
    per_draw = program.num_chains // program.num_draws
    is_binary = moves.MOVES[program.move].latents == "binary"  # whose numbers have no neighbours

    def finish_datum(states, x):
        path = paths.SPACES[program.chain_space](*functions, x)
        states = _reweight(states, beta)
        common, log_weights = states.log_weight_sum.split()
        energies = jnp.stack([states.initial.log_density, states.target.log_density])
        counts = (log_weights > jnp.max(log_weights) - _NEGLIGIBLE)[None] & jnp.isfinite(energies)
        draws = log_weights
        if per_draw > 1:
            draws = jax.vmap(weights.log_mean_exp)(log_weights.reshape(-1, per_draw))
        return (
            (common, weights.log_mean_exp(log_weights)),
            weights.log_mean_standard_error(draws),
            per_draw * weights.effective_sample_size(draws),
            _variance(jnp.maximum(draws, _least_that_counts(draws))),
            jnp.sum(log_weights == -jnp.inf),
            jnp.max(jnp.where(counts, jnp.abs(energies), 0.0)),
            0.0 if is_binary else _roughness(path.log_target, states, counts[1]),
        )

    return jax.vmap(finish_datum)(states, x)


def _least_that_counts(log_weights):
    """Log weight `[]` that all but a twentieth reach: few lost chains are no spread of the rest."""
    return jnp.sort(log_weights)[int(MOST_LOST * len(log_weights))]


def _roughness(log_density_fn, states, counts):
    """By how much log f_n of a datum's chains differs between neighbouring numbers, `[]` nats.

    Root mean square, less what its gradient explains: digits that are lost inside of it, where
    large terms cancel, do not show in the size of the result.
    """
    position, force = states.position, states.target.force
    signs = jnp.where(jnp.arange(position.shape[-1]) % 2 == 0, jnp.inf, -jnp.inf)
    patterns = jnp.stack([jnp.full_like(signs, jnp.inf), signs]).astype(position.dtype)
    towards = jnp.broadcast_to(patterns[:, None], (2, *position.shape))
    neighbours = jnp.nextafter(jnp.broadcast_to(position, towards.shape), towards)
    points = jnp.concatenate([position[None], neighbours])
    values = jax.vmap(jax.vmap(log_density_fn))(points)
    explained = jnp.sum((neighbours - position[None]) * force[None], axis=-1)
    rest = values[1:] - values[:1] - explained
    squares = jnp.where(counts[None] & jnp.isfinite(rest), jnp.square(rest), 0.0)
    num = jnp.maximum(2 * jnp.sum(counts), 1).astype(position.dtype)
    return jnp.sqrt(jnp.sum(squares) / num)
