"""Numbers of 64 bits for a part of a test."""

import contextlib

import jax


def x64() -> contextlib.AbstractContextManager:
    """`jax.enable_x64(True)`, which JAX before 0.8 has among its experiments."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64(True)
