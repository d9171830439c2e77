"""The nouns of the package: particle sets, models, samplers, objectives, phases, methods.

A *sampler* draws latent particles that explain one datum, an *objective* maps those particles to a
scalar, a *phase* says which parameters climb that scalar, and a *method* is a tuple of phases.

Axes, the same everywhere: `B` batch, `K` particles, `D` latent size, `X` data size, `T`
temperatures including both 0 and 1, `L` leapfrog steps. Everything here is about one datum; `train`
and `evaluate` add the batch.
"""

import dataclasses
from collections.abc import Callable, Iterable, Set
from typing import Any, NamedTuple, Protocol

import chex
import jax

from aiwae_jax import checks
from aiwae_jax.info import ChainInfo as ChainInfo
from aiwae_jax.info import Info as Info
from aiwae_jax.recipe import Recipe

PyTree = Any
LogDensityFn = Callable[[chex.Array], chex.Array]  # [D] -> [], nats
ForceFn = Callable[[chex.Array], chex.Array]  # [D] -> [D], nats per unit of z
# What one move does to a particle, leaving a density invariant, whatever β it has on a path:
# `transition(key, state, evaluate_fn, force_fn, step_size) -> (state, info)`, as
# `moves.hamiltonian.transition` does.
Transition = Callable[..., tuple[Any, Any]]
PARAM_NAMES = ("theta", "phi", "psi")
LATENTS = ("continuous", "binary")


@dataclasses.dataclass(frozen=True)
class Move:
    """One move of a particle at one temperature; build it with `moves`.

    Attributes:
      transition: what it does, see `Transition`.
      momentum_persistence: above 0 the chain begins with a momentum, of which a move keeps so much.
      supports: `supports(position) -> []` bool; outside weights are zero. None: everywhere inside.
    """

    transition: Transition
    momentum_persistence: float = 0.0
    supports: Callable[[chex.Array], chex.Array] | None = None

    def __call__(self, *args: Any) -> tuple[Any, Any]:
        """One move."""
        return self.transition(*args)


class Params(NamedTuple):
    """All learned parameters, each an opaque pytree.

    Attributes:
      theta: the generative model p_θ(x, z).
      phi: the approximate posterior q_φ(z|x).
      psi: what samplers learn beside them, by name; empty for most methods.
    """

    theta: PyTree
    phi: PyTree
    psi: dict[str, PyTree] | tuple = ()


class Particles(NamedTuple):
    """A set of K latent samples that explain one datum.

    The set is *properly weighted* when E[mean_k exp(log_weights_k)] = p(x).

    Attributes:
      x: the datum, a pytree.
      z: `[K, D]` latent samples.
      log_weights: `[K]` log weights, nats; -inf marks a particle that explains nothing.
      posterior: the q_φ(z|x) that they are draws of, with its gradients to φ, so that no objective
        need run the encoder again; None where they were moved, or gradients stopped.
      log_proposal: `[K]` log probability, nats, of each z_k under what it was drawn from, with
        gradients to that one's parameters at fixed z; what score-function objectives weigh. None
        where z itself carries gradients, or has been moved.
    """

    x: PyTree
    z: chex.Array
    log_weights: chex.Array
    posterior: "Posterior | None" = None
    log_proposal: chex.Array | None = None


class Distribution(Protocol):
    """A distribution over latents: what a prior must offer.

    One over binary latents has the attribute `latents = "binary"`, so that an evaluation can tell.
    """

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws one `[D]` sample, differentiable in the distribution's parameters."""

    def log_prob(self, z: chex.Array) -> chex.Array:
        """Normalized log density `[]` at `z` `[D]`, nats."""


class Posterior(Distribution, Protocol):
    """q_φ(z|x) for one x, as returned by `Model.posterior`."""

    def sample_and_log_prob(self, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
        """Draws `[D]` and its log density `[]`; cheaper than two calls for a flow."""

    def mean(self) -> chex.Array:
        """Mean `[D]`."""

    def stddev(self) -> chex.Array:
        """Standard deviation of each coordinate `[D]`."""

    def transport(self, noise: chex.Array) -> tuple[chex.Array, chex.Array]:
        """Maps standard normal `noise` `[D]` to (z `[D]`, log |det ∂z/∂noise| `[]`)."""

    def inverse_transport(self, z: chex.Array) -> chex.Array:
        """The noise `[D]` of `z` `[D]`; only reverse chains in base space need it."""


LogJointFn = Callable[[PyTree, PyTree, chex.Array], chex.Array]


class _Model(NamedTuple):
    """The fields of a `Model`."""

    init: Callable[[chex.PRNGKey], Params]
    log_joint: LogJointFn
    posterior: Callable[[PyTree, PyTree], Posterior]
    prior: Callable[[PyTree, PyTree], Distribution] | None = None
    sample: Callable[[chex.PRNGKey, PyTree, PyTree], tuple[PyTree, chex.Array]] | None = None
    likelihood: Callable[[PyTree, chex.Array], Any] | None = None
    log_joint_in: Callable[[str], LogJointFn] | None = None
    has_posterior_density: bool = True
    latents: str = "continuous"
    data_size: int | None = None
    check_data: Callable[..., None] | None = None
    recipe: Recipe | None = None
    takes_missing: bool = False
    num_given: int = 0


# What fields of earlier versions are called now.
_FORMER_FIELDS = {
    "has_binary_latents": "`latents=`, 'binary' or 'continuous'",
    "conditional_prior": "`prior=`, a function of (theta, x)",
    "conditional_sample": "`sample=`, a function of (key, theta, x)",
}


class Model(_Model):
    """A latent-variable model as pure functions of one datum and one latent.

    Most models are of all of x: their `prior` and `sample` ignore the x that they are given, which
    may be None. A model of a part of x given the rest reads the rest from it.

    Attributes:
      init: `init(key) -> Params`.
      log_joint: `log_joint(theta, x, z) -> []`, log p_θ(x, z) in nats, differentiable.
      posterior: `posterior(phi, x) -> Posterior`.
      prior: `prior(theta, x) -> Distribution`.
      sample: `sample(key, theta, x) -> (x', z)`, one ancestral draw, where x' is x with its
        modelled part drawn anew; None for a model that cannot be drawn from.
      likelihood: `likelihood(theta, z)` -> distribution over x with a `mean()`, for pictures.
      log_joint_in: `log_joint_in(precision) -> log_joint` computed in "tensorfloat32" or
        "bfloat16"; only its gradients are used, as forces.
      has_posterior_density: whether the posterior's `log_prob` can be had, with gradients, at any
        z. A flow whose inverse is only numerical gives the density of its own samples
        (`sample_and_log_prob`); what needs more refuses such a model when it is built.
      latents: of what kind z is, one of `LATENTS`. "binary" are 0s and 1s, as floats: there is no
        path through such samples, and no HMC; what needs either refuses such a model when it is
        built. `log_joint` must still have a gradient in z, by which informed moves flip bits.
      data_size: X, where x is a flat vector; what reads x with a network of its own needs it.
      check_data: `check_data(x, *, name)`, which raises ValueError for data `[N, ...]` that the
        likelihood is not of; training calls it on the host, for its first batch.
      recipe: how a builder of ours was called for it, for a run's folder; None for one of your own.
      takes_missing: whether NaN in x is a missing value: `log_joint` and `posterior` are of the
        others, and `sample` has NaN where the x has that it is given.
      num_given: how many of the last columns of x are a condition, given and not modelled.

    Raises:
      TypeError: for a `prior` or `sample` that takes no x, or a field of an earlier version.
      ValueError: for unknown `latents`.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **fields: Any):
        """Looks at the fields before they are one."""
        for name in _FORMER_FIELDS.keys() & fields:
            raise TypeError(
                f"`{name}` is no field of a `Model` any more; give {_FORMER_FIELDS[name]}."
            )
        model = super().__new__(cls, *args, **fields)
        if any(type(field) is object for field in model):
            return model  # of placeholders: JAX puts together again what it has taken apart
        if model.latents not in LATENTS:
            raise ValueError(
                f"`latents` must be one of {', '.join(LATENTS)}; got {model.latents!r}."
            )
        checks.takes("prior", model.prior, "theta", "x")
        checks.takes("sample", model.sample, "key", "theta", "x")
        return model

    @classmethod
    def _make(cls, iterable: Iterable[Any]):
        """Checks what `_replace` makes, too."""
        return cls(*iterable)

    @property
    def built_by(self) -> Recipe | None:
        """Its recipe, unless something of it was replaced since."""
        is_as_built = self.recipe is not None and self.recipe.is_of(self._replace(recipe=None))
        return self.recipe if is_as_built else None

    @property
    def is_conditional(self) -> bool:
        """Tells whether it is of a part of x given the rest: whether `sample` fails without x."""
        if self.sample is None:
            return False
        try:
            jax.eval_shape(
                lambda key: self.sample(key, self.init(key).theta, None), jax.random.key(0)
            )
        except Exception:  # of any kind; where it is a mistake, the same comes with an x
            return True
        return False


# What a sampler may give and an objective need of it, and what to do where it is not given.
NEEDS = {
    # z and the weights carry gradients to the parameters.
    "gradients": "`objective` differentiates through the samples, but `sampler` stops gradients, "
    "or its latents are binary and have none; use a reparameterized sampler (importance on "
    "continuous latents), or the objective `log_joint` for θ, and for φ `log_posterior`, "
    "`scores.vimco` or `scores.nvil`.",
    # The particles have their `log_proposal`.
    "log_proposal": "`objective` weighs the score of what the particles were drawn from, and "
    "`sampler` moves them, or differentiates through them; use importance on binary latents, or "
    "for continuous ones `bound` or `dreg`.",
    # E[mean exp(log_weights)] = p(x).
    "proper_weights": "`objective` is a bound only for properly weighted particles, and `sampler` "
    "does not weight properly; use importance or annealed particles.",
    # Gradients without the score ∂ log q_φ(z)/∂φ at fixed z.
    "no_score": "`objective` takes the gradient of log w through z alone, and `sampler` has the "
    "score of q in it; use importance(..., with_score=False).",
}


def _no_state() -> PyTree:
    return ()


def _keep_state(state: PyTree, info: Info) -> PyTree:
    del info
    return state


def _no_params(key: chex.PRNGKey) -> dict[str, PyTree]:
    del key
    return {}


class Sampler(NamedTuple):
    """Draws a particle set for one datum.

    Attributes:
      draw: `draw(key, params, x, state, *, axis_name=None) -> (Particles, Info)`. Under a caller's
        `vmap(..., axis_name=...)` the diagnostics are reduced over that axis, so that they come out
        unbatched: means for rates, sums for counts.
      gives: names of `NEEDS`, what objectives may count on.
      init: `init() -> state`, what the sampler carries from step to step (step sizes).
      adapt: `adapt(state, info) -> state`, after each training step.
      init_params: `init_params(key) -> {name: parameters}`, what the sampler learns by gradient. It
        finds it in `params.psi[name]`; phases whose samplers share a name share the parameters.
      check_data: the model's, see `Model`.
      restart_every: of a persistent sampler, which goes on from the latents that a datum's last
        visit left: the passes over the data after which it begins anew. Its `draw` takes
        `kept=None` too, a `train.Kept`, and its z are kept for the next visit. None for a sampler
        that begins anew at every visit.
    """

    draw: Callable[..., tuple[Particles, Info]]
    gives: Set[str]
    init: Callable[[], PyTree] = _no_state
    adapt: Callable[[PyTree, Info], PyTree] = _keep_state
    init_params: Callable[[chex.PRNGKey], dict[str, PyTree]] = _no_params
    check_data: Callable[..., None] | None = None
    restart_every: int | None = None


class Objective(NamedTuple):
    """A scalar of one particle set, to be maximised.

    Attributes:
      value: `value(params, particles) -> []`, nats. It is -inf, without gradient, where no particle
        has a positive weight.
      trains: the parameters for which its gradient means something.
      needs: names of `NEEDS`, what its sampler must give for that.
      init_params: as in `Sampler`, for what the objective learns by gradient (a baseline).
      value_at: `value_at(kl_weight, params, particles) -> []`, with KL(q || p(z)) weighed by
        `kl_weight` `[]`, for a warm-up; None where there is no KL.
    """

    value: Callable[[Params, Particles], chex.Array]
    trains: tuple[str, ...]
    needs: Set[str] = frozenset()
    init_params: Callable[[chex.PRNGKey], dict[str, PyTree]] = _no_params
    value_at: Callable[[chex.Array, Params, Particles], chex.Array] | None = None


def init_params_of_all(
    parts: Iterable[Sampler | Objective],
) -> Callable[[chex.PRNGKey], dict[str, PyTree]]:
    """Joins the `init_params` of several samplers or objectives."""
    fns = [part.init_params for part in parts if part.init_params is not _no_params]

    def init_params(key: chex.PRNGKey) -> dict[str, PyTree]:
        psi = {}
        for i, fn in enumerate(fns):
            psi |= fn(jax.random.fold_in(key, i))
        return psi

    if len(fns) == 1:
        return fns[0]  # with the very key
    return init_params if fns else _no_params


class Phase(NamedTuple):
    """Which parameters climb which objective on which particles. Build it with `phase`."""

    updates: tuple[str, ...]
    sampler: Sampler
    objective: Objective

    def init_params(self, key: chex.PRNGKey) -> dict[str, PyTree]:
        """Draws what its sampler and its objective learn by gradient, by name."""
        return init_params_of_all((self.sampler, self.objective))(key)


Method = tuple[Phase, ...]


class BuiltMethod(tuple):
    """A method that knows how a builder of ours was called for it.

    Attributes:
      recipe: of the call, without its model.
    """

    recipe: Recipe

    @classmethod
    def of(cls, phases: Method, recipe: Recipe) -> "BuiltMethod":
        """The same phases, with a recipe."""
        built = cls(phases)
        built.recipe = recipe
        return built


def _check_names(field: str, names: Set[str]) -> None:
    """Refuses what is no name of `NEEDS`."""
    if not isinstance(names, Set) or not names <= NEEDS.keys():
        raise ValueError(
            f"`{field}` must be a set of names among {', '.join(NEEDS)}; got {names!r}."
        )


def phase(updates: tuple[str, ...], sampler: Sampler, objective: Objective) -> Phase:
    """Composes a phase, and refuses compositions that would silently learn nothing or nonsense.

    Args:
      updates: names among "theta", "phi", "psi" that this phase moves.
      sampler: where its particles come from.
      objective: what it maximises.

    Raises:
      ValueError: when the sampler does not give what the objective needs, or the objective has no
        gradient for one of `updates`.
    """
    for name in updates:
        if name not in PARAM_NAMES:
            raise ValueError(f"`updates` must name parameters among {PARAM_NAMES}, got {name!r}.")
        if name not in objective.trains:
            raise ValueError(
                f"`updates` names {name!r}, but this objective has a gradient for "
                f"{objective.trains} only; use another objective for {name!r}."
            )
    if "psi" in updates and init_params_of_all((sampler, objective)) is _no_params:
        raise ValueError(
            "`updates` names 'psi', but neither this sampler nor this objective learns anything by "
            "gradient; leave it out."
        )
    _check_names("gives", sampler.gives)
    _check_names("needs", objective.needs)
    for name, sentence in NEEDS.items():
        if name in objective.needs - sampler.gives:
            raise ValueError(sentence)
    return Phase(tuple(updates), sampler, objective)
