"""Estimates of log p(x) by annealed importance sampling, for any differentiable log p(x, z)."""

from collections.abc import Callable, MutableMapping
from typing import NamedTuple

import chex
import jax
import numpy as np

from aiwae_jax import checks, fingerprint
from aiwae_jax.evaluate import doors, population, tuning, verdicts
from aiwae_jax.evaluate.population import InitialFn, LogJointFn, ProgressFn
from aiwae_jax.evaluate.settings import ADAPT, DEFAULT_SETTINGS, Settings
from aiwae_jax.evaluate.tuning import Plan
from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree

# Finished pieces by name: {} to forget them, or something dict-like that writes them to a disk.
Store = MutableMapping[str, dict[str, np.ndarray]]

_CPU_CHUNK_BYTES = 2**27
_ACCELERATOR_SHARE = 1 / 8  # of its memory
_PIECES = 3  # version of what is stored
_MOST_CHAINS = 2**16  # per chunk, so that a chunk's results are not hours away


class Likelihood(NamedTuple):
    """Annealed importance sampling estimates for N data.

    Attributes:
      log_likelihood: `[N]` nats. Forward: log mean weight of each datum's chains; exp of it is
        unbiased for p(x), itself it is a stochastic lower bound. Reverse: minus the log mean
        weight, a stochastic upper bound.
      effective_sample_size: `[N]` of the chains' weights, in [0, num_chains].
      log_weight_variance: `[N]` variance over chains of the log weights that are finite, nats².
      plan: schedule and step sizes.
      acceptance: `[T-2]` mean acceptance probability at betas[1:-1], over data and chains.
      path_sample_size: `[T-2]` effective sample size of a datum's chains at betas[1:-1], mean over
        the data.
      num_nonfinite: moves rejected for a non-finite energy.
      num_zero_weight: chains that ended with weight zero.
      num_gradients: gradient evaluations of log p(x, z), those of the plan's pilots not included.
      is_unbiased: False if the step sizes were adapted on these very chains.
      is_broken: `[N]` data whose estimates say nothing: more than half of the moves were rejected
        for a non-finite energy, or more than 9 of 10 chains ended with weight zero.
      rounding: `[N]` by how much neighbouring numbers differ where a datum's log densities lie,
        nats: no estimate is more exact.
    """

    log_likelihood: np.ndarray
    effective_sample_size: np.ndarray
    log_weight_variance: np.ndarray
    plan: Plan
    acceptance: np.ndarray
    path_sample_size: np.ndarray
    num_nonfinite: int
    num_zero_weight: int
    num_gradients: int
    is_unbiased: bool
    is_broken: np.ndarray
    rounding: np.ndarray

    @property
    def mean(self) -> float:
        """Over the data, nats."""
        return mean_and_standard_error(self.log_likelihood)[0]

    @property
    def standard_error(self) -> float:
        """Of `mean`, over the data."""
        return mean_and_standard_error(self.log_likelihood)[1]


def mean_and_standard_error(values: np.ndarray) -> tuple[float, float]:
    """Mean over data `[N]`, and its standard error (NaN for fewer than two)."""
    checks.numbers("values", values)
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"`values` must be a vector of at least one, got {list(values.shape)}.")
    with np.errstate(invalid="ignore"):  # an infinite value has no spread
        standard_error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(standard_error)


def num_gradients(settings: Settings, num_data: int) -> int:
    """Gradient evaluations of log p(x, z) of one estimate for `num_data` data, without pilots.

    With `move="gibbs"` it is the number of sweeps, each of D or more evaluations.
    """
    doors.check_settings(settings)
    num_data = checks.integer("num_data", num_data, least=0)
    num_moves = num_data * settings.num_chains * (settings.num_temperatures - 2)
    return num_moves * settings.num_leapfrog_steps


def fit_chunk_size(
    log_joint_fn: LogJointFn, initial: InitialFn, x: PyTree, settings: Settings
) -> int:
    """How many data to anneal at once, from the memory of one chain's gradient and of the device.

    On a CPU the chunk is kept near the size of its caches, which is also faster.

    Raises:
      TypeError, ValueError: as `log_likelihood`.
    """
    doors.enter(log_joint_fn, initial, x, settings)
    return choose_chunk_size(log_joint_fn, initial, x, settings)


def choose_chunk_size(log_joint_fn, initial, x, settings) -> int:
    """`fit_chunk_size` behind its door."""
    datum = population.first(x)
    z = jax.eval_shape(lambda x: initial(x).sample(jax.random.key(0)), datum)
    gradient = jax.make_jaxpr(jax.value_and_grad(lambda z, x: log_joint_fn(x, z)))(z, datum)
    arrays = [variable.aval for equation in gradient.eqns for variable in equation.outvars]
    bytes_per_chain = sum(a.size * a.dtype.itemsize for a in arrays)
    memory = jax.local_devices()[0].memory_stats()
    budget = memory["bytes_limit"] * _ACCELERATOR_SHARE if memory else _CPU_CHUNK_BYTES
    num_chains = min(budget // max(bytes_per_chain, 1), _MOST_CHAINS)
    size = int(np.clip(num_chains // settings.num_chains, 1, checks.num_rows("x", x)))
    return int(processes.of_primary(np.asarray(size)))  # memories may differ


def tune(
    key: chex.PRNGKey,
    log_joint_fn: LogJointFn,
    initial: InitialFn,
    x: PyTree,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    store: Store | None = None,
    progress_fn: ProgressFn | None = None,
) -> Plan:
    """Tunes schedule and step sizes on pilot chains, for any number of estimates to come.

    Args:
      key: consumed; the chains that are reported need another one.
      log_joint_fn: see `log_likelihood`.
      initial: see `log_likelihood`.
      x: pytree of data with leading axis N, of which `settings.num_pilot_data` are used.
      settings: the chains to tune for.
      store: where the plan is kept, and found again.
      progress_fn: called about every second with (gradient evaluations done, in all).

    Raises:
      TypeError, ValueError: as `log_likelihood`.
    """
    settings = doors.enter(
        *(log_joint_fn, initial, x, settings),
        keys=(key,),
        is_first=True,
        store=store,
        progress_fn=progress_fn,
    )
    return find_plan(key, log_joint_fn, initial, x, settings, store, progress_fn, with_warning=True)


def find_plan(
    key, log_joint_fn, initial, x, settings, store, progress_fn, *, with_warning=False
) -> Plan:
    """`tune` behind its door: with arguments that were looked at."""
    store = {} if store is None else store
    functions = population.as_partial(log_joint_fn), population.as_partial(initial)
    name = f"plan-{fingerprint.digest(key, settings, x, functions)}"
    if name not in store:
        total = (
            tuning.num_pilot_moves(settings, checks.num_rows("x", x)) * settings.num_leapfrog_steps
        )
        with jax.default_matmul_precision("highest"):
            plan = tuning.tune(
                key,
                functions,
                x,
                settings,
                gradients_fn=_counter(total, progress_fn),
                with_warning=with_warning,
            )
        store[name] = {field: np.asarray(a) for field, a in plan._asdict().items()}
    found = store[name]
    return Plan(found["betas"], found["step_sizes"], int(found["num_gradients"]))


def _counter(total: int, progress_fn: ProgressFn | None) -> Callable[[int], None]:
    done = 0

    def gradients_fn(num: int) -> None:
        nonlocal done
        done += num
        if progress_fn is not None:
            progress_fn(done, total)

    return gradients_fn


def anneal(
    key, log_joint_fn, initial, x, latents, settings, plan, chunk_size, store, progress_fn
) -> Likelihood:
    """Forward chains, or reverse ones from `latents`, with a given plan.

    Chunks that the store has are not repeated.

    A reverse chain visits the same intermediate distributions in the opposite order, with the step
    sizes that each of them has.
    """
    num_data, is_reversed = checks.num_rows("x", x), latents is not None
    store = {} if store is None else store
    if chunk_size is None:
        chunk_size = choose_chunk_size(log_joint_fn, initial, x, settings)
    chunk_size = min(chunk_size, num_data)
    doors.check_plan(plan, settings)
    betas, step_sizes = plan.betas, plan.step_sizes
    if is_reversed:
        betas, step_sizes = betas[::-1], step_sizes[::-1]
    per_datum_move = settings.num_chains * settings.num_leapfrog_steps
    gradients_fn = _counter(num_gradients(settings, num_data), progress_fn)
    functions = population.as_partial(log_joint_fn), population.as_partial(initial)
    shared = fingerprint.digest(
        _PIECES, key, settings, betas, step_sizes, functions
    )  # parameters are hashed once
    pace, results, counts = population.Pace(), [], []
    for number, (indices, num_kept) in enumerate(population.chunks(num_data, chunk_size)):
        chunk_x = population.select(x, indices)
        chunk_latents = latents[indices] if is_reversed else None
        name = f"chunk-{number:05d}-{fingerprint.digest(shared, chunk_x, chunk_latents, num_kept)}"
        if name in store:
            gradients_fn(num_kept * per_datum_move * (len(betas) - 2))
        else:
            with jax.default_matmul_precision("highest"):
                annealed = population.run(
                    key,
                    indices,
                    chunk_x,
                    functions,
                    betas,
                    step_sizes,
                    settings.program(),
                    rule=ADAPT[settings.adapt],
                    target_acceptance=settings.target_acceptance,
                    latents=chunk_latents,
                    num_counted=num_kept,
                    moves_fn=lambda num, kept=num_kept: gradients_fn(num * kept * per_datum_move),
                    pace=pace,
                )
            store[name] = annealed._asdict()
        results.append(population.Annealed(**store[name]))
        counts.append(num_kept)

    is_frozen = ADAPT[settings.adapt] == population.FROZEN

    def joined(field):
        return np.concatenate([r[:n] for r, n in zip(map(field, results), counts, strict=True)])

    def averaged(field):
        return np.average([field(r) for r in results], axis=0, weights=counts)[:: _sign(latents)]

    num_nonfinite, num_zero = joined(lambda r: r.num_nonfinite), joined(lambda r: r.num_zero_weight)
    return Likelihood(
        log_likelihood=_sign(latents) * joined(lambda r: r.log_mean_weight),
        effective_sample_size=joined(lambda r: r.effective_sample_size),
        log_weight_variance=joined(lambda r: r.log_weight_variance),
        plan=plan if is_frozen else plan._replace(step_sizes=averaged(lambda r: r.step_sizes)),
        acceptance=averaged(lambda r: r.acceptance),
        path_sample_size=averaged(lambda r: r.path_sample_size),
        num_nonfinite=int(num_nonfinite.sum()),
        num_zero_weight=int(num_zero.sum()),
        num_gradients=num_gradients(settings, num_data),
        is_unbiased=is_frozen,
        is_broken=verdicts.is_broken(num_nonfinite, num_zero, settings.num_chains, len(betas) - 2),
        rounding=joined(lambda r: r.rounding),
    )


def _sign(latents: np.ndarray | None) -> int:
    """+1 for forward chains, -1 for reverse ones."""
    return 1 if latents is None else -1


def log_likelihood(
    key: chex.PRNGKey,
    log_joint_fn: LogJointFn,
    initial: InitialFn,
    x: PyTree,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    plan: Plan | None = None,
    chunk_size: int | None = None,
    store: Store | None = None,
    progress_fn: ProgressFn | None = None,
) -> Likelihood:
    """Estimates log p(x) of each datum by AIS from `initial` to the joint (section 5.2; Wu 2016).

    Step sizes and temperatures are tuned on pilot chains with keys of their own and then frozen, so
    that exp of the estimates is unbiased for p(x) (unless `settings.adapt` is "paper").

    Args:
      key: consumed. Estimates depend on a datum's index in `x`, not on `chunk_size` (except with
        `adapt="paper"`, whose step size follows the chunk).
      log_joint_fn: `(x, z) -> []`, log p(x, z), nats, for one datum and one latent `[D]`;
        differentiable in z.
      initial: `x -> Posterior` (or any `Distribution`, such as the prior) to anneal from. For
        `chain_space="base"` it needs `transport`; without one the chains live in latent space,
        which warns unless the settings ask for it.
      x: pytree of data with leading axis N.
      settings: schedule, chains, moves.
      plan: from `tune` with the same settings; by default tuned here on `x`.
      chunk_size: data annealed at once; by default as many as memory suggests.
      store: dict-like; the plan and each finished chunk are put there, under names made of all
        that they depend on (`fingerprint.digest`), and found again, so that an evaluation that was
        killed continues to the very same bits.
      progress_fn: called about every second with (gradient evaluations done, in all), first for
        the pilots and then for the estimate.

    Returns:
      A `Likelihood` of NumPy arrays. A warning names data that are `is_broken`.

    Raises:
      ValueError: for impossible settings, no data, functions whose shapes do not fit, values that
        no chain can start from, or data outside the support of a Bernoulli likelihood.
      TypeError: for arguments of another kind, or under a caller's jit.
    """
    settings = doors.enter(
        *(log_joint_fn, initial, x, settings),
        keys=(key,),
        is_first=True,
        store=store,
        progress_fn=progress_fn,
        chunk_size=chunk_size,
    )
    pilot_key, run_key = jax.random.split(key)
    functions = log_joint_fn, initial
    if plan is None:
        plan = find_plan(pilot_key, *functions, x, settings, store, progress_fn)
    found = anneal(run_key, *functions, x, None, settings, plan, chunk_size, store, progress_fn)
    verdicts.warn_of_broken([found], settings)
    verdicts.warn_of_rounding([found])
    return found
