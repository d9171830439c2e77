"""Whether a run fits into the memory: said before any of it is taken, for later nobody is asked."""

import math
import os
import pathlib
import resource
from collections.abc import Iterator

import jax

from aiwae_jax import data
from aiwae_jax.cli.curriculum import legs_of
from aiwae_jax.cli.flags import UsageError
from aiwae_jax.cli.settings import method_options
from aiwae_jax.train.program import Program
from experiments.config import Config
from experiments.settings import Training

_WORTH_A_LOOK = 1 / 50  # of the memory, for arrays of which a step has some dozens
_KEEP_THEIR_MOVES = ("hvae", "hvi", "uha")  # for the gradients that go through them
_LIMITS = (  # of a container or a batch system
    *("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def available() -> int:
    """Bytes that the arrays of all local devices together can still get, nearly."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return sum(each["bytes_limit"] - each.get("bytes_in_use", 0) for each in stats)
    return min(_of_the_host())


def _of_the_host() -> Iterator[int]:
    """Yields what the machine has free, and what this process may have of it."""
    page = os.sysconf("SC_PAGE_SIZE")
    try:
        lines = pathlib.Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kib = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
        yield 1024 * (kib["MemAvailable"] + kib.get("SwapFree", 0))
        used = page * int(pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, KeyError, ValueError, IndexError):  # no Linux
        yield page * os.sysconf("SC_PHYS_PAGES")
        used = 0
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield max(limit - used, 0)
    for path in map(pathlib.Path, _LIMITS):
        if path.exists() and (text := path.read_text(encoding="ascii").strip()).isdecimal():
            yield int(text)


def check(config: Config, dataset: data.Dataset, run: Program) -> None:
    """Looks whether training and evaluation fit; small runs cost it nothing.

    Raises:
      UsageError: for a run that does not, with what it needs and what needs less.
    """
    if jax.process_count() > 1:
        return
    training, free = config.training, available()
    num_devices = jax.local_device_count()
    of_parameters, of_particles = (
        _of_parameters(training, dataset),
        max(_of_particles(own, dataset) for own, _ in legs_of(training)),
    )
    kept = 0
    if max(of_parameters, of_particles) > _WORTH_A_LOOK * free:
        shapes = jax.eval_shape(run.init)
        # Checkpoints and diagnoses keep a second state.
        kept = num_devices * (2 * _num_bytes(shapes) + dataset.train.nbytes)
    if kept > free:
        raise UsageError(
            f"Parameters, optimizers and data take {_gib(kept)} of memory, and "
            f"{_gib(free)} can be had; make the networks smaller, or --repeats fewer."
        )
    if of_particles > _WORTH_A_LOOK * free:
        programs = (run.lower(shapes, leg).compile() for leg in range(len(run.legs)))
        step = num_devices * max(p.memory_analysis().temp_size_in_bytes for p in programs)
        if kept + step > free:
            raise UsageError(
                f"--K={training.num_particles} at batch {training.batch_size}: a training step "
                f"needs {_gib(step)} of memory, and {_gib(free - kept)} can be had; "
                f"{_what_needs_less(training, (free - kept) / step)}."
            )
    if config.evaluation is not None:
        chains = 4 * config.evaluation.num_chains * dataset.train.shape[1]
        if chains > free:
            raise UsageError(
                f"--eval_chains={config.evaluation.num_chains}: the chains of one image need more "
                f"than {_gib(chains)} of memory, and {_gib(free)} can be had; use fewer."
            )


def _num_bytes(shapes) -> int:
    return sum(
        math.prod(leaf.shape) * getattr(leaf.dtype, "itemsize", 8)
        for leaf in jax.tree.leaves(shapes)
    )


def _of_parameters(training: Training, dataset: data.Dataset) -> float:
    """Bytes of parameters and optimizers, at most."""
    hidden = 2 * (training.hidden_size or 0)
    latents = (training.latent_size or 0) + sum(training.layer_sizes)
    units = dataset.train.shape[1] + hidden + latents
    return 4.0 * 2 * 3 * training.num_repeats * units**2


def _of_particles(training: Training, dataset: data.Dataset) -> float:
    """Bytes of what a step holds once for each particle: an array of pixels, or of latents."""
    at_work = training.particle_chunk or training.num_particles
    widest = max(dataset.train.shape[1], training.hidden_size or 0, *training.layer_sizes, 0)
    latent = training.latent_size or sum(training.layer_sizes)
    moves = 1
    if training.method in _KEEP_THEIR_MOVES:
        moves = max(training.num_temperatures or 1, training.num_moves or 1)
        moves *= training.num_leapfrog_steps or 1
    rows = 4.0 * training.batch_size * training.num_repeats
    return rows * max(at_work * widest * moves, training.num_particles * latent)


def _what_needs_less(training: Training, share: float) -> str:
    """Advice, for a step of which only a share fits."""
    others = "fewer particles or a smaller --batch_size need less"
    if "particle_chunk" not in method_options(training.method) or training.particle_chunk:
        return others
    largest = max(int(training.num_particles * share / 4), 1)  # to be safe
    chunk = next(n for n in range(largest, 0, -1) if training.num_particles % n == 0)
    return f"--particle_chunk={chunk} has so many at work at once, and {others}"


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"
