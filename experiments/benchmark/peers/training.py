"""Training by AIWAE beside training by NumPyro's DAIS: equal model, data, batches and seconds."""

import functools
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import chex
import jax
import numpy as np
import optax

from aiwae_jax import data, evaluate, methods, train
from aiwae_jax.parallel import sharding
from aiwae_jax.types import Model, Params
from experiments.benchmark.peers import dais
from experiments.benchmark.peers.problem import LATENT_SIZE, untrained

BATCH_SIZE = 128
NUM_PARTICLES, NUM_TEMPERATURES, NUM_LEAPFROG_STEPS = 1, 5, 5  # of ours, the paper's AIWAE
_SLICE = 1.0  # seconds for which one side trains before it is the other's turn
_LEARNING_RATE = 1e-3
_NLL_GRADIENTS = 600  # of a chain, where likelihoods are measured


class Trainee(NamedTuple):
    """One that trains.

    Attributes:
      step: makes a step with a batch, and waits for it.
      params: its parameters now.
      words: of its method.
    """

    step: Callable[[chex.Array], None]
    params: Callable[[], Params]
    words: str


def aiwae(model: Model) -> Trainee:
    """Ours, over all devices."""
    method = methods.aiwae(model, NUM_PARTICLES, NUM_TEMPERATURES, NUM_LEAPFROG_STEPS)
    optimizers = train.adam(_LEARNING_RATE, eps=1e-8)
    mesh = sharding.largest_mesh(BATCH_SIZE)
    state = train.init_state(jax.random.key(0), model, method, optimizers)
    state = jax.device_put(state, sharding.replicated(mesh))
    step = train.make_train_step(method, optimizers)

    def call(batch) -> None:
        nonlocal state
        state, _ = step(jax.random.key(0), state, jax.device_put(batch, sharding.over_data(mesh)))
        jax.block_until_ready(state)

    words = f"AIWAE, K={NUM_PARTICLES}, T={NUM_TEMPERATURES}, L={NUM_LEAPFROG_STEPS}"
    return Trainee(call, lambda: state.params, words)


def auto_semi_dais(model: Model) -> Trainee:
    """NumPyro's, with the batch over all devices, as ours."""
    # What ours begins with, too: `init_state` splits the key.
    params = model.init(jax.random.split(jax.random.key(0))[0])
    mesh = sharding.largest_mesh(BATCH_SIZE)
    svi = dais.program(
        *(params, model.posterior, optax.adam(_LEARNING_RATE)), BATCH_SIZE, LATENT_SIZE
    )
    update, state = jax.jit(svi.update), None

    def call(batch) -> None:
        nonlocal state
        batch = jax.device_put(batch, sharding.over_data(mesh))
        if state is None:
            state = jax.device_put(svi.init(jax.random.key(0), batch), sharding.replicated(mesh))
        state, _ = update(state, batch)
        jax.block_until_ready(state)

    words = f"AutoSemiDAIS, K={dais.NUM_STEPS} steps, amortized base distribution"
    return Trainee(call, lambda: dais.params_of(svi, state), words)


# name -> (what it needs, how to build it)
TRAINEES = {
    "aiwae_jax": (None, aiwae),
    "NumPyro AutoSemiDAIS": ("numpyro", auto_semi_dais),
}


def batches(given: data.Dataset) -> Iterator[chex.Array]:
    """Batches `[B, X]` of bits, drawn anew each time, the same for all who begin to read."""
    rng = np.random.default_rng(0)
    draw = jax.jit(functools.partial(data.binarize, max_level=given.max_level))
    rows = given.train.astype(np.float32)
    for number in range(2**31):
        chosen = rows[rng.integers(len(rows), size=BATCH_SIZE)]
        yield draw(jax.random.fold_in(jax.random.key(1), number), jax.numpy.asarray(chosen))


def side_by_side(
    trainees: dict[str, Trainee], given: data.Dataset, seconds: float
) -> dict[str, dict[str, float]]:
    """Trains all in turns until each has had its seconds, and counts steps.

    The first step, with its compilation, is not of these seconds.
    """
    sources = {name: batches(given) for name in trainees}
    found = {}
    for name, trainee in trainees.items():
        began = time.perf_counter()
        trainee.step(next(sources[name]))
        first = time.perf_counter() - began
        found[name] = {"first_step_seconds": first, "seconds": 0.0, "steps": 0}
    while any(each["seconds"] < seconds for each in found.values()):
        for name, trainee in trainees.items():
            of_one, began = found[name], time.perf_counter()
            while (elapsed := time.perf_counter() - began) < min(_SLICE, seconds):
                if of_one["seconds"] + elapsed >= seconds:
                    break
                trainee.step(next(sources[name]))
                of_one["steps"] += 1
            of_one["seconds"] += time.perf_counter() - began
    return found


def compare(
    given: data.Dataset, *, seconds: float, num_images: int, num_chains: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Steps, milliseconds a step and NLL of all who train, and who is missing."""
    model = untrained(given)
    trainees, missing = {}, {}
    for name, (package, build) in TRAINEES.items():
        if package is None or importlib.util.find_spec(package):
            trainees[name] = build(model)
        else:
            missing[name] = f"{package} is not installed"
    found = side_by_side(trainees, given, seconds)
    pixels = jax.numpy.asarray(given.test[:num_images].astype(np.float32))
    images = np.asarray(data.binarize(jax.random.key(2), pixels, given.max_level))
    steps_an_epoch = len(given.train) / BATCH_SIZE
    num_moves = _NLL_GRADIENTS // evaluate.Settings().num_leapfrog_steps
    settings = evaluate.Settings(num_temperatures=num_moves + 2, num_chains=num_chains)
    for name, trainee in trainees.items():
        target = evaluate.Target.of(model, jax.device_get(trainee.params()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            measured = evaluate.log_likelihood(jax.random.key(3), target, images, settings)
        seconds_a_step = found[name]["seconds"] / max(found[name]["steps"], 1)
        found[name] |= {
            "words": trainee.words,
            "milliseconds_a_step": 1e3 * seconds_a_step,
            "seconds_an_epoch": seconds_a_step * steps_an_epoch,
            "epochs": found[name]["steps"] / steps_an_epoch,
            "nll": -measured.mean,
            "nll_standard_error": measured.standard_error,
            "num_test_images": num_images,
        }
    return found, missing
