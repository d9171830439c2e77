"""Training and evaluation lower for GPUs and TPUs, which need not be there for that.

`jax.export` lowers without a device, and refuses calls into code that is not a platform's own: a
callback to the host, or a kernel of one library.
"""

import inspect
from functools import partial

import jax
import jax.export
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from aiwae_jax import evaluate, forces, methods, models, train
from aiwae_jax.evaluate import population, posterior, programs

PLATFORMS = ("cuda", "tpu")
VAE = models.bernoulli_vae(6, 2, hidden_sizes=(3,), initialization="torch")
NETWORK = models.sigmoid_belief_network(6, (3, 2), initialization="torch")
PREDICTOR = models.half_predictor(6, (3, 2), initialization="torch")
IMAGES = np.asarray(np.random.default_rng(0).integers(0, 2, (4, 6)), np.float32)
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")


def lower(fn, *args, **static):
    """The StableHLO of a jitted function; raises what a platform of these cannot run."""
    exported = jax.export.export(fn, platforms=PLATFORMS)(*args, **static)
    assert exported.platforms == PLATFORMS
    return exported.mlir_module()


def lower_train_step(model, method):
    """That of one step, from shapes alone."""
    optimizers, key = train.adam(1e-3), jax.random.key(0)
    step, batch = train.make_train_step(method, optimizers), jnp.asarray(IMAGES)

    def init(key):
        state = train.init_state(key, model, method, optimizers)
        return state._replace(kept=step.init_kept(state, batch))

    return lower(step, key, jax.eval_shape(init, key), batch)


STEPS = {
    "vae": lambda: (VAE, methods.vae(VAE)),
    "iwae": lambda: (VAE, methods.iwae(VAE, 2)),
    "stl": lambda: (VAE, methods.stl(VAE, 2)),
    "dreg": lambda: (VAE, methods.dreg(VAE, 2)),
    "aiwae base": lambda: (VAE, methods.aiwae(VAE, 2, 3, 2, chain_space="base")),
    **{f"rws {how}": lambda how=how: (VAE, methods.rws(VAE, 2, how)) for how in methods.RWS_PHI},
    "hvae": lambda: (VAE, methods.hvae(VAE, tempering="learned")),
    "hvi": lambda: (VAE, methods.hvi(VAE)),
    "uha": lambda: (VAE, methods.uha(VAE, 1, 3)),
    "vimco": lambda: (NETWORK, methods.vimco(NETWORK, 2)),
    "nvil": lambda: (NETWORK, methods.nvil(NETWORK)),
    "tang": lambda: (PREDICTOR, methods.tang(PREDICTOR, 2)),
    **{
        f"raiko {how}": lambda how=how: (PREDICTOR, methods.raiko(PREDICTOR, 2, how))
        for how in methods.RAIKO_ESTIMATORS
    },
    **{
        f"aiwae {move}": lambda move=move: (NETWORK, methods.aiwae(NETWORK, 2, 3, 1, move=move))
        for move in ("gibbs", "informed")
    },
}
# Those whose chains follow a force, which may be coarser than the energies.
FORCED = {
    "aiwae": lambda **how: (VAE, methods.aiwae(VAE, 2, 3, 2, **how)),
    "aiwae_wake": lambda **how: (VAE, methods.aiwae_wake(VAE, 2, 3, 2, **how)),
    "hoffman": lambda **how: (VAE, methods.hoffman(VAE, 2, 2, **how)),
    "persistent": lambda **how: (VAE, methods.persistent(VAE, 1, 2, **how)),
    "aiwae langevin": lambda **how: (NETWORK, methods.aiwae(NETWORK, 2, 3, 1, **how)),
    "tang_annealed": lambda **how: (PREDICTOR, methods.tang_annealed(PREDICTOR, 2, 3, 1, **how)),
}


@pytest.mark.grid
@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_the_train_step_of_every_method_lowers(name):
    assert "stablehlo" in lower_train_step(*STEPS[name]())


@pytest.mark.grid
@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", FORCED)
def test_the_train_step_lowers_with_forces_in_every_precision(name, precision):
    module = lower_train_step(*FORCED[name](force_precision=precision))
    assert ("bf16" in module) == (precision == "bfloat16")


def test_no_method_is_left_out():
    public = {
        name
        for name, fn in vars(methods).items()
        if inspect.isfunction(fn) and fn.__module__ == methods.__name__ and name[0] != "_"
    }
    assert {name.split()[0] for name in STEPS | FORCED} == public - {"phase"}


# ------------------------------------------------------------------------------------- evaluation


def compiled_functions(module):
    """What a module compiles, by name."""
    return {name: fn for name, fn in vars(module).items() if isinstance(fn, jax.stages.Wrapped)}


ANNEALING, OF_POSTERIOR = map(compiled_functions, (programs, posterior))


@pytest.fixture
def lowered(monkeypatch):
    """Lowers what an evaluation compiles, and runs none of it; name -> StableHLO."""
    modules = {}

    def lowering(name, fn):
        def call(*args, **kwargs):
            modules[name] = lower(fn, *args, **kwargs)
            return jax.tree.map(zeros, jax.eval_shape(partial(fn, **kwargs), *args))

        return call

    for module, functions in ((programs, ANNEALING), (posterior, OF_POSTERIOR)):
        for name, fn in functions.items():
            monkeypatch.setattr(module, name, lowering(name, fn))
    return modules


def zeros(shape):
    """An array; keys stay a shape, which is all that lowering needs."""
    is_key = jnp.issubdtype(shape.dtype, jax.dtypes.prng_key)
    return shape if is_key else np.zeros(shape.shape, shape.dtype)


def anneal(functions, space, *options):
    """One chunk of data through three temperatures."""
    program = programs.Program(2, 2, space, *options)
    course = population.Course(np.linspace(0.0, 1.0, 3), np.full(1, 0.1))
    chunk = population.Chunk(np.arange(4), IMAGES, 4)
    functions = evaluate.Target(*functions).functions
    population.run(
        *(jax.random.key(0), functions, chunk, course, program), last_fn=lambda *ends: None
    )


def functions_of(model, log_joint):
    params = model.init(jax.random.key(0))
    return partial(log_joint, params.theta), partial(model.posterior, params.phi)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("space", "persistence"), [("latent", 0.0), ("base", 0.7)])
@pytest.mark.slow
@pytest.mark.by_hand
def test_annealing_lowers_with_forces_in_every_precision(lowered, space, persistence, precision):
    anneal(functions_of(VAE, forces.log_joint_fn(VAE, precision)), space, persistence)
    assert lowered.keys() == ANNEALING.keys()
    assert ("bf16" in lowered["anneal"]) == (precision == "bfloat16")


@pytest.mark.parametrize("move", ["langevin", "gibbs", "informed"])
@pytest.mark.slow
@pytest.mark.by_hand
def test_annealing_of_binary_latents_lowers(lowered, move):
    anneal(functions_of(NETWORK, NETWORK.log_joint), "latent", 0.0, move)
    assert lowered.keys() == ANNEALING.keys()


@pytest.mark.parametrize("model", [VAE, NETWORK], ids=["normal", "binary"])
def test_what_a_posterior_tells_lowers(lowered, model):
    target = evaluate.Target(*functions_of(model, model.log_joint))
    evaluate.importance_bound(jax.random.key(1), target, IMAGES, num_samples=50)
    evaluate.active_units(target, IMAGES)
    assert lowered.keys() == OF_POSTERIOR.keys()


# ----------------------------------------------------------------------------------- planted faults


def on_the_host(z):
    """Code of this process, in the middle of a program."""
    shape = jax.ShapeDtypeStruct(z.shape, z.dtype)
    return jax.pure_callback(np.tanh, shape, z, vmap_method="broadcast_all")


def in_a_library(z):
    """A kernel that is compiled for one platform."""
    shape = jax.ShapeDtypeStruct(z.shape, z.dtype)
    return jax.ffi.ffi_call("a_kernel_for_cpus", shape, vmap_method="broadcast_all")(z)


def of_this_platform(z):
    """A primitive that knows how to be lowered for CPUs alone."""
    return _CPU_ONLY.bind(z)


_CPU_ONLY = jax.extend.core.Primitive("cpu_only")
_CPU_ONLY.def_abstract_eval(lambda z: z)
jax.interpreters.mlir.register_lowering(_CPU_ONLY, lambda ctx, z: [z], platform="cpu")
jax.interpreters.batching.primitive_batchers[_CPU_ONLY] = lambda args, dims: (
    _CPU_ONLY.bind(*args),
    dims[0],
)


@pytest.mark.parametrize("fault", [on_the_host, in_a_library, of_this_platform])
def test_what_only_cpus_can_run_is_found(fault):
    faulty = VAE._replace(
        log_joint=lambda theta, x, z: VAE.log_joint(theta, x, fault(jax.lax.stop_gradient(z)))
    )
    with pytest.raises((ValueError, NotImplementedError), match=r"custom call|platform"):
        lower_train_step(faulty, methods.vae(faulty))
