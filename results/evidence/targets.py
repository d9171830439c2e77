"""Joint densities whose evidence is known: a table of them, and a stress list.

`problems()` are one datum each, measured from the prior as one measures a model's evidence; their
references are in `references.py`. `STRESS` is a list of `(name, target, x, exact)`, with the exact
log evidences `[N]` in nats: shapes, scales and numbers of data that break a plan.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

from aiwae_jax import evaluate
from aiwae_jax.distributions import DiagNormal, standard_normal
from aiwae_jax.types import PyTree

NOTHING = np.zeros((1, 1), np.float32)  # the one datum of a density that has no data

# Eight schools (Rubin 1981).
EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], np.float32)
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], np.float32)
EFFECT_SCALE = 5.0  # of mu and of tau

# Gaussian shells (Feroz & Hobson 2008).
SHELL_CENTRE, SHELL_RADIUS, SHELL_WIDTH, SHELL_EDGE = 3.5, 2.0, 0.1, 6.0


@dataclasses.dataclass(frozen=True)
class Start:
    """A distribution without a `transport`, as other libraries have them."""

    sample: Callable[[chex.PRNGKey], chex.Array]
    log_prob: Callable[[chex.Array], chex.Array]


class Problem(NamedTuple):
    """One evidence to be found.

    Attributes:
      name: of its row.
      target: the joint density, and the prior to start from.
      x: one datum, leading axis 1.
      scales: `[D]` standard deviations of a posterior that is a normal, its coordinates
        independent, from which temperatures and steps are made by hand; None of others.
    """

    name: str
    target: evaluate.Target
    x: PyTree
    scales: np.ndarray | None = None


def unit_normal(size: int) -> Callable[[PyTree], DiagNormal]:
    """Starts from N(0, I)."""
    return lambda x: standard_normal(size)


def _log_normal(values: chex.Array, loc: chex.Array, scale: chex.Array) -> chex.Array:
    """Log densities of normals, summed: `[]` nats."""
    noise = (values - loc) / scale
    return jnp.sum(-0.5 * jnp.square(noise) - jnp.log(scale) - 0.5 * math.log(2.0 * math.pi))


def _log_half_cauchy(log_tau: chex.Array) -> chex.Array:
    """Log density of log tau, where tau is half-Cauchy of the scale of the effects."""
    ratio = log_tau - math.log(EFFECT_SCALE)
    return math.log(2.0 / math.pi) + ratio - jax.nn.softplus(2.0 * ratio)


def schools(is_centred: bool) -> evaluate.Target:
    """Eight schools: z is mu, log tau, and the effects, or what they are apart in units of tau."""

    def effects(z):
        return z[2:] if is_centred else z[0] + jnp.exp(z[1]) * z[2:]

    def log_prior(z):
        loc, scale = (z[0], jnp.exp(z[1])) if is_centred else (0.0, 1.0)
        log_effects = _log_normal(z[2:], loc, jnp.full(8, scale))
        mu = _log_normal(z[0], 0.0, EFFECT_SCALE)
        return mu + _log_half_cauchy(z[1]) + log_effects

    def sample(key):
        mu_key, tau_key, effect_key = jax.random.split(key, 3)
        mu = EFFECT_SCALE * jax.random.normal(mu_key)
        tau = EFFECT_SCALE * jnp.abs(jax.random.cauchy(tau_key))
        noise = jax.random.normal(effect_key, (8,))
        own = mu + tau * noise if is_centred else noise
        return jnp.concatenate([jnp.stack([mu, jnp.log(tau)]), own])

    def log_joint(y, z):
        return log_prior(z) + _log_normal(y, effects(z), ERRORS)

    return evaluate.Target(log_joint, lambda x: Start(sample, log_prior))


def shells(size: int) -> evaluate.Target:
    """Two Gaussian shells under a uniform prior, whose logit is z."""

    def log_prior(z):
        return jnp.sum(-jax.nn.softplus(z) - jax.nn.softplus(-z))

    def log_joint(x, z):
        theta = SHELL_EDGE * jnp.tanh(0.5 * z)  # 12·sigmoid(z) - 6
        centre = jnp.zeros(size).at[0].set(SHELL_CENTRE)
        radii = [jnp.linalg.norm(theta - c) for c in (centre, -centre)]
        both = jnp.stack([_log_normal(r, SHELL_RADIUS, SHELL_WIDTH) for r in radii])
        return log_prior(z) + jax.nn.logsumexp(both)

    start = Start(lambda key: jax.random.logistic(key, (size,)), log_prior)
    return evaluate.Target(log_joint, lambda x: start)


def logistic_regression() -> tuple[evaluate.Target, PyTree]:
    """Breast cancer, its ten means standardized and a constant; N(0, I) of the weights."""
    import sklearn.datasets

    rows, labels = sklearn.datasets.load_breast_cancer(return_X_y=True)
    rows = (rows[:, :10] - rows[:, :10].mean(0)) / rows[:, :10].std(0)
    rows = np.concatenate([np.ones((len(rows), 1)), rows], axis=1)
    x = rows.astype(np.float32)[None], (2.0 * labels - 1.0).astype(np.float32)[None]

    def log_joint(x, z):
        rows, signs = x
        return standard_normal(11).log_prob(z) - jnp.sum(jax.nn.softplus(-signs * (rows @ z)))

    return evaluate.Target(log_joint, unit_normal(11)), x


def gaussian_process() -> tuple[evaluate.Target, PyTree]:
    """Thirty points of a noisy sine: z is log of length, of amplitude, of the noise's deviation.

    A ten thousandth of the kernel's variance is added to its diagonal: float32 can factorize that.
    From 32 points on a batch of Cholesky factors took several hundred times as long on a CPU.
    """
    times = np.linspace(0.0, 6.0, 30)
    series = np.sin(1.7 * times) + 0.3 * np.random.default_rng(0).normal(size=30)
    squares = jnp.asarray((times[:, None] - times[None]) ** 2, jnp.float32)

    def log_joint(y, z):
        length, amplitude, noise = jnp.exp(2.0 * z)
        kernel = amplitude * jnp.exp(-0.5 * squares / length)
        factor = jnp.linalg.cholesky(kernel + (noise + 1e-4 * amplitude) * jnp.eye(30))
        white = jax.scipy.linalg.solve_triangular(factor, y, lower=True)
        log_det = jnp.sum(jnp.log(jnp.diagonal(factor)))
        log_likelihood = -0.5 * jnp.sum(white**2) - log_det - 15.0 * math.log(2.0 * math.pi)
        return standard_normal(3).log_prob(z) + log_likelihood

    return evaluate.Target(log_joint, unit_normal(3)), series.astype(np.float32)[None]


def linear_regression() -> tuple[evaluate.Target, PyTree, np.ndarray]:
    """Ten thousand rows of ten columns, noise of standard deviation 1, N(0, I) of the weights.

    Its posterior is a normal whose correlations are of a hundredth, here taken for none.
    """
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(10_000, 10)), rng.normal(size=10)
    y = rows @ weights + rng.normal(size=10_000)
    x = rows.astype(np.float32)[None], y.astype(np.float32)[None]

    def log_joint(x, z):
        rows, y = x
        return standard_normal(10).log_prob(z) + _log_normal(y, rows @ z, jnp.ones(len(y)))

    scales = 1.0 / np.sqrt(1.0 + np.square(rows).sum(0))
    return evaluate.Target(log_joint, unit_normal(10)), x, scales


def normal(loc: float, scales: np.ndarray) -> evaluate.Target:
    """N(0, I) to a normalized normal of these standard deviations `[D]`: log evidence 0."""
    locs = jnp.full(len(scales), loc)
    scales = jnp.asarray(scales, jnp.float32)
    posterior = DiagNormal(locs, scales)
    return evaluate.Target(lambda x, z: posterior.log_prob(z), unit_normal(len(scales)))


def problems() -> list[Problem]:
    """The rows of the table."""
    return [
        Problem("eight schools, centred", schools(True), EFFECTS[None]),
        Problem("eight schools, non-centred", schools(False), EFFECTS[None]),
        *(Problem(f"Gaussian shells, D={d}", shells(d), NOTHING) for d in (2, 5, 10)),
        Problem("logistic regression, D=11", *logistic_regression()),
        Problem("Gaussian process, D=3", *gaussian_process()),
        Problem("linear regression, 10,000 rows", *linear_regression()),
        *(
            Problem(name, normal(0.0, scales), NOTHING, scales)
            for name, scales in (
                ("normal, sd 0.001 to 1, D=10", np.geomspace(1e-3, 1.0, 10)),
                ("normal, sd 0.0001, D=2", np.full(2, 1e-4)),
            )
        ),
    ]


# Targets for whoever writes the search of a plan: (name, target, x, exact `[N]` nats).
Stress = tuple[str, evaluate.Target, PyTree, np.ndarray]
ZERO = np.zeros(1)


def noisy(name: str, scales: np.ndarray, size: int = 5) -> Stress:
    """Data y = z + scale·noise, each of a scale of its own, drawn from the model."""
    rng = np.random.default_rng(0)
    variances = 1.0 + np.float64(scales) ** 2
    y = (np.sqrt(variances)[:, None] * rng.normal(size=(len(scales), size))).astype(np.float32)
    exact = scipy.stats.norm.logpdf(np.float64(y), scale=np.sqrt(variances)[:, None]).sum(1)

    def log_joint(x, z):
        return standard_normal(size).log_prob(z) + _log_normal(
            x["y"], z, jnp.full(size, x["scale"])
        )

    target = evaluate.Target(log_joint, unit_normal(size))
    return name, target, {"y": y, "scale": np.float32(scales)}, exact


def cauchy_start(size: int = 50) -> Stress:
    """From independent Cauchy variables to N(1, 0.5²)."""
    start = Start(
        lambda key: jax.random.cauchy(key, (size,)),
        lambda z: -jnp.sum(jnp.log1p(jnp.square(z)) + math.log(math.pi)),
    )
    posterior = DiagNormal(jnp.ones(size), jnp.full(size, 0.5))
    target = evaluate.Target(lambda x, z: posterior.log_prob(z), lambda x: start)
    return f"Cauchy start, D={size}", target, NOTHING, ZERO


def walled(value: float, size: int = 6) -> Stress:
    """N(1, 0.05²) where z_0 is positive, and `value` elsewhere."""
    posterior = DiagNormal(jnp.ones(size), jnp.full(size, 0.05))
    target = evaluate.Target(
        lambda x, z: jnp.where(z[0] < 0.0, value, posterior.log_prob(z)), unit_normal(size)
    )
    return f"log f is {value} for z_0 < 0", target, NOTHING, scipy.special.log_ndtr([1.0 / 0.05])


def shaped(name: str, size: int, log_density: Callable[[chex.Array], chex.Array]) -> Stress:
    """From N(0, I) to a normalized density."""
    return name, evaluate.Target(lambda x, z: log_density(z), unit_normal(size)), NOTHING, ZERO


def _funnel(z: chex.Array) -> chex.Array:
    """Neal (2003): log of the variances is N(0, 9)."""
    return _log_normal(z[0], 0.0, 3.0) + _log_normal(
        z[1:], 0.0, jnp.full(len(z) - 1, jnp.exp(0.5 * z[0]))
    )


def _correlated(z: chex.Array, rho: float = 0.99) -> chex.Array:
    """Standard deviations 1, all correlations `rho`."""
    size = len(z)
    large = 1.0 + (size - 1) * rho  # eigenvalue of the sum; the others' are 1 - rho
    mean = jnp.mean(z)
    quadratic = jnp.sum(jnp.square(z - mean)) / (1.0 - rho) + size * mean**2 / large
    log_det = (size - 1) * math.log(1.0 - rho) + math.log(large)
    return -0.5 * (quadratic + log_det + size * math.log(2.0 * math.pi))


def _two_modes(z: chex.Array) -> chex.Array:
    """Unit normals ten standard deviations apart, with 0.3 and 0.7 of the mass."""
    modes = [
        math.log(share) + _log_normal(z, jnp.zeros(len(z)).at[0].set(loc), jnp.ones(len(z)))
        for share, loc in ((0.3, -5.0), (0.7, 5.0))
    ]
    return jax.nn.logsumexp(jnp.stack(modes))


def _banana(z: chex.Array) -> chex.Array:
    """A ridge of width 0.1 along a parabola."""
    return _log_normal(z[0], 0.0, 1.0) + _log_normal(z[1], jnp.square(z[0]) - 1.0, 0.1)


def _student(z: chex.Array, degrees: float = 3.0, scale: float = 0.1) -> chex.Array:
    """A multivariate Student t about 1."""
    size = len(z)
    quadratic = jnp.sum(jnp.square((z - 1.0) / scale))
    constant = math.lgamma(0.5 * (degrees + size)) - math.lgamma(0.5 * degrees)
    constant -= 0.5 * size * math.log(degrees * math.pi) + size * math.log(scale)
    return constant - 0.5 * (degrees + size) * jnp.log1p(quadratic / degrees)


STRESS: list[Stress] = [
    noisy("one of 40 posteriors 1,000 times narrower", np.append(np.ones(39), 0.7e-3)),
    noisy(
        "scales of 40 data log-uniform, 0.001 to 1",
        10.0 ** np.random.default_rng(1).uniform(-3.0, 0.0, size=40),
    ),
    cauchy_start(),
    ("N(0, 1) to N(50, 1)", normal(50.0, np.ones(1)), NOTHING, ZERO),
    walled(math.nan),
    walled(-math.inf),
    shaped("funnel, D=10", 10, _funnel),
    shaped("correlation 0.99, D=20", 20, _correlated),
    shaped("two modes 10 apart, D=2", 2, _two_modes),
    shaped("banana, D=2", 2, _banana),
    shaped("Student t, D=5", 5, _student),
    ("normal, sd 0.01, D=200", normal(0.0, np.full(200, 0.01)), NOTHING, ZERO),
]
