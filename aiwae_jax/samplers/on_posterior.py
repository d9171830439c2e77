"""The end of an HMC chain on the posterior: begun anew at every visit, or gone on with."""

from functools import partial

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import ais, checks, forces, moves, paths
from aiwae_jax.moves import hamiltonian as hmc
from aiwae_jax.samplers.chains import BASE_STEP_SIZES, TARGET_ACCEPTANCE, adapt_fn, info_of
from aiwae_jax.types import LogDensityFn, Model, Particles, Sampler

_RESTART_EVERY = 8


def hmc_from_posterior(
    model: Model,
    num_moves: int,
    num_leapfrog_steps: int = 5,
    *,
    initial_step_size: float = moves.MOVES["hmc"].step_sizes[0],
    target_acceptance: float = TARGET_ACCEPTANCE,
    force_precision: str = "float32",
) -> Sampler:
    """HMC on log p_θ(x, z) started at a draw from q (Hoffman 2017): one particle of unit weight.

    Its weight says nothing of p(x): not properly weighted. Step sizes, one for each move, are
    shared and adapted as in `annealed`.

    Args:
      model: the model; any posterior will do.
      num_moves: M; 0 leaves the draw from q.
      num_leapfrog_steps: L of each move.
      initial_step_size: where every step size starts.
      target_acceptance: where the adaptation steers.
      force_precision: as in `annealed`.

    Raises:
      ValueError: if M < 0 or L < 1, if the model has no other precision, or binary latents.
    """
    moves.check("hmc", model.latents)
    checks.integer("num_moves", num_moves, least=0)
    hmc.check_num_leapfrog_steps(num_leapfrog_steps)
    log_joint = forces.log_joint_fn(model, force_precision)

    def draw(key, params, x, state, *, axis_name=None):
        params = jax.lax.stop_gradient(params)
        start_key, chain_key = jax.random.split(key)
        start = model.posterior(params.phi, x).sample(start_key)
        log_density_fn = partial(log_joint, params.theta, x)
        end, info = _moved(chain_key, start, log_density_fn, state, num_leapfrog_steps, axis_name)
        return Particles(x, end[None], jnp.zeros(1, end.dtype)), info_of(info, state)

    return Sampler(
        draw,
        frozenset(),
        init=lambda: jnp.full(num_moves, initial_step_size),
        adapt=adapt_fn(target_acceptance, moves.MOVES["hmc"].step_sizes[1]),
        check_data=model.check_data,
    )


def persistent(
    model: Model,
    num_moves: int = 1,
    num_leapfrog_steps: int = 5,
    *,
    restart_every: int = _RESTART_EVERY,
    chain_space: str = "base",
    initial_step_size: float | None = None,
    target_acceptance: float = TARGET_ACCEPTANCE,
    force_precision: str = "float32",
) -> Sampler:
    """HMC on log p_θ(x, z) that goes on, at each visit of a datum, from where the last one ended.

    One particle of unit weight, which says nothing of p(x): not properly weighted. Each move leaves
    p_θ(z|x) of the θ of its step invariant. While θ moves slowly against the chains, their ends
    follow its posterior, and the gradient of `log_joint` tends to that of log p(x) (stochastic
    approximation: Younes 1989; of chains that persist, Tieleman 2008), with the bias of chains that
    have not forgotten q yet.

    A latent is one of its x. So training keeps each datum's bits as they are for a period of
    `restart_every` passes over the data, and begins both anew at its end, the latent from q.

    Its state is the step sizes, one for each move, shared and adapted as in `annealed`.

    Args:
      model: the model; any posterior will do.
      num_moves: M of a visit.
      num_leapfrog_steps: L of each move.
      restart_every: passes over the data in a period. Where x are no bits, there is no other reason
        to begin anew than a chain that is stuck.
      chain_space: what the moves are made in, q's noise ("base") or z ("latent"). What is kept is z
        in either: its noise is that of the q of the step, so that φ may move between visits.
      initial_step_size: where every step size starts; by default 0.3 in base space, else 0.1.
      target_acceptance: where the adaptation steers.
      force_precision: as in `annealed`.

    Raises:
      ValueError: if M < 1, L < 1 or `restart_every` < 1, for an unknown space, if the model has no
        other precision, or binary latents; and `draw` for a posterior without `inverse_transport`
        in base space.
    """
    moves.check("hmc", model.latents)
    checks.integer("num_moves", num_moves, least=1)
    hmc.check_num_leapfrog_steps(num_leapfrog_steps)
    checks.integer("restart_every", restart_every, least=1)
    if chain_space != "latent":  # where no move asks for log q
        paths.check_space(chain_space, model)
    log_joint = forces.log_joint_fn(model, force_precision)
    step_sizes = BASE_STEP_SIZES if chain_space == "base" else moves.MOVES["hmc"].step_sizes
    first_step_size, largest_step_size = step_sizes
    if initial_step_size is not None:
        first_step_size = initial_step_size

    def draw(key, params, x, state, *, axis_name=None, kept=None):
        params = jax.lax.stop_gradient(params)
        start_key, chain_key = jax.random.split(key)
        q = model.posterior(params.phi, x)
        path = paths.SPACES[chain_space](partial(log_joint, params.theta), lambda x: q, x)
        start = path.sample(start_key)
        if kept is not None:
            if chain_space == "base" and not hasattr(q, "inverse_transport"):
                raise ValueError(
                    "`chain_space`='base' finds the noise of latents that were kept, and this "
                    "model's posterior has no `inverse_transport`; use 'latent'."
                )
            last = path.from_latent(jax.lax.stop_gradient(kept.z[0]))
            start = jnp.where(kept.is_begun, last, start)
        end, info = _moved(chain_key, start, path.log_target, state, num_leapfrog_steps, axis_name)
        z = path.to_latent(end)
        return Particles(x, z[None], jnp.zeros(1, z.dtype)), info_of(info, state)

    return Sampler(
        draw,
        frozenset(),
        init=lambda: jnp.full(num_moves, first_step_size),
        adapt=adapt_fn(target_acceptance, largest_step_size),
        check_data=model.check_data,
        restart_every=restart_every,
    )


def _moved(
    key: chex.PRNGKey,
    position: chex.Array,
    log_density_fn: LogDensityFn,
    step_sizes: chex.Array,
    num_leapfrog_steps: int,
    axis_name: str | None,
) -> tuple[chex.Array, ais.AISInfo]:
    """Where HMC moves of `step_sizes` `[M]` take a position `[D]`, and their diagnostics."""

    def body(hmc_state, inputs):
        m, step_size = inputs
        hmc_state, info = hmc.step(
            jax.random.fold_in(key, m),
            hmc_state,
            log_density_fn,
            step_size,
            num_leapfrog_steps=num_leapfrog_steps,
        )
        info = ais.AISInfo(info.acceptance, info.is_nonfinite.astype(jnp.int32))
        return hmc_state, ais.reduce_info(info, axis_name)

    start = hmc.init(position, log_density_fn)
    end, info = jax.lax.scan(body, start, (jnp.arange(len(step_sizes)), step_sizes))
    return end.position, info._replace(num_nonfinite=info.num_nonfinite.sum())
