"""Data parallelism: the leading axis of the data over all devices, parameters on each.

On a CPU too: as many CPU devices as there are cores (`jax_num_cpu_devices`) use them better than
one device does, whose elementwise work and smaller matrix products run on one core.
"""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = "data"


def over_data(num_data: int) -> NamedSharding:
    """Splits a leading axis of size `num_data` over the largest number of devices that divides it.

    Only the first devices are used; the others stay idle.
    """
    devices = jax.devices()
    num_devices = max(n for n in range(1, len(devices) + 1) if num_data % n == 0)
    mesh = Mesh(np.asarray(devices[:num_devices]), (_AXIS,))
    return NamedSharding(mesh, PartitionSpec(_AXIS))


def replicated(sharding: NamedSharding) -> NamedSharding:
    """A whole copy on each device of the same mesh."""
    return NamedSharding(sharding.mesh, PartitionSpec())
