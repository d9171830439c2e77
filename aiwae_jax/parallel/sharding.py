"""Devices as a mesh: the data over one axis, particles over another, parameters on each device.

On a CPU too: as many CPU devices as there are cores (`jax_num_cpu_devices`) use them better than
one device does, whose elementwise work and smaller matrix products run on one core.

Nothing but the layout depends on the mesh: random keys belong to a datum and a particle, so that
any mesh draws the same numbers, and the compiler adds what the reductions over data and particles
need.
"""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aiwae_jax.types import Particles, PyTree, Sampler

DATA, PARTICLE = "data", "particle"
AXES = (DATA, PARTICLE)


def make_mesh(num_data: int, num_particle: int = 1) -> Mesh:
    """A mesh of `num_data` x `num_particle` devices.

    With several processes it takes as many devices from each.

    Raises:
      ValueError: if there are not as many, or they cannot be taken evenly from all processes.
    """
    wanted, num_processes = num_data * num_particle, jax.process_count()
    if not 0 < wanted <= jax.device_count():
        raise ValueError(
            f"A mesh of {num_data} x {num_particle} needs {wanted} devices, there are "
            f"{jax.device_count()}."
        )
    if wanted % num_processes:
        raise ValueError(
            f"A mesh of {wanted} devices cannot have equally many of each of {num_processes} "
            "processes."
        )
    devices = [
        [device for device in jax.devices() if device.process_index == process]
        for process in range(num_processes)
    ]
    each, fewest = wanted // num_processes, min(map(len, devices))
    if each > fewest:
        raise ValueError(
            f"A mesh of {wanted} devices needs {each} of each process, but one has {fewest}."
        )
    chosen = [device for own in devices for device in own[:each]]
    return Mesh(np.asarray(chosen).reshape(num_data, num_particle), AXES)


def largest_mesh(num_data: int, num_particle: int = 1) -> Mesh:
    """The largest mesh whose data axis divides `num_data`; other devices stay idle.

    Raises:
      ValueError: with several processes, if there is none that has devices of all.
    """
    most, num_processes = jax.device_count() // num_particle, jax.process_count()
    sizes = [
        n for n in range(1, most + 1) if num_data % n == 0 and n * num_particle % num_processes == 0
    ]
    if not sizes:
        raise ValueError(
            f"{num_data} data cannot be split over {jax.device_count()} devices of "
            f"{num_processes} processes, with {num_particle} for the particles of each; choose a "
            f"multiple of {num_processes}."
        )
    return make_mesh(max(sizes), num_particle)


def over_data(mesh: Mesh) -> NamedSharding:
    """Splits a leading axis of data."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def put(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """`jax.device_put`, also onto devices of several processes, which all have the same `tree`.

    What lies there already is not copied: a state that is put and then donated takes `tree` along.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def put_one(leaf):
        # JAX takes only host arrays to devices that are not all its own.
        if jax.dtypes.issubdtype(jax.dtypes.result_type(leaf), jax.dtypes.prng_key):
            numbers = np.asarray(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(
                jax.device_put(numbers, sharding), impl=jax.random.key_impl(leaf)
            )
        return jax.device_put(np.asarray(leaf), sharding)

    return jax.tree.map(put_one, tree)


def over_particles(sampler: Sampler, mesh: Mesh) -> Sampler:
    """The same sampler with its K particles split over the mesh's particle axis.

    The constraint is on the particles that come out, and the compiler carries it back through
    chains and networks to the keys. Sets whose K the axis does not divide are left whole on each
    device of it.
    """
    num_devices = mesh.shape[PARTICLE]
    if num_devices == 1:
        return sampler
    along_particles = NamedSharding(mesh, PartitionSpec(PARTICLE))

    def split(particles: Particles) -> Particles:
        if particles.z.shape[0] % num_devices:
            return particles
        z, log_weights = jax.lax.with_sharding_constraint(
            (particles.z, particles.log_weights), along_particles
        )
        return particles._replace(z=z, log_weights=log_weights)

    def draw(key, params, x, state, **given):
        drawn, info = sampler.draw(key, params, x, state, **given)
        # One set, or several by name.
        return jax.tree.map(split, drawn, is_leaf=lambda d: isinstance(d, Particles)), info

    return sampler._replace(draw=draw)
