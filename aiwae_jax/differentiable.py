"""Samplers that are differentiated through: the Hamiltonian flows, started at q.

What one of them learns, it finds in ψ under its own name: bounded step sizes, a reverse network.
"""

from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import ais, checks, distributions, hamiltonian, moves, networks, paths, weights
from aiwae_jax.moves import hamiltonian as hmc
from aiwae_jax.types import Info, Model, Particles, Posterior, Sampler

TEMPERINGS = ("none", "fixed", "learned")
_LARGEST_STEP_SIZE = 0.5


def _logit(probability: chex.Numeric) -> chex.Array:
    return jnp.log(probability) - jnp.log1p(-jnp.asarray(probability))


def _latent_size(model: Model) -> int:
    """D, without computing anything.

    Raises:
      ValueError: for a model whose prior does not say it without a datum.
    """
    checks.given("model.prior", model.prior, "it says how many latents there are")
    return checks.shape_of(
        "model.prior",
        lambda key: model.prior(model.init(key).theta, None).sample(key),
        jax.random.key(0),
        given="x=None, asked for the number of latents",
    ).shape[0]


def _bounded(raw: chex.Array, largest: float) -> chex.Array:
    return largest * jax.nn.sigmoid(raw)


def _raw(value: float, largest: float, shape: tuple[int, ...]) -> chex.Array:
    """Inverts `_bounded`, so that it gives `value`."""
    return jnp.full(shape, _logit(value / largest))


def _check_step_size(value: float, largest: float) -> None:
    if not 0.0 < value < largest:
        raise ValueError(
            f"`initial_step_size` must lie between 0 and `largest_step_size`={largest}, got "
            f"{value}."
        )


def _sampler(
    model: Model, num_particles: int, draw_particle: Callable, init_params: Callable
) -> Sampler:
    """K independent particles by `draw_particle(params, x)(key) -> (z, log_weight)`.

    The particles come without the posterior: they are no longer its samples.
    """
    checks.integer("num_particles", num_particles, least=1)

    def draw(key, params, x, state, *, axis_name=None):
        del state, axis_name
        draw_one = draw_particle(params, x)
        z, log_weights = jax.vmap(draw_one)(jax.random.split(key, num_particles))
        return Particles(x, z, weights.zero_if_broken(log_weights)), Info()

    return Sampler(
        draw,
        frozenset({"proper_weights", "gradients"}),
        init_params=init_params,
        check_data=model.check_data,
    )


def _from_posterior(posterior: Posterior, flow: Callable) -> Callable:
    """Draws z_0 ~ q, lets `flow(key, z_0) -> (z, log weight)` move it, and takes log q(z_0) off."""

    def draw_one(key):
        start_key, flow_key = jax.random.split(key)
        start, log_q = posterior.sample_and_log_prob(start_key)
        z, log_weight = flow(flow_key, start)
        return z, log_weight - log_q

    return draw_one


def hvae(
    model: Model,
    num_particles: int = 1,
    num_leapfrog_steps: int = 5,
    *,
    tempering: str = "fixed",
    initial_temperature: float = 2.0,
    initial_step_size: float = 0.05,
    largest_step_size: float = _LARGEST_STEP_SIZE,
) -> Sampler:
    """`hamiltonian.tempered_flow` from q: the Hamiltonian VAE (Caterini et al. 2018).

    ψ holds the step size of each latent coordinate, bounded, and the coolings where they are
    learned.

    Args:
      model: the model.
      num_particles: K; their weights are averaged as in IWAE.
      num_leapfrog_steps: M; 0 leaves importance sampling.
      tempering: "none" (β_0 = 1), "fixed" (`hamiltonian.quadratic_cooling` from
        `initial_temperature`) or "learned" (each step's cooling by itself, starting there).
      initial_temperature: 1/β_0 >= 1.
      initial_step_size: where all step sizes start.
      largest_step_size: their bound.

    Raises:
      ValueError: for impossible values, or learned cooling from a temperature that is not above 1.
    """
    moves.check("hmc", model.latents)
    _check_step_size(initial_step_size, largest_step_size)
    checks.integer("num_leapfrog_steps", num_leapfrog_steps, least=0)
    if tempering not in TEMPERINGS:
        raise ValueError(f"`tempering` must be one of {', '.join(TEMPERINGS)}, got {tempering!r}.")
    is_learned = tempering == "learned"
    if initial_temperature < 1.0 or (is_learned and initial_temperature == 1.0):
        raise ValueError(
            "`initial_temperature` must be at least 1, and above it to be learned, got "
            f"{initial_temperature}."
        )
    first = hamiltonian.quadratic_cooling(
        num_leapfrog_steps, 1.0 if tempering == "none" else initial_temperature
    )

    def init_params(key):
        del key
        psi = {"step_size": _raw(initial_step_size, largest_step_size, (_latent_size(model),))}
        return {"hvae": {**psi, "coolings": _logit(first)} if is_learned else psi}

    def draw_particle(params, x):
        posterior, psi = model.posterior(params.phi, x), params.psi["hvae"]
        coolings = jax.nn.sigmoid(psi["coolings"]) if is_learned else first

        return _from_posterior(
            posterior,
            lambda key, z: hamiltonian.tempered_flow(
                key,
                z,
                partial(model.log_joint, params.theta, x),
                _bounded(psi["step_size"], largest_step_size),
                coolings,
            ),
        )

    return _sampler(model, num_particles, draw_particle, init_params)


def hvi(
    model: Model,
    num_particles: int = 1,
    num_moves: int = 2,
    num_leapfrog_steps: int = 3,
    *,
    hidden_size: int = 50,
    initial_step_size: float = 0.05,
    largest_step_size: float = _LARGEST_STEP_SIZE,
) -> Sampler:
    """`hamiltonian.auxiliary_flow` from q: Hamiltonian VI (Salimans et al. 2015).

    ψ holds the step size of each latent coordinate, bounded, and the reverse network: a diagonal
    normal for v_m, from m, z_m and the force there, through which it sees x.

    Args:
      model: the model.
      num_particles: K; their weights are averaged as in IWAE.
      num_moves: M; 0 leaves importance sampling.
      num_leapfrog_steps: L of each move.
      hidden_size: of the reverse network's one tanh layer.
      initial_step_size: where all step sizes start.
      largest_step_size: their bound.

    Raises:
      ValueError: for impossible values.
    """
    moves.check("hmc", model.latents)
    _check_step_size(initial_step_size, largest_step_size)
    checks.integer("num_moves", num_moves, least=0)
    hmc.check_num_leapfrog_steps(num_leapfrog_steps)

    def network(size):
        return networks.mlp(2 * size + 1, [hidden_size], [size, size])

    def init_params(key):
        size = _latent_size(model)
        step_size = _raw(initial_step_size, largest_step_size, (size,))
        return {"hvi": {"step_size": step_size, "reverse": network(size).init(key)}}

    def draw_particle(params, x):
        posterior, psi = model.posterior(params.phi, x), params.psi["hvi"]
        reverse = network(psi["step_size"].shape[0])

        def reverse_fn(m, z, force):
            loc, log_scale = reverse.apply(psi["reverse"], jnp.concatenate([m[None], z, force]))
            return distributions.DiagNormal(loc, jnp.exp(log_scale))

        return _from_posterior(
            posterior,
            lambda key, z: hamiltonian.auxiliary_flow(
                key,
                z,
                partial(model.log_joint, params.theta, x),
                _bounded(psi["step_size"], largest_step_size),
                reverse_fn,
                num_moves=num_moves,
                num_leapfrog_steps=num_leapfrog_steps,
            ),
        )

    return _sampler(model, num_particles, draw_particle, init_params)


def uha(
    model: Model,
    num_particles: int = 1,
    num_temperatures: int = 8,
    num_leapfrog_steps: int = 1,
    *,
    schedule: str = "linear",
    chain_space: str = "latent",
    initial_step_size: float = 0.05,
    largest_step_size: float = _LARGEST_STEP_SIZE,
    initial_persistence: float = 0.5,
    with_rematerialization: bool = False,
) -> Sampler:
    """`hamiltonian.unadjusted_chain` from q: differentiable annealed importance sampling.

    ψ holds one bounded step size for each temperature and the momentum's persistence.

    Args:
      model: the model.
      num_particles: K; their weights are averaged as in IWAE.
      num_temperatures: T, counting β=0 and β=1.
      num_leapfrog_steps: L of each move.
      schedule: the temperatures, a key of `schedules.SCHEDULES`.
      chain_space: as in `samplers.annealed`.
      initial_step_size: where all step sizes start.
      largest_step_size: their bound.
      initial_persistence: where the persistence, in (0, 1), starts.
      with_rematerialization: trades computation for memory, see `hamiltonian.unadjusted_chain`.

    Raises:
      ValueError: for impossible values, or a chain in z where q's density is not to be had.
    """
    moves.check("hmc", model.latents)
    _check_step_size(initial_step_size, largest_step_size)
    betas = ais.make_schedule(schedule, num_temperatures)
    hmc.check_num_leapfrog_steps(num_leapfrog_steps)
    paths.check_space(chain_space, model)
    if not 0.0 < initial_persistence < 1.0:
        raise ValueError(f"`initial_persistence` must lie in (0, 1), got {initial_persistence}.")

    def init_params(key):
        del key
        return {
            "uha": {
                "step_sizes": _raw(initial_step_size, largest_step_size, (num_temperatures - 1,)),
                "persistence": _logit(initial_persistence),
            }
        }

    def draw_particle(params, x):
        posterior, psi = model.posterior(params.phi, x), params.psi["uha"]
        path = paths.SPACES[chain_space](
            partial(model.log_joint, params.theta), lambda x: posterior, x
        )

        def draw_one(key):
            start_key, chain_key = jax.random.split(key)
            position, log_weight = hamiltonian.unadjusted_chain(
                chain_key,
                path.sample(start_key),
                path.log_initial,
                path.log_target,
                betas,
                _bounded(psi["step_sizes"], largest_step_size),
                momentum_persistence=jax.nn.sigmoid(psi["persistence"]),
                num_leapfrog_steps=num_leapfrog_steps,
                with_rematerialization=with_rematerialization,
            )
            return path.to_latent(position), log_weight

        return draw_one

    return _sampler(model, num_particles, draw_particle, init_params)
