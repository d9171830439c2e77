"""The same training step in eager PyTorch, written to waste nothing.

The encoder runs once per batch, and the gradients at a trajectory's start are those kept from the
end of the last one, for both ends of the path.
"""

import itertools
import math
from collections.abc import Callable

import jax

from experiments.benchmark import problem

_STEP_SIZE = 0.1
_NUM_WARM_UPS = 3  # before a capture, which PyTorch asks for


def device() -> str:
    """Where JAX works too: the CPU, or the GPU if PyTorch knows one."""
    import torch

    is_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    return "cuda" if is_gpu else "cpu"


def wait() -> None:
    """Returns when all work that was given to the device is done."""
    if device() == "cuda":
        import torch

        torch.cuda.synchronize()


def captured_training_step(cell: problem.Size) -> Callable[[], None]:
    """The same step recorded once as a CUDA graph and replayed, without Python in between."""
    import torch

    step = _training_step(cell, is_capturable=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_NUM_WARM_UPS):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def call() -> None:
        graph.replay()
        wait()

    return call


def training_step(cell: problem.Size) -> Callable[[], None]:
    """A call that makes one step and waits for it."""
    step = _training_step(cell)

    def call() -> None:
        step()
        wait()

    return call


def _training_step(cell: problem.Size, *, is_capturable: bool = False) -> Callable[[], None]:
    """A call that makes one step, and need not wait for it."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)
    d, h, x_size = problem.LATENT_SIZE, problem.HIDDEN_SIZE, problem.DATA_SIZE

    def two_layers(size_in):
        return nn.Sequential(nn.Linear(size_in, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh())

    place = device()
    decoder = nn.Sequential(two_layers(d), nn.Linear(h, x_size)).to(place)
    encoder, heads = two_layers(x_size).to(place), nn.Linear(h, 2 * d).to(place)
    theta = list(decoder.parameters())
    phi = [*encoder.parameters(), *heads.parameters()]
    options = {"lr": problem.LEARNING_RATE, "betas": (0.9, 0.999), "eps": problem.ADAM_EPS}
    if is_capturable:
        options["capturable"] = True
    theta_optimizer = torch.optim.Adam(theta, **options)
    phi_optimizer = torch.optim.Adam(phi, **options)
    x = torch.from_numpy(problem.images(problem.BATCH_SIZE)).to(place)
    repeated = x.repeat_interleave(cell.num_particles, 0)
    log_two_pi = math.log(2 * math.pi)

    def posterior():
        loc, log_scale = heads(encoder(x)).chunk(2, dim=1)
        return loc, log_scale

    def log_normal(z, loc, log_scale):
        noise = (z - loc) * torch.exp(-log_scale)
        return (-0.5 * (noise**2 + log_two_pi) - log_scale).sum(1)

    def log_joint(z):
        logits = decoder(z)
        log_likelihood = (repeated * logits - functional.softplus(logits)).sum(1)
        return log_likelihood - 0.5 * (z**2 + log_two_pi).sum(1)

    def target_force(z):
        z = z.detach().requires_grad_()
        value = log_joint(z)
        (force,) = torch.autograd.grad(value.sum(), z)
        return value.detach(), force

    def sample(loc, log_scale):
        precision = torch.exp(-2 * log_scale)
        z = loc + torch.exp(log_scale) * torch.randn_like(loc)
        log_weight = torch.zeros(len(z), device=place)

        def ends(z):
            target, target_gradient = target_force(z)
            return log_normal(z, loc, log_scale), (loc - z) * precision, target, target_gradient

        state = ends(z)
        betas = torch.linspace(0, 1, cell.num_temperatures).tolist()
        for previous, beta in itertools.pairwise(betas):

            def mixed(a, b, beta=beta):
                return (1 - beta) * a + beta * b

            log_q, q_force, log_p, p_force = state
            log_weight += (beta - previous) * (log_p - log_q)
            start_momentum = torch.randn_like(z)
            momentum = start_momentum + 0.5 * _STEP_SIZE * mixed(q_force, p_force)
            new_z = z
            for _ in range(problem.NUM_LEAPFROG_STEPS - 1):
                new_z = new_z + _STEP_SIZE * momentum
                _, force = target_force(new_z)
                momentum = momentum + _STEP_SIZE * mixed((loc - new_z) * precision, force)
            new_z = new_z + _STEP_SIZE * momentum
            proposed = ends(new_z)
            momentum = momentum + 0.5 * _STEP_SIZE * mixed(proposed[1], proposed[3])
            log_ratio = (
                mixed(proposed[0], proposed[2])
                - mixed(log_q, log_p)
                + 0.5 * (start_momentum**2 - momentum**2).sum(1)
            )
            is_accepted = torch.log(torch.rand(len(z), device=place)) < log_ratio
            z = torch.where(is_accepted[:, None], new_z, z)
            state = tuple(
                torch.where(is_accepted[:, None] if a.ndim == 2 else is_accepted, a, b)
                for a, b in zip(proposed, state, strict=True)
            )
        return z, log_weight

    def call() -> None:
        with torch.no_grad():
            loc, log_scale = (p.repeat_interleave(cell.num_particles, 0) for p in posterior())
            with torch.enable_grad():
                z, log_weight = sample(loc, log_scale)
        weights = log_weight.view(-1, cell.num_particles).softmax(1).view(-1)
        theta_optimizer.zero_grad()
        (-(weights * log_joint(z.detach())).sum() / problem.BATCH_SIZE).backward()
        theta_optimizer.step()
        phi_optimizer.zero_grad()
        loc, log_scale = posterior()
        logits = decoder(loc + torch.exp(log_scale) * torch.randn_like(loc))
        log_likelihood = (x * logits - functional.softplus(logits)).sum(1)
        kl = 0.5 * (torch.exp(2 * log_scale) + loc**2 - 1 - 2 * log_scale).sum(1)
        gradients = torch.autograd.grad(-(log_likelihood - kl).mean(), phi)
        for parameter, gradient in zip(phi, gradients, strict=True):
            parameter.grad = gradient
        phi_optimizer.step()

    return call
