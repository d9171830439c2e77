"""Every method, as a composition of samplers and objectives.

| method | θ phase: sampler, objective | φ phase: sampler, objective |
|---|---|---|
| VAE | importance(1), elbo | same phase |
| IWAE | importance(K), bound | same phase |
| STL | importance(K, no score), bound | same phase |
| DReG | importance(K), bound | importance(K, no score), dreg |
| AIWAE | annealed(K, T), log_joint | importance(1), elbo |
| AIWAE-wake | annealed(K, T), log_joint | same particles, log_posterior |
| Hoffman | hmc_from_posterior(M), log_joint | importance(1), elbo |
| persistent chains | persistent(M), log_joint | importance(1), elbo |
| wake-wake | importance(K), log_joint | same particles, log_posterior |
| wake-sleep | importance(K), log_joint | ancestral, log_posterior |
| both | importance(K), log_joint | importance(K) and ancestral, mean of log_posterior |
| HVAE, HVI, UHA | hvae(K), hvi(K), uha(K, T); bound | same phase, and ψ |
| VIMCO | importance(K), vimco | same phase |
| NVIL | importance(1), nvil | same phase, and ψ |
| Tang & Salakhutdinov | importance_from_prior(K), log_joint | |
| the same, annealed | annealed(K, T) from the prior, log_joint | |
| Raiko et al. | importance_from_prior(K), centered_log_joint; or straight-through, bound | |

The last five are for binary latents, which wake-sleep and AIWAE serve too: there AIWAE's φ phase is
importance(K), vimco.

A method of your own is written the same way, from these samplers and objectives or from your own:
`train` runs any tuple of phases.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from aiwae_jax import differentiable, objectives, samplers, scores
from aiwae_jax.recipe import recorded
from aiwae_jax.types import BuiltMethod, Method, Model, Phase, phase

_Builder = TypeVar("_Builder", bound=Callable)  # a decorator keeps its type
RWS_PHI = ("wake", "sleep", "both")
RAIKO_ESTIMATORS = ("G3", "G5")
BUILDERS: dict[str, Callable[..., Method]] = {}  # every method by its name


def _method(build: _Builder, **handed_on: Any) -> _Builder:
    """Decorates a builder: it is found in `BUILDERS`, and what it builds knows its recipe."""

    @functools.wraps(build)
    def checked(model, *args, **kwargs):
        if not isinstance(model, Model):
            raise TypeError(
                f"`model` must be a `types.Model`, the first argument of "
                f"`methods.{build.__name__}`; got {type(model).__name__}."
            )
        return build(model, *args, **kwargs)

    BUILDERS[build.__name__] = recorded(BuiltMethod.of, **handed_on)(checked)
    return cast(_Builder, BUILDERS[build.__name__])


def _with_options_of(fn: Callable, *, sets: tuple[str, ...] = ()) -> Callable[[_Builder], _Builder]:
    """As `_method`, for a builder that hands its `**options` on to `fn`, and sets some itself."""
    return functools.partial(_method, options_of=fn, sets=sets)


@_method
def vae(model: Model) -> Method:
    """Variational auto-encoder (Kingma & Welling 2013): one sample, the ELBO for both networks."""
    return (phase(("theta", "phi"), samplers.importance(model, 1), objectives.elbo(model)),)


@_method
def iwae(model: Model, num_particles: int = 5) -> Method:
    """Importance weighted auto-encoder (Burda et al. 2015): L_K (Eq. 3) for both networks."""
    sampler = samplers.importance(model, num_particles)
    return (phase(("theta", "phi"), sampler, objectives.bound()),)


@_method
def stl(model: Model, num_particles: int = 5) -> Method:
    """IWAE with "sticking the landing" (Roeder et al. 2017, Eq. 8): no score of q in φ's gradient.

    Less noise than IWAE, none at the exact posterior; for K > 1 biased for φ. θ's gradient is
    IWAE's.
    """
    sampler = samplers.importance(model, num_particles, with_score=False)
    return (phase(("theta", "phi"), sampler, objectives.bound()),)


@_method
def dreg(model: Model, num_particles: int = 5) -> Method:
    """IWAE with doubly reparameterized gradients for φ (Tucker et al. 2018, Eq. 8); unbiased."""
    without_score = samplers.importance(model, num_particles, with_score=False)
    return (
        phase(("theta",), samplers.importance(model, num_particles), objectives.bound()),
        phase(("phi",), without_score, objectives.dreg()),
    )


@_with_options_of(samplers.annealed)
def aiwae(
    model: Model,
    num_particles: int = 5,
    num_temperatures: int = 8,
    num_leapfrog_steps: int = 5,
    *,
    particle_chunk: int | None = None,
    **options: Any,
) -> Method:
    """Annealed importance weighted auto-encoder (Ding & Freedman 2019, Algorithm 1).

    θ follows Σ_k w̃_k ∇_θ log p_θ(x, z_k) on annealed particles; then φ follows the one-sample ELBO
    of the new θ, or with binary latents VIMCO's bound of max(K, 2). `particle_chunk` bounds the
    memory of both; `options` are the others of `samplers.annealed`.
    """
    annealed = samplers.annealed(
        *(model, num_particles, num_temperatures, num_leapfrog_steps),
        particle_chunk=particle_chunk,
        **options,
    )
    objective = objectives.log_joint(model, particle_chunk=particle_chunk)
    return phase(("theta",), annealed, objective), _bound_of_phi(model, num_particles)


def _bound_of_phi(model: Model, num_particles: int) -> Phase:
    """How φ climbs a bound of log p where θ has particles of its own."""
    if model.latents == "binary":
        sampler = samplers.importance(model, max(num_particles, 2))
        return phase(("phi",), sampler, scores.vimco())
    return phase(("phi",), samplers.importance(model, 1), objectives.elbo(model))


@_with_options_of(samplers.annealed)
def aiwae_wake(
    model: Model,
    num_particles: int = 5,
    num_temperatures: int = 8,
    num_leapfrog_steps: int = 5,
    *,
    particle_chunk: int | None = None,
    **options: Any,
) -> Method:
    """AIWAE whose φ takes wake updates from the same annealed particles (the paper's section 6).

    Arguments as in `aiwae`. Raises ValueError for a posterior without a density.
    """
    annealed = samplers.annealed(
        *(model, num_particles, num_temperatures, num_leapfrog_steps),
        particle_chunk=particle_chunk,
        **options,
    )
    objective = objectives.total(
        objectives.log_joint(model, particle_chunk=particle_chunk), objectives.log_posterior(model)
    )
    return (phase(("theta", "phi"), annealed, objective),)


@_method
def hoffman(
    model: Model,
    num_moves: int = 7,
    num_leapfrog_steps: int = 5,
    *,
    force_precision: str = "float32",
) -> Method:
    """θ from the end of one HMC chain on the posterior, started at q (Hoffman 2017); φ by the ELBO.

    The chain's end is no weighted sample: θ's gradient is biased until the chain has forgotten q.
    """
    chain = samplers.hmc_from_posterior(
        model, num_moves, num_leapfrog_steps, force_precision=force_precision
    )
    return (
        phase(("theta",), chain, objectives.log_joint(model)),
        phase(("phi",), samplers.importance(model, 1), objectives.elbo(model)),
    )


@_with_options_of(samplers.persistent)
def persistent(
    model: Model, num_moves: int = 1, num_leapfrog_steps: int = 5, **options: Any
) -> Method:
    """θ from HMC chains on the posterior, one for each datum, that go on from visit to visit.

    As `hoffman`, whose chains begin at q at every visit, but with one move (Younes 1989; of
    posteriors, Han et al. 2017). The latents and the bits of a datum are those of its last visit
    for a period of `restart_every` passes over the data. For the end of a training, when parameters
    move slowly: the gradient of θ is biased until the chains have forgotten q, and lag behind θ.

    `options` are those of `samplers.persistent`.
    """
    chains = samplers.persistent(model, num_moves, num_leapfrog_steps, **options)
    return (
        phase(("theta",), chains, objectives.log_joint(model)),
        phase(("phi",), samplers.importance(model, 1), objectives.elbo(model)),
    )


@_method
def rws(model: Model, num_particles: int = 5, rws_phi: str = "wake") -> Method:
    """Reweighted wake-sleep (Bornschein & Bengio 2015): θ as IWAE's, φ towards the posterior.

    φ follows the `rws_phi`: "wake" on the particles of θ, "sleep" on a dream of the model for each
    datum, or "both", one update with the mean of the two gradients.

    Raises:
      ValueError: for an unknown `rws_phi`, or a posterior without a density.
    """
    importance = samplers.importance(model, num_particles)
    log_joint, log_posterior = objectives.log_joint(model), objectives.log_posterior(model)
    theta_phase = phase(("theta",), importance, log_joint)
    dream = samplers.ancestral(model)
    both = samplers.joined(wake=importance, sleep=dream)
    builds = {
        "wake": lambda: (
            phase(("theta", "phi"), importance, objectives.total(log_joint, log_posterior)),
        ),
        "sleep": lambda: (theta_phase, phase(("phi",), dream, log_posterior)),
        "both": lambda: (
            theta_phase,
            phase(("phi",), both, objectives.mean_of(wake=log_posterior, sleep=log_posterior)),
        ),
    }
    if rws_phi not in builds:
        raise ValueError(f"`rws_phi` must be one of {', '.join(RWS_PHI)}, got {rws_phi!r}.")
    return builds[rws_phi]()


@_with_options_of(differentiable.hvae)
def hvae(
    model: Model, num_particles: int = 1, num_leapfrog_steps: int = 5, **options: Any
) -> Method:
    """Hamiltonian VAE (Caterini et al. 2018); `options` as in `differentiable.hvae`."""
    sampler = differentiable.hvae(model, num_particles, num_leapfrog_steps, **options)
    return (phase(("theta", "phi", "psi"), sampler, objectives.bound()),)


@_with_options_of(differentiable.hvi)
def hvi(
    model: Model,
    num_particles: int = 1,
    num_moves: int = 2,
    num_leapfrog_steps: int = 3,
    **options: Any,
) -> Method:
    """Hamiltonian variational inference (Salimans et al. 2015); as `differentiable.hvi`."""
    sampler = differentiable.hvi(model, num_particles, num_moves, num_leapfrog_steps, **options)
    return (phase(("theta", "phi", "psi"), sampler, objectives.bound()),)


@_with_options_of(differentiable.uha)
def uha(
    model: Model,
    num_particles: int = 1,
    num_temperatures: int = 8,
    num_leapfrog_steps: int = 1,
    **options: Any,
) -> Method:
    """Differentiable AIS (Geffner & Domke 2021; Zhang et al. 2021); as `differentiable.uha`."""
    sampler = differentiable.uha(
        model, num_particles, num_temperatures, num_leapfrog_steps, **options
    )
    return (phase(("theta", "phi", "psi"), sampler, objectives.bound()),)


@_method
def vimco(model: Model, num_particles: int = 5) -> Method:
    """VIMCO (Mnih & Rezende 2016): L_K for both networks of a model with binary latents; K >= 2.

    Raises:
      ValueError: if K < 2, or for continuous latents.
    """
    if num_particles < 2:
        raise ValueError(
            f"`num_particles` must be at least 2 for VIMCO, got {num_particles}; with one use "
            "`nvil`."
        )
    return (phase(("theta", "phi"), samplers.importance(model, num_particles), scores.vimco()),)


@_method
def nvil(model: Model) -> Method:
    """Neural variational inference and learning (Mnih & Gregor 2014): the ELBO, by its scores.

    Raises:
      ValueError: for continuous latents, or a model without `data_size`.
    """
    sampler, baseline = samplers.importance(model, 1), scores.baseline(model)
    return (phase(("theta", "phi", "psi"), sampler, scores.nvil(baseline)),)


@_method
def tang(model: Model, num_particles: int = 5) -> Method:
    """Generalized EM of Tang & Salakhutdinov 2013: θ on weighted samples of the conditional prior.

    There is no inference network; φ stays as it is. With one sample the hidden layers follow noise
    of mean zero, and only the last one learns.
    """
    sampler = samplers.importance_from_prior(model, num_particles)
    return (phase(("theta",), sampler, objectives.log_joint(model)),)


@_with_options_of(samplers.annealed, sets=("start",))
def tang_annealed(
    model: Model,
    num_particles: int = 5,
    num_temperatures: int = 8,
    num_leapfrog_steps: int = 5,
    **options: Any,
) -> Method:
    """As `tang`, with samples annealed from the conditional prior to the posterior.

    `options` are those of `samplers.annealed`.
    """
    sampler = samplers.annealed(
        model, num_particles, num_temperatures, num_leapfrog_steps, start="prior", **options
    )
    return (phase(("theta",), sampler, objectives.log_joint(model)),)


@_method
def raiko(model: Model, num_particles: int = 5, raiko_estimator: str = "G5") -> Method:
    """The estimators of Raiko et al. 2015 for θ of a conditional model, on K samples of its prior.

    "G5" is `tang` with a smaller variance and the same mean; "G3" follows the K-sample estimate of
    log p through each bit's probability, which is biased. φ stays as it is.

    Raises:
      ValueError: for an unknown `raiko_estimator`, continuous latents, or G5 of one sample, whose
        w̃ - 1/K is 0: no hidden layer would learn.
    """
    if raiko_estimator not in RAIKO_ESTIMATORS:
        raise ValueError(
            f"`raiko_estimator` must be one of {', '.join(RAIKO_ESTIMATORS)}, got "
            f"{raiko_estimator!r}."
        )
    is_through = raiko_estimator == "G3"
    if num_particles < 2 and not is_through:
        raise ValueError(
            f"`num_particles` must be at least 2 for 'G5', got {num_particles}; with one use 'G3'."
        )
    sampler = samplers.importance_from_prior(model, num_particles, with_straight_through=is_through)
    objective = objectives.bound() if is_through else scores.centered_log_joint(model)
    return (phase(("theta",), sampler, objective),)
