"""Samplers that are differentiated through: Hamiltonian flows without an accept step.

Each takes z_0 ~ q through leapfrog moves, z_0, v_0' -> z_1, v_1 and so on, where v_m' is the
momentum that enters move m and v_m the one that leaves it. A leapfrog move preserves volume, so
that

    log w = log p(x, z_M) - log q(z_0|x) + Σ_m [log r_m(v_m) - log s_m(v_m')]

is properly weighted for any densities s of the momenta drawn and r of those left behind. The three
methods differ in what they choose for them:

- HVAE draws one momentum and cools it on the way: the terms between the moves cancel;
- HVI draws a new one for each move and learns r;
- UHA (DAIS) refreshes it partially, anneals the force, and has r = s = N(0, I).

Unlike `ais`, whose accept step and stopped gradients keep the memory constant, everything here
is kept for the way back: memory grows with the number of moves.
"""

from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import ais, distributions, hmc, networks, paths, weights
from aiwae_jax.types import LogDensityFn, Model, Particles, Sampler

TEMPERINGS = ("none", "fixed", "learned")
_LARGEST_STEP_SIZE = 0.5


def _log_normal(value: chex.Array) -> chex.Array:
    """Log N(value; 0, I), `[]`."""
    return distributions.standard_normal(value.shape[0], value.dtype).log_prob(value)


def _logit(probability: chex.Numeric) -> chex.Array:
    return jnp.log(probability) - jnp.log1p(-jnp.asarray(probability))


def _latent_size(model: Model) -> int:
    """D, without computing anything."""
    return jax.eval_shape(
        lambda key: model.prior(model.init(key).theta).sample(key), jax.random.key(0)
    ).shape[0]


def _move(
    state: hmc.HMCState,
    momentum: chex.Array,
    log_density_fn: LogDensityFn,
    step_size: chex.Numeric,
    num_leapfrog_steps: int,
) -> tuple[hmc.HMCState, chex.Array]:
    """One leapfrog move on a plain density."""
    return hmc.leapfrog(
        state,
        momentum,
        lambda position: hmc.init(position, log_density_fn),
        jax.grad(log_density_fn),
        step_size,
        num_leapfrog_steps=num_leapfrog_steps,
    )


def quadratic_cooling(num_steps: int, initial_temperature: float) -> chex.Array:
    """Factors `[M]` of the momentum after each step (Caterini et al. 2018, section 3.3).

    1/√β_m falls with m² from 1/√β_0 to 1, where 1/β_0 is the initial temperature; a factor is
    √(β_{m-1} / β_m), and their product is √β_0.
    """
    hot = initial_temperature**0.5
    fraction = jnp.linspace(0.0, 1.0, num_steps + 1) ** 2
    inverse_root_beta = hot + (1.0 - hot) * fraction
    return inverse_root_beta[1:] / inverse_root_beta[:-1]


def tempered_flow(
    key: chex.PRNGKey,
    z: chex.Array,
    log_density_fn: LogDensityFn,
    step_size: chex.Numeric,
    coolings: chex.Array,
) -> tuple[chex.Array, chex.Array]:
    """Leapfrog steps with one momentum that starts hot and is cooled after every step.

    Caterini et al. 2018, Algorithm 1: v_0 = γ/√β_0 with γ ~ N(0, I); each step is followed by
    v <- √(β_{m-1}/β_m)·v. The map's log |det| is (D/2) log β_0, which cancels against the density
    of v_0, so that log s is that of γ.

    Args:
      key: consumed.
      z: `[D]` a draw from q.
      log_density_fn: log p(x, ·), nats.
      step_size: `[]` or `[D]`.
      coolings: `[M]` in (0, 1], √(β_{m-1}/β_m); the product is √β_0.

    Returns:
      z: `[D]`.
      log_weight: `[]` log p(x, z_M) + log N(v_M) - log N(γ), nats; take log q(z_0) off it.
    """
    noise = jax.random.normal(key, z.shape, z.dtype)

    def body(carry, cooling):
        state, momentum = _move(*carry, log_density_fn, step_size, 1)
        return (state, cooling * momentum), None

    start = hmc.init(z, log_density_fn), noise / jnp.prod(coolings)
    (state, momentum), _ = jax.lax.scan(body, start, coolings)
    return state.position, state.log_density + _log_normal(momentum) - _log_normal(noise)


def auxiliary_flow(
    key: chex.PRNGKey,
    z: chex.Array,
    log_density_fn: LogDensityFn,
    step_size: chex.Numeric,
    reverse_fn: Callable[..., distributions.DiagNormal],
    *,
    num_moves: int,
    num_leapfrog_steps: int,
) -> tuple[chex.Array, chex.Array]:
    """Leapfrog moves with fresh momenta, scored by a reverse model (Salimans et al. 2015, Eq. 11).

    Args:
      key: consumed.
      z: `[D]` a draw from q.
      log_density_fn: log p(x, ·), nats.
      step_size: `[]` or `[D]`.
      reverse_fn: `(m [] in (0, 1], z_m [D], force [D]) -> Distribution` of v_m, r(v_m | x, z_m).
      num_moves: M.
      num_leapfrog_steps: L of each.

    Returns:
      z: `[D]`.
      log_weight: `[]` log p(x, z_M) + Σ_m [log r(v_m|x, z_m) - log N(v_m')], nats; take log q(z_0)
        off it.
    """

    def body(carry, m):
        state, log_ratio = carry
        fresh = jax.random.normal(jax.random.fold_in(key, m), z.shape, z.dtype)
        state, momentum = _move(state, fresh, log_density_fn, step_size, num_leapfrog_steps)
        reverse = reverse_fn((m / num_moves).astype(z.dtype), state.position, state.force)
        return (state, log_ratio + reverse.log_prob(momentum) - _log_normal(fresh)), None

    start = hmc.init(z, log_density_fn), jnp.zeros((), z.dtype)
    (state, log_ratio), _ = jax.lax.scan(body, start, jnp.arange(1, num_moves + 1))
    return state.position, state.log_density + log_ratio


def unadjusted_chain(
    key: chex.PRNGKey,
    z: chex.Array,
    log_initial_fn: LogDensityFn,
    log_target_fn: LogDensityFn,
    betas: chex.Array,
    step_sizes: chex.Array,
    *,
    momentum_persistence: chex.Numeric,
    num_leapfrog_steps: int = 1,
    with_rematerialization: bool = False,
) -> tuple[chex.Array, chex.Array]:
    """Annealing by leapfrog moves that nobody accepts or rejects, hence differentiable.

    Uncorrected Hamiltonian annealing (Geffner & Domke 2021, Algorithm 2), also called
    differentiable AIS (Zhang et al. 2021). As in `ais.run_chain`, exp(log_weight) is unbiased for
    Z_target / Z_initial; unlike there, it is not tight as T grows at a fixed step size.

    Args:
      key: consumed.
      z: `[D]` a draw from f_0.
      log_initial_fn: log f_0, normalized, nats.
      log_target_fn: log f_n, nats.
      betas: `[T]` from 0 to 1.
      step_sizes: `[T-1]` or `[T-1, D]`.
      momentum_persistence: α of the partial refreshment before each move.
      num_leapfrog_steps: L.
      with_rematerialization: keeps only the state between moves for the way back and computes each
        move's inside again.

    Returns:
      z: `[D]`.
      log_weight: `[]` nats.
    """

    def body(carry, inputs):
        state, momentum, log_ratio = carry
        t, beta, step_size = inputs
        state = state._replace(beta=beta)
        noise = jax.random.normal(jax.random.fold_in(key, t), z.shape, z.dtype)
        entering = hmc.refresh(momentum, noise, momentum_persistence)
        moved, momentum = ais.leapfrog(
            state,
            entering,
            log_initial_fn,
            log_target_fn,
            step_size,
            num_leapfrog_steps=num_leapfrog_steps,
        )
        return (moved, momentum, log_ratio + _log_normal(momentum) - _log_normal(entering)), None

    if with_rematerialization:
        body = jax.checkpoint(body)
    num_moves = betas.shape[0] - 1
    start = ais.init(z, log_initial_fn, log_target_fn)
    momentum = jax.random.normal(jax.random.fold_in(key, 0), z.shape, z.dtype)
    inputs = jnp.arange(1, num_moves + 1), betas[1:].astype(z.dtype), step_sizes
    (state, _, log_ratio), _ = jax.lax.scan(body, (start, momentum, jnp.zeros((), z.dtype)), inputs)
    return state.position, state.target.log_density - start.initial.log_density + log_ratio


def _bounded(raw: chex.Array, largest: float) -> chex.Array:
    return largest * jax.nn.sigmoid(raw)


def _raw(value: float, largest: float, shape: tuple[int, ...]) -> chex.Array:
    """What `_bounded` makes `value` of."""
    if not 0.0 < value < largest:
        raise ValueError(
            f"`initial_step_size` must lie between 0 and `largest_step_size`={largest}, got "
            f"{value}."
        )
    return jnp.full(shape, _logit(value / largest))


def _check(name: str, value: int, smallest: int) -> None:
    if value < smallest:
        raise ValueError(f"`{name}` must be at least {smallest}, got {value}.")


def _sampler(num_particles: int, draw_particle: Callable, init_params: Callable) -> Sampler:
    """K independent particles by `draw_particle(key, params, x, posterior) -> (z, log_weight)`.

    The particles come without the posterior: they are no longer its samples.
    """
    _check("num_particles", num_particles, 1)

    def draw(key, params, x, state, *, axis_name=None):
        del state, axis_name
        draw_one = draw_particle(params, x)
        z, log_weights = jax.vmap(draw_one)(jax.random.split(key, num_particles))
        return Particles(x, z, weights.zero_if_broken(log_weights)), {}

    return Sampler(
        draw, is_properly_weighted=True, is_reparameterized=True, init_params=init_params
    )


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
    """The flow of the Hamiltonian VAE (Caterini et al. 2018): `tempered_flow` from q.

    ψ holds the step size of each latent coordinate, bounded, and the coolings where they are
    learned.

    Args:
      model: the model.
      num_particles: K; their weights are averaged as in IWAE.
      num_leapfrog_steps: M; 0 leaves importance sampling.
      tempering: "none" (β_0 = 1), "fixed" (`quadratic_cooling` from `initial_temperature`) or
        "learned" (each step's cooling by itself, starting there).
      initial_temperature: 1/β_0 >= 1.
      initial_step_size: where all step sizes start.
      largest_step_size: their bound.

    Raises:
      ValueError: for impossible values, or learned cooling from a temperature that is not above 1.
    """
    _check("num_leapfrog_steps", num_leapfrog_steps, 0)
    if tempering not in TEMPERINGS:
        raise ValueError(f"`tempering` must be one of {', '.join(TEMPERINGS)}, got {tempering!r}.")
    is_learned = tempering == "learned"
    if initial_temperature < 1.0 or (is_learned and initial_temperature == 1.0):
        raise ValueError(
            "`initial_temperature` must be at least 1, and above it to be learned, got "
            f"{initial_temperature}."
        )
    first = quadratic_cooling(
        num_leapfrog_steps, 1.0 if tempering == "none" else initial_temperature
    )

    def init_params(key):
        del key
        psi = {"step_size": _raw(initial_step_size, largest_step_size, (_latent_size(model),))}
        return {"hvae": {**psi, "coolings": _logit(first)} if is_learned else psi}

    def draw_particle(params, x):
        posterior, psi = model.posterior(params.phi, x), params.psi["hvae"]
        coolings = jax.nn.sigmoid(psi["coolings"]) if is_learned else first

        def draw_one(key):
            start_key, flow_key = jax.random.split(key)
            z, log_q = posterior.sample_and_log_prob(start_key)
            z, log_weight = tempered_flow(
                flow_key,
                z,
                partial(model.log_joint, params.theta, x),
                _bounded(psi["step_size"], largest_step_size),
                coolings,
            )
            return z, log_weight - log_q

        return draw_one

    return _sampler(num_particles, draw_particle, init_params)


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
    """Hamiltonian variational inference (Salimans et al. 2015): `auxiliary_flow` from q.

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
    _check("num_moves", num_moves, 0)
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

        def draw_one(key):
            start_key, flow_key = jax.random.split(key)
            z, log_q = posterior.sample_and_log_prob(start_key)
            z, log_weight = auxiliary_flow(
                flow_key,
                z,
                partial(model.log_joint, params.theta, x),
                _bounded(psi["step_size"], largest_step_size),
                reverse_fn,
                num_moves=num_moves,
                num_leapfrog_steps=num_leapfrog_steps,
            )
            return z, log_weight - log_q

        return draw_one

    return _sampler(num_particles, draw_particle, init_params)


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
    """Differentiable annealed importance sampling from q (UHA, DAIS): `unadjusted_chain`.

    ψ holds one bounded step size for each temperature and the momentum's persistence.

    Args:
      model: the model.
      num_particles: K; their weights are averaged as in IWAE.
      num_temperatures: T, counting β=0 and β=1.
      num_leapfrog_steps: L of each move.
      schedule: the temperatures, a key of `ais.SCHEDULES`.
      chain_space: as in `samplers.annealed`.
      initial_step_size: where all step sizes start.
      largest_step_size: their bound.
      initial_persistence: where the persistence, in (0, 1), starts.
      with_rematerialization: trades computation for memory, see `unadjusted_chain`.

    Raises:
      ValueError: for impossible values, or a chain in z where q's density is not to be had.
    """
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
            position, log_weight = unadjusted_chain(
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

    return _sampler(num_particles, draw_particle, init_params)
