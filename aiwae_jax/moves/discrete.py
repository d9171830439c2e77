"""Moves of binary latents: Gibbs sweeps, and proposals that read from a gradient what to flip.

A position is `[D]` of 0s and 1s, as floats. Each move is a `types.Move`, leaves
the density of its `evaluate_fn` invariant, and hands on the state's momentum as it found it.

To first order, flipping bit i changes log f by (1 - 2z_i) ∂log f/∂z_i. The informed moves propose
by that estimate and accept by the exact change, so that any `force_fn` will do.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks
from aiwae_jax.distributions import softplus
from aiwae_jax.moves.hamiltonian import HMCInfo, HMCState, accept
from aiwae_jax.types import Move


def is_binary(position: chex.Array) -> chex.Array:
    """Tells whether every unit of `position` `[D]` is a 0 or a 1, `[]` bool.

    Among spins of -1 and +1, say, these moves would walk to points that their density knows nothing
    of; annealing gives such particles weight zero.
    """
    return jnp.all((position == 0.0) | (position == 1.0))


def _check_at_least_one(name: str, value: int) -> None:
    checks.integer(name, value, least=1)


def gibbs(num_sweeps: int = 1, *, block_size: int = 1) -> Move:
    """Sweeps over the units in order, each drawn from its conditional under f given all others.

    A sweep takes ⌈D / block_size⌉·2^block_size evaluations of log f. There is no step size and no
    rejection; the acceptance is always 1.

    Args:
      num_sweeps: over all units.
      block_size: neighbours in z that are drawn together, from all their 2^block_size states.

    Raises:
      ValueError: for a number below 1, or a block of more than 16 units.
    """
    _check_at_least_one("num_sweeps", num_sweeps)
    _check_at_least_one("block_size", block_size)
    if block_size > 16:
        raise ValueError(
            f"`block_size` must be at most 16 (65,536 states are evaluated), got {block_size}."
        )

    def transition(key, state, evaluate_fn, force_fn, step_size):
        del force_fn, step_size
        size, dtype = state.position.shape[0], state.position.dtype
        num_blocks = -(-size // block_size)
        codes = np.arange(2**block_size)
        choices = jnp.asarray(codes[:, None] >> np.arange(block_size) & 1, dtype)  # [2^b, b]

        def draw_block(i, carry):
            position, num_broken = carry
            # The last block may reach past the end: it starts earlier, and draws some units again.
            start = jnp.minimum((i % num_blocks) * block_size, max(size - block_size, 0))
            width = min(block_size, size)
            candidates = jax.vmap(
                lambda choice: jax.lax.dynamic_update_slice(position, choice[:width], [start])
            )(choices[: 2**width])
            log_density = jax.vmap(lambda z: evaluate_fn(z).log_density)(candidates)
            is_broken = jnp.isnan(log_density) | (log_density == jnp.inf)
            logits = jnp.where(is_broken, -jnp.inf, log_density)
            chosen = jax.random.categorical(jax.random.fold_in(key, i), logits)
            # Where no state has any weight, the conditional is not defined.
            is_any = jnp.any(logits > -jnp.inf)
            position = jnp.where(is_any, candidates[chosen], position)
            return position, num_broken + jnp.sum(is_broken)

        start = state.position, jnp.zeros((), jnp.int32)
        position, num_broken = jax.lax.fori_loop(0, num_sweeps * num_blocks, draw_block, start)
        moved = evaluate_fn(position)._replace(momentum=state.momentum)
        one = jnp.ones((), dtype)
        return moved, HMCInfo(one, jnp.any(position != state.position), num_broken > 0)

    return Move(transition, supports=is_binary)


def informed(num_steps: int = 1) -> Move:
    """Gibbs with gradients (Grathwohl et al. 2021): one bit flip at a time, where it promises most.

    Bit i is proposed with probability softmax(½(1 - 2z_i) ∂log f/∂z_i), and accepted by Metropolis
    and Hastings. Each of the `num_steps` costs a gradient; there is no step size.

    Raises:
      ValueError: if `num_steps` < 1.
    """

    def propose(key, state):
        chosen = jax.random.categorical(key, 0.5 * _gain(state))
        return state.position.at[chosen].set(1.0 - state.position[chosen])

    def log_proposal(state, position):
        is_flipped = position != state.position
        log_choices = jax.nn.log_softmax(0.5 * _gain(state))
        return jnp.sum(jnp.where(is_flipped, log_choices, 0.0))

    def transition(key, state, evaluate_fn, force_fn, step_size):
        del force_fn, step_size
        return _metropolis_hastings(key, state, evaluate_fn, propose, log_proposal, num_steps)

    _check_at_least_one("num_steps", num_steps)
    return Move(transition, supports=is_binary)


def langevin(num_steps: int = 1) -> Move:
    """Discrete Langevin proposals (Zhang et al. 2022): all bits at once, each flipped on its own.

    Bit i flips with log odds ½(1 - 2z_i) ∂log f/∂z_i - 1/(2ε), and the whole proposal is accepted
    by Metropolis and Hastings. The step size ε rules how many flip; 0 makes the move the identity.
    Each of the `num_steps` costs a gradient.

    Raises:
      ValueError: if `num_steps` < 1.
    """

    def transition(key, state, evaluate_fn, force_fn, step_size):
        del force_fn
        step_size = jnp.asarray(step_size, state.position.dtype)  # of which 0 is one

        def log_odds(state):
            return 0.5 * _gain(state) - 0.5 / step_size

        def propose(key, state):
            noise = jax.random.logistic(key, state.position.shape, state.position.dtype)
            return jnp.where(noise < log_odds(state), 1.0 - state.position, state.position)

        def log_proposal(state, position):
            odds = log_odds(state)
            is_flipped = position != state.position
            return jnp.sum(jnp.where(is_flipped, odds, 0.0) - softplus(odds))

        return _metropolis_hastings(key, state, evaluate_fn, propose, log_proposal, num_steps)

    _check_at_least_one("num_steps", num_steps)
    return Move(transition, supports=is_binary)


def _gain(state: HMCState) -> chex.Array:
    """First-order change of log f by the flip of each bit, `[D]`; nothing where it is not known."""
    gain = (1.0 - 2.0 * state.position) * state.force
    return jnp.where(jnp.isnan(gain), 0.0, jnp.clip(gain, -1e4, 1e4))


def _metropolis_hastings(
    key: chex.PRNGKey,
    state: HMCState,
    evaluate_fn: Callable[[chex.Array], HMCState],
    propose: Callable[[chex.PRNGKey, HMCState], chex.Array],
    log_proposal: Callable[[HMCState, chex.Array], chex.Array],
    num_steps: int,
) -> tuple[HMCState, HMCInfo]:
    """`num_steps` proposals, each accepted with min(1, f(z') q(z|z') / (f(z) q(z'|z)))."""

    def step(i, carry):
        state, acceptance, is_moved, is_nonfinite = carry
        propose_key, accept_key = jax.random.split(jax.random.fold_in(key, i))
        proposal = evaluate_fn(propose(propose_key, state))._replace(momentum=state.momentum)
        log_ratio = (
            proposal.log_density
            - state.log_density
            + log_proposal(proposal, state.position)
            - log_proposal(state, proposal.position)
        )
        # As in HMC: leaving a point of density zero is always accepted, a NaN never.
        is_broken = ~jnp.isfinite(proposal.log_density) | jnp.isnan(log_ratio)
        log_ratio = jnp.where(is_broken, -jnp.inf, log_ratio)
        log_uniform = jnp.log(jax.random.uniform(accept_key, (), log_ratio.dtype))
        is_accepted = accept(log_uniform, log_ratio)
        state = jax.tree.map(lambda a, b: jnp.where(is_accepted, a, b), proposal, state)
        acceptance = acceptance + jnp.exp(jnp.minimum(log_ratio, 0.0)) / num_steps
        return state, acceptance, is_moved | is_accepted, is_nonfinite | is_broken

    no = jnp.zeros((), bool)
    start = state, jnp.zeros((), state.position.dtype), no, no
    state, *info = jax.lax.fori_loop(0, num_steps, step, start)
    return state, HMCInfo(*info)
