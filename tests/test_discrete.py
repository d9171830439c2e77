"""Moves of binary latents: what they leave invariant, and what chains of them estimate."""

import functools

import chex
import eight_units as eu
import heavy
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aiwae_jax import ais, distributions, evaluate, methods, moves, samplers, scores
from aiwae_jax.moves import discrete
from aiwae_jax.moves import hamiltonian as hmc
from aiwae_jax.types import phase

THETA, PHI, _ = eu.params()
POSTERIOR = eu.NETWORK.posterior(PHI, eu.DATUM)
LOG_INITIAL = eu.tabulated(POSTERIOR.log_prob)
LOG_TARGET = eu.tabulated(functools.partial(eu.NETWORK.log_joint, THETA, eu.DATUM))
KERNELS = {
    "gibbs": (discrete.gibbs(1), 1.0),
    "gibbs in blocks of 3": (discrete.gibbs(1, block_size=3), 1.0),
    "informed": (discrete.informed(2), 1.0),
    "langevin": (discrete.langevin(2), 0.8),
    "langevin, long steps": (discrete.langevin(1), 5.0),
}
SMALLEST_P_VALUE = 1e-4


BETA = 0.6
CHAINS_AT_ONCE = 5_000


@jax.jit
def log_probabilities():
    """log f_β at every state, normalized."""
    ends = eu.log_probs(POSTERIOR), eu.log_joints(eu.NETWORK, THETA, eu.DATUM)
    return jax.nn.log_softmax((1 - BETA) * ends[0] + BETA * ends[1])


exact_log_likelihoods = jax.jit(
    jax.vmap(eu.exact_log_likelihood, (None, None, 0)), static_argnums=0
)


def log_density(z):
    """log f_β as a function of the state."""
    return (1 - BETA) * LOG_INITIAL(z) + BETA * LOG_TARGET(z)


def chains(keys, starts, kernel, num_moves, step_size):
    """Numbers of the states `[CHAINS_AT_ONCE]` after moves at β, and the mean acceptance."""

    def evaluate_fn(z):
        return hmc.init(z, log_density)

    def chain(key, start):
        def body(t, carry):
            state, total = carry
            key_t = jax.random.fold_in(key, t)
            state, info = kernel(key_t, state, evaluate_fn, jax.grad(log_density), step_size)
            return state, total + info.acceptance

        start = evaluate_fn(eu.STATES[start]), jnp.zeros(())
        state, total = jax.lax.fori_loop(0, num_moves, body, start)
        return eu.number_of(state.position), total / num_moves.astype(total.dtype)

    numbers, acceptance = jax.vmap(chain)(keys, starts)
    return numbers, acceptance.mean()


# One program of each kernel for any number of moves; those of faults make few moves.
run_chains = heavy.jit(chains, static_argnums=2)
run_faulty_chains = jax.jit(chains, static_argnums=2)


@functools.cache
def exact_states(seed, num_chains):
    """Numbers of states that are drawn exactly."""
    return jax.random.categorical(jax.random.key(seed), log_probabilities(), shape=(num_chains,))


def moved_states(seed, kernel, num_moves, step_size, num_chains, run=run_chains):
    """Counts of states `[256]` after moves from exact draws, and the mean acceptance."""
    keys = jax.random.split(jax.random.key(seed), num_chains)
    starts = exact_states(100 + seed, num_chains)
    settings = kernel, jnp.int32(num_moves), jnp.float32(step_size)
    found = [
        run(keys[i : i + CHAINS_AT_ONCE], starts[i : i + CHAINS_AT_ONCE], *settings)
        for i in range(0, num_chains, CHAINS_AT_ONCE)
    ]
    numbers = np.concatenate([each for each, _ in found])
    counts = np.bincount(numbers, minlength=len(eu.STATES))
    return counts, np.mean([acceptance for _, acceptance in found])


@pytest.mark.few(4)
@pytest.mark.parametrize("num_moves", [1, 10])
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_leaves_the_annealed_conditional_invariant(name, num_moves):
    kernel, step_size = KERNELS[name]
    counts, acceptance = moved_states(num_moves, kernel, num_moves, step_size, 40_000)
    p_value = eu.chi_square_p_value(counts, np.exp(log_probabilities()))
    assert p_value > SMALLEST_P_VALUE
    if not name.startswith("gibbs"):
        assert 0.3 < acceptance < 0.95  # rejections belong to what is tested


def _without_reverse_proposal(kernel):
    """A fault: the acceptance forgets that proposals are not symmetric."""

    def faulty(key, state, evaluate_fn, force_fn, step_size):
        proposed, _ = kernel(
            key, state._replace(log_density=-jnp.inf), evaluate_fn, force_fn, step_size
        )
        ratio = proposed.log_density - state.log_density
        is_accepted = jnp.log(jax.random.uniform(jax.random.fold_in(key, 7))) < ratio
        new = jax.tree.map(lambda a, b: jnp.where(is_accepted, a, b), proposed, state)
        return new, hmc.HMCInfo(jnp.exp(jnp.minimum(ratio, 0.0)), is_accepted, is_accepted)

    return faulty


def _always_accepting(kernel):
    """A fault: whatever is proposed is taken."""

    def faulty(key, state, evaluate_fn, force_fn, step_size):
        start = state._replace(log_density=jnp.full_like(state.log_density, -jnp.inf))
        return kernel(key, start, evaluate_fn, force_fn, step_size)

    return faulty


def _of_another_temperature(kernel):
    """A fault: the move is made at half of log f, as with a β that is not the present one."""

    def faulty(key, state, evaluate_fn, force_fn, step_size):
        def halved(z):
            found = evaluate_fn(z)
            return found._replace(log_density=0.5 * found.log_density)

        moved, info = kernel(
            key, state._replace(log_density=0.5 * state.log_density), halved, force_fn, step_size
        )
        return moved._replace(log_density=2.0 * moved.log_density), info

    return faulty


FAULTS = {
    "informed, no reverse proposal": _without_reverse_proposal(discrete.informed(1)),
    "langevin, no reverse proposal": _without_reverse_proposal(discrete.langevin(1)),
    "informed, always accepting": _always_accepting(discrete.informed(1)),
    "langevin, always accepting": _always_accepting(discrete.langevin(1)),
    "gibbs at another β": _of_another_temperature(discrete.gibbs(1)),
}


@pytest.mark.few(2)
@pytest.mark.parametrize("name", FAULTS)
def test_the_invariance_test_catches_planted_faults(name):
    counts, _ = moved_states(1, FAULTS[name], 1, 0.8, 40_000, run_faulty_chains)
    assert eu.chi_square_p_value(counts, np.exp(log_probabilities())) < SMALLEST_P_VALUE


@pytest.mark.few(2)
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_forgets_where_it_started(name):
    kernel, step_size = KERNELS[name]
    keys, zeros = jax.random.split(jax.random.key(2), 5_000), jnp.zeros(5_000, jnp.int32)
    numbers, _ = run_chains(keys, zeros, kernel, jnp.int32(60), jnp.float32(step_size))
    differences = np.bincount(numbers, minlength=256) / 5_000 - np.exp(log_probabilities())
    assert 0.5 * np.abs(differences).sum() < 0.12  # 0.07 is the noise of 5,000 draws


@pytest.mark.few(2)
@pytest.mark.parametrize("name", KERNELS)
def test_cached_ends_are_those_of_the_position_while_beta_changes(name):
    kernel, step_size = KERNELS[name]
    init = jax.jit(lambda z: ais.init(z, LOG_INITIAL, LOG_TARGET))
    step = jax.jit(
        lambda key, state, beta: ais.step(
            *(key, state, beta, jnp.float32(step_size), LOG_INITIAL, LOG_TARGET), move=kernel
        )
    )
    state = init(POSTERIOR.sample(jax.random.key(0)))
    for t, beta in enumerate((0.2, 0.5, 0.7, 1.0), 1):
        state, _ = step(jax.random.key(t), state, beta)
        fresh = init(state.position)
        chex.assert_trees_all_close(
            (state.initial, state.target), (fresh.initial, fresh.target), rtol=1e-5, atol=1e-5
        )
        assert set(np.unique(state.position)) <= {0.0, 1.0}


def test_a_step_size_of_zero_makes_the_langevin_move_the_identity():
    state = hmc.init(POSTERIOR.sample(jax.random.key(0)), LOG_TARGET)
    moved, info = discrete.langevin(3)(
        jax.random.key(1), state, lambda z: hmc.init(z, LOG_TARGET), None, 0.0
    )
    chex.assert_trees_all_equal(moved.position, state.position)
    assert info.acceptance == 1.0
    assert not info.is_nonfinite


@pytest.mark.parametrize("name", ["gibbs", "informed", "langevin"])
def test_a_state_without_weight_is_left_and_one_of_nan_never_entered(name):
    kernel, _ = KERNELS[name]

    def log_density(z):  # only states with z_0 = 0 can be; from z_0 = 1 the way out is open
        return jnp.where(z[0] > 0.5, jnp.where(z[1] > 0.5, jnp.nan, -jnp.inf), LOG_TARGET(z))

    def evaluate_fn(z):
        return hmc.HMCState(z, log_density(z), jax.grad(LOG_TARGET)(z))

    z = jnp.zeros(eu.D).at[0].set(1.0)

    @jax.jit
    def run(state):
        def body(state, t):
            key = jax.random.fold_in(jax.random.key(0), t)
            state, info = kernel(key, state, evaluate_fn, None, jnp.float32(2.0))
            return state, (state.log_density, info.acceptance)

        return jax.lax.scan(body, state, jnp.arange(60))[1]

    log_densities, acceptances = run(evaluate_fn(z))
    assert not np.isnan(log_densities).any()
    assert np.all((acceptances >= 0.0) & (acceptances <= 1.0))
    assert np.isfinite(log_densities[-1])


def estimates(kernel, step_size, num_chains=20_000, key=3, betas=(0.0, 0.3, 0.6, 1.0)):
    """exp(log weight - log p(x)) of AIS chains."""

    @jax.jit
    @jax.vmap
    def chain(key):
        start_key, chain_key = jax.random.split(key)
        return ais.run_chain(
            chain_key,
            POSTERIOR.sample(start_key),
            *(LOG_INITIAL, LOG_TARGET),
            *(jnp.asarray(betas), jnp.float32(step_size)),
            move=kernel,
        )[1]

    log_weights = chain(jax.random.split(jax.random.key(key), num_chains))
    return np.exp(log_weights - exact_log_likelihoods(eu.NETWORK, THETA, eu.DATUM[None]))


@pytest.mark.few(2)
@pytest.mark.parametrize("name", KERNELS)
def test_the_mean_weight_is_the_likelihood(name):
    ratios = estimates(*KERNELS[name])
    error = ratios.std() / len(ratios) ** 0.5
    assert error < 0.05
    assert abs(ratios.mean() - 1.0) < 4 * error


def test_the_mean_weight_of_a_faulty_kernel_is_not():
    ratios = estimates(_always_accepting(discrete.langevin(2)), 0.8)
    assert abs(ratios.mean() - 1.0) > 4 * ratios.std() / len(ratios) ** 0.5


@pytest.mark.slow
def test_moves_narrow_the_weights():
    still = estimates(discrete.langevin(1), 0.0).var()
    assert estimates(discrete.gibbs(3), 1.0).var() < 0.5 * still


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize(
    ("move", "is_conditional"),
    [
        ("langevin", False),
        ("gibbs", True),
        pytest.param("langevin", True, marks=pytest.mark.slow),
        pytest.param("informed", False, marks=pytest.mark.slow),
    ],
)
def test_bidirectional_bounds_enclose_the_exact_likelihood(move, is_conditional):
    model = eu.PREDICTOR if is_conditional else eu.NETWORK
    params = eu.params(model)
    settings = evaluate.Settings(
        num_temperatures=20,
        num_chains=8,
        num_leapfrog_steps=2,
        chain_space="latent",
        momentum_persistence=0.0,
        target_acceptance=0.6,
        move=move,
        num_pilot_data=8,
    )
    target = evaluate.Target(
        functools.partial(model.log_joint, params.theta),
        functools.partial(model.posterior, params.phi),
        lambda key: model.sample(key, params.theta, eu.DATUM),
    )
    found = evaluate.bidirectional(jax.random.key(4), target, settings, num_data=300)
    x, _ = evaluate.simulate(jax.random.split(jax.random.key(4), 5)[0], target, 300)
    exact = exact_log_likelihoods(model, params.theta, x)
    below = np.asarray(exact) - found.forward.log_likelihood
    above = found.reverse.log_likelihood - np.asarray(exact)
    for differences in (below, above):
        assert abs(differences.mean()) < 0.2  # tight,
        assert differences.mean() > -4 * differences.std() / 300**0.5  # and on its side
    assert found.gap > -4 * found.gap_standard_error


@pytest.mark.slow
@pytest.mark.by_hand
def test_an_estimate_of_real_data_is_that_of_the_exact_sum():
    settings = evaluate.BINARY_SETTINGS
    found = evaluate.log_likelihood(
        jax.random.key(6),
        evaluate.Target(
            functools.partial(eu.NETWORK.log_joint, THETA),
            functools.partial(eu.NETWORK.posterior, PHI),
        ),
        np.asarray(eu.DATA),
        evaluate.Settings(**{**vars(settings), "num_temperatures": 200, "num_chains": 32}),
    )
    exact = exact_log_likelihoods(eu.NETWORK, THETA, eu.DATA)
    np.testing.assert_allclose(found.log_likelihood, exact, atol=0.25)
    assert found.num_nonfinite == 0
    assert 0.2 < found.acceptance.mean() < 1.0


@pytest.mark.slow
def test_hmc_as_a_move_is_what_its_letters_say():
    z = jnp.asarray([0.3, -0.7])

    def run(move, **options):
        return ais.run_chain(
            jax.random.key(1),
            z,
            lambda z: -0.5 * jnp.sum(z**2),
            lambda z: -0.5 * jnp.sum((z - 1.0) ** 2 / 0.3),
            ais.linear_schedule(6),
            0.2,
            move=move,
            **options,
        )

    chex.assert_trees_all_equal(run(None), run(moves.hmc(5)))
    chex.assert_trees_all_equal(run(None, num_leapfrog_steps=4), run(moves.hmc(4)))
    said = {"num_leapfrog_steps": 4, "momentum_persistence": 0.5}
    chex.assert_trees_all_equal(run(None, **said), run(moves.hmc(**said)))
    assert not np.allclose(run(moves.hmc(4))[0], run(moves.hmc(4, 0.5))[0])


@pytest.mark.parametrize(
    "move", [moves.hmc(4, 0.3), moves.langevin(2), moves.informed(), moves.gibbs()]
)
def test_every_move_steps_on_a_single_density(move):
    """Of HMC that is `hamiltonian.step`; of the others the transition that chains make."""
    key, momentum = jax.random.key(3), jnp.array([0.1, -0.2] * 4)
    state = moves.init(eu.STATES[100], LOG_TARGET, momentum=momentum)
    found = moves.step(key, state, LOG_TARGET, 0.3, move=move)
    if move.momentum_persistence:
        options = {"num_leapfrog_steps": 4, "momentum_persistence": 0.3}
        expected = hmc.step(key, state, LOG_TARGET, 0.3, **options)
        with pytest.raises(ValueError, match="needs a state with a momentum"):
            moves.step(key, moves.init(eu.STATES[100], LOG_TARGET), LOG_TARGET, 0.3, move=move)
    else:
        expected = move(key, state, lambda z: hmc.init(z, LOG_TARGET), jax.grad(LOG_TARGET), 0.3)
    chex.assert_trees_all_close(found, expected, rtol=1e-6)
    chex.assert_trees_all_close(
        found[0],
        moves.init(found[0].position, LOG_TARGET, momentum=found[0].momentum),
        rtol=1e-4,
        atol=1e-4,
    )


def test_hmc_chains_are_those_from_before_there_were_kernels():
    def log_target(z):
        return -0.5 * jnp.sum(jnp.square((z - jnp.array([0.7, -0.4])) / jnp.array([0.5, 0.9])))

    def chain(key):
        start_key, chain_key = jax.random.split(key)
        z = jax.random.normal(start_key, (2,))
        return ais.run_chain(
            chain_key,
            z,
            lambda z: -0.5 * jnp.sum(jnp.square(z)),
            log_target,
            ais.linear_schedule(6),
            jnp.linspace(0.3, 0.5, 5),
            num_leapfrog_steps=4,
        )[:2]

    z, log_weights = jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(42), 3))
    np.testing.assert_allclose(z, RECORDED_Z, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(log_weights, RECORDED_LOG_WEIGHTS, rtol=1e-5, atol=1e-5)


# From the version before `move` was an argument.
RECORDED_Z = [
    [1.1095575094223022, -1.7098209857940674],
    [1.2700185775756836, 0.7068983912467957],
    [0.8946759700775146, -0.3478032350540161],
]
RECORDED_LOG_WEIGHTS = [-1.0373337268829346, -1.8476953506469727, -0.9741821885108948]


REFUSED = {
    "vae": lambda m: methods.vae(m),
    "iwae": lambda m: methods.iwae(m, 5),
    "stl": lambda m: methods.stl(m, 5),
    "dreg": lambda m: methods.dreg(m, 5),
    "hoffman": lambda m: methods.hoffman(m, 3),
    "persistent": lambda m: methods.persistent(m),
    "hvae": lambda m: methods.hvae(m),
    "hvi": lambda m: methods.hvi(m),
    "uha": lambda m: methods.uha(m),
    "aiwae by hmc": lambda m: methods.aiwae(m, 5, 8, move="hmc"),
    "aiwae in base space": lambda m: methods.aiwae(m, 5, 8, chain_space="base"),
    "vimco of one": lambda m: methods.vimco(m, 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_binary_latents_cannot_do_is_refused_with_an_alternative(name):
    with pytest.raises(ValueError, match=r"use |`nvil`"):
        REFUSED[name](eu.NETWORK)


def test_what_continuous_latents_need_not_is_refused_with_an_alternative():
    import linear_gaussian as lg

    for build in (
        lambda m: methods.vimco(m, 5),
        lambda m: methods.aiwae(m, 5, 8, move="langevin"),
        lambda m: samplers.importance_from_prior(m, 5, with_straight_through=True),
        lambda m: phase(("phi",), samplers.importance(m, 5), scores.vimco()),
    ):
        with pytest.raises(ValueError, match=r"use |leave it out"):
            build(lg.model())


def test_an_evaluation_whose_move_cannot_move_the_latents_is_refused():
    target = evaluate.Target(
        functools.partial(eu.NETWORK.log_joint, THETA),
        functools.partial(eu.NETWORK.posterior, PHI),
    )
    x = np.asarray(eu.DATA)
    settings = evaluate.Settings(chain_space="latent")
    with pytest.raises(ValueError, match=r"cannot move binary latents.*'langevin'"):
        evaluate.log_likelihood(jax.random.key(0), target, x, settings)
    with pytest.raises(ValueError, match="latents = 'binary'"):
        evaluate.log_likelihood(
            jax.random.key(0),
            evaluate.Target(
                lambda x, z: -jnp.sum(z**2), lambda x: distributions.standard_normal(2)
            ),
            x,
            evaluate.BINARY_SETTINGS,
        )
    with pytest.raises(ValueError, match="BINARY_SETTINGS"):
        evaluate.Settings(move="langevin")
    with pytest.raises(ValueError, match="must be one of hmc, langevin"):
        evaluate.Settings(move="nuts")


def test_impossible_kernels_are_refused():
    for build in (
        lambda: discrete.gibbs(0),
        lambda: discrete.gibbs(1, block_size=17),
        lambda: discrete.informed(0),
        lambda: discrete.langevin(-1),
    ):
        with pytest.raises(ValueError, match="must be at"):
            build()
