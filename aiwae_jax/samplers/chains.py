"""Particles that chains anneal, from q or the prior to the posterior."""

from functools import partial

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import ais, checks, forces, moves, paths, schedules
from aiwae_jax.moves import hamiltonian as hmc
from aiwae_jax.types import ChainInfo, Info, Model, Particles, Sampler

TARGET_ACCEPTANCE = 0.6  # the authors'
BASE_STEP_SIZES = (0.3, 2.0)  # where HMC's start, and their limit, in q's standard deviations


def annealed(
    model: Model,
    num_particles: int,
    num_temperatures: int,
    num_leapfrog_steps: int = 5,
    *,
    schedule: str = "linear",
    chain_space: str = "latent",
    start: str = "posterior",
    move: str | None = None,
    initial_step_size: float | None = None,
    target_acceptance: float = TARGET_ACCEPTANCE,
    force_precision: str = "float32",
    particle_chunk: int | None = None,
) -> Sampler:
    """Annealed importance sampling from q_φ(z|x) to p_θ(x, z): the θ half of Algorithm 1.

    Continuous latents are moved by HMC, binary ones by a move of `moves`.

    K independent chains of `ais.run_chain`, by `vmap`. One step size per temperature, shared by all
    particles and all data of a batch, is adapted after each training step. Properly weighted;
    gradients are stopped at the parameters that enter the chains, so that nothing is stored for a
    backward pass and memory does not grow with T.

    Its state is the step sizes `[T-1]`; its info holds the `chain` of the moves at betas[1:], and
    the count `num_nonfinite`.

    Args:
      model: the model; its posterior needs `sample` and `log_prob`.
      num_particles: K.
      num_temperatures: T, counting β=0 and β=1.
      num_leapfrog_steps: L; of other moves the number of proposals or sweeps at each temperature.
      schedule: the temperatures, a key of `schedules.SCHEDULES`.
      chain_space: "latent" moves z, as the paper does; "base" moves the noise that the posterior's
        `transport` maps to z, so that q's standard deviations become the mass matrix.
      start: where chains come from, "posterior" for q_φ(z|x), "prior" for p_θ(z|x).
      move: a key of `moves.MOVES`; by default "hmc", for binary latents "langevin".
      initial_step_size: where every ε_t starts; by default 0.1, and 0.3 in base space, 0.2 for
        "langevin".
      target_acceptance: where the adaptation steers.
      force_precision: "float32", or a lower one of `model.log_joint_in` for log p's gradient inside
        the leapfrog. Energies and weights stay fp32, so that the weighting stays proper.
      particle_chunk: particles of a datum annealed at once, a divisor of K; default all. Smaller
        chunks bound the memory, and can be faster where they fit a cache; see also
        `objectives.log_joint`.

    Raises:
      ValueError: if K < 1, T < 2 or L < 1, if `particle_chunk` does not divide K, if the model has
        no other precision, for an unknown schedule, space, start or move, or one that cannot serve
        the model's latents.
    """
    # Checked once: what moves, at which temperatures, in which space, in what steps and chunks.
    checks.integer("num_particles", num_particles, least=1)
    move = move or moves.DEFAULTS[model.latents]
    moves.check(move, model.latents)
    built = moves.build(move, num_leapfrog_steps)
    betas = ais.make_schedule(schedule, num_temperatures)
    betas_of_moves = schedules.numbers(schedule, num_temperatures)[1:]
    kind = f"{move} from the {start} in {chain_space} space"
    paths.check_space(chain_space, model)
    if start not in ("posterior", "prior"):
        raise ValueError(f"`start` must be 'posterior' or 'prior', got {start!r}.")
    if start == "prior":
        checks.given("model.prior", model.prior, "`start`='prior' begins there")
    step_sizes = BASE_STEP_SIZES if chain_space == "base" else moves.MOVES[move].step_sizes
    first_step_size, largest_step_size = step_sizes or (1.0, 1.0)  # idle where there are none
    if initial_step_size is not None:
        first_step_size = initial_step_size
    chunk = particle_chunk or num_particles
    if chunk < 1 or num_particles % chunk:
        raise ValueError(
            f"`particle_chunk` must divide `num_particles`={num_particles}, got {particle_chunk}."
        )
    log_joint = forces.log_joint_fn(model, force_precision)

    def draw(key, params, x, state, *, axis_name=None):
        # The path: no gradient enters it, so that nothing is kept for a way back.
        params = jax.lax.stop_gradient(params)
        if start == "posterior":
            initial = model.posterior(params.phi, x)  # the encoder, once per datum
        else:
            initial = model.prior(params.theta, x)
        path = paths.SPACES[chain_space](partial(log_joint, params.theta), lambda x: initial, x)

        # One particle on the path; its diagnostics are reduced over all of them, inside the scan.
        def chain(chain_key, position):
            return ais.run_chain(
                chain_key,
                position,
                log_initial_fn=path.log_initial,
                log_target_fn=path.log_target,
                betas=betas,
                step_sizes=state,
                move=built,
                with_recentering=False,  # from q log f_n does not rise by thousands
                axis_name="particle" if axis_name is None else ("particle", axis_name),
            )

        # Some particles, from their starts to their latents.
        def draw_chunk(keys):
            initial_keys, chain_keys = keys
            starts = jax.vmap(path.sample)(initial_keys)
            chains = jax.vmap(chain, out_axes=(0, 0, None), axis_name="particle")
            positions, log_weights, info = chains(chain_keys, starts)
            return jax.vmap(path.to_latent)(positions), log_weights, info

        # All K at once, or chunk by chunk.
        keys = jax.random.split(key, (2, num_particles))
        if chunk == num_particles:
            z, log_weights, info = draw_chunk(keys)
        else:
            # Particle k is in chunk k mod (K / chunk), so that a sharding of the particles splits
            # every chunk, and not the loop over chunks.
            keys = jnp.moveaxis(keys.reshape(2, chunk, -1), 2, 0)
            z, log_weights, info = jax.lax.map(draw_chunk, keys)
            z = jnp.swapaxes(z, 0, 1).reshape(num_particles, -1)
            log_weights = jnp.swapaxes(log_weights, 0, 1).reshape(num_particles)
            info = ais.AISInfo(info.acceptance.mean(axis=0), info.num_nonfinite.sum())
        # Without the posterior, whose parameters are stopped: φ's objective must make its own.
        return Particles(x, z, log_weights), info_of(info, state, betas_of_moves, kind)

    return Sampler(
        draw,
        frozenset({"proper_weights"}),
        init=lambda: jnp.full(num_temperatures - 1, first_step_size),
        adapt=adapt_fn(target_acceptance, largest_step_size),
        check_data=model.check_data,
    )


def info_of(
    info: ais.AISInfo,
    step_sizes: chex.Array,
    betas: tuple[float, ...] | None = None,
    kind: str | None = None,
) -> Info:
    """Diagnostics of a chain's moves."""
    chain = ChainInfo(info.acceptance, step_sizes, betas, kind)
    return Info(counts={"num_nonfinite": info.num_nonfinite}, chain=chain)


def adapt_fn(target_acceptance: float, largest_step_size: float):
    """A sampler's `adapt`, for one step size per move."""

    def adapt(step_sizes, info):
        return hmc.adapt_step_size(
            step_sizes, info.chain.acceptance, target=target_acceptance, largest=largest_step_size
        )

    return adapt
