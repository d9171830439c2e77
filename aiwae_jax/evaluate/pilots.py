"""Pilot chains: they search temperatures and step sizes for chains that will be reported.

Their weights are seen by nobody, so that they may adapt to whatever they meet: step sizes follow
their acceptance, of all data or of each; temperatures are placed one after the other, where the
weights begin to vary; and coordinates get the scales that the chains have there.
"""

import math
import time
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import ais, checks, moves, paths
from aiwae_jax.evaluate import chunks, compiling, population, programs
from aiwae_jax.evaluate.calls import Work
from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree

_GAIN = 0.3  # of Robbins & Monro (1951), in the logarithm of the step size
_STEP_SIZE_RANGE = (1e-8, 1e3)
LEAST_FACTOR = 0.3  # on the step sizes of neighbours that are to differ
_GOLDEN_RATIO = 0.6180339887498949
_INCREMENT = 0.25  # nats, standard deviation of a weight increment on a climb
# Moves of a climb between two looks at whether it arrived: by the clock, what it did beyond that
# would be of other gradients in every run.
_BETWEEN_LOOKS = 16
_LEAST_ACCEPTANCE = 0.3  # of the wanted one; below it a climb stays where it is, and adapts


class Rule(NamedTuple):
    """What becomes of step sizes and temperatures on the way.

    Attributes:
      is_searching: step sizes follow the acceptance.
      is_own: each datum's follow its own, and not the mean over data.
      is_climbing: temperatures are placed on the way, after those that are given.
    """

    is_searching: bool = False
    is_own: bool = False
    is_climbing: bool = False


SEARCH, OWN, CLIMB, CHECK = Rule(True), Rule(True, True), Rule(True, True, True), Rule()


class Found(NamedTuple):
    """What pilots saw after each of `S` moves of `B` data.

    Attributes:
      betas: `[S]` of the moves.
      log_step_sizes: `[B, S]` logarithm of the factor on `scales`, as used or as adapted.
      scales: `[S, D]` (`[S]` of binary latents) step sizes but for that factor.
      acceptance: `[B, S]` mean over a datum's chains that still count; NaN where none does.
      work_variance: `[B, S]` of log f_n - log f_0, likewise, nats²; NaN where fewer than two do.
      work: `[B, S, K]` log f_n - log f_0 of every chain, nats.
      deviations: `[S, D]` of the chains' positions, each datum's around its own mean.
      num_nonfinite: moves rejected for a non-finite energy.
    """

    betas: np.ndarray
    log_step_sizes: np.ndarray
    scales: np.ndarray
    acceptance: np.ndarray
    work_variance: np.ndarray
    work: np.ndarray
    deviations: np.ndarray
    num_nonfinite: int


_OF_MOVES = ("betas", "scales", "deviations")
_OF_DATA = ("log_step_sizes", "acceptance", "work_variance", "work")


class _Carry(NamedTuple):
    """A datum's pilots between moves, with means over data after the last one; 1 before any."""

    states: ais.AISState  # of K chains
    log_step_size: chex.Array
    acceptance: chex.Array
    work_variance: chex.Array
    square_deviations: chex.Array  # [D]


class _Stretch(NamedTuple):
    """Moves of one call of `_advance`; every length is a run-time value."""

    first: chex.Numeric  # the number of its first move, for the keys
    num_moves: chex.Numeric
    betas: chex.Array  # [S], NaN where a climb places them
    scales: chex.Array  # [S, D], likewise
    variation: chex.Array  # [S], factors on step sizes
    persistences: chex.Array | None  # [S] of the momentum, likewise
    log_factors: chex.Array  # [B, S], likewise, of each datum
    rule: Rule
    target_acceptance: chex.Numeric


class _Seen(NamedTuple):
    """`Found` of a stretch, on the device."""

    betas: chex.Array
    log_step_sizes: chex.Array
    scales: chex.Array
    acceptance: chex.Array
    work_variance: chex.Array
    work: chex.Array
    deviations: chex.Array
    num_nonfinite: chex.Array


def _moments(values: chex.Array, counts: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Mean and variance over the chains that count, `[K, ...]`; NaN of too few."""
    num = jnp.sum(counts).astype(values.dtype)
    counts = counts.reshape(counts.shape + (1,) * (values.ndim - 1))
    mean = jnp.sum(jnp.where(counts, values, 0.0), axis=0, keepdims=True) / num
    squares = jnp.sum(jnp.where(counts, jnp.square(values - mean), 0.0), axis=0)
    return mean[0], squares / jnp.where(num > 1, num - 1, jnp.nan)


@compiling.jit(static_argnames="program", donate_argnames="carry")
def _advance(carry, data, functions, stretch, *, program):
    """Takes a chunk's pilots through a `_Stretch`: (carry, `_Seen`)."""
    dtype = carry.states.position.dtype
    stretch = stretch._replace(
        betas=stretch.betas.astype(dtype),
        scales=stretch.scales.astype(dtype),
        variation=stretch.variation.astype(dtype),
        persistences=jax.tree.map(lambda a: a.astype(dtype), stretch.persistences),
        target_acceptance=stretch.target_acceptance.astype(dtype),
    )

    def advance_datum(carry, keys, x, is_counted, log_factors):
        path = paths.SPACES[program.chain_space](*functions, x)

        def step(key, state, i, beta, step_size):
            key = jax.random.fold_in(key, stretch.first + i)
            own = jax.tree.map(lambda a: a[i], stretch.persistences)
            return ais.step(
                key,
                ais.recenter(state),
                beta,
                step_size,
                path.log_initial,
                path.log_target,
                move=program.build_move(own),
            )

        def body(i, loop):
            carry, seen = loop
            states = carry.states
            is_placed = stretch.rule.is_climbing & jnp.isnan(stretch.betas[i])

            # The next temperature is where the increment's standard deviation is `_INCREMENT`.
            rise = jnp.where(
                carry.acceptance < _LEAST_ACCEPTANCE * stretch.target_acceptance,
                0.0,
                _INCREMENT / jnp.sqrt(carry.work_variance),
            )
            climbed = jnp.minimum(states.beta[0] + jnp.nan_to_num(rise, nan=1.0), 1.0)
            beta = jnp.where(is_placed, climbed, stretch.betas[i])

            # Each coordinate moves by the scale that it has there.
            scales = stretch.scales[i]
            if scales.ndim:
                deviations = jnp.sqrt(carry.square_deviations)
                is_known = is_placed & (deviations > 0.0)
                scales = jnp.where(is_known, deviations, jnp.nan_to_num(scales, nan=1.0))
            step_size = jnp.exp(carry.log_step_size + log_factors[i]) * stretch.variation[i]
            states, info = jax.vmap(
                lambda key, state: step(key, state, i, beta, step_size * scales)
            )(keys, states)

            # What the chains that count have come to; means over the data that have a number.
            counts = jnp.isfinite(states.log_weight)
            own, _ = _moments(info.acceptance, counts)
            _, work_variance = _moments(_work(states), counts)
            _, squares = _moments(states.position, counts)
            values = jnp.concatenate([jnp.stack([own, work_variance]), squares])
            means = chunks.mean_over_data(values, is_counted & jnp.isfinite(values))
            shared = means[0]

            # Step sizes follow the acceptance; of none, they stay.
            acceptance = jnp.where(stretch.rule.is_own, own, shared)
            change = _GAIN * (acceptance - stretch.target_acceptance)
            change = jnp.where(stretch.rule.is_searching, jnp.nan_to_num(change), 0.0)
            followed = jnp.clip(carry.log_step_size + change, *map(math.log, _STEP_SIZE_RANGE))

            seen = _Seen(
                betas=seen.betas.at[i].set(beta),
                log_step_sizes=seen.log_step_sizes.at[i].set(followed + log_factors[i]),
                scales=seen.scales.at[i].set(scales),
                acceptance=seen.acceptance.at[i].set(own),
                work_variance=seen.work_variance.at[i].set(work_variance),
                work=seen.work.at[i].set(states.target.log_density - states.initial.log_density),
                deviations=seen.deviations.at[i].set(jnp.sqrt(means[2:])),
                num_nonfinite=seen.num_nonfinite + jnp.sum(info.num_nonfinite, dtype=jnp.int32),
            )
            return _Carry(states, followed, *means[:2], means[2:]), seen

        zeros = jnp.zeros_like(stretch.betas)
        num_chains, size = carry.states.position.shape
        work, rows = (jnp.zeros((*zeros.shape, num), dtype) for num in (num_chains, size))
        nothing = _Seen(
            zeros, zeros, jnp.zeros_like(stretch.scales), zeros, zeros, work, rows, jnp.int32(0)
        )
        return jax.lax.fori_loop(0, stretch.num_moves, body, (carry, nothing))

    return jax.vmap(advance_datum, axis_name=chunks.DATUM)(carry, *data, stretch.log_factors)


def _work(states: ais.AISState) -> chex.Array:
    """Log f_n - log f_0 of a datum's chains `[K]`, with one offset for all of them."""
    return states.target.log_density - states.offset[0] - states.initial.log_density


def vary(step_sizes: np.ndarray, least: float = LEAST_FACTOR) -> np.ndarray:
    """Step sizes `[S, ...]`, each times a number from `least` to 1, so that neighbours differ.

    Trajectories of one length turn a Gaussian by one angle. Where that is half a turn, a chain
    comes back to where it was and its energy error vanishes, so that the acceptance itself would
    steer step sizes there (Neal 2011, section 3.2). The numbers are fixed, and spread evenly by the
    golden ratio.
    """
    factors = least + (1.0 - least) * (np.arange(len(step_sizes)) * _GOLDEN_RATIO % 1)
    return step_sizes * factors.reshape(-1, *[1] * (step_sizes.ndim - 1))


class Course(NamedTuple):
    """Where pilots go.

    Attributes:
      betas: `[S]` of the moves, in order; a climb goes on from the last of them.
      scales: `[S, D]`, or `[S]` of binary latents: step sizes, or what they are proportional to.
      rule: what becomes of them.
      least_factor: on neighbouring step sizes, which differ where it is below 1, see `vary`.
      persistences: `[S]` of the momentum; None for that of the settings.
      log_factors: `[B, S]` of each datum, on its step sizes; None for ones.
      log_step_size: of the first move where a search begins: logarithm of the factor on `scales`.
      most_moves: of a climb, those given included.
    """

    betas: np.ndarray
    scales: np.ndarray
    rule: Rule
    least_factor: float = 1.0
    persistences: np.ndarray | None = None
    log_factors: np.ndarray | None = None
    log_step_size: float = 0.0
    most_moves: int = 0


class Team:
    """Pilots of any of the data, as many at a time as one program was compiled for."""

    def __init__(self, work: Work, x: PyTree, num_pilot_data: int, num_chains: int):
        self.work, self.x, self.num_pilot_data = work, x, num_pilot_data
        self.num_data = checks.num_rows("x", x)
        self.num_gradients = 0
        self.program = work.settings.program(num_chains)
        latent = jax.eval_shape(
            lambda x: work.target.start(x).sample(jax.random.key(0)), chunks.first(x)
        )
        self.is_continuous = moves.MOVES[work.settings.move].latents == "continuous"
        self._shape = latent.shape if self.is_continuous else ()
        self._expected = 0
        self._progress_fn = getattr(work.progress_fn, "while_tuning", work.progress_fn)

    def expects(self, num_moves: int) -> None:
        """Says how many moves all pilots will make, as far as is known, for the progress."""
        self._expected = num_moves * self.program.num_leapfrog_steps

    def ones(self, num_moves: int) -> np.ndarray:
        """Scales of `Course`, all 1."""
        return np.ones((num_moves, *self._shape))

    def in_shape(self, step_sizes: np.ndarray) -> np.ndarray:
        """Step sizes `[S]` or `[S, D]` as scales of `Course`."""
        return self.ones(len(step_sizes)) * step_sizes.reshape(
            len(step_sizes), *(step_sizes.shape[1:] or [1] * len(self._shape))
        )

    def _count(self, num: int) -> None:
        self.num_gradients += num
        if self._progress_fn is not None:
            self._progress_fn(self.num_gradients, max(self._expected, self.num_gradients))

    def send(
        self,
        key: chex.PRNGKey,
        indices: np.ndarray,
        course: Course,
        *,
        num_counted: int | None = None,
    ) -> Found:
        """Sends pilots of these data along a course.

        Args:
          key: parent of every datum's keys.
          indices: `[num_pilot_data]` of the data, whose latents are never shown.
          course: where they go.
          num_counted: how many of the data, from the first on, are more than filling.
        """
        num_data = len(indices)
        num_counted = num_data if num_counted is None else num_counted
        chunk = population.Chunk(indices, chunks.select(self.x, indices), num_counted)
        per_move = num_counted * self.program.num_chains * self.program.num_leapfrog_steps
        target_acceptance = self.work.settings.target_acceptance
        place, pace = chunks.Placement(num_data), chunks.Pace()
        key, functions = place.replicate((key, self.work.target.functions))
        is_counted = place.split(np.arange(num_data) < num_counted, filler=False)
        numbers, x = place.split((chunk.numbers, chunk.x))
        keys, states = programs.start(key, numbers, x, None, functions, program=self.program)
        keys, dtype = place.settle(keys), states.position.dtype
        size = states.position.shape[-1]
        begins = [np.full(num_data, course.log_step_size, dtype)]
        begins += [np.ones((num_data, *shape), dtype) for shape in ((), (), (size,))]
        carry = _Carry(states, *place.split(begins))

        # Segment after segment, to the last move that is given, or until a climb arrives.
        num_all = max(len(course.betas), course.most_moves)
        parts, first = [], 0
        while first < num_all:
            began = time.monotonic()
            most = _BETWEEN_LOOKS if course.rule.is_climbing else pace.num_moves()
            num_moves = min(most, num_all - first, programs.SEGMENT_SIZE)
            stretch = _stretch(course, first, num_moves, num_data, target_acceptance)
            stretch = stretch._replace(log_factors=place.split(stretch.log_factors.astype(dtype)))
            carry, seen = _advance(
                place.settle(carry), (keys, x, is_counted), functions, stretch, program=self.program
            )
            parts.append(_cut(processes.fetch(seen), num_moves, num_counted))
            pace.record(num_moves, time.monotonic() - began)
            first += num_moves
            self._count(num_moves * per_move)
            if course.rule.is_climbing and parts[-1].betas[-1] >= 1.0:
                break
        return _joined(parts)


def _stretch(
    course: Course, first: int, num_moves: int, num_data: int, target_acceptance: float
) -> _Stretch:
    """The next moves of a course, filled up to the one length that is compiled."""
    last = first + num_moves

    def filled(values: np.ndarray, axis: int = 0) -> np.ndarray:
        these = np.moveaxis(values, axis, 0)[first:last]
        missing = [(0, programs.SEGMENT_SIZE - len(these))] + [(0, 0)] * (these.ndim - 1)
        return np.moveaxis(np.pad(these, missing, constant_values=np.nan), 0, axis)

    factors = course.log_factors
    if factors is None:
        factors = np.zeros((num_data, len(course.betas)))
    persistences = course.persistences
    return _Stretch(
        np.int32(first + 1),
        np.int32(num_moves),
        filled(course.betas),
        filled(course.scales),
        filled(vary(np.ones(last), course.least_factor)),
        None if persistences is None else np.nan_to_num(filled(persistences)),
        np.nan_to_num(filled(factors, axis=1)),
        Rule(*map(np.asarray, course.rule)),
        np.asarray(target_acceptance),
    )


def _cut(seen: _Seen, num_moves: int, num_data: int) -> _Seen:
    """The slots that count."""
    cut = {name: np.asarray(getattr(seen, name))[0, :num_moves] for name in _OF_MOVES}
    cut |= {name: np.asarray(getattr(seen, name))[:num_data, :num_moves] for name in _OF_DATA}
    return _Seen(**cut, num_nonfinite=np.asarray(seen.num_nonfinite)[:num_data].sum())


def _joined(parts: list[_Seen]) -> Found:
    """All stretches, to the first move at β=1 of a climb, which may have gone on there."""
    betas = np.concatenate([part.betas for part in parts])
    end = int(np.argmax(betas >= 1.0)) + 1 if (betas >= 1.0).any() else None

    def joined(name: str, axis: int) -> np.ndarray:
        values = np.concatenate([getattr(part, name) for part in parts], axis=axis)
        return np.take(values, range(len(betas[:end])), axis=axis).astype(np.float64)

    return Found(
        **{name: joined(name, 0) for name in _OF_MOVES},
        **{name: joined(name, 1) for name in _OF_DATA},
        num_nonfinite=int(sum(part.num_nonfinite for part in parts)),
    )
