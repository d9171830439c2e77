"""Samplers: where the particles of a datum come from."""

from functools import partial

import jax
import jax.numpy as jnp

from aiwae_jax import ais, forces, hmc, paths, weights
from aiwae_jax.types import Model, Particles, Sampler

TARGET_ACCEPTANCE = 0.6  # the authors'
# Where step sizes start, and their upper limit: the authors' in z, and in q's standard deviations.
_STEP_SIZES = {"latent": (0.1, 0.3), "base": (0.3, 2.0)}


def _check_num_particles(num_particles: int) -> None:
    if num_particles < 1:
        raise ValueError(f"`num_particles` must be at least 1, got {num_particles}.")


def importance(model: Model, num_particles: int) -> Sampler:
    """Importance sampling from q: z_k ~ q_φ(z|x), w_k = p_θ(x, z_k) / q_φ(z_k|x) (Eq. 3).

    Properly weighted, and reparameterized: z and the weights carry gradients to θ and φ.

    Raises:
      ValueError: if `num_particles` < 1.
    """
    _check_num_particles(num_particles)

    def draw(key, params, x, state, *, axis_name=None):
        del state, axis_name
        posterior = model.posterior(params.phi, x)
        z, log_q = jax.vmap(posterior.sample_and_log_prob)(jax.random.split(key, num_particles))
        log_p = jax.vmap(lambda z_k: model.log_joint(params.theta, x, z_k))(z)
        return Particles(x, z, weights.zero_if_broken(log_p - log_q), posterior), {}

    return Sampler(draw, is_properly_weighted=True, is_reparameterized=True)


def annealed(
    model: Model,
    num_particles: int,
    num_temperatures: int,
    num_leapfrog_steps: int = 5,
    *,
    schedule: str = "linear",
    chain_space: str = "latent",
    initial_step_size: float | None = None,
    target_acceptance: float = TARGET_ACCEPTANCE,
    force_precision: str = "float32",
    particle_chunk: int | None = None,
) -> Sampler:
    """Annealed importance sampling from q_φ(z|x) to p_θ(x, z): the θ half of Algorithm 1.

    K independent chains of `ais.run_chain`, `vmap`ped. One step size per temperature, shared by all
    particles and all data of a batch, is adapted after each training step. Properly weighted;
    gradients are stopped at the parameters that enter the chains, so that nothing is stored for a
    backward pass and memory does not grow with T.

    Its state is the step sizes `[T-1]`; its info holds `acceptance` and `step_sizes`, both `[T-1]`,
    and `num_nonfinite`.

    Args:
      model: the model; its posterior needs `sample` and `log_prob`.
      num_particles: K.
      num_temperatures: T, counting β=0 and β=1.
      num_leapfrog_steps: L.
      schedule: the temperatures, a key of `ais.SCHEDULES`.
      chain_space: "latent" moves z, as the paper does; "base" moves the noise that the posterior's
        `transport` maps to z, so that q's standard deviations become the mass matrix.
      initial_step_size: where every ε_t starts; by default 0.1, and 0.3 in base space.
      target_acceptance: where the adaptation steers.
      force_precision: "float32", or a lower one of `model.log_joint_in` for log p's gradient inside
        the leapfrog. Energies and weights stay fp32, so that the weighting stays proper.
      particle_chunk: particles of a datum annealed at once, a divisor of K; default all. Smaller
        chunks bound the memory, and can be faster where they fit a cache; see also
        `objectives.log_joint`.

    Raises:
      ValueError: if K < 1, T < 2 or L < 1, if `particle_chunk` does not divide K, if the model has
        no other precision, or for an unknown schedule or space.
    """
    _check_num_particles(num_particles)
    hmc.check_num_leapfrog_steps(num_leapfrog_steps)
    for name, value, known in (
        ("schedule", schedule, ais.SCHEDULES),
        ("chain_space", chain_space, paths.SPACES),
    ):
        if value not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}; got {value!r}.")
    betas = ais.SCHEDULES[schedule](num_temperatures)
    first_step_size, largest_step_size = _STEP_SIZES[chain_space]
    if initial_step_size is not None:
        first_step_size = initial_step_size
    chunk = particle_chunk or num_particles
    if chunk < 1 or num_particles % chunk:
        raise ValueError(
            f"`particle_chunk` must divide `num_particles`={num_particles}, got {particle_chunk}."
        )
    log_joint = forces.log_joint_fn(model, force_precision)

    def draw(key, params, x, state, *, axis_name=None):
        params = jax.lax.stop_gradient(params)
        posterior = model.posterior(params.phi, x)  # the encoder, once per datum
        path = paths.SPACES[chain_space](partial(log_joint, params.theta), lambda x: posterior, x)

        def chain(chain_key, position):
            return ais.run_chain(
                chain_key,
                position,
                log_initial_fn=path.log_initial,
                log_target_fn=path.log_target,
                betas=betas,
                step_sizes=state,
                num_leapfrog_steps=num_leapfrog_steps,
                axis_name="particle" if axis_name is None else ("particle", axis_name),
            )

        def draw_chunk(keys):
            initial_keys, chain_keys = keys
            starts = jax.vmap(path.sample)(initial_keys)
            chains = jax.vmap(chain, out_axes=(0, 0, None), axis_name="particle")
            positions, log_weights, info = chains(chain_keys, starts)
            return jax.vmap(path.to_latent)(positions), log_weights, info

        keys = jax.random.split(key, (2, num_particles))
        if chunk == num_particles:
            z, log_weights, info = draw_chunk(keys)
        else:
            keys = jnp.swapaxes(keys.reshape(2, -1, chunk), 0, 1)
            z, log_weights, info = jax.lax.map(draw_chunk, keys)
            z, log_weights = z.reshape(num_particles, -1), log_weights.reshape(num_particles)
            info = ais.AISInfo(info.acceptance.mean(axis=0), info.num_nonfinite.sum())
        return Particles(x, z, log_weights, posterior), {**info._asdict(), "step_sizes": state}

    def adapt(step_sizes, info):
        return hmc.adapt_step_size(
            step_sizes, info["acceptance"], target=target_acceptance, largest=largest_step_size
        )

    return Sampler(
        draw,
        is_properly_weighted=True,
        is_reparameterized=False,
        init=lambda: jnp.full(num_temperatures - 1, first_step_size),
        adapt=adapt,
    )
