"""Our sides: a training step and a temperature of an evaluation."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import evaluate, methods, train
from aiwae_jax.evaluate import chunks, population
from aiwae_jax.parallel import sharding
from aiwae_jax.types import Method
from experiments.benchmark import problem

_EVALUATION_DATA, _EVALUATION_MOVES = 100, 4


def _optimizers():
    return train.adam(problem.LEARNING_RATE, eps=problem.ADAM_EPS)


def _prepared(method: Method):
    """(step, state, batch) of a method on the benchmark's model and batch, over all devices."""
    optimizers = _optimizers()
    mesh = sharding.largest_mesh(problem.BATCH_SIZE)
    state = jax.device_put(_init(method, optimizers)(problem.key()), sharding.replicated(mesh))
    batch = jax.device_put(problem.images(problem.BATCH_SIZE), sharding.over_data(mesh))
    return train.make_train_step(method, optimizers), state, batch


def _init(method: Method, optimizers: train.Optimizers) -> Callable[[jax.Array], train.TrainState]:
    model = problem.model()
    return jax.jit(lambda key: train.init_state(key, model, method, optimizers))


def step_of(method: Method, *, on_one_device: bool = False) -> Callable[[], None]:
    """A call that makes one training step, over all devices or as JAX does it unasked, on one."""
    step, state, batch = _prepared(method)
    if on_one_device:
        state, batch = jax.device_put(jax.device_get((state, batch)), jax.devices()[0])
    return _repeating(functools.partial(step, problem.key()), state, batch)


def diagnostics(method: Method) -> dict[str, float]:
    """Mean acceptance and effective sample size of the second training step."""
    step, state, batch = _prepared(method)
    state, _ = step(problem.key(), state, batch)
    _, info = step(problem.key(), state, batch)
    return {
        name: float(jnp.mean(info["theta"][name]))
        for name in ("acceptance", "effective_sample_size")
    }


def step_of_repeats(method: Method, num_repeats: int) -> Callable[[], None]:
    """A call that makes one training step of several seeds in one program."""
    step, state, batch = _prepared(method)
    states = jax.tree.map(lambda a: jnp.stack([a] * num_repeats), state)
    steps = jax.jit(jax.vmap(step, in_axes=(0, 0, None)), donate_argnums=1)
    keys = jax.device_put(
        jax.random.split(problem.key(), num_repeats), jax.tree.leaves(states)[0].sharding
    )
    return _repeating(functools.partial(steps, keys), states, batch)


def _repeating(step, state, batch) -> Callable[[], None]:
    def call() -> None:
        nonlocal state
        state, _ = step(state, batch)
        jax.block_until_ready(state)

    return call


def aiwae(cell: problem.Size, **options) -> Method:
    """AIWAE at a cell, with the options of `samplers.annealed`."""
    return methods.aiwae(problem.model(), *cell, problem.NUM_LEAPFROG_STEPS, **options)


def temporary_bytes(cell: problem.Size, **method_options) -> int:
    """Temporary memory of the compiled training step; on a GPU without its slow tuning."""
    method, optimizers = aiwae(cell, **method_options), _optimizers()
    state = jax.eval_shape(_init(method, optimizers), problem.key())
    batch = jax.ShapeDtypeStruct((problem.BATCH_SIZE, problem.DATA_SIZE), jnp.float32)
    step = train.make_train_step(method, optimizers)
    options = {"xla_gpu_autotune_level": 0} if jax.default_backend() == "gpu" else None
    compiled = step.lower(problem.key(), state, batch).compile(compiler_options=options)
    return compiled.memory_analysis().temp_size_in_bytes


def evaluation_settings() -> evaluate.Settings:
    """16 chains and 10 leapfrog steps, as the paper evaluates."""
    return evaluate.PAPER_SETTINGS


def evaluation_operations() -> int:
    """Least arithmetic of the moves that a call of `evaluation_moves` makes."""
    settings = evaluation_settings()
    num_chains = _EVALUATION_DATA * settings.num_chains
    num_gradients = num_chains * settings.num_leapfrog_steps * _EVALUATION_MOVES
    return num_gradients * problem.decoder_operations()


def evaluation_moves(force_precision: str) -> Callable[[], None]:
    """Some temperatures of an evaluation of 100 images, start and end included."""
    model = problem.model()
    params = model.init(problem.key())
    functions = evaluate.Target.of(model, params, force_precision=force_precision).functions
    indices = np.arange(_EVALUATION_DATA, dtype=np.int32)
    chunk = population.Chunk(indices, problem.images(_EVALUATION_DATA), _EVALUATION_DATA)
    betas = np.linspace(0.0, 1.0, _EVALUATION_MOVES + 2)
    course = population.Course(betas, np.full(_EVALUATION_MOVES, 0.1))
    pace = chunks.Pace(seconds=1e9)
    pace.record(10**6, 1.0)

    def call() -> None:
        program = evaluation_settings().program()
        population.run(problem.key(), functions, chunk, course, program, pace=pace)

    return call


def compiled_text(cell: problem.Size) -> str:
    """The compiled training step, as text."""
    step, state, batch = _prepared(aiwae(cell))
    return step.lower(problem.key(), state, batch).compile().as_text()
