"""What must be told to JAX before it first touches a device."""

import os

import jax

from aiwae_jax import data


def num_cores() -> int:
    """CPU cores that this process may run on; `taskset` and containers allow some of all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def configure() -> None:
    """One CPU device for each core that may be used, and compiled programs kept for later starts.

    JAX_NUM_CPU_DEVICES and JAX_COMPILATION_CACHE_DIR, where set, are left alone. Later calls in the
    same process change nothing.
    """
    if jax.config.jax_num_cpu_devices < 0:
        try:
            jax.config.update("jax_num_cpu_devices", num_cores())
        except RuntimeError:  # some device is in use already
            return
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(data.cache_folder() / "compiled"))
