"""What must be told to JAX before it first touches a device."""

import os

import jax

from aiwae_jax import data


def configure() -> None:
    """One CPU device for each core, and compiled programs kept from start to start.

    JAX_NUM_CPU_DEVICES and JAX_COMPILATION_CACHE_DIR, where set, are left alone. Later calls in the
    same process change nothing.
    """
    if jax.config.jax_num_cpu_devices < 0:
        try:
            jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
        except RuntimeError:  # some device is in use already
            return
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(data.cache_folder() / "compiled"))
