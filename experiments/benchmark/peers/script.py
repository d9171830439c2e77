"""Bidirectional Monte Carlo as the field writes it for a decoder, in eager PyTorch.

It does in its own words what the scripts do that go with Wu, Burda, Salakhutdinov and Grosse
(2017) and their translations to PyTorch: evenly spaced temperatures between the prior N(0, I) and
the posterior, HMC of ten leapfrog steps in latent space, a step size of each chain that grows by
2% where its running acceptance is above 0.65 and shrinks by 2% where it is below, on the very
chains whose weights are reported; forward from the prior, and in reverse from the latents that the
images were simulated with. A step size that follows its own chain's acceptances makes the chain no
longer leave its distributions invariant: E[exp lower] is not quite p(x), and the upper bound none
in the strict sense.

Gradients at a trajectory's start are those kept from the last one, for both ends of the path, as
somebody writes it who wastes nothing.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np

from experiments.benchmark import torch_side
from experiments.benchmark.peers.bounds import Bounds, Moves
from experiments.benchmark.peers.problem import Problem

NUM_LEAPFROG_STEPS = 10
TARGET_ACCEPTANCE, GROWTH = 0.65, 1.02
SMALLEST_STEP, LARGEST_STEP = 1e-4, 0.5
_SAME = 1e-3  # nats, relative: our log p(x, z) and the script's

LogLikelihood = Callable[["torch.Tensor"], "torch.Tensor"]  # noqa: F821 - imported where it is used


class UnknownDecoderError(RuntimeError):
    """A decoder that the script does not know how to write in PyTorch."""


def annealed(
    log_likelihood: LogLikelihood,
    z: "torch.Tensor",  # noqa: F821
    betas: Sequence[float],
    first_step: float,
    num_leapfrog_steps: int,
) -> tuple["torch.Tensor", "torch.Tensor"]:  # noqa: F821
    """Log weights `[C]` of chains along `betas`, upwards or downwards, and their mean acceptance.

    Args:
      log_likelihood: `[C, D] -> [C]`, log p(x|z) of each chain's own image.
      z: `[C, D]`, where they start.
      betas: inverse temperatures, from where the chains start to where they end.
      first_step: step size of every chain's first move.
      num_leapfrog_steps: of every move.
    """
    import torch

    def both(z):
        z = z.detach().requires_grad_()
        value = log_likelihood(z)
        (gradient,) = torch.autograd.grad(value.sum(), z)
        return value.detach(), gradient

    step = torch.full((len(z), 1), first_step, device=z.device)
    log_weight = torch.zeros(len(z), device=z.device)
    accepted = torch.zeros(len(z), device=z.device)
    value, gradient = both(z)
    for number, (previous, beta) in enumerate(itertools.pairwise(betas), start=1):
        log_weight = log_weight + (beta - previous) * value
        momentum = torch.randn_like(z)
        new_z, new_value, new_gradient = z, value, gradient
        energy = -beta * value + 0.5 * (z**2).sum(1) + 0.5 * (momentum**2).sum(1)
        momentum = momentum + 0.5 * step * (beta * new_gradient - new_z)
        for i in range(num_leapfrog_steps):
            new_z = new_z + step * momentum
            new_value, new_gradient = both(new_z)
            share = 0.5 if i == num_leapfrog_steps - 1 else 1.0
            momentum = momentum + share * step * (beta * new_gradient - new_z)
        new_energy = -beta * new_value + 0.5 * (new_z**2).sum(1) + 0.5 * (momentum**2).sum(1)
        is_accepted = torch.log(torch.rand_like(energy)) < energy - new_energy
        z = torch.where(is_accepted[:, None], new_z, z)
        value = torch.where(is_accepted, new_value, value)
        gradient = torch.where(is_accepted[:, None], new_gradient, gradient)
        accepted += is_accepted
        grows = accepted / number > TARGET_ACCEPTANCE
        step = step * torch.where(grows, GROWTH, 1 / GROWTH)[:, None]
        step = step.clamp(SMALLEST_STEP, LARGEST_STEP)
    return log_weight, accepted.mean() / (len(betas) - 1)


def bidirectional(
    log_likelihood_of: Callable[[np.ndarray], LogLikelihood],
    x: np.ndarray,
    latents: np.ndarray,
    *,
    num_temperatures: int,
    num_chains: int,
    moves: Moves,
    with_reverse: bool = True,
    seed: int = 0,
) -> Bounds:
    """Lower bounds of log p(x) and, with reverse chains, upper ones.

    Args:
      log_likelihood_of: images `[C, X]`, one of each chain, to their log p(x|z).
      x: `[N, X]`.
      latents: `[N, D]`, with which they were simulated.
      num_temperatures: counting 0 and 1.
      num_chains: of each image.
      moves: with the step size that every chain begins with.
      with_reverse: whether there are reverse chains.
      seed: of all.
    """
    import torch

    torch.manual_seed(seed)
    log_likelihood = log_likelihood_of(np.repeat(x, num_chains, axis=0))
    exact = torch.from_numpy(np.repeat(latents, num_chains, axis=0)).to(torch_side.device())
    betas = np.linspace(0.0, 1.0, num_temperatures).tolist()

    def log_mean(log_weights):
        return (
            (torch.logsumexp(log_weights.view(len(x), num_chains), 1) - math.log(num_chains))
            .cpu()
            .numpy()
        )

    start = torch.randn_like(exact)
    lower = log_mean(annealed(log_likelihood, start, betas, *moves)[0])
    if not with_reverse:
        return Bounds(lower)
    return Bounds(lower, -log_mean(annealed(log_likelihood, exact, betas[::-1], *moves)[0]))


def decoder_of(problem: Problem) -> Callable[[np.ndarray], LogLikelihood]:
    """The problem's log p(x|z) in PyTorch.

    Raises:
      UnknownDecoderError: where the decoder is not one of tanh layers under Bernoulli pixels.
    """
    import torch
    from torch.nn import functional

    theta = jax.device_get(problem.params.theta)
    try:
        layers = [theta["hidden"][i] for i in sorted(theta["hidden"])]
        (last,) = theta["heads"].values()
        pairs = [(np.asarray(a["kernel"]), np.asarray(a["bias"])) for a in (*layers, last)]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UnknownDecoderError("the script knows decoders of dense layers only") from None
    place = torch_side.device()
    tensors = [tuple(torch.tensor(a, device=place) for a in pair) for pair in pairs]

    def log_likelihood_of(x: np.ndarray) -> LogLikelihood:
        pixels = torch.tensor(x, device=place)

        def log_likelihood(z):
            for kernel, bias in tensors[:-1]:
                z = torch.tanh(torch.addmm(bias, z, kernel))
            kernel, bias = tensors[-1]
            logits = torch.addmm(bias, z, kernel)
            return (pixels * logits - functional.softplus(logits)).sum(1)

        return log_likelihood

    # The same function as ours, or none.
    x, z = problem.x[:4], problem.latents[:4]
    target = problem.target("prior")
    expected = jax.vmap(lambda x, z: target.log_joint(x, z) - target.start(x).log_prob(z))(x, z)
    found = log_likelihood_of(x)(torch.tensor(z, device=place)).cpu().numpy()
    if not np.allclose(found, expected, rtol=_SAME):
        raise UnknownDecoderError("the script knows tanh layers under Bernoulli pixels only")
    return log_likelihood_of


def side(
    problem: Problem, num_gradients: int, moves: Moves, *, with_reverse: bool
) -> Callable[[], Bounds]:
    """A call of the script; `num_gradients` are those of a chain, in each direction."""
    log_likelihood_of = decoder_of(problem)

    def call() -> Bounds:
        return bidirectional(
            log_likelihood_of,
            problem.x,
            problem.latents,
            num_temperatures=num_gradients // moves.num_leapfrog_steps + 1,
            num_chains=problem.num_chains,
            moves=moves,
            with_reverse=with_reverse,
        )

    return call
