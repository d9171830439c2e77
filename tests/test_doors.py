"""What evaluation refuses at its doors, and that it names the argument."""

import dataclasses
import re
from functools import partial

import eight_units as eu
import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest
from jax.tree_util import Partial

from aiwae_jax import ais, distributions, evaluate, models, moves
from aiwae_jax.evaluate import Target, grid, programs

PARAMS = lg.params()
LOG_JOINT = Partial(lg.log_joint, PARAMS.theta)
POSTERIOR = Partial(lg.posterior, PARAMS.phi)
KEY = jax.random.key(0)
DATA = np.asarray(jax.vmap(lambda key: lg.sample(key, PARAMS.theta)[0])(jax.random.split(KEY, 12)))
SMALL = evaluate.Settings(
    num_temperatures=6,
    num_chains=2,
    num_leapfrog_steps=2,
    num_pilot_data=2,
    num_pilot_chains=2,
)
NORMAL = distributions.standard_normal(lg.D)
VAE = models.bernoulli_vae(6, 2, hidden_sizes=(4,), initialization="torch")
VAE_PARAMS = VAE.init(KEY)
VAE_FUNCTIONS = evaluate.Target.of(VAE, VAE_PARAMS).functions
BITS = np.random.default_rng(0).integers(0, 2, (12, 6)).astype(np.float32)


class SampleAndLogProb:
    """All that a distribution of another library has."""

    def __init__(self, loc, scale):
        self._normal = distributions.DiagNormal(loc, scale)

    def sample(self, key):
        return self._normal.sample(key)

    def log_prob(self, z):
        return self._normal.log_prob(z)


def sample_fn(key):
    return lg.sample(key, PARAMS.theta)


TARGET = Target(LOG_JOINT, POSTERIOR, sample_fn)


def only(x):
    """The posterior, as another library would write it."""
    q = POSTERIOR(x)
    return SampleAndLogProb(q.loc, q.scale)


def tune(log_joint, initial, x, settings=SMALL):
    return evaluate.tune(KEY, Target(log_joint, initial), x, settings)


def log_likelihood(log_joint, initial, x, settings=SMALL, **options):
    return evaluate.log_likelihood(KEY, Target(log_joint, initial), x, settings, **options)


def importance_bound(log_joint, initial, x):
    return evaluate.importance_bound(KEY, Target(log_joint, initial), x, num_samples=50)


def estimate_seconds(log_joint, initial, x):
    return evaluate.estimate_seconds(Target(log_joint, initial), x, SMALL)


def fit_chunk_size(log_joint, initial, x):
    return evaluate.fit_chunk_size(Target(log_joint, initial), x, SMALL)


DOORS = [log_likelihood, tune, importance_bound, estimate_seconds, fit_chunk_size]
every_door = pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)


@every_door
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (None, r"`x` must be an array whose leading axis counts the data.*got NoneType"),
        (DATA.tolist(), r"`x\[0\]\[0\]` must be an array.*make one by `np.asarray\(x\)`"),
        (list(DATA), r"one datum x of 12 leaves \(a list is a pytree.*`np.stack\(x\)`"),
        (DATA[0], r"`start` fails with one datum x of shape \[\]"),
        (DATA[:, :2], r"`start` fails with one datum x of shape \[2\]"),
        (DATA[:0], "`x` must hold at least one datum, got none"),
        (np.array([["a"]]), "`x` must be of numbers, got <U1"),
        (np.float32(3.0), "`x` must be an array whose leading axis.*a single number"),
        ((DATA[:3], np.arange(10)), r"as many data, got `x\[0\]` 3, `x\[1\]` 10"),
        ({"label": np.arange(2), "x": DATA[:5]}, r"got `x\['label'\]` 2, `x\['x'\]` 5"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_data_that_are_no_data_are_refused(door, x, message):
    with pytest.raises((TypeError, ValueError), match=message):
        door(LOG_JOINT, POSTERIOR, x)


@pytest.mark.slow
@every_door
def test_one_datum_without_its_axis_is_named_where_it_would_be_broadcast(door):
    def log_joint(x, z):
        return -0.5 * jnp.sum((x - z[0]) ** 2) + NORMAL.log_prob(z)

    message = r"`x` of shape \[3\] is read as 3 data .* could be one datum; .*`x\[None\]`"
    with pytest.warns(UserWarning, match=message):
        door(log_joint, lambda x: NORMAL, DATA[0])


@every_door
@pytest.mark.parametrize(
    ("log_joint", "message"),
    [
        (None, r"`log_joint` must be a function `\(x, z\) -> \[\]`, got NoneType"),
        (lambda x, z: z, r"`log_joint\(x, z\)` must return one number \[\], .* shape \[2\]"),
        (lambda x, z: z[:1], r"`log_joint\(x, z\)` must return one number .* shape \[1\]"),
        (lambda x, z: jnp.argmax(z), r"`log_joint\(x, z\)` must return a float, .* int32"),
        (lambda x, z: None, r"`log_joint\(x, z\)` must return one float .* NoneType"),
        (lg.log_joint, r"`log_joint` fails with one datum x .*missing 1 required"),
        (lambda x, z: np.sum(np.asarray(z)), "`log_joint` fails with .*TracerArrayConversion"),
        (lambda z, x: LOG_JOINT(x, z), r"`log_joint` fails with one datum x of shape \[3\] and"),
        (Partial(lambda a, x, z: 0.0, "tanh"), "`log_joint` is a `Partial` of str 'tanh'"),
    ],
)
def test_functions_that_are_no_log_joint_are_refused(door, log_joint, message):
    with pytest.raises((TypeError, ValueError), match=message):
        door(log_joint, POSTERIOR, DATA)


@every_door
@pytest.mark.parametrize(
    ("initial", "message"),
    [
        (NORMAL, "`start` must be a function `x -> Posterior`, got DiagNormal"),
        (lambda x: jnp.zeros(2), "`start` must return a distribution .* without `sample`"),
        (
            lambda x: distributions.DiagNormal(jnp.zeros(()), jnp.ones(())),
            r"drawn from what `start` returns \(DiagNormal\), must be a vector .* shape \[\]",
        ),
        (lambda x: distributions.standard_normal(1), r"`log_joint` fails with .*z of shape \[1"),
        (
            lambda x: distributions.DiagNormal(jnp.zeros((2, 2)), jnp.ones((2, 2))),
            r"must be a vector \[D\], one particle, got shape \[2, 2\]",
        ),
    ],
)
def test_what_is_no_initial_is_refused(door, initial, message):
    with pytest.raises((TypeError, ValueError), match=message):
        door(LOG_JOINT, initial, DATA)


@pytest.mark.parametrize("door", [log_likelihood, importance_bound])
def test_log_probabilities_of_single_coordinates_are_refused(door):
    """As a batch of normals has, which is not one distribution over vectors."""

    class Batch(SampleAndLogProb):
        def log_prob(self, z):
            return -0.5 * z**2

    settings = {} if door is importance_bound else {"settings": latent()}
    with pytest.raises(ValueError, match=r"`start\(x\).log_prob\(z\)` must return one number"):
        door(LOG_JOINT, lambda x: Batch(jnp.zeros(2), jnp.ones(2)), DATA, **settings)


def latent():
    return dataclasses.replace(SMALL, chain_space="latent")


def test_a_latent_of_another_size_is_not_broadcast():
    """By no distribution of this package, whoever asks."""
    wide = distributions.standard_normal(3)
    for value in (jnp.zeros(1), jnp.zeros(())):
        with pytest.raises(ValueError, match=r"of a value of shape \[3\]"):
            wide.log_prob(value)
        with pytest.raises(ValueError, match=r"of a value of shape \[3\]"):
            distributions.FullNormal(jnp.zeros(3), jnp.eye(3)).log_prob(value)
        with pytest.raises(ValueError, match=r"of a value of shape \[3\]"):
            distributions.Bernoulli(jnp.zeros(3)).log_prob(value)

    def log_joint(x, z):
        return NORMAL.log_prob(z) + jnp.sum(x)

    with pytest.raises(ValueError, match=r"`log_joint` fails with .*z of shape \[1\]"):
        log_likelihood(log_joint, lambda x: distributions.standard_normal(1), DATA)


@pytest.mark.parametrize(
    ("call", "form"),
    [
        (
            lambda: evaluate.log_likelihood(KEY, LOG_JOINT, POSTERIOR, DATA, SMALL),
            "log_likelihood(key, target, x, settings)",
        ),
        (
            lambda: evaluate.tune(KEY, log_joint_fn=LOG_JOINT, initial=POSTERIOR, x=DATA),
            "tune(key, target, x, settings)",
        ),
        (
            lambda: evaluate.bidirectional(KEY, LOG_JOINT, POSTERIOR, sample_fn, SMALL),
            "bidirectional(key, target, settings)",
        ),
        (
            lambda: evaluate.reach_gap(KEY, LOG_JOINT, POSTERIOR, sample_fn, x=DATA),
            "reach_gap(key, target, settings)",
        ),
        (
            lambda: evaluate.importance_bound(KEY, LOG_JOINT, POSTERIOR, DATA),
            "importance_bound(key, target, x)",
        ),
        (lambda: evaluate.active_units(POSTERIOR, DATA), "active_units(target, x)"),
        (lambda: evaluate.simulate(KEY, sample_fn, 3), "simulate(key, target, num_data)"),
        (
            lambda: evaluate.estimate_seconds(LOG_JOINT, POSTERIOR, DATA, SMALL),
            "estimate_seconds(target, x, settings)",
        ),
        (
            lambda: evaluate.fit_chunk_size(LOG_JOINT, POSTERIOR, DATA, SMALL),
            "fit_chunk_size(target, x, settings)",
        ),
    ],
)
def test_calls_by_functions_are_shown_the_form_by_a_target(call, form):
    message = rf"`target` must be an `evaluate.Target`, got .*`evaluate.{re.escape(form)}` with"
    with pytest.raises(TypeError, match=message) as caught:
        call()
    assert "`target = evaluate.Target(log_joint, start, sample)`" in str(caught.value)


def test_a_target_of_a_model_has_what_the_model_has():
    target = Target.of(VAE, VAE_PARAMS)
    assert target.sample is not None
    z = jnp.zeros(2)
    assert target.log_joint(BITS[0], z) == VAE.log_joint(VAE_PARAMS.theta, BITS[0], z)
    prior = Target.of(VAE, VAE_PARAMS, start="prior")
    assert prior.start(BITS[0]).log_prob(z) == NORMAL.log_prob(z)
    assert Target.of(eu.PREDICTOR, eu.params(eu.PREDICTOR)).sample is None
    given = Target.of(eu.PREDICTOR, eu.params(eu.PREDICTOR), contexts=eu.DATA)
    x, _ = evaluate.simulate(KEY, given, 5)
    assert x.shape == (5, *np.shape(eu.DATUM))
    with pytest.raises(ValueError, match="`start` must be one of posterior, prior; got 'q'"):
        Target.of(VAE, VAE_PARAMS, start="q")


@pytest.mark.parametrize("key", [0, jax.random.split(KEY, 3), np.zeros(2)])
def test_what_is_no_key_is_refused(key):
    for call in (
        partial(evaluate.log_likelihood, key, TARGET, DATA, SMALL),
        partial(evaluate.tune, key, TARGET, DATA, SMALL),
        partial(evaluate.importance_bound, key, TARGET, DATA),
        partial(evaluate.bidirectional, key, TARGET, SMALL),
        partial(evaluate.reach_gap, key, TARGET, SMALL),
        partial(evaluate.simulate, key, TARGET, 3),
        partial(
            ais.run_chain, key, jnp.zeros(2), *[NORMAL.log_prob] * 2, ais.linear_schedule(4), 0.1
        ),
    ):
        with pytest.raises(TypeError, match="`key` must be one random key"):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda x: log_likelihood(LOG_JOINT, POSTERIOR, x).log_likelihood,
        lambda x: importance_bound(LOG_JOINT, POSTERIOR, x).bound,
        lambda x: evaluate.active_units(TARGET, x)[1],
        lambda x: tune(lambda x, z: LOG_JOINT(x, z), POSTERIOR, DATA).betas,
        lambda x: evaluate.bidirectional(KEY, TARGET, SMALL).gap,
        lambda x: evaluate.simulate(KEY, TARGET, 3)[1],
    ],
)
def test_evaluation_under_jit_says_that_it_cannot_be(call):
    with pytest.raises(TypeError, match=r"Evaluation runs on the host.*`jax.jit`"):
        jax.jit(call)(DATA)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": {"num_chains": 3}}, "`settings` must be of `evaluate.Settings`, got dict"),
        ({"plan": (1, 2, 3)}, "`plan` must be an `evaluate.Plan`, as `tune` makes, got tuple"),
        (
            {"plan": evaluate.Plan(np.linspace(0, 1, 6), np.full(4, np.nan), 0)},
            "`plan.step_sizes` must be finite and not negative, got nan",
        ),
        ({"chunk_size": 2.5}, "`chunk_size` must be an integer, got 2.5"),
        ({"chunk_size": 0}, "`chunk_size` must be at least 1, got 0"),
        ({"store": "folder"}, "`store` must be like a dict, got str 'folder'"),
        ({"progress_fn": 3}, r"`progress_fn` must be a function `\(done, total\)`, got int 3"),
    ],
)
def test_options_of_another_kind_are_refused(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        log_likelihood(LOG_JOINT, POSTERIOR, DATA, **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_temperatures": 1e3},
            "`num_temperatures` must be an integer, got 1000.0; write 1000",
        ),
        ({"num_leapfrog_steps": 5.0}, "`num_leapfrog_steps` must be an integer, got 5.0; write 5"),
        ({"num_chains": "3"}, "`num_chains` must be an integer, got '3'"),
        ({"num_pilot_data": True}, "`num_pilot_data` must be an integer, got True"),
        ({"target_acceptance": None}, "`target_acceptance` must be a number, got NoneType"),
        ({"momentum_persistence": np.nan}, "`momentum_persistence` must be finite, got nan"),
    ],
)
def test_settings_of_another_kind_are_refused(changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        evaluate.Settings(**changes)


def test_settings_take_numbers_of_numpy_and_jax_and_are_the_same():
    plain = evaluate.Settings(num_chains=3, momentum_persistence=0.5)
    assert evaluate.Settings(num_chains=np.int64(3), momentum_persistence=np.float64(0.5)) == plain
    other = evaluate.Settings(num_chains=jnp.asarray(3), momentum_persistence=jnp.asarray(0.5))
    assert repr(other) == repr(plain)  # which names what a store keeps


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (BITS * 16, r"`x` must be 0s and 1s .* from 0 to 16, .*`data.binarize\(key, x, 16.0\)`"),
        (BITS * 0.5, "`x` must be 0s and 1s .* from 0 to 0.5, .*grey levels are binarized"),
        (BITS * 2 - 1, r"`x` must be 0s and 1s .* from -1 to 1, .*\(x \+ 1\) / 2"),
        (np.where(np.arange(12)[:, None] == 7, 0.5, BITS), "`x` must be 0s and 1s"),
    ],
)
def test_a_bernoulli_likelihood_of_other_values_is_refused(x, message):
    log_joint, posterior = VAE_FUNCTIONS

    @jax.jit
    def jitted(x, z):
        return log_joint(x, z)

    jitted(x[0], jnp.zeros(2))  # compiled already, and asked again all the same
    for function in (log_joint, jitted):
        for door in (log_likelihood, tune, importance_bound):
            with pytest.raises(ValueError, match=message):
                door(function, posterior, x)

    def draw(key):
        bits, z = VAE.sample(key, VAE_PARAMS.theta)
        return 0.5 * bits, z

    with pytest.raises(ValueError, match="`x` must be 0s and 1s"):
        evaluate.bidirectional(KEY, Target(log_joint, posterior, draw), SMALL, num_data=3)


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.float64])
def test_bits_of_any_dtype_give_the_same(dtype):
    with jax.numpy_dtype_promotion("standard"):
        found = importance_bound(*VAE_FUNCTIONS, BITS.astype(dtype)).bound
    np.testing.assert_array_equal(found, importance_bound(*VAE_FUNCTIONS, BITS).bound)


def test_what_is_not_modelled_by_bernoullis_may_have_any_values():
    """A label beside the image, a grey image whose likelihood is normal, a masked pixel."""
    log_joint, posterior = VAE_FUNCTIONS
    plain = importance_bound(log_joint, posterior, BITS).bound
    labelled = importance_bound(
        lambda x, z: log_joint(x[0], z), lambda x: posterior(x[0]), (BITS, np.arange(12))
    )
    np.testing.assert_allclose(labelled.bound, plain, rtol=1e-5)
    missing = np.where(np.arange(6) == 2, np.nan, BITS)

    def known(x):
        return jnp.where(jnp.isnan(x), 0.0, x)

    masked = importance_bound(
        lambda x, z: log_joint(known(x), z), lambda x: posterior(known(x)), missing
    )
    zeroed = importance_bound(log_joint, posterior, np.where(np.arange(6) == 2, 0.0, BITS))
    np.testing.assert_allclose(masked.bound, zeroed.bound, rtol=1e-5)
    assert np.isfinite(importance_bound(LOG_JOINT, POSTERIOR, DATA).bound).all()


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (0.0, "`start` gives its own draws no finite log probability in all of 16 draws"),
        (np.nan, "`start` draws z that are not finite in all of 16 draws for 4 data"),
    ],
)
@pytest.mark.parametrize("chain_space", ["base", "latent"])
def test_a_scale_that_is_none_is_refused(scale, message, chain_space):
    settings = dataclasses.replace(SMALL, chain_space=chain_space)
    initial = lambda x: distributions.DiagNormal(jnp.zeros(2), jnp.full(2, scale))  # noqa: E731
    with pytest.raises(ValueError, match=message):
        log_likelihood(LOG_JOINT, initial, DATA, settings)
    with pytest.raises(ValueError, match="`log_joint` is NaN or "):
        log_likelihood(lambda x, z: jnp.nan * z[0], lambda x: NORMAL, DATA, settings)


class Coins:
    """Fair coins with two sides of any value."""

    def __init__(self, sides, *, latents):
        self._sides = sides
        self.latents = latents

    def sample(self, key):
        return jnp.asarray(self._sides)[jax.random.bernoulli(key, 0.5, (3,)).astype(jnp.int32)]

    def log_prob(self, z):
        return -3.0 * jnp.log(2.0)


def triangle(x, z):
    """Frustrated."""
    return -z[0] * z[1] - z[1] * z[2] - z[0] * z[2] + 0.0 * jnp.sum(x)


@pytest.mark.parametrize("move", ["langevin", "informed", "gibbs"])
def test_spins_are_no_bits(move):
    settings = dataclasses.replace(SMALL, move=move, momentum_persistence=0.0)
    initial = lambda x: Coins([-1.0, 1.0], latents="binary")  # noqa: E731
    with pytest.raises(ValueError, match=r"flips bits 0 and 1, and `start` draws -1; turn spins"):
        log_likelihood(triangle, initial, DATA, settings)


@pytest.mark.slow
@pytest.mark.by_hand
def test_the_triangle_as_bits_has_the_value_that_is_summed_by_hand():
    spins = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
    exact = np.log(np.exp([float(triangle(0.0, jnp.asarray(s, jnp.float32))) for s in spins]).sum())
    found = log_likelihood(
        lambda x, z: triangle(x, 2.0 * z - 1.0),
        lambda x: Coins([0.0, 1.0], latents="binary"),
        np.tile(DATA[:1], (400, 1)),
        dataclasses.replace(SMALL, num_temperatures=20, move="langevin", momentum_persistence=0.0),
    )
    ratio = np.exp(found.log_likelihood.astype(np.float64) - exact)
    assert abs(ratio.mean() - 1.0) < 4.0 * ratio.std(ddof=1) / 400**0.5


@pytest.mark.parametrize("sides", [[0.0, 1.0], [-1.0, 1.0], [2.0, 5.0]])
def test_hmc_does_not_move_whole_numbers(sides):
    with pytest.raises(ValueError, match=r"`start` draws whole numbers only .*BINARY_SETTINGS"):
        log_likelihood(triangle, lambda x: Coins(sides, latents="continuous"), DATA, latent())


@pytest.mark.slow
@pytest.mark.by_hand
def test_a_distribution_of_two_methods_is_annealed_in_latent_space_which_is_said():
    with pytest.warns(UserWarning, match=r"no `transport`, .*`chain_space='latent'`") as caught:
        found = log_likelihood(LOG_JOINT, only, DATA)
    assert len(caught) == 1
    asked = log_likelihood(LOG_JOINT, POSTERIOR, DATA, latent())
    # The same chains by two programs, for the two distributions are of different types; what fp32
    # rounds differently in them is a hundredth of what other chains would differ by.
    np.testing.assert_allclose(found.log_likelihood, asked.log_likelihood, rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        importance_bound(LOG_JOINT, only, DATA).bound,
        importance_bound(LOG_JOINT, POSTERIOR, DATA).bound,
        rtol=1e-6,  # fp32's last place
    )
    with pytest.warns(UserWarning, match="no `transport`") as caught:
        gap = evaluate.bidirectional(KEY, Target(LOG_JOINT, only, sample_fn), SMALL, num_data=10)
    assert len(caught) == 1
    same = evaluate.bidirectional(KEY, TARGET, latent(), num_data=10)
    np.testing.assert_allclose(gap.gap, same.gap, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.by_hand
def test_a_space_that_was_asked_for_and_cannot_be_had_is_refused():
    base = dataclasses.replace(SMALL, chain_space="base")
    with pytest.raises(ValueError, match=r"no `transport`, .*use `chain_space='latent'`"):
        log_likelihood(LOG_JOINT, only, DATA, base)

    class OneWay(SampleAndLogProb):
        def transport(self, noise):
            return self._normal.transport(noise)

    def one_way(x):
        q = POSTERIOR(x)
        return OneWay(q.loc, q.scale)

    assert np.isfinite(log_likelihood(LOG_JOINT, one_way, DATA).mean)
    with pytest.raises(ValueError, match=r"no `inverse_transport`, .*use `chain_space='latent'`"):
        evaluate.bidirectional(KEY, Target(LOG_JOINT, one_way, sample_fn), base)
    with pytest.warns(UserWarning, match="no `inverse_transport`, so the chains move z itself"):
        evaluate.bidirectional(KEY, Target(LOG_JOINT, one_way, sample_fn), SMALL, num_data=5)


@pytest.mark.slow
@pytest.mark.by_hand
def test_the_default_space_names_what_a_store_keeps_as_the_choice_does():
    store = {}
    first = log_likelihood(LOG_JOINT, POSTERIOR, DATA, store=store)
    names = set(store)
    base = dataclasses.replace(SMALL, chain_space="base")
    again = log_likelihood(LOG_JOINT, POSTERIOR, DATA, base, store=store)
    assert set(store) == names
    np.testing.assert_array_equal(first.log_likelihood, again.log_likelihood)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z": jnp.zeros(())}, r"`z` must be a vector \[D\], one particle, got shape \[\]"),
        ({"z": jnp.zeros(1)}, r"`log_initial_fn` fails with z of shape \[1\]"),
        ({"z": jnp.zeros(2, int)}, r"`z` must be of floats.*got int32\[2\]"),
        ({"log_target_fn": lambda z: z[:1]}, r"`log_target_fn\(z\)` must return one .*shape \[1\]"),
        ({"log_target_fn": None}, "`log_target_fn` must be a function"),
        ({"step_sizes": np.nan}, "`step_sizes` must be finite and not negative, got nan"),
        ({"step_sizes": [0.1, -0.1, 0.1]}, r"`step_sizes` must be .*got -0.1 \(1 of 3 are not\)"),
        ({"step_sizes": "a"}, "`step_sizes` must be of numbers, got str 'a'"),
        ({"betas": None}, "`betas` must be of numbers, got NoneType"),
        ({"num_leapfrog_steps": 5.0}, "`num_leapfrog_steps` must be an integer, got 5.0"),
        ({"momentum_persistence": "a"}, "`momentum_persistence` must be a number, got str 'a'"),
        ({"move": "langevin"}, "`move` must be a function such as .*got str 'langevin'"),
        ({"move": moves.hmc(5), "num_leapfrog_steps": 99}, "`num_leapfrog_steps`=99 is of the mov"),
        ({"move": moves.hmc(5), "momentum_persistence": 0.0}, r"say it there, as `moves.hmc\(mome"),
        ({"momentum_persistence": 1.0}, "`momentum_persistence` must be at least 0 .*, got 1.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_chains_of_wrong_arguments_are_refused(changes, message):
    arguments = {
        "z": jnp.zeros(2),
        "log_initial_fn": NORMAL.log_prob,
        "log_target_fn": NORMAL.log_prob,
        "betas": ais.linear_schedule(4),
        "step_sizes": 0.1,
    }
    with pytest.raises((TypeError, ValueError), match=message):
        ais.run_chain(KEY, **arguments | changes)


def test_a_flat_density_is_one():
    """Python's 0.0 is as good as an array; log N(z; 0, I) against it gives 0 - log N."""
    z = jnp.array([0.3, -0.2])
    _, log_weight, _ = ais.run_chain(
        KEY, z, NORMAL.log_prob, lambda z: 0.0, [0.0, 1.0], 0.0, with_last_move=False
    )
    np.testing.assert_allclose(log_weight, -NORMAL.log_prob(z), rtol=1e-6)


def test_schedules_of_other_numbers_are_refused():
    with pytest.raises(TypeError, match="`num_temperatures` must be an integer"):
        ais.linear_schedule(1e3)
    with pytest.raises(ValueError, match="`radius` must be positive, got 0"):
        ais.sigmoid_schedule(5, radius=0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_joint_fn": None}, r"`log_joint_fn` must be a function `\[D\] -> \[\]`"),
        ({"log_joint_fn": lambda z: z}, r"`log_joint_fn\(z\)` must return one number"),
        ({"log_joint_fn": lambda z: jnp.nan * z[0]}, "`log_joint_fn` is NaN or infinite at 1600"),
        ({"num_cells": 40.0}, "`num_cells` must be an integer, got 40.0; write 40"),
    ],
)
def test_grids_of_wrong_arguments_are_refused(changes, message):
    arguments = {"log_joint_fn": NORMAL.log_prob, "num_cells": 40}
    with pytest.raises((TypeError, ValueError), match=message):
        grid.posterior_on_grid(**arguments | changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluate.num_gradients(5, 2), "`settings` must be of `evaluate.Settings`"),
        (lambda: evaluate.num_gradients(SMALL, 2.5), "`num_data` must be an integer, got 2.5"),
        (lambda: evaluate.mean_and_standard_error([]), "`values` must be a vector of at least one"),
        (lambda: evaluate.mean_and_standard_error(None), "`values` must be of numbers"),
        (
            lambda: evaluate.estimate_seconds(TARGET, DATA, SMALL, num_data=0),
            "`num_data` must be at least 1, got 0",
        ),
        (
            lambda: evaluate.importance_bound(KEY, TARGET, DATA, num_samples=2.5),
            "`num_samples` must be an integer",
        ),
        (
            lambda: evaluate.active_units(TARGET, DATA, threshold=np.nan),
            "`threshold` must be finite",
        ),
        (
            lambda: evaluate.active_units(Target(LOG_JOINT, only), DATA),
            r"a method `mean\(\)`, .*SampleAndLogProb",
        ),
        (lambda: evaluate.active_units(TARGET, DATA[0]), "`start` fails with one datum"),
        (lambda: evaluate.simulate(KEY, TARGET, 2.5), "`num_data` must be an integer"),
    ],
)
def test_small_helpers_name_their_arguments(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.slow
def test_a_plan_is_found_by_one_program():
    """The first segment passes its step size as the later ones do."""
    settings = dataclasses.replace(SMALL, num_chains=3, num_temperatures=40)
    before = programs.anneal._cache_size()
    log_likelihood(LOG_JOINT, POSTERIOR, DATA[:7], settings, chunk_size=7)
    # Pilots are of 2 data and 2 chains, the estimate of 7 and 3.
    assert programs.anneal._cache_size() - before <= 2
